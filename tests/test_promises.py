"""What the table of promises counts and says, and that drawn cells are like those of the rendered footage."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from synthetic import small_params

from benchmarks.calibration import Row, Watched, _stretches, figures, row_of, table, watched_plans
from benchmarks.drawn import RATE, DrawnJob, draw_cells, score_drawn, write_drawn
from vidrnn.calibration import Tail
from vidrnn.decode import VideoReader
from vidrnn.demo import render_file
from vidrnn.demo_plan import plan_demo, plan_file
from vidrnn.features import CHANNELS, FeatureExtractor, Grid, working_picture
from vidrnn.metrics import poisson_interval
from vidrnn.params import load_params
from vidrnn.train import train

PARAMS = load_params()


@pytest.mark.parametrize(
    ("promised", "hours", "seen", "verdict"),
    [
        (10.0, 2.0, 20, "yes"),
        (10.0, 2.0, 30, "yes"),
        (10.0, 2.0, 55, "no"),  # 27.5 an hour, at least 21.6
        (10.0, 2.0, 4, "yes"),  # 2 an hour, but up to 4.6 would not be seen: below half
        (60.0, 2.0, 0, "no"),
        (1.0, 2.0, 0, "3.00 hours are missing"),
        (60.0, 0.05, 40, "0.03 hours are missing"),
    ],
)
def test_a_promise_is_kept_where_the_interval_meets_half_to_twice_of_it(promised, hours, seen, verdict):
    row = Row("d", promised, hours, seen)
    low, high = poisson_interval(seen, hours, 0.9)
    if not verdict.endswith("missing"):
        verdict = "yes" if low <= 2 * promised and high >= promised / 2 else "no"
    assert row.verdict() == verdict and row.interval() == (low, high)
    assert f"| {seen} |" in table([row]) and table([row]).splitlines()[-1].endswith(f"| {verdict} |")
    allowed, found = figures(row)
    assert allowed["column"] == f"false_alarms_promised_{promised:g}" and allowed["value"] == promised * hours
    assert found["column"] == f"false_alarms_seen_{promised:g}" and found["low"] <= found["value"] == seen
    assert {"data", "method", "column", "value", "low", "high", "seeds"} == set(allowed) == set(found)


def test_false_alarms_are_merged_events_of_every_camera_above_its_own_threshold():
    times = np.arange(600) / 10
    calm, wild = np.zeros(600, np.float32), np.zeros(600, np.float32)
    wild[[100, 105, 300]] = 5.0  # two peaks half a second apart are one event
    low, high = Tail(1.0, 60, 0.5, 1.0), Tail(9.0, 60, 0.5, 1.0)
    cameras = [Watched(low, [(wild, times), (calm, times)]), Watched(high, [(wild, times)])]
    row = row_of("d", 10.0, cameras, 2.0)
    assert row.seen == 2 and row.hours == pytest.approx(3 * 60 / 3600)


def test_only_ordinary_frames_that_can_raise_an_alarm_count():
    count = 12
    scores = pa.table(
        {
            "frame_index": np.arange(count),
            "time_seconds": np.arange(count) / 10,
            "valid": np.arange(count) >= 2,
            "score": np.arange(count).astype(np.float32),
        }
    )
    stretches = _stretches(scores, lambda frames: (frames < 5) | (frames >= 8))
    assert [score.tolist() for score, _ in stretches] == [[2, 3, 4], [8, 9, 10, 11]]


def test_what_is_watched_is_ordinary_and_was_never_seen():
    watched, known = watched_plans(PARAMS, 0.2, 2), plan_demo(PARAMS.demo)
    assert {plan.camera for plan in watched} == {plan.camera for plan in known}
    assert not any(plan.planted for plan in watched)
    assert not {plan.seed for plan in watched} & {plan.seed for plan in known}
    assert {plan.seed[0] for plan in watched} == {plan.seed[0] for plan in known}  # the same place, painted alike


def test_drawn_cells_are_like_those_of_the_footage(tmp_path: Path):
    """The same plan both ways: where something moves, and how fast."""
    cv2.setNumThreads(1)
    frame_rate = PARAMS.demo.frame_rate
    plan = plan_file("market-walk", "test", "a.mp4", 12 * frame_rate, (7, 0, 2, 3), (), frame_rate)
    render_file(tmp_path, plan, frame_rate)
    drawn = np.concatenate(list(draw_cells(plan, PARAMS))).astype(float)
    step = frame_rate // RATE
    with VideoReader(tmp_path / "a.mp4") as reader:
        grid = Grid.of(640, 360, PARAMS.features.height)
        extractor = FeatureExtractor(grid, reader.time_base, 2.0, 20.0, 60.0)
        rows = []
        for frame in reader.frames():
            if frame.frame_index % step == 0:
                rows += extractor.push(
                    frame.frame_index, frame.pts, working_picture(frame.luma, frame.limited_range, 0, grid)
                )
    filmed = np.stack([row.cells for row in rows]).astype(float)
    assert filmed.shape == drawn.shape
    after = slice(round(3 * RATE), None)
    moving, velocity = (CHANNELS.index(f"person_{name}") for name in ("moving", "velocity_x"))
    assert np.corrcoef(filmed[after, moving].ravel(), drawn[after, moving].ravel())[0, 1] > 0.7
    both = (filmed[after, moving] > 0.15) & (drawn[after, moving] > 0.15)
    assert both.sum() > 100
    assert np.corrcoef(filmed[after, velocity][both], drawn[after, velocity][both])[0, 1] > 0.8


def test_a_model_learns_from_drawn_cells_and_watches_them(tmp_path):
    params = small_params()
    plans = [plan_file("north-gate", "train", f"north-gate/{k}.mp4", 120, (1, 0, k), (), 10) for k in range(3)]
    training = write_drawn(plans, tmp_path / "features", params)
    train(tmp_path / "features", training, params, tmp_path / "model")
    scores, seconds = score_drawn(DrawnJob(plans[0], tmp_path / "model/north-gate", params))
    warmup = round(params.features.warmup_seconds * RATE)
    assert len(scores) == len(seconds) == 120 * RATE // 10 - warmup
    assert seconds[0] == params.features.warmup_seconds and np.isfinite(scores).all() and scores.max() > 0
