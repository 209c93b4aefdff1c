"""DAWN as evidence: the wrong answers that a service gave, looked for in a suspect."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.data.dataset import Dataset
from assay.defences.answering import Asked, secret_bytes
from assay.defences.dawn import Choice, Dawn
from assay.errors import EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.watermarks.served import examine_served
from assay.journal import Journal, row_keys
from assay.ledger import Ledger
from assay.model import Access, Model
from assay.observers import Observer
from assay.registry import register

__all__ = ["DawnMarks"]

_MOST_STRAY = 0.1


@register("dawn", kind="evidence")
@dataclass(frozen=True, kw_only=True)
class DawnMarks(Scheme):
    """Keyed wrong answers of a service, tested exactly in whoever was trained on them.

    A service behind `assay.defences.dawn.Dawn` answers a small keyed share of its
    queries wrongly. A copy that was trained on the answers has learned some of the wrong
    ones. The test asks the suspect about the inputs that were answered wrongly and counts
    how often it gives the very class that was shown.

    **Why the test is exact.** The key draws the shown class of a marked input uniformly among
    the classes that the service would not have answered. For a suspect that is independent
    of the key, given whatever it answers, all ``(k - 1) ** n`` draws are therefore equally
    likely, and the share of them with at least as many hits is the p-value. Which inputs
    are marked follows from another part of the keyed digest and says nothing about the draw.
    With two classes the wrong answer is no draw; there the test compares marked with unmarked
    inputs that were answered, of which the key could have marked any (hypergeometric).

    Parameters
    ----------
    rate, key, grain, directions
        The settings under which the service answered, see `assay.defences.dawn.Dawn`.
        ``commitment`` is the digest that the service publishes.
    controls
        Unmarked inputs kept for each marked one, at least 1. Only two-class tests ask them.
    stop_early
        Stop asking as soon as the answers suffice.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Szyller, Atli, Marchal and Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural
    Networks", ACM Multimedia 2021.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> data, recipe = digits(), Recipe(epochs=60, optimizer="adam", lr=0.005)
    >>> own, asked = data.subset(range(800)), data.subset(range(800, 1797))
    >>> nets = [build("mlp-64", (1, 8, 8), 10, seed) for seed in (0, 1)]
    >>> _ = train(nets[0], own, recipe)
    >>> victim, marks = TorchModel(nets[0]), DawnMarks(rate=0.05, key="ab" * 16)
    >>> answers = marks.defence.wear(victim).labels(asked.x)
    >>> _ = train(nets[1], asked, recipe, targets=answers)
    >>> marks.register(victim, asked).verify(TorchModel(nets[1])).decision
    'stolen'
    """

    scheme: ClassVar[str] = "dawn"

    rate: float = 0.005
    key: str = field(default="", repr=False)
    grain: float = 0.0
    directions: int = 8
    controls: int = 10
    stop_early: bool = True

    def __post_init__(self) -> None:
        Dawn(rate=self.rate, grain=self.grain, directions=self.directions)  # checks their ranges
        if self.controls < 1:
            msg = f"DawnMarks.controls must be at least 1, got {self.controls}"
            raise InvalidInput(msg)

    @property
    def needs(self) -> Access:
        """Labels."""
        return Access.LABELS

    @property
    def defence(self) -> Dawn:
        """The defence that the service wears."""
        return Dawn(rate=self.rate, key=self.key, grain=self.grain, directions=self.directions)

    def register(
        self,
        victim: Model,
        private: Dataset,
        control: Dataset | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - one short walk over the rows
    ) -> Evidence:
        """Make evidence from inputs that the service has answered.

        Parameters
        ----------
        victim
            The model behind the service, **without** the defence: it says which class
            would have been answered.
        private
            What was answered, for instance the recorded queries of one account; labels are
            not looked at. Every marked row among them enters, none can be left out later.
        control
            Inputs that were never asked. The marked ones among them are a companion: a copy
            knows nothing of them, a suspect that forwards queries to the service does.
        rng
            Seed of the choice of unmarked rows.
        observers
            Not told anything.

        Raises
        ------
        AccessDenied
            If the victim does not offer labels.
        InvalidInput
            If there is no key, no row is marked, or shapes and classes do not fit.
        """
        labels = _predict(victim, private)
        return self._collect(victim, private, labels, control, rng, {"source": "rows given by the owner"})

    def register_journal(
        self,
        victim: Model,
        journal: str | Path,
        inputs: Dataset,
        control: Dataset | None = None,
        *,
        rng: int = 0,
    ) -> Evidence:
        """Make evidence from a journal that a `Ledger` wrote while the service was asked.

        A journal holds digests of the inputs and the answers. Rows of ``inputs`` that are in
        it were asked; what was answered is compared with what the key says.

        Parameters
        ----------
        victim, control, rng
            As in `register`.
        journal
            The file; its chain of hashes is checked.
        inputs
            Rows among which the asked ones are looked up, for instance a public pool.

        Raises
        ------
        EvidenceTampered
            If the journal was changed.
        InvalidInput
            If no row is in it, or its answers are not those of this victim under this key.
        """
        shown = _recorded(journal, inputs)
        asked = [index for index, answer in enumerate(shown) if answer is not None]
        if not asked:
            msg = f"no row of {inputs.name} is in journal {journal}; give the rows that were asked"
            raise InvalidInput(msg)
        rows, answers = inputs.subset(asked), np.array([shown[i] for i in asked], dtype=np.int64)
        labels = _predict(victim, rows)
        choice = self.choose(rows.x, labels, rows.num_classes)
        agree = answers == np.where(choice.marked, choice.wrong, labels)
        if agree.mean() < 1 - _MOST_STRAY or not (agree & choice.marked).any():
            msg = (
                f"{int((~agree).sum())} of {len(agree)} answers in journal {journal} are not those of "
                f"{victim.name} under this key; check key, rate, grain and the victim's file"
            )
            raise InvalidInput(msg)
        digest = hashlib.sha256(Path(journal).read_bytes()).hexdigest()
        facts = {"source": "journal", "journal": digest, "stray_answers": int((~agree).sum())}
        kept = np.flatnonzero(agree)
        return self._collect(victim, rows.subset(kept), labels[kept], control, rng, facts)

    def choose(self, x: Tensor, labels: NDArray[np.int64], classes: int) -> Choice:
        """Return what the key decides about inputs, see `assay.defences.dawn.Dawn.choose`."""
        return self.defence.choose(_asked(x), labels, classes)

    def _collect(
        self,
        victim: Model,
        rows: Dataset,
        labels: NDArray[np.int64],
        control: Dataset | None,
        rng: int,
        facts: dict[str, Any],
    ) -> Evidence:
        first, known = self._distinct(rows.x, set())
        marked = self.choose(rows.x, labels, rows.num_classes).marked & first
        if not marked.any():
            msg = (
                f"none of the {int(first.sum())} distinct rows of {rows.name} is marked at a rate of "
                f"{self.rate:g}; more of what was asked is needed, or the key is not the service's"
            )
            raise InvalidInput(msg)
        plain = np.flatnonzero(first & ~marked)
        most = min(len(plain), self.controls * int(marked.sum())) if rows.num_classes == 2 else 0  # noqa: PLR2004
        chosen = np.random.default_rng(rng).permutation(plain)[:most]
        tensors = {
            "inputs": rows.x[torch.from_numpy(marked)],
            "predicted": torch.from_numpy(labels[marked]),
            "unmarked": rows.x[torch.from_numpy(chosen)],
            "unmarked_predicted": torch.from_numpy(labels[chosen]),
        }
        tensors |= self._never_asked(victim, rows, control, known)
        return Evidence(
            self,
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            {
                **facts,
                "input_shape": list(rows.input_shape),
                "classes": list(rows.classes),
                "value_range": [v if math.isfinite(v) else str(v) for v in rows.value_range],
                "victim": victim.digest,
                "answered": int(first.sum()),
                "defence": self.defence.commitment,
            },
        )

    def _never_asked(
        self, victim: Model, rows: Dataset, control: Dataset | None, known: set[bytes]
    ) -> dict[str, Tensor]:
        if control is None:
            return {"never": rows.x[:0], "never_predicted": torch.empty(0, dtype=torch.int64)}
        labels = _predict(victim, control)
        if control.input_shape != rows.input_shape:
            msg = f"{control.name} and {rows.name} differ in the shape of their rows"
            raise InvalidInput(msg)
        marked = self.choose(control.x, labels, rows.num_classes).marked
        kept = marked & self._distinct(control.x, known)[0]
        return {"never": control.x[torch.from_numpy(kept)], "never_predicted": torch.from_numpy(labels[kept])}

    def _distinct(self, x: Tensor, known: set[bytes]) -> tuple[NDArray[np.bool_], set[bytes]]:
        """Return the first row of each decision: rows that share one share its draw."""
        asked = _asked(x)
        names = self.defence._names(asked, secret_bytes(self.key, "dawn"))  # noqa: SLF001 - the same decision
        seen, first = set(known), []
        for name in names:
            first.append(name not in seen)
            seen.add(name)
        return np.array(first, dtype=bool), seen

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger reports the queries
    ) -> Finding:
        """Ask about the marked inputs and count the shown classes.

        Raises
        ------
        BudgetExceeded
            If so few queries cannot reach ``alpha``.
        InvalidInput
            If so few marks cannot.
        EvidenceTampered
            If the inputs are not those that the key marks.
        """
        shown = {}
        for kind in ("inputs", "never"):
            try:
                x, predicted = evidence.tensors[kind], evidence.tensors[_of(kind)]
                choice = self.choose(x, predicted.numpy(), len(evidence.facts["classes"]))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                msg = f"the evidence is no record of wrong answers: {error!r}"
                raise EvidenceTampered(msg) from error
            if not self._fits(choice) or len(choice.wrong) != len(predicted):
                msg = "these inputs are not those that the key marks; the evidence was not made by a service"
                raise EvidenceTampered(msg)
            shown[kind] = choice.wrong
        return examine_served(evidence, oracle, shown, alpha=alpha, rng=rng, early=self.stop_early)

    def _fits(self, choice: Choice) -> bool:
        return bool(choice.marked.all())

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, Tensor]]:
        """Yield inputs that were answered wrongly, with the class that was shown."""
        classes = evidence.facts["classes"]
        x, predicted = evidence.tensors["inputs"], evidence.tensors["predicted"]
        wrong = self.choose(x, predicted.numpy(), len(classes)).wrong
        for row, label in zip(x[:most], wrong.tolist(), strict=False):
            yield str(classes[label]), row

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield the same inputs under fresh keys; with two classes, others of them are the marked ones."""
        source = np.random.default_rng(rng)
        settings = dataclasses.asdict(self)
        held = evidence.tensors
        x = torch.cat([held["inputs"], held["unmarked"]])
        predicted = torch.cat([held["predicted"], held["unmarked_predicted"]])
        marks = len(held["inputs"])
        for _ in range(count):
            order = torch.from_numpy(source.permutation(len(x)))
            drawn = {
                "inputs": x[order[:marks]],
                "predicted": predicted[order[:marks]],
                "unmarked": x[order[marks:]],
                "unmarked_predicted": predicted[order[marks:]],
            }
            key = source.bytes(32).hex()
            yield Evidence(_AnyKey(**{**settings, "key": key}), {**held, **drawn}, evidence.facts)


class _AnyKey(DawnMarks):
    """Decoys: another key would have marked other inputs, so that this one need not mark these.

    Not registered: read from a bundle, a decoy is refused like any other forgery.
    """

    def _fits(self, choice: Choice) -> bool:  # noqa: ARG002 - see the class
        return True


def _of(kind: str) -> str:
    return "predicted" if kind == "inputs" else f"{kind}_predicted"


def _asked(x: Tensor) -> Asked:
    return Asked(x.double().flatten(1).numpy())


def _predict(victim: Model, rows: Dataset) -> NDArray[np.int64]:
    if tuple(victim.input_shape) != rows.input_shape or victim.num_classes != rows.num_classes:
        msg = f"{rows.name} has rows or classes that {victim.name} does not take"
        raise InvalidInput(msg)
    with Ledger(victim, Access.LABELS) as asked:
        return np.asarray(asked.labels(rows.x).numpy(), dtype=np.int64)


def _recorded(journal: str | Path, inputs: Dataset) -> list[int | None]:
    """Return the class that each row was answered with, None where it was not asked."""
    answers: list[int | None] = [None] * len(inputs)
    with Journal(journal, None, read_only=True) as book:
        for x in (inputs.x, inputs.x.double()):
            for kind in ("labels", "scores"):
                for index, key in enumerate(row_keys(kind, x.numpy())):
                    answer = book.take(key) if answers[index] is None else None
                    if answer is not None:
                        answers[index] = int(answer) if kind == "labels" else int(answer.argmax())
    return answers
