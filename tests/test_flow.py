"""Flow against people of known speed over a place of its own texture; tests/test_features.py sees cells of it."""

import cv2
import numpy as np
import pytest
from conftest import texture

from vidrnn.flow import FlowFinder, Sight

HEIGHT, WIDTH = 120, 216
PLACE = texture(HEIGHT, WIDTH, 2, 60, 170).astype(np.float32)
PERSON = (20, 8)


def sight(places: list[tuple[float, float]], size: tuple[int, int] = (HEIGHT, WIDTH), dark: bool = False) -> Sight:
    """People at some places, top and left; where the place is not seen, something is in front."""
    place = PLACE[: size[0], : size[1]]
    picture, front = place.copy(), np.zeros(size, np.float32)
    for k, (top, left) in enumerate(places):
        patch = texture(*PERSON, k, 10, 50 if dark else 250).astype(np.float32)
        moved = np.array([[1, 0, left], [0, 1, top]], np.float32)
        mask = cv2.warpAffine(np.ones(PERSON, np.float32), moved, size[::-1])
        picture += mask * (cv2.warpAffine(patch, moved, size[::-1], borderMode=cv2.BORDER_REPLICATE) - picture)
        front = np.maximum(front, mask)
    plain = np.clip(128 + (picture - place) * front, 0, 255)
    return Sight(np.asarray(picture, np.uint8), np.round(front * 4) / 4, np.asarray(plain, np.uint8))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0, 3.0, 6.0, 7.5])
def test_everybody_has_the_flow_back_to_where_they_were(speed: float, dark: bool) -> None:
    """From standing to 0.6 picture heights a second at 10 frames/s, to the left, to the right and downwards."""
    before = [(20.0, 60.0), (60.0, 150.0), (80.0, 40.0)]
    steps = [(0.0, speed), (0.0, -speed), (speed / 2, speed / 2)]
    now = [(y + down, x + right) for (y, x), (down, right) in zip(before, steps, strict=True)]
    flow = FlowFinder().find(sight(now, dark=dark), sight(before, dark=dark))
    for (top, left), (down, right) in zip(now, steps, strict=True):
        own = flow[round(top) + 2 : round(top) + PERSON[0] - 2, round(left) + 1 : round(left) + PERSON[1] - 1]
        assert np.median(own, axis=(0, 1)) == pytest.approx([-right, -down], abs=0.1 + 0.05 * speed)


def test_there_is_no_flow_where_nothing_is_in_front() -> None:
    empty, one = sight([]), sight([(50.0, 100.0)])
    assert not FlowFinder().find(empty, empty).any() and not FlowFinder().find(empty, one).any()
    flow = FlowFinder().find(one, sight([(50.0, 97.0)]))
    flow[50 - 8 : 70 + 8, 100 - 8 : 108 + 8] = 0
    assert not flow.any()


@pytest.mark.parametrize("size", [(40, 12), (40, 72), (60, 97), (120, 34)])
def test_small_pictures_have_flow_too(size: tuple[int, int]) -> None:
    places = [[(0.0, left)] for left in (1.0, 2.0)]
    before, now = (sight(place, size) for place in places)
    flow = FlowFinder().find(now, before)
    assert flow.shape == (*size, 2) and np.isfinite(flow).all()
    assert np.median(flow[2:18, 3:9, 0]) == pytest.approx(-1, abs=0.2)


def test_the_flow_of_a_crowd_and_a_second_time_is_the_same_to_the_bit() -> None:
    """Wherever in memory the pictures lie."""
    rng = np.random.default_rng(0)
    before = [(float(y), float(x)) for y, x in rng.uniform(0, [HEIGHT - 20, WIDTH - 8], (60, 2))]
    pair = sight([(y, x + 1.5) for y, x in before]), sight(before)
    first = FlowFinder().find(*pair)
    for offset in (1, 7, 16):
        moved = []
        for own in pair:
            room = np.zeros(own.half.size + offset, np.uint8)
            room[offset:] = own.half.ravel()
            moved.append(Sight(room[offset:].reshape(own.half.shape), own.share.copy(), own.plain.copy()))
        assert np.array_equal(FlowFinder().find(*moved), first)
