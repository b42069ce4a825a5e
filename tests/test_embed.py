"""What goes into the page, and what is left beside it; what an event shows beside its row."""

import base64

import cv2
import numpy as np
from report_pages import Workspace, bumps, event

from vidrnn import embed
from vidrnn.embed import embed_events, embed_segment
from vidrnn.event_cards import make_cards
from vidrnn.events import clip_interval
from vidrnn.neighbours import Moment


def picture_of(uri):
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)


def filled(root, count):
    space = Workspace(root)
    image = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    for number in range(count):
        space.picture("gate", f"{number}", image)
    space.clip("gate", "0", image)
    for number in range(1, count):
        for suffix in (".mp4", "-heat.png"):
            space.media("gate", f"{number}{suffix}").write_bytes(space.media("gate", f"0{suffix}").read_bytes())
    return space, [("gate", f"{number}") for number in range(count)]


def test_few_pictures_stand_as_they_are_and_many_are_made_small(tmp_path):
    space, keys = filled(tmp_path, embed.FEW + 1)
    few = embed_events(space.root / "media", keys[:3], space.root / "report/index.html")
    many = embed_events(space.root / "media", keys, space.root / "report/index.html")
    assert picture_of(few[0].picture).shape == (360, 640, 3) and picture_of(many[0].picture).shape == (225, 400, 3)
    assert few[0].heat == many[0].heat and few[0].clip == many[0].clip and few[0].clip.startswith("data:video/mp4;")
    assert picture_of(embed_segment(space.root / "media", "gate", "1")).shape == (135, 240, 3)


def test_clips_beyond_what_the_page_holds_are_linked(tmp_path, monkeypatch):
    space, keys = filled(tmp_path, 5)
    page = space.root / "report/index.html"
    whole = embed_events(space.root / "media", keys, page)
    sizes = [len(one.picture) + len(one.heat) for one in whole], len(whole[0].clip)
    monkeypatch.setattr(embed, "PAGE_BYTES", sum(sizes[0]) + 2 * sizes[1])
    kept = embed_events(space.root / "media", keys, page)
    assert [one.clip is not None for one in kept] == [True, True, False, False, False]
    assert sum(len(one.picture) + len(one.heat) + len(one.clip or "") for one in kept) == embed.PAGE_BYTES
    assert kept[4].clip_path == "../media/camera_id%3Dgate/4.mp4" and kept[4].picture == whole[4].picture


def test_what_is_not_what_its_name_says_is_missing(tmp_path):
    space, keys = filled(tmp_path, 1)
    for suffix in (".jpg", ".mp4", "-heat.png"):
        space.media("gate", f"0{suffix}").write_bytes(b"<svg onload=alert(1)/>")
    (media,) = embed_events(space.root / "media", [*keys], space.root / "report/index.html")
    assert (media.picture, media.heat, media.clip, media.clip_path) == (None, None, None, None)


def test_trails_are_those_of_the_objects_that_an_event_names_while_its_clip_lasts(tmp_path):
    space = Workspace(tmp_path)
    told = event(1, track_ids=[5, 6])
    space.video("gate/a.mp4", bumps(60, 1), [told])
    things = [
        {"track_id": track, "time_seconds": t, "score": score, "x0": 10 * t, "y0": 20, "x1": 10 * t + 4, "y1": 30}
        for t in np.arange(0, 60, 0.5).tolist()
        for track, score in ((5, 1.0), (6, 2.0), (7, 9.0))
    ]
    space.rows("detections", "gate/a.mp4", things)
    told |= {"number": 1, "camera_id": "gate", "video_id": "gate/a.mp4", "kind": "unusual"}
    videos = {"gate/a.mp4": {"width": 320, "height": 180}}
    folders = space.root / "tables", space.root / "media", "my footage"
    like_it = [Moment("gate/b.mp4", 3.0, 4.0, 0.9)]
    (card,) = make_cards(*folders, [told], videos, {told["event_id"]: like_it}, space.root / "index.html")
    start, stop = clip_interval(10.0, 13.0, 11.0)
    assert len(card.trails) == 2 and card.similar == like_it
    first = card.trails[0]
    assert first.points.split()[0] == f"{10 * start + 2:.0f},25" and len(first.points.split()) == 2 * (stop - start)
    assert first.boxes.split(";")[2] == f"1.00 {10 * (start + 1):.0f} 20 4 10"
    typed = dict(card.commands)
    assert f"vidrnn mark {1:016x} normal" in typed.values() and f"vidrnn find {1:016x}" in typed.values()
    assert f"ffplay -ss {start:.1f} 'my footage/gate/a.mp4'" in typed.values()


def test_trails_of_few_frames_count_from_the_first_of_the_clip_and_last_until_the_next(tmp_path):
    """A clip that may begin at 9 s begins at 10, as every second second is analysed."""
    space = Workspace(tmp_path)
    told = event(1, track_ids=[5])
    space.video("gate/a.mp4", bumps(6, 1)[:30], [told], rate=0.5)
    things = [{"track_id": 5, "time_seconds": t, "x0": t, "x1": t, "y1": 9} for t in np.arange(0.0, 60.0, 2.0).tolist()]
    space.rows("detections", "gate/a.mp4", things)
    told |= {"number": 1, "camera_id": "gate", "video_id": "gate/a.mp4", "kind": "unusual"}
    folders = space.root / "tables", space.root / "media", "footage"
    videos = {"gate/a.mp4": {"width": 320, "height": 180}}
    ((trail,),) = [card.trails for card in make_cards(*folders, [told], videos, {}, space.root / "index.html")]
    assert trail.boxes == "0.00 10 0 0 9;2.00 12 0 0 9" and 2.0 < trail.lasts < 4.0


def test_a_camera_whose_name_is_no_text_has_its_pictures(tmp_path):
    space = Workspace(tmp_path)
    space.picture("caf\udce9/../x", "1")
    assert embed_segment(space.root / "media", "caf\udce9/../x", "1") is not None
