"""The cards of models: JSON that tells of the weights beside them, readable without torch.

A card holds all that is needed to use the weights: architecture, scaling, calibration, and what they were made from.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from vidrnn.errors import CheckpointError

WEIGHTS, CARD = "weights.safetensors", "model.json"
AGAIN = "pull the model again or train anew"


def camera_dir(root: Path, camera_id: str) -> Path:
    """Where the model of a camera lies below `root`."""
    return root / quote(camera_id, safe="")


def cameras_in(root: Path) -> list[str]:
    """The cameras that have a model below `root`, sorted; none where `root` does not exist."""
    return sorted(unquote(path.parent.name) for path in root.glob(f"*/{CARD}"))


def load_card(directory: Path) -> dict[str, Any]:
    """The card of a model.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    path = directory / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no model here; expected a folder with {CARD} and {WEIGHTS}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); {AGAIN}") from None
    if not isinstance(card, dict):
        raise CheckpointError(f"{path}: expected the card of a model, found {type(card).__name__}")
    return card
