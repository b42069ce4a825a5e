"""Every kind of footage: what is read is what FFmpeg's own tools say of the same file."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Picture, ffmpeg, moving_square, needs_ffmpeg, texture, write_clip

from vidrnn.decode import Frame, VideoReader
from vidrnn.errors import DecodeError

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
