"""A checkout of this project with small params, and footage of a few seconds that the whole pipeline goes through."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from commands import git
from ruamel.yaml import YAML

from vidrnn.encode import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
FRAME_RATE = 10
SMALL: dict[str, dict[str, Any]] = {
    "data": {"videos": "data/videos", "labels": "data/labels"},
    "features": {"height": 80, "warmup_seconds": 1.0, "background_seconds": 5.0},
    "model": {"hidden_size": 8},
    "train": {
        "learning_rate": 0.02,
        "epochs": 2,
        "batches_per_epoch": 8,
        "batch_windows": 2,
        "cells_per_window": 8,
        "seq_seconds": 1.0,
        "validation_share": 0.3,
        "calibration_share": 0.3,
        "block_seconds": 4.0,
        "gap_seconds": 0.5,
    },
    "alarms": {"per_hour": 60.0, "merge_seconds": 1.0},
    "evaluate": {"resamples": 100},
}


def film(path: Path, seconds: int, seed: int, planted: tuple[int, int] | None = None) -> None:
    """A square that crosses a textured picture; in the planted frames another one races down."""
    rng = np.random.default_rng(seed)
    wall = rng.integers(90, 140, (10, 12)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 96, 80, FRAME_RATE) as writer:
        for frame_index in range(seconds * FRAME_RATE):
            picture = wall.copy()
            x = (2 * frame_index + 17 * seed) % 120 - 12
            picture[30:46, max(x, 0) : max(x + 8, 0)] = 220
            if planted and planted[0] <= frame_index < planted[1]:
                y = 11 * frame_index % 80
                picture[y : y + 24, 20:44] = 10
            writer.write(picture)


def change_params(repo: Path, **sections: dict[str, Any]) -> None:
    yaml = YAML()
    params = yaml.load(repo / "params.yaml")
    for section, values in sections.items():
        params[section].update(values)
    yaml.dump(params, repo / "params.yaml")


def clone_this(repo: Path) -> None:
    """All that this checkout holds of its code, committed or not, with small params and folders of footage to fill."""
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    made = ("data/metrics/", "data/plots/", "dvc.lock", "tests/", "benchmarks/", "docs/")
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(made):
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repo / name)
    change_params(repo, **SMALL)
