"""Galleries: images that say what the evidence is made of, such as private rows or triggers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import InvalidInput, MissingDependency

__all__ = ["GALLERIES", "Gallery", "Tile", "load_galleries"]

GALLERIES = "galleries"
_MOST_TILES = 96
_LARGEST_SIDE, _SHOWN_SIDE, _SMALL = 4096, 224, 72
_LARGEST_FILE = 2**28
_CHANNELS = (1, 3)
_AXES = 3


@dataclass(frozen=True)
class Tile:
    """An image of a gallery as it is shown.

    Parameters
    ----------
    label
        What stands below it.
    png
        The file's bytes.
    width
        Pixels on the page; small images are enlarged.
    """

    label: str
    png: bytes
    width: int

    @property
    def data_uri(self) -> str:
        """The image as an address that needs no file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, eq=False)
class Gallery:
    """Some images with their labels.

    Parameters
    ----------
    title, caption
        What they are.
    images
        Pairs of a label and an image: uint8, or floats in [0, 1], shape ``[c, h, w]``,
        with 1 (grey) or 3 (red, green, blue) channels.

    Raises
    ------
    InvalidInput
        If an image is no such array.

    Examples
    --------
    >>> gallery = Gallery("Triggers", images=[("one", np.zeros((1, 8, 8)))])
    >>> tile = gallery.tiles[0]
    >>> tile.label, tile.width, tile.png[1:4]
    ('one', 72, b'PNG')
    """

    title: str
    caption: str = ""
    images: Sequence[tuple[str, Any]] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.title, self.caption)):
            msg = "a gallery's title and caption must be text"
            raise InvalidInput(msg)
        object.__setattr__(self, "images", tuple((str(label), _image(image)) for label, image in self.images))

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """The first images, drawn.

        Raises
        ------
        MissingDependency
            If pillow is not installed.
        """
        return tuple(_tile(label, image) for label, image in self.images[:_MOST_TILES])

    def save(self, path: str | Path) -> None:
        """Write the gallery as a safetensors file."""
        from safetensors.numpy import save_file

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        labels = json.dumps([label for label, _ in self.images])
        metadata = {"title": self.title, "caption": self.caption, "labels": labels}
        tensors = {f"{i:05d}": np.ascontiguousarray(image) for i, (_, image) in enumerate(self.images)}
        save_file(tensors, target, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Gallery:
        """Read what `save` wrote.

        Raises
        ------
        InvalidInput
            If the file is no gallery.
        """
        from safetensors import SafetensorError, safe_open

        try:
            if Path(path).stat().st_size > _LARGEST_FILE:
                msg = f"{path} is larger than any gallery ({_LARGEST_FILE} bytes)"
                raise InvalidInput(msg)
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                labels = json.loads(metadata["labels"])
                images = [file.get_tensor(name) for name in sorted(file.keys())]
            return cls(metadata["title"], metadata["caption"], list(zip(labels, images, strict=True)))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            msg = f"{path} is no gallery: {error}"
            raise InvalidInput(msg) from error


def load_galleries(folder: str | Path) -> list[Gallery]:
    """Read every gallery of a study's folder, in the order of their names.

    Examples
    --------
    >>> load_galleries("nowhere")
    []
    """
    return [Gallery.load(path) for path in sorted((Path(folder) / GALLERIES).glob("*.safetensors"))]


def _image(value: Any) -> np.ndarray[Any, Any]:
    """Return a picture as uint8 or float32 ``[c, h, w]``, checked."""
    image = np.asarray(value)
    if image.ndim != _AXES or image.shape[0] not in _CHANNELS:
        msg = f"an image must have shape [1 or 3, h, w], got {list(image.shape)}"
        raise InvalidInput(msg)
    if not all(1 <= side <= _LARGEST_SIDE for side in image.shape[1:]):
        msg = f"an image must have 1 to {_LARGEST_SIDE} pixels a side, got {list(image.shape)}"
        raise InvalidInput(msg)
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating) or not (image.min() >= 0 and image.max() <= 1):
        msg = f"an image must be uint8, or floats in [0, 1]; got {image.dtype}. Bring it to that range first"
        raise InvalidInput(msg)
    return image.astype(np.float32)


def _tile(label: str, image: np.ndarray[Any, Any]) -> Tile:
    try:
        from PIL import Image
    except ImportError as error:
        msg = "galleries need pillow; install it with: pip install 'assay-ml[report]'"
        raise MissingDependency(msg) from error
    grey = image if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)
    rows = np.ascontiguousarray(grey[0] if grey.shape[0] == 1 else grey.transpose(1, 2, 0))
    picture = Image.fromarray(rows)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    out = io.BytesIO()
    picture.save(out, "png", optimize=True)
    return Tile(label, out.getvalue(), max(_SMALL, picture.width))
