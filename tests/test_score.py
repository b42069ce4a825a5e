import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from synthetic import (
    TICKS,
    save_camera_model,
    walking,
    write_cells,
    write_regions,
)

from vidrnn.cards import load_card
from vidrnn.checkpoint import load_weights, save_model
from vidrnn.errors import CheckpointError
from vidrnn.events import causal_average
from vidrnn.features import ROWS
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.score import load_camera_model, observe, score_video
from vidrnn.storage import read_metadata, read_table
from vidrnn.surprise import questions
from vidrnn.windows import MODELLED, CellReader

torch.set_num_threads(1)
COLUMNS, PICTURE = 4, (64, 48)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A video of 70 rows with a gap, its regions, its model and its scores."""
    root = tmp_path_factory.mktemp("score")
    times = np.arange(70) / 10 + np.where(np.arange(70) < 40, 0, 5)
    features = write_cells(root / "cells.parquet", walking(70, COLUMNS, 0), times, warmup=5)
    rng = np.random.default_rng(0)
    regions = []
    for frame in range(0, 70, 2):
        for _ in range(rng.integers(1, 4)):
            (x0, x1), (y0, y1) = np.sort(rng.uniform(0, 64, 2)), np.sort(rng.uniform(0, 48, 2))
            regions.append((frame, x0, y0, x1, y1))
    write_regions(root / "regions.parquet", regions)
    save_camera_model(root / "model")
    model = load_camera_model(root / "model")
    out = root / "scores.parquet"
    score_video(model, features, root / "regions.parquet", PICTURE, out, root / "windows.parquet", "made")
    table = read_table(out, scores_schema(ROWS, COLUMNS))
    stretches = list(observe(model, CellReader(), str(features), times, 0, 70))
    return model, features, regions, times, table, stretches, out


def test_scores_keep_their_contract_and_say_what_made_them(scored):
    model, features, _, times, table, _, out = scored
    made = pq.read_table(features)
    for name in ("frame_index", "pts", "time_seconds", "valid"):
        assert table[name].equals(made[name])
    assert table["pts"].to_pylist() == [round(t * TICKS) for t in times]
    found = read_metadata(out)
    assert found["digest"] == "made" and found["model_version"] == model.version


def test_the_score_of_a_frame_is_that_of_its_highest_cell(scored):
    model, _, _, times, table, stretches, _ = scored
    assert [first for first, _ in stretches] == [0, 16, 32, 40, 64]  # anew after the gap, where it waits
    maps = np.concatenate([model.calibration.questions.score(stretch.maps) for _, stretch in stretches])
    cells = table["cells"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(cells, maps.astype(np.float16))
    raw = table["score_raw"].to_numpy()
    for t in range(70):
        assert raw[t] == maps[t].max()
    np.testing.assert_array_equal(table["score"].to_numpy(), causal_average(raw, times, 0.25))
    assert raw.max() > 0.5


def expected_box(row, column, regions):
    """The window around a cell, or the region that shares most of it unless it is more than six times as large."""
    width, height = PICTURE
    y, x = (row + 0.5) / ROWS * height, (column + 0.5) / COLUMNS * width
    half_height, half_width = 0.1 * height, 0.075 * width / (COLUMNS / ROWS)
    window = [
        max(x - half_width, 0),
        max(y - half_height, 0),
        min(x + half_width, width),
        min(y + half_height, height),
    ]
    best, most = window, 0.0
    for box in regions:
        across = min(box[2], window[2]) - max(box[0], window[0])
        down = min(box[3], window[3]) - max(box[1], window[1])
        if across > 0 and down > 0 and across * down > most:
            best, most = box, across * down
    size = (best[2] - best[0]) * (best[3] - best[1])
    return best if size <= 6 * (window[2] - window[0]) * (window[3] - window[1]) else window


def test_the_box_is_what_moves_in_the_highest_cell_and_lies_in_the_picture(scored):
    model, _, regions, _, table, stretches, _ = scored
    maps = np.concatenate([model.calibration.questions.score(stretch.maps) for _, stretch in stretches])
    boxes = np.stack([table[name].to_numpy() for name in ("x0", "y0", "x1", "y1")], 1)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= PICTURE).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    of_regions = 0
    for t in range(70):
        own = [region[1:] for region in regions if region[0] == t]
        expected = expected_box(*divmod(int(maps[t].argmax()), COLUMNS), own)
        np.testing.assert_allclose(boxes[t], expected, atol=1e-3)
        of_regions += any(np.allclose(expected, region) for region in own)
    assert 5 < of_regions < 65


def test_the_reason_is_the_question_of_the_highest_rarity_in_the_highest_cell(scored):
    model, features, _, _, table, stretches, _ = scored
    cells = pq.read_table(features)["cells"].combine_chunks().to_numpy_ndarray()
    rows = table.drop_columns(["cells"]).to_pylist()
    told = set()
    for first, stretch in stretches:
        scores, rarities = (
            of(stretch.maps) for of in (model.calibration.questions.score, model.calibration.questions.rarities)
        )
        for t, score in enumerate(scores):
            row, column = divmod(int(score.argmax()), COLUMNS)
            found = rows[first + t]
            name, memory = found["reason_quantity"], 1 if found["reason_memory_steps"] else 0
            assert found["reason_memory_steps"] == 3 * memory
            rarity = rarities[t, :, row, column]
            assert rarity[questions(1).index((name, memory))] == rarity.max() > 0
            told.add((name, memory))
            seen = cells[first + t, -len(MODELLED) + MODELLED.index(name), row, column]
            assert found["reason_seen"] == pytest.approx(np.clip(seen, 0.1 - 6 * 0.2, 0.1 + 12 * 0.2), abs=1e-3)
            middle = (found["reason_expected_low"] + found["reason_expected_high"]) / 2
            spread = (found["reason_expected_high"] - found["reason_expected_low"]) / 4
            value = stretch.residual[t, memory, row * COLUMNS + column, MODELLED.index(name)]
            assert (found["reason_seen"] - middle) / spread == pytest.approx(value, abs=1e-2)
    assert {memory for _, memory in told} == {0, 1} and len({name for name, _ in told}) > 1


def test_a_video_without_a_row_has_an_empty_table(scored, tmp_path):
    model = scored[0]
    features = write_cells(tmp_path / "cells.parquet", walking(0, COLUMNS, 0))
    write_regions(tmp_path / "regions.parquet", [])
    outs = tmp_path / "out.parquet", tmp_path / "windows.parquet"
    score_video(model, features, tmp_path / "regions.parquet", PICTURE, *outs, "made")
    assert read_table(outs[1], SCHEMAS["windows"]).num_rows == 0
    assert read_table(tmp_path / "out.parquet", scores_schema(ROWS, COLUMNS)).num_rows == 0


def test_another_shape_of_picture_is_one_sentence(scored, tmp_path):
    features = write_cells(tmp_path / "cells.parquet", walking(4, 7, 0))
    with pytest.raises(CheckpointError, match="learned pictures of 4 columns of cells, this is one of pictures of 7"):
        score_video(scored[0], features, tmp_path / "none", PICTURE, tmp_path / "out", tmp_path / "windows", "made")


def test_a_model_of_other_features_is_one_sentence(tmp_path):
    save_camera_model(tmp_path)
    card = {**load_card(tmp_path), "channels": ["speed"]}
    save_model(tmp_path, load_weights(tmp_path), {key: card[key] for key in card if key != "version"})
    with pytest.raises(CheckpointError, match="learned other features than these; train anew"):
        load_camera_model(tmp_path)


def test_a_model_whose_scores_were_measured_in_another_way_is_one_sentence(tmp_path):
    save_camera_model(tmp_path)
    card = load_card(tmp_path)
    for asked in ({"width": [1.0] * 8}, {**card["calibration"]["questions"], "spread": [1.0]}):
        old = {**card, "calibration": {**card["calibration"], "questions": asked}}
        save_model(tmp_path, load_weights(tmp_path), {key: old[key] for key in old if key != "version"})
        with pytest.raises(CheckpointError, match="its scores were measured in another way; train anew"):
            load_camera_model(tmp_path)
