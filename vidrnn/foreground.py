"""What is in front of the background: objects as connected parts, without their shadows and without ghosts.

A background of its own, which nothing that counts as an object enters. A pixel is in front where luma departs from it
by more than is usual there, or where colour does. A shadow is darker by a nearly constant ratio and has the colour of
the ground in that ratio. What moved in and stays is an object for a stated time; what has no outline of its own is the
hole that something left, and becomes background at once.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LEVELS = 20.0  # luma levels from the background beyond which a pixel is in front
_UNUSUAL = 5.0  # or so many times what it usually departs by, where that is more
_MOST_LEVELS = 80.0
_SETTLE = 1.0  # levels a second by which the usual departure follows
_COLOUR_LEVELS = 16.0  # of both chroma planes together, beyond which a pixel is in front
_GREY = 4  # levels between the highest and the lowest chroma of a film without colour
_UPKEEP = 4  # the background is brought up to date every so many pictures
_ONE = 128  # what a ratio of 1 is in a byte
_SHADE = (0.35, 0.97)  # how much of the light a shadow leaves
_SHADE_RANGE = 0.18  # by how much that may differ between neighbours
_SHADE_NOISE = 12.0  # and by so many luma levels more
_SHADE_COLOUR = 5.0  # chroma levels by which the ground in shadow may depart from its colour in that ratio
_FLOOR = 8  # added to luma before ratios are taken
_PENUMBRA = 7  # pixels of the square that a shadow grows by over what might be its edge
_CLOSE = 5  # pixels of the square that closes gaps
MIN_AREA = 0.0004  # of the picture
_LEAST_PIECE = 0.2  # of that area, a part that may be a piece of another
_NEAR = 4  # pixels around a part within which pieces of it lie
_HELD = 0.5  # share of a piece's box that has to lie there
_MOVES = 0.08  # share of an object that moves, if it does
_GHOST_SECONDS = 0.5  # after which a part without an outline is background
_RIM = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Regions:
    """Objects of a frame.

    Attributes:
        boxes: (N, 4) float32, x0, y0, x1, y1 as shares of the picture's width and height.
        areas: (N,) float32, share of the picture.
        velocities: (N, 2) float32, picture heights per second to the right and downwards; 0 where nothing moves.
    """

    boxes: Array
    areas: Array
    velocities: Array

    @classmethod
    def none(cls) -> "Regions":
        """No objects."""
        return cls(*(np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, 2))))


@dataclass(frozen=True)
class Motion:
    """What moves, each (height / 2, width / 2).

    Attributes:
        share: of each place that moves.
        x, y: its velocity in picture heights per second to the right and downwards, times that share.
    """

    share: Array
    x: Array
    y: Array


class Foreground:
    """The background of a video and what is in front of it: `push` each picture in order.

    Args:
        pictures: (K, height, width) uint8 of the warm-up, whose median is the first background; even sides.
        colours: (K, 2, height / 2, width / 2) uint8, their chroma; None of a video without colour.
        background_seconds: time constant with which the background follows.
        stopped_seconds: for so long an object that has stopped remains one.
    """

    def __init__(self, pictures: Luma, colours: Luma | None, background_seconds: float, stopped_seconds: float) -> None:
        self._background = np.median(pictures, axis=0).astype(np.float32)
        departure = np.median(np.abs(pictures - self._background), axis=0)
        self._usual: Array = cv2.blur(departure.astype(np.float32), (3, 3))
        self._colour: Array | None = None
        if colours is not None and np.ptp(colours) > _GREY:  # of a grey film, chroma tells nothing and costs time
            self._colour = np.median(colours, axis=0).astype(np.float32)
        self._background_seconds, self._stopped_seconds = background_seconds, stopped_seconds
        height, width = self._background.shape
        self._still: Array = np.full((height // 2, width // 2), np.inf, np.float32)  # seconds since something moved
        self._limit = self._limits()
        self._pushed, self._due = 0, 0.0  # pictures, and seconds since the background was brought up to date
        noise = _ONE * (_SHADE_RANGE + _SHADE_NOISE / (np.arange(256) + _FLOOR))
        self._shade_range = np.clip(noise, 0, 255).astype(np.uint8)  # by the level of the ground

    def push(self, seconds: float, picture: Luma, colour: Luma | None, exposure: float, motion: Motion) -> Regions:
        """What is in front now.

        Args:
            seconds: since the picture before, 0 for the first.
            picture: (height, width) uint8.
            colour: (2, height / 2, width / 2) uint8, as `colours` of the warm-up.
            exposure: levels by which the whole picture is brighter than the background.
            motion: into the picture.
        """
        brighter: Array = self._background + np.float32(exposure)
        ground = np.asarray(cv2.convertScaleAbs(np.maximum(brighter, 0)), np.uint8)
        departure = np.asarray(cv2.absdiff(picture, ground), np.uint8)
        front = np.asarray(cv2.compare(departure, self._limit, cv2.CMP_GT), np.uint8)
        now, before = (cv2.convertScaleAbs(levels, beta=_FLOOR) for levels in (picture, ground))
        ratio = np.asarray(cv2.divide(now, before, scale=_ONE), np.uint8)
        shade = np.asarray(cv2.inRange(ratio, _ONE * _SHADE[0], _ONE * _SHADE[1]), np.uint8)
        if colour is not None and self._colour is not None:
            front |= self._stands_out(colour, self._colour)
            shade &= self._shaded_ground(picture, ground, colour, self._colour)
        self._still += np.float32(seconds)
        self._still[motion.share > 0] = 0
        parts = _Parts.of(self._without_shade(front, shade, ratio, ground))
        kept, gone = self._sort(parts, picture, ground, motion)
        self._pushed += 1
        self._due += seconds
        if self._pushed % _UPKEEP == 0 or gone:
            self._follow(picture, colour, departure, parts.among(kept), parts.among(gone))
        return parts.regions(kept, motion)

    def _limits(self) -> Luma:
        """Levels beyond which each pixel is in front."""
        limits: Luma = np.clip(_UNUSUAL * self._usual, LEVELS, _MOST_LEVELS).astype(np.uint8)
        return limits

    @staticmethod
    def _stands_out(colour: Luma, usual: Array) -> Luma:
        """Where colour departs from that of the background, 0 or 255."""
        away = np.abs(colour - usual)
        return _doubled(away[0] + away[1] > _COLOUR_LEVELS)

    @staticmethod
    def _shaded_ground(picture: Luma, ground: Luma, colour: Luma, usual: Array) -> Luma:
        """Where the colour is that of the ground in shadow, 0 or 255."""
        size = colour.shape[:0:-1]
        small = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (picture, ground)]
        now, before = (one.astype(np.float32) for one in small)
        ratio = (now + _FLOOR) / (before + _FLOOR)
        away = np.abs(colour - np.float32(128) - ratio * (usual - np.float32(128)))
        return _doubled(cv2.blur(away[0] + away[1], (3, 3)) < _SHADE_COLOUR)

    def _without_shade(self, front: Luma, maybe: Luma, ratio: Luma, ground: Luma) -> Luma:
        """What is in front but no shadow, gaps closed: 0 or 255. `ratio` is of the light left, _ONE for all of it."""
        differs = cv2.morphologyEx(ratio, cv2.MORPH_GRADIENT, _RIM)
        core = np.asarray(cv2.compare(differs, cv2.LUT(ground, self._shade_range), cv2.CMP_LT), np.uint8)
        core &= maybe & front
        grown = np.asarray(cv2.dilate(core, np.ones((_PENUMBRA, _PENUMBRA), np.uint8)), np.uint8) & maybe
        left = cv2.subtract(front, grown)
        return np.asarray(cv2.morphologyEx(left, cv2.MORPH_CLOSE, np.ones((_CLOSE, _CLOSE), np.uint8)), np.uint8)

    def _sort(self, parts: "_Parts", picture: Luma, ground: Luma, motion: Motion) -> tuple[list[int], list[int]]:
        """The parts that are objects, and those that become background."""
        kept, gone = [], []
        moves = parts.mean(motion.share) > _MOVES
        recent = parts.mean(self._still < self._stopped_seconds) > 0.5
        vacant = parts.mean(self._still > _GHOST_SECONDS) > 0.5
        for part in parts.large.tolist():
            if moves[part] or (recent[part] and _has_outline(*parts.cut(part, picture, ground))):
                kept.append(part)
            elif vacant[part]:
                gone.append(part)
        return kept, gone

    def _follow(self, picture: Luma, colour: Luma | None, departure: Luma, kept: Luma, gone: Luma) -> None:
        """Let the background follow where there is no object; `kept` and `gone` are 0 or 1."""
        seconds, self._due = self._due, 0.0
        rate = 1 - float(np.exp(-seconds / self._background_seconds))
        cv2.accumulateWeighted(picture, self._background, rate, 1 - kept)
        cv2.copyTo(picture.astype(np.float32), gone, self._background)
        step = np.float32(_SETTLE * seconds)
        self._usual += np.where(departure > self._usual, step, -step)
        np.maximum(self._usual, 0.5, out=self._usual)
        self._limit = self._limits()
        if colour is not None and self._colour is not None:
            for now, before in zip(colour, self._colour, strict=True):
                cv2.accumulateWeighted(now, before, rate, np.ascontiguousarray(1 - kept[::2, ::2]))
                cv2.copyTo(now.astype(np.float32), np.ascontiguousarray(gone[::2, ::2]), before)


@dataclass(frozen=True)
class _Parts:
    """Connected parts of a mask, pieces of one thing together.

    Attributes:
        labels: (height, width) int32, 0 where there is none.
        stats: (count, 5) of OpenCV, those of pieces in that of the part that they belong to.
        owner: (count,) the part that each belongs to, mostly itself.
        large: numbers of the parts that are large enough to be objects.
        places: label, y and x of every second pixel of every second row that is in one.
    """

    labels: npt.NDArray[np.int32]
    stats: npt.NDArray[np.int32]
    owner: Ints
    large: Ints
    places: tuple[Ints, Ints, Ints]

    @classmethod
    def of(cls, mask: Luma) -> "_Parts":
        """The parts of a mask of 0 and 255."""
        # The fastest of OpenCV's algorithms by far, where statistics are wanted.
        found = cv2.connectedComponentsWithStatsWithAlgorithm(mask, 8, cv2.CV_32S, cv2.CCL_BBDT)
        labels, stats = np.asarray(found[1], np.int32), np.asarray(found[2], np.int32).copy()
        least = MIN_AREA * mask.size
        owner = _owners(stats, _LEAST_PIECE * least)
        alone = owner == np.arange(len(stats))
        large = np.flatnonzero((stats[:, cv2.CC_STAT_AREA] >= least) & alone)
        small = labels[::2, ::2]
        y, x = np.nonzero(small)
        return cls(labels, stats, owner, large[large > 0], (owner[small[y, x]], y, x))

    def mean(self, values: npt.NDArray[np.generic]) -> Array:
        """(count,) means of (height / 2, width / 2) values over each part."""
        label, y, x = self.places
        count = len(self.stats)
        sums, sizes = np.bincount(label, values[y, x], count), np.bincount(label, minlength=count)
        return (sums / np.maximum(sizes, 1)).astype(np.float32)

    def among(self, chosen: list[int]) -> Luma:
        """(height, width) 1 in the chosen parts, 0 elsewhere."""
        table = np.zeros(len(self.stats), np.uint8)
        table[chosen] = 1
        return table[self.owner][self.labels]

    def cut(self, part: int, picture: Luma, ground: Luma) -> tuple[Luma, Luma, Luma]:
        """The mask, the picture and the background around a part."""
        left, top, across, down, _ = self.stats[part].tolist()
        around = np.s_[max(0, top - 2) : top + down + 2, max(0, left - 2) : left + across + 2]
        return (self.owner[self.labels[around]] == part).astype(np.uint8), picture[around], ground[around]

    def regions(self, chosen: list[int], motion: Motion) -> Regions:
        """The chosen parts as regions."""
        height, width = self.labels.shape
        part = np.array(chosen, np.int64)
        x0, y0, across, down, area = (self.stats[part, k].astype(np.float32) for k in range(5))
        boxes = np.stack([x0 / width, y0 / height, (x0 + across) / width, (y0 + down) / height], axis=1)
        share = np.maximum(self.mean(motion.share)[part], 1e-6)
        velocities = np.stack([self.mean(along)[part] / share for along in (motion.x, motion.y)], axis=1)
        return Regions(boxes, area / np.float32(height * width), velocities.astype(np.float32))


def _owners(stats: npt.NDArray[np.int32], least: float) -> Ints:
    """Of each part the larger one whose surroundings hold it, or itself; its `stats` grow by those of its pieces."""
    owner = np.arange(len(stats))
    parts = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least) + 1
    if len(parts) < 2:
        return owner
    size = stats[parts, cv2.CC_STAT_WIDTH] * stats[parts, cv2.CC_STAT_HEIGHT]
    parts = parts[np.argsort(-size, kind="stable")]
    low = stats[parts, :2]
    high = low + stats[parts, 2:4]
    sides = np.minimum(high[:, None], high[None] + _NEAR) - np.maximum(low[:, None], low[None] - _NEAR)
    shared = np.maximum(sides, 0).prod(2)
    holds = np.tril(shared > _HELD * (high - low).prod(1)[:, None], -1)  # [piece, larger part]
    for piece in np.flatnonzero(holds.any(1)).tolist():
        main = int(owner[parts[int(holds[piece].argmax())]])
        part = int(parts[piece])
        owner[owner == part] = main
        corner = np.minimum(stats[main, :2], stats[part, :2])
        end = np.maximum(stats[main, :2] + stats[main, 2:4], stats[part, :2] + stats[part, 2:4])
        stats[main] = *corner, *(end - corner), stats[main, 4] + stats[part, 4]
    return owner


def _has_outline(own: Luma, picture: Luma, ground: Luma) -> bool:
    """Whether the picture has more of an edge around a part than the background has: an object, and not its hole."""
    rim = cv2.dilate(own, _RIM) - cv2.erode(own, _RIM)
    edges = [cv2.Laplacian(cv2.GaussianBlur(one, (3, 3), 0), cv2.CV_16S) for one in (picture, ground)]
    here, before = (int(np.abs(edge[rim > 0]).sum()) for edge in edges)
    return here > before


def _doubled(mask: npt.NDArray[np.bool_]) -> Luma:
    """Twice the height and width, 0 or 255."""
    height, width = mask.shape
    byte = mask.view(np.uint8) * np.uint8(255)
    return np.asarray(cv2.resize(byte, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST), np.uint8)
