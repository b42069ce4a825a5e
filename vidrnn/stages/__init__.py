"""One module a DVC stage: paths from `dvc.yaml`, a section of `params.yaml`, one call, one write."""

import sys
from collections.abc import Callable

from vidrnn.errors import VidrnnError


def run_stage(stage: Callable[..., None]) -> None:
    """Call `stage(*argv)`; tell a user's mistake (exit 2) or a known failure (exit 1) in one sentence, no traceback."""
    try:
        stage(*sys.argv[1:])
    except VidrnnError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
