"""What moves, and the scores of cells, to the tables `detections` and `tracks`: what is where, and when."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidrnn.objects import CellGrid, rows_of
from vidrnn.schema import BOX, SCHEMAS
from vidrnn.sizes import Moving
from vidrnn.storage import read_table
from vidrnn.tracks import Track, follow, is_object, objectness

Floats = npt.NDArray[np.floating[Any]]
_VELOCITY = ("velocity_x", "velocity_y")
_SPEED_SECONDS = 0.5  # over which a speed is measured, so that a box that trembles has none


@dataclass(frozen=True)
class Objects:
    """The tables `detections` and `tracks` of a video."""

    detections: pa.Table
    tracks: pa.Table

    def touching(self, box: tuple[float, float, float, float], first: int, stop: int) -> list[int]:
        """The tracks that touch a box in displayed pixels in any of the frames [first, stop), ascending."""
        names = ["frame_index", "track_id", *BOX]
        frame, track, x0, y0, x1, y1 = (self.detections[name].to_numpy() for name in names)
        inside = (x0 < box[2]) & (x1 > box[0]) & (y0 < box[3]) & (y1 > box[1])
        return sorted(set(track[inside & (frame >= first) & (frame < stop)].tolist()))


def find_objects(video: dict[str, Any], regions: Path, scores: pa.Table, end: tuple[int, float, int]) -> Objects:
    """Follow what moves in a video.

    Args:
        video: its row of the table `videos`.
        regions: its file of the table `regions`.
        scores: its score file.
        end: pts, seconds and frame at which its last analysed frame is over.
    """
    key = {name: video[name] for name in ("camera_id", "video_id")}
    times = scores["time_seconds"].to_numpy()
    if not video["width"]:  # of a sequence there is no picture
        return Objects(*(SCHEMAS[name].empty_table() for name in ("detections", "tracks")))
    moving = _read_moving(regions, scores["frame_index"].to_numpy(), video["height"])
    tracks = [track for track in follow(times, moving) if is_object(track, times)]
    cells = scores["cells"].combine_chunks().to_numpy_ndarray()
    grid = CellGrid(cells.shape[1], cells.shape[2], (video["width"], video["height"]))
    peaks = [_scores_at(cells, track, grid) for track in tracks]
    return Objects(_detections(key, scores, tracks, peaks), _tracks(key, scores, tracks, peaks, end, video["height"]))


def _read_moving(path: Path, frame_index: npt.NDArray[np.int64], height: int) -> list[Moving]:
    """What moves in each frame of `frame_index`, in displayed pixels."""
    table = read_table(path, SCHEMAS["regions"], ["frame_index", *BOX, *_VELOCITY, "pieces"])
    boxes, velocities = (np.stack([table[name].to_numpy() for name in names], 1) for names in (BOX, _VELOCITY))
    flat = table["pieces"].combine_chunks()
    pieces = np.split(flat.flatten().to_numpy().reshape(-1, 4), np.cumsum(flat.value_lengths().to_numpy())[:-1] // 4)
    own = rows_of(table["frame_index"].to_numpy(), frame_index)
    return [Moving(boxes[rows], velocities[rows] * height, pieces[rows]) for rows in own]


def _scores_at(cells: npt.NDArray[np.float16], track: Track, grid: CellGrid) -> Floats:
    """(K,) the highest score of the cells whose centres lie in each box, at least of the one that holds its own."""
    size = grid.cell_size
    low, high = np.ceil(track.boxes[:, :2] / size - 0.5), np.ceil(track.boxes[:, 2:] / size - 0.5)
    middle = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2 // size
    low = np.clip(np.minimum(low, middle), 0, (grid.columns - 1, grid.rows - 1)).astype(int)
    high = np.maximum(np.maximum(high, middle + 1), low + 1).astype(int)
    places = zip(track.rows.tolist(), low.tolist(), high.tolist(), strict=True)
    return np.array([cells[row, y0:y1, x0:x1].max() for row, (x0, y0), (x1, y1) in places], np.float32)


def _detections(key: dict[str, str], scores: pa.Table, tracks: list[Track], peaks: list[Floats]) -> pa.Table:
    if not tracks:
        return SCHEMAS["detections"].empty_table()
    rows, counts = np.concatenate([track.rows for track in tracks]), [len(track.rows) for track in tracks]
    boxes = np.concatenate([track.boxes for track in tracks]).astype(np.float32)
    ids = np.repeat(np.arange(len(tracks)), counts)
    order = np.lexsort((ids, rows))
    columns = {
        **{name: [value] * len(rows) for name, value in key.items()},
        **{name: scores[name].to_numpy()[rows[order]] for name in ("frame_index", "pts", "time_seconds")},
        "track_id": ids[order],
        **{name: boxes[order, k] for k, name in enumerate(BOX)},
        "objectness": np.concatenate([objectness(track) for track in tracks]).astype(np.float32)[order],
        "score": np.concatenate(peaks)[order],
    }
    return pa.table(columns, schema=SCHEMAS["detections"])


def _tracks(
    key: dict[str, str],
    scores: pa.Table,
    tracks: list[Track],
    peaks: list[Floats],
    end: tuple[int, float, int],
    height: int,
) -> pa.Table:
    clocks = [
        [*scores[name].to_pylist(), last]
        for name, last in zip(("pts", "time_seconds", "frame_index"), end, strict=True)
    ]
    rows = []
    for track_id, (track, peak) in enumerate(zip(tracks, peaks, strict=True)):
        first, last = int(track.rows[0]), int(track.rows[-1]) + 1
        path = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
        bounds = {
            f"{side}_{unit}": clock[row]
            for side, row in (("onset", first), ("offset", last))
            for unit, clock in zip(("pts", "seconds", "frame"), clocks, strict=True)
        }
        speed = _mean_speed(path, np.array(clocks[1][first:last])) / height
        numbers = {"num_frames": len(path), "path": path.tolist(), "mean_speed": speed, "peak_score": peak.max()}
        rows.append({**key, "track_id": track_id, **bounds, **numbers})
    return pa.Table.from_pylist(rows, schema=SCHEMAS["tracks"])


def _mean_speed(path: Floats, times: Floats) -> float:
    """Pixels a second of (K, 2) places, measured from one half second to the next."""
    marks = np.arange(times[0], times[-1], _SPEED_SECONDS)
    if len(path) < 2:
        return 0.0
    stops = np.append(marks, times[-1])
    places = np.stack([np.interp(stops, times, path[:, k]) for k in range(2)], 1)
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum() / (times[-1] - times[0]))
