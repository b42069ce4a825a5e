"""Rows of the tables of a checkout, at any revision: which files hold them, the filters, and what is not there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs as pafs

from vidrnn.errors import UserError, nearest
from vidrnn.revisions import Repository
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
    "embeddings": "data/tables/embeddings",
    "health": "data/health.parquet",
    "promotions": "data/promotions.parquet",
    "metrics": "data/metrics.parquet",
}

# By which rows are ordered, as far as a table has these.
ORDER = ("camera_id", "video_id", "frame_index", "onset_pts", "track_id")


def schema_of(name: str) -> pa.Schema:
    """The contract of a table.

    Raises:
        UserError: there is no such table.
    """
    if name not in TABLES:
        raise UserError(f"no table is called {name!r}; {nearest(name, TABLES)}")
    return SCHEMAS[name]


def open_dataset(
    here: Repository, rev: str | None, name: str, camera: str | None, video: str | None
) -> ds.FileSystemDataset:
    """The files of a table, of one camera or video where that is asked for; each is checked against its contract.

    Raises:
        UserError: nothing has been made, or the data of the revision is not here.
        SchemaError: a file breaks its contract or was written with another schema version.
    """
    path, schema = TABLES[name], SCHEMAS[name]
    source = here.files(rev, path)
    files = [path] if path.endswith(".parquet") else _files(source, path, camera, video)
    dataset = ds.dataset(files, schema=schema, format="parquet", filesystem=source, partitioning=None)
    for fragment in dataset.get_fragments():
        said = (fragment.metadata.metadata or {}).get(b"vidrnn_schema", b"None").decode("utf-8", "replace")
        check_version({"vidrnn_schema": said}, Path(f"{fragment.path}{here.of(rev)}"))
        if not fragment.physical_schema.equals(schema):  # else there is nothing to say, and there are thousands
            validate(fragment.physical_schema.empty_table(), schema, f"{fragment.path}{here.of(rev)}")
    return dataset


def read_rows(
    here: Repository,
    rev: str | None,
    name: str,
    columns: Sequence[str],
    condition: pc.Expression | None = None,
    camera: str | None = None,
    video: str | None = None,
) -> pa.Table:
    """The columns of the rows that meet the condition, of the files of a camera or video where that is asked for."""
    with here.telling(rev, TABLES[name]):
        table = open_dataset(here, rev, name, camera, video).to_table(columns=list(columns), filter=condition)
    wanted = pa.schema([SCHEMAS[name].field(column) for column in columns])
    return validate(table, wanted, f"{TABLES[name]}{here.of(rev)}")


def read_in_order(
    dataset: ds.FileSystemDataset, columns: list[str], order: list[str], condition: pc.Expression | None
) -> pa.Table:
    """The columns of the rows that meet the condition, in order.

    Sorting millions of rows takes longer than reading them. Where a file is a video and its rows are frames, they are
    written in order, and it is enough to put the files in that of their footers.
    """
    fragments = [fragment for fragment in dataset.get_fragments() if fragment.metadata.num_rows]
    by_key = {_key_of(fragment): fragment for fragment in fragments} if "frame_index" in order else {}
    if None not in by_key and len(by_key) == len(fragments):
        files = [by_key[key] for key in sorted(filter(None, by_key))]
        ordered = ds.FileSystemDataset(files, dataset.schema, dataset.format, dataset.filesystem)
        return ordered.to_table(columns=columns, filter=condition)
    read = list(dict.fromkeys([*order, *columns]))
    table = dataset.to_table(columns=read, filter=condition)
    return table.sort_by([(column, "ascending") for column in order]).select(columns)


def condition_of(
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


def instant(argument: str, value: str | datetime | None) -> pa.Scalar | None:
    """A UTC time in microseconds; what has no zone is UTC.

    Raises:
        UserError: it is no time.
    """
    if value is None:
        return None
    try:
        time = pd.Timestamp(value)
        time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
        return pa.scalar(time.floor("us").to_pydatetime(), pa.timestamp("us", tz="UTC"))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise UserError(f"`{argument}` should be a time such as 2026-03-01T06:00, found {value!r}") from None


def check_known(
    here: Repository,
    rev: str | None,
    name: str,
    camera: str | None,
    video: str | None,
    since: pa.Scalar | None,
    until: pa.Scalar | None,
) -> None:
    """Tell an empty answer from a question about what does not exist; `videos` lists every camera and video.

    Raises:
        UserError: no such camera, no such video of it, or nothing was recorded at that time.
    """
    name = "videos" if "video_id" in SCHEMAS[name].names else name
    names = ("camera_id", "video_id", "recorded_at", "duration_seconds")
    known = read_rows(here, rev, name, [column for column in names if column in SCHEMAS[name].names])
    if camera is not None:
        cameras = sorted(set(known["camera_id"].to_pylist()))
        if camera not in cameras:
            raise UserError(f"no camera is called {camera!r} in {name}{here.of(rev)}; {nearest(camera, cameras)}")
        known = known.filter(pc.field("camera_id") == camera)
    whose = "" if camera is None else f" of camera {camera!r}"
    if video is not None:
        videos = sorted(known["video_id"].to_pylist())
        if video not in videos:
            raise UserError(f"no video{whose} is called {video!r} in {name}{here.of(rev)}; {nearest(video, videos)}")
        known = known.filter(pc.field("video_id") == video)
        whose = f" of {video!r}"
    if since is not None or until is not None:
        _check_recorded(known, whose + here.of(rev), since and since.as_py(), until and until.as_py())


def _check_recorded(videos: pa.Table, whose: str, since: datetime | None, until: datetime | None) -> None:
    """Raises UserError where no footage falls between two times, naming the nearest that there is."""
    if since is not None and until is not None and since >= until:
        raise UserError(f"`start` should be before `end`, found {since.isoformat()} and {until.isoformat()}")
    spans = [
        (start, start + timedelta(seconds=seconds or 0))
        for start, seconds in zip(
            videos["recorded_at"].to_pylist(), videos["duration_seconds"].to_pylist(), strict=True
        )
        if start is not None
    ]
    if not spans:
        raise UserError(
            f"no footage{whose} has a time of recording, so that `start` and `end` find nothing; see "
            "`index.recorded_at_pattern` in params.yaml"
        )
    earlier = [span for span in spans if since is not None and span[1] < since]
    later = [span for span in spans if until is not None and span[0] >= until]
    if len(earlier) + len(later) < len(spans):
        return
    ends = [("ends", max(end for _, end in earlier))] if earlier else []
    ends += [("begins", min(start for start, _ in later))] if later else []
    told = " and ".join(f"the nearest {word} at {time.isoformat(timespec='seconds')}" for word, time in ends)
    raise UserError(f"no footage{whose} was recorded at that time; {told}")


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


def _key_of(fragment: ds.ParquetFileFragment) -> tuple[str, ...] | None:
    """The camera and the video of a file that holds rows of one video alone, by its footer."""
    found: list[str] = []
    footer = fragment.metadata
    places = [footer.schema.names.index(name) for name in ("camera_id", "video_id")]
    for place in places:
        statistics = [footer.row_group(group).column(place).statistics for group in range(footer.num_row_groups)]
        bounds = {bound for each in statistics for bound in ((each.min, each.max) if each else (None,))}
        if len(bounds) > 1 or None in bounds:
            return None
        found += map(str, bounds)
    return tuple(found)
