"""What a model is to Assay: what it offers, and what each answer looks like."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from assay.errors import AccessDenied, InvalidInput

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Access",
    "Model",
    "accepts_missing",
    "check_embeddings",
    "check_inputs",
    "check_labels",
    "check_scores",
    "require",
    "shows_complete_scores",
]


class Access(enum.Flag):
    """What a model lets its caller see.

    The levels are cumulative: a model that gives scores gives labels, and one that
    gives its weights gives everything but named embeddings.

    Examples
    --------
    >>> Access.LABELS in Access.SCORES
    True
    >>> Access.parse("scores") is Access.SCORES
    True
    """

    NONE = 0
    LABELS = 1
    SCORES = 2 | 1
    EMBEDDINGS = 4
    WEIGHTS = 8 | 2 | 1

    @classmethod
    def parse(cls, name: str) -> Access:
        """Return the level called ``name`` (case does not matter)."""
        try:
            return cls[name.upper()]
        except KeyError:
            msg = f"unknown access {name!r}; choose one of: {', '.join(m.lower() for m in cls.__members__)}"
            raise InvalidInput(msg) from None

    @property
    def title(self) -> str:
        """Plain words for messages: ``"labels"``, ``"scores"``, ..."""
        exact = [name for name, level in Access.__members__.items() if level == self]
        if exact:
            return exact[0].lower()
        parts = [n.lower() for n, level in Access.__members__.items() if level and level in self]
        return " and ".join(parts)


@runtime_checkable
class Model(Protocol):
    """A model that can be asked.

    Inputs are float tensors ``[n, *input_shape]`` in the data's own value range;
    normalisation, batching, device and dtype are the model's business. Answers are on
    the CPU. Numbers are float32 unless a caller asks in float64: then a model that
    computes in float64 answers in it.

    Two further attributes may be absent, see `accepts_missing` and
    `shows_complete_scores`.

    Attributes
    ----------
    name
        How messages and reports call it.
    access
        What it offers.
    input_shape
        Shape of one input, without the batch axis.
    num_classes
        Number of classes, at least 2.
    digest
        SHA-256 of the weights where they can be seen, an address otherwise.
    """

    name: str
    access: Access
    input_shape: tuple[int, ...]
    num_classes: int
    digest: str

    def labels(self, x: Tensor) -> Tensor:
        """Return the predicted classes, int64 ``[n]``."""
        ...

    def scores(self, x: Tensor) -> Tensor:
        """Return class probabilities, float ``[n, num_classes]``."""
        ...

    def embeddings(self, x: Tensor) -> Tensor:
        """Return features, float ``[n, d]``."""
        ...

    @property
    def module(self) -> nn.Module:
        """The network itself, from inputs to logits."""
        ...


def require(model: Model, needs: Access, what: str) -> None:
    """Refuse early when ``model`` does not offer what ``what`` needs.

    Raises
    ------
    AccessDenied
        If some of ``needs`` is missing.
    """
    if needs not in model.access:
        msg = (
            f"{what} needs {needs.title} of {model.name}, which offers only "
            f"{model.access.title or 'nothing'}; choose a method that needs less (see `assay list`)"
        )
        raise AccessDenied(msg)


def accepts_missing(model: Model) -> bool:
    """Return whether NaN may stand for a feature that is left out (attribute ``accepts_missing``)."""
    return bool(getattr(model, "accepts_missing", False))


def shows_complete_scores(model: Model) -> bool:
    """Return whether rows of scores sum to 1 (attribute ``complete_scores``, true if absent).

    A service that rounds its answers, or shows only the largest, has rows that do not.
    """
    return bool(getattr(model, "complete_scores", True))


def check_inputs(x: Tensor, input_shape: tuple[int, ...], name: str, *, missing: bool = False) -> None:
    """Raise `InvalidInput` unless ``x`` is a finite float batch of the model's input shape.

    With ``missing``, NaN is allowed and means that a feature is left out.
    """
    import torch

    if not isinstance(x, torch.Tensor):
        msg = f"inputs for {name} must be a torch tensor, got {type(x).__name__}"
        raise InvalidInput(msg)
    if not x.is_floating_point():
        msg = f"inputs for {name} must be floating point, got {x.dtype}; convert with .float()"
        raise InvalidInput(msg)
    if tuple(x.shape[1:]) != tuple(input_shape) or x.ndim == 0:
        expected = ", ".join(map(str, ("n", *input_shape)))
        msg = f"inputs for {name} must have shape [{expected}], got {list(x.shape)}"
        raise InvalidInput(msg)
    # One pass: no sum with a NaN or an infinity in it is finite. Large finite values may overflow.
    if bool(torch.isfinite(x.sum())):
        return
    finite = ~torch.isinf(x) if missing else torch.isfinite(x)
    if not bool(finite.all()):
        what = "infinity" if missing else "NaN or infinity"
        msg = f"inputs for {name} contain {what}; remove or impute those rows"
        raise InvalidInput(msg)


def check_labels(labels: Tensor, rows: int, num_classes: int, name: str) -> Tensor:
    """Return an answer as int64 ``[rows]`` or raise `InvalidInput` if it is no such thing."""
    import torch

    if not isinstance(labels, torch.Tensor) or labels.shape != (rows,):
        msg = f"{name} answered labels of shape {_shape(labels)} for {rows} rows; expected [{rows}]"
        raise InvalidInput(msg)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        msg = f"{name} answered labels of type {labels.dtype}; expected integers"
        raise InvalidInput(msg)
    result = labels.detach().to("cpu", torch.int64)
    if rows and (int(result.min()) < 0 or int(result.max()) >= num_classes):
        bad = int(result.min()) if int(result.min()) < 0 else int(result.max())
        msg = f"{name} answered class {bad}, outside its {num_classes} classes (0 to {num_classes - 1})"
        raise InvalidInput(msg)
    return result


def check_scores(scores: Tensor, rows: int, num_classes: int, name: str, *, complete: bool = True) -> Tensor:
    """Return an answer as probabilities ``[rows, num_classes]`` or raise `InvalidInput`.

    Without ``complete``, rows need not sum to 1.
    """
    import torch

    if not isinstance(scores, torch.Tensor) or scores.shape != (rows, num_classes):
        msg = f"{name} answered scores of shape {_shape(scores)}; expected [{rows}, {num_classes}]"
        raise InvalidInput(msg)
    if not scores.is_floating_point():
        msg = f"{name} answered scores of type {scores.dtype}; expected floating point"
        raise InvalidInput(msg)
    result = _plain_floats(scores)
    if not bool(torch.isfinite(result).all()):
        msg = f"{name} answered scores that contain NaN or infinity"
        raise InvalidInput(msg)
    tolerance = 1e-2  # services round; anything further off is no probability
    if rows and not complete and (float(result.min()) < -tolerance or float(result.max()) > 1 + tolerance):
        msg = f"{name} answered scores outside [0, 1]"
        raise InvalidInput(msg)
    whole = not complete or not rows or float((result.sum(1) - 1).abs().max()) <= tolerance
    if rows and (float(result.min()) < -tolerance or not whole):
        msg = f"{name} answered scores that are not probabilities (each row must be >= 0 and sum to 1)"
        raise InvalidInput(msg)
    return result


def check_embeddings(features: Tensor, rows: int, name: str) -> Tensor:
    """Return an answer as finite features ``[rows, d]`` or raise `InvalidInput`."""
    import torch

    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != rows:  # noqa: PLR2004
        msg = f"{name} answered embeddings of shape {_shape(features)} for {rows} rows; expected [{rows}, d]"
        raise InvalidInput(msg)
    if not features.is_floating_point():
        msg = f"{name} answered embeddings of type {features.dtype}; expected floating point"
        raise InvalidInput(msg)
    result = _plain_floats(features)
    if not bool(torch.isfinite(result).all()):
        msg = f"{name} answered embeddings that contain NaN or infinity"
        raise InvalidInput(msg)
    return result


def _plain_floats(answer: Tensor) -> Tensor:
    import torch

    # Half precision is for the model's inside: journals and numpy know only these two.
    exact = answer.dtype in {torch.float32, torch.float64}
    return answer.detach().to("cpu", answer.dtype if exact else torch.float32)


def _shape(value: object) -> object:
    return list(getattr(value, "shape", ())) or type(value).__name__
