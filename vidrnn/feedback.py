"""What people said of events: `data/feedback.csv`.

A mark names its footage by sha256 and keeps the interval and the box, so that it outlives every retraining and a move
of the file. The last mark of an event counts.
"""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vidrnn.errors import UserError
from vidrnn.storage import replacing

FEEDBACK = Path("data/feedback.csv")
NORMAL, UNUSUAL = "normal", "unusual"


@dataclass(frozen=True)
class Mark:
    """What somebody said of an event.

    Attributes:
        event_id: of it.
        verdict: `normal` or `unusual`.
        camera_id, video_id: where it was when it was marked.
        sha256: of its footage.
        onset_pts, offset_pts: its interval.
        x0, y0, x1, y1: its box in pixels, as text; empty where it has none.
        note: what else was said.
    """

    event_id: str
    verdict: str
    camera_id: str
    video_id: str
    sha256: str
    onset_pts: int
    offset_pts: int
    x0: str
    y0: str
    x1: str
    y1: str
    note: str


_COLUMNS = [field.name for field in fields(Mark)]


def read_marks(path: Path) -> list[Mark]:
    """The marks of a file, the last of each event, in the order of events.

    Raises:
        UserError: the file is not there, or a row is not as it should be.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it with `git checkout {path}`") from None
    if not rows or rows[0] != _COLUMNS:
        raise UserError(f"{path}: expected the columns {','.join(_COLUMNS)}, found {','.join(rows[0]) if rows else ''}")
    marks = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        values = dict(zip(_COLUMNS, row, strict=False))
        if len(row) != len(_COLUMNS) or values["verdict"] not in (NORMAL, UNUSUAL):
            raise UserError(
                f"{path}, row {number}: expected {len(_COLUMNS)} values with the verdict {NORMAL} or {UNUSUAL}, found "
                f"{','.join(row)!r}; mend or delete the row"
            )
        try:
            onset, offset = int(values.pop("onset_pts")), int(values.pop("offset_pts"))
        except ValueError:
            raise UserError(f"{path}, row {number}: onset_pts and offset_pts should be whole numbers") from None
        marks[values["event_id"]] = Mark(**values, onset_pts=onset, offset_pts=offset)
    return [marks[event_id] for event_id in sorted(marks)]


def add_mark(path: Path, mark: Mark) -> None:
    """Append a row in one step, below the header where the file is new."""
    if path.is_file():
        read_marks(path)  # what is there must be sound
        before = path.read_text(encoding="utf-8")
    else:
        before = ",".join(_COLUMNS) + "\n"
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(asdict(mark).values())
    with replacing(path) as partial:
        partial.write_text(before + ("" if before.endswith("\n") else "\n") + row.getvalue(), encoding="utf-8")
