"""Exact time: integer ticks and a rational time base; seconds are derived, never stored as the truth.

Two rounded floats can land on the wrong side of a frame boundary; two integers cannot.
"""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class TimeBase:
    """Seconds per tick as a fraction `num / den`, both positive."""

    num: int
    den: int

    def __post_init__(self) -> None:
        if self.num <= 0 or self.den <= 0:
            raise ValueError(f"a time base needs a positive numerator and denominator, got {self.num}/{self.den}")

    def seconds(self, ticks: int) -> float:
        """The nearest float to `ticks` in seconds."""
        return ticks * self.num / self.den

    def slot(self, ticks: int, rate: Fraction) -> int:
        """floor(ticks in seconds · rate), exactly: the number of the sampling slot that holds this instant."""
        return (ticks * self.num * rate.numerator) // (self.den * rate.denominator)


class RateSampler:
    """Chooses, for each k, the first frame with pts ≥ k / rate; never the same frame twice.

    Args:
        time_base: of the pts that will be pushed.
        rate: frames per second wanted; None takes every frame.
    """

    def __init__(self, time_base: TimeBase, rate: Fraction | None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate is positive, got {rate}")
        self._time_base, self._rate, self._last_slot = time_base, rate, -1

    def takes(self, ticks: int) -> bool:
        """Whether the frame at `ticks` after the first frame is analysed. Call once a frame, in presentation order."""
        if self._rate is None:
            return True
        slot = self._time_base.slot(ticks, self._rate)
        if slot <= self._last_slot:
            return False
        self._last_slot = slot
        return True
