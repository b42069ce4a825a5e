"""Scenes whose unusual moments are changes: nothing that is seen in one frame is unusual, only what it follows on.

One place, the market street of the demo. Ordinary is, on both of its lanes and in both directions: people and children
who stroll, walk or jog, cyclists, dogs, birds that fly by, some who carry a case. On the back lane people also rest,
anywhere: they slow down over a second, stand or stoop, or lie down slowly, get up slowly and walk on. On the front lane
nobody stops, nobody anywhere turns back, changes from walking to running, or throws.

The kinds of change, between a before and an after that are both ordinary where they are:

    fall      somebody who walks on the back lane lies on the ground within 0.8 s; lying there is ordinary
    run       a walker on either lane jogs from one step to the next, as joggers do all the time
    reversal  a walker on either lane turns within 0.6 s and walks back as fast; others walk that way
    throw     two who meet, one throws a case to the other, who carries it on; it goes no faster than others do
    stop      a walker on the front lane stands still within 0.3 s; others stand, elsewhere

The speed over any one second, of the middle of whoever is drawn, in picture heights a second, stays within what
ordinary people and things show on the same lane, and standing is ordinary in the place: `out_of_range` tells. What is
not hidden: a body half way down, and a bag with nobody's hand on it, are shapes that ordinary footage has no copy of.
Dogs, people who lie down, and birds come near to them.

A change is labelled from its onset for `CHANGE_SECONDS`: as long as it takes, and as half a second's prediction and a
causal average can still know of it. Its region is the box of whoever takes part. What follows (`Change.over`: somebody
gets up or walks on) is neither unusual nor ordinary.

Development uses `DEV_SEEDS` only. `FINAL_SEEDS` are for the final table: nobody looks at them, or at a figure of them,
before the work on scoring is done.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrnn.demo import render_plans, stand_in
from vidrnn.demo_plan import (
    BEND,
    CARRIES,
    HEADING,
    LIE,
    PHASE,
    REACH,
    RUN,
    SPEED,
    Actor,
    Plan,
    Planted,
    Track,
    X,
    Y,
    Z,
    follow,
    is_seen,
    ordinary_speeds,
    smooth_line,
    stride,
)
from vidrnn.demo_scene import PLACES
from vidrnn.easel import HEIGHT, Lane
from vidrnn.figures import Colour, Look, random_look

KINDS = ("fall", "run", "reversal", "throw", "stop")
DEV_SEEDS = (0, 1, 2)
FINAL_SEEDS = (200, 201, 202)

CAMERA = "market-walk"
FRAME_RATE = 10
CHANGE_SECONDS = 1.2
_TRAIN_FILES, _TRAIN_SECONDS = 4, 150
_TEST_FILES, _TURNS = 6, 2  # files, and changes of each kind in a file
_APART_SECONDS = (5.5, 8.5)  # of ordinary footage between two changes, at least and at most
_SETTLE_SECONDS = 1.0

LANES = {
    "front": Lane(((-24.0, 12.0), (24.0, 12.0)), 0.7, 1.0),
    "back": Lane(((-24.0, 14.8), (24.0, 14.8)), 0.7, 1.0),
    "alley": PLACES[CAMERA].lanes["alley"],
}
# Who comes by, in an order that is shuffled anew each time all have: on either lane as many of each.
_ON_A_LANE = ("walker",) * 5 + ("jogger",) * 2 + ("child", "bike", "dog")
_PASSERS_BY = (
    *((lane, what) for lane in ("front", "back") for what in _ON_A_LANE),
    *(("alley", "walker"), ("alley", "jogger"), ("front", "bird"), ("back", "bird")),
)
_NO_COLOUR: Colour = (0.0, 0.0, 0.0)
Rng = np.random.Generator
Speeds = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A planted change.

    Attributes:
        kind: one of `KINDS`.
        lane: a key of `LANES`.
        actors: who takes part, the one who changes first.
        onset, offset: frames [onset, offset) that are labelled.
        over: the frame from which all is ordinary again.
    """

    kind: str
    lane: str
    actors: tuple[Actor, ...]
    onset: int
    offset: int
    over: int


@dataclass(frozen=True)
class Film:
    """One file: what is drawn, which lane each actor is on, and the changes in it."""

    plan: Plan
    lanes: dict[int, str]  # by track id
    changes: list[Change]

    def is_ordinary(self) -> NDArray[np.bool_]:
        """(num_frames,): no change is under way, nor has one ended just now."""
        ordinary = np.ones(self.plan.num_frames, bool)
        for change in self.changes:
            ordinary[change.onset : change.over] = False
        return ordinary


def plan_films(seed: int) -> list[Film]:
    """Ordinary films below `train`, films with changes below `test`; the same for the same seed."""
    films = [_film("train", (seed, 0, i)) for i in range(_TRAIN_FILES)]
    return films + [_film("test", (seed, 1, i)) for i in range(_TEST_FILES)]


def render_films(films: list[Film], root: Path) -> None:
    """Draw films into `root/videos` and their labels into `root/labels`; the same bytes for the same films."""
    render_plans(root / "videos", root / "labels", [film.plan for film in films], FRAME_RATE)


def one_second_speeds(actor: Actor) -> tuple[NDArray[np.int64], Speeds]:
    """How fast the middle of what is drawn goes over each second in which it is seen throughout.

    Returns:
        The frames at which these seconds begin, and the length of the way in picture heights.
    """
    place = PLACES[CAMERA]
    seen = is_seen(place, actor.track)
    middle = np.full((len(seen), 2), np.nan)
    for i in np.flatnonzero(seen):
        row = actor.track[i]
        x, y, z = stand_in(actor, row)[0].mean(axis=0)
        cos, sin = math.cos(row[HEADING]), math.sin(row[HEADING])
        at = np.array([[row[X] + x * cos - y * sin, row[Y] + x * sin + y * cos, row[Z] + z]])
        middle[i] = place.view.project(at)[0, :2]
    steps = np.hypot(*np.diff(middle, axis=0).T) / HEIGHT
    speeds = np.convolve(steps, np.ones(FRAME_RATE), "valid") if len(steps) >= FRAME_RATE else np.empty(0)
    whole = np.flatnonzero(~np.isnan(speeds))
    return actor.first + whole, speeds[whole]


def out_of_range(films: list[Film]) -> list[str]:
    """Which changes show a speed over one second that ordinary footage of the same seed hardly shows; none should.

    The range reaches from standing still, where somebody does so anywhere in the place, to what 1 % of the ordinary
    seconds on the same lane exceed.
    """
    ordinary: dict[str, list[Speeds]] = {lane: [] for lane in LANES}
    for film in films:
        if film.plan.split == "train":
            for actor in film.plan.actors:
                ordinary[film.lanes[actor.track_id]].append(one_second_speeds(actor)[1])
    low = min(float(speeds.min(initial=np.inf)) for lane in ordinary.values() for speeds in lane)
    found = []
    for film in films:
        for change in film.changes:
            high = float(np.quantile(np.concatenate(ordinary[change.lane]), 0.99))
            speeds = _speeds_of(change)
            if speeds.min() < low or speeds.max() > high:
                seen = f"{speeds.min():.3f} to {speeds.max():.3f} picture heights a second, not {low:.3f} to {high:.3f}"
                found.append(
                    f"{film.plan.video} frame {change.onset}: a {change.kind} on the {change.lane} lane, {seen}"
                )
    return found


def _speeds_of(change: Change) -> Speeds:
    """Over each second that touches the change, of whoever takes part."""
    speeds = []
    for actor in change.actors:
        starts, each = one_second_speeds(actor)
        speeds.append(each[(starts > change.onset - FRAME_RATE) & (starts < change.over)])
    return np.concatenate(speeds)


def _film(split: str, seed: tuple[int, ...]) -> Film:
    rng = np.random.default_rng(seed)
    changes: list[Change] = []
    num_frames = _TRAIN_SECONDS * FRAME_RATE
    if split == "test":
        kinds = [kind for _ in range(_TURNS) for kind in rng.permutation(KINDS)]
        changes, num_frames = _changes(rng, kinds)
    plan = Plan(CAMERA, split, f"{CAMERA}/{split}/{seed[-1]:02d}.mp4", num_frames, seed)
    lane_of = {id(actor): change.lane for change in changes for actor in change.actors}
    plan.actors = [actor for change in changes for actor in change.actors]
    for lane, actor in _traffic(rng, num_frames):
        lane_of[id(actor)] = lane
        plan.actors.append(actor)
    plan.actors = [a for a in plan.actors if a.first < num_frames and a.first + len(a.track) > 0]
    plan.actors.sort(key=lambda actor: actor.first)
    for track_id, actor in enumerate(plan.actors):
        actor.track_id = track_id
    plan.planted = [Planted(c.kind, c.actors[0], c.onset, c.offset, c.actors[1:]) for c in changes]
    return Film(plan, {actor.track_id: lane_of[id(actor)] for actor in plan.actors}, changes)


# Ordinary traffic -----------------------------------------------------------------------------------------------------


def _traffic(rng: Rng, num_frames: int) -> list[tuple[str, Actor]]:
    """Who comes by, each with the lane; some are on their way already when the film begins."""
    found = []
    second = -40.0
    waiting: list[int] = []
    while second < num_frames / FRAME_RATE:
        second += float(np.clip(rng.exponential(6.0), 0.8, 15.0))
        if not waiting:
            waiting = rng.permutation(len(_PASSERS_BY)).tolist()
        lane, what = _PASSERS_BY[waiting.pop()]
        found.append((lane, _passer_by(rng, lane, what, round(second * FRAME_RATE))))
    return found


def _passer_by(rng: Rng, lane: str, what: str, first: int) -> Actor:
    if what == "bird":
        return _bird(rng, lane, first)
    if what == "dog":
        line = _line(rng, lane)
        track = follow(line, _steady(rng, rng.uniform(0.8, 3.4)), FRAME_RATE, 0.9)
        coat = ((40.0, 60.0, 90.0), (60.0, 62.0, 66.0), (110.0, 150.0, 175.0))[int(rng.integers(3))]
        return Actor("dog", random_look(rng), coat, first, track)
    if what == "bike":
        track = follow(_line(rng, lane), _steady(rng, rng.uniform(2.8, 4.8)), FRAME_RATE, 4.6)
        colour = ((40.0, 40.0, 190.0), (170.0, 90.0, 30.0), (60.0, 110.0, 50.0))[int(rng.integers(3))]
        return Actor("bike", replace(random_look(rng), coat=False), colour, first, track)
    look = _look(rng, child=what == "child", runs=what == "jogger")
    mean = {"walker": rng.uniform(0.7, 1.9), "jogger": rng.uniform(2.0, 3.5), "child": rng.uniform(0.7, 3.0)}[what]
    line, speeds = _line(rng, lane), _steady(rng, mean)
    if lane == "back" and what == "walker" and rng.random() < 0.75:
        return _resting(rng, line, speeds, look, first)
    return Actor("person", look, _NO_COLOUR, first, _on_foot(line, speeds, look))


def _look(rng: Rng, child: bool = False, runs: bool = False) -> Look:
    look = random_look(rng, "case" if not child and rng.random() < 0.2 else None)
    if child:
        return replace(look, height=float(rng.uniform(1.0, 1.35)), bag="")
    return replace(look, coat=False) if runs else look


def _line(rng: Rng, lane: str) -> Track:
    """Along a lane, either way, anywhere across it."""
    return smooth_line(LANES[lane], rng.uniform(-1, 1) * LANES[lane].spread, bool(rng.random() < 0.5))


def _steady(rng: Rng, mean: float) -> Speeds:
    return ordinary_speeds(rng, mean, 90 * FRAME_RATE, FRAME_RATE)


def _on_foot(line: Track, speeds: Speeds, look: Look) -> Track:
    """Go along `line` at `speeds` m/s, backwards where they are negative, in the gait that each speed asks for."""
    track = follow(line, speeds, FRAME_RATE, 1.0)
    pace = np.abs(track[:, SPEED])
    cycles = np.array([stride(look, max(v, 0.3)) for v in pace])
    track[:, PHASE] = np.cumsum(pace / cycles) / FRAME_RATE * 2 * math.pi
    track[:, SPEED], track[:, RUN] = pace, np.clip((pace - 1.9) / 0.8, 0, 1)
    return track


def _bird(rng: Rng, lane: str, first: int) -> Actor:
    """Flies along the lane, up and down a little as it beats its wings."""
    track = follow(_line(rng, lane), _steady(rng, rng.uniform(2.4, 4.8)), FRAME_RATE, 1.0)
    t = np.arange(len(track)) / FRAME_RATE
    sway, period = rng.uniform(0.2, 0.55), rng.uniform(1.5, 2.4)
    track[:, Z] = rng.uniform(0.8, 1.8) + sway * np.sin(2 * math.pi * (t / period + rng.random()))
    track[:, PHASE] = 2 * math.pi * 3.1 * t
    grey = float(rng.uniform(60, 150))
    return Actor("bird", random_look(rng), (grey * 1.05, grey, grey * 0.97), first, track)


def _ease(share: Any) -> Any:
    """0..1 to 0..1, slow at both ends."""
    return 0.5 - 0.5 * np.cos(math.pi * np.clip(share, 0, 1))


def _frames(seconds: float) -> int:
    return round(seconds * FRAME_RATE)


def _standing(speeds: Speeds, at: int, ramp: int, stands: int, ramp_on: int) -> Speeds:
    """The speeds with a halt: down over `ramp` frames from frame `at`, `stands` frames at 0, up over `ramp_on`."""
    down = speeds[at] * (1 - _ease((np.arange(ramp) + 1) / ramp))
    up = speeds[at] * _ease((np.arange(ramp_on) + 1) / ramp_on)
    return np.concatenate([speeds[:at], down, np.zeros(stands), up, speeds[at:]])


def _resting(rng: Rng, line: Track, speeds: Speeds, look: Look, first: int) -> Actor:
    """Slow down, stand, stoop or lie down for a while, and walk on."""
    walk = _on_foot(line, speeds, look)
    at = int(np.argmin(np.abs(walk[:, X] - rng.uniform(-9, 9))))
    how = str(rng.choice(("stands", "stoops", "lies"), p=(0.35, 0.15, 0.5)))
    slow, pause, change = _frames(1.2), _frames(0.8), _frames(rng.uniform(2.2, 3.2))
    stays = _frames(rng.uniform(1.5, 6.0))
    stands = {"stands": stays, "stoops": pause + 2 * _frames(0.7) + stays // 3, "lies": 2 * (pause + change) + stays}
    track = _on_foot(line, _standing(speeds, at, slow, stands[how], slow), look)
    start = at + slow + (0 if how == "stands" else pause)
    if how == "stoops":
        bends, turn = stands[how] - pause, _frames(0.7)
        share = _ease(np.minimum(np.arange(bends) + 1, bends - np.arange(bends)) / turn)
        track[start : start + bends, BEND] = 0.8 * share[: len(track[start : start + bends])]
    if how == "lies":
        lies = 2 * change + stays
        share = _ease(np.minimum(np.arange(lies) + 1, lies - np.arange(lies)) / change)
        track[start : start + lies, LIE] = share[: len(track[start : start + lies])]
    return Actor("person", look, _NO_COLOUR, first, track)


# Changes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Act:
    """A change before it has a place in time: actors on one clock of their own, and the rows of it that matter."""

    lane: str
    actors: tuple[Actor, ...]
    onset: int
    over: int


def _changes(rng: Rng, kinds: list[str]) -> tuple[list[Change], int]:
    """One after the other with ordinary footage between; and how many frames that takes."""
    changes: list[Change] = []
    at = _frames(rng.uniform(*_APART_SECONDS))
    for kind in kinds:
        act = _ACTS[kind](rng)
        shift = at - act.onset
        for actor in act.actors:
            actor.first += shift
        offset = at + _frames(CHANGE_SECONDS)
        over = max(offset, act.over + shift) + _frames(_SETTLE_SECONDS)
        changes.append(Change(kind, act.lane, act.actors, at, offset, over))
        at = over + _frames(rng.uniform(*_APART_SECONDS))
    return changes, at


def _walker(rng: Rng, lane: str, slowest: float, fastest: float) -> tuple[Look, Track, Speeds]:
    look = replace(_look(rng), coat=False)
    return look, _line(rng, lane), _steady(rng, rng.uniform(slowest, fastest))


def _reaches(line: Track, speeds: Speeds, along: float) -> int:
    """The frame at which a walk is `along` metres past the middle of the picture."""
    x = follow(line, speeds, FRAME_RATE, 1.0)[:, X]
    return int(np.argmin(np.abs((x - along) if line[-1, 0] > line[0, 0] else (x + along))))


def _fall(rng: Rng) -> _Act:
    look, line, speeds = _walker(rng, "back", 1.1, 1.7)
    at = _reaches(line, speeds, rng.uniform(-5, 4))
    down, flat, up, stands = _frames(0.8), _frames(rng.uniform(2.0, 4.5)), _frames(rng.uniform(2.2, 3.0)), _frames(0.6)
    track = _on_foot(line, _standing(speeds, at, down, flat + up + stands, _frames(1.2)), look)
    track[at : at + down, LIE] = ((np.arange(down) + 1) / down) ** 1.5
    track[at + down : at + down + flat, LIE] = 1.0
    track[at + down + flat : at + down + flat + up, LIE] = 1 - _ease((np.arange(up) + 1) / up)
    over = at + down + flat + up + stands + _frames(1.2)
    return _Act("back", (Actor("person", look, _NO_COLOUR, 0, track),), at, over)


def _run(rng: Rng) -> _Act:
    lane = _either(rng)
    look, line, speeds = _walker(rng, lane, 0.8, 1.5)
    at = _reaches(line, speeds, rng.uniform(-5, 0))
    faster = _steady(rng, rng.uniform(2.4, 3.0))
    speeds[at:] += (faster[at:] - speeds[at:]) * _ease((np.arange(len(speeds) - at) + 1) / _frames(0.4))
    return _Act(lane, (Actor("person", look, _NO_COLOUR, 0, _on_foot(line, speeds, look)),), at, at)


def _reversal(rng: Rng) -> _Act:
    lane = _either(rng)
    look, line, speeds = _walker(rng, lane, 1.0, 1.8)
    at = _reaches(line, speeds, rng.uniform(-4, 4))
    turn = _frames(0.6)
    share = _ease((np.arange(len(speeds) - at) + 1) / turn)
    speeds[at:] *= 1 - 2 * share
    track = _on_foot(line, speeds, look)
    turns = len(track) - at
    track[at:, HEADING] += math.pi * float(rng.choice((-1, 1))) * share[:turns]
    return _Act(lane, (Actor("person", look, _NO_COLOUR, 0, track),), at, at)


def _stop(rng: Rng) -> _Act:
    look, line, speeds = _walker(rng, "front", 1.0, 1.9)
    at = _reaches(line, speeds, rng.uniform(-4, 4))
    halt, stands, start = _frames(0.3), _frames(rng.uniform(1.2, 2.5)), _frames(0.8)
    track = _on_foot(line, _standing(speeds, at, halt, stands, start), look)
    return _Act("front", (Actor("person", look, _NO_COLOUR, 0, track),), at, at + halt + stands + start)


def _throw(rng: Rng) -> _Act:
    """Two come towards each other; one throws, the other catches, and both walk on."""
    lane = _either(rng)
    backwards, offset = bool(rng.random() < 0.5), rng.uniform(-0.35, 0.35)
    case = random_look(rng).bag_colour
    looks = [replace(random_look(rng, "case"), coat=False, bag_colour=case) for _ in range(2)]
    lines = [smooth_line(LANES[lane], offset - 0.3, backwards), smooth_line(LANES[lane], -offset - 0.3, not backwards)]
    speeds = [_steady(rng, rng.uniform(0.8, 1.3)) for _ in range(2)]
    flies, apart, along = FRAME_RATE, rng.uniform(3.4, 3.8), rng.uniform(-3.5, 1.0)
    released, meets = _reaches(lines[0], speeds[0], along), _reaches(lines[1], speeds[1], -along - apart)
    tracks = [_on_foot(line, speed, look) for line, speed, look in zip(lines, speeds, looks, strict=True)]
    caught = meets + flies
    stretch, lower = _frames(0.2), _frames(0.5)
    for track, at in zip(tracks, (released, caught), strict=True):
        rows = np.arange(len(track)) - at
        track[:, REACH] = np.where(rows < 0, _ease(1 + (rows + 1) / stretch), 1 - _ease(rows / lower))
    tracks[0][released:, CARRIES] = 0.0
    tracks[1][: caught + 1, CARRIES] = 0.0
    ends = [_held_out(track[at]) for track, at in ((tracks[0], released), (tracks[1], caught))]
    share = np.arange(flies + 1) / flies
    flight = np.repeat(tracks[0][released : released + 1], len(share), axis=0)
    flight[:, [X, Y, Z]] = ends[0] + share[:, None] * (ends[1] - ends[0])
    flight[:, Z] += 4.905 * share * (1 - share) * (flies / FRAME_RATE) ** 2
    flight[:, HEADING] += 2.0 * share * flies / FRAME_RATE
    thrower = Actor("person", looks[0], _NO_COLOUR, 0, tracks[0])
    catcher = Actor("person", looks[1], _NO_COLOUR, released - meets, tracks[1])
    thing = Actor("case", looks[0], case, released, flight)
    return _Act(lane, (thing, thrower, catcher), released - stretch, released + flies + lower)


def _held_out(row: Track) -> Track:
    """Where a case is, (3,) metres, that somebody holds with stretched arms."""
    forward, left, up = 0.55, -0.2, 0.75
    cos, sin = math.cos(row[HEADING]), math.sin(row[HEADING])
    return np.array([row[X] + forward * cos - left * sin, row[Y] + forward * sin + left * cos, up])


def _either(rng: Rng) -> str:
    return ("front", "back")[int(rng.integers(2))]


_ACTS: dict[str, Callable[[Rng], _Act]] = {
    "fall": _fall,
    "run": _run,
    "reversal": _reversal,
    "throw": _throw,
    "stop": _stop,
}
