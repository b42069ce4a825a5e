"""Features that somebody else computed: files of numbers, T frames of F values each, instead of pictures.

`.npy` of shape (T, F), `.parquet` with T rows of F numeric columns, or `.txt` with numbers separated by blanks. A text
is one frame a line; where blank lines or headings stand between its numbers, it is one frame a block of lines. A
heading is a line whose first word is no number and that holds two numbers at most, as in `frame 12 0.48`.

Files are read in order and in parts, whatever their length. Nothing is unpickled.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.errors import DecodeError, printable

MAX_VALUES = 4096  # a frame
_MAX_LINE = 2**20  # bytes of a text
_MAX_NAME = 100  # characters of a column
_CHUNK_ROWS = 256
_EXPECTED = "numbers separated by blanks, a frame a line, or frames that blank lines or headings separate"
_PANDAS_INDEX = "__index_level_"  # how pandas calls a column that holds the names of rows

Array = npt.NDArray[np.float32]
Ragged = Literal["refuse", "pad", "cut"]


@dataclass(frozen=True)
class FeatureSequence:
    """What a file holds.

    Attributes:
        channels: F names, as in `value 3`, or `value speed` where a Parquet column says so.
        num_frames: T; None for a text, of which only reading all of it tells.
        read: starts a pass over the file: parts of T in order, each (n, F) float32 and finite.
    """

    channels: tuple[str, ...]
    num_frames: int | None
    read: Callable[[], Iterator[Array]]


def codec_of(path: Path) -> str | None:
    """What the name says that the file holds: npy, parquet or text; None where it should be a video, or is a folder."""
    codec = {".npy": "npy", ".parquet": "parquet", ".txt": "text"}.get(path.suffix.lower())
    return None if path.is_dir() else codec


def open_sequence(path: Path, ragged: Ragged = "refuse") -> FeatureSequence:
    """Look into a file for which `codec_of` has a name; its numbers are checked as they are read.

    Args:
        path: of the file.
        ragged: what becomes of frames of a text that hold another number of values than the first: they are refused,
            or shorter ones padded with zeros at the end, or longer ones cut.

    Raises:
        DecodeError: it does not hold T > 0 frames of 0 < F <= MAX_VALUES numbers; `read` raises it, too.
    """
    with _told():
        if path.stat().st_size == 0:
            raise DecodeError("is empty")
        if codec_of(path) == "text":
            return _text(path, ragged)
        return _npy(path) if codec_of(path) == "npy" else _parquet(path)


@contextmanager
def _told() -> Iterator[None]:
    """What the system and the Parquet library have to say against a file, as our error."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DecodeError(f"cannot be read ({reason})") from None


# .npy


def _npy(path: Path) -> FeatureSequence:
    with path.open("rb") as file:
        shape, dtype = _npy_header(file)
        start = file.tell()
    if dtype.hasobject:
        raise DecodeError("holds Python objects, which are never unpickled; expected numbers: save it as float32")
    if dtype.kind not in "fiu":
        raise DecodeError(f"holds values of type {dtype}; expected numbers: save it as float32")
    if len(shape) != 2:
        raise DecodeError(f"has the shape {shape}; expected two dimensions, (frames, values)")
    num_frames, num_values = shape
    _check_size(num_frames, num_values)
    found, announced = path.stat().st_size, start + num_frames * num_values * dtype.itemsize
    if found != announced:
        problem = "breaks off: it" if found < announced else "holds more than one array: it"
        raise DecodeError(f"{problem} has {found} bytes where its header announces {announced}")

    def read() -> Iterator[Array]:
        with _told():
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        for first in range(0, num_frames, _CHUNK_ROWS):
            yield _finite(array[first : first + _CHUNK_ROWS], first)

    return FeatureSequence(_numbered(num_values), num_frames, read)


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the array that follows."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:  # of others than 2, only fields with names outside Latin-1 have need
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # whatever numpy's parser of a Python literal makes of bytes that are none
        raise DecodeError(f"is not an array as numpy.save writes it ({' '.join(str(error).split())})") from None
    return shape, dtype


# .parquet


def _parquet(path: Path) -> FeatureSequence:
    with pq.ParquetFile(path) as file:
        schema, num_frames = file.schema_arrow, file.metadata.num_rows
    _check_size(num_frames, len(schema))
    for field in schema:
        if field.name.startswith(_PANDAS_INDEX):
            raise DecodeError(f"holds the index of a table as the column {field.name}; write it with index=False")
        if len(field.name) > _MAX_NAME:
            raise DecodeError(f"has a column whose name is longer than {_MAX_NAME} characters; rename it")
        if not pa.types.is_integer(field.type) and not pa.types.is_floating(field.type):
            raise DecodeError(f"holds values of type {field.type} in the column {field.name}; expected numbers alone")
    channels = tuple(f"value {printable(name)}" for name in schema.names)
    if len(set(channels)) < len(channels):
        twice = next(name for name in schema.names if channels.count(f"value {printable(name)}") > 1)
        raise DecodeError(f"has two columns called {twice}; rename one")

    def read() -> Iterator[Array]:
        first = 0
        with _told(), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_CHUNK_ROWS):
                yield _finite(_columns(batch, first), first)
                first += len(batch)

    return FeatureSequence(channels, num_frames, read)


def _columns(batch: pa.RecordBatch, first: int) -> npt.NDArray[np.generic]:
    for number, column in enumerate(batch.columns):
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise DecodeError(f"holds no number in row {row}, column {number}, both counted from 0")
    return np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)


# .txt


def _text(path: Path, ragged: Ragged) -> FeatureSequence:
    in_blocks = _has_blocks(path)
    line, values = next(_frames(path, in_blocks), (0, []))
    if not values:
        raise DecodeError(f"is text without a line of numbers; expected {_EXPECTED}")
    start, num_values = line, len(values)

    def read() -> Iterator[Array]:
        lines: list[int] = []
        rows: list[list[float]] = []
        first = 0
        for line, values in _frames(path, in_blocks):
            lines.append(line)
            rows.append(_fitted(line, values))
            if len(rows) == _CHUNK_ROWS:
                yield _finite(np.array(rows), first, lines)
                first += len(rows)
                lines, rows = [], []
        if rows:
            yield _finite(np.array(rows), first, lines)

    def _fitted(line: int, values: list[float]) -> list[float]:
        if len(values) == num_values:
            return values
        if ragged == "pad" and len(values) < num_values:
            return values + [0.0] * (num_values - len(values))
        if ragged == "cut" and len(values) > num_values:
            return values[:num_values]
        way, end = ("pad", "filled up with zeros") if len(values) < num_values else ("cut", "cut")
        raise DecodeError(
            f"line {line}: {'a frame that starts here' if in_blocks else 'a frame'} holds {len(values)} values where "
            f"{num_values} were expected, as in the first (line {start}); with features.ragged: {way} it would be {end}"
        )

    return FeatureSequence(_numbered(num_values), None, read)


def _has_blocks(path: Path) -> bool:
    """Whether a blank line or a heading stands between lines that begin with a number."""
    state = 0  # 1 once numbers came, 2 once something else came after them
    for _, line in _lines(path):
        first = line.split(None, 1)[:1]
        if first and _is_number(first[0]):
            if state == 2:
                return True
            state = 1
        elif state == 1:
            state = 2
    return False


def _frames(path: Path, in_blocks: bool) -> Iterator[tuple[int, list[float]]]:
    """The line, counted from 1, in which each frame begins, and its values."""
    held: list[float] = []
    start = 0
    for number, line in _lines(path):
        values = _numbers(line, number)
        if not held:
            start = number
        held += values
        if len(held) > MAX_VALUES:
            what = f"the block of lines that starts in line {start}" if in_blocks else f"line {start}"
            hint = "; if a frame is a line, take out the blank lines and headings" if in_blocks else ""
            raise DecodeError(f"{what} holds more than {MAX_VALUES} values, the most that a frame may have{hint}")
        if held and not (in_blocks and values):
            yield start, held
            held = []
    if held:
        yield start, held


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines as they are, counted from 1."""
    with _told(), path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":  # a byte order mark
            file.seek(0)
        number = 0
        while line := file.readline(_MAX_LINE + 1):
            number += 1
            if len(line) > _MAX_LINE:
                raise DecodeError(f"line {number} is longer than {_MAX_LINE} bytes; expected {_EXPECTED}")
            yield number, line


def _numbers(line: bytes, number: int) -> list[float]:
    """The numbers of a line; none in a heading or a blank line."""
    words = line.split()
    if b"_" not in line:  # which Python allows within a number
        try:
            return list(map(float, words))
        except ValueError:
            pass
    wrong = [word for word in words if not _is_number(word)]
    if not wrong:
        return list(map(float, words))
    if wrong[0] is words[0] and len(words) - len(wrong) <= 2:
        return []
    shown = wrong[0][:20].decode("ascii", "backslashreplace")
    raise DecodeError(f"is text that holds {shown!r} among the numbers of line {number}; expected {_EXPECTED}")


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word


# What they share


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"value {k}" for k in range(count))


def _check_size(num_frames: int, num_values: int) -> None:
    if num_frames < 1:
        raise DecodeError(f"holds no frame: 0 rows of {num_values} values")
    if not 1 <= num_values <= MAX_VALUES:
        raise DecodeError(f"holds {num_values} values a frame; expected 1 to {MAX_VALUES}")


def _finite(rows: npt.NDArray[np.generic], first: int, lines: list[int] | None = None) -> Array:
    """(n, F) numbers, the first of them in row `first`, as float32.

    Raises:
        DecodeError: one is no finite float32; with its row and column, and the line of its frame in a text.
    """
    with np.errstate(over="ignore"):
        values: Array = np.ascontiguousarray(rows, np.float32)
    if np.isfinite(values).all():
        return values
    row, column = map(int, np.argwhere(~np.isfinite(values))[0])
    found = float(rows[row, column])
    where = f"row {first + row}, column {column}, both counted from 0"
    where += f" (line {lines[row]})" if lines else ""
    problem = "which is too large for float32" if math.isfinite(found) else "which is no number to learn from"
    raise DecodeError(f"holds {found:g} in {where}, {problem}; expected finite numbers")
