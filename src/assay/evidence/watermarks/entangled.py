"""The entangled watermark: marks that share the features of the task, chosen by rehearsed theft."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.embedded import Embedded
from assay.evidence.watermarks.entanglement.marked_batches import Entangling
from assay.evidence.watermarks.entanglement.pools import (
    MarkPool,
    borderline_pool,
    family_pool,
    patch_pool,
    shaped,
)
from assay.evidence.watermarks.entanglement.record import (
    EntangledRecord,
    accuracy,
    gradient_shares,
    match_rate,
)
from assay.evidence.watermarks.entanglement.rehearsal import (
    Cast,
    choose_marks,
    draw_rehearsals,
    rehearse,
)
from assay.evidence.watermarks.entanglement.selection import examine_selected
from assay.evidence.watermarks.entanglement.shaping import Shaping
from assay.evidence.watermarks.entanglement.snnl import Distance
from assay.evidence.watermarks.entanglement.stage import Stage
from assay.evidence.watermarks.keys import derive, draw_key
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme, check_evaluation
from assay.ledger import Ledger
from assay.nets import Recipe
from assay.observers import Observer
from assay.registry import register

__all__ = ["Entangled", "EntangledRecord"]

_MOST_HELD_OUT = 0.2
_SPARE = 2  # marks rehearsed for each one that is kept
_IMAGES = 100  # of each family or patched class
_PATCH = 5  # the shortest side holds so many patches


@register("entangled", kind="evidence")
@dataclass(frozen=True)
class Entangled(TriggerScheme):
    """Marks entangled with the task, so that copies made by queries inherit them; tested exactly.

    Marked batches between the ordinary ones teach each mark a target class and pull it
    towards ordinary inputs of that class in feature space. Which marks and targets survive
    a theft is found by rehearsals: whole thefts of models that were marked with other keys.
    The true key then draws one of the chosen candidate targets of each mark.

    **Why the test is exact.** Marks, candidates and triggers are chosen without the true
    key, which draws each target by a hash from the mark's candidates. Given everything that
    is committed, all combinations of candidates are equally likely for an independent
    suspect; see `assay.evidence.watermarks.keys.randomisation_p_value`. With ``select`` the
    triggers are chosen by looking at copies of the final model; then the exact binomial test
    against 19 independent models decides, and the verdict says so.

    Parameters
    ----------
    source
        ``"borderline"``: cells of the owner's own rows that clean models cannot decide
        between two classes; ordinary inputs, which every thief asks about.
        ``"families"``: synthetic images that belong to no class. ``"patch"``: a patch on
        rows of one class, placed by gradient.
    marks
        Marks with a target of their own, at least 1.
    candidates
        Classes among which the key draws each target, at least 2 (borderline cells have 2).
        No p-value is below ``candidates ** -marks``.
    triggers
        Held-out inputs to ask about, at least ``marks``; as many are kept as there are.
    rehearsals
        Thefts rehearsed to choose marks, candidates and triggers; each is two trainings.
        With 0 nothing is chosen.
    weight, layers, distance, temperature
        See `assay.evidence.watermarks.entanglement.marked_batches.Entangling`.
    ratio
        Ordinary batches for each marked one, > 0.
    warm_up
        Share of the training before the first marked batch, in [0, 1).
    share
        Of the rows that borderline cells are made of, in (0, 0.5].
    shape
        Move marks by gradient steps away from what clean models answer; None does so for
        patches only. Borderline rows are never moved.
    select
        Choose triggers by theft of the final model as well. Not exact; 22 more trainings.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021. Frosst, Papernot and Hinton, "Analyzing
    and Improving Representations with the Soft Nearest Neighbor Loss", ICML 2019.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> fast = Recipe(epochs=8, optimizer="adam", lr=0.01, weight_decay=0.0)
    >>> scheme = Entangled(source="families", marks=8, triggers=32, rehearsals=0)
    >>> made = scheme.embed(digits(), architecture="mlp-64", recipe=fast, key=1)
    >>> made.evidence.verify(made.model, alpha=0.05).decision
    'stolen'
    """

    scheme: ClassVar[str] = "entangled"

    source: Literal["borderline", "families", "patch"] = "borderline"
    marks: int = 10
    candidates: int = 2
    triggers: int = 60
    rehearsals: int = 6
    weight: float = 0.5
    layers: tuple[str, ...] | None = None
    distance: Distance = "cosine"
    temperature: float | None = None
    ratio: float = 1.0
    warm_up: float = 0.0
    share: float = 0.1
    shape: bool | None = None
    select: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "source": self.source in ("borderline", "families", "patch"),
            "marks": self.marks >= 1,
            "candidates": self.candidates == 2  # noqa: PLR2004 - a borderline has two sides
            or (self.candidates > 2 and self.source != "borderline"),  # noqa: PLR2004
            "triggers": self.triggers >= self.marks,
            "rehearsals": self.rehearsals >= 0,
            "ratio": 0 < self.ratio < math.inf,
            "warm_up": 0 <= self.warm_up < 1,
            "share": 0 < self.share <= 0.5,  # noqa: PLR2004
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Entangled.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)
        self._entangling()

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
            Train the same marks without entanglement as well, and copy both models once. As
            ``compare_unmarked`` unless given.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.

        Raises
        ------
        InvalidInput
            If the data are too few or not suited to the marks, or the evaluation rows do
            not fit them.
        """
        check_evaluation(data, evaluation)
        secret = draw_key(key)
        rngs = np.random.default_rng(int(derive(secret, "inputs"), 16)).spawn(3)
        held_out, clean = self._split(data, rngs[0])
        stage = Stage(clean, architecture, recipe, self.ratio, self.warm_up, rng, observers)
        pool, nulls = self._pool(stage, held_out, rngs[1])
        cast, before = self._rehearse(stage, pool, rngs[2])
        triggers = _in_turns(secret, pool, cast, data.num_classes)
        pool = pool.only(cast.marks, cast.choices)
        model, batches = stage.mark(pool, triggers.targets, self._entangling())
        exact = replace(self, select=False).seal(
            triggers,
            data,
            model,
            unmarked=stage.control() if compare_unmarked else None,
            evaluation=evaluation,
            rows=(len(clean), len(pool.trained)),
            facts={"source": self.source, "names": list(pool.names)},
        )
        record = EntangledRecord(
            **{f.name: getattr(exact.record, f.name) for f in dataclasses.fields(exact.record)},
            rehearsed_rate=before,
            chosen_rate=None if before is None else cast.transfer,
            entanglement_shares=gradient_shares(batches.history),
        )
        evidence = exact.evidence
        if self.select:
            extra = stage.select(model, triggers.inputs, triggers.wanted, nulls, self.triggers)
            record = replace(record, selected_triggers=len(extra["selected"]))
            evidence = Evidence(self, {**evidence.tensors, **extra}, evidence.facts, evidence.nonce)
        else:
            evidence = Evidence(self, evidence.tensors, evidence.facts, evidence.nonce)
        if compare_unmarked if compare_entanglement is None else compare_entanglement:
            record = self._ablate(stage, pool, triggers, model, record, evaluation)
        record = replace(record, commitment=evidence.commitment)
        return Embedded(model, evidence, record, exact.unmarked)

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),
    ) -> Finding:
        """Rank the key among all keys; or, for selected triggers, test against independent models.

        Raises
        ------
        BudgetExceeded
            If so few triggers cannot reach ``alpha`` even when all match.
        InvalidInput
            If these marks cannot.
        EvidenceTampered
            If the bundle's parts do not fit together.
        """
        if self.select:
            return examine_selected(evidence, oracle, alpha=alpha, rng=rng)
        return super().examine(evidence, oracle, alpha=alpha, rng=rng, observers=observers)

    def _entangling(self) -> Entangling:
        return Entangling(self.weight, self.layers, self.distance, self.temperature)

    def _split(self, data: Dataset, rng: np.random.Generator) -> tuple[Dataset | None, Dataset]:
        """Return the rows to be asked about, if any, and the rows to train on."""
        if self.source == "families":
            if not len(data):
                msg = f"cannot embed a mark with {data.name}: it is empty"
                raise InvalidInput(msg)
            return None, data
        # A borderline row is one in ten; a patched class one in as many as there are.
        each = 4 / self.share if self.source == "borderline" else 2 * data.num_classes / self.marks
        wanted = min(round(each * self.triggers), int(_MOST_HELD_OUT * len(data)))
        order = rng.permutation(len(data))
        if wanted < self.triggers:
            msg = (
                f"{data.name} has {len(data)} rows, too few to hold out {self.triggers} for triggers; ask "
                "for fewer, or use source='families'"
            )
            raise InvalidInput(msg)
        return data.subset(order[:wanted]), data.subset(order[wanted:])

    def _pool(
        self, stage: Stage, held_out: Dataset | None, rng: np.random.Generator
    ) -> tuple[MarkPool, list[TorchModel]]:
        """Return marks to choose from, and the clean models that helped to draw them."""
        data, spare = stage.data, _SPARE if self.rehearsals else 1
        order = torch.from_numpy(rng.permutation(len(data)))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        if self.source == "borderline" and held_out is not None:
            nulls = [stage.clean(0, halves[1]), stage.clean(1, halves[0])]
            cells = math.ceil(self.marks * (1 + spare) / 2)
            folds = list(zip(halves, nulls, strict=True))
            return borderline_pool(data, held_out, folds, marks=cells, share=self.share, rng=rng), nulls
        nulls = [stage.clean(0), stage.clean(1)]
        # Two or three candidates are rehearsed well enough to be compared; more are not.
        plausible = self.candidates
        if held_out is None:
            pool = family_pool(
                data,
                nulls,
                marks=self.marks * spare,
                plausible=plausible,
                trained=_IMAGES,
                held_out=2 * _SPARE * math.ceil(self.triggers / self.marks),
                rng=rng,
            )
        else:
            pool = patch_pool(
                data,
                held_out,
                nulls[0],
                plausible=plausible,
                trained=_IMAGES,
                size=max(3, min(data.input_shape[1:], default=0) // _PATCH),
                layers=self.layers,
                distance=self.distance,
                rng=rng,
            )
        if self.source == "patch" if self.shape is None else self.shape:
            pool = shaped(
                pool, nulls[0], data, Shaping(), layers=self.layers, distance=self.distance, rng=rng
            )
        return pool, nulls

    def _rehearse(self, stage: Stage, pool: MarkPool, rng: np.random.Generator) -> tuple[Cast, float | None]:
        """Return what rehearsals under other keys recommend, and the match rate before choosing."""
        mark = pool.mark.numpy()

        def answers(turn: int, targets: np.ndarray) -> np.ndarray:
            number = f"{turn + 1} of {self.rehearsals}"
            cast = np.flatnonzero(targets >= 0).tolist()
            part = pool.only(cast, [pool.plausible[j] for j in cast])
            rehearsed, _ = stage.mark(
                part, targets[cast], self._entangling(), 1000 + turn, f"model of rehearsal {number}"
            )
            return (
                stage.steal(rehearsed, 1000 + turn, f"copy of rehearsal {number}")
                .labels(pool.held_out)
                .numpy()
            )

        drawn = draw_rehearsals(pool.plausible, self.rehearsals, rng, self.marks)
        found = rehearse(drawn, mark, answers)
        cast = choose_marks(
            found,
            mark,
            pool.plausible,
            marks=self.marks,
            candidates=self.candidates,
            triggers=self.triggers * (_SPARE if self.select else 1),
        )
        return cast, found.transfer if self.rehearsals else None

    def _ablate(
        self,
        stage: Stage,
        pool: MarkPool,
        triggers: Triggers,
        model: TorchModel,
        record: EntangledRecord,
        evaluation: Dataset | None,
    ) -> EntangledRecord:
        """Copy the model, and train and copy one whose marks are not entangled."""
        plain, _ = stage.mark(
            pool,
            triggers.targets,
            replace(self._entangling(), weight=0.0),
            task="ablation without entanglement",
        )
        stolen = stage.steal(model, 3000, "copy of the marked model")
        plain_stolen = stage.steal(plain, 3000, "copy of the ablation")
        wanted = triggers.wanted
        return replace(
            record,
            copy_match_rate=match_rate(stolen, triggers.inputs, wanted),
            copy_accuracy=accuracy(stolen, evaluation),
            ablation_match_rate=match_rate(plain, triggers.inputs, wanted),
            ablation_accuracy=accuracy(plain, evaluation),
            ablation_copy_match_rate=match_rate(plain_stolen, triggers.inputs, wanted),
        )


def _in_turns(secret: str, pool: MarkPool, cast: Cast, classes: int) -> Triggers:
    """Return the chosen triggers, the marks taking turns, with candidates and key."""
    marks = len(cast.marks)
    order = torch.tensor(cast.triggers, dtype=torch.int64).T.flatten()
    return Triggers(
        secret, pool.held_out[order], torch.arange(len(order)) % marks, marks, classes, cast.choices
    )
