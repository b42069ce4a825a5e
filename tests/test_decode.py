"""Real files, against what the encoder was given and against FFmpeg's own tools."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from av import VideoFrame
from conftest import Picture, damaged_clip, ffmpeg, moving_square, needs_ffmpeg, texture, write_clip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidrnn.decode import Frame, VideoReader
from vidrnn.errors import DecodeError
from vidrnn.features import Grid, working_picture
from vidrnn.timebase import TimeBase

VFR = [0, 40, 47, 90, 200, 201, 340, 1500, 1510, 1600]
SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=20:duration=4,noise=alls=12:allf=t:all_seed=3")


def read(path: Path, threads: int = 1) -> list[tuple[Frame, Picture]]:
    """Every frame with a copy of its luma."""
    with VideoReader(path, threads) as reader:
        return [(frame, frame.luma.copy()) for frame in reader.frames()]


def error_of(path: Path) -> str:
    with pytest.raises(DecodeError) as caught, VideoReader(path) as reader:
        reader.facts()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def probe(path: Path) -> dict[str, object]:
    fields = "frame=pts:stream=codec_name,time_base,duration,width,height"
    found = json.loads(
        ffmpeg("-select_streams", "v:0", "-show_entries", fields, "-of", "json", path, program="ffprobe")
    )
    return {**found["streams"][0], "pts": [frame["pts"] for frame in found["frames"]]}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 5000), st.lists(st.integers(1, 900), min_size=0, max_size=12), st.sampled_from([".mp4", ".mkv"]))
def test_pts_of_any_spacing_and_start_come_back(tmp_path: Path, start: int, gaps: list[int], suffix: str) -> None:
    pts = list(accumulate(gaps, initial=start))
    path = write_clip(tmp_path / f"clip{suffix}", moving_square(len(pts)), pts)
    found = read(path)
    assert [frame.pts for frame, _ in found] == pts
    assert [frame.frame_index for frame, _ in found] == list(range(len(pts)))
    with VideoReader(path) as reader:
        assert reader.time_base == TimeBase(1, 1000)


def test_pictures_are_those_that_were_encoded(tmp_path: Path) -> None:
    pictures = moving_square(12)
    found = read(write_clip(tmp_path / "clip.mp4", pictures, [*VFR, 1700, 1800]))
    for picture, (frame, luma) in zip(pictures, found, strict=True):
        assert frame.limited_range and luma.shape == picture.shape
        restored = (luma.astype(float) - 16) * 255 / 219
        assert np.abs(restored - picture).mean() < 3


def test_facts_are_those_of_the_encoder(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_square(20), time_base=Fraction(1, 12800))
    with VideoReader(path) as reader:
        facts = reader.facts()
    assert (facts.codec, facts.width, facts.height, facts.rotation) == ("h264", 64, 48, 0)
    assert facts.time_base == TimeBase(1, 12800)
    assert facts.duration_seconds == pytest.approx(1.0) and facts.created_at is None


@pytest.mark.parametrize(("turned", "size"), [(0, (64, 48)), (90, (48, 64)), (180, (64, 48)), (270, (48, 64))])
def test_rotation_is_applied_to_the_size(tmp_path: Path, turned: int, size: tuple[int, int]) -> None:
    for rotation in (turned, turned - 360):
        with VideoReader(write_clip(tmp_path / "clip.mp4", moving_square(3), rotation=rotation)) as reader:
            facts = reader.facts()
        assert ((facts.width, facts.height), facts.rotation) == (size, turned)


@needs_ffmpeg
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright_pictures_are_ffmpegs(tmp_path: Path, rotation: int) -> None:
    coloured = [np.dstack([p, 255 - p, np.roll(p, 9, axis=1)]) for p in moving_square(4, 96, 128)]
    path = write_clip(tmp_path / "clip.mp4", coloured, rotation=rotation)
    height, width = (128, 96) if rotation in (90, 270) else (96, 128)
    bgr = np.frombuffer(ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"), np.uint8)
    upright = bgr.reshape(-1, height, width, 3).astype(float)
    with VideoReader(path) as reader:
        taken = [picture for _, picture in reader.pictures([0, 50, 100, 150])]
    assert np.abs(np.stack(taken) - upright).mean() < 2

    grid = Grid.of(width, height, 80)
    scale = f"scale={grid.width}:{grid.height}:flags=area,format=gray"
    raw = np.frombuffer(ffmpeg("-i", path, "-vf", scale, "-f", "rawvideo", "-"), np.uint8)
    grey = raw.reshape(-1, grid.height, grid.width).astype(float)
    for expected, (frame, luma) in zip(grey, read(path), strict=True):
        picture = working_picture(luma, frame.limited_range, rotation, grid)
        assert picture.shape == expected.shape
        assert np.abs(picture - expected).mean() < 2


@needs_ffmpeg
@pytest.mark.parametrize(("pts", "suffix"), [(VFR, ".mp4"), ([t + 777 for t in VFR], ".mp4"), (VFR, ".mkv")])
def test_frames_are_those_that_ffprobe_lists(tmp_path: Path, pts: list[int], suffix: str) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", moving_square(len(pts)), pts)
    found = probe(path)
    assert found["pts"] == pts == [frame.pts for frame, _ in read(path)]
    with VideoReader(path) as reader:
        facts = reader.facts()
    assert found["time_base"] == f"{facts.time_base.num}/{facts.time_base.den}"
    assert (found["codec_name"], found["width"], found["height"]) == (facts.codec, facts.width, facts.height)
    if "duration" in found:
        assert facts.duration_seconds == pytest.approx(float(str(found["duration"])))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("limited.mp4", ["-vf", "format=yuv420p", "-c:v", "libx264", "-crf", "10"]),
        ("odd.mp4", ["-vf", "scale=319:239,format=yuv444p", "-c:v", "libx264", "-crf", "10"]),
        ("ten.mp4", ["-vf", "format=yuv420p10le", "-c:v", "libx264", "-crf", "10"]),
        ("full.mp4", ["-vf", "format=yuvj420p", "-c:v", "libx264", "-crf", "10"]),
        ("full.avi", ["-vf", "format=yuvj422p", "-c:v", "mjpeg", "-q:v", "2"]),
        ("grey.mkv", ["-vf", "format=gray", "-c:v", "ffv1"]),
        ("deep.mkv", ["-vf", "format=gray16le", "-c:v", "ffv1"]),
        ("rgb.mov", ["-vf", "format=rgb24", "-c:v", "png"]),
        ("packed.avi", ["-vf", "format=yuyv422", "-c:v", "rawvideo"]),
        ("semi.avi", ["-vf", "format=nv12", "-c:v", "rawvideo"]),
    ],
)
def test_luma_of_every_format_is_ffmpegs_grey(tmp_path: Path, name: str, options: list[str]) -> None:
    path = tmp_path / name
    ffmpeg(*SOURCE, "-frames:v", 3, *options, path)
    found = read(path)
    height, width = found[0][1].shape
    assert (width, height) == ((319, 239) if name == "odd.mp4" else (320, 240))
    raw = np.frombuffer(ffmpeg("-i", path, "-vf", "format=gray", "-f", "rawvideo", "-"), np.uint8)
    for expected, (frame, luma) in zip(raw.reshape(-1, height, width), found, strict=True):
        grid = Grid(height, width, 0, 1.0)
        assert np.abs(working_picture(luma, frame.limited_range, 0, grid).astype(float) - expected).mean() < 1.5


@needs_ffmpeg
def test_sample_aspect_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    ffmpeg(*SOURCE, "-frames:v", 2, "-vf", "setsar=4/3,format=yuv420p", "-c:v", "libx264", path)
    with VideoReader(path) as reader:
        facts = reader.facts()
    assert (facts.width, facts.height) == (427, 240)
    with VideoReader(path) as reader:
        ((_, picture),) = reader.pictures([0])
    assert picture.shape == (240, 427, 3)
    scaled = ffmpeg("-i", path, "-frames:v", 1, "-vf", "scale=427:240", "-f", "rawvideo", "-pix_fmt", "bgr24", "-")
    assert np.abs(picture - np.frombuffer(scaled, np.uint8).reshape(picture.shape).astype(float)).mean() < 8


@needs_ffmpeg
def test_pictures_too_long_to_be_of_anything_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    ffmpeg(*SOURCE, "-frames:v", 2, "-vf", "setsar=100/1,format=yuv420p", "-c:v", "libx264", path)
    assert error_of(path) == "holds pictures of 32000 x 240, longer than 16 to 1"


@needs_ffmpeg
def test_threads_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    ffmpeg(*SOURCE, "-frames:v", 40, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-bf", 3, path)
    one = read(path)
    assert len(one) == 40
    for threads in (2, 5):
        more = read(path, threads)
        assert [frame.pts for frame, _ in more] == [frame.pts for frame, _ in one]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, more, strict=True))


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("groups", ["long", "open"])
def test_the_picture_at_a_pts_is_that_of_a_whole_pass(tmp_path: Path, groups: str, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    x264 = "keyint=1000" if groups == "long" else "open-gop=1:keyint=12:min-keyint=12"
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-x264-params", f"{x264}:bframes=3:scenecut=0"]
    ffmpeg(*SOURCE, "-frames:v", 60, "-pix_fmt", "yuv420p", *codec, "-output_ts_offset", 1.5, path)
    whole = {frame.pts: luma for frame, luma in read(path)}
    pts = sorted(whole)
    assert len(pts) == 60
    wanted = [pts[k] for k in (0, 1, 10, 11, 12, 13, 14, 23, 24, 25, 36, 40, 58, 59)]
    nowhere = [pts[3] + 1, pts[-1] + 10**6]
    with VideoReader(path) as reader:
        found = dict(reader.pictures(sorted([*wanted, *nowhere])))
    assert sorted(found) == wanted
    for at, picture in found.items():
        luma = (whole[at].astype(float) - 16) * 255 / 219  # of BT.601, as the picture is
        grey = picture.astype(float) @ [0.114, 0.587, 0.299]
        assert np.abs(luma - grey).mean() < 3  # neighbours differ by more: the noise is new in every frame
    assert min(np.abs(whole[a].astype(float) - whole[b]).mean() for a, b in pairwise(pts)) > 3.5


@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "rate", "group"), [("libx264", 10, 30), ("libx264", 10, 100), ("mpeg2video", 25, 12)]
)
def test_seconds_of_a_transport_stream_are_decoded_from_a_little_before_them(
    tmp_path: Path, codec: str, rate: int, group: int
) -> None:
    """Of 600 frames; what comes of a search is what a pass over all of it gives, to the last bit."""

    class Counting(VideoReader):
        def _decoded(self) -> Iterator[VideoFrame]:
            for frame in super()._decoded():
                decoded.append(frame.pts)
                yield frame

    path = tmp_path / "clip.ts"
    source = ["-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={rate}"]
    ffmpeg(*source, "-frames:v", 600, "-pix_fmt", "yuv420p", "-c:v", codec, "-g", group, "-bf", 2, path)
    with VideoReader(path) as reader:
        whole = dict(reader.all_pictures())
    pts = list(whole)
    assert len(pts) == 600
    for k in (0, 7, 301, 455, 590):
        decoded: list[int | None] = []
        with Counting(path) as reader:
            found = dict(reader.between(pts[k], pts[min(k + 5, 599)], 1))
        assert list(found) == pts[k : min(k + 5, 599)] and set(found) <= set(decoded) and len(decoded) < 400
        assert all(np.array_equal(picture, whole[at]) for at, picture in found.items())


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_file_cut_short_gives_what_it_holds(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    front = ["-movflags", "faststart"] if suffix == ".mp4" else []
    ffmpeg(*SOURCE, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", *front, whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    sound, found = read(whole), read(cut)
    assert len(sound) == 80 and 20 < len(found) < 60
    for (a, luma), (b, partial) in list(zip(sound, found, strict=False))[:-8]:  # what refers to the loss may suffer
        assert a.pts == b.pts and np.array_equal(luma, partial)
    with VideoReader(cut) as reader:
        assert reader.facts().width == 320


def test_a_file_without_its_index_is_one_sentence(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", moving_square(20))
    path.write_bytes(path.read_bytes()[:-400])
    assert error_of(path).startswith("is not a video that can be opened (")


def test_packets_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    path = damaged_clip(tmp_path / "clip.mp4", moving_square(60, 96, 128, step=1.5))
    with VideoReader(path) as reader:
        frames = [frame.pts for frame in reader.frames()]
        assert frames == sorted(set(frames)) and set(frames) < set(range(0, 3000, 50))
        assert reader.num_undecodable == 60 - len(frames) > 0 and not reader.truncated


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.mp4", b"not a video\n" * 99, "is not a video that can be opened (Invalid data"),
        ("empty.mp4", b"", "is empty"),
        ("notes.txt", b"a text that FFmpeg would draw\n" * 99, "is text"),
        ("zeros.mkv", bytes(10_000), "is not a video that can be opened ("),
    ],
)
def test_what_is_no_video_is_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert error_of(tmp_path / name).startswith(says)


def test_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    assert "No such file" in error_of(tmp_path / "gone.mp4")
    assert "directory" in error_of(tmp_path)


@needs_ffmpeg
def test_sound_alone_is_no_video_with_a_cover_or_without(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "cover.png"), texture(48, 64, 0))
    tone = ["-f", "lavfi", "-i", "sine=duration=1"]
    ffmpeg(*tone, tmp_path / "tone.m4a")
    cover = ["-i", tmp_path / "cover.png", "-map", 0, "-map", 1, "-c:v", "mjpeg", "-disposition:v", "attached_pic"]
    ffmpeg(*tone, *cover, tmp_path / "tone.mp3")
    assert error_of(tmp_path / "tone.m4a") == error_of(tmp_path / "tone.mp3") == "holds no video stream"


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)


@pytest.mark.parametrize("name", ["video.mp4", "video.m3u8", "video.sdp", "video.ffconcat"])
@pytest.mark.parametrize("playlist", [HLS, "ffconcat version 1.0\nfile '{target}'\n", SDP, "{target}\n"])
def test_a_playlist_reaches_neither_the_network_nor_another_file(tmp_path: Path, playlist: str, name: str) -> None:
    write_clip(tmp_path / "other.mp4", moving_square(5))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        targets = [f"http://127.0.0.1:{port}/a.ts", f"tcp://127.0.0.1:{port}", "other.mp4", tmp_path / "other.mp4"]
        for target in [*targets, f"file:{tmp_path / 'other.mp4'}"]:
            (tmp_path / name).write_text(playlist.format(target=target, port=port))
            assert error_of(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_names_that_look_like_protocols_or_options_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3))
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "-i.mp4", "a%03d.mp4", "concat:a|b.mp4", "pipe:0", "ä \n.mp4", "caf\udce9.mp4"):
        shutil.copy(clip, name)
        assert len(read(Path(name))) == 3


@needs_ffmpeg
@pytest.mark.parametrize(
    ("stamp", "found"),
    [
        ("2026-03-01T22:15:00Z", "2026-03-01T22:15:00+00:00"),
        ("2026-03-01T22:15:00+02:00", "2026-03-01T20:15:00+00:00"),
        ("1970-01-01T00:00:00Z", "None"),
    ],
)
def test_the_creation_time_of_the_container(tmp_path: Path, stamp: str, found: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", moving_square(3))
    ffmpeg("-i", clip, "-c", "copy", "-metadata", f"creation_time={stamp}", tmp_path / "dated.mp4")
    with VideoReader(tmp_path / "dated.mp4") as reader:
        created = reader.facts().created_at
    assert (created and created.isoformat()) == (None if found == "None" else found)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [p for _ in range(30) for p in moving_square(10, 240, 320)], crf=35)
    code = (
        "import resource, sys; from pathlib import Path; from vidrnn.decode import VideoReader\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with VideoReader(Path(sys.argv[1])) as reader:\n"
        "    for frame in reader.frames():\n"
        "        if frame.frame_index == 50: early = peak()\n"
        "print(frame.frame_index, peak() - early)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    last, grown = map(int, done.stdout.split())
    assert last == 299 and grown < 5_000  # KiB; the frames after the 50th hold 28 MiB
