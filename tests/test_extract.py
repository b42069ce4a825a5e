"""Decoded once, only what changed, the same bytes whoever else is decoded beside it."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import damaged_clip, moving_square, texture, write_clip

from vidrnn.decode import VideoReader
from vidrnn.extract import PARTS, extract_features
from vidrnn.features import CHANNELS, ROWS, FeatureExtractor, Grid, signature, working_colour, working_picture
from vidrnn.index import index_videos
from vidrnn.params import FeaturesParams, load_params
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.storage import read_metadata, read_table, video_path
from vidrnn.timebase import RateSampler

ROOT = Path(__file__).resolve().parents[1]
LOADED = load_params(ROOT / "params.yaml")
INDEX = LOADED.index.model_copy(update={"test": ("*/test/*",), "recorded_at_pattern": None})
PARAMS = LOADED.features.model_copy(update={"height": 80, "warmup_seconds": 0.5})
VFR = [0, 40, 90, 100, 230, 333, 420, 700, 710, 800, 905, 1000, 1200, 1230, 1300]


class Space:
    """Footage and its features, brought up to date by `run`."""

    def __init__(self, root: Path) -> None:
        self.videos, self.root = root / "videos", root / "features"
        (self.videos / "gate/test").mkdir(parents=True)

    def index(self) -> pa.Table:
        return index_videos(self.videos, INDEX, "UTC", self.videos.parent / "hashes.json")

    def run(self, index: pa.Table | None = None, params: FeaturesParams = PARAMS) -> pa.Table:
        return extract_features(self.videos, index or self.index(), params, self.root)

    def bytes(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in sorted(self.root.rglob("*.*"))}

    def decoded(self) -> dict[str, dict[str, Any]]:
        rows = read_table(self.root / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()
        return {row["video_id"]: row for row in rows}

    def files(self, video_id: str) -> dict[str, Path]:
        return {part: video_path(self.root / part, "gate", video_id) for part in PARTS}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "a.mp4", moving_square(30))
    write_clip(folder / "b.mp4", moving_square(len(VFR), step=1.5), [at + 5000 for at in VFR])
    write_clip(folder / "c.mp4", moving_square(200, step=0.2), rotation=90)
    return folder


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the code of a stage is looked up in dvc.yaml


def test_only_what_changed_is_decoded(tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = Space(tmp_path)
    shutil.copy(clips / "a.mp4", space.videos / "gate/a.mp4")
    shutil.copy(clips / "b.mp4", space.videos / "gate/test/b.mp4")

    def counts() -> str:
        return next(line for line in capsys.readouterr().out.splitlines() if "files removed" in line)

    training = space.run()
    assert counts() == "features: 2 decoded, 0 kept, 0 files removed"
    assert training["video_id"].to_pylist() == ["gate/a.mp4"]  # what lies in test does not train
    first = space.bytes()
    assert len(first) == 2 * len(PARTS) + 1

    assert space.run().equals(training)
    assert counts() == "features: 0 decoded, 2 kept, 0 files removed"
    assert space.bytes() == first

    shutil.copy(clips / "c.mp4", space.videos / "gate/c.mp4")
    space.files("gate/a.mp4")["shots"].unlink()  # as after a kill; and what a kill leaves behind
    space.files("gate/a.mp4")["cells"].with_name(".x.parquet.1.partial").touch()
    space.run()
    assert counts() == "features: 2 decoded, 1 kept, 1 files removed"
    second = space.bytes()
    assert {name: second[name] for name in first if name != "decoded.parquet"} == {
        name: content for name, content in first.items() if name != "decoded.parquet"
    }

    (space.videos / "gate/test/b.mp4").unlink()
    (space.videos / "gate/c.mp4").write_bytes((clips / "b.mp4").read_bytes())
    space.run()  # one is decoded alone here, and beside others below
    assert counts() == f"features: 1 decoded, 1 kept, {len(PARTS)} files removed"
    changed = space.bytes()
    space.run(params=PARAMS.model_copy(update={"background_seconds": 21.0}))
    assert counts() == "features: 2 decoded, 0 kept, 0 files removed"
    space.run()
    assert counts() == "features: 2 decoded, 0 kept, 0 files removed"
    assert space.bytes() == changed != second


def test_the_files_are_what_the_pieces_make(tmp_path: Path, clips: Path) -> None:
    space = Space(tmp_path)
    shutil.copy(clips / "b.mp4", space.videos / "gate/test/b.mp4")
    shutil.copy(clips / "c.mp4", space.videos / "gate/c.mp4")
    index = space.index()
    space.run(index)
    for row in index.to_pylist():
        turned = row["rotation"]
        assert turned == (90 if row["video_id"] == "gate/c.mp4" else 0)
        grid = Grid.of(row["width"], row["height"], PARAMS.height)
        with VideoReader(space.videos / row["video_id"]) as reader:
            frames = [
                (f.frame_index, f.pts, f.luma.copy(), f.limited_range, working_colour(f.colour, turned, grid))
                for f in reader.frames()
            ]
            base = reader.time_base
        sampler = RateSampler(base, PARAMS.rate_fraction)
        extractor = FeatureExtractor(
            grid, base, PARAMS.warmup_seconds, PARAMS.background_seconds, PARAMS.stopped_seconds
        )
        rows, start = [], frames[0][1]
        for index_of, pts, luma, limited, colour in frames:
            if sampler.takes(pts - start):
                rows += extractor.push(index_of, pts, working_picture(luma, limited, turned, grid), colour)
        rows += extractor.flush()
        files = space.files(row["video_id"])

        cells = read_table(files["cells"], cells_schema(len(CHANNELS), ROWS, grid.columns))
        assert cells["frame_index"].to_pylist() == [r.frame_index for r in rows]
        assert cells["pts"].to_pylist() == [r.pts for r in rows]
        assert cells["time_seconds"].to_pylist() == [base.seconds(r.pts - start) for r in rows]
        assert cells["valid"].to_pylist() == [r.valid for r in rows]
        tensor = cells["cells"].combine_chunks().to_numpy_ndarray()
        assert np.array_equal(tensor, np.stack([r.cells for r in rows]))

        shots = read_table(files["shots"], SCHEMAS["shots"])
        assert shots["pts"].to_pylist() == [pts for _, pts, *_ in frames]  # of every decoded frame
        found = shots["signature"].combine_chunks().to_numpy_ndarray()
        assert np.array_equal(found, np.stack([signature(luma, turned) for _, _, luma, *_ in frames]))

        views = read_table(files["views"], SCHEMAS["views"])
        assert views["pts"].to_pylist() == [r.pts for r in rows]
        for name in vars(rows[0].view):
            assert views[name].to_pylist() == np.float32([vars(r.view)[name] for r in rows]).tolist()
        assert views["sharpness"].to_pylist() == np.float32([r.sharpness for r in rows]).tolist()

        regions = read_table(files["regions"], SCHEMAS["regions"]).to_pydict()
        assert regions["pts"] == [r.pts for r in rows for _ in r.regions.areas] and regions["pts"]
        boxes = np.concatenate([r.regions.boxes for r in rows]) * np.float32([row["width"], row["height"]] * 2)
        assert np.array_equal(np.stack([regions[k] for k in ("x0", "y0", "x1", "y1")], axis=1), boxes)
        assert max(regions["x1"]) <= row["width"] and max(regions["y1"]) <= row["height"]

        facts = space.decoded()[row["video_id"]]
        assert (facts["num_frames"], facts["num_analysed"]) == (len(frames), len(rows))
        assert facts["duration_seconds"] == pytest.approx(base.seconds(2 * frames[-1][1] - frames[-2][1] - start))


def test_damaged_files_are_partial_or_unreadable_and_do_not_train(tmp_path: Path, clips: Path) -> None:
    space = Space(tmp_path)
    shutil.copy(clips / "a.mp4", space.videos / "gate/a.mp4")
    cut = write_clip(space.videos / "gate/cut.mkv", moving_square(120, step=0.3), crf=5)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    damaged_clip(space.videos / "gate/holes.mp4", moving_square(60, 96, 128, step=1.5))
    shutil.copy(clips / "c.mp4", space.videos / "gate/swapped.mp4")
    shutil.copy(clips / "c.mp4", space.videos / "gate/gone.mp4")
    index = space.index()
    assert set(index["status"].to_pylist()) == {"ok"}
    (space.videos / "gate/swapped.mp4").write_bytes(b"not a video\n" * 99)
    (space.videos / "gate/gone.mp4").unlink()

    assert space.run(index)["video_id"].to_pylist() == ["gate/a.mp4"]
    rows = {Path(video_id).stem: row for video_id, row in space.decoded().items()}
    assert {stem: row["status"] for stem, row in rows.items()} == {
        "a": "ok",
        "cut": "partial",
        "gone": "unreadable",
        "holes": "partial",
        "swapped": "unreadable",
    }
    assert (rows["a"]["num_frames"], rows["a"]["num_undecodable"], rows["a"]["message"]) == (30, 0, "")
    assert rows["a"]["duration_seconds"] == pytest.approx(1.5) and rows["a"]["num_analysed"] == 15
    assert rows["cut"]["message"].endswith(f"gives only {rows['cut']['duration_seconds']:.1f} of 6.0 seconds")
    assert 10 < rows["cut"]["num_frames"] < 110
    holes = rows["holes"]
    assert holes["num_frames"] + holes["num_undecodable"] == 60 and holes["num_undecodable"] > 0
    assert f"cannot be decoded in {holes['num_undecodable']} of its packets" in holes["message"]
    assert rows["swapped"]["message"].startswith("is not a video that can be opened (Invalid data")
    assert rows["gone"]["message"].startswith("its footage is not there any more")
    assert rows["gone"]["num_frames"] == rows["gone"]["num_analysed"] == 0
    schema = cells_schema(len(CHANNELS), ROWS, Grid.of(48, 64, PARAMS.height).columns)
    assert read_table(space.files("gate/gone.mp4")["cells"], schema).num_rows == 0

    for name in ("gone", "swapped"):  # the disk was away: the same files are read once they are back
        shutil.copy(clips / "c.mp4", space.videos / f"gate/{name}.mp4")
    assert space.run(index)["video_id"].to_pylist() == ["gate/a.mp4", "gate/gone.mp4", "gate/swapped.mp4"]


def test_what_the_index_calls_unreadable_or_nobody_wants_is_left_alone(tmp_path: Path, clips: Path) -> None:
    space = Space(tmp_path)
    (space.videos / "gate/bad.mp4").write_bytes(b"x")
    shutil.copy(clips / "a.mp4", space.videos / "gate/a.mp4")
    index = index_videos(
        space.videos,
        INDEX.model_copy(update={"train": (), "test": ()}),
        "UTC",
        tmp_path / "hashes.json",
    )
    assert space.run(index).num_rows == 0
    assert list(space.bytes()) == ["decoded.parquet"] and space.decoded() == {}


def test_the_metadata_say_from_what_a_file_was_made(tmp_path: Path, clips: Path) -> None:
    space = Space(tmp_path)
    shutil.copy(clips / "a.mp4", space.videos / "gate/a.mp4")
    training = space.run().to_pylist()
    for path in space.files("gate/a.mp4").values():
        assert read_metadata(path)["digest"] == training[0]["digest"]
        assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("step", [0, 4])
def test_a_camera_that_moves_is_said_to(tmp_path: Path, step: int) -> None:
    """It pans over a wide place, 40 pixels of 96 a second, or does not."""
    wide, space = texture(64, 96 + 4 * 100, 5), Space(tmp_path)
    pictures = [wide[:, step * k : step * k + 96] for k in range(100)]
    write_clip(space.videos / "gate/pan.mp4", pictures, rate=10, time_base=None)
    space.run()
    row = space.decoded()["gate/pan.mp4"]
    assert row["status"] == "ok"
    told = (
        r"its camera moves: \d+% of its pictures show another view than just before, so what moves in them is not told"
    )
    assert re.fullmatch(told if step else "", row["message"])
