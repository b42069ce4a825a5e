"""How large things usually are at each height of a picture, which tells regions of several things, and fragments.

A camera sees what is far small. The median of what moves at a height is a thing of its own there, as long as most are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

_BANDS, _NEAR = 50, 4  # heights of the picture that are told apart, and how many on each side count as near
_LEAST_SEEN = 30  # regions near there before a size is usual
_WHOLE = 0.6  # times as wide and as high as is usual, and a box holds a whole thing
_WIDE = 1.4  # times as wide as is usual, and a region may be several things
_FRAGMENT = 0.4  # of the usual area, less than which a region may be a fragment
_ROOM = 1.2  # times the usual width and height, in which it and what it belongs to have to lie
_NEARER = 0.1  # by which the logarithms of width and height have to come nearer to what is usual


@dataclass(frozen=True)
class Moving:
    """What moves in a frame.

    Attributes:
        boxes: (N, 4) x0, y0, x1, y1 in pixels.
        velocities: (N, 2) pixels a second to the right and downwards.
        pieces: of each box (P, 4) boxes from left to right of what it may be made of, or none; nothing at all where no
            box has any.
    """

    boxes: Floats
    velocities: Floats
    pieces: Sequence[Floats] = ()


class Usual:
    """Width and height of things by where they stand, in the frames of a video."""

    def __init__(self, frames: Sequence[Moving]) -> None:
        boxes = np.concatenate([np.empty((0, 4)), *(frame.boxes for frame in frames)])
        sizes = boxes[:, 2:] - boxes[:, :2]
        self._band = max(float(boxes[:, 3].max(initial=0)), 1.0) / _BANDS
        feet = boxes[:, 3] / self._band
        self._sizes = np.full((_BANDS + 1, 2), np.inf)
        for band in range(_BANDS + 1):
            near = np.abs(feet - (band + 0.5)) < _NEAR
            if np.count_nonzero(near) >= _LEAST_SEEN:
                self._sizes[band] = np.median(sizes[near], axis=0)

    def at(self, boxes: Floats) -> Floats:
        """(..., 2) of things that stand where (..., 4) boxes do; infinite where too little has been seen."""
        found: Floats = self._sizes[np.minimum((boxes[..., 3] / self._band).astype(np.int64), _BANDS)]
        return found

    def holds(self, box: Floats) -> bool:
        """Whether a box is large enough for a whole thing."""
        return bool(((box[2:] - box[:2]) > _WHOLE * self.at(box)).all())


def as_usual(moving: Moving, usual: Usual) -> Moving:
    """What moves in a frame, cut and joined so that it is as large as is usual where it stands."""
    return _joined(_cut(moving, usual), usual)


def _cut(moving: Moving, usual: Usual) -> Moving:
    """The same, of each region that is too wide its pieces, together as far as they are not."""
    if not any(map(len, moving.pieces)):
        return moving
    parts = [
        _grouped(pieces, usual) if len(pieces) and _width(box) > _WIDE * usual.at(box)[0] else box[None]
        for box, pieces in zip(moving.boxes, moving.pieces, strict=True)
    ]
    return Moving(np.concatenate(parts), np.repeat(moving.velocities, list(map(len, parts)), axis=0))


def _grouped(pieces: Floats, usual: Usual) -> Floats:
    """Pieces from left to right, the narrowest neighbours together as long as they are not too wide."""
    groups = list(pieces)
    while len(groups) > 1:
        pairs = [around(np.stack(pair)) for pair in pairwise(groups)]
        best = min(range(len(pairs)), key=lambda k: _width(pairs[k]))
        if _width(pairs[best]) > _WIDE * usual.at(pairs[best])[0]:
            break
        groups[best : best + 2] = [pairs[best]]
    return np.stack(groups)


def _joined(moving: Moving, usual: Usual) -> Moving:
    """The same, each fragment with the region that with it is most nearly as large as is usual."""
    boxes = moving.boxes.copy()
    if len(boxes) < 2:
        return moving
    by_size = np.argsort(areas(boxes), kind="stable").tolist()
    left = set(by_size)
    for rank, small in enumerate(by_size[:-1]):
        if areas(boxes[small]) > _FRAGMENT * usual.at(boxes[small]).prod():
            continue
        larger = by_size[rank + 1 :]
        gains = _gains(boxes[larger], boxes[small], usual)
        if gains.max() > _NEARER:
            best = larger[int(gains.argmax())]
            boxes[best] = around(boxes[[best, small]])
            left.remove(small)
    kept = sorted(left)
    return Moving(boxes[kept], np.asarray(moving.velocities)[kept])


def _gains(boxes: Floats, fragment: Floats, usual: Usual) -> Floats:
    """By how much a fragment brings each box nearer to the size of what stands where both do; below 0 without room."""
    both = around(np.stack(np.broadcast_arrays(boxes, fragment)))
    size = usual.at(both)
    extents = np.stack([boxes[:, 2:] - boxes[:, :2], both[:, 2:] - both[:, :2]])
    room = np.isfinite(size).all(1) & (extents[1] <= _ROOM * size).all(1)
    gains = np.full(len(boxes), -1.0)
    before, after = np.abs(np.log(np.maximum(extents[:, room], 1e-6) / size[room])).sum(2)
    gains[room] = before - after
    return gains


def around(boxes: Floats) -> Floats:
    """(..., 4), the box around each of (N, ..., 4)."""
    return np.concatenate([boxes[..., :2].min(0), boxes[..., 2:].max(0)], -1)


def areas(boxes: Floats) -> Floats:
    """(...), of (..., 4) boxes."""
    found: Floats = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return found


def _width(box: Floats) -> float:
    return float(box[2] - box[0])
