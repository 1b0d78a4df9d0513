"""``sparsesegnet segment --dask`` of images that fit memory: each is a task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from ...runfolder.options import Options
from ..images_progress import ImagesProgress
from ..outcomes import Outcome, table
from ..segment_jobs import Job
from .connection import connected
from .task_queue import Ended, Task, TaskQueue
from .worker_check import checks

READ = ("replace_nonfinite", "series", "accept")  # of the command's options, by `segment_image`


def segment_scans(
    jobs: Sequence[Job],
    settings: Options,
    options: argparse.Namespace,
    bar: ImagesProgress,
    outcomes: list[Outcome],
) -> None:
    """Segments images on the workers of a cluster.

    Args:
        jobs: The images; all results lie in one folder.
        settings: Options of the runs.
        options: The command's parsed options.
        bar: Shows the progress.
        outcomes: Gets one for each image that is done or has failed.

    Raises:
        InputError: There is no such cluster, or a worker lacks something.
        EngineError: 'workers-lost'.
        KeyboardInterrupt: The user has cancelled; what is done is in `outcomes`.
    """
    needed = {name: getattr(options, name) for name in READ}
    needed["model"] = options.model.absolute()
    waiting = [Task(job.name, "image", (_absolute(job), settings, needed)) for job in jobs]
    before = len(outcomes)
    with connected(options.dask) as cluster, checks(options.model, jobs[0].output.parent) as check:
        queue = TaskQueue(cluster, check, bar.tell)
        queue.check_workers()
        bar.elsewhere(len(queue.workers))
        try:
            with closing(queue.ended(waiting)) as ended:
                for one in ended:
                    outcomes.append(_outcome(one, bar))
                    bar.finished()
                    bar.elsewhere(len(queue.workers))
        except Exception:
            if outcomes[before:]:
                bar.tell(table(outcomes))
            raise


def _outcome(one: Ended, bar: ImagesProgress) -> Outcome:
    if one.answer is None:
        found = Outcome(one.task.name, f"failed {one.cause}", one.seconds, None, True)
        bar.tell(f"{found.name} {found.result}")
        return found
    for note in one.answer["notes"]:
        bar.tell(f"{one.task.name}: {note}")
    return Outcome(one.task.name, "written", one.seconds, one.answer["uncertain"])


def _absolute(job: Job) -> Job:
    """An image by paths that do not depend on the current folder."""
    return replace(
        job,
        images=[path.absolute() for path in job.images],
        output=job.output.absolute(),
        uncertainty=None if job.uncertainty is None else job.uncertainty.absolute(),
    )
