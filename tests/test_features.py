"""The grid of cells against slow obvious twins, and against a square whose speed is known."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Picture, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidrnn import features as module
from vidrnn.features import (
    CHANNELS,
    ROWS,
    SIGNATURE,
    WINDOWS,
    FeatureExtractor,
    FeatureRow,
    Grid,
    _length,
    signature,
    working_picture,
)
from vidrnn.params import load_params
from vidrnn.timebase import TimeBase

MILLISECONDS = TimeBase(1, 1000)
SMALL = Grid.of(64, 48, 80)
PARAMS = load_params(Path(__file__).resolve().parents[1] / "params.yaml").features


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)  # as in the stage


def rows_of(
    pictures: list[Picture], pts: list[int], grid: Grid = SMALL, warmup: float = 0.5, background: float = 20.0
) -> list[FeatureRow]:
    extractor = FeatureExtractor(grid, MILLISECONDS, warmup, background, 60.0)
    rows = [row for k, at in enumerate(pts) for row in extractor.push(k, at, pictures[k])]
    return [*rows, *extractor.flush()]


def noise(count: int, grid: Grid = SMALL, seed: int = 0) -> list[Picture]:
    """A still texture with a patch of noise that is new in every picture."""
    rng, still = np.random.default_rng(seed), texture(grid.height, grid.width, 5)
    pictures = [still.copy() for _ in range(count)]
    for picture in pictures:
        y, x = rng.integers(0, grid.height - 30), rng.integers(0, grid.width - 20)
        picture[y : y + 30, x : x + 20] = rng.integers(0, 256, (30, 20))
    return pictures


def same(a: FeatureRow, b: FeatureRow) -> bool:
    fields = [
        (a.cells, b.cells),
        *[(getattr(a.regions, k), getattr(b.regions, k)) for k in ("boxes", "areas", "velocities")],
    ]
    if [pieces.tolist() for pieces in a.regions.pieces] != [pieces.tolist() for pieces in b.regions.pieces]:
        return False
    key = (a.frame_index, a.pts, a.valid) == (b.frame_index, b.pts, b.valid)
    return key and all(np.array_equal(x, y) for x, y in fields)


# ---- Twins ----


@settings(max_examples=15, deadline=None)
@given(hnp.arrays(np.float32, (2, 2 * ROWS, 8), elements=st.floats(0, 1, width=32)), st.sampled_from([(8, 6), (2, 2)]))
def test_windows_are_means_around_the_centre_of_each_cell(squares: np.ndarray, window: tuple[int, int]) -> None:
    height, width = window
    padded = np.pad(squares, ((0, 0), (height, height), (width, width)), mode="symmetric")
    found = module._cells(squares, window)
    for row in range(ROWS):
        for column in range(4):
            top, left = height + 2 * row + 1 - height // 2, width + 2 * column + 1 - width // 2
            expected = padded[:, top : top + height, left : left + width].mean(axis=(1, 2))
            assert np.allclose(found[:, row, column], expected, atol=1e-5)


def test_a_window_of_odd_width_ends_with_the_cell() -> None:
    squares = np.random.default_rng(0).random((1, 2 * ROWS, 12)).astype(np.float32)
    height, width = WINDOWS["part"]
    assert (height, width) == (4, 3)
    found = module._cells(squares, (height, width))
    assert np.allclose(found[0, 5, 3], squares[0, 9:13, 5:8].mean(), atol=1e-5)


def test_motion_is_the_mean_over_what_moves() -> None:
    rng = np.random.default_rng(0)
    shape = (2 * ROWS, 12)
    foreground = (rng.random(shape) < 0.6).astype(np.float32)
    moving = foreground * (rng.random(shape) < 0.5)
    speed, x, y = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    motion = np.stack([foreground, moving, speed * moving, x * moving, y * moving, speed * speed * moving])
    found = module._motion_in(motion, (8, 6))
    for row, column in ((3, 2), (10, 3), (15, 2)):
        part = np.s_[2 * row + 1 - 4 : 2 * row + 1 + 4, 2 * column + 1 - 3 : 2 * column + 1 + 3]
        on = moving[part] > 0
        share = on.mean()
        mean = {
            name: values[part][on].sum() / 48 / (share + 0.05) for name, values in (("s", speed), ("x", x), ("y", y))
        }
        spread = math.sqrt(max((speed[part][on] ** 2).sum() / 48 / (share + 0.05) - mean["s"] ** 2, 0))
        expected = [foreground[part].mean(), share, mean["s"], mean["x"], mean["y"], spread]
        assert np.allclose(found[:, row, column], expected, atol=1e-4)


@pytest.mark.parametrize("height", [80, 240])
def test_orientations_are_sums_over_pixels(height: int) -> None:
    grid = Grid.of(48, 80, height)
    rng = np.random.default_rng(height)
    half = texture(grid.height // 2, grid.width // 2, 7)
    share = np.zeros(half.shape, np.float32)
    share[len(share) // 4 : len(share) // 2, grid.width // 6 :] = 1
    share *= rng.integers(0, 5, share.shape).astype(np.float32) / 4
    columns = 2 * grid.columns
    side = height // 80
    padded = np.pad(half / 255, 1, mode="reflect")
    expected = np.zeros((6, 40, columns))
    for y in range(40 * side):
        for x in range(columns * side):
            p = padded[y : y + 3, x : x + 3]
            across = (p[:, 2] - p[:, 0]) @ [1, 2, 1]
            down = (p[2] - p[0]) @ [1, 2, 1]
            angle = math.atan2(down, across) % math.pi  # a gradient and its opposite are one orientation
            k = min(int(angle / math.pi * 6), 5)
            expected[k, y // side, x // side] += math.hypot(across, down) * share[y, x] / side**2
    found = module._orientations(half, share, columns)
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-3) and expected.sum() > 1
    # OpenCV's angles are good to 0.3 of the 30 degrees of a bin: a few pixels near an edge change bins.
    assert np.abs(found - expected).sum() < 0.05 * expected.sum()
    assert np.allclose(found.sum(axis=0), expected.sum(axis=0), atol=1e-3)


def test_orientations_of_lines() -> None:
    down = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[None], (40, 1))  # brighter to the right
    for picture, strong in (
        (down, {0, 5}),
        (np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None], (1, 32)), {2, 3}),
    ):
        energy = module._orientations(picture, np.ones(picture.shape, np.float32), 32).sum(axis=(1, 2))
        assert energy[list(strong)].sum() > 0.99 * energy.sum()
    assert not module._orientations(down, np.zeros(down.shape, np.float32), 32).any()


def test_the_background_is_the_median_and_then_follows() -> None:
    pictures, pts = noise(14), [0, 100, 200, 300, 400, 500, 600, 700, 800, 950, 1000, 1400, 1500, 4000]
    extractor = FeatureExtractor(SMALL, MILLISECONDS, 0.5, 3.0, 60.0)
    for k, at in enumerate(pts):
        list(extractor.push(k, at, pictures[k]))
    expected = np.median(np.stack(pictures[:6]).astype(float), axis=0)
    background = expected.copy()
    for k, at in enumerate(pts):
        departure = pictures[k] - (expected if k < 6 else background)  # the warm-up is compared with its median
        departure -= np.median(departure[::8, ::8])
        in_front = cv2.GaussianBlur(np.abs(departure), (5, 5), 0) > module.FOREGROUND_LEVELS
        if k:
            rate = 1 - math.exp(-(at - pts[k - 1]) / 1000 / 3.0)
            background += (pictures[k] - background) * np.where(in_front, 0.1 * rate, rate)
    assert np.percentile(np.abs(extractor._background - background), 99) < 0.05
    assert np.abs(background - expected).max() > 20  # it has moved


# ---- What a row may depend on ----


@pytest.mark.parametrize("change", [8, 11, 19])
def test_later_pictures_never_change_earlier_rows(change: int) -> None:
    pts = [100 * k for k in range(20)]
    pictures, others = noise(20), noise(20, seed=9)
    mixed = pictures[:change] + others[change:]
    before, after = rows_of(pictures, pts), rows_of(mixed, pts)
    assert all(same(a, b) for a, b in zip(before[:change], after[:change], strict=True))
    assert not same(before[change], after[change])


def test_the_warm_up_looks_ahead_no_further_than_it_says() -> None:
    pts = [100 * k for k in range(10)]
    pictures = noise(10)
    extractor = FeatureExtractor(SMALL, MILLISECONDS, 0.5, 20.0, 60.0)
    ready = [len(list(extractor.push(k, at, pictures[k]))) for k, at in enumerate(pts)]
    assert ready == [0, 0, 0, 0, 0, 6, 1, 1, 1, 1]
    rows = rows_of(pictures, pts)
    assert [row.valid for row in rows] == [False] * 6 + [True] * 4
    assert [(row.frame_index, row.pts) for row in rows] == list(enumerate(pts))


def test_rows_are_a_pure_function_of_the_pictures() -> None:
    pts = [100 * k for k in range(12)]
    first = rows_of(noise(12), pts)
    rows_of(noise(12, seed=4), pts)  # another video in between leaves no trace
    assert all(same(a, b) for a, b in zip(first, rows_of(noise(12), pts), strict=True))
    later = rows_of(noise(12), [at + 10**9 for at in pts])  # nor does where the clock starts
    assert all(np.array_equal(a.cells, b.cells) for a, b in zip(first, later, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("level", [0, 255, 128, None])
def test_footage_without_anything_gives_finite_values(count: int, level: int | None) -> None:
    still = (
        texture(SMALL.height, SMALL.width, 1)
        if level is None
        else np.full((SMALL.height, SMALL.width), level, np.uint8)
    )
    rows = rows_of([still] * count, [100 * k for k in range(count)])
    assert len(rows) == count
    for row in rows:
        assert row.cells.shape == (len(CHANNELS), ROWS, SMALL.columns) and row.cells.dtype == np.float16
        assert np.isfinite(row.cells).all() and len(row.regions.areas) == 0
        assert row.regions.boxes.shape == (0, 4) and row.regions.velocities.shape == (0, 2)
        assert not row.cells[1:].any()  # nothing but luma


def test_wild_footage_gives_finite_values() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (SMALL.height, SMALL.width), dtype=np.uint8) for _ in range(10)]
    for step in (1, 40, 5000):
        for row in rows_of(pictures, [step * k for k in range(10)]):
            assert np.isfinite(row.cells).all() and np.isfinite(row.regions.velocities).all()


def test_after_a_gap_nothing_flows() -> None:
    pictures, pts = noise(12), [*range(0, 900, 100), 1901, 2001, 3001]
    motion = [k for k, name in enumerate(CHANNELS) if "flow" in name or "velocity" in name or "speed" in name]
    flows = [bool(row.cells[motion].any()) for row in rows_of(pictures, pts)]
    assert flows == [True] * 9 + [False, True, True]  # 1.001 s is a gap, 1 s is none


def test_a_change_of_exposure_is_nobodys_movement() -> None:
    still = texture(SMALL.height, SMALL.width, 1)
    rows = rows_of([still] * 8 + [still + 30] * 4, [100 * k for k in range(12)])
    assert not rows[9].cells[CHANNELS.index("person_foreground")].any()


@pytest.mark.parametrize("leaves", [True, False])
def test_who_left_is_forgotten_and_who_came_is_not(leaves: bool) -> None:
    """Somebody stands there until the first background is made, or from then on."""
    ground, figure = texture(SMALL.height, SMALL.width, 1, 90, 130), texture(30, 12, 2, 0, 60)
    with_figure = ground.copy()
    with_figure[30:60, 20:32] = figure
    first, later = (with_figure, ground) if leaves else (ground, with_figure)
    rows = rows_of([first] * 10 + [later] * 80, [100 * k for k in range(90)])
    front = [float(row.cells[CHANNELS.index("person_foreground")].max()) for row in rows]
    assert max(front[:10]) < 0.05 and front[11] > 0.3
    assert front[25] < 0.05 if leaves else min(front[12:]) > 0.3


# ---- A square of known speed ----


def square_at(x: float, height: int, width: int, down: bool = False) -> Picture:
    """A textured square of a quarter of the height whose left edge is `x` heights from the left (or top) edge."""
    side = height // 4
    background, square = texture(height, width, 1, 60, 110), texture(side, side, 2, 120, 250)
    along, across = x * height, (width if down else height) / 2 - side / 2
    shift = np.array([[1, 0, across if down else along], [0, 1, along if down else across]], np.float32)
    moved = cv2.warpAffine(square, shift, (width, height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(np.ones((side, side), np.float32), shift, (width, height), flags=cv2.INTER_LINEAR)
    return np.round(background * (1 - mask) + moved * (mask > 0)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (768, 432)])
@pytest.mark.parametrize("fps", [10, 20, 30])
@pytest.mark.parametrize(("speed", "down"), [(0.6, False), (0.25, True)])
def test_a_known_speed_is_measured(width: int, height: int, fps: int, speed: float, down: bool) -> None:
    grid = Grid.of(width, height, PARAMS.height)
    length, size = 0.7 + 0.6 * (not down), width / height
    pts = [round(1000 * k / fps) for k in range(int(length / speed * fps))]
    pictures = [working_picture(square_at(at / 1000 * speed, height, width, down), False, 0, grid) for at in pts]
    measured, overlaps, speeds = [], [], []
    for row in rows_of(pictures, pts, grid, warmup=2.0):
        start = row.pts / 1000 * speed
        centre = (size / 2, start + 0.125) if down else (start + 0.125, 0.5)  # in picture heights
        if not 0.2 < centre[1 if down else 0] < (0.8 if down else size - 0.2) or len(row.regions.areas) == 0:
            continue
        largest = np.argmax(row.regions.areas)
        measured.append(row.regions.velocities[largest])
        x0, y0, x1, y1 = row.regions.boxes[largest] * [size, 1, size, 1]
        overlap = max(0, min(x1, centre[0] + 0.125) - max(x0, centre[0] - 0.125))
        overlap *= max(0, min(y1, centre[1] + 0.125) - max(y0, centre[1] - 0.125))
        overlaps.append(overlap / (0.25**2 + (x1 - x0) * (y1 - y0) - overlap))
        cell = int(centre[1] * ROWS), min(int(centre[0] / size * grid.columns), grid.columns - 1)
        speeds.append(row.cells[CHANNELS.index("part_speed")][cell])
    assert len(measured) > 0.5 * len(pts)
    along, across = np.median(measured, axis=0)[:: -1 if down else 1]
    assert along == pytest.approx(speed, rel=0.15) and abs(across) < 0.1 * speed
    assert np.median(overlaps) > 0.6
    assert np.median(speeds) == pytest.approx(speed, rel=0.15)


# ---- Pictures ----


def test_the_grid_keeps_the_shape_of_the_picture() -> None:
    assert Grid.of(640, 360, 240) == Grid(240, 432, 36, pytest.approx(80 / 81))
    assert Grid.of(320, 240, 240) == Grid(240, 324, 27, pytest.approx(80 / 81))
    for width, height in ((1920, 1080), (1080, 1920), (64, 64), (16, 1), (1, 16)):
        grid = Grid.of(width, height, 240)
        assert grid.width == grid.columns * 12 and grid.width * grid.stretch == pytest.approx(240 * width / height)


def test_limited_range_is_expanded() -> None:
    levels = np.tile(np.array([[0, 16, 126, 235, 255]], np.uint8).repeat(16, axis=1), (80, 1))
    grid = Grid(80, 80, 20, 1.0)
    assert working_picture(levels, True, 0, grid)[0, ::16].tolist() == [0, 0, 128, 255, 255]
    assert working_picture(levels, False, 0, grid)[0, ::16].tolist() == [0, 16, 126, 235, 255]


@pytest.mark.parametrize(
    ("rotation", "shape"), [(0, (120, 160)), (90, (160, 120)), (180, (120, 160)), (270, (160, 120))]
)
def test_rotation_turns_the_stored_picture(rotation: int, shape: tuple[int, int]) -> None:
    """Counter-clockwise: the stored top right corner comes to be top left after a quarter turn."""
    stored = np.zeros((120, 160), np.uint8)
    stored[:30, 120:] = 255
    corner = {0: (0, -1), 90: (0, 0), 180: (-1, 0), 270: (-1, -1)}[rotation]
    grid = Grid(shape[0], shape[1], 0, 1.0)
    for small in (working_picture(stored, False, rotation, grid), signature(stored, rotation)):
        assert small[corner] == 255 and small.astype(float).sum() < 0.1 * 255 * small.size
    assert working_picture(stored, False, rotation, grid).shape == shape


def test_a_signature_is_the_mean_of_parts() -> None:
    luma, side = texture(512, 640, 3), SIGNATURE
    assert signature(luma, 0).shape == (side, side) and signature(luma, 0).dtype == np.uint8
    parts = luma.reshape(side, 512 // side, side, 640 // side).mean(axis=(1, 3))
    assert np.abs(signature(luma, 0) - parts).max() < 4  # from every fourth pixel and row
    for shape in ((8, 8), (4, 6), (17, 300)):
        assert (signature(np.full(shape, 77, np.uint8), 0) == np.full((side, side), 77)).all()


def test_a_length_does_not_depend_on_where_in_memory_its_vectors_lie():
    vectors = np.random.default_rng(0).normal(size=(2, 4000)).astype(np.float32)
    expected = np.hypot(*vectors.astype(float))
    found = set()
    for offset in range(16):
        x, y = (np.empty(4016, np.float32)[offset : offset + 4000] for _ in range(2))
        x[:], y[:] = vectors
        found.add(_length(x, y).tobytes())
        np.testing.assert_allclose(_length(x, y), expected, rtol=1e-6)
    assert len(found) == 1
