"""The gate: a candidate replaces the champion unless it is worse on the same ordinary footage, beyond the interval."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from vidrnn.checkpoint import camera_dir, cameras_in, load_card
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.score import CameraModel, load_camera_model, observe
from vidrnn.storage import digest, remove_orphans, replacing, video_path, write_json
from vidrnn.train import block_times, likelihood
from vidrnn.windows import Block, CellReader, blocks_of

MEASURE = "heldout_nll"


@dataclass(frozen=True)
class _Decision:
    promoted: bool
    reason: str
    candidate_value: float | None = None
    champion_value: float | None = None
    low: float | None = None
    high: float | None = None


def gate(features: Path, training: pa.Table, candidate: Path, champion: Path, out: Path, params: Params) -> pa.Table:
    """Write the better model of each camera below `out`.

    Args:
        features: root of the feature files.
        training: the table `training`.
        candidate, champion: roots of a model folder a camera; the champion's may be empty or missing.
        out: likewise, of what is kept.
        params: sections train (how footage is cut) and gate count.

    Returns:
        The table `promotions`: a row a camera.
    """
    kept: set[Path] = set()
    rows = []
    cameras = sorted({*cameras_in(candidate), *cameras_in(champion)})
    for camera_id in cameras:
        new, old = camera_dir(candidate, camera_id), camera_dir(champion, camera_id)
        decision = _decide(camera_id, new, old, _blocks(features, training, camera_id, params), params.gate.confidence)
        kept |= _copy(new if decision.promoted else old, camera_dir(out, camera_id))
        card, other = (load_card(path) if path.is_dir() else {} for path in (new, old))
        print(f"gate {camera_id}: {decision.reason}", flush=True)
        rows.append(
            {
                "camera_id": camera_id,
                "candidate_version": card.get("version", ""),
                "champion_version": other.get("version"),
                "measure": MEASURE,
                "candidate_value": decision.candidate_value,
                "champion_value": decision.champion_value,
                "difference_low": decision.low,
                "difference_high": decision.high,
                "promoted": decision.promoted,
                "reason": decision.reason,
            }
        )
    fates = out / "cameras.json"
    write_json(fates, json.loads((candidate / "cameras.json").read_text(encoding="utf-8")))
    remove_orphans(out, kept | {fates})
    return pa.Table.from_pylist(rows, schema=SCHEMAS["promotions"])


def _decide(camera_id: str, new: Path, old: Path, blocks: list[Block], confidence: float) -> _Decision:
    if not cameras_in(old.parent) or not old.is_dir():
        return _Decision(True, "promoted: there is no earlier model of this camera")
    if not new.is_dir():
        return _Decision(False, "the champion stays: tonight there is too little footage to train a candidate")
    candidate, champion = load_card(new), load_card(old)
    if candidate["version"] == champion["version"]:
        return _Decision(True, "the candidate is the champion, to the last bit")
    for key in ("channels", "use"):
        if digest(candidate[key]) != digest(champion[key]):
            return _Decision(True, f"promoted: the champion was made with other {key}, so the two cannot be compared")
    seen = {*candidate["footage"]["fit"], *champion["footage"]["fit"]}
    held_out = [block for block in blocks if block.key not in seen]
    if len(held_out) < 2:
        return _Decision(True, "promoted: fewer than two blocks of footage are new to both, too few to compare them")
    values = np.array([[_nll(load_camera_model(path), block) for block in held_out] for path in (new, old)])
    low, high = _interval(values[0] - values[1], confidence)
    mean, before = values.mean(1)
    words = f"its surprise at {len(held_out)} held-out blocks is {mean:.3f} against {before:.3f}"
    interval = f"difference {low:+.3f} to {high:+.3f}"
    if low > 0:
        return _Decision(
            False, f"the champion stays: the candidate is worse: {words}, {interval}", mean, before, low, high
        )
    return _Decision(True, f"promoted: the candidate is not worse: {words}, {interval}", mean, before, low, high)


def _interval(differences: npt.NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Student's interval of the mean of paired differences."""
    error = float(stats.sem(differences))
    if error == 0:
        return float(differences.mean()), float(differences.mean())
    low, high = stats.t.interval(confidence, len(differences) - 1, float(differences.mean()), error)
    return float(low), float(high)


def _nll(model: CameraModel, block: Block) -> float:
    reader = CellReader()
    times, _ = block_times(block)
    parts = [
        likelihood(model, reader, block, row, stretch.residual, stretch.scale)
        for row, stretch in observe(model, reader, block.path, times, block.start, block.stop)
    ]
    total, count = np.sum(parts, axis=0)
    return float(total / max(count, 1))


def _blocks(features: Path, training: pa.Table, camera_id: str, params: Params) -> list[Block]:
    return [
        block
        for row in training.to_pylist()
        if row["camera_id"] == camera_id
        for block in blocks_of(
            video_path(features / "cells", camera_id, row["video_id"]),
            row["sha256"],
            params.train.block_seconds,
            params.train.gap_seconds,
        )
    ]


def _copy(source: Path, target: Path) -> set[Path]:
    written = set()
    for path in sorted(source.iterdir()):
        with replacing(target / path.name) as partial:
            shutil.copyfile(path, partial)
        written.add(target / path.name)
    return written
