"""The tables as one HTML file that opens offline: no request, nothing that differs between two renderings.

Everything shown was computed by an earlier stage. `report.html` and what it includes hold the words, `report.css` the
looks, `report.js` what moves; names and messages come from file names and hostile files, so the templates escape all
that they are given.
"""

import base64
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vidrnn import phrases
from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.embed import FEW, embed_segment
from vidrnn.event_cards import Like, make_cards
from vidrnn.measures import GATE_MEASURES, MEASURES, read_figures
from vidrnn.neighbours import Moment, moments, touch
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, replacing, video_path
from vidrnn.timeline import HEIGHT, LANES, Stretch, Timeline, appeared, draw, read_curve

CURVE_BINS = 300, 4000  # a video's curve keeps the lowest and highest score of each: fewer the more videos there are
ALL_BINS = 24_000  # of all curves together, so that the page stays small
LISTED_EVENTS = 500  # rows of the list of events without a picture
SIMILAR, LEAST_ALIKE = 3, 0.3  # moments that are named beside an event, of those that are so alike at least
SHOWN_NIGHTS = 14  # of a camera's health
SHOWN_SEGMENTS = 12  # of a camera, with a picture
SHOWN_FILES = 200  # in one list
TOLD_INCIDENTS = 2  # of a camera and night, in words
SHOWN_HOURS = 72  # of a camera, the last ones
STATUSES = ("unreadable", "partial", "ok")  # the order in which files are listed
STARTS = {"start": "start of the file", "cut": "cut", "fade": "fade", "dissolve": "dissolve", "change": "activity"}
KINDS = {
    "unusual": "Unusual",
    "camera_moved": "Camera moved",
    "camera_covered": "Camera covered",
    "signal_lost": "Signal lost",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """A segment with the picture of its key frame, as a data URI."""

    segment: Row
    picture: str | None


@dataclass(frozen=True)
class Hour:
    """What appeared in an hour of the clock, and how much footage there is of it."""

    start: datetime
    seconds: float
    objects: int


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        camera_id: of it.
        card: of its model; empty where it has none, and `message` says what was missing, where training said so.
        threshold: above which it raises alarms.
        gate: its rows of `promotions`.
        line: its time line, None where nothing was scored.
        num_events, num_tonight: events in all, and those of the last night.
        nights: its rows of `health`, the newest first, and what its events say of the camera itself.
        hours: objects hour by hour, of footage that knows when it was recorded.
        scenes: the segments that stand out most, in order; `num_segments` of all.
    """

    camera_id: str
    card: Row
    message: str
    threshold: float | None
    gate: list[Row]
    line: Timeline | None
    num_events: int
    num_tonight: int
    nights: list[Row]
    hours: list[Hour]
    scenes: list[Scene]
    num_segments: int


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
        tables_dir: with videos.parquet and a folder of per-video files for each of the other tables.
        media_dir: with what shows events and segments.
        promotions_path: the table of what the gate decided.
        metrics_path: the table of measures.
        health_path: the table of the cameras' nights.
        model_dir: with a folder a camera that has a model.
        out: the HTML file.
        params: are shown, but for those of the demo and of nights; report.max_events is used.

    Raises:
        SchemaError: a table is missing, damaged, or of another version.
        CheckpointError: the card of a model is damaged.
    """
    zone = ZoneInfo(params.data.time_zone)
    videos = read_table(tables_dir / "videos.parquet", SCHEMAS["videos"]).to_pylist()
    videos.sort(key=lambda row: (row["camera_id"], row["recorded_at"] is None, row["recorded_at"], row["video_id"]))
    events = [event for row in videos for event in _rows(tables_dir, "events", row)]
    events.sort(key=lambda event: (-event["peak_score"], event["event_id"]))
    for number, event in enumerate(events, start=1):
        event["number"] = number
    shown = events[: params.report.max_events]
    similar = _similar(tables_dir, shown, events, videos)
    by_video = {row["video_id"]: row for row in videos}
    cards = make_cards(tables_dir, media_dir, params.data.videos, shown, by_video, similar, out)

    bins = min(max(ALL_BINS // max(len(videos), 1), CURVE_BINS[0]), CURVE_BINS[1])
    of_video: dict[str, list[Row]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event["onset_seconds"]):
        of_video[event["video_id"]].append(event)
    stretches = [
        stretch for row in videos if (stretch := _stretch(tables_dir, row, of_video[row["video_id"]], bins)) is not None
    ]
    night = max((_night(start, zone) for s in stretches if (start := s.video["recorded_at"])), default=None)
    by_night: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for stretch in stretches:
        if began := stretch.video["recorded_at"]:  # an event belongs to the night of its video, as health has it
            by_night[stretch.video["camera_id"], _night(began, zone)] += stretch.events

    gate = _by_camera(read_table(promotions_path, SCHEMAS["promotions"]).to_pylist())
    nights = _by_camera(read_table(health_path, SCHEMAS["health"]).to_pylist())
    fates = model_dir / "cameras.json"
    messages = json.loads(fates.read_text(encoding="utf-8")) if fates.is_file() else {}
    models = {camera: load_card(camera_dir(model_dir, camera)) for camera in cameras_in(model_dir)}
    figures = read_figures(metrics_path)
    cameras = []
    for camera_id in sorted({row["camera_id"] for row in videos} | set(models) | set(gate) | set(nights)):
        own = [stretch for stretch in stretches if stretch.video["camera_id"] == camera_id]
        threshold = figures[camera_id]["threshold"].value if camera_id in figures else None
        segments = [segment for stretch in own for segment in stretch.segments]
        cameras.append(
            Camera(
                camera_id=camera_id,
                card=models.get(camera_id, {}),
                message=(messages.get(camera_id) or {}).get("message", ""),
                threshold=threshold,
                gate=gate[camera_id],
                line=draw(own, threshold) if own else None,
                num_events=sum(event["camera_id"] == camera_id for event in events),
                num_tonight=len(by_night[camera_id, night]) if night else 0,
                nights=[_with_incidents(row, by_night[camera_id, row["night"]]) for row in nights[camera_id][::-1]],
                hours=_hours(own, zone),
                scenes=_scenes(media_dir, segments),
                num_segments=len(segments),
            )
        )
    script = (Path(__file__).parent / "report.js").read_text(encoding="utf-8")
    context = {
        "cameras": cameras,
        "cards": cards,
        "curves": [(stretch.video, stretch.curve) for stretch in stretches],
        "events": events,
        "figures": figures,
        "gate_measures": GATE_MEASURES,
        "heights": (HEIGHT, LANES),
        "kinds": KINDS,
        "measures": MEASURES,
        "night": night,
        "num_tonight": sum(camera.num_tonight for camera in cameras),
        "params": params,
        "params_shown": params.model_dump(
            mode="json",
            include={"data", "index", "features", "model", "train", "gate", "score", "alarms", "evaluate", "report"},
        ),
        "recorded": _recorded(stretches),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "seconds": math.fsum(stretch.curve.duration_seconds for stretch in stretches),
        "starts": STARTS,
        "many": len(cards) > FEW,
        "limits": {"events": LISTED_EVENTS, "nights": SHOWN_NIGHTS, "files": SHOWN_FILES, "hours": SHOWN_HOURS},
        "videos": sorted(videos, key=lambda row: STATUSES.index(row["status"])),
        "zone": zone,
    }
    page = _environment(zone).get_template("report.html").render(context)
    with replacing(out) as partial_path:
        partial_path.write_text(page, encoding="utf-8")
    return len(events)


def _rows(tables_dir: Path, name: str, video: Row, columns: Sequence[str] | None = None) -> list[Row]:
    path = video_path(tables_dir / name, video["camera_id"], video["video_id"])
    rows: list[Row] = read_table(path, SCHEMAS[name], columns).to_pylist() if path.exists() else []
    return rows


def _by_camera(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["camera_id"]].append(row)
    return found


def _similar(tables_dir: Path, shown: list[Row], events: list[Row], videos: list[Row]) -> dict[str, list[Like]]:
    """The moments that are most like each event shown, with the most unusual event that each of them falls into."""
    began = {row["video_id"]: row["recorded_at"] for row in videos}
    of_video: dict[str, list[Row]] = defaultdict(list)
    for event in events:
        of_video[event["video_id"]].append(event)

    def told(one: Moment) -> Like:
        span, own = (one.video_id, one.onset_seconds, one.offset_seconds), of_video[one.video_id]
        inside = (e["number"] for e in own if touch(span, (one.video_id, e["onset_seconds"], e["offset_seconds"])))
        start = began[one.video_id]
        recorded_at = start and start + timedelta(seconds=one.onset_seconds)
        return Like(one.video_id, one.onset_seconds, recorded_at, one.similarity, next(inside, None))

    found = moments(tables_dir, shown, videos, SIMILAR)
    return {name: [told(one) for one in near if one.similarity >= LEAST_ALIKE] for name, near in found.items()}


def _stretch(tables_dir: Path, video: Row, events: list[Row], bins: int) -> Stretch | None:
    path = video_path(tables_dir / "frames", video["camera_id"], video["video_id"])
    if not path.exists():
        return None
    table = read_table(path, SCHEMAS["frames"], ["time_seconds", "score", "valid"])
    if not table.num_rows:
        return None
    seconds, scores, valid = (table[name].to_numpy() for name in ("time_seconds", "score", "valid"))
    curve = read_curve(seconds, scores, valid, video["duration_seconds"] or 0.0, bins, events)
    objects = [row["onset_seconds"] for row in _rows(tables_dir, "tracks", video, ["onset_seconds"])]
    segments = _rows(tables_dir, "segments", video)
    return Stretch(video, curve, events, segments, np.array(objects, np.float64))


def _night(when: datetime, zone: tzinfo) -> str:
    return when.astimezone(zone).date().isoformat()


def _with_incidents(night: Row, events: list[Row]) -> Row:
    """A row of `health`, and what the events of that night say of the camera itself: it was moved, covered, or lost."""
    said = [event["reason"] or KINDS[event["kind"]] for event in events if event["kind"] != "unusual"]
    if not said:
        return night
    more = len(said) - TOLD_INCIDENTS
    told = [night["message"], *said[:TOLD_INCIDENTS], f"and {more} more" if more > 0 else ""]
    return night | {"ok": False, "message": "; ".join(text for text in told if text)}


def _hours(stretches: list[Stretch], zone: tzinfo) -> list[Hour]:
    seconds: dict[datetime, float] = defaultdict(float)
    objects: dict[datetime, int] = defaultdict(int)
    for stretch in stretches:
        began = stretch.video["recorded_at"]
        if began is None:
            continue
        for at in appeared(stretch).tolist():
            objects[_hour(began + timedelta(seconds=at))] += 1
        at, end = began, began + timedelta(seconds=stretch.curve.duration_seconds)
        while at < end:
            then = min(_hour(at) + timedelta(hours=1), end)
            seconds[_hour(at)] += (then - at).total_seconds()
            at = then
    return [Hour(start.astimezone(zone), seconds[start], objects[start]) for start in sorted(seconds)]


def _hour(when: datetime) -> datetime:
    return when.replace(minute=0, second=0, microsecond=0)


def _scenes(media_dir: Path, segments: list[Row]) -> list[Scene]:
    """Those of the highest boundary score, in order; without a picture, as of sequences, there is nothing to show."""
    order = sorted(range(len(segments)), key=lambda k: (-(segments[k]["boundary_score"] or 0.0), k))
    chosen = [segments[k] for k in sorted(order[:SHOWN_SEGMENTS])]
    scenes = [Scene(row, embed_segment(media_dir, row["camera_id"], row["segment_id"])) for row in chosen]
    return scenes if any(scene.picture for scene in scenes) else []


def _recorded(stretches: list[Stretch]) -> tuple[datetime, datetime, int] | None:
    """First and last instant of the scored footage whose time is known, and of how many videos it is."""
    known = [(s.video["recorded_at"], s.curve.duration_seconds) for s in stretches if s.video["recorded_at"]]
    if not known:
        return None
    ends = [began + timedelta(seconds=seconds) for began, seconds in known]
    return min(began for began, _ in known), max(ends), len(known)


def line_facts(camera: Camera, zone: tzinfo) -> dict[str, Any]:
    """What `report.js` needs to write times below the line of a camera, and to read values off it.

    Returns:
        `files`: of each stretch its start and length on the line, the second of the day and the date at which it was
        recorded (null where unknown), and its name. `bars`: start and stop on the line, and objects an hour. `scale`
        as in `Timeline`, and the `lane` that it spans in the drawing; `threshold`.
    """
    line, files = camera.line, []
    if line is None:
        return {}
    for stretch, start in zip(line.stretches, line.starts, strict=True):
        began = stretch.video["recorded_at"]
        local = began.astimezone(zone) if began else None
        second = None if local is None else local.hour * 3600 + local.minute * 60 + local.second
        name = phrases.visible(phrases.inside_camera(stretch.video["video_id"], camera.camera_id))
        length, date = round(stretch.curve.duration_seconds, 2), local and local.date().isoformat()
        files.append([round(start, 2), length, second, date, name])
    bars = [[round(bar.start, 2), round(bar.stop, 2), round(bar.per_hour)] for bar in line.bars]
    scale = {"scale": line.scale, "lane": LANES["score"], "threshold": camera.threshold}
    return {"files": files, "bars": bars, **scale}


def _environment(zone: tzinfo) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "score": phrases.score_text,
        "clock": phrases.clock,
        "span": phrases.span_text,
        "moment": partial(phrases.moment, zone=zone),
        "rate": phrases.rate_text,
        "number": phrases.number_text,
        "number_short": partial(phrases.number_text, digits=3),
        "inside": phrases.inside_camera,
        "sentence": phrases.sentence,
        "chance": phrases.chance,
        "rarity_word": phrases.rarity_word,
        "visible": phrases.visible,
        "plural": phrases.plural,
        "flat": phrases.flat,
    }
    environment.globals |= {"verdict": phrases.verdict, "line_facts": partial(line_facts, zone=zone)}
    return environment
