import csv
import json
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from synthetic import write_regions

from vidrnn.comparison import hold_until_next, source_times
from vidrnn.errors import CheckpointError, LabelsError, SchemaError
from vidrnn.evaluate import PROMISES, evaluate, write_evaluation
from vidrnn.labels import label_frames
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.stages import evaluate as stage
from vidrnn.storage import read_metadata, read_table, video_path, write_table

PARAMS = load_params()
FRAMES = "video,onset_frame,offset_frame\n"
SECONDS = "video,onset_seconds,offset_seconds\n"
WITHOUT_LABELS = {
    "labels",
    "labels_ignored",
    "hours",
    "num_videos",
    "num_videos_unmeasured",
    "num_frames",
    "alarms_per_hour_promised",
    "alarms_per_hour_heldout",
    "heldout_alarms",
    "heldout_hours",
    "heldout_nll",
}
WITH_INTERVAL = {
    "auroc_micro_ema",
    "auroc_micro_raw",
    "auroc_micro_gauss",
    "auroc_micro_minmax",
    "auroc_macro",
    "ap",
    "eer",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "event_precision",
    "event_recall",
}
WITH_REGIONS = {"pointing", "rbdc", "tbdc"}
WITH_LABELS = WITHOUT_LABELS | WITH_INTERVAL | {"ap_base_rate", "num_events_predicted", "num_events_labelled"}


class Workspace:
    """Tables, models and labels made by hand; 10 source frames/s, every second one analysed."""

    def __init__(self, root):
        self.root, self.rows = root, []
        self.features, self.scores, self.tables, self.model, self.labels = self.made = [
            root / name for name in ("features", "scores", "tables", "model", "labels")
        ]
        self.labels.mkdir()

    def video(self, name, scores, alarms=(), events=(), raw=None, **facts):
        """A video of which frame 2k has the k-th score; `alarms` are positions, `events` in source frames."""
        raw = raw or [2 * score for score in scores]
        camera, count = name.split("/")[0], facts.get("num_frames", 2 * len(scores))
        facts = {"num_frames": count, "scored": True, "status": "ok", "duration_seconds": count / 10, **facts}
        base = dict.fromkeys(SCHEMAS["videos"].names) | {"camera_id": camera, "video_id": name}
        base |= {"num_undecodable": 0, "recorded_at_source": "none", "trains": False, "message": ""}
        self.rows.append(base | facts)
        frames = [
            {
                "frame_index": 2 * k,
                "pts": 2 * k,
                "time_seconds": 2 * k / 10,
                "score_raw": raw[k],
                "score": score,
                "alarm": k in alarms,
                "valid": k > 0,
            }
            for k, score in enumerate(scores)
        ]
        self.write("frames", camera, name, frames)
        self.write(
            "events",
            camera,
            name,
            [
                {
                    "event_id": f"{name}{onset}",
                    "kind": "unusual",
                    "onset_pts": onset,
                    "offset_pts": offset,
                    "onset_frame": onset,
                    "offset_frame": offset,
                    "onset_seconds": onset / 10,
                    "offset_seconds": offset / 10,
                    "peak_seconds": onset / 10,
                    "peak_score": 1.0,
                    "rarity": 0.1,
                    "track_ids": [],
                    "model_version": "0",
                }
                for onset, offset in events
            ],
        )
        return self

    def write(self, table, camera, name, rows):
        filled = [{"camera_id": camera, "video_id": name, **row} for row in rows]
        path = video_path(self.tables / table, camera, name)
        write_table(path, pa.Table.from_pylist(filled, schema=SCHEMAS[table]), SCHEMAS[table])

    def place(self, name, maps, moving=()):
        """The cell scores of each analysed frame, and what moves as (frame_index, x0, y0, x1, y1)."""
        camera, schema = name.split("/")[0], scores_schema(*np.shape(maps)[1:])
        others = schema.remove(schema.get_field_index("cells"))
        row = {"pts": 0, "time_seconds": 0, "valid": True, "score_raw": 0, "score": 0}
        table = pa.Table.from_pylist([row | {"frame_index": 2 * k} for k in range(len(maps))], schema=others)
        cells = pa.FixedShapeTensorArray.from_numpy_ndarray(np.asarray(maps, np.float16))
        table = table.append_column(schema.field("cells"), cells).select(schema.names)
        write_table(video_path(self.scores, camera, name), table, schema)
        write_regions(video_path(self.features / "regions", camera, name), moving)
        return self

    def card(self, camera, hours=2.0, alarms=3, nll=1.5, threshold=0.5):
        path = self.model / quote(camera, safe="") / "model.json"
        path.parent.mkdir(parents=True)
        # Without a single peak the threshold is the base, whatever rate is accepted.
        tail = {"base": threshold, "count": 0, "excess": 1.0, "hours": hours}
        blocks = [{"hours": hours, "peaks": [threshold + 1.0] * alarms + [threshold], "tail": tail}]
        calibration = {"questions": {"width": [], "base": [], "excess": [], "share": []}, "tail": tail}
        heldout = {"hours": hours, "nll": nll, "blocks": blocks}
        card = {"version": f"v-{camera}", "calibration": calibration, "heldout": heldout}
        path.write_text(json.dumps(card))
        return self

    def label(self, text, name="events"):
        (self.labels / f"{name}.csv").write_text(text)
        return self

    def evaluate(self):
        videos = pa.Table.from_pylist(self.rows, schema=SCHEMAS["videos"])
        write_table(self.tables / "videos.parquet", videos, SCHEMAS["videos"])
        return evaluate(*self.made, PARAMS)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def small(workspace):
    """Two videos of one camera, 8 and 6 source frames; frames 2..5 of the first are unusual."""
    workspace.card("gate")
    workspace.video("gate/a.mp4", [0.1, 0.9, 0.4, 0.2], alarms=[1, 3], events=[(2, 4), (6, 8)])
    workspace.video("gate/b.mp4", [0.3, 0.1, 0.1])
    return workspace.label(FRAMES + "gate/a.mp4,2,6\n")


def test_figures_that_can_be_worked_out_by_hand(workspace):
    summary = small(workspace).evaluate().summary
    # Source frames, unusual first: 0.9 0.9 0.4 0.4; ordinary: 0.1 0.1 0.2 0.2 and 0.3 0.3 0.1 0.1 0.1 0.1.
    assert summary["labels"] is True
    assert (summary["num_videos"], summary["num_frames"], summary["labels_ignored"]) == (2, 14, 0)
    assert summary["hours"] == pytest.approx(1.4 / 3600, abs=1e-6)
    for name in ("auroc_micro_ema", "auroc_micro_raw", "auroc_macro", "ap"):
        assert summary[name]["value"] == 1.0
    assert summary["eer"]["value"] == 0.0
    assert summary["ap_base_rate"] == pytest.approx(4 / 14, abs=1e-6)
    # Alarms at source frames 2, 3 and 6, 7 of the first: TP 2, FP 2, FN 2, TN 8.
    assert summary["accuracy"]["value"] == pytest.approx(10 / 14, abs=1e-6)
    assert [summary[name]["value"] for name in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    # The event [2, 4) is right, [6, 8) is not.
    assert (summary["event_precision"]["value"], summary["event_recall"]["value"]) == (0.5, 1.0)
    assert (summary["num_events_predicted"], summary["num_events_labelled"]) == (2, 1)


def test_the_histogram_and_the_calibration_that_can_be_worked_out_by_hand(workspace, tmp_path):
    evaluation = small(workspace).evaluate()
    ordinary, unusual = evaluation.histogram
    assert ordinary[:4].tolist() == [0, 6, 2, 2] and (ordinary.sum(), unusual.sum()) == (10, 4)
    # Three alarms in two hours above the one threshold there is, whatever is promised.
    assert [row[:2] for row in evaluation.calibration] == [(promised, 1.5) for promised in PROMISES]
    assert all(low < 1.5 < high for _, _, low, high in evaluation.calibration)
    write_evaluation(evaluation, *(tmp_path / name for name in ("m.parquet", "e.json", "c.json", "")))
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["ordinary"] for row in rows[:4]] == [0, 0.6, 0.2, 0.2]
    assert sum(row["unusual"] for row in rows) == 1 and rows[-1]["unusual"] == 0.5  # of 0.9, the highest
    assert (tmp_path / "calibration.csv").read_text().startswith("promised,seen,low,high\n1.000000,1.500000,")
    assert json.loads((tmp_path / "c.json").read_text())["gate"]["model_version"] == "v-gate"


def test_without_a_model_nothing_was_promised(workspace):
    assert workspace.video("gate/a.mp4", [0.1, 30.0]).evaluate().calibration == []
    ordinary, unusual = workspace.evaluate().histogram
    assert (ordinary[1], ordinary[-1], unusual.sum()) == (2, 2, 0)  # what lies beyond counts in the last bin


def test_per_clip_scaling_makes_a_top_score_of_the_ordinary_clip(workspace):
    # Scaled, b's 0.3 is 1 and ties with a's 0.9: of 4 × 10 pairs, the two frames of 0.9 tie with two frames, and the
    # two frames of 0.4, scaled to 3/8, lose to them.
    summary = small(workspace).evaluate().summary
    assert summary["auroc_micro_minmax"]["value"] == (40 - 2 * 2 / 2 - 2 * 2) / 40


def test_each_column_measures_its_own_score(workspace):
    score, raw = [0.8, 0.6, 0.5, 0.2, 0.3], [0.0, 0.0, 0.0, 0.1, 0.8]
    workspace.card("gate").video("gate/a.mp4", score, raw=raw).video("gate/b.mp4", [0.6, 0.3], raw=[0.25, 0.25])
    summary = workspace.label(FRAMES + "gate/a.mp4,2,5\n").evaluate().summary
    a, b = np.repeat(score, 2), np.repeat([0.6, 0.3], 2)
    raw_a, raw_b = np.repeat(raw, 2), np.full(4, 0.25)
    expected = {
        "auroc_micro_ema": [a, b],
        "auroc_micro_raw": [raw_a, raw_b],
        "auroc_micro_gauss": [gaussian_filter1d(part, 10.0, mode="nearest") for part in (raw_a, raw_b)],
        "auroc_micro_minmax": [(part - part.min()) / np.ptp(part) for part in (a, b)],
    }
    labels = [2 <= frame < 5 for frame in range(14)]
    values = {name: float(reference.auroc(labels, np.concatenate(parts))) for name, parts in expected.items()}
    assert len(set(values.values())) == 4
    assert {name: summary[name]["value"] for name in values} == pytest.approx(values, abs=1e-6)


def test_every_promised_key_and_a_row_for_each(workspace):
    evaluation = small(workspace).evaluate()
    gate = evaluation.summary.pop("cameras")["gate"]
    assert set(evaluation.summary) == WITH_LABELS
    assert set(gate) == WITH_LABELS | {"threshold"}
    for name in WITH_INTERVAL:
        assert set(gate[name]) == {"value", "low", "high", "left_out"}
    assert set(gate["alarms_per_hour_heldout"]) == {"value", "low", "high"}
    rows = {(row["camera_id"], row["name"]): row for row in evaluation.metrics.to_pylist()}
    assert len(rows) == evaluation.metrics.num_rows == len(WITH_LABELS) * 2 + 1
    for (camera, name), row in rows.items():
        figure = (gate if camera == "gate" else evaluation.summary)[name]
        assert row["value"] == (figure["value"] if isinstance(figure, dict) else figure)
        assert (row["low"], row["high"]) == (
            (figure["low"], figure["high"]) if isinstance(figure, dict) else (None, None)
        )
    assert rows["*", "auroc_micro_ema"]["num_videos"] == 2
    assert rows["*", "auroc_macro"]["num_videos"] == 1
    assert rows["*", "heldout_nll"]["num_videos"] == 0
    assert evaluation.model_versions == {"gate": "v-gate"}


def test_without_labels_there_is_still_what_was_promised_and_seen(workspace):
    evaluation = small(workspace)
    (workspace.labels / "events.csv").unlink()
    evaluation = workspace.card("yard", hours=6.0, alarms=5, nll=0.5).video("yard/c.mp4", [0.1]).evaluate()
    summary = evaluation.summary
    assert set(summary) == WITHOUT_LABELS | {"cameras"}
    assert summary["labels"] is False
    assert summary["alarms_per_hour_promised"] == PARAMS.alarms.per_hour
    assert (summary["heldout_hours"], summary["heldout_alarms"]) == (8.0, 8)
    held = summary["alarms_per_hour_heldout"]
    assert held["value"] == 1.0 and held["low"] < 1.0 < held["high"]
    assert summary["heldout_nll"] == (1.5 * 2 + 0.5 * 6) / 8
    assert summary["cameras"]["yard"]["heldout_nll"] == 0.5
    assert evaluation.roc.x.size == evaluation.precision_recall.x.size == 0


def test_intervals_agree_with_literal_resampling(workspace):
    draws = np.random.default_rng(5)
    workspace.card("gate")
    text, videos = FRAMES, []
    for i in range(5):
        scores, name = draws.integers(0, 5, size=6) / 8, f"gate/{i}.mp4"
        alarms = [k for k in range(6) if scores[k] > 0.3]
        workspace.video(name, scores.tolist(), alarms, [(2 * k, 2 * k + 2) for k in alarms])
        text += f"{name},{i},{i + 4}\n" if i < 4 else ""
        labels = [i < 4 and i <= frame < i + 4 for frame in range(12)]
        videos.append([(labels[f], float(scores[f // 2]), f // 2 in alarms) for f in range(12)])
    summary = workspace.label(text).evaluate().summary
    settings = PARAMS.evaluate.resamples, PARAMS.evaluate.confidence, PARAMS.evaluate.seed

    def ranking(twin):
        return lambda drawn: twin([f[0] for v in drawn for f in v], [f[1] for v in drawn for f in v])

    def f1(drawn):
        frames = [f for v in drawn for f in v]
        hits, wrong = sum(f[0] and f[2] for f in frames), sum(f[0] != f[2] for f in frames)
        return 2 * hits / (2 * hits + wrong) if hits or wrong else None

    def macro(drawn):
        values = [value for v in drawn if (value := ranking(reference.auroc)([v])) is not None]
        return sum(values) / len(values) if values else None

    statistics = {
        "auroc_micro_ema": ranking(reference.auroc),
        "auroc_micro_raw": ranking(reference.auroc),
        "ap": ranking(reference.average_precision),
        "eer": ranking(reference.equal_error_rate),
        "auroc_macro": macro,
        "f1": f1,
    }
    for name, statistic in statistics.items():
        assert summary[name]["value"] == pytest.approx(float(statistic(videos)), abs=1e-6), name
        found = [summary[name][key] for key in ("low", "high", "left_out")]
        assert found == pytest.approx(reference.bootstrap(videos, statistic, *settings), abs=1e-6), name


def test_cameras_stand_alone_and_together(workspace):
    workspace.card("gate", threshold=0.5).card("yard", threshold=0.25)
    workspace.video("gate/a.mp4", [0.1, 0.9]).video("yard/b.mp4", [0.8, 0.95])
    summary = workspace.label(FRAMES + "gate/a.mp4,2,4\nyard/b.mp4,2,4\n").evaluate().summary
    assert summary["cameras"]["gate"]["auroc_micro_ema"]["value"] == 1.0
    assert summary["cameras"]["yard"]["auroc_micro_ema"]["value"] == 1.0
    assert summary["auroc_micro_ema"]["value"] == 1.0
    assert summary["cameras"]["yard"]["threshold"] == 0.25
    gate = summary["cameras"]["gate"]["auroc_micro_ema"]
    assert (gate["low"], gate["high"], gate["left_out"]) == (None, None, 0)  # one video says nothing about the next
    assert summary["auroc_micro_ema"]["low"] is not None


def test_one_class_alone_is_null_never_a_number(workspace):
    workspace.card("gate").video("gate/a.mp4", [0.1, 0.9]).video("gate/b.mp4", [0.5])
    evaluation = workspace.label(FRAMES).evaluate()
    for name in ("auroc_micro_ema", "auroc_macro", "ap", "eer", "precision", "recall", "f1", "event_recall"):
        figure = evaluation.summary[name]
        assert (figure["value"], figure["low"], figure["high"]) == (None, None, None)
        assert figure["left_out"] == PARAMS.evaluate.resamples
    assert (evaluation.summary["accuracy"]["value"], evaluation.summary["ap_base_rate"]) == (1.0, 0.0)
    assert evaluation.roc.x.size == 0


@pytest.mark.parametrize("text", [FRAMES, None], ids=["labels", "no labels"])
def test_nothing_to_measure(workspace, text):
    if text:
        workspace.label(text)
    workspace.video("gate/a.mp4", [], num_frames=0, status="unreadable", duration_seconds=None)
    evaluation = workspace.evaluate()
    summary = evaluation.summary
    assert (summary["num_videos"], summary["num_videos_unmeasured"], summary["hours"]) == (0, 1, 0.0)
    assert summary["alarms_per_hour_heldout"] == {"value": None, "low": None, "high": None}
    assert summary["heldout_nll"] is None and evaluation.roc.x.size == 0
    if text:
        assert summary["auroc_micro_ema"]["value"] is None and summary["accuracy"]["value"] is None


def test_labels_of_what_is_not_measured_are_ignored_and_counted(workspace):
    workspace.card("gate").video("gate/a.mp4", [0.1, 0.9])
    workspace.video("gate/train.mp4", [0.1, 0.9], scored=False)
    workspace.video("gate/bad.mp4", [], num_frames=0, status="unreadable")
    workspace.video("gate/part.mp4", [0.2, 0.2], status="partial")
    workspace.video("yard/no model.mp4", [0.2])
    video_path(workspace.tables / "frames", "yard", "yard/no model.mp4").unlink()
    workspace.write("detections", "gate", "gate/a.mp4", [])
    workspace.label("video,frame_index,x0,y0,x1,y1\ngate/bad.mp4,0,0,0,1,1\ngate/a.mp4,0,0,0,1,1\n", "objects")
    text = "gate/a.mp4,2,4\ngate/train.mp4,0,1\ngate/bad.mp4,5,9\ngate/part.mp4,3,9\ngate/part.mp4,4,9\n"
    summary = workspace.label(FRAMES + text + "yard/no model.mp4,0,1\n").evaluate().summary
    assert summary["labels_ignored"] == 5  # train, bad twice, part behind its end, no model
    assert summary["cameras"]["gate"]["labels_ignored"] == 4
    assert (summary["num_videos"], summary["num_videos_unmeasured"]) == (2, 2)
    assert summary["num_events_labelled"] == 2  # the one of a, and the one of part that begins before its end
    assert summary["ap_base_rate"] == 3 / 8


BOXES = "video,frame_index,x0,y0,x1,y1\n"


def placed(workspace):
    """A video of 8 source frames, 160 × 120, with a grid of 4 × 4 cells: windows of 24 × 24 around their centres.

    The highest cells of its four analysed frames are centred at (20, 15), (20, 15), (140, 105) and (60, 45).
    """
    tops = [{(0, 0): 3.0}, {(0, 0): 4.0, (3, 3): 2.0}, {(3, 3): 1.0}, {(1, 1): 0.5}]
    maps = np.zeros((4, 4, 4))
    for k, top in enumerate(tops):
        for cell, score in top.items():
            maps[k][cell] = score
    workspace.card("gate").video("gate/a.mp4", [0.1] * 4, width=160, height=120)
    return workspace.place("gate/a.mp4", maps, [(2, 5, 5, 25, 25), (4, 100, 0, 160, 20)])


def test_places_that_can_be_worked_out_by_hand(workspace):
    # Source frames 0, 1 show a region of 3.0 at (8, 3, 32, 27); frames 2, 3 the moving one at (5, 5, 25, 25) of 4.0 and
    # a false one of 2.0; frames 4, 5 a window of 1.0 at (128, 93, 152, 117); frames 6, 7 a false one of 0.5.
    true = ["1,8,3,32,27", "2,10,10,25,25", "3,140,60,160,80", "5,128,93,152,105"]
    text = BOXES + "".join(f"gate/a.mp4,{row}\n" for row in true)
    evaluation = placed(workspace).label(text, "regions").evaluate()
    summary = evaluation.summary
    assert set(summary) == WITHOUT_LABELS | WITH_REGIONS | {"cameras"}
    assert all(set(summary[name]) == {"value", "low", "high", "left_out"} for name in WITH_REGIONS)
    # In the frames 1, 2 and 3, the highest cell is at (20, 15), in the last at (140, 105), which is below the region.
    assert summary["pointing"]["value"] == 2 / 4
    # Falling thresholds: 4.0 finds frame 2, false in frame 3; 3.0 finds frame 1, false in frame 0; 2.0 is false in
    # frames 2 and 3; 1.0 finds frame 5, false in frame 4; 0.5 is false in two more. Of 8 frames:
    rates = [(1, 1 / 4), (2, 2 / 4), (4, 2 / 4), (5, 3 / 4), (7, 3 / 4), (8, None)]
    area = sum((after - fpr) / 8 * rate for (fpr, rate), (after, _) in pairwise(rates))
    assert summary["rbdc"]["value"] == pytest.approx(area, abs=1e-6) == 0.5
    # Tracks: frames 1 and 2, found at 4.0; frame 3, never; frame 5, at 1.0.
    rates = [(1, 1 / 3), (2, 1 / 3), (4, 1 / 3), (5, 2 / 3), (8, None)]
    area = sum((after - fpr) / 8 * rate for (fpr, rate), (after, _) in pairwise(rates))
    assert summary["tbdc"]["value"] == pytest.approx(area, abs=1e-6)
    assert {row["name"] for row in evaluation.metrics.to_pylist()} >= WITH_REGIONS


def test_tracks_that_are_labelled_are_not_made_up(workspace):
    rows = ["1,8,3,32,27,a", "2,10,10,25,25,b", "3,140,60,160,80,a"]
    text = BOXES.replace("\n", ",track_id\n") + "".join(f"gate/a.mp4,{row}\n" for row in rows)
    summary = placed(workspace).label(text, "regions").evaluate().summary
    # b is found at 4.0, with a false region in one of 8 frames; a, half of it, at 3.0 with another.
    assert summary["tbdc"]["value"] == pytest.approx(1 / 8 * 1 / 2 + 6 / 8, abs=1e-6)


def test_ordinary_videos_count_their_false_regions(workspace):
    text = BOXES + "gate/a.mp4,2,5,5,25,25\n"
    alone = placed(workspace).label(text, "regions").evaluate().summary
    assert alone["rbdc"]["value"] == pytest.approx(7 / 8)
    maps = np.zeros((4, 4, 4))
    maps[:, 2, 2] = 9.0
    workspace.video("gate/b.mp4", [0.1] * 4, width=160, height=120).place("gate/b.mp4", maps)
    both = workspace.evaluate().summary
    assert both["rbdc"]["value"] == pytest.approx(1 - 9 / 16)
    assert both["rbdc"]["left_out"] > 0  # resamples without the one true region
    assert both["pointing"]["value"] == alone["pointing"]["value"] == 1.0


def test_true_regions_behind_what_could_be_read_are_ignored_and_counted(workspace):
    workspace = placed(workspace)
    workspace.rows[0]["status"] = "partial"
    text = BOXES + "gate/a.mp4,2,5,5,25,25\ngate/a.mp4,8,0,0,9,9\ngate/a.mp4,99,0,0,9,9\n"
    summary = workspace.label(text, "regions").evaluate().summary
    assert summary["labels_ignored"] == 2 and summary["pointing"]["value"] == 1.0


def test_true_regions_of_what_has_no_picture_are_ignored_and_counted(workspace):
    workspace.card("gate").video("gate/a.npy", [0.1] * 4)
    summary = workspace.label(BOXES + "gate/a.npy,2,5,5,25,25\n", "regions").evaluate().summary
    assert summary["labels_ignored"] == 1 and summary["pointing"]["value"] is None and summary["rbdc"]["value"] is None


def test_scores_must_be_there_where_true_regions_are(workspace):
    workspace = placed(workspace).label(BOXES, "regions")
    video_path(workspace.scores, "gate", "gate/a.mp4").unlink()
    with pytest.raises(SchemaError, match="not there; run `dvc repro`"):
        workspace.evaluate()


def test_detections_against_true_objects(workspace):
    """Every second frame is analysed; its detections hold for the next one, too."""
    workspace.card("gate").video("gate/a.mp4", [0.1, 0.2, 0.3], width=160, height=120)
    things = [(0, 0, 0.9), (2, 1, 0.8), (2, 40, 0.1), (4, 2, 0.5)]  # frame, left edge, objectness
    box = {"y0": 0.0, "y1": 10.0, "pts": 0, "time_seconds": 0.0, "score": 0.0, "track_id": 0}
    rows = [{**box, "frame_index": f, "x0": x, "x1": x + 10, "objectness": sure} for f, x, sure in things]
    workspace.write("detections", "gate", "gate/a.mp4", rows)
    true = "".join(f"gate/a.mp4,{frame},{left},0,{left + 10},10\n" for frame, left in [(1, 0), (2, 8), (3, 1), (3, 70)])
    summary = workspace.label("video,frame_index,x0,y0,x1,y1\n" + true, "objects").evaluate().summary
    # In the frames 1, 2 and 3 there are 1, 2 and 2 detections; the first of 1 and of 3 is right, 8 is too far from 1.
    assert summary["object_f1"]["value"] == pytest.approx(2 * 2 / (5 + 4), abs=1e-6)
    assert (summary["object_precision"], summary["object_recall"]) == (0.4, 0.5)
    assert summary["num_objects_labelled"] == 4
    assert summary["object_ap"] == pytest.approx(0.25 * 1 + 0.25 * 2 / 3, abs=1e-6)


def test_objects_alone_are_labels_but_no_measure_of_frames(workspace):
    workspace.card("gate").video("gate/a.mp4", [0.1, 0.9])
    summary = workspace.label("video,frame_index,x0,y0,x1,y1\n", "objects").evaluate().summary
    assert summary["labels"] is True and set(summary) == WITHOUT_LABELS | {"cameras"}


def test_seconds_and_frames_say_the_same(workspace):
    in_frames = small(workspace).evaluate()
    in_seconds = workspace.label(SECONDS + "gate/a.mp4,0.2,0.6\n").evaluate()
    assert in_seconds.summary == in_frames.summary
    assert in_seconds.metrics.equals(in_frames.metrics)


def test_a_label_that_names_no_video_stops_the_stage(workspace):
    with pytest.raises(LabelsError, match=r"the nearest name is 'gate/a\.mp4'"):
        small(workspace).label(FRAMES + "gate/aa.mp4,1,2\n").evaluate()


def test_scores_that_are_not_finite_are_refused(workspace):
    workspace.video("gate/a.mp4", [0.1, float("nan")])
    with pytest.raises(SchemaError, match="not a finite number"):
        workspace.evaluate()


def test_events_must_be_there_where_frames_are(workspace):
    small(workspace)
    video_path(workspace.tables / "events", "gate", "gate/a.mp4").unlink()
    with pytest.raises(SchemaError, match="not there; run `dvc repro`"):
        workspace.evaluate()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1"}', None])
def test_a_damaged_card_is_one_sentence(workspace, text):
    path = small(workspace).model / "gate" / "model.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.json: (not valid|no model|expected)") as caught:
        workspace.evaluate()
    assert "\n" not in str(caught.value)


def test_camera_names_are_escaped_as_the_model_folder_is(workspace):
    workspace.card("a b&c").video("a b&c/x.mp4", [0.5])
    assert workspace.evaluate().summary["cameras"]["a b&c"]["heldout_nll"] == 1.5


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 5))
def test_a_score_holds_until_the_next_analysed_frame(frames, more):
    frame_index = sorted(frames)
    num_frames = frame_index[-1] + 1 + more
    values = np.random.default_rng(0).random(len(frame_index))
    held = values[hold_until_next(np.array(frame_index), num_frames, "x")]
    assert held.tolist() == reference.held(frame_index, values.tolist(), num_frames)


@pytest.mark.parametrize("frame_index", [[0, 5, 5], [2, 1], [0, 10], [-1, 3]])
def test_frames_that_contradict_the_video_are_refused(frame_index):
    with pytest.raises(SchemaError, match="expected ascending frames within the video's 10"):
        hold_until_next(np.array(frame_index), 10, "frames")


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)).map(lambda e: (e[0], e[0] + e[1])), max_size=5),
    st.integers(0, 30),
)
def test_frames_in_any_event_are_unusual(events, num_frames):
    found = label_frames(np.arange(num_frames), np.array(events).reshape(-1, 2))
    assert found.tolist() == [any(on <= frame < off for on, off in events) for frame in range(num_frames)]


def test_times_between_analysed_frames_are_spread_evenly():
    analysed, times = np.array([0, 4, 8]), np.array([0.0, 0.4, 1.2])
    assert source_times(analysed, times, 10, 1.6) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6])
    for unknown in (None, 1.2, 0.5):  # the pace so far goes on
        assert source_times(analysed, times, 10, unknown)[-2:] == pytest.approx([1.35, 1.5])
    assert source_times(np.array([2]), np.array([1.0]), 4, 3.0) == pytest.approx([0, 0.5, 1, 2, 3])
    assert source_times(np.array([0]), np.array([0.0]), 2, None).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rate", [10, 24, 25, 29.97, 30, 50])
def test_a_label_in_seconds_meets_the_frame_at_its_very_time(workspace, rate):
    clock = np.rint(np.arange(0, 1001) / rate * 1e6)
    found = label_frames(clock, np.rint(np.array([[500 / rate, 700 / rate]]) * 1e6))
    assert np.flatnonzero(found).tolist() == list(range(500, 700))


def test_the_stage_writes_the_same_bytes_again(workspace, tmp_path):
    small(workspace).evaluate()
    written = []
    for run in ("first", "second"):
        out = tmp_path / run
        stage.main(
            *map(str, workspace.made),
            str(Path(__file__).parents[1] / "data/feedback.csv"),
            str(out / "metrics.parquet"),
            str(out / "evaluate.json"),
            str(out / "cameras.json"),
            str(out / "plots"),
            str(out / "health.parquet"),
        )
        written.append({path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()})
    assert written[0] == written[1]
    curves = {"roc.csv", "pr.csv", "scores.csv", "calibration.csv"}
    assert set(written[0]) == {"metrics.parquet", "health.parquet", "evaluate.json", "cameras.json"} | curves
    assert "cameras" not in json.loads(written[0]["evaluate.json"])
    assert "f1" in json.loads(written[0]["cameras.json"])["gate"]
    assert json.loads(written[0]["evaluate.json"])["f1"]["value"] == 0.5
    with (out / "plots" / "roc.csv").open(newline="") as file:
        points = [(float(row["fpr"]), float(row["tpr"])) for row in csv.DictReader(file)]
    assert points[0] == (0, 0) and points[-1] == (1, 1)
    assert (out / "plots" / "pr.csv").read_text().splitlines()[:2] == ["recall,precision", "0.000000,1.000000"]
    read_table(out / "metrics.parquet", SCHEMAS["metrics"])
    assert json.loads(read_metadata(out / "metrics.parquet")["model_versions"]) == {"gate": "v-gate"}


def test_curves_without_labels_are_a_header_alone(workspace, tmp_path):
    small(workspace)
    (workspace.labels / "events.csv").unlink()
    write_evaluation(workspace.evaluate(), *(tmp_path / name for name in ("m.parquet", "e.json", "c.json", "")))
    assert (tmp_path / "roc.csv").read_bytes() == b"fpr,tpr\n"
    assert (tmp_path / "pr.csv").read_bytes() == b"recall,precision\n"
    assert (tmp_path / "scores.csv").read_text().startswith("score,ordinary,unusual\n0.000000,0.000000,0.000000\n0.1")
