import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import context_of

from vidrnn.cells import CELLS
from vidrnn.model import BOUND, SCALE_FLOOR, VideoRNN, place_of

torch.set_num_threads(1)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("layers", "cameras", "horizons"), [(1, 1, 1), (2, 3, 2)])
def test_shapes(name, layers, cameras, horizons):
    net = VideoRNN(5, horizons, name, 4, layers, cameras, True)
    place = place_of(2, 3, cameras - 1, cameras)
    memory, state = net(torch.randn(6, 7, 45), place, net.initial_state(6))
    assert memory.shape == (6, 7, 4) and len(state) == layers
    mean, scale = net.predict(memory, place)
    assert mean.shape == scale.shape == (6, 7, horizons, 5)


def test_a_memory_of_zeros_knows_the_place_alone():
    torch.manual_seed(0)
    net = VideoRNN(3, 2, "gru", 4, 1, 1, True)
    place = place_of(3, 3, 0, 1)
    mean, scale = net.predict(torch.zeros(9, 4, 4), place)
    for part in (mean, scale):
        assert torch.equal(part, part[:, :1].expand_as(part))  # the same at every step
        assert len({tuple(cell.tolist()) for cell in part[:, 0, 0]}) == 9  # another at every place
    other, _ = net.predict(torch.randn(9, 4, 4), place)
    assert not torch.equal(other, mean)


@given(st.integers(0, 2**16), st.floats(1, 1e4))
@settings(max_examples=20, deadline=None)
def test_means_are_bounded_and_scales_have_a_floor(seed, size):
    torch.manual_seed(seed)
    net = VideoRNN(3, 1, "gru", 4, 1, 1, True)
    with torch.no_grad():
        for parameter in net.output.parameters():
            parameter *= size
        mean, scale = net.predict(torch.randn(2, 3, 4), torch.randn(2, 2))
    assert (mean.abs() <= BOUND).all() and (scale >= SCALE_FLOOR).all()
    assert torch.isfinite(mean).all() and torch.isfinite(scale).all()


def test_without_a_learned_scale_it_is_1():
    net = VideoRNN(3, 2, "gru", 4, 1, 1, False)
    assert net.output[-1].out_features == 2 * 3
    _, scale = net.predict(torch.randn(2, 3, 4), torch.randn(2, 2))
    assert torch.equal(scale, torch.ones(2, 3, 2, 3))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("cameras", [1, 3])
def test_watching_a_grid_is_the_forward_pass_of_every_cell_with_its_neighbours(name, cameras):
    cells = torch.randn(4, 3, 5, 2)
    net = VideoRNN(3, 1, name, 6, 2, cameras, True)
    place = place_of(5, 2, cameras - 1, cameras)
    start = net.initial_state(10)
    _, state = net.watch(cells[:1], place, start)
    memory, after = net.watch(cells[1:], place, state)
    _, state = net(context_of(cells[:1]), place, start)
    expected, expected_after = net(context_of(cells[1:]), place, state)
    torch.testing.assert_close(memory, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after, expected_after, rtol=1e-5, atol=1e-6)


@given(st.integers(2, 5), st.integers(2, 5), st.integers(1, 4))
def test_place_is_where_a_cell_lies_and_which_camera_it_is(rows, columns, cameras):
    for camera in range(cameras):
        place = place_of(rows, columns, camera, cameras).numpy()
        for row in range(rows):
            for column in range(columns):
                y, x = -1 + 2 * row / (rows - 1), -1 + 2 * column / (columns - 1)
                which = [] if cameras == 1 else [float(k == camera) for k in range(cameras)]
                np.testing.assert_allclose(place[row * columns + column], [y, x, *which], atol=1e-6)
