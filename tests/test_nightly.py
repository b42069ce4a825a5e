"""Nights over a small real project: what they publish, what they leave alone, and what they survive."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import publish
import pyarrow.parquet as pq
import pytest
from commands import at_work_in, commit, dvc, git
from conftest import blank, make_repository, write
from dvc.api import read
from dvc_cli import DvcError, is_stale
from ruamel.yaml import YAML
from small_project import change_params, clone_this
from toy_project import PARAMS, ROOT, film, has_namespaces, list_code, make_checkout

from vidrnn.storage import video_path

TREE = ".nightly/tree"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("template") / "checkout")


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "checkout", symlinks=True)


def outcomes(status: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in status["stages"]}


def model_of(checkout: Path, rev: str) -> Any:
    """The model that is published at a revision, by DVC's own means."""
    return json.loads(read("data/model/gate/model.json", repo=str(checkout), rev=rev))


def deployed() -> dict[str, Any]:
    """What `prefect deploy` reads."""
    return dict(YAML(typ="safe").load(ROOT / "prefect.yaml"))


def deployment() -> dict[str, Any]:
    (found,) = deployed()["deployments"]
    return dict(found)


@pytest.fixture(scope="module")
def first_night(
    nightly: ModuleType, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A checkout after its first night, run as the deployment runs it, and what that night said; see `begun`."""
    checkout = shutil.copytree(template, tmp_path_factory.mktemp("first") / "checkout", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        return checkout, nightly.night(**deployment()["parameters"])


@pytest.fixture
def begun(first_night: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of that checkout."""
    return shutil.copytree(first_night[0], tmp_path / "checkout", symlinks=True)


@pytest.mark.slow
def test_nights_publish_and_leave_the_checkout_alone(
    nightly: ModuleType, first_night: tuple[Path, dict[str, Any]], begun: Path
) -> None:
    (place, first), checkout = first_night, begun
    head = git(checkout, "rev-parse", "HEAD")
    assert first["report"] == str(place / TREE / "data/report/index.html")  # whole, from wherever it is opened
    assert outcomes(first) == {"train": "ran", "gate": "ran", "report": "ran"} and first["model"] == "model/v1"
    again = nightly.night(checkout)
    assert set(outcomes(again).values()) == {"skipped"}
    assert (again["commit"], again["model"]) == (first["commit"], None)  # nothing new is no new night

    film(checkout, "second")
    second = nightly.night(checkout)
    assert outcomes(second) == {"train": "ran", "gate": "ran", "report": "ran"} and second["model"] == "model/v2"
    assert json.loads((checkout / TREE / "data/champion/gate/model.json").read_text())["saw"] == "first"
    one, two = model_of(checkout, "model/v1"), model_of(checkout, "model/v2")
    assert one["saw"] == "first" and two["saw"] == "firstsecond"
    assert one["start"] is None and two["start"] == one["version"]
    assert dvc(checkout, "artifacts", "get", ".", "model", "--rev", "v1.0.0", "-o", str(checkout.parent / "first"))
    assert json.loads((checkout.parent / "first/gate/model.json").read_text())["saw"] == "first"
    assert "Data and pipelines are up to date" in dvc(checkout / TREE, "repro", "report")  # finished, as published

    assert git(checkout, "rev-parse", "HEAD") == head and git(checkout, "status", "--porcelain") == ""
    assert sorted(path.name for path in (checkout / "data").iterdir()) == [
        *("champion", "labels", "start", "videos", "withdrawn.csv"),
    ]
    assert nightly.read_status(checkout)["commit"] == second["commit"] == git(checkout, "rev-parse", publish.BRANCH)

    command = [sys.executable, "-m", "vidrnn.cli", "rollback", "model/v1"]
    told = subprocess.run(command, cwd=checkout, env=with_server(), capture_output=True, text=True)
    assert told.returncode == 0 and "as model/v3" in told.stdout, told.stderr
    back = nightly.read_status(checkout)
    assert outcomes(back) == {"gate": "ran", "report": "restored"} and back["model"] == "model/v3"
    assert model_of(checkout, "model/v3")["saw"] == "first"
    film(checkout, "third")
    assert nightly.night(checkout)["model"] == "model/v4"
    four = model_of(checkout, "model/v4")
    assert four["saw"] == "firstsecondthird" and four["start"] is None  # every second candidate is from scratch
    assert [path.name for path in (checkout / TREE / "data/start").iterdir()] == ["README"]
    assert git(checkout / TREE, "status", "--porcelain", "--", "data/start", "data/start.dvc", "dvc.lock") == ""
    assert "Data and pipelines are up to date" in dvc(checkout / TREE, "repro", "report")


@pytest.mark.slow
def test_code_counts_when_it_is_committed_and_a_stage_that_fails_publishes_nothing(
    nightly: ModuleType, first_night: tuple[Path, dict[str, Any]], begun: Path
) -> None:
    checkout, first = begun, first_night[1]
    source = (checkout / "report.py").read_text()
    (checkout / "report.py").write_text("raise SystemExit('the lens cap is on')\n")
    told: list[str] = []
    with publish.alone(checkout):
        publish.prepare(checkout, told.append)
    assert len(told) == 1 and "not committed: report.py" in told[0]
    assert (checkout / TREE / "report.py").read_text() == source

    git(checkout, "commit", "-qam", "a mistake")
    film(checkout, "second")
    state = nightly.night(checkout, return_state=True)
    assert state.is_failed() and "the lens cap is on" in state.message
    status = nightly.read_status(checkout)
    assert status["state"] == "failed" and "the lens cap is on" in status["message"]
    assert publish.model_tags(checkout / TREE) == ["model/v1"]
    assert git(checkout, "log", "--format=%s", "-1", publish.BRANCH).startswith("Code and parameters of")
    git(checkout, "revert", "--no-edit", "HEAD")
    assert nightly.night(checkout)["model"] == "model/v2"
    assert json.loads((checkout / TREE / "data/champion/gate/model.json").read_text())["saw"] == "first"
    history = git(checkout, "log", "--format=%H", publish.BRANCH).splitlines()
    assert {first["commit"], git(checkout, "rev-parse", "HEAD")} <= set(history)


@pytest.mark.slow
def test_footage_that_lies_elsewhere_is_updated_and_published(
    nightly: ModuleType, checkout: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = (checkout / "data/videos").rename(tmp_path / "store")
    (store / ".gitignore").unlink()
    git(checkout, "rm", "-rq", "--cached", "data/videos")
    dvc(checkout, "import-url", str(store), "data/videos")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "footage of another disk")
    base = git(checkout, "rev-parse", "HEAD")
    first = nightly.night(checkout)
    assert first["model"] == "model/v1" and model_of(checkout, "model/v1")["saw"] == "first"

    (store / "gate/second.mp4").write_text("second")
    second = nightly.night(checkout)
    assert second["model"] == "model/v2" and model_of(checkout, "model/v2")["saw"] == "firstsecond"
    assert git(checkout, "diff", "--name-only", base, publish.BRANCH, "--", "data/videos.dvc") == "data/videos.dvc"
    dvc(tmp_path, "get", str(checkout), "data/videos", "--rev", publish.BRANCH, "-o", str(tmp_path / "published"))
    assert sorted(path.name for path in (tmp_path / "published/gate").iterdir()) == ["first.mp4", "second.mp4"]

    store.rename(tmp_path / "away")
    third = nightly.night(checkout)
    assert (third["state"], third["commit"], third["model"]) == ("completed", second["commit"], None)
    assert git(checkout, "rev-parse", "HEAD") == base and git(checkout, "status", "--porcelain") == ""

    # A source that is there and cannot be read, and what a transfer that was cut off has left.
    (tmp_path / "away").rename(store)
    (store / "gate/third.mp4").symlink_to("/proc/self/mem")
    (checkout / TREE / "data/videos/gate/third.mp4").write_text("th")
    assert "its source cannot be reached" in taken_in(nightly, checkout / TREE, caplog)
    kept = sorted(path.name for path in (checkout / TREE / "data/videos/gate").iterdir())
    assert kept == ["first.mp4", "second.mp4"]


def taken_in(nightly: ModuleType, folder: Path, log: pytest.LogCaptureFixture) -> str:
    """The warnings of the task that takes in footage, without a flow."""
    log.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nightly, "get_run_logger", lambda: logging.getLogger("night"))
        nightly.take_in.fn(folder)
    return "\n".join(record.getMessage() for record in log.records if record.levelno >= logging.WARNING)


def test_footage_that_the_checkout_has_added_to_dvc_is_no_import(
    nightly: ModuleType, checkout: Path, caplog: pytest.LogCaptureFixture
) -> None:
    git(checkout, "rm", "-rq", "--cached", "data/videos")
    (checkout / "data/videos/.gitignore").unlink()
    dvc(checkout, "add", "data/videos")
    shutil.rmtree(checkout / "data/videos")
    assert taken_in(nightly, checkout, caplog) == ""
    assert (checkout / "data/videos/gate/first.mp4").read_text() == "first"


def test_footage_of_another_place_is_not_committed(checkout: Path, tmp_path: Path) -> None:
    """Nor does a night fail here where params.yaml lacks what a stage will ask for."""
    git(checkout, "branch", publish.BRANCH)
    (tmp_path / "store.dvc").write_text("outs: []\n")
    for params in (f"data: {{videos: {tmp_path}/store}}\n", "data: {labels: a}\n", "data: none\n", "data: [\n", ""):
        (checkout / "params.yaml").write_text(params)
        assert publish.publish(checkout, "A night") == publish.Published(git(checkout, "rev-parse", "HEAD"), None)
        assert publish.footage_pointer(checkout) is None
    (checkout / "params.yaml").unlink()
    assert publish.footage_pointer(checkout) is None
    (checkout / "params.yaml").write_text(PARAMS)
    (checkout / "data/videos.dvc").write_text("outs: []\n")
    assert publish.footage_pointer(checkout) == publish.footage_pointer(checkout, "HEAD") == "data/videos.dvc"


def test_what_is_not_committed_is_told_by_name(checkout: Path) -> None:
    """But for what nights keep of their own, and marks, which count at once."""
    own = ("dvc.lock", "data/metrics/train.json", "data/withdrawn.csv", "data/feedback.csv")
    told = ("a report for ä.py", "data/labels/.gitignore", "renamed.py")
    for name in (*own, *told, "left.py"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("committed\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "more files")
    for name in (*own, *told):
        (checkout / name).write_text("changed\n")
    git(checkout, "mv", "renamed.py", "new name.py")
    (checkout / "data/videos.dvc").write_text("outs: []\n")  # which `git add` would have to take first
    (checkout / "notes.txt").write_text("nobody asks for them\n")
    lines: list[str] = []
    publish.prepare(checkout, lines.append)
    names = ["a report for ä.py", "data/labels/.gitignore", "new name.py", "renamed.py", "data/videos.dvc"]
    assert [line.split(": ")[-1] for line in lines] == [", ".join(names)]


def test_a_watched_folder_at_a_relative_path_is_one_of_the_checkout(
    nightly: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkout = tmp_path / "checkout"
    clone_this(checkout)
    change_params(checkout, nightly={"watch": ["incoming"]})
    (checkout / "incoming/gate").mkdir(parents=True)
    (checkout / "incoming/gate/a.txt").write_text("1 2\n3 4\n")
    os.utime(checkout / "incoming/gate/a.txt", (0, 0))
    git(checkout, "init", "-q")
    commit(checkout)
    for folder in (publish.prepare(checkout, print), checkout):
        assert taken_in(nightly, folder, caplog) == ""
        assert (checkout / "data/videos/gate/a.txt").read_text() == "1 2\n3 4\n"
        (checkout / "data/videos/gate/a.txt").unlink()


def plain_night(checkout: Path, back_to: str | None = None) -> tuple[publish.Published, str]:
    """A night without Prefect; what was published, and what has become of its data."""
    with publish.alone(checkout):
        folder = publish.prepare(checkout, print)
        if back_to:
            publish.go_back(folder, back_to, ["train", "gate", "report"], print)
        elif is_stale("train", folder) and publish.set_champion(folder):
            publish.set_start(folder, git(checkout, "rev-parse", "HEAD"), 100)
        dvc(folder, "repro", "-q", *(["-s", "gate", "report"] if back_to else []))
        return publish.publish(folder, "A night"), publish.push(folder, print)


@pytest.mark.slow
def test_a_remote_that_is_away_gets_everything_later(begun: Path, tmp_path: Path) -> None:
    checkout = begun
    assert publish.push(checkout / TREE, print) == "none"
    (tmp_path / "remote").write_text("a file where the folder should be")
    dvc(checkout, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    film(checkout, "second")
    assert plain_night(checkout)[1] == "away"
    (tmp_path / "remote").unlink()
    film(checkout, "third")
    assert plain_night(checkout)[1] == "pushed"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(checkout), str(clone))
    dvc(clone, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    git(clone, "checkout", "-q", "model/v2")
    dvc(clone, "pull", "data/model")
    assert json.loads((clone / "data/model/gate/model.json").read_text())["saw"] == "firstsecond"
    with pytest.raises(publish.NightError, match="no published version is called 'model/v9'; the last ones are"):
        publish.go_back(checkout / TREE, "model/v9", [], print)


@pytest.mark.slow
def test_paths_in_the_settings_of_dvc_are_relative_to_the_checkout(checkout: Path, tmp_path: Path) -> None:
    dvc(checkout, "remote", "add", "--default", "store", "../store")
    git(checkout, "commit", "-qam", "a store beside the checkout")
    dvc(checkout, "remote", "add", "--local", "far", "ssh://camera@far/store")
    dvc(checkout, "remote", "modify", "--local", "far", "keyfile", "../key")
    dvc(checkout, "config", "core.autostage", "true")  # not committed, nor is it for nights to commit
    assert plain_night(checkout)[1] == "pushed" and any((tmp_path / "store").rglob("*"))
    assert git(checkout, "diff", "--name-only", "HEAD", publish.BRANCH, "--", ".dvc") == ""
    told = dvc(checkout / TREE, "config", "--list").splitlines()
    assert {f"remote.store.url={tmp_path}/store", f"remote.far.keyfile={tmp_path}/key"} <= set(told)
    assert {f"cache.dir={checkout}/.dvc/cache", "core.autostage=true"} <= set(told)
    (checkout / ".dvc/config.local").write_text("[core\n")
    with pytest.raises(DvcError, match="dvc config --list` failed"):
        publish.prepare(checkout, print)


@pytest.mark.slow
def test_a_mark_is_published_once(begun: Path) -> None:
    mark = begun / "data/feedback.csv"
    mark.write_text("event_id,verdict\n")
    git(begun, "add", "data")
    git(begun, "commit", "-qm", "no mark yet")
    mark.write_text("event_id,verdict\nx,normal\n")
    first, *idle = (plain_night(begun)[0] for _ in range(3))
    assert git(begun, "show", f"{first.commit}:data/feedback.csv").endswith("x,normal")
    assert [night.commit for night in idle] == [first.commit] * 2
    assert git(begun, "diff", "--cached", "--name-only") == ""  # nothing is staged where people work


@pytest.mark.slow
def test_a_checkout_that_is_copied_or_moved_takes_its_nights_along(
    first_night: tuple[Path, dict[str, Any]], begun: Path, tmp_path: Path
) -> None:
    original, first = first_night
    film(begun, "second")
    assert plain_night(begun)[0].tag == "model/v2"
    assert git(original, "rev-parse", publish.BRANCH) == git(original / TREE, "rev-parse", "HEAD") == first["commit"]
    moved = begun.rename(tmp_path / "moved")
    film(moved, "third")
    assert plain_night(moved)[0].tag == "model/v3" and model_of(moved, "model/v3")["saw"] == "firstsecondthird"
    assert dvc(moved / TREE, "cache", "dir") == str(moved / ".dvc/cache")
    git(moved, "worktree", "remove", "--force", TREE)
    shutil.copytree(original / TREE, moved / TREE, symlinks=True)  # of which this repository knows nothing
    film(moved, "fourth")
    assert plain_night(moved)[0].tag == "model/v4"
    assert git(moved, "fsck", "--no-dangling") == git(original, "fsck", "--no-dangling") == ""
    assert git(original, "rev-parse", publish.BRANCH) == git(original / TREE, "rev-parse", "HEAD") == first["commit"]


@pytest.mark.slow
def test_in_a_clone_nights_go_on_and_no_tag_moves(begun: Path, tmp_path: Path) -> None:
    def clone(name: str) -> Path:
        git(tmp_path, "clone", "-q", str(begun), name)
        film(tmp_path / name, "first")
        film(tmp_path / name, "second")
        return tmp_path / name

    whole, bare, alone = clone("whole"), clone("bare"), clone("alone")
    for folder in (whole, alone):
        dvc(folder, "cache", "dir", "--local", str(begun / ".dvc/cache"))
    assert plain_night(whole)[0].tag == "model/v2"
    two = model_of(whole, "model/v2")
    assert two["saw"] == "firstsecond" and two["start"] == model_of(whole, "model/v1")["version"]
    with pytest.raises(publish.NightError, match="neither in the DVC cache nor on a remote within reach"):
        plain_night(bare)
    git(alone, "update-ref", "-d", f"refs/remotes/origin/{publish.BRANCH}")
    assert plain_night(alone)[0].tag == "model/v2" and model_of(alone, "model/v2")["start"] is None
    for folder in (whole, alone):
        assert git(folder, "rev-parse", "model/v1") == git(begun, "rev-parse", "model/v1")


@pytest.mark.slow
def test_in_a_clone_nights_fetch_what_they_need_of_those_before(begun: Path, tmp_path: Path) -> None:
    """After a second night, which has left pointers; and one after which footage has been removed."""
    remote = tmp_path / "remote"
    dvc(begun, "remote", "add", "--default", "store", str(remote))
    git(begun, "commit", "-qam", "a store")
    film(begun, "second")
    assert plain_night(begun) == (publish.Published(git(begun, "rev-parse", "model/v2^{}"), "model/v2"), "pushed")

    git(tmp_path, "clone", "-q", str(begun), "clone")
    clone = tmp_path / "clone"
    for name in ("first", "second", "third"):
        film(clone, name)
    remote.rename(tmp_path / "away")
    with pytest.raises(publish.NightError, match=r"^data/champion, data/start: made by earlier nights") as told:
        publish.prepare(clone, print)
    assert "`dvc push` where they were made" in str(told.value) and "\n" not in str(told.value)

    (tmp_path / "away").rename(remote)
    assert plain_night(clone) == (publish.Published(git(clone, "rev-parse", "model/v3^{}"), "model/v3"), "pushed")
    three = model_of(clone, "model/v3")
    assert three["saw"] == "firstsecondthird" and three["start"] == model_of(begun, "model/v2")["version"]
    for path in ("data/champion", "data/start", "data/report"):
        shutil.rmtree(clone / TREE / path)
    shutil.rmtree(clone / ".dvc/cache")
    publish.prepare(clone, print)  # they can be had again wherever they went
    assert (clone / TREE / "data/report/index.html").is_file()

    # What was made of footage that has been removed must be had, or a night would go on without it.
    assert publish.RETIRED in publish.OWN and set(publish.OF_RETIRED) <= set(publish._outs(ROOT))
    outs = [{"path": path, "hash": "md5", "md5": f"{32 * '0'}.dir"} for path in publish.OF_RETIRED]
    for name, told_of in (("dvc.yaml", list(publish.OF_RETIRED)), ("dvc.lock", outs)):
        YAML().dump({"stages": {"features": {"cmd": "true", "outs": told_of}}}, clone / TREE / name)
    (clone / TREE / publish.RETIRED).write_text("video_id\ngate/first.mp4\n")
    with pytest.raises(publish.NightError, match=r"^data/features, data/media: made by earlier nights"):
        publish._bring_back(clone / TREE)
    (clone / TREE / publish.RETIRED).write_text("video_id\n")
    publish._bring_back(clone / TREE)  # they are made again


def with_server() -> dict[str, str]:
    """The environment of a process that is to use the server of these tests, and this very code."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)}


def start_night(checkout: Path) -> subprocess.Popen[str]:
    """`--now` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "flows/nightly.py", "--now"],
        cwd=checkout,
        env=with_server(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_in_a_stage_while_another_night_wants_to_begin(nightly: ModuleType, checkout: Path) -> None:
    source = (checkout / "gate.py").read_text()
    sign = checkout.parent / "in the gate"
    waits = f"import pathlib, time; pathlib.Path({str(sign)!r}).write_text('x'); time.sleep(300)\n"
    (checkout / "gate.py").write_text(waits + source)
    git(checkout, "commit", "-qam", "a gate that waits")
    process = start_night(checkout)
    while not sign.exists() and process.poll() is None:
        time.sleep(0.05)
    state = nightly.night(checkout, return_state=True)
    assert state.is_failed() and "another night is at work" in state.message
    assert nightly.read_status(checkout)["state"] == "running"

    process.send_signal(signal.SIGKILL)  # it alone: dvc and the stage stay behind, as after an accident
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert nightly.is_due(nightly.read_status(checkout), nightly.schedule_of(checkout), datetime.now(UTC))
    (checkout / "gate.py").write_text(source)
    git(checkout, "commit", "-qam", "it waits no more")
    status = nightly.night(checkout)
    assert outcomes(status) == {"train": "skipped", "gate": "ran", "report": "ran"}
    assert at_work_in(checkout / TREE) == {}
    assert "Data and pipelines are up to date" in dvc(checkout / TREE, "repro", "report")


@pytest.mark.slow
def test_killed_while_it_sends_a_night_is_published_and_sent_by_the_next_one(
    nightly: ModuleType, begun: Path, tmp_path: Path
) -> None:
    checkout = begun
    film(checkout, "second")
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # a remote that takes a call and never answers
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        dvc(checkout, "remote", "add", "--default", "--local", "store", url)
        process = start_night(checkout)
        deaf.settimeout(60)
        deaf.accept()[0].close()
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
    status = nightly.read_status(checkout)
    assert (status["state"], status["model"]) == ("completed", "model/v2") and "remote" not in status
    assert status["commit"] == git(checkout, "rev-parse", publish.BRANCH) and outcomes(status)["report"] == "ran"

    dvc(checkout, "remote", "modify", "--local", "store", "url", str(tmp_path / "remote"))
    film(checkout, "third")
    assert plain_night(checkout) == (publish.Published(git(checkout, "rev-parse", "model/v3^{}"), "model/v3"), "pushed")
    shutil.rmtree(checkout / ".dvc/cache")
    for tag, saw in (("model/v1", "first"), ("model/v2", "firstsecond")):  # the first had no remote at all
        git(checkout, "checkout", "-q", tag)
        dvc(checkout, "pull", "data/model")
        assert json.loads((checkout / "data/model/gate/model.json").read_text())["saw"] == saw


# A night without Prefect, which keeps nothing that counts. argv: at which command (Git, DVC) it is killed, and how long
# after that has begun; 0 and 0 is never. Prints how many commands there were.
PLAIN_NIGHT = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, "flows")
import dvc_cli, publish
number, seconds, begun = int(sys.argv[1]), float(sys.argv[2]), 0
def strike(event, arguments):
    global begun
    if event == "subprocess.Popen":
        begun += 1
        if begun == number:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
sys.addaudithook(strike)
checkout = Path.cwd()
with publish.alone(checkout):
    folder = publish.prepare(checkout, lambda line: None)
    for stage in dvc_cli.upstream("report", folder):
        if stage == "train" and dvc_cli.is_stale("train", folder) and publish.set_champion(folder):
            publish.set_start(folder, publish.git(checkout, "rev-parse", "HEAD"), 2)
        dvc_cli.repro(stage, folder, lambda line: None, 60)
    publish.publish(folder, "A night")
    publish.push(folder, lambda line: None)
print(begun)
"""


@pytest.mark.slow
def test_killed_again_and_again_in_every_step_the_next_night_is_clean(checkout: Path) -> None:
    def plain_night(number: int, seconds: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PLAIN_NIGHT, str(number), str(seconds)]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True)

    first = plain_night(0, 0)
    assert first.returncode == 0, first.stderr
    film(checkout, "second")
    killed = 0
    for number in range(2, int(first.stdout) + 8, 7):
        killed += plain_night(number, 0.05 * (number // 7 % 4)).returncode == -signal.SIGKILL
    assert killed >= 4
    last = plain_night(0, 0)
    assert last.returncode == 0, last.stderr
    assert publish.model_tags(checkout / TREE) == ["model/v1", "model/v2"]
    two = model_of(checkout, "model/v2")
    assert two["saw"] == "firstsecond" and two["start"] == model_of(checkout, "model/v1")["version"]
    assert "Data and pipelines are up to date" in dvc(checkout / TREE, "repro", "report")
    assert git(checkout, "status", "--porcelain") == "" and git(checkout, "fsck", "--no-dangling") == ""


# Nights on a file system of their own, which is full: each time there is a little more room. argv: a folder for it, a
# checkout, where to leave it, and the bytes of room. Prints of each night what it ended with, and what it said last.
NO_ROOM = """
import os, shutil, subprocess, sys
from pathlib import Path
small, source, kept = map(Path, sys.argv[1:4])
def size(*options):
    subprocess.run(["mount", "-o", ",".join(options), "-t", "tmpfs", "none", small], check=True)
def night(*command):
    done = subprocess.run([sys.executable, *command], cwd=checkout, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")] or done.stderr.splitlines()
    print(done.returncode, *said[-1:], sep="|", flush=True)
size("size=64m")
checkout = shutil.copytree(source, small / "checkout", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
plain = ("-c", os.environ["PLAIN_NIGHT"], "0", "0")
night(*plain)
(checkout / "data/videos/gate/second.mp4").write_text("second")
for room in sys.argv[4:]:
    found = os.statvfs(small)
    size("remount", f"size={(found.f_blocks - found.f_bfree) * found.f_frsize + int(room)}")
    night("flows/nightly.py", "--now")
    status = checkout / ".nightly/status.json"
    print(status.read_text().split('"')[3] if status.exists() else "none")
size("remount", "size=64m")
night(*plain)
dvc = [sys.executable, "-m", "dvc", "status", "-q", "--with-deps", "report"]
print(subprocess.run(dvc, cwd=checkout / ".nightly/tree").returncode)
shutil.copytree(checkout, kept, symlinks=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="no file system may be mounted here")
def test_without_room_a_night_fails_in_a_sentence_and_publishes_nothing(
    nightly: ModuleType, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "small").mkdir()
    rooms = ["4096", "65536"]  # for Git alone, for all but the tags
    command = ["unshare", "-rm", sys.executable, "-c", NO_ROOM]
    done = subprocess.run(
        [*command, *map(str, (tmp_path / "small", checkout, tmp_path / "kept")), *rooms],
        env={**with_server(), "PLAIN_NIGHT": PLAIN_NIGHT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *failed, last, up_to_date = done.stdout.splitlines()
    assert first[0] == last[0] == up_to_date == "0", done.stdout
    said, states = failed[::2], failed[1::2]
    told = "\n".join(said)
    assert all(line.startswith("1|error: ") for line in said), told
    assert len(set(said)) == len(rooms), told  # each time it came a little farther
    assert set(states) <= {"failed", "running", "none"}, states  # not even these may have had room: it is made up for
    kept = tmp_path / "kept"
    assert git(kept, "tag", "--list", "model/*").splitlines() == ["model/v1", "model/v2"]
    two = model_of(kept, "model/v2")
    assert two["saw"] == "firstsecond" and two["start"] == model_of(kept, "model/v1")["version"]


def test_a_night_leaves_no_compiled_modules_that_a_full_disk_could_cut_short(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "flows", tmp_path / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(tmp_path / "flows/nightly.py"), "--help"]
    done = subprocess.run(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, capture_output=True, text=True)
    assert done.returncode == 0 and "--now" in done.stdout, done.stderr
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.slow
def test_a_candidate_that_was_refused_after_the_version_to_go_back_to_is_not_promoted(checkout: Path) -> None:
    source = (checkout / "gate.py").read_text()
    saw = '"second" in "".join(path.read_text() for path in pathlib.Path("data/champion").rglob("*.json"))'
    (checkout / "gate.py").write_text(source.replace("version in withdrawn", f"version in withdrawn or {saw}"))
    git(checkout, "commit", "-qam", "nothing is better than what saw the second film")
    tags = [plain_night(checkout)[0].tag]
    for name in ("second", "third"):
        film(checkout, name)
        tags.append(plain_night(checkout)[0].tag)
    assert tags == ["model/v1", "model/v2", None]
    assert plain_night(checkout, back_to="model/v1")[0].tag == "model/v3"
    assert model_of(checkout, "model/v3") == model_of(checkout, "model/v1")


@pytest.mark.slow
def test_going_back_takes_the_code_that_is_committed(nightly: ModuleType, begun: Path) -> None:
    """Straight after a commit by which the gate depends on a list of its code, and after a change of that code."""
    checkout = begun
    film(checkout, "second")
    assert plain_night(checkout)[0].tag == "model/v2"
    list_code(checkout)
    back = nightly.night(checkout, "model/v1")
    assert back["model"] == "model/v3" and model_of(checkout, "model/v3") == model_of(checkout, "model/v1")
    assert outcomes(back) == {"code": "ran", "gate": "ran", "report": "restored"}

    source = (checkout / "gate.py").read_text()
    (checkout / "gate.py").write_text(source + 'pathlib.Path("data/model/by").write_text("an edit")\n')
    git(checkout, "commit", "-qam", "an edit")
    edited = nightly.night(checkout, "model/v1")
    assert outcomes(edited) == {"code": "ran", "gate": "ran", "report": "ran"}
    assert (checkout / TREE / "data/model/by").read_text() == "an edit"
    git(checkout, "revert", "--no-edit", "HEAD")
    nightly.night(checkout, "model/v1")
    assert not (checkout / TREE / "data/model/by").exists()  # nor does DVC restore it as what that code makes


@pytest.mark.slow
def test_going_back_in_a_clone_fetches_what_it_needs(begun: Path, tmp_path: Path) -> None:
    film(begun, "second")
    dvc(begun, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    assert plain_night(begun)[0].tag == "model/v2"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(begun), str(clone))
    for name in ("first", "second"):
        film(clone, name)
    missing = "data/champion, data/start: made by earlier nights, .* neither in .* nor on a remote .*; `dvc push` where"
    with pytest.raises(publish.NightError, match=missing):
        plain_night(clone, back_to="model/v1")
    dvc(clone, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    assert plain_night(clone, back_to="model/v1")[0].tag == "model/v3"
    assert model_of(clone, "model/v3") == model_of(begun, "model/v1")


@pytest.mark.slow
def test_a_night_that_cannot_be_compared_with_the_last_one_is_published(
    nightly: ModuleType, begun: Path, tmp_path: Path
) -> None:
    (begun / TREE / "data/tables").mkdir()  # which the last night did not publish: as where its data is gone
    told: list[str] = []
    assert nightly.new_events(begun / TREE, told.append) == ([], 0)
    assert nightly.compare(tmp_path, told.append) == "The measures of the last published night cannot be read."
    assert "revision 'HEAD' holds no data/tables" in told[0] and "`dvc metrics diff --md HEAD` failed" in told[1]
    film(begun, "second")
    status = nightly.night(begun)
    assert (status["state"], status["model"], status["new_events"]) == ("completed", "model/v2", [])


@pytest.mark.slow
def test_new_events_of_what_came_in_are_told_whatever_is_warned_of(
    nightly: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And counted in footage that the last night had."""
    repo = tmp_path / "repo"
    make_repository(repo)
    git(repo, "branch", publish.BRANCH)
    git(repo, "tag", "model/v1")
    videos = pq.read_table(repo / "data/tables/videos.parquet").to_pylist()
    came = {"camera_id": "gate", "video_id": "gate/c.mp4"}
    changed = next(row for row in videos if row["video_id"] == "north yard/ä.mp4")
    changed["sha256"] = "of the whole recording"
    write(repo / "data/tables/videos.parquet", "videos", [*videos, blank("videos", **came)])
    for key in (came, {"camera_id": "gate", "video_id": "gate/a.mp4"}, {n: changed[n] for n in came}):
        event = blank("events", **key, event_id=f"new in {key['video_id']}", onset_pts=200, offset_pts=260)
        write(video_path(repo / "data/tables/events", *key.values()), "events", [event])
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # a line on standard error for every module
    told: list[str] = []
    found, older = nightly.new_events(repo, told.append)
    assert [event["event_id"] for event in found] == ["new in gate/c.mp4", "new in north yard/ä.mp4"]
    assert older == 1 and told == []


def test_a_missed_night_is_due_once(nightly: ModuleType, checkout: Path) -> None:
    schedule = nightly.schedule_of(checkout)  # at two in the morning
    began = datetime(2026, 3, 1, 2, 0, 1, tzinfo=UTC)
    status = {"state": "completed", "started": began.isoformat()}
    assert not nightly.is_due({}, schedule, began)
    assert not nightly.is_due(status, schedule, began + timedelta(hours=23))
    assert nightly.is_due(status, schedule, began + timedelta(hours=25))
    assert nightly.is_due(status, schedule, began + timedelta(days=9))
    assert nightly.is_due({**status, "state": "running"}, schedule, began + timedelta(hours=1))
    assert nightly.is_due({**status, "state": "stopped"}, schedule, began + timedelta(hours=1))
    assert not nightly.is_due({**status, "state": "failed"}, schedule, began + timedelta(hours=1))


def test_the_deployment_is_the_same_night(nightly: ModuleType) -> None:
    """As `first_night` runs it, with the schedule that is served without it."""
    script, name = deployment()["entrypoint"].split(":")
    assert getattr(nightly, name) is nightly.night and (ROOT / script).samefile(nightly.__file__)
    schedule = nightly.schedule_of(ROOT)
    assert deployment()["schedules"] == [{"cron": schedule.cron, "timezone": schedule.timezone}]


def test_a_worker_that_is_started_in_the_checkout_finds_it(
    nightly: ModuleType, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.deployments.steps.core import run_steps

    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")  # as a process worker begins each run
    monkeypatch.setenv("PWD", str(checkout))
    asyncio.run(run_steps(deployed()["pull"]))
    assert Path.cwd() == checkout and Path(deployment()["entrypoint"].split(":")[0]).is_file()


@pytest.mark.slow
def test_the_schedule_fires_and_what_was_missed_is_made_up_for(checkout: Path) -> None:
    """With its own persistent server, as a user starts it; the last night was long ago."""
    (checkout / "params.yaml").write_text(PARAMS.replace("0 2 * * *", "* * * * * */5"))  # every five seconds
    git(checkout, "commit", "-qam", "more often")
    (checkout / ".nightly").mkdir()
    long_ago = {"state": "completed", "started": "2026-01-01T02:00:00+00:00"}
    (checkout / ".nightly/status.json").write_text(json.dumps(long_ago))
    process = start_serving(checkout)
    told, nights = [], 0
    assert process.stdout is not None
    for line in process.stdout:
        told.append(line)
        nights += "Flow run" in line and "Finished in state Completed" in line
        if nights == 2:
            break
    process.terminate()
    process.stdout.close()
    process.wait(60)
    assert nights == 2, "".join(told)
    text = "".join(told)
    assert text.index("a night was missed") < text.index("Beginning flow run") < text.index("is being served")
    assert text.index("is being served") < text.rindex("Beginning flow run")
    assert json.loads((checkout / ".nightly/status.json").read_text())["state"] == "completed"
    assert left_in(checkout) == {}  # the server has ended, too


@pytest.mark.slow
def test_a_night_that_is_stopped_is_made_up_for(nightly: ModuleType, checkout: Path) -> None:
    """One that makes up for another, by Ctrl-C in the terminal; then one of the schedule, by SIGTERM."""
    sign, source = checkout.parent / "in the gate", (checkout / "gate.py").read_text()
    waits = f"import pathlib, time; pathlib.Path({str(sign)!r}).write_text('x'); time.sleep(300)\n"
    (checkout / "gate.py").write_text(waits + source)
    git(checkout, "commit", "-qam", "a gate that waits")
    nightly.home(checkout).mkdir()
    nightly.write_status(checkout, {"state": "running", "started": datetime.now(UTC).isoformat()})
    for missed, stop, number in ((True, os.killpg, signal.SIGINT), (False, os.kill, signal.SIGTERM)):
        process = start_serving(checkout)
        while not sign.exists() and process.poll() is None:
            time.sleep(0.05)
        stop(process.pid, number)
        told = process.communicate(timeout=60)[0]
        assert ("a night was missed" in told) == missed, told
        status = nightly.read_status(checkout)
        assert status["state"] == "stopped" and "next start of `python flows/nightly.py`" in status["message"], told
        assert "KeyboardInterrupt" not in told  # what Prefect understands is SIGTERM
        assert left_in(checkout) == left_in(checkout / TREE) == {}  # nor a server
        sign.unlink()
        nightly.status_file(checkout).unlink()
        (checkout / "params.yaml").write_text(PARAMS.replace("0 2 * * *", "* * * * * */5"))  # every five seconds
        git(checkout, "commit", "-qam", "more often", "--allow-empty")


@pytest.mark.slow
def test_a_server_that_a_killed_start_has_left_is_used(checkout: Path) -> None:
    addresses = []
    for kill in (True, False):
        process = start_serving(checkout)
        assert process.stdout is not None
        told: list[str] = []
        while not told or "is being served" not in told[-1]:
            told.append(process.stdout.readline())
            assert told[-1], told
        addresses += [line for line in told if line.startswith("the nights and their logs: http://127.0.0.1:")]
        process.kill() if kill else process.terminate()
        process.wait(60)
        process.stdout.close()
    left = at_work_in(checkout)
    for number in left:
        os.kill(number, signal.SIGTERM)
    assert len(addresses) == 2 and len(set(addresses)) == 1
    assert len(left) == 1 and "prefect server start" in next(iter(left.values()))
    assert left_in(checkout) == {}


def start_serving(checkout: Path) -> subprocess.Popen[str]:
    """As a user does it, with a persistent server of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return subprocess.Popen(
        [sys.executable, "-u", "flows/nightly.py"],
        cwd=checkout,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_in(folder: Path) -> dict[int, str]:
    """What is at work there in the end."""
    deadline = time.monotonic() + 20
    while (left := at_work_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left
