"""Does search find the same kind of event again? Footage rendered for this, ranked by the table `embeddings`.

    python -m benchmarks.search --scratch DIR [--dev] [--json FILE]

One place of the demo, ordinary footage to learn from, and each planted kind `TIMES` times, in files that hold several
kinds. Every planted event is asked for, as `vidrnn find` is: by the moment at which it is most unusual. Precision at 5
is the share of the five most similar moments that are another event of the same kind.
"""

from pathlib import Path

import numpy as np

from vidrnn.demo import render_plans
from vidrnn.demo_plan import KINDS, Plan, plan_file

CAMERA = "market-walk"
FRAME_RATE = 10
TIMES = 8
_TRAIN_FILES, _TRAIN_SECONDS = 4, 90
_LEAST_SECONDS, _MORE_SECONDS = 50, 10
_FILES_A_ROUND = 2


def plan_films(seed: int) -> list[Plan]:
    """Ordinary films, then films that hold every kind `TIMES` times; the same for the same seed."""
    plans = [
        plan_file(CAMERA, "train", f"{CAMERA}/train/{k}.mp4", _TRAIN_SECONDS * FRAME_RATE, (seed, 5, k), (), FRAME_RATE)
        for k in range(_TRAIN_FILES)
    ]
    rng = np.random.default_rng([seed, 6])
    for k in range(TIMES):
        shuffled = [str(kind) for kind in rng.permutation([kind for kind in KINDS if kind != "camera_knocked"])]
        parts = np.array_split(shuffled, _FILES_A_ROUND)
        for part, kinds in enumerate(parts):
            knocked = ["camera_knocked"] if part == _FILES_A_ROUND - 1 else []  # comes last
            plans.append(_test_film(f"{CAMERA}/test/{k}-{part}.mp4", (seed, 7, k, part), (*kinds.tolist(), *knocked)))
    return plans


def _test_film(video: str, seed: tuple[int, ...], kinds: tuple[str, ...]) -> Plan:
    """As short as its events allow."""
    seconds = _LEAST_SECONDS
    while True:
        try:
            return plan_file(CAMERA, "test", video, seconds * FRAME_RATE, seed, kinds, FRAME_RATE)
        except ValueError:
            seconds += _MORE_SECONDS


def render_films(plans: list[Plan], root: Path) -> None:
    """Draw films into `root/videos` and their labels into `root/labels`."""
    render_plans(root / "videos", root / "labels", plans, FRAME_RATE)
