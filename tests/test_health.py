"""A camera, night by night: what is as before is ok, and each thing that goes wrong is one sentence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from conftest import blank, write

from vidrnn import nights
from vidrnn.health import AWAY, health
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS, validate
from vidrnn.storage import video_path, write_table

PARAMS = load_params(Path(__file__).resolve().parents[1] / "params.yaml")
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
    views = [blank("views", frame_index=k, pts=k, contrast=what.get("contrast", 40.0)) for k in range(frames)]
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
        ({"contrast": 20.0}, "blurred or fogged: its contrast is 20 levels where 40 were usual"),
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
