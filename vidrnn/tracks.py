"""Moving regions to objects that keep their identity: predicted by the flow, assigned, bridged and kept apart.

Regions are cut and joined to things of usual size first (sizes.py). Each object is expected where its velocity takes
it; regions go to objects by the least total cost. A region that several objects are expected in is shared: each keeps
its size and its velocity until they part. Small regions inside an object's expected box are pieces of it. An object
that nothing shows is expected for a while longer, and what begins where one that ended would be by now is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vidrnn.sizes import Moving, Usual, areas, around, as_usual

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
_WHOLE_ROWS = 5  # frames that have shown each of those in one region alone and whole, if they are several
_APART = 0.1  # widths a second by which velocities in one region differ if they are several all the same
_SHARED_SECONDS = 3.0  # for so long objects share a region before they are taken for one
_FOLLOW = 0.25  # of the difference between seen and expected velocity, in a frame
_RESIZE = 0.2  # likewise of sizes
LINKED_SECONDS = 3.0  # after a track ends, it may go on as another one
_LOOSE_SECONDS = 1.0  # of its end, that tell where it goes on
_DRIFT = 0.3  # diagonals by which it may go astray, and as much more a second
_RESHAPE = 0.5  # what a size twice as large costs, in logarithms
_WAIT = 0.1  # what a second of absence costs
_NEVER = 1e3  # a cost beyond all others


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
    whole: int = 0  # frames in which that was large enough for a whole thing
    ends: bool = False
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
        moving = as_usual(moving, self._usual)
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
                own = (pieces >= 0) & (pieces == taken_by[region])  # a region that only covers it has no pieces
                own[region] = True
                self._see(thing, around(boxes[own]), moving.velocities[region], seconds)
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
        if all(thing.whole >= _WHOLE_ROWS for thing in things):
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
        tracks = [
            _bridged(np.array(thing.rows, np.int64), np.array(thing.boxes), np.ones(len(thing.rows), np.bool_))
            for thing in ended
        ]
        return sorted(tracks, key=_by_start)

    def _see(self, thing: _Object, box: Floats, flow: Floats, seconds: float) -> None:
        """An object alone in its region: it learns its velocity, half from the flow and half from where it went."""
        if seconds > 0:
            moved = thing.velocity + (_centre(box) - thing.centre) / seconds
            thing.velocity = thing.velocity + _FOLLOW * ((moved + flow) / 2 - thing.velocity)
        thing.centre = _centre(box)
        thing.size = thing.size + _RESIZE * (box[2:] - box[:2] - thing.size)
        thing.alone_at = self._time
        thing.whole += self._usual.holds(box)
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


def follow(times: Sequence[float], frames: Sequence[Moving]) -> list[Track]:
    """The tracks of a video, given what moves in each of its analysed frames."""
    tracker = Tracker(Usual(frames))
    for time, moving in zip(times, frames, strict=True):
        tracker.push(time, moving)
    return _linked(tracker.flush(), np.asarray(times, np.float64))


def _linked(tracks: list[Track], times: Floats) -> list[Track]:
    """Tracks that end, and those that begin soon after where these would have gone, are one."""
    if len(tracks) < 2:
        return tracks
    starts, ends = (_Loose.of(tracks, times, last) for last in (False, True))
    # Tracks come by their first frame. Only those that are near in time are compared: a day may have any number.
    begin, stop = (np.searchsorted(starts.time, ends.time + wait, side="right") for wait in (0.0, LINKED_SECONDS))
    one = np.repeat(np.arange(len(tracks)), stop - begin)
    other = np.concatenate([np.arange(*span) for span in zip(begin, stop, strict=True)])
    gap = starts.time[other] - ends.time[one]
    onwards = ends.place[one] + ends.velocity[one] * gap[:, None] - starts.place[other]
    back = starts.place[other] - starts.velocity[other] * gap[:, None] - ends.place[one]
    missed = (np.linalg.norm(onwards, axis=1) + np.linalg.norm(back, axis=1)) / 2
    reach = np.linalg.norm(np.maximum(ends.size[one], starts.size[other]), axis=1) * _DRIFT * (1 + gap)
    shape = np.abs(np.log(starts.size[other] / ends.size[one])).sum(1)
    cost = missed / np.maximum(reach, 1e-9) + _RESHAPE * shape
    possible = cost < 1
    follower = _assigned(one[possible], other[possible], (cost + _WAIT * gap)[possible])
    linked = []
    for first in sorted(set(range(len(tracks))) - set(follower.values())):
        chain = [first]
        while chain[-1] in follower:
            chain.append(follower[chain[-1]])
        parts = ([getattr(tracks[k], part.name) for k in chain] for part in fields(Track))
        linked.append(_bridged(*map(np.concatenate, parts)))
    return sorted(linked, key=_by_start)


def _assigned(one: Ints, other: Ints, cost: Floats) -> dict[int, int]:
    """Of (P,) possible pairs as many as there can be, each member in one at most, at the least cost in all."""
    count = int(max(one.max(initial=-1), other.max(initial=-1))) + 1
    graph = coo_array((np.ones(len(one)), (one, count + other)), shape=(2 * count, 2 * count))
    group = connected_components(graph, directed=False)[1][one]
    found = {}
    for pairs in np.split(np.argsort(group, kind="stable"), np.flatnonzero(np.diff(np.sort(group))) + 1):
        rows, row = np.unique(one[pairs], return_inverse=True)
        columns, column = np.unique(other[pairs], return_inverse=True)
        costs = np.full((len(rows), len(columns)), _NEVER)
        costs[row, column] = cost[pairs]
        for a, b in zip(*linear_sum_assignment(costs), strict=True):
            if costs[a, b] < _NEVER:
                found[int(rows[a])] = int(columns[b])
    return found


@dataclass(frozen=True)
class _Loose:
    """The ends, or the starts, of T tracks: (T,) seconds, (T, 2) places, pixels a second, widths and heights."""

    time: Floats
    place: Floats
    velocity: Floats
    size: Floats

    @classmethod
    def of(cls, tracks: list[Track], times: Floats, last: bool) -> "_Loose":
        """The last, or the first, second of each."""
        of_each = []
        for track in tracks:
            when, at = times[track.rows], -1 if last else 0
            near = np.abs(when - when[at]) <= _LOOSE_SECONDS
            centres, apart = _centre(track.boxes), when[near] - when[near].mean()
            spread = max(float((apart**2).sum()), 1e-9)
            pace = (apart[:, None] * centres[near]).sum(0) / spread if len(apart) >= _CONFIRMED_ROWS else np.zeros(2)
            size = np.median(track.boxes[near, 2:] - track.boxes[near, :2], axis=0)
            of_each.append((when[at], centres[at], pace, np.maximum(size, 1)))
        return cls(*(np.array(values) for values in zip(*of_each, strict=True)))


def is_object(track: Track, times: Sequence[float]) -> bool:
    """Whether it is more than a flicker: it lasts, and it goes somewhere or is always there.

    Only absences that are bridged anyway count against it, and no longer one between two tracks that are one.
    """
    lasts = times[int(track.rows[-1])] - times[int(track.rows[0])]
    if int(track.seen.sum()) < _CONFIRMED_ROWS or lasts < _CONFIRMED_SECONDS - 1e-9:
        return False
    places = uniform_filter1d(_centre(track.boxes[track.seen]), _CONFIRMED_ROWS, axis=0)
    size = np.median(track.boxes[track.seen, 2:] - track.boxes[track.seen, :2], axis=0).min()
    goes = float(np.ptp(places, axis=0).max()) > _GOES * size
    known = track.rows[track.seen]
    missing = np.diff(known) - 1
    away = np.diff(np.asarray(times)[known]) > BRIDGED_SECONDS
    share = float(len(known) / (len(known) + missing[~away].sum()))
    return (goes and share >= _SEEN) or (lasts >= _STAYS_SECONDS and share >= _STAYS)


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


def _members(expected: Floats, boxes: Floats, taken_by: Ints, known: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Of each region the objects in it: the one that it goes to, and those without a region that it covers.

    Where the region is no larger than the one expected, whatever else it covers is hidden.
    """
    members = [[int(thing)] if thing >= 0 else [] for thing in taken_by]
    left = np.setdiff1d(np.flatnonzero(known), taken_by)
    if not len(left) or not len(boxes):
        return members
    covered = _shared(expected[left], boxes) / np.maximum(areas(expected[left]), 1)[:, None]
    for thing, region, share in zip(left.tolist(), covered.argmax(1).tolist(), covered.max(1).tolist(), strict=True):
        if share > _INSIDE:
            members[region].append(thing)
    for region, inside in enumerate(members):
        if len(inside) > 1:
            sizes = areas(expected[inside])
            largest = inside[int(sizes.argmax())]
            one, all_of_them = (_overlap(around(expected[which]), boxes[region]) for which in ([largest], inside))
            if one > all_of_them or sizes.sum() < _INSIDE * areas(boxes[region]):
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
    held = _shared(boxes[left], expected[taken_by[own]]) / np.maximum(areas(boxes[left]), 1)[:, None]
    for region, best in zip(left.tolist(), held.argmax(1).tolist(), strict=True):
        thing, main = taken_by[own[best]], boxes[own[best]]
        pair = np.stack([main, boxes[region]])
        together = around(pair)
        filled = areas(pair).sum() > _FILLED * areas(together)
        better = _overlap(together, expected[thing]) > _overlap(main, expected[thing])
        if held[left == region, best] > _PIECE and filled and better:
            pieces[region] = thing
    return pieces


def _bridged(known: Ints, places: Floats, seen: npt.NDArray[np.bool_]) -> Track:
    """A track of (K,) ascending rows and (K, 4) boxes there, with the frames between bridged in a straight line."""
    rows = np.arange(known[0], known[-1] + 1)
    boxes = np.stack([np.interp(rows, known, places[:, k]) for k in range(4)], 1)
    return Track(rows, boxes, np.isin(rows, known[seen]))


def _by_start(track: Track) -> tuple[float, ...]:
    return int(track.rows[0]), *track.boxes[0].tolist(), len(track.rows)


def _centre(boxes: Floats) -> Floats:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _shared(a: Floats, b: Floats) -> Floats:
    """(len(a), len(b)) areas that boxes have in common."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: Floats = np.maximum(high - low, 0).prod(2)
    return shared


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes."""
    shared = float(_shared(a[None], b[None])[0, 0])
    return shared / max(float(areas(a) + areas(b)) - shared, 1e-9)
