"""Files: atomic, deterministic writes; per-video outputs that know from what they were made.

A write goes to a temporary name in the same folder and is then renamed, so that a reader finds the old file or the new
one, never half of one. Nothing here writes a clock, a host name or an absolute path.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.errors import SchemaError, out_of_space
from vidrnn.schema import SCHEMA_VERSION, validate

ROW_GROUP_SIZE = 64  # of per-video tensor files: a group of the largest grid stays at a few megabytes


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """What no other finder is asked after."""
        if fullname == "pandas":
            raise ModuleNotFoundError(name=fullname)


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas in this process, a fifth of a second, only to see what it is given.

    It tries that once, when a list first becomes a column. Who asks it for a DataFrame later gets one all the same.
    """
    if "pandas" not in sys.modules:
        finder = _WithoutPandas()
        sys.meta_path.insert(0, finder)
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it takes its place, on an error it is removed.

    Raises:
        VidrnnError: there is no space left; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise out_of_space(error, str(path)) or error from None
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON: sorted keys, two blanks, a final newline; NaN is refused."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: pa.Table, schema: pa.Schema, metadata: dict[str, str] | None = None) -> None:
    """Write a validated table; the same rows and metadata give the same bytes.

    Args:
        path: of the Parquet file.
        table: what to write.
        schema: its contract.
        metadata: strings kept beside the schema version.
    """
    with table_writer(path, schema, metadata) as write:
        write(table)


@contextmanager
def table_writer(
    path: Path, schema: pa.Schema, metadata: dict[str, str] | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that takes parts of a table as they come; row groups are cut at fixed places all the same.

    Bytes depend on the rows alone, not on how they were parted; at most one row group is held. `metadata` is written
    when the file is closed, and may grow until then.
    """
    held: list[pa.Table] = []
    tensors = any(isinstance(field.type, pa.FixedShapeTensorType) for field in schema)
    group = ROW_GROUP_SIZE if tensors else 64 * 1024
    with (
        replacing(path) as partial,
        pq.ParquetWriter(
            partial, schema, compression="zstd", compression_level=3, use_dictionary=not tensors
        ) as writer,
    ):

        def write(part: pa.Table) -> None:
            held.append(validate(part, schema, path.name))
            ready = pa.concat_tables(held)
            whole = ready.num_rows // group * group
            if whole:
                writer.write_table(ready.slice(0, whole).combine_chunks(), row_group_size=group)
                ready = ready.slice(whole)
            held[:] = [ready]

        yield write
        rest = pa.concat_tables(held) if held else schema.empty_table()
        writer.write_table(rest.combine_chunks(), row_group_size=group)
        writer.add_key_value_metadata({"vidrnn_schema": str(SCHEMA_VERSION), **(metadata or {})})


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read and validate a whole table, or some `columns` of it.

    Raises:
        SchemaError: the file is missing, damaged, of another schema version, or breaks its contract.
    """
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    with _opened(path) as file:
        check_version(_strings(file.metadata), path)
        table = file.read(columns)
    return validate(table if columns is None else table.select(columns), wanted, str(path))


def read_columns(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file as it is, or some of its columns in this order.

    `pyarrow.parquet.read_table` imports pandas before it does the same, which takes longer than any small table.
    """
    with pq.ParquetFile(path) as file:
        table = file.read(columns)
    return table if columns is None else table.select(columns)


def check_version(metadata: dict[str, str], path: Path) -> None:
    """Refuse a file that another schema version wrote.

    Raises:
        SchemaError: naming both versions.
    """
    found = metadata.get("vidrnn_schema")
    if found != str(SCHEMA_VERSION):
        raise SchemaError(
            f"{path}: written with schema version {found}, this code reads {SCHEMA_VERSION}; "
            "run the commit that wrote it, or `dvc repro` to make it anew"
        )


def read_metadata(path: Path) -> dict[str, str]:
    """The strings that a Parquet file carries beside its schema.

    Raises:
        SchemaError: the file is missing or damaged.
    """
    with _opened(path) as file:
        return _strings(file.metadata)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError:
        raise SchemaError(f"{path}: not there; run `dvc repro` or `dvc pull`") from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise SchemaError(f"{path}: not a readable Parquet file ({reason}); delete it and run `dvc repro`") from None


def _strings(metadata: pq.FileMetaData) -> dict[str, str]:
    found = (metadata.metadata or {}).items()
    return {key.decode(): value.decode() for key, value in found if not key.startswith((b"ARROW", b"pandas"))}


def sha256_file(path: Path) -> str:
    """The hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The hex sha256 of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def video_path(root: Path, camera_id: str, video_id: str, suffix: str = ".parquet") -> Path:
    """Where the per-video output of `video_id` lies below `root`; a name can neither leave it nor collide."""
    name = hashlib.sha256(video_id.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return camera_folder(root, camera_id) / f"{name}{suffix}"


def camera_folder(root: Path, camera_id: str) -> Path:
    """Where all per-video outputs of a camera lie below `root`."""
    return root / f"camera_id={quote(camera_id, safe='', errors='surrogateescape')}"


def is_fresh(path: Path, wanted_digest: str) -> bool:
    """Whether a per-video output exists, is readable and was made from exactly what would make it now."""
    try:
        return read_metadata(path).get("digest") == wanted_digest
    except SchemaError:
        return False


def remove_orphans(root: Path, wanted: set[Path]) -> int:
    """Delete every file below `root` that is not wanted, and folders left empty; returns how many files went."""
    removed = 0
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()
            removed += 1
    return removed
