"""Recurrent cells, each a layer with one signature: `cell(x, state) -> (output, state)`.

x is (B, T, in), output (B, T, hidden); the state is an argument and a result, never an attribute, and
`initial_state(B)` is what a new video starts from. Running a sequence whole, in chunks, or step by step gives the same.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ROUND = 4096  # elements


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


class LSTMCell(nn.Module):
    """Long short-term memory with a forget gate (Gers et al. 2000), torch's own.

        i_t = σ(W_i x_t + b_i + U_i h_{t−1} + d_i)        and so f_t and o_t, with weights of their own
        g_t = tanh(W_g x_t + b_g + U_g h_{t−1} + d_g)
        c_t = f_t ⊙ c_{t−1} + i_t ⊙ g_t        h_t = o_t ⊙ tanh(c_t)

    State: (2, B, hidden) of h and c.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros, (2, batch, hidden)."""
        return next(self.parameters()).new_zeros(2, batch, self.hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        output, (h, c) = self.lstm(x, (state[:1], state[1:]))
        return output, torch.cat([h, c])


class MinGRUCell(nn.Module):
    """The minimal gated recurrent unit of Feng et al. 2024 (arXiv 2410.01201, section 3.1).

        z_t = σ(W_z x_t + b_z)        h̃_t = W_h x_t + b_h        h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ h̃_t

    Neither z nor h̃ reads h, so that h is a linear recurrence and all steps are found at once, by a scan. It runs on h
    itself, not on logarithms as in the article's appendix: 0 ≤ 1 − z ≤ 1, so nothing can overflow however long the
    sequence, h may be negative, and the empty state is 0 as in the other cells.

    State: (1, B, hidden) of h.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.gate = nn.Linear(input_size, hidden_size)
        self.candidate = nn.Linear(input_size, hidden_size)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros, (1, batch, hidden)."""
        return self.gate.bias.new_zeros(1, batch, self.hidden_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        keep = self.gate(x).neg_().sigmoid_()  # 1 − z, (B, T, hidden); in place: memory costs more here than arithmetic
        output: Tensor = _GatedRecurrence.apply(keep, self.candidate(x), state[0])  # type: ignore[no-untyped-call]
        return output, output[None, :, -1].clone()  # a view would keep the whole sequence in memory


class _GatedRecurrence(torch.autograd.Function):
    """h_t = a_t ⊙ h_{t−1} + (1 − a_t) ⊙ c_t, differentiated by hand: autograd would keep every round.

    Where no gradient is asked for, h takes the memory of c.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, c: Tensor, start: Tensor) -> Tensor:
        if not any(ctx.needs_input_grad):
            ctx.mark_dirty(c)
            _scan_(Tensor.lerp_, a, c, start)
            return c
        h = c.clone()
        _scan_(Tensor.lerp_, a, h, start)
        ctx.save_for_backward(a, c, h, start)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, c, h, start = ctx.saved_tensors
        # h_t acts on the loss by itself and through h_{t+1}: a recurrence as well, from the last step to the first.
        total = grad.flip(1)
        _scan_(Tensor.addcmul_, torch.cat([a[:, :1], a[:, 1:].flip(1)], 1), total, torch.zeros_like(start))
        total = total.flip(1)  # dL/dh_t
        before = torch.cat([start[:, None], h[:, :-1]], 1)
        return total * (before - c), torch.addcmul(total, total, a, value=-1), total[:, 0] * a[:, 0]


def _scan_(step: Callable[[Tensor, Tensor, Tensor], Tensor], a: Tensor, h: Tensor, start: Tensor) -> None:
    """step(h_t, h_{t−1}, a_t) for t = 0, 1, … in place, where it adds a_t ⊙ h_{t−1} to what h_t and a_t alone make.

    A step is a round of element-wise work, which takes the same time for few elements as for `_ROUND` of them. Where
    the sequences are too few to fill a round, each is cut into up to √T chunks that are scanned side by side; what
    reaches into a chunk from before it follows, in as many rounds again (the blocked scan of Blelloch 1990, "Prefix
    sums and their applications", CMU-CS-90-190, section 1.3).

    Args:
        step: `Tensor.addcmul_`, or `Tensor.lerp_`, which weighs h_t by 1 − a_t.
        a: (B, T, hidden).
        h: (B, T, hidden).
        start: (B, hidden) h before the first step.
    """
    batch, steps, hidden = h.shape
    most = max(1, min(math.isqrt(steps), _ROUND // (batch * hidden)))
    count = next(count for count in range(most, 0, -1) if steps % count == 0)
    keeps, parts = (tensor.view(batch, count, -1, hidden).unbind(2) for tensor in (a, h))  # a step each
    before = h.new_zeros(batch, count, hidden)
    before[:, 0] = start
    for keep, now in zip(keeps, parts, strict=True):
        step(now, before, keep)
        before = now
    if count == 1:
        return
    reach = list(itertools.accumulate(keeps, torch.mul))  # how much of what was before a chunk is left at each step
    ends = parts[-1].unbind(1)
    for k in range(1, count):
        ends[k].addcmul_(reach[-1][:, k], ends[k - 1])
    for left, part in zip(reach[:-1], parts, strict=False):
        part[:, 1:].addcmul_(left[:, 1:], parts[-1][:, :-1])


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


Cell = GRUCell | LSTMCell | MinGRUCell | ArticleCell
CELLS: dict[str, type[Cell]] = {"gru": GRUCell, "lstm": LSTMCell, "mingru": MinGRUCell, "article": ArticleCell}


def step_by_step(cell: Cell, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`cell(x, state)`, but a call a step: what a whole sequence must agree with, and is timed against."""
    outputs = []
    for t in range(x.shape[1]):
        output, state = cell(x[:, t : t + 1], state)
        outputs.append(output)
    return torch.cat(outputs, 1), state
