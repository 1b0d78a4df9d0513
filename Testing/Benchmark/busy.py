"""`make benchmark-busy`: how much slower training gets beside another busy program.

Slicer itself is that program: the user paints while the engine learns. Steps per second of the
same training in child processes, with the OpenMP runtime's own waiting and with the engine's
(worker.share_the_cores), alone and beside one process that keeps a core busy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

SECONDS = 8.0


def child() -> None:
    import torch

    from SparseSegNetLib.engine.device import prepare_threads
    from SparseSegNetLib.engine.plan import Fingerprint, make_plan
    from SparseSegNetLib.engine.preprocess import WorkingVolume
    from SparseSegNetLib.engine.trainer import Trainer

    prepare_threads()
    shape = (64, 64, 64)
    torch.manual_seed(0)
    labels = torch.full(shape, 255, dtype=torch.uint8)
    labels[32] = torch.randint(0, 3, shape[1:]).to(torch.uint8)
    volume = WorkingVolume(torch.randn(1, *shape), labels, torch.ones(3), shape)
    plan = make_plan(Fingerprint(shape, (1.0, 1.0, 1.0), 1, 3, 64 * 64, 1))
    trainer = Trainer(plan, [volume], 3, None, 0)
    for _ in range(3):
        trainer.step(0.5)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        trainer.step(0.5)
        steps += 1
    print(steps / (time.perf_counter() - begun))


def rate(settings: dict) -> float:
    done = subprocess.run([sys.executable, __file__, "child"], env={**os.environ, **settings},
                          capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    ours = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
    print("| threads wait | alone | beside a busy program | share kept |\n|---|---|---|---|")
    for name, settings in (("by the runtime's default", {}), ("as the engine sets it", ours)):
        alone = rate(settings)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside = rate(settings)
        finally:
            busy.kill()
        print(f"| {name} | {alone:.2f} steps/s | {beside:.2f} steps/s | {100 * beside / alone:.0f} "
              "% |", flush=True)


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else main()
