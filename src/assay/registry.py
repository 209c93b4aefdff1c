"""Names for algorithms: a decorator next to the code, entry points for third parties.

A registered class is a frozen dataclass whose fields are its hyperparameters. The
same fields are the command line's ``--set name=value`` options and the keys of
configuration files, so that a parameter is written down once.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, TypeVar

from assay.errors import InvalidInput, UnknownName

__all__ = ["KINDS", "Entry", "configure", "create", "get", "nearest", "register", "registered"]

Kind = Literal[
    "extraction",
    "evidence",
    "test",
    "architecture",
    "source",
    "adapter",
    "removal",
    "step",
    "defence",
    "leakage",
]
KINDS: tuple[str, ...] = typing.get_args(Kind)
T = TypeVar("T")

# Our own rooms register on import; they are imported on the first look-up, not before.
_ROOMS: dict[str, tuple[str, ...]] = {
    "extraction": ("assay.extraction.catalogue", "assay.extraction.exact.catalogue"),
    "evidence": ("assay.evidence.catalogue",),
    "test": ("assay.statistics",),
    "architecture": ("assay.nets",),
    "source": ("assay.data.sources",),
    "adapter": ("assay.adapters",),
    "defence": ("assay.defences.catalogue",),
    "leakage": ("assay.leakage.catalogue",),
    "removal": ("assay.removal.catalogue",),
    "step": ("assay.study.steps",),
}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_entries: dict[tuple[str, str], Entry] = {}
_loaded: set[str] = set()


@dataclass(frozen=True)
class Entry:
    """One registered thing: its name, kind, the object itself and one line about it."""

    name: str
    kind: str
    target: Any
    summary: str

    @property
    def parameters(self) -> dict[str, str]:
        """Hyperparameter names with their defaults, as text."""
        if not dataclasses.is_dataclass(self.target):
            return {}
        return {f.name: _default(f) for f in dataclasses.fields(self.target) if f.init}


def register(name: str, kind: Kind) -> Callable[[T], T]:
    """Register a class or function under ``name``.

    Raises
    ------
    InvalidInput
        If the kind is unknown or the name is taken by something else.

    Examples
    --------
    >>> @register("example-test", kind="test")
    ... def example_test(private, control):
    ...     "Say nothing about anything."
    >>> get("example-test", "test").summary
    'Say nothing about anything.'
    """
    if kind not in KINDS:
        msg = f"unknown kind {kind!r}; choose one of: {', '.join(KINDS)}"
        raise InvalidInput(msg)

    def decorate(target: T) -> T:
        known = _entries.get((kind, name))
        if known is not None and _home(known.target) != _home(target):
            msg = f"the {kind} name {name!r} is already taken by {known.target!r}"
            raise InvalidInput(msg)
        summary = (getattr(target, "__doc__", None) or "").strip().split("\n")[0]
        _entries[kind, name] = Entry(name, kind, target, summary)
        return target

    return decorate


def registered(kind: str) -> Iterator[Entry]:
    """Yield every entry of a kind, plug-ins included, by name."""
    _load(kind)
    yield from (_entries[key] for key in sorted(_entries) if key[0] == kind)


def get(name: str, kind: str) -> Entry:
    """Return the entry called ``name``.

    Raises
    ------
    UnknownName
        With the nearest known name.
    """
    entry = _entries.get((kind, name))
    if entry is None:  # what is known already needs no other room
        _load(kind)
        entry = _entries.get((kind, name))
    if entry is None:
        raise UnknownName(nearest(name, [e.name for e in registered(kind)], kind))
    return entry


def create(name: str, kind: str, options: Mapping[str, Any] | None = None) -> Any:
    """Build the registered dataclass ``name`` with hyperparameters from text or values."""
    return configure(get(name, kind).target, options or {})


def configure(target: Callable[..., T], options: Mapping[str, Any]) -> T:
    """Build ``target`` (a dataclass) from options, converting text by the field's type.

    Raises
    ------
    InvalidInput
        For an unknown field or a value of the wrong type.
    """
    if not dataclasses.is_dataclass(target):
        msg = f"{target!r} takes no options"
        raise InvalidInput(msg)
    fields = {f.name for f in dataclasses.fields(target) if f.init}
    hints = typing.get_type_hints(target)
    values = {}
    for key, value in options.items():
        name = key.replace("-", "_")
        if name not in fields:
            owner = getattr(target, "__name__", target)
            raise UnknownName(nearest(name, sorted(fields), f"option of {owner}"))
        values[name] = (
            _convert(name, value, hints[name]) if isinstance(value, str) else _rebuild(value, hints[name])
        )
    return typing.cast("Callable[..., T]", target)(**values)


def nearest(name: str, known: list[str], kind: str) -> str:
    """Return the sentence for an unknown name, with the nearest known one."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
    return f"unknown {kind} {name!r}; {hint}"


def _load(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownName(nearest(kind, list(KINDS), "kind"))
    if kind in _loaded:
        return
    _loaded.add(kind)
    try:
        for module in _ROOMS[kind]:
            importlib.import_module(module)
    except BaseException:
        _loaded.discard(kind)  # the next look-up must fail as well, not find an empty registry
        raise
    if "plugins" not in _loaded:
        _loaded.add("plugins")
        for point in metadata.entry_points(group="assay.plugins"):
            point.load()


def _home(target: Any) -> tuple[object, object]:
    # A module imported twice registers itself again; another module must not replace it.
    return getattr(target, "__module__", None), getattr(target, "__qualname__", None)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return repr(field.default_factory())
    return "required"


def _rebuild(value: Any, hint: Any) -> Any:
    """Turn what JSON made of a configuration back: lists into tuples, objects into dataclasses."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if isinstance(value, dict):
        for option in options:
            if dataclasses.is_dataclass(option):
                return configure(typing.cast("Callable[..., Any]", option), value)
    return tuple(_rebuild(v, Any) for v in value) if isinstance(value, list) else value


def _convert_union(name: str, text: str, options: tuple[Any, ...]) -> Any:
    if type(None) in options and text.lower() == "none":
        return None
    for option in (o for o in options if o is not type(None)):
        try:
            return _convert(name, text, option)
        except InvalidInput:
            continue
    msg = f"option {name}: {text!r} is none of {', '.join(map(str, options))}"
    raise InvalidInput(msg)


def _convert(name: str, text: str, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(name, text, args)
    if origin is Literal:
        if text not in args:
            raise UnknownName(nearest(text, [str(a) for a in args], f"value of {name}"))
        return text
    try:
        if hint is bool:
            return _TRUTH[text.lower()]
        if hint in (int, float, str):
            return hint(text)
        if origin is tuple:
            return tuple(_convert(name, part.strip(), args[0]) for part in text.split(",") if part.strip())
        if dataclasses.is_dataclass(hint):
            return configure(typing.cast("Callable[..., Any]", hint), json.loads(text))
        return json.loads(text)
    except (KeyError, ValueError) as error:
        msg = f"option {name}: {text!r} is not a value of type {getattr(hint, '__name__', hint)}"
        raise InvalidInput(msg) from error
