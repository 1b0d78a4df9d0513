"""`make benchmark-gpu`: all that is to be known of a graphics card, in ten minutes.

Sections, the most valuable first, each in a process of its own, so that one that fails costs itself
alone: the doctor; IoU at 10, 30 and 120 s on the card and on the CPU; the sizes of a training that
plans choose from, with steps per minute and memory, and the number formats; training and prediction
against MONAI's pipeline; the share of the matrix peak that training reaches; time to the first
preview of 128^3 voxels; eager steps against CUDA graphs and torch.compile; training by ranks over
NCCL, with one rank and with one per card; the published networks at full size; the 3D U-Net paper's
Table 2 on the shipped sample. What the ten minutes have no time for is named, with the command for
it. The report is printed, and kept in --output as it grows. What is not there (volumes, MONAI,
NCCL) is named and left out. To try the command without a card: --device cpu --scale 0.02, which
makes everything small (no result).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk
import torch
import torch.distributed as dist

import card_steps
import live
import ranks
import speed
from cases import SHARED, densify, load_case
from SparseSegNetLib.client.engine_run import EngineRun
from SparseSegNetLib.client.processes import engine_environment, kill_tree
from SparseSegNetLib.engine.compute.device import called, prepare_threads
from SparseSegNetLib.engine.compute.metrics import mean
from SparseSegNetLib.engine.compute.number_formats import candidate_formats
from SparseSegNetLib.engine.compute.timing import seconds_taken
from SparseSegNetLib.engine.plan import Fingerprint
from SparseSegNetLib.engine.planning.recipes import RECIPES, published_plan
from SparseSegNetLib.engine.training.trainer import Trainer
from SparseSegNetLib.engine.trial.choice import choose_devices
from SparseSegNetLib.runfolder.options import Options

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "SparseSegNet/Resources/Sample/kidney"
CASE = "brain-mricrop"  # eight structures
BUDGETS = (10.0, 30.0, 120.0)  # seconds
SLICES = (3, 3, 2)
MATRIX = 8192  # rows and columns of the product that measures the peak
TOTAL = 600.0  # seconds for all sections
PATIENCE = 330.0  # seconds for a section: the next one has its turn then
LEAST = 20.0  # seconds below which a section is not begun
TABLE2, TABLE2_TRAININGS = 300.0, 4  # seconds for the table, and trainings in it
PUBLISHED_SECONDS = 10.0  # per network


def device_of(options) -> torch.device:
    """The device, after the trial of it."""
    prepare_threads()
    return choose_devices(options.device).network


def doctor(options, folder: Path) -> None:
    """What the device is, and which parts of the engine work on it."""
    _command("-m", "SparseSegNetLib.cli", "doctor", "--device", options.device)


def preview(options, folder: Path) -> None:
    """Seconds from the start of a run on 128^3 voxels to its first preview."""
    edge = 128 if options.scale == 1 else 64
    run_folder, _ = live.prepared(folder / "preview", edge, 30.0, options.device)
    begun, shown = time.monotonic(), []
    run = EngineRun(run_folder)
    run.observe(
        lambda event: shown.append(time.monotonic()) if event["event"] == "preview" else None
    )
    while not run.ended and not shown:
        run.poll()
        time.sleep(live.TICK)
    run.cancel()
    if not shown:
        raise RuntimeError(f"no preview: {run.error}")
    print(f"First preview of {edge}^3 voxels: {shown[0] - begun:.1f} s (target 2 s).")


def pipeline(options, folder: Path) -> None:
    """Steps per second against MONAI's standard pipeline (target 3 times)."""
    seconds = str(max(0.5, 4 * options.scale))
    _command(
        HERE / "speed.py", "--device", options.device, "--seconds", seconds, "--workers", "0", "4"
    )


def matrix_peak(options, folder: Path) -> None:
    """Share of the matrix peak that a training step of `auto` reaches (target 40 %)."""
    from torch.utils.flop_counter import FlopCounterMode

    device = device_of(options)
    case = load_case(options.data / CASE, SLICES)
    classes = len(case.segments) + 1
    plan, volume = speed.prepared(case, device)
    plan = replace(plan, dtype=candidate_formats(device)[0])
    trainer = Trainer(plan, [volume], classes, None, 0)
    trainer.step(0.3)
    counter = FlopCounterMode(display=False)
    with counter:
        trainer.step(0.3)
    rate = speed.rate(lambda: trainer.step(0.3), 5 * options.scale, device)
    size = MATRIX if device.type == "cuda" else 1024
    square = torch.randn(size, size, device=device, dtype=getattr(torch, plan.dtype))
    square @ square
    product = min(seconds_taken(lambda: square @ square, device) for _ in range(5))
    peak, reached = 2 * size**3 / product / 1e12, counter.get_total_flops() * rate / 1e12
    print(
        f"{called(device)}, {plan.dtype}: patches {plan.patch}, {plan.batch} per step, width "
        f"{plan.width}: {rate:.1f} steps per second, {reached:.2f} of {peak:.2f} TFLOP/s of a "
        f"matrix product: {100 * reached / peak:.0f} % (target 40 %)."
    )


def published(options, folder: Path) -> None:
    """Steps per second and memory of the published networks, at full size."""
    device = device_of(options)
    case = load_case(SAMPLE, SLICES)
    classes, volume = len(case.segments) + 1, speed.volume_of(case, device)
    fingerprint = Fingerprint.of(
        case.sparse, case.geometry.spacing_kji, 1, classes, len(case.slices)
    )
    print("| network | patch | batch | number format | steps per second | memory, GiB |")
    print("|---|---|---|---|---|---|")
    for name in RECIPES:
        small = {} if options.scale == 1 else {"width": 4}
        plan = published_plan(fingerprint, Options(network=name, **small), volume.shape)
        plan = replace(plan, dtype=candidate_formats(device)[0])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        trainer = Trainer(plan, [volume], classes, None, 0)
        rate = speed.rate(lambda t=trainer: t.step(0.3), PUBLISHED_SECONDS * options.scale, device)
        used = (
            f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}"
            if device.type == "cuda"
            else "not measured"
        )
        patch = "x".join(map(str, plan.patch))
        print(f"| {name} | {patch} | {plan.batch} | {plan.dtype} | {rate:.2f} | {used} |")
        del trainer


def accuracy(options, folder: Path) -> None:
    """Mean IoU in voxels without annotation, by time, on the card and on the CPU."""
    case = load_case(options.data / CASE, SLICES)
    devices = list(dict.fromkeys((options.device, "cpu")))
    print(f"{CASE}, {SLICES} slices:\n\n| seconds | {' | '.join(devices)} |")
    print("|---" * (1 + len(devices)) + "|")
    for seconds in BUDGETS:
        cells = []
        for device in devices:
            if device == "cpu" and seconds > 30:  # ten minutes are all there is
                cells.append("not measured")
                continue
            result = folder / f"{device}-{seconds:g}.nrrd".replace(":", "-")
            budget = str(max(5.0, seconds * options.scale))
            arguments = ["--time-budget", budget, "--device", device]
            annotation = case.write_annotation(folder)
            densify([case.image_path, annotation, "-o", result, "--quiet", *arguments])
            found = sitk.GetArrayFromImage(sitk.ReadImage(str(result)))
            cells.append(f"{mean(row['iou'] for row in case.scores(found)):.3f}")
        print(f"| {seconds:g} | {' | '.join(cells)} |", flush=True)


def several_ranks(options, folder: Path) -> None:
    """Training by ranks over NCCL: one, and one per card."""
    device = device_of(options)
    if device.type != "cuda" or not dist.is_nccl_available():
        print(f"Skipped: NCCL needs a card of NVIDIA's and a torch for it, and this is {device}.")
        return
    asked = argparse.Namespace(
        device="cuda", dtype="float32", seconds=max(1.0, 8 * options.scale), threads=0
    )
    (alone,), (one,) = (ranks.measured(asked, 1, together, 32) for together in (False, True))
    print(
        f"{called(device)}, 32 patches, float32: alone {alone['steps']:.2f} steps per second, as "
        f"one rank {one['steps']:.2f}; loss {alone['loss']:.4f} and {one['loss']:.4f}."
    )
    count = torch.cuda.device_count()
    if count == 1:
        print("Skipped: more ranks, since there is one card.")
        return
    _command(
        *(HERE / "ranks.py", "--device", "cuda", "--count", str(count), "--turns", "1"),
        *("--threads", "0", "--seconds", str(asked.seconds)),
    )


def table2(options, folder: Path) -> None:
    """Table 2 of the 3D U-Net paper on the shipped sample, in five minutes."""
    listed = folder / "cases.csv"
    listed.write_text(f"image,labels\n{SAMPLE}-image.nrrd,{SAMPLE}-labels.nrrd\n")
    seconds = max(5.0, TABLE2 / TABLE2_TRAININGS * options.scale)
    arguments = ["--time-budget", f"{seconds:.0f}", "--device", options.device, "--quiet"]
    small = [] if options.scale == 1 else ["--width", "4", "--tile", "100,100,100"]
    _command(
        *("-m", "SparseSegNetLib.cli", "reproduce", "table2", listed),
        *("-o", folder / "table2", *arguments, *small),
    )


def sizes(options, folder: Path) -> None:
    """Sizes of a training and number formats: steps, memory, what patches cost."""
    device, case = device_of(options), load_case(options.data / CASE, SLICES)
    card_steps.tabulate_sizes(case, device, 3 * options.scale)
    card_steps.tabulate_formats(case, device, 3 * options.scale)


def compiled(options, folder: Path) -> None:
    """CUDA graphs and torch.compile against eager steps: when they pay."""
    device, case = device_of(options), load_case(options.data / CASE, SLICES)
    card_steps.tabulate_compiled(case, device, 3 * options.scale)


SECTIONS = (
    doctor,
    accuracy,
    sizes,
    pipeline,
    matrix_peak,
    preview,
    compiled,
    several_ranks,
    published,
    table2,
)
NEEDED = {table2: TABLE2}  # seconds that must be left, where it is more than LEAST


def _command(*arguments: str | Path) -> None:
    environment = engine_environment()
    environment.pop("PYTHONSAFEPATH")  # benchmarks import those beside them
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        encoding="utf-8",
        capture_output=True,
    )
    print(done.stdout)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")


def _in_time(command: list[str], seconds: float) -> tuple[str, str]:
    """Output of a section, and the reason why it did not end well; '' if it did."""
    with subprocess.Popen(
        command,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        try:
            said, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill_tree(child.pid)
            return child.communicate()[0], f"it took longer than {seconds:.0f} s"
    return said, (errors.strip().splitlines() or ["it failed"])[-1] if child.returncode else ""


def main() -> int:
    """Runs one section, or all of them in child processes."""
    names = [section.__name__ for section in SECTIONS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("build/gpu"))
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--scale", type=float, default=1.0, help="of all times")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds for all sections")
    parser.add_argument("--section", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, default=SHARED)
    options = parser.parse_args()
    options.output = options.output.absolute()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.section:
        SECTIONS[names.index(options.section)](options, options.output)
        return 0
    report, failed = options.output / "report.md", 0
    report.write_text(f"# {time.strftime('%Y-%m-%d %H:%M')}, torch {torch.__version__}\n")
    end = time.monotonic() + options.total
    for section in SECTIONS:
        if section.__name__ not in options.only:
            continue
        begun = time.monotonic()
        arguments = [a for a in sys.argv[1:] if a != "--only" and a not in names]
        command = [sys.executable, __file__, *arguments, "--section", section.__name__]
        left = end - begun
        if left < NEEDED.get(section, LEAST) * options.scale:
            later = f'make benchmark-gpu ARGS="--only {section.__name__}"'
            said, why = f"Left out, since the time is over: {later}", ""
        else:
            said, why = _in_time(command, min(left, PATIENCE))
        failed += bool(why)
        text = "\n".join(
            [
                f"\n## {section.__doc__.splitlines()[0].rstrip('.')}\n",
                said.strip(),
                f"\nNot measured: {why}\n" if why else "",
                f"\n({time.monotonic() - begun:.0f} s)",
            ]
        )
        with report.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
