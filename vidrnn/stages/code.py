"""Stage `code`: which modules each other stage runs, so that a change of one redoes those stages and no others.

Each stage depends on its own list alone. DVC could be given the modules themselves, but somebody would have to keep
the lists, and DVC writes all of them anew after every stage (docs/decisions.md).
"""

from pathlib import Path

from vidrnn.sources import sources
from vidrnn.stages import run_stage
from vidrnn.storage import replacing


def main(package: str, out: str) -> None:
    """The package in; a file a stage out, in the format of `sha256sum`."""
    names = {path.stem for path in (Path(package) / "stages").glob("*.py")} - {"__init__", "code"}
    for stage in sorted(filter(str.isidentifier, names)):  # and no copy that an editor keeps
        lines = [f"{sha256}  {name}\n" for name, sha256 in sources(stage, Path(package)).items()]
        with replacing(Path(out) / f"{stage}.txt") as partial:
            partial.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
