"""Stage `score`: causal scores of every cell of every scored video."""

from pathlib import Path

from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table


def main(index: str, features: str, model: str, out: str) -> None:
    """Table `index`, feature files and models in; a score file a video out."""
    facts = read_table(Path(index), SCHEMAS["index"])
    score_videos(facts, Path(features), Path(model), Path(out), load_params().device)


if __name__ == "__main__":
    run_stage(main)
