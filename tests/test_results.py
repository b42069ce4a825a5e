"""The public API over a real small repository with two revisions."""

import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DVC, NIGHT, VIDEOS, git, make_repository

from vidrnn import results
from vidrnn.errors import SchemaError, UserError
from vidrnn.schema import SCHEMA_VERSION, SCHEMAS
from vidrnn.storage import video_path


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
    counts = {"frames": 15, "events": 4, "promotions": 1, "metrics": 2}
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
    assert len(results.load("events", camera="gate", start="2030-01-01", repo=template)) == 0


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
        ({"name": "event"}, "no table is called 'event'; there are videos, frames, events, detections, .*"),
        ({"name": "index"}, "no table is called 'index'"),
        ({"name": "events", "columns": ["kind", "when"]}, "events has no column 'when'; it has camera_id, video_id,"),
        ({"name": "frames", "camera": "gat"}, "no camera is called 'gat' in videos; there are 'gate', 'north yard'"),
        ({"name": "metrics", "camera": "gat"}, r"no camera is called 'gat' in metrics; there are '\*', 'gate'"),
        ({"name": "frames", "video": "x.mp4"}, "no video is called 'x.mp4' in videos; load `videos` to see them"),
        (
            {"name": "events", "camera": "north yard", "video": "gate/a.mp4"},
            "no video of camera 'north yard' is called",
        ),
        ({"name": "metrics", "video": "x.mp4"}, "metrics has no column 'video_id', so that `video` cannot choose"),
        ({"name": "promotions", "end": "2026"}, "promotions has no column 'recorded_at', so that `end` cannot choose"),
        ({"name": "frames", "start": "soon"}, "`start` should be a time such as .*, found 'soon'"),
        ({"name": "frames", "end": pd.NaT}, "`end` should be a time"),
        ({"name": "frames", "rev": "nowhere"}, "revision 'nowhere' cannot be read from .*: unknown Git revision"),
        ({"name": "frames", "rev": "bare"}, "revision 'bare' holds no data/tables/frames: nothing had been made"),
        ({"name": "metrics", "rev": "bare"}, "revision 'bare' holds no data/metrics.parquet"),
        ({"name": "frames", "rev": "one", "camera": "gat"}, "no camera is called 'gat' in videos of revision 'one'"),
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


def test_import_leaves_dvc_alone() -> None:
    code = "import sys, vidrnn.results; assert 'dvc' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, vidrnn; assert not {'pandas', 'numpy', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_what_is_written(template: Path) -> None:
    for name, measured in results.metrics(repo=template).items():
        assert measured == json.loads((template / f"data/metrics/{name}.json").read_text())
