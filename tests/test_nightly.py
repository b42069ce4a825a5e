"""Nights over a small real project: what they publish, what they leave alone, and what they survive."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import publish
import pytest
from commands import at_work_in, dvc, git
from dvc.api import read
from ruamel.yaml import YAML
from toy_project import PARAMS, ROOT, film, has_namespaces, make_checkout

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


def deployment() -> dict[str, Any]:
    """What `prefect deploy` reads."""
    (found,) = YAML(typ="safe").load(ROOT / "prefect.yaml")["deployments"]
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
    """A copy of that checkout, in which nothing leads back to it."""
    copy = shutil.copytree(first_night[0], tmp_path / "checkout", symlinks=True)
    (copy / TREE / ".git").write_text(f"gitdir: {copy}/.git/worktrees/tree\n")
    (copy / ".git/worktrees/tree/gitdir").write_text(f"{copy / TREE}/.git\n")
    (copy / ".nightly/config").unlink()  # so that the next night configures DVC anew
    return copy


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


def published(checkout: Path) -> str:
    """A night without Prefect; what has become of its data."""
    with publish.alone(checkout):
        folder = publish.prepare(checkout, print)
        dvc(folder, "repro", "-q")
        publish.publish(folder, "A night")
        return publish.push(folder, print)


@pytest.mark.slow
def test_a_remote_that_is_away_gets_everything_later(begun: Path, tmp_path: Path) -> None:
    checkout = begun
    assert publish.push(checkout / TREE, print) == "none"
    (tmp_path / "remote").write_text("a file where the folder should be")
    dvc(checkout, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    film(checkout, "second")
    assert published(checkout) == "away"
    (tmp_path / "remote").unlink()
    film(checkout, "third")
    assert published(checkout) == "pushed"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(checkout), str(clone))
    dvc(clone, "remote", "add", "--default", "--local", "store", str(tmp_path / "remote"))
    git(clone, "checkout", "-q", "model/v2")
    dvc(clone, "pull", "data/model")
    assert json.loads((clone / "data/model/gate/model.json").read_text())["saw"] == "firstsecond"
    with pytest.raises(publish.NightError, match="no published version is called 'model/v9'; the last ones are"):
        publish.go_back(checkout / TREE, "model/v9", print)


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
    assert at_work_in(checkout / TREE) == []
    assert "Data and pipelines are up to date" in dvc(checkout / TREE, "repro", "report")


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
checkout = shutil.copytree(source, small / "checkout", symlinks=True)
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


def test_a_missed_night_is_due_once(nightly: ModuleType, checkout: Path) -> None:
    schedule = nightly.schedule_of(checkout)  # at two in the morning
    began = datetime(2026, 3, 1, 2, 0, 1, tzinfo=UTC)
    status = {"state": "completed", "started": began.isoformat()}
    assert not nightly.is_due({}, schedule, began)
    assert not nightly.is_due(status, schedule, began + timedelta(hours=23))
    assert nightly.is_due(status, schedule, began + timedelta(hours=25))
    assert nightly.is_due(status, schedule, began + timedelta(days=9))
    assert nightly.is_due({**status, "state": "running"}, schedule, began + timedelta(hours=1))
    assert not nightly.is_due({**status, "state": "failed"}, schedule, began + timedelta(hours=1))


def test_the_deployment_is_the_same_night(nightly: ModuleType) -> None:
    """As `first_night` runs it, with the schedule that is served without it."""
    script, name = deployment()["entrypoint"].split(":")
    assert getattr(nightly, name) is nightly.night and (ROOT / script).samefile(nightly.__file__)
    schedule = nightly.schedule_of(ROOT)
    assert deployment()["schedules"] == [{"cron": schedule.cron, "timezone": schedule.timezone}]


@pytest.mark.slow
def test_the_schedule_fires_and_what_was_missed_is_made_up_for(checkout: Path) -> None:
    """With its own persistent server, as a user starts it; the last night was long ago."""
    (checkout / "params.yaml").write_text(PARAMS.replace("0 2 * * *", "* * * * * */5"))  # every five seconds
    git(checkout, "commit", "-qam", "more often")
    (checkout / ".nightly").mkdir()
    long_ago = {"state": "completed", "started": "2026-01-01T02:00:00+00:00"}
    (checkout / ".nightly/status.json").write_text(json.dumps(long_ago))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    command = [sys.executable, "-u", "flows/nightly.py"]
    process = subprocess.Popen(
        command, cwd=checkout, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    told, nights = [], 0
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
    deadline = time.monotonic() + 20
    while at_work_in(checkout) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert at_work_in(checkout) == []  # the server has ended, too
