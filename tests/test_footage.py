"""Cameras without footage are told of by the night, also where there is but one, or none has any."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from conftest import blank, write
from footage import AWAY, SILENT, VIDEOS, no_footage, told

from vidrnn import nights

NIGHT = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def video(camera: str, before: timedelta | None, frames: int = 36000) -> dict[str, Any]:
    """An hour of a camera that was over for so long when the night began; None does not say when."""
    began = None if before is None else NIGHT - before - HOUR
    facts = {"camera_id": camera, "recorded_at": began, "num_frames": frames, "duration_seconds": 3600.0}
    return blank("videos", **facts, video_id=f"{camera}/{before}.mp4")


def asked(root: Path, *videos: dict[str, Any], zone: str = "UTC") -> list[str]:
    (root / "params.yaml").write_text(f"data: {{time_zone: {zone}}}\n")
    write(root / VIDEOS, "videos", list(videos))
    log: list[str] = []
    rows = no_footage(root, NIGHT, log.append)
    assert not log and {row["night"] for row in rows} <= {NIGHT.astimezone(ZoneInfo(zone)).date().isoformat()}
    return told(rows)


def test_a_lone_camera_that_fell_silent_is_told_of_every_night(tmp_path: Path) -> None:
    assert asked(tmp_path, video("gate", 23 * HOUR)) == []
    assert asked(tmp_path, video("gate", SILENT + HOUR)) == ["gate: no footage since 2026-11-28 00:00 UTC"]
    spring = [video("gate", timedelta(days=272)), video("gate", timedelta(days=273))]
    assert asked(tmp_path, *spring, zone="Europe/Berlin") == ["gate: no footage since 2026-03-02 03:00 CET"]


def test_each_camera_of_a_silent_site_is_told_of_and_none_that_was_taken_away(tmp_path: Path) -> None:
    assert AWAY == nights.AWAY
    days = {"gate": 40, "yard": 42, "shed": 48}
    silent = [video(camera, timedelta(days=count)) for camera, count in days.items()]
    assert [line.split(":")[0] for line in asked(tmp_path, *silent)] == ["gate", "yard"]
    lively = video("road", 2 * HOUR)
    assert asked(tmp_path, *silent, lively) == []
    assert [line.split(":")[0] for line in asked(tmp_path, lively, video("gate", timedelta(days=2)))] == ["gate"]


def test_what_is_no_footage_of_the_night_does_not_hide_that_there_is_none(tmp_path: Path) -> None:
    """Neither a file that nobody can read nor one from a clock that is years ahead; of no dates nothing is known."""
    old = video("gate", timedelta(days=3))
    assert len(asked(tmp_path, old, video("gate", 2 * HOUR, frames=0), video("yard", -timedelta(days=900)))) == 1
    assert asked(tmp_path, video("gate", None)) == asked(tmp_path) == []


def test_tables_that_cannot_be_read_are_a_line_of_the_log(tmp_path: Path) -> None:
    log: list[str] = []
    assert no_footage(tmp_path, NIGHT, log.append) == [] and len(log) == 1
    (tmp_path / VIDEOS).parent.mkdir(parents=True)
    (tmp_path / VIDEOS).write_bytes(b"no table")
    assert no_footage(tmp_path, NIGHT, log.append) == [] and len(log) == 2
