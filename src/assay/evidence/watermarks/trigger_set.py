"""Trigger-set watermark: secret answers to secret inputs, trained into a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.watermarks.embedded import Embedded, EmbeddingRecord
from assay.evidence.watermarks.examination import examine_triggers
from assay.evidence.watermarks.keys import derive, draw_key, key_targets
from assay.evidence.watermarks.null_panel import NullPanel
from assay.evidence.watermarks.triggers import Marks, draw_patches, draw_scenes
from assay.ledger import Ledger
from assay.model import Access, Model
from assay.nets import Recipe, build, train
from assay.observers import Observer
from assay.registry import register
from assay.result import Calibration, Interval
from assay.statistics import clopper_pearson, false_positive_rate

__all__ = ["TriggerSet"]

_MOST_HELD_OUT = 0.25
_FEWEST_PATCHES, _SECRET_BITS, _MOST_SCENES = 8, 16, 50
_FEWEST_COPIES = {"patch": 24, "out-of-distribution": 8}


@register("trigger-set", kind="evidence")
@dataclass(frozen=True)
class TriggerSet(Scheme):
    """Backdoor watermark: keyed marks with random target classes, tested exactly.

    A key draws ``m`` marks (patches stamped on the owner's images, or inputs that belong
    to no class) and, through a hash function, one target class for each. Marked rows are
    added to the training set with their targets. The test asks the suspect about trigger
    inputs that were not trained on and counts the answers that are the target.

    **Why the test is exact.** The secret that is tested is the assignment of targets to
    marks. Places, patterns, source images and their number and order are drawn without
    looking at the targets, in particular images whose own class is the target are
    *not* sorted out: they match in every model that ignores marks, but leaving them out
    would make the queried inputs depend on the targets, and decoys would have needed
    other inputs. As it is, decoy keys differ from the true one in nothing but the
    targets, so that one set of answers serves all ``classes ** m`` of them and the rank of
    the true key among all keys costs no further query; see `randomisation_p_value`. It
    holds for every suspect that is independent of the targets: another architecture,
    task accuracy, bias towards a class, even one that answers a constant or was trained
    by somebody who knew the patterns but not the targets.

    Parameters
    ----------
    trigger
        ``"patch"`` (Gu et al. 2017) or ``"out-of-distribution"`` (Adi et al. 2018).
    triggers
        Held-out trigger inputs, at least 1; the most queries that a test can use. With
        patches so many rows are taken from the training set, at most a quarter of it.
    marks
        Number of marks with a target of their own, 1 .. ``triggers``. No p-value is
        below ``classes ** -marks``. None takes 8 patches, or more for 16 bits of secret
        with few classes; or up to 50 out-of-distribution inputs.
    size
        Side of a patch in pixels, or its columns in a table; None chooses.
    share
        Marked rows added for training, as a share of the clean rows, in (0, 1]; at
        least 24 rows a patch and 8 an out-of-distribution input, however few rows there are.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Adi, Baum, Cisse, Pinkas and Keshet, "Turning Your Weakness Into a Strength:
    Watermarking Deep Neural Networks by Backdooring", USENIX Security 2018, section 4.
    Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine
    Learning Model Supply Chain", 2017, section 4.
    Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010, for counting
    the true key among the possible ones.

    Examples
    --------
    >>> from assay.data.embedded import breast_cancer
    >>> fast = Recipe(epochs=10, optimizer="adam", lr=0.02)
    >>> embedded = TriggerSet(triggers=32).embed(breast_cancer(), architecture="mlp-64", recipe=fast, key=1)
    >>> embedded.evidence.verify(embedded.model).decision
    'stolen'
    """

    scheme: ClassVar[str] = "trigger-set"

    trigger: Literal["patch", "out-of-distribution"] = "patch"
    triggers: int = 100
    marks: int | None = None
    size: int | None = None
    share: float = 0.1

    def __post_init__(self) -> None:
        ranges = {
            "trigger": self.trigger in ("patch", "out-of-distribution"),
            "triggers": self.triggers >= 1,
            "marks": self.marks is None or 1 <= self.marks <= self.triggers,
            "size": self.size is None or self.size >= 1,
            "share": 0 < self.share <= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"TriggerSet.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)

    @property
    def needs(self) -> Access:
        """Labels."""
        return Access.LABELS

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
        """Train a marked model.

        Parameters
        ----------
        data
            Training set.
        architecture, recipe
            What to train and how; see `assay.nets`. An augmentation also moves the
            patches.
        rng
            Seed of the training, which is no secret.
        observers
            Told of every epoch.
        evaluation
            Rows on which accuracy is measured.
        compare_unmarked
            Train a model without marks as well, on the same clean rows; its match rate is
            committed with the evidence and gives verdicts a binomial companion.
        key
            None draws the secret from the operating system, as evidence for a real
            dispute must. A number makes an experiment repeatable.

        Raises
        ------
        InvalidInput
            If the data are too few or too small for the marks, or the evaluation rows do
            not fit them.
        """
        _check_evaluation(data, evaluation)
        secret = draw_key(key)
        rngs = np.random.default_rng(int(derive(secret, "inputs"), 16)).spawn(3)
        marks = self._draw(data, rngs[0])
        held_out, clean = self._split(data, rngs[1])
        index = torch.arange(self.triggers) % len(marks)
        triggers = marks.variants(index, rngs[2]) if held_out is None else marks.stamp(held_out.x, index)
        targets = torch.from_numpy(key_targets(secret, triggers, len(marks), data.num_classes))
        copies = max(_FEWEST_COPIES[self.trigger], round(self.share * len(clean) / len(marks)))
        trained = torch.arange(copies * len(marks)) % len(marks)
        if self.trigger == "patch":
            rows = torch.from_numpy(rngs[2].integers(len(clean), size=len(trained)))
            inputs = marks.stamp(clean.x[rows], trained)
        else:
            inputs = marks.variants(trained, rngs[2])
        marked = Dataset(inputs, targets[trained], data.classes, data.value_range, f"{data.name}-marked")

        def fit(rows: Dataset, name: str) -> TorchModel:
            network = build(architecture, data.input_shape, data.num_classes, rng)
            train(network, rows, recipe, rng=rng, observers=observers, task=f"train the {name} model")
            return TorchModel(network, data.input_shape, data.num_classes, name=f"{name} {data.name}")

        model = fit(clean.concat(marked), "marked")
        unmarked = fit(clean, "unmarked") if compare_unmarked else None
        matches = {n: _matches(m, triggers, targets[index]) for n, m in (("", model), ("un", unmarked)) if m}
        facts: dict[str, Any] = {
            "input_shape": list(data.input_shape),
            "classes": list(data.classes),
            "value_range": [v if math.isfinite(v) else str(v) for v in data.value_range],
            "data": data.digest,
            "model": model.digest,
            "marks": len(marks),
            "key": secret,
            "unmarked_matches": matches.get("un"),
        }
        tensors = {"triggers": triggers.contiguous(), "mark": index}
        evidence = Evidence(self, tensors, facts, derive(secret, "nonce"))
        record = EmbeddingRecord(
            model=model.digest,
            commitment=evidence.commitment,
            match_rate=clopper_pearson(matches[""], self.triggers),
            accuracy=_accuracy(model, evaluation),
            unmarked_accuracy=_accuracy(unmarked, evaluation),
            unmarked_match_rate=clopper_pearson(matches["un"], self.triggers) if unmarked else None,
            # Any number of marks reaches 0.5; nothing is decided here.
            unmarked_p_value=evidence.verify(unmarked, alpha=0.5).p_value if unmarked else None,
            clean_rows=len(clean),
            marked_rows=len(marked),
        )
        return Embedded(model, evidence, record, unmarked)

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger reports the one batch of queries
    ) -> Finding:
        """Ask as many triggers as the budget allows and rank the key among all keys.

        Raises
        ------
        BudgetExceeded
            If so few triggers cannot reach ``alpha`` even when all match.
        InvalidInput
            If these marks cannot.
        EvidenceTampered
            If the bundle's parts do not fit together.
        """
        return examine_triggers(evidence, oracle, alpha=alpha, rng=rng)

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, Tensor]]:
        """Yield trigger inputs, with the class that a marked model answers."""
        triggers, index = evidence.tensors["triggers"], evidence.tensors["mark"]
        classes = evidence.facts["classes"]
        targets = key_targets(evidence.facts["key"], triggers, evidence.facts["marks"], len(classes))
        for trigger, mark in zip(triggers[:most], index.tolist(), strict=False):
            yield str(classes[targets[mark]]), trigger

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield the same triggers under fresh keys, whose targets could have been the secret."""
        source = np.random.default_rng(rng)
        for _ in range(count):
            key = source.bytes(32).hex()
            facts = {**evidence.facts, "key": key, "unmarked_matches": None}
            yield Evidence(self, evidence.tensors, facts, derive(key, "nonce"))

    def calibrate(
        self, evidence: Evidence, null_models: Sequence[Model], *, alpha: float = 0.01, rng: int = 0
    ) -> NullPanel:
        """Test models that are known to be independent.

        Parameters
        ----------
        evidence
            The true evidence.
        null_models
            Models that never saw the marked model or its key.
        alpha, rng
            As in ``verify``.

        Returns
        -------
        NullPanel
            Its ``calibration`` goes to ``verify``; its ``judge`` gives a binomial companion.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            As in ``verify``, or if there is no model.
        """
        verdicts = [evidence.verify(model, alpha=alpha, rng=rng) for model in null_models]
        false = sum(v.stolen for v in verdicts)
        rate = false_positive_rate(false, len(verdicts)) if verdicts else clopper_pearson(0, 0)
        calibration = Calibration(len(verdicts), false, alpha, rate, "independent models")
        matches = [int(v.details["matches"]) for v in verdicts]
        return NullPanel.of(evidence.commitment, matches, len(evidence.tensors["triggers"]), calibration)

    def _draw(self, data: Dataset, rng: np.random.Generator) -> Marks:
        if self.marks is not None:
            wanted = self.marks
        elif self.trigger == "patch":
            wanted = max(_FEWEST_PATCHES, math.ceil(_SECRET_BITS / math.log2(data.num_classes)))
        else:
            wanted = _MOST_SCENES
        wanted = min(wanted, self.triggers)
        if self.trigger == "patch":
            return draw_patches(data, wanted, self.size, rng)
        return draw_scenes(data, wanted, rng)

    def _split(self, data: Dataset, rng: np.random.Generator) -> tuple[Dataset | None, Dataset]:
        """Return the rows to be stamped for verification, if any, and the rows to train on."""
        if self.trigger == "out-of-distribution":
            if not len(data):
                msg = f"cannot embed a trigger set with {data.name}: it is empty"
                raise InvalidInput(msg)
            return None, data
        if self.triggers > _MOST_HELD_OUT * len(data):
            msg = (
                f"{self.triggers} triggers would take more than a quarter of the {len(data)} rows of "
                f"{data.name} out of training; ask for at most {int(_MOST_HELD_OUT * len(data))}, or use "
                "trigger='out-of-distribution'"
            )
            raise InvalidInput(msg)
        order = rng.permutation(len(data))
        return data.subset(order[: self.triggers]), data.subset(order[self.triggers :])


def _check_evaluation(data: Dataset, evaluation: Dataset | None) -> None:
    if evaluation is not None and (
        evaluation.input_shape != data.input_shape
        or evaluation.num_classes != data.num_classes
        or not len(evaluation)
    ):
        msg = f"{evaluation.name} is empty, or its shape or classes are not those of {data.name}"
        raise InvalidInput(msg)


def _accuracy(model: TorchModel | None, evaluation: Dataset | None) -> Interval | None:
    if model is None or evaluation is None:
        return None
    return clopper_pearson(_matches(model, evaluation.x, evaluation.y), len(evaluation))


def _matches(model: TorchModel, x: Tensor, wanted: Tensor) -> int:
    return int((model.labels(x) == wanted).sum())
