"""One video against its labels: its scores and alarms, where they point, and its objects."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from vidrnn.errors import SchemaError
from vidrnn.labels import Labels, label_frames
from vidrnn.metrics import (
    Bools,
    Confusion,
    EventCounts,
    Floats,
    Ints,
    Pointing,
    confusion,
    event_precision_recall,
    find_regions,
    find_tracks,
    link_regions,
    match_boxes,
    pointing,
)
from vidrnn.objects import CellGrid, moving_boxes, unusual_regions
from vidrnn.schema import BOX, SCHEMAS
from vidrnn.storage import check_version, read_metadata, read_table, video_path

if TYPE_CHECKING:
    import pandas as pd

OBJECT_OVERLAP = 0.5  # from which a detection is a true object
BINS, BIN_WIDTH = 100, 0.1  # of the histogram of scores, the last of which takes what lies beyond


@dataclass(frozen=True)
class Labelled:
    """One video against its labels, N source frames."""

    score: Floats  # (N,) float32, as is the other
    score_raw: Floats
    unusual: Bools
    frames: Confusion
    events: EventCounts


@dataclass(frozen=True)
class Located:
    """One video against its true regions.

    Attributes:
        pointing: whether highest cells lie inside them.
        regions, tracks: the score up to which each is found.
        false: scores of predicted regions that are none.
        num_frames: of the source.
    """

    pointing: Pointing
    regions: Floats
    tracks: Floats
    false: Floats
    num_frames: int


@dataclass(frozen=True)
class Objects:
    """One video against its true objects, from its first to its last labelled frame; P detections.

    Attributes:
        hits: (P,) whether each is a true one.
        sure: (P,) objectness.
        num_true: boxes.
    """

    hits: Bools
    sure: Floats
    num_true: int


@dataclass(frozen=True)
class Video:
    """One measured video; without labels its frames are not held in memory."""

    hours: float
    num_frames: int
    histogram: Ints  # (2, BINS)
    labelled: Labelled | None
    located: Located | None
    objects: Objects | None
    labels_ignored: int  # that lie wholly behind the part that could be read, or in a picture where there is none


def measure_video(roots: tuple[Path, Path, Path], facts: dict[str, Any], labels: Labels) -> Video | None:
    """All source frames of a scored video; None where it was not scored, could not be read, or has no model.

    `roots` are those of features, scores and tables.
    """
    features_dir, scores_dir, tables_dir = roots
    events = labels.events
    path = video_path(tables_dir / "frames", facts["camera_id"], facts["video_id"])
    if not facts["scored"] or facts["status"] == "unreadable" or not path.exists():
        return None
    columns = ["frame_index", "time_seconds", "score_raw", "score", "alarm"]
    table = read_table(path, SCHEMAS["frames"], columns)
    if not table.num_rows:
        return None
    frames = {name: table.column(name).to_numpy() for name in columns}
    num_frames, duration = facts["num_frames"], facts["duration_seconds"]
    held = hold_until_next(frames["frame_index"], num_frames, str(path))
    times = source_times(frames["frame_index"], frames["time_seconds"], num_frames, duration)
    if not np.isfinite([frames["score_raw"], frames["score"]]).all():
        raise SchemaError(f"{path}: holds a score that is not a finite number; delete it and run `dvc repro`")
    hours = float(times[-1]) / 3600
    located, ignored = None, 0
    if labels.regions is not None:
        regions = labels.regions[labels.regions["video"] == facts["video_id"]]
        within = regions[(regions["frame_index"] < num_frames) & (facts["width"] is not None)]
        ignored = len(regions) - len(within)
        if facts["width"] is not None:
            located = _locate(features_dir, scores_dir, facts, frames["frame_index"], held, within)
    objects = None
    if labels.objects is not None and facts["width"] is not None:
        true = labels.objects[labels.objects["video"] == facts["video_id"]]
        if len(true):
            objects = _judge_objects(tables_dir, facts, frames["frame_index"], held, true)
    score = frames["score"][held]
    if events is None:
        ordinary = _histogram(score, np.zeros(num_frames, np.bool_))
        return Video(hours, num_frames, ordinary, None, located, objects, ignored)

    in_seconds = "onset_seconds" in events.columns
    unit = ["onset_seconds", "offset_seconds"] if in_seconds else ["onset_frame", "offset_frame"]
    events_path = video_path(tables_dir / "events", facts["camera_id"], facts["video_id"])
    raised = read_table(events_path, SCHEMAS["events"], unit).to_pandas().to_numpy()
    marked = events.loc[events["video"] == facts["video_id"], unit].to_numpy()
    clock: Ints | Floats = np.arange(num_frames + 1)
    if in_seconds:
        clock, marked, raised = _microseconds(times), _microseconds(marked), _microseconds(raised)
    reachable = marked[marked[:, 0] < clock[-1]]
    unusual = label_frames(clock[:-1], reachable)
    labelled = Labelled(
        score=score,
        score_raw=frames["score_raw"][held],
        unusual=unusual,
        frames=confusion(unusual, frames["alarm"][held]),
        events=event_precision_recall(raised, reachable),
    )
    ignored += len(marked) - len(reachable)
    return Video(hours, num_frames, _histogram(score, unusual), labelled, located, objects, ignored)


def _judge_objects(
    tables_dir: Path, facts: dict[str, Any], frame_index: Ints, held: Ints, true: "pd.DataFrame"
) -> Objects:
    """The detections of a video against its true objects; those of an analysed frame hold until the next."""
    path = video_path(tables_dir / "detections", facts["camera_id"], facts["video_id"])
    table = read_table(path, SCHEMAS["detections"], ["frame_index", *BOX, "objectness"])
    row = np.searchsorted(frame_index, table["frame_index"].to_numpy())
    boxes, sure = np.stack([table[name].to_numpy() for name in BOX], 1), table["objectness"].to_numpy()
    true_frames = true["frame_index"].to_numpy()
    first, last = int(true_frames.min()), min(int(true_frames.max()), len(held) - 1)
    starts, stops = (np.searchsorted(row, held[first : last + 1], side=side) for side in ("left", "right"))
    frames = np.repeat(np.arange(first, last + 1), stops - starts)
    taken = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    hits = match_boxes(frames, boxes[taken], sure[taken], true_frames, true[list(BOX)].to_numpy(), OBJECT_OVERLAP)
    return Objects(hits, sure[taken], len(true))


def _locate(
    features_dir: Path, scores_dir: Path, facts: dict[str, Any], frame_index: Ints, held: Ints, true: "pd.DataFrame"
) -> Located:
    """Where the scores of a video point, against its true regions; `held` as `hold_until_next` gives it."""
    camera, name = facts["camera_id"], facts["video_id"]
    path = video_path(scores_dir, camera, name)
    check_version(read_metadata(path), path)
    rows, columns = pq.read_schema(path).field("cells").type.shape
    grid = CellGrid(rows, columns, (facts["width"], facts["height"]))
    moving = moving_boxes(video_path(features_dir / "regions", camera, name), frame_index)
    predicted, highest = [], []
    for scores, boxes in zip(_cell_maps(path), moving, strict=True):
        predicted.append(unusual_regions(scores, boxes, grid))
        highest.append(grid.centre(int(scores.argmax())))
    of_frames = [predicted[k] for k in held]

    true_frames, true_boxes = true["frame_index"].to_numpy(), true[list(BOX)].to_numpy()
    found = find_regions(
        np.repeat(np.arange(len(held)), [len(scores) for _, scores in of_frames]),
        np.concatenate([boxes for boxes, _ in of_frames]),
        np.concatenate([scores for _, scores in of_frames]),
        true_frames,
        true_boxes,
    )
    given = true["track_id"]
    track = link_regions(true_frames, true_boxes) if given.isna().any() else given.factorize()[0]
    return Located(
        pointing=pointing(np.array(highest)[held], true_frames, true_boxes),
        regions=found.regions,
        tracks=find_tracks(found.regions, track),
        false=found.false,
        num_frames=len(held),
    )


def _cell_maps(path: Path) -> Iterator[Floats]:
    """The (rows, columns) float32 cell scores of a score file, frame by frame; a row group is in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            cells = file.read_row_group(group, columns=["cells"])["cells"].combine_chunks()
            yield from cells.to_numpy_ndarray().astype(np.float32)


def hold_until_next(frame_index: Ints, num_frames: int, what: str) -> Ints:
    """For each source frame the position of the analysed frame whose score it takes: the latest, or else the first.

    Args:
        frame_index: (K,) of the analysed frames.
        num_frames: N.
        what: is named in the error.

    Returns:
        (N,) int64 in [0, K).

    Raises:
        SchemaError: the frames do not ascend, or lie outside the video.
    """
    if frame_index[0] < 0 or frame_index[-1] >= num_frames or (np.diff(frame_index) <= 0).any():
        raise SchemaError(
            f"{what}: expected ascending frames within the video's {num_frames}, found {frame_index[0]} to "
            f"{frame_index[-1]}; delete it and run `dvc repro`"
        )
    return np.maximum(np.searchsorted(frame_index, np.arange(num_frames), side="right") - 1, 0)


def source_times(frame_index: Ints, time_seconds: Floats, num_frames: int, duration_seconds: float | None) -> Floats:
    """Seconds of each source frame, and last of all of the end; between analysed frames they are spread evenly.

    Args:
        frame_index: (K,) of the analysed frames.
        time_seconds: (K,) of the analysed frames.
        num_frames: N.
        duration_seconds: the end; the frames' own pace tells it where this is unknown or too early.

    Returns:
        (N + 1,) float64.
    """
    last_frame, last_time = int(frame_index[-1]), float(time_seconds[-1])
    end = last_time + (num_frames - last_frame) * (last_time / last_frame if last_frame else 0.0)
    if duration_seconds is not None and duration_seconds > last_time:
        end = duration_seconds
    knots = np.concatenate((frame_index, [num_frames])), np.concatenate((time_seconds, [end]))
    if frame_index[0] > 0:
        knots = np.concatenate(([0], knots[0])), np.concatenate(([0.0], knots[1]))
    return np.interp(np.arange(num_frames + 1), *knots)


def _microseconds(seconds: Floats) -> Floats:
    """Whole microseconds, so that a label at a frame's time meets that frame whatever the last bits say."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * 1e6)


def _histogram(scores: Floats, unusual: Bools) -> Ints:
    """(2, BINS) source frames by score: those that are not unusual, and those that are."""
    bins = np.clip(scores / BIN_WIDTH, 0, BINS - 1).astype(np.int64)
    return np.bincount(bins + BINS * unusual, minlength=2 * BINS).reshape(2, BINS)
