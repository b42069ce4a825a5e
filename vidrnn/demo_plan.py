"""What happens in the demo footage, frame by frame, before anything is drawn: who walks where, and what is planted.

Ordinary: people on the lanes at ordinary speeds, alone or in pairs, some pausing at a usual place, now and then nobody.
Planted, in test footage alone: one of each kind a camera, with ordinary footage between them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from vidrnn.demo_scene import PLACES
from vidrnn.easel import HEIGHT, MARGIN, WIDTH, Lane, Place
from vidrnn.figures import Colour, Look, random_look
from vidrnn.params import DemoParams

Track = NDArray[np.float64]

KINDS = ("running", "wrong_way", "fall", "cycling", "loitering", "reversal", "cart", "object_left", "camera_knocked")
FILE_SECONDS = 70
APART_SECONDS = 4.5  # of ordinary footage before, between and after planted events, at least
KNOCK_SECONDS = 3.0
# The columns of a track: metres, metres, radians, radians, m/s, shares in 0..1, and metres above the ground.
X, Y, HEADING, PHASE, SPEED, RUN, LIE, BEND, CARRIES, REACH, Z = COLUMNS = range(11)


@dataclass
class Actor:
    """Somebody or something that moves.

    Attributes:
        shape: "person", "bike", "cart", "case", "dog" or "bird".
        look: of the person.
        colour: of what is no person.
        first: the frame of the first row of `track`; may be negative.
        track: (T, 11) float64, a row a frame; see the column names above.
        track_id: unique in a video.
    """

    shape: str
    look: Look
    colour: Colour
    first: int
    track: Track
    track_id: int = -1


@dataclass(frozen=True)
class Planted:
    """An unusual thing: the frames [first, end) in which it counts where `actor` is seen; None is the whole picture.

    It also counts where one of `others` is seen, who take part in it.
    """

    kind: str
    actor: Actor | None
    first: int
    end: int
    others: tuple[Actor, ...] = ()


@dataclass
class Plan:
    """One file.

    Attributes:
        camera: its name.
        split: "train" or "test".
        video: path relative to the videos' folder, POSIX.
        num_frames: its length.
        seed: of everything random in its pictures.
        actors: all that move, in the order of their track ids.
        planted: ascending in time.
        knock: (num_frames, 3) float64, how far the picture is off: pixels x, pixels y, radians; None in most files.
    """

    camera: str
    split: str
    video: str
    num_frames: int
    seed: tuple[int, ...]
    actors: list[Actor] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)
    knock: Track | None = None


def plan_demo(params: DemoParams) -> list[Plan]:
    """Everything that `params` ask for, a plan a file, in the order of camera, split and time."""
    plans = []
    for camera_index, camera in enumerate(sorted(PLACES)):
        for split_index, (split, total) in enumerate(
            (("train", params.ordinary_seconds), ("test", params.test_seconds))
        ):
            count = max(3 if split == "test" else 1, round(total / FILE_SECONDS))
            start = datetime(2026, 3, 2 + split_index, 8 + camera_index, 0, 0)
            done = 0
            for i in range(count):
                end = round(total * params.frame_rate * (i + 1) / count)
                stamp = start + timedelta(seconds=math.ceil(done / params.frame_rate) + 20 * i)
                video = f"{camera}/{split}/{stamp:%Y-%m-%dT%H-%M-%S}.mp4"
                kinds = _kinds_of_file(i, camera_index) if split == "test" else ()
                seed = (params.seed, camera_index, split_index, i)
                plans.append(plan_file(camera, split, video, end - done, seed, kinds, params.frame_rate))
                done = end
    return plans


def _kinds_of_file(i: int, camera_index: int) -> tuple[str, ...]:
    groups: list[tuple[str, ...]] = [KINDS[0:3], KINDS[3:6], KINDS[6:9]]
    if camera_index % 2:
        groups = [
            ("cart", "loitering", "running"),
            ("fall", "object_left", "camera_knocked"),
            ("wrong_way", "cycling", "reversal"),
        ]
    return groups[i % 3]


def plan_file(
    camera: str, split: str, video: str, num_frames: int, seed: tuple[int, ...], kinds: tuple[str, ...], frame_rate: int
) -> Plan:
    """Plan one file.

    Args:
        camera: a key of `PLACES`.
        split: "train" or "test".
        video: its relative path.
        num_frames: its length.
        seed: of everything random in it.
        kinds: what is planted, in this order; "camera_knocked" comes last.
        frame_rate: frames/s.
    """
    rng = np.random.default_rng(seed)
    plan = Plan(camera, split, video, num_frames, seed)
    place = PLACES[camera]
    _add_traffic(plan, place, rng, frame_rate)
    if kinds:
        _plant(plan, place, rng, kinds, frame_rate)
    plan.actors = [a for a in plan.actors if a.first < num_frames and a.first + len(a.track) > 0]
    plan.actors.sort(key=lambda actor: actor.first)
    for track_id, actor in enumerate(plan.actors):
        actor.track_id = track_id
    return plan


# Walking --------------------------------------------------------------------------------------------------------------


def smooth_line(lane: Lane, offset: float, backwards: bool) -> Track:
    """The lane's line, rounded and moved sideways by `offset` metres to the left of the way that is walked; (N, 2)."""
    corners = np.array(lane.points[::-1] if backwards else lane.points)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    at = np.arange(0.0, lengths[-1], 0.1)
    line = np.stack([np.interp(at, lengths, corners[:, i]) for i in (0, 1)], axis=1)
    width = 25
    padded = np.concatenate([np.repeat(line[:1], width, 0), line, np.repeat(line[-1:], width, 0)])
    kernel = np.ones(width) / width
    line = np.stack([np.convolve(padded[:, i], kernel, "same") for i in (0, 1)], axis=1)[width:-width]
    step = np.gradient(line, axis=0)
    step /= np.hypot(step[:, 0], step[:, 1])[:, None]
    return line + offset * np.stack([-step[:, 1], step[:, 0]], axis=1)


def follow(line: Track, speeds: Track, frame_rate: int, cycle: float, run: float = 0.0) -> Track:
    """Go along `line` (N, 2) at `speeds` (T,) m/s until its end; the gait repeats every `cycle` metres."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    gone = np.cumsum(speeds) / frame_rate
    past = np.flatnonzero(gone > lengths[-1])
    if len(past):
        gone, speeds = gone[: past[0]], speeds[: past[0]]
    track = np.zeros((len(gone), len(COLUMNS)))
    track[:, X], track[:, Y] = (np.interp(gone, lengths, line[:, i]) for i in (0, 1))
    step = np.gradient(line, axis=0)
    turned = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    track[:, HEADING] = np.interp(gone, lengths, turned)
    track[:, PHASE] = np.cumsum(speeds) / frame_rate / cycle * 2 * math.pi
    track[:, SPEED], track[:, RUN], track[:, CARRIES] = speeds, run, 1.0
    return track


def ordinary_speeds(rng: np.random.Generator, mean: float, frames: int, frame_rate: int) -> Track:
    """A walker's speed over time, m/s: nearly constant, with slow ups and downs of a few per cent."""
    t = np.arange(frames) / frame_rate
    speeds = np.full(frames, mean)
    for _ in range(3):
        speeds += mean * rng.uniform(0.01, 0.035) * np.sin(2 * math.pi * (t / rng.uniform(4, 11) + rng.random()))
    return speeds


def with_pause(speeds: Track, at: int, frames: int, frame_rate: int) -> Track:
    """The same speeds with a stop of `frames` after frame `at`, slowing down before and speeding up after it."""
    ramp = min(round(0.45 * frame_rate), at)
    before, after = speeds[:at].copy(), speeds[at:].copy()
    before[at - ramp :] *= np.linspace(1, 0, ramp)
    after[:ramp] *= np.linspace(0, 1, len(after[:ramp]))
    return np.concatenate([before, np.zeros(frames), after])


def stride(look: Look, speed: float) -> float:
    """Metres in which somebody who goes at `speed` m/s takes two steps."""
    return 1.42 * (look.height / 1.75) * math.pow(speed / 1.35, 0.42)


def is_seen(place: Place, track: Track, height: float = 1.7, reach: float = 0.3) -> NDArray[np.bool_]:
    """Whether something `height` metres high, `reach` to each side, is in the picture and not behind the wall; (T,)."""
    foot = track[:, [X, Y, Z]]
    low, high = place.view.project(foot), place.view.project(foot + np.array((0, 0, height)))
    half = reach * low[:, 2]
    inside = (low[:, 0] + half > MARGIN) & (low[:, 0] - half < MARGIN + WIDTH)
    inside &= (high[:, 1] < MARGIN + HEIGHT) & (low[:, 1] > MARGIN) & (track[:, Y] > 2.0)
    through = np.zeros(len(track), bool)
    at_wall = track[:, X] * place.wall / np.maximum(track[:, Y], 0.1)
    for x0, x1 in place.openings:
        through |= (at_wall > x0 - reach) & (at_wall < x1 + reach)
    seen: NDArray[np.bool_] = inside & (through | (track[:, Y] < place.wall))
    return seen


# Ordinary traffic -----------------------------------------------------------------------------------------------------


def _add_traffic(plan: Plan, place: Place, rng: np.random.Generator, frame_rate: int) -> None:
    names = sorted(place.lanes)
    weights = np.array([place.lanes[name].weight for name in names])
    seconds, end = -32.0, plan.num_frames / frame_rate
    while seconds < end:
        seconds += float(np.clip(rng.exponential(5.8), 0.8, 16.0))
        if rng.random() < 0.1:
            seconds += rng.uniform(5.0, 9.0)
        lane = place.lanes[str(rng.choice(names, p=weights / weights.sum()))]
        backwards = not lane.one_way and bool(rng.random() < 0.5)
        mean = float(np.clip(rng.normal(1.32, 0.17), 0.9, 1.7))
        side = rng.uniform(-1.0, -0.15) * lane.spread if not lane.one_way else rng.uniform(-1, 1) * lane.spread
        company = 2 if lane.spread > 0.8 and rng.random() < 0.22 else 1
        pauses = lane.pauses and company == 1 and rng.random() < 0.3
        speeds = ordinary_speeds(rng, mean, 70 * frame_rate, frame_rate)
        for i in range(company):
            look = random_look(rng)
            line = smooth_line(lane, side - 0.62 * i + 0.3 * (company - 1), backwards)
            track = follow(line, speeds, frame_rate, stride(look, mean) * (1 + 0.02 * i))
            if pauses:
                track = _pausing(rng, lane, line, speeds, frame_rate, stride(look, mean))
            plan.actors.append(Actor("person", look, (0, 0, 0), round(seconds * frame_rate) + 2 * i, track))


def _pausing(rng: np.random.Generator, lane: Lane, line: Track, speeds: Track, frame_rate: int, cycle: float) -> Track:
    """Walk with a short stop at a usual place of the lane, turned to what is looked at."""
    x, y, heading = lane.pauses[int(rng.integers(len(lane.pauses)))]
    track = follow(line, speeds, frame_rate, cycle)
    at = int(np.argmin(np.hypot(track[:, X] - x - rng.normal(0, 0.3), track[:, Y] - y)))
    frames = round(rng.uniform(1.0, 2.2) * frame_rate)
    track = follow(line, with_pause(speeds, at, frames, frame_rate), frame_rate, cycle)
    margin = round(0.2 * frame_rate)
    return _turned(track, at - margin, at + frames + margin, heading, frame_rate)


def _turned(track: Track, first: int, end: int, heading: float, frame_rate: int) -> Track:
    """The heading eased towards `heading` over the frames [first, end)."""
    share = np.zeros(len(track))
    share[max(first, 0) : end] = 1.0
    width = max(3, round(0.4 * frame_rate))
    share = np.convolve(np.pad(share, width, "edge"), np.ones(width) / width, "same")[width:-width]
    turn = (heading - track[:, HEADING] + math.pi) % (2 * math.pi) - math.pi
    track[:, HEADING] += share * turn
    return track


# What is planted ------------------------------------------------------------------------------------------------------

# An event as it would run from frame 0: its actors, which of them is unusual, and in which rows of that one's track.
_Act = tuple[list[Actor], Actor, int, int]


def _plant(plan: Plan, place: Place, rng: np.random.Generator, kinds: tuple[str, ...], frame_rate: int) -> None:
    acts = [(kind, _ACTS[kind](place, rng, frame_rate)) for kind in kinds if kind != "camera_knocked"]
    lengths = []
    for _, (_, actor, first, end) in acts:
        seen = _seen_span(place, actor, first, end)
        lengths.append(seen[1] - seen[0])
    knock = round(KNOCK_SECONDS * frame_rate) if "camera_knocked" in kinds else 0
    apart = round(APART_SECONDS * frame_rate)
    slack = plan.num_frames - knock - sum(lengths) - apart * (len(acts) + 1)
    if slack < 0:
        raise ValueError(f"{plan.video}: {kinds} do not fit into {plan.num_frames} frames, {-slack} are missing")
    gaps = np.floor(slack * rng.dirichlet(np.full(len(acts) + 1, 3.0))).astype(int)
    at = 0
    for (kind, (actors, actor, first, end)), length, gap in zip(acts, lengths, gaps, strict=False):
        at += apart + int(gap)
        shift = at - (actor.first + _seen_span(place, actor, first, end)[0])
        for one in actors:
            one.first += shift
        plan.actors += actors
        plan.planted.append(Planted(kind, actor, actor.first + first, min(plan.num_frames, actor.first + end)))
        at += length
    if knock:
        plan.knock = _knock(rng, plan.num_frames, knock, frame_rate)
        plan.planted.append(Planted("camera_knocked", None, plan.num_frames - knock, plan.num_frames))


def _seen_span(place: Place, actor: Actor, first: int, end: int) -> tuple[int, int]:
    """The first seen row in [first, end) of an actor's track, and one after the last."""
    rows = np.flatnonzero(is_seen(place, actor.track[first:end], 1.0))
    if not len(rows):
        raise ValueError(f"{place.name}: a planted {actor.shape} is never seen")
    return first + int(rows[0]), first + int(rows[-1]) + 1


def _two_way(place: Place, rng: np.random.Generator) -> Lane:
    lanes = [lane for _, lane in sorted(place.lanes.items()) if not lane.one_way and lane.spread > 0.8]
    return lanes[int(rng.integers(len(lanes)))]


def _straight(place: Place, rng: np.random.Generator, frame_rate: int, mean: float, cycle: float, run: float) -> Track:
    lane = _two_way(place, rng)
    line = smooth_line(lane, rng.uniform(-0.6, 0.1) * lane.spread, bool(rng.random() < 0.5))
    return follow(line, ordinary_speeds(rng, mean, 60 * frame_rate, frame_rate), frame_rate, cycle, run)


def _running(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    track = _straight(place, rng, frame_rate, rng.uniform(3.9, 4.8), 2.7, 1.0)
    actor = Actor("person", replace(random_look(rng, ""), coat=False), (0, 0, 0), 0, track)
    return [actor], actor, 0, len(track)


def _cycling(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    track = _straight(place, rng, frame_rate, rng.uniform(4.2, 5.4), 4.6, 0.0)
    colour: Colour = ((40.0, 40.0, 190.0), (170.0, 90.0, 30.0))[int(rng.integers(2))]
    actor = Actor("bike", replace(random_look(rng), coat=False), colour, 0, track)
    return [actor], actor, 0, len(track)


def _cart(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    lane = _two_way(place, rng)
    line = smooth_line(lane, 0.0, bool(rng.random() < 0.5))
    track = follow(line, ordinary_speeds(rng, rng.uniform(2.3, 2.9), 60 * frame_rate, frame_rate), frame_rate, 1.7)
    actor = Actor("cart", random_look(rng, ""), (95.0, 130.0, 60.0), 0, track)
    return [actor], actor, 0, len(track)


def _wrong_way(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    lane = next(lane for _, lane in sorted(place.lanes.items()) if lane.one_way)
    look = random_look(rng)
    line = smooth_line(lane, 0.1, True)
    track = follow(line, ordinary_speeds(rng, 1.45, 60 * frame_rate, frame_rate), frame_rate, stride(look, 1.45))
    actor = Actor("person", look, (0, 0, 0), 0, track)
    return [actor], actor, 0, len(track)


def _walk_in(place: Place, rng: np.random.Generator, frame_rate: int, look: Look, x: float) -> tuple[Track, int]:
    """A walk along the first broad lane, and the row at which it is nearest to the middle x of the picture plus `x`."""
    lane = place.lanes[place.leave]
    line = smooth_line(lane, -0.5 * lane.spread, False)
    mean = rng.uniform(1.2, 1.4)
    track = follow(line, ordinary_speeds(rng, mean, 60 * frame_rate, frame_rate), frame_rate, stride(look, mean))
    depth = track[:, Y] if abs(line[-1, 1] - line[0, 1]) > 15 else track[:, X]
    middle = 15.0 if abs(line[-1, 1] - line[0, 1]) > 15 else 0.0
    return track, int(np.argmin(np.abs(depth - middle - x)))


def _held(track: Track, at: int, frames: int) -> Track:
    """The track with its row `at` held for `frames` more."""
    stand = np.repeat(track[at : at + 1], frames, axis=0)
    stand[:, SPEED] = 0
    return np.concatenate([track[:at], stand, track[at:]])


def _ease_speed(track: Track, at: int, frame_rate: int, before: bool) -> None:
    """Let the stride die down before row `at`, or grow after it."""
    n = round(0.35 * frame_rate)
    rows = slice(max(0, at - n), at) if before else slice(at, at + n)
    ramp = np.linspace(1, 0, n) if before else np.linspace(0, 1, n)
    track[rows, SPEED] *= ramp[-len(track[rows]) :] if before else ramp[: len(track[rows])]


def _fall(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    look = replace(random_look(rng, ""), coat=False)
    track, at = _walk_in(place, rng, frame_rate, look, rng.uniform(-2.5, 0.5))
    down, flat, up = round(0.65 * frame_rate), round(rng.uniform(3.2, 4.4) * frame_rate), round(2.2 * frame_rate)
    rest = round(0.6 * frame_rate)
    track = _held(track, at, down + flat + up + rest)
    falling = np.linspace(0, 1, down) ** 1.6
    rising = 0.5 + 0.5 * np.cos(np.linspace(0, math.pi, up))
    track[at : at + down, LIE] = falling
    forward = track[at, HEADING]
    slide = 0.9 * np.concatenate([np.linspace(0, 1, down), np.ones(len(track) - at - down)])
    track[at:, X] += slide * math.cos(forward)
    track[at:, Y] += slide * math.sin(forward)
    track[at + down : at + down + flat, LIE] = 1.0
    track[at + down + flat : at + down + flat + up, LIE] = rising
    across = forward + float(rng.choice([-1.0, 1.0])) * 1.1
    track = _turned(track, at + down // 2, at + down + flat + up // 2, across, frame_rate)
    track[at : at + down, SPEED] = 0.5 * (1 - falling)
    end = at + down + flat + up + rest
    _ease_speed(track, end, frame_rate, before=False)
    actor = Actor("person", look, (0, 0, 0), 0, track)
    return [actor], actor, at, end


def _reversal(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    look = random_look(rng)
    track, at = _walk_in(place, rng, frame_rate, look, rng.uniform(-1.0, 1.5))
    mean = float(track[:at, SPEED].mean())
    stop = round(0.35 * frame_rate)
    xy = track[: at + 1, [X, Y]][::-1]
    line = xy + 1e-9 * np.arange(len(xy))[:, None]
    speeds = ordinary_speeds(rng, 1.55 * mean, 60 * frame_rate, frame_rate)
    speeds[: frame_rate // 3] *= np.linspace(0.2, 1, frame_rate // 3)
    back = follow(line, speeds, frame_rate, stride(look, 1.5 * mean))
    back[:, PHASE] += track[at, PHASE]
    whole = np.concatenate([_held(track[: at + 1], at, stop), back])
    turned = at + stop + 1
    whole[turned:, HEADING] = whole[at, HEADING] + math.pi
    width = max(3, round(0.35 * frame_rate))
    ease = np.linspace(0, math.pi, width)
    whole[turned - width // 2 : turned - width // 2 + width, HEADING] = whole[at, HEADING] + ease
    whole[turned + width :, HEADING] = np.unwrap(back[width:, HEADING])
    actor = Actor("person", look, (0, 0, 0), 0, whole)
    return [actor], actor, at - 2, min(len(whole), turned + round(3.0 * frame_rate))


def _loitering(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    look = random_look(rng)
    lane = min(
        (lane for _, lane in sorted(place.lanes.items()) if lane.spread > 0.8 and not lane.one_way),
        key=lambda lane: float(np.min(np.hypot(*(smooth_line(lane, 0, False) - place.loiter).T))),
    )
    line = smooth_line(lane, -0.3, False)
    near = int(np.argmin(np.hypot(*(line - place.loiter).T)))
    leaves, returns = max(0, near - 30), min(len(line) - 1, near + 30)
    x, y = place.loiter
    spots = [(x, y), (x + 1.0, y + 0.2), (x - 0.7, y - 0.15), (x + 0.4, y + 0.1)]
    legs = [line[: leaves + 1], np.array(spots), line[returns:]]
    corners = np.concatenate(legs)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    even = np.arange(0, lengths[-1], 0.1)
    whole = np.stack([np.interp(even, lengths, corners[:, i]) for i in (0, 1)], axis=1)
    kernel = np.ones(5) / 5
    padded = np.concatenate([np.repeat(whole[:1], 5, 0), whole, np.repeat(whole[-1:], 5, 0)])
    whole = np.stack([np.convolve(padded[:, i], kernel, "same") for i in (0, 1)], axis=1)[5:-5]
    speeds = ordinary_speeds(rng, 1.25, 70 * frame_rate, frame_rate)
    stops = [float(lengths[leaves + 1 + i]) for i in range(len(spots))]
    for stop in stops:
        at = int(np.searchsorted(np.cumsum(speeds) / frame_rate, stop))
        speeds = with_pause(speeds, at, round(rng.uniform(1.6, 2.4) * frame_rate), frame_rate)
    track = follow(whole, speeds, frame_rate, stride(look, 1.25))
    wide = max(3, round(0.5 * frame_rate))
    smooth = np.convolve(np.pad(np.unwrap(track[:, HEADING]), wide, "edge"), np.ones(wide) / wide, "same")
    track[:, HEADING] = smooth[wide:-wide]
    gone = np.cumsum(speeds[: len(track)]) / frame_rate
    first, end = np.searchsorted(gone, [lengths[leaves] + 1.0, lengths[leaves + len(spots) + 1] - 1.0])
    actor = Actor("person", look, (0, 0, 0), 0, track)
    return [actor], actor, int(first), int(end)


def _object_left(place: Place, rng: np.random.Generator, frame_rate: int) -> _Act:
    look = random_look(rng, "case")
    track, at = _walk_in(place, rng, frame_rate, look, rng.uniform(-1.5, 1.0))
    stoop, stands = round(1.3 * frame_rate), round(10.5 * frame_rate)
    bend = 0.5 * (1 - np.cos(np.linspace(0, 2 * math.pi, stoop)))
    down = at + stoop // 2
    owner = _held(track, at, stoop)
    owner[at : at + stoop, BEND] = 0.75 * bend
    owner[down:, CARRIES] = 0.0
    _ease_speed(owner, at, frame_rate, before=True)
    _ease_speed(owner, at + stoop, frame_rate, before=False)
    heading = float(track[at, HEADING])
    sin, cos = math.sin(heading), math.cos(heading)
    spot = track[at, [X, Y]] + 0.2 * np.array([cos + sin, sin - cos])
    case = np.zeros((stands, len(COLUMNS)))
    case[:, X], case[:, Y], case[:, HEADING] = spot[0], spot[1], heading + 0.8
    # A friend walks the same way later, takes it and carries it off.
    friend_look = replace(random_look(rng, "case"), bag_colour=look.bag_colour)
    friend = _held(track, at, stoop)
    friend[at : at + stoop, BEND] = 0.75 * bend
    friend[:down, CARRIES] = 0.0
    _ease_speed(friend, at, frame_rate, before=True)
    _ease_speed(friend, at + stoop, frame_rate, before=False)
    first = Actor("person", look, (0, 0, 0), 0, owner)
    left = Actor("case", look, look.bag_colour, down, case)
    second = Actor("person", friend_look, (0, 0, 0), stands, friend)
    return [first, left, second], left, 0, stands


_ACTS: dict[str, Callable[[Place, np.random.Generator, int], _Act]] = {
    "running": _running,
    "wrong_way": _wrong_way,
    "fall": _fall,
    "cycling": _cycling,
    "loitering": _loitering,
    "reversal": _reversal,
    "cart": _cart,
    "object_left": _object_left,
}


def _knock(rng: np.random.Generator, num_frames: int, frames: int, frame_rate: int) -> Track:
    """The camera is hit: a jolt, a shake that dies away, and a picture that ends a few per cent off."""
    t = np.arange(frames) / frame_rate
    settle = 1 - np.exp(-t / 0.12)
    shake = np.exp(-t / 0.5)
    signs = rng.choice([-1.0, 1.0], 3)
    knock = np.zeros((num_frames, 3))
    tail = knock[num_frames - frames :]
    tail[:, 0] = signs[0] * (20.0 * settle + 9.0 * shake * np.sin(2 * math.pi * 4.3 * t))
    tail[:, 1] = signs[1] * (11.0 * settle + 10.0 * shake * np.sin(2 * math.pi * 5.1 * t + 0.5))
    tail[:, 2] = signs[2] * (0.012 * settle + 0.02 * shake * np.sin(2 * math.pi * 3.7 * t))
    return knock
