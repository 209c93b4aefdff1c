"""Model inversion: steal a model by equations, then ask the copy what each class looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.exposure import Leak
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.extraction.exact.shallow import ShallowNet
from assay.model import Access
from assay.observers import Observer
from assay.registry import create, register

__all__ = ["Inversion", "differentiable", "invert"]

_LEAK = Leak(
    "images",
    "Inverted classes",
    "The input that the recovered model is surest of, for each class: what the class looks like to the "
    "model, not a row that it was trained on.",
    by_class=True,
)


@register("inversion", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Inversion(ExactAttack):
    """Recover a model with another attack, then find the input that each class is surest of.

    For a model of faces this is a face for every name. All questions go to the victim during
    extraction; inversion itself works on the copy, for all classes at once, and is free.
    ``parameters["images"]`` of the result holds one row a class.

    Parameters
    ----------
    by
        Registered name of the exact attack that recovers the model. Its copy must be linear, a
        network of one hidden layer, or a torch module.
    steps, rate
        Gradient steps at most, and their size relative to half the domain.
    sure
        Confidence at which a class is done.
    patience
        A class is done as well once a step is no better than the worst of so many before.

    References
    ----------
    Fredrikson, Jha and Ristenpart, "Model Inversion Attacks that Exploit Confidence Information
    and Basic Countermeasures", CCS 2015, algorithm 1. Tramèr et al., "Stealing Machine Learning
    Models via Prediction APIs", USENIX Security 2016, section 4.1.4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from assay.adapters import SklearnModel
    >>> victim = SklearnModel(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))
    >>> stolen = Inversion(steps=300).run(victim, domain=Domain.box(4, 0.0, 8.0))
    >>> victim.labels(torch.from_numpy(stolen.found.parameters["images"]))
    tensor([0, 1, 2])
    """

    name: ClassVar[str] = "inversion"
    needs: ClassVar[Access] = Access.SCORES

    by: str = "equation-solving"
    steps: int = 5000
    rate: float = 0.1
    sure: float = 0.99
    patience: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.patience < 1 or not self.rate > 0 or not 0 < self.sure <= 1:
            msg = "steps and patience must be at least 1, rate positive and sure in (0, 1]"
            raise InvalidInput(msg)
        if self.by == self.name:
            msg = "inversion needs another attack to recover the model first"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Return the error that the attack named by ``by`` reports."""
        return self._thief().parameter_error(found, truth)

    def recover(
        self, oracle: Oracle, *, rng: np.random.Generator, observers: Sequence[Observer] = ()
    ) -> Recovered:
        """Recover the model behind ``oracle`` and invert the copy; see `ExactAttack.recover`."""
        found = self._thief().recover(oracle, rng=rng, observers=observers)
        images, confidence = invert(
            differentiable(found.model),
            oracle.domain,
            oracle.num_classes,
            steps=self.steps,
            rate=self.rate,
            sure=self.sure,
            patience=self.patience,
        )
        return replace(
            found,
            parameters={**found.parameters, "images": images},
            details={**found.details, "confidence": [float(p) for p in confidence], "by": self.by},
            leak=_LEAK,
        )

    def _thief(self) -> ExactAttack:
        thief = create(self.by, "extraction")
        if not isinstance(thief, ExactAttack) or thief.needs != self.needs:
            msg = f"{self.by} recovers no model from scores; see `assay list attacks`"
            raise InvalidInput(msg)
        return thief


def differentiable(model: Any) -> nn.Module:
    """Return a recovered model as a torch module from flat float64 inputs to logits.

    Raises
    ------
    InvalidInput
        If it is neither a module, nor linear with softmax scores, nor a network of one hidden layer.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> linear = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    >>> differentiable(linear)(torch.zeros(1, 1, dtype=torch.float64)).shape
    torch.Size([1, 2])
    """
    if isinstance(model, nn.Module):
        return model.double()
    if hasattr(model, "coefs_"):
        return ShallowNet.of(model).module()
    coef, intercept = getattr(model, "coef_", None), getattr(model, "intercept_", None)
    if coef is None or intercept is None or not hasattr(model, "predict_proba"):
        msg = f"{type(model).__name__} has no gradient to invert; use an attack that recovers a smooth model"
        raise InvalidInput(msg)
    weights, bias = np.atleast_2d(np.asarray(coef, np.float64)), np.ravel(np.asarray(intercept, np.float64))
    if len(weights) == 1:
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    layer = nn.Linear(weights.shape[1], len(weights)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def invert(
    module: nn.Module,
    domain: Domain,
    num_classes: int,
    *,
    steps: int = 5000,
    rate: float = 0.1,
    sure: float = 0.99,
    patience: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Descend from the middle of the domain to an input of each class.

    Parameters
    ----------
    module
        From flat float64 inputs to logits.
    domain
        Where inputs live; steps are clipped to it.
    num_classes
        Classes, all inverted at once.
    steps, rate, sure, patience
        See `Inversion`.

    Returns
    -------
    tuple of np.ndarray
        The inputs float64 ``[c, d]`` and their confidence in their class ``[c]``.

    Examples
    --------
    >>> layer = nn.Linear(2, 2, bias=False).double()
    >>> _ = layer.weight.data.copy_(torch.tensor([[5.0, 0.0], [-5.0, 0.0]]))
    >>> images, confidence = invert(layer, Domain.box(2), 2)
    >>> bool(images[0, 0] > 0 > images[1, 0]), bool((confidence > 0.98).all())
    (True, True)
    """
    half = torch.from_numpy(0.5 * domain.span)
    centre = torch.from_numpy(domain.centre.copy())
    u = torch.zeros(num_classes, domain.size, dtype=torch.float64)
    open_ = torch.ones(num_classes, dtype=torch.bool)
    costs: list[Tensor] = []
    best, least = u.clone(), torch.full((num_classes,), float("inf"), dtype=torch.float64)
    for _ in range(steps):
        point = u.clone().requires_grad_()
        own = torch.softmax(module(centre + half * point), 1).diagonal()
        slope = torch.autograd.grad(own.sum(), point)[0]
        cost = 1 - own.detach()
        improved = open_ & (cost < least)
        best[improved], least[improved] = u[improved], cost[improved]
        costs.append(cost)
        open_ &= cost > 1 - sure
        if len(costs) > patience:
            open_ &= cost < torch.stack(costs[-patience - 1 : -1]).amax(0)
        if not bool(open_.any()):
            break
        u[open_] = (u + rate * slope).clamp(-1, 1)[open_]
    images: np.ndarray = (centre + half * best).numpy()
    return images, (1 - least).numpy()
