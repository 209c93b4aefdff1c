"""The conformance suite of defences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from assay.adapters import restrict
from assay.defences.base import Defence
from assay.errors import AccessDenied, AssayError, InvalidInput
from assay.model import Access, Model, accepts_missing, shows_complete_scores
from assay.testing.extraction import random_state, require_truth

__all__ = ["check_defence"]

_ROWS = 12
_ROUNDING = 1e-9
Wear = Callable[[Defence, Model], Model]


def check_defence(
    defence: Defence,
    *,
    model: Model | None = None,
    rows: Tensor | None = None,
    wear: Wear | None = None,
    stateful: bool = False,
) -> None:
    """Check that a defence keeps the contract, by default in front of a softmax model of 4 features.

    The defence is a documented frozen dataclass; it refuses models that offer less than
    it needs. What it dresses offers no weights and no access to labels and scores that
    the model does not offer; answers have the promised shape, dtype and range, rows sum
    to 1 where that is said, and labels agree with scores (and with the model's where the
    defence says that it keeps them); the same questions, asked of a model that was dressed
    again, get the same answers; the digest is the model's no more and tells settings
    apart; malformed inputs are refused; inputs and global random state stay as they were.

    Parameters
    ----------
    defence
        The defence.
    model
        What it is to dress.
    rows
        Inputs that the dressed model accepts, ``[n, *input_shape]``, at least 2; random
        ones unless given.
    wear
        How the defence is put on, for one whose `wear` alone does not do.
    stateful
        Whether answers may depend on what was asked before.

    Raises
    ------
    AssertionError
        With one sentence about what is wrong.

    Examples
    --------
    >>> from assay.defences import Rounding
    >>> check_defence(Rounding(digits=2))
    """
    _check_form(defence)
    behind = _softmax() if model is None else model
    dress: Wear = (lambda how, what: how.wear(what)) if wear is None else wear
    _check_needs(defence, behind, dress)
    dressed = dress(defence, behind)
    _check_access(defence, behind, dressed)
    if rows is None:
        drawn = np.random.default_rng(0).uniform(-1, 1, (_ROWS, *dressed.input_shape))
        rows = torch.from_numpy(drawn)
    before, kept = random_state(), rows.clone()
    _check_repeats(defence, lambda: dress(defence, behind), rows, stateful=stateful)
    _check_answers(defence, behind, dressed, rows, stateful=stateful)
    _check_digest(defence, behind, dress)
    _check_bad_input(defence, dressed, rows)
    require_truth(torch.equal(rows, kept), f"{defence.name} changed the inputs that it was given.")
    require_truth(random_state() == before, f"{defence.name} changed the global random state.")


def _check_form(defence: Defence) -> None:
    kind = type(defence)
    require_truth(
        isinstance(defence, Defence), f"{kind.__name__} must be a subclass of assay.defences.Defence."
    )
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    require_truth(frozen, f"{kind.__name__} must be a frozen dataclass of settings.")
    named = isinstance(getattr(kind, "name", None), str) and isinstance(getattr(kind, "needs", None), Access)
    require_truth(named, f"{kind.__name__} must state its name and the access that it needs.")
    words = "\n".join(c.__doc__ or "" for c in kind.__mro__ if c is not object)
    for field in dataclasses.fields(cast("Any", kind)):
        described = re.search(rf"^\s*([\w, ]+, )?{field.name}(, [\w, ]+)?\s*(:.*)?$", words, re.MULTILINE)
        require_truth(described, f"The setting {field.name} of {defence.name} is not documented.")


def _check_needs(defence: Defence, model: Model, dress: Wear) -> None:
    for level in (Access.LABELS, Access.EMBEDDINGS):
        if defence.needs in level or level not in model.access:
            continue
        try:
            dress(defence, restrict(model, level))
        except AccessDenied:
            continue
        require_truth(
            truth=False, sentence=f"{defence.name} must refuse a model that offers only {level.title}."
        )


def _check_access(defence: Defence, model: Model, dressed: Model) -> None:
    gained = dressed.access & Access.WEIGHTS & ~model.access
    require_truth(not gained, f"{defence.name} offers {gained.title}, which its model does not.")
    require_truth(Access.WEIGHTS not in dressed.access, f"{defence.name} offers the weights of its model.")
    shown = (value for name, value in vars(dressed).items() if not name.startswith("_"))
    bare = any(value is model or isinstance(value, nn.Module) for value in shown)
    require_truth(not bare, f"{defence.name} keeps its model in a public attribute.")
    x = torch.zeros(1, *dressed.input_shape, dtype=torch.float64)
    asks: dict[Access, Callable[[], object]] = {
        Access.LABELS: lambda: dressed.labels(x),
        Access.SCORES: lambda: dressed.scores(x),
        Access.EMBEDDINGS: lambda: dressed.embeddings(x),
        Access.WEIGHTS: lambda: dressed.module,
    }
    for level, ask in asks.items():
        if level in dressed.access:
            continue
        try:
            ask()
        except AccessDenied:
            continue
        except Exception as other:
            msg = f"{defence.name} must refuse {level.title} with AccessDenied, not {type(other).__name__}."
            raise AssertionError(msg) from other
        require_truth(truth=False, sentence=f"{defence.name} gives {level.title}, which it does not offer.")


def _check_answers(defence: Defence, model: Model, dressed: Model, rows: Tensor, *, stateful: bool) -> None:
    n, classes, name = len(rows), dressed.num_classes, defence.name
    labels = dressed.labels(rows) if Access.LABELS in dressed.access else None
    if labels is not None:
        fits = labels.shape == (n,) and labels.dtype == torch.int64
        require_truth(fits, f"{name} must answer labels int64 [n], not {labels.dtype} {list(labels.shape)}.")
        inside = bool((labels >= 0).all() and (labels < classes).all())
        require_truth(inside, f"{name} answers classes that do not exist.")
        none = tuple(dressed.labels(rows[:0]).shape)
        require_truth(none == (0,), f"{name} must answer no rows with no labels, not shape {none}.")
    if Access.SCORES in dressed.access:
        scores = dressed.scores(rows)
        fits = scores.shape == (n, classes) and scores.dtype == torch.float64
        found = f"{scores.dtype} {list(scores.shape)}"
        require_truth(fits, f"{name} must answer scores float64 [n, {classes}], not {found}.")
        proper = bool(((scores >= 0) & (scores <= 1 + _ROUNDING)).all())
        require_truth(proper, f"{name} shows scores outside [0, 1].")
        whole = float((scores.sum(1) - 1).abs().max()) <= _ROUNDING * classes
        complete = shows_complete_scores(dressed)
        require_truth(whole or not complete, f"Rows of {name} do not sum to 1, and it does not say so.")
        none = tuple(dressed.scores(rows[:0]).shape)
        require_truth(none == (0, classes), f"{name} must answer no rows with no scores, not shape {none}.")
        if labels is not None and not stateful:
            own = scores.gather(1, labels[:, None])[:, 0]
            agree = bool((own >= scores.amax(1) - _ROUNDING).all())
            require_truth(agree, f"Labels of {name} are not those of its largest scores.")
    keeps = getattr(defence, "keeps_label", False) or getattr(defence, "keep_label", False)
    if keeps and labels is not None and dressed.input_shape == tuple(model.input_shape):
        same = torch.equal(labels, model.labels(rows))
        require_truth(same, f"{name} says that labels stay as they are, and changes some.")


def _asked(dressed: Model, rows: Tensor) -> list[Tensor]:
    asks = [(Access.LABELS, "labels"), (Access.SCORES, "scores"), (Access.EMBEDDINGS, "embeddings")]
    return [getattr(dressed, kind)(rows) for level, kind in asks if level in dressed.access]


def _check_repeats(defence: Defence, dress: Callable[[], Model], rows: Tensor, *, stateful: bool) -> None:
    def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    first = dress()
    answers = _asked(first, rows)
    again = same(answers, _asked(dress(), rows))
    require_truth(again, f"{defence.name}, worn twice with the same settings, answers differently.")
    if stateful:
        return
    require_truth(same(answers, _asked(first, rows)), f"{defence.name} answers a question differently later.")
    back = [part.flip(0) for part in _asked(first, rows.flip(0))]
    close = all(torch.allclose(a, b, rtol=0, atol=_ROUNDING) for a, b in zip(answers, back, strict=True))
    require_truth(close, f"Answers of {defence.name} depend on the order of the questions.")


def _check_digest(defence: Defence, model: Model, dress: Wear) -> None:
    digest = dress(defence, model).digest
    require_truth(digest != model.digest, f"A model behind {defence.name} has the digest of the bare one.")
    again = dress(defence, model).digest
    require_truth(digest == again, f"The digest of {defence.name} is another each time.")
    for field in dataclasses.fields(cast("Any", defence)):
        try:
            other = dataclasses.replace(
                cast("Any", defence), **{field.name: _another(getattr(defence, field.name))}
            )
            differs = dress(other, model).digest != digest
        except (AssayError, TypeError, ValueError, OSError):
            continue  # no other value is known that this defence takes
        require_truth(differs, f"The digest of {defence.name} does not tell values of {field.name} apart.")


def _another(value: Any) -> Any:
    """Return a value of the same kind that most settings accept."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 0.75 * value or 0.25
    if isinstance(value, str):
        return value + "00"
    msg = f"no other value is known for {value!r}"
    raise ValueError(msg)


def _check_bad_input(defence: Defence, dressed: Model, rows: Tensor) -> None:
    broken = rows.clone()
    broken.reshape(len(rows), -1)[0, 0] = torch.inf
    wrong = {
        "an infinity": broken,
        "whole numbers": rows.to(torch.int64),
        "one feature too many": torch.cat([rows, rows[..., :1]], dim=-1),
        "a row without its batch": rows[0],
    }
    if not accepts_missing(dressed):
        hole = rows.clone()
        hole.reshape(len(rows), -1)[0, 0] = torch.nan
        wrong["NaN"] = hole
    asks = [(Access.LABELS, "labels"), (Access.SCORES, "scores"), (Access.EMBEDDINGS, "embeddings")]
    for what, x in wrong.items():
        for kind in (kind for level, kind in asks if level in dressed.access):
            try:
                getattr(dressed, kind)(x)
            except InvalidInput:
                continue
            except Exception as other:
                msg = f"{defence.name}, given {what}, must raise InvalidInput, not {type(other).__name__}."
                raise AssertionError(msg) from other
            require_truth(truth=False, sentence=f"{defence.name} must refuse {what} with InvalidInput.")


def _softmax() -> Model:
    from assay.adapters.sklearn_model import SklearnModel
    from assay.extraction.exact.linear_models import as_softmax

    rng = np.random.default_rng(0)
    return SklearnModel(as_softmax(rng.normal(0, 1, (3, 4)), rng.normal(0, 0.2, 3)), name="softmax")
