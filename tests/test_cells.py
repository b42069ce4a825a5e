import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrnn.cells import CELLS, ArticleCell
from vidrnn.model import VideoRNN

torch.set_num_threads(1)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def article(cell, x, s, z, y, read, steps):
    """The docstring of the cell, an element and a step at a time: outputs (T, hidden), and the last state."""
    size = cell.hidden_size
    w1, w2, b1, b2, c = (getattr(cell, name).tolist() for name in ("w1", "w2", "b1", "b2", "read_bias"))
    mix_in, bias_in = cell.read_in.weight.tolist(), cell.read_in.bias.tolist()
    mix_out, bias_out = cell.read_out.weight.tolist(), cell.read_out.bias.tolist()
    outputs = []
    for step in x:
        f = [sum(w * v for w, v in zip(mix_in[i], step, strict=True)) + bias_in[i] for i in range(size)]
        if steps == cell.reset_steps:
            z, y, steps = [0.0] * size, [0.0] * size, 0
        s = [(s[i] + read[i]) / 2 for i in range(size)]
        z = [f[i] * sigmoid(w2[i] * z[i] + w1[i] * s[i]) for i in range(size)]
        y = [y[i] + z[i] for i in range(size)]
        read = [sigmoid(b2[i] * sigmoid(b1[i] * sigmoid(y[i])) + c[i]) for i in range(size)]
        steps += 1
        outputs.append([sum(w * v for w, v in zip(mix_out[i], read, strict=True)) + bias_out[i] for i in range(size)])
    return outputs, (s, z, y, read, steps)


def article_cell(seed, inputs=3, hidden=2, reset_steps=5):
    torch.manual_seed(seed)
    cell = ArticleCell(inputs, hidden).double()
    cell.reset_steps = reset_steps
    for parameter in (cell.w1, cell.w2, cell.b1, cell.b2, cell.read_bias):
        torch.nn.init.normal_(parameter)
    return cell


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_the_article_cell_is_its_formulas(seed, chunks):
    cell = article_cell(seed)
    x = torch.randn(1, sum(chunks), 3, dtype=torch.float64)
    outputs, last = article(cell, x[0].tolist(), [0.5] * 2, [0.0] * 2, [0.0] * 2, [0.5] * 2, 0)
    state, parts = cell.initial_state(1), []
    for part in x.split(chunks, 1):
        output, state = cell(part, state)
        parts.append(output)
    np.testing.assert_allclose(torch.cat(parts, 1)[0].detach(), outputs, rtol=0, atol=1e-12)
    for mine, theirs in zip(state[:, 0].detach().tolist(), [*last[:4], [last[4]] * 2], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


def test_the_article_cell_starts_as_the_article_says():
    s, z, y, read, steps = ArticleCell(3, 4).initial_state(2)
    assert torch.equal(s, read) and torch.all(read == 0.5)
    assert not z.any() and not y.any() and not steps.any()


@given(st.integers(0, 2**16), st.floats(0.1, 1000))
@settings(max_examples=20, deadline=None)
def test_the_read_out_of_the_article_stays_between_0_and_1_and_its_sum_is_bounded_by_the_reset(seed, size):
    cell = article_cell(seed, reset_steps=4)
    x = torch.randn(2, 30, 3, dtype=torch.float64) * size
    state, largest = cell.initial_state(2), cell.read_in(x).abs().max()
    for step in x.split(1, 1):
        _, state = cell(step, state)
        s, z, y, read, steps = state
        assert ((read > 0) & (read < 1)).all() and ((s >= 0) & (s <= 1)).all()
        assert (z.abs() <= largest).all() and (y.abs() <= cell.reset_steps * largest).all()
        assert ((steps >= 1) & (steps <= cell.reset_steps)).all()


def test_without_the_reset_the_sum_of_the_article_grows_without_bound():
    cell = article_cell(0, reset_steps=10**9)
    cell.read_in.weight.data.zero_()
    cell.read_in.bias.data.fill_(1)
    _, state = cell(torch.zeros(1, 400, 3, dtype=torch.float64), cell.initial_state(1))
    assert (state[2].abs() > 50).any()


def test_a_reset_forgets_the_sum_and_keeps_the_state():
    cell = article_cell(3, reset_steps=5)
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    _, before = cell(x[:, :5], cell.initial_state(1))
    _, after = cell(x[:, 5:], before)
    s, z, y, _, steps = after[:, 0]
    assert torch.equal(z, y) and torch.equal(steps, torch.ones(2))  # the first term of a new sum
    torch.testing.assert_close(s, (before[0, 0] + before[3, 0]) / 2)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_of_a_cell_are_those_of_finite_differences(name):
    torch.manual_seed(0)
    cell = CELLS[name](2, 2).double()
    x = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    state = (cell.initial_state(1) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, state: cell(x, state)[0], (x, state))
    names, values = zip(*cell.named_parameters(), strict=True)

    def with_parameters(*changed):
        return torch.func.functional_call(cell, dict(zip(names, changed, strict=True)), (x.detach(), state.detach()))[0]

    assert torch.autograd.gradcheck(with_parameters, values)


def run(net, context, place, chunks):
    """Memory of a sequence in chunks, and the gradients of a sum of its squares."""
    net.zero_grad()
    context = context.clone().requires_grad_()
    state, parts = net.initial_state(len(place)), []
    for part in context.split(chunks, 1):
        memory, state = net(part, place, state)
        parts.append(memory)
    memory = torch.cat(parts, 1)
    (memory**2).sum().backward()
    grads = [p.grad.clone() for name, p in net.named_parameters() if p.grad is not None]
    return [memory.detach(), *(part.detach() for part in state), context.grad, *grads]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", CELLS)
@given(st.integers(0, 2**16), st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=8, deadline=None)
def test_whole_chunked_and_step_by_step_agree_forward_and_backward(name, layers, seed, chunks):
    torch.manual_seed(seed)
    net = VideoRNN(2, 1, name, 4, layers, 1, True).double()
    for layer in net.hidden:
        layer.reset_steps = 3
    context = torch.randn(3, sum(chunks), 18, dtype=torch.float64)
    place = torch.randn(3, 2, dtype=torch.float64)
    whole = run(net, context, place, [sum(chunks)])
    assert len(whole) > 5 and all(part.abs().sum() > 0 for part in whole[:1])
    for parts in (chunks, [1] * sum(chunks)):
        for mine, theirs in zip(run(net, context, place, parts), whole, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_the_state_is_an_argument_and_never_kept(name):
    torch.manual_seed(0)
    cell = CELLS[name](3, 4)
    x, start = torch.randn(2, 5, 3), cell.initial_state(2)
    before = start.clone()
    first, _ = cell(x, start)
    cell(torch.randn(2, 5, 3), start)
    again, _ = cell(x, start)
    assert torch.equal(first, again) and torch.equal(start, before)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_learns_to_remember(name):
    """Say after five steps what the first one was: impossible without a memory."""
    torch.manual_seed(0)
    cell, head = CELLS[name](2, 8), torch.nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], 0.02)
    losses = []
    for _ in range(150):
        sign = torch.randint(0, 2, (32, 1)) * 2.0 - 1
        x = torch.cat([torch.zeros(32, 5, 1), torch.randn(32, 5, 1) * 0.1], -1)
        x[:, 0, :1] = sign
        output, _ = cell(x, cell.initial_state(32))
        loss = ((head(output[:, -1]) - sign) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[:5]) > 0.5 and np.mean(losses[-5:]) < 0.1
