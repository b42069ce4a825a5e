"""The console command, as a process: what it prints where, and its exit codes."""

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import commit, dvc, git
from conftest import blank, make_repository, write
from toy_project import film, make_checkout

from vidrnn import cli, doctor, results
from vidrnn.cli import REPORT
from vidrnn.revisions import PUBLISHED
from vidrnn.schema import SCHEMAS
from vidrnn.storage import video_path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(command.callback.__name__ for command in cli.commands.registered_commands if command.callback)
COMMAND = [sys.executable, "-m", "vidrnn.cli"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "repo"
    make_repository(root)
    return root


def vidrnn(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def on_a_terminal(folder: Path, width: int, *arguments: str) -> str:
    """What the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(width), "TERM": "xterm"}
    process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environment, stdout=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait() == 0
    return written.decode().replace("\r\n", "\n")


def test_help_is_quick_and_has_examples() -> None:
    def quickest(*command: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert quickest(*COMMAND, "--help") - quickest(sys.executable, "-c", "pass") < 0.4
    for command in COMMANDS:
        shown = vidrnn(ROOT, command, "--help")
        assert shown.returncode == 0 and f"Example: vidrnn {command}" in " ".join(shown.stdout.split()), command
    assert all(name in vidrnn(ROOT, "table", "--help").stdout for name in results.TABLES)


def test_version(tmp_path: Path) -> None:
    shown = vidrnn(tmp_path, "--version")
    assert re.fullmatch(r"vidrnn \d+\.\d+\.\d+\n", shown.stdout) and shown.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table", "nope"], r"error: no table is called 'nope'; there are 'videos', 'frames', .*\n"),
        (["columns", "event"], r"error: no table is called 'event'; .* did you mean 'events'\?\n"),
        (["table", "events", "--columns", "kind,when"], r"error: events has no column 'when'; .*\n"),
        (["table", "events", "--camera", "attic"], r"error: no camera is called 'attic' in videos; .*\n"),
        (["table", "events", "--rev", "nowhere"], r"error: revision 'nowhere' cannot be read .*\n"),
        (["metrics", "--rev", "bare"], r"error: revision 'bare' holds no data/metrics.*\n"),
        (["table", "events", "--csv", "--json"], r"error: --csv and --json exclude each other.*\n"),
        (["rollback", "model/v3"], r"error: .*flows/nightly\.py: not there; .*\n"),
        (
            ["mark", "gate/b.mp42", "normal"],
            r"error: no event of the workspace or of the last published night is called 'gate/b.mp42'; .* did you mean "
            r"'gate/b.mp420'\?; 1 version could not be searched: no night has been published .*\n",
        ),
        (
            ["report"],
            r"error: .*data/report/index\.html: not made yet; run `dvc repro`, or `git fetch` the nights .*\n",
        ),
        (["table", "events", "--limit", "-1"], r"(?s)Usage: .*Error: Invalid value for '--limit'.*\n"),
        (["tables"], r"(?s)Usage: .*Error: No such command 'tables'.*\n"),
    ],
)
def test_a_mistake_is_told_on_stderr_with_code_2(repo: Path, arguments: list[str], sentence: str) -> None:
    told = vidrnn(repo, *arguments)
    assert told.returncode == 2
    assert told.stdout == ""
    assert re.fullmatch(sentence, told.stderr), told.stderr
    assert "Traceback" not in told.stderr and "\x1b" not in told.stderr


def test_outside_a_checkout(tmp_path: Path) -> None:
    for arguments in (["report"], ["metrics"], ["table", "events"]):
        told = vidrnn(tmp_path, *arguments)
        assert told.returncode == 2 and "not inside a vidrnn checkout" in told.stderr


def test_a_damaged_file_is_our_failure(repo: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repo, tmp_path / "copy", symlinks=True)
    path = copy / results.TABLES["videos"]
    path.unlink()
    path.write_bytes(b"half a fi")
    told = vidrnn(copy, "table", "videos")
    assert told.returncode == 1
    assert re.fullmatch(r"error: data/tables/videos\.parquet: not readable .*\n", told.stderr), told.stderr


def test_in_a_clone_the_report_is_that_of_the_last_published_night(tmp_path: Path) -> None:
    """Unless the clone has one of its own."""
    made, clone, away = tmp_path / "made", tmp_path / "clone", tmp_path / "away"
    make_checkout(made)
    dvc(made, "remote", "add", "--default", "store", str(tmp_path / "store"))
    commit(made)
    for night in ("first", "second"):
        film(made, night)
        dvc(made, "repro", "-q", "report")
        commit(made)
        git(made, "branch", "-f", PUBLISHED)
    body = (made / REPORT).read_bytes()
    dvc(made, "push", "-q")
    git(made, "reset", "-q", "--hard", "HEAD~2")
    git(tmp_path, "clone", "-q", str(made), str(clone))
    (tmp_path / "store").rename(away)
    failed = vidrnn(clone, "report")
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.count("\n") == 1
    assert "is neither in the DVC cache here nor on a remote within reach" in failed.stderr
    assert "run `dvc fetch --all-commits data/report/index.html`, after `dvc push` where it was made" in failed.stderr

    away.rename(tmp_path / "store")
    shown = vidrnn(clone, "report")
    found = clone / ".nightly/report.html"
    assert (shown.returncode, shown.stdout) == (0, f"{found}\n{found.as_uri()}\n"), shown.stderr
    assert found.read_bytes() == body and git(clone, "status", "--porcelain") == ""
    (clone / "data/report").mkdir()
    (clone / REPORT).write_text("its own")
    assert vidrnn(clone, "report").stdout.startswith(f"{clone / REPORT}\n")


def test_report(repo: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repo, tmp_path / "a copy", symlinks=True)
    report = copy / "data/report/index.html"
    report.parent.mkdir()
    report.write_text("<p>")
    log = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {log}\n')
    browser.chmod(0o755)

    shown = vidrnn(copy / "data/tables", "report", BROWSER=f"{browser} %s")
    assert shown.stdout == f"{report}\n{report.as_uri()}\n" and shown.returncode == 0
    assert "%20" in shown.stdout
    assert not log.exists()

    assert vidrnn(copy, "report", "--open", BROWSER=f"{browser} %s").returncode == 0
    assert log.read_text() == f"{report.as_uri()}\n"


def test_metrics(repo: Path) -> None:
    assert json.loads(vidrnn(repo, "metrics", "--json").stdout) == results.metrics(repo=repo)
    assert json.loads(vidrnn(repo, "metrics", "--json", "--rev", "one").stdout)["train"] == {"version": "one"}
    shown = vidrnn(repo, "metrics").stdout
    assert "evaluate.auroc.low" in shown and "train.version" in shown and "two" in shown
    assert "\x1b" not in shown


def test_json_is_json_alone(repo: Path) -> None:
    shown = vidrnn(repo, "table", "events", "--json", "--rev", "one")
    rows = json.loads(shown.stdout)
    assert shown.stderr == ""
    assert list(rows[0]) == SCHEMAS["events"].names
    assert [row["onset_pts"] for row in rows] == [20, 90, 20, 90]
    assert rows[0]["recorded_at"] == "2026-03-01T22:00:00.000000Z" and rows[-1]["recorded_at"] is None
    assert rows[0]["track_ids"] == [4, 2] and rows[0]["model_version"] == "one" and rows[0]["x0"] is None
    assert "ä.mp4" in shown.stdout and r"\/" not in shown.stdout
    assert json.loads(vidrnn(repo, "table", "events", "--json", "--limit", "1").stdout) == [
        {**rows[0], "model_version": "two"}
    ]
    assert json.loads(vidrnn(repo, "table", "events", "--json", "--limit", "0").stdout) == []


def test_columns_say_what_they_mean(tmp_path: Path) -> None:
    shown = vidrnn(tmp_path, "columns", "events", "--json")
    assert "false alarms an hour" in json.loads(shown.stdout)["rarity"] and shown.returncode == 0
    told = vidrnn(tmp_path, "columns", "event")
    assert told.returncode == 2 and "no table is called 'event'" in told.stderr and "events" in told.stderr


def test_csv(repo: Path) -> None:
    arguments = ["table", "frames", "--csv", "--video", "gate/b.mp4", "--columns", "score, recorded_at"]
    shown = vidrnn(repo, *arguments).stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert shown.splitlines()[0] == "score,recorded_at"
    assert [row["score"] for row in rows] == ["0.0", "0.1", "0.2", "0.3", "0.4"]  # as written, not 0.10000000149011612
    assert rows[1]["recorded_at"] == "2026-03-01T22:00:00.100000Z"
    events = vidrnn(repo, "table", "events", "--csv", "--camera", "gate", "--columns", "track_ids,reason").stdout
    assert events.splitlines() == ["track_ids,reason", '"[4, 2]",', '"[4, 2]",']


def test_a_file_gets_whole_cells_without_colour(repo: Path) -> None:
    shown = vidrnn(repo, "table", "events").stdout
    assert all(name in shown for name in SCHEMAS["events"].names)
    assert shown.endswith("\n4 rows\n")
    assert "\x1b" not in shown and "…" not in shown


def test_a_terminal_gets_what_fits(repo: Path, tmp_path: Path) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(repo, 100, "table", "events"))
    lines = shown.splitlines()
    assert lines[-1] == "4 rows"
    assert re.match(r"\d+ more columns, with --columns A,B or --json: .*model_version", lines[-2])
    assert max(map(len, lines[:-2])) <= 100
    assert re.match(r"┃ camera_id *┃ recorded_at *┃", lines[1]) and "model_version" not in lines[1]
    assert re.match(r"│ gate *│ 2026-03-01T22:00:00Z *│", lines[3])

    copy = shutil.copytree(repo, tmp_path / "copy", symlinks=True)
    key: dict[str, Any] = {"camera_id": "gate", "video_id": "gate/b.mp4"}
    frames = [blank("frames", **key, frame_index=index) for index in range(300)]
    write(video_path(copy / "data/tables/frames", *key.values()), "frames", frames)
    shown = on_a_terminal(copy, 100, "table", "frames", "--camera", "gate", "--columns", "frame_index")
    assert shown.endswith("305 rows, the first 20 shown\n")
    shown = on_a_terminal(copy, 100, "table", "frames", "--columns", "frame_index", "--limit", "3")
    assert shown.endswith("310 rows, the first 3 shown\n") and shown.count("\n") == 8


def test_nothing_of_a_name_reaches_the_terminal_as_a_command(repo: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repo, tmp_path / "copy", symlinks=True)
    key = {"camera_id": "gate", "video_id": "gate/\x1b[2J[red]\n.mp4"}
    rows = [blank("videos", **key, duration_seconds=float("nan"))]
    write(copy / results.TABLES["videos"], "videos", rows)
    for arguments in (["table", "videos"], ["table", "videos", "--columns", "video_id"]):
        shown = on_a_terminal(copy, 200, *arguments)
        assert "gate/ [2J[red] .mp4" in shown and "\x1b[2J" not in shown
    assert json.loads(vidrnn(copy, "table", "videos", "--json").stdout)[0]["duration_seconds"] is None


def test_a_reader_that_has_seen_enough(repo: Path) -> None:
    for arguments in (["table", "frames", "--csv"], ["table", "frames", "--json"], ["table", "frames"], ["metrics"]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=repo, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.communicate()[1] == b""
        assert process.returncode == 0


def test_quiet_prints_no_notes(repo: Path) -> None:
    shown = vidrnn(repo, "--quiet", "table", "events", "--columns", "event_id")
    assert "rows" not in shown.stdout and "gate/b.mp420" in shown.stdout and shown.stderr == ""
    assert re.search(r"error: no table", vidrnn(repo, "-q", "table", "nope").stderr)
    told = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(repo, 60, "-q", "table", "events"))
    assert "more columns" not in told and "rows" not in told


def test_completion_knows_commands_and_tables(repo: Path) -> None:
    asked = {"_VIDRNN_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert set(COMMANDS) <= set(vidrnn(repo, COMP_WORDS="vidrnn ", **asked).stdout.split())
    shown = vidrnn(repo, **(asked | {"COMP_CWORD": "2", "COMP_WORDS": "vidrnn table e"})).stdout.split()
    assert "events" in shown


def test_versions_diff_and_lineage(repo: Path) -> None:
    rows = json.loads(vidrnn(repo, "versions", "--json").stdout)
    assert [row["subject"] for row in rows] == ["two", "one"] and rows[0]["params.model.cell"] == "lstm"
    assert rows[0]["date"].endswith("Z")
    assert len(json.loads(vidrnn(repo, "versions", "--json", "--limit", "1").stdout)) == 1
    assert "params.model.cell" in vidrnn(repo, "versions").stdout

    changed = json.loads(vidrnn(repo, "diff", "one", "two", "--table", "videos", "--json").stdout)
    assert [row["change"] for row in changed] == ["changed"] * 3 and changed[0]["differs"] == ["message"]
    assert json.loads(vidrnn(repo, "diff", "one", "--json").stdout) == []
    assert vidrnn(repo, "diff", "one", "two").stdout == "0 rows\n"
    assert re.search(
        r"\d more columns, with --json: ", on_a_terminal(repo, 60, "diff", "one", "two", "--table", "videos")
    )

    found = json.loads(vidrnn(repo, "lineage", "gate/b.mp420", "--json", "--rev", "one").stdout)
    assert found == results.lineage("gate/b.mp420", rev="one", repo=repo)
    assert found["commit"] in vidrnn(repo, "lineage", "gate/b.mp420", "--rev", "one").stdout


def test_a_version_that_was_not_published_is_told_before_anything_starts(repo: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(repo, tmp_path / "copy", symlinks=True)
    (copy / "flows").mkdir()
    (copy / "flows/nightly.py").write_text("import sys; print('back to', sys.argv[2])")
    for tag in ("model/v9", "model/v10", "other/v3"):
        git(copy, "tag", tag)
    told = vidrnn(copy, "rollback", "model/v3")
    assert (told.returncode, told.stdout) == (2, "")
    sentence = (
        "error: no published version is called 'model/v3'; there are 'model/v10', 'model/v9'; did you mean 'model/v9'?"
    )
    assert told.stderr == f"{sentence}\n"
    assert vidrnn(copy, "rollback", "model/v9").stdout == "back to model/v9\n"


def test_doctor_says_what_to_do(repo: Path) -> None:
    findings = {row["name"]: row for row in json.loads(vidrnn(repo, "doctor", "--json").stdout)}
    assert {"Python", "packages", "torch", "FFmpeg", "Ray", "Prefect", "Git", "DVC remote", "disk"} <= set(findings)
    assert findings["FFmpeg"]["state"] == findings["Git"]["state"] == "ok"
    assert findings["DVC remote"]["state"] == "warning" and "dvc remote add" in findings["DVC remote"]["advice"]
    told = vidrnn(repo, "--quiet", "doctor", RAY_ADDRESS="127.0.0.1:9")
    assert told.returncode == 1 and "nobody answers" in told.stdout and "unset RAY_ADDRESS" in told.stdout
    assert "Python" not in told.stdout  # nothing is wrong with it


def test_doctor_advises_no_cleaning_that_removes_published_nights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", sys.maxsize)
    finding = doctor._disk(ROOT)
    command = finding.advice.split("`")[1]
    assert finding.state == "warning" and f"`{command}` frees space" in (ROOT / "README.md").read_text("utf-8")
