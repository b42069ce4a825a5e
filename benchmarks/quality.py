"""The quality table: the whole path on labelled footage with the project's own params, over several seeds, and beside
it what it must beat on the same features.

    python -m benchmarks.quality --data DIR [DIR ...] [--seeds N] [--no-variants] [--json FILE]

Each DIR holds `videos/` (training clips below a folder named train, test clips below one named test) and `labels/`.
No weight, threshold or epoch is chosen by labels, and one score scale serves all clips; but how scores are formed was
compared on Ped2 while it was made (docs/benchmarks.md). The headline is `auroc_micro_ema`, causal; the columns after it
marked * use the future and stand here for comparison with papers. A second table has the false alarms that thresholds
of 1, 10 and 60 an hour allow for on the test frames that labels call ordinary, and those that came
(`benchmarks.calibration` says how they are counted).
"""

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from benchmarks.baselines import BASELINES, cut_memory, frames_of_scores, score_baseline
from benchmarks.calibration import PROMISES, rows_of, watched_calm
from vidrnn.cells import CELLS
from vidrnn.errors import VidrnnError
from vidrnn.evaluate import evaluate
from vidrnn.extract import extract_features
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.losses import LOSSES
from vidrnn.params import Params, load_params
from vidrnn.rescore import score_videos
from vidrnn.tables import make_tables
from vidrnn.train import train

PRODUCT = "vidrnn"
COLUMNS = {
    "auroc_micro_ema": "AUROC",
    "auroc_micro_raw": "raw",
    "auroc_macro": "macro",
    "ap": "AP",
    "eer": "EER",
    "pointing": "pointing",
    "rbdc": "RBDC",
    "tbdc": "TBDC",
    "auroc_micro_gauss": "Gauss*",
    "auroc_micro_minmax": "min-max*",
    "train_seconds": "train s",
    "frames_per_second": "frames/s",
}
ALARMS = {
    f"false_alarms_{part}_{promise:g}": f"{part} at {promise:g} an hour"
    for promise in PROMISES
    for part in ("promised", "seen")
}
LESS_IS_BETTER = ("eer",)
OF_TIME = ("train_seconds", "frames_per_second")
Runs = dict[str, list[dict[str, float]]]
"""By method, a run a seed, each a figure by column."""


def main(data: list[Path], seeds: int, variants: bool, json_path: Path | None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    rows = [
        row for directory in data for row in _rows(directory.name, _runs(directory, load_params(), seeds, variants))
    ]
    print("\n" + table(rows) + "\n\n" + alarms_table(rows))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _runs(directory: Path, params: Params, seeds: int, variants: bool) -> Runs:
    videos, labels = directory / "videos", directory / "labels"
    runs: Runs = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
        training = extract_features(videos, index, params.features, root / "features")
        for seed in range(seeds):
            seeded = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
            for method, run in _methods(videos, labels, index, training, seeded, root, variants).items():
                figures = run()
                print(f"{directory.name} seed {seed} {method}: {_words(figures)}", flush=True)
                runs[method].append(figures)
    return runs


def _methods(
    videos: Path, labels: Path, index: pa.Table, training: pa.Table, params: Params, root: Path, variants: bool
) -> dict[str, Callable[[], dict[str, float]]]:
    """What each row of the table runs, the network first, since its memory is cut and its table `videos` is used."""
    features, models = root / "features", root / PRODUCT / "model"

    def network(method: str, params: Params) -> dict[str, float]:
        own = root / method
        start = time.monotonic()
        train(features, training, params, own / "candidate")
        trained = time.monotonic()
        gate(features, training, own / "candidate", own / "champion", own / "model", params)
        scoring = time.monotonic()
        score_videos(index, features, own / "model", own / "scores", params.device)
        scored = time.monotonic()
        made = features, own / "model", own / "scores"
        make_tables(videos, index, *made, params.alarms, own / "tables", own / "media")
        summary = evaluate(features, own / "scores", own / "tables", own / "model", labels, params).summary
        seconds = {"train_seconds": trained - start, "frames_per_second": summary["num_frames"] / (scored - scoring)}
        figures = _figures(summary) | seconds
        return figures | _alarms(index, own, labels, params) if "auroc_micro_raw" in figures else figures

    def baseline(method: str) -> dict[str, float]:
        scores, tables = root / method / "scores", root / method / "tables"
        if method == "memory_cut":
            cut_memory(models, features, training, params, root / method / "model")
            score_videos(index, features, root / method / "model", scores, params.device)
        else:
            score_baseline(method, index, features, training, params, scores)
        frames_of_scores(index, scores, root / PRODUCT / "tables" / "videos.parquet", tables)
        return _figures(evaluate(features, scores, tables, root / "no model", labels, params).summary)

    networks = {PRODUCT: params} | (_variants(params) if variants else {})
    return {
        **{method: partial(network, method, own) for method, own in networks.items()},
        **{method: partial(baseline, method) for method in ("memory_cut", *BASELINES)},
    }


def _variants(params: Params) -> dict[str, Params]:
    """The same network with every other recurrent cell, and with every other loss."""

    def changed(section: str, key: str, value: str) -> Params:
        return params.model_copy(update={section: getattr(params, section).model_copy(update={key: value})})

    cells = {f"cell={cell}": changed("model", "cell", cell) for cell in CELLS if cell != params.model.cell}
    losses = {f"loss={loss}": changed("train", "loss", loss) for loss in LOSSES if loss != params.train.loss}
    return cells | losses


def _figures(summary: dict[str, Any]) -> dict[str, float]:
    """The columns that the footage's labels allow."""
    return {name: summary[name]["value"] for name in COLUMNS if summary.get(name, {}).get("value") is not None}


def _alarms(index: pa.Table, root: Path, labels: Path, params: Params) -> dict[str, float]:
    """False alarms on the calm frames of the test clips, by column: as many as promised, and as many as came."""
    rows = rows_of("", watched_calm(index, root, labels), params.alarms.merge_seconds)
    promised = {f"false_alarms_promised_{row.promised:g}": row.expected for row in rows}
    return promised | {f"false_alarms_seen_{row.promised:g}": float(row.seen) for row in rows}


def _words(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())


def _rows(data: str, runs: Runs) -> list[dict[str, Any]]:
    """A row a method and column: mean, and the mean less and plus a standard deviation over seeds."""
    return [
        {"data": data, "method": method, "column": column, "seeds": len(own)} | _spread([run[column] for run in own])
        for method, own in runs.items()
        for column in (*COLUMNS, *ALARMS)
        if all(column in run for run in own)
    ]


def _spread(values: list[float]) -> dict[str, float]:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.fmean(values)
    return {"value": mean, "low": mean - sd, "high": mean + sd}


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown, a line a method; a figure of another method that is better than the network's stands out."""
    lines = ["| data | method | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    figures = {(row["data"], row["method"], row["column"]): row for row in rows}
    beaten = False
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        cells = []
        for column in COLUMNS:
            row, best = figures.get((data, method, column)), figures.get((data, PRODUCT, column))
            better = row is not None and best is not None and column not in OF_TIME and _is_better(row, best)
            cells.append("" if row is None else f"**{_cell(row)}**" if better else _cell(row))
            beaten |= better
        lines.append(f"| {data} | {method} | " + " | ".join(cells) + " |")
    words = "Bold: better than the network with its memory." if beaten else "Nothing is better than the network."
    return "\n".join([*lines, "", words])


def alarms_table(rows: list[dict[str, Any]]) -> str:
    """As Markdown, a line a method that sets thresholds: false alarms on calm test frames, and how many may come."""
    lines = ["| data | method | " + " | ".join(ALARMS.values()) + " |", "|---" * (len(ALARMS) + 2) + "|"]
    figures = {(row["data"], row["method"], row["column"]): row["value"] for row in rows}
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows if row["column"] in ALARMS):
        cells = [f"{figures[data, method, column]:.1f}" for column in ALARMS]
        lines.append(f"| {data} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_better(row: dict[str, Any], other: dict[str, Any]) -> bool:
    ahead: float = row["value"] - other["value"]
    return ahead < 0 if row["column"] in LESS_IS_BETTER else ahead > 0


def _cell(row: dict[str, Any]) -> str:
    if row["column"] in OF_TIME:
        return f"{row['value']:.0f}"
    return f"{row['value']:.3f} ± {(row['high'] - row['low']) / 2:.3f}"


def _command(
    data: Annotated[list[Path], typer.Option("--data", help="Folder with videos/ and labels/; may be repeated.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings a data set.")] = 3,
    variants: Annotated[bool, typer.Option(help="Train every cell and every loss too.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        main(data, seeds, variants, json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
