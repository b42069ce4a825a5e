"""A file through a model in one process: what is told while it is decoded is what its tables say in the end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import moving_square, write_clip
from synthetic import save_camera_model, small_params

from vidrnn.analyze import analyze, choose_camera
from vidrnn.errors import UserError
from vidrnn.features import Grid

FRAMES = {
    "short": np.arange(5) * 50,  # too short for the start of an average, and for the warm-up
    "steady": np.arange(160) * 50,
    "gap": np.arange(160) * 50 + 4000 * (np.arange(160) >= 100),
    "gap near the end": np.arange(160) * 50 + 4000 * (np.arange(160) >= 155),
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_told_on_the_way_is_what_the_tables_say(name: str, tmp_path: Path) -> None:
    pts = FRAMES[name].tolist()
    clip = write_clip(tmp_path / "a.mp4", moving_square(len(pts), step=1.0), pts)
    columns = Grid.of(64, 48, 80).columns
    save_camera_model(tmp_path / "models/gate", columns=columns, tail=(0.3, 40, 0.1, 1.0))
    told: list[dict[str, Any]] = []
    params = small_params(features={"height": 80, "warmup_seconds": 1.0})
    table = analyze(clip, "gate", tmp_path / "models", params, tmp_path / "out", told.append)
    events = [event for event in table.to_pylist() if event["kind"] == "unusual"]
    assert [event["onset_seconds"] for event in told] == [event["onset_seconds"] for event in events]
    assert [event["peak_score"] for event in told] == pytest.approx([event["peak_score"] for event in events], abs=1e-5)
    assert bool(told) == (name != "short")


def test_the_camera_is_the_one_named_or_the_nearest_folder_or_the_only_one(tmp_path: Path) -> None:
    for camera in ("gate", "yard"):
        (tmp_path / "models" / camera).mkdir(parents=True)
        (tmp_path / "models" / camera / "model.json").write_text("{}")
    models, file = tmp_path / "models", Path("/footage/yard/gate/test/a.mp4")
    assert choose_camera(models, file, None) == "gate" and choose_camera(models, file, "yard") == "yard"
    with pytest.raises(UserError, match=r"of which camera.*there are 'gate', 'yard'"):
        choose_camera(models, Path("/elsewhere/a.mp4"), None)
    with pytest.raises(UserError, match=r"no camera with a model is called 'gat'.*did you mean 'gate'"):
        choose_camera(models, file, "gat")
    (models / "yard/model.json").unlink()
    assert choose_camera(models, Path("/elsewhere/a.mp4"), None) == "gate"
    with pytest.raises(UserError, match="holds no model yet"):
        choose_camera(tmp_path / "none", file, None)
