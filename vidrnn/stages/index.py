"""Stage `index`: container and stream facts of every file, and which of them are labelled."""

from pathlib import Path

from vidrnn.index import index_videos
from vidrnn.labelled import labelled_intervals
from vidrnn.params import load_params
from vidrnn.retired import read_retired
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import write_table


def main(videos: str, retired: str, labels: str, out: str, labelled: str) -> None:
    """Footage folder, the list of removed footage and labels in, tables `index` and `labelled` out."""
    params = load_params()
    hashes = Path(out).parent / ".scratch" / "sha256.json"
    removed = read_retired(Path(retired))
    found = index_videos(Path(videos), params.index, params.data.time_zone, hashes, removed)
    write_table(Path(labelled), labelled_intervals(Path(labels), found), SCHEMAS["labelled"])
    write_table(Path(out), found, SCHEMAS["index"])


if __name__ == "__main__":
    run_stage(main)
