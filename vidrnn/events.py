"""Scores to events: which alarms are one event, where it begins, and what of it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

START_SECONDS = 0.8  # of footage that the first average of its cells is taken over
PICTURE, HEAT, CLIP = ".jpg", "-heat.png", ".mp4"  # what follows an event's id in the names of what shows it
CLIP_SECONDS = 6.0  # at most
_RISE_SECONDS = 2.0  # after which an average over a second has 86 % of what began
_AROUND_SECONDS = 1.0  # of footage before and after an event that its clip shows, too
Floats = npt.NDArray[np.float32]
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """Analysed frames [start, stop) of one event, `peak` the first of those with the highest score."""

    start: int
    stop: int
    peak: int


def causal_average(scores: Sequence[float] | Floats, times: Seconds, time_constant: float) -> Floats:
    """An exponential average that knows no future: (T,) scores at (T,) seconds; starts at the first score."""
    out = np.empty(len(scores), np.float32)
    level = 0.0
    for t, value in enumerate(scores):
        rate = 1.0 if t == 0 else 1 - np.exp(-(times[t] - times[t - 1]) / time_constant)
        level += rate * (float(value) - level)
        out[t] = level
    return out


def starting_level(values: Floats, times: Seconds, time_constant: float | Seconds) -> Floats:
    """Where an average of (T, ...) values at (T,) seconds may start: where one over the first, backwards, ends.

    The first value alone, with all that trembles in it, would pass for unusual. Looks `START_SECONDS` ahead. A time
    constant each, if there are several, is of the last axis.
    """
    last = min(int(np.searchsorted(times - times[0], START_SECONDS)), len(times) - 1)
    level: Floats = values[last]
    for t in range(last - 1, -1, -1):
        rate = np.asarray(1 - np.exp(-(times[t + 1] - times[t]) / time_constant), np.float32)
        level = level + rate * (values[t] - level)
    return level


def find_spans(scores: Floats, alarms: npt.NDArray[np.bool_], times: Seconds, merge_seconds: float) -> list[Span]:
    """Runs of alarms, joined where at most `merge_seconds` lie between the last of one and the first of the next."""
    frames = np.flatnonzero(alarms)
    if not len(frames):
        return []
    apart = np.flatnonzero(np.diff(times[frames]) > merge_seconds) + 1
    spans = []
    for group in np.split(frames, apart):
        # A joined run may hold frames without an alarm; its peak is an alarm all the same.
        spans.append(Span(int(group[0]), int(group[-1]) + 1, int(group[np.argmax(scores[group])])))
    return spans


def find_events(
    scores: Floats, alarms: npt.NDArray[np.bool_], calm: npt.NDArray[np.bool_], times: Seconds, merge_seconds: float
) -> list[Span]:
    """As `find_spans`, but each begins where its score began to rise to its first alarm without a pause.

    An average is late: whoever runs into the picture is half over before it has passed the threshold. It goes back
    `_RISE_SECONDS` at most, not into the event before, and not where no alarm may be raised.

    Args:
        scores, alarms, times: (T,), as `find_spans` takes them.
        calm: (T,), where an alarm may be raised, as it may not in a warm-up.
        merge_seconds: of `find_spans`.
    """
    events, over = [], 0
    for span in find_spans(scores, alarms, times, merge_seconds):
        start, earliest = span.start, times[span.start] - _RISE_SECONDS
        while start > over and calm[start - 1] and times[start - 1] >= earliest and scores[start - 1] < scores[start]:
            start -= 1
        events.append(replace(span, start=start))
        over = span.stop
    return events


def risen_since(times: Seconds) -> int:
    """The first of (T,) frames, T > 0, that an event which begins after the last of them may still begin with."""
    return int(np.searchsorted(times, times[-1] - _RISE_SECONDS))


def clip_interval(onset: float, offset: float, peak: float) -> tuple[float, float]:
    """The seconds [start, stop) that a clip of an event shows: all of it, or what is about its peak."""
    end = offset + _AROUND_SECONDS
    start = max(0.0, onset - _AROUND_SECONDS, min(peak - CLIP_SECONDS / 2, end - CLIP_SECONDS))
    return start, min(end, start + CLIP_SECONDS)


def clip_bounds(event: dict[str, Any], times: Seconds) -> tuple[float, float]:
    """As `clip_interval`, of a row of the table `events`; its clip begins with an analysed frame, at (T,) seconds."""
    start, stop = clip_interval(*(event[f"{name}_seconds"] for name in ("onset", "offset", "peak")))
    return float(times[np.searchsorted(times, start)]), stop
