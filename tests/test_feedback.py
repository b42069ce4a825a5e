"""What people say of events: kept, found again in the footage, learned from or left out, and decided by."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import Footage, small_params, walking
from test_gate import changed

from vidrnn.calibration import Questions
from vidrnn.cards import load_card
from vidrnn.errors import UserError
from vidrnn.events import causal_average
from vidrnn.feedback import NORMAL, UNUSUAL, Mark, add_mark, read_marks
from vidrnn.gate import gate
from vidrnn.heldout import block_times
from vidrnn.marked import find_marked, without
from vidrnn.score import load_camera_model, observe
from vidrnn.storage import video_path
from vidrnn.train import train, training_blocks
from vidrnn.windows import MODELLED, CellReader, blocks_of

PARAMS = small_params(train={"epochs": 3, "batches_per_epoch": 8})
FIRST, SECOND = (60, 80), (140, 160)  # rows in which something rushes through the upper and the lower part
TEST = "gate/test.mp4"


def mark(sha256, rows, verdict=NORMAL, event_id="e", video_id=TEST):
    """Synthetic rows are 100 ticks apart."""
    onset, offset = 100 * rows[0], 100 * rows[1]
    return Mark(event_id, verdict, "gate", video_id, sha256, onset, offset, "", "", "", "", "")


def rushing(cells, rows, row):
    """The same with something fast and large in a row of the picture; what walks there is out of the way."""
    cells = cells.copy()
    for t in range(*rows):
        for k, name in enumerate(("foreground", "moving", "speed", "velocity_x")):
            channels = [i for i, channel in enumerate(MODELLED) if channel.endswith(name)]
            for channel in channels:
                cells[t, channel - len(MODELLED), row - 1 : row + 2, (t % 4) : (t % 4) + 3] = (0.9, 0.9, 2.5, 2.5)[k]
    return cells


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    found = Footage(tmp_path_factory.mktemp("footage"))
    for k in range(6):
        found.add(f"gate/{k}.mp4", walking(120, 6, k))
    film = rushing(rushing(walking(200, 6, 9), FIRST, 3), SECOND, 16)
    found.add(TEST, film, trains=False)
    return found


@pytest.fixture(scope="module")
def sha256(footage):
    return {row["video_id"]: row["sha256"] for row in footage.index.to_pylist()}


@pytest.fixture(scope="module")
def models(footage, sha256, tmp_path_factory):
    """As trained without a mark, and with the first rush marked as normal."""
    plain, marked = (tmp_path_factory.mktemp(name) for name in ("plain", "marked"))
    train(footage.features, footage.training, PARAMS, plain)
    train(footage.features, footage.training, PARAMS, marked, [mark(sha256[TEST], FIRST)])
    return plain, marked


def peaks(footage, root, *stretches):
    """The highest score in each stretch of the test video, over the threshold."""
    model = load_camera_model(root / "gate")
    path = video_path(footage.features / "cells", "gate", TEST)
    (block,) = blocks_of(path, "x", 1000.0, 0.0)
    times, _ = block_times(block)
    maps = (part.maps for _, part in observe(model, CellReader(), block.path, times, block.start, block.stop))
    raw = np.concatenate([model.calibration.questions.score(part).max((1, 2)) for part in maps])
    score = causal_average(raw, times, model.smoothing_seconds) / model.calibration.tail.threshold(60.0)
    return [float(score[slice(*rows)].max()) for rows in stretches]


def test_an_event_marked_as_normal_does_not_come_back_and_another_still_does(footage, models):
    plain, marked = models
    first, second = peaks(footage, plain, FIRST, SECOND)
    assert first > 1.5 and second > 1.5
    first, second = peaks(footage, marked, FIRST, SECOND)
    assert first < 1 < 1.2 < second  # the same elsewhere in the picture is as unusual as before, if it was learned from
    assert len(load_card(marked / "gate")["footage"]["marked_normal"]) == 1


def test_the_gate_is_told_what_people_said(footage, sha256, models, tmp_path):
    plain, marked = models
    params = PARAMS.model_copy(update={"alarms": PARAMS.alarms.model_copy(update={"per_hour": 60.0})})
    normal, unusual = mark(sha256[TEST], FIRST), mark(sha256[TEST], SECOND, UNUSUAL, "f")
    folders = footage.features, footage.training
    worse = changed(marked, tmp_path / "worse", noise=0.1)
    table = gate(*folders, worse, plain, tmp_path / "a", params, frozenset(), [normal, unusual])
    assert table["measure"].to_pylist() == ["heldout_nll", "false_alarms_per_hour", "score_drift", "feedback_mistakes"]
    nll, *_, mistakes = table.to_pylist()
    assert nll["difference_low"] > 0  # held-out footage alone would keep the champion
    assert (mistakes["candidate_value"], mistakes["champion_value"]) == (0, 1) and mistakes["promoted"]
    assert "wrong about 0 of 2 marked events, the champion about 1" in mistakes["reason"]
    back = gate(*folders, plain, worse, tmp_path / "b", params, frozenset(), [normal, unusual])
    assert not any(back["promoted"].to_pylist()) and "the candidate is worse" in back["reason"][0].as_py()
    equal = gate(*folders, plain, worse, tmp_path / "c", params, frozenset(), [unusual]).to_pylist()
    assert equal[0]["promoted"] and equal[0]["difference_high"] < 0 and equal[-1]["candidate_value"] == 0


def test_nothing_is_learned_from_what_is_marked_as_unusual(footage, sha256):
    name = "gate/2.mp4"
    said = [mark(sha256[name], (50, 60), UNUSUAL, video_id=name)]
    before = training_blocks(footage.features, footage.training, "gate", PARAMS)
    after = training_blocks(footage.features, footage.training, "gate", PARAMS, said)
    path = str(video_path(footage.features / "cells", "gate", name).absolute())

    def rows(blocks):
        return {(block.path, row) for block in blocks for row in range(block.start, block.stop)}

    gone = rows(before) - rows(after)
    assert rows(after) < rows(before) and gone == {(path, row) for row in range(40, 70) if (path, row) in rows(before)}
    assert {block.key for block in after} <= {block.key for block in before}
    assert without(before, []) == before


def test_marks_are_found_by_the_bytes_of_their_footage(footage, sha256):
    moved = replace(mark(sha256[TEST], FIRST), video_id="gate/renamed.mp4")
    (found,) = find_marked(footage.features, [moved, mark("0" * 64, FIRST, event_id="gone")], "gate", 90)
    assert (found.start, found.stop) == FIRST
    assert found.last - found.first >= 90 and found.first <= 50 and found.last >= 90
    assert find_marked(footage.features, [moved], "hall") == []
    everything = find_marked(footage.features, [moved], "gate", 10_000)[0]
    assert (everything.first, everything.last) == (0, 200)


def test_widths_grow_where_it_was_and_nowhere_else():
    rng = np.random.default_rng(0)
    each = (np.full(3, value, np.float32) for value in (2, 0.5, 1 / 3))
    asked = Questions(np.ones((3, 6, 9), np.float32), *each)
    ordinary = rng.uniform(0, 0.5, (20, 3, 6, 9)).astype(np.float32)
    seen = ordinary.copy()
    seen[:, 1, 2, 4] = 9.0
    wider = asked.admitting([seen[:7], seen[7:]])
    changed = wider.width > asked.width
    assert changed.any((1, 2)).tolist() == [False, True, False]
    assert np.argwhere(changed[1]).tolist() == [[y, x] for y in (1, 2, 3) for x in (3, 4, 5)]
    assert asked.score(seen).max() > asked.score(ordinary).max()
    assert wider.rarities(seen).max() <= np.log(2) + 1e-4
    seen[:, 1, 2, 4] = 60.0  # far more of the same
    assert wider.rarities(seen).max() > 5


def test_a_file_of_marks(tmp_path):
    path = tmp_path / "feedback.csv"
    one = replace(mark("a" * 64, (1, 2), event_id="one"), note='the gardener, "Ann"', x0="1.5")
    for said in (one, mark("b" * 64, (3, 4), UNUSUAL, "two"), replace(one, verdict=UNUSUAL)):
        add_mark(path, said)
    assert read_marks(path) == [replace(one, verdict=UNUSUAL), mark("b" * 64, (3, 4), UNUSUAL, "two")]
    assert len(path.read_text().splitlines()) == 4  # what was said before stays to be read

    sound = path.read_text()
    for text, words in (
        (sound + "x,normal\n", r"row 5: expected 12 values with the verdict normal or unusual, found 'x,normal'"),
        (sound.replace("unusual", "odd", 1), r"row 3: expected 12 values"),
        (sound.replace("300,400", "3.5,400"), r"row 3: onset_pts and offset_pts should be whole numbers"),
        (sound.replace("event_id", "event"), "expected the columns event_id,verdict"),
        ("", "expected the columns event_id,verdict"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_marks(path)
        with pytest.raises(UserError, match=words):
            add_mark(path, one)
        assert path.read_text() == text
    with pytest.raises(UserError, match="cannot be read"):
        read_marks(tmp_path / "none.csv")
