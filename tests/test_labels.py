from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrnn.errors import LabelsError
from vidrnn.labels import load_labels

VIDEOS = [
    {"video_id": "gate/test/01.mp4", "num_frames": 180, "duration_seconds": 18.0, "status": "ok"},
    {"video_id": "gate/test/02.mp4", "num_frames": 60, "duration_seconds": 6.0, "status": "partial"},
    {"video_id": "gate/test/03.mp4", "num_frames": 0, "duration_seconds": None, "status": "unreadable"},
    {"video_id": "yard/a, b.npy", "num_frames": 50, "duration_seconds": None, "status": "ok"},
]
FRAMES, SECONDS = "video,onset_frame,offset_frame\n", "video,onset_seconds,offset_seconds\n"
BOXES = "video,frame_index,x0,y0,x1,y1\n"


def load(folder: Path, **files: str | bytes):
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(data)
    return load_labels(folder, pa.Table.from_pylist(VIDEOS))


def test_an_empty_folder_means_no_labels(tmp_path):
    (tmp_path / ".gitignore").write_text("*")
    labels = load(tmp_path)
    assert labels.events is None and labels.regions is None and labels.objects is None


def test_events_in_frames(tmp_path):
    text = FRAMES + "gate/test/01.mp4,60,180\n\ngate/test/01.mp4, 0 ,1\n"
    events = load(tmp_path, events=text).events
    assert list(events.columns) == ["video", "onset_frame", "offset_frame", "kind"]
    assert events["onset_frame"].dtype == events["offset_frame"].dtype == "int64"
    assert events[["onset_frame", "offset_frame"]].to_numpy().tolist() == [[60, 180], [0, 1]]
    assert events["kind"].isna().all()


def test_events_in_seconds_with_a_kind_and_other_columns_in_any_order(tmp_path):
    text = (
        'kind,who,offset_seconds,onset_seconds,video\nfall,me,3.5,1.25,"yard/a, b.npy"\n,,18.4,17.9,gate/test/01.mp4\n'
    )
    events = load(tmp_path, events=text).events
    assert list(events.columns) == ["video", "onset_seconds", "offset_seconds", "kind"]
    assert events["video"].tolist() == ["yard/a, b.npy", "gate/test/01.mp4"]
    assert events[["onset_seconds", "offset_seconds"]].to_numpy().tolist() == [[1.25, 3.5], [17.9, 18.4]]
    assert events["kind"].tolist()[0] == "fall" and events["kind"].isna().tolist() == [False, True]


def test_a_header_alone_says_that_everything_is_ordinary(tmp_path):
    labels = load(tmp_path, events=FRAMES, objects=BOXES)
    assert len(labels.events) == len(labels.objects) == 0
    assert labels.events["onset_frame"].dtype == labels.objects["frame_index"].dtype == "int64"


def test_boxes_with_and_without_tracks_and_with_an_area(tmp_path):
    regions = BOXES + "gate/test/01.mp4,0,-3,0.5,10,20\n"
    objects = "video,frame_index,x0,y0,x1,y1,area,track_id\ngate/test/01.mp4,179,0,0,1,1,30,car 1\n"
    labels = load(tmp_path, regions=regions, objects=objects)
    for table in (labels.regions, labels.objects):
        assert list(table.columns) == ["video", "frame_index", "x0", "y0", "x1", "y1", "track_id"]
        assert table["frame_index"].dtype == "int64"
    assert labels.regions.loc[0, ["x0", "y0", "x1", "y1"]].tolist() == [-3, 0.5, 10, 20]
    assert labels.objects["track_id"].tolist() == ["car 1"]
    assert labels.events is None


def test_the_length_of_what_could_not_be_read_is_not_held_against_its_labels(tmp_path):
    rows = "gate/test/02.mp4,50,99\ngate/test/02.mp4,80,90\ngate/test/03.mp4,5,9\n"
    assert len(load(tmp_path, events=FRAMES + rows).events) == 3
    seconds = "gate/test/02.mp4,5,99\ngate/test/03.mp4,5,9\n"
    boxes = BOXES + "gate/test/02.mp4,99,0,0,1,1\ngate/test/03.mp4,5,0,0,1,1\n"
    labels = load(tmp_path, events=SECONDS + seconds, objects=boxes)
    assert len(labels.events) == len(labels.objects) == 2


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    text = (FRAMES + "gate/test/01.mp4,60,180\n").replace("\n", "\r\n")
    assert len(load(tmp_path, events=b"\xef\xbb\xbf" + text.encode()).events) == 1


@given(st.lists(st.tuples(st.integers(0, 178), st.integers(1, 180)).filter(lambda i: i[0] < i[1])))
def test_what_is_written_is_what_is_read(tmp_path_factory, rows):
    text = FRAMES + "".join(f"gate/test/01.mp4,{onset},{offset}\n" for onset, offset in rows)
    events = load(tmp_path_factory.mktemp("labels"), events=text).events
    assert [tuple(row) for row in events[["onset_frame", "offset_frame"]].to_numpy()] == rows


MISTAKES = {
    "a column is missing": (
        "events",
        "video,onset,offset\ngate/test/01.mp4,1,2\n",
        "events.csv, line 1: expected the columns video,onset_frame,offset_frame or video,onset_seconds,offset_seconds,"
        " found video,onset,offset; rename or add what is missing",
    ),
    "the header is missing": ("events", "gate/test/01.mp4,1,2\n", "found gate/test/01.mp4,1,2; rename or add"),
    "the file is empty": ("regions", "", "line 1: expected the columns video,frame_index,x0,y0,x1,y1, found nothing;"),
    "semicolons separate": ("events", FRAMES.replace(",", ";"), "video;onset_frame;offset_frame; separate by commas"),
    "tabs separate": ("objects", BOXES.replace(",", "\t"), "; separate by commas"),
    "both units": (
        "events",
        "video,onset_frame,offset_frame,onset_seconds,offset_seconds\n",
        "found both; keep one pair",
    ),
    "a column twice": ("events", "video,onset_frame,offset_frame,video\n", "expected every column once"),
    "a decimal comma": (
        "events",
        SECONDS + "gate/test/01.mp4,1,5,2,5\n",
        "line 2: expected 3 cells as in line 1, found 5; decimals take a point",
    ),
    "a cell is missing": ("events", FRAMES + "gate/test/01.mp4,1\n", "line 2: expected 3 cells as in line 1, found 2"),
    "a wrong name": (
        "events",
        FRAMES + "\ngate/test/1.mp4,1,2\n",
        "events.csv, line 3: expected the path of a video, relative to `data.videos`, found 'gate/test/1.mp4'; "
        "the nearest name is 'gate/test/01.mp4'",
    ),
    "a name without its folder": ("objects", BOXES + "02.mp4,1,0,0,1,1\n", "the nearest name is 'gate/test/02.mp4'"),
    "a back slash": ("events", FRAMES + "gate\\test\\01.mp4,1,2\n", "the nearest name is 'gate/test/01.mp4'"),
    "a clock time": (
        "events",
        SECONDS + "gate/test/01.mp4,0:01,0:02\n",
        "line 2: expected onset_seconds to be a number as in 12.5, found '0:01'; correct it",
    ),
    "an empty cell": ("events", FRAMES + "gate/test/01.mp4,1,\n", "offset_frame to be a whole number as in 60, found"),
    "not a number": ("regions", BOXES + "gate/test/01.mp4,1,0,nan,1,1\n", "expected y0 to be a number"),
    "infinite": ("events", SECONDS + "gate/test/01.mp4,1,inf\n", "expected offset_seconds to be a number"),
    "half a frame": ("events", FRAMES + "gate/test/01.mp4,1.5,3\n", "onset_frame to be a whole number as in 60, found"),
    "half a frame index": ("objects", BOXES + "gate/test/01.mp4,1.5,0,0,1,1\n", "frame_index to be a whole number"),
    "an onset below zero": (
        "events",
        FRAMES + "gate/test/01.mp4,-1,3\n",
        "line 2: expected onset_frame of 0 or more, found -1; count from the first frame",
    ),
    "a frame below zero": ("objects", BOXES + "gate/test/01.mp4,-1,0,0,1,1\n", "a frame_index of 0 or more, found -1"),
    "no length in frames": (
        "events",
        FRAMES + "gate/test/01.mp4,60,60\n",
        "expected onset_frame before offset_frame, found 60 and 60; the end is excluded: frame 60 alone is 60,61",
    ),
    "swapped seconds": (
        "events",
        SECONDS + "gate/test/01.mp4,5,2.5\n",
        "expected onset_seconds before offset_seconds, found 5 and 2.5; swap them",
    ),
    "frames past the end": (
        "events",
        FRAMES + "gate/test/01.mp4,60,181\n",
        "line 2: expected an event within the 180 frames of gate/test/01.mp4, found one up to frame 181; number",
    ),
    "seconds past the end": (
        "events",
        SECONDS + "gate/test/01.mp4,1,18.6\n",
        "an event within the 18.000 seconds of gate/test/01.mp4, found one from 1 to 18.6; count",
    ),
    "wholly past the end": ("events", SECONDS + "gate/test/01.mp4,18.1,18.2\n", "found one from 18.1 to 18.2"),
    "a box past the end": (
        "regions",
        BOXES + "gate/test/01.mp4,180,0,0,1,1\n",
        "regions.csv, line 2: expected a frame_index below 180, the number of frames of gate/test/01.mp4, found 180;",
    ),
    "width and height": (
        "objects",
        BOXES + "gate/test/01.mp4,3,50,60,20,30\n",
        "expected x0 < x1 and y0 < y1, found 50,60,20,30; write corners, not width and height",
    ),
    "not UTF-8": (
        "events",
        FRAMES.encode() + "gate/test/01.mp4,1,2\ncaf\xe9.mp4,1,2\n".encode("latin-1"),
        "events.csv, line 3: expected UTF-8 text, found the byte 0xe9; save it as CSV in UTF-8",
    ),
    "an open quote": ("events", FRAMES + '"' + "x" * 200_000, "expected comma-separated text, found field larger"),
}


@pytest.mark.parametrize(("name", "text", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(tmp_path, name, text, sentence):
    with pytest.raises(LabelsError) as caught:
        load(tmp_path, **{name: text})
    message = str(caught.value)
    assert sentence in message
    assert message.startswith(str(tmp_path / f"{name}.csv")) and "\n" not in message
    assert caught.value.exit_code == 2


def test_no_folder(tmp_path):
    with pytest.raises(LabelsError, match="expected a folder of labels, found none; make it"):
        load(tmp_path / "labels")


def test_a_folder_without_a_known_name(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(LabelsError, match=r"found event.csv, notes.txt; rename event.csv to events.csv"):
        load(tmp_path, event=FRAMES)
    (tmp_path / "event.csv").unlink()
    with pytest.raises(LabelsError, match=r"or an empty folder, found notes.txt; rename what holds labels"):
        load(tmp_path)


def test_a_known_name_beside_others_is_enough(tmp_path):
    (tmp_path / "README.txt").write_text("")
    assert load(tmp_path, events=FRAMES).events is not None


def test_a_folder_called_events_csv(tmp_path):
    (tmp_path / "events.csv").mkdir()
    with pytest.raises(LabelsError, match="expected a readable file, found Is a directory"):
        load(tmp_path)


def test_a_label_without_any_video(tmp_path):
    (tmp_path / "events.csv").write_text(FRAMES + "a.mp4,1,2\n")
    with pytest.raises(LabelsError, match="there is no video yet"):
        load_labels(tmp_path, pa.Table.from_pylist(VIDEOS).slice(0, 0))
