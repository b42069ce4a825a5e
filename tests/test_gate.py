import shutil

import numpy as np
import pytest
import torch
from scipy import stats
from synthetic import Footage, files_of, small_params, walking

from vidrnn.cards import CARD, WEIGHTS, load_card
from vidrnn.checkpoint import load_weights, save_model
from vidrnn.errors import CheckpointError
from vidrnn.gate import gate
from vidrnn.schema import SCHEMAS, validate
from vidrnn.score import load_camera_model, observe
from vidrnn.storage import write_json
from vidrnn.train import block_times, likelihood, train, training_blocks
from vidrnn.windows import CellReader

torch.set_num_threads(1)
PARAMS = small_params(train={"validation_share": 0.3, "calibration_share": 0.3})


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    footage = Footage(tmp_path_factory.mktemp("gate"))
    for k in range(6):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k, speed=0.2 + 0.15 * k))
    return footage


@pytest.fixture(scope="module")
def good(footage, tmp_path_factory):
    """A folder with a trained model."""
    out = tmp_path_factory.mktemp("good")
    train(footage.features, footage.training, PARAMS, out)
    return out


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
    """Run the gate and return its one row, and the folder that it wrote."""

    def run(candidate, champion, name="out"):
        table = gate(footage.features, footage.training, candidate, champion, tmp_path / name, PARAMS)
        validate(table, SCHEMAS["promotions"], "promotions")
        (row,) = table.to_pylist()
        return row, tmp_path / name

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
        assert table["promoted"].to_pylist() == [promoted]
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


def measured(footage, models):
    """The mean likelihood of each block that neither model was fitted to, (2, blocks)."""
    seen = {key for model in models for key in load_card(model / "gate")["footage"]["fit"]}
    rows = []
    for root in models:
        model, values = load_camera_model(root / "gate"), []
        for block in training_blocks(footage.features, footage.training, "gate", PARAMS):
            if block.key in seen:
                continue
            times, _ = block_times(block)
            stretches = observe(model, CellReader(), block.path, times, block.start, block.stop)
            parts = [likelihood(model, CellReader(), block, row, s.residual, s.scale) for row, s in stretches]
            values.append(sum(part[0] for part in parts) / sum(part[1] for part in parts))
        rows.append(values)
    return np.array(rows)


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
