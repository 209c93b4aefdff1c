"""scikit-learn classifiers, in memory or from skops files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.adapters.answers import Answer
from assay.adapters.base import BatchedModel
from assay.errors import InvalidInput, MissingDependency
from assay.model import Access

__all__ = ["SklearnModel", "load_skops"]


class SklearnModel(BatchedModel):
    """A fitted classifier or pipeline; inputs are flattened to the table it was fitted on.

    Class ``i`` is ``classes_[i]``, and scikit-learn sorts ``classes_``: labels 0 to k-1
    stay what they are, others (3 and 7, or names) are numbered in sorted order.

    Parameters
    ----------
    estimator
        Anything with ``predict`` and ``classes_``. ``predict_proba``, where present,
        gives scores; without it only labels are offered.
    input_shape
        Shape of one input, whose size is the number of columns; a row of
        ``n_features_in_`` unless given.
    name
        How messages and reports call it.
    access
        What to offer, at most scores.
    batch_size
        Rows to predict at a time.
    digest
        SHA-256 of the file it came from; unless given, the fitted state is hashed where
        it can be, and named by its class otherwise.

    Raises
    ------
    InvalidInput
        If the estimator is no fitted single-output classifier or the shape does not fit.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> fitted = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [3, 3, 7, 7])
    >>> SklearnModel(fitted).labels(torch.tensor([[0.0], [3.0]]))
    tensor([0, 1])
    """

    def __init__(
        self,
        estimator: Any,
        input_shape: Sequence[int] | None = None,
        *,
        name: str = "estimator",
        access: Access | None = None,
        batch_size: int = 4096,
        digest: str | None = None,
    ) -> None:
        try:
            fitted = callable(estimator.predict) and estimator.classes_ is not None
            classes = np.asarray(estimator.classes_) if fitted else np.empty(0)
        except (AttributeError, ValueError) as error:
            msg = (
                f"{name} ({type(estimator).__name__}) is no fitted classifier: it needs predict and classes_"
            )
            raise InvalidInput(msg) from error
        if classes.ndim != 1 or isinstance(estimator.classes_, list):
            msg = f"{name} predicts several outputs; give a classifier of one"
            raise InvalidInput(msg)
        columns = getattr(estimator, "n_features_in_", None)
        if input_shape is None and columns is None:
            msg = f"{name} does not say how many columns it takes; pass input_shape"
            raise InvalidInput(msg)
        shape = (int(columns),) if input_shape is None and columns is not None else tuple(input_shape or ())
        super().__init__(
            name=name,
            input_shape=shape,
            digest=digest or _state_digest(estimator),
            batch_size=batch_size,
            outputs="probabilities",
        )
        if columns is not None and math.prod(self.input_shape) != columns:
            msg = f"{name} takes {columns} columns, but inputs of shape {shape} have {math.prod(shape)}"
            raise InvalidInput(msg)
        self._estimator, self._classes = estimator, classes
        # Some estimators (SVC) have the method only when they were fitted for it.
        self._graded = hasattr(estimator, "predict_proba")
        self._offer(len(classes), access, Access.SCORES if self._graded else Access.LABELS)

    @property
    def estimator(self) -> Any:
        """The fitted classifier itself, for its owner; what restricts access does not pass it on."""
        return self._estimator

    def _ask(self, x: Tensor) -> Answer:
        table = x.flatten(1).cpu().numpy()
        try:
            predicted = np.asarray(self._estimator.predict(table))
            scores = np.asarray(self._estimator.predict_proba(table)) if self._graded else None
        except ValueError as error:
            msg = f"{self.name} refuses inputs of shape {list(table.shape)}: {error}"
            raise InvalidInput(msg) from error
        position = np.searchsorted(self._classes, predicted).clip(max=len(self._classes) - 1)
        if predicted.shape != (len(x),) or not np.array_equal(self._classes[position], predicted):
            msg = f"{self.name} predicted something outside its classes_"
            raise InvalidInput(msg)
        labels = torch.from_numpy(position.astype(np.int64))
        return Answer(labels, None if scores is None else torch.from_numpy(scores.astype(np.float64)))


def load_skops(
    path: str | Path,
    input_shape: Sequence[int] | None = None,
    *,
    trust: Sequence[str] = (),
    name: str | None = None,
    access: Access | None = None,
    batch_size: int = 4096,
) -> SklearnModel:
    """Open a skops file, whose types must be known to skops or named by the caller.

    Parameters
    ----------
    path
        File written by ``skops.io.dump``.
    input_shape, name, access, batch_size
        See `SklearnModel`.
    trust
        Full names of further types that may be built, such as
        ``"sklearn.tree._tree.Tree"``. Only exact names count.

    Raises
    ------
    InvalidInput
        If the file is damaged or needs types that nobody trusts.
    MissingDependency
        Without skops.
    """
    try:
        from skops.io import get_untrusted_types, loads
    except ImportError as error:
        msg = "reading .skops files needs skops; install it with: pip install 'assay-ml[skops]'"
        raise MissingDependency(msg) from error
    source = Path(path)
    try:
        # One read: the bytes that were inspected are the bytes that are loaded.
        data = source.read_bytes()
        unknown = set(get_untrusted_types(data=data)) - set(trust)
    except Exception as error:  # skops fails on forged schemas in many ways
        msg = f"cannot read {source} as a skops file: {error}"
        raise InvalidInput(msg) from error
    if unknown:
        names = ", ".join(sorted(unknown))
        msg = f"{source} would build types that are not trusted: {names}; name them in trust if you know them"
        raise InvalidInput(msg)
    try:
        estimator = loads(data, trusted=list(trust))
    except Exception as error:
        msg = f"cannot load {source}: {error}"
        raise InvalidInput(msg) from error
    digest = hashlib.sha256(data).hexdigest()
    return SklearnModel(
        estimator,
        input_shape,
        name=name or source.stem,
        access=access,
        batch_size=batch_size,
        digest=digest,
    )


def _state_digest(estimator: Any) -> str:
    import joblib  # type: ignore[import-untyped]  # comes with scikit-learn, untyped

    try:
        return hashlib.sha256(joblib.hash(estimator, hash_name="sha1").encode()).hexdigest()
    except Exception:  # noqa: BLE001 - state that cannot be hashed gets an address instead
        return f"object:{type(estimator).__module__}:{type(estimator).__qualname__}"
