"""``assay list`` and ``assay data list``: what there is."""

from __future__ import annotations

import difflib
import importlib
from typing import Annotated, Any

import typer

from assay.cli.catalogue import Line, lines
from assay.cli.console import facts, grid, print_json, print_tables
from assay.cli.options import Common
from assay.errors import UnknownName
from assay.registry import nearest

__all__ = ["list_data", "list_names"]

# What users say, and what the registry calls it.
_KINDS = {
    "attacks": "extraction",
    "removals": "removal",
    "defences": "defence",
    "estimators": "leakage",
    "schemes": "evidence",
    "tests": "test",
    "architectures": "architecture",
    "models": "adapter",
    "data": "source",
}


def list_names(
    common: Common,
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(_KINDS)}; or a name.")] = None,
    name: Annotated[str | None, typer.Argument(help="One of the names, to see its hyperparameters.")] = None,
) -> None:
    """List attacks, removals, schemes, tests, models, data.

    With a name: what it does and its hyperparameters, as --set takes them.
    """
    word = None if kind is None else _word(kind)
    if kind is not None and word is None:
        word, name = _find(kind if name is None else name, list(_KINDS) if name is None else [])
    if word is not None and name is not None:
        _describe(word, name, common)
        return
    found = {each: lines(_KINDS[each]) for each in ([word] if word else _KINDS)}
    if common.json:
        shown = {
            each: [{"name": e.name, "summary": e.summary} for e in entries] for each, entries in found.items()
        }
        print_json(shown)
    elif not common.quiet:
        for each, entries in found.items():
            if entries or word:
                print_tables(grid(each, ("name", "what it is"), [(e.name, e.summary) for e in entries]))


def list_data(common: Common) -> None:
    """List data: what is found, how to get the rest."""
    from assay.data import available

    infos = available()
    if common.json:
        print_json({"data": [info.to_dict() for info in infos]})
    elif not common.quiet:
        rows = [(i.name, "yes" if i.found else "no", i.size, i.where if i.found else i.how) for i in infos]
        print_tables(
            grid("data", ("name", "found", "size", "where, or how to get it"), rows),
            "ASSAY_DATA names the folders in which stored sets are looked for",
        )


def _word(kind: str) -> str | None:
    """Return the plural that ``kind`` means, or None if it is no kind."""
    for word, registered in _KINDS.items():
        if kind.lower() in (word, word.removesuffix("s"), registered):
            return word
    return None


def _find(name: str, kinds: list[str]) -> tuple[str, str]:
    everything: list[Line] = [line for kind in _KINDS.values() for line in lines(kind)]
    for line in everything:
        if line.name == name:
            return next(word for word, kind in _KINDS.items() if kind == line.kind), name
    close = difflib.get_close_matches(name, [*kinds, *(line.name for line in everything)], n=1)
    hint = f"did you mean {close[0]!r}?" if close else "`assay list` shows all of them"
    msg = f"unknown kind or name {name!r}; {hint}"
    raise UnknownName(msg)


def _describe(word: str, name: str, common: Common) -> None:
    from assay.cli.describe import describe

    known = {line.name: line for line in lines(_KINDS[word])}
    if name not in known:
        raise UnknownName(nearest(name, list(known), word.removesuffix("s")))
    importlib.import_module(known[name].module)
    found: dict[str, Any] = describe(name, _KINDS[word])
    if common.json:
        print_json(found)
    elif not common.quiet:
        head = {"what it is": found["summary"], "needs": found["needs"], "details": found["description"]}
        print_tables(facts(name, {k: v for k, v in head.items() if v}))
        if found["parameters"]:
            rows = [(p["name"], p["default"], p["documentation"]) for p in found["parameters"]]
            print_tables(grid("hyperparameters", ("name", "default", "meaning"), rows))
