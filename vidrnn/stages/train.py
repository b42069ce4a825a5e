"""Stage `train`: fit the recurrent network to ordinary footage, through Ray."""

from pathlib import Path

import pandas as pd

from vidrnn.feedback import read_marks
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table, replacing, write_json
from vidrnn.train import train


def main(features: str, training: str, feedback: str, out: str, metrics: str, curve: str) -> None:
    """Feature files, the list of those that train, and marks in; a candidate a camera, metrics and the curve out."""
    listed = read_table(Path(training), SCHEMAS["training"])
    summary, rows = train(Path(features), listed, load_params(), Path(out), read_marks(Path(feedback)))
    write_json(Path(metrics), summary)
    with replacing(Path(curve)) as partial:
        pd.DataFrame(rows).astype({"epoch": int}).to_csv(partial, index=False, float_format="%.6g")


if __name__ == "__main__":
    run_stage(main)
