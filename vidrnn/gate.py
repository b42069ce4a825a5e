"""The gate: a candidate replaces the champion unless it is worse on the same ordinary footage, beyond the interval."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from vidrnn.cards import CARD, WEIGHTS, camera_dir, cameras_in, load_card
from vidrnn.events import causal_average
from vidrnn.feedback import NORMAL, Mark
from vidrnn.marked import Marked, find_marked
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.score import CameraModel, load_camera_model, observe
from vidrnn.storage import remove_orphans, replacing, write_json
from vidrnn.train import block_times, likelihood, training_blocks
from vidrnn.windows import Block, CellReader

Card = dict[str, Any]
MEASURE, FEEDBACK = "heldout_nll", "feedback_mistakes"
_LEAD_ROWS = 150  # before the end of a marked event, so that the network has seen what led to it
# Parts of the card in which two models must agree for one measure to judge both.
_COMPARABLE = {"channels": "features", "use": "horizons, averages or cameras", "blocks": "blocks of footage"}


@dataclass(frozen=True)
class _Decision:
    promoted: bool
    reason: str
    candidate_value: float | None = None
    champion_value: float | None = None
    low: float | None = None
    high: float | None = None
    mistakes: tuple[int, int] | None = None  # of candidate and champion, about what is marked


def gate(
    features: Path,
    training: pa.Table,
    candidate: Path,
    champion: Path,
    out: Path,
    params: Params,
    withdrawn: frozenset[str] = frozenset(),
    marks: Sequence[Mark] = (),
) -> pa.Table:
    """Write the better model of each camera below `out`. Other files beside the models do not count.

    Args:
        features: root of the feature files.
        training: the table `training`.
        candidate, champion: roots of a model folder a camera; the champion's may be empty or missing.
        out: likewise, of what is kept.
        params: sections train (how footage is cut), gate and alarms.per_hour count.
        withdrawn: versions that somebody has taken back; none of them is promoted again.
        marks: what people said of events. Where candidate and champion are wrong about a different number of them, that
            decides; where about as many, what is held out does.

    Returns:
        The table `promotions`: a row a camera and measure.
    """
    kept: set[Path] = set()
    rows = []
    cameras = sorted({*cameras_in(candidate), *cameras_in(champion)})
    for camera_id in cameras:
        new, old = camera_dir(candidate, camera_id), camera_dir(champion, camera_id)
        card, other = (load_card(path) if (path / CARD).is_file() else None for path in (new, old))
        blocks = training_blocks(features, training, camera_id, params, marks)
        marked = find_marked(features, marks, camera_id, _LEAD_ROWS)
        if card and other and card["version"] in withdrawn and card["version"] != other["version"]:
            decision = _Decision(False, "the champion stays: this candidate was taken back by `vidrnn rollback`")
        else:
            decision = _decide(card, other, (new, old), blocks, marked, params)
        kept |= _copy(new if decision.promoted else old, camera_dir(out, camera_id))
        print(f"gate {camera_id}: {decision.reason}", flush=True)
        common = {
            "camera_id": camera_id,
            "candidate_version": card["version"] if card else "",
            "champion_version": other["version"] if other else None,
            "promoted": decision.promoted,
            "reason": decision.reason,
        }
        heldout = {
            "measure": MEASURE,
            "candidate_value": decision.candidate_value,
            "champion_value": decision.champion_value,
            "difference_low": decision.low,
            "difference_high": decision.high,
        }
        rows.append({**common, **heldout})
        if decision.mistakes is not None:
            mistakes = dict(zip(("candidate_value", "champion_value"), map(float, decision.mistakes), strict=True))
            rows.append({**common, "measure": FEEDBACK, **mistakes})
    fates = out / "cameras.json"
    write_json(fates, json.loads((candidate / "cameras.json").read_text(encoding="utf-8")))
    remove_orphans(out, kept | {fates})
    return pa.Table.from_pylist(rows, schema=SCHEMAS["promotions"])


def _decide(
    candidate: Card | None,
    champion: Card | None,
    folders: tuple[Path, Path],
    blocks: list[Block],
    marked: list[Marked],
    params: Params,
) -> _Decision:
    if champion is None:
        return _Decision(True, "promoted: there is no earlier model of this camera")
    if candidate is None:
        return _Decision(False, "the champion stays: tonight there is too little footage to train a candidate")
    if candidate["version"] == champion["version"]:
        return _Decision(True, "the candidate is the champion, to the last bit")
    for key, words in _COMPARABLE.items():
        if candidate.get(key) != champion.get(key):
            return _Decision(True, f"promoted: the champion was made with other {words}, so the two cannot be compared")
    models = [load_camera_model(folder) for folder in folders]
    heldout = _by_heldout(candidate, champion, models, blocks, params.gate.confidence)
    if not marked:
        return heldout
    new, old = (sum(_is_wrong(model, found, params.alarms.per_hour) for found in marked) for model in models)
    words = f"it is wrong about {new} of {len(marked)} marked events, the champion about {old}"
    if new == old:
        return replace(heldout, mistakes=(new, old), reason=f"{heldout.reason}; {words}")
    told = f"promoted: {words}" if new < old else f"the champion stays: the candidate is worse: {words}"
    return replace(heldout, mistakes=(new, old), promoted=new < old, reason=told)


def _by_heldout(
    candidate: Card, champion: Card, models: list[CameraModel], blocks: list[Block], confidence: float
) -> _Decision:
    """By the likelihood of ordinary footage that neither was fitted to."""
    seen = {*candidate["footage"]["fit"], *champion["footage"]["fit"]}
    held_out = [block for block in blocks if block.key not in seen]
    if len(held_out) < 2:
        return _Decision(True, "promoted: fewer than two blocks of footage are new to both, too few to compare them")
    values = np.array([[_nll(model, block) for block in held_out] for model in models])
    low, high = _interval(values[0] - values[1], confidence)
    mean, before = values.mean(1)
    words = f"its surprise at {len(held_out)} held-out blocks is {mean:.3f} against {before:.3f}"
    interval = f"difference {low:+.3f} to {high:+.3f}"
    if low > 0:
        return _Decision(
            False, f"the champion stays: the candidate is worse: {words}, {interval}", mean, before, low, high
        )
    return _Decision(True, f"promoted: the candidate is not worse: {words}, {interval}", mean, before, low, high)


def _is_wrong(model: CameraModel, found: Marked, per_hour: float) -> bool:
    """Whether a model raises an alarm at what is marked as normal, or none at what is marked as unusual."""
    assert model.calibration is not None
    block = found.block()
    times, _ = block_times(block)
    stretches = observe(model, CellReader(), block.path, times, block.start, block.stop)
    raw = np.concatenate([model.calibration.questions.score(stretch.maps).max((1, 2)) for _, stretch in stretches])
    score = causal_average(raw, times[block.start : block.stop], model.smoothing_seconds)
    seen = score[found.start - found.first : found.stop - found.first]
    alarm = bool((seen > model.calibration.tail.threshold(per_hour)).any())
    return alarm == (found.mark.verdict == NORMAL)


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


def _copy(source: Path, target: Path) -> set[Path]:
    written = set()
    for name in (WEIGHTS, CARD):
        with replacing(target / name) as partial:
            shutil.copyfile(source / name, partial)
        written.add(target / name)
    return written
