"""Measures, as pure functions on numpy arrays. Undefined (no frames, one class only) is NaN, never a made-up number.

Scores: higher is more unusual, any monotone scale. Labels: True is unusual. A frame raises an alarm iff its score is
above the threshold, score > threshold. Intervals are [onset, offset) in any one unit.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.stats import chi2
from sklearn import metrics as sklearn_metrics

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class Interval(NamedTuple):
    """A confidence interval; `left_out` resamples, of which the statistic was undefined, do not count in it."""

    low: float
    high: float
    left_out: int


class Curve(NamedTuple):
    """Points of a curve; x ascends."""

    x: Floats
    y: Floats


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN where the whole is 0."""
    return float(part) / float(whole) if whole else float("nan")


# Ranking of frames


def auroc(labels: Bools, scores: Floats) -> float:
    """Area under the ROC curve: the chance that an unusual frame scores above an ordinary one, ties counting half.

    Args:
        labels: (N,) bool.
        scores: (N,) float, finite.

    Returns:
        In [0, 1]; NaN unless both classes are there.
    """
    return float(sklearn_metrics.roc_auc_score(labels, scores)) if _has_both(labels) else float("nan")


def auroc_macro(videos: Sequence[tuple[Bools, Floats]]) -> tuple[float, int]:
    """Mean AUROC over the videos that hold both classes, and how many these are.

    Args:
        videos: labels and scores of each, as `auroc` takes them.
    """
    values = [auroc(labels, scores) for labels, scores in videos if _has_both(labels)]
    return ratio(sum(values), len(values)), len(values)


def average_precision(labels: Bools, scores: Floats) -> float:
    """Σ (R_n − R_{n−1}) · P_n over falling thresholds, without interpolation. Chance level is the base rate.

    Args:
        labels: (N,) bool.
        scores: (N,) float, finite.

    Returns:
        In (0, 1]; NaN unless both classes are there.
    """
    return float(sklearn_metrics.average_precision_score(labels, scores)) if _has_both(labels) else float("nan")


def base_rate(labels: Bools) -> float:
    """Share of unusual frames, the average precision of a score that knows nothing; NaN without frames."""
    return ratio(int(labels.sum()), labels.size)


def equal_error_rate(labels: Bools, scores: Floats) -> float:
    """The rate at which false alarms and misses are equally frequent, on the ROC curve drawn with straight lines.

    Args:
        labels: (N,) bool.
        scores: (N,) float, finite.

    Returns:
        In [0, 1]; NaN unless both classes are there.
    """
    if not _has_both(labels):
        return float("nan")
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, scores)
    return _crossing(fpr, tpr)


def roc_curve(labels: Bools, scores: Floats, max_points: int) -> Curve:
    """False positive rate against true positive rate, (0, 0) to (1, 1); empty unless both classes are there."""
    if not _has_both(labels):
        return Curve(np.empty(0), np.empty(0))
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, scores)
    return _thin(Curve(fpr, tpr), max_points)


def precision_recall_curve(labels: Bools, scores: Floats, max_points: int) -> Curve:
    """Recall against precision; recall ascends from 0, where precision is 1 by convention. Empty as `roc_curve`."""
    if not _has_both(labels):
        return Curve(np.empty(0), np.empty(0))
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores, drop_intermediate=True)
    return _thin(Curve(recall[::-1], precision[::-1]), max_points)


# Alarms


class Confusion(NamedTuple):
    """Frames counted by label and alarm."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def accuracy(self) -> float:
        """Share of frames that are right; NaN without frames."""
        right = self.true_positives + self.true_negatives
        return ratio(right, right + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of alarmed frames that are unusual; NaN without alarms."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of unusual frames that are alarmed; NaN without unusual frames."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall; NaN without alarms and unusual frames."""
        return ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def confusion(labels: Bools, alarms: Bools) -> Confusion:
    """Count frames by label and alarm.

    Args:
        labels: (N,) bool.
        alarms: (N,) bool; of scores at a threshold this is `scores > threshold`.
    """
    return Confusion(
        true_positives=int((labels & alarms).sum()),
        false_positives=int((~labels & alarms).sum()),
        false_negatives=int((labels & ~alarms).sum()),
        true_negatives=int((~labels & ~alarms).sum()),
    )


class EventCounts(NamedTuple):
    """Predicted events, those of them that are right, labelled events, those of them that are found."""

    predicted: int
    right: int
    labelled: int
    found: int

    @property
    def precision(self) -> float:
        """Share of predicted events that are right; NaN without any."""
        return ratio(self.right, self.predicted)

    @property
    def recall(self) -> float:
        """Share of labelled events that are found; NaN without any."""
        return ratio(self.found, self.labelled)


def event_precision_recall(predicted: Floats | Ints, labelled: Floats | Ints) -> EventCounts:
    """Match the events of one video: right or found is what overlaps any event of the other side, by however little.

    Args:
        predicted: (P, 2) onset and offset.
        labelled: (L, 2) onset and offset, in the same unit.
    """
    onset = np.maximum(predicted[:, None, 0], labelled[None, :, 0])  # (P, L)
    offset = np.minimum(predicted[:, None, 1], labelled[None, :, 1])
    overlap = onset < offset
    return EventCounts(len(predicted), int(overlap.any(axis=1).sum()), len(labelled), int(overlap.any(axis=0).sum()))


# Intervals


def bootstrap_interval(
    num_videos: int, statistic: Callable[[Ints], float], resamples: int, confidence: float, seed: int
) -> Interval:
    """Percentile interval of a statistic when the videos are drawn again, with replacement, as many as there are.

    Frames of a video resemble each other, so that whole videos are drawn (Efron & Tibshirani, 1993, chapters 8 and 13).

    Args:
        num_videos: V.
        statistic: takes how often each video was drawn, (V,) int64; NaN where it is undefined.
        resamples: how many times.
        confidence: as in 0.95.
        seed: of the draws.

    Returns:
        NaN bounds with fewer than two videos, which say nothing about the next one, or with nothing but undefined
        resamples.
    """
    if num_videos < 2:
        return Interval(float("nan"), float("nan"), 0)
    draws = np.random.default_rng(seed)
    values = np.array(
        [
            statistic(np.bincount(draws.integers(num_videos, size=num_videos), minlength=num_videos))
            for _ in range(resamples)
        ]
    )
    defined = values[~np.isnan(values)]
    if not defined.size:
        return Interval(float("nan"), float("nan"), resamples)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), resamples - defined.size)


def poisson_interval(count: int, hours: float, confidence: float) -> tuple[float, float]:
    """Exact interval of a rate per hour, from a count over some hours (Garwood, Biometrika 1936).

    Returns:
        The lower and upper bound; NaN without hours.
    """
    if hours <= 0:
        return float("nan"), float("nan")
    low = float(chi2.ppf((1 - confidence) / 2, 2 * count)) / 2 if count else 0.0
    high = float(chi2.ppf((1 + confidence) / 2, 2 * count + 2)) / 2
    return low / hours, high / hours


class ResampledRanking:
    """Ranking measures of frames whose videos are drawn again: sorted once, a resample costs a few passes.

    Each method takes how often each video was drawn, (V,) int64, and gives what the function of its name gives for the
    frames of these videos joined.

    Args:
        labels: (N,) bool.
        scores: (N,) float, finite.
        video_index: (N,) int64, 0-based, of each frame's video.
    """

    def __init__(self, labels: Bools, scores: Floats, video_index: Ints) -> None:
        order = np.lexsort((video_index, -scores))  # by falling score, then by video
        falling, videos, unusual = scores[order], video_index[order], labels[order].astype(np.int64)
        new_score = np.diff(falling, prepend=np.inf) != 0
        # Frames of one video with one score count as one entry (E of them), entries of one score as one threshold.
        starts = np.flatnonzero(new_score | (np.diff(videos, prepend=-1) != 0))
        sizes = np.diff(starts, append=len(order))
        self._videos = videos[starts]  # (E,)
        self._positives = np.add.reduceat(unusual, starts) if len(starts) else starts
        self._negatives = sizes - self._positives
        self._last = np.flatnonzero(np.append(new_score[starts][1:], len(starts) > 0))  # of each threshold

    def auroc(self, drawn: Ints) -> float:
        """See `auroc`."""
        positives, negatives = self._counts(drawn)
        area = float(np.sum(np.diff(negatives) * (positives[1:] + positives[:-1]))) / 2
        return ratio(area, float(positives[-1]) * float(negatives[-1]))

    def average_precision(self, drawn: Ints) -> float:
        """See `average_precision`."""
        positives, negatives = self._counts(drawn)
        if not positives[-1] or not negatives[-1]:
            return float("nan")
        precision = positives[1:] / np.maximum(positives[1:] + negatives[1:], 1)
        return float(np.sum(np.diff(positives) * precision)) / float(positives[-1])

    def equal_error_rate(self, drawn: Ints) -> float:
        """See `equal_error_rate`."""
        positives, negatives = self._counts(drawn)
        if not positives[-1] or not negatives[-1]:
            return float("nan")
        return _crossing(negatives / negatives[-1], positives / positives[-1])

    def _counts(self, drawn: Ints) -> tuple[Ints, Ints]:
        """Unusual and ordinary frames at or above each threshold, falling, with a first threshold above all."""
        weights = drawn[self._videos]
        positives = np.cumsum(weights * self._positives)[self._last]
        negatives = np.cumsum(weights * self._negatives)[self._last]
        return np.concatenate(([0], positives)), np.concatenate(([0], negatives))


# For comparison with papers


def smooth_gaussian(scores: Floats, sigma_frames: float) -> Floats:
    """Gaussian smoothing of one video's scores; it looks ahead, so that no live system could have these scores.

    Args:
        scores: (N,) float; the ends are held.
        sigma_frames: standard deviation of the kernel.
    """
    smooth: Floats = gaussian_filter1d(scores, sigma_frames, mode="nearest") if scores.size else scores
    return smooth


def minmax_per_video(scores: Floats) -> Floats:
    """One video's scores scaled to [0, 1]: every video then has a top score, unusual or not. Constant scores give 0."""
    if not scores.size or scores.max() == scores.min():
        return np.zeros_like(scores)
    scaled: Floats = (scores - scores.min()) / (scores.max() - scores.min())
    return scaled


def _has_both(labels: Bools) -> bool:
    return bool(labels.any() and not labels.all())


def _crossing(fpr: Floats, tpr: Floats) -> float:
    """Where a ROC curve of straight lines meets fpr = 1 − tpr."""
    excess = fpr + tpr - 1.0  # false alarms less misses, ascends from −1 to 1
    after = int(np.argmax(excess >= 0))
    part = excess[after - 1] / (excess[after - 1] - excess[after])
    return float(fpr[after - 1] + part * (fpr[after] - fpr[after - 1]))


def _thin(curve: Curve, max_points: int) -> Curve:
    """At most `max_points` of a curve, both ends kept, evenly along its length."""
    if len(curve.x) <= max_points:
        return curve
    length = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y)))))
    wanted = np.linspace(0.0, length[-1], max_points)
    kept = np.unique(np.append(np.searchsorted(length, wanted[:-1]), len(length) - 1))
    return Curve(curve.x[kept], curve.y[kept])
