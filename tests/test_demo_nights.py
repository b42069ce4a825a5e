"""Whole nights of the real pipeline on demo footage, in a temporary clone: what people see of them.

Between two nights a video comes in from a watched folder, with a damaged one beside it; the remote is away at first.
"""

import os
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from commands import commit, dvc, git
from small_project import change_params, clone_this

from vidrnn import results
from vidrnn.demo import render_file, render_plans
from vidrnn.demo_plan import Plan, plan_file

pytestmark = pytest.mark.slow

CAMERA, SECONDS, RATE = "north-gate", 16, 10
NEW, DAMAGED, UNFINISHED = (f"{CAMERA}/train/2026-03-03T08-0{k}-00.mp4" for k in range(3))


def planned(number: int, video: str, *kinds: str) -> Plan:
    return plan_file(CAMERA, video.split("/")[1], video, SECONDS * RATE, (number,), kinds, RATE)


def draw(data: Path) -> None:
    """Ordinary footage of the demo, some in which somebody runs, and what is marked, as the stage `demo` draws it."""
    drawn = data.parent / "drawn"
    plans = [planned(k, f"{CAMERA}/train/2026-03-02T08-0{k}-00.mp4") for k in range(2)]
    plans.append(planned(2, f"{CAMERA}/test/2026-03-02T09-00-00.mp4", "running"))
    render_plans(drawn / "videos", drawn / "labels", plans, RATE)
    (drawn / "videos" / CAMERA).rename(data / "videos" / CAMERA)
    for name in ("events.csv", "regions.csv"):
        (drawn / "labels" / name).rename(data / "labels" / name)
    shutil.rmtree(drawn)


def seen_by_people(run_id: UUID) -> tuple[dict[str, Any], set[str]]:
    """Of a night on the server: its artifacts, and the names of its tasks that were completed."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        own = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        artifacts = {artifact.key: artifact.data for artifact in client.read_artifacts(flow_run_filter=own)}
        tasks = {task.name for task in client.read_task_runs(flow_run_filter=own) if task.state.is_completed()}
    return artifacts, {name.rsplit("-", 1)[0] for name in tasks}


def test_two_nights_of_the_demo(nightly: ModuleType, tmp_path: Path) -> None:
    checkout, incoming, remote = tmp_path / "clone", tmp_path / "incoming", tmp_path / "remote"
    clone_this(checkout)
    draw(checkout / "data")
    incoming.mkdir()
    change_params(checkout, nightly={"watch": [str(incoming)]})
    git(checkout, "init", "-q")
    base = commit(checkout)
    remote.write_text("a file where the folder should be")
    dvc(checkout, "remote", "add", "--default", "--local", "store", str(remote))

    state = nightly.night(checkout, return_state=True)
    first = state.result()
    assert first["model"] == "model/v1" and first["remote"] == "away" and first["new_events"] == []
    assert {row["outcome"] for row in first["stages"]} == {"ran"} and len(first["stages"]) == 10
    artifacts, tasks = seen_by_people(state.state_details.flow_run_id)
    assert set(artifacts) == {"stages", "metrics", "report", "scores", "no-footage"}
    (silent,) = first["no_footage"]  # the demo has a date of its own, which is long past
    assert silent["camera_id"] == CAMERA and silent["message"].startswith("no footage since 2026-03-0")
    assert silent["message"] in artifacts["no-footage"]
    assert artifacts["report"].startswith("[") and "data/report/index.html" in artifacts["report"]
    stages = [row["stage"] for row in first["stages"]]
    steps = {"take over the code", "take in footage", "set champion and start", "publish", "push", "tell people"}
    assert steps | set(stages) <= tasks

    remote.unlink()
    render_file(incoming, planned(3, NEW), RATE)
    body = bytearray((incoming / NEW).read_bytes())
    (incoming / UNFINISHED).write_bytes(body[:5000])
    body[40:-40] = np.random.default_rng(0).bytes(len(body) - 80)
    (incoming / DAMAGED).write_bytes(body)
    for name, age in ((NEW, 3600), (DAMAGED, 2 * 24 * 3600)):  # since when nobody writes to them
        os.utime(incoming / name, (time.time() - age,) * 2)
    state = nightly.night(checkout, return_state=True)
    second = state.result()
    assert second["remote"] == "pushed" and any(remote.rglob("*"))
    ran = {row["stage"] for row in second["stages"] if row["outcome"] == "ran"}
    assert {"index", "features", "train", "gate", "report"} <= ran
    videos = results.load("videos", rev="latest", repo=checkout).set_index("video_id")
    assert videos.loc[NEW, "status"] == "ok" and videos.loc[DAMAGED, "status"] == "unreadable"
    assert videos.loc[DAMAGED, "message"] and UNFINISHED not in videos.index
    decided = results.load("promotions", rev="latest", repo=checkout)
    one = results.load("promotions", rev="model/v1", repo=checkout)["candidate_version"].iloc[0]
    assert set(decided["champion_version"]) == {one} and one not in set(decided["candidate_version"])
    assert bool(decided["promoted"].all()) == (second["model"] == "model/v2")
    page = (checkout / ".nightly/tree/data/report/index.html").read_text(encoding="utf-8")
    assert decided["reason"].iloc[0].split(":")[0] in page and Path(DAMAGED).name in page
    artifacts, _ = seen_by_people(state.state_details.flow_run_id)
    assert "heldout_nll" in artifacts["metrics"]  # against those of the night before

    assert git(checkout, "rev-parse", "HEAD") == base and git(checkout, "status", "--porcelain") == ""
    assert not (checkout / "data/model").exists()
