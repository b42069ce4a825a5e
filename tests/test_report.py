"""The report from small tables made by hand; `test_report_in_browser.py` opens it."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from conftest import blank
from report_pages import HOSTILE, PARAMS, Page, Workspace, bumps, event, read, realistic

from vidrnn import phrases
from vidrnn.schema import EMBEDDING_SIZE
from vidrnn.stages import report as stage
from vidrnn.storage import write_json


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path)


def test_a_full_report_says_what_happened(tmp_path):
    space = realistic(tmp_path)
    page = read(space.render())
    assert "12 unusual events" in page.text and "2 cameras" in page.text
    assert "1 file could not be read and 1 file only in part" in page.text
    assert "moov atom not found" in page.text
    assert "for comparison with papers" in page.text
    assert "89 % of 9 labelled events found; 83 % of what was reported is labelled" in " ".join(page.text.split())
    assert "2026-03-03 22:15:00 UTC" in page.text
    assert "too little footage to tell" in page.text
    assert "vidrnn table events --video 'yard north/test/2026-03-03T21-00-00.mp4'" in page.text
    assert page.text.index("unreadable") < page.text.index("partial")
    assert str(tmp_path) not in page.text
    assert [a["id"] for a in page.all("li") if "id" in a] == [f"event-{n}" for n in range(1, 13)]


def test_every_event_has_a_picture_with_alt_text_or_says_that_there_is_none(tmp_path):
    page = read(realistic(tmp_path).render())
    images = [image for image in page.all("img") if image.get("class") == "shot"]
    assert len(images) == 11 and len({image["alt"] for image in images}) == 11
    assert all(
        re.match(r"Event \d+: camera .+ at \d\d:\d\d\.\d in .+, with a box", image["alt"] or "") for image in images
    )
    assert "There is no picture of this event." in page.text
    jpeg = base64.b64decode((images[0]["src"] or "").split(",")[1])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)


def test_two_renderings_are_the_same_bytes(tmp_path):
    texts = [realistic(tmp_path / name).render() for name in ("a", "b")]
    assert texts[0] == texts[1]


def test_looks_of_the_user_do_not_change_the_charts(space, monkeypatch):
    space.video("gate/a.mp4", bumps(60, 1, [(11, 3)]), [event(1)])
    space.model("gate")
    before = space.render()
    import matplotlib

    with matplotlib.rc_context({"lines.linewidth": 9, "svg.fonttype": "path", "axes.xmargin": 0.4}):
        assert space.render() == before


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(space, name):
    camera = "<b onclick=x>'\""
    name = name.replace("gate/", f"{camera}/")
    reason = "</h3><script>alert(2)</script>"
    space.video(name, bumps(30, 1, [(11, 3)]), [event(1, reason=reason, model_version="<i>")])
    space.video(name + "2", status="unreadable", message="<svg onload=alert(3)>\x1b[31m")
    space.picture(camera, f"{1:016x}")
    space.model(camera, architecture={"<key>": "<value>"}, version="<u>")
    row = {"camera_id": camera, "measure": "<td>", "candidate_version": "<p>", "reason": "<a href=x>"}
    space.promotions.append(blank("promotions", **row))
    page = read(space.render())
    assert (
        phrases.visible(name) in page.text and reason in page.text and "<svg onload=alert(3)>\\u001b[31m" in page.text
    )
    assert f"vidrnn table events --video {phrases.quoted(name)}" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page.text)


@pytest.mark.parametrize(
    ("build", "title", "words"),
    [
        (lambda s: None, "No footage was scored", ["There are no files yet", "There is no model yet", "no labels"]),
        (
            lambda s: (s.video("gate/a.mp4", bumps(30, 1, [(11, 1.5)])), s.model("gate")),
            "Nothing unusual in 30 s of footage",
            ["No moment rose above", "at 00:11.", "more than 2.0", "All 1 file could be read"],
        ),
        (
            lambda s: s.video("gate/a.mp4", status="unreadable", message="not a video"),
            "No footage was scored",
            ["The only file could not be read", "not a video", "This camera has no model"],
        ),
        (
            lambda s: (s.video("gate/a.mp4", scored=False, trains=True, num_frames=9, duration_seconds=9.0),),
            "No footage was scored",
            ["1 file was found and none was scored", "Camera gate: 3 more minutes."],
        ),
        (
            lambda s: (s.video("gate/a.mp4", scored=False), s.model("gate")),
            "No footage was scored",
            ["None of this camera's footage was scored", "1 file was found and none was scored"],
        ),
    ],
)
def test_empty_states_are_sentences(space, build, title, words):
    build(space)
    write_json(space.root / "model/cameras.json", {"gate": {"status": "x", "message": "camera gate: 3 more minutes"}})
    page = read(space.render())
    text = " ".join(page.text.split())
    assert title in text
    assert [word for word in words if word not in text] == []


def test_the_promise_alone_is_shown_without_labels(space):
    space.video("gate/a.mp4", bumps(30, 1))
    space.model("gate")
    space.measure("labels", 0)
    space.measure("alarms_per_hour_promised", 1.0)
    space.measure("alarms_per_hour_heldout", 6.0, 2.2, 13.1)
    space.measure("heldout_alarms", 6)
    space.measure("heldout_hours", 1.0)
    text = " ".join(read(space.render()).text.split())
    assert "There are no labels of unusual events" in text
    assert "6 false alarms in 1 h of ordinary footage" in text and "more than promised" in text
    space.measure("auroc_micro_ema", None)
    assert "There are no labels" not in read(space.render()).text


def test_events_beyond_the_limit_are_listed(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(n, peak_score=float(n)) for n in range(2, 9)])
    params = PARAMS.model_copy(update={"report": PARAMS.report.model_copy(update={"max_events": 3})})
    page = read(space.render(params))
    assert "4 more events, less unusual" in page.text
    assert len([a for a in page.all("li") if a.get("id", "").startswith("event-")]) == 3
    assert sum(a["href"] == "#more-events" and "data-event" in a for a in page.all("a")) == 4


def test_ties_are_ordered_by_event_id(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(n, reason=f"reason {n}.") for n in (7, 5, 6)])
    text = read(space.render()).text
    assert text.index("Reason 5.") < text.index("Reason 6.") < text.index("Reason 7.")


def test_a_picture_that_is_no_jpeg_is_missing_and_a_box_stays_inside(space):
    space.video("gate/a.mp4", bumps(60, 1), [event(1), event(2, x0=-5, x1=9999), event(3, x0=None), event(4, x0=50)])
    for number in (2, 3, 4):
        space.picture("gate", f"{number:016x}")
    path = space.root / "media/camera_id=gate" / f"{1:016x}.jpg"
    path.write_bytes(b"<svg/>")
    page = read(space.render())
    assert (
        len([image for image in page.all("img") if image.get("class") == "shot"]) == 3
        and "There is no picture of this event." in page.text
    )
    boxes = [a for a in page.all("rect") if a["class"] == "line"]
    assert [(float(box["x"]), float(box["width"])) for box in boxes] == [(0, 320)]


def test_a_day_of_frames_stays_small_and_keeps_its_peak(space):
    scores = np.random.default_rng(0).normal(0, 0.3, 24 * 3600 * 10).astype(np.float32)
    scores[500_000] = 9.0
    space.video("gate/a.mp4", scores, [event(1, onset_seconds=49_999.0, offset_seconds=50_001.0, peak_score=9.0)])
    space.model("gate")
    text = space.render()
    assert len(text) < 200_000
    assert "Peak 9.0 at 13:53:20.0" in " ".join(read(text).text.split())


def test_the_stage_prints_where_the_report_is(tmp_path, capsys):
    space = realistic(tmp_path)
    space.render()
    stage.main(*map(str, space.arguments()))
    assert capsys.readouterr().out == f"report: 12 events, {tmp_path}/report/index.html\n"


def test_the_last_night_of_a_camera_with_trouble_is_told_at_a_glance(tmp_path):
    space = Workspace(tmp_path)
    for camera, night, ok, message in (
        ("gate", "2026-03-01", False, "the picture is dark"),
        ("gate", "2026-03-02", True, ""),
        ("yard", "2026-03-01", True, ""),
        ("yard", "2026-03-02", False, "it shows <another> view"),
    ):
        key = {"camera_id": camera, "night": night, "num_videos": 1, "hours": 0.5}
        space.nights.append(blank("health", **key, ok=ok, message=message))
    text = Page(space.render()).text
    assert "Night of 2026-03-02: It shows <another> view" in text
    assert "Cameras with trouble1 of 2" in " ".join(text.split())
    glance = text[: text.index("Health and drift")]
    assert "dark" not in glance


def test_similar_moments_are_named_whether_reported_or_not_and_what_is_not_alike_is_not(space):
    """Of four events the first two are the same, the third differs, and the last stands the other way."""
    vectors = np.zeros((4, EMBEDDING_SIZE), np.float32)
    vectors[:2, 0], vectors[2, 1], vectors[3, 0] = 1, 1, -1
    for number, vector in enumerate(vectors, start=1):
        name = f"gate/{number}.mp4"
        began = datetime(2026, 3, 1, 22, number, tzinfo=UTC) if number < 3 else None
        long = event(number, peak_score=9.0 - number, offset_seconds=18.0)
        space.video(name, bumps(60, number, [(11, 3)]), [long], recorded_at=began)
        scales = {9.0: 1.0, 11.0: 0.9, 15.0: 0.8, 21.0: 0.7, 40.0: 0.6 if number == 2 else 0.0}
        space.rows(
            "embeddings",
            name,
            [
                {"onset_seconds": at, "offset_seconds": at + 2, "vector": (scale * vector).tolist()}
                for at, scale in scales.items()
            ],
        )
    page = read(space.render())
    text = " ".join(page.text.split())
    assert text.count("Similar moments") == 2
    # Of an event the best moment stands for all; what is within 5 s of a moment that is named, or of the event that is
    # asked for, is the same.
    first, second = (part.split(" Show")[0] for part in text.split("Similar moments ")[1:])
    day = "2026-03-01 22:0"
    assert first == f"{day}2:09 event 2, 100 % alike {day}2:21 70 % alike {day}2:40 60 % alike"
    assert second == f"{day}1:09 event 1, 100 % alike {day}1:21 70 % alike {day}2:40 60 % alike"
    assert text.count(f"ffplay -ss 40.0 {PARAMS.data.videos}/gate/2.mp4") == 2


def test_the_night_is_a_local_date_and_times_are_local(space):
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    at = {"recorded_at": late, "onset_seconds": 10.0, "offset_seconds": 12.0}
    space.video("gate/a.mp4", bumps(60, 1, [(11, 3)]), [event(1, **at)], recorded_at=late)
    data = PARAMS.data.model_copy(update={"time_zone": "Europe/Berlin"})
    text = " ".join(read(space.render(PARAMS.model_copy(update={"data": data}))).text.split())
    assert "Events last night1 2026-03-02" in text and "2026-03-02 00:30:00 CET" in text


def test_an_event_belongs_to_the_night_of_its_video(space):
    """An alarm at one o'clock is of the night that began at ten, as in the table `health`."""
    began = datetime(2026, 3, 1, 22, tzinfo=UTC)
    late = {"onset_seconds": 10_900.0, "offset_seconds": 10_902.0, "peak_seconds": 10_901.0}
    one = event(1, recorded_at=datetime(2026, 3, 2, 1, 1, 40, tzinfo=UTC), **late)
    space.video("gate/a.mp4", bumps(12_000, 1, [(10_901, 3)]), [one], recorded_at=began)
    text = " ".join(read(space.render()).text.split())
    assert "Events last night1 2026-03-01" in text and "1 last night" in text


def test_a_camera_that_was_moved_is_in_trouble_whatever_its_mean_picture_says(space):
    for camera, number, night in (("gate", 2, 2), ("gate", 1, 1), ("yard", 3, 2)):
        began = datetime(2026, 3, night, 22, tzinfo=UTC)
        told = {"kind": "unusual"} if camera == "yard" else {"kind": "camera_moved", "reason": f"moved by {number}"}
        space.video(f"{camera}/{number}.mp4", bumps(30, 1, [(11, 3)]), [event(number, **told)], recorded_at=began)
        key = {"camera_id": camera, "night": f"2026-03-0{night}", "num_videos": 1, "hours": 0.5}
        space.nights.insert(0, blank("health", **key, ok=True, message=""))
    text = " ".join(read(space.render()).text.split())
    glance = text[: text.index("Events of last night, most unusual first")]
    assert "Cameras with trouble1 of 2" in glance and "CameraMoved by 2." in glance
    assert "Moved by 1" not in glance and glance.count("There is no night before to compare with") == 1
    assert "trouble Moved by 1." in text[text.index("Health and drift") :].replace("trouble", "trouble ")


def test_what_does_not_tell_anything_is_left_out_and_numbers_say_what_they_are(tmp_path):
    """Scores before smoothing rank as those after it, which lasts for less than a frame."""
    text = " ".join(read(realistic(tmp_path).render()).text.split())
    assert "Ranking (AUROC)" in text and "before smoothing" not in text
    assert "cut, stands out by 3.0" in text


def test_all_params_are_shown_but_those_of_the_demo_and_of_nights(space):
    shown = re.findall(r"<h4>(\w+)</h4>", space.render())
    assert shown == [section for section in PARAMS.model_dump() if section not in ("demo", "nightly")]


def footage(space, *starts, camera="gate", peak=3.0, first=1):
    """A video of ten minutes from each of some times on, with an event; each is less unusual than the one before."""
    for number, began in enumerate(starts, start=first):
        one = event(number, peak_score=peak - number / 10, recorded_at=began, reason=f"number {number}")
        name = f"{camera}/{began:%d-%H%M}.mp4"
        space.video(name, bumps(600, number, [(11, 3)]), [one], recorded_at=began)
        space.picture(camera, f"{number:016x}")


def test_events_of_last_night_come_first_however_unusual_the_earlier_ones_were(space):
    footage(space, *(datetime(2026, 3, day, 4, tzinfo=UTC) for day in (1, 2, 3)), datetime(2026, 3, 3, 5, tzinfo=UTC))
    page = read(space.render())
    text = " ".join(page.text.split())
    assert "2 unusual events in 20 min of last night" in text and "2 unusual events, 2026-03-03 · vidrnn" in text
    assert "2 videos from 1 camera were scored." in text and "Events last night2 2026-03-03, 4 in all" in text
    assert "The other 2 videos, 20 min, are of earlier nights or do not say when they were recorded: 2 events." in text
    order = [text.index(f"Number {number}.") for number in (3, 4, 1, 2)]
    assert order == sorted(order) and order[1] < text.index("Earlier events, most unusual first") < order[2]
    assert any(a["href"] == "#earlier" for a in page.all("a"))
    (line,) = (json.loads(div["data-facts"]) for div in page.all("div") if "data-facts" in div)
    assert line["night"] == [line["files"][2][0], line["files"][3][0] + 600]


def test_last_night_is_a_day_of_footage_at_whatever_hour_it_ends(space):
    """Nights run at two: all but two hours are of the date before, and a camera that was moved then is in trouble."""
    starts = [datetime(2026, 3, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, 15, tzinfo=UTC)]
    footage(space, *starts, datetime(2026, 3, 2, 1, 50, tzinfo=UTC))
    for night, message in (("2026-03-01", "the picture is dark"), ("2026-03-02", "")):
        key = {"camera_id": "gate", "night": night, "num_videos": 1, "hours": 0.5}
        space.nights.append(blank("health", **key, ok=not message, message=message))
    text = " ".join(read(space.render()).text.split())
    assert "Events last night2 2026-03-01 to 2026-03-02, 3 in all" in text
    assert "Cameras with trouble1 of 1" in text and "CameraNight of 2026-03-01: The picture is dark." in text


@pytest.mark.parametrize("hours", [24, 30])
def test_a_file_of_a_day_or_longer_that_ends_last_is_of_last_night(space, hours):
    ends = datetime(2026, 3, 3, 2, tzinfo=UTC)
    began = ends - timedelta(hours=hours)
    unusual = event(9, peak_score=4, recorded_at=ends - timedelta(hours=1), onset_seconds=3600.0 * (hours - 1))
    space.video("yard/long.mp4", bumps(36 * hours, 9), [unusual], rate=0.1, recorded_at=began)
    footage(space, *(ends - timedelta(hours=hour) for hour in (hours + 1, 2, 1)))
    text = " ".join(read(space.render()).text.split())
    assert "3 videos from 2 cameras were scored." in text and "The other 1 video, 10 min, " in text
    of_night = text[: text.index("Earlier events, most unusual first")]
    assert "Number 2." in of_night and "Number 3." in of_night and "Number 1." not in of_night


@pytest.mark.parametrize(
    ("zone", "turn", "expected"),
    [
        ("Asia/Kolkata", "01:30", {"2026-03-29 06:00 IST": "15 min28", "2026-03-29 07:00 IST": "15 min14"}),
        ("Europe/Berlin", "01:00", {"2026-03-29 01:00 CET": "15 min28", "2026-03-29 03:00 CEST": "15 min14"}),
    ],
)
def test_objects_hour_by_hour_go_by_the_local_clock(space, zone, turn, expected):
    """Also where it is half an hour off the others, and where an hour is left out."""
    began = datetime.fromisoformat(f"2026-03-29T{turn}Z") - timedelta(minutes=15)
    space.video("gate/a.mp4", bumps(180, 1), recorded_at=began, rate=1)
    onsets = [100.0, 890.0, 910.0]
    space.rows("tracks", "gate/a.mp4", [{"track_id": k, "onset_seconds": at} for k, at in enumerate(onsets)])
    space.model("gate")
    data = PARAMS.data.model_copy(update={"time_zone": zone})
    page = read(space.render(PARAMS.model_copy(update={"data": data})))
    text = " ".join(page.text.split())
    for hour, told in expected.items():  # footage, objects, and objects an hour
        assert f"{hour}{told}" in text, text[text.index("Objects hour by hour") :][:300]


def test_a_camera_without_footage_while_others_have_some_is_in_trouble(space):
    last = datetime(2026, 3, 12, 3, tzinfo=UTC)
    footage(space, last)
    footage(space, last - timedelta(days=2), camera="yard", first=2)
    footage(space, last - timedelta(days=10), camera="away", first=3)
    text = " ".join(read(space.render()).text.split())
    assert "Cameras with trouble1 of 3" in text
    yard, away = "No footage since 2026-03-10 03:10:00 UTC.", "No footage since 2026-03-02 03:10:00 UTC."
    assert f"yardtrouble Events0 last night, 1 in all Camera{yard}" in text
    assert f"away Events0 last night, 1 in all Camera{away}" in text  # it was taken away


def test_a_night_without_events_says_so_and_tells_those_before(space):
    footage(space, datetime(2026, 3, 1, 4, tzinfo=UTC))
    space.video("gate/calm.mp4", bumps(600, 9), recorded_at=datetime(2026, 3, 3, 4, tzinfo=UTC))
    text = " ".join(read(space.render()).text.split())
    assert "Nothing unusual in 10 min of last night" in text and "There was nothing unusual last night." in text
    assert "Earlier events, most unusual first" in text and text.count("Number 1.") == 1
