import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidrnn.events import Span, causal_average, find_events, find_spans, risen_since

STEPS = st.lists(st.floats(0.01, 5), min_size=1, max_size=30)


@given(STEPS, st.floats(0.05, 3), st.randoms(use_true_random=False))
def test_the_causal_average_weighs_the_past_by_its_age(steps, constant, random):
    times = np.cumsum(steps)
    scores = np.array([random.random() for _ in steps], np.float32)
    level, expected = 0.0, []
    for t, score in enumerate(scores):
        kept = math.exp(-(times[t] - times[t - 1]) / constant) if t else 0.0
        level = kept * level + (1 - kept) * float(score)
        expected.append(level)
    found = causal_average(scores, times, constant)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    half = len(scores) // 2 + 1
    np.testing.assert_array_equal(causal_average(scores[:half], times[:half], constant), found[:half])  # no future


def brute_force(scores, alarms, times, merge_seconds):
    """Grow every event from each alarm to the next one that is near enough."""
    spans, frames = [], [t for t, alarm in enumerate(alarms) if alarm]
    while frames:
        group = [frames.pop(0)]
        while frames and times[frames[0]] - times[group[-1]] <= merge_seconds:
            group.append(frames.pop(0))
        highest = max(scores[t] for t in group)
        spans.append(Span(group[0], group[-1] + 1, next(t for t in group if scores[t] == highest)))
    return spans


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 5)), max_size=40), st.integers(0, 6))
def test_spans_are_those_of_brute_force(frames, merge_seconds):
    alarms = np.array([alarm for alarm, _, _ in frames], bool)
    scores = np.array([score for _, score, _ in frames], np.float32)
    times = np.cumsum([float(step) for _, _, step in frames])
    spans = find_spans(scores, alarms, times, merge_seconds)
    assert spans == brute_force(scores, alarms, times, merge_seconds)
    covered = [t for span in spans for t in range(span.start, span.stop)]
    assert set(np.flatnonzero(alarms)) <= set(covered) and len(covered) == len(set(covered))
    assert all(alarms[t] for span in spans for t in (span.start, span.stop - 1, span.peak))


def test_a_span_excludes_its_end_and_merges_at_the_very_distance():
    alarms = np.array([0, 1, 1, 0, 0, 1, 0], bool)
    scores = np.array([9, 1, 2, 9, 9, 2, 9], np.float32)
    times = np.arange(7) * 0.5
    assert find_spans(scores, alarms, times, 1.5) == [Span(1, 6, 2)]
    assert find_spans(scores, alarms, times, 1.4) == [Span(1, 3, 2), Span(5, 6, 5)]
    assert find_spans(scores, np.zeros(7, bool), times, 1.5) == []


@st.composite
def scored_frames(draw):
    """(scores, alarms, calm, times), alarms above 5 where it is calm."""
    frames = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), max_size=40))
    scores = np.array([score for score, _, _ in frames], np.float32)
    calm = np.array([dice > 0 for _, dice, _ in frames], bool)
    times = np.cumsum([step / 8 for _, _, step in frames])  # eighths, which a float holds
    return scores, (scores > 5) & calm, calm, times


def rising_since(span, after, scores, calm, times):
    """The earliest frame that an event may begin with, by looking at each."""
    return min(
        first
        for first in range(span.start + 1)
        if first == span.start
        or (
            first >= after
            and times[span.start] - times[first] <= 2
            and all(calm[t] and scores[t] < scores[t + 1] for t in range(first, span.start))
        )
    )


@given(scored_frames(), st.sampled_from([0.0, 0.5, 2.0]))
def test_an_event_begins_where_its_score_began_to_rise(frames, merge_seconds):
    scores, alarms, calm, times = frames
    spans = find_spans(scores, alarms, times, merge_seconds)
    after = [0, *(span.stop for span in spans)]
    wanted = [
        Span(rising_since(span, over, scores, calm, times), span.stop, span.peak)
        for span, over in zip(spans, after, strict=False)
    ]
    assert find_events(scores, alarms, calm, times, merge_seconds) == wanted


@given(scored_frames())
def test_what_an_event_to_come_may_begin_with_can_be_told_before_it_comes(frames):
    scores, alarms, calm, times = frames
    for event, span in zip(
        find_events(scores, alarms, calm, times, 0.5), find_spans(scores, alarms, times, 0.5), strict=True
    ):
        assert span.start == 0 or risen_since(times[: span.start]) <= event.start


def test_a_rise_that_pauses_or_lasts_for_long_is_followed_no_further():
    scores = np.array([1, 3, 2, 2, 4, 7, 8], np.float32)
    alarms, calm, times = scores > 5, np.ones(7, bool), np.arange(7.0)
    assert find_events(scores, alarms, calm, times / 2, 1.0) == [Span(3, 7, 6)]  # from the last of two 2s
    assert find_events(scores, alarms, calm, times, 1.0) == [Span(3, 7, 6)]  # 2 s, and no longer
    assert find_events(scores, alarms, calm, times * 2, 2.0) == [Span(4, 7, 6)]
    calm[4] = False
    assert find_events(scores, alarms, calm, times, 1.0) == [Span(5, 7, 6)]
