from dataclasses import replace

from benchmarks import scale
from vidrnn.params import load_params


def test_the_page_is_what_the_script_prints():
    printed = scale.page(scale.read_figures(), load_params())
    assert printed == (scale.ROOT / "docs/scale.md").read_text(encoding="utf-8"), (
        "python -m benchmarks.scale > docs/scale.md"
    )


def cells(page, name):
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_the_figures_follow_from_what_was_measured():
    figures = scale.Figures(decoded=300, scored=50, epoch=2, megabytes=dict.fromkeys(scale.PARTS, 100.0))
    page = scale.page(figures, load_params())
    assert cells(page, "footage that comes in a day") == ["216 GB", "21.6 TB", "2.2 PB"]  # 2 Mbit/s are 21.6 GB a day
    assert cells(page, "features, 365 days") == ["8.8 TB", "876.0 TB", "87.6 PB"]
    assert cells(page, "cores that decode") == ["1.0", "100", "10,000"]  # at 30 frames a second
    assert cells(page, "cores that score") == ["0.2", "20", "2,000"]
    assert cells(page, "rows of `frames`") == ["9 million", "864 million", "86,400 million"]
    faster = scale.page(replace(figures, decoded=600), load_params())
    assert cells(faster, "cores that decode") == ["0.5", "50", "5,000"]
