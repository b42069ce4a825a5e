"""Sampling against its definition, with fractions."""

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrnn.timebase import RateSampler, TimeBase

time_bases = st.builds(TimeBase, st.integers(1, 1001), st.integers(1, 90000))
steps = st.lists(st.integers(1, 5000), max_size=60)
rates = st.fractions(Fraction(1, 10), 1000, max_denominator=1001)


def first_at_or_after_each(pts: list[int], base: TimeBase, rate: Fraction) -> list[int]:
    """For each k the first frame with pts ≥ k / rate, counted from the first frame; each frame once."""
    seconds = [Fraction((at - pts[0]) * base.num, base.den) for at in pts]
    chosen: list[int] = []
    for k in range(int(seconds[-1] * rate) + 1):
        index = next((i for i, at in enumerate(seconds) if at >= k / rate), None)
        if index is not None and index not in chosen:
            chosen.append(index)
    return chosen


@given(time_bases, st.integers(-(10**6), 10**12), steps, rates)
def test_sampling_is_its_definition(base: TimeBase, start: int, gaps: list[int], rate: Fraction) -> None:
    span = Fraction(sum(gaps) * base.num, base.den)
    if span * rate > 2000:  # the twin walks over every k
        rate = 2000 / span
    pts = list(accumulate(gaps, initial=start))
    sampler = RateSampler(base, rate)
    taken = [i for i, at in enumerate(pts) if sampler.takes(at - pts[0])]
    assert taken == first_at_or_after_each(pts, base, rate)


@given(time_bases, steps)
def test_source_rate_takes_every_frame(base: TimeBase, gaps: list[int]) -> None:
    sampler = RateSampler(base, None)
    assert all(sampler.takes(at) for at in accumulate(gaps, initial=0))


def test_a_boundary_that_floats_would_miss() -> None:
    # 30000/1001 frames a second at their own rate: every frame is exactly on its boundary, none may be lost.
    base, sampler = TimeBase(1001, 30000), RateSampler(TimeBase(1001, 30000), Fraction(30000, 1001))
    assert all(sampler.takes(tick) for tick in range(100_000))
    assert base.slot(3, Fraction(30000, 1001)) == 3


def test_slower_source_is_never_duplicated() -> None:
    sampler = RateSampler(TimeBase(1, 1), Fraction(10))
    assert [sampler.takes(second) for second in range(5)] == [True] * 5


@given(time_bases, st.integers(-(10**9), 10**9))
def test_seconds_are_the_nearest_float(base: TimeBase, ticks: int) -> None:
    assert base.seconds(ticks) == float(Fraction(ticks * base.num, base.den))


@pytest.mark.parametrize(("num", "den"), [(0, 1), (1, 0), (-1, 25), (1, -25)])
def test_time_bases_are_positive(num: int, den: int) -> None:
    with pytest.raises(ValueError, match=f"got {num}/{den}"):
        TimeBase(num, den)


def test_rates_are_positive() -> None:
    with pytest.raises(ValueError, match="positive, got 0"):
        RateSampler(TimeBase(1, 25), Fraction(0))
