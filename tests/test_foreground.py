"""Objects before their background: no shadows, no ghosts, what stops stays for a while, what is in pieces is one."""

import cv2
import numpy as np
import pytest
from conftest import texture

from vidrnn.foreground import LEVELS, Foreground, Motion

HEIGHT, WIDTH, SECONDS = 120, 160, 0.1
GROUND = texture(HEIGHT, WIDTH, 1, 90, 170)
NOISE = np.random.default_rng(0).normal(0, 1.5, (8, HEIGHT, WIDTH))


def picture(*boxes, ground=GROUND, shadow=None, k=0):
    """The ground with flat dark things in boxes (x0, y0, x1, y1), and one shadow."""
    levels = ground.astype(float)
    if shadow is not None:
        x0, y0, x1, y1 = shadow
        levels[y0:y1, x0:x1] *= 0.55
    for x0, y0, x1, y1 in boxes:
        levels[y0:y1, x0:x1] = 30 + 3 * (np.indices((y1 - y0, x1 - x0)).sum(0) % 7)
    return (levels + NOISE[k % 8]).clip(0, 255).astype(np.uint8)


def motion(*boxes, velocity=(0.5, -0.25)):
    share = np.zeros((HEIGHT // 2, WIDTH // 2), np.float32)
    for x0, y0, x1, y1 in boxes:
        share[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = 1
    return Motion(share, share * velocity[0], share * velocity[1])


def finder(stopped_seconds=3.0, ground=GROUND, colours=None):
    return Foreground(np.stack([picture(ground=ground, k=k) for k in range(8)]), colours, 20.0, stopped_seconds)


def boxes_of(regions):
    return np.rint(regions.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(int).tolist()


def near(found, expected, by=1):
    return len(found) == len(expected) and np.abs(np.sort(found, 0) - np.sort(expected, 0)).max(initial=0) <= by


def test_an_object_is_its_box_and_its_velocity():
    box = (40, 30, 60, 70)
    regions = finder().push(SECONDS, picture(box), None, 0.0, motion(box))
    assert near(boxes_of(regions), [box], 0)
    assert regions.areas == pytest.approx(20 * 40 / HEIGHT / WIDTH, rel=0.05)
    assert regions.velocities.tolist() == [[0.5, -0.25]]


def test_its_shadow_is_none_where_there_is_colour_and_in_front_where_there_is_none():
    box, shadow = (40, 30, 60, 70), (60, 60, 110, 70)
    usual = np.stack([np.full((HEIGHT // 2, WIDTH // 2), level, np.uint8) for level in (90, 150)])
    colour = usual.copy()
    colour[:, 30:35, 30:55] = np.array((107, 140))[:, None, None]  # that of the ground, fainter
    colour[:, 15:35, 20:30] = 128
    shown = SECONDS, picture(box, shadow=shadow)
    coloured = finder(colours=np.stack([usual] * 8)).push(*shown, colour, 0.0, motion(box, shadow))
    assert near(boxes_of(coloured), [box], 2)
    grey = finder().push(*shown, None, 0.0, motion(box, shadow))  # dark clothes would look the same
    assert near(boxes_of(grey), [(40, 30, 110, 70)], 2)


def test_colour_tells_a_shadow_from_what_is_only_darker():
    """The same luma; the shadow has the colour of the ground, fainter, the other one is grey."""
    usual = np.stack([np.full((HEIGHT // 2, WIDTH // 2), level, np.uint8) for level in (90, 150)])
    place = (40, 40, 90, 80)
    for own, expected in (((107, 140), []), ((128, 128), [place])):
        colour = usual.copy()
        colour[:, 20:40, 20:45] = np.array(own)[:, None, None]
        found = finder(colours=np.stack([usual] * 8)).push(SECONDS, picture(shadow=place), colour, 0.0, motion(place))
        assert near(boxes_of(found), expected, 2), own


def test_colour_alone_is_enough():
    usual = np.full((2, HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    usual[0, 0] = 120
    colour = usual.copy()
    colour[1, 20:40, 20:30] = 170
    box = (40, 40, 60, 80)
    found = finder(colours=np.stack([usual] * 8)).push(SECONDS, picture(), colour, 0.0, motion(box))
    assert near(boxes_of(found), [box])


def test_what_stops_stays_an_object_for_the_stated_time():
    box, still = (40, 30, 60, 70), motion()
    objects = finder(stopped_seconds=3.0)
    objects.push(SECONDS, picture(box), None, 0.0, motion(box))
    shown = [len(objects.push(SECONDS, picture(box, k=k), None, 0.0, still).areas) for k in range(60)]
    assert shown[:29] == [1] * 29 and shown[31:] == [0] * 29
    # It is background now: where it was is a hole when it leaves, and that is no object.
    gone = [len(objects.push(SECONDS, picture(k=k), None, 0.0, still).areas) for k in range(20)]
    assert not any(gone)


def test_a_ghost_vanishes():
    """Somebody stood there during the whole warm-up, and leaves."""
    box = (40, 30, 60, 70)
    warmup = np.stack([picture(box, k=k) for k in range(8)])
    objects = Foreground(warmup, None, 20.0, 60.0)
    walk = [(40 + 4 * k, 30, 60 + 4 * k, 70) for k in range(1, 26)]
    counts = [len(objects.push(SECONDS, picture(at, k=k), None, 0.0, motion(at)).areas) for k, at in enumerate(walk)]
    assert set(counts[12:]) == {1}
    assert not len(objects.push(SECONDS, picture(), None, 0.0, motion()).areas)


def test_light_on_the_ground_is_no_object():
    brighter = picture().astype(int)
    brighter[30:70, 40:60] += 40
    objects = finder()
    shown = [objects.push(SECONDS, brighter.clip(0, 255).astype(np.uint8), None, 0.0, motion()) for _ in range(10)]
    assert not any(len(regions.areas) for regions in shown)


def test_exposure_is_nobodys_movement():
    found = finder().push(SECONDS, (picture().astype(int) + 40).clip(0, 255).astype(np.uint8), None, 40.0, motion())
    assert not len(found.areas)


def test_pieces_within_a_thing_are_one():
    """An L, and what lies in its corner; what lies beside it is another; one pixel is nothing."""
    upright, level, corner, beside = (40, 30, 48, 70), (40, 62, 80, 70), (56, 40, 76, 52), (100, 30, 120, 60)
    parts = [upright, level, corner, beside, (130, 90, 131, 91)]
    found = finder().push(SECONDS, picture(*parts), None, 0.0, motion(*parts))
    assert near(boxes_of(found), [(40, 30, 80, 70), beside])
    assert found.areas.max() == pytest.approx((8 * 32 + 40 * 8 + 20 * 12) / HEIGHT / WIDTH, rel=0.1)


def test_a_soft_edge_ends_where_half_of_the_contrast_is_left():
    """What is bright glows: the limit is passed some pixels around it."""
    box = (40, 30, 60, 70)
    flat = np.full((HEIGHT, WIDTH), 60, np.uint8)
    sharp = flat.copy()
    sharp[box[1] : box[3], box[0] : box[2]] = 250
    glow = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2.5))
    assert (glow[50, box[0] - 3 : box[0]] - flat[50, 0] > LEVELS).all()
    found = Foreground(np.stack([flat] * 8), None, 20.0, 3.0).push(SECONDS, glow, None, 0.0, motion(box))
    assert near(boxes_of(found), [box])


def test_two_side_by_side_are_one_region_of_two_pieces():
    """Two that overlap below their heads; one with a flat top, and one whose arm is stretched out, are in one piece."""
    left, right, high = (40, 30, 48, 70), (54, 34, 62, 70), (40, 46, 62, 66)
    found = finder().push(SECONDS, picture(left, right, high), None, 0.0, motion((40, 30, 62, 70)))
    assert near(boxes_of(found), [(40, 30, 62, 70)])
    (pieces,) = found.pieces
    first, second = np.rint(pieces * [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(int).tolist()
    assert first[:2] == [40, 30] and second[1:] == [34, 62, 70] and first[2] == second[0] and 47 < first[2] < 55
    for alone in ([(40, 30, 62, 70)], [left, (48, 46, 62, 50)]):
        found = finder().push(SECONDS, picture(*alone), None, 0.0, motion(*alone))
        assert [len(pieces) for pieces in found.pieces] == [0], alone


def test_a_thing_larger_than_half_the_picture():
    box = (10, 10, 150, 110)
    found = finder().push(SECONDS, picture(box), None, 0.0, motion(box))
    assert near(boxes_of(found), [box]) and found.areas[0] > 0.5


def test_five_hundred_things():
    big = cv2.resize(GROUND, (1200, 900))
    warmup = np.stack([big] * 3)
    boxes = [(12 + 45 * (k % 25), 10 + 44 * (k // 25), 36 + 45 * (k % 25), 34 + 44 * (k // 25)) for k in range(500)]
    now, share = big.copy(), np.zeros((450, 600), np.float32)
    for x0, y0, x1, y1 in boxes:
        now[y0:y1, x0:x1] = 10
        share[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = 1
    found = Foreground(warmup, None, 20.0, 60.0).push(SECONDS, now, None, 0.0, Motion(share, share, share))
    assert len(found.areas) == 500
    assert np.abs(np.sort(found.boxes * [1200, 900, 1200, 900], 0) - np.sort(boxes, 0)).max() <= 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wild_footage_gives_finite_values(share):
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 256, (12, HEIGHT, WIDTH), dtype=np.uint8)
    colours = rng.integers(0, 256, (12, 2, HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    objects = Foreground(pictures[:1], colours[:1], 20.0, 60.0)
    moving = np.full((HEIGHT // 2, WIDTH // 2), share, np.float32)
    for k in range(12):
        found = objects.push(0.1 * k, pictures[k], colours[k], 250.0 * (k % 2), Motion(moving, moving, -moving))
        assert all(np.isfinite(values).all() for values in (found.boxes, found.areas, found.velocities, *found.pieces))
        assert (found.boxes >= 0).all() and (found.boxes <= 1).all()
