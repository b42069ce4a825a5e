"""One job a video, over processes; results come back in the order of the jobs, whoever finishes first."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vidrnn.errors import VidrnnError

Job = TypeVar("Job")
Result = TypeVar("Result")


def fan_out(
    title: str, work: Callable[[Job], Result], jobs: Sequence[Job], name: Callable[[Job], str]
) -> Iterator[Result]:
    """Do every job and print a line for each: `features: video 3 of 8  gate/a.mp4  (12 s left)`.

    Args:
        title: of the lines.
        work: a function at module level, since it runs in another process. Where one dies, jobs may be done again.
        jobs: picklable.
        name: of a job, for its line.

    Raises:
        VidrnnError: the process of a job died; the message names it.
    """
    start, done = time.monotonic(), 0
    workers = min(len(jobs), os.cpu_count() or 1)
    while done < len(jobs):
        try:
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                for result in pool.map(work, jobs[done:]):
                    done += 1
                    left = (time.monotonic() - start) / done * (len(jobs) - done)
                    print(
                        f"{title}: video {done} of {len(jobs)}  {name(jobs[done - 1])}  ({left:.0f} s left)", flush=True
                    )
                    yield result
        except BrokenProcessPool:
            if workers == 1:
                raise VidrnnError(
                    f"{title}: the process that worked on {name(jobs[done])} died, from its contents or for want of "
                    "memory; free some memory and run again, or take the file out of the footage"
                ) from None
            workers = 1  # one at a time, the next to die says whose fault it is; for want of memory, none may
