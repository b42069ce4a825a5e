"""The errors that reach a user. Each message is one sentence: what, where, expected, found, how to mend it."""


def printable(text: str) -> str:
    """The text with what a terminal would obey, or could not print, spelled out: a file name may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
