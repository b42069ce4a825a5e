"""Fitting the network: a plain torch loop that runs the same in this process and on any number of workers.

Nothing here knows of Ray or of files other than feature files; `ray_fit.py` brings the two together. What is drawn and
in which order depends on the seed alone, so that equal params give equal bytes on one kind of machine.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidrnn.checkpoint import load_into
from vidrnn.errors import FootageError
from vidrnn.model import VideoRNN, negative_log_likelihood
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
        loss, learning_rate, epochs, batches_per_epoch, batch_windows, cells_per_window, memory_dropout,
            gradient_clip, patience, seed, threads: as in `params.TrainParams`.
    """

    architecture: dict[str, Any]
    fit: list[tuple[Block, Standard, Tensor]]
    validation: list[tuple[Block, Standard, Tensor]]
    initial: dict[str, Tensor] | None
    seq_len: int
    burn_in: int
    horizons: list[int]
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


def fit(
    task: FitTask,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    prepare: Callable[[nn.Module], nn.Module] = lambda net: net,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> FitResult:
    """Fit with Adam, a cosine-decayed learning rate, gradient clipping and early stopping.

    Args:
        task: what to fit.
        device: where.
        rank, world_size: this worker's share of every batch.
        prepare: wraps the network for several workers (DistributedDataParallel).
        on_epoch: told each row of the history, on every worker equally often.

    Raises:
        FootageError: no block is long enough for one window, or the loss is no longer finite.
    """
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    net = VideoRNN(**task.architecture)
    if task.initial is not None:
        load_into(net, task.initial, "train.init_from: it", "give `model` the values it was trained with, or null here")
    net.to(device)
    trained = prepare(_Loss(net, task.loss, task.burn_in).to(device))
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
    optimizer = torch.optim.Adam(net.parameters(), task.learning_rate)
    steps = task.epochs * task.batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))

    best, best_epoch, best_weights = math.inf, 0, _weights_of(net)
    history: list[dict[str, float]] = []
    for epoch in range(1, task.epochs + 1):
        losses = []
        rate = float(schedule.get_last_lr()[0])
        batches = sampler.epoch(epoch, task.batches_per_epoch, task.batch_windows, rank, world_size)
        for batch in _read_ahead(batches):
            optimizer.zero_grad()
            total, weight = trained(_to(batch, device))
            # Gradients are averaged over workers: with the mean weight below each share, they are those of the batch.
            loss = total / _worker_mean(weight, world_size)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), task.gradient_clip)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        row = {
            "epoch": float(epoch),
            "train": float(_worker_mean(torch.stack(losses).mean(), world_size)),
            "validation": _validate(net, task, judged, device),
            "learning_rate": rate,
        }
        if not math.isfinite(row["train"]) or not math.isfinite(row["validation"]):
            raise FootageError(
                f"the loss was no longer a number after epoch {epoch}; expected a smaller train.learning_rate "
                f"than {task.learning_rate}"
            )
        history.append(row)
        on_epoch(row)
        if row["validation"] < best:
            best, best_epoch, best_weights = row["validation"], epoch, _weights_of(net)
        elif epoch - best_epoch >= task.patience:
            break
    return FitResult(best_weights, history, best_epoch)


class _Loss(nn.Module):
    """The network with its loss, as one forward pass, so that several workers can synchronise its gradients."""

    def __init__(self, net: VideoRNN, loss: str, burn_in: int) -> None:
        super().__init__()
        self.net, self.loss, self.burn_in = net, loss, burn_in

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted sum of losses, and the sum of weights."""
        memory, _ = self.net(batch.context, batch.place, self.net.initial_state(len(batch.place)))  # (N, T, H)
        memory = memory * batch.remembers[:, None, None]
        mean, scale = self.net.predict(memory, batch.place)  # (N, T, K, C)
        each = negative_log_likelihood(mean, scale, batch.target) if self.loss == "nll" else (batch.target - mean) ** 2
        weight = batch.weight[:, self.burn_in :]  # (N, T, K)
        return (each.mean(-1)[:, self.burn_in :] * weight).sum(), weight.sum()


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
def _validate(net: VideoRNN, task: FitTask, judged: list[Batch], device: torch.device) -> float:
    """The loss on batches that are the same every time, and on every worker."""
    net.eval()
    judge = _Loss(net, task.loss, task.burn_in)
    total = weight = 0.0
    for batch in judged:
        part, part_weight = judge(_to(batch, device))
        total, weight = total + part.item(), weight + part_weight.item()
    net.train()
    return total / weight


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__dataclass_fields__})


def _weights_of(net: VideoRNN) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


class EpochPrinter:
    """Prints a line an epoch: where training stands, and how long it may still take."""

    def __init__(self, title: str, epochs: int) -> None:
        self._title, self._epochs, self._start = title, epochs, time.monotonic()

    def __call__(self, row: dict[str, float]) -> None:
        """Print the row of the history that just came."""
        epoch = int(row["epoch"])
        left = (time.monotonic() - self._start) / epoch * (self._epochs - epoch)
        print(
            f"{self._title}: epoch {epoch} of {self._epochs}  loss {row['train']:.4f}  "
            f"validation {row['validation']:.4f}  ({left:.0f} s left)",
            flush=True,
        )
