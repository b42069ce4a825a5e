"""The same code on CUDA. Without a GPU every test here is skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from synthetic import Footage, files_of, save_camera_model, small_params, small_task, tensor_bytes, walking, write_fates

from vidrnn.cards import camera_dir, load_card
from vidrnn.device import CPU, choose_device, set_up
from vidrnn.features import ROWS
from vidrnn.fit import fit
from vidrnn.gate import gate
from vidrnn.model import VideoRNN, place_of
from vidrnn.params import load_params
from vidrnn.ray_fit import ray_fit
from vidrnn.rescore import score_videos
from vidrnn.storage import video_path
from vidrnn.train import calibrate, train
from vidrnn.windows import MODELLED

DEVICE = torch.device("cuda")
ON_GPU, ON_CPU = (load_params().device.model_copy(update={"gpu": gpu}) for gpu in (True, False))
CELLS = ["gru", "lstm", "mingru", "article"]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.fixture(autouse=True)
def _set_up_as_usual() -> Iterator[None]:
    """A test that asks for the same bits on every run leaves the others as they are."""
    yield
    set_up(deterministic=False)


@contextmanager
def takes_gpu_memory(takes: bool) -> Iterator[None]:
    """What is done here takes memory of the GPU beyond what is held already, or it takes none."""
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    yield
    assert (torch.cuda.max_memory_allocated() > held) == takes


@pytest.mark.parametrize("cell", CELLS)
def test_training_on_a_gpu_finds_what_the_processor_finds(tmp_path, cell):
    task = small_task(tmp_path)
    task = replace(task, architecture={**task.architecture, "cell": cell})
    here, there = fit(task, CPU), fit(task, DEVICE)
    assert there.best_epoch == here.best_epoch
    for mine, theirs in zip(there.history, here.history, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)
    for name, tensor in there.weights.items():
        assert tensor.device.type == "cpu"
        torch.testing.assert_close(tensor, here.weights[name], atol=1e-2, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_the_network_predicts_there_what_it_predicts_here(tmp_path, cell):
    set_up(deterministic=False)
    torch.manual_seed(0)
    net = VideoRNN(**{**small_task(tmp_path).architecture, "cell": cell}).eval()
    cells, place = torch.randn(6, len(MODELLED), ROWS, 3), place_of(ROWS, 3, 0, 1)
    found = []
    for device in (CPU, DEVICE):
        net, there = net.to(device), place.to(device)
        memory, _ = net.watch(cells.to(device), there, net.initial_state(len(place)))
        found.append([part.detach().cpu() for part in net.predict(memory, there)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_ray_trains_on_a_gpu_where_there_is_one(tmp_path):
    task = replace(small_task(tmp_path), epochs=2)
    assert choose_device(ON_GPU) == choose_device(load_params().device) == DEVICE
    assert len(ray_fit(task, "train gate", 0, True).history) == 2


@pytest.mark.parametrize("cell", CELLS)
def test_deterministic_training_gives_the_same_bytes_again(tmp_path, cell):
    task = replace(small_task(tmp_path), deterministic=True)
    task = replace(task, architecture={**task.architecture, "cell": cell})
    first, second = fit(task, DEVICE), fit(task, DEVICE)
    assert tensor_bytes(first.weights) == tensor_bytes(second.weights) and first.history == second.history


@pytest.mark.parametrize("cell", CELLS)
def test_training_in_bfloat16_learns_about_the_same(tmp_path, cell):
    task = small_task(tmp_path)
    task = replace(task, architecture={**task.architecture, "cell": cell})
    exact, rough = fit(task, DEVICE), fit(replace(task, autocast=True), DEVICE)
    assert {tensor.dtype for tensor in rough.weights.values()} == {torch.float32}
    assert tensor_bytes(rough.weights) != tensor_bytes(exact.weights)
    for mine, theirs in zip(rough.history, exact.history, strict=True):
        assert mine == pytest.approx(theirs, rel=0.02)


def test_scores_found_there_are_those_found_here(tmp_path):
    footage, models = Footage(tmp_path), tmp_path / "model"
    footage.add("gate/a.mp4", walking(120, 4, 0), regions=[(3, 1.0, 1.0, 9.0, 9.0)])
    save_camera_model(camera_dir(models, "gate"))
    write_fates(models, gate="")
    found = []
    for device in (ON_CPU, ON_GPU):
        out = tmp_path / f"scores {device.gpu}"
        with takes_gpu_memory(device.gpu):  # one video is scored in this process
            score_videos(footage.index, footage.features, models, out, device)
        found.append(pq.read_table(video_path(out, "gate", "gate/a.mp4"), partitioning=None))
    for name in ("score_raw", "score"):
        np.testing.assert_allclose(*(table[name].to_numpy() for table in found), rtol=1e-3, atol=1e-3)


def test_a_camera_is_trained_calibrated_and_judged_there(tmp_path, monkeypatch):
    """What it is given to think of its held-out footage is what a processor finds, and so is the gate's opinion."""
    footage = Footage(tmp_path)
    for k in range(5):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k))
    cards, decided = [], []
    for device in (ON_CPU, ON_GPU):
        params = small_params(device=device.model_dump())
        out = tmp_path / f"{device.gpu}"
        monkeypatch.setattr("vidrnn.train.calibrate", takes_gpu_memory(device.gpu)(calibrate))
        for seed in (0, 1):
            own = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
            train(footage.features, footage.training, own, out / f"{seed}")
        cards.append(load_card(camera_dir(out / "0", "gate")))
        with takes_gpu_memory(device.gpu):
            table = gate(footage.features, footage.training, out / "1", out / "0", out / "kept", params)
        decided.append(dict(zip(table["measure"].to_pylist(), table["candidate_value"].to_pylist(), strict=True)))
        assert set(files_of(out / "kept" / "gate")) == {"model.json", "weights.safetensors"}
    here, there = cards
    assert there["heldout"]["nll"] == pytest.approx(here["heldout"]["nll"], abs=0.01)
    assert there["calibration"]["tail"]["base"] == pytest.approx(here["calibration"]["tail"]["base"], rel=0.05)
    assert decided[1]["heldout_nll"] == pytest.approx(decided[0]["heldout_nll"], abs=0.01)
