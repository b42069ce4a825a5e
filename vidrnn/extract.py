"""Video files to feature files, what moves in them, and shot signatures: one decoding pass each, only what changed.

A sequence of features that somebody else computed becomes a feature file, too, of one cell, with nothing that moves.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.camera import MOVED, state_of
from vidrnn.decode import PictureReader, VideoReader, open_video
from vidrnn.errors import DecodeError, SchemaError
from vidrnn.fan_out import OUT_OF_MEMORY, Failure, fan_out, limit_memory, watched
from vidrnn.features import (
    CHANNELS,
    ROWS,
    FeatureExtractor,
    FeatureRow,
    Grid,
    Luma,
    Moment,
    signature,
    working_colour,
    working_picture,
)
from vidrnn.params import FeaturesParams
from vidrnn.schema import BOX, SCHEMAS, cells_schema
from vidrnn.sequences import codec_of, open_sequence
from vidrnn.sources import stage_digest
from vidrnn.storage import (
    check_version,
    digest,
    is_fresh,
    read_metadata,
    read_table,
    remove_orphans,
    table_writer,
    video_path,
    write_table,
)
from vidrnn.timebase import RateSampler, TimeBase

Item = TypeVar("Item")
Writer = Callable[[pa.Table], None]
_Writers = tuple[Writer, Writer, Writer, Writer]
Reader = VideoReader | PictureReader
# Takes the rows of features as they come, the pts of the first frame, and what a tick is.
Listener = Callable[[list[FeatureRow], int, TimeBase], None]
PARTS = ("cells", "regions", "shots", "views")
_FLUSH_ROWS = 64
_GONE = (
    "its footage is not there any more, and of it there are no features that this version can read; put it back, or go "
    "back to the commit that made them"
)
_OLDER = "its features stay as earlier code, params or packages made them, since its footage is retired"
_MOVING_SHARE = 0.2  # of the analysed pictures, beyond which the camera cannot be said to stand
_DECODER_THREADS = 4  # on every machine the same
_FRAMES_A_LIST = 8  # at most; a list that takes STALL_SECONDS ends the process, so it must be soon done
_FRAMES_AHEAD = 32  # analysed pictures that are decoded, with those between them, before anything is found in them
_MOMENTS_AHEAD = 8  # of these, in which something is found before it is described


@dataclass(frozen=True)
class _Job:
    source: Path
    facts: dict[str, Any]  # the row of the index
    outs: dict[str, Path]
    params: FeaturesParams
    digest: str
    hear: Listener | None = None
    remark: str = ""  # of features that cannot be made anew
    usable: bool = True  # whether these have the shape that models learn now


@dataclass(frozen=True)
class _Seen:
    """What is kept of a decoded frame.

    Attributes:
        frame_index, pts: of the frame.
        signature: (SIGNATURE, SIGNATURE) uint8.
        picture: (height, width) uint8, the working picture where the frame is analysed, else None.
        colour: (2, height / 2, width / 2) uint8, its chroma likewise, where the file has such.
    """

    frame_index: int
    pts: int
    signature: Luma
    picture: Luma | None
    colour: Luma | None


def extract_features(videos: Path, index: pa.Table, params: FeaturesParams, root: Path) -> pa.Table:
    """Bring the feature files below `root` up to date.

    Args:
        videos: the footage folder.
        index: its table `index`.
        params: analysis rate, working height and background.
        root: holds `cells/`, `regions/`, `shots/`, `views/` with a file a video each, and `decoded.parquet`.

    Features of footage that is gone, as what was retired is, stay as they are, whatever made them: they cannot be made
    anew. Where they have another shape than those made now, they are neither learned from nor scored.

    Returns:
        The table `training`. A file that breaks off is `partial`, one without a frame `unreadable`; neither trains.
    """
    made_by = params.model_dump(exclude={"time_limit_seconds"})
    common = stage_digest("features", made_by, ["av", "numpy", "opencv-python-headless"])
    decoded_path = root / "decoded.parquet"
    before = _hashes(decoded_path)
    jobs, stale, wanted = [], [], set()
    readable = [row for row in index.to_pylist() if row["status"] != "unreadable" and (row["trains"] or row["scored"])]
    for row in readable:
        outs = {part: video_path(root / part, row["camera_id"], row["video_id"]) for part in PARTS}
        facts = [row[name] for name in ("video_id", "sha256", "time_base_num", "time_base_den")]
        job = _Job(videos / row["video_id"], row, outs, params, digest([*facts, common]))
        wanted |= set(outs.values())
        if not all(is_fresh(out, job.digest) for out in outs.values()):
            older = None if job.source.exists() else _older(job, before)
            job = older or job
            stale += [] if older else [job]
        jobs.append(job)
    done = fan_out("features", _extract, stale, lambda job: job.facts["video_id"], params.time_limit_seconds)
    for job, outcome in zip(stale, done, strict=True):
        if isinstance(outcome, Failure):
            _write_unreadable(job, outcome.reason)
    removed = remove_orphans(root, wanted | {decoded_path})
    print(f"features: {len(stale)} decoded, {len(jobs) - len(stale)} kept, {removed} files removed", flush=True)
    _tell_of_gone(jobs, stale)
    decoded = pa.Table.from_pylist([_decoded_row(job) for job in jobs], schema=SCHEMAS["decoded"])
    write_table(decoded_path, decoded, SCHEMAS["decoded"])
    trains = [
        {**{name: row[name] for name in ("camera_id", "video_id", "sha256", "num_analysed")}, "digest": job.digest}
        for job, row in zip(jobs, decoded.to_pylist(), strict=True)
        if job.facts["trains"] and job.usable and row["status"] == "ok"
    ]
    return pa.Table.from_pylist(trains, schema=SCHEMAS["training"])


def _hashes(decoded: Path) -> dict[str, str]:
    """The sha256 of what the features of each video were made of, by an earlier run."""
    try:
        rows = read_table(decoded, SCHEMAS["decoded"], ["video_id", "sha256"]).to_pylist()
    except SchemaError:
        return {}
    return {row["video_id"]: row["sha256"] for row in rows}


def _older(job: _Job, before: dict[str, str]) -> _Job | None:
    """The job of footage that is gone, to keep the features that it has; None where it has none that can be read."""
    own = set()
    try:
        for out in job.outs.values():
            metadata = read_metadata(out)
            check_version(metadata, out)
            own.add(metadata["digest"])
    except SchemaError:
        return None
    made_of = before.get(job.facts["video_id"], job.facts["sha256"])
    if len(own) > 1 or own == {""} or made_of != job.facts["sha256"]:
        return None
    shape = tuple(pq.read_schema(job.outs["cells"]).field("cells").type.shape)
    if codec_of(job.source):
        wanted = (shape[0], 1, 1)  # a sequence has as many values as it has
    else:
        wanted = (len(CHANNELS), ROWS, Grid.of(job.facts["width"], job.facts["height"], job.params.height).columns)
    job = replace(job, digest=own.pop(), remark=_OLDER, usable=shape == wanted)
    if job.usable:
        return job
    remark = (
        f"its features are of another shape, {shape}, than this version makes, {wanted}, and its footage is retired: "
        "it is neither learned from nor scored; put it back to have them made anew"
    )
    return replace(job, remark=remark)


def _tell_of_gone(jobs: list[_Job], stale: list[_Job]) -> None:
    """How many features stay as they were, and how many are lost, since there is no footage to make them of."""
    kept = sum(bool(job.remark) for job in jobs)
    useless = sum(not job.usable for job in jobs)
    lost = sum(not job.source.exists() for job in stale)
    if kept:
        other = f"; {useless} of them have another shape than models learn now" if useless else ""
        print(
            f"features: {kept} kept as an earlier version made them, since their footage is retired{other}", flush=True
        )
    if lost:
        print(f"features: {lost} lost: their footage is gone, and this version can read none made of it", flush=True)


def _decoded_row(job: _Job) -> dict[str, Any]:
    """Of features that are not usable, nothing counts as analysed."""
    found = read_metadata(job.outs["cells"])
    row = {name: job.facts[name] for name in ("camera_id", "video_id", "sha256")}
    numbers = {name: int(found[name]) for name in ("num_frames", "num_analysed", "num_undecodable")}
    if not job.usable:
        numbers["num_analysed"] = 0
    return {
        **row,
        **numbers,
        "duration_seconds": float(found["duration_seconds"]),
        "status": found["status"],
        "message": "; ".join(filter(None, [found["message"], job.remark])),
    }


def _extract(job: _Job) -> None:
    """Decode one video and write its four files, the cells last: they are what says that the video is done."""
    cv2.setNumThreads(1)  # one process a core already
    limit_memory()
    _make(job)


def extract_video(
    source: Path, facts: dict[str, Any], params: FeaturesParams, root: Path, hear: Listener
) -> dict[str, Any]:
    """Decode one video in this process and write its files below `root`.

    Args:
        source: the file.
        facts: its row of the table `index`.
        params: as of `extract_features`.
        root: likewise.
        hear: is given rows while decoding goes on. A damaged file is decoded twice, and then they begin anew.

    Returns:
        Its row of the table `decoded`.
    """
    outs = {part: video_path(root / part, facts["camera_id"], facts["video_id"]) for part in PARTS}
    job = _Job(source, facts, outs, params, "", hear)
    _make(job)
    return _decoded_row(job)


def _make(job: _Job) -> None:
    try:
        if not job.source.exists():
            raise DecodeError(_GONE)
        if codec_of(job.source):
            _take_over(job)
        elif _attempt(job, _DECODER_THREADS) != "ok":
            _attempt(job, 1)  # of a damaged file, several threads lose more frames than one
    except (DecodeError, MemoryError) as error:
        _write_unreadable(job, str(error) if isinstance(error, DecodeError) else OUT_OF_MEMORY)


def _attempt(job: _Job, threads: int) -> str:
    """Decode with so many threads and write what comes; returns the status."""
    grid = Grid.of(job.facts["width"], job.facts["height"], job.params.height)
    metadata: dict[str, str] = {}
    schema = _cells_schema(grid)
    step = TimeBase(job.facts["time_base_num"], job.facts["time_base_den"])
    with open_video(job.source, step, threads) as reader, _writers(job, schema, metadata) as writers:
        metadata |= _decode(job, reader, grid, writers) | {"digest": job.digest}
    return metadata["status"]


def _take_over(job: _Job) -> None:
    """Write the analysed frames of a sequence as cells, and that nothing moves: it has no picture."""
    sequence = open_sequence(job.source, job.params.ragged)
    base = TimeBase(job.facts["time_base_num"], job.facts["time_base_den"])
    sampler = RateSampler(base, job.params.rate_fraction)
    schema = cells_schema(len(sequence.channels), 1, 1)
    metadata = {"channels": json.dumps(sequence.channels)}
    num_frames = num_analysed = 0
    with _writers(job, schema, metadata) as (write_cells, *_):
        for values in watched(sequence.read()):
            numbers = range(num_frames, num_frames + len(values))
            taken = [number for number in numbers if sampler.takes(number)]
            if taken:
                cells = values[np.array(taken) - num_frames]
                write_cells(_sequence_table(taken, cells, base, job.params.warmup_seconds, schema))
            num_frames += len(values)
            num_analysed += len(taken)
        metadata |= {"num_frames": str(num_frames), "num_analysed": str(num_analysed), "num_undecodable": "0"}
        metadata |= {"duration_seconds": repr(base.seconds(num_frames)), "digest": job.digest}
        metadata |= {"status": "ok", "message": ""}


def _write_unreadable(job: _Job, message: str) -> None:
    """The files of a video of which the index could read something. Without a digest: the next run tries again."""
    numbers = dict.fromkeys(("num_frames", "num_analysed", "num_undecodable", "duration_seconds"), "0")
    if codec_of(job.source):
        schema = cells_schema(1, 1, 1)
    else:
        schema = _cells_schema(Grid.of(job.facts["width"], job.facts["height"], job.params.height))
    with _writers(job, schema, numbers | {"digest": "", "status": "unreadable", "message": message}):
        pass


def _cells_schema(grid: Grid) -> pa.Schema:
    return cells_schema(len(CHANNELS), ROWS, grid.columns)


@contextmanager
def _writers(job: _Job, schema: pa.Schema, metadata: dict[str, str]) -> Iterator[_Writers]:
    """Of PARTS, in their order; `metadata` may grow until they are closed."""
    with (
        table_writer(job.outs["views"], SCHEMAS["views"], metadata) as write_views,
        table_writer(job.outs["regions"], SCHEMAS["regions"], metadata) as write_regions,
        table_writer(job.outs["shots"], SCHEMAS["shots"], metadata) as write_shots,
        table_writer(job.outs["cells"], schema, metadata) as write_cells,
    ):
        yield write_cells, write_regions, write_shots, write_views


def _decode(job: _Job, reader: Reader, grid: Grid, writers: _Writers) -> dict[str, str]:
    """Write the rows of all parts as they come; what decoding found out, for the metadata."""
    write_cells, write_regions, write_shots, write_views = writers
    size, base = (job.facts["width"], job.facts["height"]), reader.time_base
    extractor = FeatureExtractor(
        grid, base, job.params.warmup_seconds, job.params.background_seconds, job.params.stopped_seconds
    )
    rows: list[FeatureRow] = []
    shots: list[_Seen] = []
    num_analysed = num_frames = num_moved = start = last = previous = 0

    def write() -> None:
        if rows:
            write_cells(_cells_table(rows, start, base, grid))
            write_regions(_regions_table(rows, size))
            write_views(_views_table(rows))
            if job.hear:
                job.hear(list(rows), start, base)
            rows.clear()
        if shots:
            write_shots(_shots_table(shots))
            shots.clear()

    # The threads end before the reader is closed, whatever goes wrong.
    with ThreadPoolExecutor(1) as decoding, ThreadPoolExecutor(1) as watching:
        looked = _ahead(decoding, _look(job, reader, grid), _FRAMES_AHEAD)
        try:
            for frames, moments in watched(_ahead(watching, _watch(extractor, looked), _MOMENTS_AHEAD)):
                for seen in frames:
                    start = seen.pts if num_frames == 0 else start
                    previous, last = last if num_frames else seen.pts, seen.pts
                    num_frames += 1
                    num_analysed += seen.picture is not None
                shots += frames
                for moment in moments:
                    rows.append(extractor.describe(moment))
                    num_moved += state_of(rows[-1].view) == MOVED
                if len(shots) >= _FLUSH_ROWS:
                    write()
        except BaseException:  # what is still to be done for a file that is given up would only be waited for
            for thread in (watching, decoding):
                thread.shutdown(wait=False, cancel_futures=True)
            raise
    write()
    seconds = base.seconds(last - start + last - previous)  # the last frame lasts as long as the one before
    numbers = {"num_frames": str(num_frames), "num_analysed": str(num_analysed)}
    status = _status(job.facts, reader, num_frames, seconds)
    if num_moved > _MOVING_SHARE * num_analysed:
        remark = f"its camera moves: {num_moved / num_analysed:.0%} of its pictures show another view than just before"
        status["message"] = "; ".join(filter(None, [status["message"], f"{remark}, so what moves in them is not told"]))
    return numbers | status


def _look(job: _Job, reader: Reader, grid: Grid) -> Iterator[list[_Seen]]:
    """Every frame, as far as it is needed, as lists that end with one that is analysed.

    A whole picture lives no longer than until the next one is decoded.
    """
    rotation, sampler = job.facts["rotation"], RateSampler(reader.time_base, job.params.rate_fraction)
    start, frames = None, []
    for frame in reader.frames():
        start = frame.pts if start is None else start
        picture = colour = None
        if sampler.takes(frame.pts - start):
            picture = working_picture(frame.luma, frame.limited_range, rotation, grid)
            colour = None if frame.colour is None else working_colour(frame.colour, rotation, grid)
        frames.append(_Seen(frame.frame_index, frame.pts, signature(frame.luma, rotation), picture, colour))
        if picture is not None or len(frames) == _FRAMES_A_LIST:
            yield frames
            frames = []
    yield frames


def _watch(extractor: FeatureExtractor, looked: Iterator[list[_Seen]]) -> Iterator[tuple[list[_Seen], list[Moment]]]:
    """The same lists, and what is ready to be described after each."""
    for frames in looked:
        moments: list[Moment] = []
        for seen in frames:
            if seen.picture is not None:
                moments += extractor.watch(seen.frame_index, seen.pts, seen.picture, seen.colour)
        yield frames, moments
    yield [], list(extractor.watch_rest())


def _ahead(thread: ThreadPoolExecutor, items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items; a thread makes so many while their taker is busy. What it raises is raised here."""
    coming = deque(thread.submit(next, items, None) for _ in range(count))
    while (item := coming.popleft().result()) is not None:
        coming.append(thread.submit(next, items, None))
        yield item


def _status(facts: dict[str, Any], reader: Reader, num_frames: int, seconds: float) -> dict[str, str]:
    """What decoding found out, as strings for the metadata of the file."""
    claimed = facts["duration_seconds"]
    problems = []
    if num_frames == 0:
        problems.append("holds no frame that can be decoded")
    problems += reader.problems()
    if num_frames and claimed is not None and seconds < claimed - max(1.0, 0.02 * claimed):
        problems.append(f"gives only {seconds:.1f} of {claimed:.1f} seconds")
    return {
        "num_undecodable": str(reader.num_undecodable),
        "duration_seconds": repr(seconds),
        "status": "unreadable" if num_frames == 0 else "partial" if problems else "ok",
        "message": "; ".join(problems),
    }


def _cells_table(rows: list[FeatureRow], start: int, time_base: TimeBase, grid: Grid) -> pa.Table:
    return pa.table(
        {
            "frame_index": [row.frame_index for row in rows],
            "pts": [row.pts for row in rows],
            "time_seconds": [time_base.seconds(row.pts - start) for row in rows],
            "valid": [row.valid for row in rows],
            "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([row.cells for row in rows])),
        },
        schema=_cells_schema(grid),
    )


def _sequence_table(
    numbers: list[int],
    values: npt.NDArray[np.float32],
    time_base: TimeBase,
    warmup_seconds: float,
    schema: pa.Schema,
) -> pa.Table:
    """Of (n, F) values; a frame's number is its pts. There is no background, but a network has to warm up as well."""
    times = [time_base.seconds(number) for number in numbers]
    return pa.table(
        {
            "frame_index": numbers,
            "pts": numbers,
            "time_seconds": times,
            "valid": [seconds >= warmup_seconds for seconds in times],
            "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(values[:, :, None, None]),
        },
        schema=schema,
    )


def _regions_table(rows: list[FeatureRow], picture: tuple[int, int]) -> pa.Table:
    counts = [len(row.regions.areas) for row in rows]
    boxes = np.concatenate([row.regions.boxes for row in rows]) * np.array(picture * 2, np.float32)
    velocities = np.concatenate([row.regions.velocities for row in rows])
    pieces = [of_one * np.array(picture * 2, np.float32) for row in rows for of_one in row.regions.pieces]
    columns = {
        "frame_index": np.repeat([row.frame_index for row in rows], counts),
        "pts": np.repeat([row.pts for row in rows], counts),
        **{name: boxes[:, k] for k, name in enumerate(BOX)},
        "area": np.concatenate([row.regions.areas for row in rows]) * np.float32(picture[0] * picture[1]),
        "velocity_x": velocities[:, 0],
        "velocity_y": velocities[:, 1],
        "pieces": [of_one.ravel().tolist() for of_one in pieces],
    }
    return pa.table(columns, schema=SCHEMAS["regions"])


def _views_table(rows: list[FeatureRow]) -> pa.Table:
    columns = [
        asdict(row.view) | {"frame_index": row.frame_index, "pts": row.pts, "sharpness": row.sharpness} for row in rows
    ]
    return pa.Table.from_pylist(columns, schema=SCHEMAS["views"])


def _shots_table(shots: list[_Seen]) -> pa.Table:
    return pa.table(
        {
            "frame_index": [seen.frame_index for seen in shots],
            "pts": [seen.pts for seen in shots],
            "signature": pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([seen.signature for seen in shots])),
        },
        schema=SCHEMAS["shots"],
    )
