"""What a query costs to account for: a published-style loop, arrays, and a look-up table.

Run: ``python benchmarks/privacy_accounting.py``. Gate: 100,000 queries/s on one core by table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from assay.privacy import (
    PUBLISHED_ORDERS,
    EpsilonTable,
    RenyiTable,
    epsilon_each,
    log_flip_probability,
)

SIGMA, DELTA, TEACHERS, CLASSES = 10.0, 1e-5, 250, 10
GATE = 100_000


def loop(log_q: np.ndarray) -> np.ndarray:
    """Query by query, order by order, as published; our own words."""

    def log1mexp(x: float) -> float:
        return math.log(-math.expm1(x)) if x >= -1 else math.log1p(-math.exp(x))

    def one(value: float, order: float) -> float:
        mu2 = SIGMA * math.sqrt(-value)
        eps1, eps2 = (mu2 + 1) / SIGMA**2, mu2 / SIGMA**2
        plain = order / SIGMA**2
        if not (order < mu2 + 1 and mu2 > 1 and -value > eps2):
            return plain
        if value > (mu2 - 1) * eps2 - mu2 * (math.log1p(1 / mu2) + math.log1p(1 / (mu2 - 1))):
            return plain
        rest = log1mexp(value)
        a = rest + (order - 1) * (rest - log1mexp((value + eps2) * (1 - 1 / mu2)))
        b = value + (order - 1) * (eps1 - value / mu2)
        return min(plain, float(np.logaddexp(a, b)) / (order - 1))

    price = math.log(1 / DELTA)
    return np.array([min(one(v, a) + price / (a - 1) for a in PUBLISHED_ORDERS) for v in log_q])


def rate(call: Callable[[], object], queries: int, rounds: int = 5) -> float:
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return queries / best


def main() -> None:
    rng = np.random.default_rng(0)
    votes = rng.multinomial(TEACHERS, rng.dirichlet(np.full(CLASSES, 0.05), size=200_000)).astype(float)
    log_q = log_flip_probability(votes, SIGMA)
    start = time.perf_counter()
    table = EpsilonTable(SIGMA, DELTA, orders=PUBLISHED_ORDERS)
    built = time.perf_counter() - start
    cost = RenyiTable(SIGMA, 2.0)
    few, some = log_q[:300], log_q[:5_000]
    rates = {
        "loop over queries and orders": rate(lambda: loop(few), len(few), 2),
        "arrays of queries and orders": rate(
            lambda: epsilon_each(some, SIGMA, DELTA, orders=PUBLISHED_ORDERS), len(some), 3
        ),
        "table of epsilon": rate(lambda: table(log_q), len(log_q)),
        "table of epsilon, 64 at a time": rate(
            lambda: [table(part) for part in np.array_split(some, len(some) // 64)], len(some)
        ),
        "table of one Renyi order": rate(lambda: cost(log_q), len(log_q)),
        "votes to log q": rate(lambda: log_flip_probability(votes, SIGMA), len(votes), 3),
    }
    for name, found in rates.items():
        print(f"{name:32s} {found:14,.0f} queries/s")
    direct = epsilon_each(some, SIGMA, DELTA, orders=PUBLISHED_ORDERS)
    print(f"table built in                   {built:.2f} s")
    print(f"table against arrays             {np.abs(table(some) - direct).max():.1e} (gate 2e-5)")
    print(f"arrays against loop              {np.abs(direct[:300] - loop(few)).max():.1e} (gate 1e-12)")
    print(f"gate {GATE:,} queries/s by table: {'met' if rates['table of epsilon'] > GATE else 'MISSED'}")


if __name__ == "__main__":
    main()
