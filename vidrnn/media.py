"""What shows an event or a segment: a picture, a heat map to lay over it, and a short clip, small enough for a page."""

import math
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.decode import PictureReader, VideoReader, open_video
from vidrnn.encode import VideoWriter
from vidrnn.events import CLIP, HEAT, PICTURE, clip_bounds
from vidrnn.storage import replacing
from vidrnn.timebase import TimeBase

Picture = npt.NDArray[np.uint8]

PICTURE_WIDTH = 640  # pixels at most
CLIP_WIDTH = 384  # likewise
CLIP_RATE = 10  # frames/s at most
CLIP_BYTES = 28_000  # at most, for all that it takes
_JPEG_QUALITY = 88
_CLIP_CRF, _CLIP_PRESET = 31, "medium"
_HEAT_SHARE = 0.75  # how much a heat map covers where it is hottest


def write_media(
    source: Path,
    video: dict[str, Any],
    frames: pa.Table,
    events: pa.Table,
    segments: pa.Table,
    scores: Path,
    folder: Path,
) -> None:
    """Write what shows the events and segments of a video.

    Of an event `<event_id>.jpg`, the frame at its peak; `<event_id>-heat.png`, a pixel a cell, to be laid over it; and
    `<event_id>.mp4`, a clip of it without sound, which lasts as `events.clip_bounds` says. Of a segment
    `<segment_id>.jpg`, its key frame. What cannot be decoded again has none.

    Args:
        source: the file.
        video: its row of the table `videos`.
        frames, events, segments: its rows of these tables.
        scores: its score file.
        folder: where to.

    Raises:
        DecodeError: the file can no longer be opened.
    """
    seconds, pts = frames["time_seconds"].to_numpy(), frames["pts"].to_numpy()
    told = events.to_pylist()
    wanted: dict[int, list[str]] = {}
    for event in told:
        wanted.setdefault(int(pts[np.searchsorted(seconds, event["peak_seconds"])]), []).append(event["event_id"])
    for segment in segments.select(["key_pts", "segment_id"]).to_pylist():
        wanted.setdefault(segment["key_pts"], []).append(segment["segment_id"])
    if not wanted:
        return
    base = TimeBase(video["time_base_num"], video["time_base_den"])
    with open_video(source, base) as reader:
        for at, picture in reader.pictures(sorted(wanted)):
            body = _within(picture, PICTURE_WIDTH)
            for name in wanted[at]:
                _write(folder / f"{name}{PICTURE}", body, cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
        for event in told:
            peak = int(np.searchsorted(seconds, event["peak_seconds"]))
            _write(folder / f"{event['event_id']}{HEAT}", heat_map(_cells_at(scores, peak)))
            start, stop = clip_bounds(event, seconds)
            first = int(pts[np.searchsorted(seconds, start)])
            ticks = max(1, round((stop - start) * base.den / base.num))  # one picture may last for longer than a clip
            _write_clip(reader, folder / f"{event['event_id']}{CLIP}", first, first + ticks)


def keep_media(before: Sequence[dict[str, Any]], told: Sequence[dict[str, Any]], name: str, folder: Path) -> None:
    """Pass what shows events or segments of footage that is gone on to those that are told in their place.

    Another model may tell the same from another frame on, by another id, and nothing can show it anew. So it gets, as
    they are, the picture, heat map and clip of the one that it overlaps most; what it has already, it keeps.

    Args:
        before, told: rows of the table `events` or `segments` of one video, those of before and those of now.
        name: the column of the id, `event_id` or `segment_id`.
        folder: where what shows them is.
    """
    shown = [row for row in before if (folder / f"{row[name]}{PICTURE}").is_file()]
    for row in told:
        alike = [old for old in shown if old.get("kind") == row.get("kind") and _overlap(old, row) > 0]
        if not alike:
            continue
        best = max(alike, key=lambda old: _overlap(old, row))
        for suffix in (PICTURE, HEAT, CLIP):
            source, target = folder / f"{best[name]}{suffix}", folder / f"{row[name]}{suffix}"
            if source.is_file() and not target.exists():
                with replacing(target) as partial:
                    shutil.copyfile(source, partial)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Ticks that both last."""
    return int(min(one["offset_pts"], other["offset_pts"]) - max(one["onset_pts"], other["onset_pts"]))


def heat_map(cells: npt.NDArray[np.float32]) -> Picture:
    """(rows, columns) scores to as many pixels (blue, green, red, opacity), red and dense at the highest of them."""
    heat = np.maximum(cells, 0) / max(float(cells.max()), 1e-6)
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.dstack([colours, (255 * _HEAT_SHARE * heat).astype(np.uint8)])


def _cells_at(scores: Path, row: int) -> npt.NDArray[np.float32]:
    """The (rows, columns) scores of the cells of an analysed frame, of all that lie in the file."""
    with pq.ParquetFile(scores) as file:
        group = 0
        while row >= (size := file.metadata.row_group(group).num_rows):
            row, group = row - size, group + 1
        cells = file.read_row_group(group, ["cells"])["cells"].slice(row, 1).combine_chunks()
    return np.asarray(cells.to_numpy_ndarray()[0], np.float32)


def _within(picture: Picture, width: int) -> Picture:
    scale = min(1.0, width / picture.shape[1])
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _write(path: Path, picture: Picture, *options: int) -> None:
    body = cv2.imencode(path.suffix, picture, options)[1]
    with replacing(path) as partial:
        partial.write_bytes(np.asarray(body).tobytes())


def _write_clip(reader: VideoReader | PictureReader, path: Path, first: int, stop: int) -> None:
    """The frames of [first, stop), small; no file where none of them can be decoded."""
    base = Fraction(reader.time_base.num, reader.time_base.den)
    half = 8 * CLIP_BYTES * 0.48  # bits for its first picture, which all others build on, and as many for all of them
    limit = int(half / float((stop - first) * base)), int(half)
    pictures = reader.between(first, stop, math.ceil(1 / (base * CLIP_RATE)))
    begin = next(pictures, None)
    if begin is None:
        return
    height, width = _even(_within(begin[1], CLIP_WIDTH)).shape[:2]
    with VideoWriter(
        path, width, height, CLIP_RATE, crf=_CLIP_CRF, preset=_CLIP_PRESET, rate_limit=limit, time_base=base
    ) as writer:
        writer.write(_even(_within(begin[1], CLIP_WIDTH)), begin[0] - first)
        for pts, picture in pictures:
            writer.write(_even(_within(picture, CLIP_WIDTH)), pts - first)


def _even(picture: Picture) -> Picture:
    """As H.264 wants it."""
    return np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
