"""Blind Walk against the published loops: labels and time for the same walks.

Run ``python benchmarks/blind_walk.py``; about half a minute on one core, no data needed.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from reference_semantics import Meter, blind_walk, images, trained

from assay.adapters import TorchModel
from assay.evidence.dataset_inference.blind_walk import BlindWalk, WalkEmbedding
from assay.ledger import Ledger
from assay.model import Access

SCALES = (0.04, 0.02, 0.02)  # digits are easier than photographs: about as many walks flip as published

BATCH = 128  # activations stay in the processor's cache


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=200)
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

    def walk(search: str) -> tuple[WalkEmbedding, float]:
        config = BlindWalk(scales=SCALES, search=search, clean=False)
        oracle = Ledger(TorchModel(net, batch_size=BATCH), Access.LABELS)
        started = time.process_time()
        found = config.embed(oracle, x, y, (0.0, 1.0), rng=0)
        seconds = time.process_time() - started
        assert found.queries == oracle.queries
        return found, seconds

    walk("bisection")  # warm up
    fast, fast_seconds = walk("bisection")
    linear, linear_seconds = walk("linear")
    raw_seconds = forward_seconds(net, x, fast.queries)
    asked_seconds = label_seconds(net, x, fast.queries)
    meter = Meter(net)
    started = time.process_time()
    with torch.no_grad():  # kinder than the published code, which keeps graphs
        _, stops = blind_walk(meter, x, y, 10, 50, SCALES)
    plain_seconds = time.process_time() - started
    paper_labels = int(stops.clamp(max=50).sum())
    print(f"{'':24}{'labels/point':>14}{'forward rows':>14}{'seconds':>10}")
    n = len(x)
    print(f"{'published loops':24}{paper_labels / n:14.1f}{meter.rows / n:14.1f}{plain_seconds:10.2f}")
    print(f"{'linear':24}{linear.queries / n:14.1f}{linear.queries / n:14.1f}{linear_seconds:10.2f}")
    print(f"{'bisection':24}{fast.queries / n:14.1f}{fast.queries / n:14.1f}{fast_seconds:10.2f}")
    result = {
        "benchmark": "blind-walk",
        "points": n,
        "architecture": given.architecture,
        "label_ratio": round(paper_labels / fast.queries, 2),
        "forward_ratio": round(meter.rows / fast.queries, 2),
        "speedup": round(plain_seconds / fast_seconds, 2),
        "worst_labels_per_point": int(fast.queries_per_point.max()),
        "overhead_over_labels": round(fast_seconds / asked_seconds - 1, 3),
        "overhead_over_forward": round(fast_seconds / raw_seconds - 1, 3),
        "censored": round(float(fast.censored.float().mean()), 3),
        "mean_step": round(float(linear.steps.float().mean()), 1),
        "same_step_as_linear": round(float((fast.steps == linear.steps).float().mean()), 4),
    }
    print(json.dumps(result))


@torch.inference_mode()
def forward_seconds(net: torch.nn.Module, x: torch.Tensor, rows: int) -> float:
    """Return the seconds of nothing but forward passes over as many rows, in the adapter's batches."""
    batch = x.repeat(-(-BATCH // len(x)), 1, 1, 1)[:BATCH].contiguous()
    started = time.process_time()
    for start in range(0, rows, BATCH):
        net(batch[: min(BATCH, rows - start)])
    return time.process_time() - started


def label_seconds(net: torch.nn.Module, x: torch.Tensor, rows: int) -> float:
    """Return the seconds of asking for as many labels through the meter, without any walk."""
    oracle = Ledger(TorchModel(net, batch_size=BATCH), Access.LABELS)
    batch = x.repeat(-(-4096 // len(x)), 1, 1, 1)[:4096].contiguous()
    started = time.process_time()
    for start in range(0, rows, 4096):
        oracle.labels(batch[: min(4096, rows - start)])
    return time.process_time() - started


if __name__ == "__main__":
    main()
