"""Ordinary footage that is not quite ordinary, or little of it: what the score of frames loses.

    python -m benchmarks.contamination --data DIR [--draws N]

Some test clips of DIR, with all that is unusual in them, are moved into training, and the network is trained anew.
Its causal AUROC on the clips that remain is compared with that of the network that never saw them. Then a quarter of
the training clips must do. The draws are fixed: the k-th is drawn with seed k. Features are extracted once.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from benchmarks.baselines import frames_of_scores
from vidrnn.errors import VidrnnError
from vidrnn.evaluate import evaluate
from vidrnn.extract import extract_features
from vidrnn.index import index_videos
from vidrnn.params import Params, load_params
from vidrnn.rescore import score_videos
from vidrnn.tables import make_tables
from vidrnn.train import train

MEASURE = "auroc_micro_ema"


class Case(NamedTuple):
    """What becomes of the footage: test clips that are moved into training, and the share of it that is kept."""

    moved: int
    share: float
    at_most: float  # of AUROC may be lost

    def words(self) -> str:
        """As the table says it."""
        if self.share < 1:
            return f"{self.share:.0%} of it"
        return f"{self.moved} test clip{'s' if self.moved > 1 else ''} in it"


CASES = (Case(1, 1.0, 0.01), Case(4, 1.0, 0.02), Case(0, 0.25, 0.02))


class Outcome(NamedTuple):
    """AUROC on the same clips."""

    clean: float
    changed: float


def main(data: list[Path], draws: int = 5) -> None:
    """Train and score every draw of every case, and print the table as Markdown."""
    rows = [row for directory in data for row in _measured(directory, load_params(), draws)]
    head = ("data", "training footage", "clean", "AUROC", "drop", "worst drop", "at most", "reached")
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


def changed(index: pa.Table, case: Case, draw: int) -> pa.Table:
    """The table `index` of a draw: what is moved trains and is not scored; what is not kept does not train."""
    rng = np.random.default_rng(draw)
    train_clips, test_clips = (
        sorted(index.filter(pc.field(role))["video_id"].to_pylist()) for role in ("trains", "scored")
    )
    moved = set(rng.permutation(test_clips)[: case.moved].tolist())
    kept = set(rng.permutation(train_clips)[: max(1, round(case.share * len(train_clips)))].tolist())
    rows = [
        row
        | {
            "trains": row["video_id"] in moved | kept,
            "scored": row["scored"] and row["video_id"] not in moved,
        }
        for row in index.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=index.schema)


def told(name: str, case: Case, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """A row of the table: means over draws, and whether the drop stays within the line in all, or on average."""
    drops = [outcome.clean - outcome.changed for outcome in outcomes]
    drop, worst = statistics.fmean(drops), max(drops)
    reached = "yes" if worst <= case.at_most else "on average" if drop <= case.at_most else "no"
    clean, value = (statistics.fmean(part) for part in zip(*outcomes, strict=True))
    figures = (f"{figure:.3f}" for figure in (clean, value, drop, worst))
    return name, case.words(), *figures, f"{case.at_most:.2f}", reached


def _measured(directory: Path, params: Params, draws: int) -> list[tuple[str, ...]]:
    videos, labels = directory / "videos", directory / "labels"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        features, clean = root / "features", root / "clean"
        index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
        everything = index.set_column(
            index.schema.get_field_index("trains"), index.schema.field("trains"), pa.array([True] * len(index))
        )
        could_train = extract_features(videos, everything, params.features, features)

        def scored(footage: pa.Table, out: Path) -> None:
            trains = footage.filter(pc.field("trains"))["video_id"]
            train(features, could_train.filter(pc.is_in(could_train["video_id"], trains)), params, out / "model")
            score_videos(footage, features, out / "model", out / "scores", params.device)

        def measured(footage: pa.Table, scores: Path, tables: Path) -> float:
            """On the clips that are scored in `footage`."""
            frames_of_scores(footage, scores, clean / "tables" / "videos.parquet", tables)
            made = features, scores, tables, root / "no model"
            value: float = evaluate(*made, labels, params).summary[MEASURE]["value"]
            return value

        scored(index, clean)
        made = features, clean / "model", clean / "scores"
        make_tables(videos, index, *made, params.alarms, clean / "tables", clean / "media")
        rows = []
        for number, case in enumerate(CASES):
            outcomes = []
            for draw in range(draws):
                footage, out = changed(index, case, draw), root / f"{number}-{draw}"
                scored(footage, out)
                outcome = Outcome(
                    measured(footage, clean / "scores", out / "clean tables"),
                    measured(footage, out / "scores", out / "tables"),
                )
                words = f"{outcome.changed:.4f} where the clean one has {outcome.clean:.4f}"
                print(f"{directory.name} {case.words()}, draw {draw}: {words}", flush=True)
                outcomes.append(outcome)
            rows.append(told(directory.name, case, outcomes))
    return rows


def _command(
    data: Annotated[list[Path], typer.Option("--data", help="Folder with videos/ and labels/; may be repeated.")],
    draws: Annotated[int, typer.Option(min=1, help="Trainings a case.")] = 5,
) -> None:
    try:
        main(data, draws)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
