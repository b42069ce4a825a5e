"""Objects and tracks against labels, beside OpenCV's background models: python -m benchmarks.objects.

    python -m benchmarks.objects [--data DIR...] [--json FILE]

Each DIR holds `videos/` and `labels/`; without any, the demo footage alone is measured. Where a DIR has objects.csv,
ours (the table `detections`), MOG2 and KNN are judged by F1 and average precision at an overlap of 0.5, from the first
to the last labelled frame of a video, every frame analysed. MOG2 and KNN see whole colour pictures; their threshold,
shadow test and closing are the best of a grid on the demo footage by F1; parts below our own smallest area do not
count. Where the rows have a track_id, `motmetrics` judges identities. Where there is only regions.csv, the share of its
boxes is told that any detection meets at an overlap of 0.3.
"""

import argparse
import itertools
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import motmetrics
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from vidrnn.decode import open_video
from vidrnn.demo import render_demo
from vidrnn.extract import extract_features
from vidrnn.foreground import MIN_AREA
from vidrnn.index import index_videos
from vidrnn.labels import load_labels
from vidrnn.metrics import average_precision_of_boxes, match_boxes, overlap
from vidrnn.object_tables import find_objects
from vidrnn.params import Params, load_params
from vidrnn.schema import BOX, SCHEMAS, scores_schema
from vidrnn.storage import read_table, video_path
from vidrnn.timebase import TimeBase

Floats = npt.NDArray[np.floating[Any]]
OVERLAP, REGION_OVERLAP = 0.5, 0.3
# The grid, with and without shadows: squared distances beyond which a pixel is in front, sides of what closes gaps.
THRESHOLDS = {"MOG2": (9, 16, 36, 64, 100), "KNN": (200, 400, 900, 1600)}
CLOSINGS = (1, 5, 9)
_HISTORY = 500  # frames, OpenCV's own choice
_MAKE = {"MOG2": cv2.createBackgroundSubtractorMOG2, "KNN": cv2.createBackgroundSubtractorKNN}


class Found(NamedTuple):
    """Boxes of a video: (N,) frames, (N, 4) boxes, (N,) how sure, (N,) identities, and how long it took."""

    frames: npt.NDArray[np.int64]
    boxes: Floats
    sure: Floats
    tracks: npt.NDArray[np.int64]
    seconds: float


def ours(videos: Path, params: Params, scratch: Path) -> dict[str, Found]:
    """The detections of a footage folder, every frame analysed; scores of cells play no part."""
    features = params.features.model_copy(update={"rate": "source"})
    index = index_videos(videos, params.index, "UTC", scratch / "memory.json")
    start = time.perf_counter()
    extract_features(videos, index, features, scratch / "features")
    decoded = read_table(scratch / "features/decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    seconds = (time.perf_counter() - start) / max(1, sum(row["num_frames"] for row in decoded))
    found = {}
    for row, facts in zip(decoded, (row for row in index.to_pylist() if row["status"] != "unreadable"), strict=True):
        camera, name = row["camera_id"], row["video_id"]
        cells = video_path(scratch / "features/cells", camera, name)
        scores = _without_scores(cells)
        start = time.perf_counter()
        end = (2**62, row["duration_seconds"], row["num_frames"])
        objects = find_objects(facts, video_path(scratch / "features/regions", camera, name), scores, end)
        table = objects.detections.to_pandas()
        took = time.perf_counter() - start + seconds * row["num_frames"]
        shown = table[["frame_index", "objectness", "track_id"]].to_numpy().T
        found[name] = Found(
            shown[0].astype(np.int64), table[list(BOX)].to_numpy(), shown[1], shown[2].astype(np.int64), took
        )
    return found


def _without_scores(cells: Path) -> pa.Table:
    """A score file of which nothing is unusual, at the frames of a feature file."""
    import pyarrow.parquet as pq

    facts = pq.read_table(cells, columns=["frame_index", "pts", "time_seconds", "valid"], partitioning=None)
    schema = scores_schema(2, 2)
    count = facts.num_rows
    columns: dict[str, Any] = {name: facts[name] for name in facts.column_names}
    columns["cells"] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, 2, 2), np.float16))
    for field in schema:
        zeros = np.zeros(count, np.float32) if pa.types.is_floating(field.type) else pa.nulls(count, field.type)
        columns.setdefault(field.name, zeros)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def theirs(path: Path, kind: str, threshold: int, shadows: bool, closings: Sequence[int]) -> list[Found]:
    """Connected parts of the foreground of one of OpenCV's models, for each closing; the model itself sees it once."""
    model: Any = _MAKE[kind](_HISTORY, threshold, shadows)
    kernels = [np.ones((close, close), np.uint8) for close in closings]
    parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in closings]  # of each frame its x, y, width, height, area
    start = time.perf_counter()
    with open_video(path, TimeBase(1, 25)) as reader:
        for _, picture in reader.all_pictures():
            mask = np.where(model.apply(picture) == 255, 255, 0).astype(np.uint8)
            for kernel, found in zip(kernels, parts, strict=True):
                closed = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel), np.uint8)
                stats = np.asarray(cv2.connectedComponentsWithStats(closed, connectivity=8)[2][1:], np.int64)
                found.append(stats[stats[:, 4] >= MIN_AREA * mask.size])
    took = time.perf_counter() - start
    return [_as_found(found, took) for found in parts]


def _as_found(parts: list[npt.NDArray[np.int64]], took: float) -> Found:
    frames = np.repeat(np.arange(len(parts)), [len(stats) for stats in parts])
    stats = np.concatenate(parts).astype(float)
    boxes = np.concatenate([stats[:, :2], stats[:, :2] + stats[:, 2:4]], 1)
    return Found(frames, boxes, stats[:, 4], np.full(len(frames), -1, np.int64), took)


def judge(found: dict[str, Found], objects: pd.DataFrame, num_frames: dict[str, int]) -> dict[str, float]:
    """Precision, recall, F1, average precision, frames a second, over the videos that have rows."""
    hits, sure, count = [], [], 0
    for name, true in objects.groupby("video"):
        one, first, last = found[str(name)], true["frame_index"].min(), true["frame_index"].max()
        within = (one.frames >= first) & (one.frames <= last)
        boxes, own = true[list(BOX)].to_numpy(), true["frame_index"].to_numpy()
        hits.append(match_boxes(one.frames[within], one.boxes[within], one.sure[within], own, boxes, OVERLAP))
        sure.append(one.sure[within])
        count += len(true)
    hit, ranked = np.concatenate(hits), np.concatenate(sure)
    precision, recall = hit.mean() if len(hit) else 0.0, hit.sum() / count
    seconds = sum(one.seconds for one in found.values())
    return {
        "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 4),
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
        "ap": round(average_precision_of_boxes(hit, ranked, count), 4),
        "frames_per_second": round(sum(num_frames.values()) / seconds, 1),
    }


def identities(found: dict[str, Found], objects: pd.DataFrame) -> dict[str, float]:
    """MOTA, IDF1 and switches as `motmetrics` counts them."""
    accounts = []
    for name, true in objects.groupby("video"):
        one, account = found[str(name)], motmetrics.MOTAccumulator(auto_id=True)
        number = pd.factorize(true["track_id"])[0]
        for frame in range(true["frame_index"].min(), true["frame_index"].max() + 1):
            mine, theirs_ = np.flatnonzero(one.frames == frame), (true["frame_index"] == frame).to_numpy()
            shared = overlap(true.loc[theirs_, list(BOX)].to_numpy(float), one.boxes[mine].astype(float))
            apart = np.where(shared >= OVERLAP, 1 - shared, np.nan)
            account.update(number[theirs_].tolist(), one.tracks[mine].tolist(), apart)
        accounts.append(account)
    names = ["mota", "idf1", "num_switches"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of pandas
        made = motmetrics.metrics.create().compute_many(accounts, metrics=names, generate_overall=True)
    return {name: round(float(made.loc["OVERALL", name]), 4) for name in names}


def region_recall(found: dict[str, Found], regions: pd.DataFrame) -> dict[str, float]:
    """The share of labelled regions that any detection meets."""
    met = 0
    for (name, frame), true in regions.groupby(["video", "frame_index"]):
        one = found[str(name)]
        shared = overlap(true[list(BOX)].to_numpy(float), one.boxes[one.frames == frame].astype(float))
        met += int((shared.max(1, initial=0) >= REGION_OVERLAP).sum())
    return {"region_recall": round(met / len(regions), 4)}


def measure(
    data: Path, params: Params, choices: dict[str, tuple[int, bool, int]], scratch: Path
) -> Iterator[dict[str, Any]]:
    """The rows of one folder."""
    videos = data / "videos"
    found = ours(videos, params, scratch)
    decoded = read_table(scratch / "features/decoded.parquet", SCHEMAS["decoded"])
    table = pa.Table.from_pylist(
        [
            {name: row.get(name) for name in ("video_id", "status", "num_frames", "duration_seconds")}
            for row in decoded.to_pylist()
        ]
    )
    labels = load_labels(data / "labels", table)
    num_frames = {row["video_id"]: row["num_frames"] for row in decoded.to_pylist()}
    key = {"data": data.name}
    if labels.objects is not None:
        row = {**key, "model": "ours", **judge(found, labels.objects, num_frames)}
        if labels.objects["track_id"].notna().all():
            row |= identities(found, labels.objects)
        yield row
        names = sorted(labels.objects["video"].unique())
        for kind, choice in choices.items():
            threshold, shadows, close = choice
            other = {name: theirs(videos / name, kind, threshold, shadows, [close])[0] for name in names}
            own_frames = {name: num_frames[name] for name in names}
            yield {**key, "model": f"{kind} {choice}", **judge(other, labels.objects, own_frames)}
    elif labels.regions is not None:
        yield {**key, "model": "ours", **region_recall(found, labels.regions)}


def tune(demo: Path, kind: str) -> tuple[int, bool, int]:
    """The best choice of the grid on the first test video of each camera of the demo footage, by F1."""
    paths = [sorted(camera.glob("test/*.mp4"))[0] for camera in sorted((demo / "videos").iterdir())]
    names = [str(path.relative_to(demo / "videos")) for path in paths]
    rows = pd.read_csv(demo / "labels/objects.csv")
    objects = rows[rows["video"].isin(names)]
    f1: dict[tuple[int, bool, int], float] = {}
    for threshold, shadows in itertools.product(THRESHOLDS[kind], (False, True)):
        by_video = [theirs(path, kind, threshold, shadows, CLOSINGS) for path in paths]
        for close, found in zip(CLOSINGS, zip(*by_video, strict=True), strict=True):
            judged = judge(dict(zip(names, found, strict=True)), objects, dict.fromkeys(names, 1))
            f1[threshold, shadows, close] = judged["f1"]
    best = max(f1, key=f1.__getitem__)
    print(json.dumps({"tuned": f"{kind} {best}", "f1": f1[best], "of": len(f1)}), flush=True)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--demo", type=Path, help="demo footage that is there already, with videos/ and labels/")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    params = load_params()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        demo = arguments.demo or scratch / "demo"
        if not arguments.demo:
            render_demo(demo / "videos", demo / "labels", params.demo)
        choices = {kind: tune(demo, kind) for kind in THRESHOLDS}
        for number, data in enumerate(itertools.chain([demo], arguments.data)):
            for row in measure(data, params, choices, scratch / str(number)):
                rows.append(row)
                print(json.dumps(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
