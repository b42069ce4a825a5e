"""Stage `tables`: scores to the tables videos, frames, events, detections and tracks; a picture of every event."""

from pathlib import Path

from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table
from vidrnn.tables import make_tables


def main(videos: str, index: str, features: str, model: str, scores: str, out: str, media: str) -> None:
    """Footage, table `index`, features, models and scores in; tables and pictures out."""
    facts = read_table(Path(index), SCHEMAS["index"])
    alarms = load_params().alarms
    make_tables(Path(videos), facts, Path(features), Path(model), Path(scores), alarms, Path(out), Path(media))


if __name__ == "__main__":
    run_stage(main)
