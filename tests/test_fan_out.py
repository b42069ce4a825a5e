"""Jobs in processes that really die, hang and are killed; as Ray tasks they are in test_cluster.py."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs import be_killed, bomb, misbehave, slow_first

from vidrnn.errors import VidrnnError
from vidrnn.fan_out import MEMORY_BYTES, Failure, fan_out, fan_out_all, watched

CRASHED = Failure("made the process that reads it die (signal 11)")
LEFT = Failure("made the process that reads it die (exit code 7)")


def test_results_come_in_the_order_of_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = list(range(5))
    results = list(fan_out_all("count", slow_first, jobs, str))
    assert [job for job, _ in results] == jobs
    assert os.getpid() not in {process for _, process in results}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  (")[0] for line in lines] == [f"count: video {k + 1} of 5  {k}" for k in range(5)]


def test_without_jobs_no_process_is_started() -> None:
    start = time.monotonic()
    assert list(fan_out("count", slow_first, [], str)) == []
    assert time.monotonic() - start < 0.1


def test_few_jobs_share_a_process() -> None:
    results = list(fan_out("count", slow_first, [1, 2, 3], str, jobs_per_process=3))
    assert len({result[1] for result in results if not isinstance(result, Failure)}) == 1


def test_names_reach_the_terminal_without_what_it_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a\nb", "\x1b[2Jc", "d\u202ee", "f\udce9", "ä ö"]
    list(fan_out_all("count", slow_first, [1, 2, 3, 4, 5], lambda job: names[job - 1]))
    shown = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["a\\nb", "\\x1b[2Jc", "d\\u202ee", "f\\udce9", "ä ö"]
    assert str(VidrnnError("a\x1b\n")) == "a\\x1b\\n"


def test_what_dies_hangs_or_stalls_is_a_failure_and_the_rest_goes_on() -> None:
    jobs = ["a", "crash", "b", "leave", "stall", "hang", "c"]
    start = time.monotonic()
    stalled, late = "gave no further picture for 30 s", "took longer than 2 s to read"
    expected = ["a", CRASHED, "b", LEFT, Failure(stalled), Failure(late), "c"]
    assert list(fan_out("count", misbehave, jobs, str, time_limit_seconds=2)) == expected
    assert time.monotonic() - start < 25


def test_the_error_of_a_job_comes_through_and_ends_all_processes() -> None:
    start = time.monotonic()
    with pytest.raises(VidrnnError, match="this job is beyond us"):
        list(fan_out("count", misbehave, ["a", "raise", "hang", "hang"], str))
    assert time.monotonic() - start < 20


def test_where_no_video_may_fail_a_death_is_one_sentence_with_its_name() -> None:
    results = fan_out_all("count", misbehave, ["a", "crash", "b"], lambda job: f"gate/{job}\n.mp4")
    assert next(results) == "a"
    with pytest.raises(VidrnnError) as caught:
        next(results)
    assert str(caught.value).startswith("count: gate/crash\\n.mp4 made the process that reads it die (signal 11); free")
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)


def test_a_killed_job_is_done_once_more_alone(tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    jobs = ["a", once, "b", "c"]
    if (os.cpu_count() or 1) > 1:
        assert list(fan_out("count", be_killed, jobs, str)) == jobs
    killed = Failure("made the process that reads it die (signal 9)")
    assert list(fan_out("count", be_killed, ["a", "always", "b"], str)) == ["a", killed, "b"]


def test_who_is_killed_leaves_nobody_behind_that_works_on(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    imports = "from jobs import hang; from vidrnn.fan_out import fan_out"
    code = f"{imports}; list(fan_out('count', hang, [{str(told)!r}], str))"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    try:
        wait_for(lambda: told.exists() and told.read_text(), 60)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_running(int(told.read_text())), 10)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # where nobody collects it, it stays as a zombie
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no limit of addresses")
def test_memory_is_limited_in_the_process_of_a_job_only() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert list(fan_out("count", bomb, [10, MEMORY_BYTES], str)) == [10, -1]
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_watched_gives_all_items_and_leaves_no_timer() -> None:
    assert list(watched(iter([1, 2, 3]))) == [1, 2, 3]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
