"""Secret directions of a feature space, and the exact test for them in a suspect's scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence
from assay.evidence.bundle import tensor_digests
from assay.evidence.watermarks.keys import derive
from assay.ledger import Ledger
from assay.nets import Network
from assay.result import Assumption, Effect, TestResult

__all__ = ["Space", "carriers", "cosine_test", "paired_losses"]

FloatArray = NDArray[np.float64]
_NULL = "given the suspect's answers, the secret direction of each class is uniform on the sphere"
_SIGNS = "given the suspect's answers, secret and other directions of each class could be exchanged"
_FLOOR = 1e-6  # smallest score whose logarithm is looked at: services round
_RIDGE = 1e-2
_THIN = 1e-3  # dimensions narrower than this share of the widest carry rounding noise


@dataclass(frozen=True, eq=False)
class Space:
    """The widest dimensions of a network's features, each scaled to the same width.

    Parameters
    ----------
    network
        Whose features; in evaluation mode.
    centre
        Mean features, ``[d]``.
    axes
        From centred features to the space, ``[d, width]``.
    """

    network: Network
    centre: Tensor
    axes: Tensor

    @classmethod
    def of(cls, module: nn.Module, x: Tensor, most: int) -> Space:
        """Look at the features of rows ``x``.

        Raises
        ------
        InvalidInput
            If the network does not say what its features are, or has fewer than two.
        """
        if not isinstance(module, Network):
            msg = "radioactive marks need a network whose features are known; use an architecture of Assay"
            raise InvalidInput(msg)
        network = module.eval()
        with torch.no_grad():
            features = network.embed(x).float()
        centre = features.mean(0)
        _, widths, axes = torch.linalg.svd(features - centre, full_matrices=False)
        kept = min(most, int((widths > _THIN * widths[0]).sum()))
        if kept < 2:  # noqa: PLR2004 - a line has only two directions
            msg = "the features of this network do not span two dimensions; take a wider one or more data"
            raise InvalidInput(msg)
        return cls(network, centre, axes[:kept].T * (len(x) ** 0.5 / widths[:kept]))

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return int(self.axes.shape[1])

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return the places of inputs, float32 ``[n, width]``."""
        return self._place(x)

    def slope(self, x: Tensor, directions: Tensor) -> Tensor:
        """Return the change of each input that moves it along its direction."""
        here = x.clone().requires_grad_()
        return torch.autograd.grad((self._place(here) * directions).sum(), here)[0]

    def _place(self, x: Tensor) -> Tensor:
        return (self.network.embed(x).float() - self.centre) @ self.axes


def carriers(key: str, probes: Tensor, classes: int, width: int, purpose: str) -> Tensor:
    """Return one direction a class, uniform on the sphere, from a key and the committed probes.

    Computed from hash bits, so that other versions of a random generator draw the same.

    Examples
    --------
    >>> from assay.evidence.watermarks.keys import draw_key
    >>> drawn = carriers(draw_key(1), torch.zeros(2, 3), 10, 4, "secret")
    >>> drawn.shape, bool((drawn.norm(dim=1) - 1).abs().max() < 1e-6)
    (torch.Size([10, 4]), True)
    """
    from scipy.special import ndtri

    seed = derive(key, f"carriers|{purpose}|" + tensor_digests({"probes": probes})["probes"])
    raw = hashlib.shake_256(seed.encode()).digest(8 * classes * width)
    uniform = (np.frombuffer(raw, dtype=">u8").astype(np.float64) + 0.5) / 2.0**64
    normal = ndtri(np.clip(uniform, 2.0**-60, 1 - 2.0**-53)).reshape(classes, width)
    return torch.from_numpy((normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32))


def cosine_test(
    evidence: Evidence, oracle: Ledger, alpha: float
) -> tuple[TestResult, dict[str, Any], tuple[Assumption, ...]]:
    """Test whether the directions that a suspect's scores follow are the secret ones.

    Parameters
    ----------
    evidence
        With tensors ``probes`` (float32 ``[n, *shape]``), their places ``features`` (float32
        ``[n, width]``) and the unmarked model's scores ``guide`` (float32 ``[n, classes]``),
        and the fact ``key``.
    oracle
        The metered suspect, for scores.
    alpha
        For the message if the budget is too small.
    """
    from scipy.stats import beta, chi2

    probes, features, guide = _parts(evidence)
    classes, width = guide.shape[1], features.shape[1]
    queries = len(probes) if oracle.remaining is None else min(len(probes), oracle.remaining)
    least = 2 * (width + 2 * classes + 1)
    if queries < min(least, len(probes)):
        msg = (
            f"a budget of {queries} queries does not show {width} dimensions at alpha = {alpha:g}; at least "
            f"{min(least, len(probes))} are needed; nothing was sent"
        )
        raise BudgetExceeded(msg)
    secret = carriers(evidence.facts["key"], probes, classes, width, "secret").double().numpy()
    answers = oracle.scores(probes[:queries]).double().numpy()
    found = _directions(answers, features[:queries], guide[:queries])
    length = np.linalg.norm(found, axis=1)
    # A suspect that answers a constant follows no direction at all.
    cosines = (found * secret).sum(1) / np.where(length > 0, length, 1.0)
    half = (width - 1) / 2
    tails = np.where(length > 0, beta.sf((1 + cosines) / 2, half, half), 1.0)
    with np.errstate(divide="ignore"):
        p = float(chi2.sf(-2 * np.log(tails).sum(), 2 * classes))
    mean, spread = float(cosines.mean()), 1.96 / np.sqrt(width * classes)
    result = TestResult(
        test="carrier-cosine",
        null=_NULL,
        statistic=mean,
        p_value=min(1.0, max(p, float(np.finfo(np.float64).tiny))),
        n={"probes": queries, "classes": classes},
        effect=Effect("mean-cosine", mean, mean - spread, mean + spread),
        exact=True,
    )
    details = {
        "cosines": [float(c) for c in cosines],
        "class_p_values": [float(t) for t in tails],
        "dimensions": width,
    }
    return result, details, _assumptions(width, classes)


def _directions(answers: FloatArray, features: FloatArray, guide: FloatArray) -> FloatArray:
    """Return the direction in which each class gains, beyond what the unmarked model says, ``[k, width]``.

    Any function of the answers would do for the level; subtracting what every classifier of
    these data follows leaves more of the mark.
    """
    logs = [np.log(np.maximum(scores, _FLOOR)) for scores in (answers, guide)]
    wanted, known = (one - one.mean(1, keepdims=True) for one in logs)
    columns = np.concatenate([features, np.ones((len(features), 1)), known, guide], axis=1)
    square = columns.T @ columns + _RIDGE * len(columns) * np.eye(columns.shape[1])
    return np.asarray(np.linalg.solve(square, columns.T @ wanted)[: features.shape[1]].T)


def _parts(evidence: Evidence) -> tuple[Tensor, FloatArray, FloatArray]:
    classes, shape = len(evidence.facts["classes"]), tuple(evidence.facts["input_shape"])
    try:
        held = evidence.tensors
        probes, features, guide = held["probes"], held["features"], held["guide"]
        whole = (
            probes.dtype == torch.float32
            and tuple(probes.shape[1:]) == shape
            and features.ndim == 2  # noqa: PLR2004 - rows and dimensions
            and features.shape[1] > 1
            and len(features) == len(probes) > 0
            and tuple(guide.shape) == (len(probes), classes)
            and bool(torch.isfinite(features).all())
            and len(held["pair_class"]) == len(held["along_secret"]) == len(held["along_other"])
            and evidence.facts["key"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"the evidence is no record of radioactive data: {error!r} is missing or malformed"
        raise EvidenceTampered(msg) from error
    if not whole:
        msg = "probes, features and key of this evidence do not fit together; it was not written by Assay"
        raise EvidenceTampered(msg)
    return probes, features.double().numpy(), guide.double().numpy()


def paired_losses(evidence: Evidence, oracle: Ledger) -> tuple[TestResult, ...]:
    """Compare losses on rows shifted along the secret and along other directions.

    The other directions were drawn by the same key in the same way. For a suspect that is
    independent of it, the two may be exchanged in every class without changing how likely
    the answers are, so that all patterns of signs are equally likely (Sablayrolles et al. 2020,
    section 3.4, compare marked with unmarked rows instead, which has no exact null).
    """
    held = evidence.tensors
    rows, left = len(held["pair_class"]), oracle.remaining
    if not rows or (left is not None and left < 2 * rows):
        return ()
    labels = held["pair_class"].numpy()
    losses = [
        -np.log(np.maximum(oracle.scores(held[name]).double().numpy(), _FLOOR))[np.arange(rows), labels]
        for name in ("along_other", "along_secret")
    ]
    gains = losses[0] - losses[1]
    totals = np.array([gains[labels == c].sum() for c in np.unique(labels)])
    p = _sign_p_value(totals)
    mean, spread = float(gains.mean()), 1.96 * float(gains.std() / np.sqrt(rows))
    return (
        TestResult(
            test="carrier-loss",
            null=_SIGNS,
            statistic=mean,
            p_value=p,
            n={"pairs": rows, "classes": len(totals)},
            effect=Effect("loss-difference", mean, mean - spread, mean + spread),
            exact=True,
        ),
    )


def _sign_p_value(totals: FloatArray) -> float:
    """Return the share of sign patterns whose sum is at least the observed one; sampled above 16 classes."""
    if len(totals) <= 16:  # noqa: PLR2004 - 65,536 patterns
        signs = 1 - 2 * ((np.arange(2 ** len(totals))[:, None] >> np.arange(len(totals))) & 1)
        return float(np.mean(signs @ totals >= totals.sum() - 1e-9))
    signs = np.random.default_rng(0).choice((-1, 1), (9_999, len(totals)))
    return (1 + int(np.sum(signs @ totals >= totals.sum() - 1e-9))) / 10_000


def _assumptions(width: int, classes: int) -> tuple[Assumption, ...]:
    return (
        Assumption(
            "the key was drawn at random, and its commitment published before the suspect was trained",
            None,
            "compare the commitment of this verdict with the published, time-stamped one",
        ),
        Assumption(
            "nobody chose the directions",
            holds=True,
            evidence=f"{classes} directions in {width} dimensions follow from key and probes by hashing",
        ),
        Assumption(
            "the suspect was not trained on the marked rows by right, for instance from the same public set",
            None,
            "the test finds whoever learned from the marked rows, by theft of the model or of the data",
        ),
    )
