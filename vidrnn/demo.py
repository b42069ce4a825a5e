"""Draws the demo footage: two cameras, ordinary traffic to learn from, and a test with planted events and labels."""

import csv
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from vidrnn.demo_plan import (
    BEND,
    CARRIES,
    HEADING,
    LIE,
    PHASE,
    REACH,
    RUN,
    SPEED,
    Actor,
    Plan,
    X,
    Y,
    Z,
    is_seen,
    plan_demo,
)
from vidrnn.demo_scene import PLACES, paint
from vidrnn.easel import CANVAS, HEIGHT, MARGIN, WIDTH, Array, Picture, Place, Scene
from vidrnn.encode import VideoWriter
from vidrnn.figures import Figure, Part, Pose, bird, cart, cyclist, dog, person, suitcase
from vidrnn.params import DemoParams
from vidrnn.storage import replacing

Box = tuple[int, int, int, int]
_Seen = tuple[Actor, Box, float]

EVENTS_HEADER = ("video", "onset_frame", "offset_frame", "kind")
REGIONS_HEADER = ("video", "frame_index", "x0", "y0", "x1", "y1")
OBJECTS_HEADER = (*REGIONS_HEADER, "track_id")
_MIN_VISIBLE = 0.3  # share of an object that must be seen for a row in objects.csv
_FINE = 3  # drawn pixels of a figure a canvas pixel, each way
_NOISE_SPREAD = 1.7  # grey levels of the sensor's noise


@dataclass
class FileLabels:
    """The rows of one file: events (video, onset, offset, kind), regions and objects as in the label files."""

    events: list[tuple[str, int, int, str]] = field(default_factory=list)
    regions: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    objects: list[tuple[str, int, int, int, int, int, int]] = field(default_factory=list)


def render_demo(videos_dir: Path, labels_dir: Path, params: DemoParams) -> None:
    """Replace both folders by the demo footage and its labels; the same bytes for the same params.

    Args:
        videos_dir: gets `<camera>/train/*.mp4` and `<camera>/test/*.mp4`.
        labels_dir: gets `events.csv`, `regions.csv` and `objects.csv`.
        params: seed, frame rate and lengths.
    """
    render_plans(videos_dir, labels_dir, plan_demo(params), params.frame_rate)


def render_plans(videos_dir: Path, labels_dir: Path, plans: list[Plan], frame_rate: int) -> None:
    """`render_demo` of any plans."""
    for folder in (videos_dir, labels_dir):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    labels: dict[str, FileLabels] = {}
    start, frames_done, frames_all = time.monotonic(), 0, sum(plan.num_frames for plan in plans)
    # A pool a camera, so that a process paints one place only.
    cameras = sorted({plan.camera for plan in plans})
    workers = max(1, (os.cpu_count() or 1) // len(cameras))
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = {camera: stack.enter_context(ProcessPoolExecutor(workers, context)) for camera in cameras}
        jobs = {pools[p.camera].submit(render_file, videos_dir, p, frame_rate): p for p in plans}
        for done, job in enumerate(as_completed(jobs), start=1):
            plan = jobs[job]
            labels[plan.video] = job.result()
            frames_done += plan.num_frames
            left = (time.monotonic() - start) * (frames_all / frames_done - 1)
            told = f"{plan.video}  {plan.num_frames} frames  ({left:.0f} s left)"
            print(f"demo: video {done} of {len(plans)}  {told}", flush=True)
    ordered = [labels[video] for video in sorted(labels)]
    _write_csv(labels_dir / "events.csv", EVENTS_HEADER, [row for one in ordered for row in one.events])
    _write_csv(labels_dir / "regions.csv", REGIONS_HEADER, [row for one in ordered for row in one.regions])
    _write_csv(labels_dir / "objects.csv", OBJECTS_HEADER, [row for one in ordered for row in one.objects])


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str | int, ...]]) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def render_file(videos_dir: Path, plan: Plan, frame_rate: int) -> FileLabels:
    """Draw and encode one file; returns its labels."""
    cv2.setNumThreads(1)
    labels = FileLabels()
    spans: dict[int, list[int]] = {}
    with VideoWriter(videos_dir / plan.video, WIDTH, HEIGHT, frame_rate) as writer:
        for frame_index, (image, boxes) in enumerate(_frames(plan, frame_rate)):
            writer.write(image)
            for actor, box, share in boxes:
                if share >= _MIN_VISIBLE:
                    labels.objects.append((plan.video, frame_index, *box, actor.track_id))
            for number, planted in enumerate(plan.planted):
                if not planted.first <= frame_index < planted.end:
                    continue
                whole = [(0, 0, WIDTH, HEIGHT)] if planted.actor is None else []
                takes_part = [id(actor) for actor in (planted.actor, *planted.others)]
                for box in whole + [box for actor, box, _ in boxes if id(actor) in takes_part]:
                    labels.regions.append((plan.video, frame_index, *box))
                    spans.setdefault(number, []).append(frame_index)
    for number, planted in enumerate(plan.planted):
        labels.events.append((plan.video, spans[number][0], spans[number][-1] + 1, planted.kind))
    return labels


def _frames(plan: Plan, frame_rate: int) -> Iterator[tuple[Picture, list[_Seen]]]:
    """Each picture (H · 3 / 2, W) uint8 planar YUV, and what is seen in it: (actor, box, share that is seen)."""
    place = PLACES[plan.camera]
    scene = paint(plan.camera, plan.seed[0])
    rng = np.random.default_rng([*plan.seed, 1])
    brighter, darker = _noise_bank(rng)
    drift = _light_drift(rng, plan.num_frames, frame_rate)
    canvas = np.empty_like(scene.background)
    in_reach = [is_seen(place, actor.track, 2.2, 1.7) for actor in plan.actors]
    for frame_index in range(plan.num_frames):
        np.copyto(canvas, scene.background)
        solids = []
        for actor, near in zip(plan.actors, in_reach, strict=True):
            row = frame_index - actor.first
            if 0 <= row < len(actor.track) and near[row]:
                solids.append((actor, actor.track[row], *stand_in(actor, actor.track[row])))
        solids.sort(key=lambda solid: -float(solid[1][Y]))
        for _, at, points, parts in solids:
            _draw_shadow(canvas, scene, place, at, points, parts)
        seen = []
        knock = _knock_matrix(np.zeros(3) if plan.knock is None else plan.knock[frame_index])
        for actor, at, points, parts in solids:
            found = _draw_figure(canvas, scene, place, at, points, parts)
            box = None if found is None else _in_picture(found[0], knock)
            if found is not None and box is not None:
                seen.append((actor, box, found[1]))
        image: Picture = canvas[MARGIN : MARGIN + HEIGHT, MARGIN : MARGIN + WIDTH]
        if plan.knock is not None and plan.knock[frame_index].any():
            image = cv2.warpAffine(canvas, knock[:2], (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        planar = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        luma = planar[:HEIGHT]
        cv2.convertScaleAbs(luma, luma, drift[frame_index], 0)
        y, x = int(rng.integers(0, brighter.shape[0] - HEIGHT)), int(rng.integers(0, brighter.shape[1] - WIDTH))
        cv2.add(luma, brighter[y : y + HEIGHT, x : x + WIDTH], luma)
        cv2.subtract(luma, darker[y : y + HEIGHT, x : x + WIDTH], luma)
        yield planar, seen


def stand_in(actor: Actor, row: Array) -> Figure:
    """The figure of an actor in one frame, in its own frame of reference."""
    if actor.shape == "person":
        run = float(row[RUN])
        swing = min(1.0, float(row[SPEED]) / (1.15 + 2.0 * run))
        lie, bend, reach = float(row[LIE]), float(row[BEND]), float(row[REACH])
        pose = Pose(float(row[PHASE]), swing, run, lie, bend, bool(row[CARRIES] > 0.5), reach)
        return person(actor.look, pose)
    if actor.shape == "bike":
        return cyclist(actor.look, float(row[PHASE]), actor.colour)
    if actor.shape == "cart":
        return cart(actor.look, float(row[PHASE]), actor.colour)
    if actor.shape == "dog":
        return dog(actor.colour, float(row[PHASE]))
    if actor.shape == "bird":
        return bird(actor.colour, float(row[PHASE]))
    return suitcase(actor.colour)


def placed(row: Array, points: Array) -> Array:
    cos, sin = math.cos(row[HEADING]), math.sin(row[HEADING])
    world = np.empty_like(points)
    world[:, 0] = row[X] + points[:, 0] * cos - points[:, 1] * sin
    world[:, 1] = row[Y] + points[:, 0] * sin + points[:, 1] * cos
    world[:, 2] = row[Z] + points[:, 2]
    return world


def _extent(flat: Array, radius: float) -> Box:
    """The canvas pixels (unclipped) that projected points (N, 3) and balls of `radius` metres about them can touch."""
    pad = radius * float(flat[:, 2].max()) + 2
    x0, y0 = flat[:, 0].min() - pad, flat[:, 1].min() - pad
    x1, y1 = flat[:, 0].max() + pad, flat[:, 1].max() + pad
    return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)


_CIRCLE = np.stack([np.cos(np.arange(10) * math.pi / 5), np.sin(np.arange(10) * math.pi / 5)], axis=1)[None]


def draw_parts(target: Picture, parts: list[Part], flat: Array, fine: float, colours: list[tuple[float, ...]]) -> None:
    """Draw parts in the order given; `flat` (N, 3): target x, target y, canvas pixels a metre; `fine`: target pixels a
    canvas pixel.
    """
    hulls = [part for part in parts if part.shape == "hull"]
    at = flat[[i for part in hulls for i in part.at]]
    radii = np.array([r for part in hulls for r in part.radius]) * at[:, 2] * fine
    rims = np.rint((at[:, None, :2] + radii[:, None, None] * _CIRCLE) * 16).astype(np.int32).reshape(-1, 2)
    spots = np.rint(flat[:, :2] * 16).astype(np.int32)
    scales = (flat[:, 2] * fine).tolist()
    used = 0
    for part, colour in zip(parts, colours, strict=True):
        first = part.at[0]
        if part.shape == "hull":
            rim = rims[used : used + 10 * len(part.at)]
            used += 10 * len(part.at)
            cv2.fillConvexPoly(target, cv2.convexHull(rim), colour, cv2.LINE_8, 4)
        elif part.shape == "face":
            cv2.fillConvexPoly(target, spots[list(part.at)], colour, cv2.LINE_8, 4)
        elif part.shape == "ball":
            radius = round(part.radius * scales[first] * 16)
            cv2.circle(target, spots[first].tolist(), radius, colour, cv2.FILLED, cv2.LINE_8, 4)
        else:
            width = max(1, round(2 * part.radius * scales[first]))
            cv2.polylines(target, [spots[list(part.at)]], part.shape == "ring", colour, width, cv2.LINE_8, 4)


def _draw_shadow(canvas: Picture, scene: Scene, place: Place, row: Array, points: Array, parts: list[Part]) -> None:
    """Darken the ground where the figure keeps the sun off."""
    world = placed(row, points)
    lx, ly, lz = place.sun
    world[:, 0] -= lx / lz * world[:, 2]
    world[:, 1] -= ly / lz * world[:, 2]
    world[:, 2] = 0.0
    if world[:, 1].min() < 2.0:
        return
    flat = place.view.project(world)
    x0, y0, x1, y1 = _extent(flat, 0.2)
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(CANVAS[1], x1), min(CANVAS[0], y1)
    if x0 >= x1 or y0 >= y1:
        return
    mask: Picture = np.zeros((y1 - y0, x1 - x0), np.uint8)
    flat[:, 0] -= x0
    flat[:, 1] -= y0
    draw_parts(mask, parts, flat, 0.85, [(255.0,)] * len(parts))
    mask = cv2.blur(mask, (4, 4))
    place_here = np.s_[y0:y1, x0:x1]
    keep = 1 - mask.astype(np.float32) * (0.5 / 255) * scene.ground[place_here]
    shaded = scene.background[place_here] * keep[..., None]
    np.minimum(canvas[place_here], shaded.astype(np.uint8), out=canvas[place_here])


def _draw_figure(
    canvas: Picture, scene: Scene, place: Place, row: Array, points: Array, parts: list[Part]
) -> tuple[Box, float] | None:
    """Draw a figure behind what stands before it; its visible box in canvas pixels and the share of it that is seen."""
    world = placed(row, points)
    if world[:, 1].min() < 2.0:
        return None
    flat = place.view.project(world)
    x0, y0, x1, y1 = _extent(flat, 0.2)
    if x0 >= CANVAS[1] or y0 >= CANVAS[0] or x1 <= 0 or y1 <= 0:
        return None
    patch = np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE, 4), np.uint8)
    flat[:, 0] = (flat[:, 0] - x0) * _FINE
    flat[:, 1] = (flat[:, 1] - y0) * _FINE
    depth = np.hypot(world[:, 1], place.view.height - world[:, 2]).tolist()
    far = [sum(depth[i] for i in part.at) / len(part.at) - part.nearer for part in parts]
    ordered = [parts[i] for i in sorted(range(len(parts)), key=lambda i: -far[i])]
    draw_parts(patch, ordered, flat, _FINE, [(*part.colour, 255.0) for part in ordered])
    small = cv2.resize(patch, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    whole = float(small[..., 3].sum())
    cx0, cy0, cx1, cy1 = max(0, x0), max(0, y0), min(CANVAS[1], x1), min(CANVAS[0], y1)
    small = small[cy0 - y0 : cy1 - y0, cx0 - x0 : cx1 - x0]
    here = np.s_[cy0:cy1, cx0:cx1]
    count = int(np.searchsorted(scene.depths, row[Y]))
    alpha = cv2.multiply(small[..., 3], scene.visible[count][here], scale=1 / 255)
    # Light from the sun's side, sampled from the softened silhouette.
    width = max(1.0, 0.12 * float(flat[0, 2]))
    size = 2 * round(2.0 * width) + 1
    shift = round(1.6 * width) * (1 if place.sun[0] < 0 else -1)
    soft = cv2.blur(small[..., 3], (size, size), anchor=(size // 2 + shift, size // 2))
    foot_x, foot_y = place.view.project(np.array([[row[X], row[Y], 0.0]]))[0, :2]
    lit = float(scene.lit[min(max(int(foot_y), 0), CANVAS[0] - 1), min(max(int(foot_x), 0), CANVAS[1] - 1)])
    shading = 0.56 + lit * 0.06 + soft.astype(np.float32) * ((0.2 + 0.48 * lit) / 255)
    seen = scene.visible[count][here].astype(np.float32) / 255
    canvas_part = canvas[here].astype(np.float32)
    canvas_part *= (1 - alpha.astype(np.float32) / 255)[..., None]
    canvas_part += small[..., :3] * (shading * seen)[..., None]
    np.clip(canvas_part, 0, 255, out=canvas_part)
    canvas[here] = canvas_part.astype(np.uint8)
    bx, by, bw, bh = cv2.boundingRect((alpha > 90).view(np.uint8))
    if bw == 0 or bh == 0:
        return None
    rows = slice(max(0, MARGIN - cy0), max(0, MARGIN + HEIGHT - cy0))
    inside = alpha[rows, max(0, MARGIN - cx0) : max(0, MARGIN + WIDTH - cx0)]
    return (cx0 + bx, cy0 + by, cx0 + bx + bw, cy0 + by + bh), float(inside.sum()) / max(whole, 1.0)


def _noise_bank(rng: np.random.Generator) -> tuple[Picture, Picture]:
    """A large field of sensor noise, as what it adds and what it takes; pieces of it serve as frames."""
    grain: Array = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT * 3, WIDTH * 2)).astype(np.float32), (0, 0), 0.6)
    grain = np.rint(grain * (_NOISE_SPREAD / grain.std()))
    return np.maximum(grain, 0).astype(np.uint8), np.maximum(-grain, 0).astype(np.uint8)


def _light_drift(rng: np.random.Generator, num_frames: int, frame_rate: int) -> list[float]:
    """The gain of each frame: slow changes of the light by a few per cent."""
    t = np.arange(num_frames) / frame_rate
    gain = np.ones(num_frames)
    for size, period in ((0.02, 40.0), (0.01, 15.0)):
        gain += size * np.sin(2 * math.pi * (t / rng.uniform(period, 2 * period) + rng.random()))
    return [float(g) for g in gain]


def _knock_matrix(knock: Array) -> Array:
    """From canvas pixels to picture pixels, (3, 3)."""
    dx, dy, angle = (float(v) for v in knock)
    cx, cy = CANVAS[1] / 2, CANVAS[0] / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array(
        [
            [cos, -sin, cx - cos * cx + sin * cy + dx - MARGIN],
            [sin, cos, cy - sin * cx - cos * cy + dy - MARGIN],
            [0, 0, 1],
        ]
    )


def _in_picture(box: Box, knock: Array) -> Box | None:
    """A box of canvas pixels as one of picture pixels, clipped to the picture; None where nothing is left."""
    corners = np.array([(x, y, 1) for x in (box[0], box[2]) for y in (box[1], box[3])]) @ knock.T
    low, high = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
    x0, y0, x1, y1 = max(0, int(low[0])), max(0, int(low[1])), min(WIDTH, int(high[0])), min(HEIGHT, int(high[1]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
