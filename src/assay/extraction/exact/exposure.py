"""Inputs that an attack recovered, kept beside its record: training rows, inverted classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.result import Record

__all__ = ["INPUTS_FILE", "ExposedInputs", "Exposure", "Leak", "expose"]

INPUTS_FILE = "inputs.safetensors"
_MOST_ROWS = 48
_MOST_VALUES = 2**22  # of all rows that are kept
_LARGEST_FILE = 2 * 4 * _MOST_VALUES + 2**16
_CHUNK = 4096


@dataclass(frozen=True)
class Leak:
    """Which of the parameters of a `Recovered` are inputs of the victim, and what they are.

    Parameters
    ----------
    parameter
        Name of an array ``[n, d]`` of flat inputs.
    title, caption
        Heading, and one sentence for people who see the inputs.
    by_class
        Whether row ``i`` belongs to class ``i``.
    """

    parameter: str
    title: str
    caption: str
    by_class: bool = False


@dataclass(frozen=True)
class Exposure(Record):
    """What is known about recovered inputs, part of an `ExactWorth`; they are in a file of their own.

    Parameters
    ----------
    title, caption
        What they are.
    labels
        One for each input that was kept.
    shape
        Of one input, as the data has it that was given, or as the victim takes it.
    low, high
        Least and largest value of the domain.
    total
        Inputs recovered.
    digest
        SHA-256 over the arrays of the file.
    source
        Where the true rows beside them come from, empty if there are none.
    distances
        Euclidean distance of each input to the nearest of those.
    """

    title: str
    caption: str
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    low: float
    high: float
    total: int
    digest: str
    source: str = ""
    distances: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class ExposedInputs:
    """Recovered inputs, each perhaps with the nearest true row.

    Parameters
    ----------
    about
        What the record says of them.
    found, nearest
        float32 ``[n, d]``; ``nearest`` is None where no true rows were given.
    """

    about: Exposure
    found: np.ndarray
    nearest: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Write the arrays as a safetensors file."""
        from safetensors.numpy import save_file

        save_file(_arrays(self.found, self.nearest), Path(path))

    @classmethod
    def load(cls, path: str | Path, about: Exposure) -> ExposedInputs:
        """Read what `save` wrote, and check it against the record.

        Raises
        ------
        InvalidInput
            If the file is none, too large, or not the one of the record.
        """
        from safetensors import SafetensorError, safe_open

        wanted = {"found"} | ({"nearest"} if about.source else set())
        rows, size = len(about.labels), math.prod(about.shape)
        whole = bool(about.shape) and all(side > 0 for side in about.shape)
        if not (whole and 0 < rows <= _MOST_ROWS and rows * size <= _MOST_VALUES):
            msg = f"the record of {path} speaks of {rows} inputs of shape {list(about.shape)}; refused"
            raise InvalidInput(msg)
        if not all(map(math.isfinite, (about.low, about.high))) or not about.low < about.high:
            msg = f"the record of {path} speaks of values from {about.low:g} to {about.high:g}; refused"
            raise InvalidInput(msg)
        if len(about.distances) != (rows if about.source else 0):
            msg = f"the record of {path} has {len(about.distances)} distances for {rows} inputs; refused"
            raise InvalidInput(msg)
        try:
            if Path(path).stat().st_size > _LARGEST_FILE:
                msg = f"{path} is larger than any file of recovered inputs ({_LARGEST_FILE} bytes); refused"
                raise InvalidInput(msg)
            with safe_open(path, framework="numpy") as file:
                if set(file.keys()) != wanted:
                    msg = f"{path} must hold {' and '.join(sorted(wanted))} and nothing else; refused"
                    raise InvalidInput(msg)
                arrays = {name: file.get_tensor(name) for name in sorted(wanted)}
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            msg = f"{path} holds no recovered inputs: {error}"
            raise InvalidInput(msg) from error
        for name, value in arrays.items():
            if value.dtype != np.float32 or value.shape != (rows, size) or not np.isfinite(value).all():
                msg = f"{name} of {path} must be finite float32 [{rows}, {size}]; refused"
                raise InvalidInput(msg)
        if _digest(arrays) != about.digest:
            msg = f"{path} is not what the record beside it was written with: their digests differ; refused"
            raise InvalidInput(msg)
        return cls(about, arrays["found"], arrays.get("nearest"))


def expose(
    leak: Leak,
    rows: np.ndarray,
    shape: Sequence[int],
    domain: Domain,
    *,
    truth: np.ndarray | None = None,
    evaluation: Dataset | None = None,
) -> ExposedInputs | None:
    """Return recovered inputs with the true rows that are nearest to them, fit to be kept.

    Parameters
    ----------
    leak
        What the rows are.
    rows
        Flat inputs ``[n, d]``. Those that are not finite are left out, and so are those
        beyond 48 or 4 million values.
    shape
        Of one input.
    domain
        Its limits.
    truth
        True rows ``[m, d]`` to compare with.
    evaluation
        Rows to compare with where ``truth`` is None; of inputs that belong to a class, only
        with rows of that class.

    Returns
    -------
    ExposedInputs or None
        None if there is nothing to keep.

    Examples
    --------
    >>> leak = Leak("rows", "Training rows", "Found in the answers.")
    >>> kept = expose(leak, np.eye(2), (2,), Domain.box(2), truth=np.array([[0.0, 0.5], [1.0, 0.0]]))
    >>> kept.about.distances, kept.nearest.tolist()
    ((0.0, 0.5), [[1.0, 0.0], [0.0, 0.5]])
    """
    size = math.prod(shape)
    with np.errstate(over="ignore"):
        narrow = np.asarray(rows, np.float64).reshape(-1, size).astype(np.float32)
    kept = np.flatnonzero(np.isfinite(narrow).all(axis=1))[: min(_MOST_ROWS, _MOST_VALUES // size)]
    if not len(kept):
        return None
    names = evaluation.classes if leak.by_class and evaluation is not None else ()
    start = 0 if leak.by_class else 1
    labels = [names[i] if i < len(names) else f"{'class ' * leak.by_class}{i + start}" for i in kept]
    found = narrow[kept]
    near, distances, source = None, [], ""
    groups: list[np.ndarray] = []
    if truth is not None:
        groups, source = [np.asarray(truth, np.float64)] * len(kept), f"{len(truth)} true rows"
    elif evaluation is not None and len(evaluation):
        flat, y = evaluation.x.flatten(1).numpy(), evaluation.y.numpy()
        groups = [flat[y == i] if leak.by_class else flat for i in kept]
        source = f"{len(flat):,} rows of {evaluation.name}{' of the same class' * leak.by_class}"
    if groups and all(len(group) for group in groups):
        pairs = [_nearest(row, group) for row, group in zip(rows[kept], groups, strict=True)]
        near, distances = np.stack([row for row, _ in pairs]), [gap for _, gap in pairs]
    else:
        source = ""
    about = Exposure(
        title=leak.title,
        caption=leak.caption,
        labels=tuple(labels),
        shape=tuple(int(side) for side in shape),
        low=float(domain.low.min()),
        high=float(domain.high.max()),
        total=len(rows),
        digest=_digest(_arrays(found, near)),
        source=source,
        distances=tuple(distances),
    )
    return ExposedInputs(about, found, near)


def _nearest(row: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the nearest row, float32, with its distance."""
    best, least = among[0], math.inf
    for start in range(0, len(among), _CHUNK):  # squares of a whole data set need not fit into memory
        part = among[start : start + _CHUNK]
        apart = np.linalg.norm(part.astype(np.float64) - row, axis=1)
        if apart.min() < least:
            best, least = part[apart.argmin()], float(apart.min())
    return best.astype(np.float32), least


def _arrays(found: np.ndarray, nearest: np.ndarray | None) -> dict[str, np.ndarray]:
    parts = {"found": found} | ({} if nearest is None else {"nearest": nearest})
    return {name: np.ascontiguousarray(value, np.float32) for name, value in parts.items()}


def _digest(arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        total.update(repr((name, value.shape)).encode())
        total.update(value.astype("<f4").tobytes())
    return total.hexdigest()
