"""Cell grids without a picture: the demo's traffic drawn straight into what `features` would measure of it.

Every part of every figure of a plan is drawn as a silhouette with its grey and its true velocity, at half the working
size, and from that the cells are gathered as `features` gathers them. This leaves out what a picture and its analysis
add: noise, shadows, what hides people, and the errors of optical flow and of the background. It tells of traffic that
was never seen, many times faster than footage does, and of nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidrnn.calibration import Series
from vidrnn.demo import draw_parts, placed, stand_in
from vidrnn.demo_plan import Actor, Plan, Y, is_seen
from vidrnn.demo_scene import PLACES
from vidrnn.easel import HEIGHT, MARGIN, WIDTH, View
from vidrnn.events import causal_average
from vidrnn.features import CHANNELS, MOVING_PIXELS, Flow, Grid, gather
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.storage import digest, video_path, write_table
from vidrnn.windows import MODELLED

RATE = 5  # grids a second: half of the footage's, so that twice as many hours are watched
_GROUND = 120.0  # the grey of all that stands still
_SHADING = 0.8  # of figures, as of the demo's in open shade
_SECONDS = 1 / RATE
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DrawnJob:
    """A plan to draw and to score with the model of its camera, in another process."""

    plan: Plan
    model: Path
    params: Params


def write_drawn(plans: list[Plan], features: Path, params: Params) -> pa.Table:
    """Write the feature files of plans, as the stage `features` would lie them down; returns the table `training`."""
    rows = []
    for plan in plans:
        cells = np.concatenate(list(draw_cells(plan, params)))
        key = {"camera_id": plan.camera, "video_id": plan.video}
        schema = cells_schema(*cells.shape[1:])
        times = _times(0, len(cells))
        table = pa.table(
            {
                "frame_index": np.arange(len(cells)),
                "pts": np.arange(len(cells)),
                "time_seconds": times,
                "valid": times >= params.features.warmup_seconds,
                "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(cells),
            },
            schema=schema,
        )
        write_table(video_path(features / "cells", *key.values()), table, schema, {"digest": ""})
        views = SCHEMAS["views"].empty_table()  # no picture, and no camera that could do anything
        write_table(video_path(features / "views", *key.values()), views, SCHEMAS["views"])
        made_of = digest([plan.seed, plan.num_frames])
        rows.append({**key, "sha256": made_of, "digest": made_of, "num_analysed": len(cells)})
    write_table(features / "decoded.parquet", SCHEMAS["decoded"].empty_table(), SCHEMAS["decoded"])  # nothing was
    return pa.Table.from_pylist(rows, schema=SCHEMAS["training"])


def score_drawn(job: DrawnJob) -> Series:
    """The scores and seconds of a plan's grids after the warm-up."""
    import torch

    from vidrnn.score import load_camera_model

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = load_camera_model(job.model)
    assert model.calibration is not None
    observer, raw, start = model.observer(), [], 0
    first = CHANNELS.index(MODELLED[0])
    for cells in draw_cells(job.plan, job.params):
        times = _times(start, start + len(cells))
        start += len(cells)
        for stretch in observer.push(cells[:, first:].astype(np.float32), times):
            raw.append(model.calibration.questions.score(stretch.maps).max((1, 2)))
    seconds = _times(0, start)
    score = causal_average(np.concatenate(raw), seconds, model.smoothing_seconds)
    valid = seconds >= job.params.features.warmup_seconds
    return score[valid], seconds[valid]


def _times(start: int, stop: int) -> npt.NDArray[np.float64]:
    return np.arange(start, stop, dtype=np.float64) / RATE


def draw_cells(plan: Plan, params: Params, rows: int = 16) -> Iterator[npt.NDArray[np.float16]]:
    """The grids of a plan, RATE a second, `rows` at a time: (n, C, ROWS, columns)."""
    grid = Grid.of(WIDTH, HEIGHT, params.features.height)
    place, step = PLACES[plan.camera], params.demo.frame_rate // RATE
    seen = [is_seen(place, actor.track) for actor in plan.actors]
    done: list[npt.NDArray[np.float16]] = []
    for frame in range(0, plan.num_frames, step):
        canvas = np.zeros((grid.height // 2, grid.width // 2, 4), np.float32)
        canvas[..., 0] = _GROUND
        there = [
            (actor, frame - actor.first)
            for actor, own in zip(plan.actors, seen, strict=True)
            if 0 <= frame - actor.first < len(own) and own[frame - actor.first]
        ]
        for actor, row in sorted(there, key=lambda one: -float(one[0].track[one[1], Y])):
            _draw(canvas, place.view, actor, row, max(row - step, 0))
        done.append(_gathered(canvas, grid))
        if len(done) == rows or frame + step >= plan.num_frames:
            yield np.stack(done)
            done.clear()


def _draw(canvas: Array, view: View, actor: Actor, row: int, before: int) -> None:
    """A figure, its parts from far to near, in (grey, velocity right, velocity down, 1)."""
    points, parts = stand_in(actor, actor.track[row])
    world = placed(actor.track[row], points)
    flat = view.project(world)
    then = view.project(placed(actor.track[before], stand_in(actor, actor.track[before])[0]))
    if world[:, Y].min() < 2.0 or len(then) != len(flat):
        return
    velocity = (flat[:, :2] - then[:, :2]) / (HEIGHT * _SECONDS)
    far = world[:, Y]
    ordered = sorted(parts, key=lambda part: part.nearer - float(far[list(part.at)].mean()))
    colours = []
    for part in ordered:
        blue, green, red = part.colour
        grey = _SHADING * (0.114 * blue + 0.587 * green + 0.299 * red)
        colours.append((grey, *velocity[list(part.at)].mean(0).tolist(), 1.0))
    scale = canvas.shape[0] / HEIGHT
    flat[:, 0] = (flat[:, 0] - MARGIN) * (canvas.shape[1] / WIDTH)
    flat[:, 1] = (flat[:, 1] - MARGIN) * scale
    draw_parts(canvas, ordered, flat, scale, colours)


def _gathered(canvas: Array, grid: Grid) -> npt.NDArray[np.float16]:
    grey, velocity_x, velocity_y, share = (np.ascontiguousarray(canvas[..., k]) for k in range(4))
    pixels = np.hypot(velocity_x, velocity_y) * (grid.height * _SECONDS)
    flow = Flow(share * (pixels > MOVING_PIXELS), velocity_x, velocity_y)
    half = np.clip(grey, 0, 255).astype(np.uint8)
    return gather(half, share, np.abs(half - np.float32(_GROUND)) * share, flow, grid)
