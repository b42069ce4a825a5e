import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest
import torch
from synthetic import small_task, tensor_bytes

from vidrnn.errors import CheckpointError, FootageError
from vidrnn.fit import fit
from vidrnn.model import VideoRNN
from vidrnn.params import load_params
from vidrnn.ray_fit import ray_fit

torch.set_num_threads(1)
CPU = torch.device("cpu")
PARAMS = load_params().train


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return small_task(tmp_path_factory.mktemp("fit"))


def test_in_this_process_it_is_fit_and_nothing_else(task, tmp_path, monkeypatch):
    """Twice in a row: a run whose name were fixed would resume, and train no further."""
    monkeypatch.chdir(tmp_path)
    task = replace(task, epochs=2)
    alone = fit(task, CPU)
    for _ in range(2):
        result = ray_fit(task, "train gate", 0, False)
        assert tensor_bytes(result.weights) == tensor_bytes(alone.weights)
        assert result.history == alone.history and result.best_epoch == alone.best_epoch
    assert not list(tmp_path.iterdir())
    import ray

    assert not ray.is_initialized()


def test_progress_is_printed(task, capsys):
    ray_fit(replace(task, epochs=2), "train gate", 0, False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train gate: epoch")]
    assert len(lines) == 2


def test_a_mistake_of_the_user_stays_one_sentence(task):
    start = VideoRNN(**{**task.architecture, "hidden_size": 7}).state_dict()
    with pytest.raises(CheckpointError, match=r"^train\.init_from: it does not fit") as caught:
        ray_fit(replace(task, initial=start), "train gate", 0, False)
    assert caught.value.exit_code == 2
    with pytest.raises(FootageError, match=r"^no stretch of ordinary footage"):
        ray_fit(replace(task, seq_len=1000), "train gate", 0, False)


WORKERS = """
import pickle, sys
from vidrnn.errors import VidrnnError
from vidrnn.ray_fit import ray_fit
for argument in sys.argv[1:]:
    name, workers = argument.split(":")
    try:
        result = ray_fit(pickle.load(open(name, "rb")), "train gate", int(workers), False)
    except VidrnnError as error:
        result = error
    pickle.dump(result, open(name + ".out", "wb"))
"""


def start(folder, *runs):
    """Runs of `ray_fit`, `<file of the task>:<workers>`, in turn, in a process, a session and a folder of their own."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-u", "-c", WORKERS, *runs],  # its log is watched
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), "RAY_TMPDIR": gettempdir()},  # paths of sockets must be short
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def left_behind(run):
    """Processes that outlive a run by more than a moment; Ray ends its own one after the other."""
    deadline = time.monotonic() + 20
    while (left := processes_of(run.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def processes_of(session):
    """Command lines of the processes of a session that are still there, by process id."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def long_task(task):
    return replace(task, epochs=10, patience=10)


@pytest.fixture(scope="module")
def slow_task(long_task):
    """Long enough to be killed in the middle of it."""
    return replace(long_task, batches_per_epoch=40)


@pytest.fixture(scope="module")
def undisturbed(task, long_task, slow_task, tmp_path_factory):
    """Trainings on two workers, on one, and one that fails on its worker: the folder, and what was left behind."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in ("good", "single"):
        (folder / name).write_bytes(pickle.dumps(long_task))
    (folder / "slow").write_bytes(pickle.dumps(slow_task))
    (folder / "bad").write_bytes(pickle.dumps(replace(task, seq_len=1000)))
    run = start(folder, "good:2", "slow:2", "single:1", "bad:1")
    assert run.wait(240) == 0, (folder / "log").read_text()[-3000:]
    return folder, left_behind(run)


@pytest.mark.slow
def test_two_workers_find_what_one_finds(long_task, undisturbed):
    folder, left = undisturbed
    result, single = (pickle.loads((folder / f"{name}.out").read_bytes()) for name in ("good", "single"))
    alone = fit(long_task, CPU)
    assert tensor_bytes(single.weights) == tensor_bytes(alone.weights)
    assert result.best_epoch == alone.best_epoch and len(result.history) == 10
    for mine, theirs in zip(result.history, alone.history, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    for name, tensor in alone.weights.items():
        np.testing.assert_allclose(result.weights[name], tensor, atol=1e-5)
    start = fit(replace(long_task, epochs=1, learning_rate=1e-9), CPU).weights
    assert max((start[name] - tensor).abs().max() for name, tensor in alone.weights.items()) > 1e-3
    assert not left and not list(folder.glob(".vidrnn-*"))


@pytest.mark.slow
def test_what_is_printed_with_workers_is_what_is_printed_without(undisturbed):
    folder, _ = undisturbed
    error = pickle.loads((folder / "bad.out").read_bytes())
    assert isinstance(error, FootageError) and str(error).startswith("no stretch of ordinary footage")
    log = (folder / "log").read_text()
    assert log.count("train gate: epoch") == 30, log
    for noise in ("FootageError", "Failed to query", "Reporting", "Token", "process group", "Checkpoint"):
        assert noise not in log


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(slow_task, undisturbed, tmp_path):
    """kill -9 in mid-training: all start again from the last epoch that Ray knew of, and end with the same bytes."""
    (tmp_path / "killed").write_bytes(pickle.dumps(slow_task))
    run, log = start(tmp_path, "killed:2"), tmp_path / "log"
    try:
        until(lambda: list(tmp_path.glob(".vidrnn-*/*/checkpoint_*/state.json")), run, log)
        until(lambda: "epoch 5 of 10" in log.read_text(), run, log)
        workers = [pid for pid, command in processes_of(run.pid).items() if command.startswith("ray::RayTrainWorker")]
        assert len(workers) == 2
        os.kill(max(workers), signal.SIGKILL)
        assert run.wait(240) == 0, log.read_text()[-3000:]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    epochs = [int(epoch) for epoch in re.findall(r"epoch (\d+) of 10", log.read_text())]
    again = next(k for k in range(1, len(epochs)) if epochs[k] <= epochs[k - 1])
    last, first = epochs[again - 1], epochs[again]
    assert epochs == [*range(1, last + 1), *range(first, 11)]
    assert 1 < first <= last < 10  # neither from the start, nor after the end
    result, expected = (
        pickle.loads(path.read_bytes()) for path in (tmp_path / "killed.out", undisturbed[0] / "slow.out")
    )
    assert tensor_bytes(result.weights) == tensor_bytes(expected.weights)
    assert (result.history, result.best_epoch) == (expected.history, expected.best_epoch)
    assert not list(tmp_path.glob(".vidrnn-*")) and not left_behind(run)


def until(condition, run, log):
    """Wait for it while the process lives."""
    deadline = time.monotonic() + 180
    while not condition():
        assert run.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
