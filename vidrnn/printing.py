"""What commands print: rows and nested values, as JSON, CSV, or a table for the eye that no name in it can command."""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from vidrnn.phrases import leaves

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 20  # of a table that is read by eye, unless --limit says otherwise
CELL_WIDTH = 40  # characters, by eye
TOLD_COLUMNS = 30  # names of columns for which a terminal has no room


@contextmanager
def output() -> Iterator[TextIO]:
    """Yield standard output; a reader that has seen enough, such as `head`, ends the program without a word."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit would fail again
        raise typer.Exit from None


def rows(
    frame: "pd.DataFrame",
    limit: int | None,
    as_json: bool,
    quiet: bool,
    first: Sequence[str] = (),
    more: str = "--json",
) -> None:
    """All rows, or the first `limit`, as JSON; by eye no more than a screenful unless asked for.

    Args:
        frame: the rows.
        limit: how many of them.
        as_json: whether a program reads them.
        quiet: without notes.
        first: columns that stand first on a terminal, where not all have room.
        more: the option that shows the others.
    """
    with output() as out:
        if as_json:
            records = _plain(frame.head(limit) if limit is not None else frame).to_dict("records")
            lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
            print("[", ",\n ".join(lines), "]", sep="", file=out)
            return
        shown = frame.head(SHOWN_ROWS if limit is None else limit)
        if out.isatty():
            shown = shown[[*first, *(name for name in shown.columns if name not in first)]]
        hidden: list[str] = []
        if len(shown):
            grid, hidden = _grid(_lists_as_text(_plain(shown)), out)
            out.write(grid)
        if quiet:
            return
        if hidden:
            left = "" if len(hidden) <= TOLD_COLUMNS else f" and {len(hidden) - TOLD_COLUMNS} others"
            print(f"{len(hidden)} more columns, with {more}: {', '.join(hidden[:TOLD_COLUMNS])}{left}", file=out)
        counted = f"{len(frame)} row{'' if len(frame) == 1 else 's'}"
        print(counted if len(shown) == len(frame) else f"{counted}, the first {len(shown)} shown", file=out)


def csv(frame: "pd.DataFrame", limit: int | None) -> None:
    """All rows, or the first `limit`, as CSV; lists as JSON text."""
    with output() as out:
        _lists_as_text(_plain(frame.head(limit) if limit is not None else frame)).to_csv(out, index=False)


def nested(found: dict[str, Any], as_json: bool) -> None:
    """Nested objects, as JSON or as a table of their innermost values."""
    _named(found, as_json, ["name", "value"], ([name, _text(value)] for name, value in leaves(found)))


def measures(found: dict[str, Any], as_json: bool) -> None:
    """Nested measures; in the table each stands on a line with its interval."""
    columns = ("value", "low", "high")
    told = (
        (name, [one.get(column) for column in columns] if isinstance(one, dict) else [one, None, None])
        for name, one in leaves(found, until="value")
    )
    lines = ([name, *("" if value is None else _text(value) for value in values)] for name, values in told)
    _named(found, as_json, ["name", *columns], lines)


def _named(found: dict[str, Any], as_json: bool, columns: list[str], lines: Iterator[list[str]]) -> None:
    with output() as out:
        if as_json:
            print(json.dumps(found, indent=2, ensure_ascii=False), file=out)
        else:
            import pandas as pd

            out.write(_grid(pd.DataFrame(lines, columns=columns), out)[0])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Times as ISO 8601 text, single-precision numbers by their shortest digits (0.1, not 0.10000000149), no NaN."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = pa.Table.from_pandas(frame, preserve_index=False)
    for place, field in enumerate(columns.schema):
        if pa.types.is_timestamp(field.type):
            texts = pc.strftime(columns[field.name], "%Y-%m-%dT%H:%M:%SZ")
            columns = columns.set_column(place, field.name, texts)
        elif pa.types.is_floating(field.type):
            digits = columns[field.name]
            if pa.types.is_float32(field.type):
                digits = digits.cast(pa.string()).cast(pa.float64())
            numbers = pc.if_else(pc.is_nan(digits), pa.scalar(None, pa.float64()), digits)
            columns = columns.set_column(place, field.name, numbers)
    plain: pd.DataFrame = columns.to_pandas(types_mapper=pd.ArrowDtype)
    return plain


def _lists_as_text(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same, with lists as JSON text, for where a cell is text."""
    import pandas as pd
    import pyarrow as pa

    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.ArrowDtype) and (
            pa.types.is_list(dtype.pyarrow_dtype) or pa.types.is_fixed_size_list(dtype.pyarrow_dtype)
        ):
            frame[name] = [None if value is None else json.dumps(list(value)) for value in frame[name].array]
    return frame


def _grid(frame: "pd.DataFrame", out: TextIO) -> tuple[str, list[str]]:
    """A table for the eye, and the columns that it leaves out: on a terminal those that do not fit, elsewhere none."""
    import pandas as pd
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = {
        str(name): ["" if pd.isna(value) else _cell(value) for value in frame[name].tolist()] for name in frame.columns
    }
    widths = {name: max(map(cell_len, [name, *texts])) for name, texts in cells.items()}
    console = Console(file=out)
    if out.isatty():
        widths = {name: min(width, CELL_WIDTH) for name, width in widths.items()}
        taken = 1
        fitting: list[str] = []
        for name, width in widths.items():
            taken += width + 3
            if taken > console.width and fitting:
                break
            fitting.append(name)
    else:
        fitting = list(cells)
        console = Console(file=out, width=1 + sum(width + 3 for width in widths.values()))
    grid = Table()
    for name in fitting:
        grid.add_column(Text(name), no_wrap=True, overflow="ellipsis", max_width=widths[name])
    for row in zip(*(cells[name] for name in fitting), strict=True):
        grid.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(grid)
    return captured.get(), [name for name in cells if name not in fitting]


def _cell(value: Any) -> str:
    """A value on one line: numbers to six digits, times to the second where they are whole ones."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.0+Z$", r"\1Z", str(value))
    return "".join(character if character.isprintable() else " " for character in text)
