"""Small feature files without a video: noise in which something walks to the right, and the tables around them."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import torch

from vidrnn.calibration import Calibration, Questions, Tail
from vidrnn.camera import View
from vidrnn.checkpoint import save_model
from vidrnn.embeddings import Usual
from vidrnn.features import CHANNELS, ROWS
from vidrnn.fit import FitTask
from vidrnn.model import VideoRNN, place_of
from vidrnn.params import load_params
from vidrnn.schema import EMBEDDING_SIZE, SCHEMAS, cells_schema
from vidrnn.storage import video_path, write_json, write_table
from vidrnn.surprise import shares
from vidrnn.windows import MODELLED, CellReader, blocks_of, standard_of

TICKS = 1000  # a second
USUAL = View(agreement=0.9, detail=1.0, contrast=40.0, change=2.0, shift_x=0.0, shift_y=0.0)


def walking(num_rows, columns, seed, speed=0.3):
    """(num_rows, C, ROWS, columns) float16: one walker of a person's size, a column every other row, who sways."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((num_rows, len(CHANNELS), ROWS, columns))
    row, start = rng.integers(6, 14), rng.integers(columns)
    means = {"foreground": 0.5, "moving": 0.4, "speed": speed, "velocity_x": speed, "velocity_y": 0.0, "spread": 0.05}
    for t in range(num_rows):
        column = (start + t // 2) % columns
        sway = 1 + 0.5 * np.sin(t * 2 * np.pi / 20)
        around = np.s_[row - 1 : row + 2, max(column - 1, 0) : column + 2]
        for k, name in enumerate(CHANNELS):
            mean = means.get(name.split("_", 1)[-1], 0.1)
            noise = rng.normal(0, 0.02, cells[t, k][around].shape)
            cells[t, k][around] = mean * sway + noise
    return cells.astype(np.float16)


def write_cells(path, cells, times=None, warmup=0, digest="made"):
    """A feature file as the stage `features` writes it; 10 rows a second unless `times` says otherwise."""
    times = np.arange(len(cells)) / 10 if times is None else np.asarray(times, float)
    schema = cells_schema(*cells.shape[1:])
    table = pa.table(
        {
            "frame_index": np.arange(len(cells)),
            "pts": np.round(times * TICKS).astype(np.int64),
            "time_seconds": times,
            "valid": np.arange(len(cells)) >= warmup,
            "cells": pa.FixedShapeTensorArray.from_numpy_ndarray(cells)
            if len(cells)
            else schema.empty_table()["cells"].combine_chunks(),
        },
        schema=schema,
    )
    alone = cells.shape[2:] == (1, 1)  # a sequence of features that somebody else computed
    named = {"channels": json.dumps([f"value {k}" for k in range(cells.shape[1])])} if alone else {}
    write_table(path, table, schema, {"digest": digest, **named})
    return path


def write_regions(path, rows):
    """Moving regions: (frame_index, x0, y0, x1, y1) in displayed pixels, of no velocity."""
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("frame_index", "x0", "y0", "x1", "y1"))}
    zeros = [0.0] * len(rows)
    columns |= {"pts": [row[0] * 100 for row in rows], "area": zeros, "velocity_x": zeros, "velocity_y": zeros}
    columns["pieces"] = [[] for _ in rows]
    schema = SCHEMAS["regions"]
    write_table(path, pa.table({name: columns[name] for name in schema.names}, schema=schema), schema)


def write_views(path, views, ticks, step=1):
    """How pictures compare with their background: of every `step`th source frame, at these pts."""
    rows = [asdict(view) | {"frame_index": step * k, "pts": ticks[k], "sharpness": 1.0} for k, view in enumerate(views)]
    write_table(path, pa.Table.from_pylist(rows, schema=SCHEMAS["views"]), SCHEMAS["views"])


def write_shots(path, shots):
    """Signatures of frames: (pts, (S, S) uint8) each."""
    schema = SCHEMAS["shots"]
    signatures = schema.empty_table()["signature"].combine_chunks()
    if shots:
        signatures = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([signature for _, signature in shots]))
    columns = {"frame_index": np.arange(len(shots)), "pts": np.array([pts for pts, _ in shots], np.int64)}
    write_table(path, pa.table({**columns, "signature": signatures}, schema=schema), schema)


def small_params(**sections):
    """`params.yaml`, with a training of about a second; `sections` such as train={"seed": 1} go on top."""
    small = {
        "model": {"hidden_size": 6, "horizons_seconds": (0.3,)},
        "train": {
            "epochs": 2,
            "batches_per_epoch": 3,
            "batch_windows": 2,
            "cells_per_window": 8,
            "seq_seconds": 0.8,
            "burn_in_seconds": 0.2,
            "learning_rate": 0.01,
            "block_seconds": 6.0,
            "gap_seconds": 1.0,
        },
    }
    params = load_params()
    for section in {**small, **sections}:
        changed = {**small.get(section, {}), **sections.get(section, {})}
        params = params.model_copy(update={section: getattr(params, section).model_copy(update=changed)})
    return params


class Footage:
    """A features folder and the tables `index` and `training` beside it."""

    def __init__(self, root):
        self.features = root / "features"
        self._index, self._decoded, self._training = [], [], []

    def add(
        self, video_id, cells, times=None, trains=True, scored=True, warmup=5, regions=(), size=(64, 48), views=None
    ):
        """A video of camera `video_id.split("/")[0]`; its camera shows its own view unless `views` say otherwise."""
        camera_id = video_id.split("/")[0]
        sha256 = hashlib.sha256(cells.tobytes()).hexdigest()
        made = hashlib.sha256(f"{video_id}{sha256}".encode()).hexdigest()
        path = write_cells(video_path(self.features / "cells", camera_id, video_id), cells, times, warmup, made)
        write_regions(video_path(self.features / "regions", camera_id, video_id), regions)
        views = [USUAL] * len(cells) if views is None else views
        write_views(video_path(self.features / "views", camera_id, video_id), views, range(len(views)))
        seconds = len(cells) / 10
        key = {"camera_id": camera_id, "video_id": video_id, "sha256": sha256}
        self._index.append(
            {
                **key,
                "codec": "h264",
                "width": size[0],
                "height": size[1],
                "rotation": 0,
                "time_base_num": 1,
                "time_base_den": TICKS,
                "duration_seconds": seconds,
                "recorded_at": None,
                "recorded_at_source": "none",
                "trains": trains,
                "scored": scored,
                "status": "ok",
                "message": "",
            }
        )
        counts = {"num_frames": len(cells), "num_analysed": len(cells), "num_undecodable": 0}
        self._decoded.append({**key, **counts, "duration_seconds": seconds, "status": "ok", "message": ""})
        if trains:
            self._training.append({**key, "digest": made, "num_analysed": len(cells)})
        decoded = pa.Table.from_pylist(self._decoded, schema=SCHEMAS["decoded"])
        write_table(self.features / "decoded.parquet", decoded, SCHEMAS["decoded"])
        return path

    def remove(self, video_id):
        """Take a video out of the tables."""
        for rows in (self._index, self._decoded, self._training):
            rows[:] = [row for row in rows if row["video_id"] != video_id]

    @property
    def index(self):
        return pa.Table.from_pylist(self._index, schema=SCHEMAS["index"])

    @property
    def training(self):
        return pa.Table.from_pylist(self._training, schema=SCHEMAS["training"])


def small_task(root):
    """Three short blocks of footage below `root`, two to fit and one to judge."""
    paths = [write_cells(root / f"{k}.parquet", walking(80, 3, k)) for k in range(3)]
    blocks = [block for k, path in enumerate(paths) for block in blocks_of(path, f"{k}", 30.0, 5.0)]
    standard, place = standard_of(CellReader(), blocks[:2]), place_of(ROWS, 3, 0, 1)
    parts = [(block, standard, place) for block in blocks]
    return FitTask(
        architecture={
            "num_channels": len(MODELLED),
            "num_horizons": 2,
            "cell": "gru",
            "hidden_size": 6,
            "num_layers": 1,
            "num_cameras": 1,
            "with_scale": True,
        },
        fit=parts[:2],
        validation=parts[2:],
        initial=None,
        seq_len=8,
        burn_in=2,
        horizons=[1, 3],
        loss_file="vidrnn/losses.py",
        loss="nll",
        learning_rate=0.01,
        epochs=4,
        batches_per_epoch=4,
        batch_windows=2,
        cells_per_window=8,
        memory_dropout=0.5,
        gradient_clip=1.0,
        patience=4,
        seed=0,
        threads=1,
        deterministic=False,
        autocast=False,
    )


def tensor_bytes(weights):
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


def files_of(root):
    """The bytes of every file below a folder, by relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def save_camera_model(directory, seed=0, columns=4, tail=(1.0, 10, 0.5, 1.0)):
    """An untrained model with all that scoring needs; returns its version."""
    architecture = {
        "num_channels": len(MODELLED),
        "num_horizons": 1,
        "cell": "gru",
        "hidden_size": 5,
        "num_layers": 1,
        "num_cameras": 1,
        "with_scale": True,
    }
    torch.manual_seed(seed)
    rng, asked = np.random.default_rng(seed), 2 * len(MODELLED)
    width = rng.uniform(0.5, 2, (asked, ROWS, columns)).astype(np.float32)
    base = rng.uniform(0.5, 4, asked).round(4).astype(np.float32)
    base.reshape(2, -1)[:, MODELLED.index("person_foreground")] = 9  # it would lead everywhere
    excess = rng.uniform(0.1, 2, asked).round(4).astype(np.float32)
    questions = Questions(width, base, excess, shares(1))
    calibration = Calibration(questions, Tail(*tail))
    size = architecture["hidden_size"] + asked
    card = {
        "windows": Usual(np.zeros(size), np.ones(size), np.eye(min(size, EMBEDDING_SIZE - 1))).to_json(),
        "architecture": architecture,
        "channels": list(MODELLED),
        "standard": {"mean": [0.1] * len(MODELLED), "sd": [0.2] * len(MODELLED)},
        "calibration": calibration.to_json(),
        "use": {
            "horizons": [3],
            "place_seconds": 0.4,
            "memory_seconds": 0.4,
            "smoothing_seconds": 0.25,
            "rows": ROWS,
            "columns": columns,
            "camera_index": 0,
            "num_cameras": 1,
        },
    }
    return save_model(directory, VideoRNN(**architecture).state_dict(), card)


def write_fates(models, **messages):
    """`cameras.json`: why a camera has no model; "" where it has one."""
    fates = {
        camera: {"status": "unfit" if message else "trained", "message": message}
        for camera, message in messages.items()
    }
    write_json(models / "cameras.json", fates)
