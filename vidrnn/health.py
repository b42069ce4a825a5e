"""How a camera is, night by night: its picture, its frames and its scores against the nights before, and a sentence.

A night is a local date of `recorded_at`; footage that does not know when it was recorded belongs to none.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.storage import read_table, video_path

NIGHTS = 7  # before, with footage, that a night is compared with
AWAY = 7  # nights without footage that are told of, as long as the report expects a camera to come back
_DARK = 0.5  # of the brightness before; below it the night is dark
_BLURRED = 0.5  # likewise of the sharpness: from a blur of 1.5 pixels at 240 lines, or a thirtieth of the bytes
_FOGGED = 0.6  # likewise of the contrast for its brightness: less light alone lowers both
_SLOW = 0.8  # likewise of the frame rate
_MOVED = 0.5  # correlation of the mean picture with that of before, below which it shows another view
_STRANGE = 1.5  # of the highest such score before

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Night:
    """What the footage of a camera and a night shows; None where there was none to see.

    Attributes:
        num_videos, hours: of footage.
        picture: (rows, columns), the mean of every frame, 0 to 1; None without pictures, as of sequences.
        contrast: levels, mean over analysed frames.
        sharpness: as `camera.sharpness` has it, the median of those that show an edge.
        frame_rate: frames/s.
        score_median, score_high: of valid analysed frames, the median and the 99th percentile.
    """

    num_videos: int
    hours: float
    picture: Array | None
    contrast: float | None
    sharpness: float | None
    frame_rate: float | None
    score_median: float | None
    score_high: float | None

    @property
    def brightness(self) -> float | None:
        """Of the picture, 0 to 1."""
        return None if self.picture is None else float(self.picture.mean())

    @property
    def clearness(self) -> float | None:
        """Contrast for its brightness; fog lowers the one and not the other."""
        return self.contrast / self.brightness if self.contrast is not None and self.brightness else None


def health(features: Path, tables: Path, params: Params) -> pa.Table:
    """The table `health`: a row a camera and night, from its first to the last of all cameras.

    After so many nights without footage there is none until the next with some: a camera that was taken away, or one
    wrong clock, would fill years with such rows.

    Args:
        features, tables: roots of earlier stages.
        params: data.time_zone counts.
    """
    zone = ZoneInfo(params.data.time_zone)
    videos: dict[str, dict[date, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in read_table(tables / "videos.parquet", SCHEMAS["videos"]).to_pylist():
        if row["recorded_at"] is not None and row["num_frames"]:
            videos[row["camera_id"]][row["recorded_at"].astimezone(zone).date()].append(row)
    last = max((night for nights in videos.values() for night in nights), default=date.min)
    rows = []
    for camera_id, nights in sorted(videos.items()):
        before: list[_Night] = []
        for night in _told(sorted(nights), last):
            seen = _look(features, tables, nights[night]) if night in nights else None
            rows.append({"camera_id": camera_id, "night": night.isoformat(), **_row(seen, before[-NIGHTS:])})
            if seen is not None:
                before.append(seen)
    return pa.Table.from_pylist(rows, schema=SCHEMAS["health"])


def _told(nights: list[date], last: date) -> Iterator[date]:
    """The nights of a camera with footage, and those without up to the next one, or the last; at most AWAY of them."""
    ahead = [*((then - night).days for night, then in pairwise(nights)), (last - nights[-1]).days + 1]
    for night, days in zip(nights, ahead, strict=True):
        yield from (night + timedelta(days=k) for k in range(min(days, AWAY + 1)))


def _look(features: Path, tables: Path, rows: list[dict[str, Any]]) -> _Night:
    frames = sum(row["num_frames"] for row in rows)
    seconds = sum(row["duration_seconds"] or 0.0 for row in rows)
    pictures: list[Array] = []
    contrasts: list[Array] = []
    sharpnesses: list[Array] = []
    scores: list[Array] = []
    for row in rows:
        key = row["camera_id"], row["video_id"]
        if row["width"] and video_path(features / "shots", *key).is_file():
            shots = read_table(video_path(features / "shots", *key), SCHEMAS["shots"], ["signature"])["signature"]
            pictures.append(shots.combine_chunks().to_numpy_ndarray().astype(np.float64).sum(0) / 255)
            views = video_path(features / "views", *key)
            contrasts.append(_column(views, "contrast"))
            # Features of footage that is retired stay as they were made, also before this was measured.
            if "sharpness" in pq.read_schema(views).names:
                sharpnesses.append(_column(views, "sharpness"))
        if video_path(tables / "frames", *key).is_file():
            scored = read_table(video_path(tables / "frames", *key), SCHEMAS["frames"], ["score", "valid"])
            scores.append(scored["score"].to_numpy()[scored["valid"].to_numpy()].astype(np.float64))
    contrast, sharpness, score = (
        np.concatenate(parts) if parts else np.empty(0) for parts in (contrasts, sharpnesses, scores)
    )
    sharpness = sharpness[sharpness > 0]
    shown = sum(row["num_frames"] for row in rows if row["width"])
    return _Night(
        num_videos=len(rows),
        hours=seconds / 3600,
        picture=np.sum(pictures, axis=0) / shown if pictures else None,
        contrast=float(contrast.mean()) if len(contrast) else None,
        sharpness=float(np.median(sharpness)) if len(sharpness) else None,
        frame_rate=frames / seconds if seconds else None,
        score_median=float(np.median(score)) if len(score) else None,
        score_high=float(np.quantile(score, 0.99)) if len(score) else None,
    )


def _column(views: Path, column: str) -> Array:
    return np.asarray(read_table(views, SCHEMAS["views"], [column])[column].to_numpy(), np.float64)


def _row(seen: _Night | None, before: list[_Night]) -> dict[str, Any]:
    """The columns of a night; null where there is nothing to tell of."""
    if seen is None:
        empty = {name: None for name in SCHEMAS["health"].names if name not in ("camera_id", "night")}
        return {**empty, "num_videos": 0, "hours": 0.0, "ok": False, "message": "no footage"}
    pictures = [night.picture for night in before if night.picture is not None]
    framing = None
    if seen.picture is not None and pictures:
        framing = _correlation(seen.picture, np.median(pictures, axis=0))
    said = _sentences(seen, framing, before)
    numbers = {
        "hours": seen.hours,
        "brightness": seen.brightness,
        "contrast": seen.contrast,
        "sharpness": seen.sharpness,
        "framing": framing,
        "frame_rate": seen.frame_rate,
        "score_median": seen.score_median,
        "score_high": seen.score_high,
    }
    return {
        "num_videos": seen.num_videos,
        **{name: None if value is None else round(value, 6) for name, value in numbers.items()},
        "ok": not said,
        "message": "; ".join(said),
    }


def _correlation(one: Array, other: Array) -> float:
    """Of two pictures, whatever their brightness and contrast; 1 where one of them is plain and cannot tell."""
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / size) if size > 1e-9 else 1.0


def _sentences(seen: _Night, framing: float | None, before: list[_Night]) -> list[str]:
    said = []
    if _fell(seen.brightness, brightness := _usual([night.brightness for night in before]), _DARK):
        said.append(f"dark: the picture is {seen.brightness:.0%} bright where {brightness:.0%} was usual")
    elif framing is not None and framing < _MOVED:
        said.append(f"the camera moved: the picture is like that of the nights before by {framing:.2f} of 1")
    else:
        sharpness = _usual([night.sharpness for night in before])
        if seen.sharpness and sharpness and seen.sharpness < _BLURRED * sharpness:
            said.append(f"blurred: edges are {seen.sharpness / sharpness:.0%} as sharp as usual")
        if _fell(seen.clearness, _usual([night.clearness for night in before]), _FOGGED):
            contrast = _usual([night.contrast for night in before])
            said.append(f"of low contrast, as in fog: {seen.contrast:.0f} levels where {contrast:.0f} were usual")
    if _fell(seen.frame_rate, rate := _usual([night.frame_rate for night in before]), _SLOW):
        said.append(f"the frame rate fell to {seen.frame_rate:.1f} frames a second from {rate:.1f}")
    highs = [night.score_high for night in before if night.score_high is not None]
    if highs and seen.score_high is not None and seen.score_high > _STRANGE * max(highs):
        said.append(
            f"scores drift: one frame in a hundred is above {seen.score_high:.2f}, before {max(highs):.2f} at most"
        )
    return said


def _usual(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _fell(now: float | None, usual: float | None, share: float) -> bool:
    return now is not None and usual is not None and now < share * usual
