"""Where one stretch of footage ends and another begins: cuts, fades, dissolves, changes of activity, and what repeats.

Shots are told apart by a tiny signature of every decoded frame, relative to the footage itself: a cut stands out from
the changes around it and is not undone, a blend lies on the straight line between what was before and what comes
after. Within a shot a segment ends where the surprise of the network leaves its own recent past. All is causal but for
`LOOK_AHEAD_SECONDS`, so that a video of any length is read a block at a time.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LOOK_AHEAD_SECONDS = 3.0
_BLOCK = 4096  # frames at a time
_AROUND_SECONDS = 0.5  # to each side, with whose changes that of a frame is compared
_AROUND_FRAMES = 4  # at least
_OUTSTANDING = 4.0  # times the changes around it is a cut
_CALM = 0.02  # of the contrast: changes less than this count as this, so that in a still picture nothing is a cut
_UNLIKE = 0.125  # times the contrast is how far apart the pictures at a cut are, at least
_UNLIKE_ENDS = 0.22  # and those at the ends of a blend
_LEVELS = 3.0  # nor is a difference of less a change of anything
_BACK_SECONDS = 0.4  # within which a flash is over
_BACK = 0.5  # of the change, within which a picture counts as back where it was
_ONE_WAY = 0.9  # of the parts that change grow brighter, or darker: a change of the light
_ALIKE = 0.85  # correlation of pictures that differ in their light alone
_SPANS_SECONDS = (0.25, 0.5, 1.0)  # half-widths of gradual changes that are looked for
_STRAIGHT = 0.7  # of at most 1: how nearly a blend lies on the line between its ends
_APART_SECONDS = 1.0  # between two gradual changes
_FLAT = 0.15  # times the contrast around it: a picture that is nearly plain
_FADE_SECONDS = 1.5  # that much is around it; what is plain for longer is a segment of its own
_LEAST_FADE_SECONDS = 0.1  # that it takes to half of the contrast
_SHIFTS = (2, 4)  # parts, down and across, that a camera may have moved between two pictures that are compared
_SAMPLES = 32  # frames of a segment that stand for it
_SAME_SCENE = 0.12  # times the contrast, within which segments show the same scene

_PAST_SECONDS = 6.0  # of surprise with which the next is compared
_LEAST_PAST_SECONDS = 2.0
_NEXT_SECONDS = 1.0
_LONG_SECONDS = 60.0
_TRIFLE = 0.1  # of the mean over these is nothing: surprise this far below and none at all are alike
_LEAST_SPREAD = 0.25  # of the level of the past
_CHANGES = 4.0  # spreads by which surprise changes at a boundary

Signatures = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Seconds = npt.NDArray[np.float64]
Read = Callable[[int, int], Signatures]


@dataclass(frozen=True)
class Boundary:
    """The first frame of a new segment.

    Attributes:
        frame: its number.
        kind: `cut`, `fade`, `dissolve` (of these two, `frame` is the middle) or `change`.
        score: how far it stands out; from 1 it is one.
    """

    frame: int
    kind: str
    score: float


@dataclass(frozen=True)
class Segment:
    """Frames [first, end) of one kind.

    Attributes:
        first, end: its frames.
        start: the kind of its boundary; `start` of the first.
        score: of its boundary; None of the first.
        key: the frame that is most like the whole.
        group: number of the scene, from 0 in the order in which they first appear.
    """

    first: int
    end: int
    start: str
    score: float | None
    key: int
    group: int


def distance(a: Array, b: Array) -> Array:
    """How far pictures (..., S, S) differ when each part may have moved into the next: (...) levels.

    Of each part, how far it lies outside the range of the same part and its neighbours in the other picture; the mean,
    and of both ways the greater.
    """
    return np.maximum(_outside(a, b), _outside(b, a))


def _outside(a: Array, b: Array) -> Array:
    low = high = b
    for axis in (-2, -1):
        low, high = _of_three(np.minimum, low, axis), _of_three(np.maximum, high, axis)
    return np.asarray(np.maximum(0, np.maximum(low - a, a - high)).mean((-2, -1)))


def _of_three(least: Callable[..., Array], pictures: Array, axis: int) -> Array:
    """Of each part and the two beside it along an axis."""
    size = pictures.shape[axis]
    before = np.take(pictures, np.maximum(np.arange(size) - 1, 0), axis)
    after = np.take(pictures, np.minimum(np.arange(size) + 1, size - 1), axis)
    return least(least(before, pictures), after)


def shifted_distance(a: Array, b: Array) -> float:
    """`distance` of two pictures (S, S), at the shift of the whole at which they are most alike."""
    size, best = len(a), np.inf
    for down in range(-_SHIFTS[0], _SHIFTS[0] + 1):
        for across in range(-_SHIFTS[1], _SHIFTS[1] + 1):
            here = np.s_[max(0, down) : size + min(0, down), max(0, across) : size + min(0, across)]
            there = np.s_[max(0, -down) : size + min(0, -down), max(0, -across) : size + min(0, -across)]
            best = min(best, float(distance(a[here], b[there])))
    return best


def find_boundaries(read: Read, seconds: Seconds) -> list[Boundary]:
    """Cuts, fades and dissolves of a video, in order.

    Args:
        read: gives the signatures (stop − start, S, S) uint8 of frames [start, stop).
        seconds: (n,), when its frames are shown.
    """
    if len(seconds) < 3:
        return []
    step = float(np.median(np.diff(seconds)))
    margin = round(2 * LOOK_AHEAD_SECONDS / step)
    found = []
    for start in range(0, len(seconds), _BLOCK):
        first, stop = max(0, start - margin), min(len(seconds), start + _BLOCK + margin)
        for boundary in _in_block(read(first, stop).astype(np.float32), step):
            if start <= first + boundary.frame < start + _BLOCK:
                found.append(Boundary(first + boundary.frame, boundary.kind, boundary.score))
    return found


def _in_block(pictures: Array, step: float) -> list[Boundary]:
    contrast = pictures.std((1, 2))
    runs = _flat_runs(contrast, step)
    fades = _fades(contrast, runs, step)
    hidden = np.zeros(len(pictures), bool)  # where a fade goes on, which is no cut and no blend
    for first, end in runs:
        hidden[first : end + 1] |= first == 0 or any(first <= fade.frame <= end for fade in fades)
    cuts = [cut for cut in _cuts(pictures, contrast, step) if not hidden[cut.frame]]
    blends = _blends(pictures, contrast, step, [*cuts, *fades])
    return sorted([*cuts, *fades, *blends], key=lambda boundary: boundary.frame)


def _flat_runs(contrast: Array, step: float) -> list[tuple[int, int]]:
    """[first, end) of frames that are nearly plain, next to what is shown around them: black, mostly, or white."""
    around = round(_FADE_SECONDS / step)
    highest = np.array([contrast[max(0, t - around) : t + around + 1].max() for t in range(len(contrast))])
    edges = np.diff(np.concatenate([[0], contrast < _FLAT * highest, [0]]).astype(np.int8))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def _fades(contrast: Array, runs: Sequence[tuple[int, int]], step: float) -> list[Boundary]:
    """Where pictures fade: in the middle of what is plain, or at both of its ends where that lasts."""
    count, around, least = len(contrast), round(_FADE_SECONDS / step), max(2, round(_LEAST_FADE_SECONDS / step))
    found = []
    for first, end in runs:
        sides = (contrast[max(0, first - around) : first][::-1], contrast[end : end + around])
        # Frames from what is plain to half of the contrast that is reached: a cut needs none.
        slow = [len(side) > least and bool((side[:least] < side.max() / 2).all()) for side in sides]
        if first == 0 or end == count or not any(slow):
            continue
        if end - first > around:
            found += [Boundary(first, "fade", 1 / _FLAT), Boundary(end, "fade", 1 / _FLAT)]
        elif slow[1]:
            found.append(Boundary((first + end) // 2, "fade", 1 / _FLAT))
        else:
            found.append(Boundary(end, "fade", 1 / _FLAT))
    return found


def _cuts(pictures: Array, contrast: Array, step: float) -> list[Boundary]:
    around = max(_AROUND_FRAMES, round(_AROUND_SECONDS / step))
    change = np.concatenate([[0.0], distance(pictures[1:], pictures[:-1])])
    needed = np.maximum(_LEVELS, _UNLIKE * np.maximum(contrast, np.concatenate([contrast[:1], contrast[:-1]])))
    found = []
    for t in np.flatnonzero(change >= needed).tolist():
        sides = (change[max(1, t - around) : t], change[t + 1 : t + 1 + around])
        level = max((float(np.quantile(side, 0.8)) for side in sides if len(side) > 1), default=0.0)
        score = change[t] / (level + _CALM * max(contrast[t - 1], contrast[t])) / _OUTSTANDING
        beside = np.delete(change[max(1, t - 2) : t + 3], min(2, t - 1))
        if score < 1 or change[t] < 1.5 * beside.max(initial=0):
            continue
        if not _is_undone(pictures, change[t], t, step) and not _is_light(pictures[t - 1], pictures[t]):
            found.append(Boundary(t, "cut", float(score)))
    return found


def _is_undone(pictures: Array, change: float, t: int, step: float) -> bool:
    """Whether what changed at frame t is undone soon after, or undoes what changed shortly before, as in a flash."""
    for length in range(1, max(3, round(_BACK_SECONDS / step)) + 1):
        for first, last in ((t - 1, t + length), (t - 1 - length, t)):
            if first < 0 or last >= len(pictures) or distance(pictures[first], pictures[last]) > _BACK * change:
                continue
            between = pictures[first + 1 : last]
            if len(between) <= 2 or all(_one_way(pictures[first], picture) for picture in between[:2]):
                return True
    return False


def _one_way(a: Array, b: Array) -> bool:
    """Whether nearly all parts that change grow brighter, or nearly all darker."""
    change = b - a
    brighter, darker = (change > _LEVELS).sum(), (change < -_LEVELS).sum()
    return bool(max(brighter, darker) > _ONE_WAY * (brighter + darker))


def _is_light(a: Array, b: Array) -> bool:
    """Whether two pictures differ in their light alone."""
    return bool(_one_way(a, b) and np.corrcoef(a.ravel(), b.ravel())[0, 1] > _ALIKE) if a.std() and b.std() else False


def _in_one_light(a: Array, b: Array) -> tuple[Array, Array]:
    """Both with the mean and contrast of the one that has more of it."""
    contrast = max(float(a.std()), float(b.std()))
    return tuple((picture - picture.mean()) * (contrast / max(float(picture.std()), 1e-6)) for picture in (a, b))


def _blends(pictures: Array, contrast: Array, step: float, others: Sequence[Boundary]) -> list[Boundary]:
    count, apart = len(pictures), round(_APART_SECONDS / step)
    strength = np.zeros(count)
    for span in _SPANS_SECONDS:
        half = max(2, round(span / step))
        if count <= 2 * half:
            continue
        before, middle, after = pictures[: -2 * half], pictures[half:-half], pictures[2 * half :]
        # Of a part, 1 in the middle of a blend, 4 · share · (1 − share) off it, 0 at a cut, less where it turns. The
        # median, since things move through blends as well.
        whole = after - before
        share = 4 * (middle - before) * (after - middle) / np.maximum(whole**2, _LEVELS**2)
        share[np.abs(whole) < _LEVELS] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of what stands still nothing is left
            straight = np.nan_to_num(np.nanmedian(share.reshape(len(share), -1), axis=1))
        near_other = np.zeros(count, bool)
        for boundary in others:
            reach = half if boundary.kind == "cut" else half + apart
            near_other[max(0, boundary.frame - reach) : boundary.frame + reach + 1] = True
        for t in (np.flatnonzero((straight > _STRAIGHT) & ~near_other[half:-half]) + half).tolist():
            ends = pictures[t - half], pictures[t + half]
            needed = max(_LEVELS, _UNLIKE_ENDS * max(contrast[t - half], contrast[t + half]))
            if distance(*ends) < needed:
                continue
            size = min(shifted_distance(*ends), shifted_distance(*_in_one_light(*ends)))
            if size >= needed:
                strength[t] = max(strength[t], straight[t - half] * size / needed)
    found = []
    for t in np.flatnonzero(strength >= 1).tolist():
        near = strength[max(0, t - apart) : t + apart + 1]
        if strength[t] == near.max() and not (near[: min(t, apart)] == strength[t]).any():
            found.append(Boundary(t, "dissolve", float(strength[t])))
    return found


def find_changes(surprise: Array, seconds: Seconds, begins: Sequence[int]) -> list[Boundary]:
    """Where, within a shot, surprise leaves its own recent past: (n,) of analysed frames, shown at `seconds`.

    The next second is compared, in logarithms, with what was usual over the past ones and with the last second; the
    lesser of both tells how much changes and is greatest where it does.

    Args:
        surprise: of all that moves, 0 or more, in any unit.
        seconds: ascending.
        begins: the first row of each shot, ascending; the first is 0.
    """
    score = np.zeros(len(surprise))
    for first, end in zip(begins, [*begins[1:], len(surprise)], strict=True):
        for t in range(first, end):
            now = seconds[t]
            if now - seconds[first] < _LEAST_PAST_SECONDS or seconds[end - 1] - now < _NEXT_SECONDS:
                continue
            at = np.array([now - _LONG_SECONDS, now - _PAST_SECONDS, now - _NEXT_SECONDS, now + _NEXT_SECONDS])
            long, past, last, stop = np.searchsorted(seconds, at).tolist()
            if last == t:  # the footage has a gap here: there is nothing to compare with
                continue
            trifle = _TRIFLE * float(surprise[max(first, long) : stop].mean()) + 1e-9
            before = surprise[max(first, past) : t]
            level = float(np.median(before)) + trifle
            spread = np.log1p(_LEAST_SPREAD + 1.4826 * float(np.median(np.abs(before + trifle - level))) / level)
            coming = float(surprise[t:stop].mean()) + trifle
            recent = float(surprise[last:t].mean()) + trifle
            score[t] = min(abs(np.log(coming / level)), abs(np.log(coming / recent))) / spread / _CHANGES
    found = []
    for t in np.flatnonzero(score >= 1).tolist():
        low, high = np.searchsorted(seconds, [seconds[t] - _NEXT_SECONDS, seconds[t] + _NEXT_SECONDS])
        if score[t] == score[low:high].max() and score[t] > score[low:t].max(initial=0):
            found.append(Boundary(t, "change", float(score[t])))
    return found


def cut_up(boundaries: Sequence[Boundary], read: Read, count: int) -> list[Segment]:
    """The segments between boundaries, which ascend, of a video of `count` frames; none of a video without one."""
    if count == 0:
        return []
    segments: list[Segment] = []
    scenes: list[Array] = []
    starts = [Boundary(0, "start", 0.0), *boundaries]
    for boundary, end in zip(starts, [*(b.frame for b in boundaries), count], strict=True):
        frames = np.unique(np.linspace(boundary.frame, end - 1, _SAMPLES).round().astype(int))
        pictures = np.concatenate([read(frame, frame + 1) for frame in frames.tolist()]).astype(np.float32)
        mean = pictures.mean(0)
        key = int(frames[np.abs(pictures - mean).mean((1, 2)).argmin()])
        group = _scene(mean, scenes)
        score = None if boundary.kind == "start" else boundary.score
        segments.append(Segment(boundary.frame, end, boundary.kind, score, key, group))
    return segments


def _scene(mean: Array, scenes: list[Array]) -> int:
    """The number of the scene that a mean picture shows; a new one joins `scenes`."""
    apart = [shifted_distance(mean, scene) / max(1.0, float(mean.std()), float(scene.std())) for scene in scenes]
    if apart and min(apart) < _SAME_SCENE:
        return int(np.argmin(apart))
    scenes.append(mean)
    return len(scenes) - 1
