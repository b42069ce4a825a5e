import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import blank
from reference import was_at
from synthetic import Footage, files_of, small_params, walking

from benchmarks import quality
from benchmarks.baselines import (
    BASELINES,
    Ordinary,
    averaged,
    cut_memory,
    frames_of_scores,
    score_baseline,
    without_memory,
)
from vidrnn.cards import camera_dir, load_card
from vidrnn.evaluate import evaluate
from vidrnn.events import causal_average
from vidrnn.features import CHANNELS, ROWS
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.score import load_camera_model, observe, score_video
from vidrnn.storage import read_table, video_path, write_table
from vidrnn.train import footage_split, train, training_blocks
from vidrnn.windows import ACTIVE_SHARE, MODELLED, CellReader, active_cells

torch.set_num_threads(1)
COLUMNS = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Footage of a camera, and the folder of its model."""
    root = tmp_path_factory.mktemp("baselines")
    footage = Footage(root)
    for k in range(4):
        footage.add(f"gate/{k}.mp4", walking(70, COLUMNS, k))
    train(footage.features, footage.training, small_params(), root / "model")
    return footage, root / "model"


def expected_of(model, path):
    stretches = list(observe(model, CellReader(), str(path), np.arange(70) / 10, 0, 70))
    return [np.concatenate([getattr(s, name) for _, s in stretches]) for name in ("mean", "scale")]


def test_without_memory_every_prediction_is_the_prior_of_the_place(trained):
    footage, models = trained
    model = load_camera_model(camera_dir(models, "gate"))
    cells = CellReader().rows(str(video_path(footage.features / "cells", "gate", "gate/0.mp4")), 0, 70)
    active, times = active_cells(cells).reshape(70, -1), np.arange(70) / 10
    origins = np.tile(np.arange(ROWS * COLUMNS), (70, 1))
    for t, n in zip(*active.nonzero(), strict=True):
        origins[t, n] = was_at(cells, times, t, *divmod(n, COLUMNS), model.horizons[0])
    assert (origins != np.arange(ROWS * COLUMNS)).any()
    whole, cut = (
        expected_of(m, video_path(footage.features / "cells", "gate", "gate/0.mp4"))
        for m in (model, without_memory(model))
    )
    for before, after in zip(whole, cut, strict=True):
        np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5, atol=1e-6)  # what needs no memory stays
        # Where something is active it is the prior of the place where that was, elsewhere that of the cell itself.
        np.testing.assert_allclose(after[:, 1], after[0, 0][origins], rtol=1e-5, atol=1e-6)
        assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-3
    assert torch.equal(model.net.output[0].weight, load_camera_model(camera_dir(models, "gate")).net.output[0].weight)


def test_a_cut_model_is_calibrated_anew_and_scored_like_any_other(trained, tmp_path):
    footage, models = trained
    cut_memory(models, footage.features, footage.training, small_params(), tmp_path / "cut")
    assert set(files_of(tmp_path / "cut")) == set(files_of(models))
    cards = [load_card(camera_dir(root, "gate")) for root in (models, tmp_path / "cut")]
    changed = {key for key in cards[0] if cards[0][key] != cards[1][key]}
    assert changed == {"version", "calibration", "heldout"}
    assert cards[0]["heldout"]["hours"] == cards[1]["heldout"]["hours"]
    cells, regions = (video_path(footage.features / part, "gate", "gate/0.mp4") for part in ("cells", "regions"))
    scored = []
    for root in (models, tmp_path / "cut"):
        model = load_camera_model(camera_dir(root, "gate"))
        score_video(model, cells, regions, (64, 48), tmp_path / "scores.parquet", tmp_path / "windows.parquet", "made")
        scored.append((tmp_path / "scores.parquet").read_bytes())
    assert scored[0] != scored[1]


@pytest.fixture(scope="module")
def ordinary(trained):
    """The active cells of three of the videos."""
    footage, _ = trained
    blocks = training_blocks(footage.features, footage.training, "gate", small_params())
    return Ordinary.of([block for block in blocks if block.stop - block.start > 50][:3], seed=0)


def features_of(seed, rows=70):
    return walking(rows, COLUMNS, seed).astype(np.float32)


def active(features):
    return features[1:, CHANNELS.index("person_foreground")] > ACTIVE_SHARE


def test_ordinary_cells_are_those_in_which_something_is(ordinary):
    assert len(ordinary.cells) == len(ordinary.rows) > 500
    assert (ordinary.cells[:, MODELLED.index("person_foreground")] > ACTIVE_SHARE).all()
    assert set(ordinary.rows) <= set(range(5, 16))  # where walkers walk


def test_the_frame_difference_is_that_of_a_persons_window(ordinary):
    features = features_of(0)
    luma = features[:, CHANNELS.index("luma")]
    found = BASELINES["frame_difference"](ordinary)(features)
    assert found.shape == (69, ROWS, COLUMNS)
    for t, row, column in ((0, 8, 1), (30, 10, 2), (68, 12, 1)):
        cells = [(r, c) for r in range(row - 2, row + 2) for c in range(column - 1, column + 2)]
        expected = np.mean([abs(float(luma[t + 1][cell]) - float(luma[t][cell])) for cell in cells])
        assert found[t, row, column] == pytest.approx(expected, abs=1e-6)


def test_the_flow_quantile_is_one_at_the_speed_that_hardly_anything_of_a_row_exceeds(ordinary):
    features = features_of(1)
    features[:, CHANNELS.index("person_foreground")] = 1.0
    speeds = ordinary.cells[:, MODELLED.index("person_speed")]
    found = []
    for row in range(ROWS):
        own = speeds[ordinary.rows == row]
        usual = np.quantile(own if len(own) >= 200 else speeds, 0.995)
        features[:, CHANNELS.index("person_speed"), row] = 2 * usual
        found.append(len(own) >= 200)
    assert any(found) and not all(found)
    np.testing.assert_allclose(BASELINES["flow_quantile"](ordinary)(features), 2, rtol=1e-5)


@pytest.mark.parametrize("method", ["flow_quantile", "knn", "gmm"])
def test_baselines_score_what_is_there_and_rank_the_fast_above_the_ordinary(ordinary, method):
    score = BASELINES[method](ordinary)
    usual, fast = features_of(7), walking(70, COLUMNS, 7, speed=1.5).astype(np.float32)
    for features in (usual, fast):
        found = score(features)
        assert np.isfinite(found).all() and (found >= 0).all() and (found[~active(features)] == 0).all()
    assert np.median(score(fast).max((1, 2))) > 1.5 * np.quantile(score(usual).max((1, 2)), 0.9)


def test_neighbours_are_those_of_the_same_band_of_rows(ordinary):
    features = features_of(2)
    found, here = BASELINES["knn"](ordinary)(features), np.argwhere(active(features))
    edges = np.quantile(ordinary.rows, [0.2, 0.4, 0.6, 0.8], method="lower")
    band = np.searchsorted(edges, np.arange(ROWS))
    standardised = ordinary.standard.apply(ordinary.cells[:, :, None, None])[..., 0, 0]
    for t, row, column in here[:: len(here) // 10]:
        cell = features[t + 1, -len(MODELLED) :, row, column]
        z = ordinary.standard.apply(cell[None, :, None, None])[0, :, 0, 0]
        distances = np.sqrt(((standardised[band[ordinary.rows] == band[row]] - z) ** 2).sum(1))
        assert found[t, row, column] == pytest.approx(np.sort(distances)[:5].mean(), rel=1e-3)


def test_a_cells_average_is_that_of_the_networks_surprises():
    """Causal, but for the first 0.8 s: what an average over these, taken backwards, ends at."""
    times = np.cumsum(np.random.default_rng(0).uniform(0.05, 0.3, 40))
    maps = np.random.default_rng(1).random((40, 2, 3)).astype(np.float32)
    found = averaged(maps, times, 0.4)
    first = int(np.argmax(times - times[0] >= 0.8)) + 1
    for row, column in np.ndindex(2, 3):
        one = maps[:, row, column]
        start = causal_average(one[:first][::-1], -times[:first][::-1], 0.4)[-1]
        expected = causal_average(np.concatenate([[start], one[1:]]), times, 0.4)
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-5)


@pytest.mark.parametrize("method", BASELINES)
def test_baselines_are_scored_across_row_groups_and_measured_like_the_network(trained, tmp_path, method):
    footage, _ = trained
    params = small_params(evaluate={"resamples": 100})
    score_baseline(method, footage.index, footage.features, footage.training, params, tmp_path / "scores")
    path = video_path(tmp_path / "scores", "gate", "gate/0.mp4")
    table = read_table(path, scores_schema(ROWS, COLUMNS))
    cells = table["cells"].combine_chunks().to_numpy_ndarray()
    split = footage_split(footage.features, footage.training, "gate", params)
    features = features_of(0)  # 70 rows in groups of 64
    whole = BASELINES[method](Ordinary.of(split.fit, params.train.seed))(np.concatenate([features[:1], features]))
    times = np.arange(70) / 10
    whole = averaged(whole, times, 0.4)
    np.testing.assert_array_equal(cells, whole.astype(np.float16))
    smooth = causal_average(whole.max((1, 2)), times, params.score.smoothing_seconds)
    np.testing.assert_array_equal(table["score"].to_numpy(), smooth)

    facts = {"num_frames": 70, "width": 64, "height": 48, "status": "ok", "scored": True}
    keys = [(row["camera_id"], row["video_id"]) for row in footage.index.to_pylist()]
    rows = [blank("videos", camera_id=camera, video_id=video, **facts) for camera, video in keys]
    write_table(tmp_path / "videos.parquet", pa.Table.from_pylist(rows, schema=SCHEMAS["videos"]), SCHEMAS["videos"])
    frames_of_scores(footage.index, tmp_path / "scores", tmp_path / "videos.parquet", tmp_path / "tables")
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "events.csv").write_text("video,onset_frame,offset_frame\ngate/0.mp4,20,40\n")
    (labels / "regions.csv").write_text("video,frame_index,x0,y0,x1,y1\ngate/0.mp4,30,0,0,64,48\n")
    made = footage.features, tmp_path / "scores", tmp_path / "tables", tmp_path / "no model"
    summary = evaluate(*made, labels, params).summary
    assert summary["num_videos"] == 4 and summary["pointing"]["value"] == 1.0
    assert 0 <= summary["auroc_micro_ema"]["value"] <= 1 and summary["num_events_predicted"] == 0


def test_the_table_says_where_the_network_is_beaten():
    def row(method, column, value):
        return {"data": "d", "method": method, "column": column, "value": value, "low": value, "high": value}

    network = [row("vidrnn", "auroc_micro_ema", 0.9), row("vidrnn", "eer", 0.1), row("vidrnn", "train_seconds", 9)]
    lines = quality.table([*network, row("knn", "auroc_micro_ema", 0.95), row("knn", "eer", 0.2)]).splitlines()
    assert lines[3].startswith("| d | knn | **0.950 ± 0.000** |") and " 0.200 ± 0.000 |" in lines[3]
    assert "**" not in lines[2] and lines[-1].startswith("Bold")
    worse = quality.table([*network, row("knn", "auroc_micro_ema", 0.85), row("knn", "eer", 0.1)])
    assert "**" not in worse and worse.endswith("Nothing is better than the network.")
    assert "**0.050" in quality.table([*network, row("knn", "eer", 0.05)])  # less is better
