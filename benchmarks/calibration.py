"""False alarms promised and seen, on ordinary footage that nothing was learned from.

    python -m benchmarks.calibration --scratch DIR [--hours N] [--drawn-hours N] [--data DIR ...] [--json FILE]

Each camera of the demo is trained with the project's params on the demo's ordinary footage, and its threshold is set
from the held-out blocks of that footage alone. Then it watches ordinary footage of the same place that it has never
seen, in files as long as the demo's, and its false alarms are counted: merged events, not frames.

    rendered     `--hours` camera-hours of video, drawn, encoded, decoded and analysed as the demo is
    drawn cells  `--drawn-hours` camera-hours more at the level of features (`benchmarks/drawn.py` says what that leaves
                 out), with models of their own, which are trained on as much footage drawn in the same way
    a DIR        as `benchmarks.quality` takes it: the frames of its test clips that are labelled as ordinary

A promise is kept where the 90 % Poisson interval of the rate that was seen meets half to twice the promised one. Where
fewer than 5 false alarms are to be expected, the footage is too short to tell, and the row says how many hours are
missing.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from benchmarks.drawn import DrawnJob, score_drawn, write_drawn
from vidrnn.calibration import Calibration, Series, Tail, merged_peaks, seconds_of
from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.demo import render_plans
from vidrnn.demo_plan import FILE_SECONDS, Plan, plan_demo, plan_file
from vidrnn.demo_scene import PLACES
from vidrnn.errors import LabelsError, VidrnnError
from vidrnn.extract import extract_features
from vidrnn.fan_out import fan_out_all
from vidrnn.gate import gate
from vidrnn.index import index_videos
from vidrnn.labels import label_frames, load_labels
from vidrnn.metrics import Bools, Ints, poisson_interval
from vidrnn.params import Params, load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.sources import stage_digest
from vidrnn.storage import digest, read_table, video_path
from vidrnn.tables import make_tables, read_scores
from vidrnn.train import train

PROMISES = (1.0, 10.0, 60.0)  # false alarms a camera-hour
CONFIDENCE = 0.9
LEAST_EXPECTED = 5.0
FACTOR = 2.0  # within which the rate seen is to be that promised
_WATCHED = 2  # the part of the demo's seeds that the footage takes which is watched; 0 and 1 are the demo's own


class Watched(NamedTuple):
    """What a camera, whose threshold comes from `tail`, saw."""

    tail: Tail
    series: list[Series]


@dataclass(frozen=True)
class Row:
    """A line of the table: a promise, false alarms a camera-hour, and what came of it."""

    data: str
    promised: float
    hours: float
    seen: int

    @property
    def expected(self) -> float:
        """How many false alarms the promise allows for."""
        return self.promised * self.hours

    def interval(self) -> tuple[float, float]:
        """Of the rate seen."""
        return poisson_interval(self.seen, self.hours, CONFIDENCE)

    def verdict(self) -> str:
        """Whether the promise is kept, or how many hours are missing to tell."""
        if self.expected < LEAST_EXPECTED:
            return f"{LEAST_EXPECTED / self.promised - self.hours:.2f} hours are missing"
        low, high = self.interval()
        return "yes" if low <= FACTOR * self.promised and high >= self.promised / FACTOR else "no"


def main(scratch: Path, hours: float, drawn_hours: float, data: Sequence[Path], json_path: Path | None = None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    params = load_params()
    merge_seconds = params.alarms.merge_seconds
    rows = []
    for name, cameras in _measured(scratch, hours, drawn_hours, data, params):
        rows += rows_of(name, cameras, merge_seconds)
    print("\n" + table(rows))
    if json_path is not None:
        json_path.write_text(json.dumps([figure for row in rows for figure in figures(row)], indent=2) + "\n", "utf-8")


def _measured(
    scratch: Path, hours: float, drawn_hours: float, data: Sequence[Path], params: Params
) -> Iterator[tuple[str, list[Watched]]]:
    if hours:
        yield "rendered", _rendered(scratch, hours, params)
    if drawn_hours:
        yield "drawn cells", _drawn(scratch, drawn_hours, params)
    for directory in data:
        yield directory.name, _labelled(directory, params)


def rows_of(data: str, cameras: Sequence[Watched], merge_seconds: float) -> list[Row]:
    """A row a promise."""
    return [row_of(data, promised, cameras, merge_seconds) for promised in PROMISES]


def row_of(data: str, promised: float, cameras: Sequence[Watched], merge_seconds: float) -> Row:
    """Count the merged events of all cameras, each above its own threshold."""
    seen = sum(
        len(merged_peaks(scores, times, tail.threshold(promised), merge_seconds))
        for tail, series in cameras
        for scores, times in series
    )
    return Row(data, promised, sum(seconds_of(times) for _, series in cameras for _, times in series) / 3600, seen)


def table(rows: Sequence[Row]) -> str:
    """As Markdown, a line a promise."""
    head = ("footage", "promised an hour", "hours", "expected", "seen", "seen an hour (90 %)", "kept")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        low, high = row.interval()
        rate = f"{row.seen / row.hours:.2f} ({low:.2f}–{high:.2f})"
        cells = (row.data, f"{row.promised:g}", f"{row.hours:.2f}", f"{row.expected:.1f}", str(row.seen), rate)
        lines.append("| " + " | ".join([*cells, row.verdict()]) + " |")
    return "\n".join(lines)


def figures(row: Row) -> list[dict[str, Any]]:
    """As `benchmarks.quality` writes them: false alarms expected and seen of a promise."""
    key = {"data": row.data, "method": "vidrnn", "seeds": 1}
    low, high = (rate * row.hours for rate in row.interval())
    promised = {"column": f"false_alarms_promised_{row.promised:g}", "value": row.expected}
    seen = {"column": f"false_alarms_seen_{row.promised:g}", "value": row.seen, "low": low, "high": high}
    return [key | promised | {"low": row.expected, "high": row.expected}, key | seen]


# Rendered -------------------------------------------------------------------------------------------------------------


def watched_plans(params: Params, hours: float, part: int) -> list[Plan]:
    """Ordinary footage of the demo's places, `hours` in all; `part` of the demo's seeds is a draw of its own."""
    rate = params.demo.frame_rate
    cameras = sorted(PLACES)
    count = max(1, round(hours * 3600 / len(cameras) / FILE_SECONDS))
    return [
        plan_file(
            camera,
            "test",
            f"{camera}/test/watched-{i:04d}.mp4",
            FILE_SECONDS * rate,
            (params.demo.seed, index, part, i),
            (),
            rate,
        )
        for index, camera in enumerate(cameras)
        for i in range(count)
    ]


def _rendered(scratch: Path, hours: float, params: Params) -> list[Watched]:
    """Kept below `scratch` and used again."""
    ordinary = [plan for plan in plan_demo(params.demo) if plan.split == "train"]
    plans = [*ordinary, *watched_plans(params, hours, _WATCHED)]
    drawn_by = stage_digest("demo", params.demo.model_dump(), ["av", "numpy", "opencv-python-headless"])
    root = scratch / digest([drawn_by, [(plan.video, plan.num_frames, plan.seed) for plan in plans]])[:12]
    if not (root / "labels" / "objects.csv").is_file():  # written last
        render_plans(root / "videos", root / "labels", plans, params.demo.frame_rate)
    index = _score(root / "videos", root, params)
    return _watched(index, root, lambda video_id, frames: np.ones(len(frames), np.bool_))


def _score(videos: Path, root: Path, params: Params) -> pa.Table:
    """Train the cameras of some footage and score it, all below `root`; returns the table `index`."""
    index = index_videos(videos, params.index, params.data.time_zone, root / "sha256.json")
    training = extract_features(videos, index, params.features, root / "features")
    train(root / "features", training, params, root / "candidate")
    gate(root / "features", training, root / "candidate", root / "champion", root / "model", params)
    score_videos(index, root / "features", root / "model", root / "scores", params.device)
    return index


def _watched(index: pa.Table, root: Path, is_ordinary: Callable[[str, Ints], Bools]) -> list[Watched]:
    """Each camera, in the frames of its scored videos for which `is_ordinary`, given their `frame_index`."""
    cameras = []
    for camera_id in cameras_in(root / "model"):
        tail = Calibration.from_json(load_card(camera_dir(root / "model", camera_id))["calibration"]).tail
        own = index.filter((pc.field("camera_id") == camera_id) & pc.field("scored"))["video_id"].to_pylist()
        paths = {video_id: video_path(root / "scores", camera_id, video_id) for video_id in own}
        stretches = [
            stretch
            for video_id, path in paths.items()
            if path.is_file()
            for stretch in _stretches(read_scores(path), partial(is_ordinary, video_id))
        ]
        cameras.append(Watched(tail, stretches))
    return cameras


def _stretches(scores: pa.Table, is_ordinary: Callable[[Ints], Bools]) -> list[Series]:
    """The unbroken stretches of a score file that are ordinary and can raise an alarm."""
    kept = scores["valid"].to_numpy(zero_copy_only=False) & is_ordinary(scores["frame_index"].to_numpy())
    rows = np.flatnonzero(kept)
    score, seconds = scores["score"].to_numpy(), scores["time_seconds"].to_numpy()
    return [(score[own], seconds[own]) for own in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(own)]


# Labelled -------------------------------------------------------------------------------------------------------------


def _labelled(directory: Path, params: Params) -> list[Watched]:
    """The frames of the test clips of a data set that its labels call ordinary."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        index = _score(directory / "videos", root, params)
        made = root / "features", root / "model", root / "scores"
        make_tables(directory / "videos", index, *made, params.alarms, root / "tables", root / "media")
        return watched_calm(index, root, directory / "labels")


def watched_calm(index: pa.Table, root: Path, labels: Path) -> list[Watched]:
    """Each camera, in the frames that labels call ordinary, from the models, scores and tables below `root`.

    Raises:
        LabelsError: the labels do not say what is ordinary.
    """
    videos = read_table(root / "tables" / "videos.parquet", SCHEMAS["videos"])
    events = load_labels(labels, videos).events
    if events is None or "onset_frame" not in events.columns:
        raise LabelsError(
            f"{labels}: expected events.csv with onset_frame and offset_frame, which say what is ordinary; found none"
        )

    def is_ordinary(video_id: str, frames: Ints) -> Bools:
        marked = events.loc[events["video"] == video_id, ["onset_frame", "offset_frame"]].to_numpy()
        return ~label_frames(frames, marked)

    return _watched(index, root, is_ordinary)


# Drawn ----------------------------------------------------------------------------------------------------------------


def _drawn(scratch: Path, hours: float, params: Params) -> list[Watched]:
    """Models of their own, trained on drawn cells; what is watched is drawn, scored and forgotten file by file."""
    root = scratch / "drawn"
    ordinary = [plan for plan in plan_demo(params.demo) if plan.split == "train"]
    training = write_drawn(ordinary, root / "features", params)
    train(root / "features", training, params, root / "candidate")
    plans = watched_plans(params, hours, _WATCHED)
    cameras = []
    for camera_id in cameras_in(root / "candidate"):
        model = camera_dir(root / "candidate", camera_id)
        jobs = [DrawnJob(plan, model, params) for plan in plans if plan.camera == camera_id]
        series = list(fan_out_all("drawn cells", score_drawn, jobs, lambda job: job.plan.video))
        cameras.append(Watched(Calibration.from_json(load_card(model)["calibration"]).tail, series))
    return cameras


def _command(
    scratch: Annotated[Path, typer.Option(help="Where footage and models are kept; may be used again.")],
    hours: Annotated[float, typer.Option(min=0, help="Camera-hours of rendered footage.")] = 2.0,
    drawn_hours: Annotated[float, typer.Option(min=0, help="Camera-hours of drawn cells.")] = 20.0,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder with videos/ and labels/.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        main(scratch, hours, drawn_hours, data or [], json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
