"""Where the network runs: what is chosen, and what is set before anything is computed."""

import os
from dataclasses import replace

import pytest
import torch
from synthetic import Footage, small_params, small_task, tensor_bytes, walking

from vidrnn.device import CPU, choose_device, set_up
from vidrnn.errors import ParamsError
from vidrnn.fit import fit
from vidrnn.params import load_params
from vidrnn.train import train

PARAMS = load_params().device


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """The settings are those of a whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_demanded_and_missing_is_one_sentence():
    with pytest.raises(
        ParamsError, match=r"^params\.yaml: `device\.gpu` is true, but torch sees no GPU; set it to auto"
    ):
        choose_device(PARAMS.model_copy(update={"gpu": True}))
    assert choose_device(PARAMS.model_copy(update={"gpu": "auto"})) == CPU


def test_a_gpu_that_is_not_wanted_is_not_used():
    assert choose_device(PARAMS.model_copy(update={"gpu": False})) == CPU


def test_sums_are_exact_and_repeated_where_that_is_asked():
    choose_device(PARAMS)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.allow_tf32
    choose_device(PARAMS.model_copy(update={"deterministic": True}))
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    set_up(False)
    assert not torch.are_deterministic_algorithms_enabled()


OWN_LOSS = """
import torch
def drawn(prediction, target, mask):
    weight = torch.zeros_like(target).put_(torch.arange(target.numel()), torch.ones(target.numel()))
    return (weight * (prediction - target) ** 2).mean()
"""


def test_a_loss_that_cannot_be_repeated_is_refused_where_that_is_asked(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    task = small_task(tmp_path)
    task = replace(task, loss="own_loss:drawn", loss_file=str(tmp_path / "own_loss.py"), epochs=1)
    task = replace(task, architecture={**task.architecture, "with_scale": False})
    assert fit(task, CPU).history
    with pytest.raises(ParamsError, match=r"own_loss:drawn failed .*put_ does not have a deterministic"):
        fit(replace(task, deterministic=True), CPU)


def test_deterministic_training_gives_a_processor_the_same_bytes(tmp_path):
    task = replace(small_task(tmp_path), epochs=2)
    assert tensor_bytes(fit(replace(task, deterministic=True), CPU).weights) == tensor_bytes(fit(task, CPU).weights)


@pytest.mark.parametrize("cell", ["gru", "lstm", "mingru", "article"])
def test_training_in_bfloat16_learns_about_the_same(tmp_path, cell):
    """Its weights, its loss and its validation stay float32; what it judges itself by is what scoring will do."""
    task = small_task(tmp_path)
    task = replace(task, architecture={**task.architecture, "cell": cell})
    exact, rough = fit(task, CPU), fit(replace(task, autocast=True), CPU)
    assert {tensor.dtype for tensor in rough.weights.values()} == {torch.float32}
    assert tensor_bytes(rough.weights) != tensor_bytes(exact.weights)
    for mine, theirs in zip(rough.history, exact.history, strict=True):
        assert mine == pytest.approx(theirs, rel=0.02)


def test_params_reach_the_training(tmp_path, monkeypatch):
    (tmp_path / "another_loss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    footage = Footage(tmp_path)
    for k in range(3):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k))
    losses = {}
    for autocast in (False, True):
        params = small_params(train={"autocast": autocast})
        _, curve = train(footage.features, footage.training, params, tmp_path / f"{autocast}")
        losses[autocast] = [row["train"] for row in curve]
    assert losses[True] != losses[False] and losses[True] == pytest.approx(losses[False], rel=0.02)
    own = {"loss": "another_loss:drawn", "loss_file": str(tmp_path / "another_loss.py")}
    with pytest.raises(ParamsError, match="put_ does not have a deterministic"):
        params = small_params(device={"deterministic": True}, train=own)
        train(footage.features, footage.training, params, tmp_path / "own")
