"""One job a video, each in a process that may die or hang; results come back in the order of the jobs.

The processes are those of this machine or, where RAY_ADDRESS names a cluster, of its Ray tasks: a task hands its job to
a process of its own, so that a video fails there as it fails here.
"""

import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from vidrnn.errors import VidrnnError, printable
from vidrnn.storage import spare_pandas

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
    unit: str = "video",
    here: bool = False,
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
        unit: what a job is, for the lines.
        here: in this process, one after the other: nothing that may die, and what shares a GPU or is not worth a start.

    Raises:
        VidrnnError: no process can be started; or what `work` raised.
    """
    start = time.monotonic()
    wanted = -(-len(jobs) // jobs_per_process)
    outcomes: Iterator[Result | Failure]
    if here:
        outcomes = map(work, jobs)
    elif on_cluster():
        outcomes = _on_ray(work, jobs, time_limit_seconds)
    else:
        outcomes = _in_processes(work, jobs, time_limit_seconds, min(wanted, os.cpu_count() or 1))
    for done, outcome in enumerate(outcomes, 1):
        left = (time.monotonic() - start) / done * (len(jobs) - done)
        shown = printable(name(jobs[done - 1]))
        print(f"{title}: {unit} {done} of {len(jobs)}  {shown}  ({left:.0f} s left)", flush=True)
        yield outcome


def on_cluster() -> bool:
    """Whether the processes are those of a Ray cluster."""
    return os.environ.get("RAY_ADDRESS", "local") != "local"


def fan_out_all(
    title: str, work: Callable[[Job], Result], jobs: Sequence[Job], name: Callable[[Job], str], here: bool = False
) -> Iterator[Result]:
    """`fan_out` of work that no video should make fail.

    Raises:
        VidrnnError: as `fan_out`, or because a process died; the message names its job.
    """
    for job, outcome in zip(jobs, fan_out(title, work, jobs, name, here=here), strict=True):
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
    waiting = iter(enumerate(jobs))
    finished: dict[int, Any] = {}
    crew = [_Worker(work, Path.cwd(), seconds) for _ in range(workers)]
    try:
        for k in range(len(jobs)):
            while k not in finished:
                for worker in _ready(crew):
                    number, outcome = worker.number, worker.take()
                    if number is not None:
                        finished[number] = outcome
                    if not worker.started:
                        continue
                    if (following := next(waiting, None)) is not None:
                        worker.give(*following)
                    else:
                        worker.stop()
                        crew.remove(worker)
            outcome = finished.pop(k)
            if isinstance(outcome, _Raised):
                raise outcome.error
            yield outcome
    finally:
        for worker in crew:
            worker.stop()


@dataclass(frozen=True)
class _Raised:
    error: Exception


class _Worker:
    """A process that does a job at a time, and another one in its place once that has died.

    Each has a pipe of its own: what one holds when it dies is missed by no other, and its death is the end of that
    pipe, which cannot be taken for that of another job.

    Attributes:
        connection: readable when there is something to take.
        number: of the job that it has; None while it has none.
        deadline: when the job must be done, by `time.monotonic`.
        started: whether it can be given a job.
    """

    def __init__(self, work: Callable[[Any], Any], directory: Path, seconds: float | None) -> None:
        self._work, self._directory, self._seconds = work, directory, seconds
        self._start()

    def _start(self) -> None:
        self.number: int | None = None
        self.deadline, self.started = math.inf, False
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._directory, self._work), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, number: int, job: Any) -> None:
        """Have it do a job."""
        self.number = number
        self.deadline = math.inf if self._seconds is None else time.monotonic() + self._seconds
        with contextlib.suppress(ConnectionError):  # it has died since: the end of the pipe will be taken
            self.connection.send(job)

    def take(self) -> Any:
        """What became of its job: the result, a `_Raised` or a `Failure`. Of a start, None.

        Raises:
            VidrnnError: it died before it could be given anything.
        """
        if self.connection.poll():
            try:
                outcome = self.connection.recv()
            except (EOFError, OSError):
                self._process.join()
                if not self.started:
                    raise VidrnnError(
                        "a process for videos died at its start; free some memory and run again"
                    ) from None
                outcome = _death(self._process.exitcode or 0)
            else:
                self.number, self.deadline, self.started = None, math.inf, True
                return outcome
        else:
            outcome = Failure(f"took longer than {self._seconds:g} s to read")
        self.stop()
        self._start()
        return outcome

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, directory: Path, work: Callable[[Any], Any]) -> None:
    """The life of such a process; `work` was imported with its arguments. Ends with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, which the other end gets too
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(directory)
    spare_pandas()
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            job = connection.recv()
            try:
                outcome = work(job)
            except Exception as error:
                error.add_note(traceback.format_exc())
                outcome = _Raised(error)
            connection.send(outcome)


def _end_with_parent() -> None:
    """Whoever was killed must not have its work written by one that it left behind, perhaps over that of the next."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ready(crew: list[_Worker]) -> list[_Worker]:
    """Those that have something to be taken, or are late; waits for the first."""
    left = min(worker.deadline for worker in crew) - time.monotonic()
    readable = wait([worker.connection for worker in crew], None if left == math.inf else max(0.0, left))
    now = time.monotonic()
    return [worker for worker in crew if worker.connection in readable or worker.deadline <= now]


def _death(code: int) -> Failure:
    if code == -signal.SIGALRM:
        return Failure(f"gave no further picture for {STALL_SECONDS:g} s")
    return Failure(f"made the process that reads it die ({f'signal {-code}' if code < 0 else f'exit code {code}'})")


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
    os.chdir(directory)
    (outcome,) = _pooled(work, [job], seconds, 1)
    return outcome
