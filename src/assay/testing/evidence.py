"""What every kind of evidence must keep, as one call for authors of schemes."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.errors import AccessDenied, AssayError, BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Scheme, load_evidence
from assay.model import Access, Model
from assay.result import TestResult, Verdict
from assay.statistics import uniformity
from assay.testing.watched import Spy, demand

__all__ = ["check_evidence"]

_LEVEL = 0.001  # of the uniformity test: one false alarm in a thousand schemes


def check_evidence(
    scheme: Scheme,
    evidence: Evidence,
    independent_models: Sequence[Model],
    guilty: Model | None = None,
    *,
    alpha: float = 0.01,
    pairs: int = 100,
) -> TestResult:
    """Check that a scheme keeps the contract of `assay.evidence.base`.

    Access declared and honoured; every row that reaches the suspect counted, seen from
    below the meter; the budget respected; the same seed gives the same verdict; a saved
    bundle gives the same commitment and verdict, and any change to it is noticed; other
    shapes and classes refused before a query; verdicts survive JSON; model and global
    random state untouched; p-values of models that never saw the secret not smaller than
    uniform ones over decoy secrets; the guilty model called stolen.

    Parameters
    ----------
    scheme
        The scheme under test.
    evidence
        Evidence that it made.
    independent_models
        Models that never saw the secret, at least one.
    guilty
        A model that carries the evidence, if there is one.
    alpha
        Level of the verdicts, in (0, 0.5].
    pairs
        At least so many (model, decoy) pairs enter the check of p-values.

    Returns
    -------
    TestResult
        The check of p-values: `assay.statistics.uniformity`, one-sided.

    Raises
    ------
    AssertionError
        With a sentence that says which promise was broken.
    InvalidInput
        If no independent model is given.

    Examples
    --------
    >>> from assay.data.embedded import breast_cancer
    >>> from assay.evidence.watermarks import TriggerSet
    >>> from assay.nets import Recipe
    >>> scheme, fast = TriggerSet(triggers=32), Recipe(epochs=10, optimizer="adam", lr=0.02)
    >>> made = scheme.embed(
    ...     breast_cancer(), architecture="mlp-64", recipe=fast, compare_unmarked=True, key=1
    ... )
    >>> check_evidence(scheme, made.evidence, [made.unmarked], made.model, pairs=20).p_value > 0.001
    True
    """
    if not independent_models:
        msg = "check_evidence needs at least one independent model"
        raise InvalidInput(msg)
    demand(evidence.scheme == scheme, "the evidence does not carry the scheme that made it")
    suspect = independent_models[0] if guilty is None else guilty
    with _untouched([*independent_models, *([] if guilty is None else [guilty])]):
        verdict = _check_access(evidence, suspect, alpha)
        _check_budget(evidence, suspect, alpha, verdict)
        _check_refusals(evidence, suspect, alpha)
        _check_bundle(evidence, suspect, alpha, verdict)
        if guilty is not None:
            demand(
                verdict.stolen,
                f"the guilty model is not called stolen: p = {verdict.p_value:.3g} at {alpha:g}",
            )
        return _check_level(evidence, independent_models, alpha, pairs)


def _ask(
    evidence: Evidence, model: Model, alpha: float, access: Access | None = None, **options: Any
) -> Verdict:
    """Verify through a spy that offers the least access, or ``access``; check what holds of every verdict."""
    offered = evidence.needs if access is None else access
    allowed = evidence.scheme.grant(offered)
    spy = Spy(model, offered, allowed)
    verdict = evidence.verify(spy, alpha=alpha, **options)
    demand(
        not spy.forbidden,
        f"the scheme was granted {allowed.title or 'no access'}, but used {sorted(spy.forbidden)}",
    )
    demand(
        spy.rows == verdict.queries,
        f"the suspect answered {spy.rows} rows, the verdict counts {verdict.queries}: some bypassed it",
    )
    demand(0 < verdict.p_value <= 1, f"a p-value must be in (0, 1], got {verdict.p_value}")
    demand(verdict.stolen == (verdict.p_value <= alpha), "a verdict must be stolen exactly when p <= alpha")
    again = Verdict.from_json(verdict.to_json())
    demand(again.to_dict() == verdict.to_dict(), "the verdict changes on its way through JSON")
    return verdict


def _check_access(evidence: Evidence, suspect: Model, alpha: float) -> Verdict:
    demand(evidence.needs in suspect.access, f"the given suspect does not offer {evidence.needs.title}")
    verdict = _ask(evidence, suspect, alpha)
    demand(verdict.assumptions, "a verdict must state what its p-value rests on")
    if evidence.needs:
        blind = Spy(suspect, Access.NONE)
        _refused(AccessDenied, lambda: evidence.verify(blind, alpha=alpha), "a suspect without access")
        demand(blind.rows == 0, "a suspect that offers too little was asked all the same")
    second = _ask(evidence, suspect, alpha)
    demand(_lasting(verdict) == _lasting(second), "the same seed gives two different verdicts")
    _ask(evidence, suspect, alpha, suspect.access)
    return verdict


def _check_budget(evidence: Evidence, suspect: Model, alpha: float, verdict: Verdict) -> None:
    enough = _ask(evidence, suspect, alpha, budget=verdict.queries).queries
    demand(enough <= verdict.queries, f"{enough} queries were made on a budget of {verdict.queries}")
    for budget in sorted({0, verdict.queries // 2, verdict.queries - 1} & set(range(verdict.queries))):
        spy = Spy(suspect, evidence.needs)
        try:
            evidence.verify(spy, alpha=alpha, budget=budget)
        except BudgetExceeded:
            pass
        except AssayError as error:
            msg = f"a budget of {budget} must raise BudgetExceeded or be kept, not {error!r}"
            raise AssertionError(msg) from error
        else:
            demand(budget > 0, "a verdict was given for a budget of 0 queries")
        demand(spy.rows <= budget, f"{spy.rows} rows were asked on a budget of {budget}")


def _check_refusals(evidence: Evidence, suspect: Model, alpha: float) -> None:
    wide, odd = Spy(suspect, evidence.needs), Spy(suspect, evidence.needs)
    wide.num_classes += 1
    odd.input_shape = (*odd.input_shape, 1)
    _refused(InvalidInput, lambda: evidence.verify(wide, alpha=alpha), "a suspect with another class")
    _refused(InvalidInput, lambda: evidence.verify(odd, alpha=alpha), "a suspect with another input shape")
    demand(wide.rows + odd.rows == 0, "a suspect that does not fit was asked all the same")
    for wrong in (0.0, 0.6, float("nan")):
        _refused(InvalidInput, partial(evidence.verify, suspect, alpha=wrong), f"alpha = {wrong}")


def _check_bundle(evidence: Evidence, suspect: Model, alpha: float, verdict: Verdict) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = evidence.save(Path(scratch) / "bundle")
        again = load_evidence(folder)
        demand(again.commitment == evidence.commitment, "the commitment changes on its way through a bundle")
        demand(
            again.scheme == evidence.scheme, "the scheme's parameters change on their way through a bundle"
        )
        repeated = _ask(again, suspect, alpha)
        demand(
            _lasting(repeated) == _lasting(verdict),
            "evidence from a bundle gives another verdict than before",
        )
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            content = file.read_bytes()
            changes = _edits(content) if file.suffix == ".json" else _flips(content)
            for what, changed in changes:
                file.write_bytes(changed)
                _refused(
                    InvalidInput if what == "schema" else EvidenceTampered,
                    lambda: load_evidence(folder),
                    f"a bundle with a changed {file.name} ({what})",
                )
            file.unlink()
            _refused(InvalidInput, lambda: load_evidence(folder), f"a bundle without {file.name}")
            file.write_bytes(content)


def _check_level(evidence: Evidence, models: Sequence[Model], alpha: float, pairs: int) -> TestResult:
    each = -(-pairs // len(models))
    p_values: list[float] = []
    for number, model in enumerate(models):
        seen = {evidence.commitment}
        for turn, decoy in enumerate(evidence.decoys(each, rng=number)):
            seen.add(decoy.commitment)
            demand(decoy.needs == evidence.needs, "a decoy needs other access than the evidence")
            p_values.append(_ask(decoy, model, alpha, rng=turn).p_value)
        demand(
            len(seen) == each + 1, f"{each} decoys were asked for, {len(seen) - 1} distinct ones were given"
        )
    result = uniformity(p_values)
    demand(
        result.p_value > _LEVEL,
        f"p-values of {len(models)} independent models over {len(p_values)} decoys are too small "
        f"(Kolmogorov-Smirnov p = {result.p_value:.2g}, smallest {min(p_values):.2g})",
    )
    return result


def _refused(kind: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except kind:
        return
    except Exception as error:
        msg = f"{what} must raise {kind.__name__}, not {error!r}"
        raise AssertionError(msg) from error
    msg = f"{what} was accepted; it must raise {kind.__name__}"
    raise AssertionError(msg)


def _lasting(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict without the wall clock."""
    content = verdict.to_dict()
    content["cost"].pop("seconds")
    return content


def _flips(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the file with one byte changed, at several places."""
    for place in sorted({0, len(content) // 4, len(content) // 2, len(content) - 1}):
        changed = bytearray(content)
        changed[place] ^= 1
        yield f"byte {place}", bytes(changed)


def _edits(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a JSON object with one field changed or left out, at every depth."""
    manifest = json.loads(content)
    for path in _paths(manifest):
        for leave_out in (False, True):
            changed = json.loads(content)
            place = changed
            for step in path[:-1]:
                place = place[step]
            if leave_out:
                del place[path[-1]]
            else:
                place[path[-1]] = _other(place[path[-1]])
            yield ".".join(map(str, path)), json.dumps(changed).encode()


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (key,)
        if isinstance(inner, dict | list):
            yield from ((key, *rest) for rest in _paths(inner))


def _other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "0"
    return [*value, 0] if isinstance(value, list) else {**value, "extra": 0}


@contextlib.contextmanager
def _untouched(models: Sequence[Model]) -> Iterator[None]:
    """Check that models and global random state are afterwards what they were before."""
    before = _state(models)
    yield
    after = _state(models)
    for what, value in before.items():
        demand(after[what] == value, f"verification changed {what}")


def _state(models: Sequence[Model]) -> dict[str, object]:
    # The legacy state is read on purpose: it is the one that must be left alone.
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    state: dict[str, object] = {
        "Python's global random state": random.getstate(),
        "NumPy's global random state": repr(numpy_state),
        "PyTorch's global random state": torch.get_rng_state().numpy().tobytes(),
        "PyTorch's gradient mode": torch.is_grad_enabled(),
        "PyTorch's default dtype": torch.get_default_dtype(),
    }
    for model in models:
        if Access.WEIGHTS in model.access:
            module = model.module
            tensors = {k: v.detach().cpu().numpy().tobytes() for k, v in module.state_dict().items()}
            flags = [m.training for m in module.modules()], [p.requires_grad for p in module.parameters()]
            state[f"the network of {model.name} ({model.digest[:8]})"] = (tensors, flags)
    return state
