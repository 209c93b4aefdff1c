"""A labelled set of inputs, validated once so that nothing downstream has to ask again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assay.data.bounded import read_npz
from assay.errors import InvalidInput

__all__ = ["Dataset"]

_BYTE = 255.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs with labels, their value range and class names.

    Parameters
    ----------
    x
        Inputs, float32 ``[n, *shape]``, finite, inside ``value_range``. Images are
        channels first.
    y
        Classes, int64 ``[n]``, in ``0 .. len(classes) - 1``.
    classes
        Names of the classes, at least 2.
    value_range
        Smallest and largest value an input coordinate may take. Perturbations are
        clipped to it. Tables without natural limits use infinities.
    name
        How messages and reports call the set.

    Raises
    ------
    InvalidInput
        For wrong shapes, dtypes, NaNs, values outside the range, unknown classes.

    Examples
    --------
    >>> data = Dataset(torch.zeros(3, 2), torch.tensor([0, 1, 1]), ("no", "yes"))
    >>> len(data), data.input_shape, data.num_classes
    (3, (2,), 2)
    >>> len(data.subset([0, 2]))
    2
    """

    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    classes: tuple[str, ...]
    value_range: tuple[float, float] = (0.0, 1.0)
    name: str = "data"

    def __post_init__(self) -> None:
        x, y = self.x, self.y
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            msg = f"{self.name}: x and y must be torch tensors (use Dataset.from_arrays for numpy arrays)"
            raise InvalidInput(msg)
        # Plain values, so that the digest does not depend on which number or text type was passed in.
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        object.__setattr__(self, "value_range", tuple(float(v) for v in self.value_range))
        if x.ndim < 2 or x.dtype != torch.float32:  # noqa: PLR2004 - [n, *shape]
            msg = f"{self.name}: x must be float32 [n, *shape], got {x.dtype} {list(x.shape)}"
            raise InvalidInput(msg)
        if y.dtype != torch.int64 or y.shape != x.shape[:1]:
            msg = f"{self.name}: y must be int64 [{x.shape[0]}], got {y.dtype} {list(y.shape)}"
            raise InvalidInput(msg)
        if len(self.classes) < 2:  # noqa: PLR2004 - one class decides nothing
            msg = f"{self.name}: at least 2 classes are needed, got {len(self.classes)}"
            raise InvalidInput(msg)
        low, high = self.value_range
        if not low < high:
            msg = f"{self.name}: value_range must be (low, high) with low < high, got {self.value_range}"
            raise InvalidInput(msg)
        if len(x):
            smallest, largest = (float(v) for v in torch.aminmax(x))
            if not np.isfinite(smallest + largest):
                bad = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
                msg = f"{self.name}: row {bad} contains NaN or infinity; remove or impute such rows"
                raise InvalidInput(msg)
            slack = 1e-6 * (high - low) if np.isfinite(high - low) else 0.0
            if smallest < low - slack or largest > high + slack:
                msg = (
                    f"{self.name}: x spans [{smallest:g}, {largest:g}], outside its value range "
                    f"[{low:g}, {high:g}]; rescale it or state the right value_range"
                )
                raise InvalidInput(msg)
            if int(y.min()) < 0 or int(y.max()) >= len(self.classes):
                bad = int(y.min()) if int(y.min()) < 0 else int(y.max())
                msg = f"{self.name}: label {bad} is outside the {len(self.classes)} classes"
                raise InvalidInput(msg)

    @classmethod
    def from_arrays(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        classes: Sequence[str] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        name: str = "data",
    ) -> Dataset:
        """Build from numpy arrays; unsigned bytes are scaled to [0, 1].

        Raises
        ------
        InvalidInput
            If the arrays are not numeric or do not fit together.
        """
        x, y = np.asarray(x), np.asarray(y)
        if x.dtype.kind not in "fiub" or y.dtype.kind not in "iub":
            msg = f"{name}: x must be numeric and y integer classes, got {x.dtype} and {y.dtype}"
            raise InvalidInput(msg)
        values = np.array(x, dtype=np.float32, order="C")
        if x.dtype == np.uint8:
            values /= np.float32(_BYTE)
        labels = torch.from_numpy(np.array(y, dtype=np.int64, order="C"))
        if classes is None:
            classes = [str(c) for c in range(max(2, int(labels.max()) + 1 if len(labels) else 2))]
        return cls(torch.from_numpy(values), labels, tuple(classes), value_range, name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, inputs, labels and classes."""
        h = hashlib.sha256(repr((tuple(self.x.shape), self.classes, self.value_range)).encode())
        h.update(np.ascontiguousarray(self.x.detach().cpu().numpy()).data)
        h.update(np.ascontiguousarray(self.y.cpu().numpy()).data)
        return h.hexdigest()

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def subset(self, index: Tensor | np.ndarray | Sequence[int], name: str | None = None) -> Dataset:
        """Return the rows of ``index`` (positions or a boolean mask), in that order."""
        chosen = torch.as_tensor(index)
        if chosen.numel() == 0:
            chosen = chosen.to(torch.int64)
        _check_index(chosen, len(self), self.name)
        return Dataset(self.x[chosen], self.y[chosen], self.classes, self.value_range, name or self.name)

    def concat(self, *others: Dataset, name: str | None = None) -> Dataset:
        """Return these rows followed by those of sets with the same shape, range and classes."""
        for other in others:
            if (other.input_shape, other.classes, other.value_range) != (
                self.input_shape,
                self.classes,
                self.value_range,
            ):
                msg = f"{self.name} and {other.name} differ in shape, classes or value range"
                raise InvalidInput(msg)
        parts = (self, *others)
        return Dataset(
            torch.cat([p.x for p in parts]),
            torch.cat([p.y for p in parts]),
            self.classes,
            self.value_range,
            name or self.name,
        )

    def relabelled(self, y: Tensor, name: str | None = None) -> Dataset:
        """Return the same inputs with other labels."""
        return Dataset(self.x, y, self.classes, self.value_range, name or self.name)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield consecutive ``(x, y)`` batches of at most ``size`` rows."""
        for start in range(0, len(self), size):
            yield self.x[start : start + size], self.y[start : start + size]

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file that `load` reads back exactly.

        Inputs that are bytes divided by 255 are stored as bytes, at a quarter of the size.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            np.savez_compressed(
                file,
                x=_as_bytes(self.x.detach().cpu().numpy()),
                y=self.y.cpu().numpy(),
                classes=np.array(self.classes, dtype=np.str_),
                value_range=np.array(self.value_range, dtype=np.float64),
            )

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> Dataset:
        """Read an ``.npz`` file with arrays ``x`` and ``y`` (never unpickled).

        ``classes`` and ``value_range`` are read where the file has them; otherwise
        classes are counted, and the range is [0, 1] for bytes and for values inside
        it, the observed span else.

        Raises
        ------
        InvalidInput
            If the file cannot be read, unpacks to more than 8 GiB, or lacks ``x`` or
            ``y``.
        """
        return cls.from_archive(read_npz(path), str(path), name or Path(path).stem)

    @classmethod
    def from_archive(cls, arrays: Mapping[str, np.ndarray], path: str, name: str) -> Dataset:
        """Build from the arrays of an archive, as `load` does; ``path`` is for messages."""
        if "x" not in arrays or "y" not in arrays:
            msg = f"{path} must hold arrays 'x' and 'y', it has: {', '.join(sorted(arrays)) or 'none'}"
            raise InvalidInput(msg)
        classes = [str(c) for c in arrays["classes"].reshape(-1)] if "classes" in arrays else None
        value_range = cls.span(arrays["x"])
        if "value_range" in arrays:
            stored = arrays["value_range"]
            if stored.shape != (2,) or stored.dtype.kind not in "fiu":
                msg = f"{path}: value_range must be two numbers, got {stored.dtype} {list(stored.shape)}"
                raise InvalidInput(msg)
            value_range = (float(stored[0]), float(stored[1]))
        return cls.from_arrays(arrays["x"], arrays["y"], classes, value_range, name)

    @staticmethod
    def span(*arrays: np.ndarray) -> tuple[float, float]:
        """Return the value range of raw arrays: [0, 1] for bytes and what lies in it, else the observed."""
        filled = [a for a in arrays if a.size and a.dtype.kind in "fiub"]
        if not filled or all(a.dtype == np.uint8 for a in filled):
            return 0.0, 1.0
        low, high = min(float(a.min()) for a in filled), max(float(a.max()) for a in filled)
        if not np.isfinite(low + high) or (low >= 0.0 and high <= 1.0):
            # Rows that are not finite are refused, and named, by the constructor.
            return 0.0, 1.0
        return low, high if high > low else low + 1.0


def _check_index(chosen: Tensor, rows: int, name: str) -> None:
    if chosen.ndim == 1 and chosen.dtype == torch.bool and len(chosen) == rows:
        return
    whole = not (
        chosen.is_floating_point() or chosen.is_complex() or chosen.dtype in {torch.bool, torch.uint8}
    )
    inside = whole and (chosen.numel() == 0 or (int(chosen.min()) >= -rows and int(chosen.max()) < rows))
    if chosen.ndim != 1 or not inside:
        msg = f"{name}: rows are chosen by positions below {rows} or by a bool mask [{rows}]"
        raise InvalidInput(msg)


def _as_bytes(x: np.ndarray) -> np.ndarray:
    """Return the bytes of which ``x`` is the 255th part, or ``x`` if it is not exactly that."""
    if not x.size or x.min() < 0 or x.max() > 1:
        return x
    scaled = np.rint(x * np.float32(_BYTE)).astype(np.uint8)
    again = scaled.astype(np.float32) / np.float32(_BYTE)
    # Bits, not values, are compared: -0.0 equals 0.0 but has another digest.
    return scaled if np.array_equal(again.view(np.int32), np.ascontiguousarray(x).view(np.int32)) else x
