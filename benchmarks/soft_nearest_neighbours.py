"""Soft nearest neighbour loss, forward and backward, against the one matrix product inside it.

Run ``python benchmarks/soft_nearest_neighbours.py``; seconds on one core, no data needed. The
plain column is the loss written as in its definition, with tiled differences of distances.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

from assay.nets.soft_nearest_neighbours import soft_nearest_neighbour_loss

TARGET = 2.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=512)
    options.add_argument("--width", type=int, default=25_088)
    options.add_argument("--rounds", type=int, default=9)
    given = options.parse_args()
    torch.set_num_threads(1)
    x = torch.rand(given.rows, given.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    groups = torch.arange(given.rows) % 2

    def product() -> torch.Tensor:
        return (x @ x.T).sum()

    def tiled() -> torch.Tensor:
        unit = x / x.norm(dim=1, keepdim=True)
        closeness = torch.exp(-(1 - unit @ unit.T) / 0.1)
        closeness = closeness - torch.diag(torch.diag(closeness))
        tiles = groups.repeat(given.rows, 1)
        same = (tiles == tiles.T).float()
        return -torch.log(1e-5 + (closeness * same).sum(1) / (1e-5 + closeness.sum(1))).mean()

    functions: dict[str, Callable[[], torch.Tensor]] = {
        "product": product,
        "cosine": lambda: soft_nearest_neighbour_loss(x, groups, 0.1),
        "euclidean": lambda: soft_nearest_neighbour_loss(x, groups, 1e3, distance="euclidean"),
        "plain": tiled,
    }
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(given.rounds):  # in turn, so that a busy machine hurts all alike
        for name, function in functions.items():
            x.grad = None
            started = time.process_time()
            function().backward()
            times[name].append(time.process_time() - started)
    best = {name: min(found) for name, found in times.items()}
    for name, seconds in best.items():
        print(f"{name:10} {1e3 * seconds:8.1f} ms {seconds / best['product']:6.2f} x the product")
    worst = max(best["cosine"], best["euclidean"]) / best["product"]
    print(f"target {TARGET:g}x: {'met' if worst <= TARGET else 'missed'}, {worst:.2f}x")
    print(json.dumps(best))


if __name__ == "__main__":
    main()
