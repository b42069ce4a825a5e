"""The losses against scipy and plain loops, a user's own function from its file, and DVC's view of that file."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import DVC, git
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.stats import norm
from synthetic import Footage, small_params, small_task, walking

from vidrnn.cards import load_card
from vidrnn.errors import ParamsError
from vidrnn.fit import fit
from vidrnn.losses import HUBER_DELTA, check_loss, load_loss
from vidrnn.train import train

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
SHAPE = (4, 3, 2, 5)  # N, T, K, C
BUILT_IN = ["nll", "mse", "huber"]
ABSOLUTE = "((prediction - target).abs().mean(-1, keepdim=True) * mask).sum() / mask.sum()"


def drawn(seed):
    """mean, scale, target and mask of a batch, in double."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 2, SHAPE), rng.uniform(0.3, 3, SHAPE), rng.normal(0, 2, SHAPE), rng.random((*SHAPE[:3], 1))
    return [torch.from_numpy(part) for part in parts]


def cost_of(name, mean, scale, target):
    if name == "nll":
        return -norm.logpdf(target, mean, scale) - 0.5 * math.log(2 * math.pi)
    return (target - mean) ** 2 if name == "mse" else special.huber(HUBER_DELTA, target - mean)


@pytest.mark.parametrize("name", BUILT_IN)
@given(st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_a_loss_is_a_mean_of_costs_weighed_by_the_mask(name, seed):
    parts = drawn(seed)
    mean, scale, target, mask = (part.numpy() for part in parts)
    total = sum(
        mask[n, t, k, 0] * cost_of(name, *(part[n, t, k, c] for part in (mean, scale, target))) / SHAPE[3]
        for n, t, k, c in np.ndindex(*SHAPE)
    )
    assert load_loss(name, "")(*parts).item() == pytest.approx(total / mask.sum(), rel=1e-9)


@pytest.mark.parametrize("name", BUILT_IN)
def test_gradients_of_a_loss_are_those_of_finite_differences(name):
    mean, scale, target, mask = drawn(1)
    assert torch.autograd.gradcheck(
        lambda mean, scale: load_loss(name, "")(mean, scale, target, mask),
        (mean.requires_grad_(), scale.requires_grad_()),
    )


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def own_loss(body):
    return "import torch", "def loss(prediction, target, mask):", f"    return {body}"


@pytest.fixture(autouse=True)
def _forget_modules_of_the_user():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0].startswith("own"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "file"),
    [("own_a", "own_a.py"), ("own_b.inner.deep", "own_b/inner/deep.py"), ("own_c", "own_c/__init__.py")],
)
def test_a_function_of_the_users_own_comes_from_its_file(tmp_path, module, file):
    path = write(tmp_path / file, *own_loss(ABSOLUTE))
    mean, _, target, mask = parts = drawn(0)
    expected = ((mean - target).abs().mean(-1, keepdim=True) * mask).sum() / mask.sum()
    loss = load_loss(f"{module}:loss", path)
    assert loss(*parts) == expected
    check_loss(loss, f"{module}:loss", *parts, parted=True)


def test_a_path_may_be_relative_and_the_module_may_import_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "src/own_pack/costs.py", "def cost(p, t):", "    return (p - t) ** 2")
    lines = (
        "from own_pack.costs import cost",
        "def f(p, t, m):",
        "    return (cost(p, t) * m).sum() / m.sum() / t.shape[-1]",
    )
    write(tmp_path / "src/own_pack/losses.py", *lines)
    parts = drawn(0)
    mine = load_loss("own_pack.losses:f", "src/own_pack/losses.py")(*parts)
    torch.testing.assert_close(mine, load_loss("mse", "")(*parts))


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("own_x:loss", "own_y.py", r"`train\.loss_file` \S*own_y\.py cannot be the module own_x .* ends in own_x\.py$"),
        ("own_gone:loss", "own_gone.py", r"own_gone\.py: no such file; expected the one that defines own_gone:loss$"),
        ("own_typo:loss", "own_typo.py", r"own_typo:loss cannot be imported: SyntaxError: .*own_typo\.py"),
        (
            "own_needs:loss",
            "own_needs.py",
            r"ModuleNotFoundError: No module named 'own_none' \(\S*own_needs\.py, line 2\)$",
        ),
        ("own_good:other", "own_good.py", r"own_good\.py has nothing of the name other; expected a function f\("),
        (
            "own_good:number",
            "own_good.py",
            r"own_good\.py has int, which cannot be called, of the name number; expected",
        ),
        ("json:loss", "json.py", r"the module json of `train\.loss` is \S*json/__init__\.py, not .*; give one of them"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(tmp_path, name, file, says):
    write(tmp_path / "own_y.py", *own_loss(ABSOLUTE))
    write(tmp_path / "own_typo.py", "def loss(:")
    write(tmp_path / "own_needs.py", "", "import own_none")
    write(tmp_path / "own_good.py", *own_loss(ABSOLUTE), "number = 1")
    write(tmp_path / "json.py", *own_loss(ABSOLUTE))
    with pytest.raises(ParamsError, match=says) as caught:
        load_loss(name, str(tmp_path / file))
    assert str(caught.value).startswith("params.yaml: ") and "\n" not in str(caught.value)


MUST = r"must return a tensor that holds one finite number, made from prediction by torch; found "


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("1.5", MUST + "float$"),
        ("None", MUST + "NoneType$"),
        ("(prediction - target) ** 2", MUST + r"a tensor of shape \(\d+, \d+, \d+, \d+\)$"),
        ("(target ** 2).mean()", MUST + "a tensor without a gradient$"),
        ("(prediction.detach() ** 2).mean()", MUST + "a tensor without a gradient$"),
        ("(prediction - target).mean() * torch.inf", MUST + r"-?inf$"),
        ("(prediction - prediction.detach()).abs().sqrt().mean()", MUST + "a gradient that is not finite$"),
        (
            "prediction.nothing",
            r"own_fails:loss failed on .* shape \(\d+, \d+, \d+, \d+\) .*AttributeError: .*, line 3\)$",
        ),
        ("(prediction - target) @ mask", r"own_fails:loss failed on .*RuntimeError: .*own_fails\.py, line 3\)$"),
    ],
)
def test_what_a_loss_must_not_return_is_one_sentence_before_training(tmp_path, body, says):
    task = small_task(tmp_path)
    path = write(tmp_path / "own_fails.py", *own_loss(body))
    states = []
    with pytest.raises(ParamsError, match=says) as caught:
        fit(replace(task, loss="own_fails:loss", loss_file=path), CPU, on_epoch=states.append)
    assert str(caught.value).startswith("params.yaml: `train.loss` ") and "\n" not in str(caught.value)
    assert not states


@pytest.mark.parametrize("body", ["((prediction - target) ** 2 * mask).sum()", "(prediction - target).abs().amax()"])
def test_several_workers_refuse_what_they_cannot_share(tmp_path, body):
    loss = load_loss("own_sum:loss", write(tmp_path / "own_sum.py", *own_loss(body)))
    check_loss(loss, "own_sum:loss", *drawn(0), parted=False)
    with pytest.raises(ParamsError, match=r"is [\d.]+ for a batch and [\d.]+ for its halves together; expected a mean"):
        check_loss(loss, "own_sum:loss", *drawn(0), parted=True)


def test_training_with_a_function_of_the_users_own_is_training_with_that_loss(tmp_path):
    """The built-in mse, written by a user: the same weights."""
    body = "((target - prediction) ** 2).mean(-1, keepdim=True).mul(mask).sum() / mask.sum()"
    task = small_task(tmp_path)
    task = replace(task, epochs=2, architecture={**task.architecture, "with_scale": False})
    path = write(tmp_path / "own_mse.py", *own_loss(body))
    mine = fit(replace(task, loss="own_mse:loss", loss_file=path), CPU)
    theirs = fit(replace(task, loss="mse"), CPU)
    other = fit(replace(task, loss="huber"), CPU)
    assert mine.history == theirs.history != other.history
    assert all(torch.equal(mine.weights[name], tensor) for name, tensor in theirs.weights.items())


def test_params_name_a_loss_by_a_path_from_the_workspace(tmp_path, monkeypatch):
    footage = Footage(tmp_path)
    for k in range(3):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k))
    write(tmp_path / "mine/own_robust.py", *own_loss(ABSOLUTE))
    chosen = {"loss": "own_robust:loss", "loss_file": "mine/own_robust.py"}
    good, gone = (small_params(train={**chosen, "loss_file": f"mine/{name}.py"}) for name in ("own_robust", "gone"))
    monkeypatch.chdir(tmp_path)
    train(footage.features, footage.training, good, tmp_path / "out")
    card = load_card(tmp_path / "out/gate")
    assert card["params"]["train"] | chosen == card["params"]["train"] and not card["architecture"]["with_scale"]
    assert str(tmp_path) not in json.dumps(card)  # the same bytes in another folder
    with pytest.raises(ParamsError, match=r"`train\.loss_file` \S*mine/gone\.py cannot be the module own_robust"):
        train(footage.features, footage.training, gone, tmp_path / "out")


def test_a_change_of_the_users_file_makes_train_stale(tmp_path):
    """Our own stage `train`, but for what it runs, in a repository of DVC."""
    stage = re.search(r"\n  train:\n.*?(?=\n  gate:)", (ROOT / "dvc.yaml").read_text(encoding="utf-8"), re.DOTALL)
    assert stage
    text = re.sub(
        r"cmd: .*",
        "cmd: mkdir -p data/candidate data/metrics data/plots; echo '{}' > data/metrics/train.json;"
        " echo epoch,validation > data/plots/loss.csv",
        stage[0],
    )
    write(tmp_path / "dvc.yaml", "stages:", text)
    for dep in re.findall(
        r"- (data/code/\S+|data/training\.parquet|data/feedback\.csv|data/start)$", text, re.MULTILINE
    ):
        write(tmp_path / dep, dep)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    params = params.replace("loss: nll ", "loss: mine.robust:f ").replace(
        "loss_file: vidrnn/losses.py", "loss_file: mine/robust.py"
    )
    write(tmp_path / "params.yaml", params)
    write(tmp_path / "mine/robust.py", *own_loss(ABSOLUTE))
    git(tmp_path, "init", "-q")
    subprocess.run([*DVC, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*DVC, "repro", "-q"], cwd=tmp_path, check=True)

    def stale():
        done = subprocess.run([*DVC, "status"], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    assert "up to date" in stale()
    write(tmp_path / "mine/robust.py", *own_loss(ABSOLUTE), "# changed")
    assert re.search(r"train:\s+changed deps:\s+modified:\s+mine/robust\.py", stale())
