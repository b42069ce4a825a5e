"""Does search find the same kind of event again? Footage rendered for this, ranked by the table `embeddings`.

    python -m benchmarks.search --scratch DIR [--dev] [--json FILE]

One place of the demo, ordinary footage to learn from, and each planted kind `TIMES` times, in files that hold several
kinds. Every planted event is asked for as `vidrnn find EVENT_ID` asks for one, by when it happens. Precision at 5 is
the share of the five most similar moments, of all footage but its own moment, that are another event of the same kind;
and among planted events alone, whose windows do not touch its own. Without `--dev` the seeds are those kept for the
table. `--million` measures instead how long one search among a million windows takes.
"""

import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from vidrnn.demo import render_plans
from vidrnn.demo_plan import KINDS, Plan, plan_file
from vidrnn.embeddings import WINDOW_SECONDS, mean_vector, windows_in
from vidrnn.errors import VidrnnError
from vidrnn.extract import extract_features
from vidrnn.find import EXACT_WINDOWS, find_like
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.neighbours import Span, touch
from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import EMBEDDING_SIZE, SCHEMAS, as_rows, as_vectors
from vidrnn.storage import read_table, video_path, write_table
from vidrnn.tables import make_tables
from vidrnn.train import train

DEV_SEEDS = (0,)
FINAL_SEEDS = (100,)
CAMERA = "market-walk"
FRAME_RATE = 10
TIMES = 8
_TRAIN_FILES, _TRAIN_SECONDS = 4, 90
_LEAST_SECONDS, _MORE_SECONDS = 50, 10
_FILES_A_ROUND = 2


def plan_films(seed: int) -> list[Plan]:
    """Ordinary films, then films that hold every kind `TIMES` times; the same for the same seed."""
    plans = [
        plan_file(CAMERA, "train", f"{CAMERA}/train/{k}.mp4", _TRAIN_SECONDS * FRAME_RATE, (seed, 5, k), (), FRAME_RATE)
        for k in range(_TRAIN_FILES)
    ]
    rng = np.random.default_rng([seed, 6])
    for k in range(TIMES):
        shuffled = [str(kind) for kind in rng.permutation([kind for kind in KINDS if kind != "camera_knocked"])]
        parts = np.array_split(shuffled, _FILES_A_ROUND)
        for part, kinds in enumerate(parts):
            knocked = ["camera_knocked"] if part == _FILES_A_ROUND - 1 else []  # comes last
            plans.append(_test_film(f"{CAMERA}/test/{k}-{part}.mp4", (seed, 7, k, part), (*kinds.tolist(), *knocked)))
    return plans


def _test_film(video: str, seed: tuple[int, ...], kinds: tuple[str, ...]) -> Plan:
    """As short as its events allow."""
    seconds = _LEAST_SECONDS
    while True:
        try:
            return plan_file(CAMERA, "test", video, seconds * FRAME_RATE, seed, kinds, FRAME_RATE)
        except ValueError:
            seconds += _MORE_SECONDS


def render_films(plans: list[Plan], root: Path) -> None:
    """Draw films into `root/videos` and their labels into `root/labels`."""
    render_plans(root / "videos", root / "labels", plans, FRAME_RATE)


def main(scratch: Path, seeds: tuple[int, ...], json_path: Path | None = None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for seed in seeds:
        for kind, *both in precisions(prepared(scratch, seed)):
            found[kind].append((both[0], both[1]))
    of_kind = {kind: values for kind, values in found.items() if values}
    rows = [
        {"kind": kind, "events": len(values)}
        | dict(zip(("precision_at_5", "among_events"), np.mean(values, axis=0).tolist(), strict=True))
        for kind, values in (of_kind | {"all": [pair for pairs in of_kind.values() for pair in pairs]}).items()
    ]
    print("| kind of event | events | precision at 5 | among events |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['kind']} | {row['events']} | {row['precision_at_5']:.2f} | {row['among_events']:.2f} |")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def prepared(scratch: Path, seed: int) -> Path:
    """A checkout with the footage of a seed and all that the pipeline makes of it; what is there is used again."""
    root = scratch / str(seed)
    data, videos = root / "data", root / "videos"
    (root / ".dvc").mkdir(parents=True, exist_ok=True)  # what `results` knows a checkout by
    if not (root / "labels" / "objects.csv").is_file():  # written last
        render_films(plan_films(seed), root)
    params = load_params()
    index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
    training = extract_features(videos, index, params.features, data / "features")
    train(data / "features", training, params, data / "candidate")
    gate(data / "features", training, data / "candidate", data / "champion", data / "model", params)
    score_videos(index, data / "features", data / "model", data / "scores", params.device)
    of = (videos, index, data / "features", data / "model", data / "scores")
    make_tables(*of, params.alarms, data / "tables", data / "media")
    return root


def precisions(root: Path) -> Iterator[tuple[str, float, float]]:
    """Kind, precision at 5 among all moments, and among planted events, of each planted event."""
    with (root / "labels" / "events.csv").open(encoding="utf-8", newline="") as file:
        planted = [
            _Planted(
                row["video"], int(row["onset_frame"]) / FRAME_RATE, int(row["offset_frame"]) / FRAME_RATE, row["kind"]
            )
            for row in csv.DictReader(file)
        ]
    for event, alike in zip(planted, _among(root / "data/tables/embeddings", planted, 5), strict=True):
        moments = find_like(event.video, event.onset, event.offset, 5, repo=root).moments
        hits = [any(other.shown_in(moment) for other in planted if other.kind == event.kind) for moment in moments]
        yield event.kind, sum(hits) / 5, sum(other.kind == event.kind for other in alike) / 5


@dataclass(frozen=True)
class _Planted:
    video: str
    onset: float  # seconds
    offset: float
    kind: str

    def shown_in(self, moment: dict[str, Any]) -> bool:
        """Whether a moment shows it for half of the moment at least, or all of it."""
        shared = min(self.offset, moment["offset_seconds"]) - max(self.onset, moment["onset_seconds"])
        return bool(moment["video_id"] == self.video and shared >= min(WINDOW_SECONDS / 2, self.offset - self.onset))


def _among(embeddings: Path, planted: list[_Planted], limit: int) -> list[list[_Planted]]:
    """Of each planted event the others that are most like it, the most similar first."""
    spans: list[Span] = []
    described = []
    for event in planted:
        table = read_table(video_path(embeddings, CAMERA, event.video), SCHEMAS["embeddings"])
        starts, ends = table["onset_seconds"].to_numpy(), table["offset_seconds"].to_numpy()
        chosen = windows_in(starts, ends, event.onset, event.offset)
        spans.append((event.video, float(starts[chosen].min()), float(ends[chosen].max())))
        described.append(mean_vector(as_rows(table["vector"])[chosen]))
    vectors = np.array(described)
    found = []
    for span, alike in zip(spans, vectors @ vectors.T, strict=True):
        ranked = (k for k in np.argsort(-alike, kind="stable").tolist() if not touch(span, spans[k]))
        found.append([planted[k] for k in islice(ranked, limit)])
    return found


def time_a_million(scratch: Path) -> float:
    """Seconds that one search takes among a million windows of a camera, in ten files."""
    root, rng = scratch / "million", np.random.default_rng(0)
    (root / ".dvc").mkdir(parents=True, exist_ok=True)
    names = [f"{CAMERA}/{k}.mp4" for k in range(10)]
    for name in names:
        path = video_path(root / "data/tables/embeddings", CAMERA, name)
        if not path.is_file():
            _write_windows(path, name, EXACT_WINDOWS // len(names), rng)
        write_table(
            video_path(root / "data/tables/events", CAMERA, name), SCHEMAS["events"].empty_table(), SCHEMAS["events"]
        )
    start = time.perf_counter()
    found = find_like(names[3], 1000.0, 1004.0, 10, repo=root)
    seconds = time.perf_counter() - start
    assert found.num_windows == EXACT_WINDOWS and len(found.moments) == 10
    print(f"{found.num_windows} windows: {seconds:.1f} s")
    return seconds


def _write_windows(path: Path, video: str, count: int, rng: np.random.Generator) -> None:
    vectors = rng.normal(0, 1, (count, EMBEDDING_SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    onsets = np.arange(count)
    columns = {
        "camera_id": [CAMERA] * count,
        "video_id": [video] * count,
        **{f"onset_{unit}": onsets.astype(float if unit == "seconds" else int) for unit in ("pts", "seconds", "frame")},
        **{
            f"offset_{unit}": (onsets + 2).astype(float if unit == "seconds" else int)
            for unit in ("pts", "seconds", "frame")
        },
        "recorded_at": pa.nulls(count, pa.timestamp("us", tz="UTC")),
        "vector": as_vectors(vectors),
    }
    schema = SCHEMAS["embeddings"]
    write_table(path, pa.table({name: columns[name] for name in schema.names}, schema=schema), schema)


def _command(
    scratch: Annotated[Path, typer.Option(help="Where footage and what is made of it are kept; may be used again.")],
    dev: Annotated[bool, typer.Option("--dev", help="The seeds of development.")] = False,
    million: Annotated[bool, typer.Option("--million", help="Time a search among a million windows instead.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        if million:
            time_a_million(scratch)
        else:
            main(scratch, DEV_SEEDS if dev else FINAL_SEEDS, json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
