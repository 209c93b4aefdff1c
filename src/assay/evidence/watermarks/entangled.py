"""The entangled watermark: a mark that shares the features of the task, chosen by rehearsed theft."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypedDict

import numpy as np

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.embedded import Embedded
from assay.evidence.watermarks.entanglement.clean_models import CleanModels, Keep, train_anew
from assay.evidence.watermarks.entanglement.exact import embed_exact
from assay.evidence.watermarks.entanglement.marked_batches import Entangling
from assay.evidence.watermarks.entanglement.record import EntangledRecord
from assay.evidence.watermarks.entanglement.selected import clean_models, embed_selected
from assay.evidence.watermarks.entanglement.selection import FEWEST_MODELS, examine_selected
from assay.evidence.watermarks.keys import derive, draw_key
from assay.evidence.watermarks.trigger_scheme import TriggerScheme, check_evaluation
from assay.ledger import Ledger
from assay.nets import Recipe
from assay.nets.soft_nearest_neighbours import Distance
from assay.observers import Observer
from assay.registry import register

__all__ = ["Entangled", "EntangledRecord"]

# Ordinary batches for each marked one where nothing else is said.
_EXACT_PACE, _FOREIGN_PACE, _ENTANGLED_PACE = 1.0, 2.0, 8.0


class _Said(TypedDict):
    """What both ways of embedding are told."""

    architecture: str
    recipe: Recipe
    rng: int
    observers: Sequence[Observer]
    evaluation: Dataset | None
    compare_unmarked: bool
    compare_entanglement: bool


@register("entangled", kind="evidence")
@dataclass(frozen=True)
class Entangled(TriggerScheme):
    """Marks entangled with the task, so that copies made by queries inherit them.

    **With ``select``** (the default) there is one mark: a source and a target class. By
    default a small cluster of the source's rows, next to the target, is given to the target,
    so that every thief's ordinary questions teach the copy. The finished model is then
    stolen several times, and triggers are moved and chosen so that all these copies answer the
    target and clean models do not. Where two more copies do not answer them, more thieves choose
    again; where that does not help, another and stronger mark is tried. All attempts are
    recorded. The choice has seen the key: the suspect's matches are tested, exactly, against
    the largest Clopper-Pearson bound of independent models that took no part in the choice, and the
    verdict says so.

    **Without** there are many marks. Marks, candidate targets and triggers are chosen without
    the true key, by rehearsals under others; the key then draws each target from its mark's
    candidates by a hash. Given everything that is committed, all combinations of candidates
    are equally likely for an independent suspect, so that the p-value is exact whatever the
    suspect is; see `assay.evidence.watermarks.keys.randomisation_p_value`. It costs several
    times as much accuracy and is weaker on copies.

    Parameters
    ----------
    select
        One mark with triggers chosen by thefts of the finished model; else many marks and
        the exact test over keys.
    source
        ``"borderline"``: the owner's own rows between two classes. ``"families"``: synthetic
        images that belong to no class. ``"patch"``: a patch on rows of one class, placed by
        gradient.
    triggers
        Held-out inputs to ask about, at most; with ``select``, at least a third of them.
    cluster
        With ``select`` and borderline rows: share of the source class that is given to the
        target, in (0, 0.5]. The mark costs about that share of one class.
    repeats
        With ``select`` and borderline rows: times that each of them is in an epoch, at least 1.
        Batches of marks, as published, cost 1 to 2 points of accuracy however few marks there
        are; marks among the other rows do not.
    thieves, nulls
        With ``select``: simulated copies and clean models that choose the triggers, at least 1. Where
        two more copies do not answer what was chosen, twice as many thieves choose again, and
        then twice that. A third of the clean models judges the attempts instead.
    attempts, enough
        With ``select``: marks to try at most, and the probability in [0, 1], by two more copies and the
        judging clean models, that twenty answers at a level of 0.05 find a copy: nothing more is
        tried where it is as large.
    growth
        With ``select`` and borderline rows: each mark is this much larger than the last, and its rows
        are that much oftener in an epoch, at least 1. So an owner pays for no stronger mark than copies need.
    panel
        With ``select``: independent models for the bound, at least 19.
    marks
        Without ``select``: marks with a target of their own, at least 1.
    candidates
        Classes among which the key draws each target, at least 2 (borderline cells have 2).
        Without ``select``, no p-value is below ``candidates ** -marks``.
    rehearsals
        Without ``select``: thefts rehearsed under other keys; each is two trainings.
    share
        Without ``select``: share of the rows that borderline cells are made of, in (0, 0.5].
    weight, layers, distance, temperature
        See `assay.evidence.watermarks.entanglement.marked_batches.Entangling`. The default
        weight of 0 trains the marks without entangling them: with many marks that was as good and cost less.
    ratio
        Ordinary batches for each marked one, > 0. None takes 1 without ``select``; with it
        2, or for borderline rows, whose labels are changed anyway, no marked batches, or 8
        with a ``weight``.
    warm_up
        Share of the training before the first marked batch, in [0, 1).
    shape
        Move marks by gradient steps away from what clean models answer before they are trained
        in; None does so for patches only. Borderline rows are never moved.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021. Lukas, Zhang and Kerschbaum, "Deep Neural
    Network Fingerprinting by Conferrable Adversarial Examples", ICLR 2021. Jagielski, Severi,
    Pousette Harger and Oprea, "Subpopulation Data Poisoning Attacks", CCS 2021, for clusters.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> fast = Recipe(epochs=8, optimizer="adam", lr=0.01, weight_decay=0.0)
    >>> exact = Entangled(select=False, source="families", marks=8, triggers=32, rehearsals=0)
    >>> made = exact.embed(digits(), architecture="mlp-64", recipe=fast, key=1)
    >>> made.evidence.verify(made.model, alpha=0.05).decision
    'stolen'
    """

    scheme: ClassVar[str] = "entangled"

    select: bool = True
    source: Literal["borderline", "families", "patch"] = "borderline"
    triggers: int = 60
    cluster: float = 0.08
    repeats: int = 1
    thieves: int = 6
    nulls: int = 24
    attempts: int = 3
    enough: float = 0.95
    growth: float = 1.5
    panel: int = 19
    marks: int = 10
    candidates: int = 2
    rehearsals: int = 6
    share: float = 0.1
    weight: float = 0.0
    layers: tuple[str, ...] | None = None
    distance: Distance = "cosine"
    temperature: float | None = None
    ratio: float | None = None
    warm_up: float = 0.0
    shape: bool | None = None

    def __post_init__(self) -> None:
        ranges = {
            "source": self.source in ("borderline", "families", "patch"),
            "triggers": self.triggers >= (1 if self.select else self.marks),
            "cluster": 0 < self.cluster <= 0.5,  # noqa: PLR2004
            "repeats": self.repeats >= 1,
            "thieves": self.thieves >= 1,
            "nulls": self.nulls >= 1,
            "attempts": self.attempts >= 1,
            "enough": 0 <= self.enough <= 1,
            "growth": 1 <= self.growth < math.inf,
            "panel": self.panel >= FEWEST_MODELS,
            "marks": self.marks >= 1,
            "candidates": self.candidates == 2  # noqa: PLR2004 - a borderline has two sides
            or (self.candidates > 2 and self.source != "borderline"),  # noqa: PLR2004
            "rehearsals": self.rehearsals >= 0,
            "share": 0 < self.share <= 0.5,  # noqa: PLR2004
            "ratio": self.ratio is None or 0 < self.ratio < math.inf,
            "warm_up": 0 <= self.warm_up < 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Entangled.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)
        _ = self.entangling  # checks its own ranges

    @property
    def entangling(self) -> Entangling:
        """How marks are entangled."""
        return Entangling(self.weight, self.layers, self.distance, self.temperature)

    @property
    def pace(self) -> float | None:
        """Ordinary batches for each marked one; None for no marked batches."""
        if self.ratio is not None:
            return self.ratio
        if not self.select:
            return _EXACT_PACE
        if self.source != "borderline":
            return _FOREIGN_PACE
        return _ENTANGLED_PACE if self.weight else None

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
        compare_entanglement: bool | None = None,
        key: int | None = None,
        clean: CleanModels | None = None,
    ) -> Embedded:
        """Train a marked model.

        Parameters
        ----------
        data
            Training set of images; for borderline and patches a part, at most a fifth, is
            held out to be asked about.
        architecture, recipe
            What to train and how; see `assay.nets`.
        rng
            Seed of the training, which is no secret.
        observers
            Told of every epoch.
        evaluation
            Rows on which accuracy is measured.
        compare_unmarked
            Train an unmarked control on the same rows and for as many batches, marked ones
            included; its match rate is committed with the evidence.
        compare_entanglement
            Train the same marks without entanglement as well, and copy that model too. As
            ``compare_unmarked`` unless given. With a weight of 0 there is nothing to compare.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.
        clean
            With ``select``: clean models from `clean_models` that several keys share. None
            trains some for this key alone, on rows that the key holds out.

        Raises
        ------
        InvalidInput
            If the data are too few or not suited to the marks, no mark reaches the copies, or
            the evaluation rows or clean models do not fit them.
        """
        check_evaluation(data, evaluation)
        if not len(data):
            msg = f"cannot embed a mark with {data.name}: it is empty"
            raise InvalidInput(msg)
        if not self.select and clean is not None:
            msg = "without select every key has clean models of its own; give none"
            raise InvalidInput(msg)
        said = _Said(
            architecture=architecture,
            recipe=recipe,
            rng=rng,
            observers=observers,
            evaluation=evaluation,
            compare_unmarked=compare_unmarked,
            compare_entanglement=compare_unmarked if compare_entanglement is None else compare_entanglement,
        )
        if self.select:
            return embed_selected(self, data, draw_key(key), **said, clean=clean)
        return embed_exact(self, data, draw_key(key), **said)

    def clean_models(
        self,
        data: Dataset,
        *,
        architecture: str,
        recipe: Recipe,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        keep: Keep = train_anew,
    ) -> CleanModels:
        """Set up the clean models of ``embed``, so that several keys can share them.

        Two thirds of the trainings of a key are theirs. They are trained when they are first
        needed. Give each key's ``embed`` an ``rng`` thousands apart from this one and from each other.

        Parameters
        ----------
        data, architecture, recipe, observers
            As in ``embed``.
        rng
            Seed of the held-out rows and of the trainings, which are no secret.
        keep
            From the name of a model and its training to the model; the default trains.

        Raises
        ------
        InvalidInput
            Without ``select``, or if there are too few rows.
        """
        if not self.select:
            msg = "without select every key has clean models of its own"
            raise InvalidInput(msg)
        source = np.random.default_rng(rng)
        return clean_models(
            self,
            data,
            architecture=architecture,
            recipe=recipe,
            rng=rng,
            observers=observers,
            source=source,
            keep=keep,
        )

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),
    ) -> Finding:
        """Test selected triggers against independent models; or rank the key among all keys.

        Raises
        ------
        BudgetExceeded
            If so few triggers cannot reach ``alpha`` even when all match.
        InvalidInput
            If these triggers or marks cannot.
        EvidenceTampered
            If the bundle's parts do not fit together.
        """
        if self.select:
            return examine_selected(evidence, oracle, alpha=alpha, rng=rng, early=self.stop_early)
        return super().examine(evidence, oracle, alpha=alpha, rng=rng, observers=observers)

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield the same triggers with a secret that could have been drawn.

        With ``select`` the secret has shaped the triggers, so that other secrets would have
        had others; decoys then differ by the key alone, and are no test of anything.
        """
        if not self.select:
            yield from super().decoys(evidence, count, rng)
            return
        source = np.random.default_rng(rng)
        for _ in range(count):
            key = source.bytes(32).hex()
            yield Evidence(self, evidence.tensors, {**evidence.facts, "key": key}, derive(key, "nonce"))

    def without_entangling(self) -> Entangled:
        """Return the mandatory ablation: everything else equal."""
        return replace(self, weight=0.0, ratio=self.pace)
