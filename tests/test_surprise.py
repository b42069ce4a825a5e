import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import context_of, was_at
from synthetic import walking

from vidrnn.features import CHANNELS, ROWS
from vidrnn.model import VideoRNN, place_of
from vidrnn.surprise import FARTHEST, Observer, both_sides, questions, shares
from vidrnn.windows import ACTIVE_SHARE, MODELLED, Standard

torch.set_num_threads(1)
FIRST = CHANNELS.index(MODELLED[0])
COLUMNS, ROWS_OF_TIME = 3, 24
CELLS = walking(ROWS_OF_TIME, COLUMNS, 0)[:, FIRST:].astype(np.float32)
STANDARD = Standard(np.full(len(MODELLED), 0.05, np.float32), np.full(len(MODELLED), 0.1, np.float32))
HORIZONS = [1, 4]


def network(cell="gru", cameras=1):
    torch.manual_seed(0)
    return VideoRNN(len(MODELLED), len(HORIZONS), cell, 5, 2, cameras, True).eval().requires_grad_(False)


def observer(net=None, place_seconds=0.6, memory_seconds=0.4):
    net = network() if net is None else net
    return Observer(net, STANDARD, place_of(ROWS, COLUMNS, 0, 1), HORIZONS, place_seconds, memory_seconds)


def push(one, cells, times, chunks):
    """Everything an observer says of footage that comes in chunks, put together."""
    stretches, start = [], 0
    for size in chunks:
        stretches += one.push(cells[start : start + size], times[start : start + size])
        start += size
    assert start == len(times)
    stretches += one.flush()
    names = ("maps", "residual", "mean", "scale", "seen", "memory")
    return {name: np.concatenate([getattr(stretch, name) for stretch in stretches]) for name in names}


def carried(level, cells, seconds):
    """(Q, rows, columns) levels, each active cell's from where it came, between the cells around that point."""
    moved = level.copy()
    y_speed, x_speed = (cells[MODELLED.index(f"person_velocity_{axis}")] for axis in "yx")
    for r, c in np.argwhere(cells[MODELLED.index("person_foreground")] > ACTIVE_SHARE):
        y = min(max(r - ROWS * seconds * y_speed[r, c], 0), ROWS - 1)  # picture heights are ROWS cells
        x = min(max(c - ROWS * seconds * x_speed[r, c], 0), COLUMNS - 1)
        weights = np.outer(np.maximum(1 - abs(np.arange(ROWS) - y), 0), np.maximum(1 - abs(np.arange(COLUMNS) - x), 0))
        assert weights.sum() == pytest.approx(1)
        moved[:, r, c] = (level * weights).sum((1, 2))
    return moved


def literal(net, cells, times, place_seconds, memory_seconds):
    """One step after the other, by definition, as if the footage had no gap."""
    place = place_of(ROWS, COLUMNS, 0, 1)
    empty = net.predict(torch.zeros(len(place), 1, 5), place)
    prior, *unremembered = [[part[:, 0, k] for part in empty] for k in (0, *range(len(HORIZONS)))]
    state, told, maps, residuals = net.initial_state(len(place)), {}, [], []
    strays, actives = [], []
    for t, row in enumerate(cells):
        z = np.clip((row - STANDARD.mean[:, None, None]) / STANDARD.sd[:, None, None], -6, 12)
        seen = z.reshape(len(MODELLED), -1).T  # (N, C)
        active = row[MODELLED.index("person_foreground")] > ACTIVE_SHARE  # (rows, columns)
        expected = [prior]
        for k, horizon in enumerate(HORIZONS):
            origins = [was_at(cells, times, t, *divmod(cell, COLUMNS), horizon) for cell in range(len(place))]
            expected.append([part[origins] for part in told.get((k, t), unremembered[k])])
        residual = np.stack([(seen - mean.numpy()) / scale.numpy() for mean, scale in expected])  # (M, N, C)
        # Where nothing is active, nothing is asked of a memory.
        residual = np.where(active.reshape(1, -1, 1), residual, residual[:1])
        residuals.append(residual)
        memory, state = net(context_of(torch.from_numpy(z)[None]), place, state)
        mean, scale = net.predict(memory, place)
        for k, horizon in enumerate(HORIZONS):
            told[k, t + horizon] = mean[:, 0, k], scale[:, 0, k]
        stray = np.clip(residual, -10, 10) * active.reshape(1, -1, 1)
        strays.append(stray.transpose(0, 2, 1).reshape(len(questions(2)), ROWS, COLUMNS))
        actives.append(active)

    of_place = np.array([m == 0 for _, m in questions(2)])[:, None, None]

    def averaged(level, stray, seconds):
        kept = np.exp(-seconds / np.where(of_place, place_seconds, memory_seconds))
        return kept * level + (1 - kept) * stray

    def deviation(weights, squares):
        return np.sqrt(0.9 * squares + 0.1 * weights**2)

    def in_the_long_run(seconds):
        kept = np.exp(-seconds / place_seconds)
        return (1 - kept) ** 2 / (1 - kept**2)

    first = next((t for t in range(len(times)) if times[t] - times[0] >= 0.8), len(times) - 1)
    level = strays[first]
    sums = np.stack([actives[first], actives[first] * in_the_long_run(times[first] - times[first - 1])])
    for t in reversed(range(first)):
        level = averaged(level, strays[t], times[t + 1] - times[t])
        before = in_the_long_run(times[t] - times[t - 1]) if t else 0
        kept = np.exp(-(times[t + 1] - times[t]) / place_seconds)
        weights, squares = sums
        weights = kept * weights + (1 - kept) * actives[t]
        sums = np.stack([weights, kept**2 * squares + (1 - kept**2) * actives[t] * before])
    for t, (stray, active) in enumerate(zip(strays, actives, strict=True)):
        told = np.ones_like(level)
        if t:
            seconds = times[t] - times[t - 1]
            level = averaged(carried(level, cells[t], seconds), stray, seconds)
            kept, (weights, squares) = np.exp(-seconds / place_seconds), carried(sums, cells[t], seconds)
            sums = np.stack([kept * weights + (1 - kept) * active, kept**2 * squares + (1 - kept) ** 2 * active])
            usual = deviation(1, in_the_long_run(seconds))
            told = np.where(of_place, usual / np.maximum(deviation(*sums), 1e-9), 1)
        now = np.zeros_like(level)
        for q, (name, m) in enumerate(questions(2)):
            both = m > 0 or name.endswith(("velocity_x", "velocity_y"))
            for r, c in zip(*active.nonzero(), strict=True):
                value = level[q, r, c] * told[q, r, c]
                now[q, r, c] = abs(value) if both else max(value, 0)
        maps.append(now)
    return np.stack(maps), np.stack(residuals)


@pytest.mark.parametrize("cell", ["gru", "article"])
def test_an_observer_is_its_literal_twin(cell):
    net, times = network(cell), np.arange(ROWS_OF_TIME) / 10
    cells = CELLS * 3  # so much that the farthest is reached
    speeds = cells[:, [MODELLED.index(f"person_velocity_{axis}") for axis in "xy"]]
    assert ROWS * 0.1 * np.abs(speeds).max() > 0.3  # cells that averages are carried along in a step
    found = push(observer(net), cells, times, [ROWS_OF_TIME])
    maps, residual = literal(net, cells, times, 0.6, 0.4)
    assert 1 < maps.max() <= FARTHEST < residual.max()
    np.testing.assert_allclose(found["maps"], maps, atol=1e-4)
    np.testing.assert_allclose(found["residual"], residual, atol=1e-4)


def chunkings(total):
    return st.lists(st.integers(1, 9), min_size=total, max_size=total).map(
        lambda sizes: np.diff(np.minimum(np.cumsum([0, *sizes]), total)).tolist()
    )


@given(chunkings(ROWS_OF_TIME), st.lists(st.sampled_from([0.1, 0.1, 0.3, 1.5]), min_size=24, max_size=24))
@example([1] * ROWS_OF_TIME, [0.1] * ROWS_OF_TIME)
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same(chunks, steps):
    times = np.cumsum(steps)
    whole = push(observer(), CELLS, times, [ROWS_OF_TIME])
    parts = push(observer(), CELLS, times, [size for size in chunks if size])
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5)


@given(st.integers(1, ROWS_OF_TIME - 1), chunkings(ROWS_OF_TIME))
@settings(max_examples=20, deadline=None)
def test_after_a_gap_all_starts_afresh(gap, chunks):
    times = np.arange(ROWS_OF_TIME) / 10 + np.where(np.arange(ROWS_OF_TIME) < gap, 0, 1.01)
    found = push(observer(), CELLS, times, [size for size in chunks if size])
    for part in (slice(0, gap), slice(gap, None)):
        fresh = push(observer(), CELLS[part], times[part], [len(times[part])])
        for name in fresh:
            np.testing.assert_allclose(found[name][part], fresh[name], atol=1e-5)


def test_a_step_of_one_second_is_no_gap():
    times = np.arange(ROWS_OF_TIME) / 10 + np.where(np.arange(ROWS_OF_TIME) < 12, 0, 0.9)
    found = push(observer(), CELLS, times, [ROWS_OF_TIME])
    fresh = push(observer(), CELLS[12:], times[12:], [12])
    assert np.abs(found["residual"][12:] - fresh["residual"]).max() > 1e-3


@given(st.integers(9, ROWS_OF_TIME - 1), st.integers(0, 2**16))  # the first 0.8 s are averaged together
@settings(max_examples=15, deadline=None)
def test_the_future_never_changes_the_past(known, seed):
    times = np.arange(ROWS_OF_TIME) / 10
    other = CELLS.copy()
    other[known:] = np.random.default_rng(seed).gamma(1, 1, other[known:].shape)
    mine, theirs = (push(observer(), cells, times, [ROWS_OF_TIME]) for cells in (CELLS, other))
    for name in mine:
        np.testing.assert_allclose(mine[name][:known], theirs[name][:known], atol=1e-6)
    assert np.abs(mine["maps"][known:] - theirs["maps"][known:]).max() > 1e-3


def test_a_memory_is_asked_where_something_is_active_and_an_empty_one_knows_the_place_alone():
    net = network()
    times = np.arange(ROWS_OF_TIME) / 10
    found = push(observer(net), CELLS, times, [ROWS_OF_TIME])
    place = place_of(ROWS, COLUMNS, 0, 1)
    of_place = net.predict(torch.zeros(len(place), 1, 5), place)[0][:, 0].numpy()  # (N, K, C)
    assert (found["mean"][:, 0] == of_place[:, 0]).all()  # at every step
    active = CELLS[:, MODELLED.index("person_foreground")].reshape(ROWS_OF_TIME, -1) > ACTIVE_SHARE
    assert active.any() and not active.all()
    for k, horizon in enumerate(HORIZONS):
        mean = found["mean"][:, 1 + k]
        assert (mean == of_place[:, 0]).all(-1)[~active].all()
        early = (np.arange(ROWS_OF_TIME) < horizon)[:, None]
        frames = [
            [was_at(CELLS, times, t, *divmod(n, COLUMNS), horizon) for n in range(len(place))]
            for t in range(len(times))
        ]
        unremembered = np.isclose(mean, of_place[frames, k], atol=1e-6).all(-1)
        assert unremembered[active & early].all() and not unremembered[active & ~early].any()


def test_the_caller_keeps_its_features():
    cells = CELLS.copy()
    push(observer(), cells, np.arange(ROWS_OF_TIME) / 10, [ROWS_OF_TIME])
    np.testing.assert_array_equal(cells, CELLS)


def test_a_cell_in_which_nothing_is_active_is_0():
    found = push(observer(), CELLS, np.arange(ROWS_OF_TIME) / 10, [ROWS_OF_TIME])
    active = CELLS[:, MODELLED.index("person_foreground")] > ACTIVE_SHARE
    assert (active[:-1] & ~active[1:]).any()  # something leaves, too
    assert not found["maps"].transpose(0, 2, 3, 1)[~active].any()
    assert found["maps"].transpose(0, 2, 3, 1)[active].sum(-1).min() > 0


def test_footage_in_which_nothing_is_active_is_as_usual():
    found = push(observer(), np.zeros_like(CELLS), np.arange(ROWS_OF_TIME) / 10, [16, 8])
    assert len(found["maps"]) == ROWS_OF_TIME and not found["maps"].any()
    assert (found["mean"] == found["mean"][:1, :1]).all()


def strays(pattern):
    """Features whose every channel lies so many of the prior's scales from its mean, a value of `pattern` a row."""
    told = push(observer(), CELLS[:1], np.zeros(1), [1])
    mean, scale = (told[name][0, 0].T.reshape(len(MODELLED), ROWS, COLUMNS) for name in ("mean", "scale"))
    z = mean + np.asarray(pattern, np.float32)[:, None, None, None] * scale
    cells = STANDARD.mean[:, None, None] + STANDARD.sd[:, None, None] * z
    cells[:, MODELLED.index("person_foreground")] = 0.3  # active
    return cells


def of_the_prior(cells):
    """(n, C) of the maps, in one cell."""
    maps = push(observer(), cells, np.arange(len(cells)) / 10, [len(cells)])["maps"]
    return maps[:, : len(MODELLED), 7, 1]


def test_what_trembles_averages_out_and_what_stays_does_not():
    others = [k for k, name in enumerate(MODELLED) if name != "person_foreground"]
    steady, trembling = (of_the_prior(strays(pattern))[-1, others] for pattern in ([2] * 40, [2, -2] * 20))
    np.testing.assert_allclose(steady, 2, atol=0.02)
    assert trembling.max() < 0.5
    usual = of_the_prior(strays([0] * 40))[-1, others]
    assert usual.max() < 0.01


def test_less_than_expected_surprises_where_it_may():
    of_place, *of_memory = both_sides(2, MODELLED)
    assert len(of_memory) == 2 and np.all(of_memory)  # what was bound to come and did not
    below = of_the_prior(strays([-2] * 40))[-1]
    others = np.array([name != "person_foreground" for name in MODELLED])
    assert sorted(np.array(MODELLED)[of_place]) == [
        f"{window}_velocity_{axis}" for window in ("part", "person") for axis in "xy"
    ]
    np.testing.assert_allclose(below[of_place], 2, atol=0.02)
    assert not below[~of_place & others].any()
    assert both_sides(1, ("value 0", "value 1")).all()  # of a sequence nobody knows which way is harmless


def test_what_it_looks_like_how_much_it_moves_and_where_to_count_alike():
    of_each = dict(zip(questions(2), shares(2).tolist(), strict=True))
    assert sum(of_each.values()) == pytest.approx(1, abs=1e-6)
    for memory in range(3):
        looks = ["difference", *(f"gradient{k}" for k in range(6)), "person_foreground", "part_foreground"]
        movement = [f"{window}_{name}" for window in ("person", "part") for name in ("moving", "speed", "spread")]
        direction = [f"{window}_velocity_{axis}" for window in ("person", "part") for axis in "xy"]
        assert {*looks, *movement, *direction} == set(MODELLED)
        for family in (looks, movement, direction):
            for name in family:
                assert of_each[name, memory] == pytest.approx(1 / 9 / len(family), abs=1e-7)
    assert shares(1, ("value 0", "speed")).tolist() == [0.25] * 4  # of a sequence nobody knows what its values mean


def test_questions_are_every_channel_at_every_length_of_memory():
    asked = questions(2)
    assert len(asked) == len(set(asked)) == 3 * len(MODELLED)
    assert asked[: len(MODELLED)] == [(channel, 0) for channel in MODELLED]
    assert questions(1, ("value 0",)) == [("value 0", 0), ("value 0", 1)]
