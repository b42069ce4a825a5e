"""What a model shows on footage that fitting did not see: what its scores mean by it, and how well it predicts."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from vidrnn.calibration import Calibration, HeldOut, Questions, Tail, merged_peaks, seconds_of, widths
from vidrnn.embeddings import Pool, Usual, describe
from vidrnn.errors import FootageError
from vidrnn.events import causal_average
from vidrnn.score import CameraModel, observe
from vidrnn.storage import read_columns
from vidrnn.surprise import Surprise
from vidrnn.windows import Block, CellReader, active_cells

Array = npt.NDArray[np.float32]
_RUN_IN_SECONDS = 2.0  # before a block, from which it is watched: in use, too, memory is there before an alarm is
_STANDS_OUT = 4 / 3  # times the median block's mean score: ordinary blocks differ about as much from one another
_UNIT_BLOCKS = 20  # 10 minutes: the cost of a calibration does not grow with the footage beyond it


def calibrate(
    model: CameraModel,
    held_out: list[Block],
    fitted: list[Block],
    merge_seconds: float,
    marked: Sequence[Block] = (),
    trimmed: Collection[str] = (),
) -> tuple[Calibration, dict[str, Any]]:
    """Give scores a meaning from ordinary footage.

    Rates come from held-out blocks alone, which chose nothing but the epoch (validation) or nothing at all
    (calibration). How far each question strays only weighs the questions against each other: there, fitted blocks
    count as well, up to `_UNIT_BLOCKS` in all, since a minute of footage tells it too roughly, and blocks whose keys
    are `trimmed` do not, since they may hold what is not ordinary. What somebody has marked as normal may stray as far
    as it did, where it did. What a threshold promises can then be checked block by block, each against a tail measured
    on the others.

    Returns:
        The calibration, and what held-out footage shows: hours, negative log-likelihood, and each block's peaks.
    """
    reader = CellReader()
    told = [block for block in held_out if block.key not in trimmed]
    measured = [*told, *fitted[: max(0, _UNIT_BLOCKS - len(told))]] or held_out
    width = widths(_valid_maps(model, reader, measured))
    asked = Questions.measure(width, _valid_maps(model, reader, measured))
    if marked:
        asked = asked.admitting(_valid_maps(model, reader, marked))
    seen = [watch(model, asked, reader, block) for block in held_out]
    series = [(block.scores, block.times) for block in seen if len(block.scores)]
    if not series:
        raise FootageError("no held-out footage is longer than the warm-up; expected longer files")
    total, count = (sum(getattr(block, name) for block in seen) for name in ("total", "count"))
    heldout = {
        "hours": round(sum(seconds_of(times) for _, times in series) / 3600, 6),
        "nll": round(float(total / max(count, 1)), 6),
        "blocks": [asdict(_judged(series, k, merge_seconds)) for k in range(len(series))],
    }
    return Calibration(asked, Tail.measure(series, merge_seconds)), heldout


def standing_out(model: CameraModel, blocks: Sequence[Block], share: float) -> set[str]:
    """The keys of the blocks that look unlike the others, at most `share` of all.

    Trimming one by one: how far questions stray is measured on the blocks that are still in, and the one whose frames
    score highest by it on average goes, if that is `_STANDS_OUT` times the median block's; several unusual ones hide
    each other at first. That is done on the first `_UNIT_BLOCKS`, and their last measure tells of the others.
    """
    reader, left = CellReader(), list(blocks[:_UNIT_BLOCKS])
    if not (at_most := int(share * len(left))):
        return set()
    seen = {block.key: _Seen.of(_valid_maps(model, reader, [block])) for block in left}
    out: list[str] = []
    for _ in range(at_most):
        asked = Questions.measure(widths(seen[b.key].maps() for b in left), (seen[b.key].maps() for b in left))
        means = [_mean_score(asked, [seen[block.key].maps()]) for block in left]
        bar = _STANDS_OUT * float(np.median(means))
        if max(means) <= bar:
            break
        out.append(left.pop(means.index(max(means))).key)
    if more := blocks[_UNIT_BLOCKS:]:
        higher = {block.key: _mean_score(asked, _valid_maps(model, reader, [block])) for block in more}
        higher = {key: mean for key, mean in higher.items() if mean > bar}
        out += sorted(higher, key=lambda key: higher[key], reverse=True)[: int(share * len(more))]
    return set(out)


class _Seen(NamedTuple):
    """The maps of a block, of which most is zero, to be looked at again and again."""

    values: csr_array
    shape: tuple[int, ...]

    @classmethod
    def of(cls, stretches: Iterable[Array]) -> "_Seen":
        maps = np.concatenate(list(stretches))
        return cls(csr_array(maps.reshape(len(maps), -1)), maps.shape)

    def maps(self) -> Array:
        return self.values.toarray().reshape(self.shape)


def _mean_score(asked: Questions, stretches: Iterable[Array]) -> float:
    """Of the frames' scores, before they are averaged."""
    return float(np.concatenate([asked.score(maps).max((1, 2)) for maps in stretches]).mean())


def usual_windows(model: CameraModel, blocks: Sequence[Block]) -> Usual:
    """What ordinary windows are like, from the first `_UNIT_BLOCKS` blocks."""
    assert model.calibration is not None
    reader, found = CellReader(), []
    for block in blocks[:_UNIT_BLOCKS]:
        times, pool = block_times(block)[0], Pool()
        for row, stretch in observe(model, reader, block.path, times, block.start, block.stop):
            scores = model.calibration.questions.score(stretch.maps)
            described = describe(stretch.memory, stretch.maps, scores)
            pool.push(times[row : row + len(scores)], described)
        found.append(pool.windows()[1])
    return Usual.measure(found)


@dataclass(frozen=True)
class Watched:
    """What a model makes of a block.

    Attributes:
        scores, times: smoothed, and seconds, of the frames that are no warm-up.
        total, count: the negative log-likelihood, as `likelihood` gives it.
    """

    scores: Array
    times: npt.NDArray[np.float64]
    total: float
    count: float

    @property
    def nll(self) -> float:
        """A cell's, on average."""
        return self.total / max(self.count, 1)


def watch(model: CameraModel, asked: Questions, reader: CellReader, block: Block) -> Watched:
    """Look at a block, by a memory that was there a little before."""
    times, valid = block_times(block)
    raw, likelihoods = [], []
    for row, stretch in _after_run_in(model, reader, block, times):
        raw.append(asked.score(stretch.maps).max((1, 2)))
        likelihoods.append(likelihood(model, reader, block, row, stretch.residual, stretch.scale))
    times, valid = times[block.start : block.stop], valid[block.start : block.stop]
    total, count = np.sum(likelihoods, axis=0)
    scores = causal_average(np.concatenate(raw), times, model.smoothing_seconds)[valid]
    return Watched(scores, times[valid], float(total), float(count))


def _valid_maps(model: CameraModel, reader: CellReader, blocks: Sequence[Block]) -> Iterator[Array]:
    """The surprises of blocks without their warm-up, (n, Q, rows, columns) each."""
    for block in blocks:
        times, valid = block_times(block)
        for row, stretch in _after_run_in(model, reader, block, times):
            yield stretch.maps[valid[row : row + len(stretch.maps)]]


def _after_run_in(
    model: CameraModel, reader: CellReader, block: Block, times: npt.NDArray[np.float64]
) -> Iterator[tuple[int, Surprise]]:
    """`observe` a block, by a memory that was there a little before; `times` of all rows of its file."""
    start = min(int(np.searchsorted(times, times[block.start] - _RUN_IN_SECONDS)), block.start)
    for row, stretch in observe(model, reader, block.path, times, start, block.stop):
        early = max(block.start - row, 0)
        if early < len(stretch.maps):
            yield row + early, stretch.since(early)


def _judged(series: list[tuple[Array, npt.NDArray[np.float64]]], k: int, merge_seconds: float) -> HeldOut:
    """Block `k` by the tail of the others; by its own where it is the only one."""
    tail = Tail.measure(series[:k] + series[k + 1 :] or series, merge_seconds)
    scores, times = series[k]
    return HeldOut(seconds_of(times) / 3600, merged_peaks(scores, times, tail.base, merge_seconds), tail)


def likelihood(
    model: CameraModel, reader: CellReader, block: Block, row: int, residual: Array, scale: Array
) -> npt.NDArray[np.float64]:
    """(sum, count) of the negative log-likelihood in feature units over a stretch's active cells and channels.

    In the features' own units, two models that scale them differently can be compared. All memories count alike. What
    lies more than ten scales off counts as ten, so that no single glitch decides.
    """
    cells = reader.rows(block.path, row, row + len(residual))
    active = active_cells(cells).reshape(len(cells), -1)  # (n, N)
    each = 0.5 * np.clip(residual, -10, 10) ** 2 + np.log(scale) + np.log(model.standard.sd)  # (n, M, N, C)
    mean = each.mean((1, 3))[active]
    return np.array([mean.sum(), len(mean)], np.float64)


def block_times(block: Block) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Seconds and validity of every row of the block's file."""
    table = read_columns(block.path, ["time_seconds", "valid"])
    return table["time_seconds"].to_numpy(), table["valid"].to_numpy()
