"""Several removals, one after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.observers import Observer
from assay.registry import create, register
from assay.removal.base import Removal

__all__ = ["Stacked"]

_NEXT = re.compile(r",(?=\s*[\w-]+\s*=)")  # a comma inside a value belongs to the value


@register("stacked", kind="removal")
@dataclass(frozen=True, kw_only=True)
class Stacked(Removal):
    """Wash with several attacks in turn, each on what the one before has left.

    Parameters
    ----------
    attacks
        Names with settings, separated by semicolons, as in
        ``"weight-noise:noise=1,shift=1.5;fine-pruning:epochs=3,labels=true"``.

    Raises
    ------
    InvalidInput, UnknownName
        If there is no attack, one is not known, or its settings are wrong.

    References
    ----------
    Lukas et al., "SoK: How Robust is Image Classification Deep Neural Network
    Watermarking?", IEEE S&P 2022 (combined attacks).

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> attack = Stacked(attacks="weight-noise:noise=0.05;weight-quantisation:bits=6,epochs=0")
    >>> [step.name for step in attack.steps], attack.needs_data
    (['weight-noise', 'weight-quantisation'], False)
    >>> attack.run(TorchModel(build("mlp-8", (3,), 2))).record.rows
    0
    """

    name: ClassVar[str] = "stacked"
    attacks: str = "weight-noise:noise=0.2;fine-pruning"

    def __post_init__(self) -> None:
        if not self.steps:
            msg = f"attacks of {self.name} must name at least one removal, as in 'weight-noise;fine-pruning'"
            raise InvalidInput(msg)

    @property
    def steps(self) -> list[Removal]:
        """The attacks, in order."""
        return [self._step(text) for text in self.attacks.split(";") if text.strip()]

    def _step(self, text: str) -> Removal:
        name, _, rest = text.partition(":")
        options = {}
        for item in _NEXT.split(rest) if rest else ():
            key, equals, value = item.partition("=")
            if not equals:
                msg = f"{self.name}: {item.strip()!r} of {name.strip()} has no value; write name=value"
                raise InvalidInput(msg)
            options[key.strip()] = value.strip()
        if name.strip() == self.name:
            msg = f"{self.name} cannot stack itself; name all attacks in one list"
            raise InvalidInput(msg)
        return cast("Removal", create(name.strip(), "removal", options))

    @property
    def needs_data(self) -> bool:
        """Whether any of the attacks needs data."""
        return any(step.needs_data for step in self.steps)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Wash in turn."""
        for place, step in enumerate(self.steps):
            # A file for each: a finished training must not be taken for that of the next attack.
            own = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{place}")
            module = step.wash(module, data, rng=rng + place, observers=observers, checkpoint=own)
        return module
