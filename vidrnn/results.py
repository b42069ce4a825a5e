"""The public API: any table or measure, of the workspace or of any Git revision, as a DataFrame or a dict.

    from vidrnn import results
    events = results.load("events", camera="gate", start="2026-03-01")
    before = results.load("events", rev="HEAD~1", columns=["onset_seconds", "peak_score"])
    results.metrics()["evaluate"]

Only what is asked for is read: cameras and videos choose files, columns and times are pushed down to Parquet.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs as pafs
from ruamel.yaml import YAML

from vidrnn.errors import SchemaError, UserError
from vidrnn.schema import SCHEMAS, validate
from vidrnn.storage import check_version, video_path

# A file, or a folder with a file a video.
TABLES = {
    "videos": "data/tables/videos.parquet",
    "frames": "data/tables/frames",
    "events": "data/tables/events",
    "detections": "data/tables/detections",
    "tracks": "data/tables/tracks",
    "segments": "data/tables/segments",
    "promotions": "data/promotions.parquet",
    "metrics": "data/metrics.parquet",
}
METRICS = "data/metrics"  # a JSON file a stage

_ORDER = ("camera_id", "video_id", "frame_index", "onset_pts", "track_id")


def load(
    name: str,
    rev: str | None = None,
    camera: str | None = None,
    video: str | None = None,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
    repo: str | Path = ".",
) -> pd.DataFrame:
    """Load rows of a table, ordered by camera, video and time; every column keeps its Arrow type.

    Args:
        name: `videos`, `frames`, `events`, `detections`, `tracks`, `segments`, `promotions` or `metrics`.
        rev: a Git revision, read from the DVC cache or a remote; None reads the workspace.
        camera: only rows of this `camera_id`.
        video: only rows of this `video_id`, the path relative to the footage folder.
        start: only rows with `recorded_at` at or after this time; without a zone it is UTC.
        end: only rows with `recorded_at` before this time. Rows without a time never match `start` or `end`.
        columns: of the table, in the order wanted; None takes all.
        repo: any folder inside the checkout.

    Raises:
        UserError: there is no such table, column, camera, video or revision, or its data is not here.
        SchemaError: a file breaks its contract or was written with another schema version.
    """
    if name not in SCHEMAS or name not in TABLES:
        raise UserError(f"no table is called {name!r}; there are {', '.join(TABLES)}")
    schema = SCHEMAS[name]
    wanted = schema.names if columns is None else list(columns)
    if unknown := [column for column in wanted if column not in schema.names]:
        raise UserError(f"{name} has no column {unknown[0]!r}; it has {', '.join(schema.names)}")
    for argument, column, value in (
        ("camera", "camera_id", camera),
        ("video", "video_id", video),
        ("start", "recorded_at", start),
        ("end", "recorded_at", end),
    ):
        if value is not None and column not in schema.names:
            raise UserError(f"{name} has no column {column!r}, so that `{argument}` cannot choose among its rows")

    root = find_root(repo)
    order = [column for column in _ORDER if column in schema.names]
    condition = _condition(camera, video, _instant("start", start), _instant("end", end))
    read = list(dict.fromkeys([*order, *wanted]))
    table = _read(root, rev, name, read, condition, camera, video)
    if not table.num_rows and (camera is not None or video is not None):
        _check_known(root, rev, name, camera, video)
    table = table.sort_by([(column, "ascending") for column in order])
    frame: pd.DataFrame = table.select(wanted).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def metrics(rev: str | None = None, repo: str | Path = ".") -> dict[str, Any]:
    """Load what the stages measured, as in `data/metrics/*.json`: `{"evaluate": {...}, "train": {...}}`.

    Args:
        rev: a Git revision; None reads the workspace.
        repo: any folder inside the checkout.

    Raises:
        UserError: there is no such revision, or nothing has been measured yet.
        SchemaError: a file is not JSON.
    """
    measured = {}
    with _source(find_root(repo), rev, METRICS) as source:
        for info in source.get_file_info(pafs.FileSelector(METRICS)):
            if info.is_file and info.path.endswith(".json"):
                with source.open_input_stream(info.path) as file:
                    text = file.read()
                try:
                    measured[PurePosixPath(info.path).stem] = json.loads(text)
                except ValueError as error:
                    raise SchemaError(f"{info.path}{_of(rev)}: not JSON ({error}); run `dvc repro`") from None
    return dict(sorted(measured.items()))


def find_root(folder: str | Path) -> Path:
    """The checkout that `folder` lies in.

    Raises:
        UserError: neither it nor any folder above holds `.dvc`.
    """
    path = Path(folder).resolve()
    for candidate in (path, *path.parents):
        if (candidate / ".dvc").is_dir():
            return candidate
    raise UserError(f"{path}: not inside a vidrnn checkout (no .dvc here or above); change to its folder")


def _of(rev: str | None) -> str:
    return "" if rev is None else f" of revision {rev!r}"


def _instant(argument: str, value: str | datetime | None) -> pa.Scalar | None:
    """A UTC time in microseconds."""
    if value is None:
        return None
    try:
        time = pd.Timestamp(value)
        time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
        return pa.scalar(time.floor("us").to_pydatetime(), pa.timestamp("us", tz="UTC"))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise UserError(f"`{argument}` should be a time such as 2026-03-01T06:00, found {value!r}") from None


def _condition(
    camera: str | None, video: str | None, start: pa.Scalar | None, end: pa.Scalar | None
) -> pc.Expression | None:
    """The rows wanted; None is all of them."""
    parts = []
    if camera is not None:
        parts.append(pc.field("camera_id") == camera)
    if video is not None:
        parts.append(pc.field("video_id") == video)
    if start is not None:
        parts.append(pc.field("recorded_at") >= start)
    if end is not None:
        parts.append(pc.field("recorded_at") < end)
    if not parts:
        return None
    condition = parts[0]
    for part in parts[1:]:
        condition = condition & part
    return condition


def _read(
    root: Path,
    rev: str | None,
    name: str,
    columns: Sequence[str],
    condition: pc.Expression | None,
    camera: str | None,
    video: str | None,
) -> pa.Table:
    """The columns of the rows that meet the condition, file by file; each file is checked against its contract."""
    path, schema = TABLES[name], SCHEMAS[name]
    with _source(root, rev, path) as source:
        files = [path] if path.endswith(".parquet") else _files(source, path, camera, video)
        dataset = ds.dataset(files, schema=schema, format="parquet", filesystem=source, partitioning=None)
        for fragment in dataset.get_fragments():
            footer = fragment.metadata.metadata or {}
            texts = {key.decode(): value.decode("utf-8", "replace") for key, value in footer.items()}
            check_version(texts, Path(f"{fragment.path}{_of(rev)}"))
            validate(fragment.physical_schema.empty_table(), schema, f"{fragment.path}{_of(rev)}")
        table = dataset.to_table(columns=list(columns), filter=condition)
    return validate(table, pa.schema([schema.field(column) for column in columns]), f"{path}{_of(rev)}")


def _files(source: pafs.FileSystem, folder: str, camera: str | None, video: str | None) -> list[str]:
    """The per-video files below a folder, of one camera or video where that is asked for."""
    aim = video_path(Path(folder), camera or "", video or "")
    found = (PurePosixPath(info.path) for info in source.get_file_info(pafs.FileSelector(folder, recursive=True)))
    return sorted(
        str(path)
        for path in found
        if path.suffix == ".parquet"
        and (camera is None or path.parent.name == aim.parent.name)
        and (video is None or path.name == aim.name)
    )


def _check_known(root: Path, rev: str | None, name: str, camera: str | None, video: str | None) -> None:
    """Tell an empty answer from a question about what does not exist; `videos` lists every camera and video.

    Raises:
        UserError: no such camera, or no such video of it.
    """
    name = "videos" if "video_id" in SCHEMAS[name].names else name
    keys = [column for column in _ORDER[:2] if column in SCHEMAS[name].names]
    known = _read(root, rev, name, keys, None, None, None)
    if camera is not None:
        cameras = sorted(set(known["camera_id"].to_pylist()))
        if camera not in cameras:
            listed = ", ".join(map(repr, cameras))
            raise UserError(f"no camera is called {camera!r} in {name}{_of(rev)}; there are {listed}")
        known = known.filter(pc.field("camera_id") == camera)
    if video is not None and video not in known["video_id"].to_pylist():
        whose = "" if camera is None else f" of camera {camera!r}"
        raise UserError(f"no video{whose} is called {video!r} in {name}{_of(rev)}; load `videos` to see them")


@contextmanager
def _source(root: Path, rev: str | None, path: str) -> Iterator[pafs.FileSystem]:
    """Yield the files of the checkout at a revision, with paths relative to `root`, where `path` is known to be.

    Raises:
        UserError: no such revision, nothing at `path`, or its data is neither in the cache nor on a remote.
        SchemaError: a file that is read inside the block is damaged.
    """
    try:
        if rev is None:
            source = pafs.SubTreeFileSystem(str(root), pafs.LocalFileSystem())
            if source.get_file_info(path).type == pafs.FileType.NotFound:
                raise UserError(
                    f"{path}: not made yet in {root}; run `dvc repro`, or `dvc pull` to fetch what was made elsewhere"
                )
            yield source
        else:
            with _revision(root, rev, path) as source:
                yield source
    except (pa.ArrowInvalid, OSError) as error:
        told = " ".join(str(error).split())
        advice = "delete it and run `dvc repro`" if rev is None else "`dvc fetch` it anew"
        raise SchemaError(f"{path}{_of(rev)}: not readable ({told}); {advice}") from None


def _was_made(source: pafs.FileSystem, path: PurePosixPath) -> bool:
    """Whether `dvc.lock` lists what lies at `path`, above or below; DVC shows the outputs of `dvc.yaml` made or not."""
    if source.get_file_info("dvc.lock").type == pafs.FileType.NotFound:
        return False
    with source.open_input_stream("dvc.lock") as file:
        lock = YAML(typ="safe").load(file.read().decode())
    made = [PurePosixPath(out["path"]) for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return any(path.is_relative_to(out) or out.is_relative_to(path) for out in made)


@contextmanager
def _revision(root: Path, rev: str, path: str) -> Iterator[pafs.FileSystem]:
    """`_source` of a Git revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import SCMError
    from dvc_data.index import DataIndexError

    source = pafs.PyFileSystem(pafs.FSSpecHandler(DVCFileSystem(str(root), rev=rev)))
    try:
        if not _was_made(source, PurePosixPath(path)):
            raise UserError(f"revision {rev!r} holds no {path}: nothing had been made, or `dvc.lock` was not committed")
        yield source
    except (SCMError, NotDvcRepoError) as error:
        raise UserError(
            f"revision {rev!r} cannot be read from {root}: {error}; `git log --oneline` lists them"
        ) from None
    except (FileNotFoundError, DataIndexError, DvcException) as error:
        raise UserError(
            f"{path} of revision {rev!r} is neither in the DVC cache here nor on a remote within reach ({error}); run "
            "`dvc fetch --all-commits`, after `dvc push` where it was made"
        ) from None
