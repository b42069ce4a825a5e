"""Boundaries of shots and of activity, in signatures that are drawn here and in a file that is decoded."""

import numpy as np
import pytest

from vidrnn.segments import Boundary, cut_up, distance, find_boundaries, find_changes, shifted_distance

SIDE, RATE = 16, 25


def scene(seed, contrast=45.0):
    """A smooth picture that is like no other."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (6, 6))
    fine = np.kron(coarse, np.ones((3, 3)))[:SIDE, :SIDE] + rng.normal(0, 0.3, (SIDE, SIDE))
    return 120 + contrast * fine / fine.std()


def still(seed, count):
    noise = np.random.default_rng(seed + 1000).normal(0, 0.7, (count, SIDE, SIDE))
    return scene(seed) + noise


def boundaries(parts):
    film = np.concatenate(parts).clip(0, 255).round().astype(np.uint8)
    seconds = np.arange(len(film)) / RATE
    return find_boundaries(lambda start, stop: film[start:stop], seconds)


def blend(a, b, count):
    share = (np.arange(count) + 1)[:, None, None] / (count + 1)
    return (1 - share) * a + share * b


def kinds(found):
    return [(boundary.frame, boundary.kind) for boundary in found]


def test_a_cut_is_named_to_the_frame():
    found = boundaries([still(0, 40), still(1, 33), still(2, 50)])
    assert kinds(found) == [(40, "cut"), (73, "cut")] and all(boundary.score > 1 for boundary in found)


def test_neither_noise_nor_a_still_picture_is_a_cut():
    assert boundaries([still(0, 200)]) == []
    assert boundaries([np.full((200, SIDE, SIDE), 7.0)]) == []
    assert boundaries([scene(0)[None]]) == [] and boundaries([np.repeat(scene(0)[None], 2, 0)]) == []


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_flash_is_no_cut(length):
    bright = still(0, length) * 0.4 + 150
    assert boundaries([still(0, 60), bright, still(0, 60)]) == []


def test_a_shot_as_short_as_a_flash_that_shows_something_else_is_one():
    assert kinds(boundaries([still(0, 60), still(1, 8), still(0, 60)])) == [(60, "cut"), (68, "cut")]


def test_light_that_is_switched_on_is_no_cut():
    assert boundaries([still(0, 60) * 0.5, still(0, 60)]) == []


def test_a_pan_is_no_boundary_at_any_speed():
    wide = np.concatenate([scene(seed) for seed in range(30)], axis=1)
    smooth = (wide[:, :-1] + wide[:, 1:]) / 2
    for speed in (0.1, 0.3, 1.0, 2.0):
        left = np.arange(120) * speed
        whole = left.astype(int)
        pan = [
            (1 - (x - k)) * smooth[:, k : k + SIDE] + (x - k) * smooth[:, k + 1 : k + 1 + SIDE]
            for x, k in zip(left, whole, strict=True)
        ]
        assert boundaries([np.stack(pan)]) == [], speed


@pytest.mark.parametrize("count", [10, 20, 40])
def test_a_dissolve_is_found_in_its_middle(count):
    (found,) = boundaries([still(0, 60), blend(scene(0), scene(1), count), still(1, 60)])
    assert found.kind == "dissolve" and abs(found.frame - (60 + count / 2)) <= 3


def test_it_does_not_matter_where_blocks_of_a_long_film_end(monkeypatch):
    parts = [part for k in range(12) for part in (still(k, 90 + k), blend(scene(k), scene(k + 1), 15 * (k % 2)))]
    whole = boundaries(parts)
    assert len(whole) >= 11
    monkeypatch.setattr("vidrnn.segments._BLOCK", 47)
    assert boundaries(parts) == whole


def test_the_distance_allows_each_part_to_move_to_the_next():
    a = scene(3)
    assert distance(a, a) == 0 and distance(a, np.roll(a, 1, 1))[...] < 0.3 * np.abs(a - np.roll(a, 1, 1)).mean()
    assert distance(a, scene(4)) == distance(scene(4), a) > 5
    assert shifted_distance(a, np.roll(a, 4, 1)) == 0 < distance(a, np.roll(a, 4, 1))
    both = distance(np.stack([a, a]), np.stack([a, scene(4)]))
    assert both.tolist() == [0, distance(a, scene(4))]


def test_surprise_that_leaves_its_own_past_is_a_change_and_its_own_unrest_is_none():
    rng = np.random.default_rng(0)
    seconds = np.arange(400) / 10
    calm = 1 + 0.2 * rng.random(400)
    assert find_changes(calm, seconds, [0]) == find_changes(1000 * calm, seconds, [0]) == []
    busy = calm.copy()
    busy[150:280] += 3
    onset, offset = find_changes(busy, seconds, [0])
    assert abs(onset.frame - 150) <= 3 and abs(offset.frame - 280) <= 3 and onset.kind == "change"
    assert find_changes(1000 * busy, seconds, [0])[0].frame == onset.frame
    assert len(find_changes(busy, seconds, [0, 270])) == 1  # a shot begins with no past
    assert find_changes(calm[:3], seconds[:3], [0]) == []


def test_segments_tile_the_video_and_what_is_seen_again_has_the_same_group():
    film = np.concatenate([still(seed, 40) for seed in (0, 1, 0, 2, 1)]).clip(0, 255).astype(np.uint8)
    bounds = [Boundary(40 * k, "cut", 2.0) for k in range(1, 5)]
    segments = cut_up(bounds, lambda start, stop: film[start:stop], len(film))
    assert [(s.first, s.end) for s in segments] == [(40 * k, 40 * k + 40) for k in range(5)]
    assert [s.group for s in segments] == [0, 1, 0, 2, 1]
    assert [s.start for s in segments] == ["start", *["cut"] * 4] and segments[0].score is None
    assert all(s.first <= s.key < s.end for s in segments)
    assert cut_up([], lambda start, stop: film[start:stop], 0) == []
    (only,) = cut_up([], lambda start, stop: film[:1], 1)
    assert (only.first, only.end, only.key) == (0, 1, 0)
