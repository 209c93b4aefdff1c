"""The official binary version of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from assay.data.bounded import open_plain, read_exactly
from assay.data.catalogue import Parts
from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["read_cifar"]

_PIXELS = 3 * 32 * 32


def read_cifar(folder: Path) -> Parts:
    """Read the official binary version of CIFAR-10 or CIFAR-100.

    A record is the label (for CIFAR-100 coarse, then fine) and 3,072 bytes of pixels,
    channels first.

    Raises
    ------
    InvalidInput
        If files are missing or hold no whole number of records.
    """
    batches = sorted(folder.glob("data_batch_*.bin"))
    files = {
        "train": batches or [folder / "train.bin"],
        "test": [folder / ("test_batch.bin" if batches else "test.bin")],
    }
    names = folder / ("batches.meta.txt" if batches else "fine_label_names.txt")
    missing = [f.name for f in (*files["train"], *files["test"], names) if not f.is_file()]
    if missing:
        msg = f"{folder} lacks {', '.join(missing)}; unpack the whole binary version of CIFAR there"
        raise InvalidInput(msg)
    classes = [c for c in names.read_text(encoding="utf-8").split() if c]
    skip = 0 if batches else 1
    return {
        part: partial(_read_records, files[part], skip, classes, f"{folder.name}-{part}") for part in files
    }


def _read_records(files: list[Path], skip: int, classes: list[str], name: str) -> Dataset:
    record = skip + 1 + _PIXELS
    parts = []
    for file in files:
        size = file.stat().st_size
        if size == 0 or size % record:
            msg = f"{file} holds {size:,} bytes, no whole number of records of {record:,}"
            raise InvalidInput(msg)
        with open_plain(file) as content:
            parts.append(np.frombuffer(read_exactly(content, size, str(file)), np.uint8).reshape(-1, record))
    rows = np.concatenate(parts)
    x = rows[:, skip + 1 :].reshape(-1, 3, 32, 32)
    return Dataset.from_arrays(x, rows[:, skip], classes, name=name)
