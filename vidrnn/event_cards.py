"""What the report shows of an event beside its row: pictures, box and trails, similar moments, and what to type."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from vidrnn.embed import Media, embed_events
from vidrnn.events import clip_bounds, clip_interval
from vidrnn.phrases import quoted
from vidrnn.schema import BOX, SCHEMAS
from vidrnn.storage import read_table, video_path

Row = dict[str, Any]

MAX_TRAILS = 4  # of an event; those of the most unusual objects
_LASTS_SECONDS = 0.6  # at least, for which a box is shown in a clip
_TRAIL_COLUMNS = ["track_id", "time_seconds", "score", *BOX]


@dataclass(frozen=True)
class Trail:
    """Where an object was while the clip of an event lasts.

    Attributes:
        points: of a polyline, "x,y x,y …", the centre of its box.
        boxes: of the clip, "seconds x y width height;…", seconds from its start.
        lasts: seconds for which a box is shown until the next: a frame that does not show the object is no reason to
            blink, nor is it that few frames are analysed.
    """

    points: str
    boxes: str
    lasts: float


@dataclass(frozen=True)
class Like:
    """A moment that is like an event.

    Attributes:
        video_id, onset_seconds: where it begins.
        recorded_at: and when that was, where known.
        similarity: 1 is the same.
        number: of an event that it falls into; None of what was never reported.
    """

    video_id: str
    onset_seconds: float
    recorded_at: datetime | None
    similarity: float
    number: int | None


@dataclass(frozen=True)
class Card:
    """All of an event.

    Attributes:
        event: its row, with its `number`.
        media: what shows it.
        size: width and height of the picture in pixels, None where unknown.
        box: x, y, width and height inside the picture.
        trails: of objects that touch the box, the most unusual first.
        similar: moments that are like it, the most similar first.
        commands: (what it is for, what to type).
    """

    event: Row
    media: Media
    size: tuple[int, int] | None
    box: list[float] | None
    trails: list[Trail]
    similar: list[Like]
    commands: list[tuple[str, str]]


def make_cards(
    tables_dir: Path,
    media_dir: Path,
    footage: str,
    events: Sequence[Row],
    videos: dict[str, Row],
    similar: dict[str, list[Like]],
    page: Path,
) -> list[Card]:
    """The cards of events, in their order.

    Args:
        tables_dir, media_dir: what the stage `tables` wrote.
        footage: the folder of the videos, as the user names it.
        events: their rows, each with its `number`.
        videos: rows of the table `videos` by video_id.
        similar: moments that are like an event, by event_id.
        page: the file that it all goes into.
    """
    media = embed_events(media_dir, [(event["camera_id"], event["event_id"]) for event in events], page)
    trails = _trails(tables_dir, events)
    cards = []
    for event, shown in zip(events, media, strict=True):
        width, height = (videos[event["video_id"]][side] for side in ("width", "height"))
        size = (width, height) if width and height else None
        moving = trails.get(event["event_id"], []) if size else []
        found = similar.get(event["event_id"], [])
        cards.append(Card(event, shown, size, _box(event, size), moving, found, _commands(event, found, footage)))
    return cards


def _box(event: Row, size: tuple[int, int] | None) -> list[float] | None:
    x0, y0, x1, y1 = (event[name] for name in BOX)
    if size is None or not all(value is not None and math.isfinite(value) for value in (x0, y0, x1, y1)):
        return None
    x0, x1 = (min(max(value, 0.0), size[0]) for value in (x0, x1))
    y0, y1 = (min(max(value, 0.0), size[1]) for value in (y0, y1))
    return [round(value, 1) for value in (x0, y0, x1 - x0, y1 - y0)] if x1 > x0 and y1 > y0 else None


def _trails(tables_dir: Path, events: Sequence[Row]) -> dict[str, list[Trail]]:
    """By event_id, of events that name objects."""
    of_video: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for event in events:
        if event["track_ids"]:
            of_video[event["camera_id"], event["video_id"]].append(event)
    found = {}
    for key, own in of_video.items():
        path = video_path(tables_dir / "detections", *key)
        if not path.is_file():
            continue
        table = read_table(path, SCHEMAS["detections"], _TRAIL_COLUMNS)
        track, seconds, score, *sides = (table[name].to_numpy() for name in _TRAIL_COLUMNS)
        boxes = np.stack(sides, 1)
        frames = read_table(video_path(tables_dir / "frames", *key), SCHEMAS["frames"], ["time_seconds"])
        times = frames["time_seconds"].to_numpy()
        lasts = max(_LASTS_SECONDS, 1.5 * float(np.median(np.diff(times)))) if len(times) > 1 else _LASTS_SECONDS
        for event in own:
            start, stop = clip_bounds(event, times)
            inside = np.flatnonzero((seconds >= start) & (seconds < stop))
            tracks = [inside[track[inside] == number] for number in event["track_ids"]]
            tracks = sorted((rows for rows in tracks if len(rows)), key=lambda rows: -float(score[rows].max()))
            found[event["event_id"]] = [
                _trail(seconds[rows] - start, boxes[rows], lasts) for rows in tracks[:MAX_TRAILS]
            ]
    return found


def _trail(seconds: Any, boxes: Any, lasts: float) -> Trail:
    points = " ".join(f"{(x0 + x1) / 2:.0f},{(y0 + y1) / 2:.0f}" for x0, y0, x1, y1 in boxes.tolist())
    places = zip(seconds.tolist(), boxes.tolist(), strict=True)
    moving = ";".join(f"{t:.2f} {x0:.0f} {y0:.0f} {x1 - x0:.0f} {y1 - y0:.0f}" for t, (x0, y0, x1, y1) in places)
    return Trail(points, moving, lasts)


def _commands(event: Row, similar: Sequence[Like], footage: str) -> list[tuple[str, str]]:
    event_id, video_id = quoted(event["event_id"]), event["video_id"]
    start, _ = clip_interval(*(event[f"{name}_seconds"] for name in ("onset", "offset", "peak")))
    return [
        ("Nothing to worry about", f"vidrnn mark {event_id} normal"),
        ("Rightly reported", f"vidrnn mark {event_id} unusual"),
        ("Open the footage there", _open(footage, video_id, start)),
        *(
            (f"Open what is {100 * one.similarity:.0f} % like it", _open(footage, one.video_id, one.onset_seconds))
            for one in similar
        ),
        ("Find more that is like it", f"vidrnn find {event_id}"),
        ("Trace it back to file, model and commit", f"vidrnn lineage {event_id}"),
        ("All events of this video", f"vidrnn table events --video {quoted(video_id)}"),
    ]


def _open(footage: str, video_id: str, seconds: float) -> str:
    return f"ffplay -ss {seconds:.1f} {quoted(f'{footage}/{video_id}')}"
