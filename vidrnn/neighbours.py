"""The moments of a camera that are most like each of many events, by the table `embeddings`.

`find.py` answers the same for one event, or for any moment, at any revision.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidrnn.embeddings import HOP_SECONDS, WINDOW_SECONDS, Array, Seconds, mean_vector, windows_in
from vidrnn.schema import SCHEMAS, as_rows
from vidrnn.storage import read_table, video_path

Span = tuple[str, float, float]  # a video, and from when until when the windows of an event last, in seconds


@dataclass(frozen=True)
class Moment:
    """A stretch of a video that is like an event; a similarity of 1 is the same."""

    video_id: str
    onset_seconds: float
    offset_seconds: float
    similarity: float

    @property
    def span(self) -> Span:
        """Where it is."""
        return self.video_id, self.onset_seconds, self.offset_seconds


def moments(
    tables: Path, events: Sequence[dict[str, Any]], videos: Sequence[dict[str, Any]], limit: int, apart: float = 0.0
) -> dict[str, list[Moment]]:
    """The moments of its camera that are most like each of some events, whether anything was reported of them or not.

    Windows that touch those of the event are left out, and of windows that touch one another the best stands for all.

    Args:
        tables: the root of the tables of videos, with a folder `embeddings`.
        events: rows of the table `events`; `event_id`, `camera_id`, `video_id`, `onset_seconds` and `offset_seconds`
            count.
        videos: rows of the table `videos`, those among which is searched; of equals the first is named.
        limit: how many moments of each at most.
        apart: windows touch if fewer seconds than this lie between them.

    Returns:
        By event_id, in the order of `events`, the most similar first; none for an event of a video without windows.

    Raises:
        SchemaError: a table is damaged, or of another version.
    """
    found: dict[str, list[Moment]] = {event["event_id"]: [] for event in events}
    kept = limit * math.ceil(2 * (WINDOW_SECONDS + apart) / HOP_SECONDS)  # each that is taken leaves out so many
    for camera_id in dict.fromkeys(event["camera_id"] for event in events):
        ids, spans, asked = _described(tables, [event for event in events if event["camera_id"] == camera_id])
        best: list[list[Moment]] = [[] for _ in ids]
        for video_id in (video["video_id"] for video in videos if video["camera_id"] == camera_id and ids):
            path = video_path(tables / "embeddings", camera_id, video_id)
            if not path.is_file():
                continue
            starts, ends, vectors = _windows(path)
            for k, alike in enumerate((vectors @ asked.T).T):
                if video_id == spans[k][0]:
                    alike[(starts < spans[k][2] + apart) & (ends > spans[k][1] - apart)] = -np.inf
                least = best[k][-1].similarity if len(best[k]) == kept else -np.inf
                rows = np.flatnonzero(alike > least)
                order = rows[np.argsort(-alike[rows], kind="stable")][:kept].tolist()
                near = [Moment(video_id, float(starts[row]), float(ends[row]), float(alike[row])) for row in order]
                best[k] = sorted([*best[k], *near], key=lambda one: -one.similarity)[:kept]
        found |= {event_id: _apart(ranked, limit, apart) for event_id, ranked in zip(ids, best, strict=True)}
    return found


def _apart(ranked: list[Moment], limit: int, apart: float) -> list[Moment]:
    """The best that do not touch a better one."""
    taken: list[Moment] = []
    for one in ranked:
        wide = one.video_id, one.onset_seconds - apart, one.offset_seconds + apart
        if len(taken) < limit and not any(touch(wide, other.span) for other in taken):
            taken.append(one)
    return taken


def touch(one: Span, other: Span) -> bool:
    """Whether two stretches share a moment."""
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _described(tables: Path, events: Sequence[dict[str, Any]]) -> tuple[list[str], list[Span], Array]:
    """Id, span and vector of each event of a camera whose video has windows."""
    of_video: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        of_video[event["video_id"]].append(event)
    ids: list[str] = []
    spans: list[Span] = []
    vectors: list[Array] = []
    for video_id, own in of_video.items():
        path = video_path(tables / "embeddings", own[0]["camera_id"], video_id)
        if not path.is_file():  # as of footage that is no longer scored
            continue
        starts, ends, rows = _windows(path)
        for event in own:
            chosen = windows_in(starts, ends, event["onset_seconds"], event["offset_seconds"])
            ids.append(event["event_id"])
            spans.append((video_id, float(starts[chosen].min()), float(ends[chosen].max())))
            vectors.append(mean_vector(rows[chosen]))
    return ids, spans, np.array(vectors, np.float32)


def _windows(path: Path) -> tuple[Seconds, Seconds, Array]:
    """From when until when each window of a video lasts, in seconds, and its vector."""
    table = read_table(path, SCHEMAS["embeddings"], ["onset_seconds", "offset_seconds", "vector"])
    starts, ends = table["onset_seconds"].to_numpy(), table["offset_seconds"].to_numpy()
    return starts, ends, as_rows(table["vector"])
