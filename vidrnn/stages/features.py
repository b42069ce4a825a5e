"""Stage `features`: decode once; cells, moving regions and shot signatures of every video."""

from pathlib import Path

from vidrnn.extract import extract_features
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table, write_table


def main(videos: str, index: str, features: str, training: str) -> None:
    """Footage folder and table `index` in; feature files and the list of those that train out."""
    facts = read_table(Path(index), SCHEMAS["index"])
    trains = extract_features(Path(videos), facts, load_params().features, Path(features))
    write_table(Path(training), trains, SCHEMAS["training"])


if __name__ == "__main__":
    run_stage(main)
