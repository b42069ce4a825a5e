"""Feature files to scores: one pass of the network, one causal score for every cell and frame."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vidrnn.calibration import Calibration
from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.checkpoint import load_model
from vidrnn.errors import CheckpointError
from vidrnn.events import causal_average
from vidrnn.fan_out import fan_out_all
from vidrnn.model import VideoRNN, place_of
from vidrnn.objects import CellGrid, moving_boxes
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.storage import (
    digest,
    is_fresh,
    read_metadata,
    read_table,
    remove_orphans,
    stage_digest,
    video_path,
    write_json,
    write_table,
)
from vidrnn.surprise import Observer, Surprise, quantities_of, questions
from vidrnn.windows import ALONE, MODELLED, CellReader, Layout, Standard

_HIGHEST = np.finfo(np.float16).max
_CHUNK = 16  # rows at a time: few enough for the processor's cache
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CameraModel:
    """What scores the footage of one camera.

    Attributes:
        net: the network.
        standard: scaling of its features.
        horizons: numbers of steps ahead.
        average_seconds: time constant of the causal average of each cell.
        smoothing_seconds: time constant of the score that alarms use.
        layout: of the feature files that it was trained on.
        camera_index, num_cameras: which of the cameras that share the weights.
        calibration: None while it is still to be measured.
        version: of the model; empty while it has none.
    """

    net: VideoRNN
    standard: Standard
    horizons: list[int]
    average_seconds: float
    smoothing_seconds: float
    layout: Layout
    camera_index: int
    num_cameras: int
    calibration: Calibration | None
    version: str

    def observer(self) -> Observer:
        """A fresh one, for a video or a block."""
        place = place_of(self.layout.rows, self.layout.columns, self.camera_index, self.num_cameras)
        channels = self.layout.channels
        return Observer(self.net, self.standard, place, self.horizons, self.average_seconds, channels)


def load_camera_model(directory: Path) -> CameraModel:
    """The model of a camera.

    Raises:
        CheckpointError: it is missing, damaged, or of another version of the features.
    """
    net, card = load_model(directory)
    use = dict(card["use"])
    layout = Layout(tuple(card["channels"]), use.pop("rows"), use.pop("columns"))
    if (layout.rows, layout.columns) != ALONE and layout.channels != MODELLED:
        raise CheckpointError(f"{directory}: learned other features than these; train anew with `dvc repro`")
    return CameraModel(
        net=net,
        standard=Standard(*(np.asarray(card["standard"][part], np.float32) for part in ("mean", "sd"))),
        layout=layout,
        calibration=Calibration.from_json(card["calibration"]),
        version=card["version"],
        **use,
    )


def observe(
    model: CameraModel, reader: CellReader, path: str, times: npt.NDArray[np.float64], start: int, stop: int
) -> Iterator[tuple[int, Surprise]]:
    """Surprises of rows [start, stop) of a feature file whose rows are at `times`: (first row, stretch)."""
    observer = model.observer()
    for first in range(start, stop, _CHUNK):
        last = min(first + _CHUNK, stop)
        row = first
        for stretch in observer.push(reader.rows(path, first, last), times[first:last]):
            yield row, stretch
            row += len(stretch.maps)


def score_video(
    model: CameraModel, features: Path, regions: Path, picture: tuple[int, int] | None, out: Path, made_from: str
) -> None:
    """Write the scores of one video.

    Args:
        model: of its camera, calibrated.
        features, regions: its files.
        picture: displayed (width, height) in pixels, the unit of the boxes; None of a sequence, which has no boxes.
        out: the score file to write.
        made_from: digest of what it depends on.

    Raises:
        CheckpointError: its features have another layout than those that the model learned.
    """
    assert model.calibration is not None
    facts = pq.read_table(features, columns=["frame_index", "pts", "time_seconds", "valid"], partitioning=None)
    layout = Layout.of(features)
    if layout != model.layout:
        raise CheckpointError(
            f"the model of its camera learned {model.layout}, this is one of {layout}; put footage of another shape or "
            "kind into a camera of its own"
        )
    times = facts["time_seconds"].to_numpy()
    grid = CellGrid(layout.rows, layout.columns, picture) if picture else None
    moving = moving_boxes(regions, facts["frame_index"].to_numpy())
    reader = CellReader()
    cells = np.empty((len(times), layout.rows, layout.columns), np.float16)
    raw = np.empty(len(times), np.float32)
    boxes = np.full((len(times), 4), np.nan, np.float32)
    reasons: list[dict[str, Any]] = []
    for first, stretch in observe(model, reader, str(features), times, 0, len(times)):
        maps = model.calibration.questions.score(stretch.maps)
        raw[first : first + len(maps)] = model.calibration.questions.score_frames(maps)
        for t, score in enumerate(maps):
            top = int(score.argmax())
            row, column = divmod(top, layout.columns)
            at = first + t
            cells[at] = np.minimum(score, _HIGHEST)
            if grid:
                boxes[at] = grid.box(top, moving[at])
            reasons.append(_reason(model, stretch, t, row, column))
    schema = scores_schema(layout.rows, layout.columns)
    table = pa.table(
        {
            **{name: facts[name] for name in ("frame_index", "pts", "time_seconds", "valid")},
            "score_raw": raw,
            "score": causal_average(raw, times, model.smoothing_seconds),
            "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(cells)
            if len(cells)
            else schema.empty_table()["cells"].combine_chunks(),
            # NaN, where there is no picture, to null
            **{name: pa.array(boxes[:, k], from_pandas=True) for k, name in enumerate(("x0", "y0", "x1", "y1"))},
            **{name: [reason[name] for reason in reasons] for name in schema.names if name.startswith("reason")},
        },
        schema=schema,
    )
    write_table(out, table, schema, {"digest": made_from, "model_version": model.version})


def _reason(model: CameraModel, stretch: Surprise, t: int, row: int, column: int) -> dict[str, Any]:
    """Which channel of the leading question left its range in the top cell: expected within two scales, and seen."""
    assert model.calibration is not None
    leading = model.calibration.questions.leading(stretch.maps[t, :, row, column])
    names = model.layout.channels
    quantity, memory = questions(len(model.horizons), names)[leading]
    cell = row * model.layout.columns + column
    channels, both = quantities_of(names)[quantity]
    residual = stretch.residual[t, memory, cell]
    indices = [names.index(name) for name in channels]
    channel = max(indices, key=lambda k: abs(residual[k]) if both else residual[k])
    mean, sd = model.standard.mean[channel], model.standard.sd[channel]
    expected, scale = stretch.mean[t, memory, cell, channel], stretch.scale[t, memory, cell, channel]
    return {
        "reason_quantity": names[channel],
        "reason_memory_steps": model.horizons[memory - 1] if memory else 0,
        "reason_expected_low": float((expected - 2 * scale) * sd + mean),
        "reason_expected_high": float((expected + 2 * scale) * sd + mean),
        "reason_seen": float(stretch.seen[t, cell, channel]),
    }


@dataclass(frozen=True)
class _Job:
    row: dict[str, Any]
    model: Path
    cells: Path
    regions: Path
    out: Path
    digest: str


def score_videos(index: pa.Table, features: Path, models: Path, out: Path) -> None:
    """Bring the score files below `out` up to date: one for each scored video whose camera has a model.

    Args:
        index: the table `index`.
        features: root of the feature files.
        models: root of a model folder a camera.
        out: gets a file a video, and `skipped.json` with a sentence for each video that has none.
    """
    common = stage_digest("score", None, ["numpy", "torch"])
    versions = {camera_id: load_card(camera_dir(models, camera_id))["version"] for camera_id in cameras_in(models)}
    fates = json.loads((models / "cameras.json").read_text(encoding="utf-8"))
    decoded = read_table(features / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    analysed = {row["video_id"]: row["num_analysed"] for row in decoded}
    jobs, skipped = [], {}
    for row in index.to_pylist():
        camera_id, video_id = row["camera_id"], row["video_id"]
        if not row["scored"] or not analysed.get(video_id):
            continue
        if camera_id not in versions:
            why = fates.get(camera_id, {}).get("message") or f"camera {camera_id}: no footage of it trains"
            skipped[video_id] = f"not scored: {why}"
            continue
        cells, regions = (video_path(features / part, camera_id, video_id) for part in ("cells", "regions"))
        made_from = digest([read_metadata(cells)["digest"], versions[camera_id], common])
        target = video_path(out, camera_id, video_id)
        jobs.append(_Job(row, camera_dir(models, camera_id), cells, regions, target, made_from))
    stale = [job for job in jobs if not is_fresh(job.out, job.digest)]
    for job, problem in zip(stale, fan_out_all("score", _score, stale, lambda job: job.row["video_id"]), strict=True):
        if problem:
            skipped[job.row["video_id"]] = f"not scored: {problem}"
    kept = {job.out for job in jobs if job.row["video_id"] not in skipped}
    write_json(out / "skipped.json", skipped)
    removed = remove_orphans(out, kept | {out / "skipped.json"})
    print(f"score: {len(stale)} scored, {len(jobs) - len(stale)} kept, {removed} files removed", flush=True)


def _score(job: _Job) -> str:
    """Score one video; returns why it could not be, or an empty text."""
    torch.set_num_threads(1)  # one process a core already; and the bits do not depend on how many cores there are
    try:
        model = load_camera_model(job.model)
        picture = (job.row["width"], job.row["height"]) if job.row["width"] else None
        score_video(model, job.cells, job.regions, picture, job.out, job.digest)
    except CheckpointError as error:
        return str(error)
    return ""
