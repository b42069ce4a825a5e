"""The time line of a camera as inline SVG: its score with threshold and events, its objects an hour, its segments.

The files of a camera follow one another on one line of seconds, apart by a small gap where footage is missing between
them. matplotlib draws it once, stretched to any width; `report.js` zooms by showing a part of it, and reads values off
it. Whatever is text stands beside the drawing, so that it is not stretched.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]

WIDTH, HEIGHT = 1000, 200  # units of the drawing; the width is stretched to the page's
LANES = {"score": (0, 118), "objects": (130, 172), "segments": (184, 200)}  # from top to bottom, in the same units
TINTS = 4  # of segments, of which each group has one
_GAP_SHARE, _GAPS_SHARE = 0.004, 0.12  # of the line for a gap, and for all of them at most
_SHOWN_GAP_SECONDS = 1.0  # footage that is missing for longer leaves a gap
_BARS = 90  # at most, of objects an hour
_BAR_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MAX_SEGMENTS = 2000  # narrower ones than so many would be are not drawn

# Colours that matplotlib writes, and the CSS variables that take their place.
_INK, _CURVE, _EVENT, _SPAN, _WARMUP, _AXIS, _BAR = (f"#0000{n:02x}" for n in range(1, 8))
_TINTS = [f"#0001{n:02x}" for n in range(TINTS)]
_VARIABLES = {
    _INK: "var(--muted)",
    _CURVE: "var(--curve)",
    _EVENT: "var(--accent)",
    _SPAN: "var(--accent-soft)",
    _WARMUP: "var(--warmup)",
    _AXIS: "var(--line-strong)",
    _BAR: "var(--bar)",
    **{tint: f"var(--tint-{n})" for n, tint in enumerate(_TINTS)},
}


@dataclass(frozen=True)
class Curve:
    """The scores of one video as they are drawn.

    Attributes:
        seconds, scores: (K,) float64, an envelope of all frames.
        warmup_seconds: how long nothing could raise an alarm.
        duration_seconds: of the video.
        peak_seconds, peak_score: where the score was highest, warm-up apart.
    """

    seconds: Floats
    scores: Floats
    warmup_seconds: float
    duration_seconds: float
    peak_seconds: float
    peak_score: float


@dataclass(frozen=True)
class Stretch:
    """What the line tells of one video.

    Attributes:
        video: its row of the table `videos`.
        curve: its scores.
        events, segments: its rows of these tables, in time.
        object_seconds: when each of its objects appeared.
    """

    video: Row
    curve: Curve
    events: list[Row]
    segments: list[Row]
    object_seconds: Floats


@dataclass(frozen=True)
class Bar:
    """Objects that appeared in a part of the line, [start, stop) in its seconds, and how many an hour that is."""

    start: float
    stop: float
    count: int
    per_hour: float


@dataclass(frozen=True)
class Timeline:
    """A drawn line.

    Attributes:
        svg: the drawing.
        seconds: its length, gaps included.
        starts: where each stretch begins.
        stretches: the videos in order.
        levels: (score, share of the height from the top) of what has a label at the side.
        scale: lowest and highest score of the lane, and where between them it begins to follow the logarithm.
        top_per_hour: objects an hour at the top of their lane.
        bars: what that lane shows.
        marks: (event, share of the width at its middle, whether its number has room when nothing is zoomed).
    """

    svg: Markup
    seconds: float
    starts: list[float]
    stretches: list[Stretch]
    levels: list[tuple[float, float]]
    scale: tuple[float, float, float]
    top_per_hour: float
    bars: list[Bar]
    marks: list[tuple[Row, float, bool]]


def read_curve(
    seconds: Floats,
    scores: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    duration: float,
    bins: int,
    events: Sequence[Row],
) -> Curve:
    """What to draw of the frames of a video, (K,) each, K > 0: an envelope, and every frame in and near events."""
    peak = int(np.argmax(np.where(valid, scores, -np.inf))) if valid.any() else int(np.argmax(scores))
    kept = set(envelope(scores, bins).tolist())
    for event in events:
        around = np.searchsorted(seconds, (event["onset_seconds"] - 2, event["offset_seconds"] + 2))
        kept |= set(range(around[0], min(around[1], around[0] + 200)))
    order = np.array(sorted(kept))
    return Curve(
        seconds=seconds[order],
        scores=scores[order].astype(np.float64),
        warmup_seconds=0.0 if valid[0] else float(seconds[np.argmax(valid)] if valid.any() else seconds[-1]),
        duration_seconds=max(float(seconds[-1]), duration),
        peak_seconds=float(seconds[peak]),
        peak_score=float(scores[peak]),
    )


def envelope(scores: npt.NDArray[np.float32], bins: int) -> npt.NDArray[np.int64]:
    """Positions that draw the same line: the lowest and the highest of each of `bins` parts, and both ends.

    Args:
        scores: (K,), K > 0.
        bins: at most 2 · bins + 2 positions are kept; all of them where there are no more.

    Returns:
        Ascending positions.
    """
    if len(scores) <= 2 * bins + 2:
        return np.arange(len(scores))
    edges = np.linspace(0, len(scores), bins + 1).astype(np.int64)
    kept = {0, len(scores) - 1}
    for start, stop in pairwise(edges):
        part = scores[start:stop]
        kept |= {int(start + part.argmin()), int(start + part.argmax())}
    return np.array(sorted(kept))


def lay_out(stretches: Sequence[Stretch]) -> tuple[list[float], float]:
    """Where each stretch begins on the line, in seconds, and how long the line is; at least a moment."""
    lengths = [max(stretch.curve.duration_seconds, 1e-3) for stretch in stretches]
    total = math.fsum(lengths)
    apart = [_is_apart(*pair) for pair in pairwise(stretches)]
    gap = total * min(_GAP_SHARE, _GAPS_SHARE / max(sum(apart), 1))
    starts, at = [], 0.0
    for length, breaks in zip(lengths, [*apart, False], strict=True):
        starts.append(at)
        at += length + (gap if breaks else 0.0)
    return starts, max(at, 1e-3)


def _is_apart(one: Stretch, other: Stretch) -> bool:
    began, then = one.video["recorded_at"], other.video["recorded_at"]
    if began is None or then is None:
        return True
    missing = (then - began).total_seconds() - one.curve.duration_seconds
    return bool(abs(missing) > _SHOWN_GAP_SECONDS)


def appeared(stretch: Stretch) -> Floats:
    """When objects appeared; those of the very first frame were there already."""
    later: Floats = stretch.object_seconds[stretch.object_seconds > stretch.curve.seconds[0]]
    return later


def objects_per_hour(stretches: Sequence[Stretch], starts: Sequence[float], total: float) -> list[Bar]:
    """Objects that appeared, counted in equal parts of the line and related to the footage in each.

    A part with little footage is taken to have half of it: one object in a moment is no rate.
    """
    step = next((float(step) for step in _BAR_SECONDS if total / step <= _BARS), total / _BARS)
    edges = np.arange(0.0, total + step, step)
    counts, footage = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for stretch, start in zip(stretches, starts, strict=True):
        stop = start + stretch.curve.duration_seconds
        counts += np.histogram(np.minimum(start + appeared(stretch), np.nextafter(stop, 0)), edges)[0]
        footage += np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None)
    rates = 3600 * counts / np.maximum(footage, step / 2)
    return [
        Bar(float(edges[k]), min(float(edges[k + 1]), total), int(counts[k]), float(rates[k]))
        for k in np.flatnonzero(footage > 0)
    ]


def draw(stretches: Sequence[Stretch], threshold: float | None) -> Timeline:
    """Draw the line of a camera, in colours of the page.

    Heights of the score follow it up to about the threshold and its logarithm from there on.

    Args:
        stretches: its videos in order, one or more.
        threshold: of the camera.
    """
    starts, total = lay_out(stretches)
    bars = objects_per_hour(stretches, starts, total)
    top_per_hour = max((bar.per_hour for bar in bars), default=0.0)
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "vidrnn", "path.simplify": False}]):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        figure.patch.set_visible(False)
        lanes = {}
        for name, (top, bottom) in LANES.items():
            axes = figure.add_axes((0, 1 - bottom / HEIGHT, 1, (bottom - top) / HEIGHT))
            axes.set_axis_off()
            axes.set_xlim(0, total)
            lanes[name] = axes
        scale = _scale(stretches, threshold)
        levels = _draw_scores(lanes["score"], stretches, starts, threshold, scale)
        lanes["objects"].set_ylim(0, top_per_hour or 1.0)
        _fill(
            lanes["objects"],
            [(bar.start, bar.stop, bar.per_hour) for bar in bars if bar.count],
            color=_BAR,
            linewidth=0,
        )
        _draw_segments(lanes["segments"], stretches, starts, total)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    marks = _place_marks(stretches, starts, total)
    svg = _inline(text.getvalue())
    return Timeline(svg, total, starts, list(stretches), levels, scale, top_per_hour, bars, marks)


def _scale(stretches: Sequence[Stretch], threshold: float | None) -> tuple[float, float, float]:
    """See `Timeline`."""
    unit = max(threshold or 0.0, 1.0)
    bottom = min(0.0, *(float(stretch.curve.scores.min()) for stretch in stretches))
    return bottom, max(_highest(stretches), 1.15 * unit), unit


def _highest(stretches: Sequence[Stretch]) -> float:
    return max(float(stretch.curve.scores.max()) for stretch in stretches)


def _draw_scores(
    axes: Any,
    stretches: Sequence[Stretch],
    starts: Sequence[float],
    threshold: float | None,
    scale: tuple[float, float, float],
) -> list[tuple[float, float]]:
    """Draw them; what has a label: the threshold, nought, and the highest score."""
    bottom, top, unit = scale
    axes.set_yscale("asinh", linear_width=unit)
    axes.set_ylim(bottom, top)
    ends = [start + stretch.curve.duration_seconds for stretch, start in zip(stretches, starts, strict=True)]
    warmup, events = [], []
    for stretch, start, end in zip(stretches, starts, ends, strict=True):
        if stretch.curve.warmup_seconds > 0:
            warmup.append((start, min(start + stretch.curve.warmup_seconds, end), top))
        for event in stretch.events:
            left, right = (min(start + event[f"{side}_seconds"], end) for side in ("onset", "offset"))
            events.append((left, right, top))
    _plot(axes, [([start, end], [bottom, bottom]) for start, end in zip(starts, ends, strict=True)], _AXIS, 1)
    _fill(axes, warmup, bottom, color=_WARMUP, linewidth=0)
    # Its outline keeps an event visible however long the line is.
    _fill(axes, events, bottom, facecolor=_SPAN, edgecolor=_SPAN, linewidth=2)
    seconds = np.concatenate(
        [np.append(start + s.curve.seconds, np.nan) for s, start in zip(stretches, starts, strict=True)]
    )
    scores = np.concatenate([np.append(s.curve.scores, np.nan) for s in stretches])
    axes.plot(seconds, scores, color=_CURVE, linewidth=1.2, clip_on=False)
    if threshold is not None:
        for part in above(seconds, scores, threshold):  # with an outline, so that a moment in a long night is seen
            axes.fill(*part, facecolor=_EVENT, edgecolor=_EVENT, linewidth=1.2, clip_on=False, zorder=3)
        axes.plot(axes.get_xlim(), [threshold] * 2, color=_INK, linewidth=1, dashes=(3, 3), clip_on=False)
    shown = [_highest(stretches), *([] if threshold is None else [threshold]), 0.0]
    upper, lower = LANES["score"]
    places = [float(axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]) for value in shown]
    heights = [(upper + (1 - place) * (lower - upper)) / HEIGHT for place in places]
    levels: list[tuple[float, float]] = []
    for value, height in sorted(zip(shown, heights, strict=True), key=lambda level: level[0] != threshold):
        if all(abs(height - other) > 0.09 for _, other in levels):  # else two labels would touch
            levels.append((value, height))
    return sorted(levels, key=lambda level: level[1])


def above(seconds: Floats, scores: Floats, threshold: float) -> Iterator[tuple[Floats, Floats]]:
    """What of a curve lies above a threshold, as (x, y) of polygons; NaN parts the curve."""

    def crossing(inside: int, outside: int) -> float:
        if not 0 <= outside < len(scores) or math.isnan(scores[outside]):
            return float(seconds[inside])
        share = (threshold - scores[outside]) / (scores[inside] - scores[outside])
        return float(seconds[outside] + share * (seconds[inside] - seconds[outside]))

    edges = np.flatnonzero(np.diff(scores > threshold, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        ends = crossing(start, start - 1), crossing(stop - 1, stop)
        x = np.concatenate(([ends[0]], seconds[start:stop], [ends[1]]))
        yield x, np.concatenate(([threshold], scores[start:stop], [threshold]))


def _draw_segments(axes: Any, stretches: Sequence[Stretch], starts: Sequence[float], total: float) -> None:
    axes.set_ylim(0, 1)
    narrow = total / _MAX_SEGMENTS if sum(len(stretch.segments) for stretch in stretches) > _MAX_SEGMENTS else 0.0
    tinted: list[list[tuple[float, float, float]]] = [[] for _ in _TINTS]
    boundaries: list[tuple[Sequence[float], Sequence[float]]] = []
    for stretch, start in zip(stretches, starts, strict=True):
        for segment in stretch.segments:
            left, right = segment["onset_seconds"], segment["offset_seconds"]
            if right - left >= narrow:
                tinted[segment["group"] % TINTS].append((start + left, start + right, 1.0))
                if segment["start"] != "start":
                    boundaries.append(([start + left] * 2, [0.0, 1.0]))
    for tint, spans in zip(_TINTS, tinted, strict=True):
        _fill(axes, spans, color=tint, linewidth=0)
    _plot(axes, boundaries, _CURVE, 1.5)


def _fill(axes: Any, spans: Sequence[tuple[float, float, float]], bottom: float = 0.0, **looks: Any) -> None:
    """Draw (left, right, top) of each as one path, of which a page can hold thousands."""
    corners = [
        [(left, bottom), (left, top), (right, top), (right, bottom), (left, bottom)] for left, right, top in spans
    ]
    if corners:
        axes.add_patch(PathPatch(Path.make_compound_path_from_polys(np.array(corners)), clip_on=False, **looks))


def _plot(axes: Any, lines: Sequence[tuple[Sequence[float], Sequence[float]]], color: str, width: float) -> None:
    """Draw the (x, y) of each as one line, parted by NaN."""
    if lines:
        x, y = (np.concatenate([np.append(line[axis], np.nan) for line in lines]) for axis in (0, 1))
        axes.plot(x, y, color=color, linewidth=width, clip_on=False)


def _place_marks(stretches: Sequence[Stretch], starts: Sequence[float], total: float) -> list[tuple[Row, float, bool]]:
    """Events in order of time; of those whose numbers would touch, the more unusual one has room."""
    placed = [
        (event, (start + (event["onset_seconds"] + event["offset_seconds"]) / 2) / total)
        for stretch, start in zip(stretches, starts, strict=True)
        for event in stretch.events
    ]
    roomy: list[float] = []
    with_room = set()
    for event, at in sorted(placed, key=lambda mark: mark[0]["number"]):
        if all(abs(at - other) >= 0.035 for other in roomy):
            roomy.append(at)
            with_room.add(event["number"])
    return [(event, at, event["number"] in with_room) for event, at in placed]


def _inline(svg: str) -> Markup:
    """What matplotlib drew, without all that may stand only once in a page: prologue, styles, ids, namespaces."""
    body = svg[svg.index('<g id="figure_1"') : svg.rindex("</svg>")]
    body = re.sub(r' (?:id|transform)="[^"]*"', "", body)
    body = re.sub(r'(?<= d=")[^"]*', lambda d: _short(d[0]), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    # A drawing beside words that say the same; it holds numbers that we wrote, no text of others.
    body = re.sub(r">\s+<", "><", body)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{body.strip()}</svg>"
    )


def _short(path: str) -> str:
    """Digits that can be seen or read off: across, a line is looked at a hundred times as large."""
    pairs = re.sub(r"(-?[\d.]+) (-?[\d.]+)", lambda at: f"{_digits(at[1], 3)} {_digits(at[2], 2)}", path)
    return pairs.replace(" \n", "").replace("\n", "").replace("L ", "L").replace("M ", "M").strip()


def _digits(number: str, count: int) -> str:
    text = f"{float(number):.{count}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
