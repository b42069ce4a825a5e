"""Regions become things of the size that is usual where they stand: cut where too wide, fragments joined."""

import numpy as np
import pytest

from vidrnn.sizes import Moving, Usual, as_usual


def moving(*boxes, pieces=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    none = [np.empty((0, 4), np.float32)] * len(boxes)
    given = none if pieces is None else [np.array(of_one, np.float32).reshape(-1, 4) for of_one in pieces]
    return Moving(boxes, np.arange(2 * len(boxes)).reshape(-1, 2).astype(float), given)


# Far things are half as large as near ones.
NEAR, FAR = (100, 100, 120, 150), (200, 50, 210, 75)
USUAL = Usual([moving(NEAR, FAR)] * 40)


def test_sizes_are_told_apart_by_where_things_stand():
    assert USUAL.at(np.array(NEAR)).tolist() == [20, 50] and USUAL.at(np.array(FAR)).tolist() == [10, 25]
    assert np.isinf(USUAL.at(np.array((0, 0, 10, 20)))).all()  # nothing was seen there
    assert np.isinf(Usual([moving(NEAR)] * 5).at(np.array(NEAR))).all()  # or too little
    assert USUAL.holds(np.array(NEAR)) and not USUAL.holds(np.array((100, 125, 120, 150)))


def test_a_region_that_is_too_wide_is_cut_into_its_pieces():
    pair = (100, 100, 136, 150)
    pieces = [(100, 100, 119, 150), (119, 104, 136, 150)]
    found = as_usual(moving(FAR, pair, pieces=[[], pieces]), USUAL)
    assert found.boxes.tolist() == [list(FAR), *map(list, pieces)]
    assert found.velocities.tolist() == [[0, 1], [2, 3], [2, 3]]


@pytest.mark.parametrize("width", [20, 27])
def test_one_of_usual_width_is_left_whole_whatever_its_top_looks_like(width):
    box = (100, 100, 100 + width, 150)
    found = as_usual(moving(box, pieces=[[(100, 100, 110, 150), (110, 100, 100 + width, 150)]]), USUAL)
    assert found.boxes.tolist() == [list(box)]


def test_pieces_stay_together_as_far_as_they_are_not_too_wide():
    pieces = [(100, 100, 108, 150), (108, 100, 120, 150), (120, 100, 140, 150)]
    found = as_usual(moving((100, 100, 140, 150), pieces=[pieces]), USUAL)
    assert found.boxes.tolist() == [[100, 100, 120, 150], list(pieces[2])]


def test_nothing_is_cut_where_no_size_is_known():
    pieces = [(100, 100, 119, 150), (119, 104, 136, 150)]
    found = as_usual(moving((100, 100, 136, 150), pieces=[pieces]), Usual([]))
    assert found.boxes.tolist() == [[100, 100, 136, 150]]


def test_fragments_are_joined_to_what_they_complete():
    """A body and its feet; what stands beside a whole one, and what is far from everything, are left alone."""
    body, feet = (100, 100, 120, 132), (104, 140, 112, 150)
    found = as_usual(moving(feet, body, FAR), USUAL)
    assert found.boxes.tolist() == [[100, 100, 120, 150], list(FAR)]
    assert found.velocities.tolist() == [[2, 3], [4, 5]]  # of the larger one
    assert len(as_usual(moving((100, 20, 110, 40), (100, 42, 110, 75)), USUAL).boxes) == 2  # nothing is known above
    for other in ((122, 130, 130, 150), (160, 140, 170, 150)):
        assert len(as_usual(moving(NEAR, other), USUAL).boxes) == 2
    assert len(as_usual(moving(body, feet), Usual([])).boxes) == 2
