"""The annotated copy: every frame at its time, with what the tables say of it."""

from fractions import Fraction

import cv2
import numpy as np
import pyarrow as pa
import pytest
from conftest import blank, write_clip

from vidrnn.annotate import annotate_video
from vidrnn.decode import open_video
from vidrnn.errors import UserError
from vidrnn.schema import SCHEMAS
from vidrnn.timebase import TimeBase

BASE = TimeBase(1, 1000)
PTS = np.cumsum([100 + 30 * (k % 3) for k in range(24)]).tolist()  # uneven, and not from 0
WIDTH, HEIGHT = 160, 120


def table(name, rows):
    return pa.Table.from_pylist([blank(name, **row) for row in rows], schema=SCHEMAS[name])


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A grey clip whose every second frame is analysed; an object in all of them, an event from frame 8 to 16."""
    root = tmp_path_factory.mktemp("annotate")
    source = write_clip(root / "a.mp4", [np.full((HEIGHT, WIDTH), 90, np.uint8)] * 24, PTS, time_base=Fraction(1, 1000))
    with open_video(source, BASE) as reader:
        pts = [frame.pts for frame in reader.frames()]
    times = [(tick - pts[0]) / 1000 for tick in pts]
    analysed = range(0, 24, 2)
    frames = [
        {"frame_index": k, "pts": pts[k], "time_seconds": times[k], "score": 9 * (8 <= k < 16), "alarm": 8 <= k < 16}
        for k in analysed
    ]
    event = {"onset_pts": pts[8], "offset_pts": pts[16], "onset_seconds": times[8], "offset_seconds": times[16]}
    box = {"x0": 40, "y0": 50, "x1": 60, "y1": 90, "objectness": 0.9, "track_id": 3}
    things = [{"frame_index": k, "pts": pts[k], "score": 9 * (8 <= k < 16), **box} for k in analysed]
    tables = table("frames", frames), table("events", [event | {"reason": "so – so"}]), table("detections", things)
    out = root / "copy.mp4"
    annotate_video(source, BASE, *tables, out)
    with open_video(out, BASE) as reader:
        shown = list(reader.all_pictures())
    return root, source, pts, tables, shown


def test_every_frame_is_there_at_its_own_time(copied):
    _, _, pts, _, shown = copied
    assert [tick for tick, _ in shown] == [tick - pts[0] for tick in pts]
    (height, width, _) = shown[0][1].shape
    assert width == WIDTH and HEIGHT < height < 1.5 * HEIGHT and height % 2 == 0


def test_boxes_and_events_show(copied):
    *_, shown = copied
    for k, (_, picture) in enumerate(shown):
        inside, edge, frame = (picture[y, x].astype(int) for y, x in [(70, 50), (70, 40), (100, 0)])
        in_event = 8 <= k < 16
        assert np.ptp(inside) < 30  # grey
        assert (edge[2] - edge[:2].max() > 60) == in_event and np.ptp(edge) > 60  # red, or the colour of the track
        assert (frame[2] - frame[1] > 60) == in_event


def test_the_curve_runs_below(copied):
    *_, shown = copied
    red = [int(((p[HEIGHT:, :, 2].astype(int) - p[HEIGHT:, :, 1]) > 100).sum()) for _, p in shown]
    assert not any(red[:8]) and min(red[10:16]) > 0 and np.all(np.diff(red[8:16]) >= -2)


def test_the_same_bytes_again_and_nothing_to_tell(copied, tmp_path):
    root, source, _, tables, _ = copied
    annotate_video(source, BASE, *tables, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == (root / "copy.mp4").read_bytes()
    empty = [SCHEMAS[name].empty_table() for name in ("frames", "events", "detections")]
    annotate_video(source, BASE, *empty, tmp_path / "plain.mkv")
    with open_video(tmp_path / "plain.mkv", BASE) as reader:
        assert len(list(reader.all_pictures())) == 24


def test_pictures_of_odd_size_and_none_at_all(tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in (3, 4, 7):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((45, 61, 3), 30 * number, np.uint8))
    empty = [SCHEMAS[name].empty_table() for name in ("frames", "events", "detections")]
    annotate_video(folder, TimeBase(1, 10), *empty, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4", BASE) as reader:
        shown = list(reader.all_pictures())
    assert [round(reader.time_base.seconds(tick), 6) for tick, _ in shown] == [0.0, 0.1, 0.4]
    assert all(
        abs(int(picture[20, 30, 0]) - 30 * number) < 8 for (_, picture), number in zip(shown, (3, 4, 7), strict=True)
    )
    for path in folder.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="holds no frame that can be decoded"):
        annotate_video(folder, TimeBase(1, 10), *empty, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()
