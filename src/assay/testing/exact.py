"""The conformance suite of attacks that recover parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from assay.adapters import restrict
from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.extraction.base import ExtractionRecord
from assay.extraction.exact.base import ExactAttack, ExactExtraction
from assay.extraction.exact.domain import Domain
from assay.model import Access, Model, accepts_missing, shows_complete_scores
from assay.testing.extraction import check_form, random_state, require_truth

__all__ = ["Sealed", "check_exact"]


class Sealed:
    """A model that counts what it is asked and has nothing else to find.

    Parameters
    ----------
    model
        The model behind; it is kept in a closure, not in an attribute.

    Attributes
    ----------
    rows
        Rows answered so far.
    used
        Access that was made use of.

    Examples
    --------
    >>> from assay.adapters import CallableModel
    >>> sealed = Sealed(CallableModel(lambda x: x, (2,), outputs="probabilities"))
    >>> sealed.labels(torch.tensor([[0.25, 0.75]])), sealed.rows, sealed.used.title
    (tensor([1]), 1, 'labels')
    >>> sealed.module
    Traceback (most recent call last):
    AssertionError: An attack reached for 'module' of its victim.
    """

    def __init__(self, model: Model) -> None:
        self.name, self.digest, self.access = model.name, model.digest, model.access
        self.input_shape, self.num_classes = tuple(model.input_shape), model.num_classes
        self.accepts_missing, self.complete_scores = accepts_missing(model), shows_complete_scores(model)
        self.rows, self.used = 0, Access.NONE
        answers = {"labels": model.labels, "scores": model.scores, "embeddings": model.embeddings}

        def ask(kind: str, level: Access, x: Tensor) -> Tensor:
            self.rows += len(x)
            self.used |= level
            return answers[kind](x)

        self.labels: Callable[[Tensor], Tensor] = lambda x: ask("labels", Access.LABELS, x)
        self.scores: Callable[[Tensor], Tensor] = lambda x: ask("scores", Access.SCORES, x)
        self.embeddings: Callable[[Tensor], Tensor] = lambda x: ask("embeddings", Access.EMBEDDINGS, x)

    def __getattr__(self, name: str) -> object:
        msg = f"An attack reached for {name!r} of its victim."
        raise AssertionError(msg)


def check_exact(attack: ExactAttack, victim: Model, *, domain: Domain | None = None) -> None:
    """Check that an exact attack keeps the contract, on a victim that it can recover.

    The attack is a documented frozen dataclass; it refuses a victim that offers too
    little and a budget of nothing; it touches nothing of the victim but the metered
    answers that it declares; every row is in the ledger's count and inside the budget;
    global random state stays; the same seed gives the same copy, a journal answers a
    repeated run without the victim, and the record survives JSON.

    Parameters
    ----------
    attack
        The attack, with hyperparameters that make it fast.
    victim
        A small model of the class that it recovers.
    domain
        Inputs of the victim, ``[-1, 1]^d`` unless given.

    Raises
    ------
    AssertionError
        With one sentence about what is wrong.

    Examples
    --------
    >>> from assay.adapters.sklearn_model import SklearnModel
    >>> from assay.extraction.exact.equation_solving import EquationSolving
    >>> from assay.extraction.exact.linear_models import as_softmax
    >>> check_exact(EquationSolving(), SklearnModel(as_softmax(np.eye(3), np.zeros(3))))
    """
    check_form(attack)
    _check_access(attack, victim, domain)
    first = _check_run(attack, victim, domain)
    _check_budget(attack, victim, domain, first.record.cost.queries)


def _check_access(attack: ExactAttack, victim: Model, domain: Domain | None) -> None:
    for level in (Access.LABELS, Access.EMBEDDINGS):
        if attack.needs in level or level not in victim.access:
            continue
        sealed = Sealed(restrict(victim, level))
        try:
            attack.run(cast("Model", sealed), domain=domain)
        except AccessDenied:
            require_truth(
                sealed.rows == 0, f"{attack.name} asked before it refused a victim of {level.title}."
            )
        else:
            require_truth(
                truth=False, sentence=f"{attack.name} must refuse a victim that offers {level.title}."
            )


def _check_run(attack: ExactAttack, victim: Model, domain: Domain | None) -> ExactExtraction:
    sealed, before = Sealed(victim), random_state()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        first = attack.run(cast("Model", sealed), domain=domain, rng=3, journal=journal)
        counted, asked = first.record.cost.queries, sealed.rows
        require_truth(random_state() == before, f"{attack.name} changed the global random state.")
        sentence = f"{attack.name} went around the ledger, which counted {counted} of {asked} answered rows."
        require_truth(asked == counted, sentence)
        declared = attack.needs | attack.wants
        sentence = f"{attack.name} declares {declared.title} but used {sealed.used.title}."
        require_truth(sealed.used in declared, sentence)
        again = attack.run(cast("Model", sealed), domain=domain, rng=3, journal=journal)
    require_truth(
        sealed.rows == asked, f"{attack.name} asked {sealed.rows - asked} rows again that its journal held."
    )
    same = first.surrogate.digest == again.surrogate.digest
    require_truth(same, f"{attack.name} made two different copies with the same seed.")
    for done in (first, again):
        kept = ExtractionRecord.from_json(done.record.to_json()) == done.record
        require_truth(kept, f"The record of {attack.name} is not the same after a round trip through JSON.")
    box = Domain.box(int(np.prod(victim.input_shape))) if domain is None else domain
    x = torch.from_numpy(box.uniform(3, np.random.default_rng(0))).reshape(3, *victim.input_shape)
    if Access.LABELS in victim.access:
        fits = first.surrogate.labels(x).shape == (3,)
        require_truth(fits, f"The copy of {attack.name} does not answer like the victim.")
    return first


def _check_budget(attack: ExactAttack, victim: Model, domain: Domain | None, needed: int) -> None:
    for budget in (0, needed // 3, needed - 1):
        sealed = Sealed(victim)
        refused = False
        try:
            attack.run(cast("Model", sealed), domain=domain, rng=3, budget=budget)
        except (BudgetExceeded, InvalidInput):
            refused = True
        sentence = f"{attack.name} spent {sealed.rows} queries of a budget of {budget}."
        require_truth(sealed.rows <= budget, sentence)
        require_truth(budget > 0 or refused, f"{attack.name} made a copy without asking anything.")
