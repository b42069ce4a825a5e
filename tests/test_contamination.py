import numpy as np
import pytest
from synthetic import Footage, walking

from benchmarks.contamination import CASES, Case, Outcome, changed, told


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Eight clips that train and six that are scored."""
    footage = Footage(tmp_path_factory.mktemp("contamination"))
    for k in range(14):
        footage.add(f"gate/{k}.mp4", walking(1, 4, k), trains=k < 8, scored=k >= 8)
    return footage.index


def clips(index, role):
    return {row["video_id"] for row in index.to_pylist() if row[role]}


@pytest.mark.parametrize("draw", range(5))
@pytest.mark.parametrize("case", CASES, ids=Case.words)
def test_a_draw_moves_or_leaves_out_as_many_as_it_says(index, case, draw):
    trains, scored = clips(index, "trains"), clips(index, "scored")
    found = changed(index, case, draw)
    assert found.schema == index.schema and found.drop_columns(["trains", "scored"]).equals(
        index.drop_columns(["trains", "scored"])
    )
    moved = clips(found, "trains") - trains
    assert len(moved) == case.moved and moved <= scored
    assert clips(found, "scored") == scored - moved
    assert len(clips(found, "trains") & trains) == case.share * 8
    assert changed(index, case, draw).equals(found)


def test_draws_differ(index):
    assert len({frozenset(clips(changed(index, CASES[1], draw), "scored")) for draw in range(5)}) > 2


@pytest.mark.parametrize(
    ("values", "reached"), [([0.945, 0.95], "yes"), ([0.935, 0.949], "on average"), ([0.935, 0.94], "no")]
)
def test_a_row_tells_mean_and_worst_drop_and_whether_both_stay_within_the_line(values, reached):
    row = told("d", Case(1, 1.0, 0.01), [Outcome(0.95, value) for value in values])
    drops = [0.95 - value for value in values]
    assert row[:3] == ("d", "1 test clip in it", "0.950") and row[-2:] == ("0.01", reached)
    assert [float(cell) for cell in row[3:6]] == pytest.approx([np.mean(values), np.mean(drops), max(drops)], abs=6e-4)
    assert [case.words() for case in CASES] == ["1 test clip in it", "4 test clips in it", "25% of it"]
