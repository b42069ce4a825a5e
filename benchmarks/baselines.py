"""What the network is compared with, on the same features and over the same averages: scores without recurrence.

Four know nothing but the present moment: `frame_difference`, `flow_quantile`, `knn` and `gmm`. The fifth is the network
itself with its memory cut. All write score files as the stage `score` does, so that one `evaluate` measures all.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.ndimage import uniform_filter
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from torch import nn

from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.checkpoint import save_model
from vidrnn.events import causal_average, starting_level
from vidrnn.features import CHANNELS, ROWS
from vidrnn.heldout import calibrate
from vidrnn.params import Params, ScoreParams
from vidrnn.schema import SCHEMAS, scores_schema
from vidrnn.score import CameraModel, load_camera_model
from vidrnn.storage import read_table, video_path, write_table
from vidrnn.train import footage_split
from vidrnn.windows import MODELLED, Block, CellReader, Standard, active_cells, standard_of

Array = npt.NDArray[np.float32]
Scorer = Callable[[Array], Array]
"""(1 + n, len(CHANNELS), rows, columns) features to (n, rows, columns) scores of all but the first row, 0 or more."""

_PERSON = (4, 3)  # rows and columns of cells that the window of the other channels covers
_TOP_QUANTILE = 0.995
_BANDS = 5  # of rows, with about as many ordinary cells each
_NEIGHBOURS, _COMPONENTS = 5, 5
_SAMPLE = 4000  # ordinary cells a band that neighbours are searched in, and that a mixture is fitted to
_MAX_CELLS = 400_000  # ordinary cells in memory
_CELL_SECONDS = 0.4  # time constant of the average of a cell, which stays where it is
_LARGEST = np.float32(6e4)  # that a score file holds
_FIRST = CHANNELS.index(MODELLED[0])


@dataclass(frozen=True)
class Ordinary:
    """Active cells of the footage of a camera that its network is fitted to, at most `_MAX_CELLS`.

    Attributes:
        cells: (N, len(MODELLED)) features.
        rows: (N,) of the grid, in which each lies.
        standard: scaling of the network's features.
        seed: of whatever is drawn.
    """

    cells: Array
    rows: npt.NDArray[np.int64]
    standard: Standard
    seed: int

    @classmethod
    def of(cls, blocks: Sequence[Block], seed: int) -> "Ordinary":
        """Gather them, as many of each block."""
        reader, rng = CellReader(), np.random.default_rng(seed)
        cells, rows = [], []
        for block in blocks:
            features = reader.rows(block.path, block.start, block.stop)
            time, row, column = np.nonzero(active_cells(features))
            kept = np.sort(rng.permutation(len(row))[: _MAX_CELLS // len(blocks)])
            cells.append(features[time[kept], :, row[kept], column[kept]])
            rows.append(row[kept])
        return cls(np.concatenate(cells), np.concatenate(rows), standard_of(reader, blocks), seed)


def frame_difference(ordinary: Ordinary) -> Scorer:
    """How much the luma of cells changed from the frame before, over the window of a person. Nothing is learned.

    The difference of the means over cells: the features hold no differences of pixels between frames.
    """
    luma = CHANNELS.index("luma")

    def score(features: Array) -> Array:
        change = np.abs(np.diff(features[:, luma], axis=0))
        smooth: Array = uniform_filter(change, (1, *_PERSON), mode="nearest")
        return smooth

    return score


def flow_quantile(ordinary: Ordinary) -> Scorer:
    """Speed of what moves in a cell over the 99.5 % quantile of its row in ordinary footage, or of all rows."""
    speeds = ordinary.cells[:, MODELLED.index("person_speed")]
    own = [speeds[ordinary.rows == row] for row in range(ROWS)]
    enough = 1 / (1 - _TOP_QUANTILE)  # cells, of which one lies beyond
    usual = np.array([np.quantile(few if len(few) >= enough else speeds, _TOP_QUANTILE) for few in own], np.float32)

    def score(features: Array) -> Array:
        speed = features[1:, CHANNELS.index("person_speed")] / np.maximum(usual, 1e-3)[:, None]
        return np.where(active_cells(features[1:, _FIRST:]), speed, 0)

    return score


def knn(ordinary: Ordinary) -> Scorer:
    """Mean distance of a cell's standardised channels to the nearest of ordinary cells in the same band of rows."""

    def fit(cells: Array) -> Callable[[Array], Array]:
        nearest = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(cells)), algorithm="brute").fit(cells)
        return lambda seen: nearest.kneighbors(seen)[0].mean(1)

    return _by_band(ordinary, fit)


def gmm(ordinary: Ordinary) -> Scorer:
    """How much less likely a cell's standardised channels are than the median ordinary cell of the same band, in nats.

    The density is a mixture of Gaussians with diagonal covariances.
    """

    def fit(cells: Array) -> Callable[[Array], Array]:
        components = min(_COMPONENTS, len(cells))
        mixture = GaussianMixture(components, covariance_type="diag", reg_covar=1e-2, random_state=ordinary.seed)
        usual = np.median(mixture.fit(cells).score_samples(cells))
        return lambda seen: np.maximum(usual - mixture.score_samples(seen), 0)

    return _by_band(ordinary, fit)


BASELINES: dict[str, Callable[[Ordinary], Scorer]] = {
    "frame_difference": frame_difference,
    "flow_quantile": flow_quantile,
    "knn": knn,
    "gmm": gmm,
}


def _by_band(ordinary: Ordinary, fit: Callable[[Array], Callable[[Array], Array]]) -> Scorer:
    """Fit to a sample of the standardised ordinary cells of each band of rows; score active cells by theirs."""
    edges = np.quantile(ordinary.rows, np.arange(1, _BANDS) / _BANDS, method="lower")
    band_of = np.searchsorted(edges, np.arange(ROWS))
    rng = np.random.default_rng(ordinary.seed)
    models = {}
    for band in np.unique(band_of[ordinary.rows]):
        own = ordinary.cells[band_of[ordinary.rows] == band]
        sample = own[rng.permutation(len(own))[:_SAMPLE]]
        models[band] = fit(ordinary.standard.apply(sample[:, :, None, None])[..., 0, 0])

    def score(features: Array) -> Array:
        modelled = features[1:, _FIRST:]
        active = active_cells(modelled)
        seen = ordinary.standard.apply(modelled).transpose(0, 2, 3, 1)
        scores = np.zeros(active.shape, np.float32)
        for band, model in models.items():
            here = active & (band_of == band)[:, None]
            if here.any():
                scores[here] = model(seen[here])
        return scores

    return score


def score_baseline(method: str, index: pa.Table, features: Path, training: pa.Table, params: Params, out: Path) -> None:
    """Write the score file of every scored video, as `score_videos` does for the network.

    Args:
        method: a key of `BASELINES`.
        index: the table `index`.
        features, training: made from it.
        params: sections train, for the split, and score, for the averages.
        out: gets a file a video.
    """
    for camera_id in sorted(set(training["camera_id"].to_pylist())):
        split = footage_split(features, training, camera_id, params)
        scorer = BASELINES[method](Ordinary.of(split.fit, params.train.seed))
        for row in index.to_pylist():
            cells = video_path(features / "cells", camera_id, row["video_id"])
            if row["scored"] and row["camera_id"] == camera_id and pq.read_metadata(cells).num_rows:
                _score_video(scorer, cells, params.score, video_path(out, camera_id, row["video_id"]))


def _score_video(scorer: Scorer, features: Path, params: ScoreParams, out: Path) -> None:
    facts = pq.read_table(features, columns=["frame_index", "pts", "time_seconds", "valid"], partitioning=None)
    times = facts["time_seconds"].to_numpy()
    maps = np.concatenate([scorer(part) for part in _parts(features)])
    maps = np.minimum(averaged(maps, times, _CELL_SECONDS), _LARGEST)
    schema = scores_schema(*maps.shape[1:])
    raw = maps.max((1, 2))
    columns = {
        **{name: facts[name] for name in ("frame_index", "pts", "time_seconds", "valid")},
        "score_raw": raw,
        "score": causal_average(raw, times, params.smoothing_seconds),
        "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(maps.astype(np.float16)),
    }
    nothing = {field.name: pa.nulls(len(times), field.type) for field in schema if field.name not in columns}
    table = pa.table({name: (columns | nothing)[name] for name in schema.names}, schema=schema)
    write_table(out, table, schema)


def _parts(path: Path) -> Iterator[Array]:
    """The features of a video in row groups, each with the row before it in front; the first has itself there."""
    with pq.ParquetFile(path) as file:
        before = None
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns=["cells"])["cells"].combine_chunks().to_numpy_ndarray()
            part = part.astype(np.float32)
            yield np.concatenate([part[:1] if before is None else before, part])
            before = part[-1:]


def averaged(maps: Array, times: npt.NDArray[np.float64], time_constant: float) -> Array:
    """The average of every cell of (n, rows, columns) maps that the network's surprises have, its start included."""
    out, level = np.empty_like(maps), starting_level(maps, times, time_constant)
    for t, current in enumerate(maps):
        rate = 1 - np.exp(-(times[t] - times[max(t - 1, 0)]) / time_constant)
        level = level + np.float32(rate) * (current - level)
        out[t] = level
    return out


def frames_of_scores(index: pa.Table, scores: Path, videos: Path, out: Path) -> None:
    """The tables that `evaluate` reads, from score files alone: without a threshold there are no alarms.

    Args:
        index: the table `index`; files that it calls scored are measured.
        scores: root of the score files.
        videos: the table `videos` of the footage.
        out: gets it, and a file a video below `frames/` and `events/`.
    """
    write_table(out / "videos.parquet", read_table(videos, SCHEMAS["videos"]), SCHEMAS["videos"])
    kept = ["frame_index", "pts", "time_seconds", "valid", "score_raw", "score"]
    for row in index.to_pylist():
        path = video_path(scores, row["camera_id"], row["video_id"])
        if not row["scored"] or not path.is_file():
            continue
        table = pq.read_table(path, columns=kept, partitioning=None).to_pylist()
        key = {"camera_id": row["camera_id"], "video_id": row["video_id"], "recorded_at": None, "alarm": False}
        for name, rows in (("frames", [key | scored for scored in table]), ("events", [])):
            target = video_path(out / name, row["camera_id"], row["video_id"])
            write_table(target, pa.Table.from_pylist(rows, schema=SCHEMAS[name]), SCHEMAS[name])


def without_memory(model: CameraModel) -> CameraModel:
    """The same trained weights, but whatever was seen, each prediction is that of an empty memory: the prior.

    The output layer no longer reads the memory, which is what a memory of zeros gives it. The calibration is still
    that of the whole network: `calibrate` anew before scores are compared.
    """
    net = copy.deepcopy(model.net)
    reads = net.output[0]  # of the memory, and of the place behind it
    assert isinstance(reads, nn.Linear)
    with torch.no_grad():
        reads.weight[:, : net.input.out_features] = 0
    return replace(model, net=net)


def cut_memory(models: Path, features: Path, training: pa.Table, params: Params, out: Path) -> None:
    """The models below `models` as `without_memory`, calibrated on the footage that they were calibrated on.

    Args:
        models: root of a model folder a camera.
        features, training, params: that they were trained with.
        out: gets a model folder a camera, which `score_videos` takes as it takes any other.
    """
    for camera_id in cameras_in(models):
        source = camera_dir(models, camera_id)
        card = {key: value for key, value in load_card(source).items() if key != "version"}
        model = without_memory(load_camera_model(source))
        split = footage_split(features, training, camera_id, params)
        held_out, trimmed = split.validation + split.calibration, card["footage"]["trimmed"]
        fitted = [block for block in split.fit if block.key not in trimmed]
        merge_seconds = params.alarms.merge_seconds
        calibration, heldout = calibrate(model, held_out, fitted, merge_seconds, trimmed=trimmed)
        card |= {"calibration": calibration.to_json(), "heldout": heldout}
        save_model(camera_dir(out, camera_id), model.net.state_dict(), card)
    (out / "cameras.json").write_bytes((models / "cameras.json").read_bytes())
