"""One module a DVC stage: paths from `dvc.yaml`, a section of `params.yaml`, one call, one write."""

import gc
import sys
from collections.abc import Callable
from typing import NoReturn

from vidrnn.errors import VidrnnError, out_of_space
from vidrnn.storage import spare_pandas


def run_stage(stage: Callable[..., None]) -> None:
    """Call `stage(*argv)`; tell a user's mistake (exit 2) or a known failure (exit 1) in one sentence, no traceback."""
    spare_pandas()
    gc.set_threshold(50_000)  # what is imported is no garbage, and is looked through again and again for some
    try:
        stage(*sys.argv[1:])
    except OSError as error:
        if (told := out_of_space(error, str(error.filename or "a temporary file"))) is None:
            raise
        _end(told)
    except VidrnnError as error:
        _end(error)
    gc.freeze()  # nor need it be taken apart, which takes as long as half of the imports, since the process ends


def _end(error: VidrnnError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None
