"""The tables as one HTML file that opens offline: no script, no request, nothing that differs between two renderings.

Everything shown was computed by an earlier stage. `report.html` holds the words and `report.css` the looks; names and
messages come from file names and hostile files, so the template escapes all it is given.
"""

import base64
import io
import json
import math
import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, replacing, video_path

ALL_CAMERAS = "*"
CHART_BINS = 60, 300  # a curve keeps the lowest and highest score of each: fewer the more videos there are
ALL_BINS = 30_000  # of all curves together, so that the page stays small
CHART_SIZE = 360, 132  # units of the drawing, about CSS pixels
CHART_MARGINS = 30, 8, 20, 18  # left, right, bottom, top
LISTED_EVENTS = 500  # rows of the list of events without a picture
SHOWN_CHARTS = 12  # of a camera; above that, videos without an event are folded away
STATUSES = ("unreadable", "partial", "ok")  # the order in which files are listed

# Colours that matplotlib writes, and the CSS variables that take their place.
_INK, _CURVE, _EVENT, _SPAN, _WARMUP, _AXIS = (f"#0000{n:02x}" for n in range(1, 7))
_VARIABLES = {
    _INK: "var(--muted)",
    _CURVE: "var(--curve)",
    _EVENT: "var(--accent)",
    _SPAN: "var(--accent-soft)",
    _WARMUP: "var(--warmup)",
    _AXIS: "var(--line-strong)",
}
_OVER_TIME, _BY_SCORE = ("data", "axes fraction"), ("axes fraction", "data")
_TICK_SECONDS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400]

GATE_MEASURES = {"heldout_nll": "Loss on held-out footage, less is better"}
KINDS = {
    "unusual": "Unusual",
    "camera_moved": "Camera moved",
    "camera_covered": "Camera covered",
    "signal_lost": "Signal lost",
}


class Measure(NamedTuple):
    """How a row of `metrics` is told. A share of frames or events is shown in per cent."""

    name: str
    title: str
    words: str
    per_cent: bool = False
    for_papers: bool = False


MEASURES = (
    Measure("event_recall", "Unusual events found", "Of the events in the labels, how many were reported.", True),
    Measure("event_precision", "Reports that were right", "Of the events reported, how many are in the labels.", True),
    Measure(
        "auroc_micro_ema",
        "Ranking (AUROC)",
        "Draw an unusual and an ordinary frame: how often the unusual one has the higher score. "
        "1 is perfect, 0.5 is guessing. This is the score that alarms use.",
    ),
    Measure("auroc_micro_raw", "Ranking, before smoothing", "The same for the score of single frames."),
    Measure("auroc_macro", "Ranking within a video", "The same inside each video, then the mean over videos."),
    Measure(
        "ap",
        "Average precision",
        "How many of the highest-scored frames are unusual, over all places to draw the line. "
        "Guessing gives the share of unusual frames.",
    ),
    Measure("ap_base_rate", "Share of unusual frames", "What guessing would reach in the row above."),
    Measure(
        "eer",
        "Equal error rate",
        "Frames judged wrongly where the line is drawn so that misses and false alarms are as frequent. "
        "Less is better.",
        True,
    ),
    Measure("recall", "Unusual frames found", "Of the frames labelled unusual, how many raised an alarm.", True),
    Measure("precision", "Alarm frames that were right", "Of the frames with an alarm, how many are labelled.", True),
    Measure("f1", "F1 of frames", "The two rows above in one number; 1 is perfect."),
    Measure("accuracy", "Frames judged rightly", "High by itself where little is unusual; read it last.", True),
    Measure(
        "pointing", "Points at the right place", "How often the highest cell lies in a marked region, if any is.", True
    ),
    Measure(
        "rbdc",
        "Marked regions found (RBDC)",
        "Share of regions that a box meets by a tenth, over 0–1 false boxes a frame; 1 is perfect.",
    ),
    Measure(
        "tbdc", "Marked tracks found (TBDC)", "The same for tracks, of which a tenth of the regions must be found."
    ),
    Measure(
        "auroc_micro_gauss",
        "Ranking, smoothed both ways",
        "Smoothed with frames yet to come, which no live alarm could do.",
        for_papers=True,
    ),
    Measure(
        "auroc_micro_minmax",
        "Ranking, each video stretched",
        "Each video's scores stretched to 0–1, which needs its end and hides false alarms in quiet ones.",
        for_papers=True,
    ),
)


class Value(NamedTuple):
    """A measured value and its interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None


Figures = dict[str, dict[str, Value]]  # by camera and name
Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """The scores of one video as they are drawn.

    Attributes:
        seconds, scores: (K,) float64, an envelope of all frames.
        warmup_seconds: how long nothing could raise an alarm.
        duration_seconds: of the video.
        peak_seconds, peak_score: where the score was highest, warm-up apart.
        dense: whether there were many more frames, so that the line fills an area.
    """

    seconds: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    warmup_seconds: float
    duration_seconds: float
    peak_seconds: float
    peak_score: float
    dense: bool


@dataclass(frozen=True)
class Chart:
    """One video: its facts, its curve, the curve as SVG, and its events in time."""

    video: Row
    curve: Curve
    svg: Markup
    events: list[Row]


@dataclass(frozen=True)
class Camera:
    """One camera: the card of its model, the gate's rows, and a chart for every scored video.

    Without a model the card is empty and `message` says what was missing, where training said so.
    """

    camera_id: str
    card: Row
    threshold: float | None
    gate: list[Row]
    message: str
    charts: list[Chart]
    num_events: int


def write_report(
    tables_dir: Path,
    media_dir: Path,
    promotions_path: Path,
    metrics_path: Path,
    health_path: Path,
    model_dir: Path,
    out: Path,
    params: Params,
) -> int:
    """Write the report; returns the number of events.

    Args:
        tables_dir: with videos.parquet and the per-video folders frames and events.
        media_dir: with a picture of every event.
        promotions_path: the table of what the gate decided.
        metrics_path: the table of measures.
        health_path: the table of the cameras' nights.
        model_dir: with a folder a camera that has a model.
        out: the HTML file.
        params: alarms.per_hour, evaluate.confidence and report.max_events are shown or used.

    Raises:
        SchemaError: a table is missing, damaged, or of another version.
        CheckpointError: the card of a model is damaged.
    """
    videos = read_table(tables_dir / "videos.parquet", SCHEMAS["videos"]).to_pylist()
    videos.sort(key=lambda row: (row["camera_id"], row["recorded_at"] is None, row["recorded_at"], row["video_id"]))
    by_video = {row["video_id"]: row for row in videos}
    events = [event for row in videos for event in _read_events(tables_dir, row)]
    events.sort(key=lambda event: (-event["peak_score"], event["event_id"]))
    for number, event in enumerate(events, start=1):
        event["number"] = number
    shown = events[: params.report.max_events]
    for event in shown:
        event["picture"] = _picture(media_dir, event, by_video[event["video_id"]])

    gate: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(promotions_path, SCHEMAS["promotions"]).to_pylist():
        gate[row["camera_id"]].append(row)
    fates = model_dir / "cameras.json"
    messages = json.loads(fates.read_text(encoding="utf-8")) if fates.is_file() else {}
    cards = {camera: load_card(camera_dir(model_dir, camera)) for camera in cameras_in(model_dir)}
    bins = min(max(ALL_BINS // max(len(videos), 1), CHART_BINS[0]), CHART_BINS[1])
    figures = _figures(metrics_path)
    cameras = [
        _camera(
            camera_id,
            cards.get(camera_id, {}),
            threshold.value if (threshold := figures.get(camera_id, {}).get("threshold")) else None,
            gate[camera_id],
            (messages.get(camera_id) or {}).get("message", ""),
            [row for row in videos if row["camera_id"] == camera_id],
            [event for event in events if event["camera_id"] == camera_id],
            tables_dir,
            bins,
        )
        for camera_id in sorted({row["camera_id"] for row in videos} | set(cards) | set(gate))
    ]
    charts = [chart for camera in cameras for chart in camera.charts]
    context = {
        "cameras": cameras,
        "charts": charts,
        "seconds": math.fsum(chart.curve.duration_seconds for chart in charts),
        "events": shown,
        "listed": events[params.report.max_events :][:LISTED_EVENTS],
        "num_events": len(events),
        "videos": sorted(videos, key=lambda row: STATUSES.index(row["status"])),
        "figures": figures,
        "troubled": _troubled(health_path),
        "measures": MEASURES,
        "kinds": KINDS,
        "gate_measures": GATE_MEASURES,
        "shown_charts": SHOWN_CHARTS,
        "params": params,
    }
    page = _environment().get_template("report.html").render(context)
    with replacing(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return len(events)


# Reading


def _read_events(tables_dir: Path, video: Row) -> list[Row]:
    path = video_path(tables_dir / "events", video["camera_id"], video["video_id"])
    rows: list[Row] = read_table(path, SCHEMAS["events"]).to_pylist() if path.exists() else []
    return rows


def _figures(path: Path) -> Figures:
    """What is not in the table is undefined, not an error."""
    figures: Figures = defaultdict(lambda: defaultdict(lambda: Value(None, None, None)))
    for row in read_table(path, SCHEMAS["metrics"]).to_pylist():
        figures[row["camera_id"]][row["name"]] = Value(*(_finite(row[key]) for key in ("value", "low", "high")))
    return figures


def _troubled(path: Path) -> list[Row]:
    """The last night of each camera, where not all was well."""
    nights = read_table(path, SCHEMAS["health"]).to_pylist()  # of a camera in order of time
    last = {row["camera_id"]: row for row in nights}
    return [row for row in last.values() if not row["ok"]]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _camera(
    camera_id: str,
    card: Row,
    threshold: float | None,
    gate: list[Row],
    message: str,
    videos: list[Row],
    events: list[Row],
    tables_dir: Path,
    bins: int,
) -> Camera:
    curves = {row["video_id"]: curve for row in videos if (curve := _read_curve(tables_dir, row, bins))}
    top = max((curve.scores.max() for curve in curves.values()), default=0.0)
    bottom = min((curve.scores.min() for curve in curves.values()), default=0.0)
    charts = []
    for row in videos:
        if curve := curves.get(row["video_id"]):
            mine = sorted(
                (event for event in events if event["video_id"] == row["video_id"]), key=lambda e: e["onset_seconds"]
            )
            charts.append(Chart(row, curve, draw_curve(curve, mine, threshold, float(bottom), float(top)), mine))
    return Camera(camera_id, card, threshold, gate, message, charts, len(events))


def _read_curve(tables_dir: Path, video: Row, bins: int) -> Curve | None:
    path = video_path(tables_dir / "frames", video["camera_id"], video["video_id"])
    if not path.exists():
        return None
    table = read_table(path, SCHEMAS["frames"], ["time_seconds", "score", "valid"])
    if not table.num_rows:
        return None
    seconds, scores, valid = (table[name].to_numpy() for name in ("time_seconds", "score", "valid"))
    peak = int(np.argmax(np.where(valid, scores, -np.inf))) if valid.any() else int(np.argmax(scores))
    kept = envelope(scores, bins)
    return Curve(
        seconds=seconds[kept],
        scores=scores[kept].astype(np.float64),
        warmup_seconds=0.0 if valid[0] else float(seconds[np.argmax(valid)] if valid.any() else seconds[-1]),
        duration_seconds=max(float(seconds[-1]), video["duration_seconds"] or 0.0),
        peak_seconds=float(seconds[peak]),
        peak_score=float(scores[peak]),
        dense=len(scores) > 4 * len(kept),
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


def _picture(media_dir: Path, event: Row, video: Row) -> Row:
    """The key frame as a data URI, None where it is missing or no JPEG, and the box as x, y, width, height."""
    path = media_dir / f"camera_id={quote(event['camera_id'], safe='')}" / f"{quote(event['event_id'], safe='')}.jpg"
    body = path.read_bytes() if path.is_file() else b""
    width, height = video["width"], video["height"]
    box = [event[name] for name in ("x0", "y0", "x1", "y1")]
    inside = None
    if width and height and all(value is not None and math.isfinite(value) for value in box):
        x0, x1 = (min(max(value, 0.0), width) for value in (box[0], box[2]))
        y0, y1 = (min(max(value, 0.0), height) for value in (box[1], box[3]))
        if x1 > x0 and y1 > y0:
            inside = [round(value, 1) for value in (x0, y0, x1 - x0, y1 - y0)]
    return {
        "uri": "data:image/jpeg;base64," + base64.b64encode(body).decode() if body[:3] == b"\xff\xd8\xff" else None,
        "width": width,
        "height": height,
        "box": inside,
    }


# Drawing


def draw_curve(curve: Curve, events: Sequence[Row], threshold: float | None, bottom: float, top: float) -> Markup:
    """The scores of one video over time as inline SVG, in colours of the page.

    Heights follow the score up to about the threshold and its logarithm from there on.

    Args:
        curve: what to draw.
        events: its events in time, each with its `number`.
        threshold: of its camera.
        bottom, top: lowest and highest score of the camera, so that its charts share a scale.
    """
    width, height = CHART_SIZE
    left, right, low, high = CHART_MARGINS
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "vidrnn", "path.simplify": False}]):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes(
            (left / width, low / height, (width - left - right) / width, (height - low - high) / height)
        )
        axes.set_axis_off()
        figure.patch.set_visible(False)
        unit = max(threshold or 0.0, 1.0)
        axes.set_yscale("asinh", linear_width=unit)
        end = max(curve.duration_seconds, 1e-3)
        bottom, top = min(bottom, 0.0), max(top, 1.15 * unit)
        axes.set(xlim=(0, end), ylim=(bottom, top))
        plain: dict[str, Any] = {"clip_on": False, "linewidth": 0}
        if curve.warmup_seconds > 0:
            axes.axvspan(0, min(curve.warmup_seconds, end), color=_WARMUP, **plain)
        for event in events:
            narrowest = end / (width - left - right) * 2  # a span stays visible however long the video
            stop = max(min(event["offset_seconds"], end), event["onset_seconds"] + narrowest)
            axes.axvspan(event["onset_seconds"], stop, color=_SPAN, **plain)
        for at, event in _apart(events, end / (width - left - right) * 16):
            _write(
                axes, str(event["number"]), (at, 1), _OVER_TIME, (0, 4), ha="center", color=_EVENT, fontweight="bold"
            )
        axes.plot([0, end], [bottom, bottom], color=_AXIS, linewidth=1, clip_on=False)
        if threshold is not None:
            over = np.maximum(curve.scores, threshold)
            axes.fill(
                np.concatenate((curve.seconds, curve.seconds[[-1, 0]])),
                np.concatenate((over, [threshold, threshold])),
                color=_EVENT,
                **plain,
            )
            axes.plot([0, end], [threshold] * 2, color=_INK, linewidth=1, dashes=(3, 3), clip_on=False)
            _write(axes, score_text(threshold), (0, threshold), _BY_SCORE, (-5, 0), ha="right", va="center")
        axes.plot(curve.seconds, curve.scores, color=_CURVE, linewidth=0.7 if curve.dense else 1.3, clip_on=False)
        if threshold is None or threshold > 0.2 * unit:  # else the two labels would touch
            _write(axes, "0", (0, 0), _BY_SCORE, (-5, 0), ha="right", va="center")
        step = next((s for s in _TICK_SECONDS if end / s <= 4.5), 86400 * math.ceil(end / 86400 / 4))
        for tick in np.arange(0, end + 1e-9, step):
            side = "left" if tick == 0 else "right" if tick > 0.94 * end else "center"
            _write(axes, short_clock(float(tick)), (tick, 0), _OVER_TIME, (0, -14), ha=side)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _inline(text.getvalue(), f"0 0 {width} {height}")


def _write(
    axes: Any, text: str, at: tuple[float, float], coordinates: tuple[str, str], offset: tuple[int, int], **looks: Any
) -> None:
    looks = {"color": _INK, "fontsize": 11, "annotation_clip": False} | looks
    axes.annotate(text, at, xycoords=coordinates, xytext=offset, textcoords="offset points", **looks)


def _apart(events: Sequence[Row], seconds: float) -> list[tuple[float, Row]]:
    """Where the numbers of events stand: over their middle, the lower number first, none nearer than `seconds`."""
    placed: list[tuple[float, Row]] = []
    for event in sorted(events, key=lambda event: event["number"]):
        at = (event["onset_seconds"] + event["offset_seconds"]) / 2
        if all(abs(at - other) >= seconds for other, _ in placed):
            placed.append((at, event))
    return placed


def _inline(svg: str, view_box: str) -> Markup:
    """What matplotlib drew, without all that may stand only once in a page: prologue, styles, ids, namespaces."""
    body = svg[svg.index('<g id="figure_1"') : svg.rindex("</svg>")]
    body = re.sub(r' (?:id|transform)="[^"]*"|font-family: [^;"]*;? ?', "", body)
    body = re.sub(r'(?<= d=")[^"]*', lambda d: re.sub(r"\d+\.\d+", _short, d[0]).replace("\n", ""), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    # A drawing beside a caption that says the same; it holds numbers that we wrote, no text of others.
    body = re.sub(r">\s+<", "><", body)
    return Markup(f'<svg viewBox="{view_box}" aria-hidden="true" focusable="false">{body.strip()}</svg>')


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


# Words


def score_text(score: float | None) -> str:
    """Three digits at most, as 0.42, 3.1, 18 or 240."""
    if score is None:
        return "–"
    digits = 2 if abs(score) < 1 else 1 if abs(score) < 10 else 0
    text = f"{score:.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def clock(seconds: float) -> str:
    """A place in a video, as 03:07.4 or 1:03:07.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02d}:{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{rest}" if hours else rest


def short_clock(seconds: float) -> str:
    """A tick of a time axis, as 0:30 or 2:00 h."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if seconds < 3600 else f"{minutes // 60}:{minutes % 60:02d} h"


def span_text(seconds: float | None) -> str:
    """How long something lasts, as 4.2 s, 3 min 20 s or 2 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(when: datetime | None) -> str:
    """A wall-clock time in UTC, to the second."""
    return when.strftime("%Y-%m-%d %H:%M:%S UTC") if when else "–"


def _number(value: float) -> str:
    """Two significant digits, as in 1.5 or 12; whole numbers stay whole."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def number_text(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def rate_text(per_hour: float | None) -> str:
    """A number an hour, with two digits that mean something."""
    if per_hour is None:
        return "–"
    return _number(per_hour) if per_hour >= 1 or per_hour == 0 else f"{per_hour:.2g}"


def chance(per_hour: float) -> str:
    """How often chance gives a score as high, in words that complete "expected by chance …"."""
    if not math.isfinite(per_hour):
        return "nobody knows how often"
    hours = math.inf if per_hour <= 0 else 1 / per_hour
    if hours <= 0.75 / 60:
        return "more than once a minute"
    if hours < 0.95:
        return f"about every {_number(hours * 60)} minutes" if hours * 60 >= 1.5 else "about once a minute"
    for unit, length, limit in (
        ("hour", 1, 47.5),
        ("day", 24, 24 * 45),
        ("month", 730.5, 8766 * 1.9),
        ("year", 8766, 8766 * 100),
    ):
        if hours < limit:
            count = _number(hours / length)
            return (
                f"about once {'an' if unit == 'hour' else 'a'} {unit}"
                if count == "1"
                else (f"about once in {count} {unit}s")
            )
    return "less than once in 100 years"


def rarity_word(per_hour: float) -> str:
    """One word or two for a badge."""
    if not per_hour < math.inf:
        return "unknown"
    return next(word for least, word in _RARITIES if per_hour >= least)


_RARITIES = ((1.0, "borderline"), (1 / 24, "uncommon"), (1 / (24 * 30), "rare"), (-math.inf, "very rare"))


def visible(text: str) -> str:
    r"""The same text, with what does not print, or turns the order of letters, as \u escapes."""
    return "".join(c if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def inside_camera(video_id: str, camera_id: str) -> str:
    """The path below the camera's folder, for where the camera stands beside it."""
    return video_id.removeprefix(f"{camera_id}/")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def command(video_id: str) -> str:
    """What to type to see the rows of a video's events; in Bash's own quotes where a name holds what does not print."""
    shown = visible(video_id)
    if shown == video_id:
        return f"vidrnn table events --video {shlex.quote(video_id)}"
    escaped = visible(video_id.replace("\\", "\\\\").replace("'", "\\'"))
    return f"vidrnn table events --video $'{escaped}'"


def plural(count: int, noun: str) -> str:
    """As 1 event, 12 events."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested objects as (dotted key, text), in their order."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list):
        return [(prefix, ", ".join(_plain(part) for part in value[:12]) + (", …" if len(value) > 12 else ""))]
    return [(prefix, _plain(value))]


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def recorded(charts: Sequence[Chart]) -> tuple[datetime, datetime, int] | None:
    """First and last instant of the scored footage whose time is known, and of how many videos it is."""
    known = [chart for chart in charts if chart.video["recorded_at"]]
    if not known:
        return None
    ends = [chart.video["recorded_at"] + timedelta(seconds=chart.curve.duration_seconds) for chart in known]
    return min(chart.video["recorded_at"] for chart in known), max(ends), len(known)


def verdict(promised: float | None, low: float | None, high: float | None) -> str:
    """Whether the rate seen fits the rate promised; an interval that reaches far beyond it shows nothing."""
    if promised is None or low is None or high is None:
        return "nothing to compare"
    if low > promised:
        return "more than promised"
    if high < promised:
        return "fewer than promised"
    return "agrees with the promise" if high <= 3 * promised else "too little footage to tell"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "score": score_text,
        "clock": clock,
        "span": span_text,
        "moment": moment,
        "rate": rate_text,
        "number": number_text,
        "inside": inside_camera,
        "sentence": sentence,
        "chance": chance,
        "rarity_word": rarity_word,
        "visible": visible,
        "command": command,
        "plural": plural,
        "flat": flat,
    }
    environment.globals |= {"recorded": recorded, "verdict": verdict}
    return environment
