"""Query filter: answer questions that look unusual from the inside with something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.data import load_data
from assay.data.dataset import Dataset
from assay.data.pools import foreign
from assay.errors import InvalidInput
from assay.nets import Network, predict
from assay.nets.filtered_head import FILTERS, FilteredHead, guard
from assay.observers import Observer
from assay.registry import register
from assay.removal.base import Removal
from assay.removal.layers import copied, last_layer, replace
from assay.removal.tuning import check_choice

__all__ = ["QueryFilter", "filter_auroc", "outlier_scores"]

_LEAST = 4  # rows: two say what is usual, two how unusual ordinary inputs get


@register("query-filter", kind="removal")
@dataclass(frozen=True, kw_only=True)
class QueryFilter(Removal):
    """Evade questions whose features lie apart from those of ordinary inputs.

    Triggers must not look like anything that people ask; entangled ones are meant to look
    like it from the inside. The copy's weights stay as they are. A refusal would tell the
    owner that he was noticed and would be no answer to count; the filter answers
    something else. Whatever trains the copy after this moves its features away from the
    filter, which therefore comes last in a stack.

    A network of ours becomes one with a filtered head (architecture
    ``"lof-200+wrn-16-1"``), which is saved and opened like any other.

    ``measured`` of the record has the share of ordinary inputs that are evaded
    (``evaded``), and if triggers are given theirs (``evaded_triggers``), and the area under
    the curve by which the score tells the two apart (``auroc``, 0.5 for not at all).

    Parameters
    ----------
    score
        ``"lof"``: local outlier factor; ``"forest"``: isolation forest.
    size
        References of the local outlier factor, at least 2, or trees of the forest, at
        least 1; None for 256 or half of the data if they are fewer, and 100 trees.
    share
        Of ordinary questions that are evaded, in (0, 1).
    evasion
        ``"random"``: the row's logits in random order, the same for the same question;
        ``"second"``: the second best class.
    triggers
        Inputs to measure the filter on, as `assay.data.load_data` names them; the thief
        has none, you may.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021, section 6 (anomaly detection on
    queries); Breunig et al., SIGMOD 2000; Liu, Ting and Zhou, ICDM 2008.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import build
    >>> model, data = TorchModel(build("mlp-16", (1, 8, 8), 10)), digits().subset(range(200))
    >>> washed = QueryFilter(score="forest", size=50, share=0.1).run(model, data)
    >>> washed.model.module.architecture, washed.record.measured["evaded"] < 0.2
    ('forest-50+mlp-16', True)
    """

    name: ClassVar[str] = "query-filter"
    score: Literal["lof", "forest"] = "lof"
    size: int | None = None
    share: float = 0.05
    evasion: Literal["random", "second"] = "random"
    triggers: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "score", self.score, tuple(FILTERS))
        check_choice(self.name, "evasion", self.evasion, FilteredHead.codes)
        least = 2 if self.score == "lof" else 1
        if self.size is not None and self.size < least:
            msg = f"size of {self.name} must be at least {least} for {self.score}, got {self.size}"
            raise InvalidInput(msg)
        if not 0 < self.share < 1:
            msg = f"share of {self.name} must be in (0, 1), got {self.share!r}"
            raise InvalidInput(msg)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - nothing takes long
        checkpoint: Path | None = None,  # noqa: ARG002 - nothing is trained
    ) -> nn.Module:
        """Learn what features are usual, and guard the last layer of a copy."""
        network = copied(module, self.name)
        if data is None or len(data) < _LEAST:
            msg = f"the removal {self.name} needs at least {_LEAST} rows of data"
            raise InvalidInput(msg)
        head = last_layer(network, data, self.name)
        if not isinstance(head, nn.Linear):
            msg = f"{self.name} needs a network whose last layer is linear, not {type(head).__name__}"
            raise InvalidInput(msg)
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(rng))
        half = len(data) // 2
        size = self.size or (min(256, half) if self.score == "lof" else 100)
        usual, other = data.x[order[:half]], data.x[order[half:]]
        score = FILTERS[self.score](head.in_features, size).to(head.weight.device)
        score.fit(_features(network, head, usual), rng)
        filtered = FilteredHead(head, score, self.evasion)
        if isinstance(network, Network):
            guard(network, filtered)
        else:
            replace(network, head, filtered.to(head.weight.device))
        known = outlier_scores(network, other)
        filtered.threshold.fill_(float(known.quantile(1 - self.share)))
        return network.eval()

    def measure(self, washed: nn.Module, data: Dataset | None, rng: int) -> dict[str, float]:
        """Return what is evaded, of ordinary inputs and of triggers if there are any."""
        if data is None:
            return {}
        threshold = _filter_of(washed).threshold
        ordinary = outlier_scores(washed, data.x)
        found = {"evaded": float((ordinary > threshold).double().mean())}
        if self.triggers is not None:
            given = load_data(self.triggers, rng=rng)
            x = foreign(given, data.input_shape, data.classes, value_range=data.value_range).x
            scores = outlier_scores(washed, x)
            found["evaded_triggers"] = float((scores > threshold).double().mean())
            found["auroc"] = _auroc(ordinary, scores)
        return found


def outlier_scores(washed: nn.Module, x: Tensor) -> Tensor:
    """Return how unusual inputs are to a filtered network, float64 ``[n]``.

    Raises
    ------
    InvalidInput
        If the network has no filter.
    """
    head = _filter_of(washed)
    features = _features(washed, head, x)
    with torch.no_grad():
        scores: Tensor = head.score(features)
    return scores.double().cpu()


def filter_auroc(washed: nn.Module, ordinary: Tensor, triggers: Tensor) -> float:
    """Return how well a filtered network tells triggers from ordinary inputs.

    Parameters
    ----------
    washed
        From `QueryFilter`.
    ordinary, triggers
        Inputs ``[n, *shape]`` and ``[m, *shape]``.

    Returns
    -------
    float
        Chance that a trigger is more unusual than an ordinary input: 0.5 for a filter
        that sees nothing, 1 for one that sees all.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import build
    >>> data = digits().subset(range(200))
    >>> washed = QueryFilter().run(TorchModel(build("mlp-16", (1, 8, 8), 10)), data).model.module
    >>> filter_auroc(washed, data.x, 1 - data.x) > 0.9
    True
    """
    return _auroc(outlier_scores(washed, ordinary), outlier_scores(washed, triggers))


def _auroc(ordinary: Tensor, triggers: Tensor) -> float:
    if not len(ordinary) or not len(triggers):
        msg = "telling triggers from ordinary inputs needs at least one of each"
        raise InvalidInput(msg)
    from sklearn.metrics import roc_auc_score  # slow to import, and only needed here

    truth = torch.cat([torch.zeros(len(ordinary)), torch.ones(len(triggers))])
    return float(roc_auc_score(truth.numpy(), torch.cat([ordinary, triggers]).numpy()))


def _filter_of(network: nn.Module) -> FilteredHead:
    found = [layer for layer in network.modules() if isinstance(layer, FilteredHead)]
    if not found:
        msg = "this network has no filter of questions; wash it with query-filter first"
        raise InvalidInput(msg)
    return found[-1]


def _features(network: nn.Module, head: nn.Linear, x: Tensor) -> Tensor:
    """Return what the head reads, float32 ``[n, d]`` on its device."""
    seen: list[Tensor] = []

    def note(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().float())

    handle = head.register_forward_pre_hook(note)
    try:
        predict(network, x)
    finally:
        handle.remove()
    return torch.cat(seen) if seen else head.weight.new_empty(0, head.in_features)
