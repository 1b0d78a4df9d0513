"""The engine's process with a smaller training: ``python -m quick_engine RUN``.

Everything that a test of processes, commands and the scene asks of an engine is the real one's; the
shallow model takes few steps, the network is narrow, its batches are small and only one width is
probed. What these prove (accuracy, time budgets) is tested with the engine as it is: those tests
carry the marker `full_engine`.
"""

import os
import signal
import sys
from contextlib import suppress

SERVER = "SPARSESEGNET_ENGINE_SERVER"  # the socket of an engine_server, if there is one


def engine():
    """The worker module, made quick, with torch loaded."""
    from SparseSegNetLib.engine import worker

    worker.prepare_environment()  # before torch is loaded
    from SparseSegNetLib.engine import job, segmentation_job, training_job  # noqa: F401
    from SparseSegNetLib.engine.planning import auto_plan, planner, probe, volumes_planner
    from SparseSegNetLib.engine.stacking import image_classifier, voxel_classifier

    voxel_classifier.STEPS = (20, 40)
    image_classifier.MOST_STEPS = image_classifier.FEWEST_STEPS = 40
    auto_plan.BATCHES["cpu"] = (12**3, 8)
    probe.WIDTHS, probe.MIDDLE = ((4, 0),), 4
    make = auto_plan.make_plan

    def narrow(fingerprint, device="cpu", width=4, shape=None):
        return make(fingerprint, device, width, shape)

    planner.make_plan = volumes_planner.make_plan = narrow
    return worker


if __name__ == "__main__":
    import injected_faults

    if (path := os.environ.get(SERVER)) is None:
        worker = engine()
        injected_faults.install()
        worker.end_process(worker.main(sys.argv[1:]))
    import engine_server

    if sys.argv[1] == "--serve":
        import time

        worker = engine()

        def run(arguments):
            worker.BEGUN = time.monotonic()
            injected_faults.install()
            return worker.main(arguments)

        engine_server.serve(path, run)
    code = engine_server.ask(path, sys.argv[1:])
    if code < 0:  # it ended by a signal: so does its client
        with suppress(OSError):  # SIGKILL cannot be handled in the first place
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
