"""Measure, against labels where there are any."""

from pathlib import Path

from vidrnn.evaluate import evaluate, write_evaluation
from vidrnn.feedback import read_marks
from vidrnn.params import load_params
from vidrnn.stages import run_stage


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
) -> None:
    """What was made, labels and marks to the table `metrics`, its figures as JSON and curves for `dvc plots`."""
    made = Path(features), Path(scores), Path(tables), Path(model)
    evaluation = evaluate(*made, Path(labels), load_params(), read_marks(Path(feedback)))
    write_evaluation(evaluation, Path(metrics), Path(summary), Path(cameras), Path(curves))


if __name__ == "__main__":
    run_stage(main)
