"""The output layer of a language model, from log-probabilities or a top-k service with biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from assay.errors import InvalidInput
from assay.extraction.exact.base import ExactAttack
from assay.extraction.exact.low_rank import Head, align, recover_head, sphere
from assay.extraction.exact.oracle import Oracle
from assay.extraction.exact.recovered import Recovered
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["LMHead"]

_AT_ONCE = 2048  # rows a call: a service has to hold a logit vector for each


@register("lm-head", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class LMHead(ExactAttack):
    """Recover the hidden dimension of a language model and its output layer.

    Logit vectors are ``l`` numbers, but lie in a space as narrow as the hidden state. More
    prompts than that show where singular values drop: the hidden dimension, and the output
    layer up to a matrix ``[h, h]``, or up to a rotation where final states are normalised and
    prompts are many.

    Where the service shows all scores, a prompt is one question. Where it shows the ``k`` most
    likely tokens but lets callers add biases to a few (`assay.defences`, ``logit-bias``),
    ``k - 1`` tokens a question are lifted into sight beside a reference token.

    What lies below the output layer stays unknown: the copy has a least-squares linear stand-in
    there, and says so in its flags.

    Parameters
    ----------
    prompts
        Prompts to begin with. As many again are asked while no singular value drops.
    slots
        Biases that one question may set, as the service's documentation says; 0 for a service
        that shows all scores.
    bias
        Size of a bias in nats; must lift any token over all others.
    rotation
        Whether to settle the layer up to a rotation where there are enough prompts.

    References
    ----------
    Carlini et al., "Stealing Part of a Production Language Model", ICML 2024, sections 4 and 5.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> layers = nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.Linear(6, 50, bias=False)
    >>> model = TorchModel(nn.Sequential(*layers).double(), (3,), 50)
    >>> stolen = LMHead(prompts=20, rotation=False).run(model, truth=layers[-1])
    >>> stolen.worth.details["hidden"], stolen.worth.parameter_error < 1e-9
    (6, True)
    """

    name: ClassVar[str] = "lm-head"
    needs: ClassVar[Access] = Access.SCORES
    wants: ClassVar[Access] = Access.EMBEDDINGS

    prompts: int = 128
    slots: int = 0
    bias: float = 60.0
    rotation: bool = True

    def __post_init__(self) -> None:
        if self.prompts < 2 or self.slots < 0 or not self.bias > 0:  # noqa: PLR2004 - a drop needs two values
            msg = "prompts must be at least 2, slots at least 0 and bias positive"
            raise InvalidInput(msg)

    def parameter_error(self, found: Recovered, truth: object) -> float | None:
        """Compare with the true layer, ``[l, h]`` or a torch layer: relative, best alignment.

        Rows are relative to the reference token on both sides.
        """
        weights = truth.weight.detach().cpu().double().numpy() if isinstance(truth, nn.Linear) else truth
        true = np.asarray(weights, dtype=np.float64)
        reference = int(found.details["reference token"])
        return align(
            found.parameters["weights"],
            true - true[reference],
            rotation=bool(found.details["up to a rotation"]),
        )

    def recover(
        self,
        oracle: Oracle,
        *,
        rng: np.random.Generator,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - it has no training to tell of
    ) -> Recovered:
        """Recover the layer behind ``oracle``; see `ExactAttack.recover`."""
        service = _Service(oracle, self.slots, self.bias)
        wanted = min(self.prompts, 2 * oracle.num_classes)
        if not oracle.covers(2 * service.cost + 1):
            msg = (
                f"{oracle.remaining} queries buy no two logit vectors of {oracle.name}, which cost "
                f"{service.cost} each; a hidden dimension of h takes at least h + 1 of them"
            )
            raise InvalidInput(msg)
        service.look(oracle.domain.centre[: service.prompt])
        flags = ["body is a linear stand-in"]
        x, z = np.empty((0, service.prompt)), np.empty((0, oracle.num_classes))
        while True:
            remaining = oracle.remaining
            count = wanted if remaining is None else min(wanted, remaining // service.cost)
            more = oracle.domain.uniform(count, rng)[:, : service.prompt]
            z = np.vstack([z, service.ratios(more)])
            x = np.vstack([x, more])
            head = recover_head(z)
            if (head.found and head.width < len(z)) or len(z) >= oracle.num_classes:
                break
            if not oracle.covers(service.cost):
                break
        if not head.found:
            flags.append("no drop of the singular values")
        round_ = sphere(head) if self.rotation else None
        head = head if round_ is None else round_
        return Recovered(
            _copy(head, x, oracle.size),
            family=f"output layer of width {head.width}",
            unknowns=head.weights.size,
            bound=(head.width + 1) * service.cost,
            parameters={"weights": head.weights, "states": head.states},
            flags=tuple(flags),
            details={
                "hidden": head.width,
                "drop": head.gap if math.isfinite(head.gap) else None,
                "prompts": len(z),
                "queries for each": service.cost,
                "reference token": service.reference,
                "up to a rotation": round_ is not None,
            },
        )


class _Service:
    """Whole vectors of log-ratios to one token, whatever part of them an answer shows."""

    def __init__(self, oracle: Oracle, slots: int, bias: float) -> None:
        self.oracle, self.slots, self.bias = oracle, slots, bias
        self.prompt = oracle.size - 2 * slots
        self.reference = 0
        if self.prompt < 1:
            msg = f"{oracle.name} takes {oracle.size} numbers, too few for {slots} slots and a prompt"
            raise InvalidInput(msg)
        if slots and Access.EMBEDDINGS not in oracle.access:
            msg = f"{oracle.name} does not show tokens with log-probabilities; set slots=0 if it shows all"
            raise InvalidInput(msg)
        if not slots and not oracle.complete_scores:
            msg = f"{oracle.name} shows only a part of its scores; set slots to the biases that it accepts"
            raise InvalidInput(msg)
        self.lifted, self.shown = max(slots, 1), oracle.num_classes

    @property
    def cost(self) -> int:
        """Questions for the whole vector of one prompt."""
        return math.ceil(self.oracle.num_classes / self.lifted) if self.slots else 1

    def look(self, prompt: np.ndarray) -> None:
        """Learn from one answer how many tokens are shown, and so how many can be lifted."""
        if self.slots:
            self.shown = self.oracle.embeddings(self._rows(prompt, [np.empty(0, np.int64)])).shape[1] // 2
            # One token stays unbiased, as a reference; a lone one is told by how far it rises.
            self.lifted = max(min(self.slots, self.shown - 1), 1)

    def ratios(self, x: np.ndarray) -> np.ndarray:
        """Return ``log p_i - log p_reference`` for prompts ``[n, p]``, float64 ``[n, l]``."""
        if not self.slots:
            z = np.log(np.maximum(self.oracle.scores(x), np.finfo(np.float64).tiny))
            ratios: np.ndarray = z - z[:, [self.reference]]
            return ratios
        return np.vstack([self._lift(prompt) for prompt in x])

    def _lift(self, prompt: np.ndarray) -> np.ndarray:
        """Bias every token once, a few in each question, and the reference token in none.

        An answer shows its biased tokens next to an unbiased one, the most likely of all those
        left; the same one in every question but those in which it was itself lifted.
        """
        tokens = np.arange(self.oracle.num_classes)
        groups = [tokens[n : n + self.lifted] for n in range(0, len(tokens), self.lifted)]
        asked = [groups[n : n + _AT_ONCE] for n in range(0, len(groups), _AT_ONCE)]
        answers = np.vstack([self.oracle.embeddings(self._rows(prompt, part)) for part in asked])
        names, logs = answers[:, : self.shown].astype(np.int64), answers[:, self.shown :]
        if self.shown == 1:
            return self._alone(groups, names, logs)
        z = np.full(len(tokens), np.nan)
        loose: list[tuple[int, np.ndarray, np.ndarray]] = []
        for group, name, log in zip(groups, names, logs, strict=True):
            lifted = np.isin(name, group)
            if lifted.sum() < len(group):
                msg = f"a bias of {self.bias:g} does not lift every token of {self.oracle.name}; raise it"
                raise InvalidInput(msg)
            free = np.flatnonzero(~lifted)
            best = free[np.argmax(log[free])]
            loose.append((int(name[best]), name[lifted], log[lifted] - log[best] - self.bias))
        # Every question is relative to its own anchor; the most common one ties them together.
        anchors = [anchor for anchor, _, _ in loose]
        common = max(set(anchors), key=anchors.count)
        for anchor, names, relative in loose:
            if anchor == common:
                z[names] = relative
        z[common] = 0.0
        for anchor, names, relative in loose:
            if anchor != common:
                z[names] = z[anchor] + relative
        whole: np.ndarray = z - z[self.reference]
        return whole

    def _alone(self, groups: list[np.ndarray], names: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Solve ``p' = p e^B / (1 + p (e^B - 1))`` for each token's own probability."""
        if (names[:, 0] != np.concatenate(groups)).any():
            msg = f"a bias of {self.bias:g} does not lift every token of {self.oracle.name}; set a larger one"
            raise InvalidInput(msg)
        odds = np.expm1(-logs[:, 0])
        if (odds <= 0).any():
            msg = (
                f"a bias of {self.bias:g} leaves no digit of the others' share; set a smaller one (about 20)"
            )
            raise InvalidInput(msg)
        z = -np.log1p(np.exp(self.bias) * odds)
        whole: np.ndarray = z - z[self.reference]
        return whole

    def _rows(self, prompt: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
        """Return one question a group: the prompt, the tokens, their biases."""
        rows = np.zeros((len(groups), self.oracle.size))
        rows[:, : self.prompt] = prompt
        rows[:, self.prompt : self.prompt + self.slots] = -1.0
        for row, group in zip(rows, groups, strict=True):
            row[self.prompt : self.prompt + len(group)] = group
            row[self.prompt + self.slots : self.prompt + self.slots + len(group)] = self.bias
        return rows


def _copy(head: Head, x: np.ndarray, size: int) -> nn.Sequential:
    """Return the layer on top of the linear map that fits the hidden states best."""
    table = np.hstack([x, np.ones((len(x), 1))])
    fitted = np.linalg.lstsq(table, head.states, rcond=None)[0]
    body, top = (
        nn.Linear(size, head.width).double(),
        nn.Linear(head.width, len(head.weights), bias=False).double(),
    )
    with torch.no_grad():
        body.weight.zero_()
        body.weight[:, : x.shape[1]] = torch.from_numpy(fitted[:-1].T)
        body.bias.copy_(torch.from_numpy(fitted[-1]))
        top.weight.copy_(torch.from_numpy(head.weights))
    return nn.Sequential(nn.Flatten(), body, top)
