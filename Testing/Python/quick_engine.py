"""The engine's process with a smaller training: ``python -m quick_engine RUN``.

Everything that a test of processes, commands and the scene asks of an engine is the real one's; the
shallow model takes few steps, the network is narrow, its batches are small and only one width is
probed. What these prove (accuracy, time budgets) is tested with the engine as it is: those tests
carry the marker `full_engine`.
"""

import sys

from SparseSegNetLib.engine import worker

if __name__ == "__main__":
    worker.share_the_cores()  # before torch is loaded
    from SparseSegNetLib.engine.plan import Plan
    from SparseSegNetLib.engine.planning import auto_plan, planner, probe
    from SparseSegNetLib.engine.stacking import voxel_classifier

    voxel_classifier.STEPS = (20, 40)
    auto_plan.BATCHES["cpu"] = (12**3, 8)
    probe.WIDTHS, probe.MIDDLE = ((4, 0),), 4
    make = auto_plan.make_plan

    def narrow(fingerprint, device="cpu", width=4, shape=None) -> Plan:
        return make(fingerprint, device, width, shape)

    planner.make_plan = narrow
    worker.end_process(worker.main(sys.argv[1:]))
