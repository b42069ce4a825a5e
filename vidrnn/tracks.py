"""Moving regions to objects that keep their identity: predicted by the flow, assigned, bridged and kept apart.

Each object is expected where its velocity takes it; regions go to objects by the least total cost. A region that
several objects are expected in is shared: each keeps its size and its velocity until they part. Small regions inside
an object's expected box are pieces of it. An object that nothing shows is expected for a while longer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

BRIDGED_SECONDS = 1.0  # for so long an object is expected that nothing shows
_CONFIRMED_ROWS = 3  # frames that show it before a thing is an object
_CONFIRMED_SECONDS = 0.3  # and how long it has to last
_SURE_ROWS = 5.0  # frames that show a thing at which its objectness is a half
_REACH = 0.8  # diagonals of an object within which its region may lie from where it is expected
_SHAPE = 0.25  # what a region twice as wide or high as expected costs, against one that lies a reach away
_GATE = 1.3  # cost beyond which a region is not the object's
_INSIDE = 0.6  # share of an expected box that a region must cover for the object to be in it
_PIECE = 0.7  # share of a region that an expected box must cover for it to be a piece of the object
_FOLLOW = 0.4  # of the difference between seen and expected velocity, in a frame
_RESIZE = 0.2  # likewise of sizes


@dataclass(frozen=True)
class Moving:
    """What moves in a frame.

    Attributes:
        boxes: (N, 4) x0, y0, x1, y1 in pixels.
        velocities: (N, 2) pixels a second to the right and downwards.
    """

    boxes: Floats
    velocities: Floats


@dataclass(frozen=True)
class Track:
    """An object over K successive analysed frames.

    Attributes:
        rows: (K,) numbers of the frames among those that were pushed, from its first to its last.
        boxes: (K, 4) pixels.
        seen: (K,) whether a region shows it; the boxes between are bridged.
    """

    rows: Ints
    boxes: Floats
    seen: npt.NDArray[np.bool_]


@dataclass
class _Object:
    """What is followed. `expected` is its box in the present frame as predicted, `box` where it was last put."""

    box: Floats
    velocity: Floats
    size: Floats
    seen_at: float
    rows: list[int] = field(default_factory=list)
    boxes: list[Floats] = field(default_factory=list)
    expected: Floats = field(default_factory=lambda: np.zeros(4))

    def put(self, row: int, time: float, box: Floats) -> None:
        self.box, self.seen_at = box, time
        self.rows.append(row)
        self.boxes.append(box)


class Tracker:
    """Frames in, tracks out: `push` each analysed frame in order, then `flush` once."""

    def __init__(self) -> None:
        self._objects: list[_Object] = []
        self._ended: list[_Object] = []
        self._row = -1
        self._time = 0.0

    def push(self, time: float, moving: Moving) -> None:
        """Take what moves in the next frame, at `time` seconds."""
        self._row += 1
        seconds, self._time = time - self._time, time
        objects, boxes = self._objects, np.asarray(moving.boxes, np.float64)
        for thing in objects:
            thing.expected = thing.box + np.tile(thing.velocity, 2) * seconds
            thing.box = thing.expected
        expected = np.array([thing.expected for thing in objects]).reshape(-1, 4)
        taken_by = _assign(expected, boxes)
        members = _members(expected, boxes, taken_by)
        pieces = _pieces(expected, boxes, taken_by)
        for region, inside in enumerate(members):
            if len(inside) == 1:
                whole = np.concatenate([boxes[[region]], boxes[pieces == inside[0]]])
                self._see(objects[inside[0]], _around(whole), moving.velocities[region], seconds)
            for index in inside if len(inside) > 1 else []:
                objects[index].put(self._row, time, _within(objects[index].expected, boxes[region]))
        for region in [k for k, inside in enumerate(members) if not inside and pieces[k] < 0]:
            box = boxes[region]
            new = _Object(box, np.asarray(moving.velocities[region], np.float64), box[2:] - box[:2], time)
            new.put(self._row, time, box)
            objects.append(new)
        lost = [thing for thing in objects if time - thing.seen_at > BRIDGED_SECONDS]
        self._ended += lost
        self._objects = [thing for thing in objects if time - thing.seen_at <= BRIDGED_SECONDS]

    def flush(self) -> list[Track]:
        """Every track, by its first frame."""
        ended, self._ended, self._objects = self._ended + self._objects, [], []
        tracks = [_track(thing) for thing in ended]
        return sorted(tracks, key=lambda track: (int(track.rows[0]), *track.boxes[0].tolist(), len(track.rows)))

    def _see(self, thing: _Object, box: Floats, flow: Floats, seconds: float) -> None:
        """An object alone in its region: it learns its velocity, half from the flow and half from where it went."""
        if seconds > 0:
            before = thing.expected - np.tile(thing.velocity, 2) * seconds
            moved = (_centre(box) - _centre(before)) / seconds
            thing.velocity = thing.velocity + _FOLLOW * ((moved + flow) / 2 - thing.velocity)
        thing.size = thing.size + _RESIZE * (box[2:] - box[:2] - thing.size)
        thing.put(self._row, self._time, box)


def follow(times: Sequence[float], frames: Iterable[Moving]) -> list[Track]:
    """The tracks of a video, given what moves in each of its analysed frames."""
    tracker = Tracker()
    for time, moving in zip(times, frames, strict=True):
        tracker.push(time, moving)
    return tracker.flush()


def is_object(track: Track, times: Sequence[float]) -> bool:
    """Whether it lasts long enough to be more than a flicker."""
    lasts = times[int(track.rows[-1])] - times[int(track.rows[0])]
    return int(track.seen.sum()) >= _CONFIRMED_ROWS and lasts >= _CONFIRMED_SECONDS - 1e-9


def objectness(track: Track) -> Floats:
    """(K,) in [0, 1): how sure it is that there is an object in each frame; 0 where nothing shows it."""
    shown = int(track.seen.sum())
    return track.seen * (shown / (shown + _SURE_ROWS))


def _assign(expected: Floats, boxes: Floats) -> Ints:
    """Of each region the object that it goes to, -1 for none: (N,)."""
    taken_by = np.full(len(boxes), -1, np.int64)
    if not len(expected) or not len(boxes):
        return taken_by
    sizes, found = np.maximum(expected[:, 2:] - expected[:, :2], 1), boxes[:, 2:] - boxes[:, :2]
    away = np.linalg.norm(_centre(expected)[:, None] - _centre(boxes)[None], axis=2)
    reach = _REACH * np.linalg.norm(sizes, axis=1)[:, None]
    shape = np.abs(np.log2(found[None] / sizes[:, None])).sum(2)
    cost = away / reach + _SHAPE * shape
    cost = np.where((away < reach) & (cost < _GATE), cost, 10 * _GATE)
    for thing, region in zip(*linear_sum_assignment(cost), strict=True):
        if cost[thing, region] < _GATE:
            taken_by[region] = thing
    return taken_by


def _members(expected: Floats, boxes: Floats, taken_by: Ints) -> list[list[int]]:
    """Of each region the objects in it: the one that it goes to, and those without a region that it covers."""
    members = [[int(thing)] if thing >= 0 else [] for thing in taken_by]
    left = np.setdiff1d(np.arange(len(expected)), taken_by)
    if len(left) and len(boxes):
        covered = _shared(expected[left], boxes) / np.maximum(_area(expected[left]), 1)[:, None]
        for thing, region in zip(left.tolist(), covered.argmax(1).tolist(), strict=True):
            if covered[left == thing, region] > _INSIDE:
                members[region].append(thing)
    return members


def _pieces(expected: Floats, boxes: Floats, taken_by: Ints) -> Ints:
    """Of each region that goes to nobody, the object with a region whose expected box holds it, else -1: (N,)."""
    pieces = np.full(len(boxes), -1, np.int64)
    left, owners = np.flatnonzero(taken_by < 0), taken_by[taken_by >= 0]
    if len(left) and len(owners):
        held = _shared(boxes[left], expected[owners]) / np.maximum(_area(boxes[left]), 1)[:, None]
        pieces[left] = np.where(held.max(1) > _PIECE, owners[held.argmax(1)], -1)
    return pieces


def _track(thing: _Object) -> Track:
    """With the frames between bridged in a straight line."""
    known = np.array(thing.rows, np.int64)
    rows = np.arange(known[0], known[-1] + 1)
    places = np.array(thing.boxes)
    boxes = np.stack([np.interp(rows, known, places[:, k]) for k in range(4)], 1)
    return Track(rows, boxes, np.isin(rows, known))


def _centre(boxes: Floats) -> Floats:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def _shared(a: Floats, b: Floats) -> Floats:
    """(len(a), len(b)) areas that boxes have in common."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: Floats = np.maximum(high - low, 0).prod(2)
    return shared


def _around(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def _within(box: Floats, region: Floats) -> Floats:
    """A box shifted into a region, and cut where it is larger."""
    size = np.minimum(box[2:] - box[:2], region[2:] - region[:2])
    low = np.clip(box[:2], region[:2], region[2:] - size)
    return np.concatenate([low, low + size])
