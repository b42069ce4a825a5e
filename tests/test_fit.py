import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import files_of, small_task, tensor_bytes
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vidrnn.errors import CheckpointError, FootageError
from vidrnn.fit import EpochPrinter, _Judge, fit
from vidrnn.losses import load_loss, nll
from vidrnn.model import VideoRNN
from vidrnn.ray_fit import read_state, write_state
from vidrnn.windows import Batch, CellReader, WindowSampler

torch.set_num_threads(1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return small_task(tmp_path_factory.mktemp("fit"))


@pytest.mark.parametrize(
    ("cell", "loss", "by"),
    [
        ("gru", "nll", 0.05),
        ("lstm", "nll", 0.05),
        ("mingru", "nll", 0.05),
        ("article", "nll", 0.01),
        ("gru", "mse", 0.05),
        ("gru", "huber", 0.02),
    ],
)
def test_the_loss_falls(task, cell, loss, by):
    architecture = {**task.architecture, "cell": cell, "with_scale": loss == "nll"}
    task = replace(task, architecture=architecture, loss=loss, batches_per_epoch=30, learning_rate=0.03)
    first, *_, last = fit(task, CPU).history
    assert last["validation"] < first["validation"] and last["train"] < first["train"] - by


def test_equal_seeds_give_equal_bytes(task):
    first, again, other = (fit(replace(task, epochs=2, seed=seed), CPU) for seed in (0, 0, 1))
    assert tensor_bytes(first.weights) == tensor_bytes(again.weights) and first.history == again.history
    assert tensor_bytes(first.weights) != tensor_bytes(other.weights)


def test_a_random_number_drawn_elsewhere_changes_nothing(task):
    one = fit(replace(task, epochs=1), CPU)
    torch.manual_seed(99), np.random.seed(99)
    torch.rand(7)
    assert tensor_bytes(fit(replace(task, epochs=1), CPU).weights) == tensor_bytes(one.weights)


def validation_of(task, weights):
    """The loss on the held-out batches, as `fit` judges it."""
    net = VideoRNN(**task.architecture)
    net.load_state_dict(weights)
    return literal_loss(net.eval(), task, held_out(task))


def fit_sampler(task):
    return WindowSampler(
        CellReader(), task.fit, task.seq_len, task.horizons, task.cells_per_window, task.memory_dropout, task.seed
    )


def held_out(task):
    sampler = WindowSampler(
        CellReader(), task.validation, task.seq_len, task.horizons, task.cells_per_window, 0.5, task.seed + 1
    )
    return list(sampler.epoch(0, 8, task.batch_windows, 0, 1))


@torch.no_grad()
def literal_loss(net, task, batches):
    """Every target by itself: no burn-in, weighed, a memory of zeros where it is withheld."""
    total = weight = 0.0
    for batch in batches:
        for n in range(len(batch.place)):
            place = batch.place[n : n + 1]
            state = net.initial_state(1)
            for t in range(batch.context.shape[1]):
                memory, state = net(batch.context[n : n + 1, t : t + 1], place, state)
                if not batch.remembers[n]:
                    memory = torch.zeros_like(memory)
                mean, scale = (part[0, 0].double().numpy() for part in net.predict(memory, place))
                if t < task.burn_in:
                    continue
                for k in range(len(task.horizons)):
                    errors = batch.target[n, t, k].double().numpy() - mean[k]
                    if task.loss == "nll":
                        each = [0.5 * (e / s) ** 2 + math.log(s) for e, s in zip(errors, scale[k], strict=True)]
                    elif task.loss == "mse":
                        each = [e**2 for e in errors]
                    else:
                        each = [0.5 * e**2 if abs(e) <= 1 else abs(e) - 0.5 for e in errors]
                    w = batch.weight[n, t, k].item()
                    total, weight = total + w * sum(each) / len(each), weight + w
    return total / weight


@pytest.mark.parametrize("loss", ["nll", "mse", "huber"])
def test_the_loss_is_its_literal_twin(task, loss):
    task = replace(task, loss=loss, architecture={**task.architecture, "with_scale": loss == "nll"})
    torch.manual_seed(3)
    net = VideoRNN(**task.architecture)
    batches = held_out(task)[:2]
    total = weight = 0.0
    for batch in batches:
        part, part_weight = _Judge(net, load_loss(loss, task.loss_file), task.burn_in)(batch)
        total, weight = total + part.item() * part_weight.item(), weight + part_weight.item()
    assert total / weight == pytest.approx(literal_loss(net, task, batches), rel=1e-4)


def test_the_burn_in_carries_no_loss(task):
    net = VideoRNN(**task.architecture)
    batch = held_out(task)[0]
    worse = Batch(**{**vars(batch), "target": batch.target.clone()})
    worse.target[:, :2] += 100
    losses = [_Judge(net, nll, 2)(b)[0].item() for b in (batch, worse)]
    assert losses[0] == losses[1] != _Judge(net, nll, 1)(worse)[0].item()


def test_the_best_weights_are_those_of_the_best_validation(task):
    task = replace(task, epochs=6, patience=6, learning_rate=2.0)  # so large that most get worse
    tasks = (replace(task, seed=seed) for seed in range(9))
    task, result = next((task, result) for task in tasks if (result := fit(task, CPU)).best_epoch < 6)
    losses = [row["validation"] for row in result.history]
    assert len(losses) == 6 and result.best_epoch == 1 + losses.index(min(losses))
    assert validation_of(task, result.weights) == pytest.approx(min(losses), rel=1e-4)


def test_training_stops_when_patience_ends(task):
    states = []
    task = replace(task, epochs=40, patience=2, learning_rate=2.0, batches_per_epoch=2)
    result = fit(task, CPU, on_epoch=states.append)
    rows = result.history
    assert [state.best.history for state in states] == [rows[: k + 1] for k in range(len(rows))]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == result.best_epoch + 2 < 40


@pytest.mark.parametrize("cell", ["gru", "mingru"])
def test_a_resumed_training_ends_as_an_undisturbed_one(task, cell, tmp_path):
    """From every epoch, by way of files: the same bytes, and nothing more to do after the last."""
    task = replace(task, epochs=5, architecture={**task.architecture, "cell": cell})
    states = []
    whole = fit(task, CPU, on_epoch=states.append)
    assert len(states) == 5 and whole == states[-1].best
    for k, state in enumerate(states):
        folder = tmp_path / str(k)
        folder.mkdir()
        write_state(folder, state)
        told = []
        resumed = fit(task, CPU, on_epoch=told.append, resume=read_state(folder))
        assert tensor_bytes(resumed.weights) == tensor_bytes(whole.weights)
        assert (resumed.history, resumed.best_epoch) == (whole.history, whole.best_epoch)
        assert len(told) == 4 - k
        if told:
            for part in ("weights", "optimizer"):
                assert tensor_bytes(getattr(told[-1], part)) == tensor_bytes(getattr(states[-1], part))


def test_a_training_that_patience_ended_does_not_go_on(task):
    task = replace(task, epochs=40, patience=2, learning_rate=2.0, batches_per_epoch=2)
    states, told = [], []
    whole = fit(task, CPU, on_epoch=states.append)
    resumed = fit(task, CPU, on_epoch=told.append, resume=states[-1])
    assert len(states) < 40 and not told and resumed == whole


def test_a_state_needs_no_pickle(task, tmp_path):
    states = []
    fit(replace(task, epochs=1), CPU, on_epoch=states.append)
    write_state(tmp_path, states[0])
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert not any(b"pickle" in data or data[:1] == b"\x80" for data in files_of(tmp_path).values())


LOSSES = ["nll", "mse", "huber", "own_share:loss"]
WORKER = """
import pickle, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_pre_hook
from vidrnn.fit import fit
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
results = []
for task in pickle.load(open("tasks", "rb")):
    steps = []
    handle = register_optimizer_step_pre_hook(lambda *_: steps.append(0))
    results.append((fit(task, torch.device("cpu"), rank, 2, DistributedDataParallel), len(steps)))
    handle.remove()
pickle.dump(results, open(f"results{rank}", "wb"))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_with_every_loss_two_processes_find_what_one_finds(task, tmp_path):
    """Shares have unequal sums of weights; every process takes equally many steps."""
    (tmp_path / "own_share.py").write_text(
        "def loss(prediction, target, mask):\n"
        "    return ((prediction - target).abs().mean(-1, keepdim=True) * mask).sum() / mask.sum()\n"
    )
    tasks = [
        replace(
            task,
            epochs=2,
            loss=loss,
            loss_file=str(tmp_path / "own_share.py"),
            architecture={**task.architecture, "with_scale": loss == "nll"},
        )
        for loss in LOSSES
    ]
    batches = [next(fit_sampler(task).epoch(1, 1, task.batch_windows, rank, 2)) for rank in range(2)]
    assert batches[0].weight.sum() != batches[1].weight.sum()
    (tmp_path / "tasks").write_bytes(pickle.dumps(tasks))
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meeting")], cwd=tmp_path)
        for rank in range(2)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    results = [pickle.loads((tmp_path / f"results{rank}").read_bytes()) for rank in range(2)]
    for task, (mine, steps), (theirs, their_steps) in zip(tasks, *results, strict=True):
        alone = fit(task, CPU)
        assert steps == their_steps == 2 * task.batches_per_epoch
        assert tensor_bytes(mine.weights) == tensor_bytes(theirs.weights) and mine.history == theirs.history
        for one, other in zip(mine.history, alone.history, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        for name, tensor in alone.weights.items():
            np.testing.assert_allclose(mine.weights[name], tensor, atol=1e-5)


def test_the_learning_rate_falls_like_a_cosine(task):
    rates = [row["learning_rate"] for row in fit(task, CPU).history]
    assert rates == pytest.approx([0.01 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


@pytest.mark.parametrize("clip", [0.01, 1e9])
def test_gradients_are_clipped_before_they_are_used(task, clip):
    norms = []

    def watch(optimizer, *_):
        norms.append(torch.cat([p.grad.flatten() for g in optimizer.param_groups for p in g["params"]]).norm().item())

    handle = register_optimizer_step_pre_hook(watch)
    fit(replace(task, epochs=1, gradient_clip=clip), CPU)
    handle.remove()
    assert len(norms) == 4 and max(norms) <= clip * 1.001
    assert min(norms) > (0.0099 if clip == 0.01 else 0.02)


def test_training_starts_from_given_weights(task):
    torch.manual_seed(5)
    start = VideoRNN(**task.architecture).state_dict()
    result = fit(replace(task, initial=start, epochs=1, learning_rate=1e-9), CPU)
    for name, tensor in result.weights.items():
        torch.testing.assert_close(tensor, start[name], atol=1e-6, rtol=0)


def test_weights_of_another_shape_are_one_sentence(task):
    start = VideoRNN(**{**task.architecture, "hidden_size": 7}).state_dict()
    with pytest.raises(
        CheckpointError, match=r"^train\.init_from: it does not fit: its tensor .* expected .*null here$"
    ):
        fit(replace(task, initial=start), CPU)


def test_too_short_footage_is_one_sentence(task):
    for part in ("fit", "validation"):
        short = [(replace(block, stop=block.start + 10), *rest) for block, *rest in getattr(task, part)]
        with pytest.raises(FootageError, match="no stretch of ordinary footage holds a window of 11 analysed frames"):
            fit(replace(task, **{part: short}), CPU)


def test_a_loss_that_is_no_longer_a_number_is_one_sentence(task):
    start = {name: tensor * math.nan for name, tensor in VideoRNN(**task.architecture).state_dict().items()}
    with pytest.raises(
        FootageError, match=r"no longer a number after epoch 1; expected a smaller train\.learning_rate"
    ):
        fit(replace(task, initial=start), CPU)


def test_a_line_tells_of_every_epoch(capsys):
    printer = EpochPrinter("train gate", 3)
    printer({"epoch": 2.0, "train": 0.5, "validation": 0.25, "learning_rate": 0.1})
    line = capsys.readouterr().out
    assert line.startswith("train gate: epoch 2 of 3  loss 0.5000  validation 0.2500  (") and line.endswith(
        " s left)\n"
    )
