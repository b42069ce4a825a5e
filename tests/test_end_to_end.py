"""Real footage through the real pipeline, as a user runs it: video files to tables, twice, elsewhere, killed, changed.

Each scenario works on a copy of one small project that has been through `dvc repro` once.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import at_work_in, commit, git
from ruamel.yaml import YAML
from small_project import ROOT, change_params, clone_this, film
from typer.testing import CliRunner

from vidrnn import cli, results
from vidrnn.embeddings import mean_vector, windows_in
from vidrnn.errors import UserError
from vidrnn.phrases import plural
from vidrnn.schema import SCHEMAS
from vidrnn.stages import index as index_stage
from vidrnn.storage import video_path
from vidrnn.tables import PARTS

pytestmark = pytest.mark.slow

PLANTED = (100, 140)  # frames of TEST
TEST, TRAIN = "gate/test/2026-03-02T08-00-00.mp4", "gate/train/2026-03-01T08-00-00.mp4"
NO_VIDEO, CUT, LONELY = "gate/test/damaged.mp4", "gate/train/cut.mkv", "yard/test/lonely.mp4"
NEW = "gate/test/2026-03-03T08-00-00.mp4"


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


@dataclass(frozen=True)
class Repro:
    """What `dvc repro` did."""

    code: int
    lines: list[str]  # of both streams
    seconds: float

    @property
    def ran(self) -> list[str]:
        return [match[1] for line in self.lines if (match := re.match(r"Running stage '(\w+)'", line))]

    def told(self, start: str) -> list[str]:
        return [line for line in self.lines if line.startswith(start)]


def start_repro(repo: Path, *arguments: str) -> subprocess.Popen[str]:
    folder = str(Path(sys.executable).parent)  # a stage says `python`
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *arguments],
        cwd=repo,
        env={**os.environ, "PATH": os.pathsep.join([folder, os.environ["PATH"]]), "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def repro(repo: Path, *arguments: str, fails: bool = False) -> Repro:
    start = time.monotonic()
    process = start_repro(repo, *(arguments or ("report",)))
    text, _ = process.communicate()
    run = Repro(process.returncode, text.splitlines(), time.monotonic() - start)
    assert bool(run.code) == fails, text
    assert "Traceback" not in text
    print(f"{repo.name}: {', '.join(run.ran) or 'nothing'} in {run.seconds:.1f} s")
    return run


def kill_at(repo: Path, start: str) -> None:
    """Run `dvc repro report`, and kill all of it the moment it has written a line that starts so."""
    process = start_repro(repo, "report")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL, f"it ended before it wrote {start!r}"
    deadline = time.monotonic() + 10
    while (left := at_work_in(repo)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def outputs(repo: Path) -> dict[str, str]:
    """The sha256 of every file that a stage wrote."""
    found = {}
    for stage in YAML(typ="safe").load(repo / "dvc.lock")["stages"].values():
        for out in stage["outs"]:
            path = repo / out["path"]
            for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
                found[file.relative_to(repo).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(found) > 20
    return found


def changed(before: Path, after: Path) -> set[str]:
    """What lies directly in `data/` and differs, or holds something that does."""
    return {name.split("/")[1] for name, _ in outputs(before).items() ^ outputs(after).items()}


def modified_times(repo: Path) -> dict[str, int]:
    return {name: (repo / name).stat().st_mtime_ns for name in outputs(repo)}


def metric(repo: Path, name: str) -> float:
    table = results.load("metrics", camera="*", repo=repo)
    return float(table.loc[table["name"] == name, "value"].iloc[0])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with small params and small footage, committed, before anything has been run."""
    repo = tmp_path_factory.mktemp("project") / "project"
    clone_this(repo)
    videos = repo / "data/videos"
    film(videos / TRAIN, 40, seed=0)
    film(videos / "gate/train/short.mp4", 20, seed=1)
    film(videos / CUT, 12, seed=3)
    film(videos / NO_VIDEO, 12, seed=4)
    for name in (CUT, NO_VIDEO):  # Matroska can be read as far as it goes; MPEG-4 has its table at the end
        cut_short(videos / name)
    film(videos / TEST, 20, seed=2, planted=PLANTED)
    film(videos / LONELY, 6, seed=5)
    (repo / "data/labels/events.csv").write_text(
        f"video,onset_frame,offset_frame,kind\n{TEST},{PLANTED[0]},{PLANTED[1]},race\n"
    )
    git(repo, "init", "-q")
    commit(repo)
    return repo


@pytest.fixture(scope="module")
def done(project: Path) -> Path:
    """The same after one `dvc repro`, committed. Read it; to change it, take a `copy`."""
    repo = shutil.copytree(project, project.with_name("done"))
    stages = ["code", "params", "index", "features", "train", "gate", "score", "tables", "evaluate", "report"]
    assert repro(repo).ran == stages
    commit(repo)
    return repo


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return shutil.copytree(done, tmp_path / "copy", symlinks=True)


def test_from_video_files_to_rows(done: Path) -> None:
    tables = {name: results.load(name, repo=done) for name in results.TABLES}
    for name, table in tables.items():
        assert list(table.columns) == SCHEMAS[name].names
        assert len(table), name

    videos = tables["videos"].set_index("video_id")
    assert len(videos) == 6
    assert dict(videos["status"]) == {
        TEST: "ok",
        NO_VIDEO: "unreadable",
        TRAIN: "ok",
        CUT: "partial",
        "gate/train/short.mp4": "ok",
        LONELY: "ok",
    }
    assert "of 12.0 seconds" in videos["message"][CUT] and videos["message"][NO_VIDEO]
    assert "no footage of it trains" in videos["message"][LONELY]
    assert videos["num_frames"][TEST] == 200 and 0 < videos["num_frames"][CUT] < 120
    assert videos["recorded_at"][TEST] == pd.Timestamp("2026-03-02T08:00:00Z")

    assert set(tables["frames"]["video_id"]) == {TEST}
    event = tables["events"].query("onset_frame < @PLANTED[1] and offset_frame > @PLANTED[0]").iloc[0]
    assert event["reason"]
    assert abs(event["recorded_at"] - pd.Timestamp("2026-03-02T08:00:10Z")) < pd.Timedelta(seconds=4)
    assert (done / f"data/media/camera_id=gate/{event['event_id']}.jpg").is_file()
    versions = set(tables["events"]["model_version"])
    assert versions == {results.metrics(repo=done)["train"]["gate"]["version"]}

    assert metric(done, "labels") == 1
    assert metric(done, "auroc_micro_ema") > 0.8
    assert metric(done, "num_events_labelled") == 1
    assert tables["promotions"]["promoted"].all()

    page = (done / "data/report/index.html").read_text(encoding="utf-8")
    for name in ("damaged.mp4", "cut.mkv", "lonely.mp4", event["event_id"]):
        assert name in page
    assert str(done) not in page


def test_a_second_run_has_nothing_to_do(done: Path) -> None:
    before, times, status = outputs(done), modified_times(done), git(done, "status", "--porcelain")
    run = repro(done)
    assert run.ran == []
    assert status == git(done, "status", "--porcelain") == ""
    assert outputs(done) == before and modified_times(done) == times
    assert run.seconds < 10  # 1.5 on a machine that has nothing else to do


def test_killed_in_a_second_clone_the_bytes_are_the_same(done: Path, tmp_path: Path) -> None:
    """A fresh folder and a fresh cache; `dvc.lock` is committed and must come out as it was."""
    clone = tmp_path / "elsewhere" / "clone"
    subprocess.run(["git", "clone", "-q", str(done), str(clone)], check=True)
    for folder in ("data/videos", "data/labels"):
        shutil.copytree(done / folder, clone / folder, dirs_exist_ok=True)
    kill_at(clone, "features: video 1")
    kill_at(clone, "train gate: epoch 1")
    again = repro(clone)
    assert again.ran[0] == "train" and again.ran[-1] == "report"
    assert outputs(clone) == outputs(done)
    assert git(clone, "status", "--porcelain") == ""


def test_one_new_video_makes_its_own_rows(copy: Path, done: Path) -> None:
    film(copy / "data/videos" / NEW, 12, seed=6, planted=(60, 90))
    (copy / "data/videos" / LONELY).unlink()
    run = repro(copy)
    assert run.ran == ["index", "features", "score", "tables", "evaluate", "report"]
    assert run.told("features: 1 decoded, 4 kept, 4 files removed")
    assert run.told("score: 1 scored, 1 kept, 0 files removed")
    assert run.told("tables: 1 videos made, 1 kept")

    before, after = outputs(done), outputs(copy)
    assert made_for(after.keys() - before.keys()) == {video_path(Path(), "gate", NEW)}
    assert made_for(before.keys() - after.keys()) == {video_path(Path(), "yard", LONELY)}
    assert not made_for({name for name in before.keys() & after.keys() if before[name] != after[name]})
    assert changed(done, copy).isdisjoint({"training.parquet", "candidate", "model", "promotions.parquet"})

    old = git(copy, "rev-parse", "HEAD")
    commit(copy)
    assert set(results.load("frames", repo=copy)["video_id"]) == {TEST, NEW}
    for name in results.TABLES:
        pd.testing.assert_frame_equal(results.load(name, rev=old, repo=copy), results.load(name, repo=done))
    assert results.metrics(rev=old, repo=copy) == results.metrics(repo=done)


def made_for(names: set[str]) -> set[Path]:
    """The per-video Parquet files among the outputs, as <camera>/<name>."""
    files = [Path(name) for name in names if "camera_id=" in name and name.endswith(".parquet")]
    return {Path(file.parent.name, file.name) for file in files}


def test_changed_params_redo_what_they_touch(copy: Path) -> None:
    change_params(copy, report={"max_events": 1}, demo={"seed": 8}, gate={"confidence": 0.9})
    run = repro(copy)
    assert run.ran == ["params", "gate", "report"]  # which chose the same model again; the demo is not used here


def test_gate_keeps_the_champion_or_takes_the_candidate(copy: Path, done: Path) -> None:
    champion = copy / "data/champion"
    shutil.copytree(copy / "data/model", champion, dirs_exist_ok=True)
    version = results.metrics(repo=done)["train"]["gate"]["version"]
    change_params(copy, train={"learning_rate": 1e-9})
    run = repro(copy)
    assert run.ran == ["params", "train", "gate", "report"]
    row = results.load("promotions", repo=copy).iloc[0]
    assert not row["promoted"] and row["champion_version"] == version
    assert "the candidate is worse" in row["reason"] and row["difference_low"] > 0
    assert run.told(f"gate gate: {row['reason']}")
    assert changed(done, copy) == {"candidate", "metrics", "plots", "promotions.parquet", "report"}
    assert "the candidate is worse" in (copy / "data/report/index.html").read_text(encoding="utf-8")

    change_params(copy, train={"learning_rate": 0.02, "seed": 1, "epochs": 6})  # learns longer than the champion did
    assert repro(copy, "gate").ran == ["params", "train", "gate"]
    row = results.load("promotions", repo=copy).iloc[0]
    assert row["promoted"] and row["champion_version"] == version != row["candidate_version"], row["reason"]
    card = json.loads((copy / "data/model/gate/model.json").read_text())
    assert card["version"] == row["candidate_version"]


def test_an_event_marked_as_normal_does_not_come_back(copy: Path) -> None:
    event = results.load("events", repo=copy).query("onset_frame < @PLANTED[1] and offset_frame > @PLANTED[0]").iloc[0]
    command = [sys.executable, "-m", "vidrnn.cli", "mark", event["event_id"], "normal", "--note", "it races at eight"]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    assert repro(copy).ran == ["train", "gate", "score", "tables", "evaluate", "report"]
    again = results.load("events", repo=copy).query("onset_frame < @PLANTED[1] and offset_frame > @PLANTED[0]")
    assert again.empty
    assert metric(copy, "num_marked_normal") == 1 and metric(copy, "marked_normal_alarmed") == 0

    subprocess.run([*command[:4], "0123456789abcdef", "unusual"], cwd=copy, check=False)
    assert len((copy / "data/feedback.csv").read_text().splitlines()) == 2


def test_an_experiment_is_a_row_to_compare(copy: Path) -> None:
    """Also with what reads such rows: `dvc exp show`, `dvc metrics diff`, `dvc plots show` and our own `results`."""

    def dvc(*arguments: str) -> str:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dvc("exp", "run", "-q", "-n", "longer", "-S", "model.cell=lstm")
    rows = {row["rev"] or row["Experiment"]: row for row in csv.DictReader(io.StringIO(dvc("exp", "show", "--csv")))}
    found = next(row for row in rows.values() if row["Experiment"] == "longer")
    base = next(row for row in rows.values() if row["Experiment"] == "" and row["rev"] != "workspace")
    assert (base["model.cell"], found["model.cell"]) == ("gru", "lstm")
    measure = "heldout_nll"
    assert float(base[measure]) and float(found[measure]) and base[measure] != found[measure]

    table = results.metrics_table(["HEAD", "longer"], repo=copy)
    assert table["params.model.cell"].tolist() == ["gru", "lstm"]
    assert table["metrics.evaluate.heldout_nll"].astype(float).tolist() == [
        float(base[measure]),
        float(found[measure]),
    ]
    diff = json.loads(dvc("metrics", "diff", "HEAD", "--json"))
    assert set(diff) == {"data/metrics/evaluate.json", "data/metrics/train.json"}  # not a row a camera
    drawn = json.loads(dvc("plots", "show", "--json"))["data"]
    names = {"loss", "roc", "precision_recall", "scores", "calibration"}
    assert names <= {name.removeprefix("dvc.yaml::") for name in drawn}
    event = results.load("events", rev="HEAD", repo=copy).iloc[0]
    found = results.lineage(event["event_id"], rev="HEAD", repo=copy)
    assert found["commit"] == git(copy, "rev-parse", "HEAD") and found["params"]["model.cell"] == "gru"
    assert found["sha256"] == hashlib.sha256((copy / found["file"]).read_bytes()).hexdigest()


def test_a_file_alone_gets_the_rows_that_the_pipeline_gives_it(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vidrnn(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "vidrnn.cli", "analyze", *arguments]
        return subprocess.run(command, cwd=done, env=environment, capture_output=True, text=True)

    source, out = done / "data/videos" / TEST, tmp_path / "out"
    shown = vidrnn(str(source), "--camera", "gate", "--out", str(out), "--annotate")
    assert shown.returncode == 0 and shown.stderr == "", shown.stderr
    for name in PARTS:
        (path,) = (out / name).rglob("*.parquet")
        alone = pd.read_parquet(path, dtype_backend="pyarrow").drop(columns="video_id")
        expected = results.load(name, video=TEST, repo=done).drop(columns="video_id")
        pd.testing.assert_frame_equal(alone, expected, obj=name)
    events = results.load("events", video=TEST, repo=done)
    # What an event looks like is found again where it is: no other window of the camera is as much like it.
    windows = results.load("embeddings", camera="gate", repo=done)
    vectors = np.stack(windows["vector"].array.to_numpy())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)
    own = (windows["video_id"] == TEST).to_numpy()
    for _, event in events.iterrows():
        starts, ends = windows["onset_seconds"].to_numpy()[own], windows["offset_seconds"].to_numpy()[own]
        shown_in = np.flatnonzero(own)[windows_in(starts, ends, event["onset_seconds"], event["offset_seconds"])]
        assert int(np.argmax(vectors @ mean_vector(vectors[shown_in]))) in shown_in
    assert len(events) and shown.stdout.splitlines()[-1].startswith(f"{plural(len(events), 'event')}; ")
    lines = [line for line in shown.stdout.splitlines()[:-1] if "score" in line]
    assert len(lines) == len(events)
    unusual = events[events["kind"] == "unusual"]
    for line, onset, reason in zip(lines, unusual["onset_seconds"], unusual["reason"], strict=False):
        assert line.lstrip().startswith(f"{onset:.1f} – ") and line.endswith(reason)  # while it was decoded
    assert (out / "annotated.mp4").stat().st_size > 10_000
    assert {path.stem for path in (out / "media").rglob("*.jpg")} >= set(events["event_id"])

    rows = json.loads(vidrnn(str(source), "--camera", "gate", "--out", str(out), "--json").stdout)
    assert [row["event_id"] for row in rows] == events["event_id"].tolist()
    monkeypatch.chdir(done)
    for arguments, words in (
        (["nowhere.mp4"], "nowhere.mp4: no such file"),
        ([str(source), "--camera", "gat"], "is called 'gat'; there are 'gate'"),
        (["params.yaml", "--camera", "gate"], "expected a video"),
    ):
        told = CliRunner().invoke(cli.commands, ["analyze", *arguments, "--out", str(tmp_path / "none")])
        assert isinstance(told.exception, UserError) and words in str(told.exception), told.exception


def test_without_labels(copy: Path) -> None:
    (copy / "data/labels/events.csv").unlink()
    (copy / "data/labels/.gitignore").unlink()
    assert repro(copy).ran == ["index", "gate", "evaluate", "report"]  # the first of which checks labels
    assert metric(copy, "labels") == 0 and metric(copy, "hours") > 0
    assert "auroc_micro_ema" not in set(results.load("metrics", repo=copy)["name"])
    assert (copy / "data/plots/roc.csv").read_text() == "fpr,tpr\n"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("params typo, by dvc", ["params.yaml", "index.tset", "train"]),
        ("no files", ["data/videos", "holds no files", "data.videos"]),
        ("no videos", ["data/videos", "none of its 2 files", "gate/a.mp4", "data.videos"]),
        ("params value", ["params.yaml", "index.train", "'*'"]),
    ],
)
def test_a_mistake_is_one_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str, words: list[str]
) -> None:
    repo = shutil.copytree(project, tmp_path / "repo")
    videos = repo / "data/videos"
    if mistake in ("no files", "no videos"):
        shutil.rmtree(videos / "gate")
        shutil.rmtree(videos / "yard")
    if mistake == "no videos":
        (videos / "gate").mkdir()
        for name in ("a.mp4", "b.mp4"):
            (videos / "gate" / name).write_bytes(b"not a video at all " * 99)
    if mistake == "params typo, by dvc":
        text = (repo / "params.yaml").read_text()
        (repo / "params.yaml").write_text(text.replace("  test: [", "  tset: ["))
    if mistake == "params value":
        change_params(repo, index={"train": "*"})
    if mistake.endswith("by dvc"):
        check_mistake(repro(repo, fails=True), words)
        return
    monkeypatch.chdir(repo)
    with pytest.raises(UserError) as caught:
        index_stage.main(
            "data/videos", "data/retired.csv", "data/labels", "data/index.parquet", "data/labelled.parquet"
        )
    check_sentence(f"error: {caught.value}", words)


def test_a_mistake_in_params_of_a_late_stage_costs_nothing_that_was_made(copy: Path, done: Path) -> None:
    before = (copy / "params.yaml").read_text()
    change_params(copy, alarms={"per_hour": "often", "perhour": 1.0})  # the gate reads them
    run = repro(copy, fails=True)
    assert run.ran == ["params"]
    check_mistake(run, ["params.yaml", "`alarms.per_hour`", "'often'", "`alarms.perhour` is not a key", "merge_"])
    made = outputs(done)
    assert outputs(copy) == {name: made[name] for name in made if name != "data/params.checked"}

    (copy / "params.yaml").write_text(before)
    assert repro(copy).ran == []
    assert outputs(copy) == made and git(copy, "status", "--porcelain") == ""


def test_too_little_footage_is_one_sentence(copy: Path) -> None:
    change_params(copy, train={"block_seconds": 60.0})
    run = repro(copy, fails=True)
    assert run.ran == ["params", "train"]
    check_mistake(run, ["camera gate", "1.0 minutes", "2 blocks", "at least 3"])


@pytest.mark.parametrize(
    ("row", "stage", "words"),
    [
        ("gate/test/nobody.mp4,10,20", "index", ["events.csv, line 2", "nobody.mp4", "nearest name is 'gate/test/"]),
        (f"{TEST},190,201", "evaluate", ["events.csv, line 2", TEST, "200 frames", "201"]),  # counted by decoding
    ],
)
def test_a_mistake_in_labels_is_one_sentence(copy: Path, row: str, stage: str, words: list[str]) -> None:
    (copy / "data/labels/events.csv").write_text(f"video,onset_frame,offset_frame\n{row}\n")
    run = repro(copy, fails=True)
    assert run.ran[-1] == stage and "train" not in run.ran
    check_mistake(run, words)


def check_mistake(run: Repro, words: list[str]) -> None:
    told = run.told("error:")
    assert len(told) == 1, run.lines
    check_sentence(told[0], words)


def check_sentence(told: str, words: list[str]) -> None:
    assert "\n" not in told and not re.findall(r"(?<=[a-z])\. [A-Z]", told)  # one sentence
    for word in words:
        assert word in told, told
