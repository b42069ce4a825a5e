"""Moving regions to objects that keep their identity: predicted by the flow, assigned, bridged and kept apart.

Each object is expected where its velocity takes it; regions go to objects by the least total cost. A region that
several objects are expected in is shared: each keeps its size and its velocity until they part. Small regions inside
an object's expected box are pieces of it. An object that nothing shows is expected for a while longer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

BRIDGED_SECONDS = 1.0  # for so long an object is expected that nothing shows
_CONFIRMED_ROWS = 3  # frames that show it before a thing is an object
_CONFIRMED_SECONDS = 0.3  # and how long it has to last
_SEEN = 0.6  # in which share of its frames an object is seen
_GOES = 0.5  # of its shorter side, how far an object goes
_STAYS_SECONDS, _STAYS = 2.0, 0.9  # or for how long, and in which share of its frames, one is seen that goes nowhere
_SURE_ROWS = 5.0  # frames that show a thing at which its objectness is a half
_REACH = 0.8  # diagonals of an object within which its region may lie from where it is expected
_SHAPE = 0.25  # what a region twice as wide or high as expected costs, against one that lies a reach away
_GATE = 1.3  # cost beyond which a region is not the object's
_INSIDE = 0.6  # share of an expected box that a region must cover for the object to be in it
_PIECE = 0.7  # share of a region that an expected box must cover for it to be a piece of the object
_FILLED = 0.7  # share of the box around both that the boxes of an object and of its piece fill
_APART = 0.1  # widths a second by which velocities in one region differ if it is of several objects
_SHARED_SECONDS = 5.0  # for so long objects share a region before they are taken for one
_WIDE = 1.4  # times as wide as is usual, a region is of several things
_BANDS, _BANDS_NEAR = 50, 4  # heights of the picture at which sizes are told apart, and so many around together
_LEAST_SEEN = 30  # regions there before a size is usual
XO, GAP, VEL = 0, 0, 0
JOIN, _FRAGMENT, _GAIN, _ROOM = 1, 0.4, 0.1, 1.2
MODE, _WHOLE, _WHOLE_ROWS = 1, 0.6, 5
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
    pieces: Sequence[Floats] = ()

    def separated(self, usual: "Usual") -> "Moving":
        """The same, with each region that is wider than is usual there cut into pieces that are not."""
        if not any(map(len, self.pieces)):
            return self
        parts = [
            _grouped(pieces, usual) if len(pieces) and box[2] - box[0] > _WIDE * usual.at(box)[0] else box[None]
            for box, pieces in zip(self.boxes, self.pieces, strict=True)
        ]
        return Moving(np.concatenate(parts), np.repeat(self.velocities, list(map(len, parts)), axis=0))

    def joined(self, usual: "Usual") -> "Moving":
        """The same, with fragments joined where what they are together is more nearly as large as is usual there."""
        boxes, velocities = [np.asarray(box, np.float64) for box in self.boxes], list(self.velocities)
        sizes = [usual.at(box) for box in boxes]
        order = sorted(range(len(boxes)), key=lambda k: -float(np.prod(boxes[k][2:] - boxes[k][:2])))
        gone: set[int] = set()
        for small in reversed(order):
            extent = boxes[small][2:] - boxes[small][:2]
            if np.prod(extent) > _FRAGMENT * np.prod(sizes[small]):
                continue
            best, gain = -1, _GAIN
            for large in order:
                if large == small or large in gone or np.prod(boxes[large][2:] - boxes[large][:2]) < np.prod(extent):
                    continue
                both = _around(np.stack([boxes[large], boxes[small]]))
                if XO and min(boxes[large][2], boxes[small][2]) - max(boxes[large][0], boxes[small][0]) < XO * extent[0]:
                    continue
                if GAP and max(boxes[large][1], boxes[small][1]) - min(boxes[large][3], boxes[small][3]) > GAP * usual.at(both)[1]:
                    continue
                if VEL and np.linalg.norm(np.subtract(velocities[large],velocities[small])) > VEL*usual.at(both)[1]:
                    continue
                common = usual.at(both)
                if not np.isfinite(common).all() or ((both[2:] - both[:2]) > _ROOM * common).any():
                    continue
                before = np.abs(np.log((boxes[large][2:] - boxes[large][:2]) / sizes[large])).sum()
                after = np.abs(np.log((both[2:] - both[:2]) / common)).sum()
                if before - after > gain:
                    best, gain = large, before - after
            if best >= 0:
                gone.add(small)
                boxes[best] = _around(np.stack([boxes[best], boxes[small]]))
                sizes[best] = usual.at(boxes[best])
        left = [k for k in range(len(boxes)) if k not in gone]
        if not gone:
            return self
        return Moving(np.stack([boxes[k] for k in left]), np.stack([velocities[k] for k in left]))


class Usual:
    """How large things are at each height of the picture: the median of what moves there."""

    def __init__(self, frames: Sequence[Moving]) -> None:
        boxes = np.concatenate([np.empty((0, 4)), *(frame.boxes for frame in frames)])
        self._feet, self._sizes = boxes[:, 3], boxes[:, 2:] - boxes[:, :2]
        self._step = max(float(self._feet.max(initial=1)) / _BANDS, 1e-9)
        self._known: dict[int, Floats] = {}

    def at(self, box: Floats) -> Floats:
        """Width and height of a thing that stands where a box does; infinite where too little has been seen."""
        band = int(box[3] / self._step)
        if band not in self._known:
            near = np.abs(self._feet / self._step - (band + 0.5)) < _BANDS_NEAR
            enough = np.count_nonzero(near) >= _LEAST_SEEN
            self._known[band] = np.median(self._sizes[near], axis=0) if enough else np.full(2, np.inf)
        return self._known[band]


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
    """What is followed: where it is expected, how fast it goes, how large it is, and where it was put."""

    centre: Floats
    velocity: Floats
    size: Floats
    seen_at: float
    alone_at: float  # when a region was last its own
    ends: bool = False
    whole: int = 0  # frames in which it was alone and as large as is usual
    rows: list[int] = field(default_factory=list)
    boxes: list[Floats] = field(default_factory=list)

    def box(self) -> Floats:
        """Where it is expected."""
        return np.concatenate([self.centre - self.size / 2, self.centre + self.size / 2])

    def put(self, row: int, time: float, box: Floats) -> None:
        self.seen_at = time
        self.rows.append(row)
        self.boxes.append(box)


class Tracker:
    """Frames in, tracks out: `push` each analysed frame in order, then `flush` once."""

    def __init__(self, usual: Usual) -> None:
        self._usual = usual
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
            thing.centre = thing.centre + thing.velocity * seconds
        expected = np.array([thing.box() for thing in objects]).reshape(-1, 4)
        taken_by = _assign(expected, boxes)
        pieces = _pieces(expected, boxes, taken_by)
        for region, inside in enumerate(_members(expected, boxes, taken_by, self._known())):
            together = [objects[index] for index in inside]
            if len(inside) > 1 and self._are_several(together):
                self._share(together, boxes[region])
            elif inside:
                thing = max(together, key=lambda one: float(one.size.prod()))
                for other in together:
                    other.ends = other is not thing
                whole = np.concatenate([boxes[[region]], boxes[pieces == taken_by[region]]])
                self._see(thing, _around(whole), moving.velocities[region], seconds)
            elif pieces[region] < 0:
                velocity = np.asarray(moving.velocities[region], np.float64)
                new = _Object(_centre(boxes[region]), velocity, boxes[region, 2:] - boxes[region, :2], time, time)
                new.put(self._row, time, boxes[region])
                objects.append(new)
        over = [thing.ends or time - thing.seen_at > BRIDGED_SECONDS for thing in objects]
        self._ended += compress(objects, over)
        self._objects = [thing for thing, ends in zip(objects, over, strict=True) if not ends]

    def _are_several(self, things: list[_Object]) -> bool:
        """Whether objects in one region are several that meet, and not pieces of one that go together."""
        if max(self._time - thing.alone_at for thing in things) > _SHARED_SECONDS:
            return False
        if MODE and sum(thing.whole >= _WHOLE_ROWS for thing in things) == len(things):
            return True
        velocities = np.array([thing.velocity for thing in things])
        apart = np.linalg.norm(velocities - velocities[0], axis=1).max()
        return bool(apart > _APART * np.mean([thing.size[0] for thing in things]))

    def _known(self) -> npt.NDArray[np.bool_]:
        """Which objects have been seen often enough to be believed where they are not seen alone."""
        return np.array([len(thing.rows) >= _CONFIRMED_ROWS for thing in self._objects], np.bool_)

    def flush(self) -> list[Track]:
        """Every track, by its first frame."""
        ended, self._ended, self._objects = self._ended + self._objects, [], []
        tracks = [_track(thing) for thing in ended]
        return sorted(tracks, key=lambda track: (int(track.rows[0]), *track.boxes[0].tolist(), len(track.rows)))

    def _see(self, thing: _Object, box: Floats, flow: Floats, seconds: float) -> None:
        """An object alone in its region: it learns its velocity, half from the flow and half from where it went."""
        if seconds > 0:
            moved = thing.velocity + (_centre(box) - thing.centre) / seconds
            thing.velocity = thing.velocity + _FOLLOW * ((moved + flow) / 2 - thing.velocity)
        thing.centre = _centre(box)
        thing.size = thing.size + _RESIZE * (box[2:] - box[:2] - thing.size)
        thing.alone_at = self._time
        thing.whole += bool(((box[2:] - box[:2]) > _WHOLE * self._usual.at(box)).all())
        thing.put(self._row, self._time, box)

    def _share(self, things: list[_Object], region: Floats) -> None:
        """Objects in one region: each keeps its size; the outermost on each side reaches to the edge of the region."""
        boxes = np.array([thing.box() for thing in things])
        sizes = np.minimum(boxes[:, 2:] - boxes[:, :2], region[2:] - region[:2])
        lows = np.clip(_centre(boxes) - sizes / 2, region[:2], region[2:] - sizes)
        for axis in range(2):
            first, last = int(lows[:, axis].argmin()), int((lows + sizes)[:, axis].argmax())
            if first != last:
                lows[first, axis] = region[axis]
                lows[last, axis] = region[2 + axis] - sizes[last, axis]
        for thing, low, size in zip(things, lows, sizes, strict=True):
            thing.centre = low + size / 2
            thing.put(self._row, self._time, np.concatenate([low, low + size]))


def follow(times: Sequence[float], frames: Iterable[Moving]) -> list[Track]:
    """The tracks of a video, given what moves in each of its analysed frames."""
    frames = list(frames)
    usual = Usual(frames)
    tracker = Tracker(usual)
    for time, moving in zip(times, frames, strict=True):
        tracker.push(time, (moving.separated(usual).joined(usual) if JOIN else moving.separated(usual)))
    tracks = tracker.flush()
    return _stitched(tracks, np.asarray(times, np.float64)) if STITCH else tracks


def _stitched(tracks: list[Track], times: Floats) -> list[Track]:
    """Tracks that end, and those that begin where these would have gone, are one."""
    if len(tracks) < 2:
        return tracks
    cost = np.full((len(tracks), len(tracks)), 99.0)
    ends = [(_centre(t.boxes[-1]), _pace(t, times, last=True), _size(t, last=True), times[t.rows[-1]]) for t in tracks]
    starts = [(_centre(t.boxes[0]), _pace(t, times, last=False), _size(t, last=False), times[t.rows[0]]) for t in tracks]
    for a, (place, pace, size, end) in enumerate(ends):
        for b, (other, its_pace, its_size, start) in enumerate(starts):
            gap = start - end
            if not 0 < gap <= STITCH:
                continue
            missed = (np.linalg.norm(place + pace * gap - other) + np.linalg.norm(other - its_pace * gap - place)) / 2
            shape = float(np.abs(np.log(its_size / size)).sum())
            c = missed / (np.linalg.norm(np.maximum(size, its_size)) * (SLACK + gap * SLACKT)) + SHAPE * shape
            if c < 1 :
                cost[a, b] = c + .1*gap
    follows = {int(a): int(b) for a, b in zip(*linear_sum_assignment(cost), strict=True) if cost[a, b] < 99}
    heads = sorted(set(range(len(tracks))) - set(follows.values()))
    made = []
    for head in heads:
        chain = [head]
        while chain[-1] in follows:
            chain.append(follows[chain[-1]])
        if len(chain) == 1:
            made.append(tracks[head])
            continue
        known = np.concatenate([tracks[k].rows for k in chain])
        places = np.concatenate([tracks[k].boxes for k in chain])
        seen = np.concatenate([tracks[k].seen for k in chain])
        rows = np.arange(known[0], known[-1] + 1)
        boxes = np.stack([np.interp(rows, known, places[:, k]) for k in range(4)], 1)
        made.append(Track(rows, boxes, np.isin(rows, known[seen])))
    return sorted(made, key=lambda track: (int(track.rows[0]), *track.boxes[0].tolist(), len(track.rows)))


STITCH, SLACK, SLACKT, SHAPE = 3.0, 0.3, 0.3, 0.5


def _pace(track: Track, times: Floats, last: bool) -> Floats:
    t = times[track.rows]
    near = t >= t[-1] - 1.0 if last else t <= t[0] + 1.0
    if np.count_nonzero(near) < 3:
        return np.zeros(2)
    place, when = _centre(track.boxes[near]), t[near] - t[near].mean()
    return (when[:, None] * place).sum(0) / (when**2).sum()


def _size(track: Track, last: bool) -> Floats:
    part = track.boxes[-10:] if last else track.boxes[:10]
    return np.maximum(np.median(part[:, 2:] - part[:, :2], axis=0), 1)


def is_object(track: Track, times: Sequence[float]) -> bool:
    """Whether it is more than a flicker: it lasts, and it goes somewhere or is always there."""
    lasts = times[int(track.rows[-1])] - times[int(track.rows[0])]
    if int(track.seen.sum()) < _CONFIRMED_ROWS or lasts < _CONFIRMED_SECONDS - 1e-9:
        return False
    places = uniform_filter1d(_centre(track.boxes[track.seen]), _CONFIRMED_ROWS, axis=0)
    size = np.median(track.boxes[track.seen, 2:] - track.boxes[track.seen, :2], axis=0).min()
    goes = float(np.ptp(places, axis=0).max()) > _GOES * size
    share = float(track.seen.mean())
    return (goes and share >= _SEEN) or (lasts >= _STAYS_SECONDS and share >= _STAYS)


def objectness(track: Track) -> Floats:
    """(K,) in [0, 1): how sure it is that there is an object in each frame; 0 where nothing shows it."""
    shown = int(track.seen.sum())
    return track.seen * (shown / (shown + _SURE_ROWS))


def _grouped(pieces: Floats, usual: Usual) -> Floats:
    """Pieces from left to right, the narrowest neighbours together as long as they are no wider than is usual."""
    groups = list(pieces)
    while len(groups) > 1:
        pairs = [_around(np.stack(pair)) for pair in pairwise(groups)]
        best = min(range(len(pairs)), key=lambda k: float(pairs[k][2] - pairs[k][0]))
        if pairs[best][2] - pairs[best][0] > _WIDE * usual.at(pairs[best])[0]:
            break
        groups[best : best + 2] = [pairs[best]]
    return np.stack(groups)


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


def _members(expected: Floats, boxes: Floats, taken_by: Ints, known: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Of each region the objects in it: the one that it goes to, and those without a region that it covers.

    Where the region is no larger than the one expected, whatever else it covers is hidden.
    """
    members = [[int(thing)] if thing >= 0 else [] for thing in taken_by]
    left = np.setdiff1d(np.flatnonzero(known), taken_by)
    if not len(left) or not len(boxes):
        return members
    covered = _shared(expected[left], boxes) / np.maximum(_area(expected[left]), 1)[:, None]
    for thing, region, share in zip(left.tolist(), covered.argmax(1).tolist(), covered.max(1).tolist(), strict=True):
        if share > _INSIDE:
            members[region].append(thing)
    for region, inside in enumerate(members):
        if len(inside) > 1:
            sizes = _area(expected[inside])
            largest = inside[int(sizes.argmax())]
            one, all_of_them = (_overlap(_around(expected[which]), boxes[region]) for which in ([largest], inside))
            if one > all_of_them or sizes.sum() < _INSIDE * _area(boxes[[region]])[0]:
                members[region] = [largest]
    return members


def _pieces(expected: Floats, boxes: Floats, taken_by: Ints) -> Ints:
    """Of each region that goes to nobody the object that it is a piece of, else -1: (N,).

    Its expected box holds the region, and fits it and the object's own region together better than the own one alone.
    """
    pieces = np.full(len(boxes), -1, np.int64)
    own = np.flatnonzero(taken_by >= 0)
    left = np.flatnonzero(taken_by < 0)
    if not len(left) or not len(own):
        return pieces
    held = _shared(boxes[left], expected[taken_by[own]]) / np.maximum(_area(boxes[left]), 1)[:, None]
    for region, best in zip(left.tolist(), held.argmax(1).tolist(), strict=True):
        thing, main = taken_by[own[best]], boxes[own[best]]
        pair = np.stack([main, boxes[region]])
        together = _around(pair)
        filled = _area(pair).sum() > _FILLED * _area(together[None])[0]
        better = _overlap(together, expected[thing]) > _overlap(main, expected[thing])
        if held[left == region, best] > _PIECE and filled and better:
            pieces[region] = thing
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


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes."""
    shared = float(_shared(a[None], b[None])[0, 0])
    return shared / max(float(_area(a[None])[0] + _area(b[None])[0]) - shared, 1e-9)
