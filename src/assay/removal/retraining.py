"""What attacks that teach a fresh network share: which network, and what the copy answers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Network, build, predict
from assay.nets.build import base_architecture
from assay.removal.layers import redraw
from assay.removal.tuning import Trained, check_choice

__all__ = ["Answers", "Retrained"]

Answers = Literal["soft", "hard"]


@dataclass(frozen=True, kw_only=True)
class Retrained(Trained):
    """Base of attacks that teach a fresh network, so that nothing of the copy's weights is left.

    Parameters
    ----------
    architecture
        Registered architecture of the fresh network, such as ``"wrn-16-1"``; ``"same"``
        for the copy's own, without input layers and filters in front of it.
    answers
        ``"soft"``: it learns the copy's probabilities; ``"hard"``: the copy's labels.
    """

    schedule: ClassVar[Literal["cosine", "triangle"]] = "triangle"
    architecture: str = "same"
    answers: Answers = "soft"
    epochs: int = 30
    lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "answers", self.answers, ("soft", "hard"))

    def fresh(self, teacher: nn.Module, rows: Dataset, rng: int) -> nn.Module:
        """Return the untrained network, in evaluation mode on the teacher's device.

        Raises
        ------
        InvalidInput
            If it is to be like the copy, whose weights cannot be drawn afresh.
        """
        device = next(teacher.parameters()).device
        if self.architecture != "same":
            return build(self.architecture, rows.input_shape, rows.num_classes, rng).to(device).eval()
        if isinstance(teacher, Network):
            name = base_architecture(teacher.architecture)
            return build(name, rows.input_shape, rows.num_classes, rng).to(device).eval()
        fresh = copy.deepcopy(teacher)
        if not redraw(fresh, rng):
            msg = (
                f"{self.name} cannot draw all weights of this network afresh; name the architecture of the "
                "new one, for example architecture=wrn-16-1"
            )
            raise InvalidInput(msg)
        return fresh.eval()

    def lesson(self, logits: Tensor) -> Tensor:
        """Return what is learned of the copy's logits: probabilities or labels."""
        return logits.softmax(1) if self.answers == "soft" else logits.argmax(1)

    def asked(self, teacher: nn.Module, x: Tensor) -> Tensor:
        """Ask the copy and return what is learned."""
        return self.lesson(predict(teacher, x))


def spread(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return inputs with Gaussian noise of ``share`` of their own standard deviation."""
    return x + share * x.std() * torch.randn(x.shape, generator=generator)
