"""Values in words."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from vidrnn.phrases import (
    chance,
    clock,
    moment,
    number_text,
    quoted,
    rate_text,
    score_text,
    span_text,
    verdict,
    visible,
)


def test_names_are_shown_and_quoted_so_that_nothing_hides_in_them():
    assert visible("a\u202eb\n\x00é漢") == "a\\u202eb\\u000a\\u0000é漢"
    assert visible("\U000e0041") == "\\U000e0041"
    assert [quoted(name) for name in ("a.mp4", "gate/a b.mp4")] == ["a.mp4", "'gate/a b.mp4'"]
    assert quoted("a\n'\\b") == "$'a\\u000a\\'\\\\b'"


@pytest.mark.parametrize(
    ("per_hour", "words"),
    [
        (0.0, "less than once a year"),
        (1e-9, "less than once a year"),
        (1 / (8766 * 12), "less than once a year"),
        (1 / (8766 * 0.9), "about once in 11 months"),
        (1 / (24 * 100), "about once in 3.3 months"),
        (1 / (24 * 9), "about once in 9 days"),
        (1 / 12, "about once in 12 hours"),
        (1.0, "about once an hour"),
        (5.0, "about every 12 minutes"),
        (60.0, "about once a minute"),
        (1000.0, "more than once a minute"),
        (float("nan"), "nobody knows how often"),
    ],
)
def test_rarity_in_words(per_hour, words):
    assert chance(per_hour) == words


def test_times_and_numbers_in_words():
    assert [clock(s) for s in (0, 31.25, 59.96, 3671.04)] == ["00:00.0", "00:31.2", "01:00.0", "1:01:11.0"]
    assert [span_text(s) for s in (None, 3, 4.26, 60, 200, 7500)] == [
        "–",
        "3 s",
        "4.3 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [score_text(s) for s in (None, -0.001, 0.426, 3.14, -2.0, 41.6)] == [
        "–",
        "0.00",
        "0.43",
        "3.1",
        "−2.0",
        "42",
    ]
    assert [rate_text(r) for r in (None, 0.0, 0.0312, 1.0, 1.55, 221.3)] == [
        "–",
        "0",
        "0.031",
        "1",
        "1.6",
        "221",
    ]
    assert [number_text(n, 3) for n in (None, 36.84, -0.5)] == ["–", "36.8", "−0.5"]
    when = datetime(2026, 3, 1, 22, 15, 9, 700_000, tzinfo=UTC)
    assert moment(when) == "2026-03-01 22:15:09 UTC"
    assert moment(when, ZoneInfo("Europe/Berlin")) == "2026-03-01 23:15:09 CET"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(2.0, 9.0, "more"), (0.1, 0.5, "fewer"), (0.5, 2.0, "agrees"), (0.0, 90.0, "too little"), (None, 1.0, "nothing")],
)
def test_verdicts(low, high, words):
    assert verdict(1.0, low, high).startswith(words)
