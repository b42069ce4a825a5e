"""Files are whole or not there, their bytes depend on their content alone, and their names cannot stray."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import blank
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vidrnn.errors import SchemaError
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.storage import (
    check_version,
    digest,
    is_fresh,
    read_metadata,
    read_table,
    remove_orphans,
    replacing,
    sha256_file,
    table_writer,
    video_path,
    write_json,
    write_table,
)

ROOT = Path(__file__).resolve().parents[1]
METRICS = SCHEMAS["metrics"]
CELLS = cells_schema(2, 3, 4)
in_one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cells(num_rows: int) -> pa.Table:
    values = np.random.default_rng(0).random((num_rows, 2, 3, 4)).astype(np.float16)
    columns = {name: np.arange(num_rows) for name in ("frame_index", "pts")}
    columns |= {"time_seconds": np.arange(num_rows) / 10, "valid": np.arange(num_rows) > 3}
    tensor = (
        pa.FixedShapeTensorArray.from_numpy_ndarray(values) if num_rows else pa.array([], CELLS.field("cells").type)
    )
    return pa.table({**columns, "cells": tensor}, schema=CELLS)


def metrics(num_rows: int, name: str = "auroc") -> pa.Table:
    rows = [blank("metrics", camera_id=f"c{k % 7}", name=name, value=k / 3 if k % 5 else None) for k in range(num_rows)]
    return pa.Table.from_pylist(rows, schema=METRICS)


def write_parts(path: Path, table: pa.Table, cuts: list[int], schema: pa.Schema) -> bytes:
    edges = [0, *sorted(min(cut, table.num_rows) for cut in cuts), table.num_rows]
    with table_writer(path, schema, {"digest": "d"}) as write:
        for low, high in pairwise(edges):
            write(table.slice(low, high - low))
    return path.read_bytes()


@in_one_folder
@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=8))
def test_bytes_do_not_depend_on_how_rows_are_parted(tmp_path: Path, num_rows: int, cuts: list[int]) -> None:
    table = cells(num_rows)
    write_table(tmp_path / "whole.parquet", table, CELLS, {"digest": "d"})
    assert write_parts(tmp_path / "parts.parquet", table, cuts, CELLS) == (tmp_path / "whole.parquet").read_bytes()
    assert read_table(tmp_path / "parts.parquet", CELLS).equals(table)


def test_bytes_of_large_plain_tables_do_not_depend_on_parts_either(tmp_path: Path) -> None:
    table = metrics(70_000)
    write_table(tmp_path / "whole.parquet", table, METRICS, {"digest": "d"})
    for cuts in ([1], [65_536], [3, 65_535, 65_537, 69_999]):
        assert (
            write_parts(tmp_path / "parts.parquet", table, cuts, METRICS) == (tmp_path / "whole.parquet").read_bytes()
        )
    assert pq.ParquetFile(tmp_path / "whole.parquet").metadata.num_row_groups == 2


def test_row_groups_of_tensors_are_bounded(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", cells(200), CELLS)
    facts = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [facts.row_group(k).num_rows for k in range(facts.num_row_groups)] == [64, 64, 64, 8]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, metrics(3), METRICS)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), table_writer(path, METRICS) as write:
        write(metrics(100))
        raise RuntimeError
    with pytest.raises(SchemaError, match=r"a\.parquet: expected the columns"):
        write_table(path, cells(2), METRICS)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


WRITE_FOR_EVER = """
import sys
from pathlib import Path
import pyarrow as pa
from vidrnn.schema import SCHEMAS
from vidrnn.storage import table_writer
schema = SCHEMAS["metrics"]
columns = {field.name: pa.array([None], field.type) for field in schema if field.nullable}
columns |= {"camera_id": ["c"], "num_videos": [1]}
versions = {v: pa.concat_tables([pa.table({**columns, "name": [v]}, schema=schema)] * 40_000) for v in ("odd", "even")}
print("ready", flush=True)
while True:
    for name, table in versions.items():
        with table_writer(Path(sys.argv[1]), schema, {"name": name}) as write:
            for low in range(0, 40_000, 5_000):
                write(table.slice(low, 5_000))
"""


def test_killed_at_any_instant_a_file_is_old_or_new(tmp_path: Path) -> None:
    path, leftovers = tmp_path / "a.parquet", 0
    write_table(path, metrics(1, "old"), METRICS, {"name": "old"})
    for wait in (0.0, 0.05, 0.3):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
        table, name = read_table(path, METRICS), read_metadata(path)["name"]
        assert table.num_rows == (1 if name == "old" else 40_000) and set(table["name"].to_pylist()) == {name}
        leftovers += remove_orphans(tmp_path, {path})
        assert list(tmp_path.iterdir()) == [path]
    assert leftovers  # else nothing was killed while it wrote


def test_metadata_go_round_and_may_grow_until_the_end(tmp_path: Path) -> None:
    metadata = {"digest": "d", "message": "Straße; 3 %\n", "empty": ""}
    with table_writer(tmp_path / "a.parquet", METRICS, metadata) as write:
        write(metrics(2))
        metadata["late"] = "yes"
    assert read_metadata(tmp_path / "a.parquet") == {**metadata, "vidrnn_schema": "1"}


def test_some_columns_can_be_read_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", metrics(9), METRICS)
    assert read_table(tmp_path / "a.parquet", METRICS, ["value", "name"]).schema.names == ["value", "name"]


def test_another_schema_version_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for metadata, found in (({"vidrnn_schema": "99"}, "99"), ({}, "None")):
        pq.write_table(metrics(2).replace_schema_metadata(metadata), path)
        with pytest.raises(
            SchemaError, match=f"a.parquet: written with schema version {found}, this code reads 1; run"
        ):
            read_table(path, METRICS)
        with pytest.raises(SchemaError, match=found):
            check_version(read_metadata(path), path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"a\.parquet: not there; run `dvc repro` or `dvc pull`"):
        read_table(tmp_path / "a.parquet", METRICS)
    assert not is_fresh(tmp_path / "a.parquet", "d")


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, metrics(5_000), METRICS, {"digest": "d"})
    whole = path.read_bytes()
    wrecks = [b"", b"PAR1", whole[:-1], whole[: len(whole) // 2], whole[4:], b"not a table at all " * 50]
    wrecks += [whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :]]  # a sound footer over lost pages
    for wreck in wrecks:
        path.write_bytes(wreck)
        with pytest.raises(
            SchemaError, match=r"a\.parquet: not a readable Parquet file .*; delete it and run `dvc repro`"
        ):
            read_table(path, METRICS)


def test_a_table_on_disk_that_breaks_its_contract_is_named(tmp_path: Path) -> None:
    pq.write_table(
        metrics(2).drop_columns(["low"]).replace_schema_metadata({"vidrnn_schema": "1"}), tmp_path / "a.parquet"
    )
    with pytest.raises(SchemaError, match=r"a\.parquet: expected the columns .*'low'"):
        read_table(tmp_path / "a.parquet", METRICS)


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": ["ä", 0.1]})
    write_json(tmp_path / "b.json", {"a": ["ä", 0.1], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": ["ä", 0.1], "b": 1}
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2, "b": 2})


def test_replacing_makes_the_folder_and_keeps_nothing_on_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replacing(tmp_path / "new/a.txt") as partial:
        partial.write_text("half")
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []


names = st.text(st.one_of(st.sampled_from("./%\\ ä\0\udce9:?="), st.characters(exclude_categories=["Cs"])), min_size=1)


@given(names, names, names, names)
@example("a/b", "v", "a", "v")
@example("/../../a", "../../v", "%2F..", "/v")
def test_a_name_can_neither_leave_the_root_nor_collide(camera: str, video: str, camera2: str, video2: str) -> None:
    root = Path("/root/of/all")
    path = video_path(root, camera, video)
    assert path.parent.parent == root and Path(os.path.normpath(path)) == path
    assert path.parent.name.startswith("camera_id=") and path.suffix == ".parquet"
    assert path.parent.name.isascii() and "/" not in PurePosixPath(path.name).stem
    same = (camera, video) == (camera2, video2)
    assert (video_path(root, camera2, video2) == path) == same


def test_names_that_look_alike_are_told_apart() -> None:
    cameras = ["..", ".", "a/b", "a%2Fb", "a b", "a+b", "a%20b", "A", "ä", "a\u0308", "\udcff"]
    assert len({video_path(Path("r"), camera, "v") for camera in cameras}) == len(cameras)


def test_freshness_is_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, metrics(2), METRICS, {"digest": "d"})
    assert is_fresh(path, "d") and not is_fresh(path, "e")
    path.write_bytes(path.read_bytes()[:-5])
    assert not is_fresh(path, "d")
    write_table(path, metrics(2), METRICS)
    assert not is_fresh(path, "d")


def test_orphans_go_and_what_is_wanted_stays(tmp_path: Path) -> None:
    wanted = {tmp_path / "cells/camera_id=a/1.parquet", tmp_path / "decoded.parquet"}
    orphans = {tmp_path / "cells/camera_id=a/2.parquet", tmp_path / "cells/camera_id=b/.1.parquet.77.partial"}
    for path in wanted | orphans:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert remove_orphans(tmp_path, wanted) == 2
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == wanted
    assert not (tmp_path / "cells/camera_id=b").exists()
    assert remove_orphans(tmp_path / "nothing", set()) == 0


def test_the_digest_of_a_file_is_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
