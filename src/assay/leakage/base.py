"""The estimator contract: a method is fitted once, then tells what each query leaks."""

from __future__ import annotations

import dataclasses
import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_file import load_safetensors
from assay.adapters.torch_model import save_model
from assay.data.dataset import Dataset
from assay.errors import AccessDenied, EvidenceTampered, InvalidInput
from assay.leakage.stored import SCHEMA, VICTIM, body_digest, read_folder, tensor_digests, write_folder
from assay.model import Access, Model, check_inputs, check_scores, require
from assay.nets import Network
from assay.observers import Observer
from assay.privacy.orders import FloatArray
from assay.registry import configure, get

__all__ = ["Estimator", "Fitted", "Method", "check_ratio", "load_estimator"]

_LOWEST_RATIO, _HIGHEST_RATIO = 0.02, 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """What fitting found: everything a method needs to make its estimator again.

    Parameters
    ----------
    input_shape, num_classes
        Of the model whose queries are judged.
    sigma
        Standard deviation of the noise on votes, from which log q was computed.
    tensors
        Fitted numbers.
    facts
        Fitted values that JSON holds, and what was measured while fitting.
    victim
        The model whose features or scores are read, or None.
    victim_digest
        Digest of that model while it is away: an estimator that can live on scores may be
        loaded without it.
    members
        Estimators that this one is made of.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    sigma: float
    tensors: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    victim: Model | None = None
    victim_digest: str | None = None
    members: tuple[Estimator, ...] = ()


class Method(ABC):
    """Base of every way to estimate leakage; subclasses are registered frozen dataclasses.

    Attributes
    ----------
    name
        Registered name.
    needs
        Access to the victim without which the method cannot work.
    """

    name: ClassVar[str]
    needs: ClassVar[Access] = Access.NONE

    @abstractmethod
    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
    ) -> Estimator:
        """Return an estimator for queries to ``victim``, which was trained on ``data``.

        Parameters
        ----------
        data
            The private training set.
        victim
            The model that is served; some methods do without.
        rng
            Seed; the same seed, machine and thread count give the same estimator.
        observers
            Told about progress.
        checkpoint
            Folder from which an interrupted fit goes on.

        Raises
        ------
        InvalidInput, AccessDenied
            If data and victim do not fit, or the victim offers too little.
        """

    @abstractmethod
    def restore(self, fitted: Fitted) -> Estimator:
        """Return the estimator that a fit with this result would have returned."""

    def check(self, data: Dataset, victim: Model | None) -> None:
        """Raise unless the victim is there where needed and takes what ``data`` holds."""
        if not len(data):
            msg = f"the estimator {self.name} cannot be fitted on {data.name}: it is empty"
            raise InvalidInput(msg)
        if victim is None:
            if self.needs:
                msg = f"the estimator {self.name} reads the {self.needs.title} of the model; pass victim"
                raise InvalidInput(msg)
            return
        require(victim, self.needs, f"the estimator {self.name}")
        if data.input_shape != tuple(victim.input_shape) or data.num_classes != victim.num_classes:
            msg = (
                f"{data.name} has inputs of shape {data.input_shape} and {data.num_classes} classes, but "
                f"{victim.name} takes {tuple(victim.input_shape)} and has {victim.num_classes} classes"
            )
            raise InvalidInput(msg)


class Estimator(ABC):
    """Tells what each query leaks; fitted, immutable, safe to call from one thread at a time.

    Parameters
    ----------
    method
        Hyperparameters.
    fitted
        What fitting found.

    Attributes
    ----------
    name
        Registered name of the method.
    sigma
        Standard deviation of the noise on votes that belongs to its log q.
    input_shape, num_classes
        Of the model whose queries are judged.
    facts
        What was measured while fitting: sizes, accuracies, rank correlations.
    reads_scores
        Whether `log_q` can use the victim's scores instead of asking it again.
    keeps_victim
        Whether it reads the victim's features, so that a saved one carries the victim's
        weights where they can be seen.
    batch_size
        Rows to compute at a time.
    """

    reads_scores: bool = False
    keeps_victim: bool = False
    batch_size: int = 128

    def __init__(self, method: Method, fitted: Fitted) -> None:
        self.method = method
        self.name = method.name
        self.sigma = float(fitted.sigma)
        self.input_shape, self.num_classes = tuple(fitted.input_shape), fitted.num_classes
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(fitted.facts)))
        self.fitted = fitted
        self._body = {
            "schema": SCHEMA,
            "estimator": method.name,
            "parameters": json.loads(json.dumps(dataclasses.asdict(cast("Any", method)))),
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "sigma": self.sigma,
            "facts": self.facts,
            "tensors": tensor_digests(dict(fitted.tensors)),
            "victim": fitted.victim_digest if fitted.victim is None else fitted.victim.digest,
            "members": [member.digest for member in fitted.members],
        }
        self._digest = body_digest(self._body)

    @property
    def digest(self) -> str:
        """SHA-256 over method, fitted state, victim and members: the version of this estimator."""
        return self._digest

    def log_q(self, x: Tensor, *, scores: Tensor | None = None) -> FloatArray:
        """Return what each row leaks, as the log of a flip probability.

        Every row costs the same time whatever it is. Values may differ in the last bits
        with the number of rows computed together.

        Parameters
        ----------
        x
            Inputs, float ``[n, *input_shape]``, finite.
        scores
            The victim's class probabilities for them, ``[n, num_classes]``, if they are
            known already. Estimators that do not read scores ignore them.

        Returns
        -------
        numpy.ndarray
            float64 ``[n]``, at most 0; larger leaks more.

        Raises
        ------
        InvalidInput
            For malformed inputs or scores.
        """
        scores = self._checked(x, scores)
        parts = []
        with torch.no_grad():
            for start in range(0, len(x), self.batch_size):
                rows = slice(start, start + self.batch_size)
                known = None if scores is None else scores[rows]
                parts.append(self._measure(x[rows].detach().cpu(), known))
        result = np.concatenate(parts) if parts else np.empty(0)
        assert result.shape == (len(x),), result.shape
        assert bool(np.all(result <= 0)), "log q above 0 or NaN"
        return result

    def _checked(self, x: Tensor, scores: Tensor | None) -> Tensor | None:
        """Return the scores that will be read, after inputs and scores were checked."""
        check_inputs(x, self.input_shape, f"the estimator {self.name}")
        if scores is None or not self.reads_scores:
            return None
        return check_scores(scores, len(x), self.num_classes, "scores")

    @abstractmethod
    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        """Return log q of one checked batch on the CPU."""

    @property
    def victim(self) -> Model:
        """The model whose features or scores are read; raises `InvalidInput` where there is none."""
        if self.fitted.victim is None:
            msg = f"the estimator {self.name} was loaded without its model; pass victim or give it scores"
            raise InvalidInput(msg)
        return self.fitted.victim

    def save(self, path: str | Path) -> Path:
        """Write a folder that `load_estimator` reads, and return its path.

        The victim's weights go with it where the method reads its features and it is a
        network of ours; otherwise the victim must be given when loading.

        Raises
        ------
        InvalidInput
            If something is already there, or it cannot be written.
        """
        others: dict[str, Callable[[Path], object]] = {
            f"member-{i}": member.save for i, member in enumerate(self.fitted.members)
        }
        network = _network(self.fitted.victim) if self.keeps_victim else None
        if network is not None:
            others[VICTIM] = functools.partial(save_model, network)
        return write_folder(path, self._body, dict(self.fitted.tensors), others)


def load_estimator(path: str | Path, victim: Model | None = None) -> Estimator:
    """Read a saved estimator after every digest was checked.

    Parameters
    ----------
    path
        Folder written by `Estimator.save`.
    victim
        The served model. Needed by estimators that read its features and could not store
        it; useful to those that read its scores; must be the one they were fitted for.

    Raises
    ------
    InvalidInput, EvidenceTampered, UnknownName
        If it is no estimator, was changed, needs a method that is not installed, or
        belongs to another model.

    Examples
    --------
    >>> import tempfile
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.leakage import Gap
    >>> from assay.nets import build
    >>> data = load_data("iris")
    >>> gap = Gap().fit(data, TorchModel(build("mlp-4", (4,), 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load_estimator(gap.save(Path(folder) / "gap"))
    >>> again.digest == gap.digest
    True
    """
    folder = Path(path)
    body, tensors = read_folder(folder)
    entry = get(body["estimator"], "leakage")
    try:
        served = victim
        if body["victim"] is None:
            served = None  # it judges inputs alone
        elif served is None and (folder / VICTIM).is_file():
            served = load_safetensors(folder / VICTIM)
        if served is not None and served.digest != body["victim"]:
            msg = f"the estimator {folder} was fitted for another model than {served.name}; fit it again"
            raise InvalidInput(msg)
        method = cast("Method", configure(entry.target, body["parameters"]))
        fitted = Fitted(
            input_shape=tuple(body["input_shape"]),
            num_classes=int(body["num_classes"]),
            sigma=float(body["sigma"]),
            tensors=tensors,
            facts=body["facts"],
            victim=served,
            victim_digest=body["victim"],
            members=tuple(
                load_estimator(folder / f"member-{i}", victim) for i in range(len(body["members"]))
            ),
        )
        result = method.restore(fitted)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        msg = f"the manifest of {folder} is incomplete: {error}"
        raise EvidenceTampered(msg) from error
    if result.keeps_victim and served is None:
        msg = f"the estimator {folder} reads features of a model that it could not store; pass victim"
        raise InvalidInput(msg)
    if result.digest != body_digest(body):
        msg = f"the estimator {folder} does not match its digest once it is rebuilt"
        raise EvidenceTampered(msg)
    return result


def check_ratio(sigma: float, voters: int, *, force: bool) -> None:
    """Refuse noise that does not suit the number of voters.

    Below sigma/T = 0.02 noise never changes a vote and every query is free; above 0.1 it
    decides every vote and all queries cost the same. All published settings use 0.04
    (teachers) or 0.093 (neighbours).

    Raises
    ------
    InvalidInput
        Unless 0.02 <= sigma/T <= 0.1 or ``force``.
    """
    if voters < 2 or not 0 < sigma < np.inf:  # noqa: PLR2004 - one voter never disagrees
        msg = f"votes need at least 2 voters and sigma above 0, got {voters} and {sigma}"
        raise InvalidInput(msg)
    if not force and not _LOWEST_RATIO <= sigma / voters <= _HIGHEST_RATIO:
        msg = (
            f"sigma = {sigma:g} with {voters} voters is a ratio of {sigma / voters:.3g}, outside "
            f"{_LOWEST_RATIO} to {_HIGHEST_RATIO}; use sigma = {0.04 * voters:g}, or force=True"
        )
        raise InvalidInput(msg)


def _network(victim: Model | None) -> Network | None:
    """Return the victim's network if it is one of ours, whose file opens without further words."""
    if victim is None or Access.WEIGHTS not in victim.access:
        return None
    try:
        module = victim.module
    except AccessDenied:
        return None
    return module if isinstance(module, Network) else None
