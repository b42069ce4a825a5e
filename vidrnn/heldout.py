"""What a model shows on footage that fitting did not see: what its scores mean by it, and how well it predicts."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vidrnn.calibration import Calibration, HeldOut, Questions, Series, Tail, merged_peaks, seconds_of, widths
from vidrnn.camera import incidents, read_views
from vidrnn.embeddings import Pool, Usual, describe
from vidrnn.errors import FootageError
from vidrnn.events import causal_average
from vidrnn.score import CameraModel, observe
from vidrnn.storage import read_columns
from vidrnn.surprise import Surprise, shares
from vidrnn.windows import Block, CellReader, active_cells

Array = npt.NDArray[np.float32]
_RUN_IN_SECONDS = 2.0  # before a block, from which it is watched: in use, too, memory is there before an alarm is
_STANDS_OUT = 1.34  # times the median block's mean score: ordinary blocks differ nearly as much from one another
_BUSY_SHARE = 0.1  # of a block's frames, in which something must be active, so that it can be compared with others
_FEW_BLOCKS = 8  # of these each may show something that is ordinary, and nothing else does
_TURNS = 5  # in which blocks are judged by measures that they had no part in
_UNIT_BLOCKS = 20  # 10 minutes: of more blocks than these, one changes nothing
_MOST_BLOCKS = 120  # an hour, that tells how far questions stray; more would tell the same


def calibrate(
    model: CameraModel,
    held_out: list[Block],
    fitted: list[Block],
    merge_seconds: float,
    marked: Sequence[Block] = (),
    trimmed: Collection[str] = (),
) -> tuple[Calibration, dict[str, Any]]:
    """Give scores a meaning from ordinary footage.

    How often a level is passed comes from held-out blocks alone, which chose nothing but the epoch (validation) or
    nothing at all (calibration). How far each question strays, which only weighs the questions against each other, and
    how steeply peaks fall off are told by fitted blocks as well, up to `_UNIT_BLOCKS` in all, since a minute of footage
    tells them too roughly; an hour of held-out ones is enough; and blocks whose keys are `trimmed` do not count there,
    since they may hold what is not ordinary. A block looks calmer by what it was itself measured for than new footage
    does; so each is scored by the questions as the others measure them. What somebody has marked as normal may stray as
    far as it did, where it did. What a threshold promises can then be checked block by block, each against a tail
    measured on the others.

    Returns:
        The calibration, and what held-out footage shows: hours, negative log-likelihood, and each block's peaks.
    """
    reader = CellReader()
    told = [block for block in held_out if block.key not in trimmed][:_MOST_BLOCKS]
    filling = fitted[: max(0, _UNIT_BLOCKS - len(told))]
    measured = [*told, *filling] or held_out
    admitted = [maps.max(0, keepdims=True, initial=0) for maps in _valid_maps(model, reader, marked)]

    question_shares = shares(len(model.horizons), model.layout.channels)

    def measure(stretches: Callable[[], Iterable[Array]]) -> Questions:
        asked = Questions.measure(question_shares, widths(stretches()), stretches())
        return asked.admitting(admitted) if admitted else asked

    by_others: dict[str, Questions] = {}
    if len(measured) > _UNIT_BLOCKS:  # one of so many changes nothing
        asked = measure(lambda: _valid_maps(model, reader, measured))
    else:
        kept = [_Seen.of(_valid_maps(model, reader, [block])) for block in measured]
        asked = measure(partial(_maps_of, kept))
        for turn in range(min(_TURNS, len(kept)) if len(kept) > 1 else 0):
            out = range(turn, len(kept), _TURNS)
            others = measure(partial(_maps_of, [seen for k, seen in enumerate(kept) if k not in out]))
            by_others |= {measured[k].key: others for k in out}

    seen, more = (
        [watch(model, by_others.get(block.key, asked), reader, block) for block in blocks]
        for blocks in (held_out, filling)
    )
    series, further = ([(part.scores, part.times) for part in parts if len(part.scores)] for parts in (seen, more))
    if not series:
        raise FootageError("no held-out footage is longer than the warm-up; expected longer files")
    total, count = (sum(getattr(block, name) for block in seen) for name in ("total", "count"))
    heldout = {
        "hours": round(sum(seconds_of(times) for _, times in series) / 3600, 6),
        "nll": round(float(total / max(count, 1)), 6),
        "blocks": [
            asdict(HeldOut(seconds_of(times) / 3600, merged_peaks(scores, times, tail.lowest, merge_seconds), tail))
            for (scores, times), tail in zip(series, tails_of_others(series, merge_seconds, further), strict=True)
        ],
    }
    return Calibration(asked, Tail.measure(series, merge_seconds, further)), heldout


def may_stand_out(num_blocks: int, share: float) -> int:
    """How many blocks may be left out of so many; none where they are too few to tell what is usual among them."""
    return 0 if num_blocks < _FEW_BLOCKS else int(share * num_blocks)


def standing_out(model: CameraModel, blocks: Sequence[Block], share: float, out: Collection[str] = ()) -> set[str]:
    """The keys of blocks that look unlike the others: those `out` before, and more, at most `share` of all together.

    Trimming one by one: how far questions stray is measured on the blocks that are still in, and the one whose frames
    score highest by it on average goes, if that is `_STANDS_OUT` times the median block's; several unusual ones hide
    each other at first. Frames in which nothing is active do not count, nor do blocks that have little else, or the
    busiest would stand out at a quiet place. That is done on the first `_UNIT_BLOCKS`, and their last measure tells of
    the others.
    """
    reader, first = CellReader(), blocks[:_UNIT_BLOCKS]
    found = set(out)
    if len(found) >= may_stand_out(len(blocks), share):
        return found
    seen = {block.key: _Seen.of(_valid_maps(model, reader, [block])) for block in first if block.key not in out}
    busy = [block for block in first if block.key in out or seen[block.key].busy]
    left = [block for block in busy if block.key not in out]
    may = may_stand_out(len(blocks) * len(busy) // len(first), share)
    if not left or len(found) >= may:
        return found
    question_shares = shares(len(model.horizons), model.layout.channels)
    while True:
        kept = [part for key, part in seen.items() if key not in found]
        asked = Questions.measure(question_shares, widths(_maps_of(kept)), _maps_of(kept))
        means = [_mean_score(asked, [seen[block.key].maps()]) for block in left]
        bar = _STANDS_OUT * float(np.median(means))
        if max(means) <= bar or len(found) >= may or len(busy) - len(left) >= int(share * len(busy)):
            break
        found.add(left.pop(means.index(max(means))).key)
    more = [block for block in blocks[_UNIT_BLOCKS:] if block.key not in out]
    higher = {block.key: _mean_score(asked, _valid_maps(model, reader, [block])) for block in more}
    highest = sorted((key for key, mean in higher.items() if mean > bar), key=lambda key: -higher[key])
    return found | set(highest[: max(0, may - len(found))])


class _Seen(NamedTuple):
    """The (n, Q, rows, columns) maps of a block, of which most is zero, to be looked at again and again."""

    active: npt.NDArray[np.bool_]  # (n, rows, columns), the cells in which something is not zero
    values: Array  # (P, Q), of these

    @classmethod
    def of(cls, stretches: Iterable[Array]) -> "_Seen":
        maps = np.concatenate(list(stretches))
        active = np.asarray((maps > 0).any(1))
        return cls(active, maps.transpose(0, 2, 3, 1)[active])

    @property
    def busy(self) -> bool:
        return bool(self.active.any((1, 2)).mean() >= _BUSY_SHARE)

    def maps(self) -> Array:
        cells = np.zeros((*self.active.shape, self.values.shape[1]), np.float32)
        cells[self.active] = self.values
        return cells.transpose(0, 3, 1, 2)


def _maps_of(kept: Iterable[_Seen]) -> Iterator[Array]:
    return (seen.maps() for seen in kept)


def _mean_score(asked: Questions, stretches: Iterable[Array]) -> float:
    """Of the frames in which something is active, before they are averaged; 0 where these are few."""
    scores = np.concatenate([asked.score(maps).max((1, 2)) for maps in stretches])
    active = scores > 0
    return float(scores[active].mean()) if active.mean() >= _BUSY_SHARE else 0.0


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


def tails_of_others(series: Sequence[Series], merge_seconds: float, fitted: Sequence[Series] = ()) -> list[Tail]:
    """For each of some blocks, (T,) scores and seconds, the tail of the others; its own where it is the only one.

    `fitted` blocks tell each as `Tail.measure` lets them.

    Of many blocks a fifth is left out at a time: measuring anew for each would take their number squared.
    """
    turns = len(series) if len(series) <= _UNIT_BLOCKS else _TURNS
    tails = [
        Tail.measure([part for k, part in enumerate(series) if k % turns != turn] or series, merge_seconds, fitted)
        for turn in range(turns)
    ]
    return [tails[k % turns] for k in range(len(series))]


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
    """Seconds of every row of the block's file, and whether it can raise an alarm: not in a warm-up or an incident."""
    return _times_of(block.path, Path(block.path).stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _times_of(path: str, changed_ns: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Kept, since each of a file's many blocks asks; `changed_ns` tells a file from one that was there before."""
    cells = Path(path)
    table = read_columns(cells, ["time_seconds", "valid"])
    times, valid = table["time_seconds"].to_numpy(), table["valid"].to_numpy(zero_copy_only=False)
    views = read_views(cells.parents[2] / "views" / cells.parent.name / cells.name)
    calm = valid.copy()
    for incident in incidents(views, times, valid):
        calm[slice(*incident.quiet)] = False
    told = calm if calm.any() else valid  # a film that shows nothing else, as one at night, is what there is
    told.flags.writeable = False
    return times, told
