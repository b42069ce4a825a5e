"""Footage comes in whole, once, and only when nobody writes to it any more; what is removed keeps its row."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from small_project import film

from vidrnn import intake
from vidrnn.errors import UserError
from vidrnn.extract import extract_features
from vidrnn.index import index_videos
from vidrnn.intake import add, retire, take_watched
from vidrnn.params import load_params
from vidrnn.retired import RETIRED, read_retired
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
PARAMS = load_params(ROOT / "params.yaml")
NOW = 1e9


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_LOOK_SECONDS", 0.05)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make(path: Path, content: str = "x", age: float = 3600.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_files_and_folders_come_in_once(tmp_path: Path) -> None:
    card, footage = tmp_path / "card", tmp_path / "videos"
    for name in ("a.mp4", "day/b.mp4", ".hidden/c.mp4", ".d.mp4"):
        make(card / name, name)
    alone = make(tmp_path / "alone.mp4", "alone")
    assert add([card, alone], footage, None, link=False) == (3, 0)
    assert files(footage) == {"card/a.mp4": b"a.mp4", "card/day/b.mp4": b"day/b.mp4", "alone.mp4": b"alone"}
    assert add([card, alone], footage, None, link=False) == (0, 3)
    assert add([card, alone], footage, "gate", link=True) == (3, 0)
    assert (footage / "gate/a.mp4").samefile(card / "a.mp4") and not (footage / "card/a.mp4").samefile(card / "a.mp4")
    assert not (footage / "gate/a.mp4").is_symlink()


def test_mistakes_are_told_before_anything_comes_in(tmp_path: Path) -> None:
    footage = tmp_path / "videos"
    one, other = make(tmp_path / "one/a.mp4", "one"), make(tmp_path / "other/a.mp4", "longer")
    add([one], footage, "gate", link=False)
    new = make(tmp_path / "new.mp4")
    for paths, camera, words in (
        ([new, other], "gate", "another file is called .*a.mp4 already; rename one"),
        ([new, tmp_path / "none"], "gate", "none: not there"),
        ([tmp_path / "one" / ".."], "a/b", "expected the name of a folder"),
        ([new], "..", "expected the name of a folder"),
    ):
        with pytest.raises(UserError, match=words):
            add(paths, footage, camera, link=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        add([tmp_path / "empty"], footage, None, link=False)
    assert files(footage) == {"gate/a.mp4": b"one"}


def test_footage_does_not_go_where_a_stage_writes() -> None:
    with pytest.raises(UserError, match="which `dvc repro` makes and empties"):
        intake.footage_folder(ROOT, "data/demo/videos")
    assert intake.footage_folder(ROOT, "data/videos") == ROOT / "data/videos"


def test_what_is_still_being_written_is_left_for_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, footage = tmp_path / "watched", tmp_path / "videos"
    retired = shutil.copy(ROOT / RETIRED, tmp_path)
    film(watched / "gate/whole.mp4", 2, seed=0)
    shutil.copy(watched / "gate/whole.mp4", watched / "gate/fresh.mp4")
    body = (watched / "gate/whole.mp4").read_bytes()
    for name in ("open.mp4", "grows.mp4", "damaged.mp4"):
        (watched / "gate" / name).write_bytes(body[: len(body) * 2 // 3])  # the table of an MPEG-4 file comes last
    ages = {"whole": 600, "fresh": 5, "open": 600, "grows": 600, "damaged": 2 * 24 * 3600}
    now = time.time()
    for name, age in ages.items():
        os.utime(watched / f"gate/{name}.mp4", (now - age, now - age))

    def grow(seconds: float) -> None:
        with (watched / "gate/grows.mp4").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(intake.time, "sleep", grow)
    found = take_watched([str(watched)], footage, Path(retired))
    assert found.taken == 2 and set(files(footage)) == {"gate/whole.mp4", "gate/damaged.mp4"}
    reasons = {path.stem: reason for path, reason in found.waiting.items()}
    assert (
        reasons["grows"] == "changes"
        and "seconds ago" in reasons["fresh"]
        and "cannot be opened yet" in reasons["open"]
    )

    monkeypatch.undo()
    monkeypatch.setattr(intake, "_LOOK_SECONDS", 0.05)
    for name in ("open", "grows"):
        (watched / f"gate/{name}.mp4").write_bytes(body)
        os.utime(watched / f"gate/{name}.mp4", (now - 600, now - 600))
    again = take_watched([str(watched)], footage, Path(retired), now=lambda: now + 600)
    assert again.taken == 3 and not again.waiting and len(files(footage)) == 5
    assert set(files(watched)) == set(files(footage))  # a recorder finds its files where it left them
    assert take_watched([str(watched)], footage, Path(retired)).taken == 0
    with pytest.raises(UserError, match=r"`nightly.watch` names .*nowhere, which is not there"):
        take_watched([str(tmp_path / "nowhere")], footage, Path(retired))


def test_footage_that_is_removed_keeps_its_rows_and_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    videos, data = tmp_path / "data/videos", tmp_path / "data"
    features = PARAMS.features.model_copy(update={"height": 80, "warmup_seconds": 0.5})
    names = [f"gate/2026-03-0{day}T08-00-00.mp4" for day in (1, 2, 3)]
    for day, name in enumerate(names):
        film(videos / name, 2, seed=day)
    shutil.copy(ROOT / RETIRED, tmp_path / RETIRED)

    def run() -> tuple[bytes, bytes]:
        removed = read_retired(tmp_path / RETIRED)
        index = index_videos(videos, PARAMS.index, "UTC", data / ".scratch/sha256.json", removed)
        write_table(data / "index.parquet", index, SCHEMAS["index"])
        trains = extract_features(videos, index, features, data / "features")
        write_table(data / "training.parquet", trains, SCHEMAS["training"])
        return (data / "index.parquet").read_bytes(), (data / "training.parquet").read_bytes()

    now = datetime(2026, 3, 4, tzinfo=UTC)
    days = PARAMS.nightly.model_copy(update={"keep_days": 1.5})
    assert retire(tmp_path, videos, days, now) == []  # before their features are made, nothing goes
    before, made = run(), files(data / "features")
    assert retire(tmp_path, videos, days, now) == names[:2]
    assert set(files(videos)) == {names[2]}
    assert run() == before and files(data / "features") == made
    assert read_retired(tmp_path / RETIRED)["video_id"].to_pylist() == names[:2]
    assert retire(tmp_path, videos, days, now) == []

    film(tmp_path / "watched" / names[0], 2, seed=0)
    old = time.time() - 600
    os.utime(tmp_path / "watched" / names[0], (old, old))
    assert take_watched([str(tmp_path / "watched")], videos, tmp_path / RETIRED).taken == 0

    size = (videos / names[2]).stat().st_size
    film(videos / "gate/2026-03-04T08-00-00.mp4", 2, seed=4)
    run()
    much = PARAMS.nightly.model_copy(update={"keep_gigabytes": 1.5 * size / 1e9})
    assert retire(tmp_path, videos, much, now + timedelta(days=400)) == [names[2]]

    # Features of other params cannot be made any more, and the table says so.
    features = features.model_copy(update={"background_seconds": 3.0})
    run()
    decoded = read_table(data / "features/decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    assert [row["status"] for row in decoded] == ["unreadable"] * 3 + ["ok"]
    assert "if it was retired (data/retired.csv)" in decoded[0]["message"]


def test_a_list_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    for text in ("", "video_id\nx\n", (ROOT / RETIRED).read_text() + "a,b\n"):
        (tmp_path / "retired.csv").write_text(text)
        with pytest.raises(UserError, match="not a list of removed footage"):
            read_retired(tmp_path / "retired.csv")
    assert read_retired(ROOT / RETIRED).num_rows == 0
    assert np.array_equal(read_retired(ROOT / RETIRED).schema.names, SCHEMAS["index"].names)
