"""The gate: a candidate replaces the champion unless it is worse on the same footage, beyond the interval."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch

from vidrnn.cards import CARD, WEIGHTS, camera_dir, cameras_in, load_card
from vidrnn.contest import SURPRISE, Measure, Side, on_labels, on_marks, on_ordinary
from vidrnn.device import choose_device
from vidrnn.feedback import Mark
from vidrnn.marked import find_marked
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.score import load_camera_model
from vidrnn.storage import remove_orphans, replacing, write_json
from vidrnn.train import training_blocks

Card = dict[str, Any]
_LEAD_ROWS = 150  # before the end of a marked event, so that the network has seen what led to it
# Parts of the card in which two models must agree for one measure to judge both.
_COMPARABLE = {"channels": "features", "use": "horizons, averages or cameras", "blocks": "blocks of footage"}


class _Decision(NamedTuple):
    promoted: bool
    reason: str
    measures: Sequence[Measure] = ()


def gate(
    features: Path,
    training: pa.Table,
    candidate: Path,
    champion: Path,
    out: Path,
    params: Params,
    withdrawn: frozenset[str] = frozenset(),
    marks: Sequence[Mark] = (),
    labelled: pa.Table = SCHEMAS["labelled"].empty_table(),  # noqa: B008 (tables do not change)
) -> pa.Table:
    """Write the better model of each camera below `out`. Other files beside the models do not count.

    Args:
        features: root of the feature files.
        training: the table `training`.
        candidate, champion: roots of a model folder a camera; the champion's may be empty or missing.
        out: likewise, of what is kept.
        params: sections train (how footage is cut), device, gate, alarms and evaluate (how videos are drawn) count.
        withdrawn: versions that somebody has taken back; none of them is promoted again.
        marks: what people said of events. Where candidate and champion are wrong about a different number of them, that
            decides; where about as many, what is held out and what is labelled do.
        labelled: the table `labelled`.

    Returns:
        The table `promotions`: a row a camera and measure.
    """
    torch.set_num_threads(1)  # threads wait for each other where other work goes on: seconds become half a minute
    kept: set[Path] = set()
    rows = []
    device = choose_device(params.device)
    for camera_id in sorted({*cameras_in(candidate), *cameras_in(champion)}):
        new, old = camera_dir(candidate, camera_id), camera_dir(champion, camera_id)
        card, other = (load_card(path) if (path / CARD).is_file() else None for path in (new, old))
        decision = _without_measuring(card, other, withdrawn)
        if decision is None:
            assert card and other
            sides = Side(load_camera_model(new, device), card), Side(load_camera_model(old, device), other)
            decision = _measure(sides, features, training, labelled, camera_id, params, marks)
        kept |= _copy(new if decision.promoted else old, camera_dir(out, camera_id))
        print(f"gate {camera_id}: {decision.reason}", flush=True)
        common = {
            "camera_id": camera_id,
            "candidate_version": card["version"] if card else "",
            "champion_version": other["version"] if other else None,
            "promoted": decision.promoted,
            "reason": decision.reason,
        }
        # A row of nulls where nothing was measured.
        rows += [{**common, **_row(measure)} for measure in decision.measures] or [{**common, "measure": SURPRISE}]
    fates = out / "cameras.json"
    write_json(fates, json.loads((candidate / "cameras.json").read_text(encoding="utf-8")))
    remove_orphans(out, kept | {fates})
    return pa.Table.from_pylist(rows, schema=SCHEMAS["promotions"])


def _row(measure: Measure) -> dict[str, Any]:
    return {
        "measure": measure.name,
        "candidate_value": measure.candidate,
        "champion_value": measure.champion,
        "difference_low": measure.low,
        "difference_high": measure.high,
    }


def _without_measuring(candidate: Card | None, champion: Card | None, withdrawn: frozenset[str]) -> _Decision | None:
    """The decision where nothing needs to be measured, or nothing can be; None where they are to compete."""
    if champion is None:
        return _Decision(True, "promoted: there is no earlier model of this camera")
    if candidate is None:
        return _Decision(False, "the champion stays: tonight there is too little footage to train a candidate")
    if candidate["version"] == champion["version"]:
        return _Decision(True, "the candidate is the champion, to the last bit")
    if candidate["version"] in withdrawn:
        return _Decision(False, "the champion stays: this candidate was taken back by `vidrnn rollback`")
    if "windows" not in champion:
        return _Decision(True, "promoted: the champion was made by earlier code, so the two cannot be compared")
    for key, words in _COMPARABLE.items():
        if candidate.get(key) != champion.get(key):
            return _Decision(True, f"promoted: the champion was made with other {words}, so the two cannot be compared")
    return None


def _measure(
    sides: tuple[Side, Side],
    features: Path,
    training: pa.Table,
    labelled: pa.Table,
    camera_id: str,
    params: Params,
    marks: Sequence[Mark],
) -> _Decision:
    """Let the two compete on ordinary footage that neither was fitted to, on what is labelled and what is marked.

    What one of them left out since it stood out is no fair sample of what is ordinary, unless it was held out anyway.
    """
    footage = [side.card["footage"] for side in sides]
    judging = {key for own in footage for key in own.get("held_out", ())}
    stood_out = {key for own in footage for key in own.get("trimmed", ())}  # of earlier code nothing did
    other = {key for own in footage for key in own["fit"]} | stood_out - judging
    blocks = training_blocks(features, training, camera_id, params, marks)
    held_out = [block for block in blocks if block.key not in other]
    measures = on_ordinary(sides, held_out, params) if len(held_out) > 1 else []
    if (ranked := on_labels(sides, features, labelled, camera_id, params)) is not None:
        measures.append(ranked)
    few = "fewer than two blocks of footage are new to both, too few to compare them"
    told = "; ".join([*([few] if len(held_out) < 2 else []), *(measure.words for measure in measures)])
    if marked := find_marked(features, marks, camera_id, _LEAD_ROWS):
        mistakes = on_marks(sides, marked, params.alarms.per_hour)
        measures.append(mistakes)
        if mistakes.candidate != mistakes.champion:  # people know best
            promoted = not mistakes.worse
            begin = "promoted" if promoted else "the champion stays: the candidate is worse"
            return _Decision(promoted, f"{begin}: {mistakes.words}", measures)
        told = f"{told}; {mistakes.words}"
    if worse := [measure.words for measure in measures if measure.worse]:
        return _Decision(False, f"the champion stays: the candidate is worse: {'; '.join(worse)}", measures)
    begin = "promoted: the candidate is not worse" if len(held_out) > 1 else "promoted"
    return _Decision(True, f"{begin}: {told}", measures)


def _copy(source: Path, target: Path) -> set[Path]:
    written = set()
    for name in (WEIGHTS, CARD):
        with replacing(target / name) as partial:
            shutil.copyfile(source / name, partial)
        written.add(target / name)
    return written
