import copy
import hashlib
import math
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import cv2
import numpy as np
import pyarrow as pa
import pytest
from synthetic import USUAL, save_camera_model, write_regions, write_shots, write_views

from vidrnn.cards import camera_dir
from vidrnn.decode import VideoReader, open_video
from vidrnn.encode import VideoWriter
from vidrnn.events import CLIP, HEAT, PICTURE
from vidrnn.features import ROWS, signature
from vidrnn.params import AlarmsParams
from vidrnn.schema import EMBEDDING_SIZE, SCHEMAS, as_vectors, scores_schema
from vidrnn.storage import digest, read_metadata, read_table, video_path, write_json, write_table
from vidrnn.tables import explain, make_tables
from vidrnn.timebase import TimeBase
from vidrnn.windows import MODELLED

ALARMS = AlarmsParams(per_hour=1.0, merge_seconds=1.0)
TAIL = (1.0, 10, 0.5, 1.0)  # base, count, excess, hours: one an hour is at 1 + ½ · 10 (10^⅒ − 1) = 2.29
EVENING = datetime(2026, 3, 1, 22, tzinfo=UTC)
NUM_FRAMES, STEP = 60, 2  # source frames, and every which of them is analysed
WINDOWS = ((0, 10), (5, 15), (20, 30))  # analysed frames


def alarms_at(*rows, height=3.0, peak=None):
    """Scores of the analysed frames: calm but for some rows."""
    scores = np.full(NUM_FRAMES // STEP, 0.5, np.float32)
    scores[list(rows)] = height
    if peak is not None:
        scores[peak] = height + 1
    return scores


class Scored:
    """Videos, and all that the stages before `tables` would have made of them."""

    def __init__(self, root):
        self.root, self.videos = root, root / "videos"
        self.index, self.decoded, self.skipped, self.scores = [], [], {}, {}
        self.models = root / "model"
        self.version = save_camera_model(camera_dir(self.models, "gate"), tail=TAIL)

    def add(self, video_id, scores=None, pts=None, recorded_at=None, status="ok", views=None):
        path = self.videos / video_id
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = np.stack([np.full((64, 96, 3), 30 + 3 * k, np.uint8) for k in range(NUM_FRAMES)])
        for k, picture in enumerate(pictures):
            picture[:, : 2 + k] = 220  # no two frames alike, and no two files
            picture[: 8 * len(self.index)] = 90
        if path.suffix:
            with VideoWriter(path, 96, 64, 10, crf=12, time_base=Fraction(1, 1000) if pts else None) as writer:
                for k, picture in enumerate(pictures):
                    writer.write(picture, None if pts is None else pts[k])
        else:
            path.mkdir()
            for k, picture in enumerate(pictures):
                cv2.imwrite(str(path / f"{7 + k}.png"), picture)
        with open_video(path, TimeBase(1, 10)) as reader:
            base, shots = reader.time_base, [(frame.pts, signature(frame.luma, 0)) for frame in reader.frames()]
        ticks = [pts for pts, _ in shots]
        write_shots(video_path(self.root / "features/shots", video_id.split("/")[0], video_id), shots)
        assert len(ticks) == NUM_FRAMES
        sha256 = hashlib.sha256(path.read_bytes() if path.is_file() else video_id.encode()).hexdigest()
        key = {"camera_id": video_id.split("/")[0], "video_id": video_id, "sha256": sha256}
        seconds = base.seconds(2 * ticks[-1] - ticks[-2] - ticks[0])
        self.index.append(
            {
                **key,
                "codec": "h264",
                "width": 96,
                "height": 64,
                "rotation": 0,
                "time_base_num": base.num,
                "time_base_den": base.den,
                "duration_seconds": seconds,
                "recorded_at": recorded_at,
                "recorded_at_source": "none" if recorded_at is None else "name",
                "trains": False,
                "scored": True,
                "status": status,
                "message": "" if status == "ok" else "no video",
            }
        )
        if status == "unreadable":
            return self
        counts = {"num_frames": NUM_FRAMES, "num_analysed": NUM_FRAMES // STEP, "num_undecodable": 0}
        self.decoded.append({**key, **counts, "duration_seconds": seconds, "status": "ok", "message": "one note"})
        if scores is None:
            self.skipped[video_id] = "not scored: no model"
        else:
            self._write_scores(key, base, ticks[::STEP], scores)
            path = video_path(self.root / "features" / "views", key["camera_id"], key["video_id"])
            write_views(path, views or [USUAL] * len(scores), ticks[::STEP], STEP)
        return self

    def _write_scores(self, key, base, ticks, scores):
        count = len(ticks)
        schema = scores_schema(ROWS, 4)
        rows = np.arange(count)
        columns = {
            "frame_index": rows * STEP,
            "pts": ticks,
            "time_seconds": [base.seconds(t - ticks[0]) for t in ticks],
            "valid": rows >= 3,
            "score_raw": scores,
            "score": scores,
            "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, ROWS, 4), np.float16)),
            **{name: (rows + k).astype(np.float32) for k, name in enumerate(("x0", "y0", "x1", "y1"))},
            "reason_quantity": [MODELLED[k % len(MODELLED)] for k in range(count)],
            "reason_memory_steps": np.zeros(count, np.int32),
            "reason_expected_low": np.full(count, -0.1, np.float32),
            "reason_expected_high": np.full(count, 0.2, np.float32),
            "reason_seen": np.full(count, 0.9, np.float32),
        }
        path = video_path(self.root / "scores", key["camera_id"], key["video_id"])
        made_from = digest([key["sha256"], self.version, np.asarray(scores).tolist()])
        write_table(path, pa.table(columns, schema=schema), schema, {"digest": made_from})
        first, stop = zip(*WINDOWS, strict=True)
        vectors = as_vectors(np.eye(len(WINDOWS), EMBEDDING_SIZE, dtype=np.float32))
        windows = pa.table({"first": first, "stop": stop, "vector": vectors}, schema=SCHEMAS["windows"])
        path = video_path(self.root / "scores/windows", key["camera_id"], key["video_id"])
        write_table(path, windows, SCHEMAS["windows"], {"digest": made_from})
        # Something goes right by a pixel a row: it touches the boxes of events from the rows 9 to 24.
        moving = [(int(row) * STEP, row - 5, 11, row + 5, 26) for row in rows]
        write_regions(video_path(self.root / "features/regions", key["camera_id"], key["video_id"]), moving)
        self.scores[key["video_id"]] = pa.table(columns, schema=schema).drop_columns(["cells"]).to_pylist()

    def make(self, alarms=ALARMS):
        features = self.root / "features"
        decoded = pa.Table.from_pylist(self.decoded, schema=SCHEMAS["decoded"])
        write_table(features / "decoded.parquet", decoded, SCHEMAS["decoded"])
        write_json(self.root / "scores" / "skipped.json", self.skipped)
        index = pa.Table.from_pylist(self.index, schema=SCHEMAS["index"])
        tables, media = self.root / "tables", self.root / "media"
        make_tables(self.videos, index, features, self.models, self.root / "scores", alarms, tables, media)

    def copied(self, root):
        """The same, with all that was made, below another folder."""
        shutil.copytree(self.root, root)
        other = copy.deepcopy(self)
        other.root, other.videos, other.models = root, root / "videos", root / "model"
        return other

    def read(self, name, video_id):
        path = video_path(self.root / "tables" / name, video_id.split("/")[0], video_id)
        return read_table(path, SCHEMAS[name]).to_pylist()

    def pictures(self, suffix=PICTURE):
        """What events and segments have one of; every event has a heat map and a clip beside its picture."""
        return sorted(path.name.removesuffix(suffix) for path in (self.root / "media").rglob(f"*{suffix}"))

    def row(self, video_id):
        return next(row for row in self.index if row["video_id"] == video_id)


UNEVEN = np.cumsum([40 + 35 * (k % 3) for k in range(NUM_FRAMES)]).tolist()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    scored = Scored(tmp_path_factory.mktemp("tables"))
    # Rows are 0.2 s apart: the first is a warm-up, 5–6 and 10 are one event, 20 is another, 28–29 last to the end.
    scored.add("gate/busy.mp4", alarms_at(0, 2, 5, 6, 10, 20, 28, 29, peak=6), recorded_at=EVENING)
    scored.add("gate/calm.mp4", alarms_at())
    scored.add("gate/uneven.mp4", alarms_at(7, 8), pts=UNEVEN)
    scored.add("gate/lost.mp4", alarms_at(9))
    (scored.videos / "gate/lost.mp4").write_bytes(b"gone since")
    scored.add("gate/unreadable.mp4", status="unreadable")
    scored.add("yard/skipped.mp4")
    scored.make()
    return scored


def test_every_file_is_a_row_of_videos(made):
    rows = {
        row["video_id"]: row for row in read_table(made.root / "tables/videos.parquet", SCHEMAS["videos"]).to_pylist()
    }
    assert list(rows) == [row["video_id"] for row in made.index]
    busy, skipped, lost = (rows[name] for name in ("gate/busy.mp4", "yard/skipped.mp4", "gate/unreadable.mp4"))
    assert busy["num_frames"] == NUM_FRAMES and busy["message"] == "one note" and busy["recorded_at"] == EVENING
    assert busy["duration_seconds"] == pytest.approx(6.0)
    assert skipped["message"] == "one note; not scored: no model"
    assert (lost["status"], lost["message"], lost["num_frames"]) == ("unreadable", "no video", 0)


def test_every_analysed_frame_of_a_scored_video_is_a_row_of_frames(made):
    assert set(made.scores) == {f"gate/{name}.mp4" for name in ("busy", "calm", "uneven", "lost")}
    for video_id, scores in made.scores.items():
        frames = made.read("frames", video_id)
        assert len(frames) == len(scores) == NUM_FRAMES // STEP
        for frame, score in zip(frames, scores, strict=True):
            for name in ("frame_index", "pts", "time_seconds", "score_raw", "score", "valid"):
                assert frame[name] == score[name]
            assert frame["alarm"] == (score["valid"] and score["score"] > 1 + 5 * (10**0.1 - 1))
            began = made.row(video_id)["recorded_at"]
            assert frame["recorded_at"] == (began and began + timedelta(seconds=score["time_seconds"]))
    assert not video_path(made.root / "tables/frames", "yard", "yard/skipped.mp4").exists()
    metadata = read_metadata(video_path(made.root / "tables/events", "gate", "gate/busy.mp4"))
    assert metadata["model_version"] == made.version and metadata["sha256"] == made.row("gate/busy.mp4")["sha256"]


# Of each event: where its score begins to rise, which is the row before its first alarm; its last alarm, and its peak.
EVENTS = {
    "gate/busy.mp4": [(4, 10, 6), (19, 20, 20), (27, 29, 28)],
    "gate/calm.mp4": [],
    "gate/uneven.mp4": [(6, 8, 7)],
    "gate/lost.mp4": [(8, 9, 9)],
}


@pytest.mark.parametrize("video_id", EVENTS)
def test_events_are_exact_and_exclude_their_end(made, video_id):
    events, scores, row = made.read("events", video_id), made.scores[video_id], made.row(video_id)
    assert len(events) == len(EVENTS[video_id])
    for event, (first, last, peak) in zip(events, EVENTS[video_id], strict=True):
        onset, top = scores[first], scores[peak]
        assert (event["onset_pts"], event["onset_frame"]) == (onset["pts"], onset["frame_index"])
        assert event["onset_seconds"] == onset["time_seconds"]
        if last + 1 < len(scores):
            after = scores[last + 1]
            assert (event["offset_pts"], event["offset_frame"]) == (after["pts"], after["frame_index"])
            assert event["offset_seconds"] == after["time_seconds"]
        else:
            assert event["offset_frame"] == NUM_FRAMES and event["offset_seconds"] == row["duration_seconds"]
            end = Fraction(row["time_base_num"], row["time_base_den"]) * (event["offset_pts"] - scores[0]["pts"])
            assert float(end) == pytest.approx(row["duration_seconds"])
        assert event["event_id"] == hashlib.sha256(f"{row['sha256']}:{onset['pts']}".encode()).hexdigest()[:16]
        assert (event["peak_seconds"], event["peak_score"]) == (top["time_seconds"], top["score"])
        assert event["rarity"] == pytest.approx(10 * math.exp(-(top["score"] - 1) / 0.5)) and event["rarity"] < 1
        assert [event[name] for name in ("x0", "y0", "x1", "y1")] == [peak, peak + 1, peak + 2, peak + 3]
        quantity, sentence = explain(top["reason_quantity"], 0, -0.1, 0.2, 0.9)
        assert (event["reason_quantity"], event["reason"]) == (quantity, sentence)
        assert (
            event["kind"] == "unusual"
            and event["track_ids"] == [0] * (9 <= peak <= 24)
            and event["model_version"] == made.version
        )
        began = row["recorded_at"]
        assert event["recorded_at"] == (began and began + timedelta(seconds=onset["time_seconds"]))


@pytest.mark.parametrize("video_id", ["gate/busy.mp4", "gate/uneven.mp4"])
def test_windows_are_rows_of_embeddings_that_exclude_their_end(made, video_id):
    found, scores, row = made.read("embeddings", video_id), made.scores[video_id], made.row(video_id)
    assert [window["vector"].index(1) for window in found] == [0, 1, 2]
    for window, (first, stop) in zip(found, WINDOWS, strict=True):
        assert (window["onset_pts"], window["onset_frame"]) == (scores[first]["pts"], scores[first]["frame_index"])
        assert window["onset_seconds"] == scores[first]["time_seconds"]
        began = row["recorded_at"]
        assert window["recorded_at"] == (began and began + timedelta(seconds=window["onset_seconds"]))
        if stop < len(scores):
            assert (window["offset_pts"], window["offset_frame"]) == (scores[stop]["pts"], scores[stop]["frame_index"])
            assert window["offset_seconds"] == scores[stop]["time_seconds"]
        else:
            assert (window["offset_seconds"], window["offset_frame"]) == (row["duration_seconds"], NUM_FRAMES)


def test_the_picture_of_an_event_is_the_frame_at_its_peak(made):
    shown = []
    for video_id in ("gate/busy.mp4", "gate/uneven.mp4"):
        with VideoReader(made.videos / video_id) as reader:
            ticks = [frame.pts for frame in reader.frames()]
        with VideoReader(made.videos / video_id) as reader:
            frames = [picture.astype(float) for _, picture in reader.pictures(ticks)]
        assert len(frames) == NUM_FRAMES
        for event, (_, _, peak) in zip(made.read("events", video_id), EVENTS[video_id], strict=True):
            picture = cv2.imread(str(made.root / "media/camera_id=gate" / f"{event['event_id']}.jpg"))
            assert picture.shape == (64, 96, 3)
            distances = [np.abs(picture - frame).mean() for frame in frames]
            assert int(np.argmin(distances)) == peak * STEP and min(distances) < 2
            shown.append(event["event_id"])
    assert len(shown) == 4
    for video_id in EVENTS.keys() - {"gate/lost.mp4"}:  # what cannot be decoded any more has none
        shown += [row["segment_id"] for row in made.read("segments", video_id)]
    assert made.pictures() == sorted(shown)


def test_the_picture_of_an_event_among_pictures(tmp_path):
    scored = Scored(tmp_path).add("gate/walk", alarms_at(9, 10, peak=10))
    scored.make()
    (event,), segments = scored.read("events", "gate/walk"), scored.read("segments", "gate/walk")
    assert scored.pictures() == sorted([event["event_id"], *(row["segment_id"] for row in segments)])
    shown = cv2.imread(str(tmp_path / "media/camera_id=gate" / f"{event['event_id']}.jpg"))
    taken = cv2.imread(str(scored.videos / "gate/walk" / f"{7 + 10 * STEP}.png"))
    assert np.abs(shown.astype(float) - taken).mean() < 2


def test_a_knocked_camera_is_one_event_of_its_own_kind(tmp_path):
    """Rows 10–19 see another place: what is unusual meanwhile, just before and just after is not told as well."""
    moved = replace(USUAL, agreement=0.05, shift_x=0.03, shift_y=0.04)
    views = [moved if 10 <= k < 20 else USUAL for k in range(NUM_FRAMES // STEP)]
    scored = Scored(tmp_path).add("gate/knocked.mp4", alarms_at(4, 9, *range(10, 22), 29), views=views)
    scored.make()
    before, knock, after = scored.read("events", "gate/knocked.mp4")
    assert (before["kind"], knock["kind"], after["kind"]) == ("unusual", "camera_moved", "unusual")
    assert (before["onset_frame"], after["onset_frame"]) == (3 * STEP, 29 * STEP)  # a row before, if that is calm
    assert (knock["onset_frame"], knock["offset_frame"]) == (10 * STEP, 20 * STEP)
    assert [knock[name] for name in ("x0", "y0", "x1", "y1")] == [0, 0, 96, 64]
    assert knock["reason"] == (
        "the camera was moved: 95% of the picture no longer shows what it showed and lies off by about "
        "0.05 picture heights"
    )
    assert knock["reason_quantity"] == "camera" and knock["reason_seen"] is None and knock["rarity"] == 0
    alarms = [frame["alarm"] for frame in scored.read("frames", "gate/knocked.mp4")]
    assert [k for k, alarm in enumerate(alarms) if alarm] == [4, *range(10, 20), 29]
    ids = {event["event_id"] for event in (before, knock, after)}
    assert len(ids) == 3 and ids < set(scored.pictures())


@pytest.mark.slow
def test_only_what_changed_is_made(made, tmp_path, capfd):
    """In another folder, as in a second clone: nothing that is there depends on where it lies."""
    scored = made.copied(tmp_path / "clone")
    pictures = scored.pictures()

    def make(alarms=ALARMS):
        scored.make(alarms)
        paths = (scored.root / "tables").rglob("*.parquet")
        return capfd.readouterr().out.splitlines()[-1], {path.name: path.stat().st_mtime_ns for path in paths}

    said, first = make()
    assert said == "tables: 0 videos made, 4 kept, 0 files removed" and scored.pictures() == pictures

    shutil.rmtree(scored.root / "media")  # as `rm -r data/media` does: the tables stay, the pictures come back
    said, again = make()
    assert said == "tables: 0 videos made, 4 kept, 0 files removed" and scored.pictures() == pictures
    assert again == first | {"videos.parquet": again["videos.parquet"]}

    scored.add("gate/new.mp4", alarms_at(8), recorded_at=EVENING)
    said, more = make()
    assert said == "tables: 1 videos made, 4 kept, 0 files removed"
    new = len(scored.read("segments", "gate/new.mp4"))
    assert new and len(scored.pictures()) == len(pictures) + 1 + new
    assert all(more[name] == first[name] for name in first if name != "videos.parquet")

    # One alarm in ten hours: an event needs more than 1 + 5 (100^⅒ − 1) = 3.9, and only one peak of all is as high.
    rare = AlarmsParams(per_hour=0.1, merge_seconds=1.0)
    said, _ = make(rare)
    assert said.startswith("tables: 5 videos made, 0 kept, ")
    counts = {video_id: len(scored.read("events", video_id)) for video_id in scored.scores}
    assert counts == {video_id: int(video_id == "gate/busy.mp4") for video_id in scored.scores}
    (event,) = scored.read("events", "gate/busy.mp4")
    assert event["onset_frame"] == 4 * STEP and event["event_id"] in scored.pictures()
    assert [frame["alarm"] for frame in scored.read("frames", "gate/busy.mp4")] == [row == 6 for row in range(30)]

    video_path(scored.root / "scores", "gate", "gate/busy.mp4").unlink()
    scored.skipped["gate/busy.mp4"] = "not scored: gone"
    assert make(rare)[0].startswith("tables: 0 videos made, 4 kept, ")
    assert event["event_id"] not in scored.pictures()


def test_of_footage_that_is_gone_what_shows_events_stays_whatever_is_told_of_it_now(tmp_path, capfd):
    """Another model tells one as it was, one from a row earlier on, the third no more, and one that is new."""
    scored = Scored(tmp_path).add("gate/a.mp4", alarms_at(3, 10, 11, 28, peak=11))
    scored.make()
    first, second, _ = scored.read("events", "gate/a.mp4")
    segment = scored.read("segments", "gate/a.mp4")[0]
    folder = tmp_path / "media/camera_id=gate"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    (scored.videos / "gate/a.mp4").unlink()

    row = scored.row("gate/a.mp4")
    base, ticks = TimeBase(row["time_base_num"], row["time_base_den"]), [s["pts"] for s in scored.scores["gate/a.mp4"]]
    scored._write_scores(row, base, ticks, alarms_at(3, 9, 10, 11, 20, peak=11))
    capfd.readouterr()
    scored.make()
    same, moved, new = scored.read("events", "gate/a.mp4")
    assert same["event_id"] == first["event_id"] and moved["event_id"] != second["event_id"]
    for suffix in (PICTURE, HEAT, CLIP):
        assert (folder / f"{same['event_id']}{suffix}").read_bytes() == kept[f"{first['event_id']}{suffix}"]
        assert (folder / f"{moved['event_id']}{suffix}").read_bytes() == kept[f"{second['event_id']}{suffix}"]
    assert (folder / f"{segment['segment_id']}{PICTURE}").read_bytes() == kept[f"{segment['segment_id']}{PICTURE}"]
    assert scored.pictures(CLIP) == sorted([same["event_id"], moved["event_id"]])  # of the new one none can be made
    assert new["event_id"] not in scored.pictures() and "no pictures" not in capfd.readouterr().out
    scored.make()
    assert "video 1 of 1" not in capfd.readouterr().out  # nor is it tried night after night


HERE, BEFORE = "is usual here", "was to be expected a moment before"
SENTENCES = {
    ("person_speed", 0, -0.1, 0.2, 0.9): ("speed", f"moves at 0.90 picture heights a second where 0.00–0.20 {HERE}"),
    ("part_speed", 5, 0.1, 0.2, 0.9): ("speed", f"moves at 0.90 picture heights a second where 0.10–0.20 {BEFORE}"),
    ("person_speed", 0, -0.3, -0.2, 0.9): ("speed", f"moves at 0.90 picture heights a second where 0.00–0.00 {HERE}"),
    ("part_spread", 0, 0.0, 0.1, 0.4): (
        "speed",
        f"moves unevenly, by 0.40 picture heights a second between its parts, where 0.00–0.10 {HERE}",
    ),
    ("person_velocity_x", 0, 0.1, 0.3, -0.5): (
        "direction",
        f"moves to the left at 0.50 picture heights a second where 0.10–0.30 to the right {HERE}",
    ),
    ("part_velocity_x", 5, -0.3, -0.1, 0.5): (
        "direction",
        f"moves to the right at 0.50 picture heights a second where 0.10–0.30 to the left {BEFORE}",
    ),
    ("person_velocity_y", 0, -0.2, 0.3, -0.5): (
        "direction",
        f"moves upwards at 0.50 picture heights a second where 0.20 upwards to 0.30 downwards {HERE}",
    ),
    ("part_velocity_y", 0, -0.2, -0.1, 0.5): (
        "direction",
        f"moves downwards at 0.50 picture heights a second where 0.10–0.20 upwards {HERE}",
    ),
    ("person_foreground", 0, -0.1, 0.25, 0.8): ("size", f"fills 80% of a person-sized window where 0%–25% {HERE}"),
    ("part_moving", 5, 0.1, 0.25, 0.8): ("size", f"moves in 80% of a small window where 10%–25% {BEFORE}"),
    ("person_foreground", 0, -0.1, 0.12, 0.4): (
        "place",
        "something is where nothing usually is: it fills 40% of a person-sized window",
    ),
    ("part_moving", 0, -0.1, 0.12, 0.4): (
        "place",
        "something moves where nothing usually does: it fills 40% of a small window",
    ),
    ("person_foreground", 5, -0.1, 0.12, 0.4): ("size", f"fills 40% of a person-sized window where 0%–12% {BEFORE}"),
    ("person_speed", 2, 0.1, 0.2, 0.01): (
        "time still",
        f"stands still where 0.10–0.20 picture heights a second {BEFORE}",
    ),
    ("part_moving", 2, 0.3, 0.5, 0.0): (
        "time still",
        f"stands still where movement in 30%–50% of a small window {BEFORE}",
    ),
    ("person_speed", 0, 0.1, 0.2, 0.01): ("speed", f"moves at 0.01 picture heights a second where 0.10–0.20 {HERE}"),
    ("difference", 0, -0.1, 0.1, 0.3): ("shape", f"stands out by 30% of full brightness where 0%–10% {HERE}"),
    ("gradient0", 0, -0.1, 0.1, 0.3): (
        "shape",
        f"is shaped otherwise: upright edges of strength 0.300 where 0.000–0.100 {HERE}",
    ),
    ("gradient3", 5, 0.0, 0.1, 0.3): (
        "shape",
        f"is shaped otherwise: level edges of strength 0.300 where 0.000–0.100 {BEFORE}",
    ),
    ("value 3", 0, 0.1, 0.3, 0.71): ("value", f"value 3 is 0.71 where 0.1–0.3 {HERE}"),
    ("value speed", 5, -0.1, 0.3, -2.0): ("value", f"value speed is -2 where -0.1 to 0.3 {BEFORE}"),
    ("value 0", 0, 299.9986, 300.0014, 300.5): ("value", f"value 0 is 300.5 where 299.9986–300.0014 {HERE}"),
    ("value 0", 0, -3456.7, 8e5, 1.2e6): ("value", f"value 0 is 1200000 where -3460 to 800000 {HERE}"),
    ("value 0", 0, 1e-12, 3e-12, 2e20): ("value", f"value 0 is 2e+20 where 1e-12–3e-12 {HERE}"),
    ("value 0", 0, 5.0, 5.0, 6.0): ("value", f"value 0 is 6 where 5–5 {HERE}"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_reason_is_told_in_words(case):
    assert explain(*case) == SENTENCES[case]


@pytest.mark.parametrize("memory_steps", [0, 5])
@pytest.mark.parametrize("channel", MODELLED)
def test_every_channel_has_words_without_a_sign(channel, memory_steps):
    seen = [-0.5, 0.5] if "velocity" in channel else [0.0, 0.5]
    told = [
        explain(channel, memory_steps, low, high, value)
        for low, high in [(-0.2, -0.1), (-0.1, 0.2), (0.1, 0.3)]
        for value in seen
    ]
    usual = [(quantity, sentence) for quantity, sentence in told if quantity not in ("place", "time still")]
    assert len({quantity for quantity, _ in usual}) == 1 and len({sentence for _, sentence in told}) >= 4
    for _, sentence in usual:
        assert sentence.endswith(f" {BEFORE if memory_steps else HERE}")
    for _, sentence in told:
        assert "-" not in sentence.replace("person-sized", "") and "_" not in sentence


def test_what_moves_is_detections_and_a_track(made):
    for video_id, scores in made.scores.items():
        detections, (track,) = made.read("detections", video_id), made.read("tracks", video_id)
        assert [d["frame_index"] for d in detections] == [score["frame_index"] for score in scores]
        for row, (detection, score) in enumerate(zip(detections, scores, strict=True)):
            assert (detection["pts"], detection["time_seconds"]) == (score["pts"], score["time_seconds"])
            assert [detection[name] for name in ("x0", "y0", "x1", "y1")] == [row - 5, 11, row + 5, 26]
            assert detection["track_id"] == track["track_id"] == 0 and 0.5 < detection["objectness"] < 1
            assert detection["score"] == 0  # as are all cells
        assert (track["onset_pts"], track["onset_frame"], track["onset_seconds"]) == (scores[0]["pts"], 0, 0.0)
        assert track["offset_frame"] == NUM_FRAMES and track["num_frames"] == len(scores) == len(track["path"])
        assert track["offset_seconds"] == made.row(video_id)["duration_seconds"] and track["peak_score"] == 0
        assert track["path"] == [[row, 18.5] for row in range(len(scores))]
        assert track["mean_speed"] == pytest.approx(29 / 64 / scores[-1]["time_seconds"])


def test_every_picture_of_an_event_has_a_heat_map_and_a_clip(made):
    shown = [event["event_id"] for name in made.scores for event in made.read("events", name)]
    seen = sorted(set(shown) & set(made.pictures()))
    assert seen and made.pictures(HEAT) == made.pictures(CLIP) == seen
