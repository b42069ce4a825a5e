"""The committed params load; whatever is wrong with a file is one sentence with the key."""

import ast
import copy
import io
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from vidrnn.errors import ParamsError
from vidrnn.params import Params, load_params

ROOT = Path(__file__).resolve().parents[1]
RAW: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
KEYS = [(section, key) for section, keys in RAW.items() for key in keys]
NUMBERS = [(s, k) for s, k in KEYS if isinstance(RAW[s][k], int | float)]


def load(tmp_path: Path, raw: object) -> Params:
    text = io.StringIO()
    YAML(typ="safe").dump(raw, text)
    (tmp_path / "params.yaml").write_text(text.getvalue(), encoding="utf-8")
    return load_params(tmp_path / "params.yaml")


def complaint(tmp_path: Path, raw: object) -> str:
    with pytest.raises(ParamsError) as caught:
        load(tmp_path, raw)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'params.yaml'}: ") and "\n" not in message
    assert caught.value.exit_code == 2
    return message


def changed(section: str, key: str, value: object) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    raw[section][key] = value
    return raw


def test_the_committed_file_loads() -> None:
    params = load_params(ROOT / "params.yaml")
    assert len(KEYS) > 40
    for section, key in KEYS:
        value = getattr(getattr(params, section), key)
        assert (list(value) if isinstance(value, tuple) else value) == RAW[section][key]


def test_every_key_is_read_somewhere() -> None:
    read: set[str] = set()
    for path in (ROOT / "vidrnn").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    read |= set(re.findall(r"\$\{data\.(\w+)\}", (ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    for path in (ROOT / "flows").glob("*.py"):  # which know params.yaml, not vidrnn
        read |= set(re.findall(r"""params\["nightly"\]\["(\w+)"\]""", path.read_text(encoding="utf-8")))
    assert [f"{section}.{key}" for section, key in KEYS if key not in read] == []


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_missing_or_misspelt_key_is_named(tmp_path: Path, section: str, key: str) -> None:
    raw = copy.deepcopy(RAW)
    raw[section][key + "x"] = raw[section].pop(key)
    message = complaint(tmp_path, raw)
    assert f"`{section}.{key}` is missing" in message
    assert f"`{section}.{key}x` is not a key that exists here; allowed are " in message
    assert key in message.split("allowed are ")[1]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_wrong_type_is_named_once_with_what_was_found(tmp_path: Path, section: str, key: str) -> None:
    message = complaint(tmp_path, changed(section, key, {"a": 1}))
    assert message.count(f"`{section}.{key}` ") == 1 and "found {'a': 1}" in message


@pytest.mark.parametrize(("section", "key"), NUMBERS)
@pytest.mark.parametrize("value", ["7", -1, float("nan"), float("inf")])
def test_numbers_are_numbers_in_range(tmp_path: Path, section: str, key: str, value: object) -> None:
    assert f"`{section}.{key}` " in complaint(tmp_path, changed(section, key, value))


@pytest.mark.parametrize("section", RAW)
def test_a_section_that_is_missing_misspelt_or_empty_is_named(tmp_path: Path, section: str) -> None:
    raw = copy.deepcopy(RAW)
    raw["x" + section] = raw.pop(section)
    message = complaint(tmp_path, raw)
    assert f"`{section}` is missing" in message and f"`x{section}` is not a key that exists here" in message
    assert f"`{section}` " in complaint(tmp_path, {**RAW, section: None})
    assert f"`{section}` " in complaint(tmp_path, {**RAW, section: [1]})


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("data", "time_zone", "Europe/Berlim", "no time zone is called 'Europe/Berlim'"),
        ("data", "time_zone", "../../etc/passwd", "no time zone is called"),
        ("data", "videos", "", "at least 1 character"),
        ("index", "recorded_at_pattern", "(", "not a regular expression"),
        ("index", "recorded_at_pattern", "(?P<year>x)", "needs exactly the named groups"),
        ("index", "train", "*", "tuple"),
        ("index", "train", [1], "string"),
        ("features", "rate", 0, "greater than 0 or should be 'source'"),
        ("features", "rate", "all", "'source'"),
        ("features", "height", 250, "multiple of 40"),
        ("features", "height", 40, "80"),
        ("features", "height", 240.5, "integer"),
        ("model", "cell", "rnn", "'gru', 'lstm', 'mingru' or 'article'"),
        ("model", "horizons_seconds", [], "at least 1"),
        ("model", "horizons_seconds", [1.0, 0.5], "must ascend"),
        ("model", "horizons_seconds", [0.5, 0.5], "must ascend"),
        ("train", "loss", "mae", "must be nll, mse, huber or package.module:function, found 'mae'"),
        ("train", "loss", "losses.py:mae()", "must be nll, mse, huber or package.module:function"),
        ("train", "loss_file", "", "at least 1 character"),
        ("train", "validation_share", 0.5, "less than 0.5"),
        ("train", "memory_dropout", 1.1, "less than or equal to 1"),
        ("device", "gpu", "yes", "'auto'"),
        ("train", "burn_in_seconds", 2.0, "must be shorter than seq_seconds"),
        ("gate", "confidence", 0.5, "greater than 0.5"),
        ("evaluate", "resamples", 99, "100"),
        ("report", "max_events", True, "integer"),
    ],
)
def test_what_is_out_of_range_says_what_is_allowed(
    tmp_path: Path, section: str, key: str, value: object, says: str
) -> None:
    message = complaint(tmp_path, changed(section, key, value))
    assert f"`{section}" in message and says in message


def test_batches_divide_among_workers(tmp_path: Path) -> None:
    raw = changed("train", "num_workers", 3)
    assert complaint(tmp_path, raw).endswith("`train`: batch_windows (8) must be a multiple of num_workers (3)")


def test_numbers_in_scientific_notation(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for written in ("1e-3", "1E-3", "1.0e-3"):
        (tmp_path / "params.yaml").write_text(text.replace("learning_rate: 0.001", f"learning_rate: {written}"))
        assert load_params(tmp_path / "params.yaml").train.learning_rate == 0.001


def test_whole_numbers_do_where_a_fraction_may_stand(tmp_path: Path) -> None:
    assert load(tmp_path, changed("features", "warmup_seconds", 2)).features.warmup_seconds == 2.0


@pytest.mark.parametrize(
    ("rate", "fraction"),
    [(10, Fraction(10)), (12.5, Fraction(25, 2)), (29.97, Fraction(2997, 100)), (0.1, Fraction(1, 10))],
)
def test_the_analysis_rate_is_what_was_written(tmp_path: Path, rate: float, fraction: Fraction) -> None:
    assert load(tmp_path, changed("features", "rate", rate)).features.rate_fraction == fraction
    assert load(tmp_path, changed("features", "rate", "source")).features.rate_fraction is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected sections"),
        (b"- 1\n", "expected sections"),
        (b"data: [\n", "not valid YAML"),
        (b"a: 1\na: 2\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"!!python/object/apply:os.system ['true']\n", "params.yaml: "),
    ],
)
def test_what_is_no_file_of_params_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=re.escape(says)) as caught:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="not found; run from the folder that holds it"):
        load_params(tmp_path / "params.yaml")


def test_params_are_frozen() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.train.epochs = 3  # type: ignore[misc]
    assert hash(params.index)
