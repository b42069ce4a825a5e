"""Whether a candidate that starts from the champion is as good as one from scratch, and how much sooner.

    python -m benchmarks.warm PROJECT [--camera C] [--epochs N...]

PROJECT is a checkout whose pipeline has run. The champion learns from the first three fifths of the camera's ordinary
videos, the two candidates from all of them, as on a later night; what is compared is what none of the three was fitted
to, and the labelled videos. Prints a row a number of epochs, and exits with 1 where the warm one is worse.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from vidrnn.cards import camera_dir, load_card
from vidrnn.contest import Side, on_labels, on_ordinary
from vidrnn.labelled import labelled_intervals
from vidrnn.params import Params, load_params
from vidrnn.schema import SCHEMAS
from vidrnn.score import load_camera_model
from vidrnn.storage import read_table
from vidrnn.train import train, training_blocks


def main(
    project: Annotated[Path, typer.Argument(help="A checkout with finished features.")],
    camera: Annotated[str, typer.Option(help="Whose footage.")] = "north-gate",
    epochs: Annotated[
        list[int] | None, typer.Option(help="Of the candidates; the champion has as params.yaml.")
    ] = None,
) -> None:
    """Train, compare, print."""
    params, features = load_params(), project / "data/features"
    rows = read_table(project / "data/training.parquet", SCHEMAS["training"]).to_pylist()
    own = sorted((row for row in rows if row["camera_id"] == camera), key=lambda row: str(row["video_id"]))
    everything, first = (pa.Table.from_pylist(part, SCHEMAS["training"]) for part in (own, own[: len(own) * 3 // 5]))
    labelled = labelled_intervals(
        project / params.data.labels, read_table(project / "data/index.parquet", SCHEMAS["index"])
    )
    worse = False
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        train(features, first, params, root / "champion")
        print("| epochs | measure | warm | from scratch | difference (95 %) | worse |\n|---|---|---|---|---|---|")
        for count in epochs or [params.train.epochs]:
            fewer = params.model_copy(update={"train": params.train.model_copy(update={"epochs": count})})
            for name, start in (("warm", "champion"), ("scratch", "none")):
                train(features, everything, fewer, root / name, start=root / start)
            worse |= _compare(features, everything, labelled, root, camera, params, count)
    raise typer.Exit(worse)


def _compare(
    features: Path, training: pa.Table, labelled: pa.Table, root: Path, camera: str, params: Params, epochs: int
) -> bool:
    """Print the measures; whether the warm one is worse by any."""
    warm, cold, champion = (camera_dir(root / name, camera) for name in ("warm", "scratch", "champion"))
    fitted = {key for home in (warm, cold, champion) for key in load_card(home)["footage"]["fit"]}
    blocks = [block for block in training_blocks(features, training, camera, params) if block.key not in fitted]
    sides = tuple(Side(load_camera_model(home), load_card(home)) for home in (warm, cold))
    measures = on_ordinary((sides[0], sides[1]), blocks, params)
    if (ranked := on_labels((sides[0], sides[1]), features, labelled, camera, params)) is not None:
        measures.append(ranked)
    for measure in measures:
        other = "" if measure.champion is None else f"{measure.champion:.4f}"
        interval = "" if measure.low is None else f"{measure.low:+.4f} to {measure.high:+.4f}"
        worse = "yes" if measure.worse else "no"
        print(f"| {epochs} | {measure.name} | {measure.candidate:.4f} | {other} | {interval} | {worse} |", flush=True)
    return any(measure.worse for measure in measures)


if __name__ == "__main__":
    typer.run(main)
