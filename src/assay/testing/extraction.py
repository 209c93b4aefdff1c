"""The conformance suite of extraction attacks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.datasets import load_digits

from assay.data.dataset import Dataset
from assay.errors import AccessDenied, AssayError, BudgetExceeded, InvalidInput
from assay.extraction.base import Attack, Extraction, ExtractionRecord
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.testing.spy import SpyModel

__all__ = ["check_extraction", "check_form", "random_state", "require_truth"]

_SHAPE, _CLASSES = (1, 8, 8), 10
_EVERYTHING = Access.WEIGHTS | Access.EMBEDDINGS


def check_extraction(attack: Attack, *, rows: int = 120) -> None:
    """Check that an attack keeps the contract, on handwritten digits and a small victim.

    The attack is a documented frozen dataclass; it refuses victims that offer too
    little and inputs that do not fit, before anything is asked; every row that reached
    the victim is in the ledger's count and inside the budget; only the declared access
    is used; inputs, victim and global random state stay as they were; the same seed
    gives the same copy, a journal answers a repeated run without the victim, and the
    record survives JSON.

    Parameters
    ----------
    attack
        The attack, with hyperparameters that make it fast.
    rows
        Size of the attacker's pool, 12 to 1000.

    Raises
    ------
    AssertionError
        With one sentence about what is wrong.

    Examples
    --------
    >>> from assay.extraction import SourceCopy
    >>> check_extraction(SourceCopy(), rows=20)
    """
    check_form(attack)
    pool = _digits(rows)
    _check_refusals(attack, pool)
    _check_run(attack, pool)
    _check_budget(attack, pool)


def require_truth(truth: object, sentence: str) -> None:
    """Raise `AssertionError` with the sentence unless the truth holds."""
    if not truth:
        raise AssertionError(sentence)


def check_form(attack: Attack) -> None:
    """Check that an attack is a documented frozen dataclass with a name and needs."""
    kind = type(attack)
    require_truth(
        isinstance(attack, Attack), f"{kind.__name__} must be a subclass of assay.extraction.Attack."
    )
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    require_truth(frozen, f"{kind.__name__} must be a frozen dataclass of hyperparameters.")
    named = isinstance(getattr(kind, "name", None), str) and isinstance(getattr(kind, "needs", None), Access)
    require_truth(named, f"{kind.__name__} must state its name and the access that it needs.")
    words = "\n".join(c.__doc__ or "" for c in kind.__mro__ if c is not object)
    for field in dataclasses.fields(cast("Any", kind)):
        described = re.search(rf"^\s*([\w, ]+, )?{field.name}(, [\w, ]+)?\s*(:.*)?$", words, re.MULTILINE)
        require_truth(described, f"The hyperparameter {field.name} of {attack.name} is not documented.")


def _check_refusals(attack: Attack, pool: Dataset) -> None:
    levels = (Access.NONE, Access.LABELS, Access.SCORES, Access.EMBEDDINGS, Access.WEIGHTS)
    for level in (level for level in levels if attack.needs not in level):
        spy = _victim(level)
        with _refused(spy, AccessDenied, f"{attack.name}, given a victim that offers only {level.title},"):
            attack.run(spy, pool)
    narrow = Dataset(pool.x[..., :-1], pool.y, pool.classes, name="narrow digits")
    foreign = Dataset(pool.x, pool.y, (*pool.classes, "another"), name="digits of 11 classes")
    for wrong in (narrow, foreign, pool.subset([])):
        spy = _victim(_EVERYTHING)
        with _refused(spy, InvalidInput, f"{attack.name}, given {len(wrong)} {wrong.name},"):
            attack.run(spy, wrong)


@contextlib.contextmanager
def _refused(spy: SpyModel, error: type[AssayError], who: str) -> Iterator[None]:
    try:
        yield
    except error:
        require_truth(spy.rows == 0, f"{who} asked {spy.rows} rows before it refused.")
    except Exception as other:
        msg = f"{who} must raise {error.__name__}, not {type(other).__name__}: {other}"
        raise AssertionError(msg) from other
    else:
        msg = f"{who} must raise {error.__name__}."
        raise AssertionError(msg)


def _check_run(attack: Attack, pool: Dataset) -> None:
    spy, x, y, before = _victim(_EVERYTHING), pool.x.clone(), pool.y.clone(), random_state()
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        first = attack.run(spy, pool, rng=3, journal=journal)
        require_truth(random_state() == before, f"{attack.name} changed the global random state.")
        same = torch.equal(pool.x, x) and torch.equal(pool.y, y)
        require_truth(same, f"{attack.name} modified the pool that it was given.")
        counted = first.record.cost.queries
        require_truth(
            spy.rows == counted,
            f"{attack.name} went around the ledger, which counted {counted} of {spy.rows} answered rows.",
        )
        more = f"{attack.name} declares {attack.needs.title} but used {spy.used.title} of the victim."
        require_truth(spy.used in attack.needs, more)
        changed = spy.changes()
        require_truth(not changed, f"{attack.name} changed the victim: {', '.join(changed[:3])}.")
        again = attack.run(spy, pool, rng=3, journal=journal, evaluation=_digits(100, skip=1200))
        _check_repeated(attack, spy, first, again)
    _check_record(attack, first.record)
    _check_record(attack, again.record)
    scores = first.surrogate.scores(pool.x[:3])
    require_truth(
        scores.shape == (3, _CLASSES), f"The copy of {attack.name} does not answer like the victim."
    )


def _check_repeated(attack: Attack, spy: SpyModel, first: Extraction, again: Extraction) -> None:
    same = first.surrogate.digest == again.surrogate.digest
    require_truth(same, f"{attack.name} made two different copies with the same seed.")
    counted, measured = first.record.cost.queries, 100
    # Calls of the module itself cannot be replayed; everything else must come from the journal.
    asked = spy.rows - counted - measured
    expected = counted if Access.WEIGHTS in attack.needs else 0
    require_truth(asked <= expected, f"{attack.name} asked {asked} rows again that its journal already held.")
    require_truth(again.record.cost.queries == counted, f"{attack.name} counted replayed rows differently.")


def _check_record(attack: Attack, record: ExtractionRecord) -> None:
    same = ExtractionRecord.from_json(record.to_json()) == record
    require_truth(same, f"The record of {attack.name} is not the same after a round trip through JSON.")
    require_truth(record.attack == attack.name, f"The record of {attack.name} names {record.attack}.")


def _check_budget(attack: Attack, pool: Dataset) -> None:
    for budget in (0, len(pool) // 3):
        spy = _victim(_EVERYTHING)
        try:
            counted = attack.run(spy, pool, budget=budget).record.cost.queries
        except (BudgetExceeded, InvalidInput):
            counted = 0
        most = max(counted, spy.rows)
        require_truth(most <= budget, f"{attack.name} spent {most} queries of a budget of {budget}.")
    spy = _victim(_EVERYTHING)
    budget = len(pool) // 3
    with contextlib.suppress(BudgetExceeded):  # the whole pool, as if nobody had cut it to the budget
        attack.steal(Ledger(spy, attack.needs, budget=budget), pool, rng=0)
    require_truth(spy.rows <= budget, f"{attack.name} spent {spy.rows} queries of a budget of {budget}.")


def random_state() -> tuple[object, ...]:
    """Return the global random state of torch, numpy and Python, to be compared."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what must not change
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        kind,
        np.asarray(keys).tobytes(),
        *rest,
    )


@functools.cache
def _all_digits() -> Dataset:
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = (data.images[order] / 16).astype(np.float32)[:, None]
    return Dataset.from_arrays(images, data.target[order], name="digits")


def _digits(rows: int, skip: int = 200) -> Dataset:
    return _all_digits().subset(range(skip, skip + rows))


@functools.cache
def _weights() -> dict[str, torch.Tensor]:
    network = build("cnn-8", _SHAPE, _CLASSES, 0)
    train(network, _digits(200, skip=0), Recipe(epochs=8, batch_size=32), rng=0)
    return network.state_dict()


def _victim(access: Access) -> SpyModel:
    network = build("cnn-8", _SHAPE, _CLASSES, 0)
    network.load_state_dict(_weights())
    return SpyModel(network.eval(), _SHAPE, _CLASSES, access)
