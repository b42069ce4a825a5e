"""Draws the demo footage and its labels.

`python -m vidrnn.stages.demo VIDEOS_DIR LABELS_DIR`
"""

from pathlib import Path

from vidrnn.demo import render_demo
from vidrnn.params import load_params
from vidrnn.stages import run_stage


def main(videos_dir: str, labels_dir: str) -> None:
    """Replace both folders by the demo."""
    render_demo(Path(videos_dir), Path(labels_dir), load_params().demo)


if __name__ == "__main__":
    run_stage(main)
