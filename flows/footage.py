"""Which cameras have given no footage for a night.

Tables know nothing of that: they are what comes of footage, the same whenever they are made. A night knows its date.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

VIDEOS = Path("data/tables/videos.parquet")
SILENT = timedelta(hours=25)  # a day, and an hour for what is still being written when a night begins
AWAY = timedelta(days=7)  # a camera that is silent for longer than others was taken away, as the report has it

Row = dict[str, Any]


def no_footage(folder: Path, began: datetime, log: Callable[[str], None]) -> list[Row]:
    """A row, as those of the table `health` are, for each camera that has given none in the day before a night.

    Args:
        folder: the worktree of nights.
        began: when the night did.
        log: is told why, where the tables cannot be read and nothing can be said.
    """
    try:
        columns = ["camera_id", "recorded_at", "duration_seconds", "num_frames"]
        videos = pq.read_table(folder / VIDEOS, columns=columns).to_pylist()
    except (OSError, pa.ArrowException) as error:
        log(f"whether every camera has given footage cannot be told: {error}")
        return []
    params = YAML(typ="safe").load(folder / "params.yaml")
    return silent(videos, began.astimezone(ZoneInfo(params["data"]["time_zone"])))


def silent(videos: Iterable[Row], began: datetime) -> list[Row]:
    """As `no_footage`, of rows of the table `videos`, in the time zone of `began`.

    Nothing is known of a camera none of whose footage says when it was recorded, or which says that it was recorded
    more than a day after the night began.
    """
    last: dict[str, datetime] = {}
    for video in videos:
        if video["recorded_at"] is None or not video["num_frames"]:
            continue
        end = video["recorded_at"] + timedelta(seconds=video["duration_seconds"] or 0.0)
        if end < began + SILENT:
            last[video["camera_id"]] = max(end, last.get(video["camera_id"], end))
    newest = max(last.values(), default=began)
    return [
        {
            "camera_id": camera_id,
            "night": began.date().isoformat(),
            "message": f"no footage since {end.astimezone(began.tzinfo):%Y-%m-%d %H:%M %Z}",
        }
        for camera_id, end in sorted(last.items())
        if end < began - SILENT and end > newest - AWAY
    ]


def told(rows: list[Row]) -> list[str]:
    """A sentence a row."""
    return [f"{row['camera_id']}: {row['message']}" for row in rows]
