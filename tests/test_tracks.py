"""Objects keep their identity: across gaps and crossings, in pieces, and as many as there may be."""

import numpy as np
import pytest

from vidrnn.sizes import Moving
from vidrnn.tracks import BRIDGED_SECONDS, LINKED_SECONDS, follow, is_object, objectness

SECONDS = 0.1  # between frames


def moving(*boxes, velocities=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Moving(boxes, np.zeros((len(boxes), 2)) if velocities is None else np.array(velocities, float))


def walk(count, start, step, size=(10, 20)):
    """Boxes of one thing that goes by `step` pixels a frame."""
    low = np.array(start) + np.arange(count)[:, None] * np.array(step)
    return np.concatenate([low, low + size], 1)


def frames_of(*walks, hidden=()):
    """What moves in each frame, with its true velocity; `hidden` are (walk, frame)."""
    frames = []
    for row in range(max(map(len, walks))):
        shown = [k for k, boxes in enumerate(walks) if row < len(boxes) and (k, row) not in hidden]
        steps = [(walks[k][1] - walks[k][0])[:2] / SECONDS for k in shown]
        frames.append(moving(*(walks[k][row] for k in shown), velocities=np.reshape(steps, (-1, 2))))
    return frames


def tracks_of(frames):
    times = np.arange(len(frames)) * SECONDS
    return [track for track in follow(times, frames) if is_object(track, times)]


def test_one_thing_is_one_track():
    boxes = walk(20, (5, 30), (6, -1))
    (track,) = tracks_of(frames_of(boxes))
    assert np.array_equal(track.rows, np.arange(20)) and track.seen.all()
    assert np.allclose(track.boxes, boxes)
    assert 0.7 < objectness(track).min() < 1


@pytest.mark.parametrize("gap", [1, 5, 9])
def test_a_short_occlusion_is_bridged(gap):
    boxes = walk(40, (5, 30), (6, -1))
    hidden = {(0, row) for row in range(15, 15 + gap)}
    (track,) = tracks_of(frames_of(boxes, hidden=hidden))
    assert np.array_equal(track.rows, np.arange(40)) and np.allclose(track.boxes, boxes)
    assert np.array_equal(np.flatnonzero(~track.seen), sorted(row for _, row in hidden))
    assert np.array_equal(objectness(track) == 0, ~track.seen)


def test_who_comes_out_where_they_would_be_by_now_is_the_same():
    """Hidden for longer than they are expected; somebody else who begins elsewhere meanwhile is another."""
    boxes, other = walk(60, (5, 60), (4, -1)), walk(60, (150, 10), (-1, 2))
    gap = round(BRIDGED_SECONDS / SECONDS) + 5
    hidden = {(0, row) for row in range(20, 20 + gap)} | {(1, row) for row in range(25)}
    first, second = tracks_of(frames_of(boxes, other, hidden=hidden))
    assert np.array_equal(first.rows, np.arange(60)) and np.allclose(first.boxes, boxes)
    assert np.array_equal(np.flatnonzero(~first.seen), np.arange(20, 20 + gap))
    assert np.array_equal(second.rows, np.arange(25, 60)) and second.seen.all()


def test_who_is_seen_as_much_as_hidden_is_there_all_the_same():
    """Each part is an object by itself, and no less so because they are one."""
    boxes = walk(60, (5, 60), (4, -1))
    (track,) = tracks_of(frames_of(boxes, hidden={(0, row) for row in range(15, 44)}))
    assert np.array_equal(track.rows, np.arange(60)) and track.seen.sum() == 31


def test_a_large_region_that_covers_something_takes_nothing_else_along():
    boxes = walk(20, (100, 100), (0, 0), (20, 40))
    frames = frames_of(boxes)
    frames[10:] = [moving((0, 0, 400, 400), (900, 900, 920, 940))] * 10
    for track in follow(np.arange(20) * SECONDS, frames):
        assert track.boxes[:, 2:].max() <= 400 or track.boxes[:, :2].min() >= 900


def test_a_long_absence_is_two_tracks():
    boxes = walk(80, (5, 90), (4, -1))
    gap = round(LINKED_SECONDS / SECONDS) + 2
    first, second = tracks_of(frames_of(boxes, hidden={(0, row) for row in range(20, 20 + gap)}))
    assert first.rows[-1] == 19 and second.rows[0] == 20 + gap and first.seen.all() and second.seen.all()


def test_those_who_walk_in_step_stay_two_while_they_share_a_region():
    """They have been seen apart and whole; a velocity of their own they have not."""
    left, right = walk(50, (5, 30), (3, 0)), walk(50, (18, 32), (3, 0))
    frames = frames_of(left, right)
    for row in range(20, 40):
        frames[row] = moving([*left[row, :2], *right[row, 2:]], velocities=[(30, 0)])
    tracks = tracks_of(frames)
    assert len(tracks) == 2
    for track, boxes in zip(tracks, (left, right), strict=True):
        assert np.array_equal(track.rows, np.arange(50)) and np.abs(track.boxes - boxes).max() < 3


@pytest.mark.parametrize("slope", [-1, 0, 2])
def test_those_that_cross_keep_apart(slope):
    """They become one region where they overlap, and two again."""
    left, right = walk(30, (0, 40), (2, 0)), walk(30, (60, 40 + 5 * slope), (-2, -slope / 3), (12, 22))
    frames = []
    for row, apart in enumerate(frames_of(left, right)):
        a, b = left[row], right[row]
        touch = (np.minimum(a[2:], b[2:]) >= np.maximum(a[:2], b[:2])).all()
        both = [*np.minimum(a[:2], b[:2]), *np.maximum(a[2:], b[2:])]
        frames.append(moving(both, velocities=[(0, 0)]) if touch else apart)
    assert 3 < sum(len(frame.boxes) == 1 for frame in frames) < 8
    tracks = tracks_of(frames)
    assert len(tracks) == 2 and all(len(track.rows) == 30 for track in tracks)
    for track, boxes in zip(sorted(tracks, key=lambda t: t.boxes[0, 0]), (left, right), strict=True):
        away = np.abs(track.boxes - boxes).max(1)
        assert away[-1] < 1e-4 and away.max() < 8


def test_pieces_are_one_object():
    boxes = walk(30, (5, 30), (3, 0), (10, 30))
    frames = []
    for row, (x0, y0, x1, y1) in enumerate(boxes):
        parts = [(x0, y0, x1, y1)] if row < 5 or row % 3 else [(x0, y0, x1, y1 - 9), (x0 + 2, y1 - 7, x1 - 2, y1)]
        frames.append(moving(*parts, velocities=[(30, 0)] * len(parts)))
    (track,) = tracks_of(frames)
    assert np.allclose(track.boxes, boxes)


def test_what_stays_where_it_is_counts_if_it_is_always_there():
    bag = walk(40, (50, 60), (0, 0))
    frames = frames_of(bag)
    (track,) = tracks_of(frames)
    assert track.seen.all() and len(track.rows) == 40
    leaves = [frame if row % 4 == 0 else moving() for row, frame in enumerate(frames)]  # that the wind moves
    assert tracks_of(leaves) == []


@pytest.mark.parametrize("count", [25, 60])
def test_those_that_go_together_are_one(count):
    """Two pieces become one region and go on as one; where its size is known, they are it from the start."""
    upper, lower = walk(count, (5, 30), (3, 0), (10, 14)), walk(count, (5, 48), (3, 0), (10, 14))
    frames = frames_of(upper, lower)
    for row in range(12, count):
        frames[row] = moving([*upper[row, :2], *lower[row, 2:]], velocities=[(30, 0)])
    tracks = tracks_of(frames)
    assert sorted(int(track.rows[-1]) for track in tracks) == ([11, 24] if count == 25 else [59])
    whole = max(tracks, key=lambda track: len(track.rows))
    shown = np.concatenate([upper[:, :2], lower[:, 2:]], 1)
    assert np.allclose(whole.boxes[-1], shown[-1]) and (count == 25 or np.allclose(whole.boxes, shown))


def test_a_flicker_is_no_object():
    rng = np.random.default_rng(0)
    spots = [moving(*[(x, y, x + 3, y + 3) for x, y in rng.uniform(0, 1000, (4, 2))]) for _ in range(30)]
    assert tracks_of(spots) == []


def test_nothing_one_frame_and_one_pixel():
    assert follow([], []) == [] and tracks_of([moving()] * 5) == []
    assert len(follow([0.0], [moving((3, 3, 4, 4))])) == 1 and tracks_of([moving((3, 3, 4, 4))]) == []
    pixel = walk(20, (5, 30), (1, 0), (1, 1))
    (track,) = tracks_of(frames_of(pixel))
    assert np.allclose(track.boxes, pixel)


def test_a_thing_larger_than_half_the_picture():
    boxes = np.clip(walk(24, (-150, 10), (12, 0), (250, 220)), 0, (360, 240, 360, 240))
    (track,) = tracks_of(frames_of(boxes))
    assert np.allclose(track.boxes, boxes)


def test_five_hundred_things():
    rng = np.random.default_rng(1)
    starts = np.stack(np.meshgrid(np.arange(25) * 40, np.arange(20) * 40), 2).reshape(-1, 2)
    walks = [
        walk(12, start, step, (9, 9))
        for start, step in zip(starts, rng.choice([-1, 1], (500, 2)) * rng.uniform(0.6, 1.2, (500, 2)), strict=True)
    ]
    order = [rng.permutation(500) for _ in range(12)]
    frames = [Moving(frame.boxes[order[k]], frame.velocities[order[k]]) for k, frame in enumerate(frames_of(*walks))]
    tracks = tracks_of(frames)
    assert len(tracks) == 500
    true = {tuple(boxes[0].astype(np.float32)): boxes for boxes in walks}
    for track in tracks:
        assert np.allclose(track.boxes, true[tuple(track.boxes[0].astype(np.float32))], atol=1e-3)
