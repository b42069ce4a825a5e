import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import small_task, tensor_bytes

from vidrnn.errors import CheckpointError, FootageError, VidrnnError
from vidrnn.fit import fit
from vidrnn.model import VideoRNN
from vidrnn.params import load_params
from vidrnn.ray_fit import ray_fit, wants_gpu

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_demanded_and_missing_is_one_sentence():
    with pytest.raises(VidrnnError, match=r"^train\.use_gpu is true, but torch sees no GPU; set it to auto"):
        wants_gpu(PARAMS.model_copy(update={"use_gpu": True}))
    assert not wants_gpu(PARAMS.model_copy(update={"use_gpu": "auto"}))


def test_a_gpu_that_is_not_wanted_is_not_used():
    assert not wants_gpu(PARAMS.model_copy(update={"use_gpu": False}))


WORKERS = """
import pickle
from vidrnn.errors import VidrnnError
from vidrnn.ray_fit import ray_fit
for name, workers in (("good", 2), ("bad", 1)):
    try:
        result = ray_fit(pickle.load(open(name, "rb")), "train gate", workers, False)
    except VidrnnError as error:
        result = error
    pickle.dump(result, open(name + ".out", "wb"))
"""


def processes_of(session):
    """Command lines of the processes of a session that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds(task, tmp_path):
    """In a process of its own, in a folder of its own; a second task fails on its worker."""
    task = replace(task, epochs=2)
    (tmp_path / "good").write_bytes(pickle.dumps(task))
    (tmp_path / "bad").write_bytes(pickle.dumps(replace(task, seq_len=1000)))
    log = tmp_path / "log"
    with log.open("w") as out:
        run = subprocess.Popen(
            [sys.executable, "-c", WORKERS],
            cwd=tmp_path,
            env={**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert run.wait(240) == 0, log.read_text()[-3000:]
    result = pickle.loads((tmp_path / "good.out").read_bytes())
    alone = fit(task, CPU)
    assert result.best_epoch == alone.best_epoch and len(result.history) == 2
    for mine, theirs in zip(result.history, alone.history, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
    for name, tensor in alone.weights.items():
        np.testing.assert_allclose(result.weights[name], tensor, atol=1e-5)
    moved = [fit(replace(task, epochs=1, learning_rate=1e-9), CPU).weights[n] - t for n, t in alone.weights.items()]
    assert max(part.abs().max() for part in moved) > 1e-3

    error = pickle.loads((tmp_path / "bad.out").read_bytes())
    assert isinstance(error, FootageError) and str(error).startswith("no stretch of ordinary footage")
    assert "Traceback" not in log.read_text()
    assert not processes_of(run.pid)
