import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import write_regions

from vidrnn.objects import CellGrid, moving_boxes, unusual_regions

GRID = CellGrid(rows=20, columns=30, picture=(360, 240))  # cells of 12 × 12 pixels, windows of 36 × 48
peaks = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29), st.integers(1, 9)), max_size=8)
moving = st.lists(
    st.tuples(st.integers(0, 340), st.integers(0, 220), st.integers(2, 150), st.integers(2, 150)), max_size=5
)


def maps(cells):
    scores = np.zeros((20, 30), np.float32)
    for row, column, score in cells:
        scores[row, column] = score
    return scores


def boxes_of(regions):
    corners = [(x, y, min(x + width, 360), min(y + height, 240)) for x, y, width, height in regions]
    return np.array(corners, np.float32).reshape(-1, 4)


def touch(box, other):
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def window_of(row, column):
    x, y = 12 * column + 6, 12 * row + 6
    return x - 18, y - 24, x + 18, y + 24


def expected_regions(scores, regions):
    """One cell after the other, the highest first, unless its window touches a box that was taken before."""
    order = sorted(np.ndindex(20, 30), key=lambda cell: (-scores[cell], cell))
    found = []
    for row, column in order:
        window = window_of(row, column)
        if scores[row, column] <= 0 or any(touch(window, box) for box, _ in found):
            continue
        seen = [max(window[0], 0), max(window[1], 0), min(window[2], 360), min(window[3], 240)]
        shared = [
            max(min(r[2], seen[2]) - max(r[0], seen[0]), 0) * max(min(r[3], seen[3]) - max(r[1], seen[1]), 0)
            for r in regions
        ]
        best = regions[int(np.argmax(shared))] if any(shared) else seen
        limit = 6 * (seen[2] - seen[0]) * (seen[3] - seen[1])
        box = best if (best[2] - best[0]) * (best[3] - best[1]) <= limit else seen
        found.append((tuple(float(side) for side in box), float(scores[row, column])))
    return found


@given(peaks, moving)
def test_unusual_regions_agree_with_going_from_cell_to_cell(cells, regions):
    scores, regions = maps(cells), boxes_of(regions)
    boxes, found = unusual_regions(scores, regions, GRID)
    assert [(tuple(box), score) for box, score in zip(boxes.tolist(), found, strict=True)] == expected_regions(
        scores, regions
    )
    assert scores.max(initial=0) == max(found, default=0) and (np.diff(found) <= 0).all()


def test_a_smear_around_one_thing_is_one_region():
    y, x = np.mgrid[:20, :30]
    scores = np.exp(-((y - 10) ** 2 + (x - 15) ** 2) / 1.5).astype(np.float32)
    scores[scores < 0.05] = 0
    thing = np.array([[170.0, 110, 200, 140]])
    boxes, found = unusual_regions(scores, thing, GRID)
    assert boxes.tolist() == thing.tolist() and found.tolist() == [1.0]
    boxes, found = unusual_regions(scores, np.empty((0, 4)), GRID)
    assert boxes.tolist() == [[168, 102, 204, 150]] and found.tolist() == [1.0]


def test_a_crowd_that_touches_is_told_by_the_window():
    crowd = np.array([[0.0, 50, 360, 200]])
    boxes, _ = unusual_regions(maps([(10, 15, 1)]), crowd, GRID)
    assert boxes.tolist() == [[168, 102, 204, 150]]


def test_windows_are_wider_where_the_picture_is():
    assert CellGrid(20, 36, (1280, 720)).window_size == pytest.approx([1280 * 0.15 * 20 / 36, 144])


def test_regions_come_frame_by_frame(tmp_path):
    write_regions(tmp_path / "regions.parquet", [(3, 0, 0, 4, 5), (3, 6, 0, 9, 5), (8, 1, 2, 3, 4)])
    found = moving_boxes(tmp_path / "regions.parquet", np.array([0, 3, 5, 8]))
    assert [boxes.tolist() for boxes in found] == [[], [[0, 0, 4, 5], [6, 0, 9, 5]], [], [[1, 2, 3, 4]]]
