"""Training through Ray Train: in this process, or on workers. The only place of training that imports ray."""

import logging
import os
import tempfile
import uuid
from typing import Any

import torch

from vidrnn.errors import VidrnnError
from vidrnn.fit import EpochPrinter, FitResult, FitTask, fit
from vidrnn.params import TrainParams

_OBJECT_STORE_BYTES = 256 * 2**20  # footage never enters it


def ray_fit(task: FitTask, title: str, num_workers: int, use_gpu: bool) -> FitResult:
    """Fit `task` under a TorchTrainer.

    Args:
        task: what to fit.
        title: of the lines of progress.
        num_workers: 0 runs the loop in this process (Ray Train's local mode); more start Ray, or join the cluster that
            RAY_ADDRESS names.
        use_gpu: whether each worker has a GPU of its own.

    Raises:
        VidrnnError: what `fit` raised, in this process or on a worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer: Any = TorchTrainer  # its annotations are those of Ray Train 1
    logging.getLogger("ray").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="vidrnn-") as scratch:
        if num_workers:
            address = os.environ.get("RAY_ADDRESS", "local")
            own: dict[str, Any] = {
                "num_cpus": num_workers,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
            }
            ray.init(address, logging_level=logging.WARNING, **(own if address == "local" else {}))
        try:
            result = trainer(
                _loop,
                train_loop_config={"task": task, "title": title, "use_gpu": use_gpu},
                scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
                run_config=RunConfig(
                    name=f"vidrnn-{uuid.uuid4().hex[:8]}",  # a fixed name would resume the run before
                    storage_path=scratch,
                    failure_config=FailureConfig(max_failures=0),
                    checkpoint_config=CheckpointConfig(num_to_keep=1),
                ),
            ).fit()
        finally:
            if num_workers:
                ray.shutdown()
    fitted = result.return_value
    if isinstance(fitted, VidrnnError):
        raise fitted
    assert isinstance(fitted, FitResult)
    return fitted


def wants_gpu(params: TrainParams) -> bool:
    """Whether to train on a GPU.

    Raises:
        VidrnnError: one is demanded and there is none.
    """
    available = torch.cuda.is_available()
    if params.use_gpu is True and not available:
        raise VidrnnError(
            "train.use_gpu is true, but torch sees no GPU; set it to auto, or install a CUDA build of torch"
        )
    return available if params.use_gpu == "auto" else params.use_gpu


def _loop(config: dict[str, Any]) -> FitResult | VidrnnError:
    import ray.train
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    task: FitTask = config["task"]
    printer = EpochPrinter(config["title"], task.epochs) if rank == 0 else (lambda row: None)

    def on_epoch(row: dict[str, float]) -> None:
        printer(row)
        ray.train.report(row)

    device = get_device() if config["use_gpu"] else torch.device("cpu")
    try:
        return fit(task, device, rank, world_size, prepare_model if world_size > 1 else (lambda net: net), on_epoch)
    except VidrnnError as error:  # raised on every worker alike; Ray would print it as a crash
        return error
