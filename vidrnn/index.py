"""The footage folder to the table `index`: what every file is, before a single stage decodes it."""

import fnmatch
import json
import os
import re
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pyarrow as pa

from vidrnn.decode import VideoReader
from vidrnn.errors import DecodeError, FootageError
from vidrnn.params import IndexParams
from vidrnn.schema import SCHEMAS
from vidrnn.storage import sha256_file, write_json

DEFAULT_CAMERA = "default"
ALL_CAMERAS = "*"  # how the table `metrics` calls all of them; so no camera may have the name
_MAX_CAMERA = 240  # bytes of its name once it is percent-encoded; a folder's may have 255
_COPIED = ("codec", "width", "height", "rotation", "duration_seconds")  # columns that are called as in VideoFacts


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
    paths = sorted(_files(videos), key=lambda path: _spelled(path.as_posix()))
    if not paths:
        raise FootageError(
            f"{videos}: holds no files; expected footage as <camera>/<file>: put some there, or set data.videos"
        )
    known = _read_hashes(hashes)
    rows: list[dict[str, Any]] = []
    digests: dict[str, list[Any]] = {}
    for number, path in enumerate(paths, 1):
        video_id = path.relative_to(videos).as_posix()
        camera_id = video_id.split("/")[0] if "/" in video_id else DEFAULT_CAMERA
        if camera_id == ALL_CAMERAS:
            raise FootageError(f"{path}: a camera cannot be called {ALL_CAMERAS}; rename the folder")
        row: dict[str, Any] = dict.fromkeys(SCHEMAS["index"].names)
        row |= {"camera_id": _spelled(camera_id), "video_id": _spelled(video_id), "recorded_at_source": "none"}
        row |= {"trains": False, "scored": False, "status": "ok", "message": ""}
        try:
            if len(quote(camera_id, errors="surrogateescape")) > _MAX_CAMERA:
                raise DecodeError("belongs to a camera whose name is too long for a folder; rename its folder")
            row["sha256"] = _sha256(path, known, digests)
            row |= _facts(path, video_id, params, time_zone)
        except DecodeError as error:
            row |= {"status": "unreadable", "message": str(error)}
        rows.append(row)
        if number % 100 == 0 or number == len(paths):
            print(f"index: file {number} of {len(paths)}", flush=True)
    write_json(hashes, digests)
    if all(row["status"] == "unreadable" for row in rows):
        raise FootageError(
            f"{videos}: none of its {len(rows)} files is a video that can be read; the first, "
            f"{rows[0]['video_id']}, {rows[0]['message']}; expected footage that FFmpeg opens: "
            "set data.videos in params.yaml"
        )
    return pa.Table.from_pylist(rows, schema=SCHEMAS["index"])


def _files(folder: Path) -> list[Path]:
    """Everything below a folder that is not hidden and not a folder; links to folders are not followed."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(directory, name).is_symlink()]
        found += [Path(directory, name) for name in names + links if not name.startswith(".")]
    return found


def _spelled(name: str) -> str:
    """The name, where bytes that are not UTF-8 are written as \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode()


def _sha256(path: Path, known: dict[str, list[Any]], digests: dict[str, list[Any]]) -> str:
    """The digest of a file, from `known` where its size and mtime are the same; notes it in `digests`.

    Raises:
        DecodeError: it has a name that no table can hold, or is not a file that can be read.
    """
    if _spelled(str(path)) != str(path):
        raise DecodeError("has a name that is not UTF-8; rename it")
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise DecodeError("is a link to a folder, which is not followed; link its files instead")
        if not stat.S_ISREG(found.st_mode):
            raise DecodeError("is neither a file nor a folder")
        key, state = os.path.realpath(path), [found.st_size, found.st_mtime_ns]
        entry = known.get(key)
        if entry is None or entry[:2] != state:
            entry = [*state, sha256_file(path)]
    except OSError as error:
        raise DecodeError(f"cannot be read ({error.strerror})") from None
    digests[key] = entry
    return str(entry[2])


def _facts(path: Path, video_id: str, params: IndexParams, time_zone: str) -> dict[str, Any]:
    """What a file says of itself, as columns of the table.

    Raises:
        DecodeError: it is no video that can be read.
    """
    with VideoReader(path) as reader:
        facts = reader.facts()
    row: dict[str, Any] = {name: getattr(facts, name) for name in _COPIED}
    row |= {"time_base_num": facts.time_base.num, "time_base_den": facts.time_base.den}
    row |= {"trains": matches(video_id, params.train), "scored": matches(video_id, params.test)}
    named = recorded_at(path.name, params.recorded_at_pattern, time_zone)
    if named is not None:
        row |= {"recorded_at": named, "recorded_at_source": "name"}
    elif facts.created_at is not None:
        row |= {"recorded_at": facts.created_at, "recorded_at_source": "container"}
    return row


def matches(video_id: str, patterns: Sequence[str]) -> bool:
    """Whether the last pattern that matches takes the path in; `!` in front of a pattern takes back."""
    taken = False
    for pattern in patterns:
        if fnmatch.fnmatchcase(video_id, pattern.removeprefix("!")):
            taken = not pattern.startswith("!")
    return taken


def recorded_at(name: str, pattern: str | None, time_zone: str) -> datetime | None:
    """The time that a file name says, in UTC; None where it says none, or no time that exists.

    An hour that a change of clocks skips does not exist; of an hour that it repeats, the first is meant.
    """
    match = re.search(pattern, name) if pattern else None
    if match is None:
        return None
    try:
        parts = {group: int(text or 0) for group, text in match.groupdict().items()}
        local = datetime(**parts, tzinfo=ZoneInfo(time_zone))
        moment = local.astimezone(UTC)
        back = moment.astimezone(local.tzinfo)
    except (ValueError, OverflowError):
        return None
    return moment if back.replace(tzinfo=None) == local.replace(tzinfo=None) else None


def _read_hashes(path: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only a memory: without it every file is hashed once more
    return known if isinstance(known, dict) else {}
