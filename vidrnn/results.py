"""The public API: any table or measure, of the workspace or of any Git revision, as a DataFrame, a dataset or a dict.

    from vidrnn import results
    events = results.load("events", camera="gate", start="2026-03-01")
    before = results.load("events", rev="HEAD~1", columns=["onset_seconds", "peak_score"])
    night = results.load("events", rev="latest", repo="git@host:us/vidrnn.git")
    results.metrics()["evaluate"]
    results.diff("events", "HEAD~1", "HEAD")
    results.lineage(events["event_id"][0])

Only what is asked for is read: cameras and videos choose files, columns and times are pushed down to Parquet. `repo` is
any folder inside a checkout, or the URL of a repository elsewhere; `rev` a tag, a branch, a commit, an experiment, or
`latest`, the last published night.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from ruamel.yaml import YAML

from vidrnn.errors import SchemaError, UserError, nearest
from vidrnn.phrases import leaves, plural
from vidrnn.reading import ORDER, check_known, condition_of, instant, open_dataset, read_in_order, read_rows, schema_of
from vidrnn.reading import TABLES as TABLES
from vidrnn.revisions import PUBLISHED as PUBLISHED
from vidrnn.revisions import Commit, Repository, inputs, outputs, params
from vidrnn.schema import SCHEMAS, validate

METRICS = "data/metrics"  # a JSON file a stage
MODEL = "data/model"

# What tells the rows of a table from one another, as far as it has these.
_KEY = (*ORDER, "night", "event_id", "segment_id", "measure", "name")
_SHORT = 12  # hex digits of a commit or of a hash, where a person reads it


def load(
    name: str,
    rev: str | None = None,
    camera: str | None = None,
    video: str | None = None,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    columns: Sequence[str] | None = None,
    repo: str | Path = ".",
) -> pd.DataFrame:
    """Load rows of a table, ordered by camera, video and time; every column keeps its Arrow type.

    Args:
        name: `videos`, `frames`, `events`, `detections`, `tracks`, `segments`, `embeddings`, `health`, `promotions` or
            `metrics`.
        rev: a Git revision, read from the DVC cache or a remote; None reads the workspace.
        camera: only rows of this `camera_id`.
        video: only rows of this `video_id`, the path relative to the footage folder.
        start: only rows with `recorded_at` at or after this time; without a zone it is UTC.
        end: only rows with `recorded_at` before this time. Rows without a time never match `start` or `end`.
        columns: of the table, in the order wanted; None takes all.
        repo: any folder inside the checkout, or a URL.

    Raises:
        UserError: there is no such table, column, camera, video, revision or footage of that time, or its data is not
            here.
        SchemaError: a file breaks its contract or was written with another schema version.
    """
    schema = schema_of(name)
    if isinstance(columns, str):
        raise UserError(f"`columns` should be a list of names, found {columns!r}; write [{columns!r}]")
    wanted = schema.names if columns is None else list(columns)
    for column in wanted:
        if column not in schema.names:
            raise UserError(f"{name} has no column {column!r}; {nearest(column, schema.names)}")
    for argument, column, value in (
        ("camera", "camera_id", camera),
        ("video", "video_id", video),
        ("start", "recorded_at", start),
        ("end", "recorded_at", end),
    ):
        if value is not None and column not in schema.names:
            raise UserError(f"{name} has no column {column!r}, so that `{argument}` cannot choose among its rows")

    here = Repository.at(repo)
    order = [column for column in ORDER if column in schema.names]
    since, until = instant("start", start), instant("end", end)
    condition = condition_of(camera, video, since, until)
    with here.telling(rev, TABLES[name]):
        table = read_in_order(open_dataset(here, rev, name, camera, video), wanted, order, condition)
    validate(table, pa.schema([schema.field(column) for column in wanted]), f"{TABLES[name]}{here.of(rev)}")
    if not table.num_rows and not (camera is None and video is None and since is None and until is None):
        check_known(here, rev, name, camera, video, since, until)
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def open(name: str, rev: str | None = None, repo: str | Path = ".") -> ds.Dataset:
    """Open a table without reading it: for DuckDB, Polars, or a table that does not fit into memory.

        duckdb.sql("select camera_id, count(*) from events group by 1")  # events = results.open("events")
        polars.scan_pyarrow_dataset(results.open("frames"))

    Args:
        name: as of `load`, and so are the others.

    Raises:
        UserError: there is no such table or revision.
        SchemaError: a file breaks its contract or was written with another schema version.
    """
    schema_of(name)
    here = Repository.at(repo)
    with here.telling(rev, TABLES[name]):
        return open_dataset(here, rev, name, None, None)


def metrics(rev: str | None = None, repo: str | Path = ".") -> dict[str, Any]:
    """Load what the stages measured, as in `data/metrics/*.json`: `{"evaluate": {...}, "train": {...}}`.

    Args:
        rev: a Git revision; None reads the workspace.
        repo: any folder inside the checkout, or a URL.

    Raises:
        UserError: there is no such revision, or nothing has been measured yet.
        SchemaError: a file is not JSON.
    """
    here = Repository.at(repo)
    measured = _metrics(here, rev)
    if not measured:
        name = here.named(rev)
        raise UserError(
            f"revision {name!r} holds no {METRICS}: nothing had been measured"
            if name
            else f"{METRICS}: not made yet in {here}; run `dvc repro`, or `git checkout` what was made elsewhere"
        )
    return measured


def metrics_table(revs: Sequence[str | None], repo: str | Path = ".") -> pd.DataFrame:
    """Compare revisions: a row each, a column a measure, and one a param that is not the same in all of them.

    Args:
        revs: Git revisions; None among them is the workspace.
        repo: any folder inside the checkout, or a URL.

    Returns:
        The columns `rev`, `metrics.STAGE.NAME...` (of a measure with an interval, its value) and `params.SECTION.KEY`.

    Raises:
        UserError: there is no such revision.
        SchemaError: a file of one cannot be read.
    """
    here = Repository.at(repo)
    locks = [here.lock(rev) for rev in revs]
    return _compared([{"rev": rev} for rev in revs], list(revs), locks, here)


def versions(repo: str | Path = ".", limit: int | None = None) -> pd.DataFrame:
    """Tell every version of the data and the model that was committed, the newest first.

    Args:
        repo: any folder inside the checkout, or a URL.
        limit: only so many, at least 1; nothing is read of the others.

    Returns:
        A row a commit that changed `dvc.lock`, on any branch or tag: `commit`, `date` (UTC), `refs` (tags and branches
        that point at it), `subject`, the start of the MD5 of the `footage`, the `model` and the `tables`, and the
        columns of `metrics_table`.

    Raises:
        UserError: there is no Git history.
        SchemaError: a file of it cannot be read.
    """
    here = Repository.at(repo)
    commits = here.history(limit)
    if not commits:
        raise UserError(f"{here}: no version was committed yet; `git add dvc.lock data/metrics` and commit")
    rows = []
    for commit in commits:
        made, read = outputs(commit.lock), inputs(commit.lock)
        footage = _footage(here, commit.sha)
        hashes = (made | read).get(footage), made.get(MODEL), made.get(_out_of(made, TABLES["events"]))
        rows.append(
            {
                "commit": commit.sha[:_SHORT],
                "date": pd.Timestamp(commit.date).tz_convert("UTC"),
                "refs": ", ".join(commit.refs),
                "subject": commit.subject,
                **{
                    name: found and found[:_SHORT]
                    for name, found in zip(("footage", "model", "tables"), hashes, strict=True)
                },
            }
        )
    return _compared(rows, [commit.sha for commit in commits], [commit.lock for commit in commits], here)


def diff(name: str, rev_a: str | None, rev_b: str | None, repo: str | Path = ".") -> pd.DataFrame:
    """Tell how a table differs between two revisions.

    Two rows are the same one if their ids, frame or name are. Events are the same, too, if they are of one
    kind and overlap in one video: another model may see one begin a moment earlier. `model_version` alone is no change.

    Args:
        name: of a table.
        rev_a, rev_b: the earlier and the later one; None is the workspace.
        repo: any folder inside the checkout, or a URL.

    Returns:
        The rows that differ, with the columns of the table as in `rev_b` (of what vanished, as in `rev_a`), after
        `change`: `appeared`, `vanished` or `changed`, and `differs`: the names of the columns that changed. For each of
        these there is one more, `before_NAME`.

    Raises:
        as `load`.
    """
    schema = schema_of(name)
    here = Repository.at(repo)
    before, after = (read_rows(here, rev, name, schema.names).to_pylist() for rev in (rev_a, rev_b))
    compared = [column for column in schema.names if column != "model_version"]
    rows: list[dict[str, Any]] = []
    for old, new in _paired(schema, before, after):
        if old is None or new is None:
            rows.append({"change": "appeared" if old is None else "vanished", "differs": [], **(new or old or {})})
            continue
        differs = [column for column in compared if repr(old[column]) != repr(new[column])]  # a NaN is a NaN
        if differs:
            was = {f"before_{column}": old[column] for column in differs}
            rows.append({"change": "changed", "differs": differs, **new, **was})
    changed = [column for column in schema.names if any(column in row["differs"] for row in rows)]
    fields = [pa.field("change", pa.string()), pa.field("differs", pa.list_(pa.string())), *schema]
    fields += [pa.field(f"before_{column}", schema.field(column).type) for column in changed]
    rows.sort(key=lambda row: [row[column] for column in ORDER if column in row])
    table = pa.Table.from_pylist(rows, schema=pa.schema([field.with_nullable(True) for field in fields]))
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def lineage(event_id: str, rev: str | None = None, repo: str | Path = ".") -> dict[str, Any]:
    """Tell where an event comes from: the file, the moment, the model, the params and the commit.

    Args:
        event_id: of the table `events`.
        rev: a Git revision; None looks in the workspace and then in the history, the newest first.
        repo: any folder inside the checkout, or a URL.

    Returns:
        `event_id`, `camera_id`, `video_id`, `file` (relative to the checkout, or where the footage is), `sha256`,
        `onset_pts`, `offset_pts`, `time_base` (seconds a tick), `onset_seconds`, `recorded_at`, `reason`,
        `model_version`; `commit`, `date` and `subject` of the commit that first held these tables, and
        `model_commit` of the one that first held this model (None where nothing was committed yet); `footage`, `model`
        and `tables`, their MD5; `params`, those that were used, by dotted name.

    Raises:
        UserError: no such event is known.
        SchemaError: a file cannot be read.
    """
    here = Repository.at(repo)
    history = here.history()
    if rev is not None:
        return _lineage(here, *event(here, event_id, [rev], here.of(rev)), history)
    found = event(here, event_id, _with_tables(here, history), " of the workspace or the history")
    return _lineage(here, *found, history)


def event(
    here: Repository, event_id: str, revs: Iterable[str | None], whose: str, advice: str = ""
) -> tuple[str | None, dict[str, Any]]:
    """The first of some revisions that has an event, and its row.

    Args:
        here: where to look.
        event_id: of the table `events`.
        revs: the revisions, None the workspace; no more are read than needed.
        whose: for the sentence, as " of the workspace".
        advice: ends it.

    Raises:
        UserError: none has it, or none can be read.
        SchemaError: a file cannot be read.
    """
    known: set[str] = set()
    beyond: list[UserError] = []
    searched = 0
    for rev in revs:
        try:
            found = read_rows(here, rev, "events", SCHEMAS["events"].names, pc.field("event_id") == event_id)
            if found.num_rows:
                return rev, found.to_pylist()[0]
            known |= set(read_rows(here, rev, "events", ["event_id"])["event_id"].to_pylist())
            searched += 1
        except UserError as error:
            beyond.append(error)
    if beyond and not searched:
        raise beyond[0]
    told = f"; {plural(len(beyond), 'version')} could not be searched: {beyond[0]}" if beyond else ""
    raise UserError(f"no event{whose} is called {event_id!r}; {nearest(event_id, sorted(known))}{advice}{told}")


def _metrics(here: Repository, rev: str | None) -> dict[str, Any]:
    measured = {}
    for path in here.names(rev, METRICS):
        text = here.read(rev, path) if path.endswith(".json") else None
        if text is None:
            continue
        try:
            measured[PurePosixPath(path).stem] = json.loads(text)
        except ValueError as error:
            raise SchemaError(f"{path}{here.of(rev)}: not JSON ({error}); run `dvc repro`") from None
    return measured


def _compared(
    rows: list[dict[str, Any]], revs: Sequence[str | None], locks: list[dict[str, Any]], here: Repository
) -> pd.DataFrame:
    """The rows, with the measures of their revisions, and the params that differ among them."""
    used = [params(lock) for lock in locks]
    names = sorted({name for one in used for name in one})
    differ = [name for name in names if any(one.get(name) != used[0].get(name) for one in used)]
    whole = []
    for row, rev, one in zip(rows, revs, used, strict=True):
        values = {
            f"metrics.{name}": measure["value"] if isinstance(measure, dict) else measure
            for name, measure in leaves(_metrics(here, rev), until="value")
        }
        whole.append({**row, **values, **{f"params.{name}": _plain(one.get(name)) for name in differ}})
    return pd.DataFrame(whole).convert_dtypes(dtype_backend="pyarrow")


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _footage(here: Repository, rev: str | None) -> str:
    """`data.videos`, as it was."""
    text = here.read(rev, "params.yaml")
    raw = YAML(typ="safe").load(text.decode()) if text else {}
    return str(raw.get("data", {}).get("videos", "data/videos"))


def _out_of(made: dict[str, str], path: str) -> str:
    """The output that `path` is, or lies in."""
    return next((out for out in made if PurePosixPath(path).is_relative_to(out)), path)


def _with_tables(here: Repository, history: list[Commit]) -> Iterator[str | None]:
    """The workspace, if there is one, and of each version of the tables the newest commit that has it."""
    if here.url is None:
        yield None
    seen = set()
    for commit in history:
        made = outputs(commit.lock)
        digest = made.get(_out_of(made, TABLES["events"]))
        if digest is not None and digest not in seen:
            seen.add(digest)
            yield commit.sha


def _paired(
    schema: pa.Schema, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Each row with what it was; None for what is only in one of them."""
    key = [column for column in _KEY if column in schema.names]
    waiting: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in before:
        waiting.setdefault(tuple(row[column] for column in key), []).append(row)
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    fresh = []
    for row in after:
        alike = waiting.get(tuple(row[column] for column in key))
        if alike:
            pairs.append((alike.pop(0), row))
        else:
            fresh.append(row)
    gone = [row for rows in waiting.values() for row in rows]
    if "event_id" in schema.names:
        of_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
        for k, row in enumerate(gone):
            of_kind[row["video_id"], row["kind"]].append(k)
        overlaps = [
            (overlap, k, m)
            for m, new in enumerate(fresh)
            for k in of_kind[new["video_id"], new["kind"]]
            if (overlap := _overlap(gone[k], new)) > 0
        ]
        for _, k, m in sorted(overlaps, key=lambda found: (-found[0], *found[1:])):
            old, new = gone[k], fresh[m]
            if old and new:
                pairs.append((old, new))
                gone[k], fresh[m] = {}, {}
    return [*pairs, *((row, None) for row in gone if row), *((None, row) for row in fresh if row)]


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Ticks that two events of one video share; negative are those between them."""
    return int(min(one["offset_pts"], other["offset_pts"]) - max(one["onset_pts"], other["onset_pts"]))


def _first_with(history: list[Commit], path: str, digest: str | None) -> Commit | None:
    """The oldest commit that holds an output with these bytes."""
    return next((commit for commit in reversed(history) if digest and outputs(commit.lock).get(path) == digest), None)


def _lineage(here: Repository, rev: str | None, row: dict[str, Any], history: list[Commit]) -> dict[str, Any]:
    of_video = pc.field("video_id") == row["video_id"]
    (video,) = read_rows(here, rev, "videos", ["sha256", "time_base_num", "time_base_den"], of_video).to_pylist()
    lock = here.lock(rev)
    made, footage = outputs(lock), _footage(here, rev)
    tables = _out_of(made, TABLES["events"])
    first = _first_with(history, tables, made.get(tables))
    model = _first_with(history, MODEL, made.get(MODEL))
    names = ("event_id", "camera_id", "video_id", "onset_pts", "offset_pts", "onset_seconds", "reason", "model_version")
    return {
        **{name: row[name] for name in names},
        "recorded_at": row["recorded_at"] and row["recorded_at"].isoformat(),
        "file": f"{footage}/{row['video_id']}",
        "sha256": video["sha256"],
        "time_base": f"{video['time_base_num']}/{video['time_base_den']}",
        "commit": first and first.sha,
        "date": first and first.date.isoformat(),
        "subject": first and first.subject,
        "model_commit": model and model.sha,
        "footage": (made | inputs(lock)).get(footage),
        "model": made.get(MODEL),
        "tables": made.get(tables),
        "params": params(lock),
    }
