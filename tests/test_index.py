"""Every file is a row; what a name, a container and a pattern say is what the row says."""

import os
import shutil
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import pytest
from conftest import ffmpeg, moving_square, needs_ffmpeg, write_clip
from hypothesis import given
from hypothesis import strategies as st

from vidrnn.errors import FootageError
from vidrnn.index import index_videos, matches, recorded_at
from vidrnn.params import IndexParams, load_params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import sha256_file, write_table

ROOT = Path(__file__).resolve().parents[1]
PARAMS = load_params(ROOT / "params.yaml").index
PATTERN = PARAMS.recorded_at_pattern


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_square(10))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def put(clip: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(clip, target))


def rows_of(videos: Path, params: IndexParams = PARAMS, time_zone: str = "UTC") -> dict[str, dict[str, Any]]:
    table = index_videos(videos, params, time_zone, videos.parent / "hashes.json")
    write_table(videos.parent / "index.parquet", table, SCHEMAS["index"])  # whatever it holds can be written
    rows = table.to_pylist()
    assert [row["video_id"] for row in rows] == sorted(row["video_id"] for row in rows)
    return {row["video_id"]: row for row in rows}


def test_the_row_of_a_video(videos: Path, clip: Path) -> None:
    put(clip, videos / "gate/train/2026-03-01_22-15-00.mp4")
    assert rows_of(videos) == {
        "gate/train/2026-03-01_22-15-00.mp4": {
            "camera_id": "gate",
            "video_id": "gate/train/2026-03-01_22-15-00.mp4",
            "sha256": sha256_file(clip),
            "codec": "h264",
            "width": 64,
            "height": 48,
            "rotation": 0,
            "time_base_num": 1,
            "time_base_den": 1000,
            "duration_seconds": pytest.approx(0.5),
            "recorded_at": datetime(2026, 3, 1, 22, 15, tzinfo=UTC),
            "recorded_at_source": "name",
            "trains": True,
            "scored": False,
            "status": "ok",
            "message": "",
        }
    }


def test_cameras_are_first_folders(videos: Path, clip: Path) -> None:
    for name in ("a.mp4", "gate/b.mp4", "gate/2026/03/c.mp4", "north yard ä/d.mp4", "50%/e.mp4"):
        put(clip, videos / name)
    cameras = {video_id: row["camera_id"] for video_id, row in rows_of(videos).items()}
    assert cameras == {
        "a.mp4": "default",
        "gate/b.mp4": "gate",
        "gate/2026/03/c.mp4": "gate",
        "north yard ä/d.mp4": "north yard ä",
        "50%/e.mp4": "50%",
    }


def test_hidden_files_and_folders_are_passed_over(videos: Path, clip: Path) -> None:
    for name in ("gate/a.mp4", "gate/.b.mp4", ".trash/c.mp4", "gate/.git/d.mp4", ".e.mp4"):
        put(clip, videos / name)
    assert list(rows_of(videos)) == ["gate/a.mp4"]


def test_order_is_that_of_names_not_of_folders(tmp_path: Path, clip: Path) -> None:
    names = ["b/2.mp4", "a.mp4", "b/10.mp4", "a/z.mp4", "a b/1.mp4", "B/1.mp4"]
    tables = []
    for order in (names, names[::-1]):
        videos = tmp_path / f"{len(tables)}" / "videos"
        for name in order:
            put(clip, videos / name)
        tables.append(index_videos(videos, PARAMS, "UTC", videos.parent / "hashes.json"))
    assert tables[0].equals(tables[1])
    assert tables[0]["video_id"].to_pylist() == sorted(names)


def test_unreadable_files_are_rows_and_the_run_goes_on(videos: Path, clip: Path) -> None:
    put(clip, videos / "gate/a.mp4")
    (videos / "gate/b.mp4").write_bytes(b"not a video\n" * 99)
    (videos / "gate/c.mp4").touch()
    (videos / "gate/notes.txt").write_text("a text\n" * 99)
    (videos / "gate/d.mp4").symlink_to("nowhere.mp4")
    (videos / "gate/e.mp4").symlink_to("e.mp4")
    (videos / "gate/f.mp4").symlink_to("g.mp4")
    (videos / "gate/g.mp4").symlink_to("f.mp4")
    (videos / "gate/loop").symlink_to("..")
    (videos / "gate/mem.mp4").symlink_to("/proc/self/mem")  # opens, and then cannot be read
    os.mkfifo(videos / "gate/pipe.mp4")
    (videos / "gate/linked.mp4").symlink_to(clip)
    rows = rows_of(videos)
    assert {video_id for video_id, row in rows.items() if row["status"] == "ok"} == {"gate/a.mp4", "gate/linked.mp4"}
    messages = {Path(video_id).stem: row["message"] for video_id, row in rows.items() if row["status"] == "unreadable"}
    assert all(not row["trains"] and not row["scored"] for row in rows.values() if row["status"] == "unreadable")
    assert messages.pop("b").startswith("is not a video that can be opened (Invalid data")
    assert messages == {
        "c": "is empty",
        "notes": "is text without a line of numbers; expected numbers separated by blanks, a frame a line, or frames "
        "that blank lines or headings separate",
        "d": "cannot be read (No such file or directory)",
        "e": "cannot be read (Too many levels of symbolic links)",
        "f": "cannot be read (Too many levels of symbolic links)",
        "g": "cannot be read (Too many levels of symbolic links)",
        "loop": "is a link to a folder, which is not followed; link its files instead",
        "mem": "cannot be read (Input/output error)",
        "pipe": "is neither a file nor a folder",
    }


def test_a_name_that_is_not_utf8_is_a_row(videos: Path, clip: Path) -> None:
    put(clip, videos / "gate/a.mp4")
    shutil.copyfile(clip, os.fsencode(videos) + b"/gate/caf\xe9.mp4")
    os.mkdir(os.fsencode(videos) + b"/\xff")
    shutil.copyfile(clip, os.fsencode(videos) + b"/\xff/b.mp4")
    rows = rows_of(videos)
    assert list(rows) == ["\\udcff/b.mp4", "gate/a.mp4", "gate/caf\\udce9.mp4"]
    assert [row["status"] for row in rows.values()] == ["unreadable", "ok", "unreadable"]
    assert rows["gate/caf\\udce9.mp4"]["message"] == "has a name that is not UTF-8; rename it"


def test_a_camera_whose_folder_would_have_too_long_a_name_is_said(videos: Path, clip: Path) -> None:
    for camera in ("入" * 30, "a" * 240):
        put(clip, videos / camera / "a.mp4")
    assert [row["status"] for row in rows_of(videos).values()] == ["ok", "unreadable"]


VANISHING = """
import os, sys
from pathlib import Path
from vidrnn.index import index_videos
from vidrnn.params import IndexParams
videos = Path(sys.argv[1])
def remove(event, arguments):  # b.mp4, which is listed by then, as soon as a.mp4 is opened
    if event == "open" and str(arguments[0]).endswith("a.mp4"):
        (videos / "gate/b.mp4").unlink(missing_ok=True)
sys.addaudithook(remove)
params = IndexParams(frames_rate=10, train=["*"], test=["*"], recorded_at_pattern=None)
for row in index_videos(videos, params, "UTC", videos.parent / "hashes.json").to_pylist():
    print(row["video_id"], row["status"], row["message"])
"""


def test_a_file_that_vanishes_after_it_was_listed_is_a_row(videos: Path, clip: Path) -> None:
    for name in "abc":
        put(clip, videos / f"gate/{name}.mp4")
    command = [sys.executable, "-c", VANISHING, str(videos)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "gate/b.mp4 unreadable cannot be read (No such file or directory)" in done.stdout
    assert "gate/a.mp4 ok" in done.stdout and "gate/c.mp4 ok" in done.stdout


def test_no_footage_is_one_sentence(tmp_path: Path, videos: Path) -> None:
    def complaint(folder: Path) -> str:
        with pytest.raises(FootageError) as caught:
            index_videos(folder, PARAMS, "UTC", tmp_path / "hashes.json")
        assert str(caught.value).startswith(f"{folder}: ") and "\n" not in str(caught.value)
        assert "set data.videos" in str(caught.value)
        return str(caught.value)

    assert "no such folder" in complaint(tmp_path / "nowhere")
    assert "holds no files" in complaint(videos)
    (videos / "gate").mkdir()
    (videos / "gate/.hidden.mp4").touch()
    assert "holds no files" in complaint(videos)
    (videos / "gate/a.mp4").touch()
    (videos / "gate/b.txt").write_text("a text")
    assert "none of its 2 files is a video that can be read; the first, gate/a.mp4, is empty;" in complaint(videos)


def test_a_camera_of_the_name_of_all_is_refused(videos: Path, clip: Path) -> None:
    put(clip, videos / "*/a.mp4")
    with pytest.raises(FootageError, match=r"a camera cannot be called \*; rename the folder"):
        rows_of(videos)


def test_the_memory_of_hashes_follows_size_and_mtime(videos: Path, clip: Path) -> None:
    path = put(clip, videos / "gate/a.mp4")
    os.utime(path, ns=(10**18, 10**18))
    first = rows_of(videos)["gate/a.mp4"]["sha256"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 255  # of the same size
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    assert rows_of(videos)["gate/a.mp4"]["sha256"] == first  # it was not read: neither size nor mtime changed
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert rows_of(videos)["gate/a.mp4"]["sha256"] == sha256_file(path) != first
    path.write_bytes(clip.read_bytes() + b"\0")
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert rows_of(videos)["gate/a.mp4"]["sha256"] == sha256_file(path)


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for k, picture in enumerate(moving_square(count)):
        cv2.imwrite(str(folder / f"{k}.png"), picture)


def test_a_folder_of_pictures_is_one_row(videos: Path, clip: Path) -> None:
    write_pictures(videos / "gate/test/2026-03-01_22-15-00", 12)
    (videos / "gate/test/2026-03-01_22-15-00/.thumbs").touch()
    write_pictures(videos / "alone", 2)
    write_pictures(videos / "gate/mixed", 2)
    put(clip, videos / "gate/mixed/a.mp4")
    write_pictures(videos / "gate/deep", 2)
    write_pictures(videos / "gate/deep/deeper", 2)
    (videos / "gate/linked").symlink_to("deep")
    rows = rows_of(videos)
    assert {video_id: (row["camera_id"], row["status"]) for video_id, row in rows.items()} == {
        "alone": ("default", "ok"),  # as every video that lies in no folder
        "gate/deep": ("gate", "ok"),
        "gate/deep/deeper": ("gate", "ok"),
        "gate/linked": ("gate", "unreadable"),
        "gate/mixed/0.png": ("gate", "unreadable"),
        "gate/mixed/1.png": ("gate", "unreadable"),
        "gate/mixed/a.mp4": ("gate", "ok"),
        "gate/test/2026-03-01_22-15-00": ("gate", "ok"),
    }
    assert rows["gate/mixed/0.png"]["message"].startswith("is a single picture; a folder that holds nothing but")
    row = rows["gate/test/2026-03-01_22-15-00"]
    assert (row["codec"], row["width"], row["height"], row["rotation"]) == ("png", 64, 48, 0)
    assert (row["time_base_num"], row["time_base_den"], row["duration_seconds"]) == (1, 10, pytest.approx(1.2))
    assert (row["recorded_at"], row["recorded_at_source"]) == (datetime(2026, 3, 1, 22, 15, tzinfo=UTC), "name")
    assert (row["trains"], row["scored"], row["message"]) == (False, True, "")


def test_the_memory_of_a_folder_follows_each_of_its_pictures(videos: Path) -> None:
    folder = videos / "gate/walk"
    write_pictures(folder, 4)
    hashes = [rows_of(videos)["gate/walk"]["sha256"]]
    content = (folder / "2.png").read_bytes()
    cv2.imwrite(str(folder / "2.png"), moving_square(1)[0])  # changed
    hashes.append(rows_of(videos)["gate/walk"]["sha256"])
    (folder / "2.png").rename(folder / "5.png")
    hashes.append(rows_of(videos)["gate/walk"]["sha256"])
    (folder / "5.png").unlink()
    row = rows_of(videos)["gate/walk"]
    assert row["message"] == "lacks 1 of the 4 pictures that its numbers promise"
    hashes.append(row["sha256"])
    assert len(set(hashes)) == 4
    (folder / "2.png").write_bytes(content)
    assert rows_of(videos)["gate/walk"]["sha256"] == hashes[0]
    for path in folder.iterdir():
        os.utime(path)
    assert rows_of(videos)["gate/walk"]["sha256"] == hashes[0]


def test_what_lies_in_a_folder_of_pictures_is_as_hostile_as_anything(videos: Path, clip: Path, tmp_path: Path) -> None:
    put(clip, videos / "gate/a.mp4")
    for name in ("pipe", "gone", "out", "bomb"):
        write_pictures(videos / f"gate/{name}", 2)
    os.mkfifo(videos / "gate/pipe/2.png")
    (videos / "gate/gone/2.png").symlink_to("nowhere.png")
    (tmp_path / "secret.png").write_bytes((videos / "gate/out/1.png").read_bytes())
    (videos / "gate/out/2.png").symlink_to(tmp_path / "secret.png")
    for k in range(2):
        content = bytearray((videos / f"gate/bomb/{k}.png").read_bytes())
        content[16:24] = struct.pack(">II", 65535, 65535)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        (videos / f"gate/bomb/{k}.png").write_bytes(content)
    rows = {video_id: (row["status"], row["message"]) for video_id, row in rows_of(videos).items()}
    assert rows == {
        "gate/a.mp4": ("ok", ""),
        "gate/bomb": ("unreadable", "holds no picture of 1 to 134217728 pixels that can be decoded"),
        "gate/gone": ("unreadable", "holds 2.png, which cannot be read (No such file or directory)"),
        "gate/out": ("ok", "holds a link to a file outside the footage folder"),
        "gate/pipe": ("unreadable", "holds 2.png, which is neither a file nor a folder"),
    }


@pytest.mark.parametrize("content", ["", "not json", "[1]", '{"a'])
def test_a_lost_memory_of_hashes_only_costs_time(videos: Path, clip: Path, content: str) -> None:
    path = put(clip, videos / "gate/a.mp4")
    (videos.parent / "hashes.json").write_text(content)
    assert rows_of(videos)["gate/a.mp4"]["sha256"] == sha256_file(path)


@needs_ffmpeg
def test_the_clock_is_the_name_then_the_container_never_the_file(videos: Path, clip: Path) -> None:
    (videos / "gate").mkdir()
    stamp = ["-c", "copy", "-metadata", "creation_time=2025-12-31T23:59:58Z"]
    ffmpeg("-i", clip, *stamp, videos / "gate/20260301T221500.mp4")
    ffmpeg("-i", clip, *stamp, videos / "gate/named otherwise.mp4")
    put(clip, videos / "gate/plain.mp4")
    put(clip, videos / "gate/20261301T221500.mp4")  # of a thirteenth month
    found = {Path(i).stem: (row["recorded_at"], row["recorded_at_source"]) for i, row in rows_of(videos).items()}
    assert found == {
        "20260301T221500": (datetime(2026, 3, 1, 22, 15, tzinfo=UTC), "name"),
        "named otherwise": (datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC), "container"),
        "plain": (None, "none"),
        "20261301T221500": (None, "none"),
    }


@pytest.mark.parametrize(
    ("name", "time_zone", "expected"),
    [
        ("cam_20260301221500.mp4", "UTC", "2026-03-01T22:15:00+00:00"),
        ("2026-03-01 22:15:00.mp4", "Europe/Berlin", "2026-03-01T21:15:00+00:00"),
        ("2026-07-01T22-15-00.mp4", "Europe/Berlin", "2026-07-01T20:15:00+00:00"),
        ("2026-03-01T22-15-00.mp4", "America/New_York", "2026-03-02T03:15:00+00:00"),
        ("20260329_015959.mp4", "Europe/Berlin", "2026-03-29T00:59:59+00:00"),
        ("20260329_020000.mp4", "Europe/Berlin", None),  # clocks go from 2 to 3
        ("20260329_025959.mp4", "Europe/Berlin", None),
        ("20260329_030000.mp4", "Europe/Berlin", "2026-03-29T01:00:00+00:00"),
        ("20261025_023000.mp4", "Europe/Berlin", "2026-10-25T00:30:00+00:00"),  # the first of two
        ("20260230_120000.mp4", "UTC", None),
        ("20260301_246000.mp4", "UTC", None),
        ("00000101_000000.mp4", "UTC", None),
        ("00010101_000000.mp4", "Asia/Tokyo", None),  # before the first year in UTC
        ("holiday.mp4", "UTC", None),
    ],
)
def test_the_time_that_a_name_says(name: str, time_zone: str, expected: str | None) -> None:
    found = recorded_at(name, PATTERN, time_zone)
    assert (found and found.isoformat()) == expected


def test_patterns_of_ones_own() -> None:
    pattern = r"(?P<day>\d+)\.(?P<month>\w+)\.(?P<year>\d+) (?P<hour>\d+)h(?P<minute>\d\d)(?P<second>\d\d)?"
    assert recorded_at("1.3.2026 22h15.mp4", pattern, "UTC") == datetime(2026, 3, 1, 22, 15, tzinfo=UTC)
    assert recorded_at("1.3.2026 22h1507.mp4", pattern, "UTC") == datetime(2026, 3, 1, 22, 15, 7, tzinfo=UTC)
    assert recorded_at("1.March.2026 22h15.mp4", pattern, "UTC") is None
    assert recorded_at("20260301_221500.mp4", None, "UTC") is None


@given(st.datetimes(datetime(1990, 1, 1), datetime(2037, 12, 31)).map(lambda at: at.replace(microsecond=0)))
def test_every_time_in_utc_goes_round(at: datetime) -> None:
    assert recorded_at(f"cam-{at:%Y%m%d-%H%M%S}.mp4", PATTERN, "UTC") == at.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("patterns", "taken"),
    [
        (["*"], ["a.mp4", "gate/a.mp4", "gate/test/b.mp4"]),
        ([], []),
        (["*", "!*/test/*"], ["a.mp4", "gate/a.mp4"]),
        (["!*/test/*", "*"], ["a.mp4", "gate/a.mp4", "gate/test/b.mp4"]),
        (["gate/*", "!*/test/*", "*/b.mp4"], ["gate/a.mp4", "gate/test/b.mp4"]),
        (["*/a.mp4"], ["gate/a.mp4"]),
        (["GATE/*"], []),
        (["!*"], []),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns: list[str], taken: list[str]) -> None:
    assert [name for name in ("a.mp4", "gate/a.mp4", "gate/test/b.mp4") if matches(name, patterns)] == taken
