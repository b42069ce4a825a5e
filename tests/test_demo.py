"""The demo footage: the same bytes again, labels that fit the pictures, and a plan that plants what it promises."""

import csv
import multiprocessing
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vidrnn import demo
from vidrnn.demo import FileLabels, render_demo, render_file
from vidrnn.demo_plan import APART_SECONDS, KINDS, SPEED, Plan, X, Y, is_seen, plan_demo, plan_file
from vidrnn.demo_scene import PLACES, paint
from vidrnn.easel import HEIGHT, MARGIN, WIDTH
from vidrnn.figures import Pose, person, random_look
from vidrnn.params import DemoParams, load_params

RATE = 10


@pytest.fixture(scope="module")
def params() -> DemoParams:
    return load_params().demo


def _short_plan() -> Plan:
    video = "market-walk/test/2026-03-03T08-00-00.mp4"
    return plan_file("market-walk", "test", video, 24 * RATE, (7, 0, 1, 0), ("running", "camera_knocked"), RATE)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan, FileLabels]:
    folder = tmp_path_factory.mktemp("demo")
    plan = _short_plan()
    return folder, plan, render_file(folder, plan, RATE)


def _pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def test_two_processes_write_the_same_bytes_and_labels(short: tuple[Path, Plan, FileLabels], tmp_path: Path) -> None:
    folder, plan, labels = short
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        again = pool.submit(render_file, tmp_path, _short_plan(), RATE).result()
    assert (tmp_path / plan.video).read_bytes() == (folder / plan.video).read_bytes()
    assert again == labels


def test_labels_lie_inside_the_file_and_the_picture(short: tuple[Path, Plan, FileLabels]) -> None:
    folder, plan, labels = short
    assert len(_pictures(folder / plan.video)) == plan.num_frames == 24 * RATE
    assert [event[3] for event in labels.events] == ["running", "camera_knocked"]
    for _, onset, offset, _ in labels.events:
        assert 0 <= onset < offset <= plan.num_frames
    assert labels.events[-1][2] == plan.num_frames
    assert labels.regions and labels.objects
    for _, frame_index, x0, y0, x1, y1 in labels.regions + [row[:6] for row in labels.objects]:
        assert 0 <= frame_index < plan.num_frames
        assert 0 <= x0 < x1 <= WIDTH and 0 <= y0 < y1 <= HEIGHT
    assert max(Counter((row[1], row[6]) for row in labels.objects).values()) == 1
    for _, onset, offset, kind in labels.events:
        frames = {row[1] for row in labels.regions if onset <= row[1] < offset}
        assert {onset, offset - 1} <= frames, kind


def test_a_labelled_box_holds_something(short: tuple[Path, Plan, FileLabels]) -> None:
    folder, plan, labels = short
    pictures = np.stack(_pictures(folder / plan.video)).astype(np.float32)
    steady = pictures[: labels.events[-1][1]]
    background = np.median(steady, axis=0)
    occupied = np.zeros(steady.shape, bool)
    inside = []
    for _, frame_index, x0, y0, x1, y1, _ in labels.objects:
        if frame_index < len(steady):
            occupied[frame_index, max(0, y0 - 25) : y1 + 25, max(0, x0 - 90) : x1 + 90] = True
            if (x1 - x0) * (y1 - y0) > 400:
                box = np.s_[y0:y1, x0:x1]
                inside.append(np.abs(steady[frame_index][box] - background[box]).mean())
    assert len(inside) > 100
    outside = np.abs(steady - background)[~occupied].mean()
    assert outside < 4
    assert np.median(inside) > 4 * outside
    assert np.quantile(inside, 0.02) > 1.5 * outside


def test_boxes_stand_where_the_plan_puts_people(short: tuple[Path, Plan, FileLabels]) -> None:
    _, plan, labels = short
    knocked = labels.events[-1][1]
    view = PLACES[plan.camera].view
    steps, checked = [], 0
    last: dict[int, tuple[int, float]] = {}
    for _, frame_index, x0, _, x1, y1, track_id in labels.objects:
        actor = plan.actors[track_id]
        assert actor.track_id == track_id
        row = actor.track[frame_index - actor.first]
        x, y, scale = view.project(np.array([[row[X], row[Y], 0.0]]))[0] - (MARGIN, MARGIN, 0)
        if frame_index >= knocked or x0 <= 1 or x1 >= WIDTH - 1 or y1 >= HEIGHT - 1:
            continue
        checked += 1
        assert abs((x0 + x1) / 2 - x) < 0.6 * scale
        assert -1.2 * scale < y1 - y < 0.3 * scale  # a stall may hide the legs
        if last.get(track_id, (-9, 0.0))[0] == frame_index - 1:
            steps.append((abs((x0 + x1) / 2 - last[track_id][1]) * RATE / scale, actor.track[0, SPEED]))
        last[track_id] = (frame_index, (x0 + x1) / 2)
    assert checked > 200
    speeds = np.array(steps)
    ordinary = speeds[speeds[:, 1] < 2, 0]
    assert np.median(ordinary) < 1.8 and np.quantile(ordinary, 0.99) < 5
    assert np.median(speeds[speeds[:, 1] > 3, 0]) > 3


def test_the_knock_moves_the_picture_and_stays(short: tuple[Path, Plan, FileLabels]) -> None:
    folder, plan, labels = short
    pictures = _pictures(folder / plan.video)
    onset = labels.events[-1][1]
    assert plan.knock is not None and not plan.knock[:onset].any() and plan.knock[onset:].any(axis=1).all()
    far = np.hypot(plan.knock[-1, 0] / WIDTH, plan.knock[-1, 1] / HEIGHT)
    assert 0.02 < far < 0.08
    before, after = (np.abs(pictures[i].astype(float) - pictures[onset - 5]).mean() for i in (onset - 1, -1))
    assert after > 4 * before


def test_the_plan_of_the_default_params_holds_every_kind_twice(params: DemoParams) -> None:
    plans = plan_demo(params)
    kinds = Counter(planted.kind for plan in plans for planted in plan.planted)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 2
    assert {planted.kind for plan in plans if plan.split == "train" for planted in plan.planted} == set()
    for split, seconds in (("train", params.ordinary_seconds), ("test", params.test_seconds)):
        for camera in PLACES:
            frames = [plan.num_frames for plan in plans if (plan.camera, plan.split) == (camera, split)]
            assert sum(frames) == seconds * params.frame_rate
    assert len({plan.video for plan in plans}) == len(plans)
    for plan in plans:
        assert [actor.track_id for actor in plan.actors] == list(range(len(plan.actors)))


def test_events_stand_apart(params: DemoParams) -> None:
    for plan in plan_demo(params):
        spans = []
        for planted in plan.planted:
            first, end = max(0, planted.first), min(plan.num_frames, planted.end)
            if planted.actor is not None:
                rows = planted.actor.track[first - planted.actor.first : end - planted.actor.first]
                seen = np.flatnonzero(is_seen(PLACES[plan.camera], rows))
                first, end = first + int(seen[0]), first + int(seen[-1]) + 1
            spans.append((first, end))
        assert spans == sorted(spans)
        for (_, end), (first, _) in zip([(0, 0), *spans], spans, strict=False):
            assert first - end >= 0.8 * APART_SECONDS * params.frame_rate


@pytest.mark.parametrize("seed", range(12))
def test_any_seed_and_the_shortest_test_can_be_planned(seed: int) -> None:
    plans = plan_demo(DemoParams(seed=seed, frame_rate=5, ordinary_seconds=10, test_seconds=180))
    assert min(Counter(planted.kind for plan in plans for planted in plan.planted).values()) == 2


def test_kinds_are_what_they_claim(params: DemoParams) -> None:
    for plan in plan_demo(params):
        unusual = {id(planted.actor) for planted in plan.planted}
        for actor in plan.actors:
            moving = actor.track[:, SPEED][actor.track[:, SPEED] > 0.3]
            if id(actor) not in unusual and actor.shape == "person":
                assert 0.8 < np.median(moving) < 1.9
        for planted in plan.planted:
            if planted.actor is None:
                continue
            first, end = planted.first - planted.actor.first, planted.end - planted.actor.first
            rows = planted.actor.track[first:end]
            speed, seconds = float(np.median(rows[:, SPEED])), len(rows) / params.frame_rate
            low, high = {"running": (3.5, 5), "cycling": (4, 6), "cart": (2, 3.2)}.get(planted.kind, (0, 2.4))
            assert low <= speed <= high, planted.kind
            if planted.kind in ("loitering", "object_left"):
                assert seconds >= 10


def test_names_say_when_it_was_recorded(params: DemoParams) -> None:
    pattern = load_params().index.recorded_at_pattern
    assert pattern is not None
    stamps: dict[str, list[tuple[str, ...]]] = {}
    for plan in plan_demo(params):
        found = re.search(pattern, Path(plan.video).name)
        assert found is not None and found["year"] == "2026"
        assert plan.video.startswith(f"{plan.camera}/{plan.split}/")
        stamps.setdefault(plan.camera, []).append(found.groups())
    for times in stamps.values():
        assert times == sorted(set(times))


def test_feet_stay_on_the_ground_and_bodies_have_their_height() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        look = random_look(rng)
        for phase in np.linspace(0, 6.2, 9):
            points, _ = person(look, Pose(float(phase), 1.0))
            assert abs(points[:, 2].min()) < 0.06
            assert abs(points[:, 2].max() + 0.11 * look.height / 1.75 - look.height) < 0.12
    points, _ = person(look, Pose(0.0, 0.0, lie=1.0))
    assert points[:, 2].max() < 0.5


def test_a_place_is_painted_alike_again() -> None:
    first = paint("market-walk", 7)
    paint.cache_clear()
    again = paint("market-walk", 7)
    np.testing.assert_array_equal(first.background, again.background)
    assert list(again.depths) == sorted(again.depths)


def test_the_stage_replaces_both_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_file("market-walk", "train", "market-walk/train/2026-03-02T08-00-00.mp4", 6, (7, 0, 0, 0), (), RATE)
    monkeypatch.setattr(demo, "plan_demo", lambda _: [plan])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    (tmp_path / "videos" / "old").mkdir(parents=True)
    (tmp_path / "videos" / "old" / "x.mp4").touch()
    settings = DemoParams(seed=7, frame_rate=RATE, ordinary_seconds=10, test_seconds=180)
    render_demo(tmp_path / "videos", tmp_path / "labels", settings)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["labels/events.csv", "labels/objects.csv", "labels/regions.csv", f"videos/{plan.video}"]
    with (tmp_path / "labels" / "events.csv").open() as file:
        assert list(csv.reader(file)) == [["video", "onset_frame", "offset_frame", "kind"]]
    with (tmp_path / "labels" / "objects.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["video", "frame_index", "x0", "y0", "x1", "y1", "track_id"] and len(rows) > 6
    capture = cv2.VideoCapture(str(tmp_path / "videos" / plan.video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
