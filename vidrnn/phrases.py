"""How values are told to people: numbers, times, rates and names as short texts that nobody has to decode."""

import math
import shlex
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any


def score_text(score: float | None) -> str:
    """Three digits at most, as 0.42, 3.1, 18 or 240."""
    if score is None:
        return "–"
    digits = 2 if abs(score) < 1 else 1 if abs(score) < 10 else 0
    text = f"{score:.{digits}f}".replace("-", "−")
    return text.lstrip("−") if not text.strip("−0.") else text


def clock(seconds: float) -> str:
    """A place in a video, as 03:07.4 or 1:03:07.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02d}:{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{rest}" if hours else rest


def span_text(seconds: float | None) -> str:
    """How long something lasts, as 4.2 s, 3 min 20 s or 2 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(when: datetime | None, zone: tzinfo = UTC) -> str:
    """A wall-clock time, to the second."""
    return when.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z") if when else "–"


def _number(value: float) -> str:
    """Two significant digits, as in 1.5 or 12; whole numbers stay whole."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def number_text(value: float | None, digits: int = 4) -> str:
    """With so many significant digits."""
    return "–" if value is None else f"{value:.{digits}g}".replace("-", "−")


def rate_text(per_hour: float | None) -> str:
    """A number an hour, with two digits that mean something."""
    if per_hour is None:
        return "–"
    return _number(per_hour) if per_hour >= 1 or per_hour == 0 else f"{per_hour:.2g}"


def chance(per_hour: float) -> str:
    """How often chance gives a score as high, in words that complete "expected by chance …".

    What is rarer than once a year is told as that: no footage is long enough to tell it from once in ten.
    """
    if not math.isfinite(per_hour):
        return "nobody knows how often"
    hours = math.inf if per_hour <= 0 else 1 / per_hour
    if hours <= 0.75 / 60:
        return "more than once a minute"
    if hours < 0.95:
        return f"about every {_number(hours * 60)} minutes" if hours * 60 >= 1.5 else "about once a minute"
    for unit, length, limit in (
        ("hour", 1, 47.5),
        ("day", 24, 24 * 45),
        ("month", 730.5, 8766),
    ):
        if hours < limit:
            count = _number(hours / length)
            return (
                f"about once {'an' if unit == 'hour' else 'a'} {unit}"
                if count == "1"
                else (f"about once in {count} {unit}s")
            )
    return "less than once a year"


def rarity_word(per_hour: float) -> str:
    """One word or two for a badge."""
    if not per_hour < math.inf:
        return "unknown"
    return next(word for least, word in _RARITIES if per_hour >= least)


_RARITIES = ((1.0, "borderline"), (1 / 24, "uncommon"), (1 / (24 * 30), "rare"), (-math.inf, "very rare"))


def visible(text: str) -> str:
    r"""The same text, with what does not print, or turns the order of letters, as \u escapes."""
    return "".join(c if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def inside_camera(video_id: str, camera_id: str) -> str:
    """The path below the camera's folder, for where the camera stands beside it."""
    return video_id.removeprefix(f"{camera_id}/")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def quoted(text: str) -> str:
    """As an argument for a shell; in Bash's own quotes where the text holds what does not print."""
    shown = visible(text)
    if shown == text:
        return shlex.quote(text)
    escaped = visible(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def plural(count: int, noun: str) -> str:
    """As 1 event, 12 events."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def leaves(value: Any, name: str = "", until: str | None = None) -> Iterator[tuple[str, Any]]:
    """Each innermost value of nested objects, with the keys that lead to it, joined by dots.

    Args:
        value: the objects.
        name: of them.
        until: an object with this key counts as innermost.
    """
    if isinstance(value, dict) and until not in value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else str(key), until)
    else:
        yield name, value


def flat(value: Any) -> list[tuple[str, str]]:
    """Nested objects as (dotted key, text), in their order."""
    return [(name, _listed(inner) if isinstance(inner, list) else _plain(inner)) for name, inner in leaves(value)]


def _listed(values: list[Any]) -> str:
    return ", ".join(map(_plain, values[:12])) + (", …" if len(values) > 12 else "")


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def verdict(promised: float | None, low: float | None, high: float | None) -> str:
    """Whether the rate seen fits the rate promised; an interval that reaches far beyond it shows nothing."""
    if promised is None or low is None or high is None:
        return "nothing to compare"
    if low > promised:
        return "more than promised"
    if high < promised:
        return "fewer than promised"
    return "agrees with the promise" if high <= 3 * promised else "too little footage to tell"
