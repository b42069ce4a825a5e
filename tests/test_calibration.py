import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from vidrnn.calibration import Calibration, HeldOut, Questions, Tail, merged_peaks, seconds_of, widths
from vidrnn.surprise import FARTHEST

SCORES = st.floats(0, 50, width=32)


def surprises(seed, frames=40, asked=3, rows=4, columns=3, size=1.0, share=0.6):
    """(frames, asked, rows, columns) surprises, 0 in cells where nothing is active."""
    rng = np.random.default_rng(seed)
    maps = rng.gamma(1, size, (frames, asked, rows, columns)) * (rng.random((frames, 1, rows, columns)) < share)
    return maps.astype(np.float32)


def alike(number):
    return np.full(number, 1 / number, np.float32)


def measured(width, stretches):
    return Questions.measure(alike(len(width)), width, stretches)


def mirrored(k, size):
    """Where the k-th of `size` places lies if the picture goes on as in a mirror."""
    k %= 2 * size
    return k if k < size else 2 * size - 1 - k


def around(values):
    """(rows, columns) means around each place, by weights of a bell of 1.5 cells that ends after six."""
    weights = {d: math.exp(-0.5 * (d / 1.5) ** 2) for d in range(-6, 7)}
    total = sum(weights.values())
    out = np.zeros(values.shape)
    for r, c in np.ndindex(values.shape):
        for down, across in itertools.product(weights, weights):
            value = values[mirrored(r + down, values.shape[0]), mirrored(c + across, values.shape[1])]
            out[r, c] += value * weights[down] * weights[across] / total**2
    return out


SHAPES = st.sampled_from([(1, 1), (1, 4), (3, 2), (7, 5)])


@given(st.integers(0, 2**16), SHAPES, st.floats(0.1, 5), st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_a_width_is_the_root_of_a_high_moment_around_a_place_over_that_of_all(seed, shape, size, share):
    maps = surprises(seed, 20, 2, *shape, size, share)
    sightings = np.zeros(shape)
    strayed = np.zeros((2, *shape))
    for t, r, c in np.ndindex(20, *shape):
        sightings[r, c] += any(maps[t, :, r, c] > 0)
        for q in range(2):
            strayed[q, r, c] += float(maps[t, q, r, c]) ** 6
    for q, width in enumerate(widths([maps])):
        anywhere = strayed[q].sum() / max(sightings.sum(), 1)
        if not anywhere:
            assert (width == 1).all()
            continue
        here = (around(strayed[q]) + 300 * anywhere) / (around(sightings) + 300)
        np.testing.assert_allclose(width, (here / anywhere) ** (1 / 6), atol=1e-4)


def quantile(values, share):
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@given(st.integers(1, 30), st.integers(0, 2**16), SHAPES, st.floats(0.01, 10))
@settings(max_examples=40, deadline=None)
def test_a_question_is_measured_by_its_highest_cell(frames, seed, shape, size):
    maps = surprises(seed, frames, 3, *shape, size)
    width = widths([maps])
    asked = measured(width, [maps])
    seen = [t for t in range(frames) if maps[t].any()]
    bases, excesses = [], []
    for q in range(3):
        highest = [max(float(maps[t, q, r, c] / width[q, r, c]) for r, c in np.ndindex(shape)) for t in seen] or [0.0]
        base = quantile(highest, 0.9)
        above = [value - base for value in highest if value > base]
        bases.append(max(base, 0.2))
        excesses.append(sum(above) / len(above) if above else 0)
    middle = sorted(own / base for own, base in zip(excesses, bases, strict=True))[1]
    for q, (base, own) in enumerate(zip(bases, excesses, strict=True)):
        drawn = (0.1 * len(seen) * own + 75 * middle * base) / (0.1 * len(seen) + 75)
        assert asked.base[q] == pytest.approx(base, rel=1e-6, abs=1e-4)
        assert asked.excess[q] == pytest.approx(max(drawn, 0.04), rel=1e-6, abs=1e-4)


@pytest.mark.parametrize(("frames", "apart"), [(100, 3.23), (100_000, 19.86)])
def test_only_much_footage_tells_that_one_question_exceeds_its_base_by_more(frames, apart):
    """Twenty times as much as two others, which exceed theirs by a tenth."""
    maps = np.ones((frames, 3, 1, 1), np.float32)
    maps[: frames // 11, :, 0, 0] += (2.0, 0.1, 0.1)
    asked = measured(np.ones((3, 1, 1), np.float32), [maps])
    np.testing.assert_array_equal(asked.base, 1)
    np.testing.assert_allclose(asked.excess[1:], 0.1, atol=1e-4)
    assert asked.excess[0] / asked.excess[1] == pytest.approx(apart, rel=0.01)


@given(st.integers(0, 500), st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_footage_in_which_nothing_moves_changes_no_measure(num_empty, seed):
    maps = surprises(seed)
    padded = [maps, np.zeros((num_empty, *maps.shape[1:]), np.float32)]
    np.testing.assert_array_equal(widths(padded), widths([maps]))
    alone, among = measured(widths([maps]), [maps]), measured(widths([maps]), padded)
    np.testing.assert_array_equal(among.base, alone.base)
    np.testing.assert_array_equal(among.excess, alone.excess)


@given(st.lists(st.integers(0, 39), max_size=6), st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_into_which_stretches_footage_is_cut_does_not_matter(cuts, seed):
    maps = surprises(seed)
    parts = np.split(maps, sorted(cuts))  # empty ones among them
    np.testing.assert_allclose(widths(parts), widths([maps]), atol=1.1e-4)
    width = widths([maps])
    whole, chunked = measured(width, [maps]), measured(width, parts)
    assert all(np.array_equal(values, getattr(chunked, name)) for name, values in vars(whole).items())
    score = whole.score(maps)
    assert all(np.array_equal(whole.score(maps[t : t + 1])[0], score[t]) for t in range(len(maps)))


@pytest.mark.parametrize(("frames", "value"), [(0, 0.0), (30, 0.0), (30, 2.0)])
def test_footage_that_tells_nothing_measures_all_questions_alike(frames, value):
    maps = np.full((frames, 3, 4, 2), value, np.float32)
    asked = measured(widths([maps]), [maps])
    assert (asked.width == 1).all() and (asked.base == max(value, 0.2)).all()
    np.testing.assert_array_equal(asked.excess, np.float32(0.04))
    assert np.isfinite(asked.score(np.full((1, 3, 4, 2), 10, np.float32))).all()


@given(st.integers(0, 2**16), st.sampled_from([2.0, 4.0, 8.0]))
@settings(max_examples=20, deadline=None)
def test_a_question_that_strays_more_everywhere_is_measured_by_more(seed, times):
    maps = surprises(seed, 200, 1, size=1.0)
    plain, wide = (measured(widths([part]), [part]) for part in (maps, maps * np.float32(times)))
    np.testing.assert_allclose(wide.width, plain.width, atol=1.1e-4)
    np.testing.assert_allclose(wide.base, plain.base * times, rtol=1e-3)
    np.testing.assert_allclose(wide.excess, plain.excess * times, rtol=1e-2)
    np.testing.assert_allclose(wide.rarities(maps * np.float32(times)), plain.rarities(maps), rtol=1e-2)
    assert wide.score(maps).max() < plain.score(maps).max()


@pytest.mark.parametrize("seed", range(3))
def test_where_a_question_strays_more_the_same_surprise_scores_less(seed):
    maps = surprises(seed, 2000, 2, 6, 16, share=0.5)
    maps[:, 0, :, 8:] *= 3
    asked = measured(widths([maps]), [maps])
    assert asked.width[0, :, 12:].min() > 1.25 * asked.width[0, :, :4].max()
    np.testing.assert_allclose(asked.width[1], 1, atol=0.2)  # the other question strays alike everywhere
    same = np.zeros((1, 2, 6, 16), np.float32)
    same[0, 0, 3, [2, 13]] = 4.0
    rarity, score = asked.rarities(same)[0, 0, 3], asked.score(same)[0, 3]
    assert rarity[2] > 1.25 * rarity[13] > 0 and score[2] > 1.25 * score[13] > 0


def some_questions(seed, asked, shape):
    rng = np.random.default_rng(seed)
    sizes = ((asked, *shape), asked, asked)
    share = rng.dirichlet(np.ones(asked)).astype(np.float32)
    return Questions(*(rng.uniform(0.2, 3, size).astype(np.float32) for size in sizes), share)


@given(st.integers(0, 2**16), st.lists(st.floats(0, 12, width=32), min_size=2, max_size=20))
@settings(deadline=None)
def test_a_rarity_rises_with_the_surprise_without_a_step(seed, values):
    asked = some_questions(seed, 1, (1, 1))
    at_base = float(asked.base[0] * asked.width[0, 0, 0])
    ordered = sorted([*values, at_base, at_base * (1 + 1e-5), at_base * (1 - 1e-5)])
    found = asked.rarities(np.array(ordered, np.float32).reshape(-1, 1, 1, 1)).ravel()
    steepest = max(math.log(10) / asked.base[0], 1 / asked.excess[0]) / asked.width[0, 0, 0]
    for (low, high), (before, after) in zip(itertools.pairwise(ordered), itertools.pairwise(found), strict=True):
        assert -1e-4 <= after - before <= steepest * (high - low) * 1.001 + 1e-3
    of_base = asked.rarities(np.array([0, at_base], np.float32).reshape(-1, 1, 1, 1)).ravel()
    np.testing.assert_allclose(of_base, [0, math.log(10)], atol=1e-4)


@given(st.integers(0, 2**16), SHAPES, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_score_is_the_cubic_mean_of_rarities_where_a_person_would_stand(seed, shape, number):
    maps, asked = surprises(seed, 2, number, *shape, 3.0), some_questions(seed, number, shape)
    rarities, score = asked.rarities(maps), asked.score(maps)
    cubic = np.zeros(maps[:, 0].shape)
    for t, r, c in np.ndindex(cubic.shape):
        nats = []
        for q in range(number):
            stray, base = float(maps[t, q, r, c]) / asked.width[q, r, c], float(asked.base[q])
            beyond = (stray - base) / asked.excess[q]
            nats.append(math.log(10) + beyond if stray > base else math.log(10) * stray / base)
            assert rarities[t, q, r, c] == pytest.approx(nats[-1], rel=1e-4, abs=1e-5)
        cubic[t, r, c] = sum(share * value**3 for share, value in zip(asked.share, nats, strict=True)) ** (1 / 3)
        assert asked.leading(maps[[t], :, r, c], np.array([r]), np.array([c])) == rarities[t, :, r, c].argmax()
    high, wide = min(5, shape[0]), min(3, shape[1])
    for t, r, c in np.ndindex(cubic.shape):
        top, left = r - high // 2, c - wide // 2  # beyond the picture there is nothing
        filled = cubic[t, max(top, 0) : top + high, max(left, 0) : left + wide].sum() / (high * wide)
        active = maps[t, :, r, c].any()
        assert score[t, r, c] == (pytest.approx(filled, rel=1e-4, abs=1e-5) if active else 0)
    assert not asked.score(np.zeros_like(maps)).any()


@given(st.integers(0, 2**16), st.integers(1, 40))
@settings(deadline=None)
def test_a_score_lies_between_the_mean_rarity_and_the_highest(seed, number):
    maps, asked = surprises(seed, 20, number, 1, 1, 3.0), some_questions(seed, number, (1, 1))
    rarities, score = asked.rarities(maps)[..., 0, 0], asked.score(maps)[:, 0, 0]
    assert (score >= rarities @ asked.share * (1 - 1e-5)).all() and (score <= rarities.max(1) * (1 + 1e-5)).all()


def test_a_rarity_of_u_nats_is_one_ordinary_frame_in_e_to_the_u():
    rng = np.random.default_rng(0)

    def highest(frames):  # the highest cell of either question is exponential, of mean 0.7 and of mean 3
        maps = rng.exponential(1, (frames, 2, 1, 1)) * np.array([0.7, 3.0])[:, None, None]
        return maps.astype(np.float32)

    fitted = highest(20_000)
    rarities = measured(widths([fitted]), [fitted]).rarities(highest(200_000))[..., 0, 0]
    for nats in (1.0, 2.3, 3.0, 4.0, 5.0):
        np.testing.assert_allclose((rarities > nats).mean(0), math.exp(-nats), rtol=0.15)


def test_what_is_farthest_in_thousands_of_channels_stays_finite():
    maps = np.zeros((50, 2 * 4096, 1, 1), np.float32)
    asked = measured(widths([maps]), [maps])
    score = asked.score(np.full((1, 2 * 4096, 1, 1), FARTHEST, np.float32))
    assert np.isfinite(score.astype(np.float16)).all() and score.min() > math.log(10)


@st.composite
def tails(draw):
    base, count = draw(st.floats(0, 5)), draw(st.integers(1, 500))
    counted = []
    for _ in range(draw(st.integers(0, 4))):  # ever lower levels, with ever more peaks
        level, before = counted[-1] if counted else (base, count)
        counted.append((level - draw(st.floats(0.01, 2)), before + draw(st.integers(1, 500))))
    return Tail(base, count, draw(st.floats(0.01, 5)), draw(st.floats(0.01, 1000)), tuple(counted[::-1]))


def most(tail):
    """How often, an hour, it says that anything happens."""
    return (tail.counted[0][1] if tail.counted else tail.count) / tail.hours


@given(tails(), st.lists(SCORES, min_size=2, max_size=10))
def test_higher_scores_are_rarer(tail, scores):
    rates = [tail.per_hour(score) for score in sorted(scores)]
    assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(rates))  # but for the rounding
    assert rates[0] <= most(tail) * (1 + 1e-9)
    assert all(math.isclose(tail.per_hour(level), count / tail.hours) for level, count in tail.counted)


@given(tails(), st.floats(1e-6, 1))
def test_threshold_and_rate_are_each_others_inverse(tail, share):
    accepted = share * most(tail)
    threshold = tail.threshold(accepted)
    assert threshold >= tail.lowest and math.isclose(tail.per_hour(threshold), accepted, rel_tol=1e-6)
    assert tail.threshold(accepted / 2) > threshold


@given(tails())
def test_more_alarms_than_there_are_peaks_put_the_threshold_at_the_lowest_level(tail):
    assert tail.threshold(2 * most(tail)) == tail.lowest


@pytest.mark.parametrize("hours", [0.5, 10.0])
def test_a_quiet_place_is_measured_by_those_who_pass(hours):
    """Eighteen an hour, ten seconds each, all alike: how empty the rest is says nothing of how high they score."""
    rng = np.random.default_rng(3)
    times = np.arange(0, hours * 3600, 0.1)
    scores = np.zeros(len(times), np.float32)
    begins = np.arange(100, len(times) - 200, 2000)
    for begin in begins:
        scores[begin : begin + 100] = np.sin(np.linspace(0, np.pi, 100)) * rng.normal(3, 0.4)
    tail = Tail.measure([(scores, times)], 2.0)
    highest = sorted(merged_peaks(scores, times, 1.0, 2.0))
    assert tail.threshold(1.0) < highest[-1] + (1.5 if hours < 1 else 0.5)
    if hours > 1:  # then it is counted, and not foretold
        for accepted in (10.0, 5.0):
            seen = len(merged_peaks(scores, times, tail.threshold(accepted), 2.0)) / hours
            assert seen == pytest.approx(accepted, rel=0.4)
    dense = np.concatenate([np.stack([scores, times])[:, b : b + 100] for b in begins], axis=1)
    assert Tail.measure([(dense[0].astype(np.float32), dense[1])], 2.0).base == pytest.approx(tail.base, rel=0.01)


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
    assert tail.excess == pytest.approx(0.7, rel=0.3) and 100 <= tail.count < 300
    assert [count for _, count in tail.counted] == sorted((count for _, count in tail.counted), reverse=True)
    new, new_times = peaky(rng, 100, 0.7)
    for accepted in (50.0, 5.0, 1.0):
        seen = len(merged_peaks(new, new_times, tail.threshold(accepted), 2.0))
        low, high = poisson.interval(0.999, accepted * 100)
        assert low * 0.6 <= seen <= high * 1.5  # the tail itself is known from little more than a hundred peaks


@pytest.mark.parametrize("count", [3, 10, 100])
def test_a_tail_of_few_peaks_promises_too_much_as_often_as_too_little(count):
    """An hour a draw: how often the next peak lies above the threshold of one that only `count` peaks are known for."""
    rng = np.random.default_rng(count)
    for promised in (count / 3, count / 20):
        excesses = rng.exponential(0.5, (20000, count)).mean(1)
        above = np.array([Tail(1.0, count, float(excess), 1.0).threshold(promised) - 1.0 for excess in excesses])
        seen = count * np.exp(-above / 0.5)
        steps = math.log(count / promised) / (3 * count)  # the median of a mean of few lies below it by this share
        assert np.median(seen) == pytest.approx(promised * math.exp(steps), rel=0.05)
    assert Tail(1.0, 10**6, 0.5, 1.0).threshold(1.0) == pytest.approx(1 + 0.5 * math.log(10**6), rel=1e-4)


BLOCKS = st.lists(st.lists(SCORES, min_size=2, max_size=30), min_size=1, max_size=4)


@given(BLOCKS, BLOCKS, st.integers(0, 3))
@settings(deadline=None)
def test_a_tail_counts_merged_peaks_above_its_base(blocks, fitted, merge_seconds):
    """Those of fitted blocks tell only by how much peaks exceed it."""
    series, further = (
        [(np.array(block, np.float32), np.arange(len(block), dtype=float)) for block in part]
        for part in (blocks, fitted)
    )
    tail = Tail.measure(series, merge_seconds, further)
    everything = sorted(float(np.float32(score)) for block in blocks for score in block if np.float32(score) > 0.01)
    if not everything:
        assert tail.base == 0 and tail.count <= 1
        return
    place = 0.6 * (len(everything) - 1)
    below = everything[math.floor(place)]
    assert below <= tail.base + 1e-4 and tail.base <= everything[math.ceil(place)] + 1e-4
    peaks, held_out = [], 0
    for k, block in enumerate([*blocks, *fitted]):
        last = None
        for t, score in enumerate(block):
            if score > tail.base:
                if last is not None and t - last <= merge_seconds:
                    peaks[-1] = max(peaks[-1], score)
                else:
                    peaks.append(score)
                last = t
        held_out = len(peaks) if k < len(blocks) else held_out
    assert tail.count == held_out and tail.hours == pytest.approx(sum(len(b) for b in blocks) / 3600)
    if held_out:
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


@given(st.integers(0, 2**16), st.floats(0.01, 1e4))
@settings(max_examples=30, deadline=None)
def test_a_calibration_from_its_card_gives_the_very_same_scores(seed, size):
    maps = surprises(seed, size=size)
    calibration = Calibration(measured(widths([maps]), [maps]), Tail(0.1, 3, 0.7, 1 / 7, ((0.05, 9),)))
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again.tail == calibration.tail
    for name, values in vars(calibration.questions).items():
        found = getattr(again.questions, name)
        assert found.dtype == values.dtype == np.float32 and np.array_equal(found, values)
    np.testing.assert_array_equal(again.questions.score(maps), calibration.questions.score(maps))


def test_held_out_footage_counts_the_alarms_that_a_promise_would_have_raised():
    tail = Tail(1.0, 10, 0.5, 10.0)
    block = HeldOut(0.5, [1.1, tail.threshold(0.1), 4.0], tail)
    assert [block.alarms(rate) for rate in (100.0, 1.0, 0.1001, 0.01, 1e-6)] == [3, 3, 2, 1, 0]
    assert HeldOut.from_json(json.loads(json.dumps({"hours": 0.5, "peaks": block.peaks, "tail": vars(tail)}))) == block
    before = {name: value for name, value in vars(tail).items() if name != "counted"}  # as older cards have it
    assert Tail.from_json(before) == tail


@pytest.mark.parametrize(("times", "seconds"), [([], 0), ([3.0], 0), ([1.0, 1.5], 1.0), ([0, 1, 2, 10], 11)])
def test_the_last_frame_lasts_as_long_as_the_median(times, seconds):
    assert seconds_of(np.array(times, float)) == seconds
