"""One retraining as a Prefect flow: `python flows/retrain.py`.

DVC decides what is stale, one task a stage; Prefect watches, keeps the logs and tells how it went.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# Prefect reads these when it is imported; whatever the user has set wins. The children inherit them.
for _name, _value in {
    "PREFECT_HOME": str(ROOT / ".prefect"),
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 are too few for the first start on a slow machine
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

from dvc_cli import DvcBusyError, DvcError, repro, up_to_date, upstream  # noqa: E402
from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State, TaskRun  # noqa: E402
from prefect.states import Failed  # noqa: E402

TARGET = "report"
REPORT = Path("data/report/index.html")
STAGE_TIMEOUT_SECONDS = 24 * 3600.0


def _is_busy(_task: Any, _task_run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, DvcBusyError)


@task(
    task_run_name="{stage}",
    cache_policy=NO_CACHE,  # the one cache is DVC's
    retries=3,
    retry_delay_seconds=[5, 15, 45],
    retry_jitter_factor=1,
    retry_condition_fn=_is_busy,  # a stage that fails would fail again
)
def reproduce(stage: str, repo: Path, timeout_seconds: float) -> str:
    """Bring one stage up to date; returns `ran`, `restored` or `skipped`."""
    return repro(stage, repo, get_run_logger().info, timeout_seconds)


@flow(name="retrain")
def retrain(repo: Path, stage_timeout_seconds: float = STAGE_TIMEOUT_SECONDS) -> list[dict[str, Any]] | State[Any]:
    """Bring every stage that the report needs up to date, in order.

    Args:
        repo: the checkout.
        stage_timeout_seconds: after which a stage is ended, which fails the run.

    Returns:
        A row a stage: its name, the outcome and the seconds that it took; or a failed state that says what went wrong.
    """
    rows: list[dict[str, Any]] = []
    failure: State[Any] | None = None
    try:
        stages = upstream(TARGET, repo)
        if up_to_date(TARGET, repo):
            rows += nothing_to_do(stages)
        else:
            for stage in stages:
                bring_up_to_date(stage, repo, stage_timeout_seconds, rows)
    except DvcError as error:
        failure = Failed(message=str(error))
    create_table_artifact(key="stages", table=rows, description="What each stage did, in order")
    return failure or rows


def nothing_to_do(stages: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of stages that were found to be up to date together."""
    return [{"stage": stage, "outcome": "skipped", "seconds": 0.0} for stage in stages]


def bring_up_to_date(stage: str, repo: Path, timeout_seconds: float, rows: list[dict[str, Any]]) -> None:
    """Run the task of a stage, and add a row with its outcome (`failed` where it raises) and the seconds it took."""
    rows.append({"stage": stage, "outcome": "failed", "seconds": 0.0})
    start = time.monotonic()
    try:
        rows[-1]["outcome"] = reproduce(stage, repo, timeout_seconds)
    finally:
        rows[-1]["seconds"] = round(time.monotonic() - start, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow over this checkout; 0 where every stage is up to date in the end, 1 where one failed."""
    parser = argparse.ArgumentParser(description="Bring the report up to date, as a Prefect flow over the DVC stages.")
    parser.add_argument(
        "--stage-timeout-seconds",
        type=float,
        default=STAGE_TIMEOUT_SECONDS,
        help="end a stage, and fail, after so many seconds (default: %(default)g)",
    )
    options = parser.parse_args(arguments)
    stop_in_order()
    state = retrain(ROOT, options.stage_timeout_seconds, return_state=True)
    if not state.is_completed():
        print(f"error: {state.message}", file=sys.stderr)
        return 1
    print_rows(state.result())
    if (ROOT / REPORT).is_file():
        print(f"report: {ROOT / REPORT}")
    return 0


def print_rows(rows: Any) -> None:
    """A line a stage."""
    width = max(len(row["stage"]) for row in rows)
    for row in rows:
        print(f"{row['stage']:{width}}  {row['outcome']:8}  {row['seconds']:8.1f} s")


def stop_in_order() -> None:
    """From now on, end at a signal as after an error: the stage and the server that was started are ended as well."""
    signal.signal(signal.SIGTERM, _stop)
    # These reach every process of the terminal's group, Prefect's temporary server among them, and a run whose server
    # is gone hangs for minutes. Blocked here, they are blocked in the server too, and we end in our own order.
    others = {signal.SIGINT, *([] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP])}  # nohup
    signal.pthread_sigmask(signal.SIG_BLOCK, others)
    Thread(target=_terminate_at, args=(others,), daemon=True).start()
    for number in others:  # which a thread may take that is older than the block: a package's, from its import
        signal.signal(number, _terminate)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _terminate_at(others: set[signal.Signals]) -> None:
    while True:
        _terminate(signal.sigwait(others))


def _terminate(_number: int, _frame: FrameType | None = None) -> None:
    """Whoever handles SIGTERM by now, Prefect in a flow, handles these."""
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
