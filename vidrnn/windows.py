"""Feature files to training windows: blocks that are held out whole, and batches that any number of workers can share.

A block is never split between fitting, validation and calibration, so that no frame is judged by a network that saw
its neighbour. What is in a batch depends on the seed and the epoch alone, never on how many workers share it.
"""

import hashlib
import itertools
import json
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from vidrnn.errors import FootageError
from vidrnn.features import CHANNELS, MAX_STEP_SECONDS
from vidrnn.storage import read_columns, read_metadata

# What the network sees and predicts. The luma and the flow of the whole picture are left out: they tell of the
# camera, not of what moves in front of it.
MODELLED: tuple[str, ...] = CHANNELS[CHANNELS.index("difference") :]
_FIRST = CHANNELS.index(MODELLED[0])
_FOREGROUND = MODELLED.index("person_foreground")
_VELOCITY = [MODELLED.index("person_velocity_y"), MODELLED.index("person_velocity_x")]
ALONE = (1, 1)  # rows and columns of a sequence of features that somebody else computed: one cell, and no picture
ACTIVE_SHARE = 0.05  # of foreground in a cell's person-sized window, beyond which there is something to predict
CLIP = (-6.0, 12.0)  # of standardised features
_EVEN = 1e-6  # of the size of a value
_CACHE_BYTES = 384 * 2**20

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """What feature files of one kind have in common.

    Attributes:
        channels: that are seen and predicted: MODELLED of pictures, all of a sequence. Pictures of which earlier code
            made other channels have names for them that nothing else has.
        rows, columns: of the grid of cells.
    """

    channels: tuple[str, ...]
    rows: int
    columns: int

    @classmethod
    def of(cls, path: Path) -> "Layout":
        """That of a feature file."""
        count, rows, columns = pq.read_schema(path).field("cells").type.shape
        named = read_metadata(path).get("channels")
        if named:
            return cls(tuple(json.loads(named)), rows, columns)
        return cls(MODELLED if count == len(CHANNELS) else tuple(f"earlier {k}" for k in range(count)), rows, columns)

    def __str__(self) -> str:
        if self.channels == MODELLED:
            return f"pictures of {self.columns} columns of cells"
        return f"sequences of {len(self.channels)} values (the first is called {self.channels[0]!r})"


@dataclass(frozen=True)
class Block:
    """Rows [start, stop) of a feature file that stand or fall together.

    Attributes:
        path: of the feature file, absolute, since a worker may run in another folder.
        key: sha256 of the source and the block's number, the same wherever the file lies.
        start, stop: rows, without a gap in time between them.
        seconds: of footage.
    """

    path: str
    key: str
    start: int
    stop: int
    seconds: float


@dataclass(frozen=True)
class Split:
    """The blocks of a camera by what they are for."""

    fit: list[Block]
    validation: list[Block]
    calibration: list[Block]

    @property
    def blocks(self) -> list[Block]:
        """All of them."""
        return [*self.fit, *self.validation, *self.calibration]


def file_of(key: str) -> str:
    """The sha256 of the source of the block with this key."""
    return key.partition(":")[0]


def blocks_of(path: Path, sha256: str, block_seconds: float, gap_seconds: float) -> list[Block]:
    """Cut a feature file: whole if it is short, else stretches of `block_seconds` with `gap_seconds` between.

    A gap in the footage ends a block too. The last stretch is as long as is left, up to both together. Stretches of
    less than a sixth of `block_seconds` are left out, unless the file has nothing longer.
    """
    times = read_columns(path, ["time_seconds"])["time_seconds"].to_numpy()
    if not len(times):
        return []
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    starts = [0, *(np.flatnonzero(np.diff(times) > MAX_STEP_SECONDS) + 1).tolist(), len(times)]
    blocks: list[Block] = []
    for first, end in itertools.pairwise(starts):
        begin, last = times[first], times[end - 1] + step
        while begin < last:
            finish = last if last - begin <= block_seconds + gap_seconds else begin + block_seconds
            start, stop = first + np.searchsorted(times[first:end], [begin, finish]).astype(int)
            if start < stop:
                key = f"{sha256}:{len(blocks)}"
                blocks.append(Block(str(path.absolute()), key, int(start), int(stop), float(finish - begin)))
            begin = finish + gap_seconds
    long_enough = [block for block in blocks if block.seconds >= block_seconds / 6]
    return long_enough or blocks


def split_blocks(
    blocks: Sequence[Block],
    seed: int,
    validation_share: float,
    calibration_share: float,
    camera_id: str,
    least_seconds: float,
) -> Split:
    """Give every block its purpose, by a hash of (seed, source, block): the same for the same footage, in any order.

    `least_seconds` is what a block lasts that is long enough to learn from, for the message.

    Raises:
        FootageError: fewer than three blocks, so that not each purpose could have one.
    """
    if len(blocks) < 3:
        minutes = sum(block.seconds for block in blocks) / 60
        raise FootageError(
            f"camera {camera_id}: {minutes:.1f} minutes of ordinary footage in {len(blocks)} blocks is too little to "
            "learn from; expected at least 3 blocks (files, or stretches of train.block_seconds) of more than "
            f"{least_seconds:g} seconds each: add footage for {3 - len(blocks)} more"
        )
    order = sorted(blocks, key=lambda block: hashlib.sha256(f"{seed}:{block.key}".encode()).digest())
    validation = min(max(1, round(len(order) * validation_share)), len(order) - 2)
    calibration = min(max(1, round(len(order) * calibration_share)), len(order) - validation - 1)
    return Split(
        fit=order[validation : len(order) - calibration],
        validation=order[:validation],
        calibration=order[len(order) - calibration :],
    )


class CellReader:
    """Rows of feature files, through a cache of row groups that is bounded in bytes. No file stays open."""

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._files: dict[str, tuple[pq.FileMetaData, list[int]]] = {}
        self._groups: OrderedDict[tuple[str, int], npt.NDArray[np.floating]] = OrderedDict()
        self._bytes = 0

    def rows(self, path: str, start: int, stop: int) -> Array:
        """(stop − start, C, rows, columns) float32, C as in `Layout`, not standardised."""
        if path not in self._files:
            facts = pq.read_metadata(path)
            sizes = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
            self._files[path] = facts, list(itertools.accumulate(sizes, initial=0))
        starts = self._files[path][1]
        groups = range(bisect_right(starts, start) - 1, bisect_left(starts, stop))
        parts = [self._group(path, g)[max(start - starts[g], 0) : stop - starts[g]] for g in groups]
        return np.concatenate(parts).astype(np.float32)

    def _group(self, path: str, group: int) -> npt.NDArray[np.floating]:
        key = (path, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        with pq.ParquetFile(path, metadata=self._files[path][0]) as file:
            cells = file.read_row_group(group, columns=["cells"])["cells"].combine_chunks()
        array: npt.NDArray[np.floating] = cells.to_numpy_ndarray()
        if array.shape[2:] != ALONE:
            array = np.ascontiguousarray(array[:, _FIRST:])
        self._groups[key] = array
        self._bytes += array.nbytes
        while self._bytes > self._cache_bytes and len(self._groups) > 1:
            self._bytes -= self._groups.popitem(last=False)[1].nbytes
        return array


def active_cells(cells: Array) -> npt.NDArray[np.bool_]:
    """Where there is something to predict: (T, C, rows, columns) features to (T, rows, columns); alone, everywhere."""
    if cells.shape[2:] == ALONE:
        return np.ones((len(cells), *ALONE), np.bool_)
    return cells[:, _FOREGROUND] > ACTIVE_SHARE


def moves_of(cells: Array, steps: npt.NDArray[np.float64]) -> Array:
    """By how many cells what is in each cell moves in a step, downwards and to the right: (T, rows, columns, 2).

    Args:
        cells: (T, C, rows, columns) features.
        steps: (T,) seconds.
    """
    if cells.shape[2:] == ALONE:
        return np.zeros((len(cells), *ALONE, 2), np.float32)
    heights = cells[:, _VELOCITY].transpose(0, 2, 3, 1) * steps[:, None, None, None]
    moves: Array = (heights * cells.shape[2]).astype(np.float32)
    return moves


def follow(
    moves: Array, frame: npt.NDArray[np.int64], cell: npt.NDArray[np.int64], steps: Sequence[int], back: bool = False
) -> npt.NDArray[np.int64]:
    """The cells where what is in some cells will be so many steps later, or was before: (K, …) of (…).

    It goes with the velocity that it meets on its way, by fractions of cells, and never out of the picture.

    Args:
        moves: (T, rows, columns, 2), from `moves_of`.
        frame, cell: when and where, which broadcast against each other.
        steps: K numbers of them, ascending.
        back: before, not later.
    """
    _, rows, columns, _ = moves.shape
    sign = -1 if back else 1
    frame, cell = np.broadcast_arrays(frame, cell)
    place = np.stack([cell // columns, cell % columns], -1).astype(np.float32)
    found = []
    for step in range(steps[-1]):
        nearest = np.rint(place).astype(np.int64)
        met = moves[frame + sign * step, nearest[..., 0], nearest[..., 1]]
        place = np.clip(place + sign * met, 0, np.array([rows - 1, columns - 1], np.float32))
        if step + 1 in steps:
            nearest = np.rint(place).astype(np.int64)
            found.append(nearest[..., 0] * columns + nearest[..., 1])
    return np.stack(found)


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each channel over the active cells that were fitted: (C,) float32 each."""

    mean: Array
    sd: Array

    def apply(self, cells: Array) -> Array:
        """(T, C, rows, columns) features to standard deviations from the mean, clipped to CLIP."""
        z = (cells - self.mean[:, None, None]) / self.sd[:, None, None]
        return np.clip(z, *CLIP, out=z)


def standard_of(reader: CellReader, blocks: Sequence[Block]) -> Standard:
    """Measure it over the active cells of some blocks, block by block; all cells where nothing is active."""
    count = len(Layout.of(Path(blocks[0].path)).channels)
    total = np.zeros((3, count))
    for only_active in (True, False):
        for block in blocks:
            cells = reader.rows(block.path, block.start, block.stop)
            chosen = cells.transpose(0, 2, 3, 1)
            values = (chosen[active_cells(cells)] if only_active else chosen.reshape(-1, count)).astype(float)
            total += [np.full(count, len(values)), values.sum(0), (values**2).sum(0)]
        if total[0, 0]:
            break
    mean, square = total[1:] / total[0]
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    if cells.shape[2:] == ALONE:
        # Features of others are of any size. Below what float32 tells apart nothing varied; then a change of a
        # thousandth counts.
        size = np.sqrt(square)
        sd = np.where(sd > _EVEN * size, sd, 1e-3 * np.where(size > 0, size, 1.0))
    else:
        # A channel that never varied says nothing: with this floor its smallest change stays within the clip.
        sd = np.maximum(sd, 1e-3)
    return Standard(mean.astype(np.float32), sd.astype(np.float32))


@dataclass(frozen=True)
class Batch:
    """Sequences of cells; N sequences of T steps, K horizons.

    Attributes:
        context: (N, T, 9 · C), as `VideoRNN.forward` takes it.
        place: (N, place_size).
        target: (N, T, K, C), what came of each step at each horizon, wherever that had moved to.
        weight: (N, T, K), 1 where something is there to be predicted, little elsewhere.
        remembers: (N,), 0 where the memory is withheld.
    """

    context: Tensor
    place: Tensor
    target: Tensor
    weight: Tensor
    remembers: Tensor


QUIET_WEIGHT = 0.02  # of a target where nothing is active


class WindowSampler:
    """Batches of windows, drawn mostly where something moves.

    Args:
        reader, standard: where cells come from and how they are scaled.
        blocks: with the place tensor of their camera, (rows · columns, place_size).
        seq_len: T.
        horizons: K numbers of steps ahead, ascending.
        cells_per_window: sequences taken from each window.
        memory_dropout: share of sequences whose memory is withheld.
        seed: of everything drawn.
    """

    def __init__(
        self,
        reader: CellReader,
        blocks: Sequence[tuple[Block, Standard, Tensor]],
        seq_len: int,
        horizons: Sequence[int],
        cells_per_window: int,
        memory_dropout: float,
        seed: int,
    ) -> None:
        self._reader, self._seq_len, self._horizons = reader, seq_len, list(horizons)
        self._cells_per_window, self._memory_dropout, self._seed = cells_per_window, memory_dropout, seed
        self._length = seq_len + self._horizons[-1]
        hop = max(1, seq_len // 4)
        self._windows = [
            (k, start)
            for k, (block, _, _) in enumerate(blocks)
            for start in range(block.start, block.stop - self._length + 1, hop)
        ]
        self._blocks = list(blocks)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._windows)

    def epoch(self, epoch: int, num_batches: int, batch_windows: int, rank: int, world_size: int) -> Iterator[Batch]:
        """The share of worker `rank` in `num_batches` batches of `batch_windows` windows.

        Windows come in a seeded order, each once before any comes twice; every worker gets equally many.
        """
        wanted = num_batches * batch_windows
        order: list[int] = []
        turn = 0
        while len(order) < wanted:
            order += np.random.default_rng([self._seed, epoch, turn]).permutation(len(self._windows)).tolist()
            turn += 1
        for number in range(num_batches):
            mine = range(number * batch_windows + rank, (number + 1) * batch_windows, world_size)
            yield _joined([self._window(order[k], [self._seed, epoch, k]) for k in mine])

    def _window(self, index: int, seed: list[int]) -> Batch:
        number, start = self._windows[index]
        block, standard, place = self._blocks[number]
        cells = self._reader.rows(block.path, start, start + self._length)
        active = active_cells(cells).reshape(self._length, -1)  # (length, cells)
        z = standard.apply(cells)
        columns = z.shape[3]
        rng = np.random.default_rng(seed)
        worth = active.sum(0) + QUIET_WEIGHT * len(active)
        pick = rng.choice(len(worth), min(self._cells_per_window, len(worth)), replace=False, p=worth / worth.sum())
        steps, now = self._seq_len, np.arange(self._seq_len)[:, None]
        moves = moves_of(cells, np.full(self._length, block.seconds / (block.stop - block.start)))
        then = follow(moves, now, pick, self._horizons)  # (K, T, N)
        ahead = now + np.asarray(self._horizons)[:, None, None]  # (K, T, 1)
        target = z.reshape(*z.shape[:2], -1)[ahead, :, then].transpose(2, 1, 0, 3)  # (K, T, N, C) to (N, T, K, C)
        weight = np.where(active[ahead, then], 1.0, QUIET_WEIGHT).transpose(2, 1, 0)  # (N, T, K)
        return Batch(
            context=torch.from_numpy(_context(z[:steps], pick // columns, pick % columns)),
            place=place[pick],
            target=torch.from_numpy(np.ascontiguousarray(target)),
            weight=torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32)),
            remembers=torch.from_numpy((rng.random(len(pick)) >= self._memory_dropout).astype(np.float32)),
        )


def _context(z: Array, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Array:
    """(T, C, rows, columns) to (N, T, 9 · C) at N cells, (1, T, C) of one alone; in the order of `VideoRNN.forward`."""
    if z.shape[2:] == ALONE:
        return np.ascontiguousarray(z.reshape(1, *z.shape[:2]))
    padded = np.pad(z, ((0, 0), (0, 0), (1, 1), (1, 1)))
    around = [padded[:, :, rows + dy, columns + dx] for dy in range(3) for dx in range(3)]  # 9 of (T, C, N)
    return np.ascontiguousarray(np.stack(around, 2).reshape(len(z), -1, len(rows)).transpose(2, 0, 1))


def _joined(parts: list[Batch]) -> Batch:
    names = Batch.__dataclass_fields__
    return Batch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
