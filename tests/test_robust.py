"""What is not anybody's doing raises no alarm: scenes that each hold one nuisance, and one that holds a runner.

A small camera learns from two minutes of people who walk by, with leaves that sway, and sets its threshold at one false
alarm an hour. Every scene goes through the same features, network and threshold.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Picture, texture, write_clip
from synthetic import Footage, small_params, write_cells

from vidrnn.decode import VideoReader
from vidrnn.events import causal_average, find_spans
from vidrnn.features import CHANNELS, FeatureExtractor, FeatureRow, Grid, working_picture
from vidrnn.score import CameraModel, load_camera_model, observe
from vidrnn.timebase import TimeBase
from vidrnn.train import train
from vidrnn.windows import CellReader

RATE = 10
WIDTH, HEIGHT = 192, 144
SECONDS = 16.0
PARAMS = small_params(
    model={"hidden_size": 16, "horizons_seconds": (0.2,)},
    train={"epochs": 6, "batches_per_epoch": 25, "batch_windows": 4, "seq_seconds": 1.5, "block_seconds": 12.0},
)
PLACE = texture(HEIGHT, WIDTH, 3, 60, 170).astype(np.float32)
LEAVES = np.s_[0:40, 130:192]
LEAF = texture(60, 90, 8, 20, 220).astype(np.float32)
Rng = np.random.Generator


def walkers(rng: Rng, seconds: float) -> list[tuple[float, float, float, Picture]]:
    """(starts at, row, pixels a second, patch): somebody every few seconds, either way."""
    found, at = [], -6.0
    while at < seconds:
        at += float(rng.uniform(1.5, 4.0))
        patch = texture(32, 12, int(rng.integers(10**6)), 0, 255)
        found.append((at, float(rng.uniform(70, 95)), float(rng.choice([-1, 1]) * rng.uniform(17, 25)), patch))
    return found


def scene(
    seed: int, seconds: float = SECONDS, sway: float = 1.0, fastest: float = 1.0, noise: float = 2.0
) -> np.ndarray:
    """(frames, HEIGHT, WIDTH) float32; a tree in a corner, people below it, the noise of a sensor."""
    rng = np.random.default_rng(seed)
    people = walkers(rng, seconds)
    frames = np.empty((round(seconds * RATE), HEIGHT, WIDTH), np.float32)
    for k, frame in enumerate(frames):
        t = k / RATE
        frame[:] = PLACE
        shift = np.array([[1, 0, -8 + sway * 2 * np.sin(4 * t)], [0, 1, -8 + sway * np.sin(6.5 * t + 1)]], np.float32)
        frame[LEAVES] = cv2.warpAffine(LEAF, shift, (62, 40), borderMode=cv2.BORDER_REFLECT)
        for at, row, speed, patch in people:
            gone = (t - at) * speed * fastest
            x = gone - 12 if speed > 0 else WIDTH + gone
            if -12 < x < WIDTH:
                moved = np.array([[1, 0, x], [0, 1, row % 1]], np.float32)
                strip = frame[int(row) : int(row) + len(patch) + 1]
                mask = cv2.warpAffine(np.ones(patch.shape, np.float32), moved, (WIDTH, len(strip)))
                strip += mask * (cv2.warpAffine(patch.astype(np.float32), moved, (WIDTH, len(strip))) - strip)
    frames += rng.normal(0, noise, frames.shape)
    return frames


def pictures(frames: np.ndarray) -> list[Picture]:
    return list(np.clip(np.rint(frames), 0, 255).astype(np.uint8))


def features_of(shown: list[Picture]) -> list[FeatureRow]:
    grid = Grid.of(WIDTH, HEIGHT, 120)
    extractor = FeatureExtractor(grid, TimeBase(1, RATE), 2.0, 20.0, 60.0)
    working = [working_picture(picture, False, 0, grid) for picture in shown]
    return [row for k, picture in enumerate(working) for row in extractor.push(k, k, picture)] + list(extractor.flush())


def write_rows(path: Path, rows: list[FeatureRow]) -> Path:
    return write_cells(path, np.stack([row.cells for row in rows]), warmup=sum(not row.valid for row in rows))


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> CameraModel:
    cv2.setNumThreads(1)
    root = tmp_path_factory.mktemp("robust")
    footage = Footage(root)
    for k in range(4):
        rows = features_of(pictures(scene(k, 30.0)))
        footage.add(f"gate/{k}.mp4", np.stack([row.cells for row in rows]), warmup=sum(not row.valid for row in rows))
    train(footage.features, footage.training, PARAMS, root / "model")
    return load_camera_model(root / "model" / "gate")


def alarms(camera: CameraModel, rows: list[FeatureRow], folder: Path, per_hour: float = 1.0) -> list[float]:
    """The seconds at which events begin."""
    path, times = write_rows(folder / "cells.parquet", rows), np.arange(len(rows)) / RATE
    assert camera.calibration is not None
    raw = [
        camera.calibration.questions.score(stretch.maps).max((1, 2))
        for _, stretch in observe(camera, CellReader(), str(path), times, 0, len(rows))
    ]
    score = causal_average(np.concatenate(raw), times, camera.smoothing_seconds)
    alarm = (score > camera.calibration.tail.threshold(per_hour)) & np.array([row.valid for row in rows])
    return [float(times[span.start]) for span in find_spans(score, alarm, times, 2.0)]


def flicker(k: int) -> float:
    """Lamps at 100 Hz before a camera of 10 frames/s beat slowly: 4 % of brightness."""
    return 1 + 0.04 * np.sin(2 * np.pi * 0.7 * k / RATE)


def exposed(k: int) -> float:
    """The camera opens its aperture by a quarter over two seconds, and closes it again."""
    return 1 + 0.25 * float(np.interp(k / RATE, [6, 8, 11, 13], [0, 1, 1, 0]))


def cloud(k: int) -> np.ndarray:
    """A soft shadow, as wide as the picture, that drifts over it in ten seconds."""
    x = np.arange(WIDTH) / WIDTH - (k / RATE - 6) / 5
    return 1 - 0.2 * np.exp(-(x**2) / 0.5)


LIGHT: dict[str, Callable[[int], object]] = {"flicker": flicker, "exposure": exposed, "cloud": cloud}


@pytest.mark.parametrize("name", LIGHT)
def test_light_raises_no_alarm(camera: CameraModel, name: str, tmp_path: Path) -> None:
    frames = scene(100) * np.stack([np.broadcast_to(LIGHT[name](k), (HEIGHT, WIDTH)) for k in range(160)])
    assert not alarms(camera, features_of(pictures(frames)), tmp_path)


@pytest.mark.parametrize("noise", [2.0, 6.0])
def test_the_noise_of_a_sensor_and_leaves_raise_no_alarm(camera: CameraModel, noise: float, tmp_path: Path) -> None:
    assert not alarms(camera, features_of(pictures(scene(101, noise=noise))), tmp_path)


def test_the_pulse_of_key_frames_raises_no_alarm(camera: CameraModel, tmp_path: Path) -> None:
    """A low bitrate, a key frame every second: the picture breathes with it."""
    clip = write_clip(tmp_path / "a.mp4", pictures(scene(102)), rate=RATE, time_base=None, crf=36)
    with VideoReader(clip) as reader:
        shown = [frame.luma.copy() for frame in reader.frames()]
    assert not alarms(camera, features_of(shown), tmp_path)


def test_the_warm_up_raises_no_alarm_and_a_runner_does(camera: CameraModel, tmp_path: Path) -> None:
    rows = features_of(pictures(scene(103, fastest=4.0)))
    found = alarms(camera, rows, tmp_path, per_hour=10.0)
    assert found and min(found) >= 2.0


@pytest.mark.parametrize("rate", [10, 25, 30])
def test_speeds_survive_another_rate_and_size(rate: int) -> None:
    """The same square at three rates and three sizes: the median speed of where it is, in picture heights a second."""
    speed, found = 0.3, []
    for lines in (240, 480, 720):
        grid, width = Grid.of(lines * 4 // 3, lines, 240), lines * 4 // 3
        place, square = texture(lines, width, 3, 60, 130), texture(lines // 4, lines // 6, 4, 100, 250)
        extractor, rows = FeatureExtractor(grid, TimeBase(1, rate), 0.5, 20.0, 60.0), []
        for k in range(round(2.5 * rate)):
            x = lines * (0.2 + speed * k / rate)
            moved = np.array([[1, 0, x], [0, 1, lines * 0.4]], np.float32)
            mask = cv2.warpAffine(np.ones(square.shape, np.float32), moved, (width, lines))
            shown = place * (1 - mask) + mask * cv2.warpAffine(square, moved, (width, lines))
            rows += extractor.push(k, k, working_picture(shown.astype(np.uint8), False, 0, grid))
        speeds = np.stack([row.cells[CHANNELS.index("person_speed")] for row in rows[rate:]]).astype(float)
        moving = np.stack([row.cells[CHANNELS.index("person_moving")] for row in rows[rate:]]).astype(float)
        found.append(float(np.median((speeds * (moving + 0.05) / np.maximum(moving, 0.05))[moving > 0.4])))
    assert found == pytest.approx([speed] * 3, rel=0.06)
