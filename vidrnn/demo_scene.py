"""The two places of the demo footage, painted once: a park gate in the morning and a market street later in the day.

Each has a lane on which everybody goes one way, usual places to stop at, and a place where nobody stands.
"""

import math
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from vidrnn.easel import FINE, Easel, Lane, Place, Scene, View, bgr


@lru_cache(maxsize=4)
def paint(name: str, seed: int) -> Scene:
    """Paint the place of a camera; the same for every file of it."""
    place = PLACES[name]
    easel = Easel(place, np.random.default_rng([seed, sorted(PLACES).index(name)]))
    place.paint(easel)
    return easel.finish()


def _arrows(easel: Easel, points: tuple[tuple[float, float], ...], every: float) -> None:
    """White arrows along a lane, a little worn."""
    worn = np.clip(0.8 + 0.3 * easel.noise(easel.gx, easel.gy, 3.0), 0, 0.85)
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        for i in range(int(length / every)):
            cx, cy = x0 + dx * every * (i + 0.5), y0 + dy * every * (i + 0.5)
            tip, tail = (cx + 0.7 * dx, cy + 0.7 * dy), (cx - 0.7 * dx, cy - 0.7 * dy)
            wings = [(cx + 0.2 * dx - s * 0.36 * dy, cy + 0.2 * dy + s * 0.36 * dx) for s in (-1, 1)]
            mask = easel.within(easel.near_line((tail, tip)), 0.07)
            for wing in wings:
                mask = np.maximum(mask, easel.within(easel.near_line((wing, tip)), 0.07))
            easel.lay(bgr("#e8e6dc"), mask * worn)


def _wall(easel: Easel, y: float, height: float, colour: str, openings: tuple[tuple[float, float], ...]) -> None:
    """A brick wall across the picture with a coping and piers at its openings."""
    x, z, pixel = easel.plane(y)
    flat = np.full(easel.shape, pixel, np.float32)
    tone, joint = easel.courses(x, z, 0.32, 0.11, 0.01, flat, flat)
    stain = easel.noise(x, z, 9.0)
    gain = (1 + 0.09 * tone + 0.08 * stain - 0.12 * np.exp(-np.maximum(z, 0) / 0.35)) * (1 - 0.16 * joint)
    lit = 0.95 if easel.place.sun[1] < 0 else 0.66
    mask = easel.panel(y, -60, 60, -0.5, height)
    for x0, x1 in openings:
        mask *= 1 - easel.panel(y, x0, x1, -0.5, height + 1)
    mask *= np.clip(z / pixel + 0.5, 0, 1)
    coping = mask * np.clip((z - height + 0.16) / pixel, 0, 1)
    easel.put(bgr(colour) * (gain * lit)[..., None], mask, y)
    easel.lay(bgr("#b9b3a6") * lit, coping)


def _paint_north_gate(easel: Easel) -> None:
    place = easel.place
    lanes = place.lanes
    verge = 0.12 * easel.noise(easel.gx, easel.gy, 3.0)
    easel.grass(np.ones(easel.shape, np.float32))
    worn = easel.within(easel.near_line(lanes["avenue"].points) + 3 * verge, 2.3, 0.5) * 0.35
    easel.lay(bgr("#8a7f5c"), worn)
    for name, reach, colour, turn in (
        ("cross", 1.35, "#a79f92", False),
        ("avenue", 1.7, "#b3aa9b", False),
        ("entry", 1.0, "#8f8d8c", True),
    ):
        line = easel.near_line(lanes[name].points)
        easel.lay(bgr("#7d776d"), easel.within(line, reach + 0.14))
        easel.slabs(easel.within(line, reach), colour, 0.62, 0.42, turn)
    _arrows(easel, lanes["entry"].points[1:], 3.2)
    edge = np.abs(easel.near_line(lanes["entry"].points) - 0.9)
    easel.lay(bgr("#ddd7c2"), easel.within(edge, 0.045) * 0.7)
    for x0, x1 in ((-60, -4.9), (-2.5, 1.2), (4.8, 60)):
        easel.cast_wall(26.0, x0, x1, 3.1)
    easel.cast_pole(4.7, 11.2, 5.5, 0.09)
    easel.cast_pole(-8.2, 15.0, 3.0, 0.28)
    for dx, dy, dz, r in ((0, 0, 5.0, 2.0), (1.3, 0.4, 4.4, 1.3), (-1.2, 0.5, 4.4, 1.4), (0.4, -0.9, 4.0, 1.2)):
        easel.cast_ball(-8.2 + dx, 15.0 + dy, dz, r, 0.2)
    for dx, r in ((-12.0, 2.4), (-9.5, 2.0)):
        easel.cast_ball(dx, 8.0, 6.0, r, 0.22)
    for x in (-1.7, -1.7 + 1.5):
        easel.cast_pole(x, 24.6, 0.9, 0.1)
    easel.cast_wall(20.6, 6.6, 8.6, 0.9, 0.4)
    easel.light_ground()
    for x, y in ((4.7, 11.2), (-8.2, 15.0), (7.6, 20.8)):
        easel.ease(x, y, 0.7)
    # Beyond: sky, far trees, then the wall in front of them.
    px, pz, _ = easel.plane(60.0)
    sky = bgr("#cfdcea") + np.clip((pz - 6) / 30, 0, 1)[..., None] * (bgr("#8fb1d8") - bgr("#cfdcea"))
    cloud = np.clip(0.45 * easel.noise(px * 0.6, pz * 1.6, 90.0), 0, 0.6)
    sky = sky + cloud[..., None] * (bgr("#f4f3f0") - sky)
    easel.put(sky.astype(np.float32), (pz > 0).astype(np.float32), None)
    for depth, top, tone, haze in ((58.0, 5.7, "#6d8a63", 0.45), (42.0, 4.3, "#4c6b3a", 0.15)):
        px, pz, _ = easel.plane(depth)
        ridge = easel.noise(px, np.full_like(px, depth), 60.0) + 0.5 * easel.noise(
            px, np.full_like(px, 7 + depth), 19.0
        )
        crown = top + 0.5 * ridge + 0.22 * easel.noise(px, pz * 0.8, 4.0)
        mask = np.clip((crown - pz) / 0.15, 0, 1) * (pz > 0)
        clumps = 0.16 * easel.noise(px, pz * 0.8, 9.0) + 0.08 * easel.noise(px, pz, 2.0, grain=True)
        gain = 0.8 + clumps + 0.25 * pz / top
        foliage = bgr(tone) * gain[..., None]
        easel.put(foliage + haze * (bgr("#c5d2dc") - foliage), mask.astype(np.float32), None)
    _wall(easel, 26.0, 3.0, "#9a5f48", place.openings)
    for x in (-5.1, -2.3, 1.0, 5.0):
        easel.block(x, 25.8, (0.55, 0.5, 3.5), "#a9735b")
        easel.block(x, 25.75, (0.75, 0.6, 0.18), "#c2bbad", base=3.5)
    # Things on the grass.
    for x in (-1.7, -0.2):
        easel.pole(x, 24.6, 0.95, 0.1, "#3b3f44")
    easel.block(7.6, 21.0, (2.0, 0.06, 0.35), "#7b5636", base=0.55)
    easel.block(7.6, 20.55, (2.0, 0.45, 0.07), "#8a6140", base=0.42)
    for x in (6.8, 8.4):
        easel.block(x, 20.55, (0.08, 0.4, 0.42), "#33363a")
    easel.pole(-8.2, 15.0, 4.2, 0.27, "#6a5440", 0.6, 0.22)
    easel.leaves(-8.2, 15.0, 5.0, 2.4, 6000, "#6f9440", 0.085)
    easel.pole(4.7, 11.2, 5.6, 0.085, "#3f4a4d", 0.75)
    easel.pole(4.7, 11.2, 0.7, 0.14, "#39464a")
    easel.leaves(-6.4, 9.5, 6.3, 1.7, 3000, "#7a9c46", 0.07)


def _paint_market_walk(easel: Easel) -> None:
    place = easel.place
    lanes = place.lanes
    everywhere = np.ones(easel.shape, np.float32)
    easel.slabs(everywhere, "#a89a8c", 0.9, 0.6, contrast=1.0)
    band = easel.within(np.abs(easel.gy - 16.3), 0.25)
    easel.slabs(band, "#7c7672", 0.5, 0.25)
    lane = easel.within(np.abs(easel.gy - 8.8), 0.95)
    easel.slabs(lane, "#84706a", 0.3, 0.15, contrast=0.9)
    for edge in (7.85, 9.75):
        easel.lay(bgr("#d9cfb4"), easel.within(np.abs(easel.gy - edge), 0.06) * 0.8)
    _arrows(easel, lanes["lane"].points, 4.6)
    pavement = easel.within(np.maximum(20.1 - easel.gy, 0), 0.05)
    easel.slabs(pavement, "#8d8a86", 0.6, 0.6)
    easel.lay(bgr("#66625e"), easel.within(np.abs(easel.gy - 20.05), 0.05))
    stalls = (
        (-1.2, "#b5382f", "#efe6d3"),
        (4.2, "#2f6b57", "#efe6d3"),
        (10.2, "#2d4f86", "#efe6d3"),
        (-11.5, "#c08a2b", "#f2ead9"),
    )
    for x, _, _ in stalls:
        easel.cast_wall(17.0, x - 1.9, x + 1.9, 1.0)
        easel.cast_wall(18.2, x - 1.9, x + 1.9, 1.0)
        easel.cast_wall(16.7, x - 2.1, x + 2.1, 2.5, 2.2)
        easel.cast_wall(18.4, x - 2.1, x + 2.1, 2.9, 2.2)
    easel.cast_pole(-4.3, 10.9, 5.5, 0.09)
    easel.cast_pole(7.4, 10.4, 2.6, 0.14)
    for dx, dz, r in ((0, 3.6, 1.1), (0.6, 3.0, 0.8), (-0.6, 3.1, 0.8)):
        easel.cast_ball(7.4 + dx, 10.4, dz, r, 0.2)
    for x in (-9.5, -6.2, 1.0, 3.0):
        easel.cast_pole(x, 10.6, 0.9, 0.09)
    # The houses behind the camera throw their long shadow over the near left corner.
    slope = easel.gy - 7.2 + 0.35 * (easel.gx + 9)
    easel.cast(np.clip(-slope / 0.25 + 0.5, 0, 1))
    easel.light_ground()
    for x, y in ((-4.3, 10.9), (7.4, 10.4)):
        easel.ease(x, y, 0.6)
    _paint_houses(easel)
    for x, colour, other in stalls:
        _paint_stall(easel, x, colour, other)
    for x in (-9.5, -6.2, 1.0, 3.0):
        easel.pole(x, 10.6, 0.95, 0.09, "#45484d")
    easel.block(7.4, 10.0, (1.1, 0.8, 0.62), "#8f8579")
    easel.pole(7.4, 10.4, 3.0, 0.07, "#5d4a38", 0.7, 0.3)
    easel.leaves(7.4, 10.4, 3.5, 1.0, 3200, "#6f8f3f", 0.055)
    easel.pole(-4.3, 10.9, 6.0, 0.085, "#34383c", 0.75)
    easel.pole(-4.3, 10.9, 0.75, 0.15, "#2f3438")


def _paint_houses(easel: Easel) -> None:
    wall = easel.place.wall
    x, z, pixel = easel.plane(34.0)
    flat = np.full(easel.shape, pixel, np.float32)
    tone, joint = easel.courses(x, z, 0.6, 0.22, 0.014, flat, flat)
    haze = 0.78 + 0.04 * easel.noise(x, z, 6.0) + 0.04 * tone - 0.06 * joint
    easel.put(bgr("#b9a68f") * haze[..., None], (z > 0).astype(np.float32), None)
    for left in (-12.6, -11.2):
        easel.lay(bgr("#5c6670"), easel.panel(34.0, left, left + 0.8, 3.0, 4.6))
    easel.lay(bgr("#4b3c33"), easel.panel(34.0, -11.3, -10.2, 0.0, 2.3))
    x, z, pixel = easel.plane(wall)
    above = (z > 0).astype(np.float32)
    fronts = (
        (-40.0, -13.0, "#b9a183"),
        (-13.0, -7.6, "#a9654e"),
        (-5.2, 2.2, "#cdbb9a"),
        (2.2, 8.8, "#8f9aa0"),
        (8.8, 40.0, "#b77f5d"),
    )
    flat = np.full(easel.shape, pixel, np.float32)
    tone, joint = easel.courses(x, z, 0.5, 0.18, 0.012, flat, flat)
    grime = 0.05 * easel.noise(x, z, 7.0) - 0.1 * np.exp(-np.maximum(z, 0) / 0.5)
    gain = (0.92 + grime + 0.035 * tone) * (1 - 0.08 * joint)
    glow = 0.62 + 0.07 * easel.noise(x * 0.4, z * 0.8, 14.0) + 0.3 * np.clip((z - 0.5) / 2, 0, 1)
    blinds = 0.82 + 0.05 * easel.noise(x, z, 9.0) + 0.22 * np.clip((x * 0.5 + z) % 1.6 - 1.0, 0, 0.4)
    for x0, x1, colour in fronts:
        mask = easel.panel(wall, x0, x1, 0, 30) * above
        easel.put(bgr(colour) * gain[..., None], mask, wall)
        # Shop fronts below, windows above.
        middle = (max(x0, -16) + min(x1, 16)) / 2
        half = (min(x1, 16) - max(x0, -16)) / 2 - 0.5
        frame = easel.panel(wall, middle - half, middle + half, 0.0, 2.9)
        easel.lay(bgr("#3a3f3f"), frame)
        panes = max(1, round(2 * half / 1.7))
        for i in range(panes):
            left = middle - half + 0.1 + i * (2 * half - 0.1) / panes
            right = left + (2 * half - 0.1) / panes - 0.1
            glass = easel.panel(wall, left, right, 0.45 if i != panes // 2 else 0.05, 2.35)
            inside = bgr(("#5e6a72", "#7a6a50", "#4f5c66")[i % 3]) * glow[..., None]
            easel.lay(inside, glass)
            sheen = np.clip(1 - np.abs((x - left) - 0.7 * z - 0.1) / 0.25, 0, 1) * 0.22
            easel.lay(bgr("#e9eef2"), glass * sheen)
        sign = easel.panel(wall, middle - half, middle + half, 2.45, 2.85)
        easel.lay(bgr(("#7b2d26", "#24405c", "#2f4f3d", "#5a3b5e", "#7a5a1f")[fronts.index((x0, x1, colour))]), sign)
        for i in range(max(1, round(half / 1.1))):
            centre = middle - half + (i + 0.5) * 2 * half / max(1, round(half / 1.1))
            easel.lay(bgr("#e4ddce"), easel.panel(wall, centre - 0.55, centre + 0.55, 3.5, 5.2))
            easel.lay(bgr("#4d5a66") * blinds[..., None], easel.panel(wall, centre - 0.45, centre + 0.45, 3.6, 5.1))
            easel.lay(bgr("#e4ddce"), easel.panel(wall, centre - 0.03, centre + 0.03, 3.6, 5.1))


def _paint_stall(easel: Easel, x: float, colour: str, other: str) -> None:
    """A market stall: posts, a laden table and a striped awning."""
    for side in (-1.85, 1.85):
        easel.pole(x + side, 18.3, 2.8, 0.04, "#54504a")
    easel.block(x, 17.0, (3.7, 1.2, 0.92), "#7d6248")
    rng = easel.rng
    px, pz, _ = easel.plane(17.0)
    skirt = easel.panel(17.0, x - 1.85, x + 1.85, 0.05, 0.85)
    folds = 0.85 + 0.12 * np.sin(px * 14) + 0.06 * easel.noise(px, pz, 3.0)
    easel.lay(bgr(other) * folds[..., None] * 0.7, skirt)
    for i in range(7):
        tone = str(rng.choice(("#c9482f", "#d99a2b", "#6f9a3a", "#8a3a5f", "#d8c24a", "#4f7f3a", "#b5652b")))
        left = x - 1.7 + i * 0.49
        easel.block(left + 0.22, 17.05, (0.44, 1.0, 0.16), "#9a7850", base=0.92)
        spots = np.stack(
            [rng.uniform(left + 0.03, left + 0.41, 70), rng.uniform(17.1, 17.95, 70), np.full(70, 1.12)], axis=1
        )
        for u, v, scale in easel.place.view.project(spots):
            centre = (round(u * FINE * 16), round(v * FINE * 16))
            lit = tuple(float(c) for c in bgr(tone) * float(rng.uniform(0.75, 1.15)))
            cv2.circle(easel.colour, centre, max(20, round(0.055 * scale * FINE * 16)), lit, cv2.FILLED, cv2.LINE_8, 4)
    # The awning slopes towards the camera; its edge hangs down in scallops.
    corners = [(x - 2.1, 18.5, 2.95), (x + 2.1, 18.5, 2.95), (x + 2.1, 16.6, 2.4), (x - 2.1, 16.6, 2.4)]
    stripes = 12
    roof = easel.filled(easel.place.view.project(np.array(corners))[:, :2])
    whole = roof
    for i in range(stripes):
        a, b = i / stripes * 4.2 - 2.1, (i + 1) / stripes * 4.2 - 2.1
        strip = [(x + a, 18.5, 2.95), (x + b, 18.5, 2.95), (x + b, 16.6, 2.4), (x + a, 16.6, 2.4)]
        tone = colour if i % 2 == 0 else other
        easel.lay(bgr(tone) * 1.08, easel.filled(easel.place.view.project(np.array(strip))[:, :2]))
        turns = np.linspace(0, math.pi, 9)
        flap = [(x + a, 16.6, 2.4), (x + b, 16.6, 2.4)]
        flap += [(x + (a + b) / 2 + (b - a) / 2 * math.cos(t), 16.6, 2.22 - 0.08 * math.sin(t)) for t in turns]
        mask = easel.filled(easel.place.view.project(np.array(flap))[:, :2])
        easel.lay(bgr(tone) * 0.84, mask)
        whole = np.maximum(whole, mask)
    for side in (-2.0, 2.0):
        easel.pole(x + side, 16.65, 2.3, 0.035, "#5d5952")
    easel.is_ground *= 1 - whole
    easel.hiders.append((16.6, whole))


PLACES: dict[str, Place] = {
    "north-gate": Place(
        name="north-gate",
        view=View(5.0, math.radians(16.0), 560.0),
        sun=(-0.62, 0.3, 0.72),
        wall=26.0,
        openings=((-4.9, -2.5), (1.2, 4.8)),
        lanes={
            "avenue": Lane(
                ((-0.9, 3.0), (0.2, 10.0), (2.2, 19.0), (3.0, 26.0), (3.1, 29.0), (13.0, 30.5)),
                1.2,
                0.5,
                pauses=((2.0, 20.5, 0.4),),
            ),
            "cross": Lane(
                ((-22.0, 16.4), (-7.0, 17.2), (7.0, 17.0), (22.0, 17.8)), 0.9, 0.3, pauses=((6.8, 17.0, 1.4),)
            ),
            "entry": Lane(
                ((-13.0, 30.0), (-3.7, 28.8), (-3.7, 26.0), (-4.3, 18.0), (-4.2, 12.0), (-3.6, 3.0)),
                0.45,
                0.2,
                one_way=True,
            ),
        },
        loiter=(-8.6, 21.4),
        leave="avenue",
        warmth=(1.0, 1.08, 1.14),
        paint=_paint_north_gate,
    ),
    "market-walk": Place(
        name="market-walk",
        view=View(4.4, math.radians(13.0), 530.0),
        sun=(0.78, -0.3, 0.6),
        wall=21.0,
        openings=((-7.6, -5.2),),
        lanes={
            "street": Lane(((-22.0, 12.6), (22.0, 12.2)), 1.2, 0.42),
            "stalls": Lane(((-22.0, 15.2), (22.0, 15.2)), 0.5, 0.23, pauses=((-1.4, 15.6, 1.57), (4.0, 15.6, 1.57))),
            "alley": Lane(((-6.4, 33.0), (-6.4, 22.0), (-5.4, 16.0), (-0.5, 11.5), (5.5, 7.0), (10.0, 3.0)), 0.6, 0.15),
            "lane": Lane(((22.0, 8.8), (-22.0, 8.8)), 0.45, 0.2, one_way=True),
        },
        loiter=(2.2, 8.9),
        leave="street",
        warmth=(0.92, 1.06, 1.2),
        paint=_paint_market_walk,
    ),
}
