"""Equation solving for a one-hidden-layer network from one batch of random answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.network_fit import log_noise, log_ratios
from assay.extraction.exact.network_search import search_network
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.precision import find_grain
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.shallow import ShallowNet
from assay.extraction.exact.unit_box import UnitBox
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["MLPEquations"]

_SPARE = 10  # equations beyond the unknowns, below which a solution may be one of several


@register("mlp-equations", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class MLPEquations(ExactAttack):
    """Solve for a network with one hidden tanh or logistic layer, from uniform random inputs.

    Not adaptive: all questions go out in one round trip. The equations are the log-ratios of
    the answers; they are solved from many random starts (see
    `assay.extraction.exact.network_search.search_network`). Needs more answers than
    `algebraic-mlp` and the right width, but no differences: any inputs do, and a network with
    more hidden units than inputs is no obstacle.

    Parameters
    ----------
    hidden
        Hidden units.
    activation
        Notation of the copy: ``"tanh"`` or ``"logistic"``.
    factor
        Queries over the number of weights of a network with ``num_classes`` outputs, the
        budget factor of the literature. A smaller budget is spent whole.
    starts, iterations
        Random starts at most, and iterations of each.

    References
    ----------
    Tramèr et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security
    2016, section 4.1.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> rng = np.random.default_rng(0)
    >>> W, b, V, e = (rng.normal(size=s) for s in ((2, 3), 2, (2, 2), 2))
    >>> net = ShallowNet(W, b, V, e, "tanh").module()
    >>> stolen = MLPEquations(hidden=2, factor=4).run(TorchModel(net, (3,), 3), truth=net)
    >>> stolen.record.cost.queries, stolen.record.cost.round_trips, stolen.worth.parameter_error < 1e-8
    (68, 1, True)
    """

    name: ClassVar[str] = "mlp-equations"
    needs: ClassVar[Access] = Access.SCORES

    hidden: int = 20
    activation: Literal["tanh", "logistic"] = "tanh"
    factor: float = 1.0
    starts: int = 16
    iterations: int = 800

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.starts < 1 or self.iterations < 1 or not self.factor > 0:
            msg = "hidden, starts and iterations must be at least 1, and factor positive"
            raise InvalidInput(msg)
        if self.activation not in {"tanh", "logistic"}:
            msg = f"activation must be 'tanh' or 'logistic', got {self.activation!r}"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Compare with a fitted ``MLPClassifier`` or torch layers, units matched."""
        return ShallowNet.of(found.model).distance(ShallowNet.of(truth))

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the search has no batches to tell of
    ) -> Recovered:
        """Recover the network behind ``oracle``; see `ExactAttack.recover`."""
        d, J, h = oracle.size, oracle.num_classes - 1, self.hidden
        unknowns, identifiable = h * (d + 1) + (J + 1) * (h + 1), h * (d + 1) + J * (h + 1)
        bound = math.ceil(identifiable / J)
        queries = math.ceil(self.factor * unknowns)
        if oracle.remaining is not None:
            queries = min(queries, oracle.remaining)
        if queries < bound:
            msg = (
                f"{queries} queries hold {queries * J} equations for {identifiable} unknowns; at least "
                f"{bound} are needed to identify a network of {h} hidden units behind {oracle.name}"
            )
            raise InvalidInput(msg)
        box = UnitBox.of(oracle)
        u = rng.uniform(-1, 1, (queries, d))
        scores = oracle.scores(box.inputs(u))
        grain = find_grain(scores)
        # A rounded probability of 0 is anything below half a step.
        least = 0.5 * grain.step if grain.rounded else float(np.finfo(np.float64).tiny)
        noise = log_noise(scores, grain) * (1 if grain.rounded else 20)
        y = log_ratios(scores, least)
        found = search_network(
            u, y, h, rng, starts=self.starts, iterations=self.iterations, noise=max(noise, 1e-12)
        )
        layers = found.W, found.b, found.V, found.e
        net = ShallowNet.from_tanh(layers, box.centre, box.half, self.activation)
        flags = [] if found.solved else ["not solved"]
        if queries * J < identifiable + _SPARE:
            flags.append("hardly more equations than unknowns")
        return Recovered(
            net.estimator(),
            family=f"network of {h} {self.activation} units",
            unknowns=unknowns,
            bound=bound,
            parameters={"W": net.W, "b": net.b, "V": net.V, "e": net.e},
            flags=tuple(flags),
            details={
                "starts": found.starts,
                "residual": found.error,
                "answers": grain.title,
                "identifiable": identifiable,
            },
        )
