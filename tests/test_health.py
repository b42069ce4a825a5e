"""A camera, night by night: what is as before is ok, and each thing that goes wrong is one sentence."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from conftest import Picture, blank, texture, write, write_clip

from vidrnn import nights
from vidrnn.decode import VideoReader
from vidrnn.extract import extract_video
from vidrnn.health import AWAY, health
from vidrnn.index import index_video
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS, validate
from vidrnn.storage import read_table, video_path, write_table

ROOT = Path(__file__).resolve().parents[1]
PARAMS = load_params(ROOT / "params.yaml")
WALL = np.random.default_rng(0).integers(60, 200, (16, 16)).astype(np.float64)


def night(root: Path, day: int, camera: str = "gate", **what: Any) -> dict[str, Any]:
    """Write the features and scores of one video of ten seconds; its row of `videos`."""
    picture, rate = what.get("picture", WALL), what.get("rate", 10)
    key, frames = (camera, f"{camera}/{day}.mp4"), 10 * rate
    noise = np.random.default_rng(abs(day)).normal(0, 3, (frames, 16, 16))
    signatures = np.clip(picture + noise, 0, 255).astype(np.uint8)
    numbers = {"frame_index": np.arange(frames), "pts": np.arange(frames)}
    shots = pa.table({**numbers, "signature": pa.FixedShapeTensorArray.from_numpy_ndarray(signatures)})
    write_table(video_path(root / "features/shots", *key), shots.cast(SCHEMAS["shots"]), SCHEMAS["shots"])
    seen = {"contrast": what.get("contrast", 40.0), "sharpness": what.get("sharpness", 0.8)}
    views = [blank("views", frame_index=k, pts=k, **seen) for k in range(frames)]
    write(video_path(root / "features/views", *key), "views", views)
    scores = [
        blank("frames", frame_index=k, score=what.get("score", 1.0) + k / 1000, valid=k > 5) for k in range(frames)
    ]
    write(video_path(root / "tables/frames", *key), "frames", scores)
    began = datetime(2026, 3, 1, 23, 30, tzinfo=UTC) + timedelta(days=day)
    facts = {"camera_id": camera, "video_id": key[1], "width": 64, "num_frames": frames, "duration_seconds": 10.0}
    return blank("videos", **facts, recorded_at=began)


def told(root: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    write(root / "tables/videos.parquet", "videos", rows)
    berlin = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"time_zone": "Europe/Berlin"})})
    table = health(root / "features", root / "tables", berlin)
    validate(table, SCHEMAS["health"], "health")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"picture": WALL / 4}, "dark: the picture is 13% bright where 5"),
        ({"picture": np.roll(WALL, 5, axis=1)}, "the camera moved: the picture is like that of the nights before by "),
        ({"sharpness": 0.3}, "blurred: edges are 38% as sharp as usual"),
        ({"contrast": 20.0}, "of low contrast, as in fog: 20 levels where 40 were usual"),
        ({"contrast": 0.0, "sharpness": 0.0}, "of low contrast, as in fog: 0 levels where 40 were usual"),
        ({"rate": 6}, "the frame rate fell to 6.0 frames a second from 10.0"),
        ({"score": 3.0}, "scores drift: one frame in a hundred is above 3.10, before 1.10 at most"),
        ({}, ""),
    ]
    for number, (what, words) in enumerate(wrong):
        root = tmp_path / str(number)
        rows = [night(root, day) for day in range(3)] + [night(root, 3, **what)]
        *before, last = told(root, rows)
        assert [row["message"] for row in before] == [""] * 3 and all(row["ok"] for row in before)
        assert last["message"].startswith(words) and last["ok"] == (not words), last["message"]
        assert "; " not in last["message"]


def test_features_that_were_made_before_sharpness_was_measured_do_without(tmp_path: Path) -> None:
    """Those of footage that is retired stay as they were made."""
    rows = [night(tmp_path, day) for day in range(3)]
    for row in rows[:2]:
        path = video_path(tmp_path / "features/views", row["camera_id"], row["video_id"])
        views = read_table(path, SCHEMAS["views"]).drop_columns(["sharpness"])
        write_table(path, views, views.schema)
    found = told(tmp_path, rows)
    assert [row["sharpness"] for row in found] == [None, None, pytest.approx(0.8)]
    assert all(row["ok"] for row in found)


def test_nights_are_local_and_none_is_left_out(tmp_path: Path) -> None:
    rows = [night(tmp_path, day) for day in (0, 1, 3)] + [night(tmp_path, day, "yard") for day in (1, 4)]
    nameless = {**night(tmp_path, 9), "recorded_at": None}
    found = told(tmp_path, [*rows, nameless])
    assert [(row["camera_id"], row["night"][-2:], row["num_videos"]) for row in found] == [
        *(("gate", day, count) for day, count in (("02", 1), ("03", 1), ("04", 0), ("05", 1), ("06", 0))),
        *(("yard", day, count) for day, count in (("03", 1), ("04", 0), ("05", 0), ("06", 1))),
    ]
    assert {row["message"] for row in found if not row["num_videos"]} == {"no footage"}
    assert found[0]["framing"] is None and found[1]["framing"] > 0.99
    assert found[0]["brightness"] == np.float64(found[0]["brightness"]).round(6)
    assert told(tmp_path, [nameless]) == []


def test_a_wrong_clock_or_a_camera_taken_away_does_not_fill_years(tmp_path: Path) -> None:
    """At most a week without footage is told, as long as the report speaks of a camera that should be there."""
    assert AWAY == nights.AWAY.days == 7
    years = [(datetime(year, 1, 1) - datetime(2026, 3, 2)).days for year in (2000, 2099)]
    rows = [night(tmp_path, day) for day in (years[0], 0, 20, years[1])] + [night(tmp_path, 1, "yard")]
    found = [(row["camera_id"], row["night"], bool(row["num_videos"])) for row in told(tmp_path, rows)]
    assert len(found) == 4 + 3 * AWAY + 1 + AWAY
    assert [when for camera, when, seen in found if camera == "gate" and seen] == [
        "2000-01-01",
        "2026-03-02",
        "2026-03-22",
        "2099-01-01",
    ]
    assert [when for camera, when, seen in found if camera == "yard"] == [f"2026-03-{day:02}" for day in range(3, 11)]
    last = {**night(tmp_path, 0, "gone"), "recorded_at": datetime(9999, 12, 30, tzinfo=UTC)}
    assert [row["night"] for row in told(tmp_path, [last])] == ["9999-12-30"]


Levels = np.ndarray[Any, np.dtype[np.float32]]
Change = Callable[[Levels], Levels]


def noise(deviation: float) -> Change:
    rng = np.random.default_rng(9)
    return lambda levels: levels + rng.normal(0, deviation, levels.shape)


def blur(pixels: float) -> Change:
    """Of so many at 240 lines."""
    return lambda levels: cv2.GaussianBlur(levels, (0, 0), pixels * len(levels) / 240)


def street(seed: int, change: Change = lambda levels: levels) -> list[Picture]:
    """Three seconds of walls and windows with somebody who walks by, as a camera changes them; it writes its name."""
    place, rng = texture(240, 320, 1, 60, 140).astype(np.float32), np.random.default_rng(2)
    for x, y, level in zip(rng.integers(0, 300, 60), rng.integers(0, 220, 60), rng.integers(20, 230, 60), strict=True):
        cv2.rectangle(place, (int(x), int(y)), (int(x) + 25, int(y) + 18), int(level), -1, cv2.LINE_AA)
    pictures, sensor = [], np.random.default_rng(seed)
    for k in range(30):
        seen = cv2.GaussianBlur(place, (0, 0), 0.7)  # no lens is perfect
        seen[120:180, 30 + 10 * seed + 4 * k :][:, :20] = 30
        picture = np.clip(change(seen + sensor.normal(0, 2, seen.shape)), 0, 255).astype(np.uint8)
        cv2.putText(picture, "GATE 2026-03-01", (8, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
        pictures.append(picture)
    return pictures


def filmed(root: Path, day: int, pictures: list[Picture], crf: int = 23) -> dict[str, Any]:
    """Encode a night and make its features; its row of `videos`."""
    path = write_clip(root / f"gate/{day}.mp4", pictures, rate=10, time_base=None, crf=crf)
    facts = index_video(path, "gate", PARAMS.index, "UTC")
    decoded = extract_video(path, facts, PARAMS.features, root / "features", lambda *_: None)
    known = {name: value for name, value in (facts | decoded).items() if name in SCHEMAS["videos"].names}
    return blank("videos", **known | {"recorded_at": datetime(2026, 3, 1 + day, 21, tzinfo=UTC)})


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("usual")
    return root, [filmed(root, day, street(day)) for day in range(3)]


NIGHTS_TO_TELL: dict[str, tuple[str, Change, int]] = {
    "as before": ("", lambda levels: levels, 23),
    "blurred": ("blurred: edges are ", blur(2), 23),
    "blurred much": ("blurred: edges are ", blur(6), 23),
    "blurred, and with noise": ("blurred: edges are ", lambda levels: noise(8)(blur(2)(levels)), 23),
    "darker": ("", lambda levels: 0.6 * levels, 23),
    "dark, and with noise": ("dark: ", lambda levels: noise(5)(0.3 * levels), 28),
    "fogged": ("of low contrast, as in fog: ", lambda levels: 0.4 * levels + 60, 23),
    "with noise": ("", noise(10), 23),
    "compressed to a tenth of the bytes": ("", lambda levels: levels, 38),
}


@pytest.mark.parametrize("name", NIGHTS_TO_TELL)
def test_blur_is_told_from_what_only_resembles_it(
    usual: tuple[Path, list[dict[str, Any]]], tmp_path: Path, name: str
) -> None:
    """On films, through the encoder of a camera: neither light nor fog, noise or compression is a blur."""
    words, change, crf = NIGHTS_TO_TELL[name]
    root, before = usual
    *_, last = told(root, [*before, filmed(root, 3, street(3, change), crf)])
    assert last["message"].startswith(words) and last["ok"] == (not words), last
    assert "; " not in last["message"]


FOOTAGE = ROOT.parent / "shared/data"  # research data that is not ours to give away


@pytest.mark.skipif(not FOOTAGE.is_dir(), reason=f"the research footage is not in {FOOTAGE}")
@pytest.mark.parametrize("name", ["highway/videos/highway/highway.mp4", "ped2/videos/ped2/train/01.mp4"])
def test_blur_of_real_footage(name: str, tmp_path: Path) -> None:
    with VideoReader(FOOTAGE / name) as reader:
        pictures = [picture for _, (_, picture) in zip(range(100), reader.all_pictures(), strict=False)]
    before = [filmed(tmp_path, day, pictures[25 * day : 25 * day + 25]) for day in range(3)]
    for words, change, crf in NIGHTS_TO_TELL.values():
        tonight = [np.clip(change(picture.astype(np.float32)), 0, 255).astype(np.uint8) for picture in pictures[75:]]
        *_, last = told(tmp_path, [*before, filmed(tmp_path, 3, tonight, crf)])
        assert last["message"].startswith(words) and last["ok"] == (not words), last
