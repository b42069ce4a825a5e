"""Two models on the same footage that neither was fitted to: each measure with its interval, and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from vidrnn.calibration import Calibration, Series, merged_peaks, seconds_of
from vidrnn.events import causal_average
from vidrnn.feedback import NORMAL
from vidrnn.heldout import Watched, block_times, tails_of_others, watch
from vidrnn.labels import label_frames
from vidrnn.marked import Marked
from vidrnn.metrics import ResampledRanking, bootstrap_interval
from vidrnn.params import Params
from vidrnn.score import CameraModel, observe
from vidrnn.storage import read_columns, video_path
from vidrnn.windows import Block, CellReader, Layout, file_of

SURPRISE = "heldout_nll"
_LEAST_VIDEOS = 6  # with labels, that may refuse: of fewer, one in 2⁵ or more are all worse by chance
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """One of the two models, with its card."""

    model: CameraModel
    card: Mapping[str, Any]

    @property
    def calibration(self) -> Calibration:
        """Of the model, which has one."""
        assert self.model.calibration is not None
        return self.model.calibration


@dataclass(frozen=True)
class Measure:
    """A figure of the candidate beside that of the champion.

    Attributes:
        name: as in the table `promotions`.
        candidate, champion: its values; the champion has none where it is a distance from it.
        low, high: of candidate − champion; None where there is no interval.
        worse: whether the candidate is, beyond the interval.
        words: a clause for the reason.
    """

    name: str
    candidate: float
    champion: float | None
    low: float | None
    high: float | None
    worse: bool
    words: str


def on_ordinary(sides: tuple[Side, Side], blocks: Sequence[Block], params: Params) -> list[Measure]:
    """Likelihood, false alarms and drift on held-out ordinary footage.

    Args:
        sides: candidate and champion.
        blocks: at least two, that neither was fitted to.
        params: sections gate and alarms count.
    """
    reader = CellReader()
    new, old = ([watch(side.model, side.calibration.questions, reader, block) for block in blocks] for side in sides)
    counts = [_false_alarms(side, blocks, seen, params) for side, seen in zip(sides, (new, old), strict=True)]
    hours = sum(seconds_of(seen.times) for seen in new) / 3600
    measures = [_surprise(new, old, params.gate.confidence)]
    if hours > 0:
        measures += [_alarms(counts[0], counts[1], hours, params.gate.confidence), _drift(new, old)]
    return measures


def _surprise(new: Sequence[Watched], old: Sequence[Watched], confidence: float) -> Measure:
    """The negative log-likelihood a block, and Student's interval of the mean of the paired differences."""
    values = np.array([[seen.nll for seen in side] for side in (new, old)])
    differences = values[0] - values[1]
    mean, before = map(float, values.mean(1))
    low = high = float(differences.mean())
    if (error := float(stats.sem(differences))) > 0:
        low, high = map(float, stats.t.interval(confidence, len(differences) - 1, low, error))
    words = f"its surprise at {len(new)} held-out blocks is {mean:.3f} against {before:.3f}"
    return Measure(SURPRISE, mean, before, low, high, low > 0, f"{words}, difference {low:+.3f} to {high:+.3f}")


def _alarms(new: int, old: int, hours: float, confidence: float) -> Measure:
    """False alarms an hour. Of all that the two raise, half are the candidate's if it is neither better nor worse.

    The interval is that of this share (Clopper & Pearson 1934), given how many there are; without any there is none.
    """
    low = high = None
    if total := new + old:
        interval = stats.binomtest(new, total).proportion_ci(confidence)
        low, high = (float(total / hours * (2 * share - 1)) for share in (interval.low, interval.high))
    words = f"it raises {new} false alarms in {hours:.2f} hours, the champion {old}"
    return Measure("false_alarms_per_hour", new / hours, old / hours, low, high, low is not None and low > 0, words)


def _false_alarms(side: Side, blocks: Sequence[Block], seen: Sequence[Watched], params: Params) -> int:
    """Merged alarms at the threshold that the model has.

    A block that the threshold was read off is judged by that of the others of its kind, or a model would know the
    answers. A card that does not say which these were is of before, when every held-out block was.
    """
    known = side.card["footage"].get("held_out")
    merge_seconds, per_hour = params.alarms.merge_seconds, params.alarms.per_hour
    told: list[Series] = []
    new: list[Series] = []
    for block, part in zip(blocks, seen, strict=True):
        if len(part.scores):
            (told if known is None or block.key in known else new).append((part.scores, part.times))
    tails = tails_of_others(told, merge_seconds) + [side.calibration.tail] * len(new)
    return sum(
        len(merged_peaks(scores, times, tail.threshold(per_hour), merge_seconds))
        for (scores, times), tail in zip(told + new, tails, strict=True)
    )


def _drift(new: Sequence[Watched], old: Sequence[Watched]) -> Measure:
    """How far apart the two distributions of scores are: the largest difference of their shares, 0 to 1."""
    scores, before = (np.concatenate([seen.scores for seen in side]) for side in (new, old))
    distance = float(stats.ks_2samp(scores, before).statistic)
    return Measure("score_drift", distance, None, None, None, False, f"the scores of the two are {distance:.2f} apart")


def on_marks(sides: tuple[Side, Side], marked: Sequence[Marked], per_hour: float) -> Measure:
    """How many of the events that people marked each is wrong about; here a single one counts."""
    new, old = (sum(_is_wrong(side, found, per_hour) for found in marked) for side in sides)
    words = f"it is wrong about {new} of {len(marked)} marked events, the champion about {old}"
    return Measure("feedback_mistakes", new, old, None, None, new > old, words)


def _is_wrong(side: Side, found: Marked, per_hour: float) -> bool:
    """Whether a model raises an alarm at what is marked as normal, or none at what is marked as unusual."""
    score = _scores(side, CellReader(), found.block())
    seen = score[found.start - found.first : found.stop - found.first]
    alarm = bool((seen > side.calibration.tail.threshold(per_hour)).any())
    return alarm == (found.mark.verdict == NORMAL)


def _scores(side: Side, reader: CellReader, block: Block) -> Array:
    """Smoothed, of every row of a block, by a memory that begins with it."""
    times, _ = block_times(block)
    stretches = observe(side.model, reader, block.path, times, block.start, block.stop)
    raw = np.concatenate([side.calibration.questions.score(stretch.maps).max((1, 2)) for _, stretch in stretches])
    return causal_average(raw, times[block.start : block.stop], side.model.smoothing_seconds)


def on_labels(
    sides: tuple[Side, Side], features: Path, labelled: pa.Table, camera_id: str, params: Params
) -> Measure | None:
    """AUROC of frames of labelled videos, and the interval of the difference when videos are drawn again.

    Args:
        sides: candidate and champion.
        features: root of the feature files.
        labelled: the table `labelled`.
        camera_id: whose videos count.
        params: gate.confidence, evaluate.resamples and evaluate.seed count.

    Returns:
        None where there is no such video, or nothing to tell apart. A video that either was fitted to does not count,
        and fewer than `_LEAST_VIDEOS` tell, but refuse nothing.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in labelled.to_pylist():
        if row["camera_id"] == camera_id:
            rows.setdefault(row["video_id"], []).append(row)
    fitted = {file_of(key) for side in sides for key in side.card["footage"]["fit"]}
    reader, unusual, scores = CellReader(), [], []
    for video_id, own in sorted(rows.items()):
        if own[0]["sha256"] in fitted:
            continue
        path = video_path(features / "cells", camera_id, video_id)
        frames = read_columns(path, ["frame_index", "time_seconds"])
        if not frames.num_rows or Layout.of(path) != sides[0].model.layout:
            continue  # it could not be decoded, or is no footage for this camera's model, as `videos` says
        block = Block(str(path.absolute()), video_id, 0, frames.num_rows, 0.0)
        unusual.append(_unusual(frames, own))
        scores.append([_scores(side, reader, block) for side in sides])
    labels = np.concatenate(unusual) if unusual else np.empty(0, np.bool_)
    if not labels.any() or labels.all():
        return None
    video_index = np.repeat(np.arange(len(unusual)), [len(part) for part in unusual])
    new, old = (
        ResampledRanking(labels, np.concatenate([pair[k] for pair in scores]), video_index).auroc for k in range(2)
    )
    once = np.ones(len(unusual), np.int64)
    bounds = bootstrap_interval(
        len(unusual),
        lambda drawn: new(drawn) - old(drawn),
        params.evaluate.resamples,
        params.gate.confidence,
        params.evaluate.seed,
    )
    low, high = (None if np.isnan(bound) else bound for bound in bounds[:2])
    words = f"its AUROC on {len(unusual)} labelled videos is {new(once):.3f} against {old(once):.3f}"
    if low is not None:
        words += f", difference {low:+.3f} to {high:+.3f}"
    worse = high is not None and high < 0 and len(unusual) >= _LEAST_VIDEOS
    return Measure("auroc", new(once), old(once), low, high, worse, words)


def _unusual(frames: pa.Table, intervals: list[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    """Whether each analysed frame lies in a labelled interval."""
    unusual = np.zeros(frames.num_rows, np.bool_)
    for column, unit, scale in (("frame_index", "frame", 1), ("time_seconds", "seconds", 1e6)):  # whole microseconds
        onset, offset = f"onset_{unit}", f"offset_{unit}"
        own = [(row[onset], row[offset]) for row in intervals if row[onset] is not None]
        clock, bounds = frames[column].to_numpy() * scale, np.array(own).reshape(-1, 2) * scale
        unusual |= label_frames(np.rint(clock), np.rint(bounds))
    return unusual
