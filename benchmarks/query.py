"""How long a filtered load of a large table takes, beside the bare read of pyarrow.dataset, and in how much memory.

    python -m benchmarks.query [--rows N]

A table `frames` of ten million rows, 120 videos of four cameras, is written to a temporary folder. Both read the same
rows, in turns; medians are compared. It exits with 1 where a target is missed.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
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
CAMERAS, VIDEOS = 4, 30  # of each
RATE = 10  # frames/s
START = datetime(2026, 3, 1, tzinfo=UTC)
ROUNDS = 7
COLUMNS = ["video_id", "pts", "score", "alarm"]
Columns = list[str] | None

_pools: list[pa.MemoryPool] = []


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


def measured(read: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and megabytes that Arrow held at most."""
    gc.collect()
    pool = pa.proxy_memory_pool(pa.system_memory_pool())
    _pools.append(pool)  # what was read from it may live on
    pa.set_memory_pool(pool)
    start = time.perf_counter()
    kept = read()
    seconds = time.perf_counter() - start
    del kept
    return seconds, pool.max_memory() / 1e6


def compare(root: Path, rows: int, camera: str | None, days: tuple[float, float], columns: Columns) -> dict[str, Any]:
    """One question, asked in both ways."""
    length = timedelta(seconds=VIDEOS * (rows // (CAMERAS * VIDEOS)) / RATE)
    start, end = (START + share * length for share in days)
    condition = (pc.field("recorded_at") >= pa.scalar(start)) & (pc.field("recorded_at") < pa.scalar(end))
    if camera is not None:
        condition = condition & (pc.field("camera_id") == camera)

    def load() -> Any:
        return results.load("frames", camera=camera, start=start, end=end, columns=columns, repo=root)

    def bare() -> Any:
        dataset = ds.dataset(root / results.TABLES["frames"], schema=SCHEMAS["frames"], format="parquet")
        return dataset.to_table(columns=columns, filter=condition)

    count, size = len(load()), bare().nbytes / 1e6
    rounds = [(measured(load), measured(bare)) for _ in range(ROUNDS)]
    ours, theirs = ([statistics.median(one[who][what] for one in rounds) for what in (0, 1)] for who in (0, 1))
    return {"rows": count, "returned": size, "ours": ours, "theirs": theirs, "ratio": ours[0] / theirs[0]}


def main(rows: Annotated[int, typer.Option(help="Of the table.")] = 10_000_000) -> None:
    """Print the table as Markdown."""
    questions: list[tuple[str, str | None, tuple[float, float], Columns]] = [
        ("an hour of a camera", "camera1", (0.5, 0.5 + 3600 / (rows / CAMERAS / RATE)), COLUMNS),
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
        for name, camera, days, columns in questions:
            found = compare(Path(scratch), rows, camera, days, columns)
            reached = reached and found["ratio"] <= TARGET
            (seconds, peak), (bare_seconds, bare_peak) = found["ours"], found["theirs"]
            print(
                f"| {name} | {found['rows']} | {found['returned']:.1f} | {seconds:.3f} | {bare_seconds:.3f} | "
                f"{found['ratio']:.2f} | {peak:.0f} | {bare_peak:.0f} |",
                flush=True,
            )
    if not reached:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
