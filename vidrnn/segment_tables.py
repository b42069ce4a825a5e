"""Stretches of footage: the table `segments`, of shots and changes, and the table `embeddings`, of windows."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.schema import SCHEMAS
from vidrnn.segments import cut_up, find_boundaries, find_changes
from vidrnn.storage import ROW_GROUP_SIZE, read_table
from vidrnn.timebase import TimeBase

Signatures = npt.NDArray[np.uint8]


class ShotReader:
    """Signatures of a file of the table `shots`, a few row groups at a time; as a context manager.

    Attributes:
        frame_index, pts: (n,) int64 of every decoded frame.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        facts = self._file.read(columns=["frame_index", "pts"])
        self.frame_index, self.pts = facts["frame_index"].to_numpy(), facts["pts"].to_numpy()

    def __enter__(self) -> "ShotReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self, start: int, stop: int) -> Signatures:
        """(stop − start, S, S) uint8."""
        first = start // ROW_GROUP_SIZE
        groups = list(range(first, -(-stop // ROW_GROUP_SIZE)))
        found = self._file.read_row_groups(groups, columns=["signature"])["signature"].combine_chunks()
        return np.asarray(found.to_numpy_ndarray()[start - first * ROW_GROUP_SIZE :][: stop - start])


def find_segments(video: dict[str, Any], shots: Path, scores: pa.Table, end: tuple[int, float, int]) -> pa.Table:
    """Cut up a video; of a sequence, which has no pictures, only changes of what goes on part it.

    Args:
        video: its row of the table `videos`.
        shots: its file of the table `shots`.
        scores: its score file.
        end: pts, seconds and frame at which its last frame is over.
    """
    base = TimeBase(video["time_base_num"], video["time_base_den"])
    analysed, times = scores["frame_index"].to_numpy(), scores["time_seconds"].to_numpy()
    with ShotReader(shots) as reader:
        if len(reader.pts):
            frames, pts, read = reader.frame_index, reader.pts.tolist(), reader.rows
        else:
            frames, pts, read = analysed, scores["pts"].to_pylist(), _nothing
        seconds = np.array([base.seconds(ticks - pts[0]) for ticks in pts])
        boundaries = find_boundaries(read, seconds)
        # The analysed frames with which shots begin; one so short that it has none begins nothing here.
        begins = np.searchsorted(analysed, [0, *(frames[boundary.frame] for boundary in boundaries)])
        begins = np.unique(begins[begins < len(analysed)])
        changes = find_changes(_surprise(scores), times, begins.tolist())
        at = np.searchsorted(frames, analysed[[change.frame for change in changes]]).tolist() if changes else []
        boundaries += [replace(change, frame=frame) for change, frame in zip(changes, at, strict=True)]
        segments = cut_up(sorted(boundaries, key=lambda boundary: boundary.frame), read, len(pts))

    def moment(frame: int, name: str) -> dict[str, Any]:
        at = (pts[frame], float(seconds[frame]), int(frames[frame])) if frame < len(pts) else end
        return dict(zip((f"{name}_pts", f"{name}_seconds", f"{name}_frame"), at, strict=True))

    began = video["recorded_at"]
    rows = [
        {
            "camera_id": video["camera_id"],
            "video_id": video["video_id"],
            "segment_id": hashlib.sha256(f"{video['sha256']}:segment:{pts[segment.first]}".encode()).hexdigest()[:16],
            **moment(segment.first, "onset"),
            **moment(segment.end, "offset"),
            "recorded_at": began and began + timedelta(seconds=float(seconds[segment.first])),
            "start": segment.start,
            "boundary_score": segment.score,
            "group": segment.group,
            **moment(segment.key, "key"),
        }
        for segment in segments
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["segments"])


def place_windows(video: dict[str, Any], windows: Path, scores: pa.Table, end: tuple[int, float, int]) -> pa.Table:
    """The rows of `embeddings`: when the windows of a video are, and their vectors.

    Args:
        video: its row of the table `videos`.
        windows: its file of the table `windows`.
        scores: its score file.
        end: pts, seconds and frame at which its last analysed frame is over.
    """
    found = read_table(windows, SCHEMAS["windows"])
    began = video["recorded_at"]
    moments = list(zip(*(scores[name].to_pylist() for name in ("pts", "time_seconds", "frame_index")), strict=True))
    moments.append(end)
    onsets = [moments[row] for row in found["first"].to_pylist()]
    offsets = [moments[row] for row in found["stop"].to_pylist()]
    values = {
        **{name: [video[name]] * found.num_rows for name in ("camera_id", "video_id")},
        **_in_columns("onset", onsets),
        **_in_columns("offset", offsets),
        "recorded_at": [began and began + timedelta(seconds=onset[1]) for onset in onsets],
        "vector": found["vector"],
    }
    schema = SCHEMAS["embeddings"]
    return pa.table({name: values[name] for name in schema.names}, schema=schema)


def _in_columns(name: str, moments: list[tuple[int, float, int]]) -> dict[str, list[Any]]:
    return {f"{name}_{unit}": [moment[k] for moment in moments] for k, unit in enumerate(("pts", "seconds", "frame"))}


def _nothing(start: int, stop: int) -> Signatures:
    """The signatures of frames without pictures."""
    return np.zeros((stop - start, *SCHEMAS["shots"].field("signature").type.shape), np.uint8)


def _surprise(scores: pa.Table) -> npt.NDArray[np.float32]:
    """The mean over the cells of each analysed frame."""
    if not scores.num_rows:
        return np.empty(0, np.float32)
    cells = scores["cells"].combine_chunks().to_numpy_ndarray()
    return np.asarray(cells.mean((1, 2), dtype=np.float32))
