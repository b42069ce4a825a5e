"""Surprises to scores with a meaning: how often ordinary footage, not seen by fitting, shows as much.

Each question is measured by how far its highest cell strays in ordinary frames. A cell's score is the mean of its
surprises in these units, so that evidence from several questions about one place adds up; a frame's score is the mean
of its highest cells. The rate of false alarms at a threshold follows from the merged peaks of held-out footage: counted
where they lie, foretold beyond the highest.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidrnn.events import find_spans

Array = npt.NDArray[np.float32]
_BASE_QUANTILE = 0.8  # of ordinary scores; peaks above it carry the tail
_HIGHEST_CELLS = 4  # that anything in the picture covers at least: the windows of neighbouring cells overlap
_LEAST_WIDTH = 1.0  # of a question that hardly moved: below it only something gross counts


@dataclass(frozen=True)
class Questions:
    """How far the highest cell of each question strays over ordinary frames, in the order of `surprise.questions`."""

    width: list[float]

    @classmethod
    def measure(cls, highest: Array) -> "Questions":
        """From (frames, Q), the highest cell of each question in each ordinary frame: 95th percentile less median."""
        if not len(highest):
            return cls([_LEAST_WIDTH] * highest.shape[1])
        middle, high = np.quantile(highest.astype(np.float64), [0.5, 0.95], axis=0)
        return cls(np.maximum(high - middle, _LEAST_WIDTH).tolist())

    def score(self, maps: Array) -> Array:
        """(n, Q, rows, columns) surprises to (n, rows, columns) scores, 0 where nothing is active."""
        weights = np.asarray(1 / np.asarray(self.width) / len(self.width), np.float32)
        score: Array = np.einsum("nqrc,q->nrc", maps, weights)
        return score

    def score_frames(self, cells: Array) -> Array:
        """(n, rows, columns) scores of cells to (n,) of frames: the mean of the highest, since windows overlap."""
        flat = cells.reshape(len(cells), -1)
        count = min(_HIGHEST_CELLS, flat.shape[1])
        score: Array = np.partition(flat, -count, axis=1)[:, -count:].mean(1)
        return score

    def leading(self, surprises: Array) -> int:
        """Which question adds most to a cell's score; (Q,) surprises of it."""
        return int(np.argmax(surprises / np.asarray(self.width)))


@dataclass(frozen=True)
class Tail:
    """Merged peaks of ordinary footage above `base`: `count` of them in `hours`, on average `excess` above it."""

    base: float
    count: int
    excess: float
    hours: float

    @classmethod
    def measure(cls, series: Sequence[tuple[Array, npt.NDArray[np.float64]]], merge_seconds: float) -> "Tail":
        """From the (T,) scores and (T,) seconds of each held-out block."""
        base = float(np.quantile(np.concatenate([scores for scores, _ in series]), _BASE_QUANTILE))
        peaks = [peak for scores, times in series for peak in merged_peaks(scores, times, base, merge_seconds)]
        hours = max(sum(seconds_of(times) for _, times in series), 1.0) / 3600  # a frame alone has no length
        excess = float(np.mean(peaks)) - base if peaks else 0.0
        return cls(base, len(peaks), max(excess, 1e-3), hours)

    def per_hour(self, score: float) -> float:
        """False alarms an hour expected at a threshold of `score`; at least what lies above the base, below it.

        Excesses over a high level are about exponential (Pickands 1975), and scores of ordinary footage, which are
        bounded, fall off faster than that rather than slower.
        """
        if not self.count:
            return 0.0
        return self.count / self.hours * math.exp(-max(score - self.base, 0.0) / self.excess)

    def threshold(self, per_hour: float) -> float:
        """The score at which `per_hour` false alarms an hour are expected; at least the base."""
        if not self.count:
            return self.base
        return self.base + self.excess * math.log(max(self.count / self.hours / per_hour, 1.0))


@dataclass(frozen=True)
class Calibration:
    """All that turns the surprises of one camera into scores and rarities."""

    questions: Questions
    tail: Tail

    def to_json(self) -> dict[str, Any]:
        """Plain values for the card of a model."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Calibration":
        """What `to_json` gave."""
        return cls(Questions(**value["questions"]), Tail(**value["tail"]))


@dataclass(frozen=True)
class HeldOut:
    """A block of ordinary footage that fitting did not see, judged by a tail measured on the other such blocks alone.

    Attributes:
        hours: of it.
        peaks: its merged peaks above the base of `tail`.
        tail: of the others.
    """

    hours: float
    peaks: list[float]
    tail: Tail

    def alarms(self, per_hour: float) -> int:
        """How many alarms a threshold that promises `per_hour` would have raised on it."""
        threshold = self.tail.threshold(per_hour)
        return sum(peak > threshold for peak in self.peaks)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "HeldOut":
        """What `dataclasses.asdict` gave."""
        return cls(value["hours"], value["peaks"], Tail(**value["tail"]))


def merged_peaks(scores: Array, times: npt.NDArray[np.float64], base: float, merge_seconds: float) -> list[float]:
    """The highest score of each run above `base`, runs nearer than `merge_seconds` being one."""
    return [float(scores[span.peak]) for span in find_spans(scores, scores > base, times, merge_seconds)]


def seconds_of(times: npt.NDArray[np.float64]) -> float:
    """How long the frames at `times` last, the last one as long as the median."""
    if len(times) < 2:
        return 0.0
    return float(times[-1] - times[0] + np.median(np.diff(times)))
