"""One file through the current model, in one process and without DVC: its events as they are found, and its tables."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from vidrnn.annotate import annotate_video
from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.device import choose_device
from vidrnn.errors import UserError, nearest
from vidrnn.events import Span, causal_average, find_events, risen_since
from vidrnn.extract import extract_video
from vidrnn.features import CHANNELS, FeatureRow
from vidrnn.index import index_video
from vidrnn.params import AlarmsParams, Params
from vidrnn.schema import SCHEMAS
from vidrnn.score import CameraModel, load_camera_model, reasons_of, score_video
from vidrnn.storage import read_table, video_path
from vidrnn.surprise import Surprise
from vidrnn.tables import explain, make_video_tables
from vidrnn.timebase import TimeBase
from vidrnn.windows import MODELLED

Event = dict[str, Any]


def choose_camera(models: Path, source: Path, camera: str | None) -> str:
    """The camera whose model is asked: the one named, that of the nearest folder above the file, or the only one.

    Raises:
        UserError: there is none such, or no model at all.
    """
    known = cameras_in(models)
    if not known:
        raise UserError(f"{models}: holds no model yet; run `dvc repro`, or `dvc pull` to fetch one made elsewhere")
    if camera is None:
        folders = [folder.name for folder in source.absolute().parents]  # a link stands where it is
        found = next((folder for folder in folders if folder in known), None)
        if found is None and len(known) > 1:
            raise UserError(f"{source}: of which camera? Name it with --camera; {nearest(folders[0], known)}")
        camera = found or known[0]
    if camera not in known:
        raise UserError(f"no camera with a model is called {camera!r}; {nearest(camera, known)}")
    return camera


def analyze(
    source: Path, camera: str, models: Path, params: Params, out: Path, found: Callable[[Event], None]
) -> pa.Table:
    """Decode, score and tabulate one file.

    Args:
        source: a video, a folder of numbered pictures, or a sequence of features.
        camera: whose model is asked.
        models: root of the models.
        params: of features, device and alarms.
        out: gets `videos.parquet`, a folder a table, and pictures below `media/`, as below `data/`.
        found: is told of each unusual interval while decoding goes on, as soon as it is over: `onset_seconds`,
            `offset_seconds`, `peak_seconds`, `peak_score`, `rarity` and `reason`. Not of those of the camera itself,
            which are only known in the end.

    Returns:
        The table `events`.

    Raises:
        UserError: the file is no video, or has other features than those that the model learned.
    """
    torch.set_num_threads(1)  # as in the stage: the bits do not depend on how many cores there are
    facts = index_video(source, camera, params.index, params.data.time_zone)
    home = camera_dir(models, camera)
    model, card = load_camera_model(home, choose_device(params.device)), load_card(home)
    listener = _Listener(model, params.alarms, found)
    key = facts["camera_id"], facts["video_id"]
    with TemporaryDirectory(prefix="vidrnn-") as scratch:
        features, scores = Path(scratch, "features"), Path(scratch, "scores")
        decoded = extract_video(source, facts, params.features, features, listener.hear)
        listener.flush()
        cells, regions = (video_path(features / part, *key) for part in ("cells", "regions"))
        picture = (facts["width"], facts["height"]) if facts["width"] else None
        scored, windows = (video_path(root, *key) for root in (scores, scores / "windows"))
        score_video(model, cells, regions, picture, scored, windows, "")
        make_video_tables(source, facts, decoded, features, scores, card, params.alarms, out, out / "media")
    return read_table(video_path(out / "events", *key), SCHEMAS["events"])


def annotate(source: Path, out: Path, target: Path) -> None:
    """Write a copy of a file with what its tables below `out` say of it burnt in.

    Raises:
        UserError: it has no pictures.
    """
    (video,) = read_table(out / "videos.parquet", SCHEMAS["videos"]).to_pylist()
    if not video["width"]:
        raise UserError(f"{source}: has no pictures that could be annotated")
    key = video["camera_id"], video["video_id"]
    frames, events, detections = (
        read_table(video_path(out / name, *key), SCHEMAS[name]) for name in ("frames", "events", "detections")
    )
    time_base = TimeBase(video["time_base_num"], video["time_base_den"])
    annotate_video(source, time_base, frames, events, detections, target)


class _Listener:
    """Feature rows in, unusual intervals out, as soon as no further alarm could still belong to them."""

    def __init__(self, model: CameraModel, alarms: AlarmsParams, found: Callable[[Event], None]) -> None:
        assert model.calibration is not None
        self._model, self._merge_seconds, self._found = model, alarms.merge_seconds, found
        self._questions, self._tail = model.calibration.questions, model.calibration.tail
        self._threshold = self._tail.threshold(alarms.per_hour)
        self._told = -1.0  # up to where events were told of: not again where a damaged file is decoded twice
        self._begin()

    def _begin(self) -> None:
        self._observer = self._model.observer()
        self._level: float | None = None
        self._last = -1
        self._waiting: list[tuple[float, bool]] = []  # seconds and validity of rows that have no score yet
        self._times: list[float] = []
        self._scores: list[float] = []
        self._alarms: list[bool] = []
        self._valid: list[bool] = []
        self._reasons: list[Event] = []

    def hear(self, rows: list[FeatureRow], start: int, base: TimeBase) -> None:
        """Take the next rows; `start` is the pts of the first frame."""
        if rows[0].frame_index <= self._last:
            self._begin()
        if self._model.layout.channels != MODELLED:
            return  # the scoring will say what is wrong
        times = np.array([base.seconds(row.pts - start) for row in rows])
        cells = np.stack([row.cells for row in rows])[:, CHANNELS.index(MODELLED[0]) :].astype(np.float32)
        self._waiting += zip(times.tolist(), (row.valid for row in rows), strict=True)
        self._last = rows[-1].frame_index
        self._take(self._observer.push(cells, times))

    def flush(self) -> None:
        """Tell of what the end of the footage ends."""
        self._take(self._observer.flush())
        self._tell(over=float("inf"))

    def _take(self, stretches: Iterator[Surprise]) -> None:
        """Score what the observer has seen: at a start it waits for some rows before it speaks of the first."""
        for stretch in stretches:
            raw = self._judge(stretch)
            times, valid = zip(*self._waiting[: len(raw)], strict=True)
            del self._waiting[: len(raw)]
            # The average goes on from where it was.
            before = [] if self._level is None else [(self._times[-1], self._level)]
            moments = np.array([*(time for time, _ in before), *times])
            smooth = causal_average([*(level for _, level in before), *raw], moments, self._model.smoothing_seconds)
            smooth = smooth[len(before) :]
            self._level = float(smooth[-1])
            self._times += times
            self._scores += smooth.tolist()
            self._valid += valid
            self._alarms += [bool(now and score > self._threshold) for now, score in zip(valid, smooth, strict=True)]
            self._tell(over=times[-1] - self._merge_seconds)

    def _judge(self, stretch: Surprise) -> npt.NDArray[np.float32]:
        """The highest score of each frame; keeps the reasons."""
        maps = self._questions.score(stretch.maps)
        self._reasons += reasons_of(self._model, stretch, maps.reshape(len(maps), -1).argmax(1))
        highest: npt.NDArray[np.float32] = maps.max((1, 2))
        return highest

    def _tell(self, over: float) -> None:
        """Of the events whose last alarm lies before `over`; what they are made of is forgotten."""
        done = 0
        for span in self._spans():
            if self._times[span.stop - 1] >= over:
                break
            done = span.stop
            if self._times[span.start] > self._told:
                self._told = self._times[span.stop - 1]
                self._found(self._event(span))
        if not any(self._alarms[done:]):
            done = max(done, risen_since(np.array(self._times)))
        for held in (self._times, self._scores, self._alarms, self._valid, self._reasons):
            del held[:done]

    def _spans(self) -> Iterator[Span]:
        scores, times = np.array(self._scores, np.float32), np.array(self._times)
        yield from find_events(scores, np.array(self._alarms), np.array(self._valid), times, self._merge_seconds)

    def _event(self, span: Span) -> Event:
        names = ("quantity", "memory_steps", "expected_low", "expected_high", "seen")
        reason = explain(*(self._reasons[span.peak][f"reason_{name}"] for name in names))[1]
        score = self._scores[span.peak]
        return {
            "onset_seconds": self._times[span.start],
            "offset_seconds": self._times[min(span.stop, len(self._times) - 1)],
            "peak_seconds": self._times[span.peak],
            "peak_score": score,
            "rarity": self._tail.per_hour(score),
            "reason": reason,
        }
