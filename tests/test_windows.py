import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import context_of
from synthetic import walking, write_cells

from vidrnn.errors import FootageError
from vidrnn.features import CHANNELS, ROWS
from vidrnn.model import place_of
from vidrnn.windows import (
    ACTIVE_SHARE,
    CLIP,
    MODELLED,
    QUIET_WEIGHT,
    Batch,
    Block,
    CellReader,
    Standard,
    WindowSampler,
    active_cells,
    blocks_of,
    follow,
    split_blocks,
    standard_of,
)

torch.set_num_threads(1)
FIRST = CHANNELS.index(MODELLED[0])


@pytest.fixture(scope="module")
def empty_cells(tmp_path_factory):
    """Feature files of nothing but times, by those times."""
    root, count = tmp_path_factory.mktemp("cells"), iter(range(10**6))

    def write(times):
        return write_cells(root / f"{next(count)}.parquet", np.zeros((len(times), 1, 2, 2), np.float16), times)

    return write


def rows_of(blocks):
    return [row for block in blocks for row in range(block.start, block.stop)]


def test_a_short_video_is_one_block(empty_cells):
    times = np.arange(100) / 10
    (block,) = blocks_of(empty_cells(times), "abc", 8.0, 2.0)
    assert (block.key, block.start, block.stop) == ("abc:0", 0, 100)
    assert block.seconds == pytest.approx(10)


def test_a_block_is_found_from_any_folder(empty_cells, monkeypatch):
    path = empty_cells(np.arange(10) / 10)
    monkeypatch.chdir(path.parent)
    (block,) = blocks_of(Path(path.name), "abc", 8.0, 2.0)
    assert block.path == str(path)


def test_a_long_video_is_cut_with_gaps(empty_cells):
    blocks = blocks_of(empty_cells(np.arange(401) / 10), "abc", 10.0, 2.0)
    assert [(block.start, block.stop) for block in blocks] == [(0, 100), (120, 220), (240, 340), (360, 401)]
    assert [block.key for block in blocks] == [f"abc:{k}" for k in range(4)]
    assert blocks[-1].seconds == pytest.approx(4.1)


def test_a_gap_in_time_ends_a_block(empty_cells):
    times = np.concatenate([np.arange(50) / 10, 60 + np.arange(50) / 10])
    blocks = blocks_of(empty_cells(times), "abc", 30.0, 5.0)
    assert [(block.start, block.stop) for block in blocks] == [(0, 50), (50, 100)]


def test_very_short_stretches_are_left_out_unless_there_is_nothing_else(empty_cells):
    times = np.concatenate([np.arange(5) / 10, 60 + np.arange(50) / 10])
    (block,) = blocks_of(empty_cells(times), "abc", 30.0, 5.0)
    assert (block.start, block.stop) == (5, 55)
    assert rows_of(blocks_of(empty_cells(times[:5]), "abc", 30.0, 5.0)) == list(range(5))


@pytest.mark.parametrize("times", [[], [0.0]])
def test_a_video_without_a_second_frame_has_no_block(empty_cells, times):
    assert blocks_of(empty_cells(times), "abc", 30.0, 5.0) == []


@given(st.lists(st.sampled_from([0.1, 0.1, 0.1, 0.25, 0.9, 1.5, 40]), min_size=2, max_size=300), st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_keep_their_distance_and_lose_no_more_than_they_say(empty_cells, steps, data):
    block_seconds = data.draw(st.sampled_from([0.05, 1.0, 3.0, 12.0]))
    gap_seconds = data.draw(st.sampled_from([0.0, 0.5, 2.0]))
    times = np.cumsum(steps)
    blocks = blocks_of(empty_cells(times), "abc", block_seconds, gap_seconds)
    taken = rows_of(blocks)
    assert len(taken) == len(set(taken)) and taken == sorted(taken) and taken
    assert len({block.key for block in blocks}) == len(blocks)
    for block in blocks:
        inside = np.diff(times[block.start : block.stop])
        assert block.start < block.stop and (inside <= 1.0).all()
        assert times[block.stop - 1] - times[block.start] <= block_seconds + gap_seconds + 1e-9
    for before, after in itertools.pairwise(blocks):
        apart = times[after.start] - times[before.stop - 1]
        assert apart > min(gap_seconds, 1.0) - 1e-9
    # A lost row lies within a gap after a block, or in a stretch that is too short to keep.
    step = np.median(np.diff(times))
    run = np.cumsum(np.concatenate([[0], np.diff(times) > 1.0]))
    for row in sorted(set(range(len(times))) - set(taken)):
        of_run = times[run == run[row]]
        begin = of_run[0]
        while begin + block_seconds + gap_seconds <= times[row]:
            begin += block_seconds + gap_seconds
        in_gap = begin + block_seconds <= times[row] + 1e-9
        remainder = of_run[-1] + step - begin
        assert in_gap or remainder < block_seconds / 6 + 1e-9 or block_seconds < 0.1


def block(key, seconds=30.0):
    return Block("file", key, 0, 300, seconds)


KEYS = st.lists(st.integers(0, 10**6), min_size=3, max_size=60, unique=True)
SHARES = st.sampled_from([0.01, 0.15, 0.3, 0.49])


@given(KEYS, SHARES, SHARES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_every_block_has_one_purpose_whatever_the_order(keys, validation_share, calibration_share, seed, random):
    blocks = [block(f"{key}:0") for key in keys]
    split = split_blocks(blocks, seed, validation_share, calibration_share, "gate", 2.5)
    parts = (split.fit, split.validation, split.calibration)
    assert sorted(b.key for part in parts for b in part) == sorted(b.key for b in blocks)
    assert all(parts)
    for part, share in ((split.validation, validation_share), (split.calibration, calibration_share)):
        assert abs(len(part) - share * len(blocks)) <= 1
    shuffled = random.sample(blocks, len(blocks))
    assert split_blocks(shuffled, seed, validation_share, calibration_share, "gate", 2.5) == split


def test_another_seed_splits_otherwise():
    blocks = [block(f"{key}:0") for key in range(40)]
    splits = [{b.key for b in split_blocks(blocks, seed, 0.15, 0.15, "gate", 2.5).validation} for seed in range(3)]
    assert splits[0] != splits[1] != splits[2]


def test_added_footage_moves_few_blocks():
    blocks = [block(f"{key}:0") for key in range(100)]
    purpose = {}
    for count in (90, 100):
        split = split_blocks(blocks[:count], 0, 0.15, 0.15, "gate", 2.5)
        for name in ("fit", "validation", "calibration"):
            for b in getattr(split, name):
                purpose.setdefault(b.key, []).append(name)
    moved = [key for key, names in purpose.items() if len(set(names)) > 1]
    assert len(moved) <= 4


@pytest.mark.parametrize(("count", "words"), [(0, "0.0 minutes .* 0 blocks"), (2, "1.0 minutes .* 2 blocks")])
def test_too_little_footage_is_one_sentence(count, words):
    with pytest.raises(FootageError, match=f"^camera gate: {words} is too little .* for {3 - count} more$"):
        split_blocks([block(f"{key}:0") for key in range(count)], 0, 0.15, 0.15, "gate", 2.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two feature files of several row groups, with what they hold."""
    root = tmp_path_factory.mktemp("files")
    cells = {str(root / f"{k}.parquet"): walking(150, 4, k) for k in range(2)}
    for path, array in cells.items():
        write_cells(Path(path), array)
    return cells


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 149), st.integers(1, 150)), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_the_reader_gives_slices_of_the_table_from_a_bounded_cache(files, wanted):
    paths = list(files)
    group_bytes = 64 * len(MODELLED) * ROWS * 4 * 2
    reader = CellReader(cache_bytes=2 * group_bytes)
    for k, start, count in wanted:
        stop = min(start + count, 150)
        found = reader.rows(paths[k], start, stop)
        assert found.dtype == np.float32 and found.flags.owndata
        np.testing.assert_array_equal(found, files[paths[k]][start:stop, FIRST:].astype(np.float32))
        held = sum(group.nbytes for group in reader._groups.values())
        assert held <= 2 * group_bytes and held == reader._bytes


def test_the_reader_keeps_no_file_open(files):
    reader = CellReader()
    for path in files:
        reader.rows(path, 0, 150)
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert not {Path(path) for path in files} & set(opened)


def test_standard_of_active_cells(files):
    blocks = [Block(path, "k", 10 * k, 100 + k, 1.0) for k, path in enumerate(files)]
    standard = standard_of(CellReader(), blocks)
    values = []
    for b in blocks:
        cells = files[b.path][b.start : b.stop, FIRST:].astype(np.float64)
        active = cells[:, MODELLED.index("person_foreground")] > ACTIVE_SHARE
        values += [cells[t, :, row, column] for t, row, column in np.argwhere(active)]
    np.testing.assert_allclose(standard.mean, np.mean(values, 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(standard.sd, np.maximum(np.std(values, 0), 1e-3), rtol=1e-4)


def test_standard_of_footage_in_which_nothing_is_active(tmp_path):
    cells = np.full((10, len(CHANNELS), ROWS, 2), 0.03, np.float16)
    write_cells(tmp_path / "still.parquet", cells)
    standard = standard_of(CellReader(), [Block(str(tmp_path / "still.parquet"), "k", 0, 10, 1.0)])
    np.testing.assert_allclose(standard.mean, 0.03, rtol=1e-3)
    assert (standard.sd == np.float32(1e-3)).all()
    low, high = CLIP
    z = standard.apply(np.stack([cells[0, FIRST:], cells[0, FIRST:] + 9, cells[0, FIRST:] - 9]).astype(np.float32))
    np.testing.assert_allclose(z[0], 0, atol=0.1)
    assert (z[1] == high).all() and (z[2] == low).all()


def parts_of(files, columns=4):
    """Blocks of both files, scaled apart."""
    place = place_of(ROWS, columns, 0, 1)
    parts = []
    for k, path in enumerate(files):
        standard = Standard(np.full(len(MODELLED), 0.1 * k, np.float32), np.full(len(MODELLED), 0.3 + k, np.float32))
        parts.append((Block(path, f"{k}", 20 * k, 150 - 10 * k, 15.0 - 3 * k), standard, place))
    return parts


def sampler_of(files, seed=0, dropout=0.5, cells_per_window=9, seq_len=6, horizons=(1, 3)):
    return WindowSampler(CellReader(), parts_of(files), seq_len, horizons, cells_per_window, dropout, seed)


def test_a_batch_is_what_the_cells_say(files):
    """Context is as the model wants it; a target is where what was in the cell has gone; weights say what is active."""
    sampler, horizons, seen, moved = sampler_of(files), (1, 3), 0, 0
    for batch in sampler.epoch(1, 4, 2, 0, 1):
        for w in range(2):
            mine = slice(9 * w, 9 * w + 9)
            number, start, picked = found_in(files, batch.context[mine], batch.place[mine])
            b, standard, place = parts_of(files)[number]
            assert b.start <= start and start + 6 + 3 <= b.stop
            cells = files[b.path][start : start + 9, FIRST:].astype(np.float32)
            z = standard.apply(cells)
            assert torch.equal(batch.context[mine], context_of(torch.from_numpy(z[:6]))[picked])
            assert torch.equal(batch.place[mine], place[picked])
            active = active_cells(cells)
            for n, cell in enumerate(picked):
                row, column = divmod(cell, 4)
                for t in range(6):
                    for k, ahead in enumerate(horizons):
                        there = gone_to(cells, b.seconds / (b.stop - b.start), t, row, column, ahead)
                        moved += there != (row, column)
                        np.testing.assert_array_equal(batch.target[mine][n, t, k], z[(t + ahead, slice(None), *there)])
                        weight = 1.0 if active[t + ahead][there] else QUIET_WEIGHT
                        assert batch.weight[mine][n, t, k].item() == pytest.approx(weight)
            seen += len(set(picked)) == 9
    assert seen == 8 and moved > 100


def gone_to(cells, seconds, t, row, column, steps):
    """(row, column) of what is there in frame t, so many steps of `seconds` later; it stays in the picture."""
    y, x = float(row), float(column)
    for frame in range(t, t + steps):
        near = round(y), round(x)
        y_speed, x_speed = (cells[frame, MODELLED.index(f"person_velocity_{axis}")][near] for axis in "yx")
        y = min(max(y + ROWS * seconds * y_speed, 0), ROWS - 1)
        x = min(max(x + ROWS * seconds * x_speed, 0), cells.shape[3] - 1)
    return round(y), round(x)


@pytest.mark.parametrize("back", [False, True])
def test_who_walks_is_followed_from_cell_to_cell(back):
    """A column to the right and a row up in ten steps, by fractions of cells, and not past the edge."""
    moves = np.zeros((30, ROWS, 8, 2), np.float32)
    moves[..., 1], moves[..., 0] = 0.1, -0.07
    frame = np.array([[15], [12]])
    cells = np.array([6 * 8 + 3, 9 * 8 + 7, 0])
    found = follow(moves, frame, cells, [1, 10], back)
    sign = -1 if back else 1
    for start, (step, ten) in zip(cells, found[:, 0].T, strict=True):
        row, column = divmod(start, 8)
        assert step == start
        expected = max(row - sign, 0), min(max(column + sign, 0), 7)
        assert divmod(int(ten), 8) == expected
    assert (found[:, 0] == found[:, 1]).all()


def found_in(files, context, place):
    """Which part, first row and cells a window was made from: search for it."""
    for number, (b, standard, own_place) in enumerate(parts_of(files)):
        picked = [int(np.abs(own_place - p).sum(1).argmin()) for p in place]
        cells = files[b.path][:, FIRST:].astype(np.float32)
        middle = torch.from_numpy(standard.apply(cells)).flatten(2)[:, :, picked]  # (rows, C, N)
        mine = context.reshape(len(picked), 6, len(MODELLED), 9)[..., 4].permute(1, 2, 0)
        for start in range(b.start, b.stop - 5):
            if torch.equal(middle[start : start + 6], mine):
                return number, start, picked
    raise AssertionError("no such window in the files")


def test_cells_are_drawn_mostly_where_something_moves(files):
    batch = next(iter(sampler_of(files, cells_per_window=8).epoch(1, 1, 40, 0, 1)))
    share = (batch.weight == 1).float().mean().item()
    everywhere = np.mean([active_cells(cells[:, FIRST:].astype(np.float32)).mean() for cells in files.values()])
    assert share > 2.5 * everywhere


def joined(batches):
    batches = list(batches)
    return {name: torch.cat([getattr(b, name) for b in batches]) for name in Batch.__dataclass_fields__}


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_share_the_very_batch_of_one_worker(files, world_size):
    def rows(batches, order):
        whole = joined(batches)
        return {name: whole[name].reshape(-1, 9, *whole[name].shape[1:])[order] for name in whole}

    count = 6
    for number, alone in enumerate(sampler_of(files).epoch(2, 3, count, 0, 1)):
        shares = [list(sampler_of(files).epoch(2, 3, count, rank, world_size))[number] for rank in range(world_size)]
        assert len({len(share.place) for share in shares}) == 1
        order = [w for rank in range(world_size) for w in range(rank, count, world_size)]
        one, several = rows([alone], order), rows(shares, list(range(count)))
        assert all(torch.equal(one[name], several[name]) for name in one)


def test_batches_depend_on_seed_and_epoch_alone(files):
    def bytes_of(seed, epoch):
        return [t.numpy().tobytes() for t in joined(sampler_of(files, seed).epoch(epoch, 2, 2, 0, 1)).values()]

    assert bytes_of(0, 1) == bytes_of(0, 1)
    assert len({tuple(bytes_of(*at)) for at in [(0, 1), (0, 2), (1, 1)]}) == 3


def test_every_window_comes_once_before_any_comes_twice(tmp_path):
    cells = np.zeros((60, len(CHANNELS), ROWS, 2))
    cells[:, FIRST] = np.arange(60)[:, None, None]  # so that a window tells where it starts
    path = write_cells(tmp_path / "counted.parquet", cells.astype(np.float16))
    standard = Standard(np.zeros(len(MODELLED), np.float32), np.full(len(MODELLED), 10, np.float32))
    parts = [(b, standard, place_of(ROWS, 2, 0, 1)) for b in blocks_of(path, "k", 2.0, 0.5)]
    sampler = WindowSampler(CellReader(), parts, 8, [1, 3], 1, 0.5, 0)
    expected = [start for b, _, _ in parts for start in range(b.start, b.stop - 11 + 1, 2)]  # a quarter of 8 apart
    assert len(parts) == 3 and len(sampler) == len(expected) == 10
    whole = joined(sampler.epoch(1, 2, len(sampler), 0, 1))
    starts = (whole["context"][:, 0, 4] * 10).round().int().tolist()
    first, second = starts[: len(sampler)], starts[len(sampler) :]
    assert sorted(first) == sorted(second) == expected and first != second


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_memory_is_withheld_from_the_given_share(files, dropout, expected):
    whole = joined(sampler_of(files, dropout=dropout, cells_per_window=40).epoch(1, 4, 4, 0, 1))
    assert whole["remembers"].mean().item() == pytest.approx(expected, abs=0.08)
    assert set(whole["remembers"].unique().tolist()) <= {0.0, 1.0}


def test_a_window_takes_no_more_cells_than_there_are(files):
    batch = next(iter(sampler_of(files, cells_per_window=10**6).epoch(1, 1, 1, 0, 1)))
    assert len(batch.place) == ROWS * 4


@pytest.mark.parametrize(("num_rows", "windows"), [(8, 0), (9, 1)])
def test_a_block_holds_a_window_if_it_reaches_the_last_target(tmp_path, num_rows, windows):
    path = write_cells(tmp_path / "short.parquet", walking(num_rows, 4, 0))
    parts = [(b, Standard(np.zeros(19), np.ones(19)), None) for b in blocks_of(path, "k", 30.0, 5.0)]
    assert len(parts) == 1 and len(WindowSampler(CellReader(), parts, 6, (1, 3), 1, 0.5, 0)) == windows
