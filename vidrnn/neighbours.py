"""Which events of a camera are most alike, by the table `embeddings`; `find.py` searches among all moments."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidrnn.embeddings import Array, mean_vector, windows_in
from vidrnn.schema import SCHEMAS, as_rows
from vidrnn.storage import read_table, video_path

_ROWS = 1024  # of events that are compared with all others at a time
Span = tuple[str, float, float]  # a video, and from when until when the windows of an event last, in seconds


@dataclass(frozen=True)
class Neighbour:
    """An event like another one; a similarity of 1 is the same."""

    event_id: str
    similarity: float


def neighbours(
    tables: Path, events: Sequence[dict[str, Any]], limit: int, wanted: Collection[str] | None = None
) -> dict[str, list[Neighbour]]:
    """The most similar of some events to each of them, among those of its camera, the most similar first.

    Events whose windows touch see the same frames; they are no neighbours.

    Args:
        tables: the root of the tables of videos, with a folder `embeddings`.
        events: rows of the table `events`; `event_id`, `camera_id`, `video_id`, `onset_seconds` and `offset_seconds`
            count.
        limit: how many neighbours of each at most.
        wanted: ids of those whose neighbours are asked for; None for all.

    Returns:
        By event_id, in the order of `events`; none for an event of a video that has no windows.

    Raises:
        SchemaError: a table is damaged, or of another version.
    """
    found: dict[str, list[Neighbour]] = {
        event["event_id"]: [] for event in events if wanted is None or event["event_id"] in wanted
    }
    for camera_id in dict.fromkeys(event["camera_id"] for event in events):
        ids, spans, vectors = _described(tables, [event for event in events if event["camera_id"] == camera_id])
        asked = [k for k, event_id in enumerate(ids) if event_id in found]
        for first in range(0, len(asked), _ROWS):
            own = asked[first : first + _ROWS]
            for k, row in zip(own, vectors[own] @ vectors.T, strict=True):
                ranked = (
                    other for other in np.argsort(-row, kind="stable").tolist() if not touch(spans[k], spans[other])
                )
                best = [
                    Neighbour(ids[other], float(row[other])) for other, _ in zip(ranked, range(limit), strict=False)
                ]
                found[ids[k]] = best
    return found


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
        windows = read_table(path, SCHEMAS["embeddings"], ["onset_seconds", "offset_seconds", "vector"])
        starts, ends = windows["onset_seconds"].to_numpy(), windows["offset_seconds"].to_numpy()
        rows = as_rows(windows["vector"])
        for event in own:
            chosen = windows_in(starts, ends, event["onset_seconds"], event["offset_seconds"])
            ids.append(event["event_id"])
            spans.append((video_id, float(starts[chosen].min()), float(ends[chosen].max())))
            vectors.append(mean_vector(rows[chosen]))
    return ids, spans, np.array(vectors, np.float32)
