"""Every kind of footage: what is read is what FFmpeg's own tools say of the same file."""

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Picture, ffmpeg, moving_square, needs_ffmpeg, texture, write_clip

from vidrnn.decode import Frame, PictureReader, VideoReader, open_video
from vidrnn.errors import DecodeError
from vidrnn.extract import extract_features
from vidrnn.features import CHANNELS, Grid
from vidrnn.index import index_videos
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.storage import read_table, video_path
from vidrnn.timebase import TimeBase

ROOT = Path(__file__).resolve().parents[1]
STRAY = "is a single picture; a folder that holds nothing but numbered pictures is a video"
RATE = 10
SOURCE = ("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={RATE}:duration=1.2")
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "8"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"]
VPX = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
AV1 = ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8"]
MPEG2 = ["-vf", "setpts=N/25/TB", "-r", "25", "-c:v", "mpeg2video"]
EVEN = ["-pix_fmt", "yuv420p"]
UNEVEN = ["-vsync", "vfr", "-vf", "select='eq(mod(n,3),0)+eq(n,4)'"]
FULL = ["-color_range", "pc", "-vf"]

# FFmpeg's own file of each kind, by its options.
KINDS: dict[str, list[str]] = {
    "h264.mp4": [*X264, *EVEN],
    "h264.mkv": [*X264, *EVEN],
    "h264.ts": [*X264, *EVEN],
    "h264.mov": [*X264, *EVEN],
    "h264.avi": [*X264, *EVEN],
    "h264 fragments.mp4": [*X264, *EVEN, "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mp4": [*X265, *EVEN],
    "hevc.ts": [*X265, *EVEN],
    "vp8.webm": [*VPX, *EVEN],
    "vp9.webm": [*VP9, *EVEN],
    "vp9.mp4": [*VP9, *EVEN],
    "av1.mp4": [*AV1, *EVEN],
    "mpeg2.mpeg": [*MPEG2, *EVEN],
    "mpeg2.ts": [*MPEG2, *EVEN],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2", *EVEN],
    "mpeg4.mp4": ["-c:v", "mpeg4", *EVEN],
    "mjpeg.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
    "mjpeg.mov": ["-c:v", "mjpeg", "-pix_fmt", "yuvj444p"],
    "gif.gif": [],
    "ten bits.mkv": [*X265, "-pix_fmt", "yuv420p10le", "-colorspace", "bt709", "-color_range", "tv"],
    "ten bits of av1.mkv": [*AV1, "-pix_fmt", "yuv420p10le"],
    "twelve bits.webm": [*VP9, "-pix_fmt", "yuv444p12le", "-colorspace", "bt2020nc"],
    "full.mp4": [*X264, *FULL, "scale=out_range=full,format=yuv420p"],
    "full ten bits.mp4": [*X264, *FULL, "scale=out_range=full,format=yuv422p10le", "-colorspace", "bt709"],
    "interlaced.mp4": [*X264, "-vf", "tinterlace=interleave_top,format=yuv420p", "-flags", "+ilme+ildct"],
    "interlaced.ts": [*MPEG2, *EVEN, "-flags", "+ilme+ildct", "-top", "1"],
    "odd.mp4": [*X264, "-vf", "scale=63:47,format=yuv444p"],
    "odd.webm": [*VP9, "-vf", "scale=63:47,format=yuv420p"],
    "grey.mkv": [*X264, "-pix_fmt", "gray"],
    "grey of sixteen bits.mov": ["-c:v", "png", "-pix_fmt", "gray16be"],
    "alpha.webm": [*VPX, "-auto-alt-ref", "0", "-vf", "format=yuva420p,geq=lum='lum(X,Y)':a='4*X'"],
    "alpha.mov": ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
    "alpha of rgb.mov": ["-c:v", "png", "-pix_fmt", "rgba"],
    "rgb.mkv": ["-c:v", "libx264rgb", "-preset", "ultrafast", "-pix_fmt", "bgr24"],
    "rgb of ten bits.mkv": ["-c:v", "ffv1", "-pix_fmt", "gbrp10le"],
    "packed.mov": ["-c:v", "rawvideo", "-pix_fmt", "uyvy422", "-colorspace", "bt709"],
    "wide pixels.mp4": [*X264, "-vf", "setsar=4/3,format=yuv420p"],
    "narrow pixels.ts": [*X264, "-vf", "setsar=10/11,format=yuv420p"],
    "late.mkv": [*X264, *EVEN, "-output_ts_offset", "30"],
    "late.ts": [*X264, *EVEN, "-output_ts_offset", "1000.25"],
    "over the end of the clock.ts": [*X264, *EVEN, "-output_ts_offset", "95442"],
    "early.mov": [*X264, *EVEN, "-output_ts_offset", "-0.5", "-use_editlist", "0", "-avoid_negative_ts", "disabled"],
    "uneven.mp4": [*X264, *EVEN, *UNEVEN],
    "uneven.mkv": [*X264, *EVEN, *UNEVEN],
    "uneven.webm": [*VPX, *EVEN, *UNEVEN],
    "streamed.webm": [*VPX, *EVEN, "-live", "1"],
    "no index.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-write_index", "0"],
}


def read(path: Path, threads: int = 1) -> list[tuple[Frame, Picture]]:
    """Every frame with a copy of its luma; nothing is lost."""
    with VideoReader(path, threads) as reader:
        frames = [(frame, frame.luma.copy()) for frame in reader.frames()]
        assert (reader.num_undecodable, reader.truncated) == (0, False)
    return frames


def full(frame: Frame, luma: Picture) -> Picture:
    """The luma at full range."""
    return (luma.astype(float) - 16).clip(0, 219) * 255 / 219 if frame.limited_range else luma.astype(float)


def is_as_ffmpeg_says(path: Path) -> list[tuple[Frame, Picture]]:
    """Count, times, size as displayed and grey levels of a file that is not turned; returns its frames."""
    entries = "frame=best_effort_timestamp:stream=width,height,sample_aspect_ratio,time_base,codec_name"
    said = json.loads(
        ffmpeg("-select_streams", "v:0", "-show_entries", entries, "-of", "json", path, program="ffprobe")
    )
    (stream,), frames = said["streams"], read(path)
    times = [frame.get("best_effort_timestamp") for frame in said["frames"]]
    assert len(frames) == len(times) > 3
    for k, (time, (frame, _)) in enumerate(zip(times, frames, strict=True)):
        if time is not None and k < len(times) - 3:  # FFmpeg 5 does not know the last ones of an AVI or an MPEG
            assert frame.pts == time
    if path.suffix == ".avi":
        assert [frame.pts for frame, _ in frames] == list(range(times[0], times[0] + len(times)))
    with VideoReader(path) as reader:
        facts = reader.facts()
        assert f"{reader.time_base.num}/{reader.time_base.den}" == stream["time_base"]
    aspect = Fraction(stream.get("sample_aspect_ratio", "1:1").replace(":", "/"))
    assert (facts.width, facts.height) == (round(stream["width"] * aspect), stream["height"])
    assert (facts.codec, facts.rotation) == (stream["codec_name"], 0)
    options = ["-vsync", "passthrough", "-map", "0:v:0", "-vf", "format=gray", "-f", "rawvideo"]
    shape = (len(frames), stream["height"], stream["width"])
    grey = np.frombuffer(ffmpeg("-i", path, *options, "-"), np.uint8).reshape(shape)
    for expected, (frame, luma) in zip(grey, frames, strict=True):
        assert np.abs(full(frame, luma) - expected).mean() < 0.6
    if facts.duration_seconds is not None:
        seconds = reader.time_base.seconds(frames[-1][0].pts - frames[0][0].pts)
        assert seconds - 0.1 < facts.duration_seconds < seconds + 0.5
    return frames


@needs_ffmpeg
@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_read_as_ffmpeg_reads_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ffmpeg(*SOURCE, *KINDS[name], path)
    is_as_ffmpeg_says(path)


@needs_ffmpeg
@pytest.mark.parametrize("pixels", ["yuv420p9le", "yuv422p10be", "yuv444p12le", "yuv420p16le", "gray10le", "gray16be"])
def test_more_bits_are_the_levels_of_eight(tmp_path: Path, pixels: str) -> None:
    """Of either range, whatever the matrix of the colours is."""
    bits = int(pixels[-4:-2].strip("p"))
    levels = np.arange(256).repeat(16).reshape(64, 64)
    for kind, full_range in (("pc", True), ("tv", False)):
        deep = np.round(levels * (2**bits - 1) / 255) if full_range or "gray" in pixels else levels * 2 ** (bits - 8)
        planes = np.full(3 * 64 * 64, 2 ** (bits - 1))
        planes[: 64 * 64] = deep.ravel()
        raw, path = tmp_path / "raw", tmp_path / "clip.mkv"
        raw.write_bytes(planes.astype(f"{'<' if pixels.endswith('le') else '>'}u2").tobytes())
        shape = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", "64x64", "-frames:v", "1"]
        ffmpeg(*shape[:-2], "-i", raw, *shape[-2:], "-c:v", "ffv1", "-colorspace", "bt709", "-color_range", kind, path)
        ((frame, luma),) = read(path)
        assert frame.limited_range == (not full_range and "gray" not in pixels)
        assert np.array_equal(luma, levels)


@needs_ffmpeg
def test_an_edit_list_is_obeyed(tmp_path: Path) -> None:
    """What it cuts off in front is decoded but not shown; what it puts off begins later."""
    sound = ["-f", "lavfi", "-i", "sine=duration=2"]
    ffmpeg(*SOURCE, *X264, *EVEN, "-g", 100, tmp_path / "whole.mp4")
    whole = read(tmp_path / "whole.mp4")
    for name in ("cut.mp4", "cut.mov"):
        ffmpeg("-ss", 0.45, "-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / name)
        cut = is_as_ffmpeg_says(tmp_path / name)
        assert len(cut) == 7
        for (_, luma), (_, original) in zip(cut, whole[5:], strict=True):
            assert np.array_equal(luma, original)
    late = ["-itsoffset", 0.7, "-i", tmp_path / "whole.mp4", *sound, "-map", "0:v", "-map", "1:a"]
    ffmpeg(*late, "-c:v", "copy", tmp_path / "late.mp4")
    frames = is_as_ffmpeg_says(tmp_path / "late.mp4")
    with VideoReader(tmp_path / "late.mp4") as reader:
        assert reader.time_base.seconds(frames[0][0].pts) == pytest.approx(0.7, abs=0.01)


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codec"), [("mkv", X264), ("ts", X264), ("webm", VPX)])
def test_a_stream_has_no_duration_and_no_index(tmp_path: Path, suffix: str, codec: list[str]) -> None:
    path = tmp_path / f"streamed.{suffix}"
    kind = {"mkv": "matroska", "ts": "mpegts"}.get(suffix, suffix)
    path.write_bytes(ffmpeg(*SOURCE, *codec, *EVEN, "-f", kind, "-"))  # a pipe: nobody can go back and write them
    is_as_ffmpeg_says(path)
    with VideoReader(path) as reader:
        assert (reader.facts().duration_seconds is None) == (suffix != "ts")


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), [("bare.h264", X264), ("bare.hevc", X265)])
def test_a_bare_stream_gets_its_times_from_its_frame_rate(tmp_path: Path, name: str, codec: list[str]) -> None:
    path = tmp_path / name
    ffmpeg(*SOURCE, *codec, *EVEN, path)
    frames = read(path)
    with VideoReader(path) as reader:
        facts = reader.facts()
    assert facts.remark == "carries no times; its frames are taken to be 10 a second"
    assert [facts.time_base.seconds(frame.pts) for frame, _ in frames] == [k / RATE for k in range(12)]
    wanted = [frames[k][0].pts for k in (0, 5, 11)]
    with VideoReader(path) as reader:
        assert [pts for pts, _ in reader.pictures(wanted)] == wanted


@needs_ffmpeg
@pytest.mark.parametrize("name", ["h264.avi", "mpeg4.avi", "interlaced.ts", "early.mov", "uneven.webm"])
def test_threads_and_searches_agree_on_the_times(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ffmpeg(*SOURCE, *KINDS[name], path)
    pts = [frame.pts for frame, _ in read(path)]
    assert [frame.pts for frame, _ in read(path, 4)] == pts
    with VideoReader(path) as reader:
        assert sorted(at for at, _ in reader.pictures(pts)) == pts


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_of_several_streams_the_default_one_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    other = ["-f", "lavfi", "-i", "testsrc2=size=32x32:rate=5:duration=1.2"]
    order = [1, 0] if suffix == "mkv" else [0, 1]
    default = order.index(0)
    maps = [option for k in order for option in ("-map", k)]
    dispositions = [f"-disposition:v:{default}", "default", f"-disposition:v:{1 - default}", "0"]
    ffmpeg(*SOURCE, *other, *maps, *X264, *EVEN, *dispositions, path)
    with VideoReader(path) as reader:
        facts = reader.facts()
    assert (facts.width, facts.height, len(read(path))) == (64, 48, 12)
    assert facts.remark == f"holds 2 video streams, of which the default one, number {default + 1}, is used"


@needs_ffmpeg
def test_a_cover_is_no_stream_and_sound_is_no_video(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "cover.png"), texture(96, 128, 0))
    clip = write_clip(tmp_path / "clip.mp4", moving_square(5))
    both = ["-i", clip, "-i", tmp_path / "cover.png", "-map", 1, "-map", 0, "-c", "copy"]
    ffmpeg(*both, "-disposition:v:0", "attached_pic", tmp_path / "covered.mp4")
    attached = ["-attach", tmp_path / "cover.png", "-metadata:s:t", "mimetype=image/png"]
    ffmpeg("-i", clip, *attached, "-c", "copy", tmp_path / "covered.mkv")
    for name in ("covered.mp4", "covered.mkv"):
        with VideoReader(tmp_path / name) as reader:
            facts = reader.facts()
        assert (facts.width, facts.height, facts.remark) == (64, 48, "")
        assert len(read(tmp_path / name)) == 5
    for name in ("tone.m4a", "tone.mkv", "tone.wav"):
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / name)
        with pytest.raises(DecodeError, match="holds no video stream"), VideoReader(tmp_path / name):
            pass


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_rotation_in_every_container_that_knows_it(tmp_path: Path, suffix: str) -> None:
    pictures = moving_square(3)
    with VideoReader(write_clip(tmp_path / f"clip.{suffix}", pictures, rotation=90)) as reader:
        facts = reader.facts()
    assert (facts.width, facts.height, facts.rotation) == (48, 64, 90)
    with VideoReader(tmp_path / f"clip.{suffix}") as reader:
        ((_, first),) = reader.pictures([0])
    assert np.abs(first[..., 1].astype(float) - np.rot90(pictures[0])).mean() < 4


# Folders of numbered pictures


GRID = (48, 64)


def write_pictures(folder: Path, names: Sequence[str], step: float = 2.0) -> list[Picture]:
    """A square that moves from one picture to the next, under these names; returns the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = moving_square(len(names), *GRID, step=step)
    for name, picture in zip(names, pictures, strict=True):
        assert cv2.imwrite(str(folder / name), picture)
    return pictures


def of_folder(folder: Path, rate: int = 10) -> PictureReader:
    reader = open_video(folder, TimeBase(1, rate))
    assert isinstance(reader, PictureReader)
    return reader


def complaint(folder: Path) -> str:
    with pytest.raises(DecodeError) as caught, of_folder(folder) as reader:
        reader.facts()
        list(reader.frames())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "PNG", "tif", "tiff", "jpg", "JPEG"])
def test_a_folder_of_pictures_is_a_video(tmp_path: Path, suffix: str) -> None:
    pictures = write_pictures(tmp_path / "walk", [f"img_{k}.{suffix}" for k in range(8, 14)])
    with of_folder(tmp_path / "walk", 25) as reader:
        facts = reader.facts()
        frames = [(frame, frame.luma.copy()) for frame in reader.frames()]
        upright = dict(reader.pictures([5, 2, 99, 0]))
    codec = {"p": "png", "t": "tiff", "j": "mjpeg"}[suffix[0].lower()]
    assert (facts.codec, facts.width, facts.height, facts.rotation, facts.remark) == (codec, 64, 48, 0, "")
    assert (facts.time_base, facts.duration_seconds, facts.created_at) == (TimeBase(1, 25), 6 / 25, None)
    assert [frame.pts for frame, _ in frames] == [frame.frame_index for frame, _ in frames] == [0, 1, 2, 3, 4, 5]
    worst = 4 if codec == "mjpeg" else 0
    for picture, (frame, luma) in zip(pictures, frames, strict=True):  # 10 comes after 9, not after 1
        assert not frame.limited_range and np.abs(luma.astype(float) - picture).mean() <= worst
    assert list(upright) == [0, 2, 5]
    for pts, picture in upright.items():
        assert np.abs(picture.astype(float) - pictures[pts][..., None]).mean() <= worst


@pytest.mark.parametrize("kind", ["gray8", "gray16", "bgr8", "bgra8", "bgr16"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pictures_of_any_depth(tmp_path: Path, suffix: str, kind: str) -> None:
    (tmp_path / "walk").mkdir()
    for k, picture in enumerate(moving_square(2, *GRID)):
        channels = {"gray": 1, "bgr": 3, "bgra": 4}[kind.rstrip("0168")]
        stacked = np.dstack([picture] * channels)
        if channels == 4:
            stacked[..., 3] = np.arange(64, dtype=np.uint8)  # what shines through is still there
        deep = stacked.astype(np.uint16) * 257 if kind.endswith("16") else stacked
        assert cv2.imwrite(str(tmp_path / f"walk/{k}.{suffix}"), deep)
    with of_folder(tmp_path / "walk") as reader:
        for frame in reader.frames():
            picture = moving_square(2, *GRID)[frame.frame_index]
            assert not frame.limited_range and np.abs(frame.luma.astype(float) - picture).max() <= 1


def test_gaps_in_the_numbers_are_gaps_in_time(tmp_path: Path) -> None:
    write_pictures(tmp_path / "walk", ["a07.png", "a08.png", "a11.png", "a100.png"])
    (tmp_path / "walk/.hidden.txt").touch()
    (tmp_path / "walk/deeper").mkdir()
    with of_folder(tmp_path / "walk") as reader:
        facts = reader.facts()
        assert [frame.pts for frame in reader.frames()] == [0, 1, 4, 93]
        assert [pts for pts, _ in reader.pictures([2, 93])] == [93]
    assert facts.remark == "lacks 90 of the 94 pictures that its numbers promise"
    assert facts.duration_seconds == pytest.approx(9.4)


def test_what_makes_no_video_of_pictures_is_one_sentence(tmp_path: Path) -> None:
    write_pictures(tmp_path / "kinds", ["1.png", "2.jpg"])
    assert complaint(tmp_path / "kinds").startswith("holds pictures of several kinds (.jpg, .png); keep")
    for names in (["a1.png", "b2.png"], ["1.png", "2.png", "cover.png"]):
        folder = tmp_path / names[-1]
        write_pictures(folder, names)
        assert f"not numbered alike, as {names[0]} and {names[-1]}; expected" in complaint(folder)
    write_pictures(tmp_path / "twice", ["1.png", "01.png"])
    assert complaint(tmp_path / "twice") == "holds two pictures with the number 1, 01.png and 1.png"
    write_pictures(tmp_path / "sizes", ["1.png", "2.png"])
    cv2.imwrite(str(tmp_path / "sizes/3.png"), texture(32, 32, 0))
    assert complaint(tmp_path / "sizes").startswith(
        "holds pictures of several sizes, 64 x 48 and in 3.png 32 x 32; keep"
    )
    (tmp_path / "long").mkdir()
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"long/{k}.png"), texture(4, 80, 0))
    assert complaint(tmp_path / "long") == "holds pictures of 80 x 4, longer than 16 to 1"
    (tmp_path / "bad").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "bad" / name).write_bytes(b"no picture")
    assert complaint(tmp_path / "bad") == "holds no picture of 1 to 134217728 pixels that can be decoded"
    write_pictures(tmp_path / "mixed", ["1.png", "2.png"])
    (tmp_path / "mixed/notes.txt").touch()
    assert complaint(tmp_path / "mixed").startswith("holds other things than pictures")


def test_a_picture_that_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "walk", [f"{k}.png" for k in range(5)])
    (tmp_path / "walk/0.png").write_bytes(b"")
    (tmp_path / "walk/3.png").write_bytes((tmp_path / "walk/3.png").read_bytes()[:60])
    with of_folder(tmp_path / "walk") as reader:
        assert reader.facts().width == 64
    with of_folder(tmp_path / "walk") as reader:
        frames = [(frame.pts, frame.luma.copy()) for frame in reader.frames()]
        assert reader.problems() == ["cannot be decoded in 2 of its pictures, first in 0.png"]
        assert [pts for pts, _ in reader.pictures([0, 1])] == [1]
    assert [pts for pts, _ in frames] == [1, 2, 4] and all(np.array_equal(luma, pictures[pts]) for pts, luma in frames)


@needs_ffmpeg
def test_pictures_are_shown_as_ffmpeg_shows_them(tmp_path: Path) -> None:
    """Whatever it is that FFmpeg has written them with: a range, a density, more bits."""
    for name, options in {
        "jpg": ["-vf", "setsar=4/3,format=yuvj420p"],
        "png": ["-pix_fmt", "rgb48be"],
        "tiff": ["-pix_fmt", "pal8"],
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        ffmpeg(*SOURCE, "-frames:v", 3, *options, folder / f"%03d.{name}")
        grey = ffmpeg("-i", folder / f"%03d.{name}", "-vf", "format=gray", "-f", "rawvideo", "-")
        with of_folder(folder) as reader:
            for frame, expected in zip(reader.frames(), np.frombuffer(grey, np.uint8).reshape(3, 48, 64), strict=True):
                assert np.abs(full(frame, frame.luma) - expected).mean() < 0.6
            facts = reader.facts()
            assert (facts.width, facts.height) == ((85, 48) if name == "jpg" else (64, 48))
            ((_, picture),) = reader.pictures([1])
            assert picture.shape == (facts.height, facts.width, 3)


def turned(jpeg: bytes, orientation: int) -> bytes:
    """The same with a tag that says how a camera was held."""
    tag = struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + tag
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_are_upright_however_the_camera_was_held(tmp_path: Path, orientation: int) -> None:
    write_pictures(tmp_path / "walk", ["1.jpg", "2.jpg"])
    for path in (tmp_path / "walk").iterdir():
        path.write_bytes(turned(path.read_bytes(), orientation))
    with of_folder(tmp_path / "walk") as reader:
        facts = reader.facts()
        ((_, picture),) = reader.pictures([0])
    upright = cv2.imread(str(tmp_path / "walk/1.jpg"))  # OpenCV obeys the tag, too
    assert upright is not None and picture.shape == upright.shape == (facts.height, facts.width, 3)
    assert np.abs(picture.astype(float) - upright).mean() < 1


# Through the stages


@needs_ffmpeg
def test_odd_kinds_go_through_index_and_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the code of a stage is looked up in dvc.yaml
    videos, params = tmp_path / "videos", load_params()
    gate = videos / "gate"
    gate.mkdir(parents=True)
    kinds = ["h264.avi", "ten bits.mkv", "late.mkv", "alpha.webm", "over the end of the clock.ts", "wide pixels.mp4"]
    for name in kinds:
        ffmpeg(*SOURCE, *KINDS[name], gate / name)
    ffmpeg(*SOURCE, *X264, *EVEN, gate / "bare.h264")
    ffmpeg(*SOURCE, *SOURCE, "-map", 0, "-map", 1, *X264, *EVEN, gate / "two.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", gate / "sound.m4a")
    write_pictures(gate / "walk", [f"{k:03d}.png" for k in (*range(5), *range(7, 12))])
    write_pictures(gate / "damaged.npy", [f"{k}.jpg" for k in range(8)])  # a folder, whatever its name
    (gate / "damaged.npy/3.jpg").write_bytes(b"no picture")
    write_pictures(gate / "sizes", [f"{k}.png" for k in range(8)])
    cv2.imwrite(str(gate / "sizes/5.png"), texture(32, 32, 0))
    write_pictures(videos, ["stray.png"])

    index = index_videos(videos, params.index, "UTC", tmp_path / "memory.json")
    features = params.features.model_copy(update={"height": 80, "warmup_seconds": 0.3})
    training = extract_features(videos, index, features, tmp_path / "features")
    rows = {row["video_id"].removeprefix("gate/"): row for row in index.to_pylist()}
    table = read_table(tmp_path / "features/decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    decoded = {row["video_id"].removeprefix("gate/"): row for row in table}
    trained = {video_id.removeprefix("gate/") for video_id in training["video_id"].to_pylist()}
    assert trained == {*kinds, "bare.h264", "two.mp4", "walk"}
    assert {name: decoded[name]["num_frames"] for name in trained} == dict.fromkeys(trained, 12) | {"walk": 10}
    told = {name: (row["status"], row["message"]) for name, row in rows.items() if row["message"]}
    assert told == {
        "bare.h264": ("ok", "carries no times; its frames are taken to be 10 a second"),
        "two.mp4": ("ok", "holds 2 video streams, of which the default one, number 1, is used"),
        "sound.m4a": ("unreadable", "holds no video stream"),
        "walk": ("ok", "lacks 2 of the 12 pictures that its numbers promise"),
        "stray.png": ("unreadable", STRAY),
    }
    assert (rows["walk"]["camera_id"], rows["stray.png"]["camera_id"]) == ("gate", "default")
    damaged, sizes = decoded["damaged.npy"], decoded["sizes"]
    assert (damaged["status"], damaged["num_frames"], damaged["num_undecodable"]) == ("partial", 7, 1)
    assert damaged["message"] == "cannot be decoded in 1 of its pictures, first in 3.jpg"
    assert sizes["status"] == "unreadable" and "several sizes, 64 x 48 and in 5.png 32 x 32" in sizes["message"]
    cells = video_path(tmp_path / "features/cells", "gate", "gate/walk")
    columns = Grid.of(64, 48, 80).columns
    times = read_table(cells, cells_schema(len(CHANNELS), 20, columns))["time_seconds"].to_pylist()
    assert times == [k / 10 for k in (*range(5), *range(7, 12))]

    slower = params.index.model_copy(update={"frames_rate": 5})
    again = index_videos(videos, slower, "UTC", tmp_path / "memory.json")
    extract_features(videos, again, features, tmp_path / "features")
    changed = [a["video_id"] for a, b in zip(index.to_pylist(), again.to_pylist(), strict=True) if a != b]
    assert changed == ["gate/damaged.npy", "gate/sizes", "gate/walk"]
    times = read_table(cells, cells_schema(len(CHANNELS), 20, columns))["time_seconds"].to_pylist()
    assert times == [k / 5 for k in (*range(5), *range(7, 12))]
