"""The published embeddings of dataset inference as plain loops: what the benchmarks compare with.

Written from the description in Maini, Yaghini and Papernot, ICLR 2021, and the behaviour
of its public code: one batch per norm and per walk or target, two forward passes a
step, gradients of everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.nets import Network, Recipe, build, train


@dataclass
class Meter:
    """Forward passes, in rows, of a network."""

    net: nn.Module
    rows: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits."""
        self.rows += len(x)
        return self.net(x)


def images(size: int = 28) -> Dataset:
    """Return scikit-learn's digits as smooth ``1 x size x size`` images inside [0.1, 0.9]."""
    raw = load_digits()
    small = torch.from_numpy(raw.images).float().unsqueeze(1) / 16
    large = functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    return Dataset(0.1 + 0.8 * large, torch.from_numpy(raw.target).long(), tuple("0123456789"))


def trained(data: Dataset, name: str = "cnn-16", epochs: int = 4) -> Network:
    """Return a network trained on ``data``."""
    net = build(name, data.input_shape, data.num_classes, 0)
    train(net, data, Recipe(epochs=epochs, batch_size=64, lr=0.05, precision="fp32"), rng=0)
    return net


def lengths(delta: Tensor) -> Tensor:
    """Return linf, l2 and l1 norms, ``[n, 3]``."""
    flat = delta.flatten(1)
    return torch.stack([flat.abs().amax(1), flat.norm(dim=1), flat.abs().sum(1)], 1)


def blind_walk(
    net: Meter, x: Tensor, y: Tensor, walks: int, steps: int, scales: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Return distances ``[n, walks, 3]`` and stopping steps (``steps + 1`` if the label never changed)."""
    n = len(x)
    distances, stops = torch.zeros(n, walks, 3), torch.zeros(n, walks, 3, dtype=torch.int64)
    source = torch.Generator().manual_seed(0)
    for axis in range(3):
        for walk in range(walks):
            if axis == 0:
                noise = (torch.rand(x.shape, generator=source) * 2 - 1) * scales[0]
            elif axis == 1:
                noise = torch.randn(x.shape, generator=source) * scales[1]
            else:
                noise = torch.distributions.Laplace(0.0, scales[2]).sample(x.shape)
            delta = torch.zeros_like(x)
            going = torch.ones(n, dtype=torch.bool)
            stop = torch.zeros(n, dtype=torch.int64)
            net(x)  # the clean forward pass, made for every walk
            for step in range(steps + 1):
                rows = going.nonzero().squeeze(1)
                if not len(rows):
                    break
                if step:
                    going[rows] = net(x[rows] + delta[rows]).argmax(1) == y[rows]
                rows = going.nonzero().squeeze(1)
                stop[rows] += 1
                delta[rows] = (x[rows] + stop[rows].view(-1, 1, 1, 1) * noise[rows]).clamp(0, 1) - x[rows]
                if len(rows):
                    net(x[rows] + delta[rows])  # evaluated again for the report of each step
            net(x + delta)
            distances[:, walk, axis], stops[:, walk, axis] = lengths(delta)[:, axis], stop
    return distances, stops


def mingd(
    net: Meter,
    x: Tensor,
    classes: int,
    steps: int = 500,
    alphas: tuple[float, float, float] = (0.001, 0.01, 0.01),
) -> tuple[Tensor, Tensor]:
    """Return distances ``[n, classes, 3]`` and whether the target was reached."""
    n = len(x)
    distances = torch.zeros(n, classes, 3)
    reached = torch.zeros(n, classes, 3, dtype=torch.bool)
    for axis in range(3):
        for target in range(classes):
            net(x)
            delta = torch.zeros_like(x)
            going = torch.ones(n, dtype=torch.bool)
            for _ in range(steps):
                rows = going.nonzero().squeeze(1)
                going[rows] = net(x[rows] + delta[rows]).argmax(1) != target
                rows = going.nonzero().squeeze(1)
                if not len(rows):
                    break
                part = delta[rows].requires_grad_()
                logits = net(x[rows] + part)
                (logits[:, target] - logits.max(1).values).mean().backward()
                grad = part.grad.flatten(1)
                if axis == 0:
                    move = alphas[0] * grad.sign()
                elif axis == 1:
                    move = alphas[1] * grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-12)
                else:
                    at = (x[rows] + part.detach()).flatten(1)
                    shut = (grad < 0) & (at <= 1e-3) | (grad > 0) & (at >= 1 - 1e-3) | (at <= 0) | (at >= 1)
                    free = grad.masked_fill(shut, 0)
                    top = free.abs().topk(100, dim=1).indices
                    move = alphas[2] * torch.zeros_like(grad).scatter(1, top, free.gather(1, top).sign())
                moved = (x[rows] + part.detach() + move.view_as(part)).clamp(0, 1)
                delta[rows] = moved - x[rows]
            reached[:, target, axis] = net(x + delta).argmax(1) == target
            distances[:, target, axis] = lengths(delta)[:, axis]
    return distances, reached
