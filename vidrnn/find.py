"""The moments of a camera that are most like an event, or like a moment of a file, by the table `embeddings`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from vidrnn.embeddings import Array, Seconds, mean_vector, most_similar, windows_in
from vidrnn.errors import UserError, nearest
from vidrnn.neighbours import Span, touch
from vidrnn.reading import TABLES, open_dataset, read_rows
from vidrnn.results import event
from vidrnn.revisions import Repository
from vidrnn.schema import SCHEMAS, as_rows

EXACT_WINDOWS = 1_000_000  # up to so many, comparing all of them takes seconds
_BATCH_ROWS = 65536  # 32 MiB of vectors at a time
_MORE = 8  # times as many windows as moments are wanted: neighbours are one moment
_NAMES = SCHEMAS["embeddings"].names
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        moments: the most similar first; of each `similarity` (1 is the same), `video_id`, `onset_seconds`,
            `offset_seconds`, `recorded_at`, and `event_id` and `reason` of the most unusual event that it touches, or
            None.
        num_windows: of the camera, all of which were compared.
    """

    moments: list[dict[str, Any]]
    num_windows: int


def find(query: str, limit: int, rev: str | None = None, repo: str | Path = ".") -> Found:
    """The moments of the same camera that are most like an event, or like a moment of a file.

    Every vector of the camera is compared, a batch at a time. Windows that touch the one asked for are left out, and of
    neighbours the best stands for all.

    Args:
        query: the id of an event, or `FILE@TIME`: a `video_id` or a path that ends in one, and seconds,
            minutes:seconds or hours:minutes:seconds since its first frame.
        limit: how many moments.
        rev: a Git revision; None reads the workspace.
        repo: any folder inside the checkout, or a URL.

    Raises:
        UserError: there is no such event, file or moment.
    """
    here = Repository.at(repo)
    return _find(here, rev, *_asked(here, rev, query), limit)


def find_like(
    video: str, onset: float, offset: float | None, limit: int, rev: str | None = None, repo: str | Path = "."
) -> Found:
    """`find` of an interval of a video, or of the moment `onset` where `offset` is None, in seconds."""
    return _find(Repository.at(repo), rev, video, onset, offset, limit)


def _find(here: Repository, rev: str | None, video: str, onset: float, offset: float | None, limit: int) -> Found:
    own = read_rows(here, rev, "embeddings", _NAMES, pc.field("video_id") == video, video=video)
    if not own.num_rows:
        raise UserError(
            f"{video}{here.of(rev)} has no windows to compare; nothing of it was scored: see `vidrnn table videos`"
        )
    vectors, starts, ends = as_rows(own["vector"]), own["onset_seconds"].to_numpy(), own["offset_seconds"].to_numpy()
    if offset is None:
        chosen = _around(starts, ends, onset, f"{video}{here.of(rev)}")
    else:
        chosen = windows_in(starts, ends, onset, offset)
    asked = video, float(starts[chosen].min()), float(ends[chosen].max())
    wanted = mean_vector(vectors[chosen])

    camera = own["camera_id"][0].as_py()
    of_camera = pc.field("camera_id") == camera
    found: list[dict[str, Any]] = []
    count = limit * _MORE
    with here.telling(rev, TABLES["embeddings"]):
        dataset = open_dataset(here, rev, "embeddings", camera, None)
        table = dataset.to_table(columns=[name for name in _NAMES if name != "vector"], filter=of_camera)
        while len(found) < limit:
            found = _apart(table, most_similar(wanted, _batches(dataset, of_camera), count), asked, limit)
            if count >= table.num_rows:
                break
            count *= _MORE
    names = ["event_id", "video_id", "onset_seconds", "offset_seconds", "peak_score", "reason"]
    events = read_rows(here, rev, "events", names, of_camera, camera=camera).to_pylist()
    return Found(_with_events(found, events), table.num_rows)


def _around(starts: Seconds, ends: Seconds, moment: float, what: str) -> npt.NDArray[np.int64]:
    """The window in whose middle a moment is, as nearly as can be."""
    inside = np.flatnonzero((starts <= moment) & (moment < ends))
    if not len(inside):
        edges = np.concatenate([starts, ends])
        raise UserError(
            f"{what} shows nothing at {moment:g} seconds: it lasts {ends.max():g} seconds, and the nearest footage is "
            f"at {edges[np.abs(edges - moment).argmin()]:g}"
        )
    return inside[[np.abs((starts + ends)[inside] / 2 - moment).argmin()]]


def _asked(here: Repository, rev: str | None, query: str) -> tuple[str, float, float | None]:
    """The video, and an interval or a moment of it, in seconds."""
    if "@" not in query:
        _, row = event(here, query, [rev], here.of(rev), "; ask for a moment of a file by FILE@TIME")
        return row["video_id"], row["onset_seconds"], row["offset_seconds"]
    file, _, time = query.rpartition("@")
    match = _TIME.fullmatch(time)
    if not match:
        raise UserError(
            f"{query!r}: expected FILE@TIME, TIME in seconds, minutes:seconds or hours:minutes:seconds, found {time!r}"
        )
    known = sorted(read_rows(here, rev, "videos", ["video_id"])["video_id"].to_pylist())
    meant = [video for video in known if file == video or Path(file).as_posix().endswith(f"/{video}")]
    if not meant:
        raise UserError(f"no video{here.of(rev)} is called {file!r}; {nearest(file, known)}")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return max(meant, key=len), 3600 * hours + 60 * minutes + seconds, None


def _batches(dataset: ds.Dataset, which: pc.Expression) -> Iterator[tuple[int, Array]]:
    first = 0
    for batch in dataset.to_batches(
        columns=["vector"], filter=which, batch_size=_BATCH_ROWS, batch_readahead=1, fragment_readahead=1
    ):
        yield first, as_rows(batch["vector"])
        first += batch.num_rows


def _apart(table: pa.Table, ranked: list[tuple[int, float]], asked: Span, limit: int) -> list[dict[str, Any]]:
    """The best of what is ranked that touch neither what was asked for nor a better one."""
    taken = [asked]
    found: list[dict[str, Any]] = []
    for row, alike in ranked:
        at = {name: values[0] for name, values in table.slice(row, 1).to_pydict().items()}
        span = at["video_id"], at["onset_seconds"], at["offset_seconds"]
        if any(touch(span, other) for other in taken):
            continue
        taken.append(span)
        names = ("video_id", "onset_seconds", "offset_seconds", "recorded_at")
        found.append({"similarity": round(alike, 6), **{name: at[name] for name in names}})
        if len(found) == limit:
            break
    return found


def _with_events(found: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moments, each with the most unusual event that it touches, as the report names it."""
    events = sorted(events, key=lambda row: (-row["peak_score"], row["event_id"]))
    spans = [(row["video_id"], row["onset_seconds"], row["offset_seconds"]) for row in events]
    for moment in found:
        own = moment["video_id"], moment["onset_seconds"], moment["offset_seconds"]
        inside = next((row for row, span in zip(events, spans, strict=True) if touch(own, span)), None)
        moment["event_id"], moment["reason"] = (inside["event_id"], inside["reason"]) if inside else (None, None)
        moment["recorded_at"] = _text(moment["recorded_at"])
    return found


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
