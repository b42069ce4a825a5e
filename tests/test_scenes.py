"""Generated changes: ordinary speeds throughout, labels that fit the pictures, every kind what it says."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.scenes import (
    CHANGE_SECONDS,
    DEV_SEEDS,
    FINAL_SEEDS,
    FRAME_RATE,
    KINDS,
    Change,
    Film,
    one_second_speeds,
    out_of_range,
    plan_films,
)
from vidrnn.demo import render_file
from vidrnn.demo_plan import CARRIES, LIE, SPEED, Actor, Plan, Planted, X, Z

_BEFORE, _AFTER = 4, 2  # frames that are drawn around a change


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return plan_films(0)


def _split(films: list[Film], split: str) -> list[Film]:
    return [film for film in films if film.plan.split == split]


def _changes(films: list[Film], kind: str) -> list[Change]:
    return [change for film in films for change in film.changes if change.kind == kind]


def _first(films: list[Film], kind: str) -> tuple[Film, Change]:
    return next((film, change) for film in films for change in film.changes if change.kind == kind)


def _during(actor: Actor, change: Change) -> np.ndarray:
    """The rows of an actor's track from a second before the onset to the end of the label."""
    return actor.track[change.onset - FRAME_RATE - actor.first : change.offset - actor.first]


def test_the_same_seed_plans_the_same_and_another_does_not(films: list[Film]) -> None:
    again, other = plan_films(0), plan_films(1)
    for one, two in zip(films, again, strict=True):
        assert [change.onset for change in one.changes] == [change.onset for change in two.changes]
        assert len(one.plan.actors) == len(two.plan.actors)
        for mine, yours in zip(one.plan.actors, two.plan.actors, strict=True):
            assert (mine.shape, mine.look, mine.first) == (yours.shape, yours.look, yours.first)
            np.testing.assert_array_equal(mine.track, yours.track)
    assert [c.onset for f in films for c in f.changes] != [c.onset for f in other for c in f.changes]
    assert not set(DEV_SEEDS) & set(FINAL_SEEDS)


def test_every_kind_is_there_often_and_only_in_test_footage(films: list[Film]) -> None:
    assert not any(film.changes or film.plan.planted for film in _split(films, "train"))
    counts = Counter(change.kind for film in films for change in film.changes)
    assert set(counts) == set(KINDS) and min(counts.values()) >= 12
    assert sum(film.plan.num_frames for film in _split(films, "train")) >= 8 * 60 * FRAME_RATE
    for film in _split(films, "test"):
        spans = [(change.onset, change.over) for change in film.changes]
        for (_, over), (onset, _) in zip([(0, 0), *spans], [*spans, (film.plan.num_frames, 0)], strict=True):
            assert onset - over >= 5 * FRAME_RATE
        for change in film.changes:
            assert change.onset < change.offset <= change.over
            assert not film.is_ordinary()[change.onset : change.over].any()
        assert film.is_ordinary().mean() > 0.5


def test_every_second_of_every_change_goes_at_an_ordinary_speed(films: list[Film]) -> None:
    assert out_of_range(films) == []


def test_a_speed_that_nobody_has_is_told(films: list[Film]) -> None:
    film, change = _first(films, "run")
    fast = change.actors[0].track.copy()
    fast[:, X] *= 4
    hurried = replace(change, actors=(replace(change.actors[0], track=fast),))
    told = out_of_range([*_split(films, "train"), replace(film, changes=[hurried])])
    assert len(told) == 1 and "a run on the" in told[0] and "picture heights a second" in told[0]


def test_ordinary_test_stretches_go_at_the_speeds_of_training(films: list[Film]) -> None:
    speeds: dict[str, dict[str, list[np.ndarray]]] = {"train": {}, "test": {}}
    for film in films:
        changing = {id(actor) for change in film.changes for actor in change.actors}
        for actor in film.plan.actors:
            if id(actor) not in changing:
                of_lane = speeds[film.plan.split].setdefault(film.lanes[actor.track_id], [])
                of_lane.append(one_second_speeds(actor)[1])
    slowest = min(one.min(initial=np.inf) for found in speeds["train"].values() for one in found)
    for lane, found in speeds["test"].items():
        known, seen = np.concatenate(speeds["train"][lane]), np.concatenate(found)
        assert np.mean((seen < slowest) | (seen > known.max())) < 0.02, lane
        np.testing.assert_allclose(np.quantile(seen, [0.1, 0.5]), np.quantile(known, [0.1, 0.5]), atol=0.05)


def test_kinds_are_what_they_say(films: list[Film]) -> None:
    for change in _changes(films, "fall"):
        lie = _during(change.actors[0], change)[:, LIE]
        assert change.lane == "back" and not lie[:FRAME_RATE].any()
        assert lie[FRAME_RATE + round(0.8 * FRAME_RATE)] == 1.0
    for change in _changes(films, "run"):
        speed = _during(change.actors[0], change)[:, SPEED]
        assert speed[:FRAME_RATE].max() < 1.8 and speed[FRAME_RATE + round(0.5 * FRAME_RATE) :].min() > 2.2
    for change in _changes(films, "reversal"):
        step = np.diff(_during(change.actors[0], change)[:, X])
        before, after = step[: FRAME_RATE - 1], step[FRAME_RATE + round(0.7 * FRAME_RATE) :]
        assert (np.sign(before) == np.sign(before[0])).all() and (np.sign(after) == -np.sign(before[0])).all()
        assert 0.8 < np.abs(after).mean() / np.abs(before).mean() < 1.25
    for change in _changes(films, "stop"):
        speed = _during(change.actors[0], change)[:, SPEED]
        assert change.lane == "front" and speed[:FRAME_RATE].min() > 0.8
        assert not speed[FRAME_RATE + round(0.3 * FRAME_RATE) :].any()
    for change in _changes(films, "throw"):
        thing, thrower, catcher = change.actors
        assert thing.shape == "case" and thing.track[:, Z].max() > 1.2
        for actor, has_it in ((thrower, True), (catcher, False)):
            carries = actor.track[:, CARRIES] > 0.5
            assert carries[change.onset - actor.first] == has_it
            assert carries[change.offset + FRAME_RATE // 5 - actor.first] != has_it


def test_nobody_ordinary_stops_in_front_turns_back_or_starts_to_run(films: list[Film]) -> None:
    checked = 0
    for film in films:
        changing = {id(actor) for change in film.changes for actor in change.actors}
        for actor in film.plan.actors:
            if id(actor) in changing or film.lanes[actor.track_id] == "alley" or len(actor.track) < 2:
                continue
            checked += 1
            step = np.diff(actor.track[:, X])
            assert (step >= 0).all() or (step <= 0).all()
            speed = actor.track[:, SPEED]
            assert np.diff(speed).max(initial=0) * FRAME_RATE < 2.5  # m/s²
            assert np.diff(actor.track[:, LIE]).max(initial=0) * FRAME_RATE < 0.9  # of the way down, a second
            if film.lanes[actor.track_id] == "front":
                assert speed.min() > 0.5 and speed.max() < 1.3 * speed.min()
    assert checked > 200


def _cut(film: Film, change: Change) -> Plan:
    """The film from shortly before a change to shortly after it."""
    start = change.onset - _BEFORE
    actors = {id(actor): replace(actor, first=actor.first - start) for actor in film.plan.actors}
    first, *others = (actors[id(actor)] for actor in change.actors)
    planted = Planted(change.kind, first, _BEFORE, change.offset - start, tuple(others))
    num_frames = change.offset + _AFTER - start
    return replace(film.plan, num_frames=num_frames, actors=list(actors.values()), planted=[planted])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_where_the_change_is_drawn(films: list[Film], tmp_path: Path, kind: str) -> None:
    film, change = _first(films, kind)
    plan = _cut(film, change)
    labels = render_file(tmp_path, plan, FRAME_RATE)
    length = round(CHANGE_SECONDS * FRAME_RATE)
    assert labels.events == [(plan.video, _BEFORE, _BEFORE + length, kind)]
    assert {row[1] for row in labels.regions} == set(range(_BEFORE, _BEFORE + length))
    ids = {actor.track_id for actor in change.actors}
    boxes = {(row[1], *row[2:6]) for row in labels.objects if row[6] in ids and _BEFORE <= row[1] < _BEFORE + length}
    assert boxes <= {row[1:] for row in labels.regions}
    with av.open(str(tmp_path / plan.video)) as container:
        pictures = np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)]).astype(np.float32)
    empty = replace(plan, actors=[], planted=[])
    render_file(tmp_path / "empty", empty, FRAME_RATE)
    with av.open(str(tmp_path / "empty" / plan.video)) as container:
        background = next(container.decode(video=0)).to_ndarray(format="gray").astype(np.float32)
    inside = [
        np.abs(pictures[i, y0:y1, x0:x1] - background[y0:y1, x0:x1]).mean() for _, i, x0, y0, x1, y1 in labels.regions
    ]
    assert np.median(inside) > 3 * np.abs(pictures[:, :60] - background[:60]).mean()


def test_the_same_film_has_the_same_bytes(films: list[Film], tmp_path: Path) -> None:
    for name, of in (("once", films), ("again", plan_films(0))):
        render_file(tmp_path / name, _cut(*_first(of, "throw")), FRAME_RATE)
    once, again = (next((tmp_path / name).rglob("*.mp4")).read_bytes() for name in ("once", "again"))
    assert once == again
