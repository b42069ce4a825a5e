"""How a place of the demo footage is seen and painted: a pinhole camera over a ground plane, textures, light, shadows.

World coordinates are metres: x to the right, y away from the camera, z up; the camera hangs above the origin. A place
is painted once, at twice the size, on a canvas that is a margin larger than the picture on every side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32, fine pixels (h, w) or (h, w, 3), unless a docstring says otherwise
Picture = NDArray[Any]  # uint8

WIDTH, HEIGHT, MARGIN = 640, 360, 32  # pixels of the picture, and of the canvas beyond each edge of it
CANVAS = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
FINE = 2  # painted pixels a canvas pixel, each way


@dataclass(frozen=True)
class View:
    """A camera `height` metres up that looks down by `pitch` radians; `focal` in picture pixels."""

    height: float
    pitch: float
    focal: float

    def project(self, points: Array) -> Array:
        """Points (N, 3) float64 in metres to (N, 3): canvas x, canvas y, pixels a metre there."""
        sin, cos = math.sin(self.pitch), math.cos(self.pitch)
        down = self.height - points[:, 2]
        scale = self.focal / np.maximum(points[:, 1] * cos + down * sin, 0.5)
        flat = np.empty((len(points), 3))
        flat[:, 0] = points[:, 0] * scale + CANVAS[1] / 2
        flat[:, 1] = (down * cos - points[:, 1] * sin) * scale + CANVAS[0] / 2
        flat[:, 2] = scale
        return flat


@dataclass(frozen=True)
class Lane:
    """Where people walk: corner points in metres, half the width in use, how busy, which ways, and where some pause.

    Attributes:
        points: (x, y) corners; both ends are out of sight.
        spread: metres to either side within which people keep.
        weight: share of the walkers that take it.
        one_way: whether ordinary traffic only goes from the first point to the last.
        pauses: points (x, y, heading in radians) at which some stop briefly.
    """

    points: tuple[tuple[float, float], ...]
    spread: float
    weight: float
    one_way: bool = False
    pauses: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Place:
    """A camera and its surroundings.

    Attributes:
        name: of the camera.
        view: the camera.
        sun: towards the sun (x, y, z), any length.
        wall: metres to the wall at the back.
        openings: (x0, x1) through which one sees and walks beyond the wall.
        lanes: by name.
        loiter: (x, y) where nobody ordinarily stands.
        leave: the lane on which something is left.
        warmth: gains of B, G, R in the sun.
        paint: draws everything that stands still.
    """

    name: str
    view: View
    sun: tuple[float, float, float]
    wall: float
    openings: tuple[tuple[float, float], ...]
    lanes: dict[str, Lane]
    loiter: tuple[float, float]
    leave: str
    warmth: tuple[float, float, float]
    paint: Callable[["Easel"], None]


@dataclass(frozen=True)
class Scene:
    """A painted place, canvas-sized.

    Attributes:
        background: (H, W, 3) uint8 BGR.
        lit: (H, W) float32, how much sun reaches somebody who stands there, 0..1.
        ground: (H, W) float32, how much sun reaches the ground where it is seen, else 0: where a shadow can fall.
        depths: metres to each thing that can hide a figure, ascending.
        visible: one (H, W) uint8 a count of nearest things: 255 where none of them hides what lies behind.
    """

    background: Picture
    lit: Array
    ground: Array
    depths: tuple[float, ...]
    visible: tuple[Picture, ...]


def bgr(text: str) -> Array:
    """`#rrggbb` as float32 (3,) in the order of the pictures."""
    return np.array([int(text[i : i + 2], 16) for i in (5, 3, 1)], dtype=np.float32)


@dataclass
class Easel:
    """What is being painted: fine pixels (h, w), each with the ray that looks through it."""

    place: Place
    rng: np.random.Generator
    colour: Array = field(init=False)
    sunlit: Array = field(init=False)
    is_ground: Array = field(init=False)
    hiders: list[tuple[float, Array]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        view, shape = self.place.view, (CANVAS[0] * FINE, CANVAS[1] * FINE)
        v, u = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        self.across = ((u + 0.5) / FINE - CANVAS[1] / 2) / view.focal
        down = ((v + 0.5) / FINE - CANVAS[0] / 2) / view.focal
        sin, cos = math.sin(view.pitch), math.cos(view.pitch)
        self.ahead, self.up = cos - down * sin, -sin - down * cos
        self.shape = shape
        distance = np.where(self.up < -1e-3, view.height / np.maximum(-self.up, 1e-3), 1e4).astype(np.float32)
        self.gx, self.gy, self.gt = distance * self.across, distance * self.ahead, distance
        self.pixel = distance / (view.focal * FINE)  # metres that a fine pixel covers across
        self.deep = self.pixel * distance / view.height  # and away from the camera
        self.clouds, self.grain = _noise(self.rng, 2.3), _noise(self.rng, 0.9)
        self.table = self.rng.normal(0, 1, (256, 256)).astype(np.float32)
        self.colour = np.zeros((*shape, 3), np.float32)
        self.sunlit = np.ones(shape, np.float32)
        self.is_ground = np.ones(shape, np.float32)

    # Textures -------------------------------------------------------------------------------------------------------

    def noise(self, x: Array, y: Array, metres: float, grain: bool = False) -> Array:
        """Smooth noise of unit spread, repeating every `metres`."""
        size = self.clouds.shape[0]
        tile = self.grain if grain else self.clouds
        found: Array = cv2.remap(
            tile,
            np.mod(x / metres, 1) * size,
            np.mod(y / metres, 1) * size,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        return found

    def courses(
        self, x: Array, y: Array, long: float, short: float, joint: float, px: Array, py: Array
    ) -> tuple[Array, Array]:
        """A running bond of blocks: (tone of each block, how much of each pixel is joint); px, py: metres a pixel."""
        row = np.floor(y / short)
        along = x / long + 0.5 * np.mod(row, 2)
        column = np.floor(along)
        tone = self.table[np.mod(row, 256).astype(np.int32), np.mod(column, 256).astype(np.int32)]
        to_x = (0.5 - np.abs(along - column - 0.5)) * long
        to_y = (0.5 - np.abs(y / short - row - 0.5)) * short
        gap_x = np.clip((joint - to_x) / np.maximum(px, 1e-4) + 0.5, 0, 1) * np.clip(long / (4 * px), 0, 1)
        gap_y = np.clip((joint - to_y) / np.maximum(py, 1e-4) + 0.5, 0, 1) * np.clip(short / (2.5 * py), 0, 1)
        fade = np.clip(short / (1.5 * py), 0, 1)
        return (tone * fade).astype(np.float32), np.maximum(gap_x, gap_y).astype(np.float32)

    # Ground ---------------------------------------------------------------------------------------------------------

    def near_line(self, points: tuple[tuple[float, float], ...]) -> Array:
        """Metres on the ground from each pixel to a line of straight pieces."""
        best = np.full(self.shape, 1e6, np.float32)
        for (x0, y0), (x1, y1) in pairwise(points):
            dx, dy = x1 - x0, y1 - y0
            share = np.clip(((self.gx - x0) * dx + (self.gy - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            best = np.minimum(best, np.hypot(self.gx - x0 - share * dx, self.gy - y0 - share * dy))
        return best

    def within(self, distance: Array, reach: float, soft: float = 0.0) -> Array:
        """1 where `distance` is below `reach`, with an antialiased edge."""
        width = np.maximum((self.pixel + self.deep) * 0.5, soft)
        return np.clip((reach - distance) / width + 0.5, 0, 1).astype(np.float32)

    def lay(self, colour: Array, mask: Array) -> None:
        """Cover the ground with `colour`, (3,) or (h, w, 3), where `mask` is 1."""
        x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
        part = np.s_[y : y + height, x : x + width]
        target = self.colour[part]
        target += mask[part][..., None] * ((colour if colour.ndim == 1 else colour[part]) - target)

    def grass(self, mask: Array) -> None:
        """Mown grass, greener and drier in patches."""
        broad, fine = self.noise(self.gx, self.gy, 17), self.noise(self.gx * 1.0, self.gy * 0.45, 2.3, grain=True)
        blades = self.noise(self.gx * 1.7, self.gy * 0.5, 0.9, grain=True) * np.clip(0.03 / self.pixel, 0, 1)
        base = bgr("#5f7a3a") + (broad * 0.5)[..., None] * (bgr("#8a8a4c") - bgr("#4f7034")) * 0.5
        self.lay(base * (1 + 0.07 * fine + 0.1 * blades + 0.05 * broad)[..., None], mask)

    def slabs(
        self, mask: Array, colour: str, long: float, short: float, turn: bool = False, contrast: float = 1.0
    ) -> None:
        """Paving of `long` × `short` metres, weathered."""
        x, y, px, py = (self.gy, self.gx, self.deep, self.pixel) if turn else (self.gx, self.gy, self.pixel, self.deep)
        tone, joint = self.courses(x, y, long, short, 0.012, px, py)
        stain = self.noise(self.gx, self.gy, 11)
        speck = self.noise(self.gx, self.gy, 1.1, grain=True) * np.clip(0.02 / self.pixel, 0, 1)
        gain = 1 + contrast * (0.045 * tone + 0.05 * stain + 0.05 * speck)
        self.lay(bgr(colour) * (gain * (1 - 0.3 * contrast * joint))[..., None], mask)

    def cast(self, mask: Array) -> None:
        """Take the sun from the ground where `mask` is 1."""
        self.sunlit *= 1 - mask

    def cast_pole(self, x: float, y: float, top: float, radius: float) -> None:
        """The shadow of a post on the ground."""
        lx, ly, lz = self.place.sun
        end = (x - lx * top / lz, y - ly * top / lz)
        self.cast(self.within(self.near_line(((x, y), end)), radius, 0.05) * 0.95)

    def cast_ball(self, x: float, y: float, z: float, radius: float, ragged: float) -> None:
        """The shadow of foliage: a blot with a ragged, sun-flecked edge."""
        lx, ly, lz = self.place.sun
        cx, cy = x - lx * z / lz, y - ly * z / lz
        dx, dy = self.gx - cx, self.gy - cy
        norm = math.hypot(lx, ly)
        along, side = (dx * lx + dy * ly) / norm, (dx * ly - dy * lx) / norm
        stretch = lz / math.hypot(norm, lz)
        far = np.hypot(along * stretch, side) + ragged * self.noise(self.gx, self.gy, 5.0) * radius
        fleck = np.clip(0.85 + 0.35 * self.noise(self.gx, self.gy, 2.2), 0, 1)
        self.cast(np.clip((radius - far) / (0.25 * radius) + 0.5, 0, 1) * fleck)

    def cast_wall(self, y: float, x0: float, x1: float, top: float, bottom: float = 0.0) -> None:
        """The shadow of an upright panel that faces the camera."""
        lx, ly, lz = self.place.sun
        t = (y - self.gy) / ly
        x, z = self.gx + t * lx, t * lz
        soft = np.maximum(0.06, self.pixel * 2)
        hit = np.clip((x - x0) / soft + 0.5, 0, 1) * np.clip((x1 - x) / soft + 0.5, 0, 1)
        hit *= np.clip((z - bottom) / soft + 0.5, 0, 1) * np.clip((top - z) / soft + 0.5, 0, 1) * (t > 0)
        self.cast(hit)

    def ease(self, x: float, y: float, reach: float, strength: float = 0.35) -> None:
        """Darken the ground softly about a foot of something, as open shade does."""
        self.colour *= (1 - strength * np.exp(-(((self.gx - x) ** 2 + (self.gy - y) ** 2) / reach**2)))[..., None]

    def light_ground(self) -> None:
        """Apply sun and open shade to everything laid so far."""
        warm = np.array(self.place.warmth, np.float32)
        shade = np.array([0.56, 0.5, 0.46], np.float32)
        self.colour *= shade + self.sunlit[..., None] * (warm - shade)

    # Upright things -------------------------------------------------------------------------------------------------

    def plane(self, y: float) -> tuple[Array, Array, float]:
        """(x, z) in metres where each ray meets the upright plane at depth `y`, and metres a pixel there."""
        t = y / np.maximum(self.ahead, 1e-3)
        view = self.place.view
        return t * self.across, view.height + t * self.up, y / (view.focal * FINE)

    def put(self, colour: Array, mask: Array, depth: float | None) -> None:
        """Paint something upright; with a `depth` it hides the figures behind it."""
        self.lay(colour, mask)
        self.is_ground *= 1 - mask
        if depth is not None:
            self.hiders.append((depth, mask))

    def panel(self, y: float, x0: float, x1: float, z0: float, z1: float) -> Array:
        """The mask of an upright rectangle that faces the camera."""
        x, z, pixel = self.plane(y)
        mask = np.clip((x - x0) / pixel + 0.5, 0, 1) * np.clip((x1 - x) / pixel + 0.5, 0, 1)
        mask *= np.clip((z - z0) / pixel + 0.5, 0, 1) * np.clip((z1 - z) / pixel + 0.5, 0, 1)
        return mask.astype(np.float32)

    def block(self, x: float, y: float, size: tuple[float, float, float], colour: str, base: float = 0.0) -> None:
        """A box (width, depth, height) with its near face at `y`: front, top, and the side that the camera sees."""
        width, depth, height = size
        corners = np.array(
            [
                (x + sx * width / 2, y + sy * depth, base + sz * height)
                for sx in (-1, 1)
                for sy in (0, 1)
                for sz in (0, 1)
            ]
        )
        flat = self.place.view.project(corners)[:, :2]
        sun = self.place.sun
        side = (4, 6, 7, 5) if x < 0 else (0, 2, 3, 1)
        lit_side = 0.5 + (0.5 if (sun[0] > 0) == (x < 0) else 0.0)
        lit_front = 0.85 if sun[1] < 0 else 0.62
        whole = np.zeros(self.shape, np.float32)
        for at, gain in ((side, lit_side), ((1, 3, 7, 5), 1.05), ((0, 4, 5, 1), lit_front)):
            mask = self.filled(flat[list(at)])
            self.lay(bgr(colour) * gain, mask)
            whole = np.maximum(whole, mask)
        self.is_ground *= 1 - whole
        self.hiders.append((y, whole))

    def filled(self, corners: Array) -> Array:
        """The mask of a polygon of canvas points (N, 2)."""
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(corners * (FINE * 16)).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255

    def pole(
        self, x: float, y: float, top: float, radius: float, colour: str, taper: float = 1.0, bark: float = 0.0
    ) -> None:
        """An upright round post, rounded by the light."""
        px, pz, pixel = self.plane(y)
        r = np.maximum(radius * (1 + (taper - 1) * np.clip(pz / top, 0, 1)), pixel)
        wobble = bark * self.noise(px * 0.1, pz * 0.35, 9.0) * radius if bark else 0.0
        offset = (px - x + wobble) / r
        mask = np.clip((1 - np.abs(offset)) * r / pixel + 0.5, 0, 1) * np.clip((pz + 0.0) / pixel + 0.5, 0, 1)
        mask = (mask * np.clip((top - pz) / pixel + 0.5, 0, 1)).astype(np.float32)
        towards = math.copysign(1.0, self.place.sun[0])
        gain = 0.72 + 0.38 * np.clip(offset * towards, -1, 1)
        if bark:
            gain = gain * (1 + 0.16 * self.noise(px * 2.2, pz * 0.5, 0.9, grain=True))
        self.put(bgr(colour) * gain[..., None].astype(np.float32), mask, y)

    def leaves(self, x: float, y: float, z: float, spread: float, count: int, colour: str, leaf: float = 0.13) -> None:
        """A crown of foliage: leaves drawn from the dark inside to the lit outside."""
        towards = np.array(self.place.sun) / np.linalg.norm(self.place.sun)
        clumps = np.tanh(self.rng.normal(0, 0.6, (30, 3))) * 0.95 * spread
        at = (
            clumps[self.rng.integers(0, len(clumps), count)]
            + np.tanh(self.rng.normal(0, 0.6, (count, 3))) * 0.32 * spread
        )
        at[:, 2] *= 0.65
        light = (at @ towards) / spread + self.rng.normal(0, 0.18, count)
        spots = self.place.view.project(at + np.array((x, y, z)))
        colours = bgr(colour) * np.clip(0.62 + 0.42 * light, 0.22, 1.5)[:, None] + self.rng.normal(0, 5, (count, 1))
        layer, mask = np.zeros((*self.shape, 3), np.uint8), np.zeros(self.shape, np.uint8)
        angles = self.rng.uniform(0, 180, count)
        for i in np.argsort(light):
            centre = (round(spots[i, 0] * FINE * 16), round(spots[i, 1] * FINE * 16))
            axes = (
                max(16, round(leaf * spots[i, 2] * FINE * 16)),
                max(12, round(0.55 * leaf * spots[i, 2] * FINE * 16)),
            )
            tone = tuple(float(c) for c in np.clip(colours[i], 0, 255))
            cv2.ellipse(layer, centre, axes, angles[i], 0, 360, tone, cv2.FILLED, cv2.LINE_8, 4)
            cv2.ellipse(mask, centre, axes, angles[i], 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
        self.put(layer.astype(np.float32), mask.astype(np.float32) / 255, y)

    def finish(self) -> Scene:
        """The painting at canvas size."""

        def small(fine: Array) -> Array:
            reduced: Array = cv2.resize(fine, (CANVAS[1], CANVAS[0]), interpolation=cv2.INTER_AREA)
            return reduced

        hiders = sorted(self.hiders, key=lambda hider: hider[0])
        hidden = np.zeros(CANVAS, np.float32)
        visible = [np.full(CANVAS, 255, np.uint8)]
        for _, mask in hiders:
            hidden = np.maximum(hidden, small(mask))
            visible.append(np.round((1 - hidden) * 255).astype(np.uint8))
        lit = small(self.sunlit)
        return Scene(
            background=np.clip(small(self.colour) + 0.5, 0, 255).astype(np.uint8),
            lit=cv2.blur(lit, (31, 15)),
            ground=lit * small(self.is_ground),
            depths=tuple(depth for depth, _ in hiders),
            visible=tuple(visible),
        )


def _noise(rng: np.random.Generator, slope: float) -> Array:
    """Tileable noise (512, 512) of mean 0 and spread 1 whose amplitude falls with frequency as f^(−slope / 2)."""
    f = np.fft.fftfreq(512)
    radius = np.hypot(f[:, None], f[None, :])
    radius[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(0, 1, (512, 512))) * radius ** (-slope / 2)
    spectrum[0, 0] = 0
    tile = np.fft.ifft2(spectrum).real
    noise: Array = (tile / tile.std()).astype(np.float32)
    return noise
