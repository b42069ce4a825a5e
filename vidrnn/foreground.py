"""What is in front of the background: objects as connected parts, without their shadows and without ghosts.

A background of its own, which nothing that counts as an object enters. A pixel is in front where luma departs from it
by more than is usual there, or where colour does. A shadow is darker by a nearly constant ratio and has the colour of
the ground in that ratio; without colour it cannot be told from dark clothes, and both are in front. What moved in and
stays is an object for a stated time; what has no outline of its own is the hole that something left, and becomes
background at once.
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
_NEUTRAL = np.float32(128)  # chroma of grey
_GREY = 4  # levels between the highest and the lowest chroma of a film without colour
_UPKEEP = 8  # the background is brought up to date every so many pictures
_ONE = 128  # what a ratio of 1 is in a byte
_SHADE = (0.35, 0.97)  # how much of the light a shadow leaves
_SHADE_RANGE = 0.18  # by how much that may differ between neighbours
_SHADE_NOISE = 12.0  # and by so many luma levels more
_SHADE_COLOUR = 5.0  # chroma levels by which the ground in shadow may depart from its colour in that ratio
_FLOOR = 8  # added to luma before ratios are taken
_PENUMBRA = 7  # pixels of the square that a shadow grows by over what might be its edge
_CONTRAST = 0.5  # of what departs most nearby, that what is in front departs by: a soft edge lies where half is left
_NEARBY = 7  # pixels of the square that is nearby
_CLOSE = 5  # pixels of the square that closes gaps
MIN_AREA = 0.0004  # of the picture
_LEAST_PIECE = 0.2  # of that area, a part that may be a piece of another
_NEAR = 2  # half-size pixels around a part within which pieces of it lie
_HELD = 0.5  # share of a piece's box that has to lie there
_NOTCH, _LEAST_NOTCH = 0.1, 2  # of what the lower of two tops rises, and half-size pixels, a notch between them is deep
_HEADS_APART = 0.25  # likewise, how far apart the two are
_STANDS = 0.5  # of the height of all, at least, that the lower one rises
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
        pieces: of each (P, 4) float32, boxes likewise, from left to right, of what its shape says that it might be
            made of; none where it says nothing.
    """

    boxes: Array
    areas: Array
    velocities: Array
    pieces: list[Array]

    @classmethod
    def none(cls) -> "Regions":
        """No objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 2), np.float32), [])


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
            self._colour = np.median(colours, axis=0).astype(np.float32) - _NEUTRAL
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
        ground = cv2.add(self._background, exposure, dtype=cv2.CV_8U)  # type: ignore[call-overload]  # as documented
        departure = np.asarray(cv2.absdiff(picture, ground), np.uint8)
        front = np.asarray(cv2.compare(departure, self._limit, cv2.CMP_GT), np.uint8)
        strength = departure
        if colour is not None and self._colour is not None:
            now, before = (cv2.convertScaleAbs(levels, beta=_FLOOR) for levels in (picture, ground))
            ratio = np.asarray(cv2.divide(now, before, scale=_ONE), np.uint8)
            shade = np.asarray(cv2.inRange(ratio, _ONE * _SHADE[0], _ONE * _SHADE[1]), np.uint8)
            out, is_ground = self._told_by_colour(colour, self._colour, ratio)
            front |= _doubled(_mask(out > _COLOUR_LEVELS))
            front = self._without_shade(front, shade & is_ground, ratio, ground)
            by_colour = np.asarray(cv2.convertScaleAbs(out, alpha=LEVELS / _COLOUR_LEVELS), np.uint8)  # as of luma
            strength = np.asarray(cv2.max(departure, _doubled(by_colour)), np.uint8)
        self._still += np.float32(seconds)
        self._still[motion.share > 0] = 0
        front = _without_soft_edge(front, strength)
        closed = cv2.morphologyEx(front, cv2.MORPH_CLOSE, np.ones((_CLOSE, _CLOSE), np.uint8))
        parts = _Parts.of(np.asarray(closed, np.uint8))
        kept, gone = self._sort(parts, picture, ground, motion)
        self._pushed += 1
        self._due += seconds
        if self._pushed % _UPKEEP == 0:
            self._follow(picture, colour, departure, parts.among(kept), parts.among(gone))
        return parts.regions(kept, motion)

    def _limits(self) -> Luma:
        """Levels beyond which each pixel is in front."""
        limits: Luma = np.clip(_UNUSUAL * self._usual, LEVELS, _MOST_LEVELS).astype(np.uint8)
        return limits

    @staticmethod
    def _told_by_colour(colour: Luma, usual: Array, ratio: Luma) -> tuple[Array, Luma]:
        """How many chroma levels colour is from the background's, and where it is that of the ground in shadow.

        The first at half the size, the second at the whole, 0 or 255.
        """
        size = colour.shape[:0:-1]
        light = cv2.resize(ratio, size, interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / _ONE)
        out = np.zeros(light.shape, np.float32)
        off = np.zeros(light.shape, np.float32)
        for plane, ground in zip(colour, usual, strict=True):
            now = plane.astype(np.float32) - _NEUTRAL
            out += cv2.absdiff(now, ground)
            off += cv2.absdiff(now, cv2.multiply(ground, light))
        return out, _doubled(_mask(cv2.blur(off, (3, 3)) < _SHADE_COLOUR))

    def _without_shade(self, front: Luma, maybe: Luma, ratio: Luma, ground: Luma) -> Luma:
        """What is in front but no shadow: 0 or 255. `ratio` is of the light left, _ONE for all of it."""
        differs = cv2.morphologyEx(ratio, cv2.MORPH_GRADIENT, _RIM)
        core = np.asarray(cv2.compare(differs, cv2.LUT(ground, self._shade_range), cv2.CMP_LT), np.uint8)
        core &= maybe & front
        grown = np.asarray(cv2.dilate(core, np.ones((_PENUMBRA, _PENUMBRA), np.uint8)), np.uint8) & maybe
        return np.asarray(cv2.subtract(front, grown), np.uint8)

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
            free, holes = (np.ascontiguousarray(mask[::2, ::2]) for mask in (1 - kept, gone))
            for plane, before in zip(colour, self._colour, strict=True):
                now = plane.astype(np.float32) - _NEUTRAL
                cv2.accumulateWeighted(now, before, rate, free)
                cv2.copyTo(now, holes, before)


@dataclass(frozen=True)
class _Parts:
    """Connected parts of a mask, pieces of one thing together. They are found in half the size, and boxed in the whole.

    Attributes:
        mask: (height, width) 0 or 255.
        labels: (height / 2, width / 2) int32, 0 where there is none.
        boxes: (count, 4) x0, y0, x1, y1 in half-size pixels, of pieces that of the part that they belong to.
        areas: (count,) pixels, likewise.
        owner: (count,) the part that each belongs to, mostly itself.
        large: numbers of the parts that are large enough to be objects.
        places: number of every half-size pixel that is in one.
        owners: of each of these, the part that it belongs to.
        sizes: (count,) how many there are of each part; at least 1.
    """

    mask: Luma
    labels: npt.NDArray[np.int32]
    boxes: Ints
    areas: Array
    owner: Ints
    large: Ints
    places: Ints
    owners: Ints
    sizes: Ints

    @classmethod
    def of(cls, mask: Luma) -> "_Parts":
        """The parts of a mask of 0 and 255."""
        height, width = mask.shape
        share = cv2.resize(mask, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        shown = cv2.threshold(share, 0, 1, cv2.THRESH_BINARY)[1]
        # The fastest of OpenCV's algorithms by far, where statistics are wanted.
        _, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(shown, 8, cv2.CV_32S, cv2.CCL_BBDT)
        places = np.flatnonzero(shown.view(np.bool_))
        label = np.asarray(labels).ravel()[places]
        areas = np.bincount(label, share.ravel()[places], len(stats)) * (4 / 255)
        boxes = np.asarray(stats[:, :4], np.int64).copy()
        boxes[:, 2:] += boxes[:, :2]
        least = MIN_AREA * mask.size
        owner = _owners(boxes, np.flatnonzero(areas >= _LEAST_PIECE * least))
        whole = np.bincount(owner, areas, len(stats))
        large = np.flatnonzero((whole >= least) & (owner == np.arange(len(owner))) & (areas > 0))
        owners = owner[label]
        sizes = np.maximum(np.bincount(owners, minlength=len(stats)), 1)
        whole_areas = whole.astype(np.float32)
        return cls(mask, np.asarray(labels, np.int32), boxes, whole_areas, owner, large, places, owners, sizes)

    def mean(self, values: npt.NDArray[np.generic]) -> Array:
        """(count,) means of (height / 2, width / 2) values over each part."""
        sums = np.bincount(self.owners, values.ravel()[self.places], len(self.boxes))
        return (sums / self.sizes).astype(np.float32)

    def among(self, chosen: list[int]) -> Luma:
        """(height, width) 1 in the chosen parts, 0 elsewhere."""
        table = np.zeros(len(self.boxes), np.uint8)
        table[chosen] = 1
        height, width = self.mask.shape
        small = table[self.owner][self.labels]
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)

    def cut(self, part: int, picture: Luma, ground: Luma) -> tuple[Luma, Luma, Luma]:
        """The mask, the picture and the background around a part."""
        x0, y0, x1, y1 = self.boxes[part].tolist()
        small = np.s_[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
        own = (self.owner[self.labels[small]] == part).repeat(2, 0).repeat(2, 1).astype(np.uint8)
        top, left = 2 * small[0].start, 2 * small[1].start
        around = np.s_[top : top + own.shape[0], left : left + own.shape[1]]
        return own & (self.mask[around] > 0), picture[around], ground[around]

    def regions(self, chosen: list[int], motion: Motion) -> Regions:
        """The chosen parts as regions."""
        height, width = self.mask.shape
        part = np.array(chosen, np.int64)
        size = np.array([width, height] * 2, np.float32)
        boxes, pieces = np.empty((len(part), 4), np.float32), []
        for row, (number, (x0, y0, x1, y1)) in enumerate(zip(chosen, self.boxes[part].tolist(), strict=True)):
            mask = self.mask[2 * y0 : 2 * y1, 2 * x0 : 2 * x1]
            boxes[row] = _box(mask, 2 * x0, 2 * y0)
            own = self.owner[self.labels[y0:y1, x0:x1]] == number
            if spans := _side_by_side(own):
                mask = mask & _doubled(_mask(own))
            of_it = [_box(mask[:, 2 * a : 2 * b], 2 * (x0 + a), 2 * y0) for a, b in spans]
            pieces.append(np.array(of_it, np.float32).reshape(-1, 4) / size)
        share = np.maximum(self.mean(motion.share)[part], 1e-6)
        velocities = np.stack([self.mean(along)[part] / share for along in (motion.x, motion.y)], axis=1)
        areas = self.areas[part] / np.float32(height * width)
        return Regions(boxes / size, areas, velocities.astype(np.float32), pieces)


def _box(mask: Luma, x: int, y: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around what is not 0 in a part of a mask that lies at x, y."""
    left, top, across, down = cv2.boundingRect(mask)
    return x + left, y + top, x + left + across, y + top + down


def _side_by_side(own: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The columns of each of several things that a part may be: cut where its top has a notch, as between heads."""
    height, width = own.shape
    tops = np.where(own.any(0), height - own.argmax(0), 0)
    left, found = [(0, width)], []
    while left:
        start, stop = left.pop()
        cut = _notch(tops[start:stop], height)
        if cut is None:
            found.append((start, stop))
        else:
            left += [(start + cut, stop), (start, start + cut)]
    return found if len(found) > 1 else []


def _notch(tops: Ints, height: int) -> int | None:
    """The column where the tops of a part, in pixels above its foot, are lowest between two that are apart; or None."""
    before, after = np.maximum.accumulate(tops), np.maximum.accumulate(tops[::-1])[::-1]
    lower = np.minimum(before, after)
    depth = lower - tops
    deepest = np.flatnonzero(depth == depth.max())
    cut = int(deepest[len(deepest) // 2])
    if depth[cut] < max(_LEAST_NOTCH, _NOTCH * lower[cut]) or lower[cut] < _STANDS * height:
        return None
    one, other = (np.flatnonzero(side == side.max()).mean() for side in (tops[:cut], tops[cut:]))
    return cut if cut + other - one >= _HEADS_APART * lower[cut] else None


def _owners(boxes: Ints, parts: Ints) -> Ints:
    """Of each of all boxes the larger one whose surroundings hold it, or itself; owners grow around their pieces.

    Args:
        boxes: (count, 4), the first that of all the rest; those of owners are changed.
        parts: numbers of those that may be pieces or have them.
    """
    owner = np.arange(len(boxes))
    parts = parts[parts > 0]
    sizes = (boxes[parts, 2:] - boxes[parts, :2]).prod(1)
    order = np.argsort(-sizes, kind="stable")
    parts, sizes = parts[order], sizes[order]
    low, high = boxes[parts, :2], boxes[parts, 2:]
    sides = np.minimum(high[:, None], high[None] + _NEAR) - np.maximum(low[:, None], low[None] - _NEAR)
    shared = np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)
    holds = np.tril(shared > _HELD * sizes[:, None], -1)  # [piece, larger part]
    for piece in np.flatnonzero(holds.any(1)).tolist():
        owner[parts[piece]] = owner[parts[holds[piece].argmax()]]
    pieces = np.flatnonzero(owner != np.arange(len(owner)))
    np.minimum.at(boxes[:, :2], owner[pieces], boxes[pieces, :2])
    np.maximum.at(boxes[:, 2:], owner[pieces], boxes[pieces, 2:])
    return owner


def _has_outline(own: Luma, picture: Luma, ground: Luma) -> bool:
    """Whether the picture has more of an edge around a part than the background has: an object, and not its hole."""
    rim = cv2.dilate(own, _RIM) - cv2.erode(own, _RIM)
    edges = [cv2.Laplacian(cv2.GaussianBlur(one, (3, 3), 0), cv2.CV_16S) for one in (picture, ground)]
    here, before = (int(np.abs(edge[rim > 0]).sum()) for edge in edges)
    return here > before


def _mask(where: npt.NDArray[np.bool_]) -> Luma:
    """0 or 255."""
    return where.view(np.uint8) * np.uint8(255)


def _doubled(levels: Luma) -> Luma:
    """Twice the height and width."""
    height, width = levels.shape
    return np.asarray(cv2.resize(levels, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _without_soft_edge(front: Luma, strength: Luma) -> Luma:
    """What is in front, without what departs from the background much less than something close to it: 0 or 255.

    A blurred edge, the glow of what is bright and the last of a shadow pass the limit, but are no part of the thing.
    """
    own = strength & front
    most = cv2.dilate(cv2.blur(own, (3, 3)), np.ones((_NEARBY, _NEARBY), np.uint8))
    return front & np.asarray(cv2.compare(own, cv2.convertScaleAbs(most, None, _CONTRAST), cv2.CMP_GE), np.uint8)
