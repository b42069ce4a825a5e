"""Stage `params`: check all of `params.yaml` before any other stage begins.

DVC removes what a stage has made before it starts the stage, which would be too late to tell of a mistake. What comes
out is always the same, so that no change of a setting redoes the stages that wait for this one.
"""

from pathlib import Path

from vidrnn.params import load_params
from vidrnn.stages import run_stage


def main(params: str, out: str) -> None:
    """Every setting in, a line out: DVC warns of an empty file before each stage that waits for it."""
    load_params(Path(params))
    Path(out).write_text("every setting is valid\n")


if __name__ == "__main__":
    run_stage(main)
