"""The report from small tables made by hand, and in a real browser."""

import base64
import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pyarrow as pa
import pytest
from conftest import blank

from vidrnn import report
from vidrnn.params import Params, load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import report as stage
from vidrnn.storage import video_path, write_json, write_table

PARAMS = load_params()
NIGHT = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)
HOSTILE = [
    'gate/"><script>alert(1)</script>.mp4',
    "gate/'\"&amp;<img src=x onerror=alert(1)>.mp4",
    "gate/line\nbreak\ttab.mp4",
    "gate/\u202egnp.4pm",
    "gate/{{ 7 * 7 }}{% raw %}.mp4",
    "gate/--option; rm -rf $(HOME) `x`.mp4",
]
VOID = {"meta", "link", "img"}
TAGS = """
html head title style body header main section nav article figure figcaption details summary div span p pre code h1
h2 h3 h4 a b i strong small bdi time ul ol li dl dt dd table thead tbody tr th td svg g path rect text
"""


class Workspace:
    """All that the stage reads, made by hand: 10 analysed frames a second, warm-up of 2 s."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos: list[dict[str, Any]] = []
        self.promotions: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.nights: list[dict[str, Any]] = []

    def video(self, name: str, scores: Any = None, events: Any = (), **facts: Any) -> None:
        """A video with its frames if it has scores; `events` are rows of which the rest is filled in."""
        camera = name.split("/")[0]
        key = {"camera_id": camera, "video_id": name}
        count = 0 if scores is None else len(scores)
        base = {"width": 320, "height": 180, "num_frames": 2 * count, "status": "ok", "scored": True}
        base |= {"recorded_at_source": "none", "duration_seconds": count / 10 or None}
        self.videos.append(blank("videos", **key, **base | facts))
        if scores is None:
            return
        times = np.arange(count) / 10
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

    def picture(self, camera: str, event_id: str, image: Any = None) -> None:
        """A key frame of an event."""
        image = np.full((180, 320, 3), 90, np.uint8) if image is None else image
        path = self.root / "media" / f"camera_id={quote(camera, safe='')}" / f"{event_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())

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
        if "style" not in self.open:
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
    assert policy and policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in page.all("a")}
    assert targets <= {f"#{name}" for name in ids}
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("src") is None or str(attrs["src"]).startswith("data:image/jpeg;base64,")
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
                    "reason": REASONS[number % len(REASONS)],
                    "reason_quantity": "person_speed",
                    "reason_expected_low": 0.05,
                    "reason_expected_high": 0.31,
                    "reason_seen": 0.88,
                }
            )
            if number != 7:
                space.picture(name.split("/")[0], event_id, scene(number, night, box))
        space.video(name, bumps(70, index, peaks), events, width=640, height=360, recorded_at=recorded)
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


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path)


def event(number: int, **facts: Any) -> dict[str, Any]:
    """An event of 3 s."""
    base = {"event_id": f"{number:016x}", "onset_seconds": 10.0, "offset_seconds": 13.0, "peak_seconds": 11.0}
    return (
        base
        | {"peak_score": 3.0, "rarity": 0.1, "reason": "Moves too fast.", "x0": 9, "y0": 9, "x1": 50, "y1": 60}
        | facts
    )


def test_a_full_report_says_what_happened(tmp_path):
    space = realistic(tmp_path)
    page = read(space.render())
    assert "12 unusual events" in page.text and "2 cameras" in page.text
    assert "1 file could not be read and 1 file only in part" in page.text
    assert "moov atom not found" in page.text
    assert "for comparison with papers" in page.text
    assert "89 % of 9 labelled events found; 83 % of what was reported is labelled" in " ".join(page.text.split())
    assert "2026-03-03 22:15:00 UTC" in page.text
    assert "too little footage to tell" in page.text
    assert "vidrnn table events --video 'yard north/test/2026-03-03T21-00-00.mp4'" in page.text
    assert page.text.index("unreadable") < page.text.index("partial")
    assert str(tmp_path) not in page.text
    assert [a["id"] for a in page.all("li") if "id" in a] == [f"event-{n}" for n in range(1, 13)]


def test_every_event_has_a_picture_with_alt_text_or_says_that_there_is_none(tmp_path):
    page = read(realistic(tmp_path).render())
    images = page.all("img")
    assert len(images) == 11 and len({image["alt"] for image in images}) == 11
    assert all(
        re.match(r"Event \d+: camera .+ at \d\d:\d\d\.\d in .+, with a box", image["alt"] or "") for image in images
    )
    assert "There is no picture of this event." in page.text
    jpeg = base64.b64decode((images[0]["src"] or "").split(",")[1])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)


def test_two_renderings_are_the_same_bytes(tmp_path):
    texts = [realistic(tmp_path / name).render() for name in ("a", "b")]
    assert texts[0] == texts[1]


def test_looks_of_the_user_do_not_change_the_charts(space, monkeypatch):
    space.video("gate/a.mp4", bumps(60, 1, [(11, 3)]), [event(1)])
    space.model("gate")
    before = space.render()
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "axes.xmargin": 0.4}):
        assert space.render() == before


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(space, name):
    camera = "<b onclick=x>'\""
    name = name.replace("gate/", f"{camera}/")
    reason = "</h3><script>alert(2)</script>"
    space.video(name, bumps(30, 1, [(11, 3)]), [event(1, reason=reason, model_version="<i>")])
    space.video(name + "2", status="unreadable", message="<svg onload=alert(3)>\x1b[31m")
    space.picture(camera, f"{1:016x}")
    space.model(camera, architecture={"<key>": "<value>"}, version="<u>")
    row = {"camera_id": camera, "measure": "<td>", "candidate_version": "<p>", "reason": "<a href=x>"}
    space.promotions.append(blank("promotions", **row))
    page = read(space.render())
    assert report.visible(name) in page.text and reason in page.text and "<svg onload=alert(3)>\\u001b[31m" in page.text
    assert report.command(name) in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page.text)


def test_names_are_shown_and_quoted_so_that_nothing_hides_in_them():
    assert report.visible("a\u202eb\n\x00é漢") == "a\\u202eb\\u000a\\u0000é漢"
    assert report.visible("\U000e0041") == "\\U000e0041"
    assert report.command("gate/a b.mp4") == "vidrnn table events --video 'gate/a b.mp4'"
    assert report.command("a\n'\\b") == "vidrnn table events --video $'a\\u000a\\'\\\\b'"


@pytest.mark.parametrize(
    ("build", "title", "words"),
    [
        (lambda s: None, "No footage was scored", ["There are no files yet", "There is no model yet", "no labels"]),
        (
            lambda s: (s.video("gate/a.mp4", bumps(30, 1, [(11, 1.5)])), s.model("gate")),
            "Nothing unusual in 30 s of footage",
            ["No moment rose above", "at 00:11.", "more than 2.0", "All 1 file could be read"],
        ),
        (
            lambda s: s.video("gate/a.mp4", status="unreadable", message="not a video"),
            "No footage was scored",
            ["The only file could not be read", "not a video", "This camera has no model"],
        ),
        (
            lambda s: (s.video("gate/a.mp4", scored=False, trains=True, num_frames=9, duration_seconds=9.0),),
            "No footage was scored",
            ["1 file was found and none was scored", "Camera gate: 3 more minutes."],
        ),
        (
            lambda s: (s.video("gate/a.mp4", scored=False), s.model("gate")),
            "No footage was scored",
            ["None of this camera's footage was scored", "1 file was found and none was scored"],
        ),
    ],
)
def test_empty_states_are_sentences(space, build, title, words):
    build(space)
    write_json(space.root / "model/cameras.json", {"gate": {"status": "x", "message": "camera gate: 3 more minutes"}})
    page = read(space.render())
    text = " ".join(page.text.split())
    assert title in text
    assert [word for word in words if word not in text] == []


def test_the_promise_alone_is_shown_without_labels(space):
    space.video("gate/a.mp4", bumps(30, 1))
    space.model("gate")
    space.measure("labels", 0)
    space.measure("alarms_per_hour_promised", 1.0)
    space.measure("alarms_per_hour_heldout", 6.0, 2.2, 13.1)
    space.measure("heldout_alarms", 6)
    space.measure("heldout_hours", 1.0)
    text = " ".join(read(space.render()).text.split())
    assert "There are no labels of unusual events" in text
    assert "6 false alarms in 1 h of ordinary footage" in text and "more than promised" in text
    space.measure("auroc_micro_ema", None)
    assert "There are no labels" not in read(space.render()).text


def test_events_beyond_the_limit_are_listed(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(n, peak_score=float(n)) for n in range(2, 9)])
    params = PARAMS.model_copy(update={"report": PARAMS.report.model_copy(update={"max_events": 3})})
    page = read(space.render(params))
    assert "4 more events, less unusual" in page.text
    assert len([a for a in page.all("li") if a.get("id", "").startswith("event-")]) == 3
    assert sum(a["href"] == "#more-events" for a in page.all("a")) == 4


def test_ties_are_ordered_by_event_id(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(n, reason=f"reason {n}.") for n in (7, 5, 6)])
    text = read(space.render()).text
    assert text.index("Reason 5.") < text.index("Reason 6.") < text.index("Reason 7.")


def test_a_picture_that_is_no_jpeg_is_missing_and_a_box_stays_inside(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(1), event(2, x0=-5, x1=9999), event(3, x0=None), event(4, x0=50)])
    for number in (2, 3, 4):
        space.picture("gate", f"{number:016x}")
    path = space.root / "media/camera_id=gate" / f"{1:016x}.jpg"
    path.write_bytes(b"<svg/>")
    page = read(space.render())
    assert len(page.all("img")) == 3 and "There is no picture of this event." in page.text
    boxes = [a for a in page.all("rect") if a["class"] == "line"]
    assert [(float(box["x"]), float(box["width"])) for box in boxes] == [(0, 320)]


def test_a_day_of_frames_stays_small_and_keeps_its_peak(space):
    scores = np.random.default_rng(0).normal(0, 0.3, 24 * 3600 * 10).astype(np.float32)
    scores[500_000] = 9.0
    space.video("gate/a.mp4", scores, [event(1, onset_seconds=49_999.0, offset_seconds=50_001.0, peak_score=9.0)])
    space.model("gate")
    text = space.render()
    assert len(text) < 100_000
    assert "Peak 9.0 at 13:53:20.0" in " ".join(read(text).text.split())


def test_the_envelope_keeps_extremes_and_ends():
    scores = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    kept = report.envelope(scores, 50)
    assert len(kept) <= 102 and (np.diff(kept) > 0).all() and kept[0] == 0 and kept[-1] == 9_999
    assert {scores.argmax(), scores.argmin()} <= set(kept.tolist())
    assert report.envelope(scores[:102], 50).tolist() == list(range(102))


def test_many_quiet_videos_are_folded_away(space):
    for number in range(report.SHOWN_CHARTS + 1):
        space.video(f"gate/{number:02d}.mp4", bumps(10, number), [event(1)] if number == 4 else [])
    page = read(space.render())
    assert f"{report.SHOWN_CHARTS} videos without an event" in page.text


@pytest.mark.parametrize(
    ("per_hour", "words"),
    [
        (0.0, "less than once in 100 years"),
        (1e-9, "less than once in 100 years"),
        (1 / (8766 * 12), "about once in 12 years"),
        (1 / (24 * 100), "about once in 3.3 months"),
        (1 / (24 * 9), "about once in 9 days"),
        (1 / 12, "about once in 12 hours"),
        (1.0, "about once an hour"),
        (5.0, "about every 12 minutes"),
        (60.0, "about once a minute"),
        (1000.0, "more than once a minute"),
        (float("nan"), "nobody knows how often"),
    ],
)
def test_rarity_in_words(per_hour, words):
    assert report.chance(per_hour) == words


def test_times_and_numbers_in_words():
    assert [report.clock(s) for s in (0, 31.25, 59.96, 3671.04)] == ["00:00.0", "00:31.2", "01:00.0", "1:01:11.0"]
    assert [report.span_text(s) for s in (None, 3, 4.26, 60, 200, 7500)] == [
        "–",
        "3 s",
        "4.3 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [report.score_text(s) for s in (None, -0.001, 0.426, 3.14, -2.0, 41.6)] == [
        "–",
        "0.00",
        "0.43",
        "3.1",
        "−2.0",
        "42",
    ]
    assert [report.rate_text(r) for r in (None, 0.0, 0.0312, 1.0, 1.55, 221.3)] == [
        "–",
        "0",
        "0.031",
        "1",
        "1.6",
        "221",
    ]
    assert [report.short_clock(s) for s in (0, 90, 7200)] == ["0:00", "1:30", "2:00 h"]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(2.0, 9.0, "more"), (0.1, 0.5, "fewer"), (0.5, 2.0, "agrees"), (0.0, 90.0, "too little"), (None, 1.0, "nothing")],
)
def test_verdicts(low, high, words):
    assert report.verdict(1.0, low, high).startswith(words)


def test_the_stage_prints_where_the_report_is(tmp_path, capsys):
    space = realistic(tmp_path)
    space.render()
    stage.main(*map(str, space.arguments()))
    assert capsys.readouterr().out == f"report: 12 events, {tmp_path}/report/index.html\n"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme):
    css = Path(report.__file__).with_suffix(".css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[theme]))
    pairs = [(text, ground, 4.5) for text in ("ink", "muted", "accent") for ground in ("bg", "surface")]
    pairs += [("ink", "accent-soft", 4.5), ("accent", "accent-soft", 4.5), ("ink", "warmup", 4.5)]
    pairs += [("muted", "warmup", 4.5), ("surface", "accent", 4.5), ("good", "surface", 4.5), ("good", "bg", 4.5)]
    pairs += [("curve", ground, 3) for ground in ("surface", "accent-soft", "warmup")]
    for text, ground, least in pairs:
        high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= least, (text, ground)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A full report, one of hostile names and an empty one."""
    roots = [tmp_path_factory.mktemp(name) for name in ("full", "hostile", "empty")]
    realistic(roots[0]).render()
    space = Workspace(roots[1])
    for number, name in enumerate([*HOSTILE, f"gate/{'x' * 240}.mp4"]):
        space.video(name, bumps(30, number, [(11, 3)]), [event(number, reason="y" * 200)])
        space.video(name + ".bad", status="unreadable", message="z" * 200)
    space.model("gate")
    space.render()
    Workspace(roots[2]).render()
    return [root / "report/index.html" for root in roots]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_in_a_browser_nothing_is_fetched_blocked_or_too_wide(browser, pages, width, theme):
    for path in pages:
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        told: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message, told=told: told.append(message.text))
        tab.on("pageerror", lambda error, told=told: told.append(str(error)))
        tab.on("dialog", lambda dialog, told=told: told.append(dialog.message))
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.goto(path.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert told == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(250, 250, 248)") is (theme == "light")
        tab.close()


def test_the_keyboard_reaches_the_content(browser, pages):
    tab = browser.new_page()
    tab.goto(pages[0].as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.close()


def test_on_paper_it_is_light_and_nothing_is_cut_off(browser, pages):
    tab = browser.new_page(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 within its margins
    tab.goto(pages[0].as_uri())
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718
    tab.close()


def test_the_last_night_of_a_camera_with_trouble_is_told_at_a_glance(tmp_path):
    space = Workspace(tmp_path)
    for camera, night, ok, message in (
        ("gate", "2026-03-01", False, "the picture is dark"),
        ("gate", "2026-03-02", True, ""),
        ("yard", "2026-03-01", True, ""),
        ("yard", "2026-03-02", False, "it shows <another> view"),
    ):
        key = {"camera_id": camera, "night": night, "num_videos": 1, "hours": 0.5}
        space.nights.append(blank("health", **key, ok=ok, message=message))
    text = Page(space.render()).text
    assert "night of 2026-03-02: It shows <another> view" in text
    assert "dark" not in text
