import math

import numpy as np
import pytest
import reference
import sklearn.metrics  # noqa: F401  # else the first example of a test pays for it
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from vidrnn import metrics

NOTHING = np.empty(0)
scored = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=30)
intervals = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda event: (event[0], event[0] + event[1])), max_size=5
)


def arrays(frames):
    return np.array([f[0] for f in frames], dtype=bool), np.array([f[1] for f in frames], dtype=float)


def same(found, expected):
    return math.isnan(found) if expected is None else found == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "equal_error_rate"])
@given(frames=scored)
def test_ranking_measures_agree_with_their_slow_twins(name, frames):
    labels, scores = arrays(frames)
    expected = getattr(reference, name)([f[0] for f in frames], [f[1] for f in frames])
    assert same(getattr(metrics, name)(labels, scores), expected)


@pytest.mark.parametrize("name", ["auroc", "average_precision", "equal_error_rate"])
@given(videos=st.lists(scored, min_size=1, max_size=5), data=st.data())
def test_a_resample_gives_what_the_joined_videos_give(name, videos, data):
    drawn = data.draw(st.lists(st.integers(0, len(videos) - 1), max_size=6))
    labels, scores = arrays([frame for video in videos for frame in video])
    index = np.repeat(np.arange(len(videos)), [len(video) for video in videos])
    ranking = metrics.ResampledRanking(labels, scores, index)
    joined = [frame for i in drawn for frame in videos[i]]
    expected = getattr(metrics, name)(*arrays(joined))
    found = getattr(ranking, name)(np.bincount(np.array(drawn, dtype=int), minlength=len(videos)))
    assert same(found, None if math.isnan(expected) else expected)


@given(frames=scored)
def test_ranking_measures_only_see_the_order_of_scores(frames):
    labels, scores = arrays(frames)
    for measure in (metrics.auroc, metrics.average_precision, metrics.equal_error_rate):
        assert measure(labels, np.exp(scores)) == pytest.approx(measure(labels, scores), nan_ok=True)
    if labels.any() and not labels.all():
        assert metrics.auroc(labels, -scores) == pytest.approx(1 - metrics.auroc(labels, scores))
        assert metrics.equal_error_rate(~labels, -scores) == pytest.approx(metrics.equal_error_rate(labels, scores))


def test_ranking_measures_on_a_worked_example():
    labels = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert metrics.auroc(labels, scores) == 0.75  # three of four pairs
    assert metrics.average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(0.5)
    assert metrics.base_rate(labels) == 0.5


def test_equal_error_rate_lies_on_the_straight_line_between_two_thresholds():
    # One tie of everything: the ROC curve is the diagonal.
    assert metrics.equal_error_rate(np.array([True, False, False]), np.zeros(3)) == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [[], [True, True], [False, False]])
def test_one_class_alone_is_undefined(labels):
    labels, scores = np.array(labels, dtype=bool), np.arange(len(labels), dtype=float)
    for measure in (metrics.auroc, metrics.average_precision, metrics.equal_error_rate):
        assert math.isnan(measure(labels, scores))
    for curve in (metrics.roc_curve, metrics.precision_recall_curve):
        assert [len(axis) for axis in curve(labels, scores, 10)] == [0, 0]
    assert math.isnan(metrics.auroc_macro([(labels, scores)])[0])


def test_macro_auroc_counts_the_videos_that_hold_both_classes():
    both = np.array([True, False]), np.array([2.0, 1.0])
    reversed_ = np.array([True, False]), np.array([1.0, 1.0])
    ordinary = np.array([False, False]), np.array([1.0, 5.0])
    assert metrics.auroc_macro([both, ordinary, reversed_]) == (0.75, 2)
    value, count = metrics.auroc_macro([])
    assert math.isnan(value) and count == 0


@given(frames=scored)
def test_curves_hold_the_rates_of_every_threshold(frames):
    labels, scores = arrays(frames)
    if not labels.any() or labels.all():
        return
    plain = [bool(label) for label in labels], list(scores)
    roc = metrics.roc_curve(labels, scores, 1000)
    points = {reference.rates(*plain, threshold) for threshold in [None, *scores]}
    for fpr, tpr in zip(*roc, strict=True):
        assert any(math.isclose(fpr, p[0]) and math.isclose(tpr, p[1]) for p in points)
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert float(np.trapezoid(roc.y, roc.x)) == pytest.approx(metrics.auroc(labels, scores))
    recall, precision = metrics.precision_recall_curve(labels, scores, 1000)
    assert (recall[0], precision[0], recall[-1]) == (0, 1, 1)
    assert (np.diff(recall) >= 0).all()


def test_long_curves_are_thinned_and_stay_where_they_were():
    draws = np.random.default_rng(0)
    labels = draws.random(20_000) < 0.3
    scores = draws.normal(size=20_000) + labels
    for curve in (metrics.roc_curve, metrics.precision_recall_curve):
        whole, thin = curve(labels, scores, 10**9), curve(labels, scores, 400)
        assert len(whole.x) > 400 >= len(thin.x) > 200
        assert (thin.x[0], thin.x[-1], thin.y[0], thin.y[-1]) == (whole.x[0], whole.x[-1], whole.y[0], whole.y[-1])
        assert (np.diff(thin.x) >= 0).all()
    assert np.trapezoid(*metrics.roc_curve(labels, scores, 400)[::-1]) == pytest.approx(
        metrics.auroc(labels, scores), abs=1e-3
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_confusion_agrees_with_counting(frames):
    labels, alarms = (np.array([f[i] for f in frames], dtype=bool) for i in (0, 1))
    counts = metrics.confusion(labels, alarms)
    assert counts == tuple(frames.count(kind) for kind in ((True, True), (False, True), (True, False), (False, False)))
    assert sum(counts) == len(frames)
    for value in (counts.accuracy, counts.precision, counts.recall, counts.f1):
        assert math.isnan(value) or 0 <= value <= 1
    if counts.true_positives:
        assert counts.f1 == pytest.approx(2 / (1 / counts.precision + 1 / counts.recall))


def test_confusion_on_a_worked_example():
    counts = metrics.Confusion(true_positives=6, false_positives=2, false_negatives=3, true_negatives=9)
    assert (counts.accuracy, counts.precision, counts.recall, counts.f1) == (0.75, 0.75, 6 / 9, 12 / 17)
    silent = metrics.Confusion(0, 0, 3, 5)
    assert math.isnan(silent.precision) and silent.recall == 0 and silent.f1 == 0


def test_a_score_at_the_threshold_is_no_alarm():
    counts = metrics.confusion(np.array([True, True]), np.array([1.0, 1.5]) > 1.0)
    assert (counts.true_positives, counts.false_negatives) == (1, 1)


@given(intervals, intervals)
def test_events_agree_with_frame_by_frame_matching(predicted, labelled):
    counts = metrics.event_precision_recall(
        np.array(predicted, dtype=np.int64).reshape(-1, 2), np.array(labelled, dtype=np.int64).reshape(-1, 2)
    )
    expected = reference.overlapping(predicted, labelled), reference.overlapping(labelled, predicted)
    assert counts == (len(predicted), expected[0], len(labelled), expected[1])


def test_events_that_only_touch_do_not_overlap():
    predicted = np.array([[0, 10], [20, 30], [40, 40]])
    labelled = np.array([[10, 20], [29, 60]])
    counts = metrics.event_precision_recall(predicted, labelled)
    assert (counts.precision, counts.recall) == (1 / 3, 1 / 2)
    silent = metrics.event_precision_recall(np.empty((0, 2)), labelled)
    assert math.isnan(silent.precision) and silent.recall == 0


corner = st.integers(0, 6)
boxes = st.tuples(corner, corner, st.integers(1, 5), st.integers(1, 5)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
FRAMES = 4  # of each video of regions
true_regions = st.lists(st.tuples(st.integers(0, FRAMES - 1), boxes), max_size=6)
predicted_regions = st.lists(st.tuples(st.integers(0, FRAMES - 1), boxes, st.integers(1, 4)), max_size=6)


def columns(rows, count):
    """Rows of (frame, box, ...) as arrays, sorted by frame."""
    rows = sorted(rows, key=lambda row: row[0])
    frames, found = np.array([row[0] for row in rows], int), np.array([row[1] for row in rows], float).reshape(-1, 4)
    return frames, found, *(np.array([row[k] for row in rows], float) for k in range(2, count))


def found_in(predicted, true):
    """`Found` of a video, the score of each track, and the track of each true region."""
    true_frames, true_boxes = columns(true, 2)
    track = metrics.link_regions(true_frames, true_boxes)
    found = metrics.find_regions(*columns(predicted, 3), true_frames, true_boxes)
    return found, metrics.find_tracks(found.regions, track), track


@given(st.lists(boxes, max_size=4), st.lists(boxes, max_size=4))
def test_overlap_agrees_with_counting_pixels(some, others):
    found = metrics.overlap(*(np.array(these, float).reshape(-1, 4) for these in (some, others)))
    assert found.tolist() == [[pytest.approx(float(reference.overlap(a, b))) for b in others] for a in some]


@given(true_regions)
def test_linking_agrees_with_trying_every_pair(true):
    true = sorted(true, key=lambda region: region[0])
    assert metrics.link_regions(*columns(true, 2)).tolist() == reference.tracks_of(true)


def test_a_track_bridges_two_frames_and_no_more():
    def track_of(*frames):
        return metrics.link_regions(np.array(frames), np.tile([0.0, 0, 10, 10], (len(frames), 1))).tolist()

    assert track_of(0, 3, 6) == [0, 0, 0]
    assert track_of(0, 4, 5) == [0, 1, 1]
    assert track_of(0, 0, 1) == [0, 1, 0]  # each region of a frame is of another track
    assert metrics.link_regions(np.empty(0, int), np.empty((0, 4))).tolist() == []


@given(
    st.lists(st.tuples(predicted_regions, true_regions), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
)
def test_detection_areas_agree_with_counting_at_every_threshold(videos, drawn):
    videos = [videos[i % len(videos)] for i in range(3)]
    parts = [found_in(*video) for video in videos]
    plain = [
        (FRAMES, predicted, [(*t, k) for t, k in zip(sorted(true, key=lambda t: t[0]), track, strict=True)])
        for (predicted, true), (_, _, track) in zip(videos, parts, strict=True)
    ]
    times = np.bincount(drawn, minlength=3)
    for by_track in (False, True):
        found = [tracks if by_track else regions.regions for regions, tracks, _ in parts]
        ranking = metrics.ResampledDetection(found, [regions.false for regions, _, _ in parts], [FRAMES] * 3)
        expected = reference.detection_area([plain[i] for i in drawn], by_track)
        assert same(ranking.area(times), expected)


def test_detection_areas_on_a_worked_example():
    # Ten frames; a true region in each of the first four, at one place, so one track.
    true = [(f, (0, 0, 10, 10)) for f in range(4)]
    predicted = [
        (0, (0, 0, 10, 10), 9.0),  # found at once
        (7, (0, 0, 10, 10), 8.0),  # false
        (1, (0, 0, 10, 1), 7.0),  # overlaps by exactly a tenth: found
        (1, (20, 20, 30, 30), 7.0),  # false at the same threshold
        (2, (0, 0, 9, 1), 6.0),  # by 9 %: false
        (3, (8, 0, 18, 10), 5.0),  # by 2 / 18: found
    ]
    found, tracks, _ = found_in(predicted, true)
    assert found.regions.tolist() == [9, 7, -math.inf, 5] and sorted(found.false.tolist()) == [6, 7, 8]
    assert tracks.tolist() == [9.0]  # a tenth of four regions is one
    rbdc = metrics.ResampledDetection([found.regions], [found.false], [10])
    # 1/4 until 0.2 false regions a frame, 2/4 until 0.3, then 3/4.
    assert rbdc.area(np.array([1])) == pytest.approx(0.2 * 0.25 + 0.1 * 0.5 + 0.7 * 0.75)
    assert metrics.ResampledDetection([tracks], [found.false], [10]).area(np.array([1])) == pytest.approx(1.0)


def test_more_than_one_false_region_a_frame_is_out_of_the_measure():
    rate = metrics.ResampledDetection([np.array([5.0, 1.0])], [np.full(3, 2.0)], [2])
    assert rate.area(np.array([1])) == 0.5
    assert metrics.ResampledDetection([np.array([5.0, 5.0])], [np.empty(0)], [2]).area(np.array([1])) == 1.0
    assert metrics.ResampledDetection([np.full(2, -np.inf)], [np.empty(0)], [2]).area(np.array([1])) == 0.0
    assert math.isnan(metrics.ResampledDetection([np.empty(0)], [np.ones(3)], [2]).area(np.array([1])))


@given(true_regions, predicted_regions)
def test_a_prediction_that_knows_the_truth_cannot_be_beaten(true, predicted):
    if not true:
        return
    ideal = [(frame, box, 5) for frame, box in true]
    for rows, floor in ((ideal, 1.0), ([*ideal, *predicted], 1.0), (predicted, 0.0)):
        found, tracks, _ = found_in(rows, true)
        for scores in (found.regions, tracks):
            area = metrics.ResampledDetection([scores], [found.false], [FRAMES]).area(np.array([1]))
            assert floor - 1e-12 <= area <= 1 + 1e-12


@pytest.mark.parametrize("count", [1, 9, 10, 11, 30, 70, 100, 101])
def test_a_track_is_found_with_a_tenth_of_its_regions(count):
    needed = -(-count // 10)
    regions = np.where(np.arange(count) < needed, 2.0, -np.inf)
    assert metrics.find_tracks(regions, np.zeros(count, int)).tolist() == [2.0]
    regions[0] = -np.inf
    assert metrics.find_tracks(regions, np.zeros(count, int)).tolist() == [-np.inf]


@given(true_regions, st.lists(st.tuples(corner, corner), min_size=FRAMES, max_size=FRAMES))
def test_pointing_agrees_with_looking_at_every_frame(true, points):
    def hits(frame):
        x, y = points[frame]
        return any(b[0] <= x < b[2] and b[1] <= y < b[3] for f, b in true if f == frame)

    with_truth = {frame for frame, _ in true}
    counts = metrics.pointing(np.array(points, float), *columns(true, 2))
    assert counts == (sum(hits(frame) for frame in with_truth), len(with_truth))
    assert same(counts.accuracy, counts.inside / counts.frames if true else None)


@given(st.lists(scored, min_size=2, max_size=4), st.integers(0, 5))
def test_the_bootstrap_agrees_with_literal_resampling(videos, seed):
    labels, scores = arrays([frame for video in videos for frame in video])
    index = np.repeat(np.arange(len(videos)), [len(video) for video in videos])
    ranking = metrics.ResampledRanking(labels, scores, index)
    found = metrics.bootstrap_interval(len(videos), ranking.auroc, 20, 0.9, seed)

    def joined_auroc(drawn):
        frames = [frame for video in drawn for frame in video]
        return reference.auroc([f[0] for f in frames], [f[1] for f in frames])

    if found.left_out == 20:
        assert math.isnan(found.low) and math.isnan(found.high)
    else:
        assert found == pytest.approx(reference.bootstrap(videos, joined_auroc, 20, 0.9, seed), abs=1e-12)


def test_bootstrap_intervals_narrow_with_more_videos_and_hold_the_truth():
    def width(num_videos):
        values = np.random.default_rng(1).normal(size=num_videos)
        low, high, _ = metrics.bootstrap_interval(
            num_videos, lambda drawn: float(drawn @ values / drawn.sum()), 400, 0.95, 0
        )
        assert low < values.mean() < high
        return high - low

    assert width(10) > width(100) > width(1000)
    assert width(1000) == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.15)


def test_one_video_says_nothing_about_the_next():
    low, high, left_out = metrics.bootstrap_interval(1, lambda drawn: 0.5, 100, 0.95, 0)
    assert math.isnan(low) and math.isnan(high) and left_out == 0


def test_bootstrap_repeats_itself():
    values = np.arange(7.0)
    runs = [metrics.bootstrap_interval(7, lambda drawn: float(drawn @ values), 100, 0.95, seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


@given(st.integers(0, 200), st.floats(0.1, 100), st.floats(0.6, 0.99))
def test_poisson_bounds_are_the_rates_that_make_the_count_just_credible(count, hours, confidence):
    low, high = metrics.poisson_interval(count, hours, confidence)
    tail = (1 - confidence) / 2
    assert low <= count / hours <= high
    assert poisson.cdf(count, high * hours) == pytest.approx(tail)
    if count:
        assert poisson.sf(count - 1, low * hours) == pytest.approx(tail)


def test_poisson_interval_on_known_figures():
    assert metrics.poisson_interval(0, 1.0, 0.95) == pytest.approx((0, 3.688879), abs=1e-6)
    assert metrics.poisson_interval(10, 2.0, 0.95) == pytest.approx((4.795389 / 2, 18.390356 / 2), abs=1e-6)
    assert all(math.isnan(bound) for bound in metrics.poisson_interval(0, 0.0, 0.95))


def test_gaussian_smoothing_looks_both_ways_and_keeps_a_constant():
    spike = np.zeros(41)
    spike[20] = 1
    smooth = metrics.smooth_gaussian(spike, 3.0)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 3.0) ** 2)
    np.testing.assert_allclose(smooth[8:33], kernel / kernel.sum(), atol=1e-12)
    np.testing.assert_allclose(metrics.smooth_gaussian(np.full(5, 2.5), 10.0), 2.5)
    assert metrics.smooth_gaussian(NOTHING, 3.0).size == 0


def test_minmax_scales_a_video_to_the_unit_interval():
    assert metrics.minmax_per_video(np.array([2.0, 6.0, 4.0])).tolist() == [0, 1, 0.5]
    assert metrics.minmax_per_video(np.array([3.0, 3.0])).tolist() == [0, 0]
    assert metrics.minmax_per_video(NOTHING).size == 0


def test_each_true_box_is_hit_once_by_the_surest():
    frames = np.array([3, 3, 3, 5])
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [0, 0, 10, 10]], float)
    hits = metrics.match_boxes(frames, boxes, np.array([0.2, 0.9, 0.5, 0.7]), np.array([3, 4]), boxes[[0, 3]], 0.5)
    assert hits.tolist() == [False, True, False, False]
    # Falling by score: hit, miss, miss, miss of two true boxes.
    ranked = np.array([True, False, False, False])
    assert metrics.average_precision_of_boxes(ranked, np.array([0.9, 0.7, 0.5, 0.2]), 2) == 0.5
    # Miss, hit, hit: precision 1/2 and 2/3, made to fall from the end.
    late = metrics.average_precision_of_boxes(np.array([False, True, True]), np.array([3.0, 2.0, 1.0]), 2)
    assert late == pytest.approx(2 / 3)
    assert np.isnan(metrics.average_precision_of_boxes(ranked, np.zeros(4), 0))
