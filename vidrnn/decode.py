"""Video files to luma pictures with exact times. The only reader module that imports av.

Streaming and frame-threaded; the luma plane is taken straight from the decoder where the format has one. Local files
only: the protocol whitelist keeps a playlist in disguise from reaching anything else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidrnn.errors import DecodeError
from vidrnn.timebase import TimeBase

_LUMA_FIRST = ("yuv", "yuvj", "yuva", "nv12", "nv16", "nv21", "nv24", "gray")
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


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

    Raises:
        DecodeError: no file of video, or not one frame of it can be decoded; the message says which.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.num_undecodable = 0
        self.truncated = False
        try:
            self._container = av.open(
                f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file,crypto,data"}
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise DecodeError(f"not a video that can be opened ({_reason(error)})") from None
        try:
            self._stream = self._default_stream()
            self._stream.thread_type = "FRAME"
            self._stream.codec_context.thread_count = threads
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _default_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        if stream is None:
            raise DecodeError("holds no video stream")
        assert isinstance(stream, VideoStream)
        if stream.time_base is None:
            raise DecodeError("its video stream has no time base")
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
        if frame is None:
            raise DecodeError("no frame of it can be decoded")
        context = self._stream.codec_context
        rotation = round(frame.rotation / 90) % 4 * 90
        aspect = self._stream.sample_aspect_ratio or context.sample_aspect_ratio
        width, height = frame.width, frame.height
        if aspect is not None and aspect > 0:
            width = max(1, round(width * aspect))
        if rotation in (90, 270):
            width, height = height, width
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
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()  # type: ignore[misc]
                except av.FFmpegError:
                    self.num_undecodable += 1
        except av.FFmpegError:
            self.truncated = True

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
        """The frames at some pts, ascending: (pts, upright BGR picture of the displayed size, (height, width, 3)).

        A pts that cannot be reached is passed over; the caller sees which are missing.
        """
        for pts in wanted:
            try:
                self._container.seek(pts, stream=self._stream, backward=True)
            except av.FFmpegError:
                continue
            for frame in self._decoded():
                if frame.pts == pts:
                    yield pts, self._upright(frame)
                if frame.pts is not None and frame.pts >= pts:
                    break

    def _upright(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        picture = frame.to_ndarray(format="bgr24")
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if aspect is not None and aspect > 0 and aspect != 1:
            width = max(1, round(frame.width * aspect))
            picture = cv2.resize(picture, (width, frame.height), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _luma(frame: VideoFrame) -> tuple[npt.NDArray[np.uint8], bool]:
    name, plane = frame.format.name, frame.planes[0]
    eight_bit = frame.format.components[0].bits == 8 if frame.format.components else False
    if eight_bit and name.startswith(_LUMA_FIRST):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        full = name.startswith(("yuvj", "gray")) or frame.color_range == _FULL_RANGE
        return rows[: frame.height, : frame.width], not full
    return frame.reformat(format="gray").to_ndarray(), False


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
