"""The footage folder to the table `index`: what every file is, before a single stage decodes it."""

import fnmatch
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from vidrnn.decode import VideoReader
from vidrnn.errors import DecodeError, FootageError
from vidrnn.params import IndexParams
from vidrnn.schema import SCHEMAS
from vidrnn.storage import sha256_file, write_json

DEFAULT_CAMERA = "default"
ALL_CAMERAS = "*"  # how the table `metrics` calls all of them; so no camera may have the name


def index_videos(videos: Path, params: IndexParams, time_zone: str, hashes: Path) -> pa.Table:
    """A row a file below `videos`, in the order of their names.

    Args:
        videos: `<camera>/**/<file>`; hidden files and folders are passed over.
        params: which files train and are scored, and where names say the time.
        time_zone: of those times.
        hashes: a JSON file that remembers the sha256 of files whose size and mtime have not changed.

    Raises:
        FootageError: the folder is missing or holds no file that could be a video.
    """
    if not videos.is_dir():
        raise FootageError(
            f"{videos}: no such folder; expected footage as <camera>/<file>: set data.videos in params.yaml"
        )
    paths = sorted(path for path in _files(videos) if path.is_file())
    if not paths:
        raise FootageError(
            f"{videos}: holds no files; expected footage as <camera>/<file>: put some there, or set data.videos"
        )
    known = _read_hashes(hashes)
    rows, digests = [], {}
    for number, path in enumerate(paths, 1):
        row, entry = _row(path, path.relative_to(videos).as_posix(), params, time_zone, known)
        rows.append(row)
        digests[str(path.resolve())] = entry
        if number % 100 == 0 or number == len(paths):
            print(f"index: file {number} of {len(paths)}", flush=True)
    write_json(hashes, digests)
    if all(row["status"] == "unreadable" for row in rows):
        raise FootageError(
            f"{videos}: none of its {len(rows)} files is a video that can be read; the first, {rows[0]['video_id']}, is "
            f"{rows[0]['message']}; expected footage that FFmpeg opens: set data.videos in params.yaml"
        )
    return pa.Table.from_pylist(rows, schema=SCHEMAS["index"])


def _files(folder: Path) -> list[Path]:
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(directory, name) for name in names if not name.startswith(".")]
    return found


def _row(
    path: Path, video_id: str, params: IndexParams, time_zone: str, known: dict[str, list[Any]]
) -> tuple[dict[str, Any], list[Any]]:
    camera_id = video_id.split("/")[0] if "/" in video_id else DEFAULT_CAMERA
    if camera_id == ALL_CAMERAS:
        raise FootageError(f"{path}: a camera cannot be called {ALL_CAMERAS}; rename the folder")
    stat = path.stat()
    entry = known.get(str(path.resolve()))
    if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
        entry = [stat.st_size, stat.st_mtime_ns, sha256_file(path)]
    row: dict[str, Any] = dict.fromkeys(SCHEMAS["index"].names)
    row |= {"camera_id": camera_id, "video_id": video_id, "sha256": entry[2], "recorded_at_source": "none"}
    row |= {"trains": False, "scored": False, "status": "ok", "message": ""}
    try:
        with VideoReader(path) as reader:
            facts = reader.facts()
    except DecodeError as error:
        return row | {"status": "unreadable", "message": str(error)}, entry
    row |= {"codec": facts.codec, "width": facts.width, "height": facts.height, "rotation": facts.rotation}
    row |= {"time_base_num": facts.time_base.num, "time_base_den": facts.time_base.den}
    row |= {"duration_seconds": facts.duration_seconds}
    row |= {"trains": matches(video_id, params.train), "scored": matches(video_id, params.test)}
    named = recorded_at(path.name, params.recorded_at_pattern, time_zone)
    if named is not None:
        row |= {"recorded_at": named, "recorded_at_source": "name"}
    elif facts.created_at is not None:
        row |= {"recorded_at": facts.created_at, "recorded_at_source": "container"}
    return row, entry


def matches(video_id: str, patterns: Sequence[str]) -> bool:
    """Whether the last pattern that matches takes the path in; `!` in front of a pattern takes back."""
    taken = False
    for pattern in patterns:
        if fnmatch.fnmatchcase(video_id, pattern.removeprefix("!")):
            taken = not pattern.startswith("!")
    return taken


def recorded_at(name: str, pattern: str | None, time_zone: str) -> datetime | None:
    """The time that a file name says, in UTC; None where it says none, or no time that exists."""
    match = re.search(pattern, name) if pattern else None
    if match is None:
        return None
    parts = {group: int(text) for group, text in match.groupdict().items()}
    try:
        return datetime(**parts, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return None


def _read_hashes(path: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only a memory: without it every file is hashed once more
    return known if isinstance(known, dict) else {}
