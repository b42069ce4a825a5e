"""Scores to tables of videos, frames, events, objects, segments and windows; pictures and clips of what they tell."""

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.calibration import Calibration, Tail
from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.errors import DecodeError, SchemaError
from vidrnn.events import CLIP, HEAT, PICTURE, Span, find_events
from vidrnn.fan_out import fan_out_all
from vidrnn.params import AlarmsParams
from vidrnn.schema import BOX, SCHEMAS, scores_schema
from vidrnn.sources import stage_digest
from vidrnn.storage import (
    camera_folder,
    digest,
    is_fresh,
    read_columns,
    read_metadata,
    read_table,
    remove_orphans,
    video_path,
    write_table,
)

# The process that shares out the videos has no use for what is imported where it is needed: it would wait for it.
if TYPE_CHECKING:
    from vidrnn.camera import Incident
    from vidrnn.object_tables import Objects

PARTS = ("frames", "events", "detections", "tracks", "segments", "embeddings")  # a folder of each, with a file a video


@dataclass(frozen=True)
class _Job:
    source: Path
    row: dict[str, Any]  # of the table `videos`
    regions: Path
    shots: Path
    views: Path
    scores: Path
    windows: Path
    outs: dict[str, Path]  # by the names in PARTS
    pictures: Path
    card: dict[str, Any]
    alarms: AlarmsParams
    digest: str


def make_tables(
    videos: Path,
    index: pa.Table,
    features: Path,
    models: Path,
    scores: Path,
    alarms: AlarmsParams,
    out: Path,
    media: Path,
) -> None:
    """Bring the tables below `out` and the pictures below `media` up to date.

    Args:
        videos: the footage folder.
        index: its table `index`.
        features, models, scores: roots of earlier stages.
        alarms: the rate that sets the threshold, and which alarms are one event.
        out: gets `videos.parquet`, and a file a video below a folder for each of `PARTS`.
        media: gets what `media.write_media` makes of events and segments; of footage that is gone, what there is stays.
    """
    decoded = {row["video_id"]: row for row in read_table(features / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()}
    skipped = json.loads((scores / "skipped.json").read_text(encoding="utf-8"))
    rows = [
        _video_row(row, decoded.get(row["video_id"]), skipped.get(row["video_id"], "")) for row in index.to_pylist()
    ]
    write_table(out / "videos.parquet", pa.Table.from_pylist(rows, schema=SCHEMAS["videos"]), SCHEMAS["videos"])

    common = stage_digest("tables", alarms.model_dump(), ["av", "numpy", "opencv-python-headless", "scipy"])
    cards = {camera_id: load_card(camera_dir(models, camera_id)) for camera_id in cameras_in(models)}
    jobs = []
    for row in rows:
        camera_id, video_id = row["camera_id"], row["video_id"]
        path = video_path(scores, camera_id, video_id)
        if not path.is_file():
            continue
        made_from = digest([read_metadata(path)["digest"], json.loads(json.dumps(row, default=str)), common])
        roots = features, scores, out, media
        jobs.append(_job(videos / video_id, row, *roots, cards[camera_id], alarms, made_from))
    stale = {job.row["video_id"]: job for job in jobs if not _has_tables(job)}
    pictures = {name: _picture_paths(job) for job in jobs if (name := job.row["video_id"]) not in stale}
    has_all = {name for name, paths in pictures.items() if all(path.is_file() for path in paths)}
    undone = [
        job for job in jobs if (name := job.row["video_id"]) in stale or (name not in has_all and job.source.exists())
    ]
    for _ in fan_out_all("tables", _make, undone, lambda job: job.row["video_id"]):
        pass
    pictures |= {name: _picture_paths(job) for name, job in stale.items()}
    removed = remove_orphans(out, {out / "videos.parquet", *(path for job in jobs for path in job.outs.values())})
    removed += remove_orphans(media, {path for paths in pictures.values() for path in paths})
    media.mkdir(parents=True, exist_ok=True)
    print(f"tables: {len(stale)} videos made, {len(jobs) - len(stale)} kept, {removed} files removed", flush=True)


def make_video_tables(
    source: Path,
    facts: dict[str, Any],
    decoded: dict[str, Any],
    features: Path,
    scores: Path,
    card: dict[str, Any],
    alarms: AlarmsParams,
    out: Path,
    media: Path,
) -> None:
    """`make_tables` of one video, in this process.

    Args:
        source: the file.
        facts, decoded: its rows of the tables of these names.
        features, scores, alarms, out, media: as of `make_tables`.
        card: of the model that scored it.
    """
    row = _video_row(facts, decoded, "")
    write_table(out / "videos.parquet", pa.Table.from_pylist([row], schema=SCHEMAS["videos"]), SCHEMAS["videos"])
    job = _job(source, row, features, scores, out, media, card, alarms, "")
    _write_tables(job)
    _make(job)


def _job(
    source: Path,
    row: dict[str, Any],
    features: Path,
    scores: Path,
    out: Path,
    media: Path,
    card: dict[str, Any],
    alarms: AlarmsParams,
    made_from: str,
) -> _Job:
    """Where the files of one video lie below the roots of the stages."""
    key = row["camera_id"], row["video_id"]
    outs = {part: video_path(out / part, *key) for part in PARTS}
    regions, shots, views = (video_path(features / part, *key) for part in ("regions", "shots", "views"))
    path, windows = video_path(scores, *key), video_path(scores / "windows", *key)
    pictures = camera_folder(media, row["camera_id"])
    return _Job(source, row, regions, shots, views, path, windows, outs, pictures, card, alarms, made_from)


def _has_tables(job: _Job) -> bool:
    return all(is_fresh(path, job.digest) for path in job.outs.values())


def _picture_paths(job: _Job) -> list[Path]:
    """Of the events and segments that the tables tell."""
    if not job.row["width"]:  # of a sequence there is no picture
        return []
    events = read_columns(job.outs["events"], ["event_id"])["event_id"].to_pylist()
    segments = read_columns(job.outs["segments"], ["segment_id"])["segment_id"].to_pylist()
    names = [f"{event_id}{suffix}" for event_id in events for suffix in (PICTURE, HEAT, CLIP)]
    return [job.pictures / name for name in [*names, *(f"{segment_id}{PICTURE}" for segment_id in segments)]]


def _video_row(row: dict[str, Any], decoded: dict[str, Any] | None, skipped: str) -> dict[str, Any]:
    names = [name for name in SCHEMAS["videos"].names if name in row]
    messages = [row["message"]]
    merged = {name: row[name] for name in names} | {"num_frames": 0, "num_undecodable": 0}
    if decoded is not None:
        merged |= {name: decoded[name] for name in ("num_frames", "num_undecodable", "duration_seconds", "status")}
        messages.append(decoded["message"])
    return merged | {"message": "; ".join(filter(None, [*messages, skipped]))}


def _make(job: _Job) -> None:
    """Write what one video lacks: the tables, and then the pictures and clips of events and segments."""
    if not _has_tables(job):
        _write_tables(job)
    if not job.row["width"] or not job.source.exists():
        return
    from vidrnn.media import write_media

    frames, events, segments = (read_table(job.outs[part], SCHEMAS[part]) for part in ("frames", "events", "segments"))
    try:
        write_media(job.source, job.row, frames, events, segments, job.scores, job.pictures)
    except DecodeError as error:
        print(f"tables: {job.row['video_id']}: no pictures of it: {error}", flush=True)


def _write_tables(job: _Job) -> None:
    from vidrnn.camera import incidents, read_views
    from vidrnn.object_tables import find_objects
    from vidrnn.segment_tables import find_segments, place_windows

    table = read_scores(job.scores)
    times = table["time_seconds"].to_numpy()
    score = table["score"].to_numpy()
    tail = Calibration.from_json(job.card["calibration"]).tail
    valid = table["valid"].to_numpy(zero_copy_only=False)
    found = incidents(read_views(job.views), times, valid)
    calm = valid.copy()
    for incident in found:  # tells of itself, once
        calm[slice(*incident.quiet)] = False
    alarm = (score > tail.threshold(job.alarms.per_hour)) & calm
    spans = find_events(score, alarm, calm, times, job.alarms.merge_seconds)
    for incident in found:
        alarm[incident.start : incident.stop] = True
    key = {name: [job.row[name]] * len(times) for name in ("camera_id", "video_id")}
    recorded_at = [_later(job.row["recorded_at"], seconds) for seconds in times.tolist()]
    columns = {name: table[name] for name in ("frame_index", "pts", "time_seconds", "score_raw", "score", "valid")}
    frames = {**key, **columns, "recorded_at": recorded_at, "alarm": alarm}
    schema = SCHEMAS["frames"]
    metadata = {"digest": job.digest, "sha256": job.row["sha256"], "model_version": job.card["version"]}
    write_table(
        job.outs["frames"], pa.table({name: frames[name] for name in schema.names}, schema=schema), schema, metadata
    )

    rows = table.drop_columns(["cells"]).to_pylist()
    objects = find_objects(job.row, job.regions, table, _end(job, rows))
    told = [_event(job, rows, span, tail, objects) for span in spans]
    told += [_incident(job, rows, incident) for incident in found]
    told.sort(key=lambda event: (event["onset_pts"], event["kind"]))
    events = pa.Table.from_pylist(told, schema=SCHEMAS["events"])
    segments = find_segments(job.row, job.shots, table, _end(job, rows))
    embeddings = place_windows(job.row, job.windows, table, _end(job, rows))
    of_objects = {"detections": objects.detections, "tracks": objects.tracks}
    if not job.source.exists():
        _keep_pictures(job, {"events": events, "segments": segments})
    for part, made in ({"events": events, "segments": segments, "embeddings": embeddings} | of_objects).items():
        write_table(job.outs[part], made, SCHEMAS[part], metadata)


def _keep_pictures(job: _Job, told: dict[str, pa.Table]) -> None:
    """Of footage that is gone, before its tables tell another story: none can be made anew."""
    from vidrnn.media import keep_media

    for part, name in (("events", "event_id"), ("segments", "segment_id")):
        try:
            before = read_table(job.outs[part], SCHEMAS[part])
        except SchemaError:  # there is none, or one of another version
            continue
        keep_media(before.to_pylist(), told[part].to_pylist(), name, job.pictures)


def _end(job: _Job, rows: list[dict[str, Any]]) -> tuple[int, float, int]:
    """Pts, seconds and frame where the footage ends: the last analysed frame lasts until then, at least one tick."""
    if not rows:
        return 0, 0.0, 0
    pts, seconds = rows[-1]["pts"], job.row["duration_seconds"]
    base = job.row["time_base_num"] / job.row["time_base_den"]
    return max(pts + 1, rows[0]["pts"] + round(seconds / base)), seconds, job.row["num_frames"]


def read_scores(path: Path) -> pa.Table:
    """A score file, whole; its grid is its own."""
    rows, columns = pq.read_schema(path).field("cells").type.shape
    return read_table(path, scores_schema(rows, columns))


def _event(job: _Job, rows: list[dict[str, Any]], span: Span, tail: Tail, objects: "Objects") -> dict[str, Any]:
    top = rows[span.peak]
    interval = _interval(job, rows, span.start, span.stop, span.peak)
    box = tuple(top[name] for name in BOX)
    quantity, sentence = explain(
        top["reason_quantity"],
        top["reason_memory_steps"],
        top["reason_expected_low"],
        top["reason_expected_high"],
        top["reason_seen"],
    )
    touching = [] if None in box else objects.touching(box, interval["onset_frame"], interval["offset_frame"])
    return {
        **interval,
        "event_id": _event_id(job, interval["onset_pts"]),
        "kind": "unusual",
        "rarity": tail.per_hour(top["score"]),
        **dict(zip(BOX, box, strict=True)),
        "track_ids": touching,
        "reason": sentence,
        "reason_quantity": quantity,
        **{name: top[name] for name in ("reason_expected_low", "reason_expected_high", "reason_seen")},
    }


def _incident(job: _Job, rows: list[dict[str, Any]], incident: "Incident") -> dict[str, Any]:
    """The event of a camera that was moved, covered or lost its signal: its place is the whole picture."""
    interval = _interval(job, rows, incident.start, incident.stop, incident.peak)
    return {
        **interval,
        "event_id": _event_id(job, interval["onset_pts"], incident.kind),
        "kind": incident.kind,
        "rarity": 0.0,  # none is ever raised by how unusual something is
        **dict(zip(BOX, (0.0, 0.0, job.row["width"], job.row["height"]), strict=True)),
        "track_ids": [],
        "reason": incident.reason,
        "reason_quantity": "camera",
    }


def _event_id(job: _Job, onset_pts: int, *kind: str) -> str:
    return hashlib.sha256(":".join([job.row["sha256"], str(onset_pts), *kind]).encode()).hexdigest()[:16]


def _interval(job: _Job, rows: list[dict[str, Any]], start: int, stop: int, peak: int) -> dict[str, Any]:
    """What all events have in common: of the analysed frames [start, stop)."""
    first, top = rows[start], rows[peak]
    if stop < len(rows):
        offset = tuple(rows[stop][name] for name in ("pts", "time_seconds", "frame_index"))
    else:
        offset = _end(job, rows)
    return {
        "camera_id": job.row["camera_id"],
        "video_id": job.row["video_id"],
        "onset_pts": first["pts"],
        "offset_pts": offset[0],
        "onset_seconds": first["time_seconds"],
        "offset_seconds": offset[1],
        "onset_frame": first["frame_index"],
        "offset_frame": offset[2],
        "recorded_at": _later(job.row["recorded_at"], first["time_seconds"]),
        "peak_seconds": top["time_seconds"],
        "peak_score": top["score"],
        "model_version": job.card["version"],
    }


def _later(recorded_at: datetime | None, seconds: float) -> datetime | None:
    return None if recorded_at is None else recorded_at + timedelta(seconds=seconds)


_SPEED = "picture heights a second"
_WAYS = {"velocity_x": ("to the left", "to the right"), "velocity_y": ("upwards", "downwards")}
_PLACE = {
    "foreground": "something is where nothing usually is",
    "moving": "something moves where nothing usually does",
}
_NOTHING, _SOMETHING = 0.05, 0.15  # of a window: expected so little, nothing is usual; seen so much, something is there
_STILL = {"speed": 0.02, "moving": 0.05}  # picture heights a second, and share of a window, below which nothing moves
_EDGES = ("upright", "steep", "falling", "level", "rising", "leaning")


def explain(channel: str, memory_steps: int, low: float, high: float, seen: float) -> tuple[str, str]:
    """(quantity, sentence) for the channel that left its range, in words for someone who watches a screen.

    Args:
        channel: a name in `windows.MODELLED`, or of a value of a sequence.
        memory_steps: 0 if the range is what is usual at this place, else it is what the last moments led one to expect.
        low, high, seen: in the channel's own unit.
    """
    where = "is usual here" if memory_steps == 0 else "was to be expected a moment before"
    if channel.startswith("value "):
        low_text, high_text, seen_text = _told_apart(low, high, seen)
        span = f"{low_text}{'–' if low >= 0 else ' to '}{high_text}"
        return "value", f"{channel} is {seen_text} where {span} {where}"
    window = "small window" if channel.startswith("part_") else "person-sized window"
    name = channel.removeprefix("person_").removeprefix("part_")
    if name in _WAYS:
        way = _WAYS[name][seen >= 0]
        return "direction", f"moves {way} at {abs(seen):.2f} {_SPEED} where {_sided(low, high, _WAYS[name])} {where}"
    if name in _PLACE and memory_steps == 0 and low + high < 2 * _NOTHING and seen > _SOMETHING:
        return "place", f"{_PLACE[name]}: it fills {seen:.0%} of a {window}"
    if name in ("speed", "moving") and memory_steps > 0 and seen < min(low, _STILL[name]):
        moved = (
            f"{low:.2f}–{high:.2f} {_SPEED}" if name == "speed" else f"movement in {low:.0%}–{high:.0%} of a {window}"
        )
        return "time still", f"stands still where {moved} {where}"
    low, high = max(low, 0.0), max(high, 0.0)  # nothing else goes below zero, whatever the range does
    if name == "speed":
        return "speed", f"moves at {seen:.2f} {_SPEED} where {low:.2f}–{high:.2f} {where}"
    if name == "spread":
        return (
            "speed",
            f"moves unevenly, by {seen:.2f} {_SPEED} between its parts, where {low:.2f}–{high:.2f} {where}",
        )
    if name in ("foreground", "moving"):
        what = "fills" if name == "foreground" else "moves in"
        return "size", f"{what} {seen:.0%} of a {window} where {low:.0%}–{high:.0%} {where}"
    if name == "difference":
        return "shape", f"stands out by {seen:.0%} of full brightness where {low:.0%}–{high:.0%} {where}"
    edges = _EDGES[int(name.removeprefix("gradient"))]
    return "shape", f"is shaped otherwise: {edges} edges of strength {seen:.3f} where {low:.3f}–{high:.3f} {where}"


def _told_apart(low: float, high: float, seen: float) -> list[str]:
    """The three values, of any size, with as many digits as show how wide the range is."""
    size, width = max(map(abs, (low, high, seen))), high - low
    digits = min(9, max(3, 2 + math.ceil(math.log10(size / width)))) if width > 0 else 9
    texts = [f"{value:.{digits}g}" for value in (low, high, seen)]
    return [f"{float(text):.0f}" if "e+" in text and size < 1e9 else text for text in texts]


def _sided(low: float, high: float, ways: tuple[str, str]) -> str:
    """A range of signed speeds in words; `ways` are that of negative ones and that of positive ones."""
    negative, positive = ways
    if low >= 0:
        return f"{low:.2f}–{high:.2f} {positive}"
    if high <= 0:
        return f"{-high:.2f}–{-low:.2f} {negative}"
    return f"{-low:.2f} {negative} to {high:.2f} {positive}"
