"""Optical flow of what is in front: fixed mathematics of two pictures."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_STEP = 4  # pixels between the points whose flow is found
_WINDOW = 9  # pixels around a point that are compared, each way
_ITERATIONS, _PRECISION = 10, 0.02  # pixels
_FARTHEST = 4.0  # pixels from the rough flow, beyond which a point has lost its way
_LEAST_SIDE = 12  # pixels of a part that is refined
_LEAST_SHARE = 0.01  # of a point's surroundings that has to be in front

Luma = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sight:
    """A picture of half the working size, (height / 2, width / 2), and what stands in front in it.

    Attributes:
        half: uint8, the picture.
        share: of each place that is foreground.
        plain: uint8, what is in front before a plain grey.
    """

    half: Luma
    share: Array
    plain: Luma


class FlowFinder:
    """Flow in three steps; docs/history.md has figures of time and quality.

    Flow is found from a picture back to the one before, so that it lies where things are now, and only where something
    is in front. A rough flow of what is in front (OpenCV's DIS) starts the fine flow of the picture, of points on a
    grid (the method of Lucas and Kanade 1981, as OpenCV has it): alone, the one is unsteady where little stands out,
    and the other stays with the edges of a still background where something small is fast. What lies between points is
    refined around them (OpenCV's variational refinement), which takes most time.
    """

    def __init__(self) -> None:
        self._rough = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._rough.setFinestScale(2)  # a quarter of the size of pictures that are halved already
        self._rough.setPatchStride(4)
        self._rough.setGradientDescentIterations(6)
        self._refinement = cv2.VariationalRefinement.create()
        self._refinement.setFixedPointIterations(3)

    def find(self, now: Sight, before: Sight) -> Array:
        """Pixels to the right and downwards from each place in `now` to where it was: (height / 2, width / 2, 2).

        They are 0 but where something is in front, and close around it.
        """
        height, width = now.share.shape
        size = -(-width // _STEP), -(-height // _STEP)
        known = cv2.resize(now.share, size, interpolation=cv2.INTER_AREA) > _LEAST_SHARE
        y, x = np.nonzero(known)
        if not len(y):
            return np.zeros((height, width, 2), np.float32)
        rough = self._rough.calc(now.plain, before.plain, None)  # type: ignore[call-overload]  # as documented
        start = cv2.resize(rough, size, interpolation=cv2.INTER_AREA)[y, x]
        scale = np.array([width / size[0], height / size[1]], np.float32)
        points = np.ascontiguousarray((np.stack([x, y], axis=1) + 0.5) * scale - 0.5, np.float32)
        sparse = np.zeros((*known.shape, 2), np.float32)
        sparse[y, x] = _followed(_fine(now.half), _fine(before.half), points, start)
        pixels = np.asarray(cv2.resize(_spread(sparse, known), (width, height)), np.float32)
        for part in _parts(known, height, width):
            here, there = (np.ascontiguousarray(picture[part]) for picture in (now.half, before.half))
            pixels[part] = self._refinement.calc(here, there, np.ascontiguousarray(pixels[part]))
        return pixels


def _followed(now: Luma, before: Luma, points: Array, start: Array) -> Array:
    """From each of (N, 2) points of `now`, x and y, to where it was; `start` where it cannot be told."""
    near = (points + start).reshape(-1, 1, 2)
    until = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ITERATIONS, _PRECISION)
    found, told, _ = cv2.calcOpticalFlowPyrLK(
        now, before, points.reshape(-1, 1, 2), near, winSize=(_WINDOW, _WINDOW), maxLevel=0, criteria=until,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    flow = found[:, 0] - points
    kept = (told == 1) & (np.abs(flow - start).max(1, keepdims=True) < _FARTHEST)
    return np.asarray(np.where(kept, flow, start), np.float32)


def _fine(half: Luma) -> Luma:
    """What is smaller than a window, before a plain grey: light that changes is no movement."""
    return np.asarray(cv2.addWeighted(half, 1, cv2.blur(half, (_WINDOW, _WINDOW)), -1, 128), np.uint8)


def _spread(sparse: Array, known: npt.NDArray[np.bool_]) -> Array:
    """The flow of points, and beside them the mean of those around, so that what lies between has theirs."""
    count = cv2.blur(known.astype(np.float32), (3, 3))[..., None]
    return np.where(known[..., None], sparse, cv2.blur(sparse, (3, 3)) / np.maximum(count, np.float32(1e-3)))


def _parts(known: npt.NDArray[np.bool_], height: int, width: int) -> list[tuple[slice, slice]]:
    """Boxes around connected points, with a margin of a step, in pixels; they may overlap."""
    mask = cv2.dilate(known.astype(np.uint8), np.ones((3, 3), np.uint8))
    stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:]
    parts = []
    for left, top, across, down, _ in (stats * _STEP).tolist():
        # A part at the edge may be narrower than the smallest picture that the refinement takes.
        y, x = max(0, min(top, height - _LEAST_SIDE)), max(0, min(left, width - _LEAST_SIDE))
        parts.append((slice(y, max(top + down, y + _LEAST_SIDE)), slice(x, max(left + across, x + _LEAST_SIDE))))
    return parts
