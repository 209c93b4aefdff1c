"""Every name in a study file is checked, also those that the grid leaves out; no data are loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any

from assay.errors import InvalidInput
from assay.extraction import Attack
from assay.registry import get, nearest
from assay.removal import Removal
from assay.study.check import at, chain_of, chosen, options_of, recipe_of
from assay.study.columns import COLUMNS
from assay.study.file import Study, merged

__all__ = ["check_names"]

_COORDINATES = ("victim", "evidence", "extraction", "removal", "verification", "panel", "seed")
_LEVELS = ("labels", "scores", "weights")
_NUMBERS = ("number", "share", "whole", "flag")
_MAY_BE_NONE = ("evidence", "removal")


def check_names(study: Study) -> None:
    """Raise `InvalidInput`, with the line, for the first thing that a study names and that is not there.

    Parameters
    ----------
    study
        Its plug-ins must be loaded.

    Raises
    ------
    InvalidInput
        For unknown names and hyperparameters, values out of range, and settings that
        contradict each other.
    """
    for name in study.file.recipe:
        recipe_of(study, name, "recipe", name)
    for name in study.file.victim:
        _victim(study, name)
    for name in study.file.evidence:
        _evidence(study, name)
    for kind in ("extraction", "removal"):
        for name in getattr(study.file, kind):
            _links(study, kind, name)
    for name, table in study.file.verification.items():
        for victim in study.file.victim:
            _level(study, merged(table, victim).access, "verification", name, victim=victim)
    for name in study.file.panel:
        _panel(study, name)
    for rule in ("exclude", "only"):
        for index, where in enumerate(getattr(study.file.grid, rule)):
            _filter(study, where, "grid", rule, index)
    for index, published in enumerate(study.file.published):
        _published(study, published, index)


def _known(study: Study, name: str, known: Iterable[str], kind: str, *place: str | int) -> None:
    names = list(known)
    if name not in names:
        with at(study, *place):
            raise InvalidInput(nearest(name, names, kind))


def _level(study: Study, name: str, *place: str | int, victim: str | None = None) -> None:
    if name not in _LEVELS:
        with at(study, *place, "access", victim=victim):
            raise InvalidInput(nearest(name, list(_LEVELS), "access"))


def _architecture(study: Study, name: str, *place: str | int, victim: str | None = None) -> None:
    with at(study, *place, "architecture", victim=victim):
        get(name.split("-", maxsplit=1)[0], "architecture")


def _victim(study: Study, name: str) -> None:
    table, place = study.file.victim[name], ("victim", name)
    _known(study, table.data, study.file.data, "data set", *place, "data")
    parts = study.file.data[table.data].parts
    own = table.model is not None
    names: dict[str, str | None] = {"evaluation": table.evaluation}
    names |= {"private_part": table.private_part, "control_part": table.control_part} if own else {}
    names |= {} if own else {"pool": table.pool}
    for key, part in names.items():
        if part is not None:
            _known(study, part, parts, f"part of {table.data}", *place, key)
    _level(study, table.access, *place)
    if table.architecture is None and not own:
        msg = f"{study.where(*place)}: [victim.{name}] must have 'architecture' or 'model'"
        raise InvalidInput(msg)
    with at(study, *place, "model"):
        if own and (table.architecture is not None or table.recipe):
            msg = (
                f"[victim.{name}] has a model of its own, which is not trained here: leave out architecture "
                "and recipe; how to open it stands under 'open'"
            )
            raise InvalidInput(msg)
        if own and table.private_part is not None and table.private_part == table.control_part:
            msg = f"[victim.{name}]: private_part and control_part must be different parts"
            raise InvalidInput(msg)
    for key in () if own else ("private_part", "control_part", "open"):
        if key in table.model_fields_set:
            with at(study, *place, key):
                msg = f"{key!r} is for a model of your own; [victim.{name}] is trained on its pool"
                raise InvalidInput(msg)
    if table.architecture is not None:
        _architecture(study, table.architecture, *place)
    recipe_of(study, table.recipe, *place, "recipe")


def _evidence(study: Study, name: str) -> None:
    place = ("evidence", name)
    for victim, table in _variants(study, "evidence", name):
        scheme = options_of(study, "evidence", table.scheme, table.options, *place, victim=victim)
        if not hasattr(scheme, "register") and not hasattr(scheme, "embed"):
            with at(study, *place, "scheme", victim=victim):
                msg = f"{table.scheme} can neither be registered nor embedded"
                raise InvalidInput(msg)
        references = table.references
        if references is None:
            continue
        here = (*place, "references")
        if "references" not in inspect.signature(getattr(scheme, "register", lambda: None)).parameters:
            with at(study, *here, victim=victim):
                msg = f"the scheme {table.scheme} compares with no references; leave them out"
                raise InvalidInput(msg)
        if references.architecture is not None:
            _architecture(study, references.architecture, *here, victim=victim)
        if references.recipe is not None:
            recipe_of(study, references.recipe, *here, "recipe", victim=victim)
        for index, extra in enumerate(references.extra):
            _architecture(study, extra.architecture, *here, "extra", index, victim=victim)
            recipe_of(study, extra.recipe, *here, "extra", index, "recipe", victim=victim)
        if references.copies is not None:
            with at(study, *here, "copies", victim=victim):
                chosen(study, [references.copies], study.file.extraction, "extraction", *here, "copies")


def _links(study: Study, kind: str, name: str) -> None:
    """Check an extraction or removal."""
    tables = getattr(study.file, kind)
    table, place = tables[name], (kind, name)
    chain_of(study, kind, name, tables)
    if table.chain is not None:
        for key in sorted(table.model_fields_set - {"chain", "title"}):
            with at(study, *place, key):
                msg = f"{key!r} belongs to the links of the chain {name}, a chain has no settings of its own"
                raise InvalidInput(msg)
        return
    what, base = {"extraction": ("attack", Attack), "removal": ("removal", Removal)}[kind]
    for victim, variant in _variants(study, kind, name):
        registered = getattr(variant, what)
        attack = options_of(study, kind, registered, variant.options, *place, victim=victim)
        architecture = getattr(attack, "architecture", None)
        with at(study, *place, "options", "architecture", victim=victim):
            if not isinstance(attack, base):
                msg = f"{registered} is no {base.__module__}.{base.__qualname__}"
                raise InvalidInput(msg)
            if isinstance(architecture, str) and architecture not in ("auto", "same"):
                get(architecture.partition("-")[0], "architecture")


def _variants(study: Study, kind: str, name: str) -> Iterable[tuple[str, Any]]:
    """Yield a table once for each way in which victims change it, with the victim."""
    table, seen = getattr(study.file, kind)[name], set()
    for victim in study.file.victim:
        said = json.dumps(table.per.get(victim), sort_keys=True, default=str)
        if said not in seen:
            seen.add(said)
            yield victim, merged(table, victim)


def _panel(study: Study, name: str) -> None:
    place, file = ("panel", name), study.file
    for victim in file.victim:
        table = merged(file.panel[name], victim)
        for key, known, kind in (
            ("victims", file.victim, "victim"),
            ("evidence", file.evidence, "evidence"),
            ("verifications", file.verification, "verification"),
        ):
            with at(study, *place, key, victim=victim):
                chosen(study, getattr(table, key), known, kind, *place, key)
        for index, group in enumerate(table.models):
            here = (*place, "models", index)
            _architecture(study, group.architecture, *here, victim=victim)
            recipe_of(study, group.recipe, *here, "recipe", victim=victim)
            if group.data is not None and group.data not in file.data:
                with at(study, *here, "data", victim=victim):
                    raise InvalidInput(nearest(group.data, list(file.data), "data set"))


def _filter(study: Study, rule: Mapping[str, Any], *place: str | int) -> None:
    for column, wanted in rule.items():
        _known(study, column, _COORDINATES, "coordinate of the grid", *place, column)
        for value in wanted if isinstance(wanted, list) else [wanted]:
            _coordinate(study, column, value, *place, column)


def _coordinate(study: Study, column: str, value: Any, *place: str | int) -> None:
    """Check a value of a coordinate; seeds may be those of other presets."""
    with at(study, *place):
        if column == "seed":
            if not isinstance(value, int) or value < 0:
                msg = f"a seed is a whole number, got {value!r}"
                raise InvalidInput(msg)
            return
        known = [*getattr(study.file, column), *(["none"] if column in _MAY_BE_NONE else [])]
        if value not in known:
            raise InvalidInput(nearest(str(value), known, column))


def _published(study: Study, published: Any, index: int) -> None:
    place, columns = ("published", index), COLUMNS[published.table]
    numbers = [name for name, form in columns.items() if form in _NUMBERS]
    _known(study, published.metric, numbers, f"number of the table {published.table}", *place, "metric")
    for column, value in published.where.items():
        here = (*place, "where", column)
        _known(study, column, columns, f"column of the table {published.table}", *here)
        if column in _COORDINATES:
            _coordinate(study, column, value, *here)
        elif columns[column] == "text" and not isinstance(value, str):
            with at(study, *here):
                msg = f"{column} is text, got {value!r}"
                raise InvalidInput(msg)
