"""Ordinary footage to a candidate model for each camera: split, fit, calibrate, write."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from vidrnn.calibration import Calibration, Questions, Tail, seconds_of
from vidrnn.checkpoint import CARD, camera_dir, load_card, load_weights, save_model
from vidrnn.errors import FootageError, ParamsError
from vidrnn.events import causal_average, find_spans
from vidrnn.features import ROWS
from vidrnn.fit import FitResult, FitTask
from vidrnn.model import VideoRNN, place_of
from vidrnn.params import Params
from vidrnn.ray_fit import ray_fit, wants_gpu
from vidrnn.score import CameraModel, observe
from vidrnn.storage import digest, remove_orphans, video_path, write_json
from vidrnn.windows import (
    MODELLED,
    Block,
    CellReader,
    Split,
    Standard,
    active_cells,
    blocks_of,
    split_blocks,
    standard_of,
)

Array = npt.NDArray[np.float32]
TRAINED, TOO_LITTLE = "trained", "too_little"


@dataclass(frozen=True)
class _Camera:
    camera_id: str
    index: int  # among those that share the weights
    split: Split
    standard: Standard
    place: Tensor
    columns: int
    step_seconds: float


def train(features: Path, training: pa.Table, params: Params, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train every camera that has enough ordinary footage, and write its model below `out`.

    Args:
        features: root of the feature files.
        training: the table `training`.
        params: sections features, model, train, score and alarms count.
        out: gets a model folder a camera, and `cameras.json` with what became of each.

    Returns:
        Metrics for `dvc metrics`, and the rows of the loss curve.

    Raises:
        FootageError: no camera has enough footage; the message says how much there is and how much is needed.
    """
    footage, fates = _cameras(features, training, params)
    if not footage:
        raise FootageError("; ".join(fate["message"] for fate in fates.values()) or "no ordinary footage to learn from")
    groups = [footage] if params.train.scope == "all" else [[replace(camera, index=0)] for camera in footage]
    metrics: dict[str, Any] = {}
    curve: list[dict[str, Any]] = []
    written = {out / "cameras.json"}
    for group in groups:
        title = "train" if params.train.scope == "all" else f"train {group[0].camera_id}"
        fitted = _fit(group, params, title)
        curve += [
            {"model": title.removeprefix("train ") if len(groups) > 1 else "all", **row} for row in fitted.history
        ]
        for camera in group:
            directory = camera_dir(out, camera.camera_id)
            metrics[camera.camera_id] = _write(directory, camera, len(group), fitted, params, training)
            written |= {directory / CARD, directory / "weights.safetensors"}
    remove_orphans(out, written)
    write_json(out / "cameras.json", fates)
    return metrics, curve


def _cameras(features: Path, training: pa.Table, params: Params) -> tuple[list[_Camera], dict[str, dict[str, str]]]:
    """The cameras with enough footage, and what is to be said of each camera."""
    reader = CellReader()
    paths: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for row in training.to_pylist():
        path = video_path(features / "cells", row["camera_id"], row["video_id"])
        paths[row["camera_id"]].append((path, row["sha256"]))
    splits: dict[str, Split] = {}
    fates: dict[str, dict[str, str]] = {}
    for camera_id, files in sorted(paths.items()):
        blocks = [
            block
            for path, sha256 in files
            for block in blocks_of(path, sha256, params.train.block_seconds, params.train.gap_seconds)
        ]
        try:
            splits[camera_id] = split_blocks(
                _same_grid(blocks, camera_id),
                params.train.seed,
                params.train.validation_share,
                params.train.calibration_share,
                camera_id,
            )
            fates[camera_id] = {"status": TRAINED, "message": ""}
        except FootageError as error:
            fates[camera_id] = {"status": TOO_LITTLE, "message": str(error)}
    shared = len(splits) if params.train.scope == "all" else 1
    cameras = []
    for index, (camera_id, split) in enumerate(splits.items()):
        path = split.fit[0].path
        columns = pq.read_schema(path).field("cells").type.shape[2]
        times = pq.read_table(path, columns=["time_seconds"], partitioning=None)["time_seconds"].to_numpy()
        place = place_of(ROWS, columns, index if shared > 1 else 0, shared)
        step = float(np.median(np.diff(times)))
        cameras.append(_Camera(camera_id, index, split, standard_of(reader, split.fit), place, columns, step))
    return cameras, fates


def _same_grid(blocks: list[Block], camera_id: str) -> list[Block]:
    """The blocks, once they are shown to have one shape of picture.

    Raises:
        FootageError: naming two files that differ.
    """
    grids = {block.path: pq.read_schema(block.path).field("cells").type.shape[2] for block in blocks}
    if len(set(grids.values())) > 1:
        raise FootageError(
            f"camera {camera_id}: its files have pictures of {len(set(grids.values()))} different shapes; expected one: "
            "put each shape into a camera folder of its own"
        )
    return blocks


def _fit(group: list[_Camera], params: Params, title: str) -> FitResult:
    train = params.train
    step = max(camera.step_seconds for camera in group)
    task = FitTask(
        architecture=_architecture(params, len(group)),
        fit=[(block, camera.standard, camera.place) for camera in group for block in camera.split.fit],
        validation=[(block, camera.standard, camera.place) for camera in group for block in camera.split.validation],
        initial=None if train.init_from is None else _initial(Path(train.init_from), group[0].camera_id),
        seq_len=max(2, round(train.seq_seconds / step)),
        burn_in=round(train.burn_in_seconds / step),
        horizons=_horizons(params, step),
        **train.model_dump(
            include={
                "loss",
                "learning_rate",
                "epochs",
                "batches_per_epoch",
                "batch_windows",
                "cells_per_window",
                "memory_dropout",
                "gradient_clip",
                "patience",
                "seed",
                "threads",
            }
        ),
    )
    return ray_fit(task, title, train.num_workers, wants_gpu(train))


def _architecture(params: Params, num_cameras: int) -> dict[str, Any]:
    return {
        "num_channels": len(MODELLED),
        "num_horizons": len(params.model.horizons_seconds),
        "cell": params.model.cell,
        "hidden_size": params.model.hidden_size,
        "num_layers": params.model.num_layers,
        "num_cameras": num_cameras,
        "with_scale": params.train.loss == "nll",
    }


def _horizons(params: Params, step_seconds: float) -> list[int]:
    """Steps ahead, at least one, ascending.

    Raises:
        ParamsError: two horizons fall on the same analysed frame.
    """
    steps = [max(1, round(seconds / step_seconds)) for seconds in params.model.horizons_seconds]
    if len(set(steps)) < len(steps):
        raise ParamsError(
            f"params.yaml: `model.horizons_seconds` {list(params.model.horizons_seconds)} falls on the analysed frames "
            f"{steps}; expected horizons at least {step_seconds:.3f} seconds apart"
        )
    return steps


def _initial(start: Path, camera_id: str) -> dict[str, Tensor]:
    """Weights to start from: the camera's below `start`, or `start` itself where it is one model."""
    own = camera_dir(start, camera_id)
    directory = own if (own / CARD).is_file() else start
    load_card(directory)
    return load_weights(directory)


def _write(
    directory: Path, camera: _Camera, num_cameras: int, fitted: FitResult, params: Params, training: pa.Table
) -> dict[str, Any]:
    """Calibrate on what fitting did not see, write the model, and tell its metrics."""
    net = VideoRNN(**_architecture(params, num_cameras))
    net.load_state_dict(fitted.weights)
    net.eval().requires_grad_(False)
    use = {
        "horizons": _horizons(params, camera.step_seconds),
        "average_seconds": params.score.cell_seconds,
        "smoothing_seconds": params.score.smoothing_seconds,
        "columns": camera.columns,
        "camera_index": camera.index,
        "num_cameras": num_cameras,
    }
    model = CameraModel(net, camera.standard, **use, calibration=None, version="")
    held_out = camera.split.validation + camera.split.calibration
    calibration, heldout = calibrate(model, held_out, params.alarms.per_hour, params.alarms.merge_seconds)
    own = [row for row in training.to_pylist() if row["camera_id"] == camera.camera_id]
    best = fitted.history[fitted.best_epoch - 1]
    card = {
        "camera_id": camera.camera_id,
        "architecture": _architecture(params, num_cameras),
        "channels": list(MODELLED),
        "standard": {"mean": camera.standard.mean.tolist(), "sd": camera.standard.sd.tolist()},
        "use": use,
        "calibration": calibration.to_json(),
        "heldout": heldout,
        "params": params.model_dump(mode="json", include={"features", "model", "train", "score", "alarms"}),
        "footage": {
            "digest": digest(own),
            "num_videos": len(own),
            "seconds": round(sum(b.seconds for b in camera.split.fit + held_out), 3),
            "fit": sorted(block.key for block in camera.split.fit),
        },
        "fit": {"best_epoch": fitted.best_epoch, "validation_loss": best["validation"]},
    }
    version = save_model(directory, fitted.weights, card)
    return {
        "version": version,
        "best_epoch": fitted.best_epoch,
        "train_loss": round(best["train"], 6),
        "validation_loss": round(best["validation"], 6),
        "threshold": round(calibration.threshold, 6),
        "heldout_nll": heldout["nll"],
        "heldout_hours": heldout["hours"],
        "heldout_alarms": heldout["alarms"],
    }


def calibrate(
    model: CameraModel, blocks: list[Block], per_hour: float, merge_seconds: float
) -> tuple[Calibration, dict[str, Any]]:
    """Give scores a meaning from ordinary footage that fitting did not see.

    The blocks chose nothing but the epoch (validation) or nothing at all (calibration). What the threshold promises is
    then checked block by block, each against a tail measured on the others alone.

    Returns:
        The calibration, and what held-out footage shows: hours, merged alarms, negative log-likelihood.
    """
    reader = CellReader()
    highest, likelihoods = [], []
    for block in blocks:
        times, valid = block_times(block)
        for row, stretch in observe(model, reader, block.path, times, block.start, block.stop):
            keep = valid[row : row + len(stretch.maps)]
            flat = stretch.maps.reshape(*stretch.maps.shape[:2], -1)
            highest.append(flat.max(2)[keep])
            likelihoods.append(likelihood(model, reader, block, row, stretch.residual, stretch.scale))
    asked = Questions.measure(np.concatenate(highest))
    series = []
    for block in blocks:
        times, valid = block_times(block)
        raw = np.concatenate(
            [
                asked.score(stretch.maps).reshape(len(stretch.maps), -1).max(1)
                for _, stretch in observe(model, reader, block.path, times, block.start, block.stop)
            ]
        )
        within = slice(block.start, block.stop)
        smooth = causal_average(raw, times[within], model.smoothing_seconds)
        if valid[within].any():
            series.append((smooth[valid[within]], times[within][valid[within]]))
    if not series:
        raise FootageError("no held-out footage is longer than the warm-up; expected longer files")
    tail = Tail.measure(series, merge_seconds)
    alarms = 0
    for k, (scores, times) in enumerate(series):
        others = series[:k] + series[k + 1 :] or series
        threshold = Tail.measure(others, merge_seconds).threshold(per_hour)
        alarms += len(find_spans(scores, scores > threshold, times, merge_seconds))
    total = np.sum(likelihoods, axis=0)
    heldout = {
        "hours": round(sum(seconds_of(times) for _, times in series) / 3600, 6),
        "alarms": alarms,
        "nll": round(float(total[0] / max(total[1], 1)), 6),
    }
    return Calibration(asked, tail, tail.threshold(per_hour)), heldout


def likelihood(
    model: CameraModel, reader: CellReader, block: Block, row: int, residual: Array, scale: Array
) -> npt.NDArray[np.float64]:
    """(sum, count) of the negative log-likelihood in feature units over a stretch's active cells and channels.

    In the features' own units, two models that scale them differently can be compared. All memories count alike.
    """
    cells = reader.rows(block.path, row, row + len(residual))
    active = active_cells(cells).reshape(len(cells), -1)  # (n, N)
    each = 0.5 * np.minimum(residual, 10.0) ** 2 + np.log(scale) + np.log(model.standard.sd)  # (n, M, N, C)
    mean = each.mean((1, 3))[active]
    return np.array([mean.sum(), len(mean)], np.float64)


def block_times(block: Block) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Seconds and validity of every row of the block's file."""
    table = pq.read_table(block.path, columns=["time_seconds", "valid"], partitioning=None)
    return table["time_seconds"].to_numpy(), table["valid"].to_numpy()
