"""A model on disk: `weights.safetensors` and `model.json`, its card. Loaded strictly, nothing is unpickled.

`version` is the first 12 hex digits of the sha256 over the weights and the rest of the card.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vidrnn.cards import AGAIN, CARD, WEIGHTS, load_card
from vidrnn.errors import CheckpointError
from vidrnn.model import VideoRNN
from vidrnn.storage import digest, replacing, write_json


def save_model(directory: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> str:
    """Write weights and card, the card last; returns the version. The same model gives the same bytes."""
    body = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    version = _version(body, card)
    with replacing(directory / WEIGHTS) as partial:
        partial.write_bytes(body)
    write_json(directory / CARD, {**card, "version": version})
    return version


def load_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model.

    Raises:
        CheckpointError: there are none, or the file is damaged.
    """
    path = directory / WEIGHTS
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no weights here; expected a folder with {CARD} and {WEIGHTS}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); {AGAIN}") from None


def load_into(net: VideoRNN, weights: dict[str, Tensor], what: str, mend: str) -> None:
    """Put weights into a network of exactly their shape.

    Args:
        net: takes them.
        weights: by name.
        what: they are, and `mend`, what to do if they do not fit, for the message.
        mend: see `what`.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    own = net.state_dict()
    for name in sorted(set(own) | set(weights)):
        if name not in weights:
            problem = f"it has no tensor {name}"
        elif name not in own:
            problem = f"its tensor {name} is unknown"
        elif weights[name].shape != own[name].shape:
            problem = f"its tensor {name} is {_shape(weights[name])}, expected {_shape(own[name])}"
        else:
            continue
        raise CheckpointError(f"{what} does not fit: {problem}; {mend}")
    net.load_state_dict(weights, strict=True)


def load_model(directory: Path) -> tuple[VideoRNN, dict[str, Any]]:
    """The network with its weights, ready to score, and its card.

    Raises:
        CheckpointError: something is missing, damaged or does not fit.
    """
    card, weights = load_card(directory), load_weights(directory)
    found = _version((directory / WEIGHTS).read_bytes(), {key: card[key] for key in card if key != "version"})
    if card.get("version") != found:
        raise CheckpointError(
            f"{directory}: its card tells of version {card.get('version')}, its files make {found}; {AGAIN}"
        )
    try:
        net = VideoRNN(**card["architecture"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory / CARD}: not a card that this code reads ({error}); {AGAIN}") from None
    load_into(net, weights, f"{directory}: it", AGAIN)
    return net.eval().requires_grad_(False), card


def _version(body: bytes, card: dict[str, Any]) -> str:
    return hashlib.sha256(body + digest(card).encode()).hexdigest()[:12]


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, torch.as_tensor(tensor.shape).tolist())) or "a number"
