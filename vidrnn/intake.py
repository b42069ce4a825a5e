"""Footage in, by hand or from watched folders, and out again when it has served: `data/retired.csv` names what went.

A file comes in whole or not at all: under a hidden name first, which the index passes over, then by one rename. What is
retired keeps its row of the index and its features, so that nothing is learned anew and no table loses a line.
"""

import filecmp
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from ruamel.yaml import YAML

from vidrnn.decode import open_video, pictures_in
from vidrnn.errors import DecodeError, SchemaError, UserError
from vidrnn.fan_out import OUT_OF_MEMORY, Failure, fan_out, limit_memory
from vidrnn.params import NightlyParams
from vidrnn.retired import RETIRED, read_retired, write_retired
from vidrnn.schema import SCHEMAS
from vidrnn.sequences import codec_of
from vidrnn.storage import read_table, replacing, video_path
from vidrnn.timebase import TimeBase

SETTLED_SECONDS = 60.0  # since a file was last written to; one that a camera still writes is younger
GIVEN_UP_SECONDS = 24 * 3600.0  # after which a file that does not open is not one that is still being written
_LOOK_SECONDS = 1.0  # between two looks at its size
_OPEN_SECONDS = 30.0  # to open a file and decode a picture of it
_TICK_SECONDS = 2.0  # by which a copy may be older: FAT keeps no finer times
_PER_PROCESS = 16  # files that take about as long to open as a process to start
_GIGABYTE = 1e9


def footage_folder(root: Path, videos: str) -> Path:
    """Where footage comes in.

    Raises:
        UserError: a stage makes the folder, as it does that of the demo.
    """
    stages = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    if any(videos in stage.get("outs", []) for stage in stages.values()):
        raise UserError(
            f"params.yaml: `data.videos` is {videos}, which `dvc repro` makes and empties; expected a folder of your "
            "own: set `data.videos: data/videos` and `data.labels: data/labels`, then add footage again"
        )
    return root / videos


def add(paths: Sequence[Path], footage: Path, camera: str | None, link: bool) -> tuple[int, int]:
    """Copy files and folders below the footage folder.

    Args:
        paths: a folder comes in with what is below it, as the camera of its name; a file as the camera `default`.
        footage: the folder.
        camera: instead of these.
        link: instead of copying: the same file under two names where the file system can, else a symbolic link.

    Returns:
        How many files came in, and how many were there already.

    Raises:
        UserError: a path is missing or holds nothing, or another file has or takes the place of one; nothing has come
            in then.
    """
    if camera is not None and (not camera or "/" in camera or camera.startswith(".")):
        raise UserError(f"--camera {camera!r}: expected the name of a folder, without a slash or a dot in front")
    wanted: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            home = footage / (camera or path.resolve().name)
            inside = [(home / file.relative_to(path), file) for file in _files(path)]
            if not inside:
                raise UserError(f"{path}: holds no file; expected footage")
        elif path.is_file():
            inside = [((footage / camera if camera else footage) / path.name, path)]
        else:
            raise UserError(f"{path}: not there; expected a file or a folder of footage")
        for target, source in inside:
            if not _holds_the_same(wanted.setdefault(target, source), source):
                raise UserError(f"{source}: {wanted[target]} would become {target} as well; rename one of them")
    new = {target: source for target, source in wanted.items() if not _is_there(target, source)}
    for target, source in new.items():
        with replacing(target) as partial:
            if not link:
                shutil.copy2(source, partial)
            elif not _linked(source, partial):
                partial.symlink_to(source.resolve())
    return len(new), len(wanted) - len(new)


def _files(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not hidden, in the order of names."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _is_there(target: Path, source: Path) -> bool:
    """Whether the file has come in before.

    Raises:
        UserError: another one has its name.
    """
    if not target.exists():
        return False
    if _holds_the_same(target, source):
        return True
    raise UserError(f"{source}: another file is called {target} already; rename one of them")


def _holds_the_same(one: Path, other: Path) -> bool:
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name; False on another file system or mount, and for a file that others may not link."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Watched:
    """What has become of the files in watched folders; `waiting` says why a file is left for next time."""

    taken: int
    waiting: dict[Path, str]


def take_watched(
    folders: Sequence[str], footage: Path, retired: Sequence[Path], now: Callable[[], float] = time.time
) -> Watched:
    """Take in what is new and complete below watched folders, `<folder>/<camera>/**/<file>`.

    Files stay where they are; the same file gets a second name where the file system can, else it is copied. Of several
    files that would have one name below `footage`, the first alone comes in.

    Args:
        folders: that cameras or people write to.
        footage: where footage comes in.
        retired: the lists of what has been removed, which does not come in again.
        now: the clock, in seconds as mtimes are.

    Raises:
        UserError: a folder is missing.
        VidrnnError: there is no space left.
    """
    gone = {video_id for path in retired for video_id in read_retired(path)["video_id"].to_pylist()}
    new: dict[Path, Path] = {}
    waiting: dict[Path, str] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(
                f"params.yaml: `nightly.watch` names {folder}, which is not there; make or mount the folder"
            )
        for source in _files(folder):
            target = footage / source.relative_to(folder)
            if target.relative_to(footage).as_posix() in gone:
                continue
            try:
                if not (there := new.get(target, target)).exists():
                    new[target] = source
                elif not _looks_the_same(there, source):
                    waiting[source] = f"{there} has this name and another size or time; rename or remove one of the two"
            except OSError as error:
                waiting[source] = f"cannot be looked at: {error}"
    states = {source: _state(source) for source in new.values()}
    if states:
        time.sleep(_LOOK_SECONDS)
    waiting |= _unfinished(states, now())
    taken = 0
    for target, source in new.items():
        if source in waiting:
            continue
        try:
            with replacing(target) as partial:
                if not _linked(source, partial):  # a symbolic link would dangle once the recorder deletes its file
                    shutil.copy2(source, partial)
                if _state(source) != states[source]:
                    raise OSError("it changes")
            taken += 1
        except OSError as error:  # of this file alone: that there is no space left is another error by now
            waiting[source] = f"cannot be taken in: {error}"
    return Watched(taken, waiting)


def _looks_the_same(one: Path, other: Path) -> bool:
    """Whether two names are of one file or, by size and time, of a file and its copy."""
    first, second = one.stat(), other.stat()
    if os.path.samestat(first, second):
        return True
    return first.st_size == second.st_size and abs(first.st_mtime - second.st_mtime) <= _TICK_SECONDS


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _unfinished(before: Mapping[Path, tuple[int, int] | None], now: float) -> dict[Path, str]:
    """Which files are taken for ones that are still being written, and why."""
    waiting: dict[Path, str] = {}
    young = []
    for path, state in before.items():
        if state is None or _state(path) != state:
            waiting[path] = "changes"
            continue
        age = now - state[1] / 1e9
        if age < SETTLED_SECONDS:
            waiting[path] = f"was written to {max(age, 0):.0f} seconds ago"
        elif age < GIVEN_UP_SECONDS and not codec_of(path):
            young.append(path)
    albums = {folder for folder in {path.parent for path in young} if _holds_pictures(folder)}
    opened = [path for path in young if path.parent not in albums]
    problems = fan_out("intake", _problem, opened, str, _OPEN_SECONDS, _PER_PROCESS)
    for path, problem in zip(opened, problems, strict=True):
        if problem:
            reason = problem.reason if isinstance(problem, Failure) else problem
            waiting[path] = f"cannot be opened yet: {reason}"
    return waiting


def _holds_pictures(folder: Path) -> bool:
    try:
        return bool(pictures_in(folder))
    except OSError:  # it has gone: so have its files, which tell
        return False


def _problem(path: Path) -> str:
    """Why a file does not open; empty where it does. Work for another process."""
    limit_memory()
    try:
        with open_video(path, TimeBase(1, 1)) as reader:
            reader.facts()
    except DecodeError as error:
        return str(error)
    except MemoryError:
        return OUT_OF_MEMORY
    return ""


def retire(root: Path, footage: Path, limits: NightlyParams, now: datetime) -> list[str]:
    """Remove the footage that is too old, and the oldest of what is too much, if its features have been made.

    A row goes to the list before its file goes, so that no accident loses one. Footage without `recorded_at` is as old
    as its file.

    Args:
        root: the checkout, with the index and the features of an earlier run.
        footage: its footage.
        limits: days and gigabytes that are kept, None without a limit.
        now: the time.

    Returns:
        The `video_id` of each file that was removed.
    """
    listed = read_retired(root / RETIRED)
    try:
        index = read_table(root / "data/index.parquet", SCHEMAS["index"])
        decoded = read_table(
            root / "data/features/decoded.parquet", SCHEMAS["decoded"], ["video_id", "sha256", "status"]
        )
    except SchemaError:
        return []  # nothing has been made of it yet
    made = {row["video_id"]: row["sha256"] for row in decoded.to_pylist() if row["status"] != "unreadable"}
    known = set(listed["video_id"].to_pylist())
    rows = []
    for row in index.to_pylist():
        path = footage / row["video_id"]
        features = video_path(root / "data/features/cells", row["camera_id"], row["video_id"])
        if path.is_file() and features.is_file() and made.get(row["video_id"]) == row["sha256"]:
            found = path.stat()
            rows.append(
                (row["recorded_at"] or datetime.fromtimestamp(found.st_mtime, UTC), row["video_id"], found.st_size)
            )
    rows.sort()
    going = []
    kept = sum(size for _, _, size in rows)
    for began, video_id, size in rows:
        old = limits.keep_days is not None and now - began > timedelta(days=limits.keep_days)
        much = limits.keep_gigabytes is not None and kept > limits.keep_gigabytes * _GIGABYTE
        if old or much:
            going.append(video_id)
            kept -= size
    if going:
        leaving = index.filter(pc.is_in(index["video_id"], pa.array(sorted(set(going) - known), pa.string())))
        write_retired(root / RETIRED, pa.concat_tables([listed, leaving]))
    for video_id in going:
        (footage / video_id).unlink()
    return going
