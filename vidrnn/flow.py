"""Dense optical flow around what is in front: fixed mathematics of two pictures."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_SEARCH_TILE, _REFINE_TILE = 8, 4  # pixels; flow is found in tiles where something is in front, and around
_TILE_SHARE = 0.01  # of a tile that has to be in front
_MOST_PARTS = 0.8  # of the picture, beyond which flow is found in all of it

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
    """OpenCV's DIS flow in three steps; docs/benchmarks.md has figures of time and quality.

    Flow is found from a picture back to the one before, so that it lies where things are now, and only around what is
    in front. A rough flow of what is in front starts the fine flow of the picture: alone, the one is unsteady where
    little stands out, and the other stays with the edges of a still background where something small is fast.
    Smoothing takes most time, and is done close around what is in front now.
    """

    def __init__(self) -> None:
        self._rough, self._dense, self._refinement = _rough_flow(), _dense_flow(), _refinement()

    def find(self, now: Sight, before: Sight) -> Array:
        """Pixels to the right and downwards from each place in `now` to where it was: (height / 2, width / 2, 2)."""
        rough = self._rough.calc(now.plain, before.plain, None)  # type: ignore[call-overload]  # as documented
        pixels = np.zeros_like(rough)
        for part in _parts(np.maximum(now.share, before.share), _SEARCH_TILE):
            here, there, start = (np.ascontiguousarray(whole[part]) for whole in (now.half, before.half, rough))
            pixels[part] = self._dense.calc(here, there, start)
        for part in _parts(now.share, _REFINE_TILE):
            here, there, start = (np.ascontiguousarray(whole[part]) for whole in (now.half, before.half, pixels))
            pixels[part] = self._refinement.calc(here, there, start)
        return np.asarray(pixels, np.float32)


def _parts(share: Array, tile: int) -> list[tuple[slice, slice]]:
    """Boxes of tiles around all that is in front, with a margin; the whole picture where they cover most of it."""
    height, width = share.shape
    coarse = cv2.resize(share, (-(-width // tile), -(-height // tile)), interpolation=cv2.INTER_AREA)
    mask = cv2.dilate((coarse > _TILE_SHARE).astype(np.uint8), np.ones((3, 3), np.uint8))
    stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:]
    parts, least = [], 3 * tile
    for left, top, across, down, _ in (stats * tile).tolist():
        # A part at the edge may be narrower than the smallest picture that the flow takes.
        y = max(0, min(top, height - least))
        x = max(0, min(left, width - least))
        parts.append((slice(y, max(top + down, y + least)), slice(x, max(left + across, x + least))))
    area = sum((min(y.stop, height) - y.start) * (min(x.stop, width) - x.start) for y, x in parts)
    return parts if area < _MOST_PARTS * height * width else [(slice(height), slice(width))]


def _rough_flow() -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(1)  # of pictures that are halved already
    flow.setGradientDescentIterations(6)
    return flow


def _dense_flow() -> cv2.DISOpticalFlow:
    """The search of OpenCV's preset medium, on pictures of half the size, where people's limbs still show.

    The rough flow stands in for the coarser scales. docs/benchmarks.md has figures of time and quality.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setCoarsestScale(0)
    flow.setPatchSize(8)
    flow.setPatchStride(5)
    flow.setGradientDescentIterations(6)
    flow.setVariationalRefinementIterations(0)
    return flow


def _refinement() -> cv2.VariationalRefinement:
    refinement = cv2.VariationalRefinement.create()
    refinement.setFixedPointIterations(5)
    return refinement
