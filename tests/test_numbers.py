"""Footage that gives numbers little to hold on to: it is learned from and scored with finite ones, or one says why."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import moving_square, texture
from synthetic import Footage, small_params, walking, write_cells

from vidrnn.cards import camera_dir, load_card
from vidrnn.errors import FootageError
from vidrnn.features import CHANNELS, FeatureExtractor, Grid
from vidrnn.score import load_camera_model, score_video
from vidrnn.storage import video_path
from vidrnn.timebase import TimeBase
from vidrnn.train import train
from vidrnn.windows import MODELLED, CellReader, blocks_of, standard_of

torch.set_num_threads(1)
HEIGHT, WIDTH = 80, 64
PICTURES = {
    "black": np.zeros((HEIGHT, WIDTH), np.uint8),
    "white": np.full((HEIGHT, WIDTH), 255, np.uint8),
    "grey": np.full((HEIGHT, WIDTH), 128, np.uint8),
    "still": texture(HEIGHT, WIDTH, 1),
}


def cells_of(pictures):
    """(n, C, ROWS, columns) float16 features of pictures, 10 a second."""
    extractor = FeatureExtractor(Grid.of(WIDTH, HEIGHT, HEIGHT), TimeBase(1, 10), 0.5, 20.0, 60.0)
    rows = [row for k, picture in enumerate(pictures) for row in extractor.push(k, k, picture)]
    return np.stack([row.cells for row in [*rows, *extractor.flush()]])


def passing(background, count):
    """The same picture, before which something walks by in the second half."""
    walker = moving_square(count, HEIGHT, WIDTH, side=20)
    return [background if k < count // 2 else np.where(w > 120, w, background) for k, w in enumerate(walker)]


def learned(footage, tmp_path, **sections):
    """Train, and check that whatever the cards hold is a finite number."""
    train(footage.features, footage.training, small_params(**sections), tmp_path / "model")

    def refuse(constant):
        raise AssertionError(f"the card holds {constant}")

    for path in (tmp_path / "model").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    return tmp_path / "model"


def scores_of(models, footage, video_id):
    """The scores of a video, all of them finite, and the rarity of the highest."""
    camera = video_id.split("/")[0]
    model, out = load_camera_model(camera_dir(models, camera)), models / "scores.parquet"
    cells, regions = (video_path(footage.features / part, camera, video_id) for part in ("cells", "regions"))
    picture = (WIDTH, HEIGHT) if model.layout.rows > 1 else None
    score_video(model, cells, regions, picture, out, models / "windows.parquet", "made")
    table = pq.read_table(out)
    columns = ["score_raw", "score", "reason_expected_low", "reason_expected_high", "reason_seen"]
    assert all(np.isfinite(table[name].to_numpy()).all() for name in columns)
    assert all(table[name].null_count == (0 if picture else table.num_rows) for name in ("x0", "y0", "x1", "y1"))
    score = table["score"].to_numpy()
    assert len(score) == pq.read_metadata(cells).num_rows
    tail = model.calibration.tail
    assert np.isfinite([tail.threshold(10.0), *(tail.per_hour(float(value)) for value in score)]).all()
    return score


@pytest.mark.parametrize("kind", PICTURES)
def test_where_nothing_ever_moves_something_that_does_stands_out(kind, tmp_path):
    footage = Footage(tmp_path)
    for k in range(4):  # of different lengths, or they would count as one
        footage.add(f"gate/{k}.mp4", cells_of([PICTURES[kind]] * (40 + k)))
    footage.add("gate/walker.mp4", cells_of(passing(PICTURES[kind], 40)), trains=False)
    models = learned(footage, tmp_path)
    calm, busy = (scores_of(models, footage, f"gate/{name}.mp4") for name in ("0", "walker"))
    assert (calm == 0).all() and (busy[:15] == 0).all() and busy[25:].max() > 0.5
    assert load_card(models / "gate")["heldout"]["nll"] == 0


@pytest.mark.parametrize("name", ["part_speed", "gradient0", "person_foreground"])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_channel_that_never_varies(name, value, tmp_path):
    footage = Footage(tmp_path)
    for k in range(4):
        cells = walking(70, 4, k)
        cells[:, CHANNELS.index(name)] = value
        footage.add(f"gate/{k}.mp4", cells)
    footage.add("gate/varies.mp4", walking(70, 4, 9), trains=False)
    models = learned(footage, tmp_path)
    sd = load_card(models / "gate")["standard"]["sd"][MODELLED.index(name)]
    assert sd == pytest.approx(1e-3)
    scores_of(models, footage, "gate/0.mp4")
    scores_of(models, footage, "gate/varies.mp4")


@pytest.mark.parametrize("value", [0.0, 1.0, -3e-20, 2.5e30])
def test_a_sequence_that_never_varies_and_then_does(value, tmp_path):
    footage = Footage(tmp_path)
    for k in range(4):
        footage.add(f"pump/{k}.npy", np.full((40 + k, 2, 1, 1), value, np.float32))
    changed = np.full((40, 2, 1, 1), value, np.float32)
    changed[20:, 1] = value * 1.01 if value else 0.01
    footage.add("pump/changed.npy", changed, trains=False)
    models = learned(footage, tmp_path)
    calm, busy = (scores_of(models, footage, f"pump/{name}.npy") for name in ("0", "changed"))
    assert busy[:15].max() <= calm.max() < busy[25:].min()


@pytest.mark.parametrize(("scale", "zero"), [(1e-6, 0.0), (1e6, 3e7), (1e-3, 300.0), (1e30, 0.0)])
def test_of_which_size_a_value_is_does_not_matter(scale, zero, tmp_path):
    """As far as float32 tells them apart: 300 and its next neighbour are 3e-5 from each other."""
    plain = np.random.default_rng(0).normal(0, 1, (60, 1, 1, 1))
    z = []
    for name, values in (("plain", plain), ("other", plain * scale + zero)):
        path = write_cells(tmp_path / f"{name}.parquet", values.astype(np.float32))
        blocks, reader = blocks_of(path, name, 30.0, 5.0), CellReader()
        z.append(standard_of(reader, blocks).apply(reader.rows(str(path), 0, 60)))
    np.testing.assert_allclose(z[1], z[0], atol=0.05)
    assert z[0].std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("pictures", [True, False])
def test_videos_of_next_to_no_frames(pictures, tmp_path):
    """They are scored, and do not disturb the training, to which they are too short."""

    def cells(count, seed):
        drawn = np.random.default_rng(seed).normal(0, 1, (count, 3, 1, 1)).astype(np.float32)
        return walking(count, 4, seed) if pictures else drawn

    footage = Footage(tmp_path)
    for k in range(3):
        footage.add(f"gate/{k}.x", cells(70, k))
    before = learned(footage, tmp_path)
    weights = (before / "gate/weights.safetensors").read_bytes()
    for count in (1, 2, 7):  # seq_len is 8
        footage.add(f"gate/short {count}.x", cells(count, 10 + count), warmup=min(count, 5))
    models = learned(footage, tmp_path)
    assert (models / "gate/weights.safetensors").read_bytes() == weights
    for count in (1, 2, 7):
        assert len(scores_of(models, footage, f"gate/short {count}.x")) == count


def test_footage_of_short_videos_alone_is_one_sentence(tmp_path):
    footage = Footage(tmp_path)
    for k in range(9):
        footage.add(f"gate/{k}.mp4", walking(10, 4, k))
    with pytest.raises(FootageError) as caught:
        learned(footage, tmp_path)
    assert str(caught.value) == (
        "camera gate: 0.0 minutes of ordinary footage in 0 blocks is too little to learn from; expected at least 3 "
        "blocks (files, or stretches of train.block_seconds) of more than 2 seconds each: add footage for 3 more"
    )


def test_a_camera_of_pictures_and_sequences_is_one_sentence_and_the_others_go_on(tmp_path):
    footage = Footage(tmp_path)
    for k in range(3):
        footage.add(f"gate/{k}.mp4", walking(70, 4, k))
        footage.add(f"yard/{k}.mp4", walking(70, 4, 10 + k))
    footage.add("gate/a.npy", np.zeros((70, 2, 1, 1), np.float32))
    models = learned(footage, tmp_path)
    fates = json.loads((models / "cameras.json").read_text())
    assert fates["yard"]["status"] == "trained" and fates["gate"] == {
        "status": "unfit",
        "message": "camera gate: its files are of 2 different shapes or kinds, as in pictures of 4 columns of cells "
        "and sequences of 2 values (the first is called 'value 0'); expected one: put each into a camera folder of "
        "its own",
    }


def test_cameras_share_weights_with_those_of_their_kind(tmp_path):
    footage = Footage(tmp_path)
    for k in range(3):
        for camera in ("a", "b"):
            footage.add(f"{camera}/{k}.mp4", walking(70, 3 + (camera == "a"), k + 10 * (camera == "a")))
            values = np.random.default_rng(k + 10 * (camera == "a")).normal(0, 1, (70, 2, 1, 1))
            footage.add(f"pump {camera}/{k}.npy", values.astype(np.float32))
    models = learned(footage, tmp_path, train={"scope": "all"})
    cards = {camera: load_card(camera_dir(models, camera)) for camera in ("a", "b", "pump a", "pump b")}
    assert [card["use"]["camera_index"] for card in cards.values()] == [0, 1, 0, 1]
    assert all(card["use"]["num_cameras"] == 2 for card in cards.values())
    weights = {camera: (camera_dir(models, camera) / "weights.safetensors").read_bytes() for camera in cards}
    assert weights["a"] == weights["b"] != weights["pump a"] == weights["pump b"]
    scores_of(models, footage, "pump b/0.npy")
