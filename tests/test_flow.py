"""Where flow is looked for; how well it is found, tests/test_features.py sees by a square whose speed is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrnn.flow import _parts


@given(
    st.integers(30, 130),
    st.integers(30, 190),
    st.lists(st.tuples(*[st.floats(0, 1)] * 2, *[st.integers(2, 25)] * 2), max_size=6),
    st.sampled_from([4, 8]),
)
@settings(max_examples=150, deadline=None)
def test_flow_is_found_around_all_that_is_in_front(
    height: int, width: int, boxes: list[tuple[float, float, int, int]], tile: int
) -> None:
    """Whatever is at least two pixels high and wide; all of the picture where there is much, nothing where none is."""
    share = np.zeros((height, width), np.float32)
    for down, across, high, wide in boxes:
        top, left = int(down * (height - high)), int(across * (width - wide))
        share[top : top + high, left : left + wide] = 1
    parts = _parts(share, tile)
    covered = np.zeros(share.shape, bool)
    for y, x in parts:
        assert 0 <= (y.start or 0) < height and 0 <= (x.start or 0) < width
        part = covered[y, x]
        assert min(part.shape) >= 3 * tile  # the flow takes nothing smaller
        part[...] = True
    assert covered[share > 0].all() and bool(parts) == bool(boxes)
    if (share > 0).mean() > 0.8:
        assert parts == [(slice(height), slice(width))]


@pytest.mark.parametrize("tile", [4, 8])
def test_a_crowd_has_its_flow_in_all_of_the_picture_and_a_walker_around_it(tile: int) -> None:
    share = np.ones((120, 180), np.float32)
    assert _parts(share, tile) == [(slice(120), slice(180))]
    share[:] = 0
    share[40:60, 30:38] = 1
    ((y, x),) = _parts(share, tile)
    assert y.start <= 40 - tile and y.stop >= 60 + tile and x.start <= 30 - tile and x.stop >= 38 + tile
    assert (y.stop - y.start) * (x.stop - x.start) < 0.1 * share.size
