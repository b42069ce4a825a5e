import json
import pickle

import pytest
import torch
from synthetic import files_of

from vidrnn.cards import CARD, WEIGHTS, camera_dir, cameras_in, load_card
from vidrnn.checkpoint import load_into, load_model, load_weights, save_model
from vidrnn.errors import CheckpointError
from vidrnn.model import VideoRNN

ARCHITECTURE = {
    "num_channels": 2,
    "num_horizons": 1,
    "cell": "gru",
    "hidden_size": 3,
    "num_layers": 1,
    "num_cameras": 1,
    "with_scale": True,
}
CARD_OF = {"architecture": ARCHITECTURE, "calibration": {"width": [0.1, 1 / 3]}}


def network(seed=0, **changes):
    torch.manual_seed(seed)
    return VideoRNN(**{**ARCHITECTURE, **changes})


def saved(root, seed=0, **card):
    save_model(root, network(seed).state_dict(), {**CARD_OF, **card})
    return root


def test_what_is_saved_is_loaded_ready_to_score(tmp_path):
    version = save_model(tmp_path, network().state_dict(), CARD_OF)
    net, card = load_model(tmp_path)
    assert card == {**CARD_OF, "version": version} and len(version) == 12
    assert not net.training and not any(parameter.requires_grad for parameter in net.parameters())
    for name, tensor in network().state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        weights = dict(reversed(network().state_dict().items())) if name == "b" else network().state_dict()
        save_model(tmp_path / name, weights, dict(reversed(CARD_OF.items())) if name == "b" else CARD_OF)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert sorted(files_of(tmp_path / "a")) == [CARD, WEIGHTS]


def test_the_version_tells_of_weights_and_card(tmp_path):
    weights = network().state_dict()
    versions = [save_model(tmp_path, weights, CARD_OF), save_model(tmp_path, weights, {**CARD_OF, "more": 1})]
    weights["input.bias"] = weights["input.bias"] + 1e-6
    versions.append(save_model(tmp_path, weights, CARD_OF))
    assert len(set(versions)) == 3


def test_weights_and_card_of_two_models_are_told_apart(tmp_path):
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other", seed=1)
    (one / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="one: its card tells of version"):
        load_model(one)
    assert load_model(other)


def test_a_missing_model_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for nothing in (tmp_path / "none", tmp_path / "file"):
        for load in (load_card, load_weights, load_model):
            with pytest.raises(CheckpointError, match=r"no (model|weights) here; expected a folder with"):
                load(nothing)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[1]"])
def test_a_damaged_card_is_one_sentence(tmp_path, text):
    (saved(tmp_path) / CARD).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"model\.json: (not valid JSON|expected the card)"):
        load_card(tmp_path)


def test_damaged_weights_are_one_sentence(tmp_path):
    whole = (saved(tmp_path) / WEIGHTS).read_bytes()
    for body in (b"", whole[:-1], b"\xff" * 100, whole[:40]):
        (tmp_path / WEIGHTS).write_bytes(body)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged"):
            load_weights(tmp_path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a file of a model was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    saved(tmp_path)
    for body in (pickle.dumps(Bomb()), b""):
        (tmp_path / WEIGHTS).write_bytes(body)
        with pytest.raises(CheckpointError, match="damaged"):
            load_model(tmp_path)
    torch.save({"input.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(tmp_path)
    (tmp_path / CARD).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_model(tmp_path)


def test_weights_that_do_not_fit_name_the_first_tensor():
    whole = network().state_dict()
    cases = {
        "has no tensor input.bias": {name: whole[name] for name in whole if name != "input.bias"},
        "tensor extra is unknown": {**whole, "extra": torch.zeros(2)},
        "tensor input.weight is 5×20, expected 3×20": {**whole, "input.weight": torch.zeros(5, 20)},
        "tensor input.bias is a number, expected 3": {**whole, "input.bias": torch.tensor(1.0)},
    }
    for words, weights in cases.items():
        net = network(seed=1)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with pytest.raises(CheckpointError, match=f"^the model does not fit: its? {words}; mend it$"):
            load_into(net, weights, "the model", "mend it")
        assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


def test_a_card_without_an_architecture_is_one_sentence(tmp_path):
    for card in ({"architecture": {**ARCHITECTURE, "heads": 2}}, {"no": "architecture"}):
        save_model(tmp_path, network().state_dict(), card)
        with pytest.raises(CheckpointError, match="not a card that this code reads"):
            load_model(tmp_path)


def test_a_card_of_another_shape_than_its_weights_is_one_sentence(tmp_path):
    save_model(tmp_path, network().state_dict(), {"architecture": {**ARCHITECTURE, "hidden_size": 4}})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(tmp_path)


def test_cameras_have_a_folder_each_whatever_their_name(tmp_path):
    names = ["gate", "a b&c", "50%", "Tür", "x:y"]
    for name in names:
        saved(camera_dir(tmp_path, name))
        assert camera_dir(tmp_path, name).parent == tmp_path
    (tmp_path / "README").write_text("not a model")
    (tmp_path / "empty").mkdir()
    assert cameras_in(tmp_path) == sorted(names) and cameras_in(tmp_path / "none") == []


def test_the_card_is_canonical_json(tmp_path):
    text = (saved(tmp_path) / CARD).read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
