"""Features that somebody else computed: what is read, what is refused in which words, and the way through."""

import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_clip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from synthetic import files_of, small_params

from vidrnn.errors import DecodeError
from vidrnn.evaluate import evaluate, write_evaluation
from vidrnn.extract import extract_features
from vidrnn.gate import gate
from vidrnn.health import health
from vidrnn.index import index_videos
from vidrnn.params import load_params
from vidrnn.report import write_report
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS, cells_schema
from vidrnn.sequences import MAX_VALUES, Ragged, codec_of, open_sequence
from vidrnn.storage import read_metadata, read_table, video_path, write_table
from vidrnn.tables import make_tables
from vidrnn.train import train

ROOT = Path(__file__).resolve().parents[1]
PARAMS = load_params(ROOT / "params.yaml")
Array = NDArray[Any]


def save_npy(path: Path, values: Array) -> Path:
    np.save(path.with_suffix(".npy"), values)
    return path.with_suffix(".npy")


def save_parquet(path: Path, values: Array, names: list[str] | None = None) -> Path:
    names = names or [str(k) for k in range(values.shape[1])]
    pq.write_table(pa.Table.from_arrays(list(values.T), names), path.with_suffix(".parquet"), row_group_size=7)
    return path.with_suffix(".parquet")


def save_text(path: Path, values: Array) -> Path:
    path = path.with_suffix(".txt")
    path.write_text("".join(" ".join(map(repr, row)) + "\n" for row in values.tolist()))
    return path


def text(path: Path, *lines: str) -> Path:
    path = path / "a.txt"
    path.write_text("\n".join(lines))
    return path


def read(path: Path, ragged: Ragged = "refuse") -> NDArray[np.float32]:
    sequence = open_sequence(path, ragged)
    values = np.concatenate(list(sequence.read()))
    assert values.dtype == np.float32 and values.shape[1] == len(sequence.channels)
    assert sequence.num_frames in (None, len(values))
    return values


def complaint(path: Path, ragged: Ragged = "refuse") -> str:
    with pytest.raises(DecodeError) as caught:
        for _ in open_sequence(path, ragged).read():
            pass
    assert "\n" not in str(caught.value) and str(tmp := path.parent) not in str(caught.value), tmp
    return str(caught.value)


def test_names_decide() -> None:
    names = {"a.npy": "npy", "a.PARQUET": "parquet", "a.b.txt": "text", "a.mp4": None, "txt": None, "a.csv": None}
    assert {name: codec_of(Path("camera.npy") / name) for name in names} == names


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(values=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=finite))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_numbers_are_the_same_in_every_format(tmp_path: Path, values: Array) -> None:
    for save in (save_npy, save_parquet, save_text):
        assert np.array_equal(read(save(tmp_path / "a", values)), values)
    assert np.array_equal(read(save_npy(tmp_path / "a", np.asfortranarray(values))), values)


@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=2, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_of_a_text_may_span_lines(tmp_path: Path, num_values: int, cuts: list[int], rng: random.Random) -> None:
    """However the values of a frame are spread over lines, and whatever stands between the frames."""
    values = np.arange(len(cuts) * num_values).reshape(-1, num_values) * 0.25
    headings = ["", "   ", "\n\n", "frame 12", "# 3", "Frame 7 0.48", "-- -- --", "x"]
    body = rng.choice(["", "a title\n", "\n\n"])
    for row in values.tolist():
        ends = sorted({rng.randrange(1, num_values + 1) for _ in cuts} | {num_values})
        starts = [0, *ends[:-1]]
        block = [rng.choice(["", " "]) + "\t ".join(map(str, row[a:b])) for a, b in zip(starts, ends, strict=True)]
        body += rng.choice(["\n", "\r\n"]).join(block) + "\n" + rng.choice(headings) + "\n"
    (tmp_path / "a.txt").write_text(body)
    assert np.array_equal(read(tmp_path / "a.txt"), values)


def test_a_text_of_one_block_is_a_frame_a_line(tmp_path: Path) -> None:
    for lines in (["1 2", "3 4"], ["title 7", "", "1 2", "3 4", "", "end"], ["\ufeff1 2", "3 4"]):
        assert read(text(tmp_path, *lines)).tolist() == [[1, 2], [3, 4]]
    assert read(text(tmp_path, "1 2", "3 4", "", "5 6 7", "8")).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_whole_numbers_and_names_of_columns_are_taken(tmp_path: Path) -> None:
    values = np.array([[1, -2], [300, 4]], ">i2")
    assert read(save_npy(tmp_path / "a", values)).tolist() == values.tolist()
    path = save_parquet(tmp_path / "a", values.astype(np.int64), ["speed", "bad\nname"])
    assert open_sequence(path).channels == ("value speed", "value bad\\nname")
    assert open_sequence(save_npy(tmp_path / "a", values)).channels == ("value 0", "value 1")


def test_ragged_text(tmp_path: Path) -> None:
    lines = ["head", "1 2 3", "4 5 6", "7 8", "9 10 11"]
    assert complaint(text(tmp_path, *lines)) == (
        "line 4: a frame holds 2 values where 3 were expected, as in the first (line 2); "
        "with features.ragged: pad it would be filled up with zeros"
    )
    assert complaint(text(tmp_path, *lines), "cut") == complaint(text(tmp_path, *lines))
    assert read(text(tmp_path, *lines), "pad").tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 0], [9, 10, 11]]
    long = ["1 2", "", "3", "4 5", "", "6", "7"]
    assert complaint(text(tmp_path, *long)) == (
        "line 3: a frame that starts here holds 3 values where 2 were expected, as in the first (line 1); "
        "with features.ragged: cut it would be cut"
    )
    assert complaint(text(tmp_path, *long), "pad") == complaint(text(tmp_path, *long))
    assert read(text(tmp_path, *long), "cut").tolist() == [[1, 2], [3, 4], [6, 7]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 299])
def test_what_is_not_finite_is_refused_with_its_place(tmp_path: Path, value: float, row: int) -> None:
    values = np.zeros((300, 4), np.float32)
    values[row, 2] = value
    for save, line in ((save_npy, ""), (save_parquet, ""), (save_text, f" (line {row + 1})")):
        assert complaint(save(tmp_path / "a", values)) == (
            f"holds {value:g} in row {row}, column 2, both counted from 0{line}, which is no number to learn from; "
            "expected finite numbers"
        )


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    message = "holds 1e+39 in row 1, column 0, both counted from 0{}, which is too large for float32; expected finite "
    values = np.array([[0.0], [1e39]])
    for save, line in ((save_npy, ""), (save_parquet, ""), (save_text, " (line 2)")):
        assert complaint(save(tmp_path / "a", values)) == message.format(line) + "numbers"


ARRAYS: dict[str, tuple[Array, str]] = {
    "objects": (np.array([[1, "a"]], object), "holds Python objects, which are never unpickled; expected numbers"),
    "words": (np.array([["a", "b"]]), "holds values of type <U1; expected numbers"),
    "complex": (np.array([[1j]]), "holds values of type complex128; expected numbers"),
    "flags": (np.array([[True]]), "holds values of type bool; expected numbers"),
    "named": (np.zeros((2, 2), [("x", "f4")]), "holds values of type [('x', '<f4')]; expected numbers"),
    "flat": (np.zeros(5), "has the shape (5,); expected two dimensions, (frames, values)"),
    "deep": (np.zeros((2, 3, 4)), "has the shape (2, 3, 4); expected two dimensions, (frames, values)"),
    "no rows": (np.zeros((0, 3)), "holds no frame: 0 rows of 3 values"),
    "no columns": (np.zeros((3, 0)), "holds 0 values a frame; expected 1 to 4096"),
    "too wide": (np.zeros((1, MAX_VALUES + 1)), "holds 4097 values a frame; expected 1 to 4096"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    values, words = ARRAYS[name]
    assert complaint(save_npy(tmp_path / "a", values)).startswith(words)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    body = io.BytesIO()
    np.save(body, np.zeros((4, 3), np.float32))
    path, size = tmp_path / "a.npy", len(body.getvalue())
    for cut in range(size):
        path.write_bytes(body.getvalue()[:cut])
        words = "is empty" if cut == 0 else "is not an array as numpy.save" if cut < size - 48 else "breaks off: it has"
        assert complaint(path).startswith(words)
    path.write_bytes(body.getvalue() * 2)
    assert complaint(path) == f"holds more than one array: it has {2 * size} bytes where its header announces {size}"
    path.write_bytes(body.getvalue()[:-48].replace(b"(4, 3)", b"(9**9,"))
    assert complaint(path).startswith("is not an array as numpy.save writes it (")
    path.unlink()
    assert complaint(path) == "cannot be read (No such file or directory)"


def columns(**values: object) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(values), path)


TABLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "words": (columns(x=[1.0], y=["a"]), "holds values of type string in the column y; expected numbers alone"),
    "flags": (columns(x=[True]), "holds values of type bool in the column x; expected numbers alone"),
    "lists": (columns(x=[[1.0]]), "holds values of type list<element: double> in the column x; expected numbers alone"),
    "null": (columns(x=[1.0, 2.0], y=[1, None]), "holds no number in row 1, column 1, both counted from 0"),
    "no rows": (columns(x=pa.array([], pa.float32())), "holds no frame: 0 rows of 1 values"),
    "too wide": (columns(**{str(k): [0.0] for k in range(MAX_VALUES + 1)}), "holds 4097 values a frame; expected 1 to"),
    "twice": (
        lambda path: pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), path),
        "has two columns called x; rename one",
    ),
    "pandas": (
        columns(x=[1.0], __index_level_0__=[7]),
        "holds the index of a table as the column __index_level_0__; write it with index=False",
    ),
    "long name": (columns(**{"x" * 101: [1.0]}), "has a column whose name is longer than 100 characters; rename it"),
    "no table": (lambda path: Path(path).write_bytes(b"PAR1" * 9), "cannot be read ("),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    write, words = TABLES[name]
    write(tmp_path / "a.parquet")
    assert complaint(tmp_path / "a.parquet").startswith(words)


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    path = save_parquet(tmp_path / "a", np.random.default_rng(0).random((50, 3)))
    body, rng = path.read_bytes(), np.random.default_rng(1)
    for cut in rng.integers(1, len(body), 30).tolist():
        path.write_bytes(body[:cut])
        assert complaint(path).startswith("cannot be read (")


EXPECTED = "expected numbers separated by blanks, a frame a line, or frames that blank lines or headings separate"
TEXTS: dict[str, tuple[list[str], str]] = {
    "prose": (["Dear diary,", "today I saw 2 men", "and 3 dogs"], f"is text without a line of numbers; {EXPECTED}"),
    "list": (["What I saw:", "3 dogs"], f"is text that holds 'dogs' among the numbers of line 2; {EXPECTED}"),
    "blank": ([" ", ""], f"is text without a line of numbers; {EXPECTED}"),
    "hole": (["1 2 3", "N/A 2 3 4"], f"is text that holds 'N/A' among the numbers of line 2; {EXPECTED}"),
    "word": (["1 2 3", "1 x 3"], f"is text that holds 'x' among the numbers of line 2; {EXPECTED}"),
    "decimal commas": (["0,1 0,2"], f"is text without a line of numbers; {EXPECTED}"),
    "grouped": (["1 1_000"], f"is text that holds '1_000' among the numbers of line 1; {EXPECTED}"),
    "long word": (["1 " + "x" * 99], f"is text that holds '{'x' * 20}' among the numbers of line 1; {EXPECTED}"),
    "long line": (["1", "1 " * 2**19 + "1"], f"line 2 is longer than 1048576 bytes; {EXPECTED}"),
    "too wide": (["1 " * (MAX_VALUES + 1)], "line 1 holds more than 4096 values, the most that a frame may have"),
    "too wide a block": (
        ["head", *["1 " * 5] * 900, "", "1"],
        "the block of lines that starts in line 2 holds more than 4096 values, the most that a frame may have; "
        "if a frame is a line, take out the blank lines and headings",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    lines, words = TEXTS[name]
    assert complaint(text(tmp_path, *lines)) == words


@given(st.binary(max_size=60), st.sampled_from([".npy", ".parquet", ".txt"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_is_read_or_told(tmp_path: Path, body: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(body)
    try:
        assert np.isfinite(read(path)).all()
    except DecodeError as error:
        assert "\n" not in str(error)


# As footage


class Space:
    """Footage and its features, brought up to date by `run`."""

    def __init__(self, root: Path) -> None:
        self.videos, self.features = root / "videos", root / "features"
        (self.videos / "gate").mkdir(parents=True)

    def index(self, rate: float = 10) -> dict[str, dict[str, Any]]:
        params = PARAMS.index.model_copy(update={"frames_rate": rate})
        self.table = index_videos(self.videos, params, "UTC", self.videos.parent / "memory.json")
        return {row["video_id"].removeprefix("gate/"): row for row in self.table.to_pylist()}

    def run(self, **changes: object) -> dict[str, dict[str, Any]]:
        params = PARAMS.features.model_copy(update=changes)
        self.training = extract_features(self.videos, self.table, params, self.features)
        rows = read_table(self.features / "decoded.parquet", SCHEMAS["decoded"]).to_pylist()
        return {row["video_id"].removeprefix("gate/"): row for row in rows}

    def part(self, part: str, name: str) -> Path:
        return video_path(self.features / part, "gate", f"gate/{name}")


def test_the_index_tells_of_sequences(tmp_path: Path) -> None:
    space, values = Space(tmp_path), np.zeros((25, 3), np.float32)
    for save in (save_npy, save_parquet, save_text):
        save(space.videos / "gate/2026-03-03T08-00-00", values)
    rows = space.index(12.5)
    for suffix, codec, seconds in ((".npy", "npy", 2.0), (".parquet", "parquet", 2.0), (".txt", "text", None)):
        row = rows[f"2026-03-03T08-00-00{suffix}"]
        assert (row["status"], row["codec"], row["duration_seconds"]) == ("ok", codec, seconds)
        assert (row["time_base_num"], row["time_base_den"]) == (2, 25)
        assert row["width"] is row["height"] is row["rotation"] is None
        assert row["recorded_at_source"] == "name" and row["trains"] and row["scored"]
    assert space.index(25)["2026-03-03T08-00-00.npy"]["duration_seconds"] == 1.0  # remembered, and of another pace


def test_sequences_become_cells_of_one_place(tmp_path: Path) -> None:
    space = Space(tmp_path)
    values = np.random.default_rng(0).normal(0, 1e6, (700, 3)).astype(np.float32)
    save_parquet(space.videos / "gate/a", values, ["x", "y", "z"])
    save_text(space.videos / "gate/b", values)
    space.index(25)
    rows = space.run(rate=10.0)
    for name, channels in (("a.parquet", ["x", "y", "z"]), ("b.txt", ["0", "1", "2"])):
        row = rows[name]
        assert (row["num_frames"], row["num_analysed"], row["num_undecodable"]) == (700, 280, 0)
        assert (row["status"], row["message"], row["duration_seconds"]) == ("ok", "", 28.0)
        table = read_table(space.part("cells", name), cells_schema(3, 1, 1))
        frames = table["frame_index"].to_numpy()
        assert frames.tolist() == table["pts"].to_pylist() == [-(-5 * k // 2) for k in range(280)]
        assert np.array_equal(table["time_seconds"].to_numpy(), frames / 25)
        assert table["valid"].to_pylist() == (frames / 25 >= 2.0).tolist()
        cells = table["cells"].combine_chunks().to_numpy_ndarray()
        assert cells.dtype == np.float32 and np.array_equal(cells[:, :, 0, 0], values[frames])
        assert read_metadata(space.part("cells", name))["channels"] == str([f"value {c}" for c in channels]).replace(
            "'", '"'
        )
        for part in ("regions", "shots", "views"):
            assert read_table(space.part(part, name), SCHEMAS[part]).num_rows == 0
    assert space.training["video_id"].to_pylist() == ["gate/a.parquet", "gate/b.txt"]


def test_a_sequence_that_only_reading_shows_to_be_wrong_is_a_row(tmp_path: Path) -> None:
    space = Space(tmp_path)
    (space.videos / "gate/ragged.txt").write_text("1 2\n" * 600 + "1\n")
    save_npy(space.videos / "gate/nan", np.full((5, 2), np.nan))
    save_npy(space.videos / "gate/sound", np.ones((1, 2)))
    save_npy(space.videos / "gate/flat", np.ones(2))
    index = space.index()
    assert index["flat.npy"]["message"].startswith("has the shape (2,)")
    rows = space.run()
    assert {name: row["status"] for name, row in rows.items()} == {
        "ragged.txt": "unreadable",
        "nan.npy": "unreadable",
        "sound.npy": "ok",
    }
    assert rows["ragged.txt"]["message"].startswith("line 601: a frame holds 1 values where 2 were expected")
    assert rows["nan.npy"]["message"].startswith("holds nan in row 0, column 0, both counted from 0")
    assert rows["sound.npy"]["duration_seconds"] == 0.1
    assert space.training["video_id"].to_pylist() == ["gate/sound.npy"]
    assert space.run(ragged="pad")["ragged.txt"]["status"] == "ok"


def test_features_are_made_anew_where_the_pace_changes_and_only_there(tmp_path: Path) -> None:
    space = Space(tmp_path)
    path = save_npy(space.videos / "gate/a", np.ones((50, 2)))
    space.index(10)
    assert space.run()["a.npy"]["duration_seconds"] == 5.0
    before = space.part("cells", "a.npy").stat().st_ino
    path.touch()
    space.index(10)
    space.run()
    assert space.part("cells", "a.npy").stat().st_ino == before
    space.index(5)
    assert space.run()["a.npy"]["duration_seconds"] == 10.0


# The whole way

FROZEN = range(300, 330)  # rows in which the machine of `machine` stands still


def machine(num_rows: int, seed: int, frozen: range = range(0)) -> NDArray[np.float32]:
    """(num_rows, 3): two values that swing, of very different size, and one that never varies; 10 rows a second."""
    rng = np.random.default_rng(seed)
    moves = np.ones(num_rows)
    moves[list(frozen)] = 0
    phase = 2 * np.pi * (np.cumsum(moves) / 20 + rng.random())
    noise = rng.normal(0, 0.03, (num_rows, 2))
    swing = np.stack([np.sin(phase), np.cos(phase)], 1) + noise
    return np.column_stack([300 + 1e-3 * swing[:, 0], 1e6 * swing[:, 1], np.full(num_rows, -7.0)]).astype(np.float32)


PARAMETERS = small_params(
    train={"seq_seconds": 2.0, "epochs": 12, "batches_per_epoch": 12, "block_seconds": 30.0, "gap_seconds": 1.0},
    model={"hidden_size": 12},
)


def learn(root: Path, out: Path) -> pa.Table:
    """The stages from the footage below `root` to a model; returns the index."""
    index = index_videos(root / "videos", PARAMETERS.index, "UTC", root / "memory.json")
    training = extract_features(root / "videos", index, PARAMETERS.features, out / "features")
    train(out / "features", training, PARAMETERS, out / "candidate")
    decided = gate(out / "features", training, out / "candidate", out / "champion", out / "model", PARAMETERS)
    write_table(out / "promotions.parquet", decided, SCHEMAS["promotions"])
    return index


def report(root: Path, index: pa.Table, out: Path) -> None:
    """The stages from a model to the report."""
    score_videos(index, out / "features", out / "model", out / "scores", PARAMETERS.device)
    folders = (root / "videos", index, out / "features", out / "model", out / "scores")
    make_tables(*folders, PARAMETERS.alarms, out / "tables", out / "media")
    evaluation = evaluate(out / "features", out / "scores", out / "tables", out / "model", root / "labels", PARAMETERS)
    write_evaluation(evaluation, out / "metrics.parquet", out / "metrics.json", out / "cameras.json", out / "plots")
    write_table(out / "health.parquet", health(out / "features", out / "tables", PARAMETERS), SCHEMAS["health"])
    inputs = [
        out / name for name in ("tables", "media", "promotions.parquet", "metrics.parquet", "health.parquet", "model")
    ]
    write_report(*inputs, out / "report.html", PARAMETERS)


def put_footage(root: Path) -> None:
    """A camera of sequences, one of different ones, one that sees nothing but black; some of next to no frames."""
    for folder in ("pump/train", "pump/test", "mixed/train", "dark/train", "dark/test"):
        (root / "videos" / folder).mkdir(parents=True)
    for k in range(6):
        save = (save_npy, save_text)[k % 2]
        save(root / f"videos/pump/train/{k}", machine(600, k))
    save_npy(root / "videos/pump/test/calm", machine(600, 10))
    save_text(root / "videos/pump/test/stops", machine(600, 11, FROZEN))
    save_npy(root / "videos/pump/test/wide", np.zeros((50, 4), np.float32))
    black = np.zeros((48, 64), np.uint8)
    for count in (1, 2, 19):
        save_npy(root / f"videos/pump/test/{count}", machine(count, 12))
        write_clip(root / f"videos/dark/test/{count}.mp4", [black] * count, rate=10)
    for k in range(4):
        save_npy(root / f"videos/mixed/train/{k}", machine(600, k)[:, : 2 + k % 2])
        write_clip(root / f"videos/dark/train/{k}.mp4", [black] * (40 + k), rate=10)
    (root / "labels").mkdir()
    (root / "labels/events.csv").write_text(
        f"video,onset_frame,offset_frame\npump/test/stops.txt,{FROZEN.start},{FROZEN.stop}\n"
    )


def test_sequences_go_the_whole_way_and_the_planted_change_scores_highest(tmp_path: Path) -> None:
    put_footage(tmp_path)
    out = tmp_path / "data"
    report(tmp_path, learn(tmp_path, out), out)
    frames = read_table(video_path(out / "tables/frames", "pump", "pump/test/stops.txt"), SCHEMAS["frames"])
    score = frames["score"].to_numpy()
    assert np.isfinite(score).all() and int(score.argmax()) in FROZEN
    calm = read_table(video_path(out / "tables/frames", "pump", "pump/test/calm.npy"), SCHEMAS["frames"])
    assert calm["score"].to_numpy().max() < score.max()
    assert json.loads((out / "metrics.json").read_text())["auroc_micro_ema"]["value"] > 0.9

    events = read_table(video_path(out / "tables/events", "pump", "pump/test/stops.txt"), SCHEMAS["events"]).to_pylist()
    event = max(events, key=lambda row: row["peak_score"])
    assert event["onset_frame"] <= FROZEN.stop + 10 and event["offset_frame"] > FROZEN.start
    assert event["x0"] is event["y0"] is event["x1"] is event["y1"] is None
    assert event["reason_quantity"] == "value" and re.match(r"value [012] is \S+ where \S+( to |–)\S+", event["reason"])
    seen = machine(600, 11, FROZEN)[round(event["peak_seconds"] * 10)]
    assert np.float32(event["reason_seen"]) in seen
    pictures = list((out / "media").rglob("*.jpg"))
    assert {picture.parent.name for picture in pictures} <= {"camera_id=dark"}  # a sequence has none
    (lost,) = read_table(video_path(out / "tables/events", "dark", "dark/test/19.mp4"), SCHEMAS["events"]).to_pylist()
    assert lost["kind"] == "signal_lost" and lost["event_id"] in {picture.stem for picture in pictures}
    page = (out / "report.html").read_text()
    assert "There is no picture of this event." in page and event["reason"][1:] in page

    fates = json.loads((out / "model/cameras.json").read_text())
    assert fates["pump"] == {"status": "trained", "message": ""}
    assert fates["mixed"]["message"] == (
        "camera mixed: its files are of 2 different shapes or kinds, as in sequences of 2 values (the first is called "
        "'value 0') and sequences of 3 values (the first is called 'value 0'); expected one: put each into a camera "
        "folder of its own"
    )
    videos = {row["video_id"]: row for row in read_table(out / "tables/videos.parquet", SCHEMAS["videos"]).to_pylist()}
    assert all(row["status"] == "ok" for row in videos.values())
    assert videos["pump/test/wide.npy"]["message"].startswith(
        "not scored: the model of its camera learned sequences of 3 values (the first is called 'value 0'), this is "
        "one of sequences of 4 values"
    )

    for camera in ("pump", "dark"):
        for count in (1, 2, 19):
            name = f"{camera}/test/{count}.{'npy' if camera == 'pump' else 'mp4'}"
            short = read_table(video_path(out / "tables/frames", camera, name), SCHEMAS["frames"])
            assert np.isfinite(short["score"].to_numpy()).all()
            assert short.num_rows == videos[name]["num_frames"] == count and videos[name]["message"] == ""

    learn(tmp_path, tmp_path / "again")
    again = files_of(tmp_path / "again")
    assert len(again) > 60 and again == {name: body for name, body in files_of(out).items() if name in again}
