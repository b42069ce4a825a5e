"""The public API over a real small repository with two revisions."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from commands import DVC, git
from conftest import NIGHT, VIDEOS, blank, make_repository, write

from vidrnn import results
from vidrnn.errors import SchemaError, UserError
from vidrnn.find import find
from vidrnn.schema import SCHEMA_VERSION, SCHEMAS
from vidrnn.storage import video_path, write_json


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "repo"
    make_repository(root)
    return root


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(template, tmp_path / "repo", symlinks=True)


@pytest.mark.parametrize("name", results.TABLES)
@pytest.mark.parametrize("rev", [None, "one", "two"])
def test_every_table_keeps_its_types(template: Path, name: str, rev: str | None) -> None:
    frame = results.load(name, rev=rev, repo=template)
    assert list(frame.columns) == SCHEMAS[name].names
    assert [dtype.pyarrow_dtype for dtype in frame.dtypes] == SCHEMAS[name].types
    counts = {"frames": 15, "events": 4, "health": 1, "promotions": 1, "metrics": 2}
    assert len(frame) == counts.get(name, len(VIDEOS))


def test_revisions_differ(template: Path) -> None:
    for rev, version in {None: "two", "one": "one", "two": "two", "HEAD": "two", "HEAD~1": "one"}.items():
        assert set(results.load("events", rev=rev, repo=template)["model_version"]) == {version}
        assert set(results.load("videos", rev=rev, repo=template)["message"]) == {version}
        assert results.metrics(rev=rev, repo=template) == {
            "evaluate": {"auroc": {"low": 0.4}},
            "train": {"version": version},
        }
    assert set(results.load("events", rev=git(template, "rev-parse", "one"), repo=template)["model_version"]) == {"one"}


def test_order(template: Path) -> None:
    events = results.load("events", repo=template, columns=["onset_pts", "video_id"])
    assert list(events.columns) == ["onset_pts", "video_id"]
    assert events.to_numpy().tolist() == [
        [20, "gate/b.mp4"],
        [90, "gate/b.mp4"],
        [20, "north yard/ä.mp4"],
        [90, "north yard/ä.mp4"],
    ]
    assert results.load("videos", repo=template)["video_id"].tolist() == sorted(VIDEOS)
    frames = results.load("frames", repo=template)
    assert frames.equals(frames.sort_values(["camera_id", "video_id", "frame_index"], ignore_index=True))


def test_columns_alone(template: Path) -> None:
    frame = results.load("frames", columns=["score"], video="gate/a.mp4", repo=template)
    assert list(frame.columns) == ["score"]
    assert frame["score"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("rev", [None, "one"])
def test_filters(template: Path, rev: str | None) -> None:
    def videos(name: str, **limits: Any) -> list[str]:
        return list(dict.fromkeys(results.load(name, rev=rev, repo=template, **limits)["video_id"]))

    assert videos("frames", camera="gate") == ["gate/a.mp4", "gate/b.mp4"]
    assert videos("frames", camera="north yard") == ["north yard/ä.mp4"]
    assert videos("frames", video="gate/b.mp4") == ["gate/b.mp4"]
    assert videos("events", camera="gate", video="gate/b.mp4") == ["gate/b.mp4"]
    assert videos("videos", start="2026-03-02") == ["gate/a.mp4"]
    assert videos("videos", start="2026-03-01T22:00", end="2026-03-02T22:00") == ["gate/b.mp4"]  # the end is excluded
    assert videos("videos", end=datetime.fromisoformat("2026-03-01T23:00:01+01:00")) == ["gate/b.mp4"]
    assert videos("events", start=pd.Timestamp(NIGHT), camera="gate") == ["gate/b.mp4"]
    part = results.load(
        "frames", rev=rev, repo=template, start=NIGHT + timedelta(milliseconds=100), end="2026-03-01T22:00:00.3Z"
    )
    assert part["frame_index"].tolist() == [3, 6]


def test_only_files_that_can_match_are_opened(repo: Path) -> None:
    for path in (repo / "data/tables/frames").rglob("*.parquet"):
        if path != video_path(repo / "data/tables/frames", "gate", "gate/b.mp4"):
            path.unlink()
            path.write_bytes(b"not Parquet")
    assert len(results.load("frames", camera="gate", video="gate/b.mp4", repo=repo)) == 5
    assert len(results.load("frames", video="gate/b.mp4", repo=repo)) == 5
    with pytest.raises(SchemaError, match=r"data/tables/frames: not readable .*`dvc repro`"):
        results.load("frames", camera="gate", repo=repo)


def test_an_empty_answer_is_no_error(template: Path) -> None:
    empty = results.load("events", video="gate/a.mp4", repo=template)
    assert len(empty) == 0 and list(empty.columns) == SCHEMAS["events"].names
    assert len(results.load("events", camera="gate", start="2026-03-01T22:30", end="2026-03-02", repo=template)) == 0


def test_from_any_folder_inside(template: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(template / "data/tables")
    assert len(results.load("events")) == len(results.load("events", rev="one")) == 4
    assert results.metrics()["train"] == {"version": "two"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"not inside a vidrnn checkout"):
        results.load("events")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "event"}, "no table is called 'event'; .*'videos', 'frames', 'events'.*"),
        ({"name": "index"}, "no table is called 'index'"),
        ({"name": "events", "columns": ["kind", "when"]}, r"events has no column 'when'; of \d\d, the nearest are '"),
        (
            {"name": "frames", "columns": "score"},
            r"`columns` should be a list of names, found 'score'; write \['score'\]",
        ),
        ({"name": "frames", "rev": ""}, "revision '' cannot be read from .*: unknown Git revision"),
        ({"name": "frames", "camera": "gat"}, "no camera is called 'gat' in videos; there are 'gate', 'north yard'"),
        ({"name": "metrics", "camera": "gat"}, r"no camera is called 'gat' in metrics; there are '\*', 'gate'"),
        ({"name": "frames", "video": "x.mp4"}, "no video is called 'x.mp4' in videos; there are 'gate/a.mp4', "),
        (
            {"name": "events", "camera": "north yard", "video": "gate/a.mp4"},
            "no video of camera 'north yard' is called",
        ),
        ({"name": "metrics", "video": "x.mp4"}, "metrics has no column 'video_id', so that `video` cannot choose"),
        ({"name": "promotions", "end": "2026"}, "promotions has no column 'recorded_at', so that `end` cannot choose"),
        ({"name": "frames", "start": "soon"}, "`start` should be a time such as .*, found 'soon'"),
        ({"name": "frames", "end": pd.NaT}, "`end` should be a time"),
        ({"name": "frames", "rev": "bar"}, "revision 'bar' cannot be read from .*: unknown .* did you mean 'bare'"),
        ({"name": "frames", "rev": "latest"}, "no night has been published in .*: there is no branch 'vidrnn/nightly'"),
        ({"name": "frames", "rev": "bare"}, "revision 'bare' holds no data/tables/frames: nothing had been made"),
        ({"name": "metrics", "rev": "bare"}, "revision 'bare' holds no data/metrics.parquet"),
        (
            {"name": "frames", "rev": "one", "camera": "gat"},
            "no camera is called 'gat' in videos of revision 'one'; there are .* did you mean 'gate'?",
        ),
        (
            {"name": "events", "camera": "gate", "start": "2030-01-01"},
            r"no footage of camera 'gate' was recorded at that time; the nearest ends at 2026-03-02T23:00:00\+00:00",
        ),
        (
            {"name": "events", "start": "2026-03-01T23:30", "end": "2026-03-02"},
            r"no footage was recorded at that time; .* ends at 2026-03-01T23:00.* and .* begins at 2026-03-02T22:00",
        ),
        ({"name": "frames", "start": "2026-03-02", "end": "2026-03-01"}, "`start` should be before `end`"),
        ({"name": "events", "camera": "north yard", "end": "2026"}, "no footage of camera 'north yard' has a time of"),
    ],
)
def test_mistakes_are_one_sentence(template: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        results.load(**arguments, repo=template)
    assert "\n" not in str(caught.value)


def test_metrics_mistakes(repo: Path) -> None:
    with pytest.raises(UserError, match="revision 'bare' holds no data/metrics"):
        results.metrics(rev="bare", repo=repo)
    (repo / "data/metrics/train.json").write_text("{")
    with pytest.raises(SchemaError, match=r"data/metrics/train\.json: not JSON"):
        results.metrics(repo=repo)
    shutil.rmtree(repo / "data/metrics")
    with pytest.raises(UserError, match=r"data/metrics: not made yet in .*; run `dvc repro`"):
        results.metrics(repo=repo)


def test_not_made_yet(repo: Path) -> None:
    shutil.rmtree(repo / "data")
    for name, path in results.TABLES.items():
        with pytest.raises(UserError, match=f"{path}: not made yet in .*; run `dvc repro`"):
            results.load(name, repo=repo)
        with pytest.raises(UserError, match=f"{path}: not made yet in .*; run `dvc repro`"):
            results.open(name, repo=repo)
    assert len(results.load("events", rev="one", repo=repo)) == 4  # the cache still has it


def test_data_of_a_revision_that_is_nowhere(repo: Path, tmp_path: Path) -> None:
    shutil.rmtree(repo / ".dvc/cache")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    for checkout in (repo, clone):
        for name in results.TABLES:
            with pytest.raises(UserError, match=r"of revision 'one' is neither in the DVC cache.*dvc fetch") as caught:
                results.load(name, rev="one", repo=checkout)
            assert "\n" not in str(caught.value)
    assert results.metrics(rev="one", repo=clone)["train"] == {"version": "one"}  # Git has these


def test_data_on_a_remote_needs_no_pull(repo: Path, tmp_path: Path) -> None:
    subprocess.run([*DVC, "remote", "add", "-q", "-d", "store", str(tmp_path / "store")], cwd=repo, check=True)
    git(repo, "commit", "-qam", "remote")
    subprocess.run([*DVC, "push", "-q"], cwd=repo, check=True)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    assert len(results.load("events", rev="HEAD", camera="gate", repo=clone)) == 2
    with pytest.raises(UserError, match=r"not made yet in .*`dvc pull`"):
        results.load("events", repo=clone)


def test_a_shallow_clone_says_how_to_get_the_rest(repo: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", str(clone))
    with pytest.raises(UserError, match=r"unknown Git revision; .* and `git fetch --unshallow` brings the others"):
        results.load("events", rev="HEAD~1", repo=clone)
    with pytest.raises(UserError, match=r"`git log --oneline` lists the commits"):
        results.load("events", rev="HEAD~9", repo=repo)


def test_no_git(tmp_path: Path) -> None:
    subprocess.run([*DVC, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match="revision 'HEAD' cannot be read"):
        results.load("events", rev="HEAD", repo=tmp_path)


def test_contract_is_checked(repo: Path) -> None:
    path = video_path(repo / "data/tables/events", "gate", "gate/b.mp4")
    table = pq.read_table(path, partitioning=None)
    current = {"vidrnn_schema": str(SCHEMA_VERSION)}

    def put(changed: pa.Table) -> None:
        path.unlink()  # the cache may share its bytes
        pq.write_table(changed, path)

    put(table.drop_columns("rarity").replace_schema_metadata(current))
    with pytest.raises(SchemaError, match=f"{path.name}: expected the columns"):
        results.load("events", repo=repo)
    put(table.set_column(5, "offset_pts", table["offset_pts"].cast(pa.int32())).replace_schema_metadata(current))
    with pytest.raises(SchemaError, match="column offset_pts should be int64, found int32"):
        results.load("events", columns=["kind"], repo=repo)
    for found, metadata in {"0": {"vidrnn_schema": "0"}, "None": None}.items():
        put(table.replace_schema_metadata(metadata))
        with pytest.raises(SchemaError, match=f"{path.name}: written with schema version {found}"):
            results.load("events", repo=repo)


@pytest.mark.parametrize("content", [b"", b"half a fi", b"PAR1" + bytes(60) + b"\x10\0\0\0PAR1"])
def test_damage_is_one_sentence(repo: Path, content: bytes) -> None:
    path = repo / results.TABLES["metrics"]
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"data/metrics\.parquet: not readable .*; delete it and run") as caught:
        results.load("metrics", repo=repo)
    assert "\n" not in str(caught.value)


# A dataset


@pytest.mark.parametrize("rev", [None, "one"])
def test_a_dataset_is_read_when_it_is_asked(template: Path, rev: str | None) -> None:
    dataset = results.open("frames", rev=rev, repo=template)
    assert dataset.schema.equals(SCHEMAS["frames"])
    assert dataset.count_rows() == 15
    found = dataset.to_table(columns=["score"], filter=pc.field("video_id") == "gate/a.mp4")
    assert found["score"].to_pylist() == results.load("frames", video="gate/a.mp4", repo=template)["score"].tolist()
    with pytest.raises(UserError, match="no table is called 'frame'"):
        results.open("frame", repo=template)


# Elsewhere


@pytest.mark.parametrize("bare", [False, True])
def test_from_another_repository_by_url(repo: Path, tmp_path: Path, bare: bool) -> None:
    subprocess.run([*DVC, "remote", "add", "-q", "-d", "store", str(tmp_path / "store")], cwd=repo, check=True)
    git(repo, "commit", "-qam", "remote")  # of which the revisions below know nothing
    shutil.copytree(repo / ".dvc/cache", tmp_path / "store")
    git(repo, "branch", results.PUBLISHED, "one")
    elsewhere = tmp_path / "elsewhere.git"
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(elsewhere))
    shutil.rmtree(repo)
    url: str | Path = elsewhere if bare else f"file://{elsewhere}"
    assert set(results.load("events", repo=url)["model_version"]) == {"two"}  # of the default branch
    assert set(results.load("events", rev="latest", repo=url)["model_version"]) == {"one"}
    assert results.metrics(rev="one", repo=url)["train"] == results.metrics(rev="latest", repo=url)["train"]
    assert results.versions(repo=url)["subject"].tolist() == ["two", "one"]
    assert results.lineage("gate/b.mp420", repo=url)["subject"] == "two"
    with pytest.raises(UserError, match=r"file:///nowhere: cannot be cloned"):
        results.load("events", repo="file:///nowhere")


def test_what_a_repository_elsewhere_lacks_is_told_of_its_default_branch(repo: Path, tmp_path: Path) -> None:
    """It has no workspace: nothing can be made there, and `None` is no name for a revision."""
    elsewhere = tmp_path / "elsewhere.git"
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(elsewhere))
    for url in (f"file://{elsewhere}", elsewhere):
        absent = r"%s of revision 'origin/HEAD' is neither in the DVC cache here .*; run `dvc push` where it was made"
        for ask in (results.load, results.open, partial(results.diff, rev_a=None, rev_b="one")):
            with pytest.raises(UserError, match=absent % "data/tables/events"):
                ask("events", repo=url)
        with pytest.raises(UserError, match=absent % "data/tables/videos.parquet"):
            find("gate/b.mp4@1", 3, repo=url)
    git(elsewhere, "update-ref", git(elsewhere, "symbolic-ref", "HEAD"), "bare")
    for ask in (results.load, results.open):
        with pytest.raises(UserError, match="revision 'origin/HEAD' holds no data/tables/events"):
            ask("events", repo=elsewhere)
    with pytest.raises(UserError, match="revision 'origin/HEAD' holds no data/metrics: nothing had been measured"):
        results.metrics(repo=elsewhere)


def test_latest_is_the_last_published_night(repo: Path) -> None:
    git(repo, "branch", results.PUBLISHED, "one")
    assert set(results.load("events", rev="latest", repo=repo)["model_version"]) == {"one"}
    git(repo, "branch", "-f", results.PUBLISHED, "two")
    assert results.metrics(rev="latest", repo=repo)["train"] == {"version": "two"}


def test_a_tag_with_a_slash_is_a_revision(repo: Path) -> None:
    for tag in ("model/v12", "model@v12"):
        git(repo, "tag", tag, "one")
        assert set(results.load("events", rev=tag, repo=repo)["model_version"]) == {"one"}


# Versions


def test_versions(template: Path) -> None:
    found = results.versions(repo=template)
    assert found["subject"].tolist() == ["two", "one"]
    assert [git(template, "rev-parse", "--short=12", rev) for rev in ("two", "one")] == found["commit"].tolist()
    assert "two" in found["refs"][0].split(", ") and found["refs"][1] == "one"
    assert found["date"][0].tzinfo is not None and found["date"][0] >= found["date"][1]
    assert found["footage"][0] == found["footage"][1]
    assert found["model"][0] != found["model"][1] and found["tables"][0] != found["tables"][1]
    assert found["params.model.cell"].tolist() == ["lstm", "gru"]
    assert "params.index.train" not in found  # the same in both
    assert found["metrics.train.version"].tolist() == ["two", "one"]


def test_of_the_versions_beyond_a_limit_nothing_is_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, before = (git(repo, "rev-parse", rev) for rev in ("two", "one"))
    git(repo, "rm", "-q", "--cached", "dvc.lock")
    git(repo, "commit", "-qm", "a version no more")
    asked: list[str] = []
    run = subprocess.run

    def noted(command: list[str], **how: Any) -> Any:
        asked.append(f"{command} {how.get('input')}")
        return run(command, **how)

    monkeypatch.setattr("vidrnn.revisions.subprocess.run", noted)
    found = results.versions(repo=repo, limit=1)
    assert found["subject"].tolist() == ["two"] and found["metrics.train.version"].tolist() == ["two"]
    assert any(newest in command for command in asked) and not any(before in command for command in asked)
    assert results.versions(repo=repo, limit=9)["subject"].tolist() == ["two", "one"]


def test_versions_where_nothing_was_committed(tmp_path: Path) -> None:
    subprocess.run([*DVC, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match="no version was committed yet"):
        results.versions(repo=tmp_path)


def test_metrics_table(repo: Path) -> None:
    write_json(repo / "data/metrics/evaluate.json", {"auroc": {"value": 0.5, "low": 0.4}, "hours": 2})
    found = results.metrics_table([None, "one"], repo=repo)
    assert found["rev"].tolist()[1] == "one" and pd.isna(found["rev"][0])
    assert found["metrics.evaluate.auroc"][0] == 0.5 and found["metrics.evaluate.hours"][0] == 2
    assert found["params.model.cell"].tolist() == ["lstm", "gru"]
    assert all(isinstance(dtype, pd.ArrowDtype) for dtype in found.dtypes)
    with pytest.raises(UserError, match="revision 'tow' cannot be read from"):
        results.metrics_table(["tow"], repo=repo)


def change_events(repo: Path, *rows: dict[str, Any]) -> None:
    """Have the workspace hold these events of one video, and no others of it."""
    path = video_path(repo / "data/tables/events", "gate", "gate/b.mp4")
    path.unlink()  # the cache may share its bytes
    key = {"camera_id": "gate", "video_id": "gate/b.mp4", "recorded_at": NIGHT, "track_ids": [4, 2]}
    write(path, "events", [blank("events", **key, model_version="three", **row) for row in rows])


def test_diff_tells_what_appeared_vanished_and_changed(repo: Path) -> None:
    same = {"event_id": "gate/b.mp420", "onset_pts": 20, "offset_pts": 60}
    moved = {"event_id": "other", "onset_pts": 95, "offset_pts": 131}
    change_events(repo, same, moved, {"event_id": "new", "onset_pts": 500, "offset_pts": 600})
    found = results.diff("events", "two", None, repo=repo)
    assert found["change"].tolist() == ["changed", "appeared"]  # of the first the model version alone has changed
    assert found["event_id"].tolist() == ["other", "new"]
    assert found["differs"].tolist()[0] == ["event_id", "onset_pts", "offset_pts"]
    assert (found["onset_pts"][0], found["before_onset_pts"][0]) == (95, 90)
    assert found["before_event_id"][0] == "gate/b.mp490" and "before_kind" not in found
    back = results.diff("events", None, "two", repo=repo)
    assert back["change"].tolist() == ["changed", "vanished"] and back["event_id"].tolist() == ["gate/b.mp490", "new"]


def test_diff_of_events_of_two_kinds_or_apart_is_no_change(repo: Path) -> None:
    change_events(
        repo,
        {"event_id": "a", "onset_pts": 30, "offset_pts": 60, "kind": "camera_moved"},
        {"event_id": "b", "onset_pts": 130, "offset_pts": 160},
    )
    found = results.diff("events", "two", None, repo=repo)
    assert found["change"].value_counts().to_dict() == {"appeared": 2, "vanished": 2}


def test_many_events_of_many_videos_are_not_all_compared_with_one_another() -> None:
    def events(shift: int) -> list[dict[str, Any]]:
        spans = ((video, start) for video in range(150) for start in range(0, 1000, 100))
        return [
            blank("events", video_id=f"{video}", event_id=f"{video}-{start + shift}", kind="unusual")
            | {"onset_pts": start + shift, "offset_pts": start + shift + 60}
            for video, start in spans
        ]

    before, after = events(0), events(50)
    tracemalloc.start()
    pairs = results._paired(SCHEMAS["events"], before, after)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6, f"{peak / 1e6:.0f} MB"
    assert len(pairs) == 1500 and all(old and new and old["video_id"] == new["video_id"] for old, new in pairs)


def test_diff_of_the_same_is_empty_and_of_other_tables_goes_by_their_keys(template: Path) -> None:
    for name in results.TABLES:
        same = results.diff(name, "one", "one", repo=template)
        assert len(same) == 0 and list(same.columns) == ["change", "differs", *SCHEMAS[name].names]
    assert len(results.diff("events", "one", "two", repo=template)) == 0
    videos = results.diff("videos", "one", "two", repo=template)
    assert videos["change"].tolist() == ["changed"] * 3 and videos["before_message"].tolist() == ["one"] * 3


def test_lineage(repo: Path) -> None:
    found = results.lineage("gate/b.mp420", repo=repo)
    assert found["file"] == "data/videos/gate/b.mp4" and found["sha256"] == "hash of gate/b.mp4"
    assert (found["onset_pts"], found["offset_pts"], found["time_base"]) == (20, 60, "1/1000")
    assert found["recorded_at"] == "2026-03-01T22:00:00+00:00" and found["model_version"] == "two"
    assert found["commit"] == found["model_commit"] == git(repo, "rev-parse", "two") and found["subject"] == "two"
    assert found["params"] == {"index.train": ["*"], "model.cell": "lstm"}
    assert json.loads(json.dumps(found)) == found
    before = results.lineage("gate/b.mp420", rev="one", repo=repo)
    assert before["commit"] == git(repo, "rev-parse", "one") and before["params"]["model.cell"] == "gru"
    assert before["model"] != found["model"] and before["footage"] == found["footage"]


def test_lineage_searches_the_history(repo: Path) -> None:
    change_events(repo, {"event_id": "only here", "onset_pts": 1, "offset_pts": 2})
    subprocess.run([*DVC, "repro", "-q", "-f"], cwd=repo, check=True)
    uncommitted = results.lineage("only here", repo=repo)
    assert uncommitted["commit"] is None and uncommitted["model_commit"] == git(repo, "rev-parse", "two")
    git(repo, "commit", "-qam", "three")
    change_events(repo, {"event_id": "later", "onset_pts": 1, "offset_pts": 2})
    assert results.lineage("only here", repo=repo)["subject"] == "three"
    assert results.lineage("gate/b.mp490", repo=repo)["subject"] == "two"
    with pytest.raises(UserError, match=r"no event .* is called 'latr'; .* did you mean 'later'\?"):
        results.lineage("latr", repo=repo)
    with pytest.raises(UserError, match="no event of revision 'one' is called 'later'"):
        results.lineage("later", rev="one", repo=repo)
    shutil.rmtree(repo / ".dvc/cache")
    with pytest.raises(UserError, match=r"is called 'latr'; .*; 3 versions could not be searched: .*`dvc fetch"):
        results.lineage("latr", repo=repo)


def test_import_leaves_dvc_alone() -> None:
    code = "import sys, vidrnn.results; assert 'dvc' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, vidrnn; assert not {'pandas', 'numpy', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_what_is_written(template: Path) -> None:
    for name, measured in results.metrics(repo=template).items():
        assert measured == json.loads((template / f"data/metrics/{name}.json").read_text())
