"""What several tests share: synthesised clips whose times and pictures are known, and a small results repository."""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from commands import DVC, git
from hypothesis import settings
from numpy.typing import NDArray

from vidrnn.encode import VideoWriter
from vidrnn.schema import SCHEMAS
from vidrnn.storage import video_path, write_json, write_table

# The same examples for the same code: a test fails because of a change, and not one day in a hundred.
# `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
NIGHT = datetime(2026, 3, 1, 22, tzinfo=UTC)
VIDEOS = {"gate/b.mp4": NIGHT, "gate/a.mp4": NIGHT + timedelta(days=1), "north yard/ä.mp4": None}
Picture = NDArray[np.uint8]

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg and ffprobe are not installed"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where files are shared out among processes, none is left alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _leave_random_states_alone() -> Iterator[None]:
    """What one test draws from a global generator changes nothing for the next."""
    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    if torch:
        torch.set_rng_state(before[2])


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real temporary server, which all flows of these tests use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        import retrain  # noqa: F401  # first: it sets what Prefect reads when it is imported
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture(scope="session")
def nightly(prefect_server: None) -> ModuleType:
    """The module of the nightly flow."""
    import nightly

    return nightly


@pytest.fixture(scope="session")
def flow(prefect_server: None) -> ModuleType:
    """The module of the retraining flow."""
    import retrain

    return retrain


def texture(height: int, width: int, seed: int, low: int = 40, high: int = 200) -> Picture:
    """Smooth noise, (height, width) uint8, that every codec keeps and in which every place can be told."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), max(1.0, height / 80))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (low + (high - low) * smooth).astype(np.uint8)


def moving_square(count: int, height: int = 48, width: int = 64, step: float = 2.0, side: int = 16) -> list[Picture]:
    """A textured square that goes right by `step` pixels a picture, before a textured background."""
    background, square = texture(height, width, 1, 60, 120), texture(side, side, 2, 150, 250)
    top, pictures = (height - side) // 2, []
    for k in range(count):
        shift = np.array([[1, 0, 2 + k * step], [0, 1, top]], np.float32)
        moved = cv2.warpAffine(square, shift, (width, height))
        mask = cv2.warpAffine(np.ones((side, side), np.float32), shift, (width, height))
        pictures.append((background * (1 - mask) + moved * (mask > 0)).clip(0, 255).astype(np.uint8))
    return pictures


def write_clip(
    path: Path,
    pictures: Sequence[Picture],
    pts: Sequence[int] | None = None,
    *,
    rate: int = 20,
    time_base: Fraction | None = Fraction(1, 1000),
    rotation: int = 0,
    crf: int = 12,
) -> Path:
    """Encode pictures to H.264 with B-frames, at given `pts` in ticks or evenly spaced."""
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, rate, time_base=time_base, rotation=rotation, crf=crf) as writer:
        for k, picture in enumerate(pictures):
            writer.write(picture, None if pts is None else pts[k])
    return path


def damaged_clip(path: Path, pictures: Sequence[Picture]) -> Path:
    """A clip of which the middle third of the pictures' bytes is noise; its index is sound."""
    data = bytearray(write_clip(path, pictures, crf=5).read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    low, high = start + (end - start) // 3, start + 2 * (end - start) // 3
    data[low:high] = np.random.default_rng(0).bytes(high - low)
    path.write_bytes(data)
    return path


def ffmpeg(*arguments: object, program: str = "ffmpeg") -> bytes:
    """What FFmpeg's own tool writes to its standard output."""
    command = [program, "-v", "error", *(["-y"] if program == "ffmpeg" else []), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


def blank(table: str, /, **values: Any) -> dict[str, Any]:
    """A row of a table in which what is not given is null, zero, empty or false."""
    zeros = {pa.string(): "", pa.bool_(): False}
    row = {}
    for field in SCHEMAS[table]:
        zero = [] if pa.types.is_list(field.type) else zeros.get(field.type, 0)
        if pa.types.is_fixed_size_list(field.type):
            zero = [0.0] * field.type.list_size
        row[field.name] = values.get(field.name, None if field.nullable else zero)
    return row


def write(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    write_table(path, pa.Table.from_pylist(rows, schema=SCHEMAS[name]), SCHEMAS[name])


def fill(root: Path, version: str) -> None:
    """Write every table and measure; `version` shows in all of them."""
    data = root / "data"
    videos = []
    for video_id, recorded_at in VIDEOS.items():
        key = {"camera_id": video_id.split("/")[0], "video_id": video_id}
        facts = {"sha256": f"hash of {video_id}", "time_base_num": 1, "time_base_den": 1000, "duration_seconds": 3600.0}
        videos.append(blank("videos", **key, **facts, recorded_at=recorded_at, message=version))
        frames = [
            blank(
                "frames",
                **key,
                frame_index=3 * index,
                time_seconds=index / 10,
                score=0.1 * index,
                recorded_at=recorded_at and recorded_at + timedelta(milliseconds=100 * index),
            )
            for index in range(5)
        ]
        write(video_path(data / "tables/frames", *key.values()), "frames", frames)
        for name in ("detections", "tracks"):
            write(video_path(data / "tables" / name, *key.values()), name, [blank(name, **key, track_id=4)])
        event = blank("events", **key, recorded_at=recorded_at, model_version=version, track_ids=[4, 2])
        segment = blank("segments", **key, segment_id=f"{video_id}0", recorded_at=recorded_at, start="start")
        write(video_path(data / "tables/segments", *key.values()), "segments", [segment])
        events = [
            {**event, "event_id": f"{video_id}{pts}", "onset_pts": pts, "offset_pts": pts + 40} for pts in (90, 20)
        ]
        write(video_path(data / "tables/embeddings", *key.values()), "embeddings", [blank("embeddings", **key)])
        if video_id != "gate/a.mp4":  # nothing happened
            write(video_path(data / "tables/events", *key.values()), "events", events)
    write(data / "tables/videos.parquet", "videos", videos[::-1])
    write(data / "health.parquet", "health", [blank("health", camera_id="gate", night="2026-03-01", message=version)])
    write(data / "promotions.parquet", "promotions", [blank("promotions", camera_id="gate", reason=version)])
    rows = [blank("metrics", camera_id=camera, name="auroc", value=0.5) for camera in ("gate", "*")]
    write(data / "metrics.parquet", "metrics", rows)
    write_json(data / "model/gate/model.json", {"version": version})
    write_json(data / "metrics/train.json", {"version": version})
    write_json(data / "metrics/evaluate.json", {"auroc": {"low": 0.4}})


def make_repository(root: Path) -> None:
    """Tag `bare` holds no data, `one` the first, `two` the second; the workspace is at `two`."""
    root.mkdir()
    git(root, "init", "-q")
    subprocess.run([*DVC, "init", "-q"], cwd=root, check=True)
    (root / "data/videos").mkdir(parents=True)
    (root / "data/videos/footage.txt").write_text("stands for footage")
    (root / "dvc.yaml").write_text(
        "stages:\n"
        "  make:\n"
        "    cmd: 'true'\n"
        "    deps: [data/videos]\n"
        "    params: [model.cell, index.train]\n"
        "    outs: [data/tables: {persist: true}, data/promotions.parquet: {persist: true},"
        " data/health.parquet: {persist: true}, data/metrics.parquet: {persist: true}, data/model: {persist: true}]\n"
        "    metrics: [data/metrics/train.json: {cache: false, persist: true},"
        " data/metrics/evaluate.json: {cache: false, persist: true}]\n"
    )
    git(root, "add", "-A")
    git(root, "commit", "-qm", "bare")
    git(root, "tag", "bare")
    for version in ("one", "two"):
        fill(root, version)
        cell = {"one": "gru", "two": "lstm"}[version]
        (root / "params.yaml").write_text(
            f"data: {{videos: data/videos}}\nmodel: {{cell: {cell}}}\nindex: {{train: ['*']}}\n"
        )
        subprocess.run([*DVC, "repro", "-q", "-f"], cwd=root, check=True)
        git(root, "add", "-A")
        git(root, "commit", "-qm", version)
        git(root, "tag", version)
