"""Jobs in processes that really die, hang and are killed; and as Ray tasks on a real cluster, with the same results."""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import moving_square, write_clip
from jobs import be_killed, bomb, misbehave, slow_first
from synthetic import files_of, save_camera_model, write_fates

from vidrnn.errors import VidrnnError
from vidrnn.extract import extract_features
from vidrnn.fan_out import MEMORY_BYTES, Failure, fan_out, fan_out_all, watched
from vidrnn.index import index_videos
from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.storage import write_table
from vidrnn.tables import make_tables

ROOT = Path(__file__).resolve().parents[1]
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


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no limit of addresses")
def test_memory_is_limited_in_the_process_of_a_job_only() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert list(fan_out("count", bomb, [10, MEMORY_BYTES], str)) == [10, -1]
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_watched_gives_all_items_and_leaves_no_timer() -> None:
    assert list(watched(iter([1, 2, 3]))) == [1, 2, 3]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of this machine; what was started is stopped."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")  # of the workers
        own = Cluster()
        own.add_node(num_cpus=2, object_store_memory=128 * 2**20, include_dashboard=False)
        yield own.address
        own.shutdown()


@pytest.mark.slow
def test_ray_tasks_give_the_same_results_and_bytes(
    tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    late = Failure("took longer than 1 s to read")
    expected = [CRASHED, str(ROOT), late]  # paths may be relative
    assert list(fan_out("count", misbehave, ["crash", "where", "hang"], str, time_limit_seconds=1)) == expected
    with pytest.raises(VidrnnError, match="this job is beyond us"):
        list(fan_out("count", misbehave, ["raise"], str))

    clips = [write_clip(tmp_path / f"{name}.mp4", moving_square(60, step=k)) for k, name in enumerate("ab", 1)]
    save_camera_model(tmp_path / "model/gate", columns=27, tail=(0.0, 1, 0.1, 1.0))
    write_fates(tmp_path / "model", gate="")
    made = []
    for kind in ("ray", "processes"):
        if kind == "processes":
            monkeypatch.delenv("RAY_ADDRESS")
        root = tmp_path / kind
        (root / "videos/gate").mkdir(parents=True)
        for clip in clips:
            shutil.copy(clip, root / "videos/gate")
        (root / "videos/gate/c.mp4").write_bytes(clips[0].read_bytes()[:-300])
        make_all(root, tmp_path / "model")
        made.append(files_of(root))
    assert made[0] == made[1]
    # Of each of the two, 4 parts of features, 5 tables, and of an event a picture, a heat map and a clip, and
    # a picture of a segment.
    parts = {"features": 9, "scores": 3, "tables": 11, "media": 8}
    assert {part: sum(name.startswith(f"{part}/") for name in made[0]) for part in parts} == parts


def make_all(root: Path, model: Path) -> None:
    """What goes over all videos, from the index to the tables."""
    params = load_params()
    videos, features, scores = root / "videos", root / "features", root / "scores"
    features_params = params.features.model_copy(update={"warmup_seconds": 1.0})
    index = index_videos(videos, params.index, "UTC", root.with_suffix(".json"))
    training = extract_features(videos, index, features_params, features)
    for name, table in (("index", index), ("training", training)):
        write_table(root / f"{name}.parquet", table, SCHEMAS[name])
    score_videos(index, features, model, scores)
    make_tables(videos, index, features, model, scores, params.alarms, root / "tables", root / "media")
