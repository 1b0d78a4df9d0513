"""`make benchmark-busy`: how much slower learning gets beside other busy programs.

Slicer itself is such a program: the user paints while the engine learns. Steps per second of the
same learning in child processes, alone and beside a process that keeps one core busy, or beside
others that compute with all of them. The network with the OpenMP runtime's own waiting and with the
engine's (worker.prepare_environment); the shallow models on all threads and on as many as a trial
finds best (voxel_classifier.fastest_threads).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

SECONDS = 8.0
STARTING = 4.0  # seconds until a busy program is busy
OURS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
SPINNING = "while True: pass"
COMPUTING = """
import torch
layer, image = torch.nn.Conv3d(16, 16, 3, padding=1), torch.randn(4, 16, 32, 32, 32)
while True:
    layer(image).sum().backward()
"""
# Name, what learns, environment, what it is beside
ROWS = (
    ("network, threads wait by the runtime's default", "network", {}, (SPINNING,)),
    ("network, threads wait as the engine sets it", "network", OURS, (SPINNING,)),
    ("five shallow models, all threads", "shallow", OURS, (COMPUTING,)),
    ("five shallow models, as the engine does", "shallow quickest", OURS, (COMPUTING,)),
    ("five shallow models, all threads", "shallow", OURS, (COMPUTING,) * 2),
    ("five shallow models, as the engine does", "shallow quickest", OURS, (COMPUTING,) * 2),
)


def network() -> float:
    import torch

    from SparseSegNetLib.engine.data.preprocessing import WorkingVolume
    from SparseSegNetLib.engine.plan import Fingerprint
    from SparseSegNetLib.engine.planning.auto_plan import make_plan
    from SparseSegNetLib.engine.training.trainer import Trainer
    from speed import rate

    shape = (64, 64, 64)
    torch.manual_seed(0)
    labels = torch.full(shape, 255, dtype=torch.uint8)
    labels[32] = torch.randint(0, 3, shape[1:]).to(torch.uint8)
    volume = WorkingVolume(torch.randn(1, *shape), labels, torch.ones(3), shape)
    plan = make_plan(Fingerprint(shape, (1.0, 1.0, 1.0), 1, 3, 64 * 64, 1))
    trainer = Trainer(plan, [volume], 3, None, 0)
    return rate(lambda: trainer.step(0.5), SECONDS, torch.device("cpu"))


def shallow(quickest: bool) -> float:
    import torch

    from SparseSegNetLib.engine.stacking.voxel_classifier import ClassifierFitter, fastest_threads
    from speed import rate

    features = [torch.randn(20_000, 61).half() for _ in range(4)]
    fitter = ClassifierFitter(
        features, [torch.randint(3, (20_000,)).byte() for _ in range(4)], 3, 0, "bfloat16"
    )
    used = [range(4), *([n for n in range(4) if n != out] for out in range(4))]
    with ExitStack() as threads:
        if quickest:
            threads.enter_context(fastest_threads(fitter, len(used)))
        return 20 * rate(lambda: fitter.fit(used, 20), SECONDS, fitter.device)


def child(what: str) -> None:
    from SparseSegNetLib.engine.compute.device import prepare_threads

    prepare_threads()
    print(network() if what == "network" else shallow("quickest" in what))


def measured(what: str, settings: dict) -> float:
    done = subprocess.run(
        [sys.executable, __file__, what],
        env={**os.environ, **settings},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout)


@contextmanager
def busy(programs: tuple[str, ...]):
    running = [
        subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **OURS})
        for program in programs
    ]
    time.sleep(STARTING)
    try:
        yield
    finally:
        for program in running:
            program.kill()


def main() -> None:
    print("| | alone | beside | share kept |\n|---|---|---|---|")
    for name, what, settings, programs in ROWS:
        alone = measured(what, settings)
        with busy(programs):
            beside = measured(what, settings)
        kind = "busy" if SPINNING in programs else "computing"
        print(
            f"| {name} | {alone:.2f} steps/s | {len(programs)} {kind}: {beside:.2f} steps/s | "
            f"{100 * beside / alone:.0f} % |",
            flush=True,
        )


if __name__ == "__main__":
    child(sys.argv[1]) if sys.argv[1:] else main()
