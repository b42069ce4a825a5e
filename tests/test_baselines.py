import numpy as np
import pytest
import torch
from synthetic import Footage, files_of, small_params, walking

from benchmarks.baselines import cut_memory, without_memory
from vidrnn.cards import camera_dir, load_card
from vidrnn.score import load_camera_model, observe, score_video
from vidrnn.storage import video_path
from vidrnn.train import train
from vidrnn.windows import CellReader

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
    whole, cut = (
        expected_of(m, video_path(footage.features / "cells", "gate", "gate/0.mp4"))
        for m in (model, without_memory(model))
    )
    for before, after in zip(whole, cut, strict=True):
        np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5, atol=1e-6)  # what needs no memory stays
        np.testing.assert_allclose(after[:, 1], np.broadcast_to(after[:1, 0], after[:, 1].shape), rtol=1e-5, atol=1e-6)
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
        score_video(model, cells, regions, (64, 48), tmp_path / "scores.parquet", "made")
        scored.append((tmp_path / "scores.parquet").read_bytes())
    assert scored[0] != scored[1]
