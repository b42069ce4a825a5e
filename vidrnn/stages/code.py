"""Stage `code`: which modules each other stage runs, so that a change of one redoes those stages and no others.

Each stage depends on its own list alone. DVC could be given the modules themselves, but somebody would have to keep
the lists, and DVC writes all of them anew after every stage (docs/decisions.md).
"""

from pathlib import Path

from vidrnn.sources import sources
from vidrnn.stages import run_stage


def main(package: str, out: str) -> None:
    """The package in; a file a stage out, in the format of `sha256sum`."""
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(package) / "stages").glob("[!_]*.py")):
        if path.stem != "code":
            lines = [f"{sha256}  {name}\n" for name, sha256 in sources(path.stem, Path(package)).items()]
            (Path(out) / f"{path.stem}.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
