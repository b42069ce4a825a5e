"""What goes over all videos, from index to tables, with a model that is there: `python whole.py VIDEOS MODEL OUT`."""

from pathlib import Path

from vidrnn.extract import extract_features
from vidrnn.index import index_videos
from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.schema import SCHEMAS
from vidrnn.stages import run_stage
from vidrnn.storage import write_table
from vidrnn.tables import make_tables


def make_all(videos: Path, model: Path, out: Path) -> None:
    """Bring everything below `out` up to date."""
    params = load_params()
    features_params = params.features.model_copy(update={"warmup_seconds": 1.0})
    index = index_videos(videos, params.index, "UTC", out.with_suffix(".json"))
    training = extract_features(videos, index, features_params, out / "features")
    for name, table in (("index", index), ("training", training)):
        write_table(out / f"{name}.parquet", table, SCHEMAS[name])
    score_videos(index, out / "features", model, out / "scores", params.device)
    make_tables(videos, index, out / "features", model, out / "scores", params.alarms, out / "tables", out / "media")


if __name__ == "__main__":
    run_stage(lambda *paths: make_all(*map(Path, paths)))
