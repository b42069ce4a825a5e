"""How long a filtered load of a large table takes, beside the bare read of pyarrow.dataset, and in how much memory.

    python -m benchmarks.query [--rows N]

A table `frames` of ten million rows, 120 videos of four cameras, is written to a temporary folder. The bare read gives
an Arrow table of the same rows and columns by the same condition; the load a checked and ordered DataFrame. Both read
in turns, each as often before the other as after it, and medians are compared. Memory is what Arrow held at most in a
process that does nothing else. It exits with 1 where a target is missed.
"""

import gc
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import typer

from vidrnn import results
from vidrnn.schema import SCHEMAS
from vidrnn.storage import video_path, write_table

TARGET = 1.2
LEAST_MEGABYTES = 16  # that the decoder of a Parquet file holds whatever is asked for
CAMERAS, VIDEOS = 4, 30  # of each
RATE = 10  # frames/s
START = datetime(2026, 3, 1, tzinfo=UTC)
ROUNDS = 10
COLUMNS = ["video_id", "pts", "score", "alarm"]


def write_frames(root: Path, rows: int) -> None:
    """A checkout's table `frames` with so many rows; the videos of a camera follow one another."""
    (root / ".dvc").mkdir(parents=True)
    count, schema = rows // (CAMERAS * VIDEOS), SCHEMAS["frames"]
    numbers, rng = np.arange(count), np.random.default_rng(0)
    for camera in range(CAMERAS):
        for video in range(VIDEOS):
            key = f"camera{camera}", f"camera{camera}/{video:02}.mp4"
            start = START + timedelta(seconds=video * count / RATE)
            scores = rng.gamma(2, 1, count).astype(np.float32)
            values: dict[str, Any] = {
                "camera_id": [key[0]] * count,
                "video_id": [key[1]] * count,
                "frame_index": numbers,
                "pts": numbers * 100,
                "time_seconds": numbers / RATE,
                "recorded_at": np.datetime64(start.replace(tzinfo=None), "us")
                + numbers * np.timedelta64(100_000, "us"),
                "score_raw": scores,
                "score": scores,
                "alarm": scores > 10,
                "valid": np.ones(count, np.bool_),
            }
            table = pa.table({name: values[name] for name in schema.names}, schema=schema)
            write_table(video_path(root / results.TABLES["frames"], *key), table, schema)


@dataclass(frozen=True)
class Question:
    """Which rows of the table are asked for; the days are shares of its length."""

    root: Path
    camera: str | None
    start: datetime
    end: datetime
    columns: list[str] | None

    def load(self) -> Any:
        """By the public API."""
        return results.load(
            "frames", camera=self.camera, start=self.start, end=self.end, columns=self.columns, repo=self.root
        )

    def bare(self) -> Any:
        """By pyarrow.dataset."""
        condition = (pc.field("recorded_at") >= pa.scalar(self.start)) & (pc.field("recorded_at") < pa.scalar(self.end))
        if self.camera is not None:
            condition = condition & (pc.field("camera_id") == self.camera)
        dataset = ds.dataset(self.root / results.TABLES["frames"], schema=SCHEMAS["frames"], format="parquet")
        return dataset.to_table(columns=self.columns, filter=condition)


def seconds_of(read: Callable[[], Any]) -> float:
    """How long it takes; what it read is given back outside the clock."""
    gc.collect()
    start = time.perf_counter()
    kept = read()
    seconds = time.perf_counter() - start
    del kept
    return seconds


def peak_of(read: Callable[[], Any]) -> float:
    """Megabytes that Arrow held at most, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_peak, (read,)))


def _peak(read: Callable[[], Any]) -> float:
    read()
    return (pa.default_memory_pool().max_memory() or 0) / 1e6


def compare(question: Question) -> dict[str, Any]:
    """Ask it in both ways."""
    count, size = len(question.load()), question.bare().nbytes / 1e6
    ours: list[float] = []
    theirs: list[float] = []
    for k in range(ROUNDS):
        for read, seconds in ((question.load, ours), (question.bare, theirs))[:: 1 if k % 2 else -1]:
            seconds.append(seconds_of(read))
    load, bare = statistics.median(ours), statistics.median(theirs)
    peaks = peak_of(question.load), peak_of(question.bare)
    return {"rows": count, "returned": size, "load": load, "bare": bare, "ratio": load / bare, "peaks": peaks}


def main(rows: Annotated[int, typer.Option(help="Of the table.")] = 10_000_000) -> None:
    """Print the table as Markdown."""
    length = timedelta(seconds=VIDEOS * (rows // (CAMERAS * VIDEOS)) / RATE)
    hour = timedelta(hours=1) / length
    asked: list[tuple[str, str | None, tuple[float, float], list[str] | None]] = [
        ("an hour of a camera", "camera1", (0.5, 0.5 + hour), COLUMNS),
        ("a tenth of a camera, every column", "camera1", (0.4, 0.5), None),
        ("a tenth of every camera", None, (0.4, 0.5), COLUMNS),
        ("a camera", "camera1", (0.0, 1.0), COLUMNS),
        ("half of the table", None, (0.0, 0.5), COLUMNS),
    ]
    print("| question | rows | MB returned | load s | bare s | ratio | load peak MB | bare peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    reached = True
    with tempfile.TemporaryDirectory(prefix="vidrnn-query-") as scratch:
        write_frames(Path(scratch), rows)
        for name, camera, (first, last), columns in asked:
            found = compare(Question(Path(scratch), camera, START + first * length, START + last * length, columns))
            (ours, theirs), size = found["peaks"], found["returned"]
            reached = reached and found["ratio"] <= TARGET and ours <= TARGET * size + LEAST_MEGABYTES
            print(
                f"| {name} | {found['rows']} | {size:.1f} | {found['load']:.3f} | {found['bare']:.3f} | "
                f"{found['ratio']:.2f} | {ours:.0f} | {theirs:.0f} |",
                flush=True,
            )
    if not reached:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
