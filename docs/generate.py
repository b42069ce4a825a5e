"""Write docs/reference.md from the code: `python -m docs.generate`. A test compares the file with what this makes."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML

from vidrnn import cli, find, neighbours, results, schema
from vidrnn.columns import describe
from vidrnn.params import Params

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100  # characters, of what commands say of themselves
REFERENCE = ROOT / "docs/reference.md"


def reference() -> str:
    """The whole page."""
    head = "# Reference\n\nWritten from the code by `python -m docs.generate`; do not edit it by hand.\n"
    return "\n".join([head, *_params(), *_tables(), *_commands(), *_python()])


def _params() -> Iterator[str]:
    yield "## Params\n\n`params.yaml` holds every one of them; a missing or an unknown key is an error.\n"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    values = YAML(typ="safe").load(text)
    for section, field in Params.model_fields.items():
        yield f"### `{section}`\n\n{_first(field.annotation)}\n\n| key | here | |\n|---|---|---|"
        for key, value in values[section].items():
            yield f"| `{section}.{key}` | `{_shown(value)}` | {_comment(text, section, key)} |"
        yield ""


def _comment(text: str, section: str, key: str) -> str:
    """What `params.yaml` says of a key: behind it, or on the lines above."""
    lines = text[re.search(rf"^{section}:", text, re.MULTILINE).start() :].splitlines()  # type: ignore[union-attr]
    at = next(k for k, line in enumerate(lines) if line.startswith(f"  {key}:"))
    above: list[str] = []
    for line in reversed(lines[1:at]):
        if not line.lstrip().startswith("#"):
            break
        above.insert(0, line.strip(" #"))
    behind = re.search(r"\s#\s(.*)$", lines[at])
    return " ".join([*above, *([behind[1]] if behind else [])]).replace("|", "\\|")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if value is None or isinstance(value, bool) else value
    return str(text).replace("|", "\\|")


def _tables() -> Iterator[str]:
    yield "## Tables\n\n`results.load(NAME)` and `vidrnn table NAME`. Intervals are [onset, offset); boxes are pixels"
    yield "of the picture as displayed, end excluded; a higher score is more unusual.\n"
    source = inspect.getsource(schema)
    for name, path in results.TABLES.items():
        said = re.search(rf'((?:    # .*\n)+)    "{name}": _schema', source)
        told = " ".join(line.strip(" #") for line in said[1].splitlines()) if said else ""
        yield f"### `{name}`\n\n{told} In `{path}`.\n\n| column | type | |\n|---|---|---|"
        for field in schema.SCHEMAS[name]:
            null = "" if not field.nullable or "null" in describe(name, field.name) else "; may be null"
            yield f"| `{field.name}` | {field.type} | {describe(name, field.name)}{null} |"
        yield ""


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    group: Any = typer.main.get_command(cli.commands)
    context = group.make_context("vidrnn", [], resilient_parsing=True, terminal_width=WIDTH)
    for name, command in sorted(group.commands.items()):
        with command.make_context(name, [], parent=context, resilient_parsing=True, terminal_width=WIDTH) as inner:
            yield f"### `vidrnn {name}`\n\n```\n{command.get_help(inner).rstrip()}\n```\n"


def _python() -> Iterator[str]:
    yield "## Python\n\n`from vidrnn import results`; what is like what: `from vidrnn import find, neighbours`\n"
    names = ("load", "open", "metrics", "metrics_table", "versions", "diff", "lineage")
    for function in (*(getattr(results, name) for name in names), find.find, neighbours.moments):
        arguments = ", ".join(
            parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
            for parameter in inspect.signature(function).parameters.values()
        )
        module = function.__module__.removeprefix("vidrnn.")
        yield f"### `{module}.{function.__name__}({arguments})`\n\n```\n{inspect.getdoc(function)}\n```\n"


def _first(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
