"""Measures, as pure functions on numpy arrays. Undefined (no frames, one class only) is NaN, never a made-up number.

Scores: higher is more unusual, any monotone scale. Labels: True is unusual. A frame raises an alarm iff its score is
above the threshold, score > threshold. Intervals are [onset, offset) in any one unit.

scikit-learn takes most of a second to import, and footage without labels has no use for it: functions import it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

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
    from sklearn import metrics

    return float(metrics.roc_auc_score(labels, scores)) if _has_both(labels) else float("nan")


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
    from sklearn import metrics

    return float(metrics.average_precision_score(labels, scores)) if _has_both(labels) else float("nan")


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
    from sklearn import metrics

    fpr, tpr, _ = metrics.roc_curve(labels, scores)
    return _crossing(fpr, tpr)


def roc_curve(labels: Bools, scores: Floats, max_points: int) -> Curve:
    """False positive rate against true positive rate, (0, 0) to (1, 1); empty unless both classes are there."""
    if not _has_both(labels):
        return Curve(np.empty(0), np.empty(0))
    from sklearn import metrics

    fpr, tpr, _ = metrics.roc_curve(labels, scores)
    return _thin(Curve(fpr, tpr), max_points)


def precision_recall_curve(labels: Bools, scores: Floats, max_points: int) -> Curve:
    """Recall against precision; recall ascends from 0, where precision is 1 by convention. Empty as `roc_curve`."""
    if not _has_both(labels):
        return Curve(np.empty(0), np.empty(0))
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(labels, scores, drop_intermediate=True)
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


# Where in the picture. The measures and their two shares are those of Street Scene (Ramachandra & Jones 2020, arXiv
# 1902.05872, section 4).

REGION_OVERLAP = 0.1  # β, the least intersection over union at which a region is found
TRACK_SHARE = 0.1  # α, the least share of a track's regions that must be found
LINK_OVERLAP = 0.1  # above which regions of nearby frames belong to one track
LINK_GAP = 2  # frames that may lie between two of them


class Pointing(NamedTuple):
    """Frames whose highest cell lies inside a true region, and frames that have true regions."""

    inside: int
    frames: int

    @property
    def accuracy(self) -> float:
        """Share of frames in which the highest cell points at what is unusual; NaN without any."""
        return ratio(self.inside, self.frames)


def pointing(points: Floats, true_frames: Ints, true_boxes: Floats) -> Pointing:
    """Count the frames whose point lies inside a true region, its right and lower edges excluded.

    Args:
        points: (N, 2), the x and y of each frame's highest cell.
        true_frames, true_boxes: (R,) and (R, 4), the true regions and the frames in [0, N) that they lie in.
    """
    of_region = points[true_frames]
    inside = ((true_boxes[:, :2] <= of_region) & (of_region < true_boxes[:, 2:])).all(1)
    return Pointing(len(np.unique(true_frames[inside])), len(np.unique(true_frames)))


def overlap(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of each of (A, 4) boxes with each of (B, 4) others, (A, B)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    sizes, other_sizes = (np.prod(these[:, 2:] - these[:, :2], axis=1) for these in (boxes, others))
    shares: Floats = shared / (sizes[:, None] + other_sizes[None, :] - shared)
    return shares


def match_boxes(
    frames: Ints, boxes: Floats, scores: Floats, true_frames: Ints, true_boxes: Floats, least: float
) -> Bools:
    """Which detections of a video hit: the surest of a frame first, each true box once.

    Args:
        frames, boxes, scores: (P,), (P, 4) and (P,) of the detections, in any order.
        true_frames, true_boxes: (R,) and (R, 4).
        least: overlap of a hit.

    Returns:
        (P,).
    """
    hit = np.zeros(len(frames), dtype=np.bool_)
    true_at = {int(true_frames[here[0]]): here for here in _by_frame(true_frames)}
    for here in _by_frame(frames):
        true = true_at.get(int(frames[here[0]]))
        if true is None:
            continue
        here = here[np.argsort(-scores[here], kind="stable")]
        shares = overlap(boxes[here].astype(np.float64), true_boxes[true])
        for detection, shared in zip(here, shares, strict=True):
            best = int(shared.argmax())
            if shared[best] >= least:
                hit[detection] = True
                shares[:, best] = 0  # `shared` of those that follow are views of it
    return hit


def average_precision_of_boxes(hits: Bools, scores: Floats, num_true: int) -> float:
    """Area under precision over recall of detections of falling score, precision made to fall, too.

    Args:
        hits, scores: (P,).
        num_true: of true boxes; NaN without any.
    """
    if not num_true:
        return float("nan")
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(falling * np.diff(found, prepend=0)) / num_true)


def link_regions(frames: Ints, boxes: Floats) -> Ints:
    """Which track each region of a video belongs to, greedily: the largest overlap first, each side once.

    A region continues the track whose last region it overlaps by more than `LINK_OVERLAP`, if at most `LINK_GAP`
    frames lie between the two; what continues none begins one.

    Args:
        frames: (R,), in any order.
        boxes: (R, 4).

    Returns:
        (R,) 0-based, in the order in which tracks begin.
    """
    track = np.full(len(frames), -1, dtype=np.int64)
    last = np.empty(0, dtype=np.int64)  # the region that each track ends with so far
    for here in _by_frame(frames):
        open_tracks = np.flatnonzero(frames[here[0]] - frames[last] <= LINK_GAP + 1)
        shares = overlap(boxes[here], boxes[last[open_tracks]])
        while shares.size and shares.max() > LINK_OVERLAP:
            region, candidate = np.unravel_index(int(shares.argmax()), shares.shape)
            track[here[region]] = open_tracks[candidate]
            shares[region], shares[:, candidate] = 0, 0
        new = here[track[here] < 0]
        track[new] = len(last) + np.arange(len(new))
        last = np.append(last, new)
        last[track[here]] = here
    return track


def _by_frame(frames: Ints) -> list[Ints]:
    """The positions of each frame that is there, by rising frame."""
    order = np.argsort(frames, kind="stable")
    starts = np.flatnonzero(np.diff(frames[order], prepend=-1))
    return np.split(order, starts[1:]) if len(order) else []


class Found(NamedTuple):
    """A video's true and false regions by the score of what was predicted there.

    Attributes:
        regions: (R,), of each true region the highest score of a predicted region of its frame that overlaps it by at
            least `REGION_OVERLAP`, so that it is found at every threshold up to this; −∞ where there is none.
        false: (F,), scores of the predicted regions that overlap no true region of their frame by as much.
    """

    regions: Floats
    false: Floats


def find_regions(frames: Ints, boxes: Floats, scores: Floats, true_frames: Ints, true_boxes: Floats) -> Found:
    """Match the predicted regions of a video with the true ones.

    Args:
        frames, boxes, scores: (P,), (P, 4) and (P,) of the predicted regions; frames ascend.
        true_frames, true_boxes: (R,) and (R, 4) of the true ones.
    """
    found, false = np.full(len(true_frames), -np.inf), np.ones(len(frames), dtype=np.bool_)
    for true in _by_frame(true_frames):
        here = slice(*np.searchsorted(frames, true_frames[true[0]] + np.arange(2)))
        if here.start < here.stop:
            match = overlap(true_boxes[true], boxes[here]) >= REGION_OVERLAP
            found[true] = np.where(match, scores[here], -np.inf).max(1)
            false[here] = ~match.any(0)
    return Found(found, scores[false])


def find_tracks(regions: Floats, track: Ints) -> Floats:
    """The score up to which each track is found: that of enough of its regions to be a `TRACK_SHARE` of them.

    Args:
        regions: (R,) as in `Found`.
        track: (R,) 0-based, of each region.

    Returns:
        (K,), −∞ where too few regions are found at any threshold.
    """
    falling = [np.sort(regions[track == k])[::-1] for k in range(track.max(initial=-1) + 1)]
    # Rounded, or a tenth of seventy would be a little more than seven.
    return np.array([own[math.ceil(round(TRACK_SHARE * len(own), 9)) - 1] for own in falling])


class ResampledDetection:
    """Area under the detection rate over false positive regions a frame, 0 to 1, when videos are drawn again.

    The rate at a threshold is the share of true regions (RBDC) or of true tracks (TBDC) that are found at it. Between
    two thresholds, and up to 1 where even the lowest gives fewer false positives, the rate is the one of the higher:
    only what some threshold attains counts.

    Args:
        found: of each video, the scores up to which its true regions, or tracks, are found.
        false: of each video, the scores of its false regions.
        num_frames: of each video.
    """

    def __init__(self, found: Sequence[Floats], false: Sequence[Floats], num_frames: Sequence[int]) -> None:
        self._num_true = np.array([len(scores) for scores in found], dtype=np.int64)  # (V,)
        self._num_frames = np.array(num_frames, dtype=np.int64)
        parts = [*found, *false]
        scores = np.concatenate([np.empty(0), *parts])
        video = np.repeat(np.tile(np.arange(len(found)), 2), [len(part) for part in parts])
        true = np.arange(len(scores)) < self._num_true.sum()
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        self._video, self._true = video[order], true[order]
        self._last = np.flatnonzero(np.diff(scores[order], append=-np.inf) != 0)  # of each threshold

    def area(self, drawn: Ints) -> float:
        """The area for the videos drawn, (V,) int64 times each; NaN without anything true in them."""
        num_true, num_frames = int(drawn @ self._num_true), int(drawn @ self._num_frames)
        if not num_true:
            return float("nan")
        weights = drawn[self._video]
        rate = np.cumsum(weights * self._true)[self._last] / num_true
        false = np.minimum(np.cumsum(weights * ~self._true)[self._last] / num_frames, 1)
        return float(rate @ np.diff(false, append=1))


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
    low = float(gammaincinv(count, (1 - confidence) / 2)) if count else 0.0
    high = float(gammaincinv(count + 1, (1 + confidence) / 2))
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
    from scipy.ndimage import gaussian_filter1d

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
