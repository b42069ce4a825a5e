"""Ordinary footage to a candidate model for each camera: split, fit, calibrate, write."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from vidrnn.cards import CARD, WEIGHTS, camera_dir
from vidrnn.checkpoint import save_model
from vidrnn.device import CPU, choose_device
from vidrnn.errors import FootageError, ParamsError, VidrnnError
from vidrnn.fan_out import Failure, fan_out
from vidrnn.features import MAX_STEP_SECONDS
from vidrnn.feedback import NORMAL, Mark
from vidrnn.fit import FitResult, FitTask
from vidrnn.heldout import block_times, calibrate, may_stand_out, standing_out, usual_windows
from vidrnn.marked import find_marked, without
from vidrnn.model import NEIGHBOURS, VideoRNN, place_of
from vidrnn.params import Params
from vidrnn.ray_fit import ray_fit
from vidrnn.score import CameraModel
from vidrnn.storage import digest, remove_orphans, video_path, write_json
from vidrnn.warm import Start, begin, demanded, offered
from vidrnn.windows import (
    ALONE,
    MODELLED,
    Block,
    CellReader,
    Layout,
    Split,
    Standard,
    blocks_of,
    file_of,
    split_blocks,
    standard_of,
)

Array = npt.NDArray[np.float32]
_MARKED_SHARE = 0.2  # of what is fitted, that is spent on what somebody has marked as normal
SCOUT_SHARE = 0.25  # of the epochs, after which a fit looks for footage that stands out: later it is learned, too
_LOOKS = 4  # for it at most
TRAINED, UNFIT = "trained", "unfit"


@dataclass(frozen=True)
class _Camera:
    camera_id: str
    index: int  # among those that share the weights
    num_cameras: int  # that do
    split: Split
    marked: list[Block]  # that somebody said are normal
    standard: Standard
    place: Tensor
    layout: Layout
    step_seconds: float
    start: Start | None = None
    # Keys of blocks that stand out: neither fitted nor a measure of what is usual.
    trimmed: frozenset[str] = frozenset()


def train(
    features: Path,
    training: pa.Table,
    params: Params,
    out: Path,
    marks: Sequence[Mark] = (),
    start: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train every camera that has enough ordinary footage, and write its model below `out`.

    Args:
        features: root of the feature files.
        training: the table `training`.
        params: sections features, model, train, device and score count, and alarms.merge_seconds.
        out: gets a model folder a camera, and `cameras.json` with what became of each.
        marks: what people said of events; what is normal is learned, and nothing is learned from what is unusual.
        start: root of models to start from, where they fit and where there is still footage that they have not seen.

    Returns:
        Metrics for `dvc metrics`, and the rows of the loss curve.

    Raises:
        FootageError: no camera has enough footage; the message says how much there is and how much is needed.
    """
    device = choose_device(params.device)
    groups, fates = _cameras(features, training, params, marks)
    if not fates:
        raise FootageError(
            "no ordinary footage to learn from: no file that could be read is one that index.train in params.yaml "
            f"takes in; expected at least 3 a camera of more than {_least_seconds(params):g} seconds each, or a longer "
            f"one that gives 3 stretches of train.block_seconds ({params.train.block_seconds:g})"
        )
    if not groups:
        raise FootageError("; ".join(fate["message"] for fate in fates.values()))
    metrics: dict[str, Any] = {}
    curve: list[dict[str, Any]] = []
    written = {out / "cameras.json"}
    for of_group, history in _trained(
        [_Job(name, group, params, device, training, out, start) for name, group in groups.items()]
    ):
        curve += history
        metrics |= of_group
        written |= {camera_dir(out, camera_id) / name for camera_id in of_group for name in (CARD, WEIGHTS)}
    remove_orphans(out, written)
    write_json(out / "cameras.json", fates)
    return metrics, curve


@dataclass(frozen=True)
class _Job:
    """A model to train: `name` of those who share it, and what `train` takes."""

    name: str
    group: list[_Camera]
    params: Params
    device: torch.device
    training: pa.Table
    out: Path
    start: Path | None


_Trained = tuple[dict[str, Any], list[dict[str, Any]]]  # metrics by camera, and the rows of the loss curve


def _trained(jobs: list[_Job]) -> Iterator[_Trained]:
    """Every model; several that take a core each are trained side by side, in processes.

    Raises:
        VidrnnError: such a process died.
    """
    train = jobs[0].params.train
    here = len(jobs) == 1 or bool(train.num_workers) or train.threads > 1 or jobs[0].device != CPU
    outcomes = fan_out("train", _train_one, jobs, lambda job: job.name, unit="model", here=here)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            raise VidrnnError(
                f"train: the process that trained {job.name} died; free some memory and run again, or let "
                "train.num_workers in params.yaml be 1, which trains one model after the other"
            )
        yield outcome


def _train_one(job: _Job) -> _Trained:
    """Fit one model, and write it for every camera that shares it."""
    params = job.params
    group = _without_what_stands_out(job, params, _started(job.name, job.group, params, job.start))
    task = _task(group, params)
    result = _fitted(job, task, f"train {job.name}")
    metrics = {camera.camera_id: _write(job, params, camera, task, result) for camera in group}
    return metrics, [{"model": job.name, **row} for row in result.history]


def _fitted(job: _Job, task: FitTask, title: str) -> FitResult:
    return ray_fit(task, title, job.params.train.num_workers, job.device != CPU)


def _without_what_stands_out(job: _Job, params: Params, group: list[_Camera]) -> list[_Camera]:
    """The cameras without the blocks that stand out, which are told; those held out still tell rates.

    A fit that is cut short looks at all of it. What it finds may have hidden more of its kind, which it knew: so the
    next one does without, until none finds anything.
    """
    share = params.train.trim_share
    blocks = [camera.split.blocks for camera in group]
    for _ in range(_LOOKS):
        if all(len(c.trimmed) >= may_stand_out(len(own), share) for c, own in zip(group, blocks, strict=True)):
            break
        scout = replace(_task(group, params), epochs=max(1, round(SCOUT_SHARE * params.train.epochs)))
        found = _fitted(job, scout, f"train {job.name}, what stands out")
        looked = [
            _trim(camera, standing_out(_camera_model(job, params, camera, scout, found), own, share, camera.trimmed))
            for camera, own in zip(group, blocks, strict=True)
        ]
        if [camera.trimmed for camera in looked] == [camera.trimmed for camera in group]:
            break
        group = looked
    names = {row["sha256"]: row["video_id"] for row in job.training.to_pylist()}
    for camera, own in zip(group, blocks, strict=True):
        told = [
            f"{block.seconds:.0f} s of {names[file_of(block.key)]} from {block_times(block)[0][block.start]:.0f} s on"
            for block in own
            if block.key in camera.trimmed
        ]
        if told:
            listed = ", ".join(told)
            print(f"train {camera.camera_id}: not learned, so unlike the rest does it look: {listed}", flush=True)
    return group


def _trim(camera: _Camera, out: set[str]) -> _Camera:
    """Without the blocks that are `out`, unless nothing would be left to fit."""
    kept = [block for block in camera.split.fit if block.key not in out]
    if not kept or out == camera.trimmed:
        return camera
    split, standard = replace(camera.split, fit=kept), standard_of(CellReader(), kept)
    return replace(camera, split=split, standard=standard, trimmed=frozenset(out))


def _cameras(
    features: Path, training: pa.Table, params: Params, marks: Sequence[Mark]
) -> tuple[dict[str, list[_Camera]], dict[str, dict[str, str]]]:
    """The cameras with enough footage by the name of the model that they share, and what is to be said of each."""
    reader = CellReader()
    splits: dict[str, Split] = {}
    fates: dict[str, dict[str, str]] = {}
    for camera_id in sorted(set(training["camera_id"].to_pylist())):
        try:
            splits[camera_id] = footage_split(features, training, camera_id, params, marks)
            fates[camera_id] = {"status": TRAINED, "message": ""}
        except FootageError as error:
            fates[camera_id] = {"status": UNFIT, "message": str(error)}
    layouts = {camera_id: Layout.of(Path(split.fit[0].path)) for camera_id, split in splits.items()}
    sharing: dict[str, list[str]] = defaultdict(list)
    for camera_id, layout in layouts.items():
        sharing[_model_name(camera_id, layout, params)].append(camera_id)
    groups: dict[str, list[_Camera]] = defaultdict(list)
    for name, mates in sharing.items():
        for index, camera_id in enumerate(mates):
            split, layout = splits[camera_id], layouts[camera_id]
            place = place_of(layout.rows, layout.columns, index, len(mates))
            standard, step = standard_of(reader, split.fit), _usual_step(split.fit)
            marked = _marked_normal(features, marks, camera_id, params, step)
            groups[name].append(_Camera(camera_id, index, len(mates), split, marked, standard, place, layout, step))
    return groups, fates


def _model_name(camera_id: str, layout: Layout, params: Params) -> str:
    """What is learned in one, by its name; only what has the same channels can share weights."""
    if params.train.scope == "camera":
        return camera_id
    return "all" if layout.channels == MODELLED else f"all {layout}"


def _started(name: str, group: list[_Camera], params: Params, root: Path | None) -> list[_Camera]:
    """The cameras with what they start from, where they do, and nothing held out that it has seen.

    Raises:
        CheckpointError: train.init_from names no model.
        FootageError: it has seen all that could judge it.
    """
    asked, first = params.train.init_from, group[0]
    if asked is not None:
        found: list[Start | str] = [demanded(Path(asked), c.camera_id, _blocks(params)) for c in group]
    elif root is not None:
        wanted = {
            "architecture": _architecture(params, first.layout, len(group)),
            "channels": list(first.layout.channels),
            "horizons": _horizons(params, max(camera.step_seconds for camera in group)),
        }
        found = [offered(root, camera.camera_id, wanted, _blocks(params)) for camera in group]
    else:
        return group
    kept = begin([camera.split for camera in group], found)
    if isinstance(kept, str):
        if asked is not None:
            raise FootageError(f"train.init_from: {kept}; add footage for {name}, or set it to null")
        if kept:
            print(f"train {name}: from scratch, since {kept}", flush=True)
        return group
    return [replace(c, split=split, start=start) for c, (split, start) in zip(group, kept, strict=True)]


def _blocks(params: Params) -> dict[str, float]:
    """How footage is cut, without which the keys of blocks mean nothing."""
    return {"seconds": params.train.block_seconds, "gap_seconds": params.train.gap_seconds}


def _marked_normal(
    features: Path, marks: Sequence[Mark], camera_id: str, params: Params, step_seconds: float
) -> list[Block]:
    """The stretches around what somebody marked as normal, long enough for several training windows each."""
    rows = 2 * (_seq_len(params, step_seconds) + _horizons(params, step_seconds)[-1])
    normal = [mark for mark in marks if mark.verdict == NORMAL]
    return [found.block() for found in find_marked(features, normal, camera_id, rows)]


def footage_split(
    features: Path, training: pa.Table, camera_id: str, params: Params, marks: Sequence[Mark] = ()
) -> Split:
    """What of a camera's footage is for fitting, validation and calibration.

    Raises:
        FootageError: there is too little of it, or its files are of several shapes or kinds.
    """
    return split_blocks(
        _learnable(training_blocks(features, training, camera_id, params, marks), camera_id, params),
        params.train.seed,
        params.train.validation_share,
        params.train.calibration_share,
        camera_id,
        _least_seconds(params),
    )


def _least_seconds(params: Params) -> float:
    """That a file must last, so that there is a training window in it, and a frame after the warm-up."""
    return max(params.train.seq_seconds + params.model.horizons_seconds[-1], params.features.warmup_seconds)


def training_blocks(
    features: Path, training: pa.Table, camera_id: str, params: Params, marks: Sequence[Mark] = ()
) -> list[Block]:
    """The footage of a camera in blocks; a file that is there twice counts once, or one half would judge the other.

    What is marked is left out: the normal is learned on its own, the unusual is not, and neither may judge.
    """
    files = {
        row["sha256"]: video_path(features / "cells", camera_id, row["video_id"])
        for row in training.to_pylist()
        if row["camera_id"] == camera_id
    }
    blocks = [
        block
        for sha256, path in files.items()
        for block in blocks_of(path, sha256, params.train.block_seconds, params.train.gap_seconds)
    ]
    return without(blocks, find_marked(features, marks, camera_id)) if marks else blocks


def _learnable(blocks: list[Block], camera_id: str, params: Params) -> list[Block]:
    """The blocks that hold a training window and a frame after the warm-up, if all have one layout.

    Raises:
        FootageError: they have several.
    """
    layouts = {Layout.of(Path(path)) for path in {block.path for block in blocks}}
    if len(layouts) > 1:
        raise FootageError(
            f"camera {camera_id}: its files are of {len(layouts)} different shapes or kinds, as in "
            f"{' and '.join(sorted(map(str, layouts))[:2])}; expected one: put each into a camera folder of its own"
        )
    kept = []
    for _, of_file in itertools.groupby(blocks, key=lambda block: block.path):
        own = list(of_file)
        step, valid = _step_seconds(own[0]), block_times(own[0])[1]
        rows = _seq_len(params, step) + _horizons(params, step)[-1]
        kept += [b for b in own if b.stop - b.start >= rows and valid[b.start : b.stop].any()]
    return kept


def _seq_len(params: Params, step_seconds: float) -> int:
    return max(2, round(params.train.seq_seconds / step_seconds))


def _usual_step(blocks: Sequence[Block]) -> float:
    """The median of `_step_seconds` over the files of some blocks."""
    return float(np.median([_step_seconds(block) for block in {block.path: block for block in blocks}.values()]))


def _step_seconds(block: Block) -> float:
    """Between two analysed frames of the block's file, on average: of 25 frames/s every second or third is one."""
    steps = np.diff(block_times(block)[0])
    return float(steps[steps <= max(MAX_STEP_SECONDS, np.median(steps))].mean())


def _task(group: list[_Camera], params: Params) -> FitTask:
    """What to fit to the footage of cameras that share the weights."""
    train = params.train
    step = max(camera.step_seconds for camera in group)
    layout = group[0].layout
    # One cell gives one sequence a window, so more windows make up for it, while a batch stays as large as of pictures.
    more = train.cells_per_window // max(len(camera.place) for camera in group)
    more = max(1, min(more, train.cells_per_window * NEIGHBOURS * len(MODELLED) // len(layout.channels)))
    return FitTask(
        architecture=_architecture(params, layout, len(group)),
        fit=[(block, camera.standard, camera.place) for camera in group for block in _to_fit(camera)],
        validation=[(block, camera.standard, camera.place) for camera in group for block in _to_validate(camera)],
        initial=None if group[0].start is None else group[0].start.weights,
        seq_len=_seq_len(params, step),
        burn_in=round(train.burn_in_seconds / step),
        horizons=_horizons(params, step),
        loss_file=str(Path(train.loss_file).absolute()),
        batch_windows=train.batch_windows * more,
        deterministic=params.device.deterministic,
        **train.model_dump(
            include={
                "loss",
                "autocast",
                "learning_rate",
                "epochs",
                "batches_per_epoch",
                "cells_per_window",
                "memory_dropout",
                "gradient_clip",
                "patience",
                "seed",
                "threads",
            }
        ),
    )


def _to_fit(camera: _Camera) -> list[Block]:
    """Ordinary blocks, and what is marked as normal so often that it gets its share: it is a few seconds of hours."""
    ordinary, marked = (sum(block.seconds for block in blocks) for blocks in (camera.split.fit, camera.marked))
    times = round(_MARKED_SHARE / (1 - _MARKED_SHARE) * ordinary / marked) if marked else 0
    return [*camera.split.fit, *camera.marked * max(1, times)]


def _to_validate(camera: _Camera) -> list[Block]:
    """What chooses the epoch; what stands out does not, unless there is nothing else."""
    usual = [block for block in camera.split.validation if block.key not in camera.trimmed]
    return usual or camera.split.validation


def _architecture(params: Params, layout: Layout, num_cameras: int) -> dict[str, Any]:
    return {
        "num_channels": len(layout.channels),
        "num_horizons": len(params.model.horizons_seconds),
        "cell": params.model.cell,
        "hidden_size": params.model.hidden_size,
        "num_layers": params.model.num_layers,
        "num_cameras": num_cameras,
        "with_scale": params.train.loss == "nll",
        "neighbours": 1 if (layout.rows, layout.columns) == ALONE else NEIGHBOURS,
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


def _camera_model(job: _Job, params: Params, camera: _Camera, task: FitTask, fitted: FitResult) -> CameraModel:
    """Not calibrated yet."""
    net = VideoRNN(**task.architecture)
    net.load_state_dict(fitted.weights)
    net.eval().requires_grad_(False).to(job.device)
    return CameraModel(
        net, camera.standard, **_use(params, camera, task), layout=camera.layout, calibration=None, version=""
    )


def _use(params: Params, camera: _Camera, task: FitTask) -> dict[str, Any]:
    """What a model is used with, as its card says it."""
    return {
        "horizons": task.horizons,
        "place_seconds": params.score.place_seconds,
        "memory_seconds": params.score.memory_seconds,
        "smoothing_seconds": params.score.smoothing_seconds,
        "camera_index": camera.index,
        "num_cameras": camera.num_cameras,
    }


def _write(job: _Job, params: Params, camera: _Camera, task: FitTask, fitted: FitResult) -> dict[str, Any]:
    """Calibrate on what fitting did not see, write the model, and tell its metrics."""
    model = _camera_model(job, params, camera, task, fitted)
    held_out = camera.split.validation + camera.split.calibration
    merge_seconds = params.alarms.merge_seconds
    calibration, heldout = calibrate(model, held_out, camera.split.fit, merge_seconds, camera.marked, camera.trimmed)
    own = [row for row in job.training.to_pylist() if row["camera_id"] == camera.camera_id]
    best = fitted.history[fitted.best_epoch - 1]
    card = {
        "camera_id": camera.camera_id,
        "architecture": task.architecture,
        "channels": list(camera.layout.channels),
        "blocks": _blocks(params),
        "standard": {"mean": camera.standard.mean.tolist(), "sd": camera.standard.sd.tolist()},
        "use": {**_use(params, camera, task), "rows": camera.layout.rows, "columns": camera.layout.columns},
        "calibration": calibration.to_json(),
        "windows": usual_windows(replace(model, calibration=calibration), held_out).to_json(),
        "heldout": heldout,
        "params": params.model_dump(
            mode="json",
            include={"features", "model", "train", "score"},
            exclude={"features": {"time_limit_seconds"}},  # decides what can be read, not what is learned
        ),
        "footage": {
            "digest": digest(own),
            "num_videos": len(own),
            "seconds": round(sum(b.seconds for b in camera.split.fit + held_out), 3),
            "fit": sorted({block.key for block in camera.split.fit} | (camera.start.fitted if camera.start else set())),
            "held_out": sorted({block.key for block in held_out}),
            "trimmed": sorted(camera.trimmed),
            "marked_normal": sorted(block.key for block in camera.marked),
        },
        "start": None if camera.start is None else camera.start.version,
        "fit": {"best_epoch": fitted.best_epoch, "validation_loss": best["validation"]},
    }
    version = save_model(camera_dir(job.out, camera.camera_id), fitted.weights, card)
    return {
        "version": version,
        "start": card["start"],
        "best_epoch": fitted.best_epoch,
        "train_loss": round(best["train"], 6),
        "validation_loss": round(best["validation"], 6),
        "heldout_nll": heldout["nll"],
        "heldout_hours": heldout["hours"],
    }
