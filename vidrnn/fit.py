"""Fitting the network: a plain torch loop that runs the same in this process and on any number of workers.

Nothing here knows of Ray or of files other than feature files; `ray_fit.py` brings the two together. What is drawn and
in which order depends on the seed alone, so that equal params give equal bytes on one kind of machine.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vidrnn.checkpoint import load_into
from vidrnn.device import set_up
from vidrnn.errors import FootageError
from vidrnn.losses import Loss, check_loss, load_loss
from vidrnn.model import VideoRNN
from vidrnn.windows import Batch, Block, CellReader, Standard, WindowSampler

_VALIDATION_BATCHES = 8
_VALIDATION_SEED = 1  # beside the user's: validation draws its windows once and for all


@dataclass(frozen=True)
class FitTask:
    """One network to fit; plain values, so that it travels to a worker.

    Attributes:
        architecture: arguments of `VideoRNN`.
        fit, validation: blocks, each with the scaling and the place tensor (cells, place_size) of its camera.
        initial: weights to start from; None draws them.
        seq_len, burn_in: T, and leading steps without loss.
        horizons: numbers of steps ahead.
        loss_file: as in `params.TrainParams`, absolute, since a worker may run in another folder.
        loss, learning_rate, epochs, batches_per_epoch, batch_windows, cells_per_window, memory_dropout,
            gradient_clip, patience, seed, threads, autocast: as in `params.TrainParams`.
        deterministic: as in `params.DeviceParams`.
    """

    architecture: dict[str, Any]
    fit: list[tuple[Block, Standard, Tensor]]
    validation: list[tuple[Block, Standard, Tensor]]
    initial: dict[str, Tensor] | None
    seq_len: int
    burn_in: int
    horizons: list[int]
    loss_file: str
    loss: str
    learning_rate: float
    epochs: int
    batches_per_epoch: int
    batch_windows: int
    cells_per_window: int
    memory_dropout: float
    gradient_clip: float
    patience: int
    seed: int
    threads: int
    deterministic: bool
    autocast: bool


@dataclass(frozen=True)
class FitResult:
    """What came of it.

    Attributes:
        weights: of the epoch with the lowest validation loss, on the CPU.
        history: a row an epoch: epoch, train, validation, learning_rate.
        best_epoch: 1-based.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int


@dataclass(frozen=True)
class FitState:
    """Where training stands after an epoch: all that the epochs to come depend on, on the CPU.

    Attributes:
        weights: after the last epoch of the history.
        optimizer: Adam's running means and number of steps, by `<index of the parameter>.<their name in torch>`.
        best: the result, were this the last epoch.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: FitResult


def fit(
    task: FitTask,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    prepare: Callable[[nn.Module], nn.Module] = lambda net: net,
    on_epoch: Callable[[FitState], None] = lambda state: None,
    resume: FitState | None = None,
) -> FitResult:
    """Fit with Adam, a cosine-decayed learning rate, gradient clipping and early stopping.

    Args:
        task: what to fit.
        device: where.
        rank, world_size: this worker's share of every batch.
        prepare: wraps the network for several workers (DistributedDataParallel).
        on_epoch: told of each epoch that ends, on every worker equally often.
        resume: where to go on; the result is that of an undisturbed run, to the byte.

    Raises:
        FootageError: no block is long enough for one window, or the loss is no longer finite.
        ParamsError: the loss cannot be used.
        CheckpointError: the weights to start from are those of another network.
    """
    set_up(task.deterministic)
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    loss_function = load_loss(task.loss, task.loss_file)
    net = VideoRNN(**task.architecture)
    if task.initial is not None:
        load_into(net, task.initial, "train.init_from: it", "give `model` the values it was trained with, or null here")
    if resume is not None:
        net.load_state_dict(resume.weights)
    net.to(device)
    judge = _Judge(net, loss_function, task.burn_in)
    reader = CellReader()
    sampler = _sampler(reader, task.fit, task, task.seed, task.memory_dropout)
    # Half of the validation sequences remember and half do not, whatever the dropout: both answers are wanted.
    held_out = _sampler(reader, task.validation, task, task.seed + _VALIDATION_SEED, 0.5)
    if not len(sampler) or not len(held_out):
        raise FootageError(
            f"no stretch of ordinary footage holds a window of {task.seq_len + task.horizons[-1]} analysed frames; "
            "expected longer files, or a smaller train.seq_seconds or model.horizons_seconds"
        )
    judged = list(held_out.epoch(0, _VALIDATION_BATCHES, task.batch_windows, 0, 1))
    if ":" in task.loss:  # the user's own
        with torch.no_grad():
            parts = judge.targets(_to(judged[0], device))
        check_loss(loss_function, task.loss, *parts, world_size > 1)
    trained = prepare(judge)
    optimizer = torch.optim.Adam(net.parameters(), task.learning_rate)
    if resume is not None:
        _restore(optimizer, resume.optimizer)
    best = FitResult(_cpu(net.state_dict()), [], 0) if resume is None else resume.best
    while (epoch := len(best.history) + 1) <= task.epochs and epoch - best.best_epoch <= task.patience:
        losses, rates = [], _learning_rates(task, epoch)
        batches = sampler.epoch(epoch, task.batches_per_epoch, task.batch_windows, rank, world_size)
        for rate, batch in zip(rates, _read_ahead(batches), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=task.autocast):
                value, weight = trained(_to(batch, device))
            # Gradients are averaged over workers: with each share weighed like this, they are those of the batch.
            loss = value * (weight / _worker_mean(weight, world_size))
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), task.gradient_clip)
            optimizer.step()
            losses.append(loss.detach())
        row = {
            "epoch": float(epoch),
            "train": float(_worker_mean(torch.stack(losses).mean(), world_size)),
            "validation": _validate(judge, judged, device),
            "learning_rate": rates[0],
        }
        if not math.isfinite(row["train"]) or not math.isfinite(row["validation"]):
            raise FootageError(
                f"the loss was no longer a number after epoch {epoch}; expected a smaller train.learning_rate "
                f"than {task.learning_rate}"
            )
        weights, history = _cpu(net.state_dict()), [*best.history, row]
        if all(row["validation"] < earlier["validation"] for earlier in best.history):
            best = FitResult(weights, history, epoch)
        else:
            best = replace(best, history=history)
        on_epoch(FitState(weights, _cpu(_flat(optimizer)), best))
    return best


class _Judge(nn.Module):
    """The network with its loss, as one forward pass, so that several workers can synchronise its gradients."""

    def __init__(self, net: VideoRNN, loss: Loss, burn_in: int) -> None:
        super().__init__()
        self.net, self.loss, self.burn_in = net, loss, burn_in

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss, and the sum of its mask."""
        mean, scale, target, mask = self.targets(batch)
        return self.loss(mean, scale, target, mask), mask.sum()

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, scale and target, (N, T − burn-in, K, C) each, and mask, (N, T − burn-in, K, 1)."""
        memory, _ = self.net(batch.context, batch.place, self.net.initial_state(len(batch.place)))  # (N, T, H)
        memory = memory * batch.remembers[:, None, None]
        mean, scale = self.net.predict(memory, batch.place)  # (N, T, K, C)
        mean, scale = mean.float(), scale.float()  # of what is found in bfloat16 the loss is still exact
        after = slice(self.burn_in, None)
        return mean[:, after], scale[:, after], batch.target[:, after], batch.weight[:, after, :, None]


def _learning_rates(task: FitTask, epoch: int) -> list[float]:
    """Of every batch of an epoch: half a cosine from `learning_rate` down to 0 over all of training."""
    first, steps = (epoch - 1) * task.batches_per_epoch, task.epochs * task.batches_per_epoch
    turns = [(first + batch) / steps for batch in range(task.batches_per_epoch)]
    return [task.learning_rate * 0.5 * (1 + math.cos(math.pi * turn)) for turn in turns]


def _read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order, the next one read while the last one is learned from."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _worker_mean(value: Tensor, world_size: int) -> Tensor:
    """The mean of a number over all workers; without a gradient where there are several."""
    if world_size == 1:
        return value
    value = value.detach().clone()
    torch.distributed.all_reduce(value)
    return value / world_size


def _sampler(
    reader: CellReader, blocks: list[tuple[Block, Standard, Tensor]], task: FitTask, seed: int, dropout: float
) -> WindowSampler:
    return WindowSampler(reader, blocks, task.seq_len, task.horizons, task.cells_per_window, dropout, seed)


@torch.no_grad()
def _validate(judge: _Judge, judged: list[Batch], device: torch.device) -> float:
    """The loss on batches that are the same every time, and on every worker."""
    total = weight = 0.0
    for batch in judged:
        part, part_weight = (tensor.item() for tensor in judge(_to(batch, device)))
        total, weight = total + part * part_weight, weight + part_weight
    return total / weight


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__dataclass_fields__})


def _cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, own in state.items() for name, tensor in own.items()}


def _restore(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in flat.items():
        index, _, name = key.partition(".")
        state[int(index)][name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


class EpochPrinter:
    """Prints a line an epoch: where training stands, and how long it may still take."""

    def __init__(self, title: str, epochs: int) -> None:
        self._title, self._epochs, self._start, self._done = title, epochs, time.monotonic(), 0

    def __call__(self, row: dict[str, float]) -> None:
        """Print the row of the history that just came."""
        epoch = int(row["epoch"])
        self._done += 1  # here: training may have resumed
        left = (time.monotonic() - self._start) / self._done * (self._epochs - epoch)
        print(
            f"{self._title}: epoch {epoch} of {self._epochs}  loss {row['train']:.4f}  "
            f"validation {row['validation']:.4f}  ({left:.0f} s left)",
            flush=True,
        )
