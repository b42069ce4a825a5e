"""Pictures and clips as data URIs, within what one page may hold; what has no room is linked."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from vidrnn.events import CLIP, HEAT, PICTURE
from vidrnn.storage import camera_folder

PAGE_BYTES = 26_000_000  # of pictures and clips, as they stand in the page
FEW = 60  # events whose pictures stand there as they were made
_SMALL_WIDTH, _SMALL_QUALITY = 400, 68  # of the pictures of more events
_THUMBNAIL_WIDTH = 240  # pixels of a segment's
_JPEG, _PNG, _MP4 = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"ftyp"  # what such files start with, or after 4 bytes


@dataclass(frozen=True)
class Media:
    """What shows an event: data URIs, None where it is missing or not what it should be.

    Attributes:
        picture: a JPEG.
        heat: a PNG to lay over it.
        clip: an MP4 without sound.
        clip_path: where the clip lies, from the page's folder, as a URL; None where it is missing.
    """

    picture: str | None
    heat: str | None
    clip: str | None
    clip_path: str | None


def embed_events(media_dir: Path, keys: Sequence[tuple[str, str]], page: Path) -> list[Media]:
    """What shows the events (camera_id, event_id), most important first: clips have room for as long as there is some.

    Args:
        media_dir: where `media.write_media` wrote.
        keys: of the events.
        page: the file that it all goes into.
    """
    width = None if len(keys) <= FEW else _SMALL_WIDTH
    pictures = [embed_picture(_path(media_dir, *key, PICTURE), width) for key in keys]
    heats = [_uri(_path(media_dir, *key, HEAT), "image/png", _PNG) for key in keys]
    left = PAGE_BYTES - sum(len(uri or "") for uri in [*pictures, *heats])
    found = []
    for key, picture, heat in zip(keys, pictures, heats, strict=True):
        path = _path(media_dir, *key, CLIP)
        clip = _uri(path, "video/mp4", _MP4)
        where = clip and quote(Path(os.path.relpath(path, page.parent)).as_posix())
        if clip and len(clip) > left:
            clip = None
        left -= len(clip or "")
        found.append(Media(picture, heat, clip, where))
    return found


def embed_segment(media_dir: Path, camera_id: str, segment_id: str) -> str | None:
    """A thumbnail of a segment's key frame."""
    return embed_picture(_path(media_dir, camera_id, segment_id, PICTURE), _THUMBNAIL_WIDTH)


def embed_picture(path: Path, width: int | None) -> str | None:
    """A JPEG, at most `width` pixels wide; None where there is none."""
    body = _read(path, _JPEG)
    picture = None if body is None or width is None else cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    if picture is not None and width is not None and picture.shape[1] > width:
        scale = width / picture.shape[1]
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        body = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _SMALL_QUALITY])[1].tobytes()
    return _as_uri(body, "image/jpeg")


def _path(media_dir: Path, camera_id: str, name: str, suffix: str) -> Path:
    return camera_folder(media_dir, camera_id) / f"{quote(name, safe='')}{suffix}"


def _read(path: Path, magic: bytes) -> bytes | None:
    body = path.read_bytes() if path.is_file() else b""
    return body if body.startswith(magic) or body[4:].startswith(magic) else None


def _uri(path: Path, kind: str, magic: bytes) -> str | None:
    return _as_uri(_read(path, magic), kind)


def _as_uri(body: bytes | None, kind: str) -> str | None:
    return None if body is None else f"data:{kind};base64,{base64.b64encode(body).decode()}"
