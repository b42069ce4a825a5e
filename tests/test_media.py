"""What shows an event: the heat map, and a clip of the right seconds, small and the same bytes every time."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from conftest import blank, write_clip

from vidrnn.decode import VideoReader, open_video
from vidrnn.events import CLIP_SECONDS, HEAT, clip_bounds, clip_interval
from vidrnn.media import CLIP_BYTES, CLIP_WIDTH, heat_map, write_media
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.storage import write_table
from vidrnn.timebase import TimeBase

RATE = 20


def film(path: Path, seconds: int, noise: float = 0.0, size: tuple[int, int] = (90, 160)) -> Path:
    """Its brightness tells the time: 10 levels and 2 a frame."""
    rng = np.random.default_rng(0)
    pictures = [
        np.clip(rng.normal(10 + 2 * k % 200, noise, (*size, 3)), 0, 255).astype(np.uint8) for k in range(RATE * seconds)
    ]
    return write_clip(path, pictures, rate=RATE)


def show(
    source: Path, folder: Path, onset: float, offset: float, peak: float, base: TimeBase, step: float = 0.1
) -> Path:
    """Write the media of one event of a video that is analysed every `step` seconds; the clip."""
    times = np.arange(0, 100 * step, step)
    pts = np.round(times * base.den / base.num).astype(np.int64)
    frames = [blank("frames", time_seconds=t, pts=p) for t, p in zip(times.tolist(), pts.tolist(), strict=True)]
    event = blank("events", event_id="e", onset_seconds=onset, offset_seconds=offset, peak_seconds=peak)
    cells = np.zeros((len(pts), 2, 3), np.float16)
    cells[np.arange(len(pts)), np.arange(len(pts)) % 2, np.arange(len(pts)) // 2 % 3] = 4  # the highest goes round
    schema = scores_schema(2, 3)
    rows = {field.name: [0] * len(pts) for field in schema if field.name not in ("pts", "cells", "reason_quantity")}
    rows |= {"pts": pts, "valid": [True] * len(pts), "reason_quantity": [None] * len(pts)}
    rows["cells"] = pa.FixedShapeTensorArray.from_numpy_ndarray(cells)
    write_table(folder / "scores.parquet", pa.table({n: rows[n] for n in schema.names}, schema=schema), schema)
    video = blank("videos", time_base_num=base.num, time_base_den=base.den)
    tables = [pa.Table.from_pylist(some, schema=SCHEMAS[n]) for n, some in (("frames", frames), ("events", [event]))]
    write_media(source, video, *tables, SCHEMAS["segments"].empty_table(), folder / "scores.parquet", folder)
    return folder / "e.mp4"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return film(tmp_path_factory.mktemp("film") / "a.mp4", 10)


def test_a_clip_shows_the_event_and_a_second_around_it(source, tmp_path):
    clip = show(source, tmp_path, 4.0, 5.0, 4.5, TimeBase(1, 1000))
    with VideoReader(clip) as reader:
        seen = list(reader.all_pictures())
    assert [round(pts * reader.time_base.num / reader.time_base.den, 3) for pts, _ in seen] == [
        pytest.approx(k / 10) for k in range(30)
    ]
    levels = [float(picture.mean()) for _, picture in seen]
    assert levels == pytest.approx([10 + 2 * (RATE * 3 + 2 * k) % 200 for k in range(30)], abs=4)


def test_the_interval_of_a_clip():
    assert clip_interval(4.0, 5.0, 4.5) == (3.0, 6.0)
    assert clip_interval(0.5, 1.0, 0.7) == (0.0, 2.0)
    assert clip_interval(10.0, 500.0, 200.0) == (197.0, 197.0 + CLIP_SECONDS)
    assert clip_interval(10.0, 500.0, 11.0) == (9.0, 9.0 + CLIP_SECONDS)
    assert clip_interval(10.0, 500.0, 499.0) == (501.0 - CLIP_SECONDS, 501.0)
    assert clip_interval(10.0, 14.0, 13.5) == (9.0, 15.0)  # it has room for all of it, wherever the peak is


def test_a_clip_is_small_and_the_same_bytes_every_time(tmp_path):
    source = film(tmp_path / "a.mp4", 10, noise=40, size=(270, 480))
    clips = [show(source, tmp_path / name, 2.0, 9.0, 5.0, TimeBase(1, 1000)) for name in ("one", "two")]
    bodies = [clip.read_bytes() for clip in clips]
    assert bodies[0] == bodies[1] and len(bodies[0]) < CLIP_BYTES  # noise is as bad as it gets
    with VideoReader(clips[0]) as reader:
        shapes = {picture.shape for _, picture in reader.all_pictures()}
    assert shapes == {(216, CLIP_WIDTH, 3)}


def numbered(folder: Path, count: int) -> Path:
    """Pictures of which each is brighter by 3 levels than the one before."""
    folder.mkdir()
    for k in range(count):
        cv2.imwrite(str(folder / f"img_{k:03d}.png"), np.full((61, 83, 3), 10 + 3 * k, np.uint8))
    return folder


def test_a_clip_of_a_folder_of_pictures(tmp_path):
    clip = show(numbered(tmp_path / "folder", 30), tmp_path, 1.0, 1.4, 1.2, TimeBase(1, 10))
    with VideoReader(clip) as reader:
        levels = [picture.mean() for _, picture in reader.all_pictures()]
    assert levels == pytest.approx([10 + 3 * k for k in range(24)], abs=3)


def test_frames_between_two_times_are_those_of_the_whole(source):
    base = TimeBase(1, 1000)
    with open_video(source, base) as reader:
        whole = dict(reader.all_pictures())
    for start, stop, step in ((0, 500, 1), (1000, 3001, 1), (2025, 2600, 100), (9900, 99_000, 1), (4000, 4000, 1)):
        with open_video(source, base) as reader:
            found = list(reader.between(start, stop, step))
        expected, due = [], start
        for pts in whole:
            if due <= pts < stop:
                expected.append(pts)
                due = pts + step
        assert [pts for pts, _ in found] == expected
        assert all(np.array_equal(picture, whole[pts]) for pts, picture in found)


@pytest.mark.parametrize("row", [0, 45, 63, 64, 65, 99])  # two groups of rows
def test_the_heat_map_of_an_event_is_that_of_its_highest_frame(source, tmp_path, row):
    show(source, tmp_path, 0.1 * row, 0.1 * row + 0.1, 0.1 * row, TimeBase(1, 1000))
    opaque = cv2.imread(str(tmp_path / f"e{HEAT}"), cv2.IMREAD_UNCHANGED)[..., 3]
    assert np.unravel_index(opaque.argmax(), opaque.shape) == (row % 2, row // 2 % 3)


def test_a_heat_map_is_red_and_dense_where_cells_score():
    cells = np.zeros((4, 6), np.float32)
    cells[1, 4], cells[2, 4] = 3.0, -2.0
    heat = heat_map(cells).astype(int)
    assert heat.shape == (4, 6, 4) and heat[1, 4, 2] > heat[1, 4, 0] + 50
    assert heat[1, 4, 3] > 150 and heat[..., 3].sum() == heat[1, 4, 3]


def test_a_base_that_is_no_fraction_of_one(tmp_path):
    """Of pictures that follow one another by 1001 / 30000 s each third is shown: ten a second at most."""
    clip = show(numbered(tmp_path / "folder", 60), tmp_path, 1.0, 1.4, 1.2, TimeBase(1001, 30_000), 1001 / 30_000)
    with VideoReader(clip) as reader:
        seen = [
            (pts * reader.time_base.num / reader.time_base.den, picture.mean())
            for pts, picture in reader.all_pictures()
        ]
    assert [at for at, _ in seen] == pytest.approx([k * 1001 / 10_000 for k in range(20)], abs=1e-4)
    assert [level for _, level in seen] == pytest.approx([10 + 3 * 3 * k for k in range(20)], abs=3)


def test_a_clip_of_pictures_that_last_longer_than_it(tmp_path):
    clip = show(numbered(tmp_path / "folder", 10), tmp_path, 60.0, 60.0, 60.0, TimeBase(20, 1), 20.0)
    with VideoReader(clip) as reader:
        assert [picture.mean() for _, picture in reader.all_pictures()] == pytest.approx([10 + 3 * 3], abs=3)
    assert cv2.imread(str(tmp_path / "e.jpg")).mean() == pytest.approx(19, abs=3)


def test_a_clip_begins_with_an_analysed_frame():
    told = {"onset_seconds": 4.0, "offset_seconds": 5.0, "peak_seconds": 4.5}
    assert clip_bounds(told, np.arange(0, 20, 0.75)) == (3.0, 6.0)
    assert clip_bounds(told, np.arange(0, 20, 2.0)) == (4.0, 6.0)
