"""Training through Ray Train: in this process, or on workers. The only place of training that imports ray."""

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from vidrnn.device import CPU
from vidrnn.errors import VidrnnError
from vidrnn.fit import EpochPrinter, FitResult, FitState, FitTask, fit
from vidrnn.storage import write_json

_OBJECT_STORE_BYTES = 256 * 2**20  # footage never enters it
_MAX_FAILURES = 2
_ENVIRONMENT = {  # where the user's says nothing
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # an epoch ends no sooner, and a death is not noticed sooner
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # or what is printed comes twice
    "RAY_DEDUP_LOGS": "0",  # or the epochs of a fresh start are taken for those before it and left out
}
_STATE = "state.json"


def ray_fit(task: FitTask, title: str, num_workers: int, use_gpu: bool) -> FitResult:
    """Fit `task` under a TorchTrainer.

    Where a worker dies, all start again from the last epoch whose state was kept, at most twice.

    Args:
        task: what to fit.
        title: of the lines of progress.
        num_workers: 0 runs the loop in this process (Ray Train's local mode); more start Ray, or join the cluster that
            RAY_ADDRESS names.
        use_gpu: whether each worker has a GPU of its own.

    Raises:
        VidrnnError: what `fit` raised, in this process or on a worker; or workers died three times.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
        TrainingFailedError,
    )
    from ray.train.torch import TorchTrainer

    trainer: Any = TorchTrainer  # the annotations of both are those of Ray Train 1
    run_config: Any = RunConfig
    quieten = _quietener()
    quieten()
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":  # nobody takes nodes away, and the watcher begins with an error of Ray's own
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Every node must see what is kept of an epoch, as it must see the feature files below this folder.
    shared = Path.cwd() if num_workers and address != "local" else None
    with tempfile.TemporaryDirectory(prefix=".vidrnn-", dir=shared) as scratch:
        if num_workers:
            own: dict[str, Any] = {
                "num_cpus": num_workers,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
            }
            hook = {"worker_process_setup_hook": quieten}
            ray.init(address, logging_level=logging.WARNING, runtime_env=hook, **(own if address == "local" else {}))
        try:
            result = trainer(
                _loop,
                train_loop_config={"task": task, "title": title, "use_gpu": use_gpu, "keep": num_workers > 0},
                scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
                run_config=run_config(
                    name=f"vidrnn-{uuid.uuid4().hex[:8]}",  # a fixed name would resume the run before
                    storage_path=scratch,
                    failure_config=FailureConfig(max_failures=_MAX_FAILURES if num_workers else 0),
                    checkpoint_config=CheckpointConfig(num_to_keep=1),
                    logging_config=LoggingConfig(log_level="WARNING"),
                ),
            ).fit()
        except TrainingFailedError as error:
            if not num_workers:
                raise
            raise VidrnnError(
                f"{title}: training on Ray workers failed, {_MAX_FAILURES} fresh starts included ({_reason(error)}); "
                "Ray printed more above, and train.num_workers 0 trains in this process"
            ) from error
        finally:
            if num_workers:
                ray.shutdown()
    fitted = result.return_value
    if isinstance(fitted, VidrnnError):
        raise fitted
    assert isinstance(fitted, FitResult)
    return fitted


def _quietener() -> Callable[[], None]:
    """A function that makes Ray silent about its own doings in the process that calls it.

    Warnings and errors stay, but for two: that clusters are guarded by a token is no news, and the cleaner's question
    goes to a dashboard that is not there. Ray sends an inner function as its code, not as a name: else every process of
    its own would import torch for it.
    """

    def quieten() -> None:
        logging.getLogger("ray").setLevel(logging.WARNING)
        for name in (
            "ray._private.authentication",
            "ray.train.v2._internal.execution.controller.placement_group_cleaner",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)

    return quieten


def _reason(error: Exception) -> str:
    """What went wrong last, in a line: on the first worker that Ray tells of."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    lines = str(next(iter(failures.values()), error)).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _loop(config: dict[str, Any]) -> FitResult | VidrnnError:
    import ray.train
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    task: FitTask = config["task"]
    printer = EpochPrinter(config["title"], task.epochs)

    def on_epoch(state: FitState) -> None:
        row = state.best.history[-1]
        if rank:
            ray.train.report(row)
            return
        printer(row)
        with tempfile.TemporaryDirectory() as folder:
            if config["keep"]:
                write_state(Path(folder), state)
            ray.train.report(row, checkpoint=ray.train.Checkpoint(folder) if config["keep"] else None)

    device = get_device() if config["use_gpu"] else CPU
    prepare = prepare_model if world_size > 1 else (lambda net: net)
    try:
        resume = None
        if config["keep"]:
            logging.getLogger().setLevel(logging.WARNING)  # Ray has set it to tell of every report
        if checkpoint := ray.train.get_checkpoint():
            with checkpoint.as_directory() as folder:
                resume = read_state(Path(folder))
        return fit(task, device, rank, world_size, prepare, on_epoch, resume)
    except VidrnnError as error:  # raised on every worker alike; Ray would print it as a crash
        return error


def write_state(folder: Path, state: FitState) -> None:
    """Keep where training stands, in `folder`: tensors as safetensors, the rest as JSON."""
    tensors = {"weights": state.weights, "optimizer": state.optimizer, "best": state.best.weights}
    for name, own in tensors.items():
        (folder / f"{name}.safetensors").write_bytes(save(own))
    write_json(folder / _STATE, {"history": state.best.history, "best_epoch": state.best.best_epoch})


def read_state(folder: Path) -> FitState:
    """What `write_state` kept, to the bit."""
    weights, optimizer, best = (
        load((folder / f"{name}.safetensors").read_bytes()) for name in ("weights", "optimizer", "best")
    )
    return FitState(weights, optimizer, FitResult(best, **json.loads((folder / _STATE).read_text(encoding="utf-8"))))
