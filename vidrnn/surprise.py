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

from vidrnn.features import MAX_STEP_SECONDS
from vidrnn.model import State, VideoRNN
from vidrnn.windows import MODELLED, Standard, active_cells

Array = npt.NDArray[np.float32]

FARTHEST = 10.0  # scales from what was expected: what lies farther off counts as this far
_SIGNED = ("velocity_x", "velocity_y")


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
        mean, scale: (n, M, N, C), what was expected, in standardised units.
        seen: (n, N, C), in the features' own units.
    """

    maps: Array
    residual: Array
    mean: Array
    scale: Array
    seen: Array


class Observer:
    """Feature rows in, surprise out, as a stream; state and averages start afresh after a gap in time.

    Args:
        net: in evaluation mode.
        standard: scaling of the camera.
        place: (N, place_size) of the camera.
        horizons: numbers of steps ahead, ascending, as the network was trained.
        average_seconds: time constant of the causal average of each cell's residuals, which keep their sign in it, so
            that what only trembles averages out.
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
            mean, scale = net.predict(torch.zeros(len(place), 1, width), place)
        # The prior of every horizon is one and the same question; the first stands for it.
        self._prior = np.stack([mean[:, 0, 0].numpy(), scale[:, 0, 0].numpy()])  # (2, N, C)
        self._last_time: float | None = None
        self._start()

    def _start(self) -> None:
        self._state: State = self._net.initial_state(len(self._place))
        # What was foretold for the steps to come, (2, h, N, C) a horizon: the prior until there is a memory.
        self._foretold = [np.repeat(self._prior[:, None], h, axis=1) for h in self._horizons]
        self._level: Array | None = None

    def push(self, cells: Array, times: npt.NDArray[np.float64]) -> Iterator[Surprise]:
        """Take the next n rows, (n, C, rows, columns) features at `times` in seconds; yield stretches without a gap."""
        before = times[0] if self._last_time is None else self._last_time
        steps = np.diff(times, prepend=before)
        self._last_time = float(times[-1])
        starts = [0, *(np.flatnonzero(steps[1:] > MAX_STEP_SECONDS) + 1).tolist(), len(times)]
        for start, stop in itertools.pairwise(starts):
            if steps[start] > MAX_STEP_SECONDS:
                self._start()
            yield self._stretch(cells[start:stop], steps[start:stop])

    @torch.no_grad()
    def _stretch(self, cells: Array, steps: npt.NDArray[np.float64]) -> Surprise:
        n, _, rows, columns = cells.shape
        z = torch.from_numpy(self._standard.apply(cells))
        memory, self._state = self._net.watch(z, self._place, self._state)  # (N, n, H)
        mean, scale = self._net.predict(memory, self._place)  # (N, n, K, C) each
        told = torch.stack([mean, scale]).permute(3, 0, 2, 1, 4).numpy()  # (K, 2, n, N, C)
        expected, spread = np.empty((2, n, 1 + len(self._horizons), *self._prior.shape[1:]), np.float32)  # (n, M, N, C)
        expected[:, 0], spread[:, 0] = self._prior
        for k, foretold in enumerate(self._foretold):
            all_told = np.concatenate([foretold, told[k]], axis=1)  # (2, h + n, N, C)
            expected[:, k + 1], spread[:, k + 1] = all_told[:, :n]
            self._foretold[k] = all_told[:, n:].copy()  # not a view, which would keep the whole stretch in memory
        seen = z.flatten(2).permute(0, 2, 1).contiguous().numpy()  # (n, N, C)
        residual = (seen[:, None] - expected) / spread
        active = active_cells(cells).reshape(n, 1, -1, 1)
        strays = np.where(active, np.clip(residual, -FARTHEST, FARTHEST), 0)
        average = self._causal_average(strays.transpose(0, 1, 3, 2), steps)  # (n, M, C, N)
        one_side = np.where(self._both_sides, np.abs(average), np.maximum(average, 0))
        maps = np.where(active.transpose(0, 1, 3, 2), one_side, 0).reshape(n, -1, rows, columns)
        measured = cells.reshape(n, cells.shape[1], -1).transpose(0, 2, 1)
        return Surprise(maps, residual, expected, spread, measured)

    def _causal_average(self, maps: Array, steps: npt.NDArray[np.float64]) -> Array:
        """An exponential average over time, `steps` seconds apart, that starts at the first map."""
        out = np.empty_like(maps)
        for t, current in enumerate(maps):
            if self._level is None:
                self._level = current
            else:
                rate = np.float32(1 - np.exp(-steps[t] / self._average_seconds))
                self._level = self._level + rate * (current - self._level)
            out[t] = self._level
        return out
