"""What a study file names must exist, fit and be allowed, before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.adapters import open_model
from assay.data import load_data
from assay.errors import AssayError, InvalidInput
from assay.model import Access
from assay.nets import Recipe, build
from assay.registry import configure, get, nearest
from assay.study.file import Study
from assay.study.store import Store, file_digest

__all__ = [
    "Shape",
    "at",
    "chain_of",
    "chosen",
    "options_of",
    "own_model",
    "pooled_shape",
    "recipe_of",
    "shape_of",
]


@dataclass(frozen=True)
class Shape:
    """What planning needs to know of a data set."""

    input_shape: tuple[int, ...]
    classes: int
    rows: int


@contextmanager
def at(study: Study, *place: str | int, victim: str | None = None) -> Iterator[None]:
    """Put the line of the study file before the sentence of an error."""
    try:
        yield
    except AssayError as error:
        text = str(error)
        if text.startswith(study.path):
            raise
        msg = f"{study.where(*place, victim=victim)}: {text}"
        raise InvalidInput(msg) from error


def chosen(study: Study, names: Any, known: Mapping[str, Any], kind: str, *place: str | int) -> list[str]:
    """Return the names of a list, or all of them, each of which must be known."""
    if names == "all":
        return list(known)
    if names == "none":
        return []
    with at(study, *place):
        for name in names:
            if name not in known:
                raise InvalidInput(nearest(name, list(known), kind))
    return list(names)


def options_of(
    study: Study,
    kind: str,
    name: str,
    options: Mapping[str, Any],
    *place: str | int,
    victim: str | None = None,
) -> Any:
    """Return the configured dataclass of a registered name."""
    what = {"evidence": "scheme", "extraction": "attack", "removal": "removal"}[kind]
    with at(study, *place, what, victim=victim):
        entry = get(name, kind)
        if not dataclasses.is_dataclass(entry.target):
            msg = f"{name} is no dataclass, so that a study cannot configure it"
            raise InvalidInput(msg)
    hints = typing.get_type_hints(entry.target)
    named = {}
    for field, value in options.items():
        hint = hints.get(field.replace("-", "_"))
        if isinstance(value, str) and Recipe in (hint, *typing.get_args(hint)):
            with at(study, *place, "options", field, victim=victim):
                named[field] = _named_recipe(study, value)
    return _configured(study, entry.target, {**options, **named}, (*place, "options"), victim)


def recipe_of(
    study: Study, recipe: str | Mapping[str, Any], *place: str | int, victim: str | None = None
) -> Recipe:
    """Return a training recipe, given by its name under ``[recipe]`` or by its hyperparameters."""
    if isinstance(recipe, str):
        with at(study, *place, victim=victim):
            options = _named_recipe(study, recipe)
        place = ("recipe", recipe)
    else:
        options = recipe
    found: Recipe = _configured(study, Recipe, options, place, victim)
    return found


def _named_recipe(study: Study, name: str) -> Mapping[str, Any]:
    known = study.file.recipe
    if name not in known:
        raise InvalidInput(nearest(name, list(known), "recipe"))
    return known[name]


def _configured(
    study: Study, target: Any, options: Mapping[str, Any], place: tuple[str | int, ...], victim: str | None
) -> Any:
    """Build a dataclass from the values of a table; what is wrong is told with the line of its key."""
    hints = typing.get_type_hints(target)
    known = {f.name for f in dataclasses.fields(target) if f.init}
    for key, value in options.items():
        name = key.replace("-", "_")
        with at(study, *place, key, victim=victim):
            if name not in known:
                raise InvalidInput(nearest(name, sorted(known), f"option of {target.__name__}"))
            # Text is for the registry, which reads it by the field's type.
            if not isinstance(value, str) and not _may_be(value, hints[name]):
                hint = getattr(hints[name], "__name__", None) or str(hints[name])
                msg = f"{key} must be of type {hint}, got {value!r}"
                raise InvalidInput(msg)
    try:
        return configure(target, options)
    except AssayError as error:
        with at(study, *place, *_named_in(str(error), options), victim=victim):
            raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        with at(study, *place, victim=victim):
            msg = f"{target.__name__} cannot be made with these options: {error}"
            raise InvalidInput(msg) from error


def _may_be(value: Any, hint: Any) -> bool:
    """Whether a value of a TOML file can be one of a field's type, as far as that is easily said."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_may_be(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint in (int, float):
        number = isinstance(value, int | float if hint is float else int)
        return number and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if origin in (tuple, list):
        return isinstance(value, list)
    return isinstance(value, Mapping) if dataclasses.is_dataclass(hint) else True


def _named_in(text: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the option that a sentence names, none if it names none."""
    for key, value in options.items():
        if isinstance(value, Mapping) and (below := _named_in(text, value)):
            return (key, *below)
        if re.search(rf"\b{re.escape(key.replace('-', '_'))}\b", text):
            return (key,)
    return ()


def chain_of(study: Study, kind: str, name: str, tables: Mapping[str, Any]) -> list[str]:
    """Return the links of an extraction or removal chain, in order; a plain one is its only link.

    Raises
    ------
    InvalidInput
        For unknown links and cycles.
    """
    links: list[str] = []
    what = {"extraction": "attack", "removal": "removal"}[kind]

    def follow(one: str, above: tuple[str, ...]) -> None:
        if one in above:
            loop = " -> ".join([*above[above.index(one) :], one])
            msg = f"{study.where(kind, above[-1], 'chain')}: the chain goes round in a circle: {loop}"
            raise InvalidInput(msg)
        table = tables[one]
        if (getattr(table, what) is None) == (table.chain is None):
            msg = f"{study.where(kind, one)}: [{kind}.{one}] must have either {what!r} or 'chain'"
            raise InvalidInput(msg)
        if table.chain is None:
            links.append(one)
            return
        chosen(study, table.chain, tables, kind, kind, one, "chain")
        for link in table.chain:
            follow(link, (*above, one))

    follow(name, ())
    return links


def shape_of(study: Study, name: str, key: str, store: Store | None) -> Shape:
    """Return the shape of a data set: from the store if it is there, else by loading it.

    Raises
    ------
    InvalidInput
        If it is missing, with how to get it, or too small for its parts.
    """
    table = study.file.data[name]
    with at(study, "data", name, "source"):
        manifest = None
        if store is not None:
            try:
                manifest = store.find(key)
            except AssayError:
                manifest = None  # the run makes it anew
        if manifest is not None:
            facts = manifest.facts
            return Shape(tuple(facts["input_shape"]), len(facts["classes"]), facts["rows"])
        splits: Sequence[str | None] = table.split.split("+") if table.split else [None]
        if len(set(splits)) < len(splits):
            msg = f"the split {table.split!r} names a part twice, so that parts would share rows"
            raise InvalidInput(msg)
        sets = [load_data(table.source, split=split, rng=table.seed) for split in splits]
        shape = pooled_shape(sets[0].input_shape, table.pooled)
    rows, wanted = sum(map(len, sets)), sum(table.parts.values())
    if table.limit is not None:
        rows = min(rows, table.limit)
    if wanted > rows:
        where = study.where("data", name, "parts")
        msg = f"{where}: the parts need {wanted:,} rows, there are {rows:,}; make them smaller"
        raise InvalidInput(msg)
    return Shape(shape, sets[0].num_classes, rows)


def pooled_shape(shape: tuple[int, ...], squares: int | None) -> tuple[int, ...]:
    """Return the shape of images after pooling, which must come out even."""
    if squares is None:
        return shape
    if len(shape) != 3 or shape[1] % squares or shape[2] % squares:  # noqa: PLR2004 - channels, height, width
        msg = f"inputs of shape {shape} cannot be pooled by squares of {squares} x {squares} pixels"
        raise InvalidInput(msg)
    return (shape[0], shape[1] // squares, shape[2] // squares)


def fits(study: Study, architecture: str, shape: Shape, *place: str | int, victim: str | None = None) -> None:
    """Raise `InvalidInput` unless an architecture exists and takes such inputs."""
    with at(study, *place, victim=victim):
        _build_once(architecture, shape.input_shape, shape.classes)


@functools.cache
def _build_once(architecture: str, input_shape: tuple[int, ...], classes: int) -> None:
    build(architecture, input_shape, classes)


def own_model(study: Study, victim: str, shape: Shape) -> tuple[dict[str, Any], Access]:
    """Return the configuration of the user's own model, and the access that it offers."""
    table = study.file.victim[victim]
    assert table.model is not None
    known = set(inspect.signature(open_model).parameters) - {"spec", "name", "device", "token", "access"}
    for key in table.open:
        with at(study, "victim", victim, "open", key):
            if key == "token":
                msg = "a token does not belong into a file; set ASSAY_API_TOKEN"
                raise InvalidInput(msg)
            if key not in known:
                raise InvalidInput(nearest(key, sorted(known), "option of a model"))
    with at(study, "victim", victim, "model"):
        try:
            model = open_model(table.model, **table.open)
        except (TypeError, ValueError) as error:
            if isinstance(error, AssayError):
                raise
            msg = f"{table.model} cannot be opened with these options: {error}"
            raise InvalidInput(msg) from error
        if tuple(model.input_shape) != shape.input_shape or model.num_classes != shape.classes:
            msg = (
                f"{table.model} takes inputs of shape {tuple(model.input_shape)} and has {model.num_classes} "
                f"classes, the data {table.data} {shape.input_shape} and {shape.classes}"
            )
            raise InvalidInput(msg)
    path = Path(table.model)
    digest = file_digest(path) if path.is_file() else model.digest
    return {"model": table.model, "open": table.open, "digest": digest}, model.access
