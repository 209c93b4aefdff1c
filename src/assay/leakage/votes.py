"""What all voting estimators share: counts of votes in, log q out."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from assay.leakage.base import Estimator
from assay.privacy import log_flip_probability
from assay.privacy.orders import FloatArray

__all__ = ["VotingEstimator", "tally"]


def tally(logits: Tensor, *, soft: bool) -> Tensor:
    """Count the votes of teachers, float64 ``[n, classes]``.

    Parameters
    ----------
    logits
        ``[n, classes, teachers]``.
    soft
        Add up probabilities instead of giving the first class one vote.

    Examples
    --------
    >>> tally(torch.tensor([[[2.0, 3.0, 0.0], [1.0, 0.0, 1.0]]]), soft=False)
    tensor([[2., 1.]], dtype=torch.float64)
    """
    if soft:
        return torch.softmax(logits, dim=1).sum(2, dtype=torch.float64)
    votes = torch.zeros(logits.shape[:2], dtype=torch.float64)
    chosen = logits.argmax(1)
    return votes.scatter_add_(1, chosen, torch.ones(chosen.shape, dtype=torch.float64))


class VotingEstimator(Estimator):
    """An estimator whose log q comes from a vote."""

    def votes(self, x: Tensor, *, scores: Tensor | None = None) -> FloatArray:
        """Return the votes for each class, float64 ``[n, num_classes]``.

        Votes are private data: they say more about the training set than the model's
        answers do. Keep them out of logs.

        Raises
        ------
        InvalidInput
            For malformed inputs.
        """
        scores = self._checked(x, scores)
        with torch.no_grad():
            parts = [
                self._votes(
                    x[i : i + self.batch_size], None if scores is None else scores[i : i + self.batch_size]
                )
                for i in range(0, len(x), self.batch_size)
            ]
        return torch.cat(parts).numpy() if parts else torch.zeros(0, self.num_classes).double().numpy()

    @abstractmethod
    def _votes(self, x: Tensor, scores: Tensor | None) -> Tensor:
        """Return the votes of one batch, float64 ``[n, num_classes]``."""

    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        return log_flip_probability(self._votes(x, scores).numpy(), self.sigma)
