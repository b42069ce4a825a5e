"""Measure, against labels where there are any."""

from pathlib import Path

from vidrnn.evaluate import evaluate, write_evaluation
from vidrnn.params import load_params
from vidrnn.stages import run_stage


def main(tables_dir: str, model_dir: str, labels_dir: str, metrics: str, summary: str, curves_dir: str) -> None:
    """Tables, models and labels to the table `metrics`, a summary for `dvc metrics` and curves for `dvc plots`."""
    evaluation = evaluate(Path(tables_dir), Path(model_dir), Path(labels_dir), load_params())
    write_evaluation(evaluation, Path(metrics), Path(summary), Path(curves_dir))


if __name__ == "__main__":
    run_stage(main)
