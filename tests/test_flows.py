"""The retraining flow over small real DVC projects: order, outcomes, failures, locks, and nothing left running."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from threading import Event
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import cv2
import dvc_cli
import numpy as np
import pytest
from commands import DVC
from curves import picture_of
from packaging.version import Version
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
ONE_MINUTE = 60.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git repository with DVC, and no stages yet."""
    root = tmp_path_factory.mktemp("template")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([*DVC, "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "repo")


def write_stages(repo: Path, **stages: dict[str, Any]) -> None:
    """Each stage runs the Python code of its `code` and, where it has `outs`, writes them."""
    for name, stage in stages.items():
        outs = [f"open({out!r}, 'w').write({name!r})" for out in stage.get("outs", [])]
        (repo / f"{name}.py").write_text("\n".join([stage.pop("code", ""), *outs]) + "\n")
        stage["cmd"] = f"python {name}.py"  # `python` must be found, whatever the PATH of the caller
        stage["deps"] = [f"{name}.py", *stage.get("deps", [])]
    with (repo / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": stages}, file)


def toy(repo: Path) -> None:
    """Three stages for the report, and one that it does not need; written so that the file's order is wrong."""
    write_stages(
        repo,
        report={"deps": ["b.txt", "a.txt"], "outs": ["r.txt"]},
        other={"outs": ["o.txt"]},
        b={"deps": ["a.txt"], "outs": ["b.txt"], "code": "print('b speaks')"},
        a={"outs": ["a.txt"], "code": "print('a speaks')"},
    )


def test_the_picture_of_the_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    pictures = []
    for text in ("0.0,0.9,0.2\n0.1,0.1,0.8\n", "0.0,0.9,0.0\n0.1,0.1,0.0\n", ""):
        path.write_text(f"score,ordinary,unusual\n{text}")
        kind, _, body = picture_of(path).partition(",")
        assert kind == "data:image/png;base64"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (300, 700, 3)
        red = (picture[..., 2].astype(int) - picture[..., 0]) > 100
        blue = (picture[..., 0].astype(int) - picture[..., 2]) > 60
        pictures.append((blue.sum() > 100, red.sum() > 100))
    assert pictures == [(True, True), (True, False), (False, False)]


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it for the command lines of processes that descend from this test and still run, five seconds later."""
    mark = f"VIDRNN_TEST_MARK={uuid4().hex}"
    monkeypatch.setenv(*mark.split("="))

    def find() -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def settled() -> list[str]:
        deadline = time.monotonic() + 5
        while (found := find()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    return settled


def test_versions_that_prefect_needs() -> None:
    """Newer ones resolve and install, and then every flow (fastapi) or every schedule (SQLAlchemy) fails."""
    assert Version(version("fastapi")) < Version("0.151")
    assert Version(version("sqlalchemy")) < Version("2.1")


def test_upstream_is_the_graph_of_dvc(repo: Path) -> None:
    toy(repo)
    assert dvc_cli.upstream("report", repo) == ["a", "b", "report"]
    assert dvc_cli.upstream("a", repo) == ["a"]
    with pytest.raises(dvc_cli.DvcError, match="'nothing' does not exist"):
        dvc_cli.upstream("nothing", repo)


def test_upstream_of_the_real_pipeline(repo: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", repo)
    shutil.copy(ROOT / "params.yaml", repo)
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

    def paths(stage: str, key: str) -> set[str]:
        return {item if isinstance(item, str) else next(iter(item)) for item in stages[stage].get(key, [])}

    order = dvc_cli.upstream("report", repo)
    assert order[:3] == ["code", "params", "demo"] and order[-1] == "report"
    for place, stage in enumerate(order):
        later = set().union(*(paths(name, "outs") for name in order[place:]))
        assert not paths(stage, "deps") & later

    params = (ROOT / "params.yaml").read_text()
    (repo / "params.yaml").write_text(params.replace("data/demo/videos", "v").replace("data/demo/labels", "l"))
    assert dvc_cli.upstream("report", repo) == [stage for stage in order if stage != "demo"]


def test_outcomes(repo: Path) -> None:
    toy(repo)
    lines: list[str] = []
    assert dvc_cli.repro("a", repo, lines.append, ONE_MINUTE) == "ran"
    assert "a speaks" in lines
    assert dvc_cli.repro("a", repo, lines.append, ONE_MINUTE) == "skipped"
    assert not dvc_cli.up_to_date("report", repo) and dvc_cli.up_to_date("a", repo)
    (repo / "a.txt").unlink()
    assert not dvc_cli.up_to_date("a", repo)
    assert dvc_cli.repro("a", repo, lines.append, ONE_MINUTE) == "restored"
    assert not (repo / "b.txt").exists()


def test_lines_come_at_once_and_without_bars(repo: Path) -> None:
    code = r"""
import sys, time
print("first", flush=True)
time.sleep(1.5)
sys.stderr.write("\r 10%|#   | 1/9\r 90%|####| 9/9 [00:01]\n\r 20%|##  |\r\x1b[Ktold over a bar\n")
sys.stderr.write("windows\r\n  indented \xe9\n\n")
sys.stderr.flush()
sys.stdout.buffer.write(b"\xff no UTF-8\nno end of line")
"""
    write_stages(repo, a={"code": code, "outs": ["a.txt"]})
    lines: dict[str, float] = {}
    dvc_cli.repro("a", repo, lambda line: lines.setdefault(line, time.monotonic()) and None, ONE_MINUTE)
    told = list(lines)
    start = told.index("first")
    assert told[start : start + 6] == [
        "first",
        "told over a bar",
        "windows",
        "  indented é",
        "\ufffd no UTF-8",
        "no end of lineGenerating lock file 'dvc.lock'",
    ]
    assert lines["told over a bar"] - lines["first"] > 1


def test_what_is_written_while_nobody_looks_just_before_the_end_is_told() -> None:
    """As on a busy machine: it writes and ends between a look at the pipe and the question whether it has ended."""
    reading, writing = os.pipe()

    class Gone(Event):
        def is_set(self) -> bool:
            if not super().is_set():
                os.write(writing, b"the last line\n")
                self.set()
            return super().is_set()

    with os.fdopen(reading, "rb") as out:
        lines = list(dvc_cli._lines(SimpleNamespace(stdout=out), Gone()))  # type: ignore[arg-type]
    os.close(writing)
    assert lines == ["the last line"]


def test_failure_tells_its_last_lines_and_is_not_taken_for_a_lock(repo: Path) -> None:
    code = "print('words that another dvc would say: it is being blocked by'); raise SystemExit('no footage')"
    write_stages(repo, a={"code": code, "outs": ["a.txt"]})
    with pytest.raises(dvc_cli.DvcError, match=r"(?s)repro -s a` failed\n.*no footage\n.*exited with 1") as caught:
        dvc_cli.repro("a", repo, lambda line: None, ONE_MINUTE)
    assert not isinstance(caught.value, dvc_cli.DvcBusyError)


@pytest.fixture
def working(repo: Path) -> Iterator[Path]:
    """A repository in which another dvc works on stage `report` for some seconds more."""
    code = "import time; open('started', 'w'); time.sleep(4)"
    write_stages(repo, report={"code": code, "outs": ["a.txt"]})
    other = subprocess.Popen([*DVC, "repro", "-q"], cwd=repo, env=dvc_cli._environment())
    while not (repo / "started").exists():
        time.sleep(0.05)
    yield repo
    other.wait()


def test_busy(working: Path) -> None:
    with pytest.raises(dvc_cli.DvcBusyError, match="it is being blocked by"):
        dvc_cli.repro("report", working, lambda line: None, ONE_MINUTE)


def test_late_stage_is_ended_with_its_children(repo: Path, monkeypatch: pytest.MonkeyPatch, leftovers: Any) -> None:
    monkeypatch.setattr(dvc_cli, "GRACE_SECONDS", 0.5)
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "subprocess.Popen(['sleep', '300']); print('deaf to SIGTERM', flush=True); time.sleep(300)"
    )
    write_stages(repo, a={"code": code, "outs": ["a.txt"]})
    start = time.monotonic()
    with pytest.raises(dvc_cli.DvcError, match=r"(?s)was ended after its 2 s\n.*deaf to SIGTERM"):
        dvc_cli.repro("a", repo, lambda line: None, timeout_seconds=2)
    assert time.monotonic() - start < 10
    assert leftovers() == []


def test_any_exception_ends_the_stage_with_its_children(repo: Path, leftovers: Any) -> None:
    code = "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '300'])"
    write_stages(repo, a={"code": code, "outs": ["a.txt"]})

    def interrupt(line: str) -> None:
        if line == "begun":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dvc_cli.repro("a", repo, interrupt, ONE_MINUTE)
    assert leftovers() == []


def test_what_a_finished_stage_left_behind_neither_stays_nor_holds_us_up(repo: Path, leftovers: Any) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '300'])"
    write_stages(repo, a={"code": code, "outs": ["a.txt"]})
    start = time.monotonic()
    assert dvc_cli.repro("a", repo, lambda line: None, ONE_MINUTE) == "ran"
    assert leftovers() == []

    code = "import subprocess; print(subprocess.Popen(['sleep', '300'], start_new_session=True).pid)"
    write_stages(repo, b={"code": code, "outs": ["b.txt"]})
    lines: list[str] = []
    assert dvc_cli.repro("b", repo, lines.append, ONE_MINUTE) == "ran"
    os.kill(int(next(line for line in lines if line.isdigit())), signal.SIGKILL)  # it chose to outlive its group
    assert time.monotonic() - start < 15


def outcomes(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in rows}


@pytest.mark.slow
def test_flow_runs_stages_then_skips_them(flow: ModuleType, repo: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId

    toy(repo)
    state = flow.retrain(repo, return_state=True)
    assert outcomes(state.result()) == {"a": "ran", "b": "ran", "report": "ran"}
    assert list(outcomes(state.result())) == ["a", "b", "report"]
    assert (repo / "r.txt").is_file() and not (repo / "o.txt").exists()

    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).state.is_completed()
        wanted, told, deadline = {"a speaks", "b speaks"}, set(), time.monotonic() + 15
        while not wanted <= told and time.monotonic() < deadline:  # logs are sent in batches
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
            told = {log.message for log in logs}
        assert wanted <= told
        own = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        (table,) = (found for found in client.read_artifacts(flow_run_filter=own) if found.key == "stages")
        assert "restored" not in str(table.data) and '"outcome": "ran"' in str(table.data)

    assert outcomes(flow.retrain(repo)) == {"a": "skipped", "b": "skipped", "report": "skipped"}
    clean = subprocess.run([*DVC, "repro", "report"], cwd=repo, capture_output=True, text=True, check=True)
    assert "up to date" in clean.stdout


@pytest.mark.slow
def test_flow_fails_with_its_stage(flow: ModuleType, repo: Path) -> None:
    write_stages(
        repo,
        a={"code": "open('count', 'a').write('x'); raise SystemExit('the lens cap is on')", "outs": ["a.txt"]},
        report={"deps": ["a.txt"], "outs": ["r.txt"]},
    )
    state = flow.retrain(repo, return_state=True)
    assert state.is_failed()
    assert "the lens cap is on" in state.message
    assert (repo / "count").read_text() == "x"  # a stage is not tried again
    assert not (repo / "r.txt").exists()


@pytest.mark.slow
def test_flow_fails_when_a_stage_is_late(flow: ModuleType, repo: Path, leftovers: Any) -> None:
    write_stages(repo, report={"code": "import time; time.sleep(300)", "outs": ["r.txt"]})
    state = flow.retrain(repo, 2.0, return_state=True)
    assert state.is_failed()
    assert "was ended after its 2 s" in state.message


@pytest.mark.slow
def test_flow_waits_for_another_dvc(flow: ModuleType, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = flow.reproduce.with_options(retry_delay_seconds=5, retry_jitter_factor=0.1)
    monkeypatch.setattr(flow, "reproduce", patient)
    state = flow.retrain(working, return_state=True)
    assert outcomes(state.result()) == {"report": "skipped"}  # the other one has done the work


@pytest.fixture
def checkout(repo: Path) -> Path:
    """A repository with flows/ of its own, as a checkout of this project has."""
    shutil.copytree(ROOT / "flows", repo / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    return repo


def bare_environment() -> dict[str, str]:
    """Without what the test session has set for Prefect, and with a PATH that lacks this interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.mark.slow
def test_script_from_start_to_end_and_interrupted(checkout: Path, leftovers: Any) -> None:
    write_stages(
        checkout,
        a={"outs": ["a.txt"], "code": "print('a speaks')"},
        report={
            "deps": ["a.txt"],
            "outs": ["data/report"],
            "code": "import os; os.makedirs('data/report'); open('data/report/index.html', 'w')",
        },
    )
    # An output that is a folder: `write_stages` would write it as a file.
    source = (checkout / "report.py").read_text().splitlines()
    (checkout / "report.py").write_text("\n".join(source[:-1]) + "\n")
    command = [sys.executable, "flows/retrain.py"]
    done = subprocess.run(command, cwd=checkout, env=bare_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["a", "ran"],
        ["report", "ran"],
        ["report:", str(checkout / "data/report/index.html")],
    ]
    assert "a speaks" in done.stderr
    assert (checkout / ".prefect").is_dir()
    assert leftovers() == []

    # Ctrl-C in a terminal: every process of the group gets SIGINT.
    write_stages(checkout, report={"code": "import time; print('begun'); time.sleep(300)", "outs": ["r.txt"]})
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=bare_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith("begun\n"):
            os.killpg(process.pid, signal.SIGINT)
            break
    start = time.monotonic()
    rest = process.stderr.read()
    assert process.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - start < 20
    assert "Finished in state Crashed" in rest and "Traceback" not in rest
    assert leftovers() == []
