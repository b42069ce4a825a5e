"""The tables as one HTML file that opens offline: no request, nothing that differs between two renderings.

Everything shown was computed by an earlier stage. In `page/`, `report.html` and what it includes hold the words,
`report.css` the looks, `report.js` what moves. Names and messages come from file names and hostile files, so the
templates escape all that they are given.
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
from vidrnn.nights import KINDS, dates_of, last_night, night_of, recorded, state_of, with_incidents
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, replacing, video_path
from vidrnn.timeline import HEIGHT, LANES, Stretch, Timeline, appeared, draw, read_curve

PAGE = Path(__file__).parent / "page"
CURVE_BINS = 300, 4000  # a video's curve keeps the lowest and highest score of each: fewer the more videos there are
ALL_BINS = 24_000  # of all curves together, so that the page stays small
LISTED_EVENTS = 500  # rows of the list of events without a picture
SIMILAR, LEAST_ALIKE = 3, 0.3  # moments that are named beside an event, of those that are so alike at least
APART_SECONDS = 5.0  # what is nearer to an event, or to a moment that is named, is the same happening
SHOWN_NIGHTS = 14  # of a camera's health
SHOWN_SEGMENTS = 12  # of a camera, with a picture
SHOWN_FILES = 200  # in one list
SHOWN_HOURS = 72  # of a camera, the last ones
STATUSES = ("unreadable", "partial", "ok")  # the order in which files are listed
STARTS = {"start": "start of the file", "cut": "cut", "fade": "fade", "dissolve": "dissolve", "change": "activity"}

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
        recent: of its videos those of the last night.
        num_events, num_tonight: events in all, and those of the last night.
        state: what is told of it at a glance: `ok` (None of what was taken away), `message` and `night`; None where no
            night is known.
        nights: its rows of `health`, the newest first, and what its events say of the camera itself.
        hours: objects hour by hour, of footage that knows when it was recorded.
        scenes: the segments that stand out most, in order, of the last night if there is one; `num_segments` in all.
    """

    camera_id: str
    card: Row
    message: str
    threshold: float | None
    gate: list[Row]
    line: Timeline | None
    recent: list[Stretch]
    num_events: int
    num_tonight: int
    state: Row | None
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
    of_video = {
        row["video_id"]: sorted(_rows(tables_dir, "events", row), key=lambda event: event["onset_seconds"])
        for row in videos
    }
    bins = min(max(ALL_BINS // max(len(videos), 1), CURVE_BINS[0]), CURVE_BINS[1])
    drawn = (_stretch(tables_dir, row, of_video[row["video_id"]], bins) for row in videos)
    stretches = [stretch for stretch in drawn if stretch is not None]
    tonight = last_night(stretches)
    by_night: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for stretch in stretches:
        if began := stretch.video["recorded_at"]:  # an event belongs to the night of its video, as health has it
            by_night[stretch.video["camera_id"], night_of(began, zone)] += stretch.events

    fresh = {stretch.video["video_id"] for stretch in tonight}
    events = [event for own in of_video.values() for event in own]
    events.sort(key=lambda event: (event["video_id"] not in fresh, -event["peak_score"], event["event_id"]))
    for number, event in enumerate(events, start=1):
        event["number"] = number
    num_tonight = sum(event["video_id"] in fresh for event in events)
    shown = events[: params.report.max_events]
    similar = _similar(tables_dir, shown, events, videos)
    by_video = {row["video_id"]: row for row in videos}
    cards = make_cards(tables_dir, media_dir, params.data.videos, shown, by_video, similar, out)

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
        recent = [stretch for stretch in own if stretch.video["video_id"] in fresh]
        told = [with_incidents(row, by_night[camera_id, row["night"]]) for row in nights[camera_id][::-1]]
        cameras.append(
            Camera(
                camera_id=camera_id,
                card=models.get(camera_id, {}),
                message=(messages.get(camera_id) or {}).get("message", ""),
                threshold=threshold,
                gate=gate[camera_id],
                line=draw(own, threshold) if own else None,
                recent=recent,
                num_events=sum(event["camera_id"] == camera_id for event in events),
                num_tonight=sum(len(stretch.events) for stretch in recent),
                state=state_of(told, own, recent, tonight, zone),
                nights=told,
                hours=_hours(own, zone),
                scenes=_scenes(media_dir, recent or own),
                num_segments=sum(len(stretch.segments) for stretch in own),
            )
        )
    script = (PAGE / "report.js").read_text(encoding="utf-8")
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
        "night": dates_of(tonight, zone),
        "num_tonight": num_tonight,
        "params": params,
        "params_shown": params.model_dump(
            mode="json",
            include={
                "data",
                "index",
                "features",
                "model",
                "train",
                "device",
                "gate",
                "score",
                "alarms",
                "evaluate",
                "report",
            },
        ),
        "recorded": recorded(tonight),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "seconds": _seconds(stretches),
        "seconds_tonight": _seconds(tonight),
        "starts": STARTS,
        "tonight": tonight,
        "many": len(cards) > FEW,
        "limits": {"events": LISTED_EVENTS, "nights": SHOWN_NIGHTS, "files": SHOWN_FILES, "hours": SHOWN_HOURS},
        "videos": sorted(videos, key=lambda row: (STATUSES.index(row["status"]), *_newest_first(row))),
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
        own, start = of_video[one.video_id], began[one.video_id]
        inside = (e["number"] for e in own if touch(one.span, (one.video_id, e["onset_seconds"], e["offset_seconds"])))
        recorded_at = start and start + timedelta(seconds=one.onset_seconds)
        return Like(one.video_id, one.onset_seconds, recorded_at, one.similarity, next(inside, None))

    found = {}
    for event_id, near in moments(tables_dir, shown, videos, 4 * SIMILAR, APART_SECONDS).items():
        likes = [told(one) for one in near if one.similarity >= LEAST_ALIKE]
        first = {like.number: like for like in likes[::-1] if like.number}  # of an event its best moment
        found[event_id] = [like for like in likes if not like.number or first[like.number] is like][:SIMILAR]
    return found


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


def _seconds(stretches: list[Stretch]) -> float:
    return math.fsum(stretch.curve.duration_seconds for stretch in stretches)


def _newest_first(video: Row) -> tuple[float, str]:
    began: datetime | None = video["recorded_at"]
    return (-began.timestamp() if began else 0.0), video["video_id"]


def _hours(stretches: list[Stretch], zone: tzinfo) -> list[Hour]:
    seconds: dict[datetime, float] = defaultdict(float)
    objects: dict[datetime, int] = defaultdict(int)
    for stretch in stretches:
        began = stretch.video["recorded_at"]
        if began is None:
            continue
        for at in appeared(stretch).tolist():
            objects[_hour(began + timedelta(seconds=at), zone)] += 1
        at, end = began, began + timedelta(seconds=stretch.curve.duration_seconds)
        while at < end:
            then = min(_hour(at, zone) + timedelta(hours=1), end)
            seconds[_hour(at, zone)] += (then - at).total_seconds()
            at = then
    return [Hour(start.astimezone(zone), seconds[start], objects[start]) for start in sorted(seconds)]


def _hour(when: datetime, zone: tzinfo) -> datetime:
    """When the hour of a local clock began; in UTC, which does not tell an hour twice when clocks are set back."""
    local = when.astimezone(zone)
    return when - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)


def _scenes(media_dir: Path, stretches: list[Stretch]) -> list[Scene]:
    """The segments that stand out most, in order; without a picture, as of sequences, there is nothing to show."""
    segments = [segment for stretch in stretches for segment in stretch.segments]
    order = sorted(range(len(segments)), key=lambda k: (-(segments[k]["boundary_score"] or 0.0), k))
    chosen = [segments[k] for k in sorted(order[:SHOWN_SEGMENTS])]
    scenes = [Scene(row, embed_segment(media_dir, row["camera_id"], row["segment_id"])) for row in chosen]
    return scenes if any(scene.picture for scene in scenes) else []


def line_facts(camera: Camera, zone: tzinfo) -> dict[str, Any]:
    """What `report.js` needs to write times below the line of a camera, and to read values off it.

    Returns:
        `files`: of each stretch its start and length on the line, the second of the day and the date at which it was
        recorded (null where unknown), and its name. `bars`: start and stop on the line, and objects an hour. `scale`
        as in `Timeline`, and the `lane` that it spans in the drawing; `threshold`. `night`: from where to where on
        the line the last night lies; null where it is all of it, or there is none.
    """
    line = camera.line
    files: list[list[Any]] = []
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
    ids = [stretch.video["video_id"] for stretch in line.stretches]
    recent = [files[ids.index(stretch.video["video_id"])] for stretch in camera.recent]
    night = [recent[0][0], recent[-1][0] + recent[-1][1]] if 0 < len(recent) < len(files) else None
    scale = {"scale": line.scale, "lane": LANES["score"], "threshold": camera.threshold}
    return {"files": files, "bars": bars, "night": night, **scale}


def _environment(zone: tzinfo) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGE),
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
