"""A last layer that answers what its features say, unless they are unlike any it knows."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.nets.network import Network
from assay.nets.outlier_scores import Forest, LocalOutliers, OutlierScore
from assay.nets.per_row import draw_per_row

__all__ = ["FILTERS", "Evasion", "FilteredHead", "guard"]

Evasion = Literal["random", "second"]
FILTERS: dict[str, type[OutlierScore]] = {score.name: score for score in (LocalOutliers, Forest)}
"""Outlier scores by the names that architectures use, as in ``"forest-100+cnn-8"``."""

_GRAIN = 64.0  # features are compared to a 64th, so that rounding does not change a draw


class FilteredHead(nn.Linear):
    """A linear layer that evades a question whose features are outliers.

    Parameters
    ----------
    head
        The layer to be guarded; its weights are copied.
    score
        Of features.
    evasion
        ``"random"``: the row's logits change places at random, the same for the same
        question; ``"second"``: the best class gives way to the second best.

    Attributes
    ----------
    threshold
        Scores above are outliers; beyond all of them until it is set.

    Examples
    --------
    >>> head = FilteredHead(nn.Linear(2, 3), Forest(2, 10), "second")
    >>> plain = head(torch.ones(4, 2))
    >>> _ = head.threshold.fill_(0.0)
    >>> torch.equal(head(torch.ones(4, 2)).argmax(1), plain.topk(2).indices[:, 1])
    True
    """

    codes: ClassVar[tuple[Evasion, ...]] = ("random", "second")
    threshold: Tensor
    code: Tensor

    def __init__(self, head: nn.Linear, score: OutlierScore, evasion: Evasion = "random") -> None:
        with torch.random.fork_rng(devices=[]):  # the constructor draws weights that are replaced below
            super().__init__(head.in_features, head.out_features, bias=head.bias is not None)
        if evasion not in self.codes:
            msg = f"a filter evades questions by {' or '.join(self.codes)}, not {evasion!r}"
            raise InvalidInput(msg)
        self.weight, self.bias = head.weight, head.bias
        self.score = score
        self.register_buffer("threshold", torch.tensor(torch.finfo(torch.float32).max))
        self.register_buffer("code", torch.tensor(self.codes.index(evasion)))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``[n, classes]``."""
        logits = super().forward(features)
        if features.is_meta:  # shapes are being checked; nothing is known of the rows
            return logits
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            outlying = self.score(features.float()) > self.threshold
        if not bool(outlying.any()):
            return logits
        order = torch.arange(logits.shape[1], device=logits.device).repeat(len(logits), 1)
        order[outlying] = self._order(features[outlying], logits[outlying].detach())
        return logits.gather(1, order)

    def _order(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return from which class each class of an evaded row takes its logit."""
        if self.codes[int(self.code) % len(self.codes)] == "random":
            coarse = (features.float() * _GRAIN).round()
            classes = logits.shape[1]
            return draw_per_row(coarse, lambda g: torch.randperm(classes, generator=g)).to(logits.device)
        best = logits.topk(2).indices
        order = torch.arange(logits.shape[1], device=logits.device).repeat(len(logits), 1)
        return order.scatter(1, best, best.flip(1))


def guard(network: Network, head: FilteredHead) -> None:
    """Give ``network`` a filtered head, in place; one that it has already is replaced.

    Its architecture is then ``lof-N+`` or ``forest-N+`` what it was.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("mlp-8", (3,), 2)
    >>> guard(network, FilteredHead(network.head, Forest(8, 10)))
    >>> network.architecture
    'forest-10+mlp-8'
    """
    parts = [p for p in network.architecture.split("+") if p.split("-")[0] not in FILTERS]
    network.head = head.to(next(network.parameters()).device).train(network.training)
    network.architecture = "+".join([f"{head.score.name}-{head.score.size}", *parts])
