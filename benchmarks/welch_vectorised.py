"""4,300 Welch tests for one model: one array operation per size against a SciPy loop.

The published analysis draws 100 subsets for each of 43 sizes and tests each on its own.
Run: ``python benchmarks/welch_vectorised.py``.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import ttest_ind

from assay.statistics import welch_p_values

SIZES = range(2, 45)
DRAWS = 100
ROUNDS = 5


def subsets(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    private, control = rng.normal(0.2, 1.0, size=500), rng.normal(size=500)
    out = []
    for size in SIZES:
        rows = rng.permuted(np.tile(np.arange(500), (DRAWS, 1)), axis=1)[:, :size]
        out.append((private[rows], control[rows]))
    return out


def vectorised(cases: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([welch_p_values(x, y) for x, y in cases])


def looped(cases: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.array(
        [
            ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
            for x, y in cases
            for a, b in zip(x, y, strict=True)
        ]
    )


def main() -> None:
    cases = subsets(np.random.default_rng(0))
    vectorised(cases)
    fast = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        ours = vectorised(cases)
        fast.append(time.perf_counter() - start)
    start = time.perf_counter()
    theirs = looped(cases)
    slow = time.perf_counter() - start
    best = min(fast)
    print(f"tests        {ours.size}")
    print(f"vectorised   {best:.4f} s (best of {ROUNDS}, worst {max(fast):.4f} s; gate 0.1 s)")
    print(f"scipy loop   {slow:.4f} s")
    print(f"ratio        {slow / best:.0f}")
    print(f"difference   {np.max(np.abs(ours - theirs)):.1e} (gate 1e-10)")


if __name__ == "__main__":
    main()
