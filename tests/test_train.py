import hashlib
import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
import torch
from synthetic import USUAL, Footage, files_of, small_params, walking

import vidrnn.heldout
import vidrnn.train
from vidrnn.calibration import HeldOut, Questions, Tail, seconds_of, widths
from vidrnn.cards import camera_dir, load_card
from vidrnn.checkpoint import load_model, load_weights
from vidrnn.errors import FootageError, ParamsError
from vidrnn.events import causal_average
from vidrnn.heldout import block_times, calibrate, likelihood, may_stand_out, standing_out
from vidrnn.score import load_camera_model, observe
from vidrnn.storage import write_json
from vidrnn.surprise import shares
from vidrnn.timebase import RateSampler, TimeBase
from vidrnn.train import train, training_blocks
from vidrnn.windows import ACTIVE_SHARE, MODELLED, Block, CellReader, file_of

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Two cameras with enough footage; others with two short videos, a frame a video, and nothing but warm-up."""
    footage = Footage(tmp_path_factory.mktemp("train"))
    for k in range(3):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k))
        footage.add(f"north yard/{k}.mp4", walking(70, 3, 10 + k))
        footage.add(f"single/{k}.mp4", walking(1, 4, 20 + k), warmup=1)
        footage.add(f"starting/{k}.mp4", walking(70, 4, 50 + k), warmup=70)
    for k in range(2):
        footage.add(f"little/{k}.mp4", walking(30, 4, 30 + k))
    footage.add("gate/single.mp4", walking(1, 4, 40))
    return footage


@pytest.fixture(scope="module")
def trained(footage, tmp_path_factory):
    out = tmp_path_factory.mktemp("candidate")
    (out / "gone").mkdir()
    (out / "gone" / "model.json").write_text("{}")
    return (*train(footage.features, footage.training, small_params(), out), out)


def test_every_camera_has_a_model_or_a_sentence(trained):
    metrics, _, out = trained
    fates = json.loads((out / "cameras.json").read_text())
    assert {camera for camera, fate in fates.items() if not fate["message"]} == set(metrics) == {"gate", "north yard"}
    assert fates["little"]["message"].startswith("camera little: 0.1 minutes of ordinary footage in 2 blocks is too")
    for camera in ("single", "starting"):
        begin = f"camera {camera}: 0.0 minutes of ordinary footage in 0 blocks is too little to learn from"
        assert fates[camera]["message"].startswith(begin)
    assert set(files_of(out)) == {
        "cameras.json",
        *(f"{name}/{file}" for name in ("gate", "north%20yard") for file in ("model.json", "weights.safetensors")),
    }


def test_metrics_and_curve_are_those_of_the_models(trained):
    metrics, curve, out = trained
    for camera, figures in metrics.items():
        card = load_card(camera_dir(out, camera))
        own = [row for row in curve if row["model"] == camera]
        assert [row["epoch"] for row in own] == [1, 2]
        best = own[figures["best_epoch"] - 1]
        assert figures["version"] == card["version"] and best["validation"] == min(r["validation"] for r in own)
        assert figures["validation_loss"] == round(best["validation"], 6) == round(card["fit"]["validation_loss"], 6)
        assert figures["heldout_nll"] == card["heldout"]["nll"] and figures["heldout_hours"] == card["heldout"]["hours"]
    assert len(curve) == 4


def test_the_same_footage_gives_the_same_bytes(footage, trained, tmp_path):
    metrics, curve, out = trained
    again = train(footage.features, footage.training, small_params(), tmp_path / "again")
    assert again == (metrics, curve) and files_of(tmp_path / "again") == files_of(out)


def test_cameras_side_by_side_give_the_bytes_of_one_alone(footage, trained, tmp_path):
    metrics, curve = train(footage.features, only(footage, "gate"), small_params(), tmp_path)
    assert metrics == {"gate": trained[0]["gate"]} and curve == [row for row in trained[1] if row["model"] == "gate"]
    assert files_of(tmp_path / "gate") == files_of(trained[2] / "gate")


def test_held_out_footage_is_never_fitted(footage, trained):
    _, _, out = trained
    for camera in ("gate", "north yard"):
        card = load_card(camera_dir(out, camera))
        blocks = {
            block.key: block for block in training_blocks(footage.features, footage.training, camera, small_params())
        }
        fitted, held_out = set(card["footage"]["fit"]), set(blocks) - set(card["footage"]["fit"])
        assert fitted < set(blocks) and len(held_out) >= 2
        valid = sum(block_times(blocks[key])[1][blocks[key].start : blocks[key].stop].sum() for key in held_out)
        assert card["heldout"]["hours"] == pytest.approx(valid / 10 / 3600, abs=1e-6)
        assert len(card["heldout"]["blocks"]) == len(held_out)


def test_a_card_says_what_a_model_is_used_with(trained):
    _, _, out = trained
    for camera, columns in (("gate", 4), ("north yard", 3)):
        card = load_card(camera_dir(out, camera))
        assert card["camera_id"] == camera and card["channels"] == list(MODELLED)
        assert card["use"] == {
            "horizons": [3],
            "place_seconds": small_params().score.place_seconds,
            "memory_seconds": small_params().score.memory_seconds,
            "smoothing_seconds": small_params().score.smoothing_seconds,
            "rows": 20,
            "columns": columns,
            "camera_index": 0,
            "num_cameras": 1,
        }
        model = load_camera_model(camera_dir(out, camera))
        assert model.calibration is not None and model.version == card["version"]
        assert card["footage"]["num_videos"] == (4 if camera == "gate" else 3)
        assert model.usual is not None
        size = card["architecture"]["hidden_size"] + 2 * len(MODELLED)  # two lengths of memory
        assert model.usual.mean.shape == model.usual.spread.shape == (size,)
        assert np.isfinite(model.usual.mean).all() and (model.usual.spread > 0).all()
        assert (np.diag(model.usual.evening) > 0).all()


def test_two_cameras_may_share_the_weights(footage, tmp_path):
    training = footage.training
    metrics, curve = train(footage.features, training, small_params(train={"scope": "all"}), tmp_path)
    weights = [load_weights(camera_dir(tmp_path, camera)) for camera in ("gate", "north yard")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    cards = [load_card(camera_dir(tmp_path, camera)) for camera in ("gate", "north yard")]
    assert [card["use"]["camera_index"] for card in cards] == [0, 1]
    assert all(card["use"]["num_cameras"] == card["architecture"]["num_cameras"] == 2 for card in cards)
    assert cards[0]["standard"] != cards[1]["standard"] and cards[0]["version"] != cards[1]["version"]
    assert {row["model"] for row in curve} == {"all"} and set(metrics) == {"gate", "north yard"}
    assert load_model(camera_dir(tmp_path, "gate"))[0].input.in_features == 9 * len(MODELLED) + 2 + 2


def only(footage, *cameras):
    training = footage.training
    return training.filter([camera in cameras for camera in training["camera_id"].to_pylist()])


def test_without_a_camera_to_learn_from_there_is_one_sentence(footage, tmp_path):
    for scope in ("camera", "all"):
        with pytest.raises(
            FootageError, match=r"^camera little: 0\.1 minutes .*; camera single: 0\.0 minutes .* 3 more$"
        ):
            train(footage.features, only(footage, "little", "single"), small_params(train={"scope": scope}), tmp_path)
    with pytest.raises(FootageError, match=r"^no ordinary footage to learn from: .* 3 a camera of more than 2 sec"):
        train(footage.features, only(footage), small_params(), tmp_path)


def test_training_starts_where_another_ended(footage, trained, tmp_path):
    _, _, out = trained
    before = load_weights(out / "gate")
    for start in (out, out / "gate"):  # a folder of models, or one model
        params = small_params(train={"init_from": str(start), "learning_rate": 1e-9, "epochs": 1})
        train(footage.features, only(footage, "gate"), params, tmp_path)
        for name, tensor in load_weights(tmp_path / "gate").items():
            torch.testing.assert_close(tensor, before[name], atol=1e-6, rtol=0)


def test_a_file_that_is_there_twice_counts_once(tmp_path):
    footage = Footage(tmp_path)
    for name, seed in (("a", 0), ("b", 1), ("copy of a", 0)):
        footage.add(f"gate/{name}.mp4", walking(70, 4, seed))
    blocks = training_blocks(footage.features, footage.training, "gate", small_params())
    assert len(blocks) == len({block.key for block in blocks}) == 2


def test_pictures_of_two_shapes_in_a_camera_are_one_sentence(tmp_path):
    footage = Footage(tmp_path)
    for k in range(4):
        footage.add(f"gate/{k}.mp4", walking(70, 3 + k % 2, k))
    with pytest.raises(
        FootageError, match=r"^camera gate: its files are of 2 different shapes or kinds, as in .*3 columns"
    ):
        train(footage.features, footage.training, small_params(), tmp_path / "out")


def test_horizons_that_fall_on_one_frame_are_one_sentence(footage, tmp_path):
    params = small_params(model={"horizons_seconds": (0.3, 0.32)})
    with pytest.raises(ParamsError, match=r"`model\.horizons_seconds` \[0\.3, 0\.32\] falls on .* \[3, 3\]"):
        train(footage.features, only(footage, "gate"), params, tmp_path)


def test_a_calibration_is_measured_on_what_it_says(footage, trained):
    """Counts from held-out blocks, each scored and judged by the others; the likelihood in the features' units."""
    _, _, out = trained
    model = load_camera_model(out / "gate")
    blocks = training_blocks(footage.features, footage.training, "gate", small_params())[:3]
    calibration, heldout = calibrate(model, blocks[:2], blocks[2:], 2.0)
    seen, measured, total, count = [], [], 0.0, 0
    for block in blocks:
        times, valid = block_times(block)
        ((_, stretch), *more) = observe(model, CellReader(), block.path, times, block.start, block.stop)
        stretches = [stretch, *(part for _, part in more)]
        maps = np.concatenate([part.maps for part in stretches])
        times, valid = times[block.start : block.stop], valid[block.start : block.stop]
        measured.append(maps[valid])
        seen.append((maps, times, valid))
        if block is blocks[2]:  # was fitted: it tells how far questions and peaks stray, but of no rate or likelihood
            continue
        cells = CellReader().rows(block.path, block.start, block.stop)
        residual, scale = (
            np.concatenate([getattr(part, name) for part in stretches]) for name in ("residual", "scale")
        )
        for t, n in np.argwhere(cells[:, MODELLED.index("person_foreground")].reshape(len(cells), -1) > ACTIVE_SHARE):
            errors = np.clip(residual[t, :, n].astype(float), -10, 10)
            total += (0.5 * errors**2 + np.log(scale[t, :, n]) + np.log(model.standard.sd)).mean()
            count += 1
    share = shares(len(model.horizons))
    asked = Questions.measure(share, widths(measured), measured)
    for name, values in vars(asked).items():
        np.testing.assert_allclose(getattr(calibration.questions, name), values, atol=1.1e-4)
    series = []
    for k, (maps, times, valid) in enumerate(seen):
        others = [part for j, part in enumerate(measured) if j != k]
        raw = Questions.measure(share, widths(others), others).score(maps).max((1, 2))
        series.append((causal_average(raw, times, model.smoothing_seconds)[valid], times[valid]))
    further = [series.pop()]
    tail = Tail.measure(series, 2.0, further)
    assert tail.excess != Tail.measure(series, 2.0).excess
    assert (calibration.tail.count, calibration.tail.hours) == (tail.count, tail.hours)
    assert (calibration.tail.base, calibration.tail.excess) == pytest.approx((tail.base, tail.excess), rel=1e-3)
    assert heldout["nll"] == pytest.approx(total / count, abs=1e-4)
    for k, block in enumerate(heldout["blocks"]):
        judged, other = HeldOut.from_json(block), Tail.measure([series[1 - k]], 2.0, further)
        assert judged.hours == seconds_of(series[k][1]) / 3600 and judged.tail.count == other.count
        assert (judged.tail.base, judged.tail.excess) == pytest.approx((other.base, other.excess), rel=1e-3)
        assert all(peak > judged.tail.base for peak in judged.peaks)


def test_many_blocks_are_scored_by_what_they_were_measured_for_and_few_in_turns(footage, trained, monkeypatch):
    """One of many changes next to nothing; of few each looks calmer by itself than by the others."""
    _, _, out = trained
    model = load_camera_model(out / "gate")
    blocks = training_blocks(footage.features, footage.training, "gate", small_params())
    by_others, _ = calibrate(model, blocks, [], 2.0)
    monkeypatch.setattr(vidrnn.heldout, "_TURNS", 2)
    by_half, _ = calibrate(model, blocks, [], 2.0)
    monkeypatch.setattr(vidrnn.heldout, "_UNIT_BLOCKS", len(blocks) - 1)
    by_all, _ = calibrate(model, blocks, [], 2.0)
    for name in ("width", "base", "excess"):  # the measure of what is usual is one and the same
        np.testing.assert_array_equal(getattr(by_all.questions, name), getattr(by_others.questions, name))
    thresholds = [made.tail.threshold(1.0) for made in (by_all, by_others, by_half)]
    assert thresholds[0] < thresholds[1] and thresholds[0] < thresholds[2]


@pytest.mark.parametrize("num_runs", [0, 1, 3])
def test_what_looks_least_like_the_rest_is_neither_learned_nor_a_measure_of_the_usual(tmp_path, capsys, num_runs):
    """Several who run hide each other at first."""
    footage = Footage(tmp_path)
    for k in range(15):
        footage.add(f"gate/{k}.mp4", walking(60, 4, k, speed=0.9 if k < num_runs else 0.3))
    params = small_params(train={"epochs": 8})
    train(footage.features, footage.training, params, tmp_path / "out")
    own = load_card(tmp_path / "out/gate")
    blocks = {block.key: block for block in training_blocks(footage.features, footage.training, "gate", params)}
    running = {f"{row['sha256']}:0" for row in footage.training.to_pylist()[:num_runs]}
    trimmed = set(own["footage"]["trimmed"])
    assert trimmed == running
    printed = capsys.readouterr().out
    assert printed.count("not learned, so unlike the rest does it look: 6 s of gate/") == bool(num_runs)
    assert all((f" 6 s of gate/{k}.mp4 from 0 s on" in printed) == (k < num_runs) for k in range(15))
    assert not trimmed & set(own["footage"]["fit"])
    assert set(own["footage"]["held_out"]) | set(own["footage"]["fit"]) | trimmed == set(blocks)
    assert len(own["heldout"]["blocks"]) == len(own["footage"]["held_out"])  # which tell rates all the same

    model = load_camera_model(tmp_path / "out/gate")
    held_out, fitted = ([blocks[key] for key in own["footage"][part]] for part in ("held_out", "fit"))
    kept = [block for block in held_out + fitted if block.key not in trimmed]
    assert model.calibration is not None
    told, _ = calibrate(model, kept, [], params.alarms.merge_seconds)
    np.testing.assert_allclose(model.calibration.questions.base, told.questions.base, atol=1.1e-4)

    all_in = small_params(train={"epochs": 8, "trim_share": 0.0})
    train(footage.features, footage.training, all_in, tmp_path / "all")
    whole = load_card(tmp_path / "all/gate")["footage"]
    assert not whole["trimmed"] and set(whole["fit"]) | set(whole["held_out"]) == set(blocks)


def test_what_stands_out_is_found_beyond_the_first_blocks_too(tmp_path, monkeypatch):
    running, footage = (0, 8, 14), Footage(tmp_path)
    for k in range(15):
        footage.add(f"gate/{k}.mp4", walking(60, 4, k, speed=0.9 if k in running else 0.3))
    params = small_params(train={"epochs": 8})
    ordinary = pa.Table.from_pylist([row for k, row in enumerate(footage.training.to_pylist()) if k not in running])
    train(footage.features, ordinary, params, tmp_path / "out")
    model = load_camera_model(tmp_path / "out/gate")
    blocks = training_blocks(footage.features, footage.training, "gate", params)
    for first in (20, 7, 5):
        monkeypatch.setattr(vidrnn.heldout, "_UNIT_BLOCKS", first)
        assert standing_out(model, blocks, 0.25) == {blocks[k].key for k in running}
        known = {blocks[0].key}
        assert standing_out(model, blocks, 0.25, known) == {blocks[k].key for k in running}
        assert standing_out(model, blocks, 0.001, known) == known
    few = standing_out(model, blocks, 0.14)  # two of all, and they may be anywhere
    assert len(few) == 2 and few < {blocks[k].key for k in running}
    monkeypatch.undo()
    assert [may_stand_out(15, share) for share in (0, 0.05, 0.2, 0.25)] == [0, 0, 3, 3]
    assert may_stand_out(41, 0.25) == 10
    assert [may_stand_out(number, 0.25) for number in (1, 4, 7, 8)] == [0, 0, 0, 2]
    assert standing_out(model, blocks[:7], 0.25) == set()
    quiet = {block.key for k, block in enumerate(blocks) if k not in running}
    spared = set(sorted(quiet)[:2])
    assert standing_out(model, blocks, 0.2, spared) - spared <= {blocks[k].key for k in running}
    assert len(standing_out(model, blocks, 0.2, spared)) == 3  # no more than that in all


def test_at_a_quiet_place_those_who_pass_do_not_stand_out_and_the_unusual_does(tmp_path):
    """Most of the footage is empty, in some somebody walks for a part of the time, in one somebody runs."""
    footage = Footage(tmp_path)
    for k in range(30):
        cells = walking(60, 4, k, speed=0.9 if k == 20 else 0.3)
        empty = [0, 60, 60][k % 3] if k != 20 else 30
        cells[60 - empty if k % 2 else 0 : 60 if k % 2 else empty] = 0
        footage.add(f"gate/{k}.mp4", cells + np.float16(1e-4 * k))  # no two of them are the same file
    params = small_params(train={"epochs": 8})
    usual = pa.Table.from_pylist([row for row in footage.training.to_pylist() if "/20." not in row["video_id"]])
    train(footage.features, usual, small_params(train={"epochs": 8, "trim_share": 0.0}), tmp_path / "out")
    model = load_camera_model(tmp_path / "out/gate")
    blocks = training_blocks(footage.features, footage.training, "gate", params)
    assert standing_out(model, blocks, 0.25) == {blocks[20].key}


def test_no_more_stands_out_than_may_wherever_it_was_found_before(footage, trained, tmp_path, monkeypatch):
    _, _, out = trained
    model, many = load_camera_model(out / "gate"), Footage(tmp_path)
    for k in range(16):
        many.add(f"gate/{k}.mp4", walking(60, 4, k, speed=0.3 + 0.1 * (k % 8)))
    blocks = training_blocks(many.features, many.training, "gate", small_params())
    monkeypatch.setattr(vidrnn.heldout, "_UNIT_BLOCKS", 8)
    monkeypatch.setattr(vidrnn.heldout, "_STANDS_OUT", 0.5)
    for before in range(5):
        out_before = {block.key for block in blocks[8 : 8 + before]}
        assert len(standing_out(model, blocks, 0.25, out_before)) == 4


@pytest.mark.parametrize("rate", [10.0, 12.0, 15.0, 24.0, 25.0, 29.97, 30.0])
@pytest.mark.parametrize("num_frames", [700, 701, 702])
def test_horizons_are_what_they_are_called_at_any_frame_rate(tmp_path, rate, num_frames):
    """Of 25 frames a second every second or third is analysed: their median step says nothing."""
    sampler, base = RateSampler(TimeBase(1, 90000), Fraction(10)), 90000
    ticks = [round(k * base / rate) for k in range(num_frames)]
    times = np.array([tick / base for tick in ticks if sampler.takes(tick)])
    path = Footage(tmp_path).add("gate/a.mp4", walking(len(times), 4, 0), times)
    block = Block(str(path), "a:0", 0, len(times), float(times[-1]))
    step = vidrnn.train._step_seconds(block)
    rows = vidrnn.train._horizons(small_params(model={"horizons_seconds": (0.2, 0.5, 1.0)}), step)
    ahead = [np.mean(times[n:] - times[:-n]) for n in rows]
    assert ahead == pytest.approx([0.2, 0.5, 1.0], rel=0.07)


def test_what_the_camera_itself_did_is_no_measure_of_the_usual(tmp_path):
    """A lens that is wiped fills the picture for seconds, and `tables` tells of the camera instead."""
    footage = Footage(tmp_path)
    covered = replace(USUAL, agreement=0.0, detail=0.1)
    views = [covered if 20 <= k < 40 else USUAL for k in range(70)]
    path = footage.add("gate/a.mp4", walking(70, 4, 0), views=views)
    _, valid = block_times(Block(str(path), "a:0", 0, 70, 7.0))
    assert valid.tolist() == [5 <= k < 10 or k >= 59 for k in range(70)]  # a second before it, and two after


def test_no_single_glitch_decides_a_likelihood(footage, trained):
    _, _, out = trained
    model = load_camera_model(out / "gate")
    block = training_blocks(footage.features, footage.training, "gate", small_params())[0]
    shape = (5, 2, 80, len(MODELLED))
    ones = np.ones(shape, np.float32)
    sums = [likelihood(model, CellReader(), block, 0, value * ones, ones)[0] for value in (10, 50, -50, -10)]
    assert len(set(sums)) == 1 and sums[0] > likelihood(model, CellReader(), block, 0, 9 * ones, ones)[0]


def test_training_goes_on_from_the_models_of_a_folder(tmp_path):
    """With more footage a block may change its purpose; what the champion was fitted to judges nothing all the same."""
    footage = Footage(tmp_path)
    for k in range(10):
        footage.add(f"gate/{k}.mp4", walking(70, 4, 60 + k))
    rows = footage.training.to_pylist()
    rows.sort(key=lambda row: hashlib.sha256(f"0:{row['sha256']}:0".encode()).digest())
    fewer = pa.Table.from_pylist([*rows[:4], *rows[7:]], schema=footage.training.schema)
    train(footage.features, fewer, small_params(), tmp_path / "champion")
    before = load_card(tmp_path / "champion/gate")

    both = [
        train(footage.features, footage.training, small_params(), tmp_path / name, start=tmp_path / start)
        for name, start in (("warm", "champion"), ("again", "champion"), ("cold", "none"))
    ]
    assert both[0] == both[1] and files_of(tmp_path / "again") == files_of(tmp_path / "warm")
    warm, cold = (load_card(tmp_path / name / "gate") for name in ("warm", "cold"))
    assert warm["start"] == both[0][0]["gate"]["start"] == before["version"]
    assert cold["start"] is both[2][0]["gate"]["start"] is None
    fitted, held_out = (set(warm["footage"][name]) for name in ("fit", "held_out"))
    assert len(set(before["footage"]["fit"]) & set(cold["footage"]["held_out"])) == 2
    assert set(before["footage"]["fit"]) <= fitted and not fitted & held_out
    everything = [
        {key for part in ("fit", "held_out", "trimmed") for key in card["footage"][part]} for card in (warm, cold)
    ]
    assert everything[0] == everything[1]


def test_where_nothing_is_left_to_judge_by_or_the_shape_is_another_training_is_from_scratch(
    footage, trained, tmp_path, capsys
):
    _, _, out = trained
    training = only(footage, "gate")
    save = load_card(out / "gate")
    held_out = save["footage"]["held_out"]
    seen = {**save, "footage": {**save["footage"], "fit": held_out}}
    other = {**save, "use": {**save["use"], "horizons": [9]}}
    for card, words in ((seen, "has seen all footage that could judge it"), (other, "has other horizons")):
        folder = tmp_path / words
        shutil.copytree(out / "gate", folder / "gate")
        write_json(folder / "gate/model.json", card)
        train(footage.features, training, small_params(), tmp_path / "out", start=folder)
        assert f"train gate: from scratch, since the model to start from {words}\n" in capsys.readouterr().out
        assert (tmp_path / "out/gate/weights.safetensors").read_bytes() == (
            out / "gate/weights.safetensors"
        ).read_bytes()
    recut = small_params(train={"block_seconds": 3.5})  # whose blocks have the keys of others
    train(footage.features, training, recut, tmp_path / "out", start=out)
    own = load_card(tmp_path / "out/gate")
    learned, judging = ({file_of(key) for key in keys} for keys in (save["footage"]["fit"], own["footage"]["held_out"]))
    assert own["start"] == save["version"] and judging and not learned & judging
    params = small_params(train={"init_from": str(tmp_path / "has seen all footage that could judge it")})
    with pytest.raises(
        FootageError, match=r"^train\.init_from: the model to start from has seen all .* for gate, or set"
    ):
        train(footage.features, training, params, tmp_path / "out")


def test_cameras_that_share_weights_start_together_or_not_at_all(footage, tmp_path, capsys):
    params = small_params(train={"scope": "all"})
    train(footage.features, footage.training, params, tmp_path / "first")
    again, _ = train(footage.features, footage.training, params, tmp_path / "second", start=tmp_path / "first")
    versions = {name: load_card(camera_dir(tmp_path / "first", name))["version"] for name in again}
    assert {name: figures["start"] for name, figures in again.items()} == versions and len(versions) == 2
    shutil.rmtree(camera_dir(tmp_path / "first", "north yard"))
    alone, _ = train(footage.features, footage.training, params, tmp_path / "third", start=tmp_path / "first")
    assert all(figures["start"] is None for figures in alone.values())
