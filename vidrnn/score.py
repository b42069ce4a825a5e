"""Feature files to scores: one pass of the network, one causal score for every cell and frame."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidrnn.calibration import Calibration
from vidrnn.checkpoint import load_model
from vidrnn.device import CPU
from vidrnn.embeddings import Pool, Usual, describe
from vidrnn.errors import CheckpointError
from vidrnn.events import causal_average
from vidrnn.model import VideoRNN, place_of
from vidrnn.objects import CellGrid, moving_boxes
from vidrnn.schema import BOX, SCHEMAS, as_vectors, scores_schema
from vidrnn.storage import read_columns, write_table
from vidrnn.surprise import Observer, Surprise
from vidrnn.windows import ALONE, MODELLED, CellReader, Layout, Standard

_CHUNK = 16  # rows at a time: few enough for the processor's cache
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CameraModel:
    """What scores the footage of one camera.

    Attributes:
        net: the network, on the device that it is to run on.
        standard: scaling of its features.
        horizons: numbers of steps ahead.
        place_seconds, memory_seconds: time constants of the causal averages of each cell.
        smoothing_seconds: time constant of the score that alarms use.
        layout: of the feature files that it was trained on.
        camera_index, num_cameras: which of the cameras that share the weights.
        calibration: None while it is still to be measured.
        version: of the model; empty while it has none.
        usual: what its ordinary windows are like; None while that is still to be measured.
    """

    net: VideoRNN
    standard: Standard
    horizons: list[int]
    place_seconds: float
    memory_seconds: float
    smoothing_seconds: float
    layout: Layout
    camera_index: int
    num_cameras: int
    calibration: Calibration | None
    version: str
    usual: Usual | None = None

    def observer(self) -> Observer:
        """A fresh one, for a video or a block."""
        place = place_of(self.layout.rows, self.layout.columns, self.camera_index, self.num_cameras)
        place = place.to(self.net.input.weight.device)
        averages, channels = (self.place_seconds, self.memory_seconds), self.layout.channels
        return Observer(self.net, self.standard, place, self.horizons, *averages, channels)


def load_camera_model(directory: Path, device: torch.device = CPU) -> CameraModel:
    """The model of a camera, to run on a device.

    Raises:
        CheckpointError: it is missing, damaged, or of another version of the features.
    """
    net, card = load_model(directory)
    use = dict(card["use"])
    layout = Layout(tuple(card["channels"]), use.pop("rows"), use.pop("columns"))
    if (layout.rows, layout.columns) != ALONE and layout.channels != MODELLED:
        raise CheckpointError(f"{directory}: learned other features than these; train anew with `dvc repro`")
    try:
        calibration, usual = Calibration.from_json(card["calibration"]), Usual.from_json(card["windows"])
        return CameraModel(
            net=net.to(device),
            standard=Standard(*(np.asarray(card["standard"][part], np.float32) for part in ("mean", "sd"))),
            layout=layout,
            calibration=calibration,
            version=card["version"],
            usual=usual,
            **use,
        )
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{directory}: its scores were measured in another way; train anew with `dvc repro`"
        ) from None


def observe(
    model: CameraModel, reader: CellReader, path: str, times: npt.NDArray[np.float64], start: int, stop: int
) -> Iterator[tuple[int, Surprise]]:
    """Surprises of rows [start, stop) of a feature file whose rows are at `times`: (first row, stretch)."""
    observer = model.observer()
    chunks = ((first, min(first + _CHUNK, stop)) for first in range(start, stop, _CHUNK))
    pushed = (observer.push(reader.rows(path, first, last), times[first:last]) for first, last in chunks)
    row = start
    for stretch in itertools.chain(itertools.chain.from_iterable(pushed), observer.flush()):
        yield row, stretch
        row += len(stretch.maps)


def score_video(
    model: CameraModel,
    features: Path,
    regions: Path,
    picture: tuple[int, int] | None,
    out: Path,
    windows: Path,
    made_from: str,
) -> None:
    """Write the scores of one video, and what describes its windows.

    Args:
        model: of its camera, calibrated.
        features, regions: its files.
        picture: displayed (width, height) in pixels, the unit of the boxes; None of a sequence, which has no boxes.
        out: the score file to write.
        windows: the file to write of what describes its windows.
        made_from: digest of what they depend on.

    Raises:
        CheckpointError: its features have another layout than those that the model learned.
    """
    assert model.calibration is not None and model.usual is not None
    facts = read_columns(features, ["frame_index", "pts", "time_seconds", "valid"])
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
    pool = Pool()
    for first, stretch in observe(model, reader, str(features), times, 0, len(times)):
        maps = model.calibration.questions.score(stretch.maps)
        rows = slice(first, first + len(maps))
        cells[rows], raw[rows] = maps, maps.max((1, 2))
        pool.push(times[rows], describe(stretch.memory, stretch.maps, maps))
        top = maps.reshape(len(maps), -1).argmax(1)
        if grid:
            boxes[rows] = [grid.box(*found) for found in zip(top.tolist(), moving[rows], strict=True)]
        reasons += reasons_of(model, stretch, top)
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
            **{name: pa.array(boxes[:, k], from_pandas=True) for k, name in enumerate(BOX)},
            **{name: [reason[name] for reason in reasons] for name in schema.names if name.startswith("reason")},
        },
        schema=schema,
    )
    metadata = {"digest": made_from, "model_version": model.version}
    frames, found = pool.windows()
    made = {"first": frames[:, 0], "stop": frames[:, 1], "vector": as_vectors(model.usual.vectors(found))}
    write_table(windows, pa.table(made, schema=SCHEMAS["windows"]), SCHEMAS["windows"], metadata)
    write_table(out, table, schema, metadata)


def reasons_of(model: CameraModel, stretch: Surprise, top: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Which channel left its range in the top cell of each frame, (n,): expected within two scales, and seen."""
    assert model.calibration is not None
    frames = np.arange(len(top))
    row, column = np.divmod(top, model.layout.columns)
    leading = model.calibration.questions.leading(stretch.maps[frames, :, row, column], row, column)
    memory, channel = np.divmod(leading, len(model.layout.channels))
    mean, sd = model.standard.mean[channel], model.standard.sd[channel]
    expected, scale = stretch.expected[:, stretch.which[frames, top], memory, channel]
    columns = {
        "reason_quantity": [model.layout.channels[k] for k in channel],
        "reason_memory_steps": np.array([0, *model.horizons])[memory].tolist(),
        "reason_expected_low": ((expected - 2 * scale) * sd + mean).tolist(),
        "reason_expected_high": ((expected + 2 * scale) * sd + mean).tolist(),
        "reason_seen": stretch.seen[frames, top, channel].tolist(),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
