"""What damaged footage does to a run: mutants of small sound clips go through the stages `index` and `features`.

    python -m benchmarks.reliability mutants --count N [--seed S]

prints how many files of each kind of damage ended with which status, the slowest file and the largest process. It exits
with 1 if anything was lost: a file without a row, a row without a sentence, a half-written file. The same seed makes
the same mutants; `tests/test_hostile.py` runs 300 of them.
"""

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from vidrnn.decode import VideoReader
from vidrnn.errors import DecodeError, VidrnnError
from vidrnn.extract import extract_features
from vidrnn.fan_out import Failure, fan_out, limit_memory, watched
from vidrnn.index import index_videos
from vidrnn.params import Params, load_params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table

# Of each: the codec, its pixel format and options. Some kilobytes each: damage meets headers as often as pictures.
CLIPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264.mp4": ("libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "h264.mkv": ("libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "h264.ts": ("libx264", "yuv420p", {"g": "12"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": "12"}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": "12"}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {"g": "12"}),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", {"g": "12"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", {}),
    "ffv1.mkv": ("ffv1", "yuv420p", {"level": "3", "slices": "4"}),
    "vp8.webm": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
}
STATUSES = ("ok", "partial", "unreadable")
Random = np.random.Generator


def _truncated(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: random.integers(len(data))]


def _flipped(data: bytes, other: bytes, random: Random) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    span = len(bits) if random.random() < 0.5 else min(len(bits), 8 * 512)  # half of them in the headers
    bits[random.integers(span, size=int(2 ** random.uniform(0, 8)))] ^= 1
    return np.packbits(bits).tobytes()


def _zeroed(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:start] + bytes(end - start) + data[end:]


def _noised(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:start] + random.bytes(end - start) + data[end:]


def _removed(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:start] + data[end:]


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    start, end = _range(other, random)
    at = random.integers(len(data))
    return data[:at] + other[start:end] + data[at:]


def _range(data: bytes, random: Random) -> tuple[int, int]:
    """A stretch from one byte to a third of the file."""
    start = int(random.integers(len(data)))
    return start, min(len(data), start + 1 + int(len(data) / 3 * random.random() ** 2))


DAMAGES: dict[str, Callable[[bytes, bytes, Random], bytes]] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "zeroed": _zeroed,
    "noised": _noised,
    "removed": _removed,
    "spliced": _spliced,
}


def write_clips(folder: Path, frames: int = 24) -> list[Path]:
    """The sound clips: a bright square that crosses noise, 96 × 64 pixels at 25 frames/s."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (codec, pixels, options) in CLIPS.items():
        with av.open(str(folder / name), "w", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
            stream.codec_context.thread_count = 1
            for k in range(frames):
                frame = av.VideoFrame.from_ndarray(_picture(k), format="gray").reformat(format=pixels)
                frame.pts, frame.time_base = k, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return [folder / name for name in CLIPS]


def _picture(k: int) -> NDArray[np.uint8]:
    picture = np.asarray(cv2.GaussianBlur(np.random.default_rng(0).random((64, 96)) * 120, (0, 0), 2), np.uint8)
    picture[24:40, 2 * k : 2 * k + 16] = 220
    return picture


def write_mutants(clips: list[Path], videos: Path, count: int, seed: int) -> dict[str, str]:
    """Damaged copies, `<damage>/<number>-<clip>`, the same for the same seed; the damage of each by `video_id`."""
    contents = [clip.read_bytes() for clip in clips]
    made = {}
    for k in range(count):
        random = np.random.default_rng([seed, k])
        damage = list(DAMAGES)[k % len(DAMAGES)]
        mine, other = (int(which) for which in random.integers(len(clips), size=2))
        path = videos / damage / f"{k:06d}-{clips[mine].name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DAMAGES[damage](contents[mine], contents[other], random))
        made[path.relative_to(videos).as_posix()] = damage
    return made


def run_stages(videos: Path, root: Path, params: Params) -> dict[str, dict[str, Any]]:
    """The rows of `index`, with what `features` found out, by `video_id`."""
    index = index_videos(videos, params.index, "UTC", root / "memory.json")
    extract_features(videos, index, params.features, root / "features")
    decoded = read_table(root / "features/decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    rows = {row["video_id"]: row for row in index.to_pylist()}
    for row in decoded:
        known = rows[row["video_id"]]
        rows[row["video_id"]] = known | row | {"message": "; ".join(filter(None, [known["message"], row["message"]]))}
    return rows


def what_is_lost(rows: dict[str, dict[str, Any]], video_ids: set[str], root: Path) -> list[str]:
    """What should not be: files without a row, rows without a sentence, and what was left half-written below `root`."""
    lost = [f"{video_id}: has no row" for video_id in sorted(video_ids - set(rows))]
    for video_id, row in rows.items():
        if row["status"] not in STATUSES or (row["status"] != "ok" and not row["message"].strip()):
            lost.append(f"{video_id}: {row['status']} without a sentence")
    return lost + [f"{path}: left half-written" for path in sorted(root.rglob("*.partial"))]


def _decode_seconds(path: Path) -> float:
    limit_memory()
    start = time.monotonic()
    try:
        with VideoReader(path) as reader:
            for _ in watched(reader.frames()):
                pass
    except DecodeError:
        pass  # to find that out is what took the time
    return time.monotonic() - start


app = typer.Typer(add_completion=False)


@app.callback()
def _app() -> None:
    """What damaged footage does to a run."""


@app.command()
def mutants(
    count: Annotated[int, typer.Option(min=1, help="Files to damage.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same files.")] = 0,
) -> None:
    """Damage clips, run `index` and `features` over them, and count what became of them."""
    try:
        params = load_params()
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        videos = root / "videos"
        damages = write_mutants(write_clips(root / "clips"), videos, count, seed)
        start = time.monotonic()
        rows = run_stages(videos, root / "out", params)
        seconds = time.monotonic() - start
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, on Linux
        lost = what_is_lost(rows, set(damages), root / "out")
        paths = [videos / video_id for video_id in damages]
        times = list(fan_out("decode", _decode_seconds, paths, lambda path: path.name, 600))
    print(f"\n| damage | {' | '.join(STATUSES)} |\n|---{'|---' * len(STATUSES)}|")
    for damage in DAMAGES:
        found = Counter(rows[video_id]["status"] for video_id in rows if damages[video_id] == damage)
        print(f"| {damage} | {' | '.join(str(found[status]) for status in STATUSES)} |")
    known = {path.name: took for path, took in zip(paths, times, strict=True) if not isinstance(took, Failure)}
    slowest = max(known, key=lambda name: known[name])
    print(
        f"\n{count} files of seed {seed} in {seconds:.0f} s; the slowest to decode, {slowest}, {known[slowest]:.2f} s;"
    )
    print(f"the largest process {largest / 1024:.0f} MiB; {len(lost)} lost")
    for line in lost:
        print(f"lost: {line}")
    raise typer.Exit(1 if lost else 0)


if __name__ == "__main__":
    app()
