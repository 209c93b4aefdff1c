"""Images from disk: one folder per class."""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.data.bounded import MAX_BYTES, check_size
from assay.data.catalogue import Card, Parts, source
from assay.data.dataset import Dataset
from assay.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from PIL import Image as PillowImage

__all__ = ["images", "open_image"]

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_MODES = {
    1: {"1", "L"},
    3: {"LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "RGBX", "HSV", "LAB"},
}
_MOST_PIXELS = 50_000_000
_PARTS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


def open_image(path: Path, channels: int | None = None) -> PillowImage.Image:
    """Decode one image into 8-bit grey or RGB, upright.

    Parameters
    ----------
    path
        A BMP, GIF (first frame), JPEG, PNG, PNM, TIFF or WebP file.
    channels
        1 for grey, 3 for RGB, None for grey only if the file is grey.

    Raises
    ------
    InvalidInput
        If it is no image, has more than 50 million pixels (checked before decoding), or
        has more than 8 bits a channel.
    MissingDependency
        Without Pillow.
    """
    image_module, ops = _pillow("Image"), _pillow("ImageOps")
    try:
        with warnings.catch_warnings():
            # Pillow only warns about a possible decompression bomb; our own limit is lower, and it refuses.
            warnings.simplefilter("ignore")
            with image_module.open(path, formats=_FORMATS) as image:
                _check_header(image, path)
                channels = channels or (1 if image.mode in _MODES[1] else 3)
                upright: PillowImage.Image = ops.exif_transpose(image)
                return upright.convert("L" if channels == 1 else "RGB")
    except InvalidInput:
        raise
    # Pillow's decoders raise many kinds of error for broken files (struct.error, SyntaxError, ...).
    except Exception as error:
        msg = f"cannot read {path} as an image: {error}"
        raise InvalidInput(msg) from error


@source("images", Card("file", "one folder per class", "images:FOLDER or FOLDER/, options size, channels"))
def images(
    path: str, size: int | None = None, channels: int | None = None, limit: int = MAX_BYTES
) -> Dataset | Parts:
    """Folder with one subfolder of images per class, or with ``train`` and ``test`` of such.

    Parameters
    ----------
    path
        The folder.
    size
        Height and width to scale to after cutting out the central square; None if all
        images have the same size already.
    channels
        1 for grey, 3 for RGB, None for what the first image is.
    limit
        Largest size of all decoded images, in bytes.

    Returns
    -------
    Dataset or Parts
        ``[n, channels, height, width]`` in [0, 1]; classes are the folders' names.

    Raises
    ------
    InvalidInput
        If a class has no images, an image cannot be read, or sizes differ.
    """
    if (size is not None and not 1 <= size <= 4096) or channels not in {None, 1, 3}:  # noqa: PLR2004
        msg = f"size must be 1 to 4096 and channels 1 or 3, got {size} and {channels}"
        raise InvalidInput(msg)
    root = Path(path)
    folders = _subfolders(root)
    if folders and all(f.name in _PARTS for f in folders):
        classes = sorted({c.name for folder in folders for c in _subfolders(folder)})
        # All parts must agree on grey or colour; the first part decides for them.
        channels = channels or _first_channels(folders)
        return {
            _PARTS[f.name]: partial(_read_folder, f, classes, size, channels, limit, f"{root.name}-{f.name}")
            for f in sorted(folders, key=lambda f: list(_PARTS).index(f.name))
        }
    return _read_folder(root, [f.name for f in folders], size, channels, limit, root.name)


def _check_header(image: PillowImage.Image, path: Path) -> None:
    """Look at size and mode, which are known before a pixel is decoded."""
    if image.width * image.height > _MOST_PIXELS:
        msg = f"{path} has {image.width}x{image.height} pixels, more than {_MOST_PIXELS:,}; shrink it"
        raise InvalidInput(msg)
    if image.mode not in _MODES[1] | _MODES[3]:
        msg = f"{path} has mode {image.mode!r}, more than 8 bits a channel; save it as 8-bit grey or RGB"
        raise InvalidInput(msg)


def _pillow(module: str) -> Any:
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        msg = "reading images needs Pillow; install it with: pip install 'assay-ml[images]'"
        raise MissingDependency(msg) from error


def _subfolders(root: Path) -> list[Path]:
    if not root.is_dir():
        msg = f"{root} is no folder; images are read from a folder with one subfolder per class"
        raise InvalidInput(msg)
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))


def _first_channels(folders: list[Path]) -> int:
    files = (f for folder in folders for c in _subfolders(folder) for f in _images_in(c))
    first = next(files, None)
    return 3 if first is None or open_image(first).mode == "RGB" else 1


def _read_folder(
    root: Path, classes: list[str], size: int | None, channels: int | None, limit: int, name: str
) -> Dataset:
    if len(classes) < 2:  # noqa: PLR2004 - one class decides nothing
        msg = f"{root} must hold one subfolder per class, at least 2; found: {', '.join(classes) or 'none'}"
        raise InvalidInput(msg)
    # A part need not have every class of the set, but a class folder that exists must have images.
    folders = [(c, root / folder) for c, folder in enumerate(classes) if (root / folder).is_dir()]
    files = [(file, c) for c, folder in folders for file in _class_files(folder)]
    x: np.ndarray | None = None
    for i, (file, _) in enumerate(files):
        image = open_image(file, channels)
        if size is not None:
            image = _pillow("ImageOps").fit(image, (size, size), _pillow("Image").Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(image.height, image.width, -1)
        if x is None:
            check_size(len(files) * pixels.size, limit, f"{root}, decoded,")
            x = np.empty((len(files), *pixels.shape), np.uint8)
            channels = pixels.shape[2]
        if pixels.shape != x.shape[1:]:
            expected = "x".join(map(str, x.shape[1:3]))
            msg = f"{file} has {image.height}x{image.width} pixels, the first image {expected}; give size="
            raise InvalidInput(msg)
        x[i] = pixels
    if x is None:
        msg = f"{root} holds no class folders; images are read from one subfolder per class"
        raise InvalidInput(msg)
    y = np.array([c for _, c in files])
    return Dataset.from_arrays(x.transpose(0, 3, 1, 2), y, classes, name=name)


def _class_files(folder: Path) -> list[Path]:
    files = _images_in(folder)
    if not files:
        msg = f"the class folder {folder} holds no images ({', '.join(sorted(_SUFFIXES))})"
        raise InvalidInput(msg)
    return files
