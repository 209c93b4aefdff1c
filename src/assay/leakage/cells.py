"""Nearest rows by cells: only those near the query are looked at, for private data too large to look at all.

Private rows are sorted into cells around centres (Jégou, Douze and Schmid 2011, the inverted
file without compression). What is stored are the centres; lists are filled again when an
estimator is opened, since files of an index are not read from elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.errors import InvalidInput, MissingDependency

__all__ = ["Cells", "fit_centres"]

_FEWEST_ROWS = 39  # for each cell, below which its centre is one of accidents
_SAMPLE = 50  # rows for each cell to find centres with
_ROUNDS = 8


def fit_centres(rows: Tensor, count: int | None, *, rng: int = 0) -> Tensor:
    """Return centres of cells, ``[cells, d]`` in float32.

    Parameters
    ----------
    rows
        ``[n, d]``.
    count
        Cells; None for about ``4 sqrt(n)``.
    rng
        Seed.

    Raises
    ------
    InvalidInput
        If there are too few rows for so many cells.

    Examples
    --------
    >>> fit_centres(torch.rand(500, 2, generator=torch.Generator().manual_seed(0)), 4).shape
    torch.Size([4, 2])
    """
    most = max(1, len(rows) // _FEWEST_ROWS)
    wanted = min(most, round(4.0 * len(rows) ** 0.5)) if count is None else count
    if not 1 <= wanted <= most:
        msg = f"{wanted} cells are too many for {len(rows)} private rows; use at most {most}"
        raise InvalidInput(msg)
    from sklearn.cluster import KMeans

    x = rows.numpy().astype(np.float32)
    if len(x) > _SAMPLE * wanted:
        x = x[np.random.default_rng([rng, 5]).choice(len(x), _SAMPLE * wanted, replace=False)]
    found = KMeans(wanted, n_init=1, max_iter=_ROUNDS, random_state=rng).fit(x)
    return torch.from_numpy(found.cluster_centers_.astype(np.float32))


class Cells:
    """Rows in cells, to be searched by nearness.

    Parameters
    ----------
    rows
        ``[n, d]``.
    centres
        ``[cells, d]``.
    probes
        Cells to look into for each query; all of them finds the very nearest rows.

    Raises
    ------
    MissingDependency
        If faiss is not installed.
    """

    def __init__(self, rows: Tensor, centres: Tensor, probes: int) -> None:
        try:
            faiss: Any = import_module("faiss")
        except ImportError as error:
            msg = "searching neighbours by cells needs faiss: pip install 'assay-ml[ann]'"
            raise MissingDependency(msg) from error
        size = rows.shape[1]
        self._coarse = faiss.IndexFlatL2(size)
        self._coarse.add(np.ascontiguousarray(centres.numpy(), dtype=np.float32))
        self._index = faiss.IndexIVFFlat(self._coarse, size, len(centres))
        self._index.nprobe = min(probes, len(centres))
        # Differences first, then squares, inside the cells: close rows keep their distances in float32.
        self._index.add(np.ascontiguousarray(rows.numpy(), dtype=np.float32))

    def nearest(self, query: Tensor, k: int) -> Tensor:
        """Return the places of the ``k`` nearest rows that were looked at, ``[n, k]``.

        -1 stands where the cells looked into hold fewer.
        """
        _, found = self._index.search(np.ascontiguousarray(query.numpy(), dtype=np.float32), k)
        return torch.from_numpy(found)
