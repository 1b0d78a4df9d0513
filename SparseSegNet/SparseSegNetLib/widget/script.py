"""The script for the Python console that does what the panel is set to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..annotation.slices import AnnotatedSlice
from ..scene.annotated_pairs import AnnotatedPair


def scriptOf(parameters, pairs: Sequence[AnnotatedPair], slices: Iterable[AnnotatedSlice]) -> str:
    """The script of the present choices.

    Args:
        parameters: The panel's parameters.
        pairs: The scans to train on, the present one first.
        slices: The annotated slices of the present one.
    """
    options = f"timeBudget={parameters.timeBudget:g}" + "".join(
        f", {name}={value!r}"
        for name, value, usual in (
            ("device", parameters.device, "auto"),
            ("network", parameters.network, "auto"),
            ("seed", parameters.seed, 0),
            ("largestComponent", parameters.largestComponent, False),
            ("scanNames", parameters.scanNames, True),
        )
        if value != usual
    )
    lines = ["import SparseSegNet"]
    if len(pairs) > 1:
        lines += [
            "pairs = [",
            *(f"    ({_found(pair.volume)}, {_found(pair.segmentation)})," for pair in pairs),
            "]",
            f"run = SparseSegNet.train(pairs, {options})",
            "run.wait()",
            "results = run.results",
        ]
    else:
        volume = "volume"
        if parameters.channels:
            volume = f"[volume, {', '.join(map(_found, parameters.channels))}]"
        if parameters.prior is not None:
            options += f", prior={_found(parameters.prior)}"
        if parameters.startFile:
            options += f", startFrom={parameters.startFile!r}"
        # Boxes are kept with the segmentation, which the function reads.
        listed = sorted(slices)
        if listed and not any(item.box for item in listed):
            options += f", slices={' '.join(f'{s.axis}:{s.index}' for s in listed)!r}"
        lines += [
            f"volume = {_found(parameters.volume)}",
            f"drawn = {_found(parameters.segmentation)}",
            f"run = SparseSegNet.densify({volume}, drawn, {options})",
            "run.wait()",
            "result = run.result",
        ]
    return "\n".join([*lines, ""])


def _found(node) -> str:
    return f"slicer.util.getNode({node.GetName()!r})"
