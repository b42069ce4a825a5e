"""DVC as a command: which stages a target needs, and one stage at a time in a child that never outlives its caller.

DVC alone knows the graph and what is stale. This module knows nothing of Prefect and, of vidrnn, only that it is a
command too.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Event, Thread

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
TAIL_LINES = 20  # of a failed command that its error repeats

_DAG_NODE = re.compile(r'^"(?P<node>[^"]+)";$')
_DAG_EDGE = re.compile(r'^"(?P<before>[^"]+)" -> "(?P<after>[^"]+)";$')
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS = re.compile(r"\d+%\|.*\|")  # a tqdm bar
# DVC ends with 255 whatever went wrong, so that only its words tell a lock that another process holds.
_BUSY = ("it is being blocked by", "Unable to acquire lock")


class DvcError(Exception):
    """A dvc command failed or took too long; the message ends with its last lines."""


class DvcBusyError(DvcError):
    """Another dvc process held the files of the stage; nothing was run, so trying again is safe."""


def upstream(target: str, repo: Path) -> list[str]:
    """Every stage that `target` needs, itself last, each after all that it depends on.

    Raises:
        DvcError: `repo` holds no DVC project, or `target` is no stage of it.
    """
    lines: list[str] = []
    run(["dag", "--dot", target], repo, lines.append, timeout_seconds=300.0)
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for line in lines:
        if node := _DAG_NODE.match(line):
            sorter.add(node["node"])
        elif edge := _DAG_EDGE.match(line):
            sorter.add(edge["after"], edge["before"])
    return [node for node in sorter.static_order() if not node.endswith(".dvc")]  # which are data, and have no command


def is_stale(stage: str, repo: Path) -> bool:
    """Whether `repro` would run the stage, if all that it depends on stays as it is."""
    lines: list[str] = []
    run(["repro", "--dry", "-s", stage], repo, lines.append, timeout_seconds=300.0)
    return any(line.startswith("Running stage ") for line in lines)


def up_to_date(target: str, repo: Path) -> bool:
    """Whether there is nothing to do for `target` and all that it needs: one look, where each stage would take one."""
    lines: list[str] = []
    try:
        run(["--wait-for-lock", "repro", "--dry", target], repo, lines.append, timeout_seconds=3600.0)
    except DvcError:  # whatever it is, the stage itself will tell
        return False
    return lines[-1:] == ["Data and pipelines are up to date."]


def repro(stage: str, repo: Path, log: Callable[[str], None], timeout_seconds: float) -> str:
    """Bring one stage up to date, and nothing that it depends on.

    Args:
        stage: its name, as `upstream` gives it.
        repo: the folder that holds `.dvc`.
        log: takes each line of the command and of the stage as it is written.
        timeout_seconds: after which the stage and all of its children are ended.

    Returns:
        `ran`, `restored` (its outputs came from the cache of earlier runs) or `skipped` (nothing had changed).

    Raises:
        DvcBusyError: another process works on files of the stage.
        DvcError: the stage failed or took too long.
    """
    outcomes = {
        f"Stage '{stage}' didn't change, skipping": "skipped",
        f"'{stage}' didn't change, skipping": "skipped",
        f"Stage '{stage}' is cached - skipping run, checking out outputs": "restored",
    }
    outcome = "ran"

    def note(line: str) -> None:
        nonlocal outcome
        outcome = outcomes.get(line, outcome)
        log(line)

    run(["--wait-for-lock", "repro", "-s", stage], repo, note, timeout_seconds)
    return outcome


def run(arguments: Sequence[str], repo: Path, log: Callable[[str], None], timeout_seconds: float) -> None:
    """Run `dvc ARGUMENTS`, as `run_module` does."""
    run_module("dvc", arguments, repo, log, timeout_seconds)


def run_module(
    module: str, arguments: Sequence[str], repo: Path, log: Callable[[str], None], timeout_seconds: float
) -> None:
    """Run `python -m MODULE ARGUMENTS` in a process group of its own, of which nothing is left when this ends.

    Raises:
        DvcBusyError: another process holds a lock and no stage was started.
        DvcError: any other failure, or `timeout_seconds` passed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=repo,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    late, gone = Event(), Event()
    watcher = Thread(target=_watch, args=(process, timeout_seconds, late, gone))
    watcher.start()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    started = False
    try:
        for line in _lines(process, gone):
            tail.append(line)
            started = started or line.startswith("Running stage ")
            log(line)
    finally:
        _end(process)  # on the way out of an exception; on the usual way nothing is left
        watcher.join()
        if process.stdout:
            process.stdout.close()
    told = "\n".join(tail)
    command = " ".join([module.partition(".")[0], *arguments])
    if late.is_set():
        raise DvcError(f"`{command}` was ended after its {timeout_seconds:g} s\n{told}")
    if process.returncode and not started and any(words in told for words in _BUSY):
        raise DvcBusyError(f"`{command}` found its files in use\n{told}")
    if process.returncode:
        raise DvcError(f"`{command}` failed\n{told}")


def _environment() -> dict[str, str]:
    """Ours; a stage says `python`, which must be this interpreter even where its environment is not activated."""
    folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _watch(process: subprocess.Popen[bytes], timeout_seconds: float, late: Event, gone: Event) -> None:
    """Wait for the command, set `late` where it takes too long, end what remains of its group and set `gone`."""
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        late.set()
    _end(process)
    process.wait()
    gone.set()


def _end(leader: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the whole group of `leader`, and SIGKILL to what is left of it after the grace."""
    try:
        os.killpg(leader.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.02)
            leader.poll()  # until it is reaped, a leader that has ended still counts as a member
            os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return
    finally:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def _lines(process: subprocess.Popen[bytes], gone: Event) -> Iterator[str]:
    """Yield what the group writes, line by line, without progress bars and blank lines.

    It ends with the group, even where a process that left the group still holds the pipe open.
    """
    assert process.stdout is not None
    held = b""
    while True:
        ended = gone.is_set()  # asked before looking: what was written until then is there to be read
        if not select.select([process.stdout], [], [], 0.2)[0]:
            if ended:
                break
            continue
        chunk = os.read(process.stdout.fileno(), 64 * 1024)
        if not chunk:
            break
        *whole, held = (held + chunk).split(b"\n")
        held = held[held.rfind(b"\r", 0, len(held) - 1) + 1 :]  # a bar that is redrawn for hours stays one line
        yield from filter(None, map(_clean, whole))
    if last := _clean(held):
        yield last


def _clean(raw: bytes) -> str:
    """What a terminal would show of a line in the end; nothing of a progress bar."""
    text = _ESCAPE.sub("", raw.decode("utf-8", "replace")).rstrip().rpartition("\r")[2]
    return "" if _PROGRESS.search(text) else text
