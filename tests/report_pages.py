"""A workspace of small tables made by hand, a realistic one, and a reader of the page that the report is."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pyarrow as pa
from conftest import blank

from vidrnn import report
from vidrnn.encode import VideoWriter
from vidrnn.params import Params, load_params
from vidrnn.schema import EMBEDDING_SIZE, SCHEMAS
from vidrnn.storage import camera_folder, video_path, write_json, write_table

PARAMS = load_params()
PARAMS = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"videos": "data/videos"})})  # no demo
NIGHT = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)
HOSTILE = [
    'gate/"><script>alert(1)</script>.mp4',
    "gate/'\"&amp;<img src=x onerror=alert(1)>.mp4",
    "gate/line\nbreak\ttab.mp4",
    "gate/\u202egnp.4pm",
    "gate/{{ 7 * 7 }}{% raw %}.mp4",
    "gate/--option; rm -rf $(HOME) `x`.mp4",
]
VOID = {"meta", "link", "img", "input"}
TAGS = """
html head title style body header main section nav article details summary div span p pre code h1 h2 h3 h4 a b i strong
small bdi time ul ol li dl dt dd table thead tbody tr th td svg g path rect polyline video button label script
"""


class Workspace:
    """All that the stage reads, made by hand: 10 analysed frames a second, warm-up of 2 s."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos: list[dict[str, Any]] = []
        self.promotions: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.nights: list[dict[str, Any]] = []

    def video(self, name: str, scores: Any = None, events: Any = (), rate: float = 10, **facts: Any) -> None:
        """A video with its frames if it has scores; `events` are rows, to be filled in; `rate` frames a second."""
        camera = name.split("/")[0]
        key = {"camera_id": camera, "video_id": name}
        count = 0 if scores is None else len(scores)
        base = {"width": 320, "height": 180, "num_frames": 2 * count, "status": "ok", "scored": True}
        base |= {"recorded_at_source": "none", "duration_seconds": count / rate or None}
        self.videos.append(blank("videos", **key, **base | facts))
        if scores is None:
            return
        times = np.arange(count) / rate
        frames = pa.table(
            {
                "camera_id": [camera] * count,
                "video_id": [name] * count,
                "frame_index": np.arange(count) * 2,
                "pts": np.arange(count) * 2,
                "time_seconds": times,
                "recorded_at": pa.nulls(count, pa.timestamp("us", tz="UTC")),
                "score_raw": np.asarray(scores, np.float32),
                "score": np.asarray(scores, np.float32),
                "alarm": np.asarray(scores) > 2,
                "valid": times >= 2,
            },
            schema=SCHEMAS["frames"],
        )
        write_table(video_path(self.root / "tables/frames", camera, name), frames, SCHEMAS["frames"])
        rows = [blank("events", **key, **{"kind": "unusual", "model_version": "0" * 12} | event) for event in events]
        table = pa.Table.from_pylist(rows, schema=SCHEMAS["events"])
        write_table(video_path(self.root / "tables/events", camera, name), table, SCHEMAS["events"])

    def rows(self, table: str, video_id: str, rows: list[dict[str, Any]]) -> None:
        """Rows of another table of a video; what is left out is filled in."""
        camera = video_id.split("/")[0]
        full = [blank(table, camera_id=camera, video_id=video_id, **row) for row in rows]
        path = video_path(self.root / "tables" / table, camera, video_id)
        write_table(path, pa.Table.from_pylist(full, schema=SCHEMAS[table]), SCHEMAS[table])

    def media(self, camera: str, name: str) -> Path:
        """Where what shows an event or a segment lies, without its suffix."""
        return camera_folder(self.root / "media", camera) / name

    def picture(self, camera: str, name: str, image: Any = None) -> None:
        """A key frame of an event or a segment."""
        image = np.full((180, 320, 3), 90, np.uint8) if image is None else image
        path = self.media(camera, f"{name}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())

    def clip(self, camera: str, event_id: str, image: Any, seconds: float = 4.0) -> None:
        """A clip of an event, in which a bar runs over a picture, and its heat map."""
        heat = np.zeros((20, 36, 4), np.uint8)
        heat[8:14, 10:18] = (0, 0, 255, 180)
        cv2.imwrite(str(self.media(camera, f"{event_id}-heat.png")), heat)
        small = cv2.resize(image, (384, 216))
        with VideoWriter(self.media(camera, f"{event_id}.mp4"), 384, 216, 10, crf=32) as writer:
            for k in range(int(10 * seconds)):
                shown = small.copy()
                shown[80:150, 8 * k : 8 * k + 20] = 255
                writer.write(shown)

    def model(self, camera: str, threshold: float = 2.0, **card: Any) -> None:
        """The card of a model."""
        base = {"version": "0123456789ab"}
        self.measure("threshold", threshold, camera=camera)
        write_json(self.root / "model" / quote(camera, safe="") / "model.json", base | card)

    def measure(self, name: str, value: float | None, low: Any = None, high: Any = None, camera: str = "*") -> None:
        """A row of metrics."""
        self.metrics.append(
            {"camera_id": camera, "name": name, "value": value, "low": low, "high": high, "num_videos": 1}
        )

    def render(self, params: Params = PARAMS) -> str:
        """Write the tables that are single files, then the report; its text."""
        for name, rows in (("promotions", self.promotions), ("metrics", self.metrics), ("health", self.nights)):
            table = pa.Table.from_pylist(rows, schema=SCHEMAS[name])
            write_table(self.root / f"{name}.parquet", table, SCHEMAS[name])
        table = pa.Table.from_pylist(self.videos, schema=SCHEMAS["videos"])
        write_table(self.root / "tables/videos.parquet", table, SCHEMAS["videos"])
        out = self.root / "report/index.html"
        report.write_report(*self.arguments(), params)
        return out.read_text(encoding="utf-8")

    def arguments(self) -> tuple[Path, ...]:
        """Paths in the order of the stage."""
        names = (
            "tables",
            "media",
            "promotions.parquet",
            "metrics.parquet",
            "health.parquet",
            "model",
            "report/index.html",
        )
        return tuple(self.root / name for name in names)


class Page(HTMLParser):
    """Tags with their attributes, text outside <style>, ids, and what was left open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every such element."""
        return [attrs for name, attrs in self.tags if name == tag]


def read(text: str) -> Page:
    """Parse, and check what holds for every report."""
    page = Page(text)
    assert page.open == []
    assert "http://" not in text and "https://" not in text
    assert {tag for tag, _ in page.tags} <= {*VOID, *TAGS.split()}
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    begin = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    assert policy and policy.startswith(begin)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in page.all("a") if not str(a["href"]).startswith("../media/")}
    assert targets <= {f"#{name}" for name in ids}
    assert len(page.all("script")) == 1 and text.count("</script") == 1
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("src") is None or re.match("data:(image/jpeg|image/png|video/mp4);base64,", str(attrs["src"]))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    return page


def bumps(seconds: float, seed: int, peaks: Any = ()) -> Any:
    """Scores that wander about 0, with a bump at each (second, height)."""
    random = np.random.default_rng(seed)
    t = np.arange(int(seconds * 10)) / 10
    noise = np.convolve(random.normal(0, 0.5, len(t) + 20), np.ones(8) / 8, "same")[: len(t)]
    score = 0.25 + 0.25 * np.sin(t / 7 + seed) + noise
    for at, height in peaks:
        score = np.maximum(score, (height + noise) * np.exp(-(((t - at) / 1.6) ** 2)))
    return score.astype(np.float32)


def scene(seed: int, night: bool, box: tuple[int, int, int, int]) -> Any:
    """A drawn picture of 640 × 360 with somebody in the box."""
    random = np.random.default_rng(seed)
    image = np.zeros((360, 640, 3), np.uint8)
    image[:] = np.linspace(60 if night else 205, 35 if night else 150, 360)[:, None, None].astype(np.uint8)
    image[:130] = (70, 55, 40) if night else (235, 220, 200)
    for x in range(-40, 640, 150):
        cv2.rectangle(image, (x, 40), (x + 95, 150), (80, 85, 95) if night else (150, 165, 185), -1)
        cv2.rectangle(image, (x + 20, 60), (x + 45, 95), (120, 190, 220) if night else (120, 100, 85), -1)
    cv2.fillPoly(
        image, [np.array([[60, 360], [260, 150], [400, 150], [620, 360]])], (95, 92, 90) if night else (172, 176, 178)
    )
    for left, top, right, bottom in [
        box,
        *((int(x), int(y), int(x) + 18, int(y) + 46) for x, y in random.uniform((80, 140), (540, 260), (3, 2))),
    ]:
        colour = tuple(int(c) for c in random.uniform(20, 140, 3))
        cv2.ellipse(
            image,
            ((left + right) // 2, (top + bottom) // 2 + 6),
            ((right - left) // 3, (bottom - top) // 2 - 6),
            0,
            0,
            360,
            colour,
            -1,
            cv2.LINE_AA,
        )
        cv2.circle(image, ((left + right) // 2, top + 8), 7, (120, 150, 190), -1, cv2.LINE_AA)
    return np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


REASONS = [
    "Moves three times as fast as people do at this place.",
    "Goes against the way that everybody takes here.",
    "Larger than anything that crosses this part of the picture.",
    "Stands still where nobody stops.",
    "Changed shape suddenly, as in a fall.",
    None,
]


def fill_in(space: Workspace, name: str, index: int, events: list[dict[str, Any]]) -> None:
    """Objects, segments and windows of a video: of each event an object that crosses its box."""
    at = np.random.default_rng(index).uniform(0, 69, 30)
    space.rows("tracks", name, [{"track_id": 100 + k, "onset_seconds": t} for k, t in enumerate(sorted(at.tolist()))])
    things = []
    for one in events:
        for t in np.arange(one["onset_seconds"] - 1, one["offset_seconds"] + 1, 0.1).tolist():
            left = one["x0"] + 40 * (t - one["peak_seconds"])
            box = {"x0": left, "y0": one["y0"], "x1": left + 44, "y1": one["y1"]}
            things.append({"track_id": one["track_ids"][0], "time_seconds": t, "score": 3.0, **box})
    space.rows("detections", name, things)
    cuts = [0.0, 20.0 + index, 45.0, 70.0]
    segments = []
    for k, (start, stop) in enumerate(pairwise(cuts)):
        times = {"onset_seconds": start, "offset_seconds": stop, "group": k % 2, "segment_id": f"s{index}{k}"}
        segments.append(times | {"start": "cut" if k else "start", "boundary_score": 2.0 + k if k else None})
        space.picture(name.split("/")[0], f"s{index}{k}", scene(100 + 3 * index + k, index > 2, (9, 9, 40, 80)))
    space.rows("segments", name, segments)
    vectors = np.random.default_rng(index).normal(size=(70, EMBEDDING_SIZE))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    windows = [{"onset_seconds": k, "offset_seconds": k + 1.0, "vector": v} for k, v in enumerate(vectors.tolist())]
    space.rows("embeddings", name, windows)


def realistic(root: Path) -> Workspace:
    """Two cameras, six scored videos, a dozen events, and files that could not be read."""
    space = Workspace(root)
    plan = {
        "gate/test/2026-03-03T08-00-00.mp4": [(14, 3.1), (41, 9.4), (60, 2.4)],
        "gate/test/2026-03-03T08-01-30.mp4": [(22, 5.2), (50, 2.2)],
        "gate/test/2026-03-03T08-03-00.mp4": [],
        "yard north/test/2026-03-03T21-00-00.mp4": [(12, 2.6), (33, 18.5), (36.8, 3.3), (58, 2.9)],
        "yard north/test/2026-03-03T21-01-30.mp4": [(30, 4.4)],
        "yard north/test/2026-03-03T21-03-00.mp4": [(19, 2.15), (48, 6.8)],
    }
    number = 0
    for index, (name, peaks) in enumerate(plan.items()):
        recorded = NIGHT + timedelta(days=2, minutes=2 * index)
        night = name.startswith("yard")
        events = []
        for at, height in peaks:
            box = (150 + 31 * number % 330, 160 + 17 * number % 90)
            box = (*box, box[0] + 44 + number % 3 * 22, box[1] + 92)
            number += 1
            event_id = f"{number:016x}"
            events.append(
                {
                    "event_id": event_id,
                    "onset_seconds": at - 1.5,
                    "offset_seconds": at + 1.6,
                    "onset_frame": int(at * 20) - 30,
                    "offset_frame": int(at * 20) + 32,
                    "recorded_at": recorded + timedelta(seconds=at),
                    "peak_seconds": at,
                    "peak_score": height,
                    "rarity": float(4 * np.exp(-1.1 * (height - 1.0))),
                    **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
                    "track_ids": [number],
                    "reason": REASONS[number % len(REASONS)],
                    "reason_quantity": "person_speed",
                    "reason_expected_low": 0.05,
                    "reason_expected_high": 0.31,
                    "reason_seen": 0.88,
                }
            )
            if number != 7:
                picture = scene(number, night, box)
                space.picture(name.split("/")[0], event_id, picture)
                space.clip(name.split("/")[0], event_id, picture)
        space.video(name, bumps(70, index, peaks), events, width=640, height=360, recorded_at=recorded)
        fill_in(space, name, index, events)
    for camera in ("gate", "yard north"):
        for index in range(3):
            name = f"{camera}/train/2026-03-02T08-0{index}-00.mp4"
            space.video(name, trains=True, scored=False, num_frames=1400, duration_seconds=70.0)
        space.model(
            camera,
            architecture={"cell": "gru", "hidden_size": 48, "num_layers": 1, "num_horizons": 1},
            params={"train": {"scope": "camera", "epochs": 20}, "model": {"horizons_seconds": [0.5]}},
            heldout={"hours": 0.0167, "alarms": 0, "nll": -1.234},
        )
        for measure, candidate, champion in (("heldout_nll", -1.234, -1.198), ("alarms_per_hour", 0.0, 2.0)):
            row = {"camera_id": camera, "measure": measure, "candidate_value": candidate, "champion_value": champion}
            row |= {"difference_low": -0.06, "difference_high": -0.01, "candidate_version": "0123456789ab"}
            row |= {"champion_version": "fedcba987654", "promoted": camera == "gate"}
            row["reason"] = "No measure is worse, and the held-out loss is better."
            space.promotions.append(row)
    for camera, message in (
        ("gate", ""),
        ("yard north", "dark: the picture is 9% bright where 41% was usual"),
    ):
        for night in ("2026-03-02", "2026-03-03"):
            last = night == "2026-03-03"
            measured = {
                "brightness": 0.4,
                "contrast": 37.2,
                "sharpness": 0.93,
                "frame_rate": 10.0,
                "score_median": 1.2,
                "score_high": 8.1,
            }
            facts = {"camera_id": camera, "night": night, "num_videos": 3, "hours": 0.06, **measured}
            told = message if last else ""
            space.nights.append(blank("health", **facts, framing=0.99 if last else None, ok=not told, message=told))
    space.video("gate/test/broken.mp4", status="unreadable", message="moov atom not found; the recording was cut off.")
    space.video(
        "yard north/test/half.mp4", status="partial", message="41 packets could not be decoded.", num_undecodable=41
    )
    for camera, share in (("*", 2.0), ("gate", 1.0), ("yard north", 1.0)):
        figures: dict[str, Any] = {
            "labels": (1,),
            "hours": (share * 210 / 3600,),
            "alarms_per_hour_promised": (1.0,),
            "alarms_per_hour_heldout": (0.0, 0.0, 221 / share),
            "heldout_alarms": (0,),
            "heldout_hours": (share * 0.0167,),
            "heldout_nll": (-1.234,),
            "auroc_micro_ema": (0.951, 0.917, 0.981),
            "auroc_micro_raw": (0.947, 0.909, 0.979),
            "auroc_micro_gauss": (0.968, 0.931, 0.99),
            "auroc_micro_minmax": (0.938, 0.89, 0.976),
            "auroc_macro": (0.944, 0.9, 0.98),
            "ap": (0.78, 0.61, 0.9),
            "ap_base_rate": (0.14,),
            "eer": (0.11, 0.06, 0.17),
            "event_precision": (0.83, 0.6, 1.0),
            "event_recall": (0.89, 0.7, 1.0),
            "precision": (0.81, 0.66, 0.93),
            "recall": (0.64, 0.49, 0.8),
            "f1": (0.71, 0.58, 0.83),
            "accuracy": (0.93, 0.9, 0.96),
            "pointing": (0.83, 0.68, 0.95),
            "rbdc": (0.81, 0.62, 0.95),
            "tbdc": (0.93, 0.8, 1.0),
            "num_events_labelled": (9,),
            "num_events_predicted": (12,),
        }
        for name, values in figures.items():
            space.measure(name, *values, camera=camera)
    return space


def event(number: int, **facts: Any) -> dict[str, Any]:
    """An event of 3 s."""
    base = {"event_id": f"{number:016x}", "onset_seconds": 10.0, "offset_seconds": 13.0, "peak_seconds": 11.0}
    return (
        base
        | {"peak_score": 3.0, "rarity": 0.1, "reason": "Moves too fast.", "x0": 9, "y0": 9, "x1": 50, "y1": 60}
        | facts
    )
