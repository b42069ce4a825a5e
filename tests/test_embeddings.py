"""Windows and their vectors, and the search among them, against slow twins."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import blank, write

from vidrnn.embeddings import Described, Pool, Usual, describe, most_similar
from vidrnn.errors import SchemaError, UserError
from vidrnn.find import find
from vidrnn.neighbours import moments
from vidrnn.schema import EMBEDDING_SIZE, SCHEMAS
from vidrnn.storage import read_table, video_path

ROOT = Path(__file__).resolve().parents[1]

H, Q, N = 4, 9, 6
D = H + Q


def frames(count, seed=0, still=()):
    rng = np.random.default_rng(seed)
    memory = rng.normal(0, 1, (count, N, H)).astype(np.float32)
    maps = rng.random((count, Q, 2, 3)).astype(np.float32)
    scores = rng.random((count, 2, 3)).astype(np.float32)
    scores[list(still)] = 0
    return memory, maps, scores


def described(count, **options):
    return describe(*frames(count, **options))


USUAL = Usual(np.zeros(D), np.ones(D), np.eye(D))


def test_a_description_is_the_mean_over_cells_by_the_cube_of_their_score():
    memory, maps, scores = frames(3)
    found = describe(memory, maps, scores)
    for t in range(3):
        weights = scores[t].ravel() ** 3.0
        told = [sum(weights[i] * memory[t, i, h] for i in range(N)) / weights.sum() for h in range(H)]
        asked = [sum(weights[i] * maps[t, q].ravel()[i] for i in range(N)) / weights.sum() for q in range(Q)]
        assert found.means[t] == pytest.approx(told + asked, abs=1e-6)


def test_windows_are_two_seconds_every_second_however_frames_come():
    times = np.arange(47) / 10
    whole = described(47)
    pool = Pool()
    pool.push(times, whole)
    rows, found = pool.windows()
    assert rows.tolist() == [[0, 20], [10, 30], [20, 40], [30, 47]]
    parts = Pool()
    for start in range(0, 47, 7):
        cut = slice(start, start + 7)
        parts.push(times[cut], Described(whole.sums[cut], whole.weight[cut]))
    again = parts.windows()
    assert again[0].tolist() == rows.tolist() and np.allclose(again[1].sums, found.sums)
    for (first, stop), sums, weight in zip(rows.tolist(), found.sums, found.weight, strict=True):
        assert sums == pytest.approx(whole.sums[first:stop].sum(0))
        assert weight == pytest.approx(whole.weight[first:stop].sum())


@pytest.mark.parametrize(
    ("times", "rows"),
    [
        ([], []),
        ([0.0], [[0, 1]]),
        ([0.0, 0.9], [[0, 2]]),
        ([0.0, 0.9, 1.5], [[0, 3]]),
        ([0.0, 0.5, 40.0, 40.5, 41.0], [[0, 2], [2, 5]]),
        ([5.0, 6.0, 7.0], [[0, 2], [1, 3]]),
    ],
)
def test_short_footage_and_gaps(times, rows):
    pool = Pool()
    if times:
        pool.push(np.array(times), described(len(times)))
    found, windows = pool.windows()
    assert found.tolist() == rows
    assert USUAL.vectors(windows).shape == (len(rows), EMBEDDING_SIZE) if rows else windows.weight.size == 0


def test_vectors_have_length_one_and_what_stands_still_is_like_nothing_but_itself():
    vectors = USUAL.vectors(described(6, still=(2, 4)))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6)) and vectors.dtype == np.float32
    alike = vectors @ vectors.T
    assert alike[2, 4] == 1 and np.abs(np.delete(alike[2], [2, 4])).max() == 0


def test_what_is_usual_is_subtracted_and_evened_out_and_a_card_keeps_it():
    """Numbers of other sizes, all of which but one go together: the one counts as much as those."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 1, (300, 1)) + 0.02 * rng.normal(0, 1, (300, D - 1))
    means = np.concatenate([7 + 100 * common, rng.normal(0, 30, (300, 1))], 1)
    weight = rng.random(300) + 0.1
    windows = [Described(means[a:b] * weight[a:b, None], weight[a:b]) for a, b in ((0, 100), (100, 300))]
    windows.append(described(50, still=range(50)))
    usual = Usual.measure(windows)
    even = np.concatenate([usual.vectors(window) for window in windows[:2]])[:, :D]
    assert np.abs(even.mean(0)).max() < 0.15
    alone = np.arange(D) == D - 1
    off = np.where(alone, 0, 100), np.where(alone, 30, 0), np.where(alone, 30, 100)
    one, other, both = usual.vectors(Described(means.mean(0) + np.stack(off), np.ones(3)))
    assert abs(one @ other) < 0.2 and min(one @ both, other @ both) > 0.6
    again = Usual.from_json(usual.to_json())
    assert np.allclose(again.vectors(windows[0]), usual.vectors(windows[0]), atol=1e-4)


@pytest.mark.parametrize("ordinary", [0, 1, 2])
def test_where_hardly_anything_ever_moved_vectors_are_numbers_all_the_same(ordinary):
    still = described(50, seed=2, still=range(ordinary, 50))
    vectors = Usual.measure([still]).vectors(described(20))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20))


def test_long_descriptions_are_folded_and_stay_nearly_as_alike():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, (1, 2000))
    long = Described(np.concatenate([base, base + 0.3 * rng.normal(0, 1, base.shape), -base]), np.ones(3))
    usual = Usual(np.zeros(2000), np.ones(2000), np.eye(EMBEDDING_SIZE - 1))
    vectors = usual.vectors(long)
    assert vectors.shape == (3, EMBEDDING_SIZE) and np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3))
    assert vectors[0] @ vectors[1] > 0.9 and vectors[0] @ vectors[2] < -0.8
    measured = Usual.measure([Described(rng.normal(0, 1, (40, 2000)), np.ones(40))])
    assert np.allclose(Usual.from_json(measured.to_json()).vectors(long), measured.vectors(long), atol=1e-3)


def test_search_in_batches_is_search_in_all():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (500, EMBEDDING_SIZE)).astype(np.float32)
    vectors[100] = vectors[400]
    query = vectors[400]
    found = most_similar(query, ((k, vectors[k : k + 37]) for k in range(0, 500, 37)), 7)
    slow = sorted(((float(vector @ query), -row) for row, vector in enumerate(vectors)), reverse=True)[:7]
    assert [row for row, _ in found] == [-row for _, row in slow] and found[0][0] == 100


# find


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Two videos of a camera and one of another; what happens at second 10 of one happens at 30 of the other."""
    root = tmp_path_factory.mktemp("find")
    (root / ".dvc").mkdir()
    rng = np.random.default_rng(0)
    special = rng.normal(0, 1, EMBEDDING_SIZE)
    videos = []
    for video, at in (("gate/a.mp4", 10), ("gate/b.mp4", 30), ("yard/c.mp4", 10)):
        key = {"camera_id": video.split("/")[0], "video_id": video}
        rows = []
        for second in range(60):
            vector = (
                special + 0.3 * rng.normal(0, 1, EMBEDDING_SIZE) if second == at else rng.normal(0, 1, EMBEDDING_SIZE)
            )
            times = {"onset_seconds": float(second), "offset_seconds": second + 2.0, "onset_pts": second}
            rows.append(blank("embeddings", **key, **times, vector=(vector / np.linalg.norm(vector)).tolist()))
        write(video_path(root / "data/tables/embeddings", *key.values()), "embeddings", rows)
        times = {"onset_pts": at, "onset_seconds": at + 0.2, "offset_seconds": at + 1.8}
        event = blank("events", **key, **times, event_id=f"event-{video[5]}", reason=f"in {video}")
        write(video_path(root / "data/tables/events", *key.values()), "events", [event])
        videos.append(blank("videos", **key))
    write(root / "data/tables/videos.parquet", "videos", videos)
    return root


@pytest.mark.parametrize("query", ["event-a", "gate/a.mp4@11", "gate/a.mp4@0:11", "gate/a.mp4@0:00:11.0"])
def test_the_same_kind_of_moment_is_found_in_another_video_of_the_camera(checkout, query):
    found = find(query, 5, repo=checkout).moments
    assert len(found) == 5 and found[0]["similarity"] > 0.8 > 0.5 > found[1]["similarity"]
    assert (found[0]["video_id"], found[0]["onset_seconds"]) == ("gate/b.mp4", 30)
    assert (found[0]["event_id"], found[0]["reason"]) == ("event-b", "in gate/b.mp4")
    assert all(moment["video_id"] != "yard/c.mp4" for moment in found)


def test_moments_are_apart_from_each_other_and_from_what_was_asked_for(checkout):
    found = find("event-a", 1000, repo=checkout).moments
    assert len(found) > 30
    spans = [(moment["video_id"], moment["onset_seconds"], moment["offset_seconds"]) for moment in found]
    spans.append(("gate/a.mp4", 10.0, 12.0))
    for k, (video, start, end) in enumerate(spans):
        assert not any(video == v and start < b and end > a for v, a, b in spans[k + 1 :])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("event-d", "no event is called 'event-d'; there are 'event-a', 'event-b', 'event-c'"),
        ("gate/x.mp4@3", "no video is called 'gate/x.mp4'; there are 'gate/a.mp4'"),
        (
            "gate/a.mp4@soon",
            "expected FILE@TIME, TIME in seconds, minutes:seconds or hours:minutes:seconds, found 'soon'",
        ),
        (
            "gate/a.mp4@99",
            "gate/a.mp4 shows nothing at 99 seconds: it lasts 61 seconds, and the nearest footage is at 61",
        ),
    ],
)
def test_what_does_not_exist_is_one_sentence(checkout, query, sentence):
    with pytest.raises(UserError) as raised:
        find(query, 3, repo=checkout)
    assert sentence in str(raised.value)


def test_a_path_of_the_footage_is_a_file_of_it(checkout):
    assert find("data/videos/gate/a.mp4@11", 3, repo=checkout) == find("gate/a.mp4@11", 3, repo=checkout)


def test_a_moment_names_the_most_unusual_event_that_it_touches(checkout, tmp_path):
    root = shutil.copytree(checkout, tmp_path / "copy")
    key = {"camera_id": "gate", "video_id": "gate/b.mp4"}
    times = [{"onset_pts": at, "onset_seconds": at + 0.2, "offset_seconds": at + 0.9} for at in (30, 31, 32)]
    rows = zip(times, ("first", "second", "later"), (2.0, 3.0, 9.0), strict=True)
    events = [blank("events", **key, **at, event_id=name, peak_score=score) for at, name, score in rows]
    write(video_path(root / "data/tables/events", *key.values()), "events", events)
    assert find("event-a", 1, repo=root).moments[0]["event_id"] == "second"


def test_files_of_other_cameras_are_not_opened_and_damage_is_one_sentence(checkout, tmp_path):
    root = shutil.copytree(checkout, tmp_path / "copy")
    tables = root / "data/tables"
    for name in ("embeddings", "events"):
        video_path(tables / name, "yard", "yard/c.mp4").write_bytes(b"not Parquet")
    assert find("gate/a.mp4@11", 3, repo=root) == find("gate/a.mp4@11", 3, repo=checkout)
    path = video_path(tables / "embeddings", "gate", "gate/b.mp4")
    damaged = bytearray(path.read_bytes())
    damaged[200:-8000] = bytes(len(damaged) - 8200)  # of the rows; the footer is whole
    path.write_bytes(damaged)
    with pytest.raises(SchemaError, match=r"data/tables/embeddings: not readable .*; delete it and run `dvc repro`"):
        find("gate/a.mp4@11", 3, repo=root)


def test_the_example_of_the_page_runs_as_it_stands(checkout, monkeypatch):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/search.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(checkout)
    found = {}
    exec(program, found)
    assert found["like_one"] == find("event-a", 10).moments and len(found["like_one"]) == 10
    assert list(found["like_each"]) == ["event-a", "event-b", "event-c"]
    assert [one.video_id for one in found["like_each"]["event-a"][:1]] == ["gate/b.mp4"]


def test_the_command_prints_moments_or_one_sentence(checkout):
    def vidrnn(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "vidrnn.cli", "find", *arguments]
        return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)

    shown = vidrnn("event-a", "--json", "--limit", "2")
    assert json.loads(shown.stdout) == find("event-a", 2, repo=checkout).moments and shown.returncode == 0
    assert "gate/b.mp4" in vidrnn("gate/a.mp4@11").stdout
    told = vidrnn("event-d")
    assert told.returncode == 2 and told.stdout == "" and told.stderr.count("\n") == 1, told.stderr
    assert told.stderr.startswith("error: no event is called 'event-d'; there are 'event-a'")


# Moments like events


def read_events(path):
    return read_table(path, SCHEMAS["events"]).to_pylist()


@pytest.mark.parametrize("limit", [1, 3, 25])
def test_the_moments_like_an_event_are_those_that_find_names(checkout, limit):
    tables = checkout / "data/tables"
    events = [row for path in sorted((tables / "events").rglob("*.parquet")) for row in read_events(path)]
    videos = read_table(tables / "videos.parquet", SCHEMAS["videos"]).to_pylist()
    found = moments(tables, events, videos, limit)
    assert list(found) == ["event-a", "event-b", "event-c"]
    for event_id, near in found.items():
        named = find(event_id, limit, repo=checkout).moments
        assert [(one.video_id, one.onset_seconds, one.offset_seconds) for one in near] == [
            (moment["video_id"], moment["onset_seconds"], moment["offset_seconds"]) for moment in named
        ]
        assert [one.similarity for one in near] == pytest.approx([moment["similarity"] for moment in named], abs=1e-5)
        assert len(near) == limit or event_id == "event-c"  # of a camera with one video
    others = [video for video in videos if video["video_id"] != "gate/b.mp4"]
    assert {one.video_id for one in moments(tables, events, others, limit)["event-a"]} == {"gate/a.mp4"}
    assert moments(tables, [], videos, limit) == {}
