"""The list of footage that was removed on purpose, `data/retired.csv`: rows of `index`, for people to read, too."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pcsv

from vidrnn.errors import UserError
from vidrnn.schema import SCHEMAS
from vidrnn.storage import replacing

RETIRED = Path("data/retired.csv")


def read_retired(path: Path) -> pa.Table:
    """The rows of `index` whose footage has been removed on purpose.

    Raises:
        UserError: the file is missing or not as `vidrnn retire` writes it.
    """
    schema = SCHEMAS["index"]
    try:
        table = pcsv.read_csv(
            path,
            convert_options=pcsv.ConvertOptions(
                column_types=schema,
                include_columns=schema.names,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        return table.cast(schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        told = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a list of removed footage ({told}); restore it with `git checkout {path}`"
        ) from None


def write_retired(path: Path, table: pa.Table) -> None:
    """Replace the list, in the order of names."""
    with replacing(path) as partial:
        pcsv.write_csv(table.sort_by("video_id"), partial)
