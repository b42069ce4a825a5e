"""How fast the parts are, each beside a named baseline in the same run.

    python -m benchmarks.speed [ROW...] [--json FILE]

A part and its baseline take turns; medians are compared. Without names every row is measured, which takes about half
an hour on 2 cores. It exits with 1 where a target is missed.
"""

import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import av
import cv2
import torch
import typer
from torch import nn

from benchmarks.footage import film, repeat
from vidrnn.analyze import analyze, annotate
from vidrnn.cards import camera_dir
from vidrnn.cells import CELLS, step_by_step
from vidrnn.decode import VideoReader
from vidrnn.encode import VideoWriter
from vidrnn.extract import extract_features
from vidrnn.features import ROWS, FeatureExtractor, Grid, working_picture
from vidrnn.fit import FitTask, fit
from vidrnn.index import index_videos
from vidrnn.losses import nll
from vidrnn.model import NEIGHBOURS, VideoRNN, place_of
from vidrnn.params import load_params
from vidrnn.ray_fit import ray_fit
from vidrnn.score import load_camera_model, score_video
from vidrnn.storage import video_path
from vidrnn.timebase import TimeBase
from vidrnn.train import train
from vidrnn.windows import MODELLED, CellReader, WindowSampler, blocks_of, standard_of

CAMERA, VIDEO = "gate", "gate/train/a.mp4"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """A figure beside its baseline.

    Attributes:
        name: of the row.
        value, baseline: in `unit`.
        unit: of both.
        baseline_name: what the baseline is.
        ratio: how many times better the value is than the baseline; how many times as large where `bounds` says so.
        target: the bound.
        bounds: what the target is a bound of.
        ok: whether it is kept.
        note: what else was measured.
    """

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str
    ratio: float
    target: float
    bounds: str
    ok: bool
    note: str = ""


def _turns(repeats: int, *parts: Callable[[], object]) -> list[float]:
    """Median seconds of each part; they take turns, after one turn that does not count."""
    seconds: list[list[float]] = [[] for _ in parts]
    for turn in range(repeats + 1):
        for k, part in enumerate(parts):
            start = time.perf_counter()
            part()
            if turn:
                seconds[k].append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


class Bench:
    """The rows, and what several of them measure on. Everything lies below `scratch`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self.params = scratch, load_params()

    def _footage(self) -> Path:
        """A folder with two minutes of 720p at 30 frames/s."""
        videos = self._scratch / "videos"
        if not (videos / VIDEO).exists():
            print("drawing two minutes of 720p", flush=True)
            film(videos / VIDEO, 1280, 720, 30, 120, "medium")
        return videos

    def _extract(self, videos: Path, out: Path) -> Path:
        """Decode and analyse a folder from nothing; the root of its features."""
        shutil.rmtree(out, ignore_errors=True)
        index = index_videos(videos, self.params.index, "UTC", out / "sha256.json")
        extract_features(videos, index, self.params.features, out / "features")
        return out / "features"

    def _features(self) -> Path:
        """The features of `_footage`, made once."""
        out = self._scratch / "made"
        return out / "features" if out.exists() else self._extract(self._footage(), out)

    def decode_and_features(self) -> Row:
        """Decoding and features of one file against decoding it and no more."""
        videos = self._footage()

        def bare() -> None:
            with av.open(str(videos / VIDEO)) as file:
                file.streams.video[0].thread_type = "FRAME"
                file.streams.video[0].codec_context.thread_count = 0
                for _ in file.decode(video=0):
                    pass

        def whole() -> None:
            shutil.rmtree(self._scratch / "own", ignore_errors=True)
            command = [sys.executable, "-m", "benchmarks.extraction", str(videos), str(self._scratch / "own")]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds.append(json.loads(printed.splitlines()[-1])["seconds"])

        seconds: list[float] = []
        base = _turns(3, whole, bare)[1]
        own = statistics.median(seconds[1:])
        cpu = time.process_time()
        bare()
        decoding = time.process_time() - cpu
        features = self._feature_seconds(1) * 1200
        ceiling = base / max((decoding + features) / (os.cpu_count() or 1), base)
        return Row(
            "decode_and_features", 3600 / own, "frames/s", 3600 / base, "PyAV decoding alone",
            base / own, 0.55, "the ratio, at least", base / own >= 0.55, f"the two parts allow {ceiling:.2f}",
        )  # fmt: skip

    def _feature_seconds(self, repeats: int) -> float:
        """Seconds a picture of 360 × 240, on one core."""
        pictures = self._pictures()
        grid = Grid.of(360, 240, 240)

        def analyse() -> None:
            extractor = FeatureExtractor(grid, TimeBase(1, 10), 2.0, 20.0, 60.0)
            for k, picture in enumerate(pictures):
                list(extractor.push(k, k, picture))
            list(extractor.flush())

        cv2.setNumThreads(1)
        return _turns(repeats, analyse)[0] / len(pictures)

    def _pictures(self) -> list[Any]:
        """Thirty seconds of the footage at 10 frames/s and 360 × 240."""
        grid = Grid.of(360, 240, 240)
        with VideoReader(self._footage() / VIDEO) as reader:
            frames = (frame for frame in reader.frames() if frame.frame_index % 3 == 0)
            return [working_picture(f.luma, f.limited_range, 0, grid) for f, _ in zip(frames, range(300), strict=False)]

    def features(self) -> Row:
        """Features of pictures that are decoded already, one core."""
        pictures = self._pictures()
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

        def flow_alone() -> None:
            for before, after in itertools.pairwise(pictures):
                flow.calc(before, after, None)  # type: ignore[call-overload]  # as documented

        own = self._feature_seconds(3)
        base = _turns(3, flow_alone)[0] / len(pictures)
        return Row(
            "features", 1 / own, "frames/s", 1 / base, "OpenCV's DIS flow, preset medium, alone",
            base / own, 120, "the value, at least", 1 / own >= 120,
        )  # fmt: skip

    def _task(self) -> FitTask:
        """A training as the params say, on the features of the footage."""
        train_params, path = self.params.train, video_path(self._features() / "cells", CAMERA, VIDEO)
        blocks = blocks_of(path, "", train_params.block_seconds, train_params.gap_seconds)
        standard, place = standard_of(CellReader(), blocks), place_of(ROWS, self._columns(), 0, 1)
        told = ["loss", "learning_rate", "epochs", "batches_per_epoch", "batch_windows", "cells_per_window"]
        told += ["memory_dropout", "gradient_clip", "patience", "seed", "threads", "autocast"]
        return FitTask(
            architecture={
                "num_channels": len(MODELLED),
                "num_horizons": 1,
                "cell": self.params.model.cell,
                "hidden_size": self.params.model.hidden_size,
                "num_layers": self.params.model.num_layers,
                "num_cameras": 1,
                "with_scale": True,
            },
            fit=[(block, standard, place) for block in blocks[:-1]],
            validation=[(blocks[-1], standard, place)],
            initial=None,
            seq_len=20,
            burn_in=2,
            horizons=[5],
            loss_file=str(Path(train_params.loss_file).absolute()),
            deterministic=self.params.device.deterministic,
            **{name: getattr(train_params, name) for name in told},
        )

    def _columns(self) -> int:
        return Grid.of(1280, 720, self.params.features.height).columns

    def train_ray(self) -> Row:
        """Epochs through Ray Train against the bare loop; start-up is the same in a short and a long run."""
        task = self._task()
        short, long = replace(task, epochs=1), replace(task, epochs=5)
        seconds = _turns(
            3,
            lambda: ray_fit(short, "ray", 0, False),
            lambda: ray_fit(long, "ray", 0, False),
            lambda: fit(short, torch.device("cpu")),
            lambda: fit(long, torch.device("cpu")),
        )
        own, base = (seconds[1] - seconds[0]) / 4, (seconds[3] - seconds[2]) / 4
        return Row(
            "train_ray", own, "s an epoch", base, "the bare torch loop",
            base / own, 0.95, "the ratio, at least", base / own >= 0.95,
        )  # fmt: skip

    def train_gru(self) -> Row:
        """Forward and backward of the network against torch's own GRU on sequences of the same shapes."""
        task = self._task()
        torch.set_num_threads(1)
        sampler = WindowSampler(CellReader(), task.fit, task.seq_len, task.horizons, task.cells_per_window, 0.5, 0)
        batch = next(iter(sampler.epoch(1, 1, task.batch_windows, 0, 1)))
        net = VideoRNN(**task.architecture)
        gru = nn.GRU(batch.context.shape[2] + batch.place.shape[1], self.params.model.hidden_size, batch_first=True)
        x = torch.cat([batch.context, batch.place[:, None].expand(-1, task.seq_len, -1)], -1)

        def step() -> None:
            memory, _ = net(batch.context, batch.place, net.initial_state(len(batch.place)))
            loss = nll(*net.predict(memory, batch.place), batch.target, batch.weight[..., None])
            loss.backward()  # type: ignore[no-untyped-call]

        def bare() -> None:
            gru(x)[0].sum().backward()

        own, base = _turns(15, step, bare)
        note = f"{x.shape[0]} sequences of {x.shape[1]} steps, {x.shape[2]} inputs"
        return Row(
            "train_gru", own * 1e3, "ms a step", base * 1e3, "torch.nn.GRU",
            base / own, 0.5, "the ratio, at least", base / own >= 0.5, note,
        )  # fmt: skip

    def mingru_scan(self) -> Row:
        """The parallel scan of mingru against its own steps, forward, one core, 64 sequences of 256 steps."""
        torch.set_num_threads(1)
        hidden = self.params.model.hidden_size
        cell = CELLS["mingru"](hidden, hidden)

        @torch.no_grad()
        def timed(batch: int, steps: int) -> tuple[float, float]:
            x, state = torch.randn(batch, steps, hidden), cell.initial_state(batch)
            whole, single = _turns(31, lambda: cell(x, state), lambda: step_by_step(cell, x, state))
            return whole, single

        training = self.params.train.batch_windows * self.params.train.cells_per_window
        sizes = [(8, 256), (training, 256), (training, 20)]
        others = [(batch, steps, *timed(batch, steps)) for batch, steps in sizes]
        note = "; ".join(f"{batch} × {steps} steps: {base / own:.1f}" for batch, steps, own, base in others)
        own, base = timed(64, 256)
        return Row(
            "mingru_scan", own * 1e3, "ms", base * 1e3, "step by step",
            base / own, 5, "the ratio, at least", base / own >= 5, f"64 × 256 steps; ratios of other sizes: {note}",
        )  # fmt: skip

    def _models(self) -> Path:
        """The models after an epoch on the footage, made once."""
        models = self._scratch / "model"
        if not models.exists():
            features = self._features()
            index = index_videos(self._footage(), self.params.index, "UTC", self._scratch / "sha256.json")
            once = self.params.model_copy(update={"train": self.params.train.model_copy(update={"epochs": 1})})
            train(features, extract_features(self._footage(), index, self.params.features, features), once, models)
        return models

    def score(self) -> Row:
        """Scores of one video from its features, one core, reading and writing included."""
        features, columns = self._features(), self._columns()
        model = load_camera_model(camera_dir(self._models(), CAMERA))
        torch.set_num_threads(1)
        cells, regions = (video_path(features / part, CAMERA, VIDEO) for part in ("cells", "regions"))
        gru = nn.GRU(NEIGHBOURS * len(MODELLED) + 2, self.params.model.hidden_size, batch_first=True)
        x = torch.zeros(ROWS * columns, 16, gru.input_size)

        @torch.no_grad()
        def bare() -> None:
            for _ in range(1200 // 16):
                gru(x)

        outs = self._scratch / "scores.parquet", self._scratch / "windows.parquet"
        own, base = _turns(3, lambda: score_video(model, cells, regions, (1280, 720), *outs, "x"), bare)
        return Row(
            "score", 120 / own, "× real time", 120 / base, "torch.nn.GRU on the same cells",
            base / own, 40, "the value, at least", 120 / own >= 40,
        )  # fmt: skip

    def annotate(self) -> Row:
        """A copy of a video with its tables burnt in, against encoding the pictures of that copy."""
        source, tables, copy = (self._scratch / name for name in ("walk.mp4", "walk", "annotated.mp4"))
        film(source, 640, 360, 10, 60, "medium", seed=1)
        analyze(source, CAMERA, self._models(), self.params, tables, lambda event: None)
        painted: list[Any] = []

        class Keeper(VideoWriter):
            def write(self, image: Any, pts: int | None = None) -> None:
                painted.append(image)
                super().write(image, pts)

        with patch("vidrnn.annotate.VideoWriter", Keeper):
            annotate(source, tables, copy)
        height, width = painted[0].shape[:2]

        def encode() -> None:
            with VideoWriter(self._scratch / "encoded.mp4", width, height, 10) as writer:
                for picture in painted:
                    writer.write(picture)

        own, base = _turns(5, lambda: annotate(source, tables, copy), encode)
        return Row(
            "annotate", own, "s", base, "encoding its pictures",
            own / base, 1.5, "value over baseline, at most", own <= 1.5 * base, f"{len(painted)} of {width} × {height}",
        )  # fmt: skip

    def memory(self) -> Row:
        """Peak memory of a worker of the stage features: half an hour of footage against a minute."""
        minute, peaks = self._scratch / "minute.mp4", []
        film(minute, 1280, 720, 30, 60, "medium")
        for times in (1, 30):
            videos, out = self._scratch / f"times{times}", self._scratch / f"times{times}-out"
            (videos / CAMERA).mkdir(parents=True)
            repeat(minute, videos / CAMERA / "a.mp4", times)
            command = [sys.executable, "-m", "benchmarks.speed", "--extract", str(videos), str(out)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            peaks.append(int(done.stdout.split()[-1]) / 1024)
        short, long = peaks
        ok = long <= 1.1 * short and long <= 700
        return Row(
            "memory", long, "MB", short, "the same for a minute",
            long / short, 1.1, "value over baseline, at most", ok, "and at most 700 MB",
        )  # fmt: skip

    def _project(self) -> Path:
        """A clone of this repository at HEAD that has been through `dvc repro` with 200 short videos."""
        project = self._scratch / "project"
        if project.exists():
            return project
        subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
        for number in range(200):
            night = "train" if number < 20 else "test"
            film(
                project / f"data/videos/{CAMERA}/{night}/{number:03d}.mp4",
                160,
                120,
                10,
                4,
                "veryfast",
                seed=number,
            )
        params = project / "params.yaml"
        text = params.read_text(encoding="utf-8").replace("data/demo/", "data/").replace("epochs: 12", "epochs: 1")
        params.write_text(text, encoding="utf-8")
        print("making results of 200 videos", flush=True)
        _dvc(project, "repro", "report")
        return project

    def dvc_nothing(self) -> Row:
        """`dvc repro` with nothing to do on 200 videos against `dvc status`."""
        project = self._project()
        own, base = _turns(3, lambda: _dvc(project, "repro", "report"), lambda: _dvc(project, "status"))
        return Row(
            "dvc_nothing", own, "s", base, "dvc status",
            own / base, 2.5, "value over baseline, at most", own <= 2.5 * base,
        )  # fmt: skip

    def dvc_one_new(self) -> Row:
        """`dvc repro` with one new video among 200, the model unchanged, against that video's own time."""
        project, extra = self._project(), []
        work = Path("data/videos") / CAMERA / "test"
        source = self._scratch / "one" / CAMERA / "new.mp4"
        for turn in range(3):
            film(source, 160, 120, 10, 4, "veryfast", seed=1000 + turn)
            start = time.perf_counter()
            self._extract(self._scratch / "one", self._scratch / "one-out")
            alone = time.perf_counter() - start
            shutil.copyfile(source, project / work / f"new{turn}.mp4")
            start = time.perf_counter()
            _dvc(project, "repro", "report")
            extra.append((time.perf_counter() - start, alone))
        whole, alone = (statistics.median(column) for column in zip(*extra, strict=True))
        return Row(
            "dvc_one_new", whole, "s", alone, "decoding and features of that video alone",
            whole / alone, 6, "value less baseline, at most", whole <= alone + 6,
        )  # fmt: skip

    def import_vidrnn(self) -> Row:
        """`import vidrnn` against an empty Python."""
        return self._start_up("import_vidrnn", [sys.executable, "-c", "import vidrnn"], 0.15)

    def vidrnn_help(self) -> Row:
        """`vidrnn --help` against an empty Python."""
        return self._start_up("vidrnn_help", [str(Path(sys.executable).with_name("vidrnn")), "--help"], 0.4)

    def _start_up(self, name: str, command: list[str], target: float) -> Row:
        def run(arguments: list[str]) -> None:
            subprocess.run(arguments, check=True, capture_output=True, cwd=self._scratch)

        own, base = _turns(7, lambda: run(command), lambda: run([sys.executable, "-c", "pass"]))
        return Row(
            name, own, "s", base, "python -c pass",
            own / base, target, "value less baseline, at most", own - base <= target,
        )  # fmt: skip


def _dvc(project: Path, *arguments: str) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(project),
    }
    command = [sys.executable, "-m", "dvc", *arguments]
    subprocess.run(command, check=True, capture_output=True, cwd=project, env=environment)


ROWS_OF_TABLE = {
    name: getattr(Bench, name)
    for name in (
        "decode_and_features", "features", "train_ray", "train_gru", "mingru_scan", "score",
        "annotate", "memory", "dvc_nothing", "dvc_one_new", "import_vidrnn", "vidrnn_help",
    )
}  # fmt: skip


def main(names: list[str], json_path: Path | None) -> bool:
    """Measure, print the table as Markdown, write its rows; whether every target was reached."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="vidrnn-speed-") as scratch:
        bench = Bench(Path(scratch))
        for name in names:
            rows.append(ROWS_OF_TABLE[name](bench))
            print(f"{name}: {rows[-1].value:.3g} {rows[-1].unit}", flush=True)
    print("\n| row | value | baseline | ratio | target | reached |\n|---|---|---|---|---|---|")
    for row in rows:
        target = f"{row.bounds} {row.target:g}" + (f" ({row.note})" if row.note else "")
        print(
            f"| {row.name} | {row.value:.3g} {row.unit} | {row.baseline_name}: {row.baseline:.3g} | {row.ratio:.2f} "
            f"| {target} | {'yes' if row.ok else 'no'} |"
        )
    if json_path is not None:
        json_path.write_text(
            json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
    return all(row.ok for row in rows)


def _command(
    rows: Annotated[list[str] | None, typer.Argument(metavar="[ROW]...", help="Which to measure.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
    extract: Annotated[tuple[Path, Path] | None, typer.Option(hidden=True)] = None,
) -> None:
    if extract:  # what `memory` measures, in a process of its own
        Bench(extract[1])._extract(*extract)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
        return
    unknown = set(rows or []) - set(ROWS_OF_TABLE)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not a row; there are {', '.join(ROWS_OF_TABLE)}")
    if not main(rows or list(ROWS_OF_TABLE), json_path):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(_command)
