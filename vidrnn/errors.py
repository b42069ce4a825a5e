"""The errors that reach a user. Each message is one sentence: what, where, expected, found, how to mend it."""

import difflib
import errno
from collections.abc import Iterable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of the disk, of a share of it, of what one file may have
_FEW = 12  # names that a sentence may list


def printable(text: str) -> str:
    """The text with what a terminal would obey, or could not print, spelled out: a file name may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """What there is instead of `word`, for a sentence: all names if they are few, else those that are most like it."""
    names = list(dict.fromkeys(known))
    alike = difflib.get_close_matches(word, names, n=_FEW, cutoff=0.0 if len(names) > _FEW else 0.6)
    if len(names) > _FEW:
        return f"of {len(names)}, the nearest are {', '.join(map(repr, alike))}"
    if not names:
        return "there are none"
    listed = ", ".join(map(repr, names))
    return f"there are {listed}" + (f"; did you mean {alike[0]!r}?" if alike and len(names) > 1 else "")


class VidrnnError(Exception):
    """A failure of ours, told in one sentence. `python -m vidrnn.stages.X` and `vidrnn` exit with 1."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UserError(VidrnnError):
    """A mistake that the user can mend. `python -m vidrnn.stages.X` and `vidrnn` exit with 2."""

    exit_code = 2


class ParamsError(UserError):
    """`params.yaml` does not say what it must."""


class LabelsError(UserError):
    """A label file does not fit its format or the footage."""


class FootageError(UserError):
    """There is no footage that the step could work on."""


class SchemaError(VidrnnError):
    """A table breaks the contract of `schema.py`."""


class CheckpointError(UserError):
    """A model file is missing, damaged or of another shape."""


class DecodeError(VidrnnError):
    """A file cannot be decoded at all; the caller turns it into a row of `videos`."""


def out_of_space(error: OSError, where: str) -> VidrnnError | None:
    """What is said of an error that came because there was no room to write; None of any other."""
    if error.errno not in _FULL:
        return None
    return VidrnnError(
        f"{where}: there is no space left to write it; free some and run again: what was finished before is kept"
    )
