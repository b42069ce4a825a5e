"""What the network is compared with, on the same features: here the network itself with its memory cut."""

import copy
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import nn

from vidrnn.cards import camera_dir, cameras_in, load_card
from vidrnn.checkpoint import save_model
from vidrnn.params import Params
from vidrnn.score import CameraModel, load_camera_model
from vidrnn.train import calibrate, footage_split


def without_memory(model: CameraModel) -> CameraModel:
    """The same trained weights, but whatever was seen, each prediction is that of an empty memory: the prior.

    The output layer no longer reads the memory, which is what a memory of zeros gives it. The calibration is still
    that of the whole network: `calibrate` anew before scores are compared.
    """
    net = copy.deepcopy(model.net)
    reads = net.output[0]  # of the memory, and of the place behind it
    assert isinstance(reads, nn.Linear)
    with torch.no_grad():
        reads.weight[:, : net.input.out_features] = 0
    return replace(model, net=net)


def cut_memory(models: Path, features: Path, training: pa.Table, params: Params, out: Path) -> None:
    """The models below `models` as `without_memory`, calibrated on the footage that they were calibrated on.

    Args:
        models: root of a model folder a camera.
        features, training, params: that they were trained with.
        out: gets a model folder a camera, which `score_videos` takes as it takes any other.
    """
    for camera_id in cameras_in(models):
        source = camera_dir(models, camera_id)
        card = {key: value for key, value in load_card(source).items() if key != "version"}
        model = without_memory(load_camera_model(source))
        split = footage_split(features, training, camera_id, params)
        held_out = split.validation + split.calibration
        calibration, heldout = calibrate(model, held_out, split.fit, params.alarms.merge_seconds)
        card |= {"calibration": calibration.to_json(), "heldout": heldout}
        save_model(camera_dir(out, camera_id), model.net.state_dict(), card)
    (out / "cameras.json").write_bytes((models / "cameras.json").read_bytes())
