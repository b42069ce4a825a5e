"""Every night by itself. `python flows/nightly.py` serves the night on its schedule; `--now` runs one and ends.

A night takes the code and the parameters that the checkout has committed into the nightly's own worktree, trains a
candidate against the last published champion, brings everything after it up to date, and publishes what came out.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

# Python 3.11 keeps the compiled copy of a module that a full disk cut short, and fails at it in every night after.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # of all that a night starts

# First: it sets what Prefect reads when it is imported.
from retrain import (
    REPORT,
    ROOT,
    STAGE_TIMEOUT_SECONDS,
    TARGET,
    bring_up_to_date,
    nothing_to_do,
    print_rows,
    stop_in_order,
)

# isort: split
from curves import SCORES, picture_of
from dvc_cli import DvcError, is_stale, run, run_module, up_to_date, upstream
from footage import no_footage, told
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.runtime import flow_run
from prefect.server.schemas.schedules import CronSchedule as CronDates
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Completed, Failed
from publish import (
    NightError,
    Published,
    alone,
    footage_pointer,
    git,
    go_back,
    home,
    model_tags,
    prepare,
    publish,
    push,
    set_champion,
    set_start,
)
from ruamel.yaml import YAML
from tell import tell

NAME = "nightly"
INTAKE_SECONDS = 12 * 3600.0
SENT_SECONDS = 20.0  # that what is still to be told to the server may take in the end
SERVER_SECONDS = 120.0  # to start, on a slow machine for the first time
KEPT_BY_ROLLBACK = ("index", "features", "train")  # stages whose outputs stay as they were published


@task(name="take over the code", cache_policy=NO_CACHE)
def begin(checkout: Path) -> Path:
    """Bring the nightly's worktree to the last published night, with what the checkout has committed since."""
    return prepare(checkout, get_run_logger().info)


@task(name="take in footage", cache_policy=NO_CACHE)
def take_in(folder: Path) -> None:
    """Update what DVC imports, take in what is complete in watched folders, and remove what is kept no longer."""
    params, log = YAML(typ="safe").load(folder / "params.yaml"), get_run_logger()
    pointer = footage_pointer(folder)
    if pointer and "deps" in YAML(typ="safe").load(folder / pointer):
        try:
            run(["update", pointer], folder, log.info, INTAKE_SECONDS)
        except DvcError as error:
            log.warning("the footage stays as it is, its source cannot be reached: %s", error)
            # DVC has removed it by then, or put a part of what is new in its place.
            run(["checkout", "-q", "-f", pointer], folder, log.info, INTAKE_SECONDS)
    elif pointer:  # of `dvc add`: the footage that the checkout has committed
        run(["checkout", "-q", pointer], folder, log.info, INTAKE_SECONDS)
    if params["nightly"]["watch"]:
        run_module("vidrnn.cli", ["add", "--watched"], folder, log.info, INTAKE_SECONDS)
    if params["nightly"]["keep_days"] or params["nightly"]["keep_gigabytes"]:
        run_module("vidrnn.cli", ["retire"], folder, log.info, INTAKE_SECONDS)


@task(name="set champion and start", cache_policy=NO_CACHE)
def challenge(folder: Path, checkout: Path) -> None:
    """Make the last published models the champion, and mostly the start, of a candidate; without one, all stays."""
    if is_stale("train", folder) and set_champion(folder):
        params = YAML(typ="safe").load(folder / "params.yaml")
        warm = set_start(folder, git(checkout, "rev-parse", "HEAD"), params["nightly"]["scratch_every"])
        get_run_logger().info("the candidate starts from %s", "the champion" if warm else "scratch")


@task(name="go back", cache_policy=NO_CACHE)
def return_to(folder: Path, version: str, stages: Sequence[str]) -> None:
    """Make an earlier version the champion again."""
    go_back(folder, version, stages, get_run_logger().info)


@task(name="publish", cache_policy=NO_CACHE)
def commit(folder: Path, subject: str) -> Published:
    """Commit the night on the nightly's branch, and tag new models."""
    return publish(folder, subject)


@task(name="push", cache_policy=NO_CACHE)
def send(folder: Path) -> str:
    """Send the data to the remote, if there is one; a remote that is away fails nothing."""
    return push(folder, get_run_logger().warning)


@task(name="tell people", cache_policy=NO_CACHE)
def tell_people(status: dict[str, Any]) -> None:
    """Tell of a failure, new events or cameras without footage, where that is set up."""
    tell(status, get_run_logger().warning)


@flow(name="night")
def night(
    checkout: Path, version: str | None = None, stage_timeout_seconds: float = STAGE_TIMEOUT_SECONDS
) -> dict[str, Any] | State[Any]:
    """Run a night, whole.

    Args:
        checkout: whose footage and committed code it works with, and which it leaves as it is.
        version: a published one, as in `model/v3`, to which to go back instead of training; None trains.
        stage_timeout_seconds: after which a stage is ended, which fails the night.

    Returns:
        What the status file says; or a failed state that says what went wrong, and nothing is published.
    """
    checkout = checkout.resolve()  # a deployment says `.`, and Git and DVC run elsewhere
    try:
        with alone(checkout):
            return _night(checkout, version, stage_timeout_seconds)
    except NightError as error:
        return Failed(message=str(error))


def _night(checkout: Path, version: str | None, stage_timeout_seconds: float) -> dict[str, Any] | State[Any]:
    last, due = read_status(checkout), flow_run.get_scheduled_start_time()
    if last.get("state") == "completed" and due and due < datetime.fromisoformat(last["started"]):
        return Completed(message=f"made up for already: a night that began at {last['started']} has been completed")
    status: dict[str, Any] = {"state": "running", "message": "", "started": datetime.now(UTC).isoformat()}
    write_status(checkout, status)
    rows: list[dict[str, Any]] = []
    try:
        folder = begin(checkout)
        stages = upstream(TARGET, folder)
        if version is not None:
            return_to(folder, version, stages)
            stages = [stage for stage in stages if stage not in KEPT_BY_ROLLBACK]
        else:
            take_in(folder)
        if up_to_date(TARGET, folder):
            rows += nothing_to_do(stages)
            stages = []
        for stage in stages:
            if stage == "train":
                challenge(folder, checkout)
            bring_up_to_date(stage, folder, stage_timeout_seconds, rows)
        warn = get_run_logger().warning
        differences = compare(folder, warn)
        status["new_events"], status["new_in_older_footage"] = new_events(folder, warn)
        status["no_footage"] = no_footage(folder, datetime.fromisoformat(status["started"]), warn)
        if status["no_footage"]:
            warn("%s", "; ".join(told(status["no_footage"])))
            words = "Cameras that gave no footage for this night"
            create_table_artifact(key="no-footage", table=status["no_footage"], description=words)
        if (folder / SCORES).is_file():
            create_image_artifact(image_url=picture_of(folder / SCORES), key="scores", description="Scores of frames")
        create_markdown_artifact(key="metrics", markdown=differences, description="Measures against the last night")
        create_link_artifact(key="report", link=(folder / REPORT).as_uri(), description="The report of this night")
        published = commit(folder, _subject(version))
        status |= {"commit": published.commit, "model": published.tag, "report": str(folder / REPORT)}
        status["state"] = "completed"
    except (DvcError, NightError, OSError) as error:  # the last where, say, there is no space
        status |= {"state": "failed", "message": str(error)}
    except BaseException as error:  # no time for a task
        if isinstance(error, Exception):
            status |= {"state": "failed", "message": repr(error)}
        else:  # a signal
            again = "the next start of `python flows/nightly.py` makes up for it"
            status |= {"state": "stopped", "message": f"the night was stopped ({error!r}); {again}"}
        _end(checkout, status, rows)
        tell(status, get_run_logger().warning)
        raise
    _end(checkout, status, rows)
    tell_people(status)
    create_table_artifact(key="stages", table=rows, description="What each stage did, in order")
    if status["state"] == "completed":  # whatever happens from here on: it is published, and the next night sends it
        status["remote"] = send(folder)
        _end(checkout, status, rows)
    return Failed(message=status["message"]) if status["state"] == "failed" else status


def _end(checkout: Path, status: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    status |= {"ended": datetime.now(UTC).isoformat(), "stages": rows}
    write_status(checkout, status)


def _subject(version: str | None) -> str:
    return f"Night of {datetime.now():%Y-%m-%d}" if version is None else f"Back to {version}"


def compare(folder: Path, log: Callable[[str], None]) -> str:
    """The measures beside those of the last published night, as Markdown.

    Where that night cannot be read any more, this one is published all the same: the log says why it is not compared.
    """
    lines: list[str] = []
    try:
        run(["metrics", "diff", "--md", "HEAD"], folder, lines.append, timeout_seconds=300.0)
    except DvcError as error:
        log(f"the measures cannot be compared with those of the last published night: {error}")
        return "The measures of the last published night cannot be read."
    return "\n".join(lines) or "Every measure is as it was."


def new_events(folder: Path, log: Callable[[str], None]) -> tuple[list[dict[str, Any]], int]:
    """The events of footage that came in since the last published night, and how many are new in older footage.

    The latter, which another model finds after a promotion, may be of weeks ago. None and 0 where there is no night to
    compare with or that night's tables cannot be had any more, or have other columns: the log says so.
    """
    if not model_tags(folder) or not (folder / "data/tables").is_dir():
        return [], 0
    try:
        videos, events = (_differences(folder, table) for table in ("videos", "events"))
    except NightError as error:
        log(f"new events cannot be told, by comparison with the last published night: {error}")
        return [], 0
    came = {row["video_id"] for row in videos if row["change"] == "appeared" or "sha256" in row["differs"]}
    appeared = [row for row in events if row["change"] == "appeared"]
    new = [row for row in appeared if row["video_id"] in came]
    names = ("event_id", "camera_id", "video_id", "recorded_at", "kind", "reason")
    return [{name: row[name] for name in names} for row in new], len(appeared) - len(new)


def _differences(folder: Path, table: str) -> list[dict[str, Any]]:
    """What `vidrnn diff` says of a table since the last published night."""
    command = [sys.executable, "-m", "vidrnn.cli", "diff", "HEAD", "--table", table, "--json"]
    try:  # not `run_module`, whose lines hold warnings, too
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600.0)
    except subprocess.TimeoutExpired as error:
        raise NightError(str(error)) from None
    if done.returncode:
        raise NightError(done.stderr.strip())
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def status_file(checkout: Path) -> Path:
    """What the last night did, as JSON."""
    return home(checkout) / "status.json"


def read_status(checkout: Path) -> dict[str, Any]:
    """Of the last night; empty before the first."""
    try:
        found = json.loads(status_file(checkout).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_status(checkout: Path, status: dict[str, Any]) -> None:
    """Replace the status file in one step; where there is no space for it, the last one stays."""
    partial = status_file(checkout).with_suffix(".partial")
    try:
        partial.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, status_file(checkout))
    except OSError as error:
        partial.unlink(missing_ok=True)
        print(f"warning: {status_file(checkout)} could not be written: {error}", file=sys.stderr)


def schedule_of(checkout: Path) -> CronSchedule:
    """When nights begin, by `nightly.cron` and `data.time_zone` in params.yaml."""
    params = YAML(typ="safe").load(checkout / "params.yaml")
    return CronSchedule(cron=params["nightly"]["cron"], timezone=params["data"]["time_zone"])


def is_due(status: dict[str, Any], schedule: CronSchedule, now: datetime) -> bool:
    """Whether a night was missed: the last one was killed or stopped, or one should have begun since and did not.

    One that failed is not: it would fail again at every start.
    """
    if not status:
        return False  # nothing has been missed before the first
    if status["state"] in ("running", "stopped"):
        return True
    began = datetime.fromisoformat(status["started"])
    dates = CronDates(cron=schedule.cron, timezone=schedule.timezone)
    upcoming = asyncio.run(dates.get_dates(2, began))
    return any(began < date <= now for date in upcoming)


@contextmanager
def server() -> Iterator[None]:
    """A Prefect server while the block lasts: the one that is set, one that a killed start has left, or our own."""
    if PREFECT_API_URL.value():
        yield
        return
    left = _left_server()
    with nullcontext(left) if left else _own_server() as url:
        print(f"the nights and their logs: {url.removesuffix('/api')}", flush=True)
        with temporary_settings({PREFECT_API_URL: url}):
            yield


def _left_server() -> str | None:
    """The API of a server that an earlier start has left running on the same data: two would write it at once."""
    try:
        url = _address().read_text(encoding="utf-8")
        with urlopen(f"{url}/admin/settings", timeout=5) as answer:
            return url if json.load(answer)["home"] == str(PREFECT_HOME.value()) else None
    except (OSError, ValueError, TypeError, KeyError):  # it has ended, or something else has taken its port
        return None


@contextmanager
def _own_server() -> Iterator[str]:
    """A server on the loopback, which ends with the block; its API."""
    port = _free_port(4200)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}/api"
    try:
        _await_server(child, f"{url}/health")
        _address().write_text(url, encoding="utf-8")
        yield url
    finally:
        for worker in (EventsWorker, APILogWorker):  # which would go on sending to a server that is gone, for minutes
            worker.drain_all(timeout=SENT_SECONDS)
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()


def _address() -> Path:
    """Where the API of the last server of our own is noted."""
    return Path(PREFECT_HOME.value()) / "nightly.url"


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise NightError("no port of this machine is free for the server of the nights")


def _await_server(child: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise NightError(f"the server of the nights did not start within {SERVER_SECONDS:g} s; see the lines above")


def serve(checkout: Path) -> None:
    """Serve nights until a signal ends it; a night that was missed while nobody served is made up for, once."""
    schedule = schedule_of(checkout)
    with server():
        if is_due(read_status(checkout), schedule, datetime.now(UTC)):
            print("a night was missed: it is made up for now", flush=True)
            night(checkout, return_state=True)
        night.serve(
            name=NAME,
            schedules=[schedule],
            parameters={"checkout": str(checkout)},
            limit=1,
            pause_on_shutdown=False,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve nights, or run one now; 0 where it was completed, 1 where it failed."""
    parser = argparse.ArgumentParser(description="Run a night on its schedule, by `nightly.cron` in params.yaml.")
    parser.add_argument("--now", action="store_true", help="run one night and end")
    parser.add_argument("--back-to", metavar="VERSION", help="make a published version, as in model/v3, champion again")
    options = parser.parse_args(arguments)
    stop_in_order()
    try:
        if not options.now and options.back_to is None:
            serve(ROOT)
            return 0
        state = night(ROOT, options.back_to, return_state=True)
    except NightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not state.is_completed():
        print(f"error: {state.message}", file=sys.stderr)
        return 1
    status: Any = state.result()
    print_rows(status["stages"])
    for sentence in told(status["no_footage"]):
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"published: {status['commit'][:12]}{' as ' + status['model'] if status['model'] else ''}")
    print(f"report: {status['report']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
