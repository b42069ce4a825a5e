"""How the rows of the tables `metrics` and `promotions` are told to people: titles, words, and whether in per cent."""

import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table

GATE_MEASURES = {
    "heldout_nll": "Loss on held-out footage, less is better",
    "false_alarms_per_hour": "False alarms an hour on held-out footage, fewer is better",
    "score_drift": "How far apart the scores of the two are, 0 to 1",
    "feedback_mistakes": "Marked events that it gets wrong, fewer is better",
    "auroc": "Ranking of labelled frames (AUROC), more is better",
}


class Value(NamedTuple):
    """A measured value and its interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None


Figures = dict[str, dict[str, Value]]  # by camera and name


class Measure(NamedTuple):
    """How a row of `metrics` is told. A share of frames or events is shown in per cent."""

    name: str
    title: str
    words: str
    per_cent: bool = False
    for_papers: bool = False


MEASURES = (
    Measure("event_recall", "Unusual events found", "Of the events in the labels, how many were reported.", True),
    Measure("event_precision", "Reports that were right", "Of the events reported, how many are in the labels.", True),
    Measure(
        "auroc_micro_ema",
        "Ranking (AUROC)",
        "Draw an unusual and an ordinary frame: how often the unusual one has the higher score. "
        "1 is perfect, 0.5 is guessing. This is the score that alarms use.",
    ),
    Measure("auroc_macro", "Ranking within a video", "The same inside each video, then the mean over videos."),
    Measure(
        "ap",
        "Average precision",
        "How many of the highest-scored frames are unusual, over all places to draw the line. "
        "Guessing gives the share of unusual frames.",
    ),
    Measure("ap_base_rate", "Share of unusual frames", "What guessing would reach in the row above."),
    Measure(
        "eer",
        "Equal error rate",
        "Frames judged wrongly where the line is drawn so that misses and false alarms are as frequent. "
        "Less is better.",
        True,
    ),
    Measure("recall", "Unusual frames found", "Of the frames labelled unusual, how many raised an alarm.", True),
    Measure("precision", "Alarm frames that were right", "Of the frames with an alarm, how many are labelled.", True),
    Measure("f1", "F1 of frames", "The two rows above in one number; 1 is perfect."),
    Measure("accuracy", "Frames judged rightly", "High by itself where little is unusual; read it last.", True),
    Measure(
        "pointing", "Points at the right place", "How often the highest cell lies in a marked region, if any is.", True
    ),
    Measure(
        "rbdc",
        "Marked regions found (RBDC)",
        "Share of regions that a box meets by a tenth, over 0–1 false boxes a frame; 1 is perfect.",
    ),
    Measure(
        "tbdc", "Marked tracks found (TBDC)", "The same for tracks, of which a tenth of the regions must be found."
    ),
    Measure(
        "auroc_micro_gauss",
        "Ranking, smoothed both ways",
        "Smoothed with frames yet to come, which no live alarm could do.",
        for_papers=True,
    ),
    Measure(
        "auroc_micro_minmax",
        "Ranking, each video stretched",
        "Each video's scores stretched to 0–1, which needs its end and hides false alarms in quiet ones.",
        for_papers=True,
    ),
)


def read_figures(path: Path) -> Figures:
    """The table `metrics`. What is not in it is undefined, not an error."""
    figures: Figures = defaultdict(lambda: defaultdict(lambda: Value(None, None, None)))
    for row in read_table(path, SCHEMAS["metrics"]).to_pylist():
        figures[row["camera_id"]][row["name"]] = Value(*(_finite(row[key]) for key in ("value", "low", "high")))
    return figures


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
