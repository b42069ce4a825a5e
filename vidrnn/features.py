"""Luma pictures to a grid of cells: fixed mathematics, causal, a pure function of one file and the params.

The working picture is `height` pixels high and is cut into 20 rows of square cells. Around the centre of every cell,
windows the size of a person gather what moves there. Speeds are picture heights per second, so that they survive a
change of frame rate and picture size. The background starts as the median of the warm-up, a stated look-ahead, and
then follows slowly.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vidrnn.camera import COVERED, LOST, MOVED, SETTLE_SECONDS, View, compare, displacement, sharpness, state_of
from vidrnn.flow import FlowFinder, Sight
from vidrnn.foreground import Foreground, Motion, Regions
from vidrnn.timebase import TimeBase

SIGNATURE = 16  # parts of a picture, each way, whose mean luma tells one shot from another
ROWS = 20
_SUB = 2  # base squares per cell and axis
_ORIENTATIONS = 6
# (height, width) of the windows in base squares of height / 40: 0.2 × 0.15 and 0.1 × 0.075 picture heights and widths.
WINDOWS = {"person": (8, 6), "part": (4, 3)}
_IN_WINDOW = ("foreground", "moving", "speed", "velocity_x", "velocity_y", "spread")
CHANNELS: tuple[str, ...] = (
    "luma",
    "flow_x",
    "flow_y",
    "difference",
    *(f"gradient{k}" for k in range(_ORIENTATIONS)),
    *(f"{window}_{name}" for window in WINDOWS for name in _IN_WINDOW),
)

FOREGROUND_LEVELS = 18.0  # luma levels from the background beyond which a pixel is foreground
_FOREGROUND_NOISE = 5.0  # or so many times the sensor noise, where that is more
_LEAST_GAIN, _MOST_GAIN = 0.08, 2.0  # of a camera's own exposure: less is left alone, more is not believed
_LEAST_APART, _LEAST_TOLD = 8.0, 0.2  # levels from the median that tell of a gain, and of how much of the picture
_MEDIAN_STEP = 8  # every so many pixels count where the exposure of a picture is measured
_HALF = 2  # flow is found and gathered at half the working size
MOVING_PIXELS = 0.3  # working pixels of flow between analysed frames below which nothing moves
_ABSENT = 0.05  # added to the moving share, so that a speed fades out with what moves
_SLOW = 0.1  # how much slower foreground enters the background than the rest
_GHOST_SECONDS = 0.5  # between two looks for ghosts; what is one in both is forgotten
_GHOST_EDGES = 1.5  # how much stronger the background's edges are around a ghost than the picture's
_GHOST_MOVES = 0.2  # of it may move, at most: what passes before it
_SHAKEN_SHARE = 0.01  # of a tile that has to be in front where the camera may have shaken
_TILES, _SHAKEN = 8, 0.5  # along each axis; of them, when so many have something in front, the camera may have shaken
_LEAST_SHAKE, _MOST_SHAKE = 0.001, 0.03  # picture heights of displacement that are taken back
_STEADIED = 0.7  # of what was in front that is so still, at most, once a shake or a gain of exposure is taken back
_SHARPNESS_SECONDS = 1.0  # between two looks at it: one takes as long as a tenth of all else
MAX_STEP_SECONDS = 1.0  # beyond it two frames have no flow between them
_EXPAND = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)  # 16–235 to 0–255

Luma = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureRow:
    """An analysed frame.

    Attributes:
        frame_index: of the source.
        pts: ticks.
        valid: False in the warm-up.
        cells: (len(CHANNELS), ROWS, columns) float16.
        regions: the objects in it.
        view: how the picture compares with its background.
        sharpness: of the picture, or of one less than a second before it.
    """

    frame_index: int
    pts: int
    valid: bool
    cells: npt.NDArray[np.float16]
    regions: Regions
    view: View
    sharpness: float


@dataclass(frozen=True)
class Flow:
    """What moves between two frames, each (height / 2, width / 2).

    Attributes:
        moving: share of each place that is in front and moves.
        velocity_x, velocity_y: picture heights per second to the right and downwards.
    """

    moving: Array
    velocity_x: Array
    velocity_y: Array


@dataclass(frozen=True)
class _Front(Sight):
    """A picture before its background.

    Attributes:
        picture: (height, width) uint8, levels, of the contrast of its background.
        difference: likewise, levels from the background.
        foreground: likewise, 0 or 1.
        exposure: levels by which all of the picture is brighter than its background.
        view: how it compares.
    """

    picture: Luma
    difference: Luma
    foreground: Luma
    exposure: float
    view: View


@dataclass(frozen=True)
class Moment:
    """An analysed picture, what stands in front in it and what flows into it: all that a row is made of.

    Attributes:
        frame_index, pts, valid, sharpness: as of a FeatureRow.
        front: the picture before its background.
        flow: into it.
        colour: (2, height / 2, width / 2) uint8, its chroma, of a file that has any.
        seconds: since the one before in which the place was seen; 0 for the first.
        objects: what tells objects from the background; None where the place is not seen.
    """

    frame_index: int
    pts: int
    valid: bool
    sharpness: float
    front: _Front
    flow: Flow
    colour: Luma | None
    seconds: float
    objects: Foreground | None


@dataclass(frozen=True)
class Grid:
    """The working picture and its cells.

    Attributes:
        height, width: pixels of the working picture.
        columns: of cells; rows are always ROWS.
        stretch: by how much horizontal lengths must be multiplied to be in the scale of the vertical ones.
    """

    height: int
    width: int
    columns: int
    stretch: float

    @classmethod
    def of(cls, display_width: int, display_height: int, height: int) -> "Grid":
        """The grid of a picture of this displayed size at a working `height`, a multiple of 2 · ROWS."""
        cell = height // ROWS
        columns = max(2, round(display_width / display_height * ROWS))
        return cls(height, columns * cell, columns, display_width / display_height * ROWS / columns)


def working_picture(luma: Luma, limited_range: bool, rotation: int, grid: Grid) -> Luma:
    """A stored luma plane as a (grid.height, grid.width) uint8 picture, upright and of full range."""
    turned = rotation in (90, 270)
    size = (grid.height, grid.width) if turned else (grid.width, grid.height)
    small = _smaller(luma, size)
    if limited_range:
        small = np.asarray(cv2.LUT(small, _EXPAND))
    return np.ascontiguousarray(np.rot90(np.asarray(small, np.uint8), rotation // 90))


def working_colour(colour: tuple[Luma, Luma], rotation: int, grid: Grid) -> Luma:
    """Stored chroma planes as (2, grid.height / 2, grid.width / 2) uint8, upright."""
    size = (grid.height // 2, grid.width // 2) if rotation in (90, 270) else (grid.width // 2, grid.height // 2)
    planes = [_smaller(plane, size) for plane in colour]
    return np.ascontiguousarray(np.rot90(np.stack(planes), rotation // 90, axes=(1, 2)))


def _smaller(plane: Luma, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Of a (width, height), each pixel the mean of those that it covers."""
    small: npt.NDArray[Any] = plane
    while small.shape[0] >= _HALF * size[1] and small.shape[1] >= _HALF * size[0]:  # much faster than all at once
        small = _halved(small)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA))


def signature(luma: Luma, rotation: int) -> Luma:
    """The mean luma of SIGNATURE × SIGNATURE parts of a picture, from 8 × 8 pixels of each: uint8, upright."""
    rows, columns = ((np.arange(8 * SIGNATURE) * side // (8 * SIGNATURE)) for side in luma.shape)
    pixels = np.take(luma[rows], columns, axis=1)
    small = cv2.resize(pixels, (SIGNATURE, SIGNATURE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(np.asarray(small, np.uint8), rotation // 90))


class FeatureExtractor:
    """Pictures in, rows out, in order: `push` each analysed picture, then `flush` once.

    Half of that is to `watch`, then `watch_rest`, and the other half to `describe` what these gave, in order. Each half
    has a memory of its own, so that they may run in two threads.

    Args:
        grid: of the pictures.
        time_base: of their pts.
        warmup_seconds: whose median is the first background; their rows come once they are over.
        background_seconds: time constant with which the background follows.
        stopped_seconds: for so long an object that has stopped remains one among the regions.
    """

    def __init__(
        self,
        grid: Grid,
        time_base: TimeBase,
        warmup_seconds: float,
        background_seconds: float,
        stopped_seconds: float,
    ) -> None:
        self._grid, self._time_base = grid, time_base
        self._warmup_seconds, self._background_seconds = warmup_seconds, background_seconds
        self._stopped_seconds = stopped_seconds
        self._waiting: list[tuple[int, int, Luma, Luma | None]] = []
        self._objects: Foreground | None = None
        self._warm = False
        self._background: Array = np.zeros((grid.height, grid.width), np.float32)
        self._threshold = FOREGROUND_LEVELS
        self._before: tuple[int, _Front] | None = None
        self._last_pts: int | None = None
        self._picture: Luma | None = None
        self._sharpness: tuple[int, float] | None = None
        self._moved_since: int | None = None
        self._looked: int | None = None
        self._ghosts = np.zeros((grid.height // _HALF, grid.width // _HALF), np.bool_)
        self._finder = FlowFinder()

    def push(self, frame_index: int, pts: int, picture: Luma, colour: Luma | None = None) -> Iterator[FeatureRow]:
        """Take the next analysed picture; yield the rows that are ready.

        Args:
            frame_index: of the source.
            pts: ticks.
            picture: (grid.height, grid.width) uint8.
            colour: (2, grid.height / 2, grid.width / 2) uint8, its chroma, of a file that has any.
        """
        yield from map(self.describe, self.watch(frame_index, pts, picture, colour))

    def flush(self) -> Iterator[FeatureRow]:
        """Yield the rows that still wait for the warm-up to be over."""
        yield from map(self.describe, self.watch_rest())

    def watch(self, frame_index: int, pts: int, picture: Luma, colour: Luma | None = None) -> Iterator[Moment]:
        """Take the next analysed picture, as `push` does; yield the moments that are ready."""
        if self._warm:
            front = self._front(picture)
            yield self._moment(frame_index, pts, picture, colour, front, self._flow_into(pts, front), valid=True)
            return
        self._waiting.append((frame_index, pts, picture, colour))
        if self._time_base.seconds(pts - self._waiting[0][1]) >= self._warmup_seconds:
            yield from self.watch_rest()

    def watch_rest(self) -> Iterator[Moment]:
        """Yield the moments that still wait for the warm-up to be over."""
        waiting, self._waiting, self._warm = self._waiting, [], True
        if not waiting:
            return
        pictures = np.stack([picture for _, _, picture, _ in waiting])
        colours = [colour for *_, colour in waiting if colour is not None]
        of_all = np.stack(colours) if len(colours) == len(waiting) else None
        self._objects = Foreground(pictures, of_all, self._background_seconds, self._stopped_seconds)
        self._background = np.median(pictures, axis=0).astype(np.float32)
        self._threshold = max(FOREGROUND_LEVELS, _FOREGROUND_NOISE * _noise(pictures))
        fronts = [self._front(picture) for _, _, picture, _ in waiting]
        flows = [self._flow_into(pts, front) for (_, pts, _, _), front in zip(waiting, fronts, strict=True)]
        if len(flows) > 1:  # nothing flows into the first picture; the warm-up looks ahead: it takes the flow out of it
            flows[0] = flows[1]
        for (frame_index, pts, picture, colour), front, flow in zip(waiting, fronts, flows, strict=True):
            yield self._moment(frame_index, pts, picture, colour, front, flow, valid=False)

    def describe(self, moment: Moment) -> FeatureRow:
        """The row of a moment; call it once for each, in order."""
        front, flow, regions = moment.front, moment.flow, Regions.none()
        if moment.objects is not None:
            motion = Motion(flow.moving, flow.velocity_x * flow.moving, flow.velocity_y * flow.moving)
            regions = moment.objects.push(moment.seconds, front.picture, moment.colour, front.exposure, motion)
        difference = _halved(front.difference * front.foreground).astype(np.float32)
        cells = gather(front.half, front.share, difference, flow, self._grid)
        return FeatureRow(moment.frame_index, moment.pts, moment.valid, cells, regions, front.view, moment.sharpness)

    def _front(self, picture: Luma) -> _Front:
        """What stands in front of the background; of a camera that shakes a little, once that is taken back."""
        before, self._picture = self._picture, picture
        change = 0.0 if before is None else float(cv2.norm(picture, before, cv2.NORM_L1)) / picture.size
        front = self._against(picture, change, (0.0, 0.0))
        coarse = np.s_[::_MEDIAN_STEP, ::_MEDIAN_STEP]
        if (gain := _gain(picture[coarse], self._background[coarse])) != 1:
            even = np.asarray(cv2.convertScaleAbs(picture, None, 1 / gain), np.uint8)
            evened = self._against(even, change, (0.0, 0.0))
            if float(evened.share.mean()) < _STEADIED * float(front.share.mean()):
                front, picture = evened, even
        tiles = cv2.resize(front.share, (_TILES, _TILES), interpolation=cv2.INTER_AREA)
        if float((tiles > _SHAKEN_SHARE).mean()) < _SHAKEN:
            return front
        right, down = displacement(front.half, _halved(self._background))
        shift = _HALF * right / self._grid.height * self._grid.stretch, _HALF * down / self._grid.height
        if _LEAST_SHAKE < np.hypot(*shift) < _MOST_SHAKE:
            back = np.array([[1, 0, -_HALF * right], [0, 1, -_HALF * down]], np.float32)
            edges = np.asarray(np.clip(np.rint(self._background), 0, 255), np.uint8)
            size = (self._grid.width, self._grid.height)
            steady = cv2.warpAffine(picture, back, size, edges, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
            steadied = self._against(np.asarray(steady, np.uint8), change, shift)
            if float(steadied.share.mean()) < _STEADIED * float(front.share.mean()):
                return steadied
        return replace(front, view=replace(front.view, shift_x=shift[0], shift_y=shift[1]))

    def _against(self, picture: Luma, change: float, shift: tuple[float, float]) -> _Front:
        """A picture before the background."""
        coarse = np.s_[::_MEDIAN_STEP, ::_MEDIAN_STEP]
        # The camera's own exposure is nobody's movement.
        exposure = _median(picture[coarse] - self._background[coarse])
        background = cv2.add(self._background, exposure, dtype=cv2.CV_8U)  # type: ignore[call-overload]  # as documented
        difference = np.asarray(cv2.absdiff(picture, background), np.uint8)
        blurred = cv2.GaussianBlur(difference, (5, 5), 0)
        foreground = np.asarray(cv2.threshold(blurred, self._threshold, 1, cv2.THRESH_BINARY)[1], np.uint8)
        half, share, behind = _halved(picture), _share(foreground), _halved(background).astype(np.float32)
        plain = _plain(half - behind, share)
        small = _halved(half).astype(np.float32)
        view = View(*compare(small, _halved(behind)), change, *shift)
        return _Front(np.asarray(half, np.uint8), share, plain, picture, difference, foreground, exposure, view)

    def _flow_into(self, pts: int, front: _Front) -> Flow | None:
        """The flow from the picture before; None for the first and after a gap. Remembers the picture."""
        before, self._before = self._before, (pts, front)
        if before is None:
            return None
        seconds = self._time_base.seconds(pts - before[0])
        if seconds > MAX_STEP_SECONDS:
            return None
        back = self._finder.find(front, before[1])  # half-size pixels
        across, down = (np.asarray(plane, np.float32) for plane in cv2.split(back))
        moving = front.share * (_length(across, down) > MOVING_PIXELS / _HALF)
        per_second = np.float32(-_HALF / (self._grid.height * seconds))
        across *= per_second * np.float32(self._grid.stretch)
        down *= per_second
        return Flow(moving, across, down)

    def _moment(
        self,
        frame_index: int,
        pts: int,
        picture: Luma,
        colour: Luma | None,
        front: _Front,
        flow: Flow | None,
        valid: bool,
    ) -> Moment:
        if flow is None:
            still = np.zeros_like(front.share)
            flow = Flow(still, still, still)
        seconds = 0.0 if self._last_pts is None else self._time_base.seconds(pts - self._last_pts)
        kind, objects = state_of(front.view), None
        if kind not in (COVERED, LOST):  # else the place is still there behind it
            objects = self._objects
            self._follow(pts, front.picture, front.foreground)
            self._forget_ghosts(pts, front, flow)
        self._settle(pts, kind == MOVED)
        sharp = self._sharpness_at(pts, picture)
        return Moment(frame_index, pts, valid, sharp, front, flow, colour, seconds, objects)

    def _sharpness_at(self, pts: int, picture: Luma) -> float:
        """Of the picture as the camera gave it, or of the last one that was looked at."""
        last = self._sharpness
        if last is None or self._time_base.seconds(pts - last[0]) >= _SHARPNESS_SECONDS:
            self._sharpness = last = pts, sharpness(picture)
        return last[1]

    def _forget_ghosts(self, pts: int, front: _Front, flow: Flow) -> None:
        """Take the picture as background where something stands in front in the background alone.

        Who stood there during the warm-up, or left since, leaves a hole of their shape, whose outline is an edge of the
        background and none of the picture. What stands in front of the place has it the other way round.
        """
        if self._looked is not None and self._time_base.seconds(pts - self._looked) < _GHOST_SECONDS:
            return
        self._looked = pts
        shown = (front.share > 0.5).view(np.uint8)
        count, labels = cv2.connectedComponents(shown, connectivity=8)
        rim = np.flatnonzero(shown - cv2.erode(shown, np.ones((5, 5), np.uint8)))
        of_rim = labels.ravel()[rim]
        behind = np.asarray(np.clip(_halved(self._background), 0, 255), np.uint8)
        now, then = (np.bincount(of_rim, _edges(half).ravel()[rim], count) for half in (front.half, behind))
        moving, area = (np.bincount(labels.ravel(), part.ravel(), count) for part in (flow.moving, shown))
        ghost = (then > _GHOST_EDGES * now) & (moving < _GHOST_MOVES * area)
        ghost[0] = False
        ghosts = ghost[labels]
        gone = (ghosts & self._ghosts).astype(np.uint8)
        self._ghosts = ghosts
        if gone.any():
            size = (self._grid.width, self._grid.height)
            whole = cv2.dilate(cv2.resize(gone, size, interpolation=cv2.INTER_NEAREST), np.ones((5, 5), np.uint8))
            cv2.copyTo(front.picture - np.float32(front.exposure), whole, self._background)

    def _settle(self, pts: int, moved: bool) -> None:
        """Take another view, once it has been there for a while, as a new background, with a warm-up of its own."""
        if not moved:
            self._moved_since = None
        elif self._moved_since is None:
            self._moved_since = pts
        elif self._time_base.seconds(pts - self._moved_since) >= SETTLE_SECONDS:
            self._warm, self._moved_since = False, None

    def _follow(self, pts: int, picture: Luma, foreground: Luma) -> None:
        """Let the background follow the picture, slowly where something is in front of it."""
        if self._last_pts is not None:
            seconds = self._time_base.seconds(pts - self._last_pts)
            rate = 1 - float(np.exp(-seconds / self._background_seconds))
            slowly = cv2.accumulateWeighted(picture, self._background.copy(), rate * _SLOW)
            cv2.accumulateWeighted(picture, self._background, rate)
            cv2.copyTo(slowly, foreground, self._background)
        self._last_pts = pts


def gather(half: Luma, share: Array, difference: Array, flow: Flow, grid: Grid) -> npt.NDArray[np.float16]:
    """The channels of every cell, (len(CHANNELS), ROWS, columns), from a picture of half the working size.

    Args:
        half: (height / 2, width / 2) uint8, levels.
        share: of each place that is in front.
        difference: levels from the background, 0 where nothing is in front.
        flow: what moves.
        grid: of the working picture.
    """
    moving, velocity_x, velocity_y = flow.moving, flow.velocity_x, flow.velocity_y
    columns = grid.columns * _SUB
    planes = np.empty((10, *half.shape), np.float32)
    planes[0], planes[1], planes[2], planes[3], planes[4], planes[5] = (
        half, velocity_x, velocity_y, difference, share, moving
    )  # fmt: skip
    speed = _length(velocity_x, velocity_y)
    np.multiply(moving, speed, out=planes[6])
    np.multiply(velocity_x, moving, out=planes[7])
    np.multiply(velocity_y, moving, out=planes[8])
    np.multiply(planes[6], speed, out=planes[9])
    pooled = _pool(planes, columns)
    pooled[[0, 3]] /= 255
    shape = _orientations(half, share, columns)
    person = WINDOWS["person"]
    channels = [_cells(pooled[:3], (_SUB, _SUB)), _cells(np.concatenate([pooled[3:4], shape]), person)]
    channels += [_motion_in(pooled[4:], size) for size in WINDOWS.values()]
    return np.concatenate(channels).astype(np.float16)


def _halved(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Half the height and width, each pixel the mean of four."""
    return np.asarray(cv2.resize(picture, None, fx=1 / _HALF, fy=1 / _HALF, interpolation=cv2.INTER_AREA))


def _share(mask: Luma) -> Array:
    """Of each place of four pixels, how much of it is 1 in a mask of 0 and 1."""
    return np.asarray(_halved(mask * 4) * np.float32(0.25), np.float32)  # times four, no mean is rounded


def _length(x: Array, y: Array) -> Array:
    """Of vectors. OpenCV's own `magnitude` rounds by where in memory an array lies, so that runs would differ."""
    squares = x * x
    squares += y * y
    np.sqrt(squares, out=squares)
    return squares


def _median(values: npt.NDArray[Any]) -> float:
    """Of floats. Where there are few, numpy's own takes most of its time to be called."""
    ordered, half = np.sort(values, axis=None), values.size // 2
    return float(ordered[half] if values.size % 2 else (ordered[half - 1] + ordered[half]) / 2)


def _gain(picture: Luma, background: Array) -> float:
    """By how much a picture has more contrast than its background; 1 where that is next to nothing, or cannot be told.

    The middle of what each place by itself tells, so that whoever hides a part of it is no matter.
    """
    apart = background - np.float32(_median(background))
    told = np.abs(apart) > _LEAST_APART
    if np.count_nonzero(told) < _LEAST_TOLD * told.size:
        return 1.0
    levels = picture.astype(np.float64)
    gain = _median((levels[told] - _median(levels)) / apart[told])
    return min(max(gain, 1 / _MOST_GAIN), _MOST_GAIN) if abs(gain - 1) > _LEAST_GAIN else 1.0


def _edges(half: Luma) -> Array:
    """How strong the edges of a picture are, at each place."""
    across, down = cv2.spatialGradient(half)
    return np.abs(across).astype(np.float32) + np.abs(down)


def _plain(departure: Array, share: Array) -> Luma:
    """What departs from the background before a grey of 128, softly cut out; levels beyond ±127 are clipped."""
    departure *= cv2.GaussianBlur(cv2.dilate(share, np.ones((3, 3), np.uint8)), (3, 3), 0)
    departure += 128
    return np.asarray(np.clip(departure, 0, 255, out=departure), np.uint8)


def _noise(pictures: Luma) -> float:
    """The sensor noise in luma levels: a robust standard deviation of what changes between successive pictures."""
    if len(pictures) < 2:
        return 0.0
    change = np.abs(np.diff(pictures[:, ::4, ::4].astype(np.int16), axis=0))
    return float(1.4826 * np.median(change) / np.sqrt(2))  # median absolute deviation of a normal distribution


def _pool(pictures: Array, columns: int) -> Array:
    """Means of pictures (count, height, width) over base squares: (count, ROWS · _SUB, columns) float32."""
    size = (columns, len(pictures) * ROWS * _SUB)
    tall = pictures.reshape(-1, pictures.shape[2])  # a base square is of one picture: their heights are multiples of it
    pooled = np.asarray(cv2.resize(tall, size, interpolation=cv2.INTER_AREA), np.float32)
    return pooled.reshape(-1, ROWS * _SUB, columns)


def _cells(squares: Array, window: tuple[int, int]) -> Array:
    """Means over a window of (height, width) base squares around the centre of each cell: (C, ROWS, columns)."""
    down, across = (_means(*sides) for sides in zip(squares.shape[1:], window, strict=True))
    return np.asarray(down @ squares @ across.T, np.float32)


@cache
def _means(squares: int, side: int) -> Array:
    """(cells, squares): what turns base squares along an axis into means over a window of `side` around each cell.

    Beyond the edge the picture is reflected.
    """
    # A window of even size is anchored so that it lies half before and half after the corner that cells share.
    anchor = side // 2 - 1 if side % 2 == 0 else side // 2
    each = np.eye(squares, dtype=np.float32)
    means = cv2.blur(each, (1, side), anchor=(0, anchor), borderType=cv2.BORDER_REFLECT)
    return np.asarray(means[::_SUB], np.float32)


def _motion_in(motion: Array, window: tuple[int, int]) -> Array:
    """The channels _IN_WINDOW of one window size: (6, ROWS, columns)."""
    foreground, moving, speed, velocity_x, velocity_y, square = _cells(motion, window)
    share = moving + _ABSENT
    speed, velocity_x, velocity_y = speed / share, velocity_x / share, velocity_y / share
    spread = np.sqrt(np.maximum(square / share - speed * speed, 0))
    return np.stack([foreground, moving, speed, velocity_x, velocity_y, spread])


def _orientations(half: Luma, share: Array, columns: int) -> Array:
    """Gradient energy of the foreground by orientation: (_ORIENTATIONS, ROWS · _SUB, columns); both are half-size."""
    rows = ROWS * _SUB
    side = max(1, half.shape[0] // rows)  # pixels of a base square
    size = (columns * side, rows * side)
    if size != (half.shape[1], half.shape[0]):
        half = np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_AREA), np.uint8)
        share = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_AREA), np.float32)
    across, down = cv2.spatialGradient(half)
    place = np.flatnonzero(share > 0)  # of truths, numpy finds them four times as fast as of numbers
    if not len(place):
        return np.zeros((_ORIENTATIONS, rows, columns), np.float32)
    slope_x, slope_y = (slope.ravel()[place].astype(np.float32) for slope in (across, down))
    magnitude, angle = cv2.cartToPolar(slope_x, slope_y)
    bins = (angle.ravel() * np.float32(_ORIENTATIONS / np.pi)).astype(np.int64) % _ORIENTATIONS
    y, x = np.divmod(place, size[0])
    square = (bins * rows + y // side) * columns + x // side
    energy = np.bincount(square, magnitude.ravel() * share.ravel()[place], _ORIENTATIONS * rows * columns)
    return np.asarray((energy / (255 * side**2)).reshape(_ORIENTATIONS, rows, columns), np.float32)
