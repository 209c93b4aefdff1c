"""Radioactive data: training rows shifted along a secret direction of a feature space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.watermarks.carriers import Space, carriers, cosine_test, paired_losses
from assay.evidence.watermarks.embedded import Embedded, EmbeddingRecord
from assay.evidence.watermarks.keys import derive, draw_key
from assay.evidence.watermarks.marking import Workshop, hold_out, limits, seed_of
from assay.evidence.watermarks.trigger_scheme import check_evaluation
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe
from assay.observers import Observer
from assay.registry import register
from assay.result import Interval
from assay.statistics import clopper_pearson

__all__ = ["Radioactive"]


@register("radioactive", kind="evidence")
@dataclass(frozen=True)
class Radioactive(Scheme):
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
        ranges = {
            "share": 0 < self.share <= 1,
            "reach": 0 < self.reach <= 1,
            "steps": self.steps >= 1,
            "dimensions": self.dimensions >= 2,  # noqa: PLR2004 - a line has only two directions
            "probes": self.probes >= 50,  # noqa: PLR2004 - fewer fit nothing
            "pairs": self.pairs >= 0,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Radioactive.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)

    @property
    def needs(self) -> Access:
        """Scores: labels alone are too coarse to show the direction."""
        return Access.SCORES

    def embed(
        self,
        data: Dataset,
        *,
        architecture: str,
        recipe: Recipe,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        evaluation: Dataset | None = None,
        compare_unmarked: bool = False,
        key: int | None = None,
    ) -> Embedded:
        """Train a model on shifted rows.

        Parameters
        ----------
        data
            Training set.
        architecture, recipe
            What to train and how; see `assay.nets`. Networks of ours only: their features
            are looked at.
        rng
            Seed of the training, which is no secret. The unmarked model begins with the same
            weights as the marked one, so that they understand the same by their features.
        observers
            Told of every epoch.
        evaluation
            Rows on which accuracy is measured.
        compare_unmarked
            Report on the unmarked model, which is trained in any case.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.

        Returns
        -------
        Embedded
            The match rate of the record is the share of classes whose cosine is above 0; half
            of them are in a model without the mark.

        Raises
        ------
        InvalidInput
            If the data are too few, or the evaluation rows do not fit them.
        """
        check_evaluation(data, evaluation)
        secret = draw_key(key)
        most = max(1, min(max(self.probes // 4, self.pairs), len(data) // 4))
        kept, clean = hold_out(data, most, seed_of(secret, "held out"))
        shop = Workshop(data, architecture, recipe, rng, observers)
        guide = shop.fit(clean, "guiding")
        space = Space.of(guide.module, clean.x, self.dimensions)
        probes = self._probes(space, kept, data, seed_of(secret, "probes"))
        directions = carriers(secret, probes, data.num_classes, space.width, "secret")
        order = np.random.default_rng(seed_of(secret, "rows")).permutation(len(clean))
        chosen = torch.from_numpy(order[: max(1, round(self.share * len(clean)))])
        x = clean.x.clone()
        x[chosen] = self._shift(space, clean.x[chosen], directions[clean.y[chosen]], data)
        model = shop.fit(
            Dataset(x, clean.y, data.classes, data.value_range, f"{data.name}-radioactive"), "marked"
        )
        pairs = kept.subset(range(min(self.pairs, len(kept))))
        others = carriers(secret, probes, data.num_classes, space.width, "other")
        evidence = Evidence(
            self,
            {
                "probes": probes,
                "features": space(probes),
                "guide": guide.scores(probes).float(),
                "pair_class": pairs.y,
                "along_secret": self._shift(space, pairs.x, directions[pairs.y], data),
                "along_other": self._shift(space, pairs.x, others[pairs.y], data),
            },
            {
                "input_shape": list(data.input_shape),
                "classes": list(data.classes),
                "value_range": [v if math.isfinite(v) else str(v) for v in data.value_range],
                "data": data.digest,
                "model": model.digest,
                "key": secret,
            },
            derive(secret, "nonce"),
        )
        unmarked = guide if compare_unmarked else None
        control = None if unmarked is None else evidence.verify(unmarked, alpha=0.5)
        record = EmbeddingRecord(
            model=model.digest,
            commitment=evidence.commitment,
            match_rate=_above_zero(evidence.verify(model, alpha=0.5).details),
            accuracy=_accuracy(model, evaluation),
            unmarked_accuracy=_accuracy(unmarked, evaluation),
            unmarked_match_rate=None if control is None else _above_zero(control.details),
            unmarked_p_value=None if control is None else control.p_value,
            clean_rows=len(clean) - len(chosen),
            marked_rows=len(chosen),
        )
        return Embedded(model, evidence, record, unmarked)

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
        source = np.random.default_rng(rng)
        paired = ("pair_class", "along_secret", "along_other")
        tensors = {k: v[:0] if k in paired else v for k, v in evidence.tensors.items()}
        for _ in range(count):
            key = source.bytes(32).hex()
            yield Evidence(self, tensors, {**evidence.facts, "key": key}, derive(key, "nonce"))


def _above_zero(details: dict[str, Any]) -> Interval:
    cosines = details["cosines"]
    return clopper_pearson(sum(c > 0 for c in cosines), len(cosines))


def _accuracy(model: TorchModel | None, evaluation: Dataset | None) -> Interval | None:
    if model is None or evaluation is None:
        return None
    return clopper_pearson(int((model.labels(evaluation.x) == evaluation.y).sum()), len(evaluation))
