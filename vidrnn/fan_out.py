"""One job a video, over processes; results come back in the order of the jobs, whoever finishes first."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def fan_out(
    title: str, work: Callable[[Job], Result], jobs: Sequence[Job], name: Callable[[Job], str]
) -> Iterator[Result]:
    """Do every job and print a line for each: `features: video 3 of 8  gate/a.mp4  (12 s left)`.

    Args:
        title: of the lines.
        work: a function at module level, since it runs in another process.
        jobs: picklable.
        name: of a job, for its line.
    """
    if not jobs:
        return
    start = time.monotonic()
    workers = min(len(jobs), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, (job, result) in enumerate(zip(jobs, pool.map(work, jobs), strict=True), 1):
            left = (time.monotonic() - start) / done * (len(jobs) - done)
            print(f"{title}: video {done} of {len(jobs)}  {name(job)}  ({left:.0f} s left)", flush=True)
            yield result
