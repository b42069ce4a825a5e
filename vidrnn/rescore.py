"""What is to be scored anew: a score file for each scored video whose camera has a model, and why others have none."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.errors import CheckpointError
from vidrnn.fan_out import fan_out_all, on_cluster
from vidrnn.params import DeviceParams
from vidrnn.schema import SCHEMAS
from vidrnn.sources import stage_digest
from vidrnn.storage import (
    digest,
    is_fresh,
    read_metadata,
    read_table,
    remove_orphans,
    video_path,
    write_json,
)


@dataclass(frozen=True)
class _Job:
    row: dict[str, Any]
    model: Path
    cells: Path
    regions: Path
    out: Path
    windows: Path
    device: DeviceParams
    digest: str


def score_videos(index: pa.Table, features: Path, models: Path, out: Path, device: DeviceParams) -> None:
    """Bring the score files below `out` up to date: one for each scored video whose camera has a model.

    Args:
        index: the table `index`.
        features: root of the feature files.
        models: root of a model folder a camera.
        out: gets a file a video, one of its windows below `windows/`, and `skipped.json` with a sentence for each video
            that has none.
        device: where the network runs.
    """
    common = stage_digest("score", device.model_dump(), ["numpy", "torch"])
    versions = {camera_id: load_card(camera_dir(models, camera_id))["version"] for camera_id in cameras_in(models)}
    fates = json.loads((models / "cameras.json").read_text(encoding="utf-8"))
    decoded = read_table(features / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    analysed = {row["video_id"]: row["num_analysed"] for row in decoded}
    lasts = {row["video_id"]: row["duration_seconds"] for row in decoded}
    jobs, skipped = [], {}
    for row in index.to_pylist():
        camera_id, video_id = row["camera_id"], row["video_id"]
        if not row["scored"] or not analysed.get(video_id):
            continue
        if camera_id not in versions:
            why = fates.get(camera_id, {}).get("message") or f"camera {camera_id}: no footage of it trains"
            skipped[video_id] = f"not scored: {why}"
            continue
        cells, regions = (video_path(features / part, camera_id, video_id) for part in ("cells", "regions"))
        made_from = digest([read_metadata(cells)["digest"], versions[camera_id], common])
        target, windows = (video_path(root, camera_id, video_id) for root in (out, out / "windows"))
        jobs.append(_Job(row, camera_dir(models, camera_id), cells, regions, target, windows, device, made_from))
    stale = [job for job in jobs if not all(is_fresh(path, job.digest) for path in (job.out, job.windows))]
    here = len(stale) == 1 or _share_gpu(stale)
    begun = time.monotonic()
    problems = fan_out_all("score", _score, stale, lambda job: job.row["video_id"], here)
    for job, problem in zip(stale, problems, strict=True):
        if problem:
            skipped[job.row["video_id"]] = f"not scored: {problem}"
    if stale:
        footage, taken = sum(lasts[job.row["video_id"]] for job in stale), time.monotonic() - begun
        print(
            f"score: {footage / 60:.1f} minutes of footage, {footage / taken:.1f} times as fast as they were recorded"
        )
    kept = {path for job in jobs if job.row["video_id"] not in skipped for path in (job.out, job.windows)}
    write_json(out / "skipped.json", skipped)
    removed = remove_orphans(out, kept | {out / "skipped.json"})
    print(f"score: {len(stale)} scored, {len(jobs) - len(stale)} kept, {removed} files removed", flush=True)


def _share_gpu(jobs: list[_Job]) -> bool:
    """Whether they would all open the GPU of this machine, for which it has no room."""
    if not jobs or on_cluster():
        return False
    from vidrnn.device import CPU, choose_device  # here and below, not above: torch takes seconds, often for nothing

    return choose_device(jobs[0].device) != CPU


def _score(job: _Job) -> str:
    """Score one video; returns why it could not be, or an empty text."""
    import torch

    from vidrnn.device import choose_device
    from vidrnn.score import load_camera_model, score_video

    torch.set_num_threads(1)  # one process a core already; and the bits do not depend on how many cores there are
    try:
        model = load_camera_model(job.model, choose_device(job.device))
        picture = (job.row["width"], job.row["height"]) if job.row["width"] else None
        score_video(model, job.cells, job.regions, picture, job.out, job.windows, job.digest)
    except CheckpointError as error:
        return str(error)
    return ""
