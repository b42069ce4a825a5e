"""What is found of what is planted in the demo footage, drawn anew from other seeds, at 10 false alarms an hour.

    python -m benchmarks.demo --seed N [--seed N ...]

A seed draws other people, other events and other times; the whole path runs on it with the project's params, but for
`alarms.per_hour`. A planted event is found if an event of its video overlaps it; an event that overlaps none is a false
alarm. *In time* are those whose first event begins within a second of them.
"""

import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from vidrnn.demo import render_demo
from vidrnn.errors import VidrnnError
from vidrnn.evaluate import evaluate
from vidrnn.extract import extract_features
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.params import Params, load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, video_path
from vidrnn.tables import make_tables
from vidrnn.train import train

PROMISED = 10.0  # false alarms an hour
IN_TIME_SECONDS = 1.0


class Span(NamedTuple):
    """Something planted, or an event: its video, [onset, offset) in frames, and what kind it is."""

    video: str
    onset: int
    offset: int
    kind: str

    def touches(self, other: "Span") -> bool:
        """Whether the two have a frame in common."""
        return self.video == other.video and self.onset < other.offset and other.onset < self.offset


class Judged(NamedTuple):
    """How the events of a seed meet what was planted."""

    found: int
    planted: int
    in_time: int  # of those found
    missed: list[str]  # kinds
    false: int


def judge(planted: Sequence[Span], told: Sequence[Span], frame_rate: float) -> Judged:
    """Compare events with what was planted."""
    meeting = [sorted(event.onset for event in told if event.touches(span)) for span in planted]
    late = IN_TIME_SECONDS * frame_rate
    return Judged(
        found=sum(bool(onsets) for onsets in meeting),
        planted=len(planted),
        in_time=sum(
            bool(onsets) and abs(onsets[0] - span.onset) <= late for span, onsets in zip(planted, meeting, strict=True)
        ),
        missed=sorted(span.kind for span, onsets in zip(planted, meeting, strict=True) if not onsets),
        false=sum(not any(event.touches(span) for span in planted) for event in told),
    )


def _measured(seed: int, params: Params, root: Path) -> tuple[dict[str, Any], Judged]:
    """The measures of `evaluate` without those of the cameras, and how events met what was planted."""
    params = params.model_copy(
        update={
            "demo": params.demo.model_copy(update={"seed": seed}),
            "alarms": params.alarms.model_copy(update={"per_hour": PROMISED}),
        }
    )
    videos, labels, features = root / "videos", root / "labels", root / "features"
    render_demo(videos, labels, params.demo)
    index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
    training = extract_features(videos, index, params.features, features)
    train(features, training, params, root / "candidate")
    gate(features, training, root / "candidate", root / "champion", root / "model", params)
    score_videos(index, features, root / "model", root / "scores", params.device)
    tables = root / "tables"
    make_tables(videos, index, features, root / "model", root / "scores", params.alarms, tables, root / "media")
    summary = evaluate(features, root / "scores", tables, root / "model", labels, params).summary
    with (labels / "events.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    planted = [Span(row["video"], int(row["onset_frame"]), int(row["offset_frame"]), row["kind"]) for row in rows]
    told = []
    for row in read_table(tables / "videos.parquet", SCHEMAS["videos"]).to_pylist():
        if row["scored"]:
            path = video_path(tables / "events", row["camera_id"], row["video_id"])
            events = read_table(path, SCHEMAS["events"]).to_pylist()
            told += [Span(row["video_id"], own["onset_frame"], own["offset_frame"], own["kind"]) for own in events]
    return summary, judge(planted, told, params.demo.frame_rate)


def main(seeds: Sequence[int]) -> None:
    """Run the path once a seed, and print the table as Markdown."""
    lines = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            summary, judged = _measured(seed, load_params(), Path(scratch))
        ranked = summary["auroc_micro_ema"]["value"]
        lines.append(
            f"| {seed} | {ranked:.3f} | {judged.found} of {judged.planted} | {judged.in_time} of {judged.found} | "
            f"{judged.false} | {', '.join(judged.missed)} |"
        )
        print(lines[-1], flush=True)
    print("\n| seed | AUROC | found | in time | false alarms | missed |\n|---|---|---|---|---|---|")
    print("\n".join(lines))


def _command(seed: Annotated[list[int], typer.Option("--seed", help="Of the demo; may be repeated.")]) -> None:
    try:
        main(seed)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
