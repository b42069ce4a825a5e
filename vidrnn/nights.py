"""Which footage is that of last night, and what is told of a camera's nights."""

from datetime import datetime, timedelta, tzinfo
from typing import Any

from vidrnn import phrases
from vidrnn.timeline import Stretch

DAY = timedelta(days=1)
AWAY = timedelta(days=7)  # a camera without footage for longer was taken away
TOLD_INCIDENTS = 2  # of a camera and night, in words
KINDS = {
    "unusual": "Unusual",
    "camera_moved": "Camera moved",
    "camera_covered": "Camera covered",
    "signal_lost": "Signal lost",
}

Row = dict[str, Any]


def night_of(when: datetime, zone: tzinfo) -> str:
    """The local date, as the table `health` has it."""
    return when.astimezone(zone).date().isoformat()


def end_of(stretch: Stretch) -> datetime | None:
    """When a video was over; None where nothing says when it began."""
    began: datetime | None = stretch.video["recorded_at"]
    return began + timedelta(seconds=stretch.curve.duration_seconds) if began else None


def last_night(stretches: list[Stretch]) -> list[Stretch]:
    """The videos that ended within a day of the last one's end, or none where nothing says when it was recorded.

    Whatever the hour at which nights run, these came in since the one before. When one began does not count: a file
    may last for all of a day.
    """
    ends = [end for stretch in stretches if (end := end_of(stretch))]
    since = max(ends) - DAY if ends else None
    return [stretch for stretch in stretches if since and (end := end_of(stretch)) and end > since]


def dates_of(stretches: list[Stretch], zone: tzinfo) -> str | None:
    """The night or two of some videos, as a date or "2026-03-01 to 2026-03-02"."""
    nights = sorted({night_of(stretch.video["recorded_at"], zone) for stretch in stretches})
    return " to ".join(dict.fromkeys((nights[0], nights[-1]))) if nights else None


def recorded(stretches: list[Stretch]) -> tuple[datetime, datetime] | None:
    """First and last instant of some videos, where it is known when they were recorded."""
    ends = [end for stretch in stretches if (end := end_of(stretch))]
    return (min(s.video["recorded_at"] for s in stretches if s.video["recorded_at"]), max(ends)) if ends else None


def with_incidents(night: Row, events: list[Row]) -> Row:
    """A row of `health`, and what the events of that night say of the camera itself: it was moved, covered, or lost."""
    said = [event["reason"] or KINDS[event["kind"]] for event in events if event["kind"] != "unusual"]
    if not said:
        return night
    more = len(said) - TOLD_INCIDENTS
    told = [night["message"], *said[:TOLD_INCIDENTS], f"and {more} more" if more > 0 else ""]
    return night | {"ok": False, "message": "; ".join(text for text in told if text)}


def state_of(
    nights: list[Row], own: list[Stretch], recent: list[Stretch], tonight: list[Stretch], zone: tzinfo
) -> Row | None:
    """What is told of a camera at a glance: that there is no footage while other cameras have some; or a night with
    trouble, of those that make up last night; or else the newest.

    Args:
        nights: its rows of `health`, the newest first.
        own, recent: its videos, and those of last night.
        tonight: those of last night of all cameras.
        zone: of what is told.
    """
    ends = [end for stretch in own if (end := end_of(stretch))]
    if tonight and ends and not recent:
        away = min(stretch.video["recorded_at"] for stretch in tonight) - max(ends)
        message = f"no footage since {phrases.moment(max(ends), zone)}"
        return {"night": None, "ok": None if away > AWAY else False, "message": message}
    dates = {night_of(stretch.video["recorded_at"], zone) for stretch in recent}
    troubled = (row for row in nights if row["night"] in dates and not row["ok"])
    return next(troubled, nights[0] if nights else None)
