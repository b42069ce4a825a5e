"""One job a video, each in a process that may die or hang; results come back in the order of the jobs.

The processes are those of this machine or, where RAY_ADDRESS names a cluster, of its Ray tasks: a task hands its job to
a process of its own, so that a video fails there as it fails here.
"""

import itertools
import logging
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from vidrnn.errors import VidrnnError, printable

STALL_SECONDS = 30.0
MEMORY_BYTES = 6 * 2**30  # of addresses, in a process that decodes
OUT_OF_MEMORY = f"takes more than {MEMORY_BYTES / 2**30:g} GiB of memory to read"
Job = TypeVar("Job")
Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """Stands for the result of a job whose process died or took too long.

    Attributes:
        reason: what the video did, as in "took longer than 30 s to read".
    """

    reason: str


_KILLED = Failure("made the process that reads it die (signal 9)")


def fan_out(
    title: str,
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    name: Callable[[Job], str],
    time_limit_seconds: float | None = None,
    jobs_per_process: int = 1,
) -> Iterator[Result | Failure]:
    """Do every job and print a line for each: `features: video 3 of 8  gate/a.mp4  (12 s left)`.

    Args:
        title: of the lines.
        work: a function at module level, since it runs in another process; in this one's working directory. Where one
            is killed, jobs may be done again.
        jobs: picklable.
        name: of a job, for its line.
        time_limit_seconds: that one job may take.
        jobs_per_process: how many make a further process worth its start.

    Raises:
        VidrnnError: no process can be started; or what `work` raised.
    """
    start = time.monotonic()
    on_ray = os.environ.get("RAY_ADDRESS", "local") != "local"
    wanted = -(-len(jobs) // jobs_per_process)
    if on_ray:
        outcomes = _on_ray(work, jobs, time_limit_seconds)
    else:
        outcomes = _in_processes(work, jobs, time_limit_seconds, min(wanted, os.cpu_count() or 1))
    for done, outcome in enumerate(outcomes, 1):
        left = (time.monotonic() - start) / done * (len(jobs) - done)
        shown = printable(name(jobs[done - 1]))
        print(f"{title}: video {done} of {len(jobs)}  {shown}  ({left:.0f} s left)", flush=True)
        yield outcome


def fan_out_all(
    title: str, work: Callable[[Job], Result], jobs: Sequence[Job], name: Callable[[Job], str]
) -> Iterator[Result]:
    """`fan_out` of work that no video should make fail.

    Raises:
        VidrnnError: as `fan_out`, or because a process died; the message names its job.
    """
    for job, outcome in zip(jobs, fan_out(title, work, jobs, name), strict=True):
        if isinstance(outcome, Failure):
            raise VidrnnError(
                f"{title}: {name(job)} {outcome.reason}; free some memory and run again, "
                "or take the file out of the footage"
            )
        yield outcome


def limit_memory() -> None:
    """Let this process have MEMORY_BYTES of addresses: a bomb gets an error, not the machine."""
    if sys.platform != "darwin":  # which refuses
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))


def watched(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; this process dies where one takes longer than STALL_SECONDS to come, even in C code."""
    while True:
        signal.setitimer(signal.ITIMER_REAL, STALL_SECONDS)  # the kernel's own SIGALRM: needs no thread and no GIL
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        yield item


def _in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], seconds: float | None, workers: int
) -> Iterator[Result | Failure]:
    done = 0
    while done < len(jobs):
        outcomes = _pooled(work, jobs[done:], seconds, workers)
        for outcome in outcomes:
            if outcome == _KILLED and workers > 1:  # for want of memory, perhaps that of others: once more, alone
                outcomes.close()
                (outcome,) = _pooled(work, [jobs[done]], seconds, 1)
            done += 1
            yield outcome


def _pooled(
    work: Callable[[Job], Result], jobs: Sequence[Job], seconds: float | None, workers: int
) -> Generator[Result | Failure, None, None]:
    pool = _pool(work, workers, Path.cwd())
    try:
        futures: list[Future[Result]] = [pool.schedule(work, args=(job,), timeout=seconds) for job in jobs]
        for future in futures:
            outcome = _outcome(future, seconds)
            yield outcome
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _pool(work: Callable[[Job], Result], workers: int, directory: Path) -> ProcessPool:
    context = multiprocessing.get_context("spawn")
    return ProcessPool(workers, initializer=_prepare, initargs=(directory, work), context=context)


def _prepare(directory: Path, work: Callable[[Job], Result]) -> None:
    """Before the first job. `work` came along so that its module is imported by now: taking a job locks all others."""
    os.chdir(directory)


def _outcome(future: Future[Result], seconds: float | None) -> Result | Failure:
    try:
        return future.result()
    except TimeoutError:
        return Failure(f"took longer than {seconds:g} s to read")
    except ProcessExpired as error:
        code = int(error.exitcode)
        if code == -signal.SIGALRM:
            return Failure(f"gave no further picture for {STALL_SECONDS:g} s")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failure(f"made the process that reads it die ({how})")
    except BrokenProcessPool:
        raise VidrnnError("no process for the videos can be started; free some memory and run again") from None


def _on_ray(work: Callable[[Job], Result], jobs: Sequence[Job], seconds: float | None) -> Iterator[Result | Failure]:
    if not jobs:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.exceptions import RayError, RaySystemError, RayTaskError

    ours = not ray.is_initialized()
    if ours:
        ray.init(os.environ["RAY_ADDRESS"], logging_level=logging.WARNING)
    try:
        # Retried by Ray where a machine is lost: a video that kills its process does not kill the task.
        task: Any = ray.remote(num_cpus=1)(_ray_task)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        window = 2 * max(1, int(resources.get("CPU", 1)))
        waiting = iter(enumerate(jobs))
        running: dict[Any, int] = {}
        finished: dict[int, Result | Failure] = {}
        for k in range(len(jobs)):
            while k not in finished:
                for index, job in itertools.islice(waiting, window - len(running)):
                    running[task.remote(Path.cwd(), work, job, seconds)] = index
                (ready,), _ = ray.wait(list(running), num_returns=1)
                try:
                    finished[running.pop(ready)] = ray.get(ready)
                except RayTaskError as error:
                    if isinstance(error.cause, RaySystemError):
                        raise VidrnnError(
                            "a Ray worker cannot load the work that it is to do; install this very version of vidrnn "
                            "on every machine of the cluster"
                        ) from error
                    raise error.cause from None
                except RayError as error:
                    finished[running.pop(ready)] = Failure(
                        f"made the worker that reads it die ({type(error).__name__})"
                    )
            yield finished.pop(k)
    finally:
        if ours:
            ray.shutdown()


def _ray_task(directory: Path, work: Callable[[Job], Result], job: Job, seconds: float | None) -> Result | Failure:
    return _outcome(_ray_pool(directory, work).schedule(work, args=(job,), timeout=seconds), seconds)


@cache
def _ray_pool(directory: Path, work: Callable[[Job], Result]) -> ProcessPool:
    """The one process of a Ray worker; it lives as long as that."""
    return _pool(work, 1, directory)
