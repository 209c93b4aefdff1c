"""Blind Walk against the published loops, and against nothing but its forward passes.

Run ``python benchmarks/blind_walk.py``; about two minutes on one core, no data needed.

The overhead is measured in short turns, because a shared machine changes speed within
seconds: after each round of the walk (at most 4096 rows) the network answers as many rows
again, in the same batches, without any walk, and then once more. Walk over forwards is
the overhead of one walk; forwards over forwards shows how far two equal things differ
on this machine at this moment. Processor time decides, wall time stands beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from reference_semantics import Meter, blind_walk, images, trained
from torch import Tensor, nn

from assay.adapters import TorchModel
from assay.evidence.dataset_inference.blind_walk import BlindWalk, WalkEmbedding
from assay.ledger import Ledger
from assay.model import Access
from assay.observers import Observer

SCALES = (0.04, 0.02, 0.02)  # digits are easier than photographs: about as many walks flip as published

BATCH = 128  # activations stay in the processor's cache


def clocks() -> np.ndarray:
    """Return processor and wall seconds."""
    return np.array([time.process_time(), time.perf_counter()])


class Timed(nn.Module):
    """Notes the seconds inside a network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seconds = inner, np.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's answer."""
        started = clocks()
        answer = self.inner(x)
        self.seconds += clocks() - started
        return answer


class TimedLabels(TorchModel):
    """Notes the seconds inside the adapter: batching, checks and labels included."""

    seconds = np.zeros(2)

    def labels(self, x: Tensor) -> Tensor:
        """Return the labels."""
        started = clocks()
        answer = super().labels(x)
        self.seconds = self.seconds + clocks() - started
        return answer


@dataclass
class Turns(Observer):
    """Lets the bare network answer after each round of a walk, as many rows in the same batches."""

    net: nn.Module
    rows: Tensor
    asked: int = 0
    spent: np.ndarray = field(default_factory=lambda: np.zeros(2))  # by this observer, in all
    first: np.ndarray = field(default_factory=lambda: np.zeros(2))
    second: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def on_query(self, model: str, rows: int, total: int) -> None:  # noqa: ARG002 - the observers' signature
        """Note the size of the round."""
        self.asked = rows

    def on_step(self, task: str, done: int, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 - as above
        """Answer as many rows twice."""
        entered = clocks()
        self.first += self.forwards()
        self.second += self.forwards()
        self.spent += clocks() - entered

    @torch.no_grad()
    def forwards(self) -> np.ndarray:
        """Return the seconds of nothing but forward passes."""
        started = clocks()
        for start in range(0, self.asked, BATCH):
            self.net(self.rows[start : min(start + BATCH, self.asked)])
        return clocks() - started


def turn(net: nn.Module, config: BlindWalk, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """Walk once; return shares of the forwards' seconds (and one cost a label) on both clocks."""
    timed = Timed(net)
    model = TimedLabels(timed, tuple(x.shape[1:]), 10, batch_size=BATCH)
    turns = Turns(net, x.repeat(-(-config.batch_rows // len(x)), 1, 1, 1)[: config.batch_rows].contiguous())
    oracle = Ledger(model, Access.LABELS, observers=[turns])
    started = clocks()
    config.embed(oracle, x, y, (0.0, 1.0), rng=0, observers=[turns])
    whole = clocks() - started - turns.spent
    raw = (turns.first + turns.second) / 2
    return {
        "overhead": whole / raw - 1,
        "forwards_again": turns.second / turns.first - 1,
        "outside_network": whole / timed.seconds - 1,
        "adapter": (model.seconds - timed.seconds) / timed.seconds,
        "walk_and_meter": (whole - model.seconds) / timed.seconds,
        "microseconds_per_label": (whole - raw) / oracle.queries * 1e6,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--points", type=int, default=200)
    options.add_argument("--architecture", default="cnn-16")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--turns", type=int, default=9, help="walks over which the overhead is measured")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    data = images()
    net = trained(data, given.architecture).eval()
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
    meter = Meter(net)
    torch.manual_seed(0)  # the loops draw from the global state as well
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
    config = BlindWalk(scales=SCALES, clean=False)
    seen = [turn(net, config, x, y) for _ in range(given.turns)]
    shares = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    titles = ("median", "least", "most", "wall", "least", "most")
    print(f"{'percent of the forwards':24}" + "".join(f"{title:>9}" for title in titles))
    extra = shares.pop("microseconds_per_label")[:, 0]
    for name, values in shares.items():
        print(f"{name:24}" + "".join(f"{100 * v:9.1f}" for column in values.T for v in spread(column)))
    result = {
        "benchmark": "blind-walk",
        "points": n,
        "architecture": given.architecture,
        "label_ratio": round(paper_labels / fast.queries, 2),
        "forward_ratio": round(meter.rows / fast.queries, 2),
        "speedup": round(plain_seconds / fast_seconds, 2),
        "speedup_over_linear": round(linear_seconds / fast_seconds, 2),
        "worst_labels_per_point": int(fast.queries_per_point.max()),
        "turns": given.turns,
        "overhead_over_forward": [round(v, 3) for v in spread(shares["overhead"][:, 0])],
        "overhead_over_forward_wall": [round(v, 3) for v in spread(shares["overhead"][:, 1])],
        "overhead_microseconds_per_label": [round(v, 1) for v in spread(extra)],
        "forwards_again": [round(v, 3) for v in spread(shares["forwards_again"][:, 0])],
        "censored": round(float(fast.censored.float().mean()), 3),
        "mean_step": round(float(linear.steps.float().mean()), 1),
        "same_step_as_linear": round(float((fast.steps == linear.steps).float().mean()), 4),
    }
    print(json.dumps(result))


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """Return median, least and most."""
    return float(np.median(values)), float(values.min()), float(values.max())


if __name__ == "__main__":
    main()
