"""The report in a real browser: three widths, both themes, nothing fetched; keyboard, zoom, clips, contrast, size."""

import re
import shutil
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from report_pages import HOSTILE, PARAMS, Workspace, bumps, event, realistic, scene

from vidrnn import report
from vidrnn.embed import PAGE_BYTES
from vidrnn.media import CLIP_BYTES


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme):
    css = (report.PAGE / "report.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[theme]))
    pairs = [(text, ground, 4.5) for text in ("ink", "muted", "accent") for ground in ("bg", "surface")]
    pairs += [("ink", "accent-soft", 4.5), ("accent", "accent-soft", 4.5), ("ink", "warmup", 4.5)]
    pairs += [("muted", "warmup", 4.5), ("surface", "accent", 4.5), ("good", "surface", 4.5), ("good", "bg", 4.5)]
    pairs += [("curve", ground, 3) for ground in ("surface", "accent-soft", "warmup")]
    for text, ground, least in pairs:
        high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= least, (text, ground)


def until(tab, true):
    """Wait for an expression; the page's own policy forbids what Playwright's waiting does."""
    for _ in range(100):
        if tab.evaluate(true):
            return
        time.sleep(0.05)
    pytest.fail(f"never true: {true}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A full report, one of hostile names and an empty one."""
    roots = [tmp_path_factory.mktemp(name) for name in ("full", "hostile", "empty")]
    realistic(roots[0]).render()
    space = Workspace(roots[1])
    for number, name in enumerate([*HOSTILE, f"gate/{'x' * 240}.mp4"]):
        space.video(name, bumps(30, number, [(11, 3)]), [event(number, reason="y" * 200)])
        space.video(name + ".bad", status="unreadable", message="z" * 200)
    space.model("gate")
    space.render()
    Workspace(roots[2]).render()
    return [root / "report/index.html" for root in roots]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A minute about midnight: an event of three objects, and one of none, each with a clip."""
    space = Workspace(tmp_path_factory.mktemp("small"))
    events = [
        event(1, track_ids=[5, 6, 7], peak_score=9.0),
        event(2, onset_seconds=30.0, offset_seconds=32.0, peak_seconds=31.0),
    ]
    began = datetime(2026, 3, 1, 23, 59, 40, tzinfo=UTC)
    space.video("gate/a.mp4", bumps(60, 1), events, width=640, height=360, recorded_at=began)
    things = [
        {"track_id": track, "time_seconds": t, "score": track / 2, "x0": 9, "x1": 9 + width, "y0": 9, "y1": 40}
        for t in np.arange(5, 20, 0.1).tolist()
        for track, width in ((5, 20), (7, 40), (6, 30))
    ]
    space.rows("detections", "gate/a.mp4", things)
    for one in events:
        picture = scene(1, False, (200, 200, 250, 300))
        space.picture("gate", one["event_id"], picture)
        space.clip("gate", one["event_id"], picture)
    space.render()
    return space.root / "report/index.html"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_in_a_browser_nothing_is_fetched_blocked_or_too_wide(browser, pages, width, theme):
    for path in pages:
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        told: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message, told=told: told.append(message.text))
        tab.on("pageerror", lambda error, told=told: told.append(str(error)))
        tab.on("dialog", lambda dialog, told=told: told.append(dialog.message))
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.goto(path.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert told == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(250, 250, 248)") is (theme == "light")
        tab.close()


def test_footage_of_long_ago_is_not_taken_for_that_of_last_night(browser, pages):
    """By the clock of who reads it; the page is the same bytes."""
    tab = browser.new_page()
    tab.goto(pages[0].as_uri())
    end = datetime.fromisoformat(tab.get_attribute("#age", "data-end"))
    for later, words in (
        (20, None),
        (26, "That is 1 day ago: "),
        (24 * 40, "That is 40 days ago: no camera has given"),
    ):
        tab.clock.set_fixed_time(end + timedelta(hours=later))
        tab.reload()
        assert tab.is_visible("#age") is bool(words)
        assert words is None or tab.inner_text("#age").startswith(words)
    tab.close()


def test_drawn_footage_is_of_no_age(browser, tmp_path):
    space = realistic(tmp_path)
    space.render(PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"videos": "data/demo/videos"})}))
    tab = browser.new_page()
    tab.goto((tmp_path / "report/index.html").as_uri())
    assert "days ago" not in (said := tab.inner_text(".lead")) and "The footage is the demo's: drawn" in said
    tab.close()


def test_the_keyboard_reaches_the_content(browser, pages):
    tab = browser.new_page()
    tab.goto(pages[0].as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    tab.close()


def test_on_paper_it_is_light_and_nothing_is_cut_off(browser, pages):
    tab = browser.new_page(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 within its margins
    tab.goto(pages[0].as_uri())
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 718
    tab.close()


# Of every element that shows text of its own: its colour against the ground that lies behind it.
CONTRASTS = r"""() => {
  const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.matches("script, :disabled")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const [high, low] = [luminance(numbers(style.color)), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${element.outerHTML.slice(0, 90)}: ${ratio}`);
  }
  return [found, document.body.querySelectorAll("*").length];
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(browser, pages, theme):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme=theme)
    tab.goto(pages[0].as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    low, count = tab.evaluate(CONTRASTS)
    assert low == [] and count > 500
    tab.close()


def test_every_picture_has_a_text_and_every_control_can_be_reached(browser, pages):
    tab = browser.new_page(viewport={"width": 820, "height": 900}, reduced_motion="reduce")
    tab.goto(pages[0].as_uri())
    assert tab.evaluate("[...document.images].length") > 20
    assert tab.evaluate("[...document.images].every(i => i.alt.trim())")
    assert tab.evaluate(
        "[...document.querySelectorAll('[role=img], button, video')].every(e => (e.ariaLabel || e.textContent).trim())"
    )
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wanted = tab.evaluate("""() => {
      const all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
      const shown = all.filter((e) => e.checkVisibility() && !e.disabled);
      shown.forEach((e, k) => { e.dataset.wanted = k; });
      return shown.length;
    }""")
    reached = set()
    for _ in range(wanted + 5):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.dataset.wanted"))
    assert {str(k) for k in range(wanted)} <= reached and wanted > 60
    tab.close()


def test_a_time_line_zooms_by_buttons_keys_and_from_an_event(browser, pages):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    tab.goto(pages[0].as_uri())
    line = tab.locator(".timeline").first
    drawing = line.locator("svg")

    def shown():
        left, _, width, _ = map(float, drawing.get_attribute("viewBox").split())
        return left, width

    assert shown() == (0, 1000) and line.get_by_role("button", name="Show more").is_disabled()
    every = line.locator(".ticks span").all_inner_texts()
    line.get_by_role("button", name="Show less, larger").click()
    assert shown() == (250, 500) and line.locator(".ticks span").all_inner_texts() != every
    line.locator(".view").focus()
    for key, expected in (
        ("+", (375, 250)),
        ("ArrowRight", (425, 250)),
        ("End", (750, 250)),
        ("Home", (0, 250)),
        ("-", (0, 500)),
        ("0", (0, 1000)),
    ):
        tab.keyboard.press(key)
        assert shown() == pytest.approx(expected), key
    for _ in range(20):
        tab.keyboard.press("+")
    seconds = float(line.get_attribute("data-seconds"))
    assert shown()[1] == pytest.approx(5000 / seconds) and line.locator(".ticks span").count() > 1
    tab.keyboard.press("0")
    box = line.locator(".view").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 100)
    tab.keyboard.down("Control")
    tab.mouse.wheel(0, -500)
    tab.keyboard.up("Control")
    until(tab, "document.querySelector('.timeline svg').viewBox.baseVal.width < 900")
    left, width = shown()
    assert left + 0.25 * width == pytest.approx(250, abs=5)  # what lies under the pointer stays there
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.25 - 100, box["y"] + 100)
    tab.mouse.up()
    assert shown()[0] > left + 20
    button = tab.locator("#event-1 [data-show]")
    button.click()
    narrowed = [w.get_attribute("viewBox") for w in tab.locator(".timeline svg").all()]
    assert sum(view.startswith("0 0 1000") for view in narrowed) < len(narrowed)
    assert tab.evaluate("document.activeElement.className").startswith("view")
    tab.close()


def test_values_of_a_time_line_are_read_with_the_pointer_and_by_keyboard(browser, pages):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    tab.goto(pages[0].as_uri())
    line = tab.locator(".timeline").first
    slider, drawing = line.get_by_role("slider"), line.locator("svg")
    seconds = float(line.get_attribute("data-seconds"))

    def told():
        return slider.get_attribute("aria-valuetext")

    def at():
        return float(slider.get_attribute("aria-valuenow"))

    def opacity():
        return slider.evaluate("e => getComputedStyle(e).opacity")

    line.locator(".view").scroll_into_view_if_needed()
    box = line.locator(".view").bounding_box()
    share = float(line.locator(".marks a[data-event='2']").get_attribute("data-at"))
    assert opacity() == "0"
    tab.mouse.move(box["x"] + share * box["width"], box["y"] + 100)
    peak = re.search(r"Peak (\S+) at 00:4", tab.locator(".camera").first.text_content())[1]
    assert re.fullmatch(rf"2026-03-03 22:15:4\d, score {peak}, an alarm, event 2, \S+ objects an hour", told())
    assert opacity() == "1"
    assert slider.inner_text().splitlines()[1:3] == [f"score {peak}, an alarm", "event 2"]
    tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 100)
    assert "alarm" not in told() and "event" not in told()
    tab.mouse.move(box["x"], box["y"] - 200)
    assert opacity() == "0"

    slider.focus()
    assert opacity() == "1"
    tab.keyboard.press("Home")
    assert at() == 0 and told().startswith("2026-03-03 22:15:00, score ")
    tab.keyboard.press("ArrowRight")
    pixel = seconds / box["width"]
    assert at() == pytest.approx(4 * pixel, abs=0.1)
    tab.keyboard.press("PageUp")
    assert at() == pytest.approx(64 * pixel, abs=0.1)
    tab.keyboard.press("ArrowLeft")
    assert at() == pytest.approx(60 * pixel, abs=0.1)
    tab.keyboard.press("End")
    assert at() == pytest.approx(seconds, abs=0.1)
    for _ in range(4):
        tab.keyboard.press("+")  # about what is read
    left, _, width, _ = map(float, drawing.get_attribute("viewBox").split())
    assert width == pytest.approx(1000 / 16) and left + width == pytest.approx(1000)
    tab.keyboard.press("Home")
    assert at() == pytest.approx(left / 1000 * seconds, abs=0.2)
    tab.keyboard.press("ArrowLeft")  # what is shown follows
    assert float(drawing.get_attribute("viewBox").split()[0]) < left
    tab.close()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_clips_play_in_view_unless_motion_is_unwanted(browser, pages, motion):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion=motion)
    told = []
    tab.on("console", lambda message: told.append(message.text))
    tab.goto(pages[0].as_uri())
    first, last = (tab.locator(f"#event-{number}") for number in (2, 12))
    first.locator(".picture").scroll_into_view_if_needed()
    clip, play = first.locator("video"), first.locator(".play")
    if motion == "reduce":
        tab.wait_for_timeout(400)
        assert play.get_attribute("aria-pressed") == "false" and not clip.is_visible()
        play.focus()
        tab.keyboard.press("Enter")
    until(tab, "document.querySelector('#event-2 video').currentTime > 0.3")
    assert clip.is_visible() and play.get_attribute("aria-pressed") == "true"
    assert tab.evaluate("document.querySelector('#event-2 video').loop")
    assert float(first.locator(".moving").first.get_attribute("width")) > 0
    play.click()
    assert not clip.is_visible() and not last.locator("video").is_visible()
    assert tab.evaluate("[...document.querySelectorAll('video')].filter(v => v.src).length") < 6
    heat = first.locator(".heat")
    assert not heat.is_visible()
    first.get_by_label("Heat map").check()
    assert heat.is_visible() and told == []
    tab.close()


def test_a_time_line_after_midnight_tells_the_next_date(browser, small):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    tab.goto(small.as_uri())
    shown = tab.locator(".range-shown").first
    assert shown.inner_text() == "2026-03-01 23:59:40 – 2026-03-02 00:00:40"
    ticks = tab.locator(".ticks").first.locator("span")
    assert {tick[:6] for tick in ticks.all_inner_texts()} == {"03-01 ", "03-02 "}
    tab.locator(".view").first.focus()
    for key in ("+", "+", "+", "End"):
        tab.keyboard.press(key)
    assert shown.inner_text().startswith("2026-03-02 00:00:3")
    assert all(re.fullmatch(r"00:00:\d\d", tick) for tick in ticks.all_inner_texts())  # one day need not be told
    tab.close()


def test_a_time_line_of_many_nights_opens_at_the_last_one(browser, tmp_path):
    space = Workspace(tmp_path)
    for day in range(1, 6):
        began = datetime(2026, 3, day, 22, tzinfo=UTC)
        space.video(f"gate/{day}.mp4", bumps(60, day), [event(day, recorded_at=began)], recorded_at=began)
    space.render()
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    tab.goto((tmp_path / "report/index.html").as_uri())
    shown = tab.locator(".range-shown").first
    assert shown.inner_text() == "2026-03-05 22:00:00 – 22:01:00"
    tab.get_by_role("button", name="All", exact=True).click()
    assert shown.inner_text() == "2026-03-01 22:00:00 – 2026-03-05 22:01:00"
    tab.get_by_role("button", name="Last night").click()
    assert shown.inner_text() == "2026-03-05 22:00:00 – 22:01:00"
    tab.close()


def test_while_a_clip_plays_its_box_stays_unless_objects_move_and_the_most_unusual_one_stands_out(browser, small):
    tab = browser.new_page(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    tab.goto(small.as_uri())
    for number in (1, 2):
        tab.locator(f"#event-{number} .play").click()
        until(tab, f"document.querySelector('#event-{number} video').currentTime > 0.3")
    assert not tab.locator("#event-1 .still .line").is_visible() and tab.locator("#event-2 .still .line").is_visible()
    looks = """boxes => boxes.map(b => { const s = getComputedStyle(b); return [s.stroke, s.strokeWidth]; })"""
    *others, first = tab.locator("#event-1 .moving").evaluate_all(looks)
    assert first == ["rgb(255, 122, 61)", "2.5px"] and others == [["rgb(255, 255, 255)", "1.5px"]] * 2
    widths = tab.locator("#event-1 .moving").evaluate_all("boxes => boxes.map(b => +b.getAttribute('width'))")
    assert widths == [20, 30, 40]  # the most unusual object is the widest
    tab.close()


def test_the_verdict_on_the_promise_is_on_a_narrow_screen(browser, pages):
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.goto(pages[0].as_uri())
    for verdict in tab.locator("#measures td.verdict").all():
        box = verdict.bounding_box()
        assert box["x"] + box["width"] <= 390
    assert tab.locator("#measures td.verdict").count() == 3
    tab.close()


def test_a_command_is_copied(browser, pages):
    tab = browser.new_page(viewport={"width": 360, "height": 700}, reduced_motion="reduce")
    tab.goto(pages[0].as_uri())
    tab.locator("#event-1 summary").first.click()
    tab.locator("#event-1 .copy").first.click()
    until(tab, "document.getElementById('said').textContent === 'Copied.'")
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<textarea id=paste></textarea>')")
    tab.locator("#paste").focus()
    tab.keyboard.press("Control+V")
    assert re.fullmatch(r"vidrnn mark [0-9a-f]{16} normal", tab.locator("#paste").input_value())
    tab.close()


def test_five_hundred_events_stay_small_and_open_fast(browser, tmp_path):
    """Of pictures with as much in them as a street has, and clips as large as they may be."""
    space = Workspace(tmp_path)
    grain = np.random.default_rng(0).normal(0, 42, (360, 640, 3))
    picture = np.clip(scene(1, False, (200, 200, 250, 300)) + grain, 0, 255).astype(np.uint8)
    space.picture("gate", "0", picture)
    space.clip("gate", "0", picture)
    body = space.media("gate", "0.mp4").read_bytes()
    bodies = {".jpg": None, "-heat.png": None, ".mp4": body + b"\0" * (CLIP_BYTES - len(body))}
    bodies = {suffix: whole or space.media("gate", f"0{suffix}").read_bytes() for suffix, whole in bodies.items()}
    for video in range(10):
        events, name = [], f"gate/{video}.mp4"
        for k in range(60):
            number = 100 * video + k + 1
            at = {"onset_seconds": 20.0 * k + 5, "offset_seconds": 20.0 * k + 8, "peak_seconds": 20.0 * k + 6}
            events.append(event(number, **at, track_ids=[k], peak_score=2.5 + k / 10))
            for suffix, whole in bodies.items():
                space.media("gate", f"{number:016x}{suffix}").write_bytes(whole)
        space.video(name, bumps(1200, video), events, width=640, height=360)
        things = [
            {"track_id": k, "time_seconds": 20 * k + 4 + t / 10, "x0": t, "y0": 50, "x1": t + 40, "y1": 90}
            for k in range(60)
            for t in range(50)
        ]
        space.rows("detections", name, things)
    space.model("gate")
    began = time.monotonic()
    text = space.render(PARAMS.model_copy(update={"report": PARAMS.report.model_copy(update={"max_events": 500})}))
    assert time.monotonic() - began < 20
    assert text.count('<li id="event-') == 500 and "100 more events" in text and len(text.encode()) < 30_000_000
    sizes = {
        kind: len(re.search(rf'"(data:{kind};[^"]*)"', text)[1]) for kind in ("image/jpeg", "image/png", "video/mp4")
    }
    assert (
        sizes["image/jpeg"] * 3 / 4 > 20_000 and sizes["video/mp4"] * 3 / 4 > CLIP_BYTES
    )  # as of a street, at its worst
    room = (PAGE_BYTES - 500 * (sizes["image/jpeg"] + sizes["image/png"])) // sizes["video/mp4"]
    embedded = text.count("data:video/mp4")
    assert embedded == room < 500 and text.count('<a href="../media/') == 500 - room  # the rest is linked
    page, bare = tmp_path / "report/index.html", tmp_path / "report/bare.html"
    bare.write_text(re.sub(r"(?s)<(script|style)\b.*?</\1>", "", text), encoding="utf-8")
    told, seconds = [], {page: [], bare: []}
    for path in [page, bare] * 3:  # what the page takes, not what else runs here
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.on("console", lambda message: told.append(message.text))
        began = time.monotonic()
        tab.goto(path.as_uri(), wait_until="load")
        seconds[path].append(time.monotonic() - began)
        tab.close()
    whole, least = min(seconds[page]), min(seconds[bare])
    size = len(text.encode()) / 1e6
    print(f"500 events: {embedded} clips in {size:.1f} MB, open in {whole:.2f} s, {least:.2f} s without style")
    # Style lays out only what is in view: that took half as long as all of it, beside other work.
    assert whole < 0.8 * least and told == []
