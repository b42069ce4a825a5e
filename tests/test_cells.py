import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import walking, write_cells

from vidrnn.cells import CELLS, ArticleCell, LSTMCell, MinGRUCell, _GatedRecurrence, step_by_step
from vidrnn.features import ROWS
from vidrnn.model import VideoRNN
from vidrnn.score import CameraModel, observe
from vidrnn.windows import MODELLED, CellReader, Layout, Standard

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


def affine(weight, bias, vector):
    return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def lstm(cell, x, h, c):
    """The docstring of the cell, an element and a step at a time: outputs (T, hidden), and the last state."""
    parts = [part.tolist() for part in cell.lstm.parameters()]  # W, U, b, d of i, f, g and o, one below the other
    size, outputs = cell.hidden_size, []
    for step in x:
        sums = [a + b for a, b in zip(affine(parts[0], parts[2], step), affine(parts[1], parts[3], h), strict=True)]
        i, f, g, o = (sums[k * size : (k + 1) * size] for k in range(4))
        c = [sigmoid(f[k]) * c[k] + sigmoid(i[k]) * math.tanh(g[k]) for k in range(size)]
        h = [sigmoid(o[k]) * math.tanh(c[k]) for k in range(size)]
        outputs.append(h)
    return outputs, (h, c)


def mingru(cell, x, h):
    """Likewise."""
    gate_weight, gate_bias, weight, bias = (part.tolist() for part in cell.parameters())
    outputs = []
    for step in x:
        z = [sigmoid(value) for value in affine(gate_weight, gate_bias, step)]
        candidate = affine(weight, bias, step)
        h = [(1 - z[k]) * h[k] + z[k] * candidate[k] for k in range(cell.hidden_size)]
        outputs.append(h)
    return outputs, (h,)


@pytest.mark.parametrize(("kind", "twin"), [(LSTMCell, lstm), (MinGRUCell, mingru)])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_a_cell_is_its_formulas(kind, twin, seed, chunks):
    torch.manual_seed(seed)
    cell = kind(3, 2).double()
    x, start = torch.randn(1, sum(chunks), 3, dtype=torch.float64), torch.randn_like(cell.initial_state(1))
    outputs, last = twin(cell, x[0].tolist(), *start[:, 0].tolist())
    state, parts = start, []
    for part in x.split(chunks, 1):
        output, state = cell(part, state)
        parts.append(output)
    np.testing.assert_allclose(torch.cat(parts, 1)[0].detach(), outputs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(state[:, 0].detach(), last, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [LSTMCell, MinGRUCell])
def test_a_new_video_starts_from_zeros(kind):
    assert not kind(3, 4).initial_state(2).any()


def recurrence(a, b, h):
    """h_t = a_t h_{t−1} + b_t, a step at a time, differentiated by autograd."""
    steps = []
    for t in range(a.shape[1]):
        h = a[:, t] * h + b[:, t]
        steps.append(h)
    return torch.stack(steps, 1)


@pytest.mark.parametrize("batch", [2, 2000])
@pytest.mark.parametrize("steps", [*range(1, 10), 31, 32, 33, 256])
def test_the_scan_is_the_loop_forward_and_backward(steps, batch):
    """In chunks side by side, and where the batch is large enough, a step after the other."""
    torch.manual_seed(steps)
    inputs = [torch.rand(batch, steps, 3), torch.randn(batch, steps, 3), torch.randn(batch, 3)]
    inputs = [tensor.double().requires_grad_() for tensor in inputs]
    worth = torch.randn(batch, steps, 3, dtype=torch.float64)
    found = []
    for scan in (_GatedRecurrence.apply, lambda a, c, start: recurrence(a, (1 - a) * c, start)):
        h = scan(*inputs)
        found.append([h.detach(), *torch.autograd.grad((h * worth).sum(), inputs)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1.0, 1000.0])
def test_a_long_scan_neither_overflows_nor_drifts(size):
    """Gates from wide open to shut; single precision against double, an hour of steps at ten a second."""
    torch.manual_seed(0)
    cell = MinGRUCell(2, 3)
    x = torch.randn(1, 36_000, 2) * size
    start = torch.full((1, 1, 3), 5.0)
    with torch.no_grad():
        output, state = cell(x, start)
        exact = recurrence_of(cell.double(), x.double(), start.double())
    assert torch.isfinite(output).all() and torch.equal(state[0], output[:, -1])
    torch.testing.assert_close(output.double(), exact, rtol=1e-4, atol=1e-4 * max(size, 1))


def recurrence_of(cell, x, start):
    z = torch.sigmoid(cell.gate(x))
    return recurrence(1 - z, z * cell.candidate(x), start[0])


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
    state = cell.initial_state(2)
    largest = cell.read_in(x).abs().max() * (1 + 1e-12)  # all steps at once round otherwise
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
def test_step_by_step_is_the_whole(name):
    torch.manual_seed(0)
    cell = CELLS[name](2, 3).double()
    x, state = torch.randn(2, 20, 2, dtype=torch.float64), cell.initial_state(2)
    for mine, theirs in zip(step_by_step(cell, x, state), cell(x, state), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


STANDARD = Standard(np.full(len(MODELLED), 0.05, np.float32), np.full(len(MODELLED), 0.1, np.float32))


def camera_model(cell):
    torch.manual_seed(0)
    net = VideoRNN(len(MODELLED), 2, cell, 5, 2, 1, True).eval().requires_grad_(False)
    layout = Layout(MODELLED, ROWS, 3)
    return CameraModel(net, STANDARD, [1, 4], 1.0, 0.4, 0.25, layout, 0, 1, calibration=None, version="")


def seen(model, path, times):
    stretches = [part for _, part in observe(model, CellReader(), str(path), times, 0, len(times))]
    return {name: np.concatenate([getattr(part, name) for part in stretches]) for name in ("maps", "residual")}


@pytest.mark.parametrize("name", CELLS)
def test_a_video_starts_afresh_whatever_came_before(name, tmp_path):
    times = np.arange(24) / 10
    paths = [write_cells(tmp_path / f"{k}.parquet", walking(24, 3, k)) for k in range(2)]
    model = camera_model(name)
    alone = seen(model, paths[1], times)
    seen(model, paths[0], times)
    again = seen(model, paths[1], times)
    for key, part in alone.items():
        assert np.array_equal(again[key], part)
    state = model.net.initial_state(4)
    assert all(torch.equal(part, layer.initial_state(4)) for part, layer in zip(state, model.net.hidden, strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_after_a_gap_the_state_is_that_of_a_new_video(name):
    """And without a gap it is not."""
    model, cells = camera_model(name), walking(24, 3, 0)[:, -len(MODELLED) :].astype(np.float32)
    fresh = next(model.observer().push(cells[14:], np.arange(10) / 10)).residual
    for gap, same in ((1.01, True), (0.0, False)):
        times = np.arange(24) / 10 + np.where(np.arange(24) < 14, 0, gap)
        residual = np.concatenate([part.residual for part in model.observer().push(cells, times)])[14:]
        assert (np.abs(residual - fresh).max() < 1e-5) == same


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
