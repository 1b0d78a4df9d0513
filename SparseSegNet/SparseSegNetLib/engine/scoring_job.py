"""A run that scores an annotation: how good a result it would give, without making one."""

from __future__ import annotations

from ..errors import InputError
from ..runfolder.phases import Phase
from .job import Job
from .stopping import Cancelled, Stopped


class ScoringJob(Job):
    """Cross-validates priors and shallow model over the annotated slices of a volume."""

    def densify(self) -> None:
        """Makes the ensemble out of fold and reports its score; nothing else is predicted."""
        try:
            plan, volume = self.planner.plan_of_ensemble(self.device)
        except Stopped:
            raise Cancelled("stopped before there was a score") from None
        self.save_plan(plan)
        stack = self.ensemble.make(plan, volume, self.clock.left)
        if stack is None or stack.scores is None:
            why = (
                "the time budget does not suffice for it: give a longer one"
                if stack is not None and stack.missing == "time" and not stack.in_slice
                else "it takes two slices, or regions with borders, that show the same segment"
            )
            raise InputError(f"no score can be given: {why}.")
        self.reporter.progress(Phase.COMPARING_SLICES, 1.0, now=True)
        self.emit(
            "done",
            seconds=round(self.clock.seconds, 2),
            step=0,
            held_out=stack.scores,
            held_out_slices=[],
        )
