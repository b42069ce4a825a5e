"""Writes H.264 files, the same bytes on every run: one encoder thread, no clock and no library version in the file."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidrnn.storage import replacing


class VideoWriter:
    """A context manager that encodes pictures; the file appears under its name only when all of it is written.

    Args:
        path: of the file; its suffix chooses the container (.mp4, .mkv, …).
        width: pixels, even.
        height: pixels, even.
        frame_rate: frames/s that the encoder plans with; also spaces the frames that are written without `pts`.
        crf: x264 quality, lower is better.
        preset: of x264.
        rate_limit: (bits a second, bits at once) that it may spend, whatever `crf` asks for; None for no bound.
        time_base: seconds a tick of `pts`; None for 1 / frame_rate. An .mp4 stores a base 1 / n as it is.
        rotation: degrees counter-clockwise by which a player turns the picture; `av.VideoFrame.rotation` reads it back.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        frame_rate: Fraction | int,
        *,
        crf: int = 23,
        preset: str = "veryfast",
        rate_limit: tuple[int, int] | None = None,
        time_base: Fraction | None = None,
        rotation: int = 0,
    ) -> None:
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise ValueError(f"width and height must be even and positive, got {width} x {height}")
        self._path, self._shape = path, (height, width)
        self._frame_rate = Fraction(frame_rate)
        self._time_base = time_base or 1 / self._frame_rate
        self._options = {"crf": str(crf), "preset": preset, "threads": "1"}
        if rate_limit:
            self._options |= dict(zip(("maxrate", "bufsize"), map(str, rate_limit), strict=True))
        if width % 128:  # x264 looks ahead at eight macroblocks at once, and there beyond the ends of rows, into chance
            self._options["mbtree"] = "0"
        self._rotation = rotation
        self._next_pts = Fraction(0)

    def __enter__(self) -> "VideoWriter":
        self._replacing = replacing(self._path)
        partial = self._replacing.__enter__()
        kind = {".mkv": "matroska"}.get(self._path.suffix, self._path.suffix.lstrip("."))
        options = {"fflags": "+bitexact"}
        if kind == "mp4" and self._time_base.numerator == 1:
            options["video_track_timescale"] = str(self._time_base.denominator)
        self._container: Any = av.open(str(partial), "w", format=kind, options=options)
        self._stream: Any = self._container.add_stream("libx264", rate=self._frame_rate, options=self._options)
        self._stream.height, self._stream.width = self._shape
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._time_base
        self._stream.codec_context.thread_count = 1
        if self._rotation:
            self._stream.set_display_rotation(self._rotation)
        self._stream.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT
        return self

    def write(self, image: NDArray[np.uint8], pts: int | None = None) -> None:
        """Encode one picture.

        Args:
            image: (H, W, 3) BGR, (H, W) grey, or (H · 3 / 2, W) planar YUV 4:2:0; uint8.
            pts: when it is shown, in ticks of `time_base`, later than the one before; None for one frame later.
        """
        height, width = self._shape
        if image.ndim == 2 and image.shape == (height * 3 // 2, width):
            planar: Any = image
        elif image.shape[:2] == (height, width):
            bgr = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            planar = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        else:
            raise ValueError(f"expected a picture of {width} x {height}, got shape {image.shape}")
        frame = av.VideoFrame.from_ndarray(planar, format="yuv420p")
        frame.pts = round(self._next_pts) if pts is None else pts
        frame.time_base = self._time_base
        self._next_pts = frame.pts + 1 / (self._frame_rate * self._time_base)
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
            self._replacing.__exit__(kind, error, trace)
