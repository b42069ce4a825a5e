"""Where training starts: from weights that an earlier one ended with, or from scratch.

What those weights were fitted to can no longer judge them. The purpose of a block may change when footage is added, so
that such blocks are fitted again rather than held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from vidrnn.cards import CARD, camera_dir, load_card
from vidrnn.checkpoint import load_weights
from vidrnn.windows import Block, Split, file_of


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        version: of the model that they are of.
        weights: by name.
        fitted: keys of the blocks that it, or what it started from, was fitted to.
        alike: whether its footage was cut into the same blocks; else the files of `fitted` count as a whole.
    """

    version: str
    weights: dict[str, Tensor]
    fitted: frozenset[str]
    alike: bool

    def has_seen(self, block: Block) -> bool:
        """Whether a block can no longer judge it."""
        return block.key in self.fitted if self.alike else file_of(block.key) in self._files

    @cached_property
    def _files(self) -> set[str]:
        return {file_of(key) for key in self.fitted}


def demanded(root: Path, camera_id: str, blocks: dict[str, float]) -> Start:
    """The start that `train.init_from` names: the camera's model below `root`, or `root` itself where it is one model.

    Args:
        root: as that says.
        camera_id: whose.
        blocks: how footage is cut, as a card says it.

    Raises:
        CheckpointError: there is none, or it is damaged. Whether its shape fits, `fit` finds out.
    """
    own = camera_dir(root, camera_id)
    return _start(own if (own / CARD).is_file() else root, blocks)


def offered(root: Path, camera_id: str, wanted: dict[str, Any], blocks: dict[str, float]) -> Start | str:
    """The camera's model below `root`, if it was made for what is `wanted`, parts of a card; else why it is of no use.

    It is no fault that there is none, and the text is empty.
    """
    directory = camera_dir(root, camera_id)
    if not (directory / CARD).is_file():
        return ""
    card = load_card(directory)
    found = {**card, **card.get("use", {})}
    other = [name for name, value in wanted.items() if found.get(name) != value]
    return f"the model to start from has other {other[0]}" if other else _start(directory, blocks)


def _start(directory: Path, blocks: dict[str, float]) -> Start:
    card = load_card(directory)
    fitted = frozenset(card.get("footage", {}).get("fit", ()))
    return Start(card.get("version", ""), load_weights(directory), fitted, card.get("blocks") == blocks)


def begin(splits: Sequence[Split], found: Sequence[Start | str]) -> list[tuple[Split, Start]] | str:
    """For the cameras that share weights, what each starts from, and its footage with nothing held out that was fitted.

    Returns:
        A text, why training begins from scratch, where one of them has no start or nothing left to judge by.
    """
    begun = []
    for split, start in zip(splits, found, strict=True):
        if isinstance(start, str):
            return start
        held_out = split.validation + split.calibration
        validation, calibration = (
            [block for block in own if not start.has_seen(block)] for own in (split.validation, split.calibration)
        )
        if not validation or not calibration:
            return "the model to start from has seen all footage that could judge it"
        again = [block for block in held_out if start.has_seen(block)]
        begun.append((Split(split.fit + again, validation, calibration), start))
    return begun
