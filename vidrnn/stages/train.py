"""Stage `train`: fit the recurrent network to ordinary footage, through Ray."""

from pathlib import Path

import pandas as pd

from vidrnn.feedback import read_marks
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table, replacing, write_json
from vidrnn.train import train


def main(features: str, training: str, feedback: str, start: str, out: str, metrics: str, curve: str) -> None:
    """Feature files, those that train, marks and models to start from in; a candidate a camera, metrics, curve out."""
    listed = read_table(Path(training), SCHEMAS["training"])
    marks = read_marks(Path(feedback))
    summary, rows = train(Path(features), listed, load_params(), Path(out), marks, Path(start))
    write_json(Path(metrics), summary)
    with replacing(Path(curve)) as partial:
        pd.DataFrame(rows).astype({"epoch": int}).to_csv(partial, index=False, float_format="%.6g")


if __name__ == "__main__":
    run_stage(main)
