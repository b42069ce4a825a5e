"""The console command `vidrnn`. A user's mistake is one sentence and exit code 2, a failure of ours exit code 1.

What is heavy is imported inside the commands, so that `vidrnn --help` answers at once.
"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrnn import __version__, printing
from vidrnn.errors import UserError, VidrnnError, nearest, printable
from vidrnn.phrases import plural

REPORT = Path("data/report/index.html")
NIGHTLY_TREE = Path(".nightly/tree")  # where nights work
FETCHED_REPORT = Path(".nightly/report.html")  # of a night that was made elsewhere
TABLES = "videos, frames, events, detections, tracks, segments, embeddings, health, promotions, metrics"
# What tells most of a row, where a terminal has no room for all of it.
TELLING = {
    "events": ("camera_id", "recorded_at", "onset_seconds", "rarity", "reason", "event_id"),
    "videos": ("camera_id", "video_id", "status", "duration_seconds", "recorded_at", "message"),
}

commands = typer.Typer(
    help="Unlabelled video in, trusted tables out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Rev = Annotated[
    str | None,
    typer.Option(metavar="REV", help="A tag, branch or commit instead of the workspace; `latest` is the last night."),
]
_quiet = False  # set by --quiet, before a command runs
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, all of it.")]


def _table_names() -> list[str]:
    return TABLES.split(", ")


def app() -> None:
    """Run the command line; the entry point of `vidrnn`."""
    try:
        commands(prog_name="vidrnn")
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vidrnn {__version__}")
        raise typer.Exit


@commands.callback(
    epilog="Exit codes: 0 done, 1 a failure of ours, 2 a mistake that you can mend. `vidrnn COMMAND --help` has more."
)
def _options(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print what was asked for and errors, no notes and no progress.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    global _quiet
    _quiet = quiet


@commands.command()
def report(open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser, too.")] = False) -> None:
    """Say where the newest report is; `--open` opens it.

    Yours or that of the last night here, whichever is newer. Where there is neither, as in a clone, that of the last
    published night, from the DVC cache or a remote.

    Example: vidrnn report --open
    """
    from vidrnn.revisions import find_root

    root = find_root(".")
    found = [path for path in (root / REPORT, root / NIGHTLY_TREE / REPORT) if path.is_file()]
    path = max(found, key=lambda path: path.stat().st_mtime) if found else _fetched_report(root)
    with printing.output() as out:
        print(path, path.as_uri(), sep="\n", file=out)
    if open_it:
        import webbrowser

        if not webbrowser.open(path.as_uri()):
            raise UserError(f"{path}: no browser could be started here; open the file yourself")


def _fetched_report(root: Path) -> Path:
    """That of the last published night, which has been made elsewhere."""
    from vidrnn.revisions import LATEST, Repository
    from vidrnn.storage import replacing

    here, name = Repository.at(root), REPORT.as_posix()
    try:
        here.resolve(LATEST)
    except UserError:
        raise UserError(
            f"{root / REPORT}: not made yet; run `dvc repro`, or `git fetch` the nights that were published elsewhere"
        ) from None
    with here.telling(LATEST, name), here.files(LATEST, name).open_input_file(name) as file:
        body = file.read()
    with replacing(root / FETCHED_REPORT) as partial:
        partial.write_bytes(body)
    return root / FETCHED_REPORT


@commands.command()
def metrics(
    as_json: AsJson = False,
    rev: Rev = None,
) -> None:
    """Print what training and evaluation measured.

    Example: vidrnn metrics --rev HEAD~1
    """
    from vidrnn import results

    printing.measures(results.metrics(rev=rev), as_json)


@commands.command()
def table(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{TABLES}.", autocompletion=_table_names)],
    rev: Rev = None,
    camera: Annotated[str | None, typer.Option(metavar="CAMERA", help="Only rows of this camera.")] = None,
    video: Annotated[str | None, typer.Option(metavar="VIDEO", help="Only rows of this video.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Only rows recorded at or after this time.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Only rows recorded before this time.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Only these columns, in this order.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the first N rows.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print rows of a table, ordered by camera, video and time.

    Example: vidrnn table events --camera gate --columns recorded_at,reason --csv
    """
    if as_csv and as_json:
        raise UserError("--csv and --json exclude each other; give one of them")
    from vidrnn import results

    wanted = None if columns is None else [column.strip() for column in columns.split(",")]
    frame = results.load(name, rev=rev, camera=camera, video=video, start=start, end=end, columns=wanted)
    if as_csv:
        printing.csv(frame, limit)
    else:
        first = () if wanted else TELLING.get(name, ())
        printing.rows(frame, limit, as_json, _quiet, first, more="--columns A,B or --json")


@commands.command()
def columns(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{TABLES}.", autocompletion=_table_names)],
    as_json: AsJson = False,
) -> None:
    """Print what the columns of a table mean.

    Example: vidrnn columns events
    """
    from vidrnn.columns import describe
    from vidrnn.reading import schema_of

    printing.nested({column: describe(name, column) for column in schema_of(name).names}, as_json)


@commands.command()
def find(
    query: Annotated[str, typer.Argument(metavar="EVENT_ID|FILE@TIME", help="An event, or a time in a video.")],
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many moments.")] = 10,
    rev: Rev = None,
    as_json: AsJson = False,
) -> None:
    """Print the moments most like an event, or like a moment.

    Those of the same camera, reported or not.

    Example: vidrnn find gate/a.mp4@1:23.5 --limit 5
    """
    import pandas as pd

    from vidrnn.find import EXACT_WINDOWS
    from vidrnn.find import find as similar

    found = similar(query, limit, rev=rev)
    printing.rows(pd.DataFrame(found.moments), None, as_json, _quiet)
    if found.num_windows > EXACT_WINDOWS and not _quiet:
        print(
            f"{found.num_windows} windows were compared one by one; for searches among so many, put results.open"
            '("embeddings") into an approximate index: docs/search.md',
            file=sys.stderr,
        )


@commands.command()
def versions(
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print every committed version, the newest first.

    Of the data and the model, with measures, and params that differ.

    Example: vidrnn versions --limit 5
    """
    from vidrnn import results

    printing.rows(results.versions(limit=limit), limit, as_json, _quiet)


@commands.command()
def diff(
    rev_a: Annotated[str, typer.Argument(metavar="REV_A", help="The earlier revision.")],
    rev_b: Annotated[str | None, typer.Argument(metavar="REV_B", help="The later one; else the workspace.")] = None,
    name: Annotated[
        str, typer.Option("--table", metavar="NAME", help=f"{TABLES}.", autocompletion=_table_names)
    ] = "events",
    limit: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the first N rows.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what changed between two revisions.

    Which events, or rows of another table, appeared, vanished or changed.

    Example: vidrnn diff model/v11 model/v12 --json
    """
    from vidrnn import results

    printing.rows(results.diff(name, rev_a, rev_b), limit, as_json, _quiet)


@commands.command()
def lineage(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="Of the table events.")],
    rev: Rev = None,
    as_json: AsJson = False,
) -> None:
    """Print where an event comes from.

    File, hash, time, params, model and commit, searched for in the history.

    Example: vidrnn lineage 3f0c2a9d41b7e655
    """
    from vidrnn import results

    printing.nested(results.lineage(event_id, rev=rev), as_json)


@commands.command()
def doctor(as_json: AsJson = False) -> None:
    """Look for what runs need, and say what to do.

    Python, packages, torch and CUDA, FFmpeg, Ray, Prefect, Git, the checkout, the DVC remote and the disk. Exits with 1
    where runs would fail.

    Example: vidrnn doctor
    """
    from dataclasses import asdict

    from vidrnn.doctor import examine

    findings = list(examine(Path.cwd()))
    with printing.output() as out:
        if as_json:
            print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False), file=out)
        else:
            for finding in findings:
                if finding.state != "ok" or not _quiet:
                    advice = f"\n{'':20}{finding.advice}" if finding.advice else ""
                    print(f"{finding.state:8}{finding.name:12}{finding.found}{advice}", file=out)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


@commands.command()
def add(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files, or a folder a camera.")] = None,
    camera: Annotated[str | None, typer.Option(metavar="CAMERA", help="Whose footage it is.")] = None,
    link: Annotated[bool, typer.Option("--link", help="Link instead of copying.")] = False,
    watched: Annotated[
        bool, typer.Option("--watched", help="What is complete in the folders of nightly.watch.")
    ] = False,
) -> None:
    """Bring footage into the footage folder.

    A file that is there already is left as it is.

    Example: vidrnn add /media/card/DCIM --camera north-gate
    """
    import io
    from contextlib import redirect_stdout

    from vidrnn import intake
    from vidrnn.params import load_params
    from vidrnn.retired import RETIRED
    from vidrnn.revisions import find_root

    if bool(paths) == watched:
        raise UserError("give files and folders of footage, or --watched; found both or neither")
    root = find_root(".")
    params = load_params(root / "params.yaml")
    footage = intake.footage_folder(root, params.data.videos)
    with printing.output() as out:
        if paths:
            new, old = intake.add(paths, footage, camera, link)
            print(f"{plural(new, 'file')} came into {footage}, {old} were there already", file=out)
        else:
            checkout = root.parents[1] if root.match(str(NIGHTLY_TREE)) else root
            folders = [str(checkout / folder) for folder in params.nightly.watch]
            lists = [root / RETIRED]
            if (of_nights := root / NIGHTLY_TREE / RETIRED).is_file():  # which remove footage that both share
                lists.append(of_nights)
            with redirect_stdout(io.StringIO() if _quiet else sys.stderr):  # progress, which is no answer
                found = intake.take_watched(folders, footage, lists)
            for path, reason in found.waiting.items():
                print(printable(f"left for next time: {path}: {reason}"), file=out)
            print(
                f"{plural(found.taken, 'file')} came into {footage}, {len(found.waiting)} left for next time", file=out
            )


@commands.command()
def retire() -> None:
    """Remove footage that is older, or more, than you keep.

    What lies beyond nightly.keep_days and nightly.keep_gigabytes, once its features are made. Its rows and features
    stay; data/retired.csv names it.

    Example: vidrnn retire
    """
    from datetime import UTC, datetime

    from vidrnn import intake
    from vidrnn.params import load_params
    from vidrnn.revisions import find_root

    root = find_root(".")
    if (root / NIGHTLY_TREE).is_dir():  # whose own list names what is removed
        raise UserError(
            f"{root / NIGHTLY_TREE}: nights work here, and would lose the rows and features of what is removed by "
            "hand; set nightly.keep_days or nightly.keep_gigabytes in params.yaml and commit: the next night removes it"
        )
    params = load_params(root / "params.yaml")
    footage = intake.footage_folder(root, params.data.videos)
    gone = intake.retire(root, footage, params.nightly, datetime.now(UTC))
    with printing.output() as out:
        for video_id in gone:
            print(f"removed: {video_id}", file=out)
        print(f"{plural(len(gone), 'file')} removed from {footage}", file=out)


class Verdict(StrEnum):
    """What one can say of an event."""

    normal = "normal"
    unusual = "unusual"


@commands.command()
def mark(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event_id, as the report and the table show it.")],
    verdict: Annotated[Verdict, typer.Argument(metavar="normal|unusual", help="What it is.")],
    note: Annotated[str, typer.Option(help="Why, for people.")] = "",
) -> None:
    """Say of an event that it is normal or unusual.

    The next training learns from what is normal, and not from what is unusual.

    Example: vidrnn mark 3f2a9c0b6d1e4f57 normal --note "the gardener"
    """
    from vidrnn import results
    from vidrnn.feedback import FEEDBACK, Mark, add_mark
    from vidrnn.revisions import LATEST, Repository, find_root

    root = find_root(".")
    rev, found = results.event(
        Repository.at(root), event, (None, LATEST), " of the workspace or of the last published night"
    )
    footage = results.load("videos", rev=rev, video=found["video_id"], columns=["sha256"], repo=root)
    found["sha256"] = footage["sha256"].iloc[0]
    box: dict[str, Any] = {
        name: "" if found[name] is None else f"{found[name]:.1f}" for name in ("x0", "y0", "x1", "y1")
    }
    same = {name: found[name] for name in ("event_id", "camera_id", "video_id", "sha256", "onset_pts", "offset_pts")}
    said = {"verdict": verdict.value, "note": " ".join(note.split())}
    add_mark(root / FEEDBACK, Mark(**{**same, **box, **said}))
    with printing.output() as out:
        print(f"event {event} is marked as {verdict.value}; the next training takes note of it", file=out)


@commands.command()
def analyze(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video, a folder of pictures, or features.")],
    camera: Annotated[
        str | None, typer.Option(metavar="CAMERA", help="Whose model to ask; else that of the file's folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write; else FILE.vidrnn, here.")] = None,
    annotated: Annotated[
        bool, typer.Option("--annotate", help="Write a copy with boxes, trails, scores and events, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for the unusual in any file, at once.

    With the current model: prints events as they are found, and writes the tables.

    Example: vidrnn analyze north-gate.mp4 --camera north-gate --annotate
    """
    from vidrnn.params import load_params
    from vidrnn.revisions import find_root

    if not file.exists():
        raise UserError(f"{file}: no such file; expected a video, a folder of pictures or a sequence of features")
    root, target = find_root("."), out or Path(f"{file.name}.vidrnn")
    params, models = load_params(root / "params.yaml"), root / "data/model"
    import pandas as pd

    from vidrnn import analyze as one

    def tell(event: dict[str, Any]) -> None:
        if not as_json:
            seconds = f"{event['onset_seconds']:8.1f} – {event['offset_seconds']:.1f} s"
            print(f"{seconds}  score {event['peak_score']:.2f}  {event['reason']}", flush=True)

    with printing.output():
        events = one.analyze(file, one.choose_camera(models, file, camera), models, params, target, tell)
        for event in events.to_pylist():
            if event["kind"] != "unusual":  # known in the end alone
                tell(event)
    if annotated:
        one.annotate(file, target, target / "annotated.mp4")
    if as_json:
        printing.rows(events.to_pandas(types_mapper=pd.ArrowDtype), None, as_json, _quiet)
    elif not _quiet:
        print(f"{plural(events.num_rows, 'event')}; tables and pictures are in {target}")


@commands.command()
def rollback(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A published one, as in model/v3.")],
) -> None:
    """Make an earlier version the champion again.

    Brings scores and tables up to date with it, and publishes that. The candidates that came after it are not promoted
    again.

    Example: vidrnn rollback model/v3
    """
    import subprocess

    from vidrnn.revisions import Repository

    here = Repository.at(".")
    script, published = here.root / "flows/nightly.py", here.tags("model/v*")
    if not script.is_file():
        raise UserError(f"{script}: not there; run this in the checkout whose nights are to go back")
    if version not in published:
        raise UserError(f"no published version is called {version!r}; {nearest(version, published[::-1])}")
    raise SystemExit(subprocess.run([sys.executable, str(script), "--back-to", version]).returncode)


if __name__ == "__main__":
    app()
