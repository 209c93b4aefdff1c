"""The contract of exact attacks: a metered oracle goes in, a model with its parameters comes out.

An attack is one file with one registered frozen dataclass that inherits `ExactAttack`,
states ``name`` and ``needs``, and writes `ExactAttack.recover`. It sees the victim only as
an `Oracle` (numpy, float64, counted, budgeted, journaled) and returns a `Recovered`. One
import line in ``assay.extraction.exact.catalogue`` makes it known by name.
Everything else (cost, rates with exact intervals, record, files) is done here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch

from assay.adapters.base import BatchedModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput, MissingDependency
from assay.extraction.base import Attack, Extraction, ExtractionRecord, check_fits, worth
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.exposure import INPUTS_FILE, ExposedInputs, expose
from assay.extraction.exact.measure import measured
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.worth import ExactWorth
from assay.ledger import Ledger
from assay.model import Access, Model, require
from assay.observers import Observer
from assay.result import CurvePoint

__all__ = ["ExactAttack", "ExactExtraction"]


@dataclass(frozen=True)
class ExactExtraction(Extraction):
    """A recovered model with its parameters and the record of how it was found.

    Parameters
    ----------
    surrogate
        The recovered model, ready to be asked.
    record
        What it cost and what it is worth; ``record.exact`` is an `ExactWorth`.
    found
        What the attack returned: the estimator or module itself, its parameters.
    inputs
        The inputs among them, where the attack finds some: training rows, inverted classes.
    """

    found: Recovered = field(kw_only=True)
    inputs: ExposedInputs | None = field(default=None, kw_only=True)

    @property
    def worth(self) -> ExactWorth:
        """What the copy is worth, ``record.exact``."""
        assert self.record.exact is not None
        return self.record.exact

    def save(self, folder: str | Path) -> Path:
        """Write the copy, ``parameters.safetensors`` and ``extraction.json`` into a folder.

        A network goes to ``surrogate.safetensors``, a scikit-learn model to
        ``surrogate.skops``. Recovered inputs, and the true rows that are nearest to them,
        go to ``inputs.safetensors``; a report shows them.

        Raises
        ------
        MissingDependency
            For a scikit-learn model without skops.
        """
        from safetensors.numpy import save_file

        target = Path(folder)
        if isinstance(self.found.model, torch.nn.Module):
            super().save(target)
        else:
            try:
                from skops.io import dump
            except ImportError as error:
                msg = "writing .skops files needs skops; install it with: pip install 'assay-ml[skops]'"
                raise MissingDependency(msg) from error
            target.mkdir(parents=True, exist_ok=True)
            dump(self.found.model, target / "surrogate.skops")
            self.record.save(target / "extraction.json")
        arrays = {name: np.ascontiguousarray(value) for name, value in self.found.parameters.items()}
        if arrays:
            save_file(arrays, target / "parameters.safetensors")
        if self.inputs is not None:
            self.inputs.save(target / INPUTS_FILE)
        return target


class ExactAttack(Attack):
    """Base of the attacks that recover parameters through answers alone.

    Attributes
    ----------
    name
        Registered name.
    needs
        Access to the victim without which the attack cannot work: labels, scores, or
        embeddings where a service shows something else (see `assay.defences`).
    wants
        Further access that the attack uses where the victim offers it.
    needs_pool, asks_pool
        False: an exact attack makes its own inputs. A pool that is given all the same
        only tells the domain.
    caches
        Whether a row that was asked before is answered from memory and not counted.
    """

    wants: ClassVar[Access] = Access.NONE
    needs_pool: ClassVar[bool] = False
    asks_pool: ClassVar[bool] = False
    caches: ClassVar[bool] = False

    @abstractmethod
    def recover(
        self, oracle: Oracle, *, rng: np.random.Generator, observers: Sequence[Observer] = ()
    ) -> Recovered:
        """Recover the model behind ``oracle``.

        Parameters
        ----------
        oracle
            The victim. Questions that can be asked together are one call. A budget below
            the identifiability bound is either refused with `InvalidInput` or
            `BudgetExceeded` before anything is asked, or the result is flagged.
        rng
            Everything random comes from here; the same generator gives the same copy.
        observers
            Told about long work.

        Returns
        -------
        Recovered
            Also when the victim is degenerate (constant, one class, rank-deficient), with
            a flag; `InvalidInput` with one clear sentence where nothing can be returned.
        """

    def parameter_error(self, found: Recovered, truth: object) -> float | None:  # noqa: ARG002 - for subclasses
        """Return the largest error of a parameter once symmetries are removed, None if unknown.

        Parameters
        ----------
        found
            What `recover` returned.
        truth
            The victim's own estimator or module, or whatever the attack documents.
        """
        return None

    def true_inputs(self, truth: object) -> np.ndarray | None:  # noqa: ARG002 - for subclasses
        """Return the rows ``[m, d]`` of the owner to which recovered inputs are compared, None if unknown.

        Parameters
        ----------
        truth
            See `parameter_error`.
        """
        return None

    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,  # noqa: ARG002 - nothing is trained for long
    ) -> BatchedModel:
        """Return the recovered model; the pool only tells the domain."""
        domain = Domain.of(math.prod(pool.input_shape), pool.value_range)
        # Torch modules draw their first weights from the global generator: it is put back.
        with torch.random.fork_rng(devices=[]):
            found = self.recover(
                Oracle(oracle, domain, cache=self.caches), rng=np.random.default_rng(rng), observers=observers
            )
        return found.opened(oracle.input_shape, oracle.num_classes, f"{self.name} copy of {oracle.name}")

    def run(
        self,
        victim: Model,
        pool: Dataset | None = None,
        *,
        budget: int | None = None,
        evaluation: Dataset | None = None,
        curve: Sequence[int] = (),
        rng: int = 0,
        observers: Sequence[Observer] = (),
        journal: str | Path | None = None,
        checkpoint: str | Path | None = None,  # noqa: ARG002 - nothing is trained for long
        price: float = 0.0,
        domain: Domain | None = None,
        truth: object = None,
        uniform: int = 0,
    ) -> ExactExtraction:
        """Recover ``victim`` and measure the copy.

        Parameters
        ----------
        victim
            The model to recover.
        pool
            Not needed; its value range is the domain unless ``domain`` is given.
        budget, rng, observers, journal, price
            See `assay.extraction.Attack.run`.
        evaluation
            Rows for ``fidelity``, ``accuracy`` and ``R_test``, and to compare recovered inputs with.
            A victim of flat rows is shown images as rows.
        curve
            Not offered: an exact attack has no half-finished copy.
        checkpoint
            Not used; a journal is enough to go on from.
        domain
            Inputs that the victim accepts. Unless given: the value range of pool or
            evaluation where finite, ``[-1, 1]^d`` otherwise.
        truth
            The victim's own estimator or module, for the parameter error.
        uniform
            Rows drawn from the domain for ``R_unif``, with a fixed seed. As ``evaluation``,
            they are the owner's questions and not counted, but they do reach the victim.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            If the victim offers too little, the budget is too small, or inputs do not fit.
        """
        require(victim, self.needs, f"the attack {self.name}")
        if curve:
            msg = f"the attack {self.name} has no curve: it needs all of its answers at once"
            raise InvalidInput(msg)
        shape = next(
            (data.input_shape for data in (evaluation, pool) if data is not None), victim.input_shape
        )
        pool, evaluation = _as_asked(pool, victim), _as_asked(evaluation, victim)
        for data in (pool, evaluation):
            if data is not None:
                check_fits(victim, data)
        if pool is not None and not len(pool):
            msg = f"the pool for {self.name} is empty; the attack needs none, so leave it out"
            raise InvalidInput(msg)
        if domain is None:
            known = [data.value_range for data in (pool, evaluation) if data is not None]
            domain = Domain.of(math.prod(victim.input_shape), known[0] if known else None)
        grant = self.needs | (self.wants & victim.access)
        with Ledger(
            victim, grant, budget=budget, journal=journal, price=price, observers=observers
        ) as ledger:
            oracle = Oracle(ledger, domain, cache=self.caches)
            with torch.random.fork_rng(devices=[]):
                found = self.recover(oracle, rng=np.random.default_rng(rng), observers=observers)
            cost = ledger.cost
        surrogate = found.opened(victim.input_shape, victim.num_classes, f"{self.name} copy of {victim.name}")
        rates = measured(victim, surrogate, evaluation, domain, uniform)
        inputs = None
        if found.leak is not None:
            inputs = expose(
                found.leak,
                found.parameters[found.leak.parameter],
                shape,
                domain,
                truth=self.true_inputs(truth),
                evaluation=evaluation,
            )
        exact = ExactWorth(
            family=found.family,
            unknowns=found.unknowns,
            bound=found.bound,
            queries_per_unknown=cost.queries / max(found.unknowns, 1),
            parameter_error=None if truth is None else self.parameter_error(found, truth),
            flags=tuple(found.flags),
            details=json.loads(json.dumps(found.details)),
            exposure=None if inputs is None else inputs.about,
            **rates,
        )
        shown = {}
        points: tuple[CurvePoint, ...] = ()
        if evaluation is not None and len(evaluation):
            shown = worth(victim.labels(evaluation.x), surrogate, evaluation)
            points = (CurvePoint(cost.queries, shown["fidelity"].value, shown["accuracy"].value),)
        record = ExtractionRecord(
            attack=self.name,
            parameters=json.loads(json.dumps(dataclasses.asdict(cast("Any", self)))),
            victim=victim.digest,
            surrogate=surrogate.digest,
            cost=cost,
            curve=points,
            seed=rng,
            versions={
                "assay": metadata.version("assay-ml"),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            fidelity=shown.get("fidelity"),
            accuracy=shown.get("accuracy"),
            victim_accuracy=shown.get("victim_accuracy"),
            exact=exact,
        )
        return ExactExtraction(surrogate, record, found=found, inputs=inputs)


def _as_asked(data: Dataset | None, victim: Model) -> Dataset | None:
    """Return images as rows where the victim takes rows of as many values, and anything else as it is."""
    flat = tuple(victim.input_shape)
    if data is None or len(flat) != 1 or data.input_shape == flat or math.prod(data.input_shape) != flat[0]:
        return data
    return Dataset(data.x.flatten(1), data.y, data.classes, data.value_range, data.name)
