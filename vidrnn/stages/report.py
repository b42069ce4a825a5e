"""One HTML file that opens offline."""

from pathlib import Path

from vidrnn.params import load_params
from vidrnn.phrases import plural
from vidrnn.report import write_report
from vidrnn.stages import run_stage


def main(tables_dir: str, media_dir: str, promotions: str, metrics: str, health: str, model_dir: str, out: str) -> None:
    """All that earlier stages found and measured, to one page."""
    count = write_report(
        Path(tables_dir),
        Path(media_dir),
        Path(promotions),
        Path(metrics),
        Path(health),
        Path(model_dir),
        Path(out),
        load_params(),
    )
    print(f"report: {plural(count, 'event')}, {out}")


if __name__ == "__main__":
    run_stage(main)
