"""Where in the picture: maps of cell scores and the moving regions of a frame become boxes with scores.

A cell speaks of all that lies in its window, so that one unusual thing raises every cell around it. The highest cell
stands for it, and takes with it all cells whose windows touch the box that it is given.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidrnn.features import WINDOWS
from vidrnn.schema import BOX, SCHEMAS
from vidrnn.storage import read_table

Floats = npt.NDArray[np.floating[Any]]

_SEVERAL = 6.0  # window sizes beyond which a region is several things that touch; the window points better then


@dataclass(frozen=True)
class CellGrid:
    """Where the cells of a picture lie, in displayed pixels.

    Attributes:
        rows, columns: of cells.
        picture: displayed (width, height).
    """

    rows: int
    columns: int
    picture: tuple[int, int]

    @cached_property
    def cell_size(self) -> Floats:
        """Width and height of a cell."""
        return np.array(self.picture) / (self.columns, self.rows)

    @cached_property
    def window_size(self) -> Floats:
        """Width and height of the person-sized window around a cell."""
        height, width = (side / 40 for side in WINDOWS["person"])  # in picture heights
        return np.array([width * self.rows / self.columns, height]) * self.picture

    def centre(self, cell: int) -> Floats:
        """x and y of a cell's; cells count from 0, row by row."""
        row, column = divmod(cell, self.columns)
        return (np.array([column, row]) + 0.5) * self.cell_size

    def box(self, cell: int, regions: Floats) -> Floats:
        """(4,), the moving region that shares most of a cell's window; the window where none does, or one too large.

        Args:
            cell: as in `centre`.
            regions: (N, 4) boxes of what moves.
        """
        centre, half = self.centre(cell), self.window_size / 2
        window: Floats = np.concatenate([np.maximum(centre - half, 0), np.minimum(centre + half, self.picture)])
        if not len(regions):
            return window
        low, high = np.maximum(regions[:, :2], window[:2]), np.minimum(regions[:, 2:], window[2:])
        sides = np.maximum(high - low, 0)
        shared = sides[:, 0] * sides[:, 1]
        best: Floats = regions[int(shared.argmax())]
        return best if shared.max() > 0 and _size(best) <= _SEVERAL * _size(window) else window

    def near(self, box: Floats) -> tuple[slice, slice]:
        """The rows and columns of the cells whose windows touch a box."""
        x0, y0 = np.floor((box[:2] - self.window_size / 2) / self.cell_size - 0.5).astype(int) + 1
        x1, y1 = np.ceil((box[2:] + self.window_size / 2) / self.cell_size - 0.5).astype(int)
        return slice(max(y0, 0), y1), slice(max(x0, 0), x1)


def _size(box: Floats) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def unusual_regions(scores: Floats, regions: Floats, grid: CellGrid) -> tuple[Floats, Floats]:
    """The boxes of a frame that stand out, and by how much: at any threshold, those that score at least as much.

    Args:
        scores: (rows, columns) of its cells; 0 where nothing is there.
        regions: (N, 4) boxes of what moves in it.
        grid: of the cells.

    Returns:
        (P, 4) boxes and (P,) scores, falling: each that of the highest cell that no box before it has taken.
    """
    left = np.maximum(scores, 0)
    boxes, found = [], []
    while left.any():
        cell = int(left.argmax())
        box = grid.box(cell, regions)
        boxes.append(box)
        found.append(left.flat[cell])
        left[grid.near(box)] = 0
        left.flat[cell] = 0  # whatever rounding says
    return np.array(boxes).reshape(-1, 4), np.array(found)


def moving_boxes(path: Path, frame_index: npt.NDArray[np.int64]) -> list[Floats]:
    """Boxes of what moves in each frame of `frame_index`, (N, 4) displayed pixels.

    Args:
        path: of a file of the table `regions`.
        frame_index: (T,) ascending.
    """
    table = read_table(path, SCHEMAS["regions"], ["frame_index", *BOX])
    frames = table["frame_index"].to_numpy()
    boxes = np.stack([table[name].to_numpy() for name in BOX], 1)
    return [boxes[own] for own in rows_of(frames, frame_index)]


def rows_of(frames: npt.NDArray[np.int64], frame_index: npt.NDArray[np.int64]) -> list[slice]:
    """Which rows of a table, whose frames are (N,) ascending `frames`, are of each frame of (T,) `frame_index`."""
    starts, stops = (np.searchsorted(frames, frame_index, side=side).tolist() for side in ("left", "right"))
    return list(map(slice, starts, stops))
