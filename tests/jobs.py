"""Work for other processes: good, slow, hanging and dying. Every process imports this, so it imports little."""

import itertools
import os
import signal
import time
from pathlib import Path

from vidrnn import fan_out
from vidrnn.errors import VidrnnError


def slow_first(job: int) -> tuple[int, int]:
    time.sleep(0.4 if job == 0 else 0)
    return job, os.getpid()


def misbehave(job: str) -> str:
    """Do what the job is called."""
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "leave":
        os._exit(7)
    if job == "hang":  # in C, and deaf to everything but a kill
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        time.sleep(600)
    if job == "stall":
        fan_out.STALL_SECONDS = 0.5
        list(fan_out.watched(itertools.chain([1], (time.sleep(600) for _ in range(1)))))
    if job == "raise":
        raise VidrnnError("this job is beyond us")
    return os.getcwd() if job == "where" else job


def be_killed(mark: str) -> str:
    """Die as the kernel kills for want of memory: always, or at the first of several times, which leaves a file."""
    if mark == "always":
        os.kill(os.getpid(), signal.SIGKILL)
    if mark.endswith("once") and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def bomb(size: int) -> int:
    fan_out.limit_memory()
    try:
        return len(bytearray(size))
    except MemoryError:
        return -1


def linger(path: str) -> str:
    """Note that it has begun, and take until a file `on` lies beside it."""
    with Path(path).open("a") as file:
        file.write("x")
    deadline = time.monotonic() + 120
    while not Path(path).with_name("on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path


def hang(path: str) -> None:
    """Tell which process this is, then be busy for longer than anybody waits."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)
