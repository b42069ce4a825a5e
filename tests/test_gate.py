import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from synthetic import Footage, files_of, small_params, walking

from vidrnn.calibration import Tail
from vidrnn.cards import CARD, WEIGHTS, load_card
from vidrnn.checkpoint import load_weights, save_model
from vidrnn.contest import Side, on_labels
from vidrnn.errors import CheckpointError
from vidrnn.events import causal_average
from vidrnn.gate import gate
from vidrnn.heldout import block_times, likelihood
from vidrnn.schema import SCHEMAS, validate
from vidrnn.score import load_camera_model, observe
from vidrnn.storage import video_path, write_json
from vidrnn.train import train, training_blocks
from vidrnn.windows import CellReader

torch.set_num_threads(1)
PARAMS = small_params(
    train={"validation_share": 0.3, "calibration_share": 0.3},
    score={"place_seconds": 0.4},  # what is unusual lasts 1.5 s here
)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    footage = Footage(tmp_path_factory.mktemp("gate"))
    for k in range(6):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k, speed=0.2 + 0.15 * k))
    for k, name in enumerate(TEST):  # each holds a rush
        cells = walking(60, 4, 20 + k)
        cells[30:45] = walking(15, 4, 30 + k, speed=1.5)
        footage.add(name, cells, trains=False)
    return footage


@pytest.fixture(scope="module")
def good(footage, tmp_path_factory):
    """A folder with a trained model."""
    out = tmp_path_factory.mktemp("good")
    train(footage.features, footage.training, PARAMS, out)
    return out


TEST = [f"gate/test {k}.mp4" for k in range(6)]


def changed(good, root, noise=0.0, seed=0, **card):
    """A copy of a folder of models with noise in its weights, or other facts on its card."""
    weights = load_weights(good / "gate")
    draw = torch.Generator().manual_seed(seed)
    weights = {name: t + noise * torch.randn(t.shape, generator=draw) for name, t in sorted(weights.items())}
    facts = {**load_card(good / "gate"), **card}
    save_model(root / "gate", weights, {key: facts[key] for key in facts if key != "version"})
    shutil.copy(good / "cameras.json", root)
    return root


@pytest.fixture
def decide(footage, tmp_path):
    """Run the gate and return the row of the likelihood, and the folder that it wrote."""

    def run(candidate, champion, name="out"):
        table = gate(footage.features, footage.training, candidate, champion, tmp_path / name, PARAMS)
        validate(table, SCHEMAS["promotions"], "promotions")
        rows = table.to_pylist()
        assert [row["measure"] for row in rows] in (
            ["heldout_nll"],
            ["heldout_nll", "false_alarms_per_hour", "score_drift"],
        )
        assert len({(row["promoted"], row["reason"]) for row in rows}) == 1
        return rows[0], tmp_path / name

    return run


def test_without_a_champion_the_candidate_wins(decide, good, tmp_path):
    empty = tmp_path / "champion"
    empty.mkdir()
    (empty / "README").write_text("the last published models come here")
    for champion in (empty, tmp_path / "missing"):
        row, out = decide(good, champion)
        assert row["promoted"] and row["reason"] == "promoted: there is no earlier model of this camera"
        assert row["champion_version"] is None and row["candidate_value"] is None
        assert files_of(out) == files_of(good)


def test_what_was_taken_back_is_not_promoted_again(footage, good, tmp_path):
    champion = changed(good, tmp_path / "champion", noise=0.6)  # much worse
    version = load_card(good / "gate")["version"]
    for withdrawn, promoted in ((frozenset(), True), (frozenset({version}), False)):
        table = gate(footage.features, footage.training, good, champion, tmp_path / "out", PARAMS, withdrawn)
        assert set(table["promoted"].to_pylist()) == {promoted}
    assert "taken back" in table["reason"][0].as_py()
    assert load_card(tmp_path / "out/gate") == load_card(champion / "gate")


def test_stray_files_beside_the_models_change_nothing(decide, good, tmp_path):
    champion = changed(good, tmp_path / "champion", noise=0.01)
    plain, out = decide(good, champion)
    (champion / "README").write_text("x")
    (champion / "gate" / "notes.txt").write_text("x")
    (champion / "gate" / "more").mkdir()
    (champion / "hall").mkdir()
    assert decide(good, champion, "again")[0] == plain
    assert files_of(tmp_path / "again") == files_of(out)


def watched(footage, root, skip=()):
    """For each block that is not to be skipped: its mean likelihood, and the scores and seconds after the warm-up."""
    model, found = load_camera_model(root / "gate"), []
    for block in training_blocks(footage.features, footage.training, "gate", PARAMS):
        if block.key in skip:
            continue
        assert block.start == 0  # there is nothing before it that the memory could see
        times, valid = block_times(block)
        stretches = [s for _, s in observe(model, CellReader(), block.path, times, 0, block.stop)]
        rows = np.cumsum([0, *(len(s.maps) for s in stretches)])
        parts = [
            likelihood(model, CellReader(), block, row, s.residual, s.scale)
            for row, s in zip(rows, stretches, strict=False)
        ]
        raw = np.concatenate([model.calibration.questions.score(s.maps).max((1, 2)) for s in stretches])
        score = causal_average(raw, times, model.smoothing_seconds)
        found.append((sum(p[0] for p in parts) / sum(p[1] for p in parts), score[valid], times[valid]))
    return found


def fitted(*models):
    return {key for model in models for key in load_card(model / "gate")["footage"]["fit"]}


def measured(footage, models):
    """The mean likelihood of each block that neither model was fitted to, (2, blocks)."""
    return np.array([[nll for nll, _, _ in watched(footage, root, fitted(*models))] for root in models])


def test_a_worse_candidate_does_not_replace_the_champion(decide, footage, good, tmp_path):
    candidate = changed(good, tmp_path / "candidate", noise=0.3)
    row, out = decide(candidate, good)
    assert not row["promoted"] and row["reason"].startswith(
        "the champion stays: the candidate is worse: its surprise at 4 "
    )
    assert row["candidate_version"] == load_card(candidate / "gate")["version"]
    assert row["champion_version"] == load_card(good / "gate")["version"] == load_card(out / "gate")["version"]
    new, old = measured(footage, (candidate, good))
    assert row["candidate_value"] == pytest.approx(new.mean()) and row["champion_value"] == pytest.approx(old.mean())
    interval = stats.ttest_rel(new, old).confidence_interval(PARAMS.gate.confidence)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(interval))
    assert 0 < row["difference_low"] < 0.5  # worse, not hopeless
    assert files_of(out) == files_of(good)


def test_a_better_candidate_replaces_the_champion(decide, good, tmp_path):
    champion = changed(good, tmp_path / "champion", noise=0.6)
    row, out = decide(good, champion)
    assert (
        row["promoted"]
        and row["reason"].startswith("promoted: the candidate is not worse")
        and row["difference_high"] < 0
    )
    assert files_of(out) == files_of(good)


def test_a_candidate_that_is_about_as_good_is_promoted(decide, good, tmp_path):
    candidate = changed(good, tmp_path / "candidate", noise=0.03, seed=1)
    row, out = decide(candidate, good)
    assert row["promoted"] and row["difference_low"] < 0 < row["difference_high"]
    assert files_of(out) == files_of(candidate)


def test_the_very_champion_is_told_as_such(decide, good, tmp_path):
    same = changed(good, tmp_path / "same")
    assert decide(same, good)[0]["reason"] == "the candidate is the champion, to the last bit"
    other = changed(good, tmp_path / "other", note="the same weights")
    row, out = decide(other, good)
    assert row["promoted"] and row["difference_low"] == row["difference_high"] == 0
    assert files_of(out) == files_of(other)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"channels": ["speed"]}, "features"),
        ({"use": {"horizons": [5]}}, "horizons, averages or cameras"),
        ({"use": {}}, "horizons, averages or cameras"),
        ({"blocks": {"seconds": 9.0, "gap_seconds": 1.0}}, "blocks of footage"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_replaced(decide, good, tmp_path, card, words):
    champion = changed(good, tmp_path / "champion", **card)
    row, out = decide(good, champion)
    assert (
        row["promoted"]
        and row["reason"] == f"promoted: the champion was made with other {words}, so the two cannot be compared"
    )
    assert files_of(out) == files_of(good)


def test_a_champion_of_earlier_code_is_replaced(decide, good, tmp_path):
    champion = changed(good, tmp_path / "champion")
    card = {key: value for key, value in load_card(champion / "gate").items() if key not in ("version", "windows")}
    save_model(champion / "gate", load_weights(good / "gate"), card)
    row, out = decide(good, champion)
    assert row["promoted"] and "was made by earlier code" in row["reason"]
    assert files_of(out) == files_of(good)


def test_too_little_new_footage_promotes(decide, footage, good, tmp_path):
    keys = [f"{row['sha256']}:0" for row in footage.training.to_pylist()]
    champion = changed(good, tmp_path / "champion", noise=0.1, footage={"fit": keys})
    assert decide(good, champion)[0]["reason"].startswith("promoted: fewer than two blocks of footage are new to both")


def test_without_a_candidate_the_champion_stays(decide, good, tmp_path):
    candidate = tmp_path / "candidate"
    write_json(candidate / "cameras.json", {"gate": {"status": "unfit", "message": "camera gate: too little"}})
    row, out = decide(candidate, good)
    assert not row["promoted"] and row["candidate_version"] == ""
    assert row["reason"] == "the champion stays: tonight there is too little footage to train a candidate"
    assert {name: body for name, body in files_of(out).items() if name != "cameras.json"} == {
        f"gate/{name}": (good / "gate" / name).read_bytes() for name in (CARD, WEIGHTS)
    }
    assert files_of(out)["cameras.json"] == files_of(candidate)["cameras.json"]


def test_what_lay_there_before_goes(decide, good, tmp_path):
    stale = tmp_path / "out" / "hall" / CARD
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    _, out = decide(good, tmp_path / "none")
    assert not stale.exists() and files_of(out) == files_of(good)


def test_a_damaged_champion_is_one_sentence(decide, good, tmp_path):
    champion = changed(good, tmp_path / "champion", noise=0.1)
    (champion / "gate" / WEIGHTS).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged"):
        decide(good, champion)


def restless(good, root, **card):
    """A model that raises an alarm at whatever moves, since its threshold is far too low."""
    calibration = load_card(good / "gate")["calibration"]
    tail = {"base": -1.0, "count": 1, "excess": 1e-3, "hours": 1.0}
    return changed(good, root, calibration={**calibration, "tail": tail}, **card)


def runs_above(scores, times, threshold, merge_seconds):
    """Runs of scores above a threshold, those near each other as one: counted frame by frame."""
    count, last = 0, -np.inf
    for score, time in zip(scores, times, strict=True):
        if score > threshold:
            count += time - last > merge_seconds
            last = time
    return count


def test_false_alarms_are_counted_at_the_threshold_that_a_model_has(footage, good, tmp_path):
    """A block that the threshold was read off is judged by the others of its kind."""
    card = load_card(good / "gate")
    fresh = {**card["footage"], "held_out": []}
    champion = restless(good, tmp_path / "champion", footage=fresh)
    out = tmp_path / "out"
    rows = gate(footage.features, footage.training, good, champion, out, PARAMS).to_pylist()
    row = rows[1]
    held_out = watched(footage, good, fitted(good))
    hours, merge = sum(len(times) for _, _, times in held_out) / 36000, PARAMS.alarms.merge_seconds
    series = [part[1:] for part in held_out]
    expected = 0
    for k, (scores, times) in enumerate(series):
        tail = Tail.measure(series[:k] + series[k + 1 :], merge)
        expected += runs_above(scores, times, tail.threshold(PARAMS.alarms.per_hour), merge)
    assert row["candidate_value"] == pytest.approx(expected / hours)
    before = sum(runs_above(*part, -1.0, merge) for part in series)
    assert row["champion_value"] == pytest.approx(before / hours) and before == 4
    assert row["promoted"] and row["difference_low"] < row["difference_high"]
    assert rows[2]["measure"] == "score_drift" and rows[2]["candidate_value"] == 0  # the same weights and scores


def test_what_stood_out_does_not_judge_unless_it_was_held_out(decide, footage, good, tmp_path):
    """Of the seven blocks, the champion left two out since they stood out, and one of them it held out anyway."""
    own = load_card(good / "gate")["footage"]
    keys = sorted(block.key for block in training_blocks(footage.features, footage.training, "gate", PARAMS))
    new_to_both = [key for key in keys if key not in own["fit"]]
    left_out, held_out = new_to_both[:2]
    trimmed = {"held_out": [key for key in own["held_out"] if key != left_out], "trimmed": [left_out, held_out]}
    champion = changed(good, tmp_path / "champion", footage={**own, **trimmed})
    candidate = changed(good, tmp_path / "candidate", noise=0.3, footage={**own, "held_out": [held_out]})
    row, _ = decide(candidate, champion)
    sides = [
        np.array([nll for nll, _, _ in watched(footage, root, {*own["fit"], left_out})])
        for root in (candidate, champion)
    ]
    assert len(sides[0]) == len(new_to_both) - 1
    assert (row["candidate_value"], row["champion_value"]) == pytest.approx(tuple(side.mean() for side in sides))


def test_a_candidate_that_raises_more_false_alarms_is_refused(footage, good, tmp_path):
    """Seven blocks in which one raises an alarm and the other none are more than chance."""
    own = load_card(good / "gate")["footage"]
    nothing = {**own, "fit": [], "held_out": []}  # so that every block is new to both
    quiet = {**load_card(good / "gate")["calibration"], "tail": {"base": 99.0, "count": 0, "excess": 1.0, "hours": 1.0}}
    champion = changed(good, tmp_path / "champion", footage=nothing, calibration=quiet)
    candidate = restless(good, tmp_path / "candidate", footage=nothing)
    table = gate(footage.features, footage.training, candidate, champion, tmp_path / "out", PARAMS)
    rows = {row["measure"]: row for row in table.to_pylist()}
    row, hours = rows["false_alarms_per_hour"], 6 * 65 / 36000
    assert not row["promoted"] and row["champion_value"] == 0 and row["candidate_value"] == pytest.approx(6 / hours)
    low, high = stats.binomtest(6, 6).proportion_ci(PARAMS.gate.confidence)
    assert row["difference_low"] == pytest.approx(6 / hours * (2 * low - 1)) and low > 0.5 and high == 1
    assert row["reason"] == (
        "the champion stays: the candidate is worse: it raises 6 false alarms in 0.01 hours, the champion 0"
    )
    back = gate(footage.features, footage.training, champion, candidate, tmp_path / "back", PARAMS)
    assert all(back["promoted"].to_pylist())


def labelled(rows):
    """(video, onset, offset) in seconds or, with `frames`, in frames."""
    names = ("onset_seconds", "offset_seconds")
    table = [{"camera_id": "gate", "video_id": v, "sha256": "", names[0]: on, names[1]: off} for v, on, off in rows]
    return pa.Table.from_pylist(table, schema=SCHEMAS["labelled"])


def scores_of(footage, root, name):
    model = load_camera_model(root / "gate")
    path = video_path(footage.features / "cells", "gate", name)
    times = np.arange(60) / 10
    parts = [part.maps for _, part in observe(model, CellReader(), str(path), times, 0, 60)]
    raw = model.calibration.questions.score(np.concatenate(parts)).max((1, 2))
    return causal_average(raw, times, model.smoothing_seconds)


def test_labelled_videos_count_where_there_are_any(footage, good, tmp_path):
    spoilt = changed(good, tmp_path / "spoilt", noise=2.0)
    sides = [Side(load_camera_model(root / "gate"), load_card(root / "gate")) for root in (spoilt, good)]
    told = labelled([(name, 3.0, 4.5) for name in TEST])
    measure = on_labels(tuple(sides), footage.features, told, "gate", PARAMS)
    unusual = np.tile((np.arange(60) >= 30) & (np.arange(60) < 45), len(TEST))
    for root, value in ((spoilt, measure.candidate), (good, measure.champion)):
        scores = np.concatenate([scores_of(footage, root, name) for name in TEST])
        assert value == pytest.approx(roc_auc_score(unusual, scores))
    assert measure.champion > 0.8 and measure.low <= measure.candidate - measure.champion <= measure.high
    assert measure.worse and measure.high < 0 and measure.words.startswith("its AUROC on 6 labelled videos is ")
    back = on_labels(tuple(sides[::-1]), footage.features, told, "gate", PARAMS)
    assert (back.low, back.high) == pytest.approx((-measure.high, -measure.low)) and not back.worse

    alone = on_labels(tuple(sides), footage.features, labelled([(TEST[0], 3.0, 4.5)]), "gate", PARAMS)
    assert alone.low is None and not alone.worse  # one video says nothing of the next
    few = on_labels(tuple(sides), footage.features, labelled([(name, 3.0, 4.5) for name in TEST[1:]]), "gate", PARAMS)
    assert few.high < 0 and not few.worse  # five may all be worse by chance
    seen = load_card(good / "gate")["footage"]["fit"][0].partition(":")[0]
    told_of_fitted = told.set_column(2, "sha256", pa.array([seen] * len(TEST)))
    assert on_labels(tuple(sides), footage.features, told_of_fitted, "gate", PARAMS) is None  # it was learned
    for nothing in (labelled([]), labelled([(TEST[0], 0.0, 6.0)])):
        assert on_labels(tuple(sides), footage.features, nothing, "gate", PARAMS) is None
    assert on_labels(tuple(sides), footage.features, told, "hall", PARAMS) is None

    frames = pa.Table.from_pylist(
        [{"camera_id": "gate", "video_id": v, "sha256": "", "onset_frame": 30, "offset_frame": 45} for v in TEST],
        schema=SCHEMAS["labelled"],
    )
    assert on_labels(tuple(sides), footage.features, frames, "gate", PARAMS) == measure
    table = gate(footage.features, footage.training, spoilt, good, tmp_path / "out", PARAMS, labelled=told)
    row = table.to_pylist()[-1]
    assert row["measure"] == "auroc" and row["candidate_value"] == measure.candidate and not row["promoted"]
