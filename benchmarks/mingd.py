"""MinGD against the published loops: time for the same descents.

Run ``python benchmarks/mingd.py``; about a minute on one core, no data needed.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from reference_semantics import Meter, images, mingd, trained

from assay.evidence.dataset_inference.mingd import MarginEmbedding, MinGD

BATCH = MinGD().chunk_rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=8)
    options.add_argument("--architecture", default="cnn-16")
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    data = images()
    net = trained(data, given.architecture)
    chosen = data.subset(
        torch.randperm(len(data), generator=torch.Generator().manual_seed(1))[: given.points]
    )
    x, y = chosen.x, chosen.y

    def descend(search: str) -> tuple[MarginEmbedding, float]:
        config = MinGD(search=search)
        started = time.process_time()
        found = config.embed(net, x, y, (0.0, 1.0))
        return found, time.process_time() - started

    MinGD(steps=2).embed(net, x, y, (0.0, 1.0))  # warm up
    fixed, fixed_seconds = descend("fixed")
    leaps, leaps_seconds = descend("linearised")
    raw_seconds = gradient_seconds(net, x, fixed.queries)
    meter = Meter(net)
    started = time.process_time()
    plain, reached = mingd(meter, x, data.num_classes)
    plain_seconds = time.process_time() - started
    n = len(x)
    print(f"{'':20}{'forward rows/point':>20}{'reached':>10}{'seconds':>10}")
    share = float(reached.float().mean())
    print(f"{'published loops':20}{meter.rows / n:20.0f}{share:10.3f}{plain_seconds:10.2f}")
    for name, found, seconds in (("fixed", fixed, fixed_seconds), ("linearised", leaps, leaps_seconds)):
        share = float(found.converged.float().mean())
        print(f"{name:20}{found.queries / n:20.0f}{share:10.3f}{seconds:10.2f}")
    both = fixed.converged & reached
    apart = ((plain - fixed.distances).abs() / fixed.distances.clamp_min(1e-6))[both]
    arrived = fixed.converged & leaps.converged & (fixed.distances > 0)
    ratio = leaps.distances[arrived] / fixed.distances[arrived]
    result = {
        "benchmark": "mingd",
        "points": n,
        "architecture": given.architecture,
        "speedup": round(plain_seconds / fixed_seconds, 2),
        "speedup_linearised": round(plain_seconds / leaps_seconds, 2),
        "forward_ratio": round(meter.rows / fixed.queries, 2),
        "overhead_over_gradients": round(fixed_seconds / raw_seconds - 1, 3),
        "median_and_largest_relative_difference": [float(f"{v:.1e}") for v in (apart.median(), apart.max())],
        "same_reached": round(float((fixed.converged == reached).float().mean()), 4),
        "linearised_distance_ratio": [
            round(float(v), 3) for v in ratio.quantile(torch.tensor([0.05, 0.5, 0.95]))
        ],
    }
    print(json.dumps(result))


def gradient_seconds(net: torch.nn.Module, x: torch.Tensor, rows: int) -> float:
    """Return the seconds of nothing but forward passes and input gradients over as many rows."""
    batch = x.repeat(-(-BATCH // len(x)), 1, 1, 1)[:BATCH].contiguous()
    started = time.process_time()
    for start in range(0, rows, BATCH):
        inputs = batch[: min(BATCH, rows - start)].detach().requires_grad_()
        torch.autograd.grad(net(inputs).max(1).values.sum(), inputs)
    return time.process_time() - started


if __name__ == "__main__":
    main()
