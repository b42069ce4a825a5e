"""What is written is what a reader finds: pts, pictures, rotation, and the same bytes again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidrnn.encode import VideoWriter


def _ramp(count: int, grey: bool = False) -> list[np.ndarray]:
    shape = (48, 64) if grey else (48, 64, 3)
    return [np.full(shape, 30 + 20 * i, np.uint8) for i in range(count)]


def _read(path: Path) -> tuple[list[int], Fraction, list[np.ndarray], list[int]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        base = container.streams.video[0].time_base
    return [f.pts for f in frames], base, [f.to_ndarray(format="gray") for f in frames], [f.rotation for f in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("pts", [[0, 50, 100, 150], [0, 10, 33, 34], [90, 100, 777, 800]])
def test_pts_are_read_back_exactly(tmp_path: Path, suffix: str, pts: list[int]) -> None:
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, 64, 48, 20, time_base=Fraction(1, 1000)) as writer:
        for image, at in zip(_ramp(len(pts)), pts, strict=True):
            writer.write(image, at)
    found, base, pictures, _ = _read(path)
    assert base == Fraction(1, 1000)
    assert found == pts
    for i, picture in enumerate(pictures):
        assert abs(float(picture.mean()) - (30 + 20 * i)) < 6


def test_frames_without_pts_are_evenly_spaced(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 64, 48, Fraction(30000, 1001), time_base=Fraction(1, 30000)) as writer:
        for image in _ramp(5, grey=True):
            writer.write(image)
    found, base, _, _ = _read(path)
    assert [at * base for at in found] == [Fraction(1001 * i, 30000) for i in range(5)]


def test_grey_and_colour_pictures_agree(tmp_path: Path) -> None:
    for name, grey in (("grey.mp4", True), ("colour.mp4", False)):
        with VideoWriter(tmp_path / name, 64, 48, 20) as writer:
            for image in _ramp(4, grey):
                writer.write(image)
    assert (tmp_path / "grey.mp4").read_bytes() == (tmp_path / "colour.mp4").read_bytes()


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_is_read_back(tmp_path: Path, rotation: int) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 64, 48, 20, rotation=rotation) as writer:
        for image in _ramp(3):
            writer.write(image)
    assert {found % 360 for found in _read(tmp_path / "clip.mp4")[3]} == {rotation % 360}


def test_no_clock_and_no_version_in_the_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 64, 48, 20) as writer:
        for image in _ramp(3):
            writer.write(image)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert b"Lavf" not in data and b"Lavc" not in data
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert "creation_time" not in {**container.metadata, **container.streams.video[0].metadata}


def test_an_error_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "clip.mp4", 64, 48, 20) as writer:
        writer.write(_ramp(1)[0])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "clip.mp4", 63, 48, 20)
    with pytest.raises(ValueError, match="64 x 48"), VideoWriter(tmp_path / "clip.mp4", 64, 48, 20) as writer:
        writer.write(np.zeros((40, 64, 3), np.uint8))


def test_the_same_bytes_whatever_the_memory_held_before(tmp_path: Path) -> None:
    """With its look-ahead as it comes, x264 gives several films here."""
    rng, width = np.random.default_rng(0), 176
    still = rng.integers(40, 200, (180, width), dtype=np.uint8)
    pictures = [np.roll(still, k, 1) // 2 + rng.integers(0, 60, still.shape, dtype=np.uint8) for k in range(40)]
    films = set()
    for turn in range(6):
        held = [rng.integers(0, 255, 90_000 * (turn + 1), dtype=np.uint8) for _ in range(20)]
        del held
        with VideoWriter(tmp_path / "a.mp4", width, 180, 10, crf=30, preset="medium") as writer:
            for picture in pictures:
                writer.write(picture)
        films.add((tmp_path / "a.mp4").read_bytes())
    assert len(films) == 1


def test_a_limit_of_the_rate_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {}
    for limit in (None, (80_000, 40_000)):
        with VideoWriter(tmp_path / "a.mp4", 256, 192, 10, rate_limit=limit) as writer:
            for _ in range(40):
                writer.write(rng.integers(0, 255, (192, 256), dtype=np.uint8))
        sizes[limit] = (tmp_path / "a.mp4").stat().st_size
    assert sizes[80_000, 40_000] < (4 * 80_000 + 40_000) / 8 * 1.1 < sizes[None] / 4
