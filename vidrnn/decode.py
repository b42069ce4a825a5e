"""Video files to luma pictures with exact times. The only reader module that imports av.

Streaming; the luma plane is taken straight from the decoder where the format has one. FFmpeg is handed an open file
and no protocol at all: a playlist in disguise reaches neither the network nor another file.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidrnn.errors import DecodeError
from vidrnn.timebase import TimeBase

_LUMA_FIRST = ("yuv", "yuvj", "yuva", "nv12", "nv16", "nv21", "nv24", "gray")
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_MAX_PIXELS = 2**27  # a larger picture is not decoded
_MAX_STREAMS = 64
_MAX_ASPECT = 16  # a displayed picture may be so much longer than it is wide, or the other way round
_NOT_VIDEO = {"tty": "is text"}  # demuxers that make a film of anything


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
    """

    codec: str
    width: int
    height: int
    rotation: int
    time_base: TimeBase
    duration_seconds: float | None
    created_at: datetime | None


@dataclass(frozen=True)
class Frame:
    """A decoded picture.

    Attributes:
        frame_index: 0-based, in order of presentation.
        pts: ticks of the stream's time base.
        luma: (stored height, stored width) uint8, a view that lives until the next frame is asked for.
        limited_range: whether luma spans 16–235 rather than 0–255.
    """

    frame_index: int
    pts: int
    luma: npt.NDArray[np.uint8]
    limited_range: bool


class VideoReader:
    """The default video stream of a local file, as a context manager.

    After `frames` has been exhausted, `num_undecodable` counts the packets that FFmpeg could not decode and
    `truncated` says whether the file broke off.

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

    @property
    def time_base(self) -> TimeBase:
        """Seconds per tick."""
        base = self._stream.time_base
        assert base is not None
        return TimeBase(base.numerator, base.denominator)

    def facts(self) -> VideoFacts:
        """Read the container's facts, and one frame for the rotation and the true size. Use a reader of its own."""
        frame = next(self._decoded(), None)
        context = self._stream.codec_context
        if frame is None and not context.width:  # FFmpeg forgets a size that it was told to refuse
            raise DecodeError(f"holds no picture of 1 to {_MAX_PIXELS} pixels")
        if frame is None:
            raise DecodeError("holds no frame that can be decoded")
        rotation = round(frame.rotation / 90) % 4 * 90
        aspect = self._stream.sample_aspect_ratio or context.sample_aspect_ratio
        width, height = frame.width, frame.height
        if aspect is not None and aspect > 0:
            width = max(1, round(width * aspect))
        if rotation in (90, 270):
            width, height = height, width
        if max(width, height) > _MAX_ASPECT * min(width, height):
            raise DecodeError(f"holds pictures of {width} x {height}, longer than {_MAX_ASPECT} to 1")
        return VideoFacts(
            codec=context.name,
            width=width,
            height=height,
            rotation=rotation,
            time_base=self.time_base,
            duration_seconds=self._duration_seconds(),
            created_at=_created_at(dict(self._container.metadata)),
        )

    def _duration_seconds(self) -> float | None:
        if self._stream.duration is not None:
            return self.time_base.seconds(self._stream.duration)
        return None if self._container.duration is None else self._container.duration / 1_000_000

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

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded, in order of presentation; pts strictly ascend."""
        index, last = 0, None
        for frame in self._decoded():
            pts = frame.pts
            if pts is None or (last is not None and pts <= last):
                self.num_undecodable += 1  # without a time of its own a frame has no place in any table
                continue
            last = pts
            luma, limited = _luma(frame)
            yield Frame(index, pts, luma, limited)
            index += 1

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """The frames at some pts: (pts, upright BGR picture of the displayed size, (height, width, 3)).

        They come in ascending order as far as the file can be searched, then those that only a pass over all of it
        finds. A pts that no frame has is passed over; the caller sees which are missing.
        """
        missing = set()
        for pts in sorted(wanted):
            frame = self._search(pts)
            if frame is None:
                missing.add(pts)
            else:
                yield pts, self._upright(frame)
        if not missing:
            return
        with VideoReader(self._path) as again:
            for frame in again._decoded():
                if frame.pts in missing:
                    missing.remove(frame.pts)
                    yield frame.pts, self._upright(frame)
                if not missing:
                    break

    def _search(self, pts: int) -> VideoFrame | None:
        """The frame at `pts`; None where a search ends behind it, as in MPEG-TS."""
        try:
            self._container.seek(pts, stream=self._stream, backward=True)
        except (av.FFmpegError, OSError):
            return None
        for frame in self._decoded():
            if frame.pts is not None and frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None

    def _upright(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if aspect is not None and aspect > 0 and aspect != 1:
            width = max(1, round(frame.width * aspect))
            picture = np.asarray(cv2.resize(picture, (width, frame.height), interpolation=cv2.INTER_AREA), np.uint8)
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _luma(frame: VideoFrame) -> tuple[npt.NDArray[np.uint8], bool]:
    name, plane = frame.format.name, frame.planes[0]
    eight_bit = frame.format.components[0].bits == 8 if frame.format.components else False
    if eight_bit and name.startswith(_LUMA_FIRST):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        full = name.startswith(("yuvj", "gray")) or frame.color_range == _FULL_RANGE
        return rows[: frame.height, : frame.width], not full
    return np.asarray(frame.reformat(format="gray").to_ndarray(), np.uint8), False


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
