"""Surprises to scores with a meaning: how often ordinary footage, not seen by fitting, shows as much.

A question strays more at some places than at others: where things enter the picture no memory foretells them. So each
surprise is first measured by how far its question strays around there, then by how far its highest cell strays in
ordinary frames: in nats, so that a frame in which it reaches 5 is one in e⁵. A cell's score is the cubic mean over the
questions, so that what a few of them find very unusual counts and what many find somewhat unusual adds up, and then
the mean over the cells that a person at its centre would fill. A frame's score is that of its highest cell. The rate of
false alarms at a threshold follows from the merged peaks of held-out footage: counted where there are many, foretold
beyond. Frames in which nothing is active tell of none of this, so that a place that is empty for most of the day is
measured as one that never is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vidrnn.events import find_spans

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Series = tuple[Array, npt.NDArray[np.float64]]
"""Scores and seconds of the frames of an unbroken stretch that can raise an alarm."""
_BASE_QUANTILE = 0.6  # of ordinary scores; peaks above it carry the tail: few minutes have few that are higher
_COUNTED = 100  # peaks above a level, from which on they are counted there, and the tail begins higher: a tenth off
_NOTHING = 0.01  # of a smoothed score: what is left of the last thing that moved
_MOMENT = 6  # of surprises, that tells how far they stray: a high one, since what strays far is what matters
_AROUND = 1.5  # cells, standard deviation of the neighbourhood that tells of a place
_SHARED = 300.0  # sightings; a place with fewer is thought to be more like all others
_HIGH_QUANTILE = 0.9  # of a question's highest cell in ordinary frames; beyond it its tail is taken as exponential
_LEAST_BASE, _LEAST_EXCESS = 0.2, 0.04  # of a question that hardly moved: below it only something gross counts
_DOUBTED = 75.0  # frames above a base; a question with fewer is thought to exceed it more as others exceed theirs
_FILLED = (5, 3)  # rows and columns of cells whose person-sized windows lie for the most part on one person
_DIGITS = 4  # of what is kept in a model's card


def widths(stretches: Iterable[Array]) -> Array:
    """How far each question strays at each place, over how far it does so anywhere: (Q, rows, columns), about 1.

    The root of a high moment over the sightings around a place and, as so many more, over those of all places.

    Args:
        stretches: (n, Q, rows, columns) surprises of ordinary footage each.
    """
    from scipy.ndimage import gaussian_filter  # here and below, not above: who only reads a card need not wait for it

    count: npt.NDArray[np.float64] | float = 0.0
    total: npt.NDArray[np.float64] | float = 0.0
    for maps in stretches:
        count = count + (maps > 0).any(1).sum(0)
        total = total + (maps.astype(np.float64) ** _MOMENT).sum(0)
    sightings, strayed = np.asarray(count, np.float64), np.asarray(total)
    anywhere = strayed.sum((1, 2), keepdims=True) / max(float(sightings.sum()), 1.0)  # (Q, 1, 1)
    around = gaussian_filter(strayed, (0, _AROUND, _AROUND)) + _SHARED * anywhere
    here = around / (gaussian_filter(sightings, _AROUND) + _SHARED)
    relative = np.divide(here, anywhere, out=np.ones_like(here), where=anywhere > 0)
    width: Array = (relative ** (1 / _MOMENT)).round(_DIGITS).astype(np.float32)
    return width


@dataclass(frozen=True)
class Questions:
    """How far each question strays in ordinary footage, in the order of `surprise.questions`.

    Attributes:
        width: (Q, rows, columns), from `widths`.
        base, excess: (Q,), of the highest cell of each question, over its width: a high quantile over ordinary frames
            in which something is active, and by how much those above it exceed it on average.
        share: (Q,) of each in a cell's score, 1 in all.
    """

    width: Array
    base: Array
    excess: Array
    share: Array

    @classmethod
    def measure(cls, share: Array, width: Array, stretches: Iterable[Array]) -> "Questions":
        """From `widths` and the same stretches.

        Few frames tell little of how much a base is exceeded, and a question that happened to stay close to its own
        would outweigh all others. So an excess is drawn towards that of the median question, in shares of their bases.
        """
        highest = np.concatenate([(maps / width).max((2, 3)) for maps in stretches])  # (frames, Q)
        highest = highest[(highest > 0).any(1)]
        # One question after the other: of a sequence of thousands of values, the float64 of all would fill the memory.
        tails = np.array([_tail_of(values.astype(np.float64)) for values in highest.T])
        base, own = np.maximum(tails, (_LEAST_BASE, 0)).T
        frames = (1 - _HIGH_QUANTILE) * len(highest)
        excess = (frames * own + _DOUBTED * base * np.median(own / base)) / (frames + _DOUBTED)
        base, excess = (part.round(_DIGITS).astype(np.float32) for part in (base, np.maximum(excess, _LEAST_EXCESS)))
        return cls(width, base, excess, share)

    def admitting(self, stretches: Iterable[Array]) -> "Questions":
        """The same, wider at the places of footage that somebody called normal, so that there it is ordinary.

        Where a question was surprised, at the cells around that and for that question alone, as much of it is as rare
        as what half of the ordinary frames reach: many questions are surprised together, and must not add up to an
        alarm. What goes further, lies elsewhere or is asked otherwise counts as before.
        """
        from scipy.ndimage import maximum_filter

        highest = np.max([maps.max(0, initial=0) for maps in stretches], axis=0, initial=0)  # (Q, rows, columns)
        half = math.log(0.5) / math.log(1 - _HIGH_QUANTILE)  # of the base, up to which rarity goes with the surprise
        needed = maximum_filter(highest, (0, 3, 3)) / (half * self.base[:, None, None])
        return replace(self, width=np.maximum(self.width, needed).round(_DIGITS).astype(np.float32))

    def rarities(self, maps: Array) -> Array:
        """(n, Q, rows, columns) surprises in nats: −ln of the share of ordinary frames whose highest cell shows more.

        Up to the base it goes with the surprise, beyond it as the logarithm of an exponential tail (Pickands 1975).
        """
        return self._rarities(maps / self.width, self.base[:, None, None], self.excess[:, None, None])

    @staticmethod
    def _rarities(stray: Array, base: Array, excess: Array) -> Array:
        at_base = np.float32(-math.log(1 - _HIGH_QUANTILE))
        rarity: Array = np.where(stray > base, at_base + (stray - base) / excess, at_base / base * stray)
        return rarity

    def score(self, maps: Array) -> Array:
        """(n, Q, rows, columns) surprises to (n, rows, columns) scores, 0 where nothing is active."""
        from scipy.ndimage import uniform_filter

        active = maps.sum(1) > 0  # (n, rows, columns); elsewhere, which is most of it, there is nothing to find out
        _, row, column = active.nonzero()
        surprises = maps.transpose(0, 2, 3, 1)[active]  # (P, Q)
        rarity = self._rarities(surprises / self.width[:, row, column].T, self.base, self.excess)
        cells = np.zeros(active.shape, np.float32)
        cells[active] = np.cbrt((rarity * rarity * rarity * self.share).sum(1))
        filled = [min(filled, side) for filled, side in zip(_FILLED, cells.shape[1:], strict=True)]
        score: Array = uniform_filter(cells, (0, *filled), mode="constant") * active
        return score

    def leading(self, surprises: Array, row: Ints, column: Ints) -> Ints:
        """Which question is the rarest at each of n cells, of which these are the (n, Q) surprises: (n,)."""
        rarities = self._rarities(surprises / self.width[:, row, column].T, self.base, self.excess)
        leading: Ints = rarities.argmax(1)
        return leading


def _tail_of(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """A high quantile of (frames,) values, and by how much those above it exceed it on average."""
    if not len(values):
        return 0.0, 0.0
    base = float(np.quantile(values, _HIGH_QUANTILE))
    above = values[values > base]
    return base, float(above.mean()) - base if len(above) else 0.0


@dataclass(frozen=True)
class Tail:
    """How many merged peaks ordinary footage shows above a score.

    Attributes:
        base: the highest level that they were counted at; beyond it they fall off as an exponential.
        count: of them above it.
        excess: by how much peaks above it exceed it on average.
        hours: of footage.
        counted: lower levels, ascending, and how many peaks each has at least; none where there are few.
    """

    base: float
    count: int
    excess: float
    hours: float
    counted: tuple[tuple[float, int], ...] = ()

    @classmethod
    def measure(cls, series: Sequence[Series], merge_seconds: float, fitted: Sequence[Series] = ()) -> "Tail":
        """From the (T,) scores and (T,) seconds of each held-out block.

        Blocks that were `fitted` pass a level less often than new footage does, so they count no peak. How steeply the
        peaks above the base fall off they tell nearly as well, and a dozen held-out peaks alone tell it too roughly.
        """
        scores = np.concatenate([scores for scores, _ in series])
        scores = scores[scores > _NOTHING]
        hours = max(sum(seconds_of(times) for _, times in series), 1.0) / 3600  # a frame alone has no length
        levels: list[tuple[float, list[float]]] = []
        above = 1 - _BASE_QUANTILE
        while True:
            level = float(np.quantile(scores, 1 - above)) if len(scores) else 0.0
            peaks = [peak for part, times in series for peak in merged_peaks(part, times, level, merge_seconds)]
            if levels and len(peaks) < _COUNTED:
                break
            levels.append((level, peaks))
            above /= 2
        base, peaks = levels[-1]
        further = [peak for part, times in fitted for peak in merged_peaks(part, times, base, merge_seconds)]
        excess = float(np.mean([*peaks, *further])) - base if peaks else 0.0
        # Where a level is passed nearly always, one alarm goes on and on; there are no fewer for that than higher up.
        counts = np.maximum.accumulate([len(own) for _, own in levels[::-1]])[:0:-1].tolist()
        counted = tuple((level, count) for (level, _), count in zip(levels[:-1], counts, strict=True))
        return cls(base, len(peaks), max(excess, 1e-3), hours, counted)

    @property
    def lowest(self) -> float:
        """The level below which it tells nothing."""
        return self.counted[0][0] if self.counted else self.base

    def per_hour(self, score: float) -> float:
        """False alarms an hour expected at a threshold of `score`; below the lowest level what there is above that.

        Excesses over a high level are about exponential (Pickands 1975). Their mean is put in its place as it was
        measured: from few peaks the rate is then as often too high as too low, and nearest by a factor. What a rate
        would be on average over all that could have shown these peaks (a Lomax tail) is carried by the few cases in
        which it is far too high, and puts the threshold beyond what nearly all the others need.
        """
        if score >= self.base or not self.counted:
            return self.count / self.hours * math.exp(-max(score - self.base, 0.0) / self.excess)
        levels, logs = self._curve()
        return math.exp(float(np.interp(score, levels, logs))) / self.hours

    def threshold(self, per_hour: float) -> float:
        """The score at which `per_hour` false alarms an hour are expected; at least the lowest level."""
        wanted = per_hour * self.hours
        if wanted <= self.count or not self.counted:
            return self.base + self.excess * math.log(max(self.count / wanted, 1.0))
        levels, logs = self._curve()
        return float(np.interp(math.log(wanted), logs[::-1], levels[::-1]))

    def _curve(self) -> tuple[list[float], list[float]]:
        """Ascending levels, and the logarithm of how many peaks lie above each."""
        levels, counts = zip(*self.counted, (self.base, self.count), strict=True)
        return list(levels), [math.log(count) for count in counts]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tail":
        """What `dataclasses.asdict` gave, or gave before lower levels were counted."""
        return cls(**{**value, "counted": tuple((level, count) for level, count in value.get("counted", ()))})


@dataclass(frozen=True)
class Calibration:
    """All that turns the surprises of one camera into scores and rarities."""

    questions: Questions
    tail: Tail

    def to_json(self) -> dict[str, Any]:
        """Plain values for the card of a model."""
        asked = self.questions
        measured = {name: getattr(asked, name).astype(float).round(_DIGITS).tolist() for name in ("base", "excess")}
        questions = {"width": [_told(width) for width in asked.width], **measured, "share": asked.share.tolist()}
        return {"questions": questions, "tail": asdict(self.tail)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Calibration":
        """What `to_json` gave."""
        questions = {**value["questions"], "width": [_read(text) for text in value["questions"]["width"]]}
        arrays = {name: np.asarray(values, np.float32) for name, values in questions.items()}
        return cls(Questions(**arrays), Tail.from_json(value["tail"]))


def _told(width: Array) -> str:
    """(rows, columns) as a line of a card, which would have a line a number otherwise: rows end in a semicolon."""
    return "; ".join(" ".join(f"{value:.{_DIGITS}f}" for value in row) for row in width.tolist())


def _read(text: str) -> list[list[float]]:
    return [[float(value) for value in row.split()] for row in text.split(";")]


@dataclass(frozen=True)
class HeldOut:
    """A block of ordinary footage that fitting did not see, judged by a tail measured on the other such blocks alone.

    Attributes:
        hours: of it.
        peaks: its merged peaks above the lowest level of `tail`.
        tail: of the others.
    """

    hours: float
    peaks: list[float]
    tail: Tail

    def alarms(self, per_hour: float) -> int:
        """How many alarms a threshold that promises `per_hour` would have raised on it.

        Of alarms with nothing below the lowest level between them, which a high rate brings, the first counts alone.
        """
        threshold = self.tail.threshold(per_hour)
        return sum(peak > threshold for peak in self.peaks)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "HeldOut":
        """What `dataclasses.asdict` gave."""
        return cls(value["hours"], value["peaks"], Tail.from_json(value["tail"]))


def merged_peaks(scores: Array, times: npt.NDArray[np.float64], base: float, merge_seconds: float) -> list[float]:
    """The highest score of each run above `base`, runs nearer than `merge_seconds` being one."""
    return [float(scores[span.peak]) for span in find_spans(scores, scores > base, times, merge_seconds)]


def seconds_of(times: npt.NDArray[np.float64]) -> float:
    """How long the frames at `times` last, the last one as long as the median."""
    if len(times) < 2:
        return 0.0
    return float(times[-1] - times[0] + np.median(np.diff(times)))
