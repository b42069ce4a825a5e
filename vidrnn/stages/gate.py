"""Stage `gate`: keep the better of candidate and champion."""

from pathlib import Path

from vidrnn.feedback import read_marks
from vidrnn.gate import gate
from vidrnn.params import load_params
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import read_table, write_table


def main(
    features: str,
    training: str,
    labelled: str,
    feedback: str,
    candidate: str,
    champion: str,
    withdrawn: str,
    out: str,
    promotions: str,
) -> None:
    """Held-out and labelled footage, marks and two models a camera in; the one that is kept, and why, out."""
    marks = read_marks(Path(feedback))
    listed, intervals = (
        read_table(Path(path), SCHEMAS[name]) for path, name in ((training, "training"), (labelled, "labelled"))
    )
    refused = frozenset(Path(withdrawn).read_text(encoding="utf-8").split())
    models = Path(candidate), Path(champion), Path(out)
    decided = gate(Path(features), listed, *models, load_params(), refused, marks, intervals)
    write_table(Path(promotions), decided, SCHEMAS["promotions"])


if __name__ == "__main__":
    run_stage(main)
