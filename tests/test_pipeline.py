"""The shape of the house: who may import whom, what `dvc.yaml` says of the stages, and what is committed."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from commands import DVC
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from vidrnn import cli, results
from vidrnn.params import Params
from vidrnn.schema import SCHEMAS
from vidrnn.sources import sources
from vidrnn.stages import code

ROOT = Path(__file__).resolve().parents[1]

# From top to bottom; a module imports from its own layer or from those below.
LAYERS = (
    ("cli", "cli"),
    ("printing", "printing"),
    ("stages", "stages.*"),
    (
        "work",
        "analyze annotate doctor find report neighbours results reading revisions tables object_tables segment_tables "
        "health evaluate comparison gate contest train heldout warm rescore score ray_fit fit extract intake index "
        "demo fan_out",
    ),
    (
        "domain",
        "metrics labelled labels events tracks sizes objects segments embeddings calibration surprise checkpoint "
        "losses device model cells marked windows features flow foreground camera sequences media decode encode "
        "demo_plan demo_scene easel figures event_cards embed nights timeline measures phrases",
    ),
    ("files", "retired feedback cards sources storage"),
    ("words", "params columns schema timebase errors"),
)
PAGE = "vidrnn/page"  # what the package holds beside its code
LOSS = "${train.loss_file}"  # with the user's own loss, which `train` imports by name
PICTURES = (
    *("annotate", "camera", "decode", "encode", "demo", "demo_scene", "easel", "extract", "features", "foreground"),
    *("embed", "flow", "media"),
)
MADE_BY_HAND = {f"data/{name}" for name in ("champion", "start", "feedback.csv", "retired.csv", "withdrawn.csv")}
CHECKED = "data/params.checked"  # what the first stages wait for, and do not read
# Which modules may import a package.
ONLY_IN = {
    "av": {"vidrnn.decode", "vidrnn.encode"},
    "cv2": {f"vidrnn.{name}" for name in PICTURES},
    "dvc": {"vidrnn.doctor", "vidrnn.revisions"},
    "prefect": {"flows.nightly", "flows.retrain"},
    "ray": {"vidrnn.fan_out", "vidrnn.ray_fit"},
}
# `train` and `gate` read feature files, but depend on the list of those that train: a new test video retrains nothing.
READ_THROUGH_THE_LIST = {("train", "data/features"), ("gate", "data/features")}


# What the code says


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    paths = sorted([*(ROOT / "vidrnn").rglob("*.py"), *(ROOT / "flows").glob("*.py")])
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    assert len(found) > 30
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported_names(node: ast.AST) -> Iterator[tuple[str, str | None, str]]:
    """(module, name or None, local name) of every import at or below `node`, but for those that types alone need."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, None, alias.asname or alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, f"relative import: {ast.unparse(node)}"
        for alias in node.names:
            yield node.module, alias.name, alias.asname or alias.name
    for child in ast.iter_child_nodes(node):
        yield from imported_names(child)


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module imports anywhere in it; of our own the very one, of others the package."""
    found = set()
    for source, name, _ in imported_names(tree(module)):
        if source.split(".")[0] in ("vidrnn", "flows"):
            found.add(f"{source}.{name}" if f"{source}.{name}" in modules() else source)
        else:
            found.add(source.split(".")[0])
    return frozenset(found - {module})


def needed_by(stage: str) -> set[str]:
    """Our modules that running a stage imports, with the packages that hold them."""
    seen: set[str] = set()
    waiting = [f"vidrnn.stages.{stage}"]
    while waiting:
        module = waiting.pop()
        if module in modules() and module not in seen:
            seen.add(module)
            waiting += [*imports(module), *([module.rpartition(".")[0]] if "." in module else [])]
    return seen


def data_files(module: str) -> set[Path]:
    """The files of the page that a module names, or that one of them includes."""
    candidates = set((ROOT / PAGE).iterdir())
    nodes = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Constant)]
    named = {path for path in candidates if path.name in [node.value for node in nodes]}
    texts = [path.read_text(encoding="utf-8") for path in named]
    return named | {path for path in candidates for text in texts if f'include "{path.name}"' in text}


def pipeline() -> dict[str, dict[str, Any]]:
    stages: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert len(stages) >= 9
    return stages


def paths(stage: dict[str, Any], *keys: str) -> list[str]:
    items = [item for key in keys for item in stage.get(key, [])]
    return [item if isinstance(item, str) else next(iter(item)) for item in items]


STAGES = sorted(pipeline())
SECTIONS = sorted(Params.model_fields)
COMMANDS = sorted(command.callback.__name__ for command in cli.commands.registered_commands if command.callback)


# Imports


def layer_of(module: str) -> int:
    for rank, (_, names) in enumerate(LAYERS):
        if module.removeprefix("vidrnn.") in names.split() or (names == "stages.*" and ".stages" in module):
            return rank
    raise AssertionError(f"{module} has no layer; give it one in LAYERS, and a place in .github/CONTRIBUTING.md")


def test_imports_point_downward() -> None:
    checked = 0
    for module in modules():
        if module == "vidrnn" or module.startswith("flows"):
            continue
        for other in imports(module) & set(modules()) - {"vidrnn"}:
            checked += 1
            assert layer_of(other) >= layer_of(module), f"{module} imports {other}, which lies above it"
    assert checked > 50
    assert not imports("vidrnn")


def test_every_layer_lists_modules_that_exist() -> None:
    listed = [name for _, names in LAYERS for name in names.split() if name != "stages.*"]
    assert listed and len(set(listed)) == len(listed)
    assert {f"vidrnn.{name}" for name in listed} <= set(modules())


def test_no_import_goes_in_circles() -> None:
    graph = {module: imports(module) & set(modules()) for module in modules()}
    assert sum(map(len, graph.values())) > 50
    assert list(TopologicalSorter(graph).static_order())


def test_packages_that_few_may_import() -> None:
    for package, allowed in ONLY_IN.items():
        importers = {module for module in modules() if package in imports(module)}
        assert importers == allowed, package


def test_flows_and_vidrnn_know_nothing_of_each_other() -> None:
    """But for where nights are published."""
    flows = [module for module in modules() if module.startswith("flows.")]
    assert len(flows) >= 2
    for module in modules():
        other = "vidrnn" if module in flows else "flows"
        found = {name for name in imports(module) if name.split(".")[0] == other}
        assert found <= ({"vidrnn.revisions"} if module == "flows.publish" else set()), module


@pytest.mark.slow
def test_importing_does_nothing(tmp_path: Path) -> None:
    """Third parties are imported first: what they do is theirs."""
    ours = [module for module in modules() if module.startswith("vidrnn")]
    others = sorted({name for module in ours for name in imports(module) if name.split(".")[0] != "vidrnn"} - {"ray"})
    program = f"""
import importlib, json, logging, os, random, sys, threading
for name in {others}: importlib.import_module(name)
import matplotlib.figure, numpy, safetensors.torch, scipy.stats, sklearn.metrics, torch
def state():
    return [str(random.getstate()), str(numpy.random.get_state()), str(torch.get_rng_state().tolist()),
            torch.get_num_threads(), dict(os.environ), threading.active_count(), len(logging.getLogger().handlers),
            logging.getLogger().level, os.listdir()]
before = state()
for name in {ours}: importlib.import_module(name)
print(json.dumps([i for i, (a, b) in enumerate(zip(before, state())) if a != b]))
print(os.listdir())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
    assert done.stderr == ""


@pytest.mark.parametrize("module", ["vidrnn", "vidrnn.cli", "vidrnn.params"])
def test_light_modules_stay_light(module: str, tmp_path: Path) -> None:
    program = f"import sys, {module}; print({{'torch', 'pandas', 'pyarrow', 'cv2', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# dvc.yaml


def test_a_module_a_stage_and_a_stage_a_module() -> None:
    found = {module.removeprefix("vidrnn.stages.") for module in modules() if module.startswith("vidrnn.stages.")}
    assert found == set(pipeline())


def code_of(stage: str) -> str:
    return f"data/code/{stage}.txt"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_its_code(name: str) -> None:
    needed = {modules()[module].relative_to(ROOT).as_posix() for module in needed_by(name)}
    assert set(sources(name)) == needed and len(needed) >= 5
    listed = {path for path in paths(pipeline()[name], "deps") if is_code(path)}
    pages = {PAGE for module in needed_by(name) if data_files(module)}
    own = set() if name == "train" else {LOSS}
    assert listed == ({"vidrnn"} if name == "code" else {code_of(name), *pages, LOSS} - own)


def test_stage_code_tells_of_every_other(tmp_path: Path) -> None:
    assert paths(pipeline()["code"], "outs") == [Path(code_of("s")).parent.as_posix()]
    code.main(str(ROOT / "vidrnn"), str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {Path(code_of(name)).name for name in STAGES if name != "code"}


def test_every_data_file_of_the_package_is_used() -> None:
    found = {path for path in (ROOT / PAGE).iterdir() if path.is_file()}
    assert found == {path for module in modules() for path in data_files(module)}
    assert len(found) > 1


@pytest.mark.parametrize("name", STAGES)
def test_the_command_names_what_the_stage_reads_and_writes(name: str) -> None:
    stage = pipeline()[name]
    start, module, *arguments = stage["cmd"].replace('"', "").removeprefix("python ").split()
    assert (start, module) == ("-m", f"vidrnn.stages.{name}")
    main = next(node for node in tree(module).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert len(arguments) == len(main.args.args)

    outs = paths(stage, "outs", "metrics", "plots")
    data = [path for path in paths(stage, "deps") if not is_code(path) and path != CHECKED]
    data += ["vidrnn"] if name == "code" else []  # which is what it reads
    assert outs
    for path in [*outs, *data]:
        assert any(related(path, argument) for argument in arguments), path
    for argument in arguments:
        known = any(related(path, argument) for path in [*outs, *data])
        assert known or (name, argument) in READ_THROUGH_THE_LIST, argument


def is_code(path: str) -> bool:
    """Whether a dependency is code or what belongs to it."""
    return path.startswith(("vidrnn", "data/code/")) or path == LOSS


def related(one: str, other: str) -> bool:
    """Whether they are one path, or one lies in the other."""
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def test_every_input_comes_from_a_stage_or_from_the_user() -> None:
    stages = pipeline()
    made = [path for stage in stages.values() for path in paths(stage, "outs", "metrics", "plots")]
    assert len(set(made)) == len(made)
    read = {path for stage in stages.values() for path in paths(stage, "deps") if not is_code(path)}
    assert read - set(made) == {"params.yaml", "${data.videos}", "${data.labels}", *MADE_BY_HAND}


def test_every_stage_waits_until_params_are_checked() -> None:
    stages = pipeline()
    waits = {"code", "params"}
    for _ in stages:
        made = {CHECKED, *(out for name in waits for out in paths(stages[name], "outs", "metrics", "plots"))}
        waits |= {name for name, stage in stages.items() if made & set(paths(stage, "deps"))}
    assert waits == set(stages)
    assert paths(stages["params"], "outs") == [CHECKED]


# Which params a stage reads: functions are followed from the stage's module by name, and in each the attributes of what
# is annotated `Params` are noted.


def definitions(module: str) -> dict[str, ast.AST]:
    return {
        node.name: node
        for node in tree(module).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }


def reached_from(module: str) -> dict[tuple[str, str], ast.AST]:
    """Our functions and classes that a module's own may use, by (module, name)."""
    reached: dict[tuple[str, str], ast.AST] = {}
    waiting = [(module, name) for name in definitions(module)]
    while waiting:
        home, name = waiting.pop()
        node = definitions(home).get(name) if home in modules() else None
        if node is None or (home, name) in reached:
            continue
        reached[home, name] = node
        known = {local: (source, of) for source, of, local in imported_names(tree(home)) if of}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name):
                waiting.append(known.get(inner.id, (home, inner.id)))
    return reached


def leaves(key: str) -> set[str]:
    """`section` or `section.key` as `section.key`s."""
    section, _, name = key.partition(".")
    fields = Params.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    assert not name or name in fields, key
    return {f"{section}.{field}" for field in ([name] if name else fields)}


def params_read(function: ast.AST) -> set[str]:
    wholes = {
        argument.arg
        for argument in ast.walk(function)
        if isinstance(argument, ast.arg) and isinstance(argument.annotation, ast.Name)
        if argument.annotation.id == "Params"
    }
    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    wholes |= {ast.unparse(node.targets[0]) for node in assigned if ast.unparse(node.value) == "load_params()"}
    starts = {*wholes, "load_params()"}
    chains = {ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    read: set[str] = set()
    for chain in chains:
        start, _, rest = chain.partition(".")
        if start not in starts:
            continue
        section, _, key = rest.partition(".")
        if section in Params.model_fields:
            longer = any(other.startswith(f"{chain}.") for other in chains)
            key = key.split(".")[0]
            whole = key == "model_dump" or not (key or longer)
            if whole or key:
                read |= leaves(section if whole else f"{section}.{key}")
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"{whole}.model_dump" for whole in wholes}:
            include = next(keyword.value for keyword in node.keywords if keyword.arg == "include")
            read |= {leaf for section in ast.literal_eval(include) for leaf in leaves(section)}
    return read


def test_params_read_sees_the_ways_of_reading() -> None:
    program = """
def f(params: Params, other: int) -> None:
    params.train.seed, params.gate
    params.model_dump(mode="json", include={"alarms"})
    load_params().report
"""
    assert params_read(ast.parse(program)) == {
        "train.seed",
        "gate.confidence",
        "alarms.per_hour",
        "alarms.merge_seconds",
        "report.max_events",
    }


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_that_the_stage_reads(name: str) -> None:
    read = set().union(*map(params_read, reached_from(f"vidrnn.stages.{name}").values()))
    for module in needed_by(name):
        for path in data_files(module):
            for section, key in re.findall(r"\bparams\.(\w+)\.(\w+)", path.read_text(encoding="utf-8")):
                read |= leaves(f"{section}.{key}") if section in Params.model_fields else set()
    listed = {leaf for key in pipeline()[name].get("params", []) for leaf in leaves(key)}
    missing, idle = sorted(read - listed), sorted(listed - read)
    assert not missing and not idle, f"dvc.yaml, params of {name}: add {missing}, remove {idle}"


def test_dvc_ignores_what_nights_keep_beside_the_checkout_and_nothing_of_the_pipeline() -> None:
    beside = [
        ".nightly/tree/dvc.yaml",
        ".nightly/tree/data/videos/a.mp4",
        ".nightly/status.json",
        ".prefect/prefect.db",
        "vidrnn/__pycache__/gate.cpython-311.pyc",
        "vidrnn/.#gate.py",
        "vidrnn/stages/.gate.py.swp",
        "vidrnn/stages/gate.py~",
        "vidrnn/#gate.py#",
    ]
    footage = ["data/videos/gate/a.mp4", "data/videos/.nightly/a.mp4", "/mnt/footage/gate/a.mp4"]
    listed = {path for stage in pipeline().values() for path in paths(stage, "deps", "outs", "metrics", "plots")}
    assert len(listed) > 40
    command = [*DVC, "check-ignore", *beside, *footage, *sorted(path for path in listed if "$" not in path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.splitlines() == beside, told.stderr


def test_every_section_is_read_by_some_stage() -> None:
    sections = list(YAML(typ="safe").load(ROOT / "params.yaml"))
    assert sections == list(Params.model_fields)
    listed = {key.split(".")[0] for stage in pipeline().values() for key in stage.get("params", [])}
    assert listed | {"nightly"} == set(sections)  # which the flows read, no stage
    text = (ROOT / "dvc.yaml").read_text()
    assert set(re.findall(r"\$\{([\w.]+)\}", text)) == {"data.videos", "data.labels", "train.loss_file"}


def test_paths_in_code_are_those_of_the_pipeline() -> None:
    stages = pipeline()
    outs = [Path(out) for stage in stages.values() for out in paths(stage, "outs", "metrics", "plots")]
    readable = [*results.TABLES.values(), str(cli.REPORT)]
    assert len(readable) > 3
    for path in readable:
        assert any(Path(path).is_relative_to(out) for out in outs), path
    metrics = [out for stage in stages.values() for out in paths(stage, "metrics")]
    assert metrics and all(str(Path(path).parent) == results.METRICS for path in metrics)
    assert set(results.TABLES) <= set(SCHEMAS)

    values = {
        node.targets[0].id: node.value
        for node in tree("flows.retrain").body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.unparse(values["REPORT"]) == f"Path({str(cli.REPORT)!r})"
    assert ast.literal_eval(values["TARGET"]) in stages


# What is committed


@cache
def committed() -> list[str]:
    """Every file that is in the repository, or would be with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    files = sorted({name for name in listed if (ROOT / name).is_file()})
    assert len(files) > 50
    return files


def test_no_large_file_is_committed() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in committed()}
    assert not {name: size for name, size in sizes.items() if size > 1_000_000}


def test_no_path_of_a_machine_is_committed() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|work|var/folders)/[\w.-]")
    assert pattern.search("see /home" + "/me/x")
    hits = {}
    for name in committed():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if found := pattern.search(text):
            hits[name] = text[found.start() : found.start() + 60]
    assert not hits


def test_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert pyproject()["license"] == "Apache-2.0"


def pyproject() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def test_constraints_pin_what_is_installed() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    names = {canonicalize_name(name): pin for name, pin in pins.items()}
    assert len(names) > 50 and "torch" not in names  # its build is the host's choice
    wanted = [*pyproject()["dependencies"], *pyproject()["optional-dependencies"]["dev"]]
    requirements = {canonicalize_name(item.name): item for item in map(Requirement, wanted)}
    assert len(requirements) > 15
    for name, requirement in requirements.items():
        assert requirement.specifier.contains(version(name)), f"{name} {version(name)} is installed"
        if name != "torch":
            assert requirement.specifier.contains(names[name]), f"{name} is pinned to {names[name]}"
    installed = {name: version(name) for name in names}
    assert installed == names


def test_pins_that_prefect_needs() -> None:
    """Newer ones resolve and install, and then every flow (fastapi) or every schedule (SQLAlchemy) fails."""
    specifiers = {item.name: item.specifier for item in map(Requirement, pyproject()["dependencies"])}
    assert not specifiers["fastapi"].contains("0.155") and not specifiers["sqlalchemy"].contains("2.1")


# README


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def mentioned(word: str) -> bool:
    """Whether it stands somewhere as code: in backticks, or in a code block."""
    blocks = re.findall(r"```.*?\n(.*?)```", readme(), re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", readme(), flags=re.DOTALL))
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for text in [*blocks, *spans])


def test_readme_starts_with_how_to_run_and_test() -> None:
    first = re.search(r"```.*?\n(.*?)```", readme(), re.DOTALL)
    assert first and "make run" in first[1] and "make test" in first[1]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test"} <= set(targets)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("stages", STAGES),
        ("params", SECTIONS),
        ("tables", sorted(results.TABLES)),
        ("commands", [f"vidrnn {command}" for command in COMMANDS]),
    ],
)
def test_readme_names(kind: str, words: list[str]) -> None:
    assert len(words) >= 3
    assert not [word for word in words if not mentioned(word)], f"{kind} that README.md does not name as code"
