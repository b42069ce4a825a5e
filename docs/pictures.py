"""Draw the pictures of docs/tutorial.md: `python -m docs.pictures`. A small network learns while you wait.

What it watches is one number, as if a single cell of a picture had a single channel: somebody walks past every two
seconds, and once stays away and once comes early. The cell is the project's own, and so are the loss, the average, the
tail that sets the threshold and the search for events.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from vidrnn.calibration import Tail
from vidrnn.cells import GRUCell
from vidrnn.events import causal_average, find_events
from vidrnn.losses import nll

Floats = npt.NDArray[np.float32]
HERE = Path(__file__).resolve().parent
RATE, PERIOD = 10, 20  # steps a second; steps from one passer-by to the next
SECONDS = 40
MISSING, EARLY = 9, 14  # which passer-by stays away, and which comes half a period early
HIDDEN, ROUNDS, AHEAD = 12, 200, 2  # AHEAD: steps
PER_HOUR, MERGE_SECONDS = 10.0, 2.0


@dataclass(frozen=True)
class Watched:
    """(T,) each but the state, which is (T, HIDDEN)."""

    seen: Floats
    mean: Floats
    scale: Floats
    state: Floats

    @property
    def surprise(self) -> Floats:
        """How many of the predicted spreads the world lies from the prediction."""
        surprise: Floats = np.abs(self.seen - self.mean) / self.scale
        return surprise


def walkers(seed: int, seconds: int, planted: bool) -> Floats:
    """How much of the cell is filled: a bump whenever somebody walks past, and noise."""
    rng = np.random.default_rng(seed)
    steps = np.arange(seconds * RATE)
    values = 0.03 * rng.standard_normal(len(steps))
    for number in range(len(steps) // PERIOD):
        centre = number * PERIOD + PERIOD / 2 + rng.normal(0, 0.4)
        if planted and number == MISSING:
            continue
        if planted and number == EARLY:
            centre -= PERIOD / 2
        values += np.exp(-0.5 * ((steps - centre) / 1.8) ** 2)
    return values.astype(np.float32)


class Net(nn.Module):
    """An input layer, a recurrent layer and an output layer, as in `vidrnn/model.py`, for one number."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Linear(1, HIDDEN)
        self.cell = GRUCell(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, 1) to the mean and the scale of what comes AHEAD steps later, and the state: (B, T, ·)."""
        state, _ = self.cell(torch.relu(self.input(x)), self.cell.initial_state(len(x)))
        mean, spread = self.output(state).chunk(2, -1)
        return mean, nn.functional.softplus(spread) + 0.02, state


def learn() -> Net:
    """From ordinary footage alone."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    ordinary = torch.from_numpy(np.stack([walkers(seed, SECONDS, False) for seed in range(1, 5)]))[..., None]
    for _ in range(ROUNDS):
        mean, scale, _ = net(ordinary[:, :-AHEAD])
        # (N, T, K, C) as the loss has it; the first second warms the state up.
        mean, scale, target = (tensor[:, RATE:, None] for tensor in (mean, scale, ordinary[:, AHEAD:]))
        loss = nll(mean, scale, target, torch.ones_like(target))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


@torch.no_grad()
def watch(net: Net, values: Floats) -> Watched:
    """What the network expected of each step, AHEAD steps before; of the first steps, what it saw."""
    mean, scale, state = net(torch.from_numpy(values)[None, :, None])
    expected, spread = values.copy(), np.ones_like(values)
    expected[AHEAD:], spread[AHEAD:] = mean[0, :-AHEAD, 0].numpy(), scale[0, :-AHEAD, 0].numpy()
    return Watched(values, expected, spread, state[0].numpy())


def draw(folder: Path) -> None:
    """state.png, prediction.png and event.png."""
    net = learn()
    tonight = watch(net, walkers(99, SECONDS, True))
    ordinary = [watch(net, walkers(seed, SECONDS, False)) for seed in range(20, 30)]  # that it has not learned from
    times = np.arange(len(tonight.seen)) / RATE
    scores = causal_average(tonight.surprise, times, 0.4)
    kept = slice(RATE, None)
    held = [(causal_average(one.surprise, times, 0.4)[kept], times[kept]) for one in ordinary]
    tail = Tail.measure(held, MERGE_SECONDS)
    threshold = tail.threshold(PER_HOUR)

    figure, axes = _figure(2)
    axes[0].plot(times, tonight.seen, color="black", linewidth=1)
    axes[0].set_ylabel("seen")
    axes[1].imshow(tonight.state.T, aspect="auto", cmap="coolwarm", vmin=-1, vmax=1, extent=(0, SECONDS, 0, HIDDEN))
    axes[1].set_ylabel("state: 12 numbers")
    _save(figure, axes, folder / "state.png")

    figure, axes = _figure(2)
    low, high = tonight.mean - 2 * tonight.scale, tonight.mean + 2 * tonight.scale
    axes[0].fill_between(times[kept], low[kept], high[kept], color="tab:blue", alpha=0.3, label="expected, ±2 spreads")
    axes[0].plot(times, tonight.seen, color="black", linewidth=1, label="seen")
    axes[0].legend(loc="upper right", ncols=2, fontsize=8)
    axes[0].set_ylim(-0.4, 1.8)
    axes[1].plot(times[kept], tonight.surprise[kept], color="tab:red", linewidth=1)
    axes[1].set_ylabel("spreads away")
    _save(figure, axes, folder / "prediction.png")

    figure, axes = _figure(2)
    axes[0].plot(times, tonight.seen, color="black", linewidth=1)
    axes[0].set_ylabel("seen")
    axes[1].plot(times[kept], scores[kept], color="tab:red", linewidth=1, label="score")
    axes[1].axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"{PER_HOUR:g} false alarms an hour")
    axes[1].legend(loc="upper right", ncols=2, fontsize=8)
    alarms = scores[kept] > threshold
    for span in find_events(scores[kept], alarms, np.ones_like(alarms), times[kept], MERGE_SECONDS):
        for axis in axes:
            axis.axvspan(times[kept][span.start], times[kept][span.stop - 1], color="tab:orange", alpha=0.3)
    _save(figure, axes, folder / "event.png")


def _figure(rows: int) -> tuple[Figure, list[Axes]]:
    matplotlib.use("Agg")
    figure = Figure(figsize=(9, 1.7 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True)
    return figure, list(axes)


def _save(figure: Figure, axes: list[Axes], path: Path) -> None:
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, SECONDS)
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    draw(HERE)
