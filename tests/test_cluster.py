"""A simulated cluster: nodes of Ray that are processes of this machine, each with a processor. They share its files."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from conftest import moving_square, write_clip
from jobs import linger, misbehave
from synthetic import files_of, save_camera_model, write_fates
from whole import make_all

from vidrnn.errors import VidrnnError
from vidrnn.fan_out import Failure, fan_out

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes; what was started is stopped."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")  # of the workers
        own = Cluster()
        grow(own, 2)
        environment.setenv("RAY_ADDRESS", own.address)
        environment.chdir(ROOT)
        yield own
        own.shutdown()


def grow(cluster: Any, count: int) -> None:
    """Add nodes of a processor each until there are so many."""
    while len(cluster.list_all_nodes()) < count:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)


@pytest.fixture(scope="module")
def made_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, one of them cut short, and a model; below `here` what this machine alone makes of them."""
    root = tmp_path_factory.mktemp("cluster")
    clips = [write_clip(root / f"clips/gate/{name}.mp4", moving_square(60, step=k)) for k, name in enumerate("ab", 1)]
    (root / "clips/gate/c.mp4").write_bytes(clips[0].read_bytes()[:-300])
    save_camera_model(root / "model/gate", columns=27, tail=(0.0, 1, 0.1, 1.0))
    write_fates(root / "model", gate="")
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(ROOT)
        environment.delenv("RAY_ADDRESS", raising=False)
        make_all(root / "clips", root / "model", root / "here")
    return root


@pytest.mark.parametrize("nodes", [2, 4])
def test_any_number_of_nodes_makes_the_same_bytes(made_here: Path, cluster: Any, nodes: int) -> None:
    grow(cluster, nodes)
    make_all(made_here / "clips", made_here / "model", made_here / f"{nodes} nodes")
    made = files_of(made_here / f"{nodes} nodes")
    assert made == files_of(made_here / "here")
    # Of each of the two, 4 parts of features, 2 of scores, 6 tables, and of an event a picture, a heat map and a clip,
    # and a picture of a segment.
    parts = {"features": 9, "scores": 5, "tables": 13, "media": 8}
    assert {part: sum(name.startswith(f"{part}/") for name in made) for part in parts} == parts


def test_what_fails_here_fails_there(cluster: Any) -> None:
    crashed, late = (
        Failure("made the process that reads it die (signal 11)"),
        Failure("took longer than 1 s to read"),
    )
    expected = [crashed, str(ROOT), late]  # paths may be relative
    assert list(fan_out("count", misbehave, ["crash", "where", "hang"], str, time_limit_seconds=1)) == expected
    with pytest.raises(VidrnnError, match="this job is beyond us"):
        list(fan_out("count", misbehave, ["raise"], str))


def test_a_node_that_is_lost_in_mid_work_is_survived(cluster: Any, tmp_path: Path) -> None:
    """What it was doing is done again elsewhere; nothing is lost, and nothing counts twice."""
    grow(cluster, 4)
    jobs = [str(tmp_path / f"{number}") for number in range(8)]
    lost = cluster.list_all_nodes()[-1]

    def lose() -> None:
        """Pull the plug as soon as the four are at work."""
        deadline = time.monotonic() + 100
        while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        # What the node's own processes started outlives them here for a moment, in which it could still answer.
        (raylet,) = lost.all_processes["raylet"]
        there = psutil.Process(raylet.process.pid).children(recursive=True)
        cluster.remove_node(lost, allow_graceful=False)
        for process in there:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        (tmp_path / "on").touch()

    plug = Thread(target=lose)
    plug.start()
    results = list(fan_out("count", linger, jobs, str))
    plug.join()
    assert results == jobs
    assert len(cluster.list_all_nodes()) == 3
    begun = [len(Path(job).read_text()) for job in jobs]
    assert min(begun) == 1 and sum(begun) > len(jobs), "none was at work where the plug was pulled"
