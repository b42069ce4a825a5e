"""What counts in the table of changes: labelled frames against ordinary ones, and what follows a change in neither."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.changes import measure
from benchmarks.scenes import CAMERA, KINDS, Film, plan_films
from vidrnn.storage import video_path


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return plan_films(0)


def _write(films: list[Film], root: Path, rng: np.random.Generator, found: tuple[str, ...]) -> None:
    """Scores in 0..1 by chance, 2..3 where a change of the `found` kinds is labelled, 9 in what follows any change."""
    for film in films:
        if film.plan.split == "test":
            scores = rng.random(film.plan.num_frames)
            for change in film.changes:
                scores[change.onset : change.offset] += 2 * (change.kind in found)
                scores[change.offset : change.over] = 9
            path = video_path(root, CAMERA, film.plan.video)
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.table({"frame_index": np.arange(film.plan.num_frames), "score": scores.astype(np.float32)})
            pq.write_table(table, path)


def test_each_kind_is_measured_against_ordinary_frames_alone(films: list[Film], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    _write(films, tmp_path, rng, ("fall", "throw"))
    measured = measure(films, tmp_path)
    assert set(measured) == {*KINDS, "overall"}
    for kind in KINDS:
        assert measured[kind] == pytest.approx(1.0 if kind in ("fall", "throw") else 0.5, abs=0.08)
    assert measured["overall"] == pytest.approx(np.mean([measured[kind] for kind in KINDS]), abs=1e-6)
    _write(films, tmp_path, rng, KINDS)
    assert set(measure(films, tmp_path).values()) == {1.0}
