"""The quality table: the whole path on labelled footage with the project's own params, over several seeds.

    python -m benchmarks.quality --data DIR [DIR ...] [--seeds N] [--json FILE]

Each DIR holds `videos/` (training clips below a folder named train, test clips below one named test) and `labels/`.
Nothing is chosen by labels: global score scale, threshold and epoch from ordinary footage alone. The
headline is `auroc_micro_ema`, causal; the columns after it marked * use the future and stand here for comparison with
papers.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrnn.errors import VidrnnError
from vidrnn.evaluate import evaluate
from vidrnn.extract import extract_features
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.params import Params, load_params
from vidrnn.score import score_videos
from vidrnn.tables import make_tables
from vidrnn.train import train

COLUMNS = {
    "auroc_micro_ema": "AUROC",
    "auroc_micro_raw": "raw",
    "auroc_macro": "macro",
    "ap": "AP",
    "eer": "EER",
    "auroc_micro_gauss": "Gauss*",
    "auroc_micro_minmax": "min-max*",
    "train_seconds": "train s",
    "frames_per_second": "frames/s",
}


def main(data: list[Path], seeds: int = 3, json_path: Path | None = None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    rows: list[dict[str, Any]] = []
    for directory in data:
        runs = _runs(directory, load_params(), seeds)
        for column in COLUMNS:
            values = [run[column] for run in runs]
            row = {"data": directory.name, "method": "vidrnn", "column": column, "seeds": seeds}
            rows.append(row | _spread(values))
    print("\n| data | " + " | ".join(COLUMNS.values()) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    for directory in data:
        cells = [_cell(row) for row in rows if row["data"] == directory.name]
        print(f"| {directory.name} | " + " | ".join(cells) + " |")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _runs(directory: Path, params: Params, seeds: int) -> list[dict[str, float]]:
    videos, labels = directory / "videos", directory / "labels"
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
        training = extract_features(videos, index, params.features, root / "features")
        for seed in range(seeds):
            seeded = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
            start = time.monotonic()
            train(root / "features", training, seeded, root / "candidate")
            trained = time.monotonic()
            gate(root / "features", training, root / "candidate", root / "champion", root / "model", seeded)
            scoring = time.monotonic()
            score_videos(index, root / "features", root / "model", root / "scores")
            scored = time.monotonic()
            made = root / "features", root / "model", root / "scores"
            make_tables(videos, index, *made, seeded.alarms, root / "tables", root / "media")
            summary = evaluate(
                root / "features", root / "scores", root / "tables", root / "model", labels, seeded
            ).summary
            run = {name: summary[name]["value"] for name in COLUMNS if name in summary}
            run |= {
                "train_seconds": trained - start,
                "frames_per_second": summary["num_frames"] / (scored - scoring),
            }
            print(f"{directory.name} seed {seed}: " + "  ".join(f"{k} {v:.4f}" for k, v in run.items()), flush=True)
            runs.append(run)
    return runs


def _spread(values: list[float]) -> dict[str, float]:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.fmean(values)
    return {"value": mean, "low": mean - sd, "high": mean + sd}


def _cell(row: dict[str, Any]) -> str:
    if row["column"] in ("train_seconds", "frames_per_second"):
        return f"{row['value']:.0f}"
    return f"{row['value']:.3f} ± {(row['high'] - row['low']) / 2:.3f}"


def _command(
    data: Annotated[list[Path], typer.Option("--data", help="Folder with videos/ and labels/; may be repeated.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings a data set.")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        main(data, seeds, json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
