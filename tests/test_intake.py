"""Footage comes in whole, once, and only when nobody writes to it any more; what is removed keeps its row."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import blank
from small_project import SMALL, change_params, film
from toy_project import has_namespaces

from vidrnn import intake
from vidrnn.decode import pictures_in
from vidrnn.errors import UserError
from vidrnn.extract import extract_features
from vidrnn.feedback import Mark
from vidrnn.index import index_videos
from vidrnn.intake import add, retire, take_watched
from vidrnn.marked import find_marked
from vidrnn.params import load_params
from vidrnn.retired import RETIRED, read_retired, write_retired
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.storage import read_metadata, read_table, video_path, write_table
from vidrnn.windows import Layout

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


def in_a_namespace(script: str, folder: Path) -> None:
    """Run a script that mounts what goes with it."""
    command = ["unshare", "-rm", sys.executable, "-c", script, str(folder)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


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
    alike = make(tmp_path / "alike/a.mp4", "two")  # of the same size
    new, namesake = make(tmp_path / "new.mp4"), make(tmp_path / "namesake/new.mp4", "y")
    for paths, camera, words in (
        ([new, other], "gate", "another file is called .*a.mp4 already; rename one"),
        ([new, alike], "gate", "another file is called .*a.mp4 already; rename one"),
        ([new, namesake], "gate", r"namesake/new.mp4: .*/new.mp4 would become .*gate/new.mp4 as well; rename one"),
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
    retired = Path(shutil.copy(ROOT / RETIRED, tmp_path))
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
    found = take_watched([str(watched)], footage, [retired])
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
    again = take_watched([str(watched)], footage, [retired], now=lambda: now + 600)
    assert again.taken == 3 and not again.waiting and len(files(footage)) == 5
    assert set(files(watched)) == set(files(footage))  # a recorder finds its files where it left them
    assert take_watched([str(watched)], footage, [retired]).taken == 0
    with pytest.raises(UserError, match=r"`nightly.watch` names .*nowhere, which is not there"):
        take_watched([str(tmp_path / "nowhere")], footage, [retired])


# Where two mounts show one disk, files lie on the same device and still cannot be linked. argv: a folder.
IN_ANOTHER_MOUNT = """
import subprocess, sys
from pathlib import Path
from vidrnn.intake import take_watched
from vidrnn.retired import RETIRED
watched, mounted, footage = (Path(sys.argv[1], name) for name in ("watched", "mounted", "videos"))
subprocess.run(["mount", "--bind", watched, mounted], check=True)
assert mounted.stat().st_dev == footage.stat().st_dev
assert take_watched([str(mounted)], footage, [RETIRED]).taken == 1
"""


@pytest.mark.skipif(not has_namespaces(), reason="no file system may be mounted here")
def test_what_cannot_be_linked_is_copied_and_outlives_the_recording(tmp_path: Path) -> None:
    recorded = make(tmp_path / "watched/gate/a.mp4", "recorded")
    for name in ("mounted", "videos"):
        (tmp_path / name).mkdir()
    in_a_namespace(IN_ANOTHER_MOUNT, tmp_path)
    recorded.unlink()
    assert files(tmp_path / "videos") == {"gate/a.mp4": b"recorded"}


def test_a_file_that_hangs_its_reader_keeps_no_other_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, footage = tmp_path / "watched", tmp_path / "videos"
    film(watched / "gate/hangs.mp4", 2, seed=0)
    shutil.copy(watched / "gate/hangs.mp4", watched / "gate/sound.mp4")
    for path in (watched / "gate").iterdir():
        os.utime(path, (NOW - 600, NOW - 600))
    monkeypatch.setattr(intake, "_OPEN_SECONDS", 5.0)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # which says that somebody waits
    with (watched / "gate/hangs.mp4").open("rb") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # whoever opens it waits until it is closed here
        found = take_watched([str(watched)], footage, [ROOT / RETIRED], now=lambda: NOW)
    assert found.waiting == {watched / "gate/hangs.mp4": "cannot be opened yet: took longer than 5 s to read"}
    assert found.taken == 1 and set(files(footage)) == {"gate/sound.mp4"}


def test_of_several_files_of_one_name_one_comes_in_and_the_others_are_told(tmp_path: Path) -> None:
    one, two, footage = tmp_path / "one", tmp_path / "two", tmp_path / "videos"
    day = 24 * 3600.0
    make(one / "gate/00.ts", "Monday", 9 * day)
    make(one / "gate/05.ts", "first", 9 * day)
    make(two / "gate/05.ts", "other", 8 * day)  # of the same size
    copied = make(footage / "gate/07.ts", "copied", 7 * day + 1)  # as a disk with coarse times has it
    make(one / "gate/07.ts", "copied", 7 * day)
    (two / "gate/06.ts").hardlink_to(one / "gate/05.ts")
    (one / "gate/06.ts").hardlink_to(one / "gate/05.ts")

    def take() -> intake.Watched:
        return take_watched([str(one), str(two)], footage, [ROOT / RETIRED], now=lambda: NOW)

    told = "{} has this name and another size or time; rename or remove one of the two"
    found = take()
    assert found.taken == 3 and found.waiting == {two / "gate/05.ts": told.format(one / "gate/05.ts")}
    assert take() == intake.Watched(0, {two / "gate/05.ts": told.format(footage / "gate/05.ts")})

    (one / "gate/00.ts").unlink()  # which the recorder writes anew
    make(one / "gate/00.ts", "Tuesday", 2 * day)
    (two / "gate/05.ts").rename(two / "gate/08.ts")
    assert take() == intake.Watched(1, {one / "gate/00.ts": told.format(footage / "gate/00.ts")})
    (footage / "gate/00.ts").unlink()
    assert take() == intake.Watched(1, {})
    assert files(footage / "gate") == {
        "00.ts": b"Tuesday",
        "05.ts": b"first",
        "06.ts": b"first",
        "07.ts": b"copied",
        "08.ts": b"other",
    }
    assert copied.stat().st_mtime == NOW - 7 * day - 1  # left as it is


def test_a_folder_of_pictures_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(5):
        make(tmp_path / f"watched/gate/walk/img_{k}.png")
    listed: list[Path] = []
    monkeypatch.setattr(intake, "pictures_in", lambda folder: listed.append(folder) or pictures_in(folder))
    assert take_watched([str(tmp_path / "watched")], tmp_path / "videos", [ROOT / RETIRED], now=lambda: NOW).taken == 5
    assert listed == [tmp_path / "watched/gate/walk"]


# A file system of a few kilobytes; what was linked there would take no space. argv: a folder.
LITTLE_ROOM = """
import subprocess, sys
from pathlib import Path
from vidrnn.errors import VidrnnError
from vidrnn.intake import take_watched
from vidrnn.retired import RETIRED
watched, footage = Path(sys.argv[1], "watched"), Path(sys.argv[1], "videos")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", footage], check=True)
try:
    take_watched([str(watched)], footage, [RETIRED])
except VidrnnError as error:
    assert "no space left" in str(error) and not [path for path in footage.rglob("*") if path.is_file()], error
else:
    raise SystemExit("nothing was raised")
"""


@pytest.mark.skipif(not has_namespaces(), reason="no file system may be mounted here")
def test_a_full_disk_is_not_the_fault_of_a_file(tmp_path: Path) -> None:
    make(tmp_path / "watched/gate/a.mp4", "x" * 100_000)
    (tmp_path / "videos").mkdir()
    in_a_namespace(LITTLE_ROOM, tmp_path)


def test_a_file_that_cannot_be_taken_in_keeps_no_other_out(tmp_path: Path) -> None:
    name = f"{'a' * 250}.mp4"  # no room for the hidden name that it would have first
    make(tmp_path / "watched/gate" / name)
    make(tmp_path / "watched/gate/b.mp4")
    found = take_watched([str(tmp_path / "watched")], tmp_path / "videos", [ROOT / RETIRED])
    assert found.taken == 1 and set(files(tmp_path / "videos")) == {"gate/b.mp4"}
    ((path, reason),) = found.waiting.items()
    assert path.name == name and reason.startswith("cannot be taken in: ") and "File name too long" in reason


def test_footage_that_is_removed_keeps_its_rows_and_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert take_watched([str(tmp_path / "watched")], videos, [tmp_path / RETIRED]).taken == 0

    size = (videos / names[2]).stat().st_size
    film(videos / "gate/2026-03-04T08-00-00.mp4", 2, seed=4)
    run()
    much = PARAMS.nightly.model_copy(update={"keep_gigabytes": 1.5 * size / 1e9})
    assert retire(tmp_path, videos, much, now + timedelta(days=400)) == [names[2]]

    # Features of other params cannot be made any more: those that there are stay, and the tables say so.
    listed = read_table(data / "training.parquet", SCHEMAS["training"]).to_pylist()
    cells = files(data / "features/cells")
    features = features.model_copy(update={"background_seconds": 3.0})
    capsys.readouterr()
    run()
    assert (
        "features: 3 kept as an earlier version made them, since their footage is retired\n" in capsys.readouterr().out
    )
    decoded = read_table(data / "features/decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    assert [row["status"] for row in decoded] == ["ok"] * 4
    assert [row["message"].startswith("its features stay as earlier code") for row in decoded] == [True] * 3 + [False]
    again = read_table(data / "training.parquet", SCHEMAS["training"]).to_pylist()
    assert again[:3] == listed[:3] and again[3]["digest"] != listed[3]["digest"]
    same = [body == cells[name] for name, body in files(data / "features/cells").items()]
    assert sorted(same) == [False, True, True, True]


def test_features_of_removed_footage_that_are_of_no_use_any_more_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another shape they wait for code that makes such; of another schema version, or of other bytes, they go."""
    monkeypatch.chdir(ROOT)
    videos, root = tmp_path / "videos", tmp_path / "features"
    features = PARAMS.features.model_copy(update={"height": 80, "warmup_seconds": 0.5})
    names = [f"gate/{name}.mp4" for name in ("bytes", "shape", "version", "whole")]
    for day, name in enumerate(names):
        film(videos / name, 2, seed=day)
    index = index_videos(videos, PARAMS.index, "UTC", tmp_path / "memory.json")
    extract_features(videos, index, features, root)
    shutil.rmtree(videos)
    cells = {name: video_path(root / "cells", "gate", name) for name in names}
    metadata = read_metadata(cells["gate/shape.mp4"])
    empty = {"table": cells_schema(3, 20, 24).empty_table(), "schema": cells_schema(3, 20, 24)}
    write_table(cells["gate/shape.mp4"], metadata=metadata, **empty)
    write_table(cells["gate/version.mp4"], metadata=metadata | {"vidrnn_schema": "0"}, **empty)
    rows = index.to_pylist()
    rows[0]["sha256"] = "0" * 64  # what was retired before was another file of this name
    index = pa.Table.from_pylist(rows, schema=SCHEMAS["index"])

    kept = cells["gate/shape.mp4"].read_bytes()
    capsys.readouterr()
    training = extract_features(videos, index, features.model_copy(update={"background_seconds": 3.0}), root)
    said = capsys.readouterr().out
    assert "features: 2 kept as an earlier version made them" in said and "; 1 of them have another shape" in said
    assert "features: 2 lost: their footage is gone" in said
    assert training["video_id"].to_pylist() == ["gate/whole.mp4"]
    found = read_table(root / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()
    assert [row["status"] for row in found] == ["unreadable", "ok", "unreadable", "ok"]
    assert [bool(row["num_analysed"]) for row in found] == [False, False, False, True]
    assert "of another shape, (3, 20, 24), than this version makes, (" in found[1]["message"]
    assert "no features that this version can read" in found[2]["message"] == found[0]["message"]
    assert cells["gate/shape.mp4"].read_bytes() == kept
    assert Layout.of(cells["gate/shape.mp4"]) != Layout.of(cells["gate/whole.mp4"])
    mark = Mark(
        event_id="e", camera_id="gate", video_id="gate/shape.mp4", sha256=rows[1]["sha256"], onset_pts=0, offset_pts=1,
        x0="", y0="", x1="", y1="", verdict="normal", note="",
    )  # fmt: skip
    assert find_marked(root, [mark, replace(mark, sha256=rows[3]["sha256"])], "gate")[0].path == cells["gate/whole.mp4"]


def test_by_hand_nothing_is_removed_that_nights_need_and_nothing_comes_back_that_they_removed(tmp_path: Path) -> None:
    checkout, watched = tmp_path / "checkout", tmp_path / "watched"
    tree = checkout / ".nightly/tree"
    for folder in (checkout, tree):
        (folder / ".dvc").mkdir(parents=True)
        (folder / "data").mkdir()
        for name in ("params.yaml", "dvc.yaml", RETIRED):
            shutil.copy(ROOT / name, folder / name)
        change_params(folder, **SMALL, nightly={"watch": [str(watched)], "keep_days": 1.0})
    row = blank("index", camera_id="gate", video_id="gate/old.mp4", recorded_at_source="none", status="ok")
    write_retired(tree / RETIRED, pa.Table.from_pylist([row], schema=SCHEMAS["index"]))
    film(watched / "gate/new.mp4", 1, seed=0)
    make(watched / "gate/old.mp4")
    os.utime(watched / "gate/new.mp4", (time.time() - 600,) * 2)
    (watched / os.fsdecode(b"gate/\xff.mp4")).touch()

    def vidrnn(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = [sys.executable, "-m", "vidrnn.cli", *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    added, footage = vidrnn(checkout, "add", "--watched"), checkout / "data/videos"
    told, counted = added.stdout.splitlines()
    assert told.startswith(f"left for next time: {watched}/gate/\\udcff.mp4: was written to "), added.stderr
    assert counted == f"1 file came into {footage}, 1 left for next time"
    assert "intake: video 1 of 1" in added.stderr and set(files(footage)) == {"gate/new.mp4"}

    refused = vidrnn(checkout, "retire")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.startswith(f"error: {tree}: nights work here") and "the next night" in refused.stderr
    assert vidrnn(tree, "retire").stdout == f"0 files removed from {tree / 'data/videos'}\n"  # as a night does


def test_a_list_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    for text in ("", "video_id\nx\n", (ROOT / RETIRED).read_text() + "a,b\n"):
        (tmp_path / "retired.csv").write_text(text)
        with pytest.raises(UserError, match="not a list of removed footage"):
            read_retired(tmp_path / "retired.csv")
    assert read_retired(ROOT / RETIRED).num_rows == 0
    assert np.array_equal(read_retired(ROOT / RETIRED).schema.names, SCHEMAS["index"].names)
