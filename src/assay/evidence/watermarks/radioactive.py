"""Radioactive data: training rows shifted along a secret direction of a feature space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.carriers import Space, carriers, cosine_test, paired_losses
from assay.evidence.watermarks.embedded import Embedded, Marked, TrainedIn, sealed, under_other_keys
from assay.evidence.watermarks.marking import Workshop, hold_out, limits, seed_of
from assay.ledger import Ledger
from assay.model import Access
from assay.observers import Observer
from assay.registry import register
from assay.result import Interval
from assay.statistics import clopper_pearson

__all__ = ["Radioactive"]


@dataclass(frozen=True, eq=False)
class _Secret:
    """A key, and the tensors of evidence that were made with it."""

    key: str
    tensors: dict[str, Tensor]


@register("radioactive", kind="evidence")
@dataclass(frozen=True)
class Radioactive(TrainedIn[_Secret]):
    """Rows of each class shifted along a secret direction; the direction shows in the scores.

    An unmarked model gives a feature space. In it the key draws one direction for each class,
    uniformly on the sphere. Some rows of the class are moved a little so that their features
    go that way; labels stay. A classifier trained on them has learned that the direction speaks
    for the class. The test asks for scores of probes that are spread in *other* random
    directions, fits the suspect's log-scores by the features and by what the unmarked model
    says, and takes the cosine of the fitted direction of each class with the secret one.

    **Why the test is exact.** Probes, features and the unmarked model were settled apart from
    the directions. Whatever a suspect answers that is independent of the key, its fitted
    direction is fixed while the secret one is uniform on a sphere, so that the square of their
    cosine has a beta distribution. Directions of different classes are independent draws, so
    that Fisher's combination over classes has no assumption left either. For networks the
    paper aligns features linearly and then takes the cosine with the last layer's rows;
    a linear fit of the logits to the features is the same product, and needs no weights.

    Parameters
    ----------
    share
        Share of the rows of each class that are shifted, in (0, 1].
    reach
        Largest shift of a row in any coordinate, as a share of the value range, in (0, 1].
    steps
        Sign-gradient steps to get there, at least 1.
    dimensions
        Dimensions of the feature space, its widest ones, at least 2; a network may have fewer.
        Each is scaled to the same width.
    probes
        Queries of the test, at least 50; so many rows are held out of training, at most a
        quarter, and used in several directions.
    pairs
        Held-out rows, each asked twice, for the loss test that stands beside it: shifted along
        the secret direction of its class and along another. 0 leaves it out.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Sablayrolles, Douze, Schmid and Jégou, "Radioactive data: tracing through training", ICML
    2020, sections 3 and 4.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe
    >>> fast = Recipe(epochs=15, optimizer="adam", lr=0.003)
    >>> made = Radioactive(reach=0.2).embed(digits(), architecture="mlp-64", recipe=fast, key=1)
    >>> made.evidence.verify(made.model).decision
    'stolen'
    """

    scheme: ClassVar[str] = "radioactive"

    share: float = 0.5
    reach: float = 0.1
    steps: int = 10
    dimensions: int = 32
    probes: int = 600
    pairs: int = 100

    def __post_init__(self) -> None:
        self._check("share", fine=0 < self.share <= 1)
        self._check("reach", fine=0 < self.reach <= 1)
        self._check("steps", fine=self.steps >= 1)
        self._check("dimensions", fine=self.dimensions >= 2)  # noqa: PLR2004 - a line has only two directions
        self._check("probes", fine=self.probes >= 50)  # noqa: PLR2004 - fewer fit nothing
        self._check("pairs", fine=self.pairs >= 0)

    @property
    def needs(self) -> Access:
        """Scores: labels alone are too coarse to show the direction."""
        return Access.SCORES

    def mark(self, shop: Workshop, key: str) -> Marked[_Secret]:
        """Train on shifted rows; the control is the model that gave the features.

        It begins with the same weights as the marked one, so that they understand the same by
        their features. Networks of ours only: their features are looked at.

        Raises
        ------
        InvalidInput
            If the data are too few.
        """
        data = shop.data
        most = max(1, min(max(self.probes // 4, self.pairs), len(data) // 4))
        kept, clean = hold_out(data, most, seed_of(key, "held out"))
        guide = shop.fit(clean, "guiding")
        space = Space.of(guide.module, clean.x, self.dimensions)
        probes = self._probes(space, kept, data, seed_of(key, "probes"))
        directions = carriers(key, probes, data.num_classes, space.width, "secret")
        order = np.random.default_rng(seed_of(key, "rows")).permutation(len(clean))
        chosen = torch.from_numpy(order[: max(1, round(self.share * len(clean)))])
        x = clean.x.clone()
        x[chosen] = self._shift(space, clean.x[chosen], directions[clean.y[chosen]], data)
        shifted = Dataset(x, clean.y, data.classes, data.value_range, f"{data.name}-radioactive")
        pairs = kept.subset(range(min(self.pairs, len(kept))))
        others = carriers(key, probes, data.num_classes, space.width, "other")
        tensors = {
            "probes": probes,
            "features": space(probes),
            "guide": guide.scores(probes).float(),
            "pair_class": pairs.y,
            "along_secret": self._shift(space, pairs.x, directions[pairs.y], data),
            "along_other": self._shift(space, pairs.x, others[pairs.y], data),
        }
        return Marked(
            _Secret(key, tensors),
            shop.fit(shifted, "marked"),
            lambda: guide,
            (len(clean) - len(chosen), len(chosen)),
        )

    def seal(
        self,
        secret: _Secret,
        data: Dataset,
        model: TorchModel,
        *,
        unmarked: TorchModel | None = None,
        evaluation: Dataset | None = None,
        rows: tuple[int, int] = (0, 0),
        facts: Mapping[str, Any] | None = None,
    ) -> Embedded:
        """Commit the evidence and report what marking did.

        The match rate is the share of classes whose cosine is above 0; half of them are in a
        model without the mark.
        """
        return sealed(
            self,
            secret.key,
            secret.tensors,
            facts or {},
            _above_zero,
            data=data,
            model=model,
            unmarked=unmarked,
            evaluation=evaluation,
            rows=rows,
        )

    def _probes(self, space: Space, kept: Dataset, data: Dataset, seed: int) -> Tensor:
        """Return held-out rows, each shifted along directions of its own."""
        source = np.random.default_rng(seed)
        rows = torch.arange(self.probes) % len(kept)
        ways = torch.from_numpy(source.standard_normal((self.probes, space.width)).astype(np.float32))
        return self._shift(space, kept.x[rows], nn.functional.normalize(ways, dim=1), data)

    def _shift(self, space: Space, x: Tensor, directions: Tensor, data: Dataset) -> Tensor:
        low, high = limits(data)
        step = self.reach / self.steps * (high - low)
        here = x.clone()
        for _ in range(self.steps if len(x) else 0):
            slope = space.slope(here, directions)
            here = (here + step * slope.sign()).clamp(low, high)
        return here

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,  # noqa: ARG002 - nothing is drawn
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger reports the queries
    ) -> Finding:
        """Ask for the scores of the probes and test the fitted directions.

        Raises
        ------
        BudgetExceeded
            If the budget does not cover enough probes to fit.
        EvidenceTampered
            If the bundle's parts do not fit together.
        """
        result, details, assumptions = cosine_test(evidence, oracle, alpha)
        return Finding(
            result,
            companions=paired_losses(evidence, oracle),
            assumptions=assumptions,
            details=details,
        )

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, Tensor]]:
        """Yield held-out rows, shifted as the training rows were, with their class."""
        classes = evidence.facts["classes"]
        for row, label in zip(
            evidence.tensors["along_secret"][:most], evidence.tensors["pair_class"].tolist(), strict=False
        ):
            yield str(classes[label]), row

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield the same probes under fresh keys, whose directions could have been the secret.

        Rows for the loss test lie along the true directions; decoys have none.
        """
        paired = ("pair_class", "along_secret", "along_other")
        tensors = {k: v[:0] if k in paired else v for k, v in evidence.tensors.items()}
        return under_other_keys(self, evidence, count, rng, tensors=tensors)


def _above_zero(evidence: Evidence, model: TorchModel) -> Interval:
    cosines = evidence.verify(model, alpha=0.5).details["cosines"]
    return clopper_pearson(sum(c > 0 for c in cosines), len(cosines))
