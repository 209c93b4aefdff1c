"""Trigger-set watermark: secret answers to secret inputs, trained into a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.evidence.watermarks.marked_training import MarkedInputs, MarkedTraining, check_rows
from assay.evidence.watermarks.triggers import Marks, draw_patches, draw_scenes
from assay.registry import register

__all__ = ["TriggerSet"]

_MOST_SCENES, _COPIES_OF_SCENES = 50, 8


@register("trigger-set", kind="evidence")
@dataclass(frozen=True)
class TriggerSet(MarkedTraining):
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
    marks
        None takes 8 patches, or more for 16 bits of secret with few classes; or up to 50
        out-of-distribution inputs. Each gets at least 24 or 8 training rows.
    size
        Side of a patch in pixels, or its columns in a table; None chooses.

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
    >>> from assay.nets import Recipe
    >>> fast = Recipe(epochs=10, optimizer="adam", lr=0.02)
    >>> embedded = TriggerSet(triggers=32).embed(breast_cancer(), architecture="mlp-64", recipe=fast, key=1)
    >>> embedded.evidence.verify(embedded.model).decision
    'stolen'
    """

    scheme: ClassVar[str] = "trigger-set"

    trigger: Literal["patch", "out-of-distribution"] = "patch"
    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("trigger", fine=self.trigger in ("patch", "out-of-distribution"))
        self._check("size", fine=self.size is None or self.size >= 1)

    def inputs(
        self,
        data: Dataset,
        rngs: Sequence[np.random.Generator],
        unrelated: Dataset | None,  # noqa: ARG002 - refused before
    ) -> MarkedInputs:
        """Put patches on rows, or make variants of inputs that belong to no class."""
        check_rows(data)
        marks = self.draw(data, rngs[0])
        if self.trigger == "patch":
            return self.on_rows(data, marks, rngs[1], rngs[2])
        index = torch.arange(self.triggers) % len(marks)
        asked = marks.variants(index, rngs[2])
        trained = self.copies(len(data), len(marks), _COPIES_OF_SCENES)
        return MarkedInputs(data, asked, index, marks.variants(trained, rngs[2]), trained, len(marks))

    def draw(self, data: Dataset, rng: np.random.Generator) -> Marks:
        """Draw the marks."""
        if self.trigger == "patch":
            return draw_patches(data, self.wanted(data), self.size, rng)
        wanted = min(_MOST_SCENES, self.triggers) if self.marks is None else self.marks
        return draw_scenes(data, wanted, rng)
