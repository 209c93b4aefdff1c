"""A secret projection of inputs of any size to a few numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.errors import InvalidInput

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Sketch"]

# So many inputs share each number at least, which keeps lengths within about 1/sqrt of it.
_SHARE = 16


@dataclass(frozen=True)
class Sketch:
    """A sparse random projection that follows from a secret.

    Squared lengths and distances are kept on average. Every input value enters a few of the
    outputs with a random sign, so that the cost is that of reading the input a few times.

    Parameters
    ----------
    secret
        Whoever does not know it cannot tell which inputs come out alike.
    width
        Numbers that come out, at least 1.

    References
    ----------
    Nelson and Nguyen, "OSNAP: Faster Numerical Linear Algebra Algorithms via Sparser
    Subspace Embeddings", FOCS 2013, section 3.

    Examples
    --------
    >>> sketch = Sketch(b"a secret", width=64)
    >>> rows = np.random.default_rng(0).normal(size=(2, 5000))
    >>> near = sketch(rows)
    >>> near.shape, bool(abs(np.linalg.norm(near[0] - near[1]) / 100 - 1) < 0.3)
    ((2, 64), True)
    """

    secret: bytes
    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            msg = f"a sketch must have a width of at least 1, got {self.width}"
            raise InvalidInput(msg)

    def __call__(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return float64 ``[n, width]`` for rows ``[n, d]``; what is missing or infinite counts as 0."""
        x = np.nan_to_num(np.asarray(rows, dtype=np.float64), posinf=0.0, neginf=0.0)
        return np.asarray(x @ _matrix(self.secret, x.shape[1], self.width))


@lru_cache(maxsize=16)
def _matrix(secret: bytes, inputs: int, width: int) -> csr_array:
    """Return the projection, sparse ``[inputs, width]``."""
    from scipy.sparse import csr_array  # a service that needs no sketch does not load it

    seed = hashlib.sha256(b"assay/sketch/1\0" + inputs.to_bytes(8, "big") + width.to_bytes(8, "big") + secret)
    rng = np.random.default_rng(int.from_bytes(seed.digest(), "big"))
    each = min(width, max(4, -(-_SHARE * width // max(1, inputs))))
    if each == width:
        columns = np.tile(np.arange(width), (inputs, 1))
    else:
        # A random offset per block of the outputs: distinct columns without sorting a permutation per row.
        block = rng.integers(0, width // each, (inputs, each))
        columns = np.arange(each) * (width // each) + block
    signs = rng.choice((-1.0, 1.0), (inputs, each)) / np.sqrt(each)
    rows = np.arange(inputs + 1) * each
    return csr_array((signs.ravel(), columns.ravel(), rows), shape=(inputs, width))
