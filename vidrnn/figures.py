"""What moves in drawn footage: people, bicycles, carts, cases, dogs and birds as small solids on joints, in metres.

A figure is `(points, parts)`: points (N, 3) in its own frame (forward, left, up; the ground at 0) and parts that span
them. Whoever draws it projects the points, so that the picture and the shadow on the ground are of the same thing.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]  # B, G, R in 0..255
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What a person is like. Height in metres; build 1 is average; `bag` is "", "backpack", "shoulder" or "case"."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    bag: str
    bag_colour: Colour
    coat: bool
    long_hair: bool


@dataclass(frozen=True)
class Pose:
    """How a body is held.

    Attributes:
        phase: of the gait in radians; a full turn is two steps.
        swing: 0 stands, 1 walks, more strides out.
        run: 0 walks, 1 runs.
        lie: 0 upright, 1 flat on the ground.
        bend: 0 upright, 1 stoops to the ground.
        carries: whether the bag of kind "case" is in the hand.
        reach: 0 arms at rest, 1 both stretched out forward, as whoever throws or catches.
    """

    phase: float
    swing: float
    run: float = 0.0
    lie: float = 0.0
    bend: float = 0.0
    carries: bool = True
    reach: float = 0.0


@dataclass(frozen=True)
class Part:
    """A piece between points: a rounded `bar`, the `hull` of balls, a `ball`, a flat `face`, or a closed `ring`.

    Attributes:
        shape: one of the five.
        at: the points' numbers.
        radius: float, of bar, ball or ring in metres; a tuple of them for a hull, one a point.
        colour: BGR.
        nearer: metres by which it counts as nearer to the camera than its middle when parts hide each other.
    """

    shape: str
    at: tuple[int, ...]
    radius: Any
    colour: Colour
    nearer: float = 0.0


Figure = tuple[Points, list[Part]]


def shade(colour: Colour, gain: float) -> Colour:
    """The colour, brighter or darker."""
    return (min(255.0, colour[0] * gain), min(255.0, colour[1] * gain), min(255.0, colour[2] * gain))


def random_look(rng: np.random.Generator, bag: str | None = None) -> Look:
    """Draw somebody; `bag` fixes what is carried."""
    tops = (
        "#2b3a55",
        "#8c2f2f",
        "#3c5a3e",
        "#b9b2a2",
        "#24272e",
        "#6f7f95",
        "#b58a3a",
        "#5b4b72",
        "#c3c8cc",
        "#a34a5c",
        "#2f6f7a",
    )
    legs = ("#23262e", "#37415a", "#5a5148", "#2d2d2d", "#8a8173", "#3b4a66", "#494f55")
    skins = ("#e3b899", "#c68f68", "#9a6545", "#6d4630", "#eac6aa")
    hairs = ("#2a1f18", "#15120f", "#5c3d22", "#8b6a3d", "#7b7a78", "#3a2a20")
    bags = ("#4b3226", "#1f2a3a", "#7c2b25", "#3f4a2d", "#20201f")
    woman = bool(rng.random() < 0.5)
    kinds = ("", "", "", "backpack", "shoulder")
    return Look(
        height=float(np.clip(rng.normal(1.67 if woman else 1.79, 0.07), 1.5, 1.98)),
        build=float(np.clip(rng.normal(1.0, 0.09), 0.82, 1.25)),
        skin=_hex(str(rng.choice(skins))),
        hair=_hex(str(rng.choice(hairs))),
        top=_hex(str(rng.choice(tops))),
        legs=_hex(str(rng.choice(legs))),
        shoes=_hex(str(rng.choice(("#1a1a1a", "#e0e0dc", "#4a3222", "#2b2b30")))),
        bag=str(rng.choice(kinds)) if bag is None else bag,
        bag_colour=_hex(str(rng.choice(bags))),
        coat=bool(rng.random() < 0.3),
        long_hair=woman and bool(rng.random() < 0.7),
    )


def _hex(text: str) -> Colour:
    return (float(int(text[5:7], 16)), float(int(text[3:5], 16)), float(int(text[1:3], 16)))


# Points of a body: hips, knees, ankles, toes, shoulders, elbows, hands (left, then right), neck, head, its back, bags.
_HIP, _KNEE, _ANKLE, _TOE, _SHOULDER, _ELBOW, _HAND, _NECK, _HEAD, _HAIR, _BAG = 0, 2, 4, 6, 8, 10, 12, 14, 15, 16, 17


def person(look: Look, pose: Pose) -> Figure:
    """A walking, running, standing, stooping or lying body."""
    k = look.height / 1.75
    thigh, shin, hip_half, shoulder_half = 0.43 * k, 0.43 * k, 0.09 * k * look.build, 0.17 * k * look.build
    hips, knees = _leg_angles(pose)
    drop = max(thigh * math.cos(h) + shin * math.cos(h - n) for h, n in zip(hips, knees, strict=True))
    hover = 0.09 * pose.run * k * abs(math.sin(pose.phase)) * min(1.0, pose.swing)
    pelvis = drop + 0.075 * k + hover
    lean = 0.03 * pose.swing + 0.2 * pose.run + 1.35 * pose.bend
    points = np.zeros((21, 3))
    for side in (0, 1):
        sign = 1.0 if side == 0 else -1.0
        h, n = hips[side], knees[side]
        knee = (thigh * math.sin(h), sign * hip_half * 0.95, pelvis - thigh * math.cos(h))
        ankle = (knee[0] + shin * math.sin(h - n), sign * hip_half * 0.85, knee[2] - shin * math.cos(h - n))
        pitch = max(-0.25, min(0.9, (n - h) * 0.75 - 0.1)) * min(1.0, pose.swing)
        toe = (
            ankle[0] + 0.19 * k * math.cos(pitch),
            ankle[1] * 1.15,
            max(0.025, ankle[2] - 0.055 * k - 0.19 * k * math.sin(pitch)),
        )
        points[_HIP + side] = (0.0, sign * hip_half, pelvis)
        points[_KNEE + side], points[_ANKLE + side], points[_TOE + side] = knee, ankle, toe
        # Arms swing against the legs; shoulders turn a little with them.
        arm_phase = pose.phase + (math.pi if side == 0 else 0.0)
        arm = (0.5 - 0.05 * pose.run) * min(1.2, pose.swing) * math.sin(arm_phase) * (1.0 + 0.5 * pose.run)
        elbow = 0.22 + 0.25 * max(0.0, math.sin(arm_phase)) * pose.swing + 1.35 * pose.run
        if look.bag == "case" and pose.carries and side == 1:
            arm, elbow = 0.1 * arm, 0.05
        if pose.lie > 0:  # arms reach forward to break the fall
            arm, elbow = arm + 1.5 * min(1.0, 2.0 * pose.lie), elbow + 0.4 * pose.lie
        arm, elbow = arm + 0.3 * pose.bend, elbow * (1.0 - 0.6 * pose.bend)
        arm, elbow = arm + (1.5 - arm) * pose.reach, elbow * (1.0 - pose.reach)
        twist = -0.05 * math.sin(arm_phase) * pose.swing * -1.0
        up = 0.52 * k
        shoulder = (up * math.sin(lean) + twist, sign * shoulder_half, pelvis + up * math.cos(lean))
        out = sign * (0.035 + 0.05 * pose.run) * k
        joint = (shoulder[0] + 0.29 * k * math.sin(arm), shoulder[1] + out, shoulder[2] - 0.29 * k * math.cos(arm))
        hand = (
            joint[0] + 0.27 * k * math.sin(arm + elbow),
            joint[1] - out * (0.3 + 1.2 * pose.run),
            joint[2] - 0.27 * k * math.cos(arm + elbow),
        )
        points[_SHOULDER + side], points[_ELBOW + side], points[_HAND + side] = shoulder, joint, hand
    neck_up, head_up = 0.57 * k, 0.7 * k
    points[_NECK] = (neck_up * math.sin(lean), 0.0, pelvis + neck_up * math.cos(lean))
    nod = lean * 0.8
    points[_HEAD] = (head_up * math.sin(nod) + 0.03 * k, 0.0, pelvis + head_up * math.cos(nod))
    points[_HAIR] = points[_HEAD] + np.array((-0.035 * k, 0.0, 0.03 * k))
    back = points[_SHOULDER] * 0.5 + points[_SHOULDER + 1] * 0.5
    points[_BAG] = back + np.array((-0.17 * k, 0.0, -0.04))
    points[_BAG + 1] = back * 0.35 + np.array([0.0, 0.0, pelvis]) * 0.65 + np.array((-0.17 * k, 0.0, 0.05))
    points[_BAG + 2] = points[_HIP] + np.array((0.0, 0.09 * k, 0.02))
    points[_BAG + 3] = points[_HAIR] + np.array((-0.05 * k, 0.0, -0.16 * k))
    parts = list(_body_parts(look, k))
    if look.bag == "case" and pose.carries:
        points, parts = _with_case(points, parts, look)
    if pose.lie > 0:
        points = _laid_down(points, pose.lie, k)
    return points, parts


def _leg_angles(pose: Pose) -> tuple[tuple[float, float], tuple[float, float]]:
    """Angles (left, right) of the hips (forward is positive) and of the knees (flexion is positive), in radians."""
    hips, knees = [], []
    for side in (0, 1):
        phase = pose.phase + math.pi * side
        reach = (0.42 + 0.33 * pose.run) * min(1.15, pose.swing)
        lift = max(0.0, math.cos(phase - 0.25))
        hip = reach * math.sin(phase) + 0.22 * pose.run * pose.swing
        knee = (0.06 + 0.25 * pose.run) + (0.95 + 0.75 * pose.run) * lift**1.5 * min(1.0, pose.swing)
        crouch = max(pose.bend * 0.9, 1.3 * math.sin(math.pi * min(1.0, pose.lie)))
        hips.append(hip + 0.8 * crouch)
        knees.append(knee + 1.6 * crouch)
    return (hips[0], hips[1]), (knees[0], knees[1])


def _laid_down(points: Points, lie: float, k: float) -> Points:
    """Turned forward about the feet until flat, never below the ground."""
    angle = 1.5 * lie
    forward, up = points[:, 0].copy(), points[:, 2].copy()
    points[:, 0] = forward * math.cos(angle) + up * math.sin(angle) - 0.45 * k * lie
    points[:, 2] = up * math.cos(angle) - forward * math.sin(angle)
    np.maximum(points[:, 2], 0.03 + 0.06 * lie * k, out=points[:, 2])
    return points


@lru_cache(maxsize=256)
def _body_parts(look: Look, k: float) -> tuple[Part, ...]:
    b = k * look.build
    parts = []
    for side in (0, 1):
        tone = 1.0 if side == 0 else 0.9
        legs, top, skin = shade(look.legs, tone), shade(look.top, tone), shade(look.skin, tone)
        parts += [
            Part("hull", (_HIP + side, _KNEE + side), (0.088 * b, 0.06 * b), legs),
            Part("hull", (_KNEE + side, _ANKLE + side), (0.06 * b, 0.042 * b), legs),
            Part("hull", (_ANKLE + side, _TOE + side), (0.045 * k, 0.03 * k), shade(look.shoes, tone)),
            Part("hull", (_SHOULDER + side, _ELBOW + side), (0.055 * b, 0.043 * b), shade(top, 0.84)),
            Part("hull", (_ELBOW + side, _HAND + side), (0.044 * b, 0.032 * b), shade(top, 0.8)),
            Part("ball", (_HAND + side,), 0.043 * k, skin),
        ]
    shoulders, hips = (_SHOULDER, _SHOULDER + 1), (_HIP, _HIP + 1)
    parts.append(Part("hull", (*shoulders, *hips), (0.068 * b, 0.068 * b, 0.075 * b, 0.075 * b), look.top))
    if look.coat:
        parts.append(Part("hull", (*hips, _KNEE, _KNEE + 1), (0.1 * b, 0.1 * b, 0.08 * b, 0.08 * b), look.top, 0.14))
    else:
        parts.append(Part("hull", hips, (0.085 * b, 0.085 * b), look.legs, -0.01))
    parts.append(Part("bar", (_NECK, _HEAD), 0.05 * k, shade(look.skin, 0.85)))
    parts.append(Part("ball", (_HEAD,), 0.098 * k, look.skin))
    parts.append(Part("ball", (_HAIR,), 0.1 * k, look.hair, 0.0))
    if look.long_hair:
        parts.append(Part("hull", (_HAIR, _BAG + 3), (0.095 * k, 0.07 * k), look.hair, 0.0))
    if look.bag == "backpack":
        parts.append(Part("hull", (_BAG, _BAG + 1), (0.13 * k, 0.15 * k), look.bag_colour, 0.0))
    if look.bag == "shoulder":
        parts.append(Part("ball", (_BAG + 2,), 0.13 * k, look.bag_colour, 0.0))
        parts.append(Part("bar", (_BAG + 2, _SHOULDER + 1), 0.018 * k, shade(look.bag_colour, 0.8), 0.06))
    return tuple(parts)


def box(centre: tuple[float, float, float], size: tuple[float, float, float], colour: Colour, first: int) -> Figure:
    """A block around `centre` of `size` (forward, left, up) in metres; its points are numbered from `first`."""
    signs = np.array([(f, s, u) for f in (-1, 1) for s in (-1, 1) for u in (-1, 1)], dtype=np.float64)
    points = np.array(centre) + signs * np.array(size) / 2
    faces = [
        ((0, 1, 3, 2), 0.8),
        ((4, 5, 7, 6), 0.95),
        ((0, 1, 5, 4), 0.75),
        ((2, 3, 7, 6), 0.9),
        ((0, 2, 6, 4), 0.5),
        ((1, 3, 7, 5), 1.2),
    ]
    return points, [Part("face", tuple(first + i for i in at), 0.0, shade(colour, gain)) for at, gain in faces]


def _joined(*figures: Figure) -> Figure:
    return np.concatenate([f[0] for f in figures]), [part for f in figures for part in f[1]]


def _with_case(points: Points, parts: list[Part], look: Look) -> Figure:
    hand = points[_HAND + 1]
    case = box(
        (float(hand[0]), float(hand[1]) - 0.02, float(hand[2]) - 0.32), (0.5, 0.2, 0.5), look.bag_colour, len(points)
    )
    return _joined((points, parts), case)


def suitcase(colour: Colour) -> Figure:
    """What somebody leaves: a case that stands on the ground, its handle up."""
    points, parts = box((0.0, 0.0, 0.27), (0.5, 0.24, 0.5), colour, 0)
    grip = np.array([(-0.12, 0.0, 0.52), (-0.12, 0.0, 0.62), (0.12, 0.0, 0.62), (0.12, 0.0, 0.52)])
    dark = shade(colour, 0.5)
    bars = [Part("bar", (8 + i, 9 + i), 0.018, dark, 0.1) for i in range(3)]
    return np.concatenate([points, grip]), parts + bars


def dog(coat: Colour, phase: float) -> Figure:
    """A large dog; `phase` is that of its trot in radians."""
    spine = [(0.27, 0.0, 0.52), (-0.27, 0.0, 0.5), (0.5, 0.0, 0.7), (0.65, 0.0, 0.65), (-0.55, 0.0, 0.66)]
    legs = []
    for x, turn in ((0.25, 0.0), (-0.27, math.pi)):
        for side in (-1, 1):
            swing = 0.16 * math.sin(phase + turn + (math.pi if side > 0 else 0.0))
            legs += [(x, 0.08 * side, 0.45), (x + swing, 0.08 * side, 0.03)]
    dark = shade(coat, 0.75)
    parts = [Part("bar", (5 + 2 * i, 6 + 2 * i), 0.04, dark) for i in range(4)]
    parts += [
        Part("hull", (0, 1), (0.15, 0.12), coat),
        Part("hull", (0, 2), (0.1, 0.08), coat, 0.02),
        Part("hull", (2, 3), (0.1, 0.05), dark, 0.05),
        Part("bar", (1, 4), 0.03, dark),
    ]
    return np.array(spine + legs), parts


def bird(colour: Colour, phase: float) -> Figure:
    """A pigeon in flight, its middle at 0; `phase` is that of its wings in radians."""
    lift = 0.2 * math.sin(phase)
    points = [(0.17, 0.0, 0.0), (-0.18, 0.0, 0.0), (0.26, 0.0, 0.03)]
    points += [
        (x, side * y, z) for side in (-1, 1) for x, y, z in ((0.1, 0.0, 0.03), (-0.1, 0.0, 0.03), (0.0, 0.36, lift))
    ]
    wing = shade(colour, 1.2)
    parts = [Part("face", (3 + 3 * i, 4 + 3 * i, 5 + 3 * i), 0.0, wing) for i in (0, 1)]
    parts += [Part("hull", (0, 1), (0.09, 0.05), colour), Part("ball", (2,), 0.06, shade(colour, 0.8))]
    return np.array(points), parts


def _ring(x: float, y: float, radius: float, count: int = 18) -> Points:
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return np.stack([x + radius * np.cos(angles), np.full(count, y), radius + radius * np.sin(angles)], axis=1)


def cyclist(look: Look, turn: float, frame_colour: Colour) -> Figure:
    """A rider on a bicycle; `turn` is the angle of the pedals in radians."""
    points, parts = person(look, Pose(0.0, 0.0))
    k = look.height / 1.75
    seat, crank, bar = np.array([-0.2, 0.0, 0.95]), np.array([-0.02, 0.0, 0.3]), np.array([0.4, 0.0, 1.02])
    for side in (0, 1):
        sign = 1.0 if side == 0 else -1.0
        angle = -turn + math.pi * side
        pedal = crank + np.array((0.17 * math.cos(angle), sign * 0.1, 0.17 * math.sin(angle)))
        hip = seat + np.array((0.03, sign * 0.09 * k, 0.06))
        ankle = pedal + np.array((-0.06, 0.0, 0.1))
        points[_HIP + side], points[_ANKLE + side], points[_TOE + side] = hip, ankle, pedal + np.array((0.1, 0.0, 0.03))
        points[_KNEE + side] = _bent(hip, ankle, 0.45 * k, 0.46 * k, forward=1.0)
        shoulder = seat + np.array((0.33 * k, sign * 0.185 * k, 0.55 * k))
        hand = bar + np.array((0.02, sign * 0.22, 0.02))
        points[_SHOULDER + side], points[_HAND + side] = shoulder, hand
        points[_ELBOW + side] = _bent(shoulder, hand, 0.29 * k, 0.3 * k, forward=-0.3)
    points[_NECK] = seat + np.array((0.37 * k, 0.0, 0.6 * k))
    points[_HEAD] = seat + np.array((0.44 * k, 0.0, 0.74 * k))
    points[_HAIR] = points[_HEAD] + np.array((-0.03, 0.0, 0.035))
    back = (points[_SHOULDER] + points[_SHOULDER + 1]) / 2
    points[_BAG], points[_BAG + 1] = (
        back + np.array((-0.15, 0.0, 0.02)),
        (back + seat) / 2 + np.array((-0.15, 0.0, 0.1)),
    )
    points[_BAG + 3] = points[_HAIR] + np.array((-0.1, 0.0, -0.12))
    first = len(points)
    rear, front = _ring(-0.53, 0.0, 0.34), _ring(0.55, 0.0, 0.34)
    hubs = np.array([(-0.53, 0.0, 0.34), (0.55, 0.0, 0.34)])
    joints = np.array([crank, seat, bar, (0.36, 0.0, 0.8), (0.42, 0.25, 1.04), (0.42, -0.25, 1.04)])
    count, hub = len(rear), first + 2 * len(rear)
    tyre: Colour = (28.0, 26.0, 26.0)
    parts.append(Part("ring", tuple(range(first, first + count)), 0.026, tyre, -0.1))
    parts.append(Part("ring", tuple(range(first + count, first + 2 * count)), 0.026, tyre, -0.1))
    for a, b in ((hub, hub + 2), (hub, hub + 3), (hub + 2, hub + 3), (hub + 3, hub + 5), (hub + 2, hub + 5)):
        parts.append(Part("bar", (a, b), 0.022, frame_colour, -0.08))
    parts.append(Part("bar", (hub + 4, hub + 1), 0.022, shade(frame_colour, 0.7), -0.08))
    parts.append(Part("bar", (hub + 6, hub + 7), 0.02, tyre, -0.05))
    return np.concatenate([points, rear, front, hubs, joints]), parts


def _bent(start: Points, end: Points, upper: float, lower: float, forward: float) -> Points:
    """The middle joint of two limbs from `start` to `end`, bent towards +x (or −x where `forward` is negative)."""
    line = end - start
    length = min(float(np.linalg.norm(line)), (upper + lower) * 0.999)
    along = (upper**2 - lower**2 + length**2) / (2 * length)
    out = math.sqrt(max(0.0, upper**2 - along**2))
    unit = line / length
    side = np.array([-unit[2], 0.0, unit[0]])
    side = side * (1.0 if side[0] > 0 else -1.0) * math.copysign(1.0, forward)
    middle: Points = start + unit * along + side * out
    return middle


def cart(look: Look, turn: float, colour: Colour) -> Figure:
    """An electric utility cart with a driver, a roof and a loaded bed; `turn` is the angle of its wheels."""
    driver, driver_parts = person(look, Pose(0.0, 0.0))
    for side in (0, 1):
        sign = 1.0 if side == 0 else -1.0
        driver[_HIP + side] = (-0.05, sign * 0.1, 0.8)
        driver[_KNEE + side] = (0.38, sign * 0.12, 0.82)
        driver[_ANKLE + side] = (0.48, sign * 0.12, 0.45)
        driver[_TOE + side] = (0.62, sign * 0.12, 0.42)
        driver[_SHOULDER + side] = (-0.12, sign * 0.19, 1.33)
        driver[_ELBOW + side] = (0.08, sign * 0.24, 1.1)
        driver[_HAND + side] = (0.36, sign * 0.15, 1.14)
    driver[_NECK], driver[_HEAD], driver[_HAIR] = (-0.12, 0, 1.4), (-0.08, 0, 1.55), (-0.12, 0, 1.58)
    driver[_BAG:] = driver[_NECK]
    figure: Figure = (driver, driver_parts)
    grey: Colour = (60.0, 62.0, 66.0)
    load: Colour = (70.0, 110.0, 150.0)
    for centre, size, tone in (
        ((0.0, 0.0, 0.42), (2.5, 1.2, 0.22), grey),
        ((0.95, 0.0, 0.68), (0.6, 1.16, 0.42), colour),
        ((-0.75, 0.0, 0.7), (0.95, 1.16, 0.4), colour),
        ((-0.75, 0.0, 1.05), (0.75, 0.9, 0.35), load),
        ((0.05, 0.0, 1.93), (1.6, 1.24, 0.07), (215.0, 222.0, 225.0)),
    ):
        figure = _joined(figure, box(centre, size, tone, len(figure[0])))
    first = len(figure[0])
    posts = np.array([(x, y, z) for x in (-0.7, 0.8) for y in (-0.58, 0.58) for z in (0.8, 1.92)])
    bars = [Part("bar", (first + 2 * i, first + 2 * i + 1), 0.03, grey) for i in range(4)]
    figure = _joined(figure, (posts, bars))
    for x in (-0.8, 0.85):
        for y in (-0.6, 0.6):
            first = len(figure[0])
            spoke = np.array(
                [(x + 0.16 * math.cos(-turn + a), y * 1.03, 0.27 + 0.16 * math.sin(-turn + a)) for a in (0, math.pi)]
            )
            wheel = np.concatenate([_ring(x, y, 0.27, 14), spoke])
            parts = [
                Part("face", tuple(range(first, first + 14)), 0.0, (30.0, 28.0, 28.0), 0.35),
                Part("bar", (first + 14, first + 15), 0.045, (150.0, 150.0, 150.0), 0.4),
            ]
            figure = _joined(figure, (wheel, parts))
    return figure
