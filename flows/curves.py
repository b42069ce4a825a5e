"""The picture of a night's scores, for the pages of the server: what `data/plots/scores.csv` says."""

import base64
import csv
from io import BytesIO
from pathlib import Path

SCORES = Path("data/plots/scores.csv")


def picture_of(scores: Path) -> str:
    """The shares of frames by score, as a PNG in a `data:` address, which a page shows without asking for a file.

    Args:
        scores: a CSV file with the columns score, ordinary and unusual; the last is all zero without labels.
    """
    from matplotlib.figure import Figure  # here, not above: a night that has nothing to show need not wait for it

    with scores.open(newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("ordinary", "#4477aa"), ("unusual", "#cc3311")):
        if any(row[name] for row in rows):
            axes.step([row["score"] for row in rows], [row[name] for row in rows], color=colour, label=name)
    axes.set(xlabel="score", ylabel="share of frames", yscale="log")
    if rows:
        axes.legend(frameon=False)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
