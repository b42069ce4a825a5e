"""How far the world departs from what the network expected: per cell, per channel, per length of memory.

A *question* is a channel asked at one length of memory: "is this speed usual here?" (the prior), "did the last second
lead one to expect this size?" (a horizon). Each has a map of causal surprises; `calibration.py` makes them comparable.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidrnn.events import START_SECONDS, starting_level
from vidrnn.features import MAX_STEP_SECONDS
from vidrnn.model import State, VideoRNN
from vidrnn.windows import MODELLED, Standard, active_cells, follow, moves_of

Array = npt.NDArray[np.float32]

FARTHEST = 10.0  # scales from what was expected: what lies farther off counts as this far
_ALIKE = 0.1  # correlation of somebody's strays from a place at two moments, as far as an average may rely on it
_SIGNED = ("velocity_x", "velocity_y")
_MOVEMENT = ("moving", "speed", "spread")


def both_sides(num_horizons: int, channels: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """(M, C), of which questions less than expected surprises, too.

    Of all that ask a memory: what a moment ago was bound to come and did not, as when somebody stops. Of a place, where
    little is as usual as much (something leaves, is partly hidden, stands), only directions: to the left can be as
    unusual as to the right; and all values of a sequence, of which nobody knows which way is harmless.
    """
    of_place = [name.endswith(_SIGNED) or channels != MODELLED for name in channels]
    return np.array([of_place] + [[True] * len(channels)] * num_horizons)


def questions(num_horizons: int, channels: tuple[str, ...] = MODELLED) -> list[tuple[str, int]]:
    """(channel, memory) in the order of the maps; memory 0 is the prior, k the k-th horizon."""
    return [(channel, memory) for memory in range(num_horizons + 1) for channel in channels]


def shares(num_horizons: int, channels: tuple[str, ...] = MODELLED) -> Array:
    """(Q,) of each question in a cell's score, 1 in all.

    What something looks like, how much it moves and where to count alike: there are more channels of the first, but not
    more to be told by them. The values of a sequence, of which nobody knows what they mean, all count alike.
    """
    if channels != MODELLED:
        families = [0] * len(channels)
    else:
        families = [2 if name.endswith(_SIGNED) else 1 if name.endswith(_MOVEMENT) else 0 for name in channels]
    alike = np.bincount(families)[families] * len(set(families)) * (num_horizons + 1)
    return np.tile(1 / alike, num_horizons + 1).astype(np.float32)


@dataclass(frozen=True)
class Surprise:
    """A stretch of n analysed frames; M = 1 + horizons memories, C channels, Q = M · C questions, N cells.

    Most cells are not active most of the time: what was expected is kept once for all of these.

    Attributes:
        maps: (n, Q, rows, columns), the surprise of each question: 0 or more, 0 while nothing is active. In memory the
            questions of a cell lie side by side.
        expected: (2, E, M, C), means and scales in standardised units: of each of the N cells what is usual there,
            whatever the memory, then of each frame's active cells what their memories foretold.
        which: (n, N), which of the E was expected.
        standardised: (n, N, C), what was seen.
        seen: (n, N, C), in the features' own units.
        memory: (n, N, H), what the network knows after each frame.
    """

    maps: Array
    expected: Array
    which: npt.NDArray[np.int64]
    standardised: Array
    seen: Array
    memory: Array

    @property
    def mean(self) -> Array:
        """(n, M, N, C), what was expected everywhere."""
        return self._everywhere(self.expected[0])

    @property
    def scale(self) -> Array:
        """(n, M, N, C), of what was expected everywhere."""
        return self._everywhere(self.expected[1])

    def _everywhere(self, part: Array) -> Array:
        return np.moveaxis(part[self.which], 2, 1)

    @property
    def residual(self) -> Array:
        """(n, M, N, C), (seen − mean) / scale of each channel."""
        return (self.standardised[:, None] - self.mean) / self.scale

    def since(self, frame: int) -> "Surprise":
        """All but the first `frame` frames."""
        parts = ("maps", "which", "standardised", "seen", "memory")
        return replace(self, **{name: getattr(self, name)[frame:] for name in parts})


class Observer:
    """Feature rows in, surprise out, as a stream; state and averages start afresh after a gap in time.

    The average of the residuals starts where an average over the first `START_SECONDS`, taken backwards, ends: a single
    frame, with all that trembles in it, would pass for unusual. That one stays in its cell: of what is fast, little is
    gathered before it is over. So long the first rows wait for those that follow.

    Args:
        net: in evaluation mode.
        standard: scaling of the camera.
        place: (N, place_size) of the camera, where the network is.
        horizons: numbers of steps ahead, ascending, as the network was trained.
        place_seconds, memory_seconds: time constants of the causal averages of each cell's residuals, from what is
            usual at the place and from what a memory foretold, which soon follows what it did not foretell. They keep
            their sign in it, so that what only trembles averages out, and go along with what moves (`came_from`).
        channels: of the features.
    """

    def __init__(
        self,
        net: VideoRNN,
        standard: Standard,
        place: Tensor,
        horizons: list[int],
        place_seconds: float,
        memory_seconds: float,
        channels: tuple[str, ...] = MODELLED,
    ) -> None:
        self._net, self._standard, self._place = net, standard, place
        self._horizons, self._num_channels = horizons, len(channels)
        self._both_sides = both_sides(len(horizons), channels).ravel()  # (Q,)
        # (Q + 2,) of the questions and, behind them, of the weights of a place's average and of their squares.
        of_questions = [place_seconds] * len(channels) + [memory_seconds] * (len(horizons) * len(channels))
        self._average_seconds = np.array([*of_questions, place_seconds, place_seconds / 2])
        with torch.no_grad():
            width = net.input.out_features
            mean, scale = net.predict(place.new_zeros(len(place), 1, width), place)
        # The prior of every horizon is one and the same question; the first stands for it.
        self._prior = np.stack([part[:, 0, :1].cpu().numpy() for part in (mean, scale)])  # (2, N, 1, C)
        self._last_time: float | None = None
        self._waiting: list[tuple[Array, npt.NDArray[np.float64]]] = []
        self._start()

    def _start(self) -> None:
        self._state: State = self._net.initial_state(len(self._place))
        # The last memories: zeros, which foretell what is usual at a place, until there is one.
        self._memories = self._place.new_zeros(self._horizons[-1], len(self._place), self._net.input.out_features)
        self._moves: Array | None = None  # of the frames of these memories; before the first, nothing moves
        self._level: Array | None = None

    def push(self, cells: Array, times: npt.NDArray[np.float64]) -> Iterator[Surprise]:
        """Take the next n rows, (n, C, rows, columns) features at `times` in seconds; yield stretches without a gap."""
        before = times[0] if self._last_time is None else self._last_time
        steps = np.diff(times, prepend=before)
        self._last_time = float(times[-1])
        starts = [0, *(np.flatnonzero(steps[1:] > MAX_STEP_SECONDS) + 1).tolist(), len(times)]
        for start, stop in itertools.pairwise(starts):
            if steps[start] > MAX_STEP_SECONDS:
                yield from self.flush()
                self._start()
                steps[start] = 0
            self._waiting.append((cells[start:stop], steps[start:stop]))
            waited = np.concatenate([part for _, part in self._waiting]).cumsum()
            if self._level is not None or waited[-1] - waited[0] >= START_SECONDS:
                yield from self.flush()

    def flush(self) -> Iterator[Surprise]:
        """Yield the rows that still wait for those that follow."""
        if self._waiting:
            cells, steps = zip(*self._waiting, strict=True)
            self._waiting = []
            yield self._stretch(np.concatenate(cells), np.concatenate(steps))

    @torch.no_grad()
    def _stretch(self, cells: Array, steps: npt.NDArray[np.float64]) -> Surprise:
        n, channels, rows, columns = cells.shape
        # Channels last in memory: so a convolution reads them fastest, and those of an active cell are found together.
        z = np.ascontiguousarray(self._standard.apply(cells).transpose(0, 2, 3, 1))
        active = active_cells(cells).reshape(n, -1)  # (n, N), of which P in all
        around = torch.from_numpy(z).permute(0, 3, 1, 2).to(self._place.device)
        memory, self._state = self._net.watch(around, self._place, self._state)  # (N, n, H)
        memory = memory.transpose(0, 1)
        moves = moves_of(cells, steps)
        foretold = self._foretold(memory, active, moves)  # (2, P, M, C)
        z = z.reshape(n, -1, channels)
        residual = (z[active][:, None] - foretold[0]) / foretold[1]
        strays = residual.clip(-FARTHEST, FARTHEST, out=residual).reshape(-1, len(self._both_sides))  # (P, Q)
        average = self._causal_average(strays, steps, came_from(moves, active))  # (P, Q)
        maps = np.zeros((*active.shape, average.shape[1]), np.float32)
        maps[active] = np.where(self._both_sides, np.abs(average), np.maximum(average, 0))
        usual = np.repeat(self._prior, foretold.shape[2], 2)  # (2, N, M, C)
        cell = np.arange(active.shape[1])
        which = np.where(active, len(cell) - 1 + active.cumsum().reshape(active.shape), cell)
        return Surprise(
            maps=maps.reshape(n, rows, columns, -1).transpose(0, 3, 1, 2),
            expected=np.concatenate([usual, foretold], 1),
            which=which,
            standardised=z,
            seen=cells.reshape(n, channels, -1).transpose(0, 2, 1),
            memory=memory.cpu().numpy(),
        )

    def _foretold(self, memory: Tensor, active: npt.NDArray[np.bool_], moves: Array) -> Array:
        """Means and scales, (2, P, M, C), of the P active cells of all frames: what is usual there, then the foretold.

        What is there now is asked of the memory of where it was then: a cell's own knows of it only if it came along.

        Args:
            memory: (n, N, H) after each frame.
            active: (n, N).
            moves: (n, rows, columns, 2), from `moves_of`.
        """
        memories = torch.cat([self._memories, memory])  # (farthest horizon + n, N, H)
        farthest = self._horizons[-1]
        self._memories = memories[-farthest:].clone()  # not a view, which would keep the whole stretch in memory
        earlier = np.zeros((farthest, *moves.shape[1:]), np.float32) if self._moves is None else self._moves
        moves = np.concatenate([earlier, moves])
        self._moves = moves[-farthest:].copy()
        moment, cell = active.nonzero()
        usual = self._prior[:, cell]
        found = np.empty((2, len(cell), 1 + len(self._horizons), usual.shape[3]), np.float32)
        found[:, :, :1] = usual
        origins = torch.from_numpy(follow(moves, farthest + moment, cell, self._horizons, back=True)).to(memory.device)
        at = torch.from_numpy(moment).to(memory.device)
        for k, (horizon, origin) in enumerate(zip(self._horizons, origins, strict=True)):
            then = memories[at + (farthest - horizon), origin][:, None]  # (P, 1, H)
            foretold = self._net.predict(then, self._place[origin], slice(k, k + 1))  # (P, 1, 1, C) each
            for part, values in zip(found, foretold, strict=True):
                part[:, k + 1] = values[:, 0, 0].cpu().numpy()
        return found

    def _causal_average(self, strays: Array, steps: npt.NDArray[np.float64], sources: list["Sources"]) -> Array:
        """An exponential average over time, which goes along with what moves; elsewhere nothing strays.

        So it is low of who has just come. From a place, such an average is taken for as much evidence as it has.

        Args:
            strays: (P, Q) of the active cells of all frames.
            steps: (n,) seconds since the frame before.
            sources: of each frame.
        """
        rates = (1 - np.exp(-steps[:, None] / self._average_seconds)).astype(np.float32)  # (n, Q + 2)
        rows = np.cumsum([0, *(len(active) for active, _, _ in sources)]).tolist()
        squares = rates[:, -2] / (2 - rates[:, -2])  # what those of an average's weights add up to in the long run
        squares = np.repeat(squares, np.diff(rows))[:, None]
        strays = np.concatenate([strays, np.ones_like(squares), squares], 1)
        if self._level is None:
            everywhere = np.zeros((len(steps), len(self._place), strays.shape[1]), np.float32)
            for frame, (active, _, _), (start, stop) in zip(everywhere, sources, itertools.pairwise(rows), strict=True):
                frame[active] = strays[start:stop]
            self._level = starting_level(everywhere, steps.cumsum(), self._average_seconds).copy()
            rates[0] = 0
        level = self._level  # (N, Q + 2)
        out = np.empty_like(strays)
        for rate, (active, around, share), (start, stop) in zip(rates, sources, itertools.pairwise(rows), strict=True):
            if rate.any():  # else it starts here, and nothing came from anywhere
                came = np.einsum("aiq,ai->aq", level[around], share)
                level *= 1 - rate
                level[active] = came + rate * (strays[start:stop] - came)
            out[start:stop] = level[active]
        average = out[:, :-2]
        average[:, : self._num_channels] *= _evidence(out[:, -2:-1], out[:, -1:], squares)
        return average


def _evidence(weights: Array, squares: Array, usual_squares: Array) -> Array:
    """By what averages are to be multiplied, to be as much evidence as one that has always gone on: (P, 1).

    An average is divided by its standard deviation. Of values that correlate by r with one another, that is the root of
    (1 − r) Σw² + r (Σw)² times theirs (Kish 1965).

    Args:
        weights, squares: (P, 1) each, what has been seen weighs in the average, up to 1, and the sum of its squares.
        usual_squares: (P, 1), of one that has always gone on; 0 where averages start, which are taken as they are.
    """
    usual = (1 - _ALIKE) * usual_squares + _ALIKE
    now = (1 - _ALIKE) * squares + _ALIKE * weights * weights
    factor: Array = np.sqrt(np.divide(usual, now, out=np.ones_like(now), where=usual_squares > 0))
    return factor


# The (A,) active cells of a frame, the (A, 4) cells around the point that each came from, and their (A, 4) shares.
Sources = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]


def came_from(moves: Array, active: npt.NDArray[np.bool_]) -> list[Sources]:
    """Of every frame, where its active cells were in the frame before, by their own velocity.

    An average that stayed in its cell would forget somebody within the moment that they need to cross it; this one goes
    along with them, as a semi-Lagrangian scheme does with what a wind carries (Staniforth and Côté 1991).

    Args:
        moves: (n, rows, columns, 2), from `moves_of`.
        active: (n, rows · columns).
    """
    n, rows, columns, _ = moves.shape
    frame, at = active.nonzero()
    place = np.stack([at // columns, at % columns], 1)
    origin = np.clip(place - moves[frame, place[:, 0], place[:, 1]], 0, (rows - 1, columns - 1))
    first = np.minimum(origin.astype(np.int64), (max(rows - 2, 0), max(columns - 2, 0)))
    down, right = (origin - first).T
    corner = first[:, 0] * columns + first[:, 1]
    below, beside = (columns if rows > 1 else 0), (1 if columns > 1 else 0)
    around = np.stack([corner, corner + beside, corner + below, corner + below + beside], 1)
    share = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], 1)
    stops = np.searchsorted(frame, np.arange(n + 1)).tolist()
    return [(at[a:b], around[a:b], share[a:b].astype(np.float32)) for a, b in itertools.pairwise(stops)]
