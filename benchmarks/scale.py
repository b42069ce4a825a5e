"""What 10, 1,000 and 100,000 cameras take, by this project's own figures: prints docs/scale.md.

    python -m benchmarks.scale > docs/scale.md
    python -m benchmarks.scale --measure PROJECT

The first reads speeds from docs/benchmarks.md and sizes from benchmarks/scale.json; the second makes that file from a
checkout whose pipeline has run.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vidrnn.params import Params, load_params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, write_json
from vidrnn.train import SCOUT_SHARE

ROOT = Path(__file__).resolve().parents[1]
SIZES, SPEEDS = ROOT / "benchmarks/scale.json", ROOT / "docs/benchmarks.md"
PARTS = ("features", "scores", "tables", "media")
CAMERAS = (10, 1_000, 100_000)
# Taken for granted, all the same at every step.
MEGABITS, FRAMES = 2.0, 30  # of footage a second
FOOTAGE_DAYS, ROW_DAYS = 14, 365  # that footage is kept, and all that is made of it
TRAINING_HOURS = 24  # of ordinary footage a camera learns from
NIGHT_HOURS = 8  # in which trainings are to be done
FILE_MINUTES = 10
CORES = 2  # of the machine that the speeds were measured on
HELD_OUT_PASSES = 3  # one to set thresholds, and one for each of the two models at the gate
MEASURED_HOURS = 2  # one, looked at twice, tells how far questions stray


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        decoded: frames of footage a second and core, features included.
        scored: × real time, a core.
        epoch: seconds.
        megabytes: an hour of a camera, by part.
    """

    decoded: float
    scored: float
    epoch: float
    megabytes: dict[str, float]


def measure(project: Path) -> dict[str, float]:
    """Megabytes an hour of what the stages wrote in a checkout."""
    videos = read_table(project / "data/tables/videos.parquet", SCHEMAS["videos"]).to_pylist()
    hours = {
        part: sum(v["duration_seconds"] or 0.0 for v in videos if part == "features" or v["scored"]) / 3600
        for part in PARTS
    }
    sizes = {part: sum(f.stat().st_size for f in (project / "data" / part).rglob("*") if f.is_file()) for part in PARTS}
    return {part: round(sizes[part] / 1e6 / hours[part], 1) for part in PARTS}


def read_figures() -> Figures:
    """From the two files."""
    page = SPEEDS.read_text(encoding="utf-8")

    def value(row: str) -> float:
        found = re.search(rf"^\| {row} \| ([\d.]+) ", page, re.MULTILINE)
        if found is None:
            raise SystemExit(f"{SPEEDS}: has no row {row}")
        return float(found[1])

    sizes = json.loads(SIZES.read_text(encoding="utf-8"))
    return Figures(value("decode_and_features") / CORES, value("score"), value("train_ray"), sizes)


def amount(terabytes: float) -> str:
    """As in 3.4 TB."""
    for unit, size in (("PB", 1e3), ("TB", 1.0)):
        if terabytes >= size:
            return f"{terabytes / size:,.1f} {unit}"
    return f"{terabytes * 1e3:,.0f} GB"


def cores(number: float) -> str:
    """As in 145, or 1.4."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def page(figures: Figures, params: Params) -> str:
    """The text of docs/scale.md."""
    footage = MEGABITS / 8 * 3600 / 1e6  # TB an hour
    rows_tb = sum(figures.megabytes[part] for part in ("scores", "tables", "media")) / 1e6
    held_out = TRAINING_HOURS * (params.train.validation_share + params.train.calibration_share)
    looked_at = held_out * HELD_OUT_PASSES + MEASURED_HOURS + (TRAINING_HOURS if params.train.trim_share else 0)
    epochs = params.train.epochs * (1 + SCOUT_SHARE) if params.train.trim_share else params.train.epochs
    training = epochs * figures.epoch + looked_at * 3600 / figures.scored
    rate = FRAMES if params.features.rate == "source" else params.features.rate
    steps = {
        "footage that comes in a day": lambda n: amount(n * 24 * footage),
        f"footage kept, {FOOTAGE_DAYS} days": lambda n: amount(n * 24 * footage * FOOTAGE_DAYS),
        f"features, {ROW_DAYS} days": lambda n: amount(n * 24 * figures.megabytes["features"] / 1e6 * ROW_DAYS),
        f"scores, tables and pictures, {ROW_DAYS} days": lambda n: amount(n * 24 * rows_tb * ROW_DAYS),
        "cores that decode and make features": lambda n: cores(n * FRAMES / figures.decoded),
        "cores that score": lambda n: cores(n / figures.scored),
        "core-hours of training, gate included, a night": lambda n: cores(n * training / 3600),
        f"cores for that within {NIGHT_HOURS} hours": lambda n: cores(n * training / 3600 / NIGHT_HOURS),
        "rows of `frames` a day": lambda n: f"{n * 86400 * rate / 1e6:,.0f} million",
        f"files a day, of {FILE_MINUTES} minutes": lambda n: f"{n * 1440 // FILE_MINUTES:,}",
    }
    head = "| | " + " | ".join(f"{n:,} cameras" for n in CAMERAS) + " |\n|---|" + "---|" * len(CAMERAS)
    table = "\n".join(f"| {name} | " + " | ".join(map(tell, CAMERAS)) + " |" for name, tell in steps.items())
    sizes = ", ".join(f"{part} {figures.megabytes[part]:g}" for part in PARTS)
    return f"""# From 10 cameras to 100,000

On paper: `python -m benchmarks.scale > docs/scale.md` computes this page, and a test compares the two. Nothing of it
was run at more than a few cameras.

It takes for granted: cameras that record all day, {FRAMES} frames and {MEGABITS:g} megabits a second, files of \
{FILE_MINUTES} minutes, a training
every night on {TRAINING_HOURS} hours of each. Measured, by docs/benchmarks.md: {figures.decoded:.0f} frames a second \
and core are decoded and made
features of; scoring is {figures.scored:g} times real time on a core; an epoch takes {figures.epoch:g} s (with one \
horizon; three take longer), of which params.yaml has {params.train.epochs}.
Measured on the demo, `python -m benchmarks.scale --measure PROJECT`, megabytes an hour:
{sizes}.

{head}
{table}

## Which knob at each step

**10 cameras** are one machine and one checkout. Decoding takes most of it. `nightly.keep_days` bounds the
footage. Features outlive it, since footage that was removed still counts: in a year they are what is largest, and
nothing removes them by itself. A DVC remote on a disk of its own takes them; `features.rate: 5` halves them and rows.
How Parquet writes them gains little (docs/benchmarks.md).

**1,000 cameras** are many machines. Per-video work goes over a Ray cluster (`RAY_ADDRESS`, docs/cluster.yaml); training
is per camera (`train.scope: camera`), so that it shares out without a word between trainings. What gives first is not
a processor but the number of files in one checkout: DVC looks at each. So: a checkout a site of some ten cameras, each
with its own nights, and the cameras of all sites in one place only where tables are read (`results.open` of each).
Learn from fewer hours (`index.train` takes patterns): all that is learned from is looked at for what stands out, and
its held-out share {HELD_OUT_PASSES} times more, and that, not the epochs, is what a training costs.

**100,000 cameras** are decided by where the pixels are. Decoding in one place would take the cores of the table and a
network that carries {amount(CAMERAS[-1] * 24 * footage)} a day; so decode and make features beside the cameras, and \
send features, or only rows, on.
`train.scope: all` shares a network among cameras of one kind and leaves calibration to each; its epochs then run on a
GPU (`device.gpu`, `train.num_workers`) and no longer once a camera. Tables go to object storage as they are, Parquet
by camera and video. Features must then be removed after the next training, for which there is no knob yet.
"""


def main(
    project: Annotated[Path | None, typer.Option("--measure", help="Take sizes from this checkout.")] = None,
) -> None:
    """Measure sizes, or print the page."""
    if project is None:
        print(page(read_figures(), load_params(ROOT / "params.yaml")), end="")
    else:
        write_json(SIZES, measure(project))


if __name__ == "__main__":
    typer.run(main)
