"""Where the network runs, in training as in scoring: on a GPU where one is there and wanted, else on the processor.

It is decided here alone. The network is moved to the device; what it is given follows it, and what it says comes back
to numpy.
"""

import os

import torch

from vidrnn.errors import ParamsError
from vidrnn.params import DeviceParams

CPU = torch.device("cpu")
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # read when CUDA is first used; of two sizes torch believes that sums are repeated
_REPEATED = ":16:8"  # the one of them that its recurrent layers ask for, too


def choose_device(params: DeviceParams) -> torch.device:
    """The device, with this process set up for it.

    Raises:
        ParamsError: a GPU is demanded and there is none.
    """
    set_up(params.deterministic)
    available = torch.cuda.is_available()
    if params.gpu is True and not available:
        raise ParamsError(
            "params.yaml: `device.gpu` is true, but torch sees no GPU; set it to auto, or install a CUDA build of torch"
        )
    return torch.device("cuda") if available and params.gpu else CPU


def set_up(deterministic: bool) -> None:
    """Make this process compute as it should: before CUDA is used, and on a worker, too.

    Without TF32, which keeps three digits and is torch's own choice for convolutions and recurrent layers, a GPU finds
    what a processor finds. A processor gives the same bits on every run anyway.

    Args:
        deterministic: whether a GPU gives the same bits on every run, too, for some of its speed; what cannot raises a
            RuntimeError instead.
    """
    torch.backends.cudnn.allow_tf32 = False
    if deterministic:
        os.environ[_CUBLAS] = _REPEATED
    # As torch.use_deterministic_algorithms, which loads torch's compiler for it: more than a second of every process.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
