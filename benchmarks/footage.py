"""Footage for measurements: textured and moving, the same for the same seed."""

from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from vidrnn.encode import VideoWriter

_WALKERS = 12
_Place = npt.NDArray[np.float64]  # y and x, or along them


def film(path: Path, width: int, height: int, frame_rate: int, seconds: int, preset: str, seed: int = 0) -> None:
    """H.264 at CRF 23 of a textured place that textured patches cross, with sensor noise."""
    rng = np.random.default_rng(seed)
    place = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), height / 120)
    place = 110 + 60 * place / np.abs(place).max()
    noise = rng.normal(0, 2, (8, height, width)).astype(np.float32)
    walkers = [_walker(rng, width, height) for _ in range(_WALKERS)]
    with VideoWriter(path, width, height, frame_rate, crf=23, preset=preset) as writer:
        for k in range(frame_rate * seconds):
            picture = place + noise[k % len(noise)]
            for patch, start, velocity in walkers:
                h, w = patch.shape
                y = int(start[0] + velocity[0] * k / frame_rate) % (height - h)
                x = int(start[1] + velocity[1] * k / frame_rate) % (width - w)
                picture[y : y + h, x : x + w] = patch
            writer.write(np.clip(picture, 0, 255).astype(np.uint8))


def _walker(rng: np.random.Generator, width: int, height: int) -> tuple[npt.NDArray[np.float32], _Place, _Place]:
    """A patch of a person's size, where it starts, and its velocity in pixels a second."""
    h, w = int(height * rng.uniform(0.12, 0.22)), int(height * rng.uniform(0.04, 0.08))
    patch = cv2.GaussianBlur(rng.uniform(0, 255, (h, w)).astype(np.float32), (0, 0), 2)
    velocity = height * np.array([rng.uniform(-0.03, 0.03), rng.choice([-1, 1]) * rng.uniform(0.05, 0.15)])
    return 128 + 2.5 * (patch - 128), rng.uniform(0, [height - h, width - w]), velocity


def repeat(source: Path, target: Path, times: int) -> None:
    """The packets of an H.264 file, `times` one after the other, without coding them anew."""
    with av.open(str(target), "w") as out:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as file:
                video = file.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in file.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    out.mux(packet)
                assert video.duration is not None
                offset += video.duration
