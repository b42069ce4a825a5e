"""A vector for each window of footage, so that moments that look alike to the network lie near one another.

A window is described by what the network remembers where something surprises it, and by how much each question is
surprised there: means over its cells and frames that weigh by the score, so that neither says where in the picture that
was. Both are measured against the ordinary windows of the camera, in which no direction then varies more than another.
Vectors have length 1: the product of two is their similarity, across all videos of a camera.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from vidrnn.schema import EMBEDDING_SIZE

WINDOW_SECONDS = 2.0
HOP_SECONDS = 1.0  # a window begins every so often
_HOPS = round(WINDOW_SECONDS / HOP_SECONDS)
_POWER = 3  # of the score, by which cells and frames weigh
_LEAST_SPREAD = 0.1  # of the mean spread: what hardly ever varies is not blown up
_FARTHEST = 10.0  # spreads from the mean: what lies farther off counts as this far
_EVEN = 0.3  # times the mean variance is added to that of every direction: a few windows tell it roughly

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Described:
    """What describes n frames or windows.

    Attributes:
        sums: (n, H + Q), over the cells: what is remembered, and how much each question is surprised.
        weight: (n,), of the sums; 0 where nothing moves.
    """

    sums: Wide
    weight: Wide

    @property
    def means(self) -> Wide:
        """(n, H + Q)."""
        return self.sums / np.maximum(self.weight, 1e-12)[:, None]


def describe(memory: Array, maps: Array, scores: Array) -> Described:
    """Of n frames.

    Args:
        memory: (n, N, H) of each cell.
        maps: (n, Q, rows, columns), the surprise of each question.
        scores: (n, rows, columns), of each cell, 0 or more.
    """
    n, count = memory.shape[:2]
    weight = np.maximum(scores.reshape(n, count), 0).astype(np.float64) ** _POWER
    remembered = np.einsum("nc,nch->nh", weight, memory)
    surprised = np.einsum("nc,nqc->nq", weight, maps.reshape(n, -1, count))
    return Described(np.concatenate([remembered, surprised], 1), weight.sum(1))


@dataclass(frozen=True)
class Usual:
    """What the ordinary windows of a camera are like.

    Attributes:
        mean, spread: (D,), of each number that describes them.
        evening: (K, K), lower triangular: makes all directions of them vary alike; K is D, or what longer descriptions
            are folded to.
    """

    mean: Wide
    spread: Wide
    evening: Wide

    @classmethod
    def measure(cls, windows: Sequence[Described]) -> "Usual":
        """From those in which something moves; some windows a stretch of footage, and a stretch at least."""
        gathered = np.concatenate([described.means[described.weight > 0] for described in windows])
        if not len(gathered):  # nothing ever moves: as it is measured
            size = gathered.shape[1]
            return cls(np.zeros(size), np.ones(size), np.eye(min(size, EMBEDDING_SIZE - 1)))
        spread = gathered.std(0)
        spread += max(_LEAST_SPREAD * float(spread.mean()), 1e-6)
        departures = _departures(gathered, gathered.mean(0), spread)
        variance = np.einsum("ni,nj->ij", departures, departures) / len(departures)
        variance += max(_EVEN * float(np.trace(variance)) / len(variance), 1e-6) * np.eye(len(variance))
        return cls(gathered.mean(0), spread, np.linalg.inv(np.linalg.cholesky(variance)))

    def vectors(self, described: Described) -> Array:
        """(n, EMBEDDING_SIZE) of length 1. Where nothing moves it is the last axis, which nothing else touches."""
        if not len(described.weight):
            return np.empty((0, EMBEDDING_SIZE), np.float32)
        # Sums by einsum, whose bits do not depend on how many cores there are.
        even = np.einsum("nk,jk->nj", _departures(described.means, self.mean, self.spread), self.evening)
        even /= np.maximum(np.linalg.norm(even, axis=1, keepdims=True), 1e-12)
        vectors = np.zeros((len(even), EMBEDDING_SIZE), np.float32)
        vectors[:, : even.shape[1]] = even
        still = ~vectors.any(1) | (described.weight <= 0)
        vectors[still] = 0
        vectors[still, -1] = 1
        return vectors

    def to_json(self) -> dict[str, Any]:
        """For the card of a model."""
        below = np.tril_indices(len(self.evening))
        return {"mean": _told(self.mean), "spread": _told(self.spread), "evening": _told(self.evening[below])}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Usual":
        """From `to_json`."""
        mean, spread, below = (np.array(value[name].split(), np.float64) for name in ("mean", "spread", "evening"))
        size = min(len(mean), EMBEDDING_SIZE - 1)
        evening = np.zeros((size, size))
        evening[np.tril_indices(size)] = below
        return cls(mean, spread, evening)


def _told(values: Wide) -> str:
    """A line of the card, where a list would be one for each number."""
    return " ".join(f"{value:.6g}" for value in values.tolist())


def _departures(means: Wide, mean: Wide, spread: Wide) -> Wide:
    """(n, K): how many spreads off, folded where that is long."""
    off = np.clip((means - mean) / spread, -_FARTHEST, _FARTHEST)
    return off if off.shape[1] < EMBEDDING_SIZE else np.einsum("nd,dk->nk", off, _folding(off.shape[1]))


@lru_cache(maxsize=4)
def _folding(size: int) -> Wide:
    """A fixed random projection, which all but keeps the similarity of long descriptions."""
    return np.random.default_rng(0).normal(0, 1, (size, EMBEDDING_SIZE - 1))


class Pool:
    """Frames in, windows out: sums over `HOP_SECONDS`, of which neighbours make a window; nothing else is kept."""

    def __init__(self) -> None:
        self._slots: list[int] = []  # the number of each hop that has frames
        self._counts: list[int] = []  # of its frames
        self._sums: list[tuple[Wide, Wide]] = []

    def push(self, times: Seconds, described: Described) -> None:
        """Take n frames, at `times` in ascending seconds."""
        slots = np.floor(times / HOP_SECONDS + 1e-6).astype(int)
        for slot in np.unique(slots).tolist():
            here = slots == slot
            sums, weight = described.sums[here].sum(0), described.weight[here].sum()
            if self._slots and self._slots[-1] == slot:
                self._counts[-1] += int(here.sum())
                self._sums[-1] = self._sums[-1][0] + sums, self._sums[-1][1] + weight
            else:
                self._slots.append(slot)
                self._counts.append(int(here.sum()))
                self._sums.append((sums, weight))

    def windows(self) -> tuple[npt.NDArray[np.int64], Described]:
        """Once every frame has been pushed: (V, 2) frames [first, stop) of each window, and what describes it."""
        starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(int).tolist()
        frames: list[tuple[int, int]] = []
        found = []
        for k, slot in enumerate(self._slots):
            end = k + 1
            while end < len(self._slots) and self._slots[end] < slot + _HOPS:
                end += 1
            if frames and frames[-1][1] == starts[end]:  # the end of the window before, and no more
                continue
            frames.append((starts[k], starts[end]))
            found.append([np.sum(column, axis=0) for column in zip(*self._sums[k:end], strict=True)])
        if not found:
            return np.empty((0, 2), np.int64), Described(np.empty((0, 0)), np.empty(0))
        sums, weight = (np.stack(column) for column in zip(*found, strict=True))
        return np.array(frames, np.int64), Described(sums, weight)


def windows_in(starts: Seconds, ends: Seconds, onset: float, offset: float) -> npt.NDArray[np.int64]:
    """Which windows show an interval: all that share half a window with it, or else what any can share with it most."""
    shared = np.minimum(ends, offset) - np.maximum(starts, onset)
    return np.flatnonzero(shared >= min(WINDOW_SECONDS / 2, float(shared.max())))


def mean_vector(vectors: Array) -> Array:
    """Of (n, EMBEDDING_SIZE), the direction that they have in common, of length 1."""
    total = vectors.sum(0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)


def most_similar(query: Array, batches: Iterable[tuple[int, Array]], limit: int) -> list[tuple[int, float]]:
    """(row, similarity) of the vectors nearest to a query, best first, by exact products; ties by row.

    Args:
        query: (EMBEDDING_SIZE,) of length 1.
        batches: (number of the first row, (n, EMBEDDING_SIZE)).
        limit: how many.
    """
    best: list[tuple[int, float]] = []
    for first, vectors in batches:
        alike = vectors @ query
        least = np.partition(alike, -limit)[-limit] if limit < len(alike) else -np.inf
        best += [(first + row, float(alike[row])) for row in np.flatnonzero(alike >= least).tolist()]
        best = sorted(best, key=lambda found: (-found[1], found[0]))[:limit]
    return best
