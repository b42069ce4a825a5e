"""The time line of a camera: where its files lie, what is kept of their scores, and what is drawn."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from vidrnn.timeline import HEIGHT, WIDTH, Curve, Stretch, above, draw, envelope, lay_out, objects_per_hour, read_curve

NIGHT = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)


def stretch(length, recorded_at=None, events=(), segments=(), appeared=(), scores=None):
    scores = np.linspace(0, 3, 11) if scores is None else np.asarray(scores, float)
    curve = Curve(np.linspace(0, length, len(scores)), scores, 1.0, float(length), 0.0, float(scores.max()))
    return Stretch({"recorded_at": recorded_at}, curve, list(events), list(segments), np.array(appeared, float))


def test_files_that_follow_at_once_touch_and_others_leave_a_gap():
    one, other, late = NIGHT, NIGHT + timedelta(seconds=60), NIGHT + timedelta(hours=3)
    starts, total = lay_out([stretch(60, one), stretch(30, other), stretch(10, late), stretch(20)])
    assert starts[1] == 60 and starts[2] > 90 and starts[3] > starts[2] + 10
    assert total == starts[3] + 20 and total < 1.05 * 120


def test_gaps_of_many_files_take_a_bounded_share():
    starts, total = lay_out([stretch(5) for _ in range(400)])
    assert 400 * 5 < total < 1.13 * 400 * 5 and len(starts) == 400


def test_objects_an_hour_are_those_of_the_footage_there():
    """Bars of 5 s; two files, of which the second begins half a second later on the line than the first ends."""
    line = [stretch(102, appeared=[0, 1, 2, 99, 102]), stretch(13, appeared=[0, 0, 0, 4])]
    bars = objects_per_hour(line, [0.0, 102.5], 115.5)
    assert [(bar.start, bar.count) for bar in bars if bar.count] == [(0, 2), (95, 1), (100, 1), (105, 1)]
    rates = {bar.start: bar.per_hour for bar in bars}
    assert rates[0] == 1440 and rates[95] == 720 and rates[105] == 720  # 2 and 1 in 5 s
    assert rates[100] == pytest.approx(800)  # 1 in 2 s of the one and 2.5 s of the other file
    assert rates[115] == 0 and len(bars) == 24


def test_one_object_in_a_moment_of_footage_is_no_rate():
    bars = objects_per_hour([stretch(100.2, appeared=[100.1])], [0.0], 100.2)
    assert bars[-1].count == 1 and bars[-1].per_hour == 1440  # as in half a bar of 5 s, not in a fifth of a second


def test_the_envelope_keeps_extremes_and_ends():
    scores = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    kept = envelope(scores, 50)
    assert len(kept) <= 102 and (np.diff(kept) > 0).all() and kept[0] == 0 and kept[-1] == 9_999
    assert {scores.argmax(), scores.argmin()} <= set(kept.tolist())
    assert envelope(scores[:102], 50).tolist() == list(range(102))


def test_every_frame_of_an_event_is_kept():
    seconds = np.arange(100_000) / 10
    scores = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    event = {"onset_seconds": 5000.0, "offset_seconds": 5003.0}
    curve = read_curve(seconds, scores, seconds >= 2, 10_000.0, 50, [event])
    inside = (curve.seconds >= 4998) & (curve.seconds <= 5005)
    assert inside.sum() >= 70 and len(curve.seconds) < 200
    assert curve.warmup_seconds == 2.0 and curve.peak_score == scores[20:].max()


def test_what_is_above_a_threshold_is_cut_at_it_and_at_gaps():
    seconds = np.array([0, 1, 2, 3, 4, 5, 6, 7.0])
    scores = np.array([0, 4, 0, 3, np.nan, 3, 3, 0.0])
    parts = [(x.tolist(), y.tolist()) for x, y in above(seconds, scores, 2.0)]
    assert parts[0] == ([0.5, 1, 1.5], [2, 4, 2])
    assert parts[1][0] == pytest.approx([2 + 2 / 3, 3, 3])
    assert parts[2][0] == pytest.approx([5, 5, 6, 6 + 1 / 3])


def test_segments_are_a_path_a_tint_and_none_of_them_too_narrow_to_be_seen():
    def drawn(count):
        edges = np.linspace(0, 500, count + 1)
        rows = [
            {"onset_seconds": a, "offset_seconds": b, "group": k, "start": "cut" if k else "start"}
            for k, (a, b) in enumerate(pairwise(edges.tolist()))
        ]
        rows += [{"onset_seconds": 500.0, "offset_seconds": 1000.0, "group": 1, "start": "cut"}]
        svg = draw([stretch(1000, segments=rows)], 2.0).svg
        tints = {tint: d.count("M") for d, tint in re.findall(r'<path d="([^"]*)" style="fill: var\(--tint-(\d)', svg)}
        (boundaries,) = re.findall(r'<path d="([^"]*)" style="[^"]*stroke-width: 1.5', svg)
        return tints, boundaries.count("M")

    assert drawn(9) == ({"0": 3, "1": 3, "2": 2, "3": 2}, 9)
    assert drawn(3000) == ({"1": 1}, 1)  # of 3001 there is room for one


def test_the_drawing_is_plain_svg_in_colours_of_the_page_and_the_same_every_time():
    events = [
        {"number": 1, "onset_seconds": 2.0, "offset_seconds": 3.0},
        {"number": 2, "onset_seconds": 2.2, "offset_seconds": 3.0},
    ]
    segments = [{"onset_seconds": 0.0, "offset_seconds": 6.0, "group": 0, "start": "start"}]
    line = [stretch(10, events=events, segments=segments, appeared=[1, 2]), stretch(20)]
    drawn = draw(line, 2.0)
    assert drawn.svg == draw(line, 2.0).svg
    tags = set(re.findall(r"<(\w+)", drawn.svg))
    assert tags == {"svg", "g", "path"} and " id=" not in drawn.svg and "url(" not in drawn.svg
    for colour in ("curve", "accent", "accent-soft", "warmup", "bar", "tint-0", "muted"):
        assert f"var(--{colour})" in drawn.svg
    assert not re.findall(r"#0000\d\d", drawn.svg)
    numbers = [float(n) for d in re.findall(r' d="([^"]*)"', drawn.svg) for n in re.findall(r"[\d.]+", d)]
    assert min(numbers) >= 0 and max(numbers) <= WIDTH and HEIGHT <= WIDTH
    assert [(event["number"], room) for event, _, room in drawn.marks] == [(1, True), (2, False)]
    assert [score for score, _ in drawn.levels] == [3.0, 2.0, 0.0] and drawn.levels[0][1] < drawn.levels[2][1]
