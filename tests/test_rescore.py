import json
import re
import subprocess
import sys

import pytest
from synthetic import Footage, files_of, save_camera_model, walking, write_fates

from vidrnn.cards import CARD, camera_dir
from vidrnn.params import load_params
from vidrnn.rescore import score_videos
from vidrnn.score import load_camera_model, score_video
from vidrnn.sources import stage_digest
from vidrnn.storage import digest, read_metadata, video_path

COLUMNS, PICTURE, DEVICE = 4, (64, 48), load_params().device


def test_what_shares_out_the_videos_does_without_torch():
    """It takes seconds to import, in every run of the pipeline."""
    code = "import sys, vidrnn.stages.score; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_only_what_changed_is_scored(tmp_path, capfd):
    footage = Footage(tmp_path)
    for k, name in enumerate(("gate/a.mp4", "gate/b.mp4")):
        footage.add(name, walking(30, COLUMNS, k), regions=[(3, 1.0, 1.0, 9.0, 9.0)])
    footage.add("gate/wide.mp4", walking(30, 7, 3))
    footage.add("yard/c.mp4", walking(30, COLUMNS, 4))
    footage.add("gate/train.mp4", walking(30, COLUMNS, 5), scored=False)
    footage.add("hall/d.mp4", walking(30, COLUMNS, 6))
    models, out = tmp_path / "model", tmp_path / "scores"
    versions = [save_camera_model(camera_dir(models, "gate"))]
    write_fates(models, gate="", yard="camera yard: 0.1 minutes is too little")

    def score(device=DEVICE):
        score_videos(footage.index, footage.features, models, out, device)
        lines = capfd.readouterr().out.splitlines()
        speeds = [
            line for line in lines if re.fullmatch(r"score: [\d.]+ minutes of footage, [\d.]+ times as fast .*", line)
        ]
        assert len(speeds) == (not lines[-1].startswith("score: 0 "))
        return lines[-1], files_of(out)

    said, first = score()
    assert said == "score: 3 scored, 0 kept, 0 files removed"
    paths = {name: video_path(out, "gate", f"gate/{name}.mp4") for name in ("a", "b")}
    names = [str(path.relative_to(out)) for path in paths.values()]
    assert sorted(first) == sorted([*names, *(f"windows/{name}" for name in names), "skipped.json"])
    skipped = json.loads(first["skipped.json"])
    assert set(skipped) == {"gate/wide.mp4", "yard/c.mp4", "hall/d.mp4"}
    assert skipped["gate/wide.mp4"].startswith("not scored: the model of its camera learned pictures of 4 columns")
    assert skipped["yard/c.mp4"] == "not scored: camera yard: 0.1 minutes is too little"
    assert skipped["hall/d.mp4"] == "not scored: camera hall: no footage of it trains"

    # Two processes wrote what one would have written.
    common = stage_digest("score", DEVICE.model_dump(), ["numpy", "torch"])
    for name, path in paths.items():
        features, regions = (
            video_path(footage.features / part, "gate", f"gate/{name}.mp4") for part in ("cells", "regions")
        )
        made_from = digest([read_metadata(features)["digest"], versions[0], common])
        alone, windows = tmp_path / "alone.parquet", tmp_path / "windows.parquet"
        score_video(load_camera_model(models / "gate"), features, regions, PICTURE, alone, windows, made_from)
        assert alone.read_bytes() == path.read_bytes()
        assert windows.read_bytes() == (out / "windows" / path.relative_to(out)).read_bytes()

    # Again: nothing to do but to remove what nobody wants.
    footage.remove("gate/wide.mp4")
    video_path(out, "gate", "gone.mp4").write_bytes(b"old")
    said, again = score()
    assert said == "score: 0 scored, 2 kept, 1 files removed"
    assert {**again, "skipped.json": b""} == {**first, "skipped.json": b""}

    # Another device may give other last bits.
    said, elsewhere = score(DEVICE.model_copy(update={"deterministic": True}))
    assert said == "score: 2 scored, 0 kept, 0 files removed" and set(elsewhere) == set(first)

    versions.append(save_camera_model(models / "gate", seed=1))
    said, second = score()
    assert said == "score: 2 scored, 0 kept, 0 files removed"
    assert versions[0] != versions[1]
    assert all(second[name] != first[name] for name in first if name != "skipped.json")
    (models / "gate" / CARD).unlink()
    said, nothing = score()
    assert said == "score: 0 scored, 0 kept, 4 files removed" and list(nothing) == ["skipped.json"]
