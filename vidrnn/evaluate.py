"""Measure: the tables, the models' cards and the labels become figures with intervals, and curves.

A score holds until the next analysed frame, and everything is measured over all source frames of every scored video
that could be read, warm-up included, on one global scale. Figures of alarms use the alarms as they were raised, figures
of events the table `events`, figures of places the scores of cells. Without labels there are still the hours of footage
and the false alarms promised and seen on held-out ordinary footage.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vidrnn.calibration import Calibration, HeldOut
from vidrnn.cards import CARD, camera_dir, load_card
from vidrnn.comparison import BIN_WIDTH, BINS, Labelled, Located, Objects, Video, measure_video
from vidrnn.errors import CheckpointError
from vidrnn.feedback import NORMAL, UNUSUAL, Mark
from vidrnn.labels import Labels, load_labels
from vidrnn.metrics import (
    Confusion,
    Curve,
    EventCounts,
    Ints,
    Pointing,
    ResampledDetection,
    ResampledRanking,
    auroc,
    auroc_macro,
    average_precision,
    average_precision_of_boxes,
    base_rate,
    bootstrap_interval,
    equal_error_rate,
    minmax_per_video,
    poisson_interval,
    precision_recall_curve,
    ratio,
    roc_curve,
    smooth_gaussian,
)
from vidrnn.params import EvaluateParams, Params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, replacing, video_path, write_json, write_table

ALL_CAMERAS = "*"
CURVE_POINTS = 400
PROMISES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # false alarms an hour, that calibration is shown for
DIGITS = 6  # of every figure that is written
GAUSSIAN_SIGMA_FRAMES = 10.0  # of the column for comparison with papers; fixed, not chosen on any labels


@dataclass(frozen=True)
class Evaluation:
    """What the stage writes.

    Attributes:
        metrics: the table.
        summary: all cameras together, and under `cameras` each.
        roc, precision_recall: of frames.
        histogram: (2, BINS) source frames by score: ordinary ones, or all without labels, and unusual ones.
        calibration: rows of promised and seen false alarms an hour, and the interval of the latter.
        model_versions: by camera.
    """

    metrics: pa.Table
    summary: dict[str, Any]
    roc: Curve
    precision_recall: Curve
    histogram: Ints
    calibration: list[tuple[float, float, float, float]]
    model_versions: dict[str, str]


class _Figure(NamedTuple):
    """A value, NaN where undefined, and its interval if it has one; `num_videos` is 0 if it is not of the footage."""

    value: float | int | bool
    num_videos: int
    interval: dict[str, float | int] | None = None


@dataclass(frozen=True)
class _Card:
    """What a camera's model says of itself, also on `hours` of held-out ordinary footage, in `blocks`."""

    version: str
    threshold: float
    hours: float
    blocks: list[HeldOut]
    nll: float

    def alarms(self, per_hour: float) -> int:
        """How many false alarms, merged to events, a threshold that promises `per_hour` raises there."""
        return sum(block.alarms(per_hour) for block in self.blocks)


def evaluate(
    features_dir: Path,
    scores_dir: Path,
    tables_dir: Path,
    model_dir: Path,
    labels_dir: Path,
    params: Params,
    marks: Sequence[Mark] = (),
) -> Evaluation:
    """Measure every camera and all of them together.

    Args:
        features_dir, scores_dir: with the moving regions and the cell scores, read only against regions.csv.
        tables_dir: with videos.parquet and the per-video folders frames and events.
        model_dir: with a folder a camera; one without a folder has no model.
        labels_dir: label files, or an empty folder.
        params: the sections alarms and evaluate.
        marks: what people said of events.

    Raises:
        LabelsError: a label file is wrong.
        SchemaError: a table is missing, damaged or contradicts itself.
        CheckpointError: a model's card is damaged.
    """
    rows = read_table(tables_dir / "videos.parquet", SCHEMAS["videos"])
    labels = load_labels(labels_dir, rows)
    facts = sorted(rows.to_pylist(), key=lambda row: (row["camera_id"], row["video_id"]))
    roots = features_dir, scores_dir, tables_dir
    by_id = {row["video_id"]: measure_video(roots, row, labels) for row in facts}
    videos = {name: video for name, video in by_id.items() if video is not None}
    cameras = sorted({row["camera_id"] for row in facts})
    cards = {camera: card for camera in cameras if (card := _read_card(model_dir, camera, params.alarms.per_hour))}

    figures: dict[str, dict[str, _Figure]] = {}
    for camera in (ALL_CAMERAS, *cameras):
        mine = [row for row in facts if camera in (ALL_CAMERAS, row["camera_id"])]
        measured = [videos[row["video_id"]] for row in mine if row["video_id"] in videos]
        unmeasured = [row["video_id"] for row in mine if row["video_id"] not in videos]
        figures[camera] = {
            **_footage_figures(labels, measured, unmeasured, sum(row["scored"] for row in mine)),
            **_heldout_figures([card for name, card in cards.items() if camera in (ALL_CAMERAS, name)], params),
        }
        figures[camera] |= _feedback_figures(tables_dir, mine, marks)
        if labels.events is not None:
            figures[camera] |= _label_figures([v.labelled for v in measured if v.labelled], params.evaluate)
        if labels.regions is not None:
            figures[camera] |= _place_figures([v.located for v in measured if v.located], params.evaluate)
        if judged := [v.objects for v in measured if v.objects]:
            figures[camera] |= _object_figures(judged, params.evaluate)
        if camera in cards:
            figures[camera]["threshold"] = _Figure(cards[camera].threshold, 0)

    labelled = [video.labelled for video in videos.values() if video.labelled]
    unusual, score = _join(labelled, "unusual"), _join(labelled, "score")
    return Evaluation(
        metrics=_metrics_table(figures),
        summary={**_nested(figures[ALL_CAMERAS]), "cameras": {c: _nested(figures[c]) for c in cameras}},
        roc=roc_curve(unusual, score, CURVE_POINTS),
        precision_recall=precision_recall_curve(unusual, score, CURVE_POINTS),
        histogram=sum((video.histogram for video in videos.values()), np.zeros((2, BINS), np.int64)),
        calibration=_calibration(list(cards.values()), params),
        model_versions={camera: card.version for camera, card in cards.items()},
    )


def write_evaluation(
    evaluation: Evaluation, metrics_path: Path, summary_path: Path, cameras_path: Path, curves_dir: Path
) -> None:
    """Write the table, the JSON for `dvc metrics` and that of each camera, and the CSV files for `dvc plots`."""
    versions = json.dumps(evaluation.model_versions, sort_keys=True)
    write_table(metrics_path, evaluation.metrics, SCHEMAS["metrics"], {"model_versions": versions})
    summary = dict(evaluation.summary)
    cameras = {
        camera: figures | {"model_version": evaluation.model_versions.get(camera)}
        for camera, figures in summary.pop("cameras").items()
    }
    write_json(cameras_path, cameras)
    write_json(summary_path, summary)
    _write_csv(curves_dir / "roc.csv", "fpr,tpr", zip(evaluation.roc.x, evaluation.roc.y, strict=True))
    pairs = zip(evaluation.precision_recall.x, evaluation.precision_recall.y, strict=True)
    _write_csv(curves_dir / "pr.csv", "recall,precision", pairs)
    ordinary, unusual = evaluation.histogram / np.maximum(evaluation.histogram.sum(1, keepdims=True), 1)
    last = int(np.flatnonzero(evaluation.histogram.any(0)).max(initial=-1)) + 1
    shares = zip(np.arange(last) * BIN_WIDTH, ordinary[:last], unusual[:last], strict=True)
    _write_csv(curves_dir / "scores.csv", "score,ordinary,unusual", shares)
    _write_csv(curves_dir / "calibration.csv", "promised,seen,low,high", evaluation.calibration)


def _feedback_figures(tables_dir: Path, facts: list[dict[str, Any]], marks: Sequence[Mark]) -> dict[str, _Figure]:
    """Of the events that somebody marked and whose footage is here: how many, and how many of them raise an alarm."""
    rows = {row["sha256"]: row for row in facts}
    alarmed: dict[str, list[bool]] = {NORMAL: [], UNUSUAL: []}
    for mark in marks:
        row = rows.get(mark.sha256)
        path = None if row is None else video_path(tables_dir / "frames", row["camera_id"], row["video_id"])
        if path is None or not path.is_file():
            continue
        frames = read_table(path, SCHEMAS["frames"], ["pts", "alarm"])
        pts, alarm = frames["pts"].to_numpy(), frames["alarm"].to_numpy()
        within = (mark.onset_pts <= pts) & (pts < mark.offset_pts)
        alarmed[mark.verdict].append(bool(alarm[within].any()))
    figures = {}
    for verdict, seen in alarmed.items():
        if seen:
            figures[f"num_marked_{verdict}"] = _Figure(len(seen), 0)
            figures[f"marked_{verdict}_alarmed"] = _Figure(sum(seen), 0)
    return figures


def _read_card(model_dir: Path, camera_id: str, per_hour: float) -> _Card | None:
    """The card of a camera's model at a rate of false alarms; None where the camera has no model."""
    directory = camera_dir(model_dir, camera_id)
    if not directory.exists():
        return None
    card = load_card(directory)
    try:
        heldout = card["heldout"]
        return _Card(
            version=str(card["version"]),
            threshold=Calibration.from_json(card["calibration"]).tail.threshold(per_hour),
            hours=float(heldout["hours"]),
            blocks=[HeldOut.from_json(block) for block in heldout["blocks"]],
            nll=float(heldout["nll"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{directory / CARD}: expected a model's card, found {type(error).__name__} at {error}; "
            "run `dvc repro` or `dvc pull`"
        ) from None


# Figures


def _footage_figures(
    labels: Labels, measured: Sequence[Video], unmeasured: Sequence[str], num_scored: int
) -> dict[str, _Figure]:
    tables = [table for table in (labels.events, labels.regions, labels.objects) if table is not None]
    ignored = sum(int(table["video"].isin(list(unmeasured)).sum()) for table in tables)
    ignored += sum(video.labels_ignored for video in measured)
    count = len(measured)
    return {
        "labels": _Figure(bool(tables), count),
        "labels_ignored": _Figure(ignored, count),
        "hours": _Figure(math.fsum(video.hours for video in measured), count),
        "num_videos": _Figure(count, count),
        "num_videos_unmeasured": _Figure(num_scored - count, count),
        "num_frames": _Figure(sum(video.num_frames for video in measured), count),
    }


def _heldout_figures(cards: Sequence[_Card], params: Params) -> dict[str, _Figure]:
    """The rate of false alarms promised, and the one seen on held-out ordinary footage."""
    hours = math.fsum(card.hours for card in cards)
    alarms = sum(card.alarms(params.alarms.per_hour) for card in cards)
    low, high = poisson_interval(alarms, hours, params.evaluate.confidence)
    return {
        "alarms_per_hour_promised": _Figure(params.alarms.per_hour, 0),
        "alarms_per_hour_heldout": _Figure(ratio(alarms, hours), 0, {"low": low, "high": high}),
        "heldout_alarms": _Figure(alarms, 0),
        "heldout_hours": _Figure(hours, 0),
        "heldout_nll": _Figure(ratio(math.fsum(card.nll * card.hours for card in cards), hours), 0),
    }


def _calibration(cards: Sequence[_Card], params: Params) -> list[tuple[float, float, float, float]]:
    """(promised, seen, low, high) false alarms an hour on held-out ordinary footage; nothing without any."""
    hours = math.fsum(card.hours for card in cards)
    rows: list[tuple[float, float, float, float]] = []
    for promised in PROMISES if hours else ():
        alarms = sum(card.alarms(promised) for card in cards)
        rows.append((promised, alarms / hours, *poisson_interval(alarms, hours, params.evaluate.confidence)))
    return rows


def _label_figures(videos: Sequence[Labelled], params: EvaluateParams) -> dict[str, _Figure]:
    """Every measure against events.csv."""
    count = len(videos)

    def figure(value: float, statistic: Callable[[Ints], float]) -> _Figure:
        return _resampled(value, statistic, count, params)

    def counted(kind: type[Confusion] | type[EventCounts], counts: Sequence[tuple[int, ...]], name: str) -> _Figure:
        of_video = np.array(counts, dtype=np.int64).reshape(count, 4)

        def statistic(drawn: Ints) -> float:
            return float(getattr(kind(*(drawn @ of_video).tolist()), name))

        return figure(statistic(np.ones(count, dtype=np.int64)), statistic)

    unusual, score, score_raw = _join(videos, "unusual"), _join(videos, "score"), _join(videos, "score_raw")
    gauss = _concatenate([smooth_gaussian(video.score_raw, GAUSSIAN_SIGMA_FRAMES) for video in videos])
    minmax = _concatenate([minmax_per_video(video.score) for video in videos])
    video_index = np.repeat(np.arange(count), [video.score.size for video in videos])
    ema = ResampledRanking(unusual, score, video_index)

    per_video = [auroc(video.unusual, video.score) for video in videos]
    macro, num_defined = auroc_macro([(video.unusual, video.score) for video in videos])
    frames = [video.frames for video in videos]
    events = [video.events for video in videos]
    return {
        "auroc_micro_ema": figure(auroc(unusual, score), ema.auroc),
        "auroc_micro_raw": figure(auroc(unusual, score_raw), ResampledRanking(unusual, score_raw, video_index).auroc),
        "auroc_micro_gauss": figure(auroc(unusual, gauss), ResampledRanking(unusual, gauss, video_index).auroc),
        "auroc_micro_minmax": figure(auroc(unusual, minmax), ResampledRanking(unusual, minmax, video_index).auroc),
        "auroc_macro": figure(macro, lambda drawn: _mean_of_defined(per_video, drawn))._replace(num_videos=num_defined),
        "ap": figure(average_precision(unusual, score), ema.average_precision),
        "ap_base_rate": _Figure(base_rate(unusual), count),
        "eer": figure(equal_error_rate(unusual, score), ema.equal_error_rate),
        **{name: counted(Confusion, frames, name) for name in ("accuracy", "precision", "recall", "f1")},
        **{f"event_{name}": counted(EventCounts, events, name) for name in ("precision", "recall")},
        "num_events_predicted": _Figure(sum(e.predicted for e in events), count),
        "num_events_labelled": _Figure(sum(e.labelled for e in events), count),
    }


def _place_figures(videos: Sequence[Located], params: EvaluateParams) -> dict[str, _Figure]:
    """Every measure against regions.csv."""
    count = len(videos)

    def figure(statistic: Callable[[Ints], float]) -> _Figure:
        return _resampled(statistic(np.ones(count, dtype=np.int64)), statistic, count, params)

    hits = np.array([video.pointing for video in videos], dtype=np.int64).reshape(count, 2)
    false, num_frames = [video.false for video in videos], [video.num_frames for video in videos]
    return {
        "pointing": figure(lambda drawn: Pointing(*(drawn @ hits).tolist()).accuracy),
        "rbdc": figure(ResampledDetection([video.regions for video in videos], false, num_frames).area),
        "tbdc": figure(ResampledDetection([video.tracks for video in videos], false, num_frames).area),
    }


def _object_figures(videos: Sequence[Objects], params: EvaluateParams) -> dict[str, _Figure]:
    """Every measure against objects.csv, at an overlap of OBJECT_OVERLAP."""
    count = len(videos)
    counts = np.array([(video.hits.sum(), len(video.hits), video.num_true) for video in videos], dtype=np.int64)

    def f1(drawn: Ints) -> float:
        hits, detected, true = (drawn @ counts).tolist()
        return ratio(2 * hits, detected + true)

    hits, detected, true = counts.sum(0).tolist()
    ranked = _concatenate([video.hits for video in videos]), _concatenate([video.sure for video in videos])
    return {
        "object_f1": _resampled(f1(np.ones(count, dtype=np.int64)), f1, count, params),
        "object_precision": _Figure(ratio(hits, detected), count),
        "object_recall": _Figure(ratio(hits, true), count),
        "object_ap": _Figure(average_precision_of_boxes(*ranked, true), count),
        "num_objects_labelled": _Figure(true, count),
    }


def _resampled(value: float, statistic: Callable[[Ints], float], count: int, params: EvaluateParams) -> _Figure:
    interval = bootstrap_interval(count, statistic, params.resamples, params.confidence, params.seed)
    return _Figure(value, count, interval._asdict())


def _mean_of_defined(values: Sequence[float], drawn: Ints) -> float:
    defined = ~np.isnan(values)
    return ratio(float(drawn[defined] @ np.asarray(values)[defined]), int(drawn[defined].sum()))


# Writing


def _metrics_table(figures: dict[str, dict[str, _Figure]]) -> pa.Table:
    rows = []
    for camera, named in figures.items():
        for name, figure in named.items():
            interval = figure.interval or {}
            rows.append(
                {
                    "camera_id": camera,
                    "name": name,
                    "value": _rounded(float(figure.value)),
                    "low": _rounded(interval.get("low", float("nan"))),
                    "high": _rounded(interval.get("high", float("nan"))),
                    "num_videos": figure.num_videos,
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMAS["metrics"])


def _nested(figures: dict[str, _Figure]) -> dict[str, Any]:
    """Figures by name: a number, or a number with its interval; undefined is null."""
    return {
        name: _rounded(figure.value)
        if figure.interval is None
        else {"value": _rounded(figure.value), **{key: _rounded(bound) for key, bound in figure.interval.items()}}
        for name, figure in figures.items()
    }


def _rounded(value: float | int | bool) -> float | int | bool | None:
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if math.isfinite(value) else None


def _write_csv(path: Path, header: str, rows: Iterable[Iterable[float]]) -> None:
    lines = [",".join(f"{value:.{DIGITS}f}" for value in row) for row in rows]
    with replacing(path) as partial:
        partial.write_text("\n".join([header, *dict.fromkeys(lines)]) + "\n", encoding="utf-8")


def _join(videos: Sequence[Labelled], column: str) -> Any:
    return _concatenate([getattr(video, column) for video in videos])


def _concatenate(parts: Sequence[Any]) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0)
