"""A copy of a video with its tables burnt in: boxes, trails, the score as a curve, and events with their reasons."""

from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidrnn.decode import open_video
from vidrnn.encode import VideoWriter
from vidrnn.errors import UserError
from vidrnn.schema import BOX
from vidrnn.timebase import TimeBase

Picture = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Colour = tuple[int, int, int]  # blue, green, red

CURVE_SECONDS = 20.0  # of the score that are shown below the picture, up to the present
TRAIL_SECONDS = 2.0  # of where an object was
_ALARM: Colour = (40, 40, 230)
_CALM: Colour = (200, 200, 200)
_DARK: Colour = (32, 32, 32)
_EVENT: Colour = (60, 50, 110)
_TURN = 0.618034  # of the colour circle between successive tracks, so that neighbours differ
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate_video(
    source: Path, time_base: TimeBase, frames: pa.Table, events: pa.Table, detections: pa.Table, out: Path
) -> None:
    """Write an H.264 copy of a video with what its tables say of it.

    Args:
        source: a video file, or a folder of numbered pictures.
        time_base: of its pts, as in the table `videos`.
        frames, events, detections: the rows of the tables that are of this video.
        out: the .mp4 or .mkv to write. Every frame is in it, at its own time; below the picture runs the score.

    Raises:
        DecodeError: the source is no video.
        UserError: the source holds not one frame.
    """
    # The encoder takes most time: the next pictures are decoded and painted meanwhile.
    with open_video(source, time_base) as reader, ThreadPoolExecutor(1) as decoding, ThreadPoolExecutor(1) as painting:
        pictures = _ahead(decoding, reader.all_pictures())
        first = list(islice(pictures, 2))
        if not first:
            raise UserError(f"{source}: holds no frame that can be decoded, so that there is nothing to annotate")
        start, picture = first[0]
        painter = _Painter(picture.shape[1], picture.shape[0], frames, events, detections)
        base = Fraction(reader.time_base.num, reader.time_base.den)
        rate = 1 / (
            base * (first[-1][0] - start or 1)
        )  # which the encoder plans with: never a frame in less than a tick
        with VideoWriter(out, painter.width, painter.height, rate, time_base=base) as writer:
            painted = ((pts, painter.paint(pts, picture)) for pts, picture in chain(first, pictures))
            for pts, picture in _ahead(painting, painted):
                writer.write(picture, pts - start)


def _ahead(thread: ThreadPoolExecutor, items: Iterator[Item]) -> Iterator[Item]:
    """The same items, the next ones made while their taker is busy."""
    coming = deque(thread.submit(next, items, None) for _ in range(4))
    while (item := coming.popleft().result()) is not None:
        coming.append(thread.submit(next, items, None))
        yield item


class _Painter:
    """Paints what holds at a time: that of the latest analysed frame."""

    def __init__(self, width: int, height: int, frames: pa.Table, events: pa.Table, detections: pa.Table) -> None:
        self._size = width, height
        self._pts = frames["pts"].to_numpy()
        self._times = frames["time_seconds"].to_numpy()
        self._scores = frames["score"].to_numpy()
        self._alarms = frames["alarm"].to_numpy()
        self._limit = float(self._scores[self._alarms].min()) if self._alarms.any() else np.inf
        self._top = max(float(self._scores.max(initial=0.0)), 1e-6)
        self._events = events.to_pylist()
        self._things: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for thing in detections.to_pylist():
            self._things[thing["pts"]].append(thing)
        self._trails: dict[int, deque[tuple[float, tuple[int, int]]]] = defaultdict(deque)
        self._painted = -1  # the row whose objects are in the trails
        self._line = max(1, round(height / 360))
        self._band = 2 * max(20, height // 14)
        self.width, self.height = width + width % 2, height + height % 2 + self._band  # as H.264 wants them

    def paint(self, pts: int, picture: Picture) -> Picture:
        """(self.height, self.width, 3) uint8: the picture at `pts` with what is said of it, the curve below."""
        width, height = self._size
        canvas: Picture = np.full((self.height, self.width, 3), _DARK, np.uint8)
        canvas[:height, :width] = picture
        row = int(np.searchsorted(self._pts, pts, side="right")) - 1
        present = [event for event in self._events if event["onset_pts"] <= pts < event["offset_pts"]]
        if row >= 0:
            self._draw_things(canvas[:height, :width], row)
            self._draw_curve(canvas[-self._band :], row)
        for event in present:
            self._draw_event(canvas[:height, :width], event)
        return canvas

    def _draw_things(self, picture: Picture, row: int) -> None:
        things, time = self._things[int(self._pts[row])], float(self._times[row])
        if row != self._painted:
            self._painted = row
            for thing in things:
                foot = round((thing["x0"] + thing["x1"]) / 2), round(thing["y1"])
                self._trails[thing["track_id"]].append((time, foot))
        for track in [name for name, trail in self._trails.items() if trail[-1][0] < time - TRAIL_SECONDS]:
            del self._trails[track]
        for track, trail in self._trails.items():
            while trail[0][0] < time - TRAIL_SECONDS:
                trail.popleft()
            points = np.array([point for _, point in trail], np.int32)
            cv2.polylines(picture, [points], False, _colour(track), self._line, cv2.LINE_AA)
        for thing in things:
            x0, y0, x1, y1 = (round(thing[name]) for name in BOX)
            unusual, hidden = thing["score"] >= self._limit and self._alarms[row], thing["objectness"] == 0
            colour = _ALARM if unusual else _colour(thing["track_id"])
            thick = 1 if hidden else self._line * (2 if unusual else 1)
            cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, thick)
            self._write(picture, str(thing["track_id"]), (x0, y0 - 2), colour)

    def _draw_event(self, picture: Picture, event: dict[str, Any]) -> None:
        """A frame around the picture, the reason at its top."""
        cv2.rectangle(picture, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), _ALARM, 3 * self._line)
        text = f"{event['kind']}: {event['reason'] or ''}".replace("–", "-").encode("ascii", "replace").decode()
        (_, tall), below = cv2.getTextSize(text, _FONT, self._scale, self._line)
        picture[: tall + below + 4] //= 3
        self._write(picture, text, (4, tall + 3), (255, 255, 255))

    def _draw_curve(self, band: Picture, row: int) -> None:
        """The score up to now, events shaded, alarms red."""
        now, height, width = float(self._times[row]), band.shape[0], band.shape[1]
        per_second = width / CURVE_SECONDS
        for event in self._events:
            left, right = ((event[side] - now) * per_second + width for side in ("onset_seconds", "offset_seconds"))
            if right > 0 and left < width:
                band[:, max(0, round(left)) : round(min(right, width))] = _EVENT
        first = int(np.searchsorted(self._times, now - CURVE_SECONDS))
        x = (self._times[first : row + 1] - now) * per_second + width - 1
        y = (height - 2) * (1 - np.clip(self._scores[first : row + 1], 0, None) / self._top) + 1
        points = np.round(np.stack([x, y], 1)).astype(np.int32)
        cv2.polylines(band, [points], False, _CALM, self._line, cv2.LINE_AA)
        alarms = self._alarms[first : row + 1]
        for run in np.split(np.arange(len(points)), np.flatnonzero(np.diff(alarms)) + 1):
            if alarms[run[0]]:
                cv2.polylines(band, [points[run]], False, _ALARM, 2 * self._line, cv2.LINE_AA)
        self._write(band, f"{now:.1f} s  score {self._scores[row]:.2f}", (4, height - 6), (255, 255, 255))

    @property
    def _scale(self) -> float:
        return max(0.35, self._size[1] / 1000)

    def _write(self, picture: Picture, text: str, at: tuple[int, int], colour: Colour) -> None:
        cv2.putText(picture, text, at, _FONT, self._scale, colour, self._line, cv2.LINE_AA)


def _colour(track_id: int) -> Colour:
    """A bright colour of a track's own; never the red of alarms."""
    hue = 25 + 115 * (track_id * _TURN % 1)  # of OpenCV's 180, of which both ends are red
    blue, green, red = cv2.cvtColor(np.array([[[hue, 170, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red
