"""Edited films for `benchmarks/segments.py`: shots strung together, with what lies between them known to the frame.

Shots are views into the demo's places while people walk there, and own renderings of textured places that a camera
stands before, pans, zooms and trembles over, with things that move slowly, fast, and right before the lens. Between
shots lie cuts, dissolves and fades through black or white; within them flashes, steps of the light, whips of the
camera, and big things that dash by, none of which is a boundary.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrnn.demo import render_plans
from vidrnn.demo_plan import plan_file
from vidrnn.demo_scene import PLACES
from vidrnn.encode import VideoWriter
from vidrnn.sources import stage_digest
from vidrnn.storage import digest, sha256_file

RATE = 25
WIDTH, HEIGHT = 320, 180
_SHOTS = 18
_DEMO_SECONDS = 40
_MARGIN = 8  # pixels that the camera may tremble by

Picture = NDArray[np.uint8]
Rng = np.random.Generator
Shot = Callable[[int], Picture]  # the picture of each frame, counted from the first in which the shot shows


@dataclass
class Film:
    """What is cut where, in frames.

    Attributes:
        path: of the file.
        cuts: the first frame of each shot that begins with a cut.
        gradual: (first, end) of each dissolve and fade.
    """

    path: Path
    cuts: list[int] = field(default_factory=list)
    gradual: list[tuple[int, int]] = field(default_factory=list)


def make_films(scratch: Path, seeds: Sequence[int]) -> list[Film]:
    """Draw the films of some seeds below `scratch`, or find them there."""
    made_by = stage_digest("demo", None, ["av", "numpy", "opencv-python-headless"])
    root = scratch / digest([made_by, sha256_file(Path(__file__))])[:12]
    films = []
    for seed in seeds:
        path, facts = root / f"{seed}.mp4", root / f"{seed}.json"
        if not facts.is_file():
            film = _draw(path, seed, _demo_pictures(scratch / "demo", seed))
            facts.write_text(json.dumps([film.cuts, film.gradual]), encoding="utf-8")
        cuts, gradual = json.loads(facts.read_text(encoding="utf-8"))
        films.append(Film(path, cuts, [tuple(span) for span in gradual]))
    return films


def _demo_pictures(scratch: Path, seed: int) -> list[list[Picture]]:
    """Ordinary footage of each place of the demo, at RATE."""
    root = scratch / str(seed)
    plans = [
        plan_file(camera, "train", f"{camera}/{seed}.mp4", _DEMO_SECONDS * RATE, (seed, 9, k), (), RATE)
        for k, camera in enumerate(sorted(PLACES))
    ]
    if not (root / "labels" / "objects.csv").is_file():  # written last
        render_plans(root / "videos", root / "labels", plans, RATE)
    films = []
    for plan in plans:
        capture, pictures = cv2.VideoCapture(str(root / "videos" / plan.video)), []
        while (read := capture.read())[0]:
            pictures.append(np.asarray(read[1], np.uint8))
        films.append(pictures)
    return films


def _demo_shot(rng: Rng, places: list[list[Picture]]) -> Shot:
    """A window into a place, of its own size and framing; it may drift slowly."""
    pictures = places[rng.integers(len(places))]
    height, width = pictures[0].shape[:2]
    scale = rng.choice([1.0, 0.55, 0.35])
    wide, high = int(width * scale), int(height * scale)
    x, y = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    drift = rng.uniform(-0.6, 0.6, 2) if rng.random() < 0.3 else np.zeros(2)
    start = int(rng.integers(0, len(pictures) // 2))

    def picture(frame: int) -> Picture:
        left = int(np.clip(x + drift[0] * frame, 0, width - wide))
        top = int(np.clip(y + drift[1] * frame, 0, height - high))
        whole = pictures[(start + frame) % len(pictures)]
        return _resized(whole[top : top + high, left : left + wide])

    return picture


def _own_shot(rng: Rng) -> Shot:
    """A camera over a textured panorama: still, trembling, panning or zooming; things move before it."""
    panorama = _panorama(rng)
    high, wide = panorama.shape[:2]
    motion = rng.choice(["still", "tremble", "pan", "fast pan", "zoom"], p=[0.25, 0.2, 0.25, 0.15, 0.15])
    speed = {"pan": rng.uniform(1, 4), "fast pan": rng.uniform(6, 16)}.get(str(motion), 0.0) * rng.choice([-1, 1])
    x0, y0 = rng.uniform(_MARGIN, wide - WIDTH), rng.uniform(_MARGIN, high - HEIGHT - _MARGIN)
    zoom = rng.uniform(-0.006, 0.006) if motion == "zoom" else 0.0
    tremble = np.cumsum(rng.normal(0, 1.2, (400, 2)), axis=0)
    tremble = np.clip(tremble - cv2.blur(tremble, (1, 25)), -_MARGIN, _MARGIN) * (motion == "tremble")
    movers = [_mover(rng) for _ in range(rng.integers(0, 5))]
    noise = rng.normal(0, rng.uniform(0.5, 3), (4, HEIGHT, WIDTH, 1)).astype(np.float32)

    def picture(frame: int) -> Picture:
        scale = math.exp(zoom * frame)
        dx, dy = tremble[frame % len(tremble)]
        x = (x0 + speed * frame) % (2 * (wide - WIDTH))
        x = x if x <= wide - WIDTH else 2 * (wide - WIDTH) - x  # to and fro
        matrix = np.array([[1 / scale, 0, x + dx], [0, 1 / scale, y0 + dy]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(panorama, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)
        view = np.asarray(warped, np.float32)
        if abs(speed) > 5:
            view = np.asarray(cv2.blur(view, (int(abs(speed)), 1)), np.float32)
        for mover in movers:
            mover(view, frame)
        return _levels(view + noise[frame % 4])

    return picture


def _panorama(rng: Rng) -> NDArray[np.float32]:
    """Coloured noise of many sizes, with houses, poles and a sky on some."""
    high, wide = HEIGHT * 2, WIDTH * 5
    layers = np.zeros((high, wide, 3), np.float32)
    for octave in range(1, 7):
        small = rng.normal(0, 1, (2**octave + 1, 3 * 2**octave, 3)).astype(np.float32)
        layers += cv2.resize(small, (wide, high), interpolation=cv2.INTER_CUBIC) * rng.uniform(0.3, 0.7) ** octave
    contrast, level = rng.uniform(15, 60), rng.uniform(40, 190, 3)
    picture = level + contrast * layers / layers.std()
    if rng.random() < 0.6:
        horizon = int(high * rng.uniform(0.3, 0.6))
        picture[:horizon] = rng.uniform(120, 240, 3) + 0.15 * picture[:horizon]
        for _ in range(rng.integers(4, 30)):
            x, w, h = int(rng.integers(wide)), int(rng.integers(8, 160)), int(rng.integers(20, 140))
            tone = rng.uniform(0, 230, 3)
            part = picture[max(0, horizon - h) : horizon + h // 3, x : x + w]
            part[:] = tone + 0.3 * (part - level)
    return np.asarray(picture, np.float32)


def _mover(rng: Rng) -> Callable[[NDArray[np.float32], int], None]:
    """A textured thing that crosses the picture again and again, at a speed of its own."""
    h, w = int(rng.integers(15, 90)), int(rng.integers(10, 80))
    patch = cv2.GaussianBlur(rng.uniform(0, 255, (h, w, 3)).astype(np.float32), (0, 0), 3)
    patch = rng.uniform(20, 220, 3) + 2 * (patch - 128)
    y, x, speed = (
        int(rng.integers(0, HEIGHT - h)),
        rng.uniform(0, 2 * WIDTH),
        rng.uniform(0.5, 12) * rng.choice([-1, 1]),
    )

    def draw(view: NDArray[np.float32], frame: int) -> None:
        left = int((x + speed * frame) % (2 * WIDTH)) - w
        a, b = max(0, left), min(WIDTH, left + w)
        if a < b:
            view[y : y + h, a:b] = patch[:, a - left : b - left]

    return draw


# What happens within a shot without ending it: (picture, frame since its begin, frames that it lasts) -> picture.


def _flash(rng: Rng) -> tuple[int, Callable[[Picture, int], Picture]]:
    gain, level, length = rng.uniform(1.2, 2.2), rng.uniform(20, 120), int(rng.integers(1, 5))
    return length, lambda picture, k: _lit(picture, 1 + (gain - 1) * (1 - k / length), level * (1 - k / length))


def _light(rng: Rng) -> tuple[int, Callable[[Picture, int], Picture]]:
    gain = rng.choice([rng.uniform(0.45, 0.75), rng.uniform(1.3, 1.6)])
    ramp = int(rng.choice([1, 12, 25]))
    return 10**6, lambda picture, k: _lit(picture, 1 + (gain - 1) * min(1.0, (k + 1) / ramp), 0.0)


def _dash(rng: Rng) -> tuple[int, Callable[[Picture, int], Picture]]:
    """Something large passes right before the lens."""
    length, share, forth = int(rng.integers(6, 16)), rng.uniform(0.3, 0.9), rng.random() < 0.5
    wide = int(WIDTH * share)
    body = cv2.GaussianBlur(rng.uniform(0, 160, (HEIGHT, wide, 3)).astype(np.float32), (0, 0), 9)
    body = np.clip(rng.uniform(10, 200, 3) + 4 * (body - 80), 0, 255).astype(np.uint8)

    def draw(picture: Picture, k: int) -> Picture:
        left = int(-wide + (WIDTH + wide) * (k + 0.5) / length)
        left = left if forth else WIDTH - wide - left
        out = picture.copy()
        a, b = max(0, left), min(WIDTH, left + wide)
        if a < b:
            out[:, a:b] = body[:, a - left : b - left]
        return out

    return length, draw


def _whip(rng: Rng) -> tuple[int, Callable[[Picture, int], Picture]]:
    """The camera is torn aside and back: the picture runs through once, blurred, and is where it was."""
    length, forth = int(rng.integers(8, 16)), rng.choice([-1, 1])

    def draw(picture: Picture, k: int) -> Picture:
        shift = int(forth * WIDTH * 2 * k / length)
        mirrored = np.concatenate([picture, picture[:, ::-1]], axis=1)
        return np.asarray(
            cv2.blur(np.roll(mirrored, shift, axis=1)[:, :WIDTH], (2 * WIDTH // length // 2, 1)), np.uint8
        )

    return length, draw


_WITHIN = (_flash, _light, _dash, _whip)


def _lit(picture: Picture, gain: float, level: float) -> Picture:
    return _levels(picture * np.float32(gain) + np.float32(level))


def _levels(picture: NDArray[np.float32]) -> Picture:
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _resized(picture: Picture) -> Picture:
    return np.asarray(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _draw(path: Path, seed: int, places: list[list[Picture]]) -> Film:
    rng, film, done = np.random.default_rng([seed, 77]), Film(path), 0
    with VideoWriter(path, WIDTH, HEIGHT, RATE) as writer:
        before: tuple[Shot, int] | None = None  # what is blended out, and its next frame
        for number in range(_SHOTS):
            shot = _disturbed(rng, _demo_shot(rng, places) if rng.random() < 0.4 else _own_shot(rng))
            length = int(RATE * rng.uniform(1.6, 4.5))
            way = str(rng.choice(["cut", "dissolve", "fade"], p=[0.6, 0.25, 0.15])) if number else "start"
            if way == "cut":
                film.cuts.append(done)
            first = 0
            if before and way in ("dissolve", "fade"):
                span = int(RATE * rng.uniform(0.4, 1.8))
                hold = int(rng.integers(0, 8)) if way == "fade" else 0
                to = np.full((HEIGHT, WIDTH, 3), 0 if rng.random() < 0.75 else 255, np.uint8)
                film.gradual.append((done, done + span + hold))
                old, at = before
                for k in range(span + hold):
                    share = (k + 1) / (span + 1)
                    if way == "dissolve":
                        picture = _blended(old(at + k), shot(k), share)
                        first = k + 1
                    elif k < span // 2:
                        picture = _blended(old(at + k), to, (k + 1) / (span // 2))
                    elif k < span // 2 + hold:
                        picture = to
                    else:
                        picture = _blended(to, shot(first), (k + 1 - hold - span // 2) / (span - span // 2 + 1))
                        first += 1
                    writer.write(picture)
                done += span + hold
            for k in range(length):
                writer.write(shot(first + k))
            done += length
            before = (shot, first + length)
    return film


def _blended(old: Picture, new: Picture, share: float) -> Picture:
    return np.asarray(cv2.addWeighted(old, 1 - share, new, share, 0), np.uint8)


def _disturbed(rng: Rng, shot: Shot) -> Shot:
    """The same shot, in which something may happen."""
    if rng.random() > 0.5:
        return shot
    length, change = _WITHIN[rng.integers(len(_WITHIN))](rng)
    start = int(RATE * rng.uniform(0.8, 1.4))

    def picture(frame: int) -> Picture:
        plain = shot(frame)
        return change(plain, frame - start) if start <= frame < start + length else plain

    return picture
