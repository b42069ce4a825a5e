"""Does memory find changes? Generated scenes (`scenes.py`), the network against itself with its memory cut.

    python -m benchmarks.changes --scratch DIR [--dev] [--seeds N] [--json FILE]

A seed draws its own footage and trains its own network with the project's params; nothing is chosen by labels. AUROC is
micro, causal (`score`), of the labelled frames of a kind against all ordinary frames of the test footage. What follows
a change, until all is as before, counts in neither. Without `--dev` the seeds are those kept for the final table.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks.baselines import cut_memory
from benchmarks.scenes import CAMERA, DEV_SEEDS, FINAL_SEEDS, KINDS, Film, out_of_range, plan_films, render_films
from vidrnn.comparison import hold_until_next
from vidrnn.errors import VidrnnError
from vidrnn.extract import extract_features
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.metrics import Floats, auroc
from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.sources import stage_digest
from vidrnn.storage import digest, sha256_file, video_path
from vidrnn.train import train

METHODS = ("vidrnn", "memory_cut")
NEEDED = 0.05  # by which memory must be ahead
_OVERALL = "overall"
_Run = dict[str, dict[str, float]]  # AUROC by method and row


def main(scratch: Path, seeds: tuple[int, ...], json_path: Path | None = None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    runs = []
    rows = (*KINDS, _OVERALL)
    for seed in seeds:
        run = _run(seed, scratch)
        runs.append(run)
        told = [f"{row} {run['vidrnn'][row]:.3f} / {run['memory_cut'][row]:.3f}" for row in rows]
        print(f"changes seed {seed}: " + "  ".join(told), flush=True)
    print(f"\n| change | AUROC | memory cut | difference | at least {NEEDED} |\n|---|---|---|---|---|")
    for row in rows:
        full, cut = ([run[method][row] for run in runs] for method in METHODS)
        ahead = [a - b for a, b in zip(full, cut, strict=True)]
        met = "yes" if statistics.fmean(ahead) >= NEEDED else "no"
        print(f"| {row} | {_cell(full)} | {_cell(cut)} | {_cell(ahead, '+')} | {met} |")
    if json_path is not None:
        figures = [_row(runs, method, row) for method in METHODS for row in rows]
        json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _run(seed: int, scratch: Path) -> _Run:
    """Draw, train and score one seed; the footage and its features are kept below `scratch` and used again."""
    films = plan_films(seed)
    if told := out_of_range(films):
        raise ValueError(f"seed {seed}: these changes show in their speed alone: {'; '.join(told)}")
    made_by = stage_digest("demo", seed, ["av", "numpy", "opencv-python-headless"])
    root = scratch / digest([made_by, sha256_file(Path(__file__).with_name("scenes.py"))])[:12]
    if not (root / "labels" / "objects.csv").is_file():  # written last
        render_films(films, root)
    params = load_params()
    params = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
    index = index_videos(root / "videos", params.index, params.data.time_zone, root / "sha256.json")
    features = root / "features"
    training = extract_features(root / "videos", index, params.features, features)
    train(features, training, params, root / "candidate")
    gate(features, training, root / "candidate", root / "champion", root / "vidrnn", params)
    cut_memory(root / "vidrnn", features, training, params, root / "memory_cut")
    found: _Run = {}
    for method in METHODS:
        score_videos(index, features, root / method, root / "scores" / method, params.device)
        found[method] = measure(films, root / "scores" / method)
    return found


def measure(films: list[Film], scores_dir: Path) -> dict[str, float]:
    """AUROC of each kind of change, and of all of them, from the score files below `scores_dir`."""
    ordinary: list[Floats] = []
    unusual: dict[str, list[Floats]] = {kind: [] for kind in KINDS}
    for film in films:
        if film.plan.split != "test":
            continue
        video, num_frames = film.plan.video, film.plan.num_frames
        path = video_path(scores_dir, CAMERA, video)
        table = pq.read_table(path, columns=["frame_index", "score"], partitioning=None)
        held = hold_until_next(table["frame_index"].to_numpy(), num_frames, video)
        scores = table["score"].to_numpy()[held]
        ordinary.append(scores[film.is_ordinary()])
        for change in film.changes:
            unusual[change.kind].append(scores[change.onset : change.offset])
    usual = np.concatenate(ordinary)
    of_kind = {kind: np.concatenate(scores) for kind, scores in unusual.items()}
    rows = of_kind | {_OVERALL: np.concatenate(list(of_kind.values()))}
    return {
        row: auroc(np.arange(len(scores) + len(usual)) < len(scores), np.concatenate([scores, usual]))
        for row, scores in rows.items()
    }


def _cell(values: list[float], sign: str = "") -> str:
    return f"{statistics.fmean(values):{sign}.3f} ± {_sd(values):.3f}"


def _sd(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _row(runs: list[_Run], method: str, row: str) -> dict[str, Any]:
    values = [run[method][row] for run in runs]
    mean, sd = statistics.fmean(values), _sd(values)
    spread = {"value": mean, "low": mean - sd, "high": mean + sd, "seeds": len(runs)}
    return {"data": "changes", "method": method, "column": f"auroc_micro_ema_{row}", **spread}


def _command(
    scratch: Annotated[Path, typer.Option(help="Where footage and models are kept; may be used again.")],
    dev: Annotated[bool, typer.Option("--dev", help="The seeds of development.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=len(FINAL_SEEDS), help="How many of them.")] = len(FINAL_SEEDS),
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        main(scratch, (DEV_SEEDS if dev else FINAL_SEEDS)[:seeds], json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
