"""A disk that is really full: a file system of a few kilobytes, and a limit of what a file may have."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import moving_square, write_clip
from synthetic import files_of, save_camera_model, write_fates
from toy_project import has_namespaces
from whole import make_all

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "there is no space left to write it; free some and run again: what was finished before is kept"

# In a mount namespace of its own, so that the file system goes with the process. argv: videos, model, a folder, a copy.
LITTLE_ROOM = """
import pathlib, shutil, subprocess, sys
videos, model, folder, copy = sys.argv[1:]
mount = ["mount", "-t", "tmpfs", "none", folder]
for size in ("40k", "120k", "64m"):
    subprocess.run([*mount, "-o", f"size={size}"], check=True)
    mount = ["mount", "-o", "remount", folder]
    out = pathlib.Path(folder, "out")
    done = subprocess.run([sys.executable, "tests/whole.py", videos, model, out], capture_output=True, text=True)
    left = [str(path) for path in out.rglob("*.partial")]
    print(size, done.returncode, left, done.stderr.strip(), sep="|", flush=True)
shutil.copytree(out, copy)
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="no file system may be mounted here")
def test_a_full_disk_is_one_sentence_and_then_all_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    clip = write_clip(tmp_path / "clips/gate/a.mp4", moving_square(60))
    save_camera_model(tmp_path / "model/gate", columns=27, tail=(0.0, 1, 0.1, 1.0))
    write_fates(tmp_path / "model", gate="")
    make_all(clip.parents[1], tmp_path / "model", tmp_path / "undisturbed")
    (tmp_path / "small").mkdir()
    paths = [clip.parents[1], tmp_path / "model", tmp_path / "small", tmp_path / "copy"]
    command = ["unshare", "-rm", sys.executable, "-c", LITTLE_ROOM, *map(str, paths)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    lines = [line.split("|") for line in told.stdout.splitlines()]
    assert [line[1] for line in lines] == ["1", "1", "0"], told.stdout
    for _, _, left, said in lines[:-1]:
        assert left == "[]" and said.startswith("error: ") and said.endswith(SENTENCE), said
    assert len({said for *_, said in lines}) == 3  # each time it came a little farther
    assert files_of(tmp_path / "copy") == files_of(tmp_path / "undisturbed")


LITTLE_FILES = """
import resource, sys
import pyarrow as pa
from pathlib import Path
from vidrnn.checkpoint import save_model
from vidrnn.errors import VidrnnError
from vidrnn.schema import SCHEMAS
from vidrnn.storage import write_json, write_table
import torch
folder = Path(sys.argv[1])
empty = {"sha256": "", "digest": ""}
long = [{"camera_id": f"{k * 7919 % 104729:x}", "video_id": f"{k}", **empty, "num_analysed": k} for k in range(9999)]
few, many = (pa.Table.from_pylist(rows, schema=SCHEMAS["training"]) for rows in (long[:2], long))
def write(table, size):
    write_table(folder / "table.parquet", table, SCHEMAS["training"])
def save(table, size):
    save_model(folder, {"weight": torch.zeros(size)}, {"size": size})
def tell(table, size):
    write_json(folder / "told.json", "x" * size)
for work in (write, save, tell):
    work(few, 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for work in (write, save, tell):
    try:
        work(many, 30_000)
    except VidrnnError as error:
        print(error)
"""


def test_what_was_there_stays_where_the_new_one_has_no_room(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LITTLE_FILES, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = ("table.parquet", "weights.safetensors", "told.json")
    assert done.stdout.splitlines() == [f"{tmp_path / name}: {SENTENCE}" for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "model.json"])
    assert all(path.stat().st_size < 5000 for path in tmp_path.iterdir())
