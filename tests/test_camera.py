"""Each way to lose a camera's view is one incident of its own kind; what only looks like one is none."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from conftest import Picture, texture
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrnn.camera import (
    COVERED,
    FROZEN_SECONDS,
    LOST,
    MOVED,
    SETTLE_SECONDS,
    View,
    compare,
    displacement,
    incidents,
    sharpness,
)
from vidrnn.features import CHANNELS, FeatureExtractor, FeatureRow, Grid
from vidrnn.timebase import TimeBase

RATE = 10
GRID = Grid.of(192, 144, 120)
WIDE = texture(GRID.height + 80, GRID.width + 80, 3)  # what there is to see when the camera turns
_SEEN = 80 // 2


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


def place(right: int = 0, down: int = 0) -> Picture:
    top, left = _SEEN + down, _SEEN + right
    return WIDE[top : top + GRID.height, left : left + GRID.width]


def film(seconds: float, view: Callable[[int], Picture] = lambda k: place(), noise: float = 2.0) -> list[Picture]:
    """Pictures with somebody who walks to and fro and the noise of a sensor."""
    rng, walker = np.random.default_rng(0), texture(30, 12, 9, 0, 255)
    pictures = []
    for k in range(round(seconds * RATE)):
        picture = view(k).astype(np.float32)
        x = 10 + abs(3 * k % 200 - 100)
        picture[60:90, x : x + 12] = walker
        pictures.append(np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8))
    return pictures


def watched(pictures: list[Picture], times: list[float] | None = None) -> tuple[list[FeatureRow], np.ndarray]:
    times = [k / RATE for k in range(len(pictures))] if times is None else times
    extractor = FeatureExtractor(GRID, TimeBase(1, 1000), 2.0, 20.0, 60.0)
    rows = [
        row for k, picture in enumerate(pictures) for row in extractor.push(k, round(1000 * times[k]), picture)
    ] + list(extractor.flush())
    return rows, np.array(times)


def found(rows: list[FeatureRow], times: np.ndarray) -> list[tuple[str, float, float]]:
    """(kind, onset, offset) in seconds."""
    valid = np.array([row.valid for row in rows])
    ends = [*times.tolist(), times[-1] + 1 / RATE]
    return [(i.kind, ends[i.start], ends[i.stop]) for i in incidents([row.view for row in rows], times, valid)]


def covered(k: int) -> Picture:
    """A hand before the lens, close and out of focus."""
    shade = np.linspace(20, 60, GRID.width, dtype=np.float32)[None] + np.linspace(0, 25, GRID.height)[:, None]
    return (shade + 5 * np.sin(k / 7)).astype(np.uint8)


WHEN, LASTS = 8.0, 4.0
LOSSES: dict[str, tuple[str, Callable[[int], Picture]]] = {
    "moved": (MOVED, lambda k: place(13, -8)),
    "turned away": (MOVED, lambda k: texture(GRID.height, GRID.width, 77)),
    "covered": (COVERED, covered),
    "blinded": (COVERED, lambda k: np.clip(place().astype(np.float32) * 0.03 + 240, 0, 255).astype(np.uint8)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_view_that_is_lost_for_a_while_is_one_incident(name: str) -> None:
    kind, other = LOSSES[name]
    first, last = round(WHEN * RATE), round((WHEN + LASTS) * RATE)
    pictures = film(20)
    away = film(20, other)
    pictures[first:last] = away[first:last] if kind == MOVED else [other(k) for k in range(first, last)]
    rng = np.random.default_rng(1)
    pictures[first:last] = [
        np.clip(p + rng.normal(0, 2, p.shape), 0, 255).astype(np.uint8) for p in pictures[first:last]
    ]
    ((seen, onset, offset),) = found(*watched(pictures))
    assert seen == kind and onset == pytest.approx(WHEN, abs=0.11) and offset == pytest.approx(WHEN + LASTS, abs=0.11)


@pytest.mark.parametrize("level", [16, 41])
def test_a_still_picture_of_one_brightness_is_a_lost_signal(level: int) -> None:
    pictures = film(20)
    pictures[80:120] = [np.full_like(pictures[0], level)] * 40
    assert found(*watched(pictures)) == [(LOST, 8.0, 12.0)]
    assert found(*watched([np.full_like(pictures[0], level)] * 60)) == [(LOST, 0.0, 6.0)]


def test_a_picture_that_comes_again_and_again_is_a_lost_signal() -> None:
    pictures = film(30)
    frozen = round((FROZEN_SECONDS + 1) * RATE)
    pictures[80 : 80 + frozen] = [pictures[80]] * frozen
    assert found(*watched(pictures)) == [(LOST, 8.0, 8.0 + FROZEN_SECONDS + 1)]
    short = film(30)
    short[80 : 80 + frozen // 2] = [short[80]] * (frozen // 2)
    assert not found(*watched(short))


def test_missing_footage_is_a_lost_signal() -> None:
    times = [k / RATE + (k >= 100) * 7.3 for k in range(200)]
    rows, at = watched(film(20), times)
    (gap,) = incidents([row.view for row in rows], at, np.array([row.valid for row in rows]))
    assert (gap.kind, gap.start, gap.stop) == (LOST, 99, 100)
    assert gap.reason == "no picture for 7.4 seconds: the footage has a gap"


def test_another_view_that_stays_becomes_the_background_and_all_is_one_incident() -> None:
    rows, times = watched(film(30, lambda k: place(13, -8) if k >= 80 else place()))
    assert found(rows, times) == [(MOVED, 8.0, pytest.approx(8.0 + SETTLE_SECONDS + 2.2, abs=0.3))]
    foreground = CHANNELS.index("person_foreground")
    busy = [float((row.cells[foreground] > 0.05).mean()) for row in rows]
    assert min(busy[90:125]) > 0.4 and max(busy[170:]) < 0.2
    assert [row.valid for row in rows[170:]] == [True] * 130


def test_a_camera_that_shakes_a_little_is_steadied() -> None:
    rng = np.random.default_rng(4)
    shakes = [(int(rng.integers(-2, 3)), int(rng.integers(-1, 2))) for _ in range(200)]
    steady, shaken = film(20), film(20, lambda k: place(*shakes[k]) if k >= 40 else place())
    rows, times = watched(shaken)
    assert not found(rows, times)
    busy = [float((row.cells[CHANNELS.index("person_foreground")] > 0.05).mean()) for row in rows[40:]]
    usual = [float((row.cells[CHANNELS.index("person_foreground")] > 0.05).mean()) for row in watched(steady)[0][40:]]
    assert np.mean(busy) < 1.5 * np.mean(usual)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.3, 1.2), st.floats(-30, 30))
def test_light_changes_no_view(seed: int, gain: float, offset: float) -> None:
    small = texture(60, 80, seed).astype(np.float32)
    other = np.clip((small - 128) * gain + 128 + offset, 0, 255)
    assert compare(other, small)[0] > 0.9
    assert compare(small, small)[:2] == (1.0, 1.0)
    assert compare(texture(60, 80, seed + 1).astype(np.float32), small)[0] < 0.2


def test_a_displacement_is_measured() -> None:
    right, down = displacement(place(-4, 3), place().astype(np.float32))
    assert (right, down) == (pytest.approx(4, abs=0.3), pytest.approx(-3, abs=0.3))


def test_a_lorry_for_a_moment_is_no_incident() -> None:
    usual, hidden = View(0.9, 1.0, 40.0, 3.0, 0.0, 0.0), View(0.1, 0.9, 40.0, 9.0, 0.0, 0.0)
    views = [hidden if 50 <= k < 58 else usual for k in range(100)]
    assert not incidents(views, np.arange(100) / RATE, np.arange(100) >= 20)
    again = [hidden if k % 25 < 8 else usual for k in range(100)]  # a lorry every two and a half seconds
    assert len(incidents(again, np.arange(100) / RATE, np.arange(100) >= 20)) <= 1


@pytest.mark.parametrize("width", [1.0, 1.5, 2.0, 4.0])
def test_sharpness_tells_the_width_of_edges_in_any_light(width: float) -> None:
    """Of tiles that a Gaussian of a known width has blurred, in pixels."""
    tiles = np.kron(np.indices((6, 8)).sum(0) % 2, np.ones((40, 40))).astype(np.float32) * 160 + 40
    seen = cv2.GaussianBlur(tiles, (0, 0), width)
    wider = width**2 + 2.0**2
    expected = 2 * math.sqrt(wider / (3 * width**2 + wider)) - 1
    assert sharpness(seen.astype(np.uint8)) == pytest.approx(expected, abs=0.05)
    dark = np.clip(0.3 * seen + np.random.default_rng(0).normal(0, 3, seen.shape), 0, 255)
    assert sharpness(dark.astype(np.uint8)) == pytest.approx(expected, abs=0.05)


def test_a_plain_picture_has_no_sharpness() -> None:
    assert sharpness(np.full((240, 320), 87, np.uint8)) == 0
