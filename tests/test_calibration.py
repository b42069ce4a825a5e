import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from vidrnn.calibration import Calibration, HeldOut, Questions, Tail, merged_peaks, seconds_of

SCORES = st.floats(0, 50, width=32)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**16), st.floats(0.01, 100))
@settings(deadline=None)
def test_a_question_is_measured_by_its_upper_spread(frames, asked, seed, size):
    highest = (np.random.default_rng(seed).gamma(1, size, (frames, asked))).astype(np.float32)
    for q, width in enumerate(Questions.measure(highest).width):
        ordered = sorted(float(value) for value in highest[:, q])

        def quantile(share, ordered=ordered):
            place = share * (len(ordered) - 1)
            below = math.floor(place)
            above = min(below + 1, len(ordered) - 1)
            return ordered[below] + (place - below) * (ordered[above] - ordered[below])

        assert width == pytest.approx(max(quantile(0.95) - quantile(0.5), 1.0), rel=1e-6)


def test_without_an_ordinary_frame_every_question_counts_alike():
    assert Questions.measure(np.empty((0, 3), np.float32)).width == [1.0] * 3


@given(st.integers(0, 2**16), st.lists(st.floats(1, 30), min_size=1, max_size=6))
@settings(deadline=None)
def test_a_score_is_the_mean_of_surprises_in_their_own_units(seed, width):
    maps = np.random.default_rng(seed).gamma(1, 3, (2, len(width), 3, 4)).astype(np.float32)
    asked = Questions(width)
    score = asked.score(maps)
    for n, r, c in np.ndindex(2, 3, 4):
        expected = sum(float(maps[n, q, r, c]) / w for q, w in enumerate(width)) / len(width)
        assert score[n, r, c] == pytest.approx(expected, rel=1e-5)
        parts = [float(maps[n, q, r, c]) / w for q, w in enumerate(width)]
        assert parts[asked.leading(maps[n, :, r, c])] == max(parts)
    frames = asked.score_frames(score)
    for n in range(2):
        highest = sorted(score[n].ravel().tolist())[-4:]
        assert frames[n] == pytest.approx(sum(highest) / 4, rel=1e-5)
    assert not asked.score(np.zeros_like(maps)).any()


TAILS = st.builds(Tail, st.floats(0, 5), st.integers(1, 500), st.floats(0.01, 5), st.floats(0.01, 1000))


@given(TAILS, st.lists(SCORES, min_size=2, max_size=10))
def test_higher_scores_are_rarer(tail, scores):
    rates = [tail.per_hour(score) for score in sorted(scores)]
    assert all(before >= after for before, after in itertools.pairwise(rates))
    assert rates[0] <= tail.count / tail.hours * (1 + 1e-9)


@given(TAILS, st.floats(1e-6, 1))
def test_threshold_and_rate_are_each_others_inverse(tail, share):
    accepted = share * tail.count / tail.hours
    threshold = tail.threshold(accepted)
    assert threshold >= tail.base and math.isclose(tail.per_hour(threshold), accepted, rel_tol=1e-6)
    assert tail.threshold(accepted / 2) > threshold


@given(TAILS)
def test_more_alarms_than_there_are_peaks_put_the_threshold_at_the_base(tail):
    assert tail.threshold(2 * tail.count / tail.hours) == tail.base


def peaky(rng, hours, excess):
    """Nothing but exponential peaks, 4 s apart, as a score."""
    times = np.arange(hours * 3600, dtype=float)
    scores = np.zeros(len(times))
    scores[::4] = rng.exponential(excess, len(scores[::4]))
    return scores.astype(np.float32), times


@pytest.mark.parametrize("seed", range(3))
def test_a_measured_tail_keeps_its_promise(seed):
    rng = np.random.default_rng(seed)
    scores, times = peaky(rng, 10, 0.7)
    tail = Tail.measure([(part, times[: len(part)]) for part in np.split(scores, 10)], 2.0)
    assert tail.excess == pytest.approx(0.7, rel=0.05)
    new, new_times = peaky(rng, 100, 0.7)
    for accepted in (50.0, 5.0, 1.0):
        seen = len(merged_peaks(new, new_times, tail.threshold(accepted), 2.0))
        low, high = poisson.interval(0.999, accepted * 100)
        assert low * 0.75 <= seen <= high * 1.25  # the tail itself is known from 2000 peaks


@given(st.lists(st.lists(SCORES, min_size=2, max_size=30), min_size=1, max_size=4), st.integers(0, 3))
@settings(deadline=None)
def test_a_tail_counts_merged_peaks_above_its_base(blocks, merge_seconds):
    series = [(np.array(block, np.float32), np.arange(len(block), dtype=float)) for block in blocks]
    tail = Tail.measure(series, merge_seconds)
    everything = sorted(float(np.float32(score)) for block in blocks for score in block)
    place = 0.8 * (len(everything) - 1)
    below = everything[math.floor(place)]
    assert below <= tail.base + 1e-4 and tail.base <= everything[math.ceil(place)] + 1e-4
    peaks = []
    for block in blocks:
        last = None
        for t, score in enumerate(block):
            if score > tail.base:
                if last is not None and t - last <= merge_seconds:
                    peaks[-1] = max(peaks[-1], score)
                else:
                    peaks.append(score)
                last = t
    assert tail.count == len(peaks) and tail.hours == pytest.approx(sum(len(b) for b in blocks) / 3600)
    if peaks:
        assert tail.excess == pytest.approx(max(np.mean(peaks) - tail.base, 1e-3), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_scores_that_never_change_have_no_peak_and_no_alarm(value):
    scores, times = np.full(50, value, np.float32), np.arange(50) / 10
    tail = Tail.measure([(scores, times)], 2.0)
    assert tail.count == 0 and tail.per_hour(value) == 0.0
    assert not (scores > tail.threshold(1.0)).any()


def test_a_tail_of_a_single_frame_is_a_tail():
    tail = Tail.measure([(np.array([s], np.float32), np.zeros(1)) for s in (1.0, 2.0)], 2.0)
    assert math.isfinite(tail.threshold(1.0)) and math.isfinite(tail.per_hour(3.0))


def test_a_calibration_survives_json():
    calibration = Calibration(Questions([1.0, 1 / 3]), Tail(0.1, 3, 0.7, 1 / 7))
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_held_out_footage_counts_the_alarms_that_a_promise_would_have_raised():
    tail = Tail(1.0, 10, 0.5, 10.0)
    block = HeldOut(0.5, [1.1, 1.0 + 0.5 * math.log(10), 4.0], tail)
    assert [block.alarms(rate) for rate in (100.0, 1.0, 0.1001, 0.01, 1e-6)] == [3, 3, 2, 1, 0]
    assert HeldOut.from_json(json.loads(json.dumps({"hours": 0.5, "peaks": block.peaks, "tail": vars(tail)}))) == block


@pytest.mark.parametrize(("times", "seconds"), [([], 0), ([3.0], 0), ([1.0, 1.5], 1.0), ([0, 1, 2, 10], 11)])
def test_the_last_frame_lasts_as_long_as_the_median(times, seconds):
    assert seconds_of(np.array(times, float)) == seconds
