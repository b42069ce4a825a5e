"""Label files: what people marked, read strictly. Labels measure, they never train.

`events.csv` holds intervals [onset, offset), in frames (0-based) or in seconds from the video's first frame.
`regions.csv` (where the unusual is) and `objects.csv` (every moving object) hold boxes in pixels of the picture as
displayed, end excluded; a box may reach beyond the picture. `video` is the path relative to `data.videos`.
"""

import csv
import difflib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidrnn.errors import LabelsError

if TYPE_CHECKING:
    import pandas as pd

FILES = ("events.csv", "regions.csv", "objects.csv")
SECONDS_SLACK = 0.5  # an interval in seconds may end this much after the video: people round

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.floating[Any]]
_EVENT_COLUMNS = (("onset_frame", "offset_frame"), ("onset_seconds", "offset_seconds"))
_BOX_COLUMNS = (("frame_index", "x0", "y0", "x1", "y1"),)


@dataclass(frozen=True)
class Labels:
    """What people marked; None where the file is not there.

    A video that `events` does not name is ordinary throughout.
    """

    events: "pd.DataFrame | None"
    """video, onset_frame, offset_frame (int64) or onset_seconds, offset_seconds (float64), kind (text or missing)."""
    regions: "pd.DataFrame | None"
    """video, frame_index (int64), x0, y0, x1, y1 (float64), track_id (text or missing)."""
    objects: "pd.DataFrame | None"
    """As `regions`."""


class _Row(NamedTuple):
    where: str  # file and line
    video: str
    numbers: list[float]
    text: str | None  # the optional column


def load_labels(labels_dir: Path, videos: pa.Table) -> Labels:
    """Read and check every label file of a folder; one without files (dotfiles aside) means no labels.

    Args:
        labels_dir: the folder.
        videos: the table `videos`, against which names and lengths are checked. Lengths are not checked for a video
            that could not be read, or only in part: its labels may be right all the same.

    Raises:
        LabelsError: naming the file, the line, what was expected, what was found and how to mend it.
    """
    if not labels_dir.is_dir():
        raise LabelsError(
            f"{labels_dir}: expected a folder of labels, found none; make it (an empty folder means that there are no "
            "labels) or change `data.labels` in params.yaml"
        )
    names = sorted(path.name for path in labels_dir.iterdir() if not path.name.startswith("."))
    if names and not set(names) & set(FILES):
        raise LabelsError(
            f"{labels_dir}: expected {', '.join(FILES)} or an empty folder, found {', '.join(names[:5])}"
            f"{' and more' if len(names) > 5 else ''}; {_nearest_file(names)}"
        )
    known = {row["video_id"]: row for row in videos.to_pylist()}
    return Labels(
        events=_read_events(labels_dir / FILES[0], known) if FILES[0] in names else None,
        regions=_read_boxes(labels_dir / FILES[1], known) if FILES[1] in names else None,
        objects=_read_boxes(labels_dir / FILES[2], known) if FILES[2] in names else None,
    )


def label_frames(clock: Numbers, intervals: Numbers) -> npt.NDArray[np.bool_]:
    """Whether each instant lies in any interval [onset, offset).

    Args:
        clock: (N,) ascending, frames or seconds.
        intervals: (L, 2) in the same unit.
    """
    unusual = np.zeros(len(clock), dtype=np.bool_)
    for onset, offset in intervals:
        unusual[np.searchsorted(clock, onset) : np.searchsorted(clock, offset)] = True
    return unusual


def _read_events(path: Path, known: dict[str, dict[str, Any]]) -> "pd.DataFrame":
    columns, rows = _read_rows(path, known, _EVENT_COLUMNS, "kind")
    in_frames = columns == _EVENT_COLUMNS[0]
    for row in rows:
        _check_interval(row, columns, known[row.video])
    numbers = np.array([row.numbers for row in rows], dtype=np.int64 if in_frames else np.float64).reshape(-1, 2)
    return _frame(rows, columns, numbers, "kind")


def _read_boxes(path: Path, known: dict[str, dict[str, Any]]) -> "pd.DataFrame":
    columns, rows = _read_rows(path, known, _BOX_COLUMNS, "track_id")
    for row in rows:
        frame_index, x0, y0, x1, y1 = row.numbers
        video = known[row.video]
        if frame_index < 0:
            raise _error(row.where, "a frame_index of 0 or more", f"{frame_index:g}", "frames count from 0")
        if video["status"] == "ok" and frame_index >= video["num_frames"]:
            raise _error(
                row.where,
                f"a frame_index below {video['num_frames']}, the number of frames of {row.video}",
                f"{frame_index:g}",
                "number the frames of this very file, from 0",
            )
        if x0 >= x1 or y0 >= y1:
            raise _error(
                row.where, "x0 < x1 and y0 < y1", f"{x0:g},{y0:g},{x1:g},{y1:g}", "write corners, not width and height"
            )
    numbers = np.array([row.numbers for row in rows], dtype=np.float64).reshape(-1, 5)
    return _frame(rows, columns, numbers, "track_id").astype({"frame_index": np.int64})


def _frame(rows: list[_Row], columns: Sequence[str], numbers: Any, optional: str) -> "pd.DataFrame":
    import pandas as pd  # here, not above: it takes its time, and most footage has no labels

    frame = pd.DataFrame({"video": pd.Series([row.video for row in rows], dtype="str")})
    for position, column in enumerate(columns):
        frame[column] = numbers[:, position]
    frame[optional] = pd.Series([row.text for row in rows], dtype="str")
    return frame


def _check_interval(row: _Row, columns: Sequence[str], video: dict[str, Any]) -> None:
    onset, offset = row.numbers
    in_frames = columns == _EVENT_COLUMNS[0]
    if onset < 0:
        raise _error(
            row.where, f"{columns[0]} of 0 or more", f"{onset:g}", "count from the first frame of the video, which is 0"
        )
    if onset >= offset:
        raise _error(
            row.where,
            f"{columns[0]} before {columns[1]}",
            f"{onset:g} and {offset:g}",
            "the end is excluded: frame 60 alone is 60,61" if in_frames else "swap them or give the event a length",
        )
    if video["status"] != "ok":
        return
    if in_frames and offset > video["num_frames"]:
        raise _error(
            row.where,
            f"an event within the {video['num_frames']} frames of {row.video}",
            f"one up to frame {offset:g}",
            "number the frames of this very file from 0, end excluded",
        )
    length = video["duration_seconds"]
    if not in_frames and length is not None and (onset >= length or offset > length + SECONDS_SLACK):
        raise _error(
            row.where,
            f"an event within the {length:.3f} seconds of {row.video}",
            f"one from {onset:g} to {offset:g}",
            "count seconds from the first frame of this very file",
        )


def _read_rows(
    path: Path, known: dict[str, dict[str, Any]], formats: Sequence[tuple[str, ...]], optional: str
) -> tuple[tuple[str, ...], list[_Row]]:
    """The number columns that the file uses, and its rows: numbers that are numbers, videos that exist."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        columns = _choose_columns(path, header, formats)
        rows = []
        for cells in reader:
            if any(cell.strip() for cell in cells):
                where = f"{path}, line {reader.line_num}"
                rows.append(_read_row(where, header, cells, columns, optional, known))
    except csv.Error as error:
        raise _error(
            f"{path}, line {reader.line_num}", "comma-separated text", str(error), "save the file as CSV"
        ) from None
    return columns, rows


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelsError(
            f"{path}: expected a readable file, found {error.strerror}; mend its kind or rights"
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(
            f"{path}, line {line}", "UTF-8 text", f"the byte 0x{data[error.start]:02x}", "save it as CSV in UTF-8"
        ) from None


def _choose_columns(path: Path, header: list[str], formats: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    where = f"{path}, line 1"
    expected = " or ".join(",".join(("video", *columns)) for columns in formats)
    fitting = [columns for columns in formats if {"video", *columns} <= set(header)]
    if len(fitting) > 1:
        raise _error(
            where, f"the columns {expected}", "both", "keep one pair, so that there is one truth about an event"
        )
    found = ",".join(header) or "nothing"
    if not fitting:
        mend = "separate by commas" if any(sign in found for sign in ";\t") else "rename or add what is missing"
        raise _error(where, f"the columns {expected}", found, mend)
    if any(header.count(name) > 1 for name in ("video", *fitting[0])):
        raise _error(where, "every column once", found, "take the second one out")
    return fitting[0]


def _read_row(
    where: str,
    header: list[str],
    cells: list[str],
    columns: tuple[str, ...],
    optional: str,
    known: dict[str, dict[str, Any]],
) -> _Row:
    if len(cells) != len(header):
        raise _error(
            where, f"{len(header)} cells as in line 1", str(len(cells)), "decimals take a point, missing cells a comma"
        )
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    video = row["video"]
    if video not in known:
        raise _error(
            where, "the path of a video, relative to `data.videos`", repr(video), _nearest_video(video, list(known))
        )
    numbers = [_read_number(where, column, row[column]) for column in columns]
    return _Row(where, video, numbers, row.get(optional) or None)


def _read_number(where: str, column: str, cell: str) -> float:
    whole = "frame" in column
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and not number.is_integer()):
        example = "a whole number as in 60" if whole else "a number as in 12.5"
        raise _error(where, f"{column} to be {example}", repr(cell), "correct it")
    return number


def _nearest_video(video: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(video, sorted(known), n=1, cutoff=0.0)
    return f"the nearest name is {nearest[0]!r}" if nearest else "there is no video yet, so add footage first"


def _nearest_file(names: list[str]) -> str:
    for name in names:
        if nearest := difflib.get_close_matches(name, FILES, n=1, cutoff=0.6):
            return f"rename {name} to {nearest[0]}"
    return "rename what holds labels and take the rest out"


def _error(where: str, expected: str, found: str, mend: str) -> LabelsError:
    return LabelsError(f"{where}: expected {expected}, found {found}; {mend}")
