"""The conformance suite of removal attacks."""

from __future__ import annotations

import contextlib
import copy
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
from torch import Tensor, nn

from assay.adapters import open_model
from assay.data.dataset import Dataset
from assay.data.embedded import digits
from assay.errors import AccessDenied, AssayError, InvalidInput
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.removal.base import Removal, RemovalRecord, Removed
from assay.testing.spy import SpyModel

__all__ = ["check_removal"]

_SHAPE, _CLASSES = (1, 8, 8), 10
_EVALUATED = 100


def check_removal(removal: Removal, *, rows: int = 120) -> None:
    """Check that a removal attack keeps the contract, on handwritten digits and a small copy.

    The attack is a documented frozen dataclass; it refuses models without weights, and
    data that are missing, empty or do not fit; model, data and global random state stay
    as they were; the same seed gives the same washed model, whatever the global random
    state; the washed model shares no memory with the one before, has finite weights and
    answers like it; the record is true and survives JSON, and what is saved opens again.

    Parameters
    ----------
    removal
        The attack, with hyperparameters that make it fast.
    rows
        Size of the thief's data, 12 to 1000.

    Raises
    ------
    AssertionError
        With one sentence about what is wrong.

    Examples
    --------
    >>> from assay.removal import WeightQuantisation
    >>> check_removal(WeightQuantisation(bits=8), rows=20)
    """
    _check_form(removal)
    data = _digits(rows)
    _check_refusals(removal, data)
    _check_runs(removal, data)


def _require(truth: object, sentence: str) -> None:
    if not truth:
        raise AssertionError(sentence)


def _check_form(removal: Removal) -> None:
    kind = type(removal)
    _require(isinstance(removal, Removal), f"{kind.__name__} must be a subclass of assay.removal.Removal.")
    frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    _require(frozen, f"{kind.__name__} must be a frozen dataclass of hyperparameters.")
    _require(isinstance(getattr(kind, "name", None), str), f"{kind.__name__} must state its name.")
    says = isinstance(removal.needs_data, bool)
    _require(says, f"{removal.name} must say by True or False whether it needs data.")
    words = "\n".join(c.__doc__ or "" for c in kind.__mro__ if c is not object)
    for field in dataclasses.fields(cast("Any", kind)):
        described = re.search(rf"^\s*([\w, ]+, )?{field.name}(, [\w, ]+)?\s*(:.*)?$", words, re.MULTILINE)
        _require(described, f"The hyperparameter {field.name} of {removal.name} is not documented.")


def _check_refusals(removal: Removal, data: Dataset) -> None:
    who = removal.name
    for level in (Access.NONE, Access.LABELS, Access.SCORES, Access.EMBEDDINGS):
        with _refused(AccessDenied, f"{who}, given a model that offers only {level.title},"):
            removal.run(_copy(level), data)
    narrow = Dataset(data.x[..., :-1], data.y, data.classes, name="narrow digits")
    foreign = Dataset(data.x, data.y, (*data.classes, "another"), name="digits of 11 classes")
    for wrong in (narrow, foreign, data.subset([], "no digits")):
        for given, evaluation in ((wrong, None), (data, wrong)):
            role = "data" if evaluation is None else "evaluation"
            with _refused(InvalidInput, f"{who}, given {wrong.name} as {role},"):
                removal.run(_copy(), given, evaluation=evaluation)
    if removal.needs_data:
        with _refused(InvalidInput, f"{who}, given no data,"):
            removal.run(_copy())
    else:
        _require(removal.run(_copy()).record.rows == 0, f"{who} counted rows of data that it was not given.")


@contextlib.contextmanager
def _refused(error: type[AssayError], who: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    except Exception as other:
        msg = f"{who} must raise {error.__name__}, not {type(other).__name__}: {other}"
        raise AssertionError(msg) from other
    msg = f"{who} must raise {error.__name__}."
    raise AssertionError(msg)


def _check_runs(removal: Removal, data: Dataset) -> None:
    who, model, evaluation = removal.name, _copy(), _digits(_EVALUATED, skip=1200)
    sets = [(each, each.x.clone(), each.y.clone()) for each in (data, evaluation)]
    before = _random_state()
    first = removal.run(model, data, evaluation=evaluation, rng=3)
    _require(_random_state() == before, f"{who} changed the global random state.")
    for each, x, y in sets:
        same = torch.equal(each.x, x) and torch.equal(each.y, y)
        _require(same, f"{who} modified the data that it was given.")
    changed = model.changes()
    _require(not changed, f"{who} changed the model that it was given: {', '.join(changed[:3])}.")
    _check_washed(removal, model, first.model.module, data)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        again = removal.run(model, data, evaluation=evaluation, rng=3)
    same = first.record.washed == again.record.washed
    _require(same, f"{who} made two different models with the same seed.")
    _check_record(removal, model, first, data)


def _check_washed(removal: Removal, model: SpyModel, washed: nn.Module, data: Dataset) -> None:
    who = removal.name
    theirs = {t.data_ptr() for t in _tensors(model.module)}
    shared = any(t.data_ptr() in theirs for t in _tensors(washed))
    _require(not shared, f"The model washed by {who} shares memory with the one that it was given.")
    finite = all(bool(torch.isfinite(t).all()) for t in _tensors(washed) if t.is_floating_point())
    _require(finite, f"{who} ended in weights that are not finite.")
    still = not any(part.training for part in washed.modules())
    _require(still, f"{who} left the washed model in training mode.")
    # A mask that was forgotten would freeze or change weights in whatever is done next.
    hooked = any(p._backward_hooks for p in washed.parameters())  # noqa: SLF001 - hooks have no other name
    _require(not hooked, f"{who} left gradient hooks on the washed model's weights.")
    copy.deepcopy(washed)
    with torch.no_grad():
        answer = washed(data.x[:3])
    fits = isinstance(answer, Tensor) and answer.shape == (3, _CLASSES) and answer.is_floating_point()
    _require(fits, f"The model washed by {who} does not answer like the one that it was given.")


def _check_record(removal: Removal, model: SpyModel, done: Removed, data: Dataset) -> None:
    who, record = removal.name, done.record
    same = RemovalRecord.from_json(record.to_json()) == record
    _require(same, f"The record of {who} is not the same after a round trip through JSON.")
    _require(record.removal == who, f"The record of {who} names {record.removal}.")
    told = record.model == model.digest and record.washed == done.model.digest
    _require(told, f"The record of {who} does not hold the digests of the two models.")
    told = record.rows == len(data) and record.seed == 3  # noqa: PLR2004 - as given above
    _require(told, f"The record of {who} does not say the seed and the number of rows.")
    measured = None not in (record.accuracy_before, record.accuracy, record.fidelity)
    _require(measured, f"The record of {who} lacks accuracy or fidelity though rows for them were given.")
    with tempfile.TemporaryDirectory() as folder:
        done.save(folder)
        found = RemovalRecord.load(Path(folder) / "removal.json") == record
        _require(found, f"What {who} saved is not its record.")
        opened = open_model(Path(folder) / "model.safetensors", access="labels")
        _require(opened.digest == record.washed, f"What {who} saved is not the washed model.")


def _tensors(module: nn.Module) -> list[Tensor]:
    return [t for t in (*module.parameters(), *module.buffers()) if t.numel()]


def _random_state() -> tuple[object, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what must not change
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        kind,
        np.asarray(keys).tobytes(),
        *rest,
    )


def _digits(rows: int, skip: int = 200) -> Dataset:
    return _all_digits().subset(range(skip, skip + rows))


@functools.cache
def _all_digits() -> Dataset:
    data = digits()
    return data.subset(np.random.default_rng(0).permutation(len(data)))


@functools.cache
def _weights() -> dict[str, Tensor]:
    network = build("cnn-8", _SHAPE, _CLASSES, 0)
    train(network, _digits(200, skip=0), Recipe(epochs=8, batch_size=32), rng=0)
    return network.state_dict()


def _copy(access: Access = Access.WEIGHTS | Access.EMBEDDINGS) -> SpyModel:
    network = build("cnn-8", _SHAPE, _CLASSES, 0)
    network.load_state_dict(_weights())
    return SpyModel(network.eval(), _SHAPE, _CLASSES, access)
