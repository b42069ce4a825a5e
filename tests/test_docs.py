"""What the documentation says is what the code does."""

import doctest
import re
from pathlib import Path

import pytest
import yaml
from conftest import make_repository

from docs.generate import REFERENCE, reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])


def test_the_reference_is_what_the_code_says() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run `python -m docs.generate`"


def test_a_number_is_shown_as_a_number() -> None:
    """1.0 and 0 are equal to true and false, and no less numbers."""
    text = REFERENCE.read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", text, re.MULTILINE))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in params.items():
        for key, value in values.items():
            if isinstance(value, float | int):
                assert yaml.safe_load(shown[f"{section}.{key}"]) == value
                assert isinstance(yaml.safe_load(shown[f"{section}.{key}"]), bool) == isinstance(value, bool)


def test_the_examples_of_queries_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path / "repo")
    monkeypatch.chdir(tmp_path / "repo")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    outcome = doctest.testfile(str(ROOT / "docs/query.md"), module_relative=False, optionflags=flags, encoding="utf-8")
    assert outcome.failed == 0 and outcome.attempted > 10


def test_links_and_pictures_of_the_pages_exist() -> None:
    checked = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                checked += 1
                assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert checked > 10
