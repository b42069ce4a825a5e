"""Hostile and damaged footage through `index` and `features`: a row with a sentence each, and the run goes on."""

import csv
import io
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import moving_square, write_clip
from synthetic import save_camera_model, write_fates
from typer.testing import CliRunner

from benchmarks.reliability import DAMAGES, app, run_stages, what_is_lost, write_clips, write_mutants
from vidrnn.cards import camera_dir
from vidrnn.features import Grid
from vidrnn.index import index_videos
from vidrnn.params import Params, load_params
from vidrnn.report import write_report
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, write_table
from vidrnn.tables import make_tables

ROOT = Path(__file__).resolve().parents[1]
SEED = 1
TOO_LARGE = "holds no picture of 1 to 134217728 pixels"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the code of a stage is looked up in dvc.yaml


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_square(40))


@pytest.fixture
def videos(tmp_path: Path, clip: Path) -> Path:
    """A footage folder with one sound video, `gate/sound.mp4`: the run goes on."""
    (tmp_path / "videos/gate").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "videos/gate/sound.mp4")
    return tmp_path / "videos"


def small(**changes: Any) -> Params:
    params = load_params(ROOT / "params.yaml")
    features = {"height": 80, "warmup_seconds": 0.5, **changes}
    return params.model_copy(update={"features": params.features.model_copy(update=features)})


def run(videos: Path, params: Params | None = None) -> dict[str, dict[str, Any]]:
    """The rows by file name; nothing is lost, and the sound video is ok."""
    root = videos.parent / "out"
    rows = run_stages(videos, root, params or small())
    found = {path.relative_to(videos).as_posix() for path in videos.rglob("*") if not path.is_dir()}
    assert what_is_lost(rows, found, root) == []
    assert rows["gate/sound.mp4"]["status"] == "ok"
    return {Path(video_id).name: row for video_id, row in rows.items() if video_id != "gate/sound.mp4"}


@pytest.mark.slow
def test_mutants_are_rows(videos: Path) -> None:
    sound = write_clips(videos.parent / "clips")
    damages = write_mutants(sound, videos, 300, SEED)
    assert len(damages) == 300
    start = time.monotonic()
    rows = run(videos)
    assert time.monotonic() - start < 120
    statuses = Counter(row["status"] for row in rows.values())
    assert sum(statuses.values()) == 300 and min(statuses[status] for status in ("ok", "partial", "unreadable")) > 10
    assert not [row["message"] for row in rows.values() if "the process that reads it" in row["message"]]


def test_mutants_are_those_of_their_seed(tmp_path: Path) -> None:
    sound = write_clips(tmp_path / "clips", frames=4)
    contents = []
    for k, seed in enumerate((1, 1, 2)):
        made = write_mutants(sound, tmp_path / str(k), 60, seed)
        assert set(made.values()) == set(DAMAGES)
        contents.append({video_id: (tmp_path / str(k) / video_id).read_bytes() for video_id in made})
    assert contents[0] == contents[1] != contents[2]
    originals = {clip.read_bytes() for clip in sound}
    assert sum(content in originals for content in contents[0].values()) < 6  # a range of zeros may be one already


def test_what_is_lost_is_seen_and_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".x.parquet.1.partial").touch()
    rows = {"a": {"status": "partial", "message": " "}, "b": {"status": "ok", "message": ""}}
    lost = what_is_lost(rows, {"a", "b", "c"}, tmp_path)
    assert [line.split(": ")[-1] for line in lost] == ["has no row", "partial without a sentence", "left half-written"]
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["mutants", "--count", "1"]).exit_code == 2  # no params.yaml here


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{target}'\n"
DASH = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S"
 profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"
 bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"""
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="{target}"/></svg>'
META = ";FFMETADATA1\n[STREAM]\nurl={target}\n"


def test_playlists_in_disguise_open_nothing(videos: Path) -> None:
    """The local target is a pipe without a writer: whoever opened it would hang until the time limit."""
    pipe = videos.parent / "pipe.ts"
    os.mkfifo(pipe)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        targets = [f"http://127.0.0.1:{port}/a.ts", f"tcp://127.0.0.1:{port}", "../../pipe.ts", pipe, f"file:{pipe}"]
        for kind, text in {"m3u8": HLS, "ffconcat": CONCAT, "mpd": DASH, "sdp": SDP, "svg": SVG, "txt": META}.items():
            for k, target in enumerate([*targets, f"concat:{pipe}|{pipe}"]):
                for suffix in ("mp4", kind):
                    path = videos / f"gate/{kind}-{k}.{suffix}"
                    path.write_text(text.format(target=target, port=port))
        (videos / "gate/frame%03d.png").write_bytes(b"a pattern that would name other files")
        (videos / "gate/frame*.jpg").write_bytes(b"and another")
        rows = run(videos)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert len(rows) == 6 * 6 * 2 + 2
    assert {row["status"] for row in rows.values()} == {"unreadable"}
    assert not [row for row in rows.values() if "took longer" in row["message"]]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bits(*fields: tuple[int, int] | int) -> bytes:
    """H.264's fields as bytes with a stop bit: (value, bits), or an exponential Golomb code."""
    text = ""
    for field in fields:
        value, width = field if isinstance(field, tuple) else (field + 1, 2 * (field + 1).bit_length() - 1)
        text += f"{value:0{width}b}"
    text += "1" + "0" * (-(len(text) + 1) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def write_frames(container: Any, codec: str, count: int) -> None:
    """A black picture of 16 × 16 in each of `count` streams."""
    streams = [container.add_stream(codec, rate=10) for _ in range(count)]
    for stream in streams:
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
    for stream in streams:
        frame = av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p")
        container.mux([*stream.encode(frame), *stream.encode()])


def test_pictures_that_are_too_large_are_a_sentence(videos: Path) -> None:
    gate, side = videos / "gate", struct.pack(">HH", 65535, 65535)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    (gate / "a.png").write_bytes(png)
    motion = next(path for path in write_clips(videos.parent / "clips", 4) if path.name == "mjpeg.avi").read_bytes()
    start = motion.index(b"\xff\xc0") + 5  # of the height in the first frame's header
    old = motion[start : start + 4]
    (gate / "b.avi").write_bytes(motion.replace(b"\xff\xc0\x00\x11\x08" + old, b"\xff\xc0\x00\x11\x08" + side))
    with av.open(str(gate / "c.avi"), "w") as container:
        write_frames(container, "rawvideo", 1)
    raw = (gate / "c.avi").read_bytes()
    at = raw.index(b"strf") + 12
    for name, length in (("c.avi", 65535), ("large.avi", 20000)):
        (gate / name).write_bytes(raw[:at] + struct.pack("<ii", length, length) + raw[at + 8 :])
    sps = bits((66, 8), (0, 8), (62, 8), 0, 0, 2, 1, (0, 1), 4094, 4094, (1, 1), (1, 1), (0, 1), (0, 1))
    pps = bits(0, 0, (0, 1), (0, 1), 0, 0, 0, (0, 1), (0, 2), 0, 0, 0, (0, 1), (0, 1), (0, 1))
    units = [b"\x67" + sps, b"\x68" + pps, b"\x65" + bits(0, 7, 0, (0, 4), 0) + bytes(range(1, 200))]
    (gate / "d.h264").write_bytes(b"".join(b"\0\0\0\1" + unit for unit in units) * 4)
    rows = run(videos)
    messages = {name: row["message"] for name, row in rows.items() if row["status"] == "unreadable"}
    assert messages.pop("b.avi") == "holds no frame that can be decoded"  # its container says another size
    assert messages == dict.fromkeys(["a.png", "c.avi", "d.h264", "large.avi"], TOO_LARGE)


def test_a_thousand_streams_are_a_sentence(videos: Path) -> None:
    for name, count in (("many.mp4", 1000), ("few.mkv", 64)):
        with av.open(str(videos / "gate" / name), "w") as container:
            write_frames(container, "mpeg4", count)
    rows = run(videos)
    assert rows["many.mp4"]["message"] == "holds 1000 streams, more than 64"
    assert rows["few.mkv"]["status"] == "ok"


def test_links_pipes_and_devices(videos: Path, clip: Path) -> None:
    gate = videos / "gate"
    cached = videos.parent / "cache/files/md5/ab" / ("c" * 30)
    cached.parent.mkdir(parents=True)
    shutil.copy(clip, cached)
    (gate / "kept by dvc.mp4").symlink_to(cached)
    (gate / "inside.mp4").symlink_to("sound.mp4")
    (gate / "outside.mp4").symlink_to(clip)
    (gate / "nowhere.mp4").symlink_to("gone.mp4")
    (gate / "a.mp4").symlink_to("b.mp4")
    (gate / "b.mp4").symlink_to("a.mp4")
    (gate / "up").symlink_to("..")
    (gate / "zero.mp4").symlink_to("/dev/zero")
    os.mkfifo(gate / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(gate)  # the path of a socket is short
        bound.bind("socket.mp4")
        os.chdir(ROOT)
        rows = run(videos)
    assert {name: (row["status"], row["message"]) for name, row in rows.items()} == {
        "kept by dvc.mp4": ("ok", ""),
        "inside.mp4": ("ok", ""),
        "outside.mp4": ("ok", "is a link to a file outside the footage folder"),
        "nowhere.mp4": ("unreadable", "cannot be read (No such file or directory)"),
        "a.mp4": ("unreadable", "cannot be read (Too many levels of symbolic links)"),
        "b.mp4": ("unreadable", "cannot be read (Too many levels of symbolic links)"),
        "up": ("unreadable", "is a link to a folder, which is not followed; link its files instead"),
        "zero.mp4": ("unreadable", "is neither a file nor a folder"),
        "pipe.mp4": ("unreadable", "is neither a file nor a folder"),
        "socket.mp4": ("unreadable", "is neither a file nor a folder"),
    }


def crash_reader_of(folder: Path) -> None:
    """Send a segmentation fault to the process that writes a feature file below `folder`, once there is one."""
    for _ in range(3000):
        for partial in folder.rglob("*.partial"):
            process = int(partial.name.split(".")[-2])
            if process != os.getpid():
                os.kill(process, signal.SIGSEGV)
                return
        time.sleep(0.01)


def test_a_file_on_which_the_decoder_crashes_or_takes_too_long(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / "gate").mkdir(parents=True)
    write_clip(videos / "gate/long.mp4", moving_square(1500))
    index_videos(videos, small().index, "UTC", tmp_path / "out/memory.json")  # so that only `features` is met
    features = tmp_path / "out/features/cells"
    threading.Thread(target=crash_reader_of, args=(features,), daemon=True).start()
    rows = run_stages(videos, tmp_path / "out", small())
    assert what_is_lost(rows, {"gate/long.mp4"}, tmp_path / "out") == []
    assert rows["gate/long.mp4"]["message"] == "made the process that reads it die (signal 11)"

    late = run_stages(videos, tmp_path / "out", small(time_limit_seconds=0.2))["gate/long.mp4"]
    assert (late["status"], late["message"]) == ("unreadable", "took longer than 0.2 s to read")
    again = run_stages(videos, tmp_path / "out", small())["gate/long.mp4"]  # the next run tries again
    assert (again["status"], again["num_frames"]) == ("ok", 1500)


def test_an_unchanged_folder_starts_no_process(videos: Path) -> None:
    for k in range(5):
        (videos / f"gate/{k}.mp4").symlink_to("sound.mp4")
    params, memory = small(), videos.parent / "memory.json"
    first = index_videos(videos, params.index, "UTC", memory)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert index_videos(videos, params.index, "UTC", memory).equals(first)
    assert resource.getrusage(resource.RUSAGE_CHILDREN) == before  # a process would have taken time and memory
    assert first.num_rows == 6 and set(first["status"].to_pylist()) == {"ok"}
    text = memory.read_text()
    memory.write_text(text.replace('"decoder": "', '"decoder": "another'))  # read anew, hashed no more
    assert index_videos(videos, params.index, "UTC", memory).equals(first) and memory.read_text() == text


NAMES = [
    'line\nbreak, "quote\'s".mp4',
    "<img src=x onerror=alert(1)>.mp4",
    "--help.mp4",
    "a..b.mp4",
    "\x1b[2J\u202e${HOME};`id` ä 入.mp4",
]


class Texts(HTMLParser):
    """The text of a page, and its tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
def test_names_from_the_index_to_the_report(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cameras = ["gate", "<svg onload=alert(1)>", "-r"]
    videos, data = tmp_path / "videos", tmp_path / "data"
    wanted = [f"gate/{name}" for name in NAMES] + [f"{camera}/{NAMES[0]}" for camera in cameras[1:]]
    for video_id in wanted:
        (videos / video_id).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, videos / video_id)
    shutil.copy(clip, os.fsencode(videos) + b"/gate/caf\xe9.mp4")
    params = small()
    rows = run_stages(videos, data, params)
    assert {video_id for video_id, row in rows.items() if row["status"] == "ok"} == set(wanted)
    assert rows["gate/caf\\udce9.mp4"]["status"] == "unreadable"

    for camera in cameras:
        save_camera_model(
            camera_dir(data / "model", camera), columns=Grid.of(64, 48, 80).columns, tail=(-9.0, 10, 1, 1)
        )
    write_fates(data / "model", **dict.fromkeys(cameras, ""))
    index = index_videos(videos, params.index, "UTC", data / "memory.json")
    score_videos(index, data / "features", data / "model", data / "scores", params.device)
    made = [data / name for name in ("features", "model", "scores")]
    make_tables(videos, index, *made, params.alarms, data / "tables", data / "media")
    table = read_table(data / "tables/videos.parquet", SCHEMAS["videos"])
    assert set(table["video_id"].to_pylist()) == {*wanted, "gate/caf\\udce9.mp4"}
    assert len(list((data / "tables/events").rglob("*.parquet"))) == len(wanted)
    assert list((data / "media").rglob("*.jpg"))
    for name in ("promotions", "metrics", "health"):
        write_table(data / f"{name}.parquet", SCHEMAS[name].empty_table(), SCHEMAS[name])
    assert all(path.resolve().is_relative_to(data) for path in data.rglob("*"))

    page = tmp_path / "report/index.html"
    parts = [
        data / name for name in ("tables", "media", "promotions.parquet", "metrics.parquet", "health.parquet", "model")
    ]
    write_report(*parts, page, params)
    report = Texts(page.read_text(encoding="utf-8"))
    assert not [tag for tag, attributes in report.tags if {"onerror", "onload"} & set(attributes)]
    assert "<img src=x onerror=alert(1)>.mp4" in report.text and "caf\\udce9.mp4" in report.text

    printed = capfd.readouterr()
    shown = (printed.out + printed.err).replace("\n", "")
    assert shown.isprintable() and "line\\nbreak" in shown

    (tmp_path / ".dvc").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "vidrnn.cli", "table", "videos", "--csv", "--columns", "video_id,camera_id,message"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    found = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [row["video_id"] for row in found] and {row["video_id"] for row in found} == {*wanted, "gate/caf\\udce9.mp4"}
