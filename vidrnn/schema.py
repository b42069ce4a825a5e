"""The table contracts: one Arrow schema a table. Every reader and every writer passes through `validate`.

Intervals are [onset, offset). Coordinates are pixels of the picture as displayed, end excluded. Scores: higher is more
unusual. Seconds inside a video count from its first frame; `recorded_at` is UTC and may be null.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vidrnn.errors import SchemaError

SCHEMA_VERSION = 1
EMBEDDING_SIZE = 128  # numbers of a vector that describes a window
VECTOR = pa.list_(pa.field("item", pa.float32(), nullable=False), EMBEDDING_SIZE)

_KEY = [("camera_id", pa.string(), False), ("video_id", pa.string(), False)]
_UTC = pa.timestamp("us", tz="UTC")
_INTERVAL = [
    (f"{bound}_{unit}", of, False)
    for unit, of in (("pts", pa.int64()), ("seconds", pa.float64()), ("frame", pa.int64()))
    for bound in ("onset", "offset")
]
BOX = ("x0", "y0", "x1", "y1")
_BOX = [(name, pa.float32()) for name in BOX]


def _schema(*columns: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    """Columns as (name, type) where null is allowed, (name, type, False) where it is not."""
    return pa.schema([pa.field(c[0], c[1], nullable=len(c) == 2) for c in columns])


SCHEMAS: dict[str, pa.Schema] = {
    # A row a file, from container and stream facts alone.
    "index": _schema(
        *_KEY,
        ("sha256", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("time_base_num", pa.int64()),
        ("time_base_den", pa.int64()),
        ("duration_seconds", pa.float64()),
        ("recorded_at", _UTC),
        ("recorded_at_source", pa.string(), False),
        ("trains", pa.bool_(), False),
        ("scored", pa.bool_(), False),
        ("status", pa.string(), False),
        ("message", pa.string(), False),
    ),
    # A row a file, as its frames were decoded: what only decoding knows.
    "decoded": _schema(
        *_KEY,
        ("sha256", pa.string(), False),
        ("num_frames", pa.int64(), False),
        ("num_analysed", pa.int64(), False),
        ("num_undecodable", pa.int64(), False),
        ("duration_seconds", pa.float64(), False),
        ("status", pa.string(), False),
        ("message", pa.string(), False),
    ),
    # A row a file that trains; what a training depends on.
    "training": _schema(
        *_KEY, ("sha256", pa.string(), False), ("digest", pa.string(), False), ("num_analysed", pa.int64(), False)
    ),
    # A row an interval that events.csv names and whose video is scored; what the gate depends on.
    "labelled": _schema(
        *_KEY,
        ("sha256", pa.string(), False),
        ("onset_frame", pa.int64()),
        ("offset_frame", pa.int64()),
        ("onset_seconds", pa.float64()),
        ("offset_seconds", pa.float64()),
    ),
    # A row a connected moving part of an analysed frame; velocity in picture heights per second; x0, y0, x1, y1 of each
    # of the pieces that it may be made of, one after the other.
    "regions": _schema(
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        *[(*c, False) for c in _BOX],
        ("area", pa.float32(), False),
        ("velocity_x", pa.float32(), False),
        ("velocity_y", pa.float32(), False),
        ("pieces", pa.list_(pa.field("item", pa.float32(), nullable=False)), False),
    ),
    # A row a decoded frame: the mean luma of 16 × 16 parts of it.
    "shots": _schema(
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        ("signature", pa.fixed_shape_tensor(pa.uint8(), (16, 16)), False),
    ),
    # A row an analysed frame: how it compares with its background and with the one before, as `camera.View` says,
    # and `camera.sharpness` of it, or of the last one that was looked at.
    "views": _schema(
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        *[(name, pa.float32(), False) for name in ("agreement", "detail", "contrast", "change", "shift_x", "shift_y")],
        ("sharpness", pa.float32(), False),
    ),
    # A row a window of a scored video: its analysed frames [first, stop), counted in the score file, and its vector.
    "windows": _schema(("first", pa.int64(), False), ("stop", pa.int64(), False), ("vector", VECTOR, False)),
    # A row a file.
    "videos": _schema(
        *_KEY,
        ("sha256", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("time_base_num", pa.int64()),
        ("time_base_den", pa.int64()),
        ("num_frames", pa.int64(), False),
        ("num_undecodable", pa.int64(), False),
        ("duration_seconds", pa.float64()),
        ("recorded_at", _UTC),
        ("recorded_at_source", pa.string(), False),
        ("trains", pa.bool_(), False),
        ("scored", pa.bool_(), False),
        ("status", pa.string(), False),
        ("message", pa.string(), False),
    ),
    # A row an analysed frame of a scored file.
    "frames": _schema(
        *_KEY,
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        ("time_seconds", pa.float64(), False),
        ("recorded_at", _UTC),
        ("score_raw", pa.float32(), False),
        ("score", pa.float32(), False),
        ("alarm", pa.bool_(), False),
        ("valid", pa.bool_(), False),
    ),
    # A row an unusual interval. `rarity` is the number of false alarms an hour expected at this score.
    "events": _schema(
        *_KEY,
        ("event_id", pa.string(), False),
        ("kind", pa.string(), False),
        *_INTERVAL,
        ("recorded_at", _UTC),
        ("peak_seconds", pa.float64(), False),
        ("peak_score", pa.float32(), False),
        ("rarity", pa.float64(), False),
        *_BOX,
        ("track_ids", pa.list_(pa.int64()), False),
        ("reason", pa.string()),
        ("reason_quantity", pa.string()),
        ("reason_expected_low", pa.float32()),
        ("reason_expected_high", pa.float32()),
        ("reason_seen", pa.float32()),
        ("model_version", pa.string(), False),
    ),
    # A row an object in an analysed frame. `objectness` in [0, 1) is 0 where it is hidden and its place bridged;
    # `score` is the highest of the cells that it covers.
    "detections": _schema(
        *_KEY,
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        ("time_seconds", pa.float64(), False),
        ("track_id", pa.int64(), False),
        *[(*c, False) for c in _BOX],
        ("objectness", pa.float32(), False),
        ("score", pa.float32(), False),
    ),
    # A row an object over time; its path has the centre of its box in each analysed frame, its mean speed is in picture
    # heights per second.
    "tracks": _schema(
        *_KEY,
        ("track_id", pa.int64(), False),
        *_INTERVAL,
        ("num_frames", pa.int64(), False),
        ("path", pa.list_(pa.list_(pa.float32(), 2)), False),
        ("mean_speed", pa.float32(), False),
        ("peak_score", pa.float32(), False),
    ),
    # A row a coherent stretch of a scored file. `start` is how it begins: `start` of the file, `cut`, `fade`,
    # `dissolve` or `change` of what goes on; `boundary_score` how far that stands out, from 1. Stretches of a file
    # with the same `group` show the same scene. The key frame is the one most like all of it.
    "segments": _schema(
        *_KEY,
        ("segment_id", pa.string(), False),
        *_INTERVAL,
        ("recorded_at", _UTC),
        ("start", pa.string(), False),
        ("boundary_score", pa.float32()),
        ("group", pa.int32(), False),
        ("key_pts", pa.int64(), False),
        ("key_seconds", pa.float64(), False),
        ("key_frame", pa.int64(), False),
    ),
    # A row a window of a scored file. Vectors have length 1; their product says how alike two moments of a camera are.
    "embeddings": _schema(
        *_KEY,
        *_INTERVAL,
        ("recorded_at", _UTC),
        ("vector", VECTOR, False),
    ),
    # A row a gate decision and measure.
    "promotions": _schema(
        ("camera_id", pa.string(), False),
        ("candidate_version", pa.string(), False),
        ("champion_version", pa.string()),
        ("measure", pa.string(), False),
        ("candidate_value", pa.float64()),
        ("champion_value", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("promoted", pa.bool_(), False),
        ("reason", pa.string(), False),
    ),
    # A row a camera and night, a local date; brightness 0 to 1, contrast in levels, sharpness from 0, a blur, to
    # about 1, framing the correlation of the mean picture with that of the nights before, frame_rate in frames/s,
    # score_high the 99th percentile.
    "health": _schema(
        ("camera_id", pa.string(), False),
        ("night", pa.string(), False),
        ("num_videos", pa.int64(), False),
        ("hours", pa.float64(), False),
        *[(name, pa.float64()) for name in ("brightness", "contrast", "sharpness", "framing", "frame_rate")],
        ("score_median", pa.float64()),
        ("score_high", pa.float64()),
        ("ok", pa.bool_(), False),
        ("message", pa.string(), False),
    ),
    # A row a metric and camera; camera_id `*` is all of them.
    "metrics": _schema(
        ("camera_id", pa.string(), False),
        ("name", pa.string(), False),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("num_videos", pa.int64(), False),
    ),
}


def scores_schema(rows: int, columns: int) -> pa.Schema:
    """Of a per-video score file on a grid of `rows` × `columns` cells: a row an analysed frame.

    `score_raw` and `score` as in the table `frames`; `cells` is the causal score of each cell, (rows, columns)
    float16; the box is the window of the cell of the highest score, or what moves in it; the `reason_*` columns tell
    which channel left its expected range there, and after how many steps of memory (0: what is usual here).
    """
    return _schema(
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        ("time_seconds", pa.float64(), False),
        ("valid", pa.bool_(), False),
        ("score_raw", pa.float32(), False),
        ("score", pa.float32(), False),
        ("cells", pa.fixed_shape_tensor(pa.float16(), (rows, columns)), False),
        *_BOX,
        ("reason_quantity", pa.string()),
        ("reason_memory_steps", pa.int32()),
        ("reason_expected_low", pa.float32()),
        ("reason_expected_high", pa.float32()),
        ("reason_seen", pa.float32()),
    )


def cells_schema(channels: int, rows: int, columns: int) -> pa.Schema:
    """Of a per-video feature file: a row an analysed frame, `cells` is (channels, rows, columns).

    Of pictures they are float16, which our own features fit. One cell alone holds a sequence of features that somebody
    else computed, which may be of any size: float32.
    """
    number = pa.float32() if rows == columns == 1 else pa.float16()
    return _schema(
        ("frame_index", pa.int64(), False),
        ("pts", pa.int64(), False),
        ("time_seconds", pa.float64(), False),
        ("valid", pa.bool_(), False),
        ("cells", pa.fixed_shape_tensor(number, (channels, rows, columns)), False),
    )


def as_vectors(rows: npt.NDArray[np.float32]) -> pa.Array:
    """(n, EMBEDDING_SIZE) as a column of vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=VECTOR)


def as_rows(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of vectors as (n, EMBEDDING_SIZE)."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(whole.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, EMBEDDING_SIZE)


def validate(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """The same table, once it is shown to keep its contract; metadata is not compared.

    Raises:
        SchemaError: naming `what` and the first column that differs, or that holds a null where none is allowed.
    """
    if table.schema.names != schema.names:
        raise SchemaError(f"{what}: expected the columns {schema.names}, found {table.schema.names}")
    for field in schema:
        found = table.schema.field(field.name)
        if found.type != field.type:
            raise SchemaError(f"{what}: column {field.name} should be {field.type}, found {found.type}")
        if not field.nullable and table.column(field.name).null_count:
            raise SchemaError(f"{what}: column {field.name} holds a null where none is allowed")
    return table
