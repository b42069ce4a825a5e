"""The network: an input layer, recurrent hidden layers, an output layer. One cell of the picture is one sequence.

It predicts, for each channel of what is in a cell, a mean and a scale at every horizon, wherever that will have moved
to, and once more from the place alone: the prior, what this place is usually like. One set of weights answers both,
since memory is withheld from the output layer for part of the training sequences.
"""

import math

import torch
from torch import Tensor, nn

from vidrnn.cells import CELLS

POSITION = 2  # y and x of a cell's centre in [−1, 1], beside its features
NEIGHBOURS = 9  # a cell and those around it
BOUND = 6.0  # of a predicted mean, in standard deviations: a linear one runs away where little was seen
SCALE_FLOOR = 0.3  # of a predicted scale, likewise: or quiet channels take over as training goes on

State = tuple[Tensor, ...]


class VideoRNN(nn.Module):
    """Context of a cell in, distributions of its channels at several horizons out.

    Args:
        num_channels: C, channels that are seen and predicted.
        num_horizons: K, horizons ahead.
        cell: a key of `CELLS`.
        hidden_size: H.
        num_layers: of recurrent cells, each reading the one below.
        num_cameras: size of the camera embedding; 1 has none.
        with_scale: whether scales are learned (loss nll) or 1 (any other loss).
        neighbours: NEIGHBOURS, or 1 where a cell is alone and sees itself.
    """

    def __init__(
        self,
        num_channels: int,
        num_horizons: int,
        cell: str,
        hidden_size: int,
        num_layers: int,
        num_cameras: int,
        with_scale: bool,
        neighbours: int = NEIGHBOURS,
    ) -> None:
        super().__init__()
        self.num_channels, self.num_horizons, self.with_scale = num_channels, num_horizons, with_scale
        self.neighbours = neighbours
        place_size = POSITION + (num_cameras if num_cameras > 1 else 0)
        self.input = nn.Linear(neighbours * num_channels + place_size, hidden_size)
        self.hidden = nn.ModuleList(CELLS[cell](hidden_size, hidden_size) for _ in range(num_layers))
        # The place goes around the recurrence: what is usual here is known before anything was seen.
        self.output = nn.Sequential(
            nn.Linear(hidden_size + place_size, 2 * hidden_size),
            nn.ReLU(),
            nn.Linear(2 * hidden_size, num_horizons * num_channels * (2 if with_scale else 1)),
        )

    def initial_state(self, batch: int) -> State:
        """What a new video starts from, and what follows a gap."""
        return tuple(layer.initial_state(batch) for layer in self.hidden)  # type: ignore[operator]

    def forward(self, context: Tensor, place: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the recurrence over a chunk.

        Args:
            context: (B, T, 9 · C) standardised features of each cell and its neighbours, in the order (C, 3, 3); zeros
                beyond the border. (B, T, C) of a cell alone.
            place: (B, place_size), from `place_of`.
            state: from `initial_state` or the chunk before.

        Returns:
            memory (B, T, H), what is known after each step, and the state after the last.
        """
        steps = context.shape[1]
        return self._recur(self.input(torch.cat([context, place[:, None].expand(-1, steps, -1)], -1)), state)

    def watch(self, cells: Tensor, place: Tensor, state: State) -> tuple[Tensor, State]:
        """`forward` for every cell of a grid at once: there the input layer is a convolution.

        Args:
            cells: (T, C, rows, columns) standardised features.
            place: (rows · columns, place_size).
            state: as in `forward`.

        Returns:
            memory (rows · columns, T, H), and the state after the last step.
        """
        around, side = self.neighbours * self.num_channels, math.isqrt(self.neighbours)
        kernel = self.input.weight[:, :around].view(-1, self.num_channels, side, side)
        seen = nn.functional.conv2d(cells, kernel, padding=side // 2).flatten(2).permute(2, 0, 1)  # (N, T, H)
        here = nn.functional.linear(place, self.input.weight[:, around:], self.input.bias)  # (N, H)
        return self._recur(seen + here[:, None], state)

    def _recur(self, h: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.tanh(h)  # (B, T, H)
        states = []
        for layer, layer_state in zip(self.hidden, state, strict=True):
            h, layer_state = layer(h, layer_state)  # (B, T, H)
            states.append(layer_state)
        return h, tuple(states)

    def predict(self, memory: Tensor, place: Tensor, horizons: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """What comes next given a memory; a memory of zeros gives the prior.

        Args:
            memory: (B, T, H) from `forward`, or zeros.
            place: (B, place_size).
            horizons: which of them are wanted; K of them.

        Returns:
            mean and scale, each (B, T, K, C) in standardised units.
        """
        t = memory.shape[1]
        hidden = self.output[:-1](torch.cat([memory, place[:, None].expand(-1, t, -1)], -1))
        last = self.output[-1]
        assert isinstance(last, nn.Linear)
        weight = last.weight.view(self.num_horizons, -1, last.in_features)[horizons]  # of these alone, to save time
        bias = last.bias.view(self.num_horizons, -1)[horizons]
        out = nn.functional.linear(hidden, weight.flatten(0, 1), bias.flatten())
        out = out.view(*out.shape[:2], *weight.shape[:2])  # (B, T, K, C or 2C)
        mean = BOUND * torch.tanh(out[..., : self.num_channels] / BOUND)
        if not self.with_scale:
            return mean, torch.ones_like(mean)
        wide = out[..., self.num_channels :].contiguous()  # a softplus of parts of rows takes 15 times as long
        return mean, nn.functional.softplus(wide) + SCALE_FLOOR


def place_of(rows: int, columns: int, camera_index: int, num_cameras: int) -> Tensor:
    """(rows · columns, place_size): the centre of each cell in [−1, 1], then which of several cameras it is."""
    y = torch.linspace(-1, 1, rows)[:, None].expand(rows, columns)
    x = torch.linspace(-1, 1, columns)[None, :].expand(rows, columns)
    place = torch.stack([y, x], -1).reshape(rows * columns, POSITION)
    if num_cameras == 1:
        return place
    camera = nn.functional.one_hot(torch.tensor(camera_index), num_cameras).to(place.dtype)
    return torch.cat([place, camera.expand(len(place), -1)], -1)
