"""Video files, and folders of numbered pictures, to luma pictures with exact times. The only reader that imports av.

Streaming; the luma plane is taken straight from the decoder where the format has one. FFmpeg is handed an open file
and no protocol at all: a playlist in disguise reaches neither the network nor another file. Of a picture it is handed
the bytes and told the codec.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from vidrnn.errors import DecodeError
from vidrnn.timebase import TimeBase

_LUMA_PLANE = re.compile(r"(yuv[aj]?\d{3}p|nv\d\d|gray)((?P<bits>9|1\d)(?P<order>[lb])e)?")  # it is the first plane
_CHROMA_PLANES = re.compile(r"yuv[aj]?4\d\dp")  # the second and the third
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_MAX_PIXELS = 2**27  # a larger picture is not decoded
_MAX_PICTURE_BYTES = 2**30  # nor a file of one that is larger
_MAX_STREAMS = 64
_MAX_ASPECT = 16  # a displayed picture may be so much longer than it is wide, or the other way round
_NOT_VIDEO = {"tty": "is text"}  # demuxers that make a film of anything
_EARLIER_SECONDS = (0, 2, 4, 8, 16, 32, 64)  # than where to, from where a search tries to begin
_STILL = "_pipe"  # how the names of demuxers of pictures end
_PICTURES = {".jpg": "mjpeg", ".jpeg": "mjpeg", ".png": "png", ".tif": "tiff", ".tiff": "tiff"}  # and FFmpeg's codecs
_NUMBERED = re.compile(r"(.*?)(\d{1,9})", re.DOTALL)  # the name of a picture without its suffix


@dataclass(frozen=True)
class VideoFacts:
    """What a file says of its default video stream.

    Attributes:
        codec: FFmpeg's name of it.
        width, height: pixels of the picture as displayed: rotation and sample aspect applied.
        rotation: degrees, 0, 90, 180 or 270, by which the stored picture is turned counter-clockwise to be displayed.
        time_base: of every pts.
        duration_seconds: as the container claims; None where it does not.
        created_at: the container's creation time in UTC; None where there is none.
        remark: what else there is to know of it, in words; mostly nothing.
    """

    codec: str
    width: int
    height: int
    rotation: int
    time_base: TimeBase
    duration_seconds: float | None
    created_at: datetime | None
    remark: str


@dataclass(frozen=True)
class Frame:
    """A decoded picture.

    Attributes:
        frame_index: 0-based, in order of presentation.
        pts: ticks of the stream's time base.
        luma: (stored height, stored width) uint8, a view that lives until the next frame is asked for.
        limited_range: whether luma spans 16–235 rather than 0–255.
        colour: the two chroma planes, uint8 around 128, views as `luma` is; None where the format has no such planes.
    """

    frame_index: int
    pts: int
    luma: npt.NDArray[np.uint8]
    limited_range: bool
    colour: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None


class VideoReader:
    """The default video stream of a local file, as a context manager.

    After `frames` has been exhausted, `num_undecodable` counts the packets that FFmpeg could not decode and
    `truncated` says whether the file broke off; `time_base` is the seconds a tick of every pts.

    Args:
        path: of the file.
        threads: of the decoder. They do not change what a sound file gives; of a damaged one, more than one lose
            some of the frames just before the damage.

    Raises:
        DecodeError: no file of video, or not one frame of it can be decoded; the message says which.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.num_undecodable = 0
        self.truncated = False
        self._path = path
        with ExitStack() as opened:
            try:
                file = opened.enter_context(path.open("rb"))
                if path.stat().st_size == 0:
                    raise DecodeError("is empty")
                options = {"protocol_whitelist": "none", "max_pixels": str(_MAX_PIXELS)}
                self._container: InputContainer = av.open(file, "r", metadata_errors="replace", options=options)
                opened.enter_context(self._container)
            except (av.FFmpegError, ValueError, OSError) as error:
                raise DecodeError(f"is not a video that can be opened ({_reason(error)})") from None
            self._stream = self._default_stream()
            base = self._stream.time_base
            assert base is not None
            self.time_base = TimeBase(base.numerator, base.denominator)
            self._is_avi = self._container.format.name == "avi"
            self._stream.thread_type = "FRAME"
            self._stream.codec_context.thread_count = threads
            self._stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
            self._opened = opened.pop_all()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _default_stream(self) -> VideoStream:
        if self._container.format.name in _NOT_VIDEO:
            raise DecodeError(_NOT_VIDEO[self._container.format.name])
        if len(self._container.streams) > _MAX_STREAMS:
            raise DecodeError(f"holds {len(self._container.streams)} streams, more than {_MAX_STREAMS}")
        stream = self._container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:  # the cover of a piece of music
            raise DecodeError("holds no video stream")
        assert isinstance(stream, VideoStream)
        if not stream.time_base:
            raise DecodeError("holds a video stream without a time base")
        decoder: VideoCodecContext | None = stream.codec_context
        if decoder is None:
            raise DecodeError("holds video of a codec that FFmpeg does not know")
        return stream

    def facts(self) -> VideoFacts:
        """Read the container's facts, and one frame for the rotation and the true size. Use a reader of its own."""
        decoded = self._decoded()
        frame = next(decoded, None)
        context = self._stream.codec_context
        if frame is None and not context.width:  # FFmpeg forgets a size that it was told to refuse
            raise DecodeError(f"holds no picture of 1 to {_MAX_PIXELS} pixels")
        if frame is None:
            raise DecodeError("holds no frame that can be decoded")
        if self._container.format.name.endswith(_STILL) and next(decoded, None) is None:
            raise DecodeError("is a single picture; a folder that holds nothing but numbered pictures is a video")
        width, height, rotation = _displayed(frame, self._aspect)
        return VideoFacts(
            codec=context.codec.canonical_name,  # and not that of a library that decodes it
            width=width,
            height=height,
            rotation=rotation,
            time_base=self.time_base,
            duration_seconds=self._duration_seconds(),
            created_at=_created_at(dict(self._container.metadata)),
            remark="; ".join(self._remarks(frame)),
        )

    @property
    def _aspect(self) -> Fraction | None:
        return self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio

    def _duration_seconds(self) -> float | None:
        if self._stream.duration is not None:
            return self.time_base.seconds(self._stream.duration)
        if self._container.duration is None:
            return None
        # Matroska and FLV say when the last frame ends; what lies before the first is no part of the video.
        seconds = (self._container.duration - max(0, self._container.start_time or 0)) / 1_000_000
        return seconds if seconds > 0 else None

    def _remarks(self, frame: VideoFrame) -> Iterator[str]:
        others = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if len(others) > 1:
            number = others.index(self._stream) + 1
            yield f"holds {len(others)} video streams, of which the default one, number {number}, is used"
        if self._stream.start_time is None and frame.pts is None:
            rate = 1 / self.time_base.seconds(self._ticks(frame))
            yield f"carries no times; its frames are taken to be {rate:g} a second"

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                yield from self._stream.decode(packet)
            except (av.FFmpegError, OSError):
                self.num_undecodable += 1

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        """Every packet, then one that makes the decoder give what it still holds."""
        try:
            yield from self._container.demux(self._stream)
        except (av.FFmpegError, OSError):
            self.truncated = True
            yield None

    def _timed(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every frame that can be decoded, in order of presentation, with its pts, which strictly ascend."""
        last, ticks = None, 0
        for frame in self._decoded():
            pts = self._pts(frame)
            if pts is None and (self._is_avi or self._stream.start_time is None):
                pts = 0 if last is None else last + ticks
            if pts is None or (last is not None and pts <= last):
                self.num_undecodable += 1  # without a time of its own a frame has no place in any table
                continue
            last, ticks = pts, self._ticks(frame)
            yield pts, frame

    def _pts(self, frame: VideoFrame) -> int | None:
        """An AVI says when frames are decoded, one after the other, and FFmpeg can but guess when they are shown."""
        return frame.dts if self._is_avi else frame.pts

    def _ticks(self, frame: VideoFrame) -> int:
        """How long a frame lasts where only the frame rate tells it."""
        rate = self._stream.guessed_rate or self._stream.average_rate or 25  # 25 is what FFmpeg takes
        return frame.duration or max(1, round(1 / (rate * Fraction(self.time_base.num, self.time_base.den))))

    def problems(self) -> list[str]:
        """What was found out while `frames` was exhausted, in words."""
        found = ["breaks off"] if self.truncated else []
        return found + ([f"cannot be decoded in {self.num_undecodable} of its packets"] if self.num_undecodable else [])

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded, in order of presentation; pts strictly ascend."""
        for index, (pts, frame) in enumerate(self._timed()):
            luma, limited = _luma(frame)
            yield Frame(index, pts, luma, limited, _colour(frame))

    def all_pictures(self) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Every frame of `frames`, as `pictures` gives those at some pts."""
        for pts, frame in self._timed():
            yield pts, _upright(frame, self._aspect)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """The frames at some pts: (pts, upright BGR picture of the displayed size, (height, width, 3)).

        They come in ascending order as far as the file can be searched, then those that only a pass over all of it
        finds. A pts that no frame has is passed over; the caller sees which are missing.
        """
        missing = set()
        for pts in sorted(wanted):
            found = self._search(pts)
            if found is None:
                missing.add(pts)
            else:
                yield pts, _upright(found[0], self._aspect)
        if not missing:
            return
        with VideoReader(self._path) as again:
            for pts, frame in again._timed():
                if pts in missing:
                    missing.remove(pts)
                    yield pts, _upright(frame, self._aspect)
                if not missing:
                    break

    def between(self, start: int, stop: int, step: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Frames of [start, stop), no two nearer than `step` ticks, as `pictures` gives them.

        Those before are decoded only as far as a search needs.
        """
        found = self._search(start)
        if found is not None:
            timed = ((self._pts(frame), frame) for frame in itertools.chain([found[0]], found[1]))
            yield from self._thinned(timed, start, stop, step)
        else:  # nothing is at `start` itself, or no search finds it
            with VideoReader(self._path) as again:
                yield from again._thinned(again._timed(), start, stop, step)

    def _thinned(
        self, timed: Iterable[tuple[int | None, VideoFrame]], start: int, stop: int, step: int
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        due = start
        for pts, frame in timed:
            if pts is not None and pts >= stop:
                return
            if pts is not None and pts >= due:
                yield pts, _upright(frame, self._aspect)
                due = pts + step

    def _search(self, pts: int) -> tuple[VideoFrame, Iterator[VideoFrame]] | None:
        """The frame at `pts`, and those after it; None where no search finds it.

        In MPEG-TS a search ends at any packet. What is decoded before the first key frame lacks what it refers to: the
        search begins anew some seconds earlier, until a key frame comes before `pts`.
        """
        second = self.time_base.den / self.time_base.num
        for earlier in _EARLIER_SECONDS:
            try:
                self._container.seek(pts - round(earlier * second), stream=self._stream, backward=True)
            except (av.FFmpegError, OSError):
                return None
            decoded, whole = self._decoded(), False
            for frame in decoded:
                found = self._pts(frame)
                if found is not None and found >= pts:
                    if found == pts and (whole or frame.key_frame):
                        return frame, decoded
                    break
                whole = whole or bool(frame.key_frame)
            if whole:  # there is nothing at `pts`
                return None
        return None


class PictureReader:
    """A folder of numbered pictures as a video, as a context manager; used as a VideoReader is.

    A picture's pts is its number, counted from the first: what is missing in between is missing in time. Attributes of
    its own: `num_frames`, from the first to the last.

    Args:
        folder: holds pictures of one kind and size, named alike but for the number at the end.
        time_base: seconds from one number to the next.

    Raises:
        DecodeError: the folder holds no such pictures; the message says why. So does `frames`, where sizes differ.
    """

    def __init__(self, folder: Path, time_base: TimeBase) -> None:
        self.num_undecodable = 0
        self.truncated = False
        self.time_base = time_base
        self._undecodable = ""
        try:
            self._paths = _by_number(pictures_in(folder))
        except OSError as error:
            raise DecodeError(f"cannot be read ({error.strerror})") from None
        self._first = min(self._paths)
        self.num_frames = max(self._paths) - self._first + 1
        self._codec = _PICTURES[self._paths[self._first].suffix.lower()]

    def __enter__(self) -> "PictureReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def facts(self) -> VideoFacts:
        """Read those of the first picture that can be decoded."""
        decoded = next(self._decoded(), None)
        if decoded is None:
            raise DecodeError(f"holds no picture of 1 to {_MAX_PIXELS} pixels that can be decoded")
        width, height, rotation = _displayed(*decoded[1:])
        missing = self.num_frames - len(self._paths)
        return VideoFacts(
            codec=self._codec,
            width=width,
            height=height,
            rotation=rotation,
            time_base=self.time_base,
            duration_seconds=self.time_base.seconds(self.num_frames),
            created_at=None,
            remark=f"lacks {missing} of the {self.num_frames} pictures that its numbers promise" if missing else "",
        )

    def problems(self) -> list[str]:
        """What was found out while `frames` was exhausted, in words."""
        count = self.num_undecodable
        return [f"cannot be decoded in {count} of its pictures, first in {self._undecodable}"] if count else []

    def _decoded(self) -> Iterator[tuple[int, VideoFrame, Fraction | None]]:
        """Every picture that can be decoded: its pts, itself and the aspect of its pixels."""
        for number, path in self._paths.items():
            decoded = self._decode(path)
            if decoded is not None:
                yield number - self._first, *decoded
            else:
                self._undecodable = self._undecodable or path.name
                self.num_undecodable += 1

    def _decode(self, path: Path) -> tuple[VideoFrame, Fraction | None] | None:
        """By a decoder of its own: of an earlier picture, some would fill in what a damaged one lacks."""
        decoder = av.CodecContext.create(self._codec, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.thread_count = 1  # more would hold the picture back
        decoder.options = {"max_pixels": str(_MAX_PIXELS)}
        try:
            if not 0 < path.stat().st_size <= _MAX_PICTURE_BYTES:
                return None
            frames = decoder.decode(Packet(path.read_bytes()))
        except (av.FFmpegError, OSError):
            return None
        return (frames[0], decoder.sample_aspect_ratio) if frames else None

    def frames(self) -> Iterator[Frame]:
        """Every picture that can be decoded, in the order of their numbers."""
        size = None
        for index, (pts, frame, _) in enumerate(self._decoded()):
            if size is not None and size != (frame.width, frame.height):
                name = self._paths[self._first + pts].name
                raise DecodeError(
                    f"holds pictures of several sizes, {size[0]} x {size[1]} and in {name} {frame.width} x "
                    f"{frame.height}; keep those of one size in a folder"
                )
            size = (frame.width, frame.height)
            luma, limited = _luma(frame)
            yield Frame(index, pts, luma, limited, _colour(frame))

    def all_pictures(self) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Every picture of `frames`, as `pictures` gives those at some pts."""
        for pts, frame, aspect in self._decoded():
            yield pts, _upright(frame, aspect)

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Those at some pts: (pts, upright BGR picture of the displayed size, (height, width, 3)), in order."""
        for pts in sorted(wanted):
            path = self._paths.get(self._first + pts)
            decoded = path and self._decode(path)
            if decoded:
                yield pts, _upright(*decoded)

    def between(self, start: int, stop: int, step: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Those of [start, stop), no two nearer than `step` numbers, as `pictures` gives them."""
        due = start
        for pts in sorted(number - self._first for number in self._paths):
            if due <= pts < stop:
                yield from self.pictures([pts])
                due = pts + step


def open_video(path: Path, picture_step: TimeBase, threads: int = 1) -> VideoReader | PictureReader:
    """The reader of a file, or of a folder of pictures that are `picture_step` apart; threads are those of a file.

    Raises:
        DecodeError: as its reader.
    """
    return PictureReader(path, picture_step) if path.is_dir() else VideoReader(path, threads)


def lacking(codecs: Iterable[str]) -> list[str]:
    """Those of the codecs that FFmpeg, as it is linked here, cannot decode."""
    return [name for name in codecs if not _decodes(name)]


def _decodes(name: str) -> bool:
    try:
        av.Codec(name, "r")
    except ValueError:  # UnknownCodecError is one
        return False
    return True


def pictures_in(folder: Path) -> list[Path]:
    """The files of a folder by name, where it holds two or more and all are pictures; else none of them.

    Folders in it, and what is hidden, do not count.
    """
    names = [name for name in os.listdir(folder) if not name.startswith(".") and not os.path.isdir(folder / name)]
    pictures = all(os.path.splitext(name)[1].lower() in _PICTURES for name in names)
    return [folder / name for name in sorted(names)] if pictures and len(names) > 1 else []


def _by_number(paths: Sequence[Path]) -> dict[int, Path]:
    """Pictures by their numbers, which ascend.

    Raises:
        DecodeError: they are not of one kind and numbered alike.
    """
    if not paths:
        raise DecodeError("holds other things than pictures; keep numbered pictures alone in a folder")
    kinds = sorted({path.suffix.lower() for path in paths})
    if len({_PICTURES[kind] for kind in kinds}) > 1:
        raise DecodeError(f"holds pictures of several kinds ({', '.join(kinds)}); keep those of one kind in a folder")
    found: dict[int, Path] = {}
    alike = None
    for path in paths:
        match = _NUMBERED.fullmatch(path.stem)
        if match is None or alike not in (None, match[1]):
            other = paths[1] if path is paths[0] else paths[0]
            raise DecodeError(
                f"holds pictures that are not numbered alike, as {other.name} and {path.name}; expected one name for "
                "all of them with a number at its end, as in img_12.jpg"
            )
        alike, number = match[1], int(match[2])
        if number in found:
            raise DecodeError(f"holds two pictures with the number {number}, {found[number].name} and {path.name}")
        found[number] = path
    return dict(sorted(found.items()))


def _displayed(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int, int]:
    """Width, height and rotation of a picture as displayed.

    Raises:
        DecodeError: it is too long to be of anything.
    """
    rotation = round(frame.rotation / 90) % 4 * 90
    width, height = frame.width, frame.height
    if aspect is not None and aspect > 0:
        width = max(1, round(width * aspect))
    if rotation in (90, 270):
        width, height = height, width
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise DecodeError(f"holds pictures of {width} x {height}, longer than {_MAX_ASPECT} to 1")
    return width, height, rotation


def _upright(frame: VideoFrame, aspect: Fraction | None) -> npt.NDArray[np.uint8]:
    picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    if aspect is not None and aspect > 0 and aspect != 1:
        width = max(1, round(frame.width * aspect))
        picture = np.asarray(cv2.resize(picture, (width, frame.height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _luma(frame: VideoFrame) -> tuple[npt.NDArray[np.uint8], bool]:
    """(height, width) levels of 0 to 255, and whether they are of limited range; grey is always of full range."""
    pixels = frame.format
    plain = _LUMA_PLANE.fullmatch(pixels.name)
    if plain:
        full = pixels.name.startswith(("yuvj", "gray")) or frame.color_range == _FULL_RANGE
        kind = np.dtype(f"{'<' if plain['order'] == 'l' else '>'}u2") if plain["bits"] else np.dtype(np.uint8)
        levels = _levels(frame.planes[0], kind)
        if not plain["bits"]:
            return levels, not full
        bits = int(plain["bits"])
        scale = 255 / (2**bits - 1) if full else 2.0 ** (8 - bits)  # 16–235 is 64–940 in ten bits
        return np.asarray(cv2.convertScaleAbs(levels.astype(np.uint16), alpha=scale), np.uint8), not full
    if pixels.components[0].is_luma and len(pixels.components) > 2:
        return _luma(frame.reformat(format="yuv444p"))
    grey = frame.reformat(format="gray", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG)
    return np.asarray(grey.to_ndarray(), np.uint8), False


def _colour(frame: VideoFrame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    """The chroma planes of a planar format of eight bits, as nearly all footage has."""
    if not _CHROMA_PLANES.fullmatch(frame.format.name):
        return None
    kind = np.dtype(np.uint8)
    return _levels(frame.planes[1], kind), _levels(frame.planes[2], kind)


def _levels(plane: VideoPlane, kind: "np.dtype[Any]") -> npt.NDArray[Any]:
    """(height, width) of a plane, without copying it."""
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    return rows[: plane.height, : plane.width]


def _created_at(metadata: dict[str, str]) -> datetime | None:
    text = metadata.get("creation_time")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC) if moment.year > 1970 else None  # 1904 and 1970 are how encoders say "unknown"


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())
