"""How far the world departs from what the network expected: per cell, per channel, per length of memory.

A *question* is a channel asked at one length of memory: "is this speed usual here?" (the prior), "did the last second
lead one to expect this size?" (a horizon). Each has a map of causal surprises; `calibration.py` makes them comparable.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidrnn.events import START_SECONDS, starting_level
from vidrnn.features import MAX_STEP_SECONDS
from vidrnn.model import State, VideoRNN
from vidrnn.windows import ALONE, MODELLED, Standard, active_cells

Array = npt.NDArray[np.float32]

FARTHEST = 10.0  # scales from what was expected: what lies farther off counts as this far
_SIGNED = ("velocity_x", "velocity_y")
_VELOCITY = [MODELLED.index("person_velocity_y"), MODELLED.index("person_velocity_x")]


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


@dataclass(frozen=True)
class Surprise:
    """A stretch of n analysed frames; M = 1 + horizons memories, C channels, Q = M · C questions, N cells.

    Attributes:
        maps: (n, Q, rows, columns), the surprise of each question: 0 or more, 0 while nothing is active.
        residual: (n, M, N, C), (seen − mean) / scale of each channel.
        mean, scale: (n, M, N, C), what was expected, in standardised units: of a cell where nothing is active what is
            usual there, whatever the memory.
        seen: (n, N, C), in the features' own units.
        memory: (n, N, H), what the network knows after each frame.
    """

    maps: Array
    residual: Array
    mean: Array
    scale: Array
    seen: Array
    memory: Array


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
        average_seconds: time constant of the causal average of each cell's residuals, which keep their sign in it, so
            that what only trembles averages out. It goes along with what moves (`came_from`).
        channels: of the features.
    """

    def __init__(
        self,
        net: VideoRNN,
        standard: Standard,
        place: Tensor,
        horizons: list[int],
        average_seconds: float,
        channels: tuple[str, ...] = MODELLED,
    ) -> None:
        self._net, self._standard, self._place = net, standard, place
        self._horizons, self._average_seconds = horizons, average_seconds
        self._both_sides = both_sides(len(horizons), channels)[..., None]  # (M, C, 1)
        with torch.no_grad():
            width = net.input.out_features
            mean, scale = net.predict(place.new_zeros(len(place), 1, width), place)
        # The prior of every horizon is one and the same question; the first stands for it.
        self._prior = np.stack([part[:, 0, 0].cpu().numpy() for part in (mean, scale)])  # (2, N, C)
        self._last_time: float | None = None
        self._waiting: list[tuple[Array, npt.NDArray[np.float64]]] = []
        self._start()

    def _start(self) -> None:
        self._state: State = self._net.initial_state(len(self._place))
        # The last memories: zeros, which foretell what is usual at a place, until there is one.
        self._memories = self._place.new_zeros(len(self._place), self._horizons[-1], self._net.input.out_features)
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
        n, _, rows, columns = cells.shape
        z = torch.from_numpy(self._standard.apply(cells))
        active = active_cells(cells).reshape(n, -1)  # (n, N)
        memory, self._state = self._net.watch(z.to(self._place.device), self._place, self._state)  # (N, n, H)
        mean, scale = self._expected(memory, active)  # (n, M, N, C) each
        seen = z.flatten(2).permute(0, 2, 1).contiguous().numpy()  # (n, N, C)
        residual = (seen[:, None] - mean) / scale
        strays = np.ascontiguousarray(residual.transpose(0, 1, 3, 2))
        np.clip(strays, -FARTHEST, FARTHEST, out=strays)
        strays *= active[:, None, None]
        average = self._causal_average(strays, steps, came_from(cells, steps, active))  # (n, M, C, N)
        maps = np.where(self._both_sides, np.abs(average), np.maximum(average, 0))
        maps *= active[:, None, None]
        maps = maps.reshape(n, -1, rows, columns)
        measured = cells.reshape(n, cells.shape[1], -1).transpose(0, 2, 1)
        return Surprise(maps, residual, mean, scale, measured, memory.permute(1, 0, 2).cpu().numpy())

    def _expected(self, memory: Tensor, active: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        """Mean and scale, (n, M, N, C) each: what is usual, and where a cell is active what its memories foretold."""
        memories = torch.cat([self._memories, memory], 1)  # (N, farthest horizon + n, H)
        farthest = self._horizons[-1]
        self._memories = memories[:, -farthest:].clone()  # not a view, which would keep the whole stretch in memory
        shape = len(active), 1 + len(self._horizons), *self._prior.shape[1:]
        mean, scale = np.empty((2, *shape), np.float32)
        mean[:], scale[:] = self._prior[:, None]
        at, cell = active.nonzero()
        of, moment = (torch.from_numpy(part).to(memory.device) for part in (cell, at))
        for k, horizon in enumerate(self._horizons):
            then = memories[of, moment + (farthest - horizon)][:, None]  # (P, 1, H) of P active cells and moments
            foretold = self._net.predict(then, self._place[of], slice(k, k + 1))  # (P, 1, 1, C) each
            mean[at, k + 1, cell], scale[at, k + 1, cell] = (part[:, 0, 0].cpu().numpy() for part in foretold)
        return mean, scale

    def _causal_average(self, strays: Array, steps: npt.NDArray[np.float64], sources: list["Sources"]) -> Array:
        """An exponential average over time, `steps` seconds apart, which goes along with what moves."""
        rates = (1 - np.exp(-steps / self._average_seconds)).astype(np.float32)
        level = self._level
        if level is None:
            level = starting_level(strays, steps.cumsum(), self._average_seconds)
            rates[0] = 0
        out = np.empty_like(strays)
        for t, (current, rate, (active, around, share)) in enumerate(zip(strays, rates, sources, strict=True)):
            if rate:  # else it starts here, and nothing came from anywhere
                level = level.copy()
                level[..., active] = (level[..., around] * share).sum(-1)
            level = level + rate * (current - level)
            out[t] = level
        self._level = level.copy()
        return out


# The (A,) active cells of a frame, the (A, 4) cells around the point that each came from, and their (A, 4) shares.
Sources = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]


def came_from(cells: Array, steps: npt.NDArray[np.float64], active: npt.NDArray[np.bool_]) -> list[Sources]:
    """Of every frame, where its active cells were in the frame before, by their own velocity.

    An average that stayed in its cell would forget somebody within the moment that they need to cross it; this one goes
    along with them, as a semi-Lagrangian scheme does with what a wind carries (Staniforth and Côté 1991).

    Args:
        cells: (n, C, rows, columns) features.
        steps: (n,) seconds since the frame before.
        active: (n, rows · columns).
    """
    n, _, rows, columns = cells.shape
    frame, at = active.nonzero()
    place = np.stack([at // columns, at % columns], 1)
    moved = np.zeros((len(at), 2))
    if (rows, columns) != ALONE:
        speeds = cells[frame[:, None], _VELOCITY, place[:, :1], place[:, 1:]]  # (A, 2) picture heights per second
        moved = speeds * (rows * steps[frame])[:, None]
    origin = np.clip(place - moved, 0, (rows - 1, columns - 1))
    first = np.minimum(origin.astype(np.int64), (max(rows - 2, 0), max(columns - 2, 0)))
    down, right = (origin - first).T
    corner = first[:, 0] * columns + first[:, 1]
    below, beside = (columns if rows > 1 else 0), (1 if columns > 1 else 0)
    around = np.stack([corner, corner + beside, corner + below, corner + below + beside], 1)
    share = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], 1)
    stops = np.searchsorted(frame, np.arange(n + 1)).tolist()
    return [(at[a:b], around[a:b], share[a:b].astype(np.float32)) for a, b in itertools.pairwise(stops)]
