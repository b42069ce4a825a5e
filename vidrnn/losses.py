"""What a wrong prediction costs: `nll`, `mse`, `huber`, or a function of the user's own.

A loss is a mean over targets, weighed by a mask: Σ mask · cost / Σ mask. Losses of parts of a batch, each weighed by
the sum of its mask, then make the loss of the whole batch: so workers share a batch, and so validation adds up.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vidrnn.errors import ParamsError

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of mean, scale, target and mask

HUBER_DELTA = 1.0  # standard deviations


def nll(mean: Tensor, scale: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of a normal distribution without its constant: ½ ((t − m) / s)² + log s.

    Args:
        mean: (N, T, K, C) in standardised units.
        scale: likewise, above 0.
        target: likewise.
        mask: (N, T, K, 1).
    """
    return _mean(0.5 * ((target - mean) / scale) ** 2 + torch.log(scale), mask)


def mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error, (t − p)²; shapes as in `load_loss`."""
    return _mean((target - prediction) ** 2, mask)


def huber(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """½ e² where |e| = |t − p| ≤ δ, and δ (|e| − ½ δ) beyond, δ = 1 standard deviation; shapes as in `load_loss`.

    Huber 1964, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35(1).
    """
    return _mean(nn.functional.huber_loss(prediction, target, reduction="none", delta=HUBER_DELTA), mask)


def _mean(cost: Tensor, mask: Tensor) -> Tensor:
    return (cost.mean(-1, keepdim=True) * mask).sum() / mask.sum()


_OF_PREDICTION = {"mse": mse, "huber": huber}
LOSSES = ("nll", *_OF_PREDICTION)


def load_loss(name: str, file: str) -> Loss:
    """The loss of this name.

    A function of the user's own, `package.module:function`, is called as `f(prediction, target, mask) -> scalar`:

    - prediction: (N, T, K, C), what the network expects: N sequences (cells of the picture), T steps, K horizons, C
      channels, in standard deviations from the mean of the camera's active cells. Only it carries a gradient.
    - target: (N, T, K, C), what came, in the same units. Steps of the burn-in are left out of all three.
    - mask: (N, T, K, 1), how much each target counts: 1 where something is there to be predicted, little elsewhere, in
      (0, 1]. It broadcasts over the channels.
    - scalar: a tensor of no dimensions, made from prediction by torch, so that it can be differentiated: a mean
      weighed by the mask, Σ mask · cost / Σ mask, as all losses here. Another kind does in one process; several
      workers would not find what one finds, and `check_loss` refuses it.

    The scale is 1, as with `mse`: a function of the user's own learns means alone. A change of `file` makes the stage
    `train` run again; a change of other modules that it imports does not.

    Args:
        name: nll, mse, huber, or package.module:function.
        file: that defines a function of the user's own, <root>/package/module.py or
            <root>/package/module/__init__.py; <root> is put at the end of the import path.

    Raises:
        ParamsError: there is no such file, module or function.
    """
    if name == "nll":
        return nll
    function = _OF_PREDICTION.get(name) or _imported(name, Path(file).absolute())
    return lambda mean, scale, target, mask: function(mean, target, mask)


def _imported(name: str, file: Path) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    module_name, function_name = name.split(":")
    inner = Path(*module_name.split("."))
    endings = [inner.with_suffix(".py"), inner / "__init__.py"]
    roots = [file.parents[len(end.parts) - 1] for end in endings if file.parts[-len(end.parts) :] == end.parts]
    if not roots:
        raise ParamsError(
            f"params.yaml: `train.loss_file` {file} cannot be the module {module_name} of `train.loss`; expected a "
            f"path that ends in {endings[0]}"
        )
    if not file.is_file():
        raise ParamsError(f"params.yaml: `train.loss_file` {file}: no such file; expected the one that defines {name}")
    if str(roots[0]) not in sys.path:
        sys.path.append(str(roots[0]))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ParamsError(f"params.yaml: `train.loss` {name} cannot be imported: {_told(error, file)}") from error
    found = getattr(module, "__file__", None)
    if found is None or not file.samefile(found):
        raise ParamsError(
            f"params.yaml: the module {module_name} of `train.loss` is {found}, not `train.loss_file` {file}; give one "
            "of them another name"
        )
    function = getattr(module, function_name, None)
    if not callable(function):
        kind = "nothing" if function is None else f"{type(function).__name__}, which cannot be called,"
        raise ParamsError(
            f"params.yaml: {file} has {kind} of the name {function_name}; expected a function "
            "f(prediction, target, mask) for `train.loss`"
        )
    return function  # type: ignore[no-any-return]


def check_loss(loss: Loss, name: str, mean: Tensor, scale: Tensor, target: Tensor, mask: Tensor, parted: bool) -> None:
    """Try a loss once, before any training.

    Args:
        loss: what to try.
        name: of it.
        mean, scale, target, mask: a batch of at least two sequences, as in `load_loss`.
        parted: whether losses of parts of a batch must make the loss of the whole, since workers share it.

    Raises:
        ParamsError: it fails, or does not return what it must.
    """
    mean = mean.detach().requires_grad_()
    try:
        value = loss(mean, scale, target, mask)
    except Exception as error:
        shape, mask_shape = tuple(mean.shape), tuple(mask.shape)
        raise ParamsError(
            f"params.yaml: `train.loss` {name} failed on a prediction and a target of shape {shape} and a mask of "
            f"shape {mask_shape}: {_told(error)}"
        ) from error
    problem = None
    if not isinstance(value, Tensor):
        problem = f"found {type(value).__name__}"
    elif value.shape:
        problem = f"found a tensor of shape {tuple(value.shape)}"
    elif not value.requires_grad:
        problem = "found a tensor without a gradient"
    elif not torch.isfinite(value):
        problem = f"found {value.item()}"
    elif not torch.isfinite(torch.autograd.grad(value, mean)[0]).all():
        problem = "found a gradient that is not finite"
    if problem:
        raise ParamsError(
            f"params.yaml: `train.loss` {name} must return a tensor that holds one finite number, made from prediction "
            f"by torch; {problem}"
        )
    if parted:
        half = len(mean) // 2
        parts = [
            tuple(tensor[part] for tensor in (mean, scale, target, mask)) for part in (slice(half), slice(half, None))
        ]
        combined = torch.stack([loss(*part) * part[-1].sum() for part in parts]).sum() / mask.sum()
        if not torch.isclose(combined, value, rtol=1e-3, atol=1e-6):
            raise ParamsError(
                f"params.yaml: `train.loss` {name} is {value.item():.6g} for a batch and {combined.item():.6g} for its "
                "halves together; expected a mean weighed by the mask, which workers can share, or `train.num_workers` "
                "of at most 1"
            )


def _told(error: BaseException, file: Path | None = None) -> str:
    """An error of the user's code in a few words: its kind, its message, and the line of code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is None or Path(frame.filename) == file] or frames[-1:]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
