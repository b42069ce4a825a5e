"""The same code on CUDA. Without a GPU every test here is skipped."""

from dataclasses import replace

import pytest
import torch
from synthetic import small_task

from vidrnn.features import ROWS
from vidrnn.fit import fit
from vidrnn.model import VideoRNN, place_of
from vidrnn.params import load_params
from vidrnn.ray_fit import ray_fit, wants_gpu
from vidrnn.windows import MODELLED

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.mark.parametrize("cell", ["gru", "lstm", "mingru", "article"])
def test_training_on_a_gpu_finds_what_the_processor_finds(tmp_path, cell):
    task = small_task(tmp_path)
    task = replace(task, architecture={**task.architecture, "cell": cell})
    here, there = fit(task, torch.device("cpu")), fit(task, torch.device(DEVICE))
    assert there.best_epoch == here.best_epoch
    for mine, theirs in zip(there.history, here.history, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)
    for name, tensor in there.weights.items():
        assert tensor.device.type == "cpu"
        torch.testing.assert_close(tensor, here.weights[name], atol=1e-2, rtol=0)


@pytest.mark.parametrize("cell", ["gru", "lstm", "mingru", "article"])
def test_the_network_predicts_there_what_it_predicts_here(tmp_path, cell):
    torch.manual_seed(0)
    net = VideoRNN(**{**small_task(tmp_path).architecture, "cell": cell}).eval()
    cells, place = torch.randn(6, len(MODELLED), ROWS, 3), place_of(ROWS, 3, 0, 1)
    found = []
    for device in ("cpu", DEVICE):
        net, there = net.to(device), place.to(device)
        memory, _ = net.watch(cells.to(device), there, net.initial_state(len(place)))
        found.append([part.detach().cpu() for part in net.predict(memory, there)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_ray_trains_on_a_gpu_where_there_is_one(tmp_path):
    task = replace(small_task(tmp_path), epochs=2)
    assert wants_gpu(load_params().train)
    assert len(ray_fit(task, "train gate", 0, True).history) == 2
