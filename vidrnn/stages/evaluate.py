"""Measure, against labels where there are any."""

from pathlib import Path

from vidrnn.evaluate import evaluate, write_evaluation
from vidrnn.feedback import read_marks
from vidrnn.health import health
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import write_table


def main(
    features: str,
    scores: str,
    tables: str,
    model: str,
    labels: str,
    feedback: str,
    metrics: str,
    summary: str,
    cameras: str,
    curves: str,
    nights: str,
) -> None:
    """What was made, labels and marks to the tables `metrics` and `health`, figures as JSON, curves for `dvc plots`."""
    made, params = (Path(features), Path(scores), Path(tables), Path(model)), load_params()
    evaluation = evaluate(*made, Path(labels), params, read_marks(Path(feedback)))
    write_table(Path(nights), health(Path(features), Path(tables), params), SCHEMAS["health"])
    write_evaluation(evaluation, Path(metrics), Path(summary), Path(cameras), Path(curves))


if __name__ == "__main__":
    run_stage(main)
