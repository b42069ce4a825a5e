"""Slow, obvious twins: plain Python, by definition; measures exact where fractions allow it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from vidrnn.windows import MODELLED


def context_of(cells):
    """(T, C, rows, columns) to (rows · columns, T, 9 · C): each cell with its neighbours, zeros beyond the border."""
    steps, channels, rows, columns = cells.shape
    context = torch.zeros(rows * columns, steps, channels, 3, 3)
    for row in range(rows):
        for column in range(columns):
            for dy in range(max(0, row - 1), min(rows, row + 2)):
                for dx in range(max(0, column - 1), min(columns, column + 2)):
                    cell = context[row * columns + column]
                    cell[:, :, dy - row + 1, dx - column + 1] = cells[:, :, dy, dx]
    return context.flatten(2)


def auroc(labels, scores):
    """Count the pairs that are ranked rightly."""
    unusual = [s for s, label in zip(scores, labels, strict=True) if label]
    ordinary = [s for s, label in zip(scores, labels, strict=True) if not label]
    if not unusual or not ordinary:
        return None
    twice = sum(2 * (u > o) + (u == o) for u in unusual for o in ordinary)
    return Fraction(twice, 2 * len(unusual) * len(ordinary))


def average_precision(labels, scores):
    """Σ (R_n − R_{n−1}) · P_n, every distinct score a threshold, falling."""
    if all(labels) or not any(labels):
        return None
    total, before = Fraction(0), Fraction(0)
    for threshold in sorted(set(scores), reverse=True):
        chosen = [label for s, label in zip(scores, labels, strict=True) if s >= threshold]
        recall, precision = Fraction(sum(chosen), sum(labels)), Fraction(sum(chosen), len(chosen))
        total += (recall - before) * precision
        before = recall
    return total


def rates(labels, scores, threshold):
    """False positive and true positive rate of `score >= threshold`; None is above all."""
    chosen = [threshold is not None and s >= threshold for s in scores]
    false = sum(c and not label for c, label in zip(chosen, labels, strict=True))
    true = sum(c and label for c, label in zip(chosen, labels, strict=True))
    return Fraction(false, len(labels) - sum(labels)), Fraction(true, sum(labels))


def equal_error_rate(labels, scores):
    """Sweep every threshold; between two of them, both rates go along a straight line."""
    if all(labels) or not any(labels):
        return None
    points = [rates(labels, scores, threshold) for threshold in [None, *sorted(set(scores), reverse=True)]]
    for (fpr0, tpr0), (fpr1, tpr1) in pairwise(points):
        gap0, gap1 = fpr0 - (1 - tpr0), fpr1 - (1 - tpr1)
        if gap0 <= 0 <= gap1:
            part = -gap0 / (gap1 - gap0)
            return fpr0 + part * (fpr1 - fpr0)
    raise AssertionError("the curve runs from (0, 0) to (1, 1)")


def overlapping(events, others):
    """How many events share a frame with any of the others."""
    covered = {frame for onset, offset in others for frame in range(onset, offset)}
    return sum(any(frame in covered for frame in range(onset, offset)) for onset, offset in events)


def bootstrap(videos, statistic, resamples, confidence, seed):
    """Draw videos again, literally: a statistic of the list of drawn videos. Undefined ones are left out."""
    draws, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        value = statistic([videos[i] for i in draws.integers(len(videos), size=len(videos))])
        if value is not None:
            values.append(float(value))
    values.sort()
    return _quantile(values, (1 - confidence) / 2), _quantile(values, (1 + confidence) / 2), resamples - len(values)


def _quantile(ordered, share):
    """Linear between the order statistics."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def held(frame_index, values, num_frames):
    """Walk over the source frames and remember the last analysed one."""
    result, current = [], values[0]
    for frame in range(num_frames):
        if frame in frame_index:
            current = values[frame_index.index(frame)]
        result.append(current)
    return result


def overlap(box, other):
    """Intersection over union of two boxes of whole numbers, pixel by pixel."""
    pixels, others = ({(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (box, other))
    return Fraction(len(pixels & others), len(pixels | others))


def detection_area(videos, by_track):
    """RBDC, or TBDC `by_track`, of (num_frames, predicted (frame, box, score), true (frame, box, track)) a video.

    As Street Scene defines them: at every threshold, count what is found and what is false, literally.
    """
    num_frames = sum(frames for frames, _, _ in videos)
    scores = {p[2] for _, predicted, _ in videos for p in predicted}
    points = []
    for threshold in sorted(scores, reverse=True):
        found, false = [], 0
        for _, predicted, true in videos:
            kept = [p for p in predicted if p[2] >= threshold]
            hit = [any(p[0] == t[0] and overlap(p[1], t[1]) >= Fraction(1, 10) for p in kept) for t in true]
            false += sum(not any(p[0] == t[0] and overlap(p[1], t[1]) >= Fraction(1, 10) for t in true) for p in kept)
            if by_track:
                for track in {t[2] for t in true}:
                    own = [h for h, t in zip(hit, true, strict=True) if t[2] == track]
                    found.append(10 * sum(own) >= len(own))
            else:
                found += hit
        points.append((Fraction(false, num_frames), Fraction(sum(found), len(found)) if found else None))
    if not any(true for _, _, true in videos):
        return None
    total = Fraction(0)
    for (fpr, rate), (following, _) in pairwise([*points, (Fraction(1), None)]):
        total += rate * (min(following, Fraction(1)) - min(fpr, Fraction(1)))
    return total


def tracks_of(regions):
    """Link (frame, box) regions: over every pair that may be one, the largest overlap first; a set of pairs' groups."""
    track, ends = {}, []
    for frame in sorted({f for f, _ in regions}):
        here = [i for i, (f, _) in enumerate(regions) if f == frame]
        pairs = [
            (-overlap(regions[i][1], regions[end][1]), i, k)
            for i in here
            for k, end in enumerate(ends)
            if frame - regions[end][0] - 1 <= 2
        ]
        for negative, i, k in sorted(pairs):
            if -negative > Fraction(1, 10) and i not in track and k not in {track.get(j) for j in here}:
                track[i] = k
        for i in here:
            if i not in track:
                track[i] = len(ends)
                ends.append(i)
            ends[track[i]] = i
    return [track[i] for i in range(len(regions))]


def was_at(cells, times, t, row, column, steps):
    """The cell in which what is at (row, column) in frame t was so many steps before; before frame 0 nothing moves."""
    _, _, rows, columns = cells.shape
    y, x = float(row), float(column)
    for frame in range(t, max(t - steps, 0), -1):
        seconds = times[frame] - times[frame - 1]
        near = round(y), round(x)
        y_speed, x_speed = (cells[frame, MODELLED.index(f"person_velocity_{axis}")][near] for axis in "yx")
        y = min(max(y - rows * seconds * y_speed, 0), rows - 1)
        x = min(max(x - rows * seconds * x_speed, 0), columns - 1)
    return round(y) * columns + round(x)
