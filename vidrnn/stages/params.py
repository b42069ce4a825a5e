"""Stage `params`: check all of `params.yaml` before any other stage begins.

DVC removes what a stage has made before it starts the stage, which would be too late to tell of a mistake. What comes
out is always the same, so that no change of a setting redoes the stages that wait for this one.
"""

from pathlib import Path

from vidrnn.params import load_params
from vidrnn.stages import run_stage


def main(params: str, out: str) -> None:
    """Every setting in, an empty file out."""
    load_params(Path(params))
    Path(out).touch()


if __name__ == "__main__":
    run_stage(main)
