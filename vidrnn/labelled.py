"""Which scored footage people have labelled, and where: what the gate measures two models on.

A list of its own, so that new footage that nobody has labelled is no reason to decide anew.
"""

from pathlib import Path

import pyarrow as pa

from vidrnn.labels import load_labels
from vidrnn.schema import SCHEMAS


def labelled_intervals(labels_dir: Path, index: pa.Table) -> pa.Table:
    """The table `labelled`, of the events that are labelled in scored videos.

    Args:
        labels_dir: label files, or an empty folder.
        index: the table `index`.

    Raises:
        LabelsError: a label file is wrong. It is told here, before anything is decoded or trained.
    """
    if labels_dir.is_dir() and all(path.name.startswith(".") for path in labels_dir.iterdir()):
        return SCHEMAS["labelled"].empty_table()
    # How many frames there are, only decoding knows; `evaluate` will look at the lengths.
    status = pa.array(["not decoded"] * index.num_rows, pa.string())
    events = load_labels(labels_dir, index.set_column(index.schema.get_field_index("status"), "status", status)).events
    videos = {row["video_id"]: row for row in index.to_pylist()}
    rows = []
    for event in [] if events is None else events.to_dict("records"):
        video = videos[event["video"]]
        if video["scored"] and video["sha256"] is not None:
            facts = {name: video[name] for name in ("camera_id", "video_id", "sha256")}
            rows.append(facts | {name: event[name] for name in SCHEMAS["labelled"].names if name in event})
    rows.sort(key=lambda row: [row["video_id"], *(row[name] for name in sorted(row) if name.startswith("o"))])
    return pa.Table.from_pylist(rows, schema=SCHEMAS["labelled"])
