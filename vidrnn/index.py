"""The footage folder to the table `index`: what every file is, before a single stage decodes it."""

import fnmatch
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pyarrow as pa

from vidrnn.decode import PictureReader, open_video, pictures_in
from vidrnn.errors import DecodeError, FootageError
from vidrnn.fan_out import OUT_OF_MEMORY, Failure, fan_out, limit_memory
from vidrnn.params import IndexParams
from vidrnn.schema import SCHEMAS
from vidrnn.sequences import codec_of, open_sequence
from vidrnn.sources import stage_digest
from vidrnn.storage import digest, sha256_file, write_json
from vidrnn.timebase import TimeBase

DEFAULT_CAMERA = "default"
ALL_CAMERAS = "*"  # how the table `metrics` calls all of them; so no camera may have the name
_MAX_CAMERA = 240  # bytes of its name once it is percent-encoded; a folder's may have 255
_LIMIT_SECONDS = 30.0  # to open a file and decode a picture of it
_PER_PROCESS = 16  # files that take about as long as the start of a process
_IN_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$|/\.dvc/cache/[0-9a-f]{2}/[0-9a-f]{30}$")
# What is called as in VideoFacts; all but the remark are columns.
_COPIED = ("codec", "width", "height", "rotation", "duration_seconds", "remark")


def index_videos(
    videos: Path, params: IndexParams, time_zone: str, memory: Path, retired: pa.Table | None = None
) -> pa.Table:
    """A row a file below `videos`, in the order of their names; a folder of pictures alone counts as one file.

    Args:
        videos: `<camera>/**/<file>`; hidden files and folders are passed over.
        params: which files train and are scored, and where names say the time.
        time_zone: of those times.
        memory: a JSON file with the sha256 and the facts of files; those whose size and mtime have not changed are not
            read again.
        retired: rows of footage that was removed on purpose; they stay, as long as no file has their name.

    Raises:
        FootageError: the folder is missing or holds no file that could be a video.
    """
    if not videos.is_dir():
        raise FootageError(
            f"{videos}: no such folder; expected footage as <camera>/<file>: set data.videos in params.yaml"
        )
    paths = sorted(_files(videos), key=lambda path: _spelled(path.as_posix()))
    removed = {row["video_id"]: row for row in retired.to_pylist()} if retired else {}
    if not paths and not removed:
        raise FootageError(
            f"{videos}: holds no files; expected footage as <camera>/<file>: put some there, or set data.videos"
        )
    decoder = stage_digest("index", None, ["av", "numpy", "opencv-python-headless"])  # what the facts were read with
    known = _read_memory(memory, decoder)
    entries: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths, 1):
        video_id = path.relative_to(videos).as_posix()
        camera_id = video_id.split("/")[0] if "/" in video_id else DEFAULT_CAMERA
        if camera_id == ALL_CAMERAS:
            raise FootageError(f"{path}: a camera cannot be called {ALL_CAMERAS}; rename the folder")
        row: dict[str, Any] = dict.fromkeys(SCHEMAS["index"].names)
        row |= {"camera_id": _spelled(camera_id), "video_id": _spelled(video_id), "recorded_at_source": "none"}
        row |= {"trains": False, "scored": False, "status": "ok", "message": _strays(path, videos)}
        try:
            if len(quote(camera_id, errors="surrogateescape")) > _MAX_CAMERA:
                raise DecodeError("belongs to a camera whose name is too long for a folder; rename its folder")
            entries[video_id] = _entry(path, known.get(video_id, {}))
            row["sha256"] = entries[video_id]["sha256"]
        except DecodeError as error:
            row |= {"status": "unreadable", "message": str(error)}
        rows.append(row)
        if number % 100 == 0 or number == len(paths):
            print(f"index: file {number} of {len(paths)}", flush=True)
    new = [videos / video_id for video_id, entry in entries.items() if "facts" not in entry]
    read = fan_out("index", _facts, new, lambda path: path.relative_to(videos).as_posix(), _LIMIT_SECONDS, _PER_PROCESS)
    problems = {}
    for path, facts in zip(new, read, strict=True):
        video_id = path.relative_to(videos).as_posix()
        if isinstance(facts, dict):
            entries[video_id]["facts"] = facts
        else:  # not remembered: what has failed is tried again
            problems[video_id] = facts.reason if isinstance(facts, Failure) else facts
    write_json(memory, {"decoder": decoder, "files": entries})
    for row in rows:
        if row["video_id"] in problems:
            row |= {"status": "unreadable", "message": problems[row["video_id"]]}
        elif row["status"] == "ok":
            facts = entries[row["video_id"]]["facts"]
            row |= _columns(facts, row["video_id"], params, time_zone)
            row["message"] = "; ".join(filter(None, [row["message"], facts["remark"]]))
    removed = {name: row for name, row in removed.items() if name not in {row["video_id"] for row in rows}}
    for video_id, row in removed.items():
        uses = {"trains": matches(video_id, params.train), "scored": matches(video_id, params.test)}
        rows.append({**row, **uses})
    rows.sort(key=lambda row: str(row["video_id"]))
    if all(row["status"] == "unreadable" for row in rows):
        raise FootageError(
            f"{videos}: none of its {len(rows)} files is a video that can be read; the first, "
            f"{rows[0]['video_id']}, {rows[0]['message']}; expected footage that FFmpeg opens: "
            "set data.videos in params.yaml"
        )
    return pa.Table.from_pylist(rows, schema=SCHEMAS["index"])


def index_video(path: Path, camera_id: str, params: IndexParams, time_zone: str) -> dict[str, Any]:
    """The row of a file alone, as `camera_id`/its name, read in this process.

    Raises:
        FootageError: it is no video that can be read.
    """
    video_id = f"{camera_id}/{path.name}"
    try:
        sha256, facts = _entry(path, {})["sha256"], _facts_of(path)
    except DecodeError as error:
        raise FootageError(f"{path}: {error}") from None
    if isinstance(facts, str):
        raise FootageError(f"{path}: {facts}; expected a video that FFmpeg opens, or a folder of numbered pictures")
    row: dict[str, Any] = dict.fromkeys(SCHEMAS["index"].names)
    row |= {"camera_id": camera_id, "video_id": video_id, "sha256": sha256, "recorded_at_source": "none"}
    row |= {"status": "ok", "message": facts["remark"]} | _columns(facts, video_id, params, time_zone)
    return row | {"trains": False, "scored": True}


def _files(folder: Path) -> list[Path]:
    """Everything below a folder that is not hidden and not a folder, but folders of pictures instead of these.

    Links to folders are not followed.
    """
    found = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(directory, name).is_symlink()]
        if Path(directory) != folder and pictures_in(Path(directory)):
            found.append(Path(directory))
            names = []
        found += [Path(directory, name) for name in names + links if not name.startswith(".")]
    return found


def _spelled(name: str) -> str:
    """The name, where bytes that are not UTF-8 are written as \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode()


def _strays(path: Path, videos: Path) -> str:
    """A sentence where a file is a link out of the folder. One into a DVC cache is how DVC keeps the folder itself."""
    is_folder, inside = path.is_dir() and not path.is_symlink(), os.path.realpath(videos)
    for target in map(os.path.realpath, pictures_in(path) if is_folder else [path]):
        if not Path(target).is_relative_to(inside) and not _IN_DVC_CACHE.search(target):
            return f"{'holds' if is_folder else 'is'} a link to a file outside the footage folder"
    return ""


def _entry(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """What to remember of a file: `known` where it has not changed, else its state and sha256.

    Raises:
        DecodeError: it has a name that no table can hold, or is not a file that can be read.
    """
    if _spelled(str(path)) != str(path):
        raise DecodeError("has a name that is not UTF-8; rename it")
    is_folder = path.is_dir()
    if is_folder and path.is_symlink():
        raise DecodeError("is a link to a folder, which is not followed; link its files instead")
    parts = pictures_in(path) if is_folder else [path]
    states = _of_each(_state, parts, is_folder)
    state = digest([[part.name, *of_it] for part, of_it in zip(parts, states, strict=True)]) if is_folder else states[0]
    if known.get("state") == state:
        return known
    hashes = _of_each(sha256_file, parts, is_folder)
    named = [[part.name, sha256] for part, sha256 in zip(parts, hashes, strict=True)]
    return {"state": state, "sha256": digest(named) if is_folder else hashes[0]}


def _of_each(work: Callable[[Path], Any], parts: list[Path], in_folder: bool) -> list[Any]:
    """What `work` says of each file.

    Raises:
        DecodeError: one cannot be read; in a folder, the message says which.
    """
    said = []
    for part in parts:
        try:
            said.append(work(part))
        except (OSError, DecodeError) as error:
            reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
            raise DecodeError(f"holds {part.name}, which {reason}" if in_folder else reason) from None
    return said


def _state(path: Path) -> list[Any]:
    """What changes with a file."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DecodeError("is neither a file nor a folder")
    return [os.path.realpath(path), found.st_size, found.st_mtime_ns]


def _facts(path: Path) -> dict[str, Any] | str:
    """`_facts_of`; work for another process."""
    limit_memory()
    return _facts_of(path)


def _facts_of(path: Path) -> dict[str, Any] | str:
    """What a file says of itself, as JSON; a text says why it is no video."""
    try:
        if codec := codec_of(path):
            num_frames = open_sequence(path).num_frames
            return {"codec": codec, "num_frames": num_frames, "created_at": None, "remark": ""}
        with open_video(path, TimeBase(1, 1)) as reader:
            facts = reader.facts()
    except (DecodeError, MemoryError) as error:
        return str(error) if isinstance(error, DecodeError) else OUT_OF_MEMORY
    columns: dict[str, Any] = {name: getattr(facts, name) for name in _COPIED}
    columns |= {"time_base_num": facts.time_base.num, "time_base_den": facts.time_base.den}
    columns |= {"created_at": facts.created_at and facts.created_at.isoformat()}
    return columns | {"num_frames": reader.num_frames} if isinstance(reader, PictureReader) else columns


def _columns(facts: dict[str, Any], video_id: str, params: IndexParams, time_zone: str) -> dict[str, Any]:
    """What a file and its name say, as columns of the table."""
    row = {name: value for name, value in facts.items() if name not in ("created_at", "num_frames", "remark")}
    if "num_frames" in facts:  # without times of their own
        step, count = params.frames_step, facts["num_frames"]
        row |= {"time_base_num": step.numerator, "time_base_den": step.denominator}
        row["duration_seconds"] = None if count is None else float(count * step)
    row |= {"trains": matches(video_id, params.train), "scored": matches(video_id, params.test)}
    named = recorded_at(PurePosixPath(video_id).name, params.recorded_at_pattern, time_zone)
    if named is not None:
        row |= {"recorded_at": named, "recorded_at_source": "name"}
    elif facts["created_at"] is not None:
        row |= {"recorded_at": datetime.fromisoformat(facts["created_at"]), "recorded_at_source": "container"}
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


def _read_memory(path: Path, decoder: str) -> dict[str, dict[str, Any]]:
    """The entries of earlier runs; without their facts where another decoder read them."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["decoder"] == decoder:
            return dict(found["files"])
        return {video_id: {"state": e["state"], "sha256": e["sha256"]} for video_id, e in found["files"].items()}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # only a memory: without it every file is read once more
