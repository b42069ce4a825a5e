"""A vector for each window of footage, so that moments that look alike to the network lie near one another.

A window is described by what the network remembers where something surprises it, and by which of its expectations are
missed there: means over its cells and frames that weigh by surprise, so that neither says where in the picture that
was. Both are measured against the ordinary windows of the camera. Vectors have length 1: the product of two is their
similarity, across all videos of a camera.
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
_POWER = 3  # of surprise, by which cells and frames weigh
_MEMORY = 0.15  # how much memory counts beside missed expectations; docs/benchmarks.md compares
_LEAST_SPREAD = 0.1  # of the mean spread of a part: what hardly ever varies is not blown up

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Described:
    """What describes n frames or windows.

    Attributes:
        memory: (n, H), weighted sums over the cells.
        missed: (n, 2 · C), likewise, how far expectations of the place and of the last moments are missed.
        weight: (n,), of the sums; 0 where nothing moves.
    """

    memory: Wide
    missed: Wide
    weight: Wide

    def parts(self) -> tuple[Wide, Wide]:
        """The weighted means, memory and missed."""
        weight = np.maximum(self.weight, 1e-12)[:, None]
        return self.memory / weight, self.missed / weight


def describe(memory: Array, maps: Array, scores: Array, num_channels: int) -> Described:
    """Of n frames.

    Args:
        memory: (n, N, H) of each cell.
        maps: (n, Q, rows, columns), the surprise of each question: `num_channels` of a place, then of each memory.
        scores: (n, rows, columns), of each cell, 0 or more.
        num_channels: C.
    """
    n, count = memory.shape[:2]
    weight = np.maximum(scores.reshape(n, count), 0).astype(np.float64) ** _POWER
    asked = np.einsum("nc,nqc->nq", weight, maps.reshape(n, -1, count)).reshape(n, -1, num_channels)
    missed = np.concatenate([asked[:, 0], asked[:, 1:].max(1)], 1)
    return Described(np.einsum("nc,nch->nh", weight, memory), missed, weight.sum(1))


@dataclass(frozen=True)
class Usual:
    """What the ordinary windows of a camera are like: mean and spread of each number of both parts."""

    means: tuple[Wide, Wide]
    spreads: tuple[Wide, Wide]

    @classmethod
    def measure(cls, windows: Sequence[Described]) -> "Usual":
        """From those in which something moves; (V,) windows a stretch of footage."""
        parts = [part[described.weight > 0] for described in windows for part in described.parts()]
        gathered = [np.concatenate(parts[k::2]) for k in range(2)]
        if not len(gathered[0]):  # nothing ever moves: as it is measured
            gathered = [np.stack([-np.ones(part.shape[1]), np.ones(part.shape[1])]) for part in gathered]
        spreads = [part.std(0) for part in gathered]
        widened = [spread + max(_LEAST_SPREAD * float(spread.mean()), 1e-6) for spread in spreads]
        means = [part.mean(0) for part in gathered]
        return cls((means[0], means[1]), (widened[0], widened[1]))

    def vectors(self, described: Described) -> Array:
        """(n, EMBEDDING_SIZE) of length 1. Where nothing moves it is the last axis, which nothing else touches."""
        if not len(described.weight):
            return np.empty((0, EMBEDDING_SIZE), np.float32)
        sides = []
        for part, mean, spread in zip(described.parts(), self.means, self.spreads, strict=True):
            departure = (part - mean) / spread
            sides.append(departure / np.maximum(np.linalg.norm(departure, axis=1, keepdims=True), 1e-12))
        whole = np.concatenate([_MEMORY * sides[0], sides[1]], 1)
        if whole.shape[1] >= EMBEDDING_SIZE:
            whole = whole @ _folding(whole.shape[1])
        whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
        vectors = np.zeros((len(whole), EMBEDDING_SIZE), np.float32)
        vectors[:, : whole.shape[1]] = whole
        still = described.weight <= 0
        vectors[still] = 0
        vectors[still, -1] = 1
        return vectors

    def to_json(self) -> dict[str, Any]:
        """For the card of a model."""
        return {
            name: {"mean": _told(mean), "spread": _told(spread)}
            for name, mean, spread in zip(("memory", "missed"), self.means, self.spreads, strict=True)
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Usual":
        """From `to_json`."""
        (a, b), (c, d) = ([_read(value[name][of]) for name in ("memory", "missed")] for of in ("mean", "spread"))
        return cls((a, b), (c, d))


def _told(values: Wide) -> str:
    """A line of the card, where a list would be one for each number."""
    return " ".join(f"{value:g}" for value in values.tolist())


def _read(text: str) -> Wide:
    return np.array(text.split(), np.float64)


@lru_cache(maxsize=4)
def _folding(size: int) -> Wide:
    """A fixed random projection, which all but keeps the similarity of long descriptions."""
    return np.random.default_rng(0).normal(0, 1, (size, EMBEDDING_SIZE - 1))


class Pool:
    """Frames in, windows out: sums over `HOP_SECONDS`, of which neighbours make a window; nothing else is kept."""

    def __init__(self) -> None:
        self._slots: list[int] = []  # the number of each hop that has frames
        self._counts: list[int] = []  # of its frames
        self._sums: list[tuple[Wide, Wide, Wide]] = []

    def push(self, times: Seconds, described: Described) -> None:
        """Take n frames, at `times` in ascending seconds."""
        slots = np.floor(times / HOP_SECONDS + 1e-6).astype(int)
        columns = (described.memory, described.missed, described.weight)
        for slot in np.unique(slots).tolist():
            here = slots == slot
            sums = tuple(column[here].sum(0) for column in columns)
            if self._slots and self._slots[-1] == slot:
                self._counts[-1] += int(here.sum())
                self._sums[-1] = tuple(a + b for a, b in zip(self._sums[-1], sums, strict=True))
            else:
                self._slots.append(slot)
                self._counts.append(int(here.sum()))
                self._sums.append(sums)

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
            return np.empty((0, 2), np.int64), Described(np.empty((0, 0)), np.empty((0, 0)), np.empty(0))
        memory, missed, weight = (np.stack(column) for column in zip(*found, strict=True))
        return np.array(frames, np.int64), Described(memory, missed, weight)


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
