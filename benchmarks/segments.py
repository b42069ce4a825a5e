"""Are shot boundaries found? The edited films of `edited.py`, beside PySceneDetect's detectors.

    python -m benchmarks.segments --scratch DIR [--dev] [--json FILE]

A cut counts where its first frame is named exactly; a gradual change where something is named within `NEAR_SECONDS` of
its middle. What a method names in or near a gradual change counts nothing among cuts, what it names exactly at a cut
counts nothing among gradual changes, everything else that it names is false in both. PySceneDetect runs with its
default settings and with those of a grid that do best on the development films, chosen for cuts and for gradual
changes apart. Without `--dev` the films of the table are those kept for it.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scenedetect import AdaptiveDetector, ContentDetector, detect

from benchmarks.edited import RATE, Film, make_films
from vidrnn.decode import VideoReader
from vidrnn.errors import VidrnnError
from vidrnn.features import signature
from vidrnn.segments import find_boundaries

DEV_SEEDS = (0, 1, 2, 3)
FINAL_SEEDS = (100, 101, 102, 103, 104, 105)
NEAR_SECONDS = 0.5
_NEAR = round(NEAR_SECONDS * RATE)

Method = Callable[[Path], list[int]]  # a film to the frames at which it finds that something new begins


@dataclass(frozen=True)
class Counts:
    """What was found, what was not there, and what was missed; of cuts, then of gradual changes."""

    cuts: tuple[int, int, int]
    gradual: tuple[int, int, int]

    @classmethod
    def of(cls, named: Sequence[int], film: Film) -> "Counts":
        """Compare what is named with what is there."""
        exact = set(named) & set(film.cuts)
        others = [frame for frame in named if frame not in exact]
        loose = [f for f in others if not any(a - _NEAR <= f <= b + _NEAR for a, b in film.gradual)]
        left, found = list(others), 0
        for middle in ((first + end) // 2 for first, end in film.gradual):
            near = _nearest(left, middle)
            if near is not None:
                left.remove(near)
                found += 1
        cuts = (len(exact), len(loose), len(film.cuts) - len(exact))
        return cls(cuts, (found, len(left), len(film.gradual) - found))


def _nearest(frames: Sequence[int], middle: int) -> int | None:
    away = sorted((abs(frame - middle), frame) for frame in frames)
    return away[0][1] if away and away[0][0] <= _NEAR else None


def f1(counts: Sequence[tuple[int, int, int]]) -> float:
    """Of (found, false, missed) a film, pooled."""
    found, false, missed = np.sum(counts, axis=0).tolist()
    return float(2 * found / max(1, 2 * found + false + missed))


def ours(path: Path) -> list[int]:
    """What `segments` finds in the signatures that `features` would write."""
    with VideoReader(path) as reader:
        seen = [(reader.time_base.seconds(frame.pts), signature(frame.luma, 0)) for frame in reader.frames()]
    shown, pictures = np.array([seconds for seconds, _ in seen]), np.stack([picture for _, picture in seen])
    return [boundary.frame for boundary in find_boundaries(lambda start, stop: pictures[start:stop], shown)]


def _detector(kind: Callable[..., Any], **settings: float) -> Method:
    return lambda path: [scene[0].frame_num for scene in detect(str(path), kind(**settings))][1:]


DEFAULTS: dict[str, Method] = {
    "PySceneDetect ContentDetector": _detector(ContentDetector),
    "PySceneDetect AdaptiveDetector": _detector(AdaptiveDetector),
}
_LENGTHS = (5, 15)
GRIDS: dict[str, dict[str, Method]] = {
    "PySceneDetect ContentDetector": {
        f"threshold {t}, min_scene_len {n}": _detector(ContentDetector, threshold=t, min_scene_len=n)
        for t, n in product((12, 20, 27, 35, 45), _LENGTHS)
    },
    "PySceneDetect AdaptiveDetector": {
        f"adaptive_threshold {t}, min_content_val {c}, min_scene_len {n}": _detector(
            AdaptiveDetector, adaptive_threshold=t, min_content_val=c, min_scene_len=n
        )
        for t, c, n in product((2, 3, 4.5), (8, 15), _LENGTHS)
    },
}


def main(scratch: Path, dev: bool, json_path: Path | None = None) -> None:
    """Measure, print the table as Markdown, and write its rows."""
    tuning = make_films(scratch, DEV_SEEDS)
    films = tuning if dev else make_films(scratch, FINAL_SEEDS)
    rows = [{"method": "vidrnn", "settings": "", **_measure(ours, films)}]
    for name, default in DEFAULTS.items():
        rows.append({"method": name, "settings": "default", **_measure(default, films)})
        tried = {settings: _measure(method, tuning) for settings, method in GRIDS[name].items()}
        for measure in ("f1_cuts", "f1_gradual"):
            best = max(tried, key=lambda settings: tried[settings][measure])
            rows.append({"method": name, "settings": f"{best}", **_measure(GRIDS[name][best], films)})
    cuts, gradual = sum(len(film.cuts) for film in films), sum(len(film.gradual) for film in films)
    print(f"{len(films)} films, {cuts} cuts, {gradual} gradual changes\n")
    print("| method | settings | F1 of cuts, to the frame | false, missed | F1 of gradual, ± 0.5 s | false, missed |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        figures = f"{row['f1_cuts']:.3f} | {row['cuts'][1]}, {row['cuts'][2]} | {row['f1_gradual']:.3f}"
        print(f"| {row['method']} | {row['settings']} | {figures} | {row['gradual'][1]}, {row['gradual'][2]} |")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _measure(method: Method, films: Sequence[Film]) -> dict[str, Any]:
    counts = [Counts.of(method(film.path), film) for film in films]
    cuts, gradual = [one.cuts for one in counts], [one.gradual for one in counts]
    sums = {"cuts": np.sum(cuts, axis=0).tolist(), "gradual": np.sum(gradual, axis=0).tolist()}
    return {"f1_cuts": f1(cuts), "f1_gradual": f1(gradual), **sums}


def _command(
    scratch: Annotated[Path, typer.Option(help="Where films are kept; may be used again.")],
    dev: Annotated[bool, typer.Option("--dev", help="The films of development.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Where to write the rows.")] = None,
) -> None:
    try:
        main(scratch, dev, json_path)
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(_command)
