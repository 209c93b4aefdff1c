"""Exact timing: what a query leaks is known before it is answered, and asked for at once.

Comparable with the published scheme (Dziedzic et al. 2022, section 3), and with its two
drawbacks: the estimator runs before the full price is paid, and the price tells what the
estimator found. So a quote is made only for accounts that have paid the usual reservation
ahead or come with a proof, and once for each query.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.gateway.server.estimate import estimate

if TYPE_CHECKING:
    from assay.gateway.server.tensors import InputTensor
    from assay.leakage.base import Estimator

__all__ = ["Quotes"]

_REMEMBERED = 4096


class Quotes:
    """Runs an estimator beside the event loop, one query at a time.

    Parameters
    ----------
    estimator
        Makes log q.
    """

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quote")
        self._known: OrderedDict[str, NDArray[np.float64]] = OrderedDict()
        self._lock = threading.Lock()

    async def log_q(self, digest: str, inputs: Sequence[InputTensor], n_items: int) -> NDArray[np.float64]:
        """Return log q of each item, NaN where the estimator fails; the same for the same digest."""
        with self._lock:
            found = self._known.get(digest)
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, estimate, self._estimator, inputs, n_items, None)
            with self._lock:
                self._known[digest] = found
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return found

    def close(self, *, wait: bool = True) -> None:
        """End, after the quotes that were asked for; wait for them unless told not to."""
        self._thread.shutdown(wait=wait)
