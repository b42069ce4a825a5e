import shutil
from pathlib import Path

import pytest

from vidrnn import sources as module
from vidrnn.sources import sources, stage_digest
from vidrnn.stages.code import main
from vidrnn.storage import sha256_file

FILES = {
    "__init__.py": "",
    "stages/__init__.py": "import vidrnn.always\n",
    "stages/s.py": "from vidrnn import work\nimport json, numpy\n",
    "stages/t.py": "from vidrnn.words import X\n",
    "stages/code.py": "",
    "always.py": "",
    "work.py": "def f():\n    from vidrnn.deep import late\n    import vidrnn.words as w\n",
    "deep/__init__.py": "",
    "deep/late.py": "",
    "words.py": "X = 1\n",
    "idle.py": "import vidrnn.work\n",
}
BOTH = ["vidrnn/__init__.py", "vidrnn/always.py", "vidrnn/stages/__init__.py"]
OF_S = [
    *BOTH,
    "vidrnn/deep/__init__.py",
    "vidrnn/deep/late.py",
    "vidrnn/stages/s.py",
    "vidrnn/words.py",
    "vidrnn/work.py",
]
OF_T = [*BOTH, "vidrnn/stages/t.py", "vidrnn/words.py"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "vidrnn"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_module_counts_that_is_imported_anywhere_and_no_other(package: Path) -> None:
    found = sources("s", package)
    assert list(found) == sorted(OF_S)
    assert found == {name: sha256_file(package.parent / name) for name in OF_S}
    assert list(sources("t", package)) == sorted(OF_T)


def test_it_does_not_matter_where_the_package_lies_or_from_where_it_is_looked_at(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sources("s", package)
    elsewhere = tmp_path / "else where" / "vidrnn"
    shutil.copytree(package, elsewhere)
    assert sources("s", elsewhere) == found
    monkeypatch.chdir(tmp_path)
    assert sources("s", Path("vidrnn")) == found


@pytest.mark.parametrize(
    ("name", "changed"), [("words.py", "st"), ("deep/late.py", "s"), ("idle.py", ""), ("x.py", "")]
)
def test_a_change_of_a_module_shows_in_the_stages_that_import_it(package: Path, name: str, changed: str) -> None:
    before = {stage: sources(stage, package) for stage in "st"}
    (package / name).write_text("X = 2\n")
    assert [stage for stage in "st" if sources(stage, package) != before[stage]] == list(changed)


def test_stage_code_writes_a_list_a_stage_that_checks_the_files(package: Path, tmp_path: Path) -> None:
    for left_by_an_editor in (".s.py", "s.bak.py", "t.py~", "#t.py#"):
        (package / "stages" / left_by_an_editor).write_text("import vidrnn.nothing")
    (package / "stages" / ".#s.py").symlink_to("somebody@somewhere.1")
    main(str(package), str(tmp_path / "code"))
    lists = {path.stem: path.read_text().splitlines() for path in (tmp_path / "code").iterdir()}
    told = {stage: dict(line.split("  ")[::-1] for line in lines) for stage, lines in lists.items()}
    assert told == {"s": sources("s", package), "t": sources("t", package)}


def test_stage_code_takes_the_place_of_a_file_and_does_not_write_into_it(package: Path, tmp_path: Path) -> None:
    main(str(package), str(tmp_path / "code"))
    cached = tmp_path / "cached"  # as DVC links what it keeps
    cached.hardlink_to(tmp_path / "code" / "s.txt")
    before = cached.read_text()
    (package / "words.py").write_text("X = 2\n")
    main(str(package), str(tmp_path / "code"))
    assert cached.read_text() == before != (tmp_path / "code" / "s.txt").read_text()


def test_a_stage_digest_changes_with_code_params_and_versions(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sources, "__defaults__", (package,))
    base = stage_digest("s", {"a": 1}, ["numpy"])
    assert base == stage_digest("s", {"a": 1}, ["numpy"])
    others = [stage_digest("t", {"a": 1}, ["numpy"]), stage_digest("s", {"a": 2}, ["numpy"])]
    others += [stage_digest("s", {"a": 1}, ["numpy", "pyarrow"])]
    (package / "words.py").write_text("X = 2\n")
    others += [stage_digest("s", {"a": 1}, ["numpy"])]
    assert len({base, *others}) == 5
