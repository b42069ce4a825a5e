"""How events are held against what was planted, in `benchmarks/demo.py`."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo import Judged, Span, judge


def span(video, onset, offset, kind="run"):
    return Span(video, onset, offset, kind)


def test_events_meet_what_was_planted():
    planted = [span("a", 100, 150), span("a", 200, 260, "fall"), span("b", 50, 60, "cart")]
    told = [span("a", 95, 98), span("a", 109, 120), span("a", 140, 205), span("b", 60, 70), span("c", 100, 150)]
    # The run is met after 0.9 s, the fall 6 s before it begins; beside the cart, and in another video, nothing was.
    assert judge(planted, told, 10) == Judged(found=2, planted=3, in_time=1, missed=["cart"], false=3)
    assert judge(planted, [], 10) == Judged(0, 3, 0, ["cart", "fall", "run"], 0)
    assert judge([], told, 10) == Judged(0, 0, 0, [], 5)


SPANS = st.lists(
    st.builds(
        lambda video, onset, length: span(video, onset, onset + length),
        st.sampled_from("ab"),
        st.integers(0, 50),
        st.integers(1, 20),
    ),
    max_size=8,
)


@given(SPANS, SPANS)
def test_it_is_what_frame_by_frame_says(planted, told):
    def frames(spans):
        return [{(one.video, frame) for frame in range(one.onset, one.offset)} for one in spans]

    judged = judge(planted, told, 10)
    assert judged.found == sum(any(own & other for other in frames(told)) for own in frames(planted))
    assert judged.false == sum(not any(own & other for other in frames(planted)) for own in frames(told))
    assert judged.in_time <= judged.found == judged.planted - len(judged.missed)
