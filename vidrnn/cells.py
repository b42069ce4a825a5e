"""Recurrent cells, each a layer with one signature: `cell(x, state) -> (output, state)`.

x is (B, T, in), output (B, T, hidden); the state is an argument and a result, never an attribute, and
`initial_state(B)` is what a new video starts from. Running a sequence whole, in chunks, or step by step gives the same.
"""

import torch
from torch import Tensor, nn


class GRUCell(nn.Module):
    """A gated recurrent unit, torch's own. State: (1, B, hidden)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros, (1, batch, hidden)."""
        return next(self.parameters()).new_zeros(1, batch, self.hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, state = self.gru(x, state)
        return output, state


class ArticleCell(nn.Module):
    """The element-wise cell of the article that this project was made from.

    It keeps a state s, a gate memory z and an output y, all vectors of `hidden` elements, with s₀ = h₀, z₀ = 0, y₀ = 0.
    At step t, with input f_t and condition c_t, the current hidden state:

        s_t = ½ (s_{t−1} + c_t)
        z_t = f_t ⊙ σ(w₂ ⊙ z_{t−1} + w₁ ⊙ s_t)
        y_t = y_{t−1} + z_t
        ŷ_t = σ(b₂ ⊙ σ(b₁ ⊙ σ(y_t)) + c)          the read-out; its constant c is `read_bias` here

    What the article leaves open, and what was chosen:

    - *Order.* z_t reads s_t, so s_t comes first.
    - *The condition.* c_t is the newest hidden state that exists when step t begins: the layer's own last read-out
      ŷ_{t−1}, in the first layer as in every other, and ŷ₀ = h₀. So what was read out steers what is let in next, and
      all of s lies in [0, 1].
    - *The first hidden state* h₀ is ½: the read-out of y = 0, as the constants are first set.
    - *The input* f_t is an affine map of the layer's input, since an element-wise cell cannot mix elements itself.
    - *The read-out* is of y_t, at every step, and its c is a learned constant, not the condition c_t.
    - *The range.* ŷ lies in (0, 1) and the three nested σ leave only part of that; an affine layer after ŷ maps it to
      the hidden vector that the next layer sees.
    - *Growth.* y is a sum without bound. After every `reset_steps` steps z and y go back to 0, as before the first; s
      and ŷ stay, and so carry what is known across: |y| never exceeds `reset_steps` times the largest |f|. The number
      of steps since the last reset belongs to the state, so that chunks agree with the whole.

    State: (5, B, hidden) of s, z, y, ŷ, and the steps since the last reset in every element of the fifth.
    """

    reset_steps = 16  # within a training sequence, so that no sum grows larger in use than in training

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.read_in = nn.Linear(input_size, hidden_size)
        self.w1 = nn.Parameter(torch.ones(hidden_size))
        self.w2 = nn.Parameter(torch.ones(hidden_size))
        # Steep, or the nested σ squash y to a constant (σ(σ(·)) spans only 0.5–0.73), and ½ where y is 0.
        self.b1 = nn.Parameter(torch.full((hidden_size,), 3.0))
        self.b2 = nn.Parameter(torch.full((hidden_size,), 16.0))
        self.read_bias = nn.Parameter((-self.b2 * torch.sigmoid(self.b1 * 0.5)).detach())
        self.read_out = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, batch: int) -> Tensor:
        """s and ŷ at ½, all else 0: (5, batch, hidden)."""
        state = self.w1.new_zeros(5, batch, self.hidden_size)
        state[0] = state[3] = 0.5
        return state

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.read_in(x)  # (B, T, hidden)
        s, z, y, read, steps = state.unbind(0)
        outputs = []
        for f in inputs.unbind(1):  # (B, hidden)
            keep = (steps < self.reset_steps).to(f.dtype)
            z, y, steps = z * keep, y * keep, steps * keep
            s = 0.5 * (s + read)
            z = f * torch.sigmoid(self.w2 * z + self.w1 * s)
            y = y + z
            read = torch.sigmoid(self.b2 * torch.sigmoid(self.b1 * torch.sigmoid(y)) + self.read_bias)
            steps = steps + 1
            outputs.append(read)
        return self.read_out(torch.stack(outputs, 1)), torch.stack([s, z, y, read, steps])


CELLS: dict[str, type[GRUCell] | type[ArticleCell]] = {"gru": GRUCell, "article": ArticleCell}
