"""What many videos cost a night in which nothing is new, and one in which one of them is.

    python -m benchmarks.nothing_new [--videos N] [--scratch DIR]

A clone of this repository at HEAD is brought up to date with N sequences of features, since what is looked at here is
the number of files, not their decoding. Then a night looks at all of it at once and finds nothing to do; and with one
more it brings a stage at a time up to date. DIR is kept, and used again where it is there.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.speed import ROOT

sys.path.insert(0, str(ROOT / "flows"))
import dvc_cli

SECONDS = 3600.0


def make(project: Path, videos: int) -> None:
    """A clone that has been through the pipeline."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    for number in range(videos):
        film(project, f"{'train' if number < 20 else 'test'}/{number:05d}", number)
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("data/demo/", "data/")
    text = text.replace("epochs: 12", "epochs: 1").replace("batches_per_epoch: 100", "batches_per_epoch: 5")
    params.write_text(text, encoding="utf-8")
    dvc_cli.run(["repro", "-q", "report"], project, print, SECONDS)


def film(project: Path, name: str, seed: int) -> None:
    """Six values that sway, for six seconds."""
    path = project / f"data/videos/gate/{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, (60, 6))
    np.save(path, (np.sin(np.arange(60)[:, None] / 5 + np.arange(6) + seed) + noise).astype(np.float32))


def by_stage(project: Path) -> dict[str, float]:
    """Seconds of each stage, one at a time."""
    seconds = {}
    for stage in dvc_cli.upstream("report", project):
        start = time.monotonic()
        outcome = dvc_cli.repro(stage, project, lambda line: None, SECONDS)
        seconds[f"{stage} {outcome}"] = time.monotonic() - start
    return seconds


def main(
    videos: Annotated[int, typer.Option(help="How many.")] = 1000,
    scratch: Annotated[Path | None, typer.Option(help="Where the project is, or is made.")] = None,
) -> None:
    """Make, measure, print."""
    with tempfile.TemporaryDirectory() as temporary:
        project = (scratch or Path(temporary)).absolute() / "project"
        if not project.exists():
            make(project, videos)
        start = time.monotonic()
        dvc_cli.upstream("report", project)
        assert dvc_cli.up_to_date("report", project)
        print(f"{videos} videos, nothing new: {time.monotonic() - start:.1f} s", flush=True)
        film(project, f"test/new-{time.time_ns()}", 9)
        tell("one new among them, a stage at a time", by_stage(project))


def tell(what: str, seconds: dict[str, float]) -> None:
    """A line."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    print(f"{what}: {sum(seconds.values()):.1f} s ({parts})", flush=True)


if __name__ == "__main__":
    typer.run(main)
