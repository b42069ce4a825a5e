"""Is it still the camera's own view? Fixed mathematics of each picture against its background, and what follows.

A person, a crowd or a lorry hides some of the texture of a place, and light changes its brightness; only a camera that
was moved, covered or that gives no picture any more loses nearly all of it at once, and for longer than a moment.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vidrnn.events import find_spans
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table

MOVED, COVERED, LOST = "camera_moved", "camera_covered", "signal_lost"
HOLD_SECONDS = 1.0  # for which a view must be gone before that is said; a lorry is past by then
SETTLE_SECONDS = 5.0  # of another view, after which it is the new background
FROZEN_SECONDS = 10.0  # of pictures that are the same to the last bit; an empty night may repeat for some seconds
GAP_SECONDS = 3.0  # between two analysed frames, beyond which footage is missing

_TILE_ROWS = 5
_REBLUR = 2.0  # pixels, standard deviation of a Gaussian
_MARGIN = 1 / 8  # of the height, above and below, where cameras write names and times that no lens can blur
_FINE = (5, 5)  # pixels of the small picture, of which the mean is taken off
_LEAST_TEXTURE = 2.5  # levels, standard deviation of what is fine in a tile, below which it is plain
_SAME = 0.5  # correlation of a tile with its background
_FAINT = 0.15  # texture of a tile, over that of its background or the other way round, below which it is none
_GONE = 0.25  # share of the textured tiles that are the same, below which the view is gone
_PLAIN = 0.5  # texture of a covered picture, over that of its background, at most
_FLAT, _STILL = 2.0, 0.05  # levels: what a picture varies, and changes, that comes from no sensor
_AGAIN_SECONDS = 2.0  # within which two incidents are one
_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 2.0  # of a picture on its way to be gone, and back
_FAR = 0.25  # picture heights; a displacement beyond it cannot be told from chance

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How an analysed picture compares with its background and with the picture before.

    Attributes:
        agreement: share of the textured parts of either whose texture is the same in both; 1 where none is textured.
        detail: texture of the picture over that of the background, in those parts.
        contrast: standard deviation of the whole picture, levels.
        change: mean absolute difference from the analysed picture before, levels; 0 is the same to the last bit, and
            for the first.
        shift_x, shift_y: picture heights by which it lies off to the right and downwards; found where much differs.
    """

    agreement: float
    detail: float
    contrast: float
    change: float
    shift_x: float
    shift_y: float


def read_views(path: Path) -> list[View]:
    """How the analysed frames of a video compare with their background; none of a sequence, which has no pictures."""
    rows = read_table(path, SCHEMAS["views"], [field.name for field in fields(View)]).to_pylist()
    return [View(**row) for row in rows]


def compare(small: Array, background: Array) -> tuple[float, float, float]:
    """(agreement, detail, contrast) of a picture and its background, (height, width) float32 levels, both small."""
    # Large shapes look alike even where the camera looks elsewhere: only what is fine is compared.
    picture, before = small - cv2.blur(small, _FINE), background - cv2.blur(background, _FINE)
    level, level_before = _of_tiles(picture), _of_tiles(before)
    spread = np.sqrt(np.maximum(_of_tiles(picture * picture) - level * level, 0))
    spread_before = np.sqrt(np.maximum(_of_tiles(before * before) - level_before * level_before, 0))
    together = _of_tiles(picture * before) - level * level_before
    textured = np.maximum(spread, spread_before) > _LEAST_TEXTURE
    contrast = float(small.std())
    if not textured.any():
        return 1.0, 1.0, contrast
    alive = np.minimum(spread, spread_before) > _FAINT * np.maximum(spread, spread_before)
    same = alive & (together > _SAME * spread * spread_before)
    detail = float(spread[textured].sum() / max(float(spread_before[textured].sum()), 1.0))
    return float(same[textured].mean()), detail, contrast


def sharpness(picture: Picture) -> float:
    """By how much its edges are steeper than they are once they have been blurred by _REBLUR pixels.

    An edge that is wide already loses little to one more blur (S. Zhuo and T. Sim, Defocus map estimation from a single
    image, Pattern Recognition 44, 2011). Light and contrast cancel. Of a slope its part along the blurred one counts,
    most where that is steep: noise has as much of it one way as the other. Of a step that a Gaussian of σ has blurred
    it is 2 τ / √(3 σ² + τ²) − 1, where τ² = σ² + _REBLUR².

    Args:
        picture: (height, width) levels.

    Returns:
        From 0, where nothing has an edge or the edges are very wide, to about 1.2; the median of the more textured half
        of the tiles.
    """
    margin = round(_MARGIN * len(picture))
    once = picture[margin : len(picture) - margin].astype(np.float32)
    across, down = _slopes(once)
    across_again, down_again = _slopes(np.asarray(cv2.GaussianBlur(once, (0, 0), _REBLUR), np.float32))
    steep = across_again * across_again + down_again * down_again
    along, weight = _of_tiles((across * across_again + down * down_again) * steep), _of_tiles(steep * steep)
    textured = (weight >= np.median(weight)) & (weight > 0)
    return max(float(np.median(along[textured] / weight[textured])) - 1, 0.0) if textured.any() else 0.0


def _slopes(levels: Array) -> tuple[Array, Array]:
    """To the right and downwards, over two pixels, at each pixel but those at the edge."""
    return levels[1:-1, 2:] - levels[1:-1, :-2], levels[2:, 1:-1] - levels[:-2, 1:-1]


def _of_tiles(values: Array) -> Array:
    """Means of about square tiles, _TILE_ROWS of them from top to bottom."""
    size = (max(1, round(_TILE_ROWS * values.shape[1] / values.shape[0])), _TILE_ROWS)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def displacement(half: Picture, background: Array) -> tuple[float, float]:
    """Pixels to the right and downwards by which a picture lies off its background, (height, width) both."""
    window = cv2.createHanningWindow((half.shape[1], half.shape[0]), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(background, half.astype(np.float32), window)
    return float(right), float(down)


def state_of(view: View) -> str:
    """What a picture looks like by itself: the kind of an incident, or nothing."""
    if view.contrast < _FLAT and view.change < _STILL:
        return LOST
    if view.agreement >= _GONE:
        return ""
    return COVERED if view.detail < _PLAIN else MOVED


@dataclass(frozen=True)
class Incident:
    """Analysed frames [start, stop) in which the camera does not show its view, `peak` the one that shows it best.

    Attributes:
        kind: MOVED, COVERED or LOST.
        reason: a sentence.
        quiet: (first, last + 1), rows in which nothing else is to be said: the picture was on its way, or is settling.
    """

    start: int
    stop: int
    peak: int
    kind: str
    reason: str
    quiet: tuple[int, int]


def incidents(views: Sequence[View], times: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> list[Incident]:
    """All of a video, in the order of time.

    Args:
        views: of its T analysed frames; none of a sequence of features, which has no camera.
        times: (T,) seconds.
        valid: (T,), False in a warm-up; a warm-up within the video belongs to the incident before it.
    """
    if len(views) < 2:  # of one picture nobody can say for how long it was shown
        return []
    kinds = [state_of(view) for view in views]
    first = int(np.argmax(valid)) if valid.any() else len(valid)
    kinds[:first] = [kind if kind == LOST else "" for kind in kinds[:first]]  # what is usual is not known yet
    for start, stop in _frozen(views, times):
        kinds[start:stop] = [LOST] * (stop - start)
    found = [_gap(k, times) for k in (np.flatnonzero(np.diff(times) > GAP_SECONDS) + 1).tolist()]
    gone = np.array([1 - view.agreement for view in views], np.float32)
    for span in find_spans(gone, np.array(kinds) != "", times, _AGAIN_SECONDS):
        rows = range(span.start, span.stop)
        kind = max((LOST, COVERED, MOVED), key=[kinds[k] for k in rows].count)
        own = [k for k in rows if kinds[k]]
        if len(own) * float(np.median(np.diff(times))) < HOLD_SECONDS:
            continue
        stop = span.stop
        while stop < len(times) and not valid[stop]:
            stop += 1
        peak = max((k for k in rows if kinds[k] == kind), key=lambda k: gone[k])
        quiet = np.searchsorted(times, [times[span.start] - _BEFORE_SECONDS, times[stop - 1] + _AFTER_SECONDS])
        reason = _reason(kind, views[peak], float(times[span.stop - 1] - times[span.start]))
        found.append(Incident(span.start, stop, peak, kind, reason, (int(quiet[0]), int(quiet[1]))))
    return sorted(found, key=lambda incident: incident.start)


def _frozen(views: Sequence[View], times: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Rows [start, stop) that show one and the same picture for FROZEN_SECONDS or longer."""
    new = [k for k, view in enumerate(views) if k == 0 or view.change != 0]  # every picture that is not the one before
    stretches = itertools.pairwise([*new, len(views)])
    return [(start, stop) for start, stop in stretches if times[stop - 1] - times[start] >= FROZEN_SECONDS]


def _gap(k: int, times: npt.NDArray[np.float64]) -> Incident:
    """Between the rows k − 1 and k."""
    reason = f"no picture for {times[k] - times[k - 1]:.1f} seconds: the footage has a gap"
    return Incident(k - 1, k, k - 1, LOST, reason, (k - 1, k))


def _reason(kind: str, view: View, seconds: float) -> str:
    if kind == COVERED:
        return f"the camera is covered or blinded: {1 - view.agreement:.0%} of the picture lost what it showed"
    if kind == LOST and view.contrast < _FLAT:
        return f"no picture for {seconds:.0f} seconds: it is of one brightness throughout, and still"
    if kind == LOST:
        return f"no new picture for {seconds:.0f} seconds: the same one, to the last bit, again and again"
    off = math.hypot(view.shift_x, view.shift_y)
    words = f" and lies off by about {off:.2f} picture heights" if 0 < off < _FAR else ""
    return f"the camera was moved: {1 - view.agreement:.0%} of the picture no longer shows what it showed{words}"
