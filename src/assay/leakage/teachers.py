"""The teacher ensemble: networks trained on disjoint parts of the private data vote on each query."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.leakage.base import Estimator, Fitted, Method, check_ratio
from assay.leakage.parts import disjoint_parts
from assay.leakage.scale import RATIO
from assay.leakage.stacked import StackedNetworks, stack_weights
from assay.leakage.votes import VotingEstimator, tally
from assay.model import Model
from assay.nets import Network, Recipe, build, train
from assay.nets.suggest import suggest_architecture, suggest_recipe
from assay.observers import Observer, Observers
from assay.registry import register

__all__ = ["TeacherEnsemble", "measured_accuracy", "tested_rows"]

_TESTED = 500  # rows on which each teacher's accuracy is measured
_BATCH = 128


@register("teachers", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class TeacherEnsemble(Method):
    """Leakage as disagreement of teachers trained on disjoint parts of the private data.

    The estimator of the published scheme. No student is trained and no noisy label is
    released: the votes only price the query.

    Parameters
    ----------
    teachers
        Number of teachers T, at least 2.
    architecture
        Registered network of the teachers; None takes one that fits the inputs.
    recipe
        How each is trained; None takes one that fits the architecture and T.
    sigma
        Standard deviation of the noise on votes; None takes 0.04 T as all published
        settings do.
    votes
        ``"hard"``: one vote for the first class. ``"soft"``: the teacher's probabilities.
    force
        Accept sigma/T outside 0.02 to 0.1.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Papernot et al., "Scalable Private Learning with PATE", ICLR 2018. Dziedzic et al.,
    "Increasing the Cost of Model Extraction with Calibrated Proof of Work", ICLR 2022,
    section 4.

    Examples
    --------
    >>> from assay.data import load_data
    >>> data = load_data("iris")
    >>> recipe = Recipe(epochs=30, batch_size=8, optimizer="adam", lr=0.02)
    >>> ensemble = TeacherEnsemble(teachers=5, architecture="mlp-8", recipe=recipe).fit(data)
    >>> ensemble.sigma, ensemble.log_q(data.x[:4]).shape
    (0.2, (4,))
    """

    name: ClassVar[str] = "teachers"

    teachers: int = 50
    architecture: str | None = None
    recipe: Recipe | None = None
    sigma: float | None = None
    votes: Literal["hard", "soft"] = "hard"
    force: bool = False

    def __post_init__(self) -> None:
        check_ratio(self.noise, self.teachers, force=self.force)
        if self.votes not in {"hard", "soft"}:
            msg = f"votes must be 'hard' or 'soft', got {self.votes!r}"
            raise InvalidInput(msg)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on votes."""
        return RATIO * self.teachers if self.sigma is None else self.sigma

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
    ) -> Estimator:
        """Train every teacher on its part; finished teachers in ``checkpoint`` are not trained again.

        See `Method.fit`. The victim is only compared with the data.
        """
        self.check(data, victim)
        parts = disjoint_parts(data, self.teachers, rng)
        rows = len(data) // self.teachers
        architecture = self.architecture or suggest_architecture(data.input_shape)
        recipe = self.recipe or suggest_recipe(architecture, rows)
        watch = Observers(observers)
        watch.on_start("teachers", self.teachers)
        tested = tested_rows(len(data), rng)
        networks, accuracy = [], []
        for index, part in enumerate(parts):
            network = build(architecture, data.input_shape, data.num_classes, _seed(rng, index))
            file = None if checkpoint is None else Path(checkpoint) / f"teacher-{index:04d}.safetensors"
            identity = _identity(data, architecture, recipe, self.teachers, rng, index)
            if file is None or not _resume(file, network, identity):
                train(network, data.subset(part), recipe, rng=_seed(rng, index))
                if file is not None:
                    _keep(file, network, identity)
            network.eval()
            networks.append(network)
            answers = _answers(network, data.x[tested])
            accuracy.append(measured_accuracy(answers, data.y[tested], tested, part))
            watch.on_step("teachers", index + 1, {"accuracy": accuracy[-1]})
        watch.on_end("teachers", {"accuracy": float(np.mean(accuracy))})
        facts = {
            "architecture": architecture,
            "recipe": dataclasses.asdict(recipe),
            "data": data.digest,
            "seed": rng,
            "rows": [len(part) for part in parts],
            "accuracy": accuracy,
            "mean_accuracy": float(np.mean(accuracy)),
        }
        return self.restore(
            Fitted(data.input_shape, data.num_classes, self.noise, stack_weights(networks), facts)
        )

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the ensemble with stored weights."""
        return _Ensemble(self, fitted)


class _Ensemble(VotingEstimator):
    def __init__(self, method: TeacherEnsemble, fitted: Fitted) -> None:
        super().__init__(method, fitted)
        self._soft = method.votes == "soft"
        self._stack = StackedNetworks(
            fitted.facts["architecture"], self.input_shape, self.num_classes, fitted.tensors
        )

    def _votes(self, x: Tensor, scores: Tensor | None) -> Tensor:  # noqa: ARG002 - reads inputs only
        return tally(self._stack.logits(x).permute(1, 2, 0), soft=self._soft)


def tested_rows(rows: int, rng: int) -> NDArray[np.int64]:
    """Draw the rows on which every teacher's accuracy is measured."""
    return np.sort(np.random.default_rng([rng, 1]).permutation(rows)[:_TESTED]).astype(np.int64)


def measured_accuracy(
    answers: Tensor, labels: Tensor, tested: NDArray[np.int64], own: NDArray[np.int64]
) -> float:
    """Return a teacher's accuracy on those of the ``tested`` rows that it was not trained on."""
    foreign = torch.from_numpy(~np.isin(tested, own))
    right = (answers == labels)[foreign]
    return round(float(right.double().mean()), 6) if len(right) else 0.0


def _answers(network: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(x[i : i + _BATCH]).argmax(1) for i in range(0, len(x), _BATCH)])


def _seed(rng: int, index: int) -> int:
    return (rng * 1_000_003 + 7919 * index) % 2**62


def _identity(data: Dataset, architecture: str, recipe: Recipe, teachers: int, rng: int, index: int) -> str:
    """Everything that a kept teacher must share with the one that is wanted."""
    text = json.dumps([data.digest, architecture, dataclasses.asdict(recipe), teachers, rng, index])
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(file: Path, network: Network, identity: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, partial, {"identity": identity})
    partial.replace(file)


def _resume(file: Path, network: Network, identity: str) -> bool:
    """Fill ``network`` from ``file``; return whether there was one. Raise for another training's."""
    if not file.exists():
        return False
    try:
        with safe_open(str(file), "pt") as stored:
            found = (stored.metadata() or {}).get("identity")
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
        if found == identity:
            network.load_state_dict(state)
            return True
    except (OSError, SafetensorError, RuntimeError) as error:
        msg = f"cannot read the kept teacher {file}: {error}; delete it to train it again"
        raise InvalidInput(msg) from error
    msg = f"{file} is a teacher of another training (data, settings or seed differ); use another folder"
    raise InvalidInput(msg)
