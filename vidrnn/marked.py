"""Where in the feature files those events are that people have marked: what is learned on its own, what is left out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidrnn.features import MAX_STEP_SECONDS
from vidrnn.feedback import Mark
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_columns, read_table, video_path
from vidrnn.windows import Block

_PAD_SECONDS = 1.0  # before and after an event: it begins before its alarm does


@dataclass(frozen=True)
class Marked:
    """A mark and its rows [start, stop) in a feature file, and rows [first, last) with some time around them."""

    mark: Mark
    path: Path
    start: int
    stop: int
    first: int
    last: int
    seconds: float  # of the wider stretch

    def block(self) -> Block:
        """The wider stretch, as a block to learn from."""
        key = f"{self.mark.sha256}:{self.mark.event_id}"
        return Block(str(self.path.absolute()), key, self.first, self.last, self.seconds)


def find_marked(features: Path, marks: Iterable[Mark], camera_id: str, least_rows: int = 0) -> list[Marked]:
    """Where the marked events of a camera are; those whose footage or features have gone are left out.

    Args:
        features: root of the feature files.
        marks: of all cameras.
        camera_id: the camera.
        least_rows: that the wider stretch has, if its file does.
    """
    columns = ["camera_id", "video_id", "sha256", "num_analysed"]
    decoded = read_table(features / "decoded.parquet", SCHEMAS["decoded"], columns)
    homes = {
        row["sha256"]: video_path(features / "cells", camera_id, row["video_id"])
        for row in decoded.to_pylist()
        if row["camera_id"] == camera_id and row["num_analysed"]
    }
    found = []
    for mark in marks:
        if mark.sha256 not in homes:
            continue
        path = homes[mark.sha256]
        table = read_columns(path, ["pts", "time_seconds"])
        pts, times = table["pts"].to_numpy(), table["time_seconds"].to_numpy()
        start, stop = np.searchsorted(pts, [mark.onset_pts, mark.offset_pts]).tolist()
        if start < stop:
            first, last = _widened(times, start, stop, least_rows)
            found.append(Marked(mark, path, start, stop, first, last, float(times[last - 1] - times[first])))
    return found


def _widened(times: npt.NDArray[np.float64], start: int, stop: int, least_rows: int) -> tuple[int, int]:
    """Rows around [start, stop), without a gap in time between them."""
    gaps = np.flatnonzero(np.diff(times) > MAX_STEP_SECONDS) + 1
    low = int(max(gaps[gaps <= start], default=0))
    high = int(min(gaps[gaps >= stop], default=len(times)))
    first = max(low, int(np.searchsorted(times, times[start] - _PAD_SECONDS)))
    last = min(high, int(np.searchsorted(times, times[stop - 1] + _PAD_SECONDS, side="right")))
    first = max(low, min(first, last - least_rows))
    return first, min(high, max(last, first + least_rows))


def without(blocks: Sequence[Block], marked: Iterable[Marked]) -> list[Block]:
    """The blocks less the marked stretches: what is left of one keeps its key, so that it keeps its purpose."""
    left = list(blocks)
    for gone in marked:
        kept: list[Block] = []
        for block in left:
            if block.path != str(gone.path.absolute()) or gone.last <= block.start or block.stop <= gone.first:
                kept.append(block)
                continue
            for start, stop in ((block.start, gone.first), (gone.last, block.stop)):
                if start < stop:
                    seconds = block.seconds * (stop - start) / (block.stop - block.start)
                    kept.append(replace(block, start=start, stop=stop, seconds=seconds))
        left = kept
    return left
