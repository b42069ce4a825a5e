import pytest
from synthetic import Footage, walking

from vidrnn.errors import LabelsError
from vidrnn.labelled import labelled_intervals
from vidrnn.schema import SCHEMAS, validate


@pytest.fixture
def footage(tmp_path):
    footage = Footage(tmp_path)
    for k, name in enumerate(("gate/b.mp4", "gate/a.mp4", "hall/c.mp4")):
        footage.add(name, walking(8, 3, k), scored=name != "hall/c.mp4")
    return footage


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "events.csv").write_text(text)
    return folder


def test_intervals_of_scored_videos_are_listed(footage, tmp_path):
    hashes = {row["video_id"]: row["sha256"] for row in footage.index.to_pylist()}
    text = "video,onset_frame,offset_frame\ngate/b.mp4,5,7\nhall/c.mp4,1,2\ngate/a.mp4,3,9000\ngate/b.mp4,1,2\n"
    table = labelled_intervals(write(tmp_path / "labels", text), footage.index)
    validate(table, SCHEMAS["labelled"], "labelled")
    assert [(row["video_id"], row["onset_frame"], row["offset_frame"]) for row in table.to_pylist()] == [
        ("gate/a.mp4", 3, 9000),  # `evaluate` knows how long it is
        ("gate/b.mp4", 1, 2),
        ("gate/b.mp4", 5, 7),
    ]
    assert table["sha256"].to_pylist() == [hashes[name] for name in table["video_id"].to_pylist()]
    assert table["onset_seconds"].null_count == 3

    seconds = labelled_intervals(
        write(tmp_path / "labels", "video,onset_seconds,offset_seconds\ngate/b.mp4,0.5,2\n"), footage.index
    )
    assert seconds["onset_seconds"].to_pylist() == [0.5] and seconds["onset_frame"].null_count == 1


def test_without_labels_the_list_is_empty_and_what_is_wrong_is_said_before_anything_is_trained(footage, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".gitignore").write_text("*\n")
    assert labelled_intervals(empty, footage.index).num_rows == 0
    with pytest.raises(LabelsError, match="expected a folder of labels"):
        labelled_intervals(tmp_path / "none", footage.index)
    for text, words in (
        ("video,onset_frame,offset_frame\ngate/z.mp4,1,2\n", "line 2: expected the path of a video"),
        ("video,onset_frame,offset_frame\ngate/a.mp4,5,2\n", "line 2: expected onset_frame before"),
    ):
        with pytest.raises(LabelsError, match=words):
            labelled_intervals(write(tmp_path / "labels", text), footage.index)
