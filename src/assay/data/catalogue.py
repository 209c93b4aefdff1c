"""What data there is: where each source looks, whether it is found, how to get it, its terms."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.registry import register, registered
from assay.result import Record

__all__ = ["Card", "Parts", "SourceInfo", "available", "locate", "require_stored", "search_path", "source"]

Parts: TypeAlias = Mapping[str, Callable[[], Dataset]]
"""Official parts of a set (``train``, ``test``), each loaded only when it is called."""

Kind = Literal["embedded", "generator", "stored", "file", "hub"]
Function = TypeVar("Function", bound=Callable[..., "Dataset | Parts"])


@dataclass(frozen=True)
class Card:
    """What a source says about itself.

    Parameters
    ----------
    kind
        ``embedded`` in an installed package, ``generator``, ``stored`` in a data folder,
        ``file`` (a reader for any path) or ``hub`` (downloaded).
    size
        Rows, shape and classes, in words.
    how
        How to get or to write it, one clause.
    terms
        Licence or request to cite.
    files
        For stored sets: paths below a data folder, the first that exists is read.
    """

    kind: Kind
    size: str
    how: str
    terms: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceInfo(Record):
    """One line of ``assay data list``.

    Parameters
    ----------
    name
        What `assay.data.load_data` calls it.
    kind
        See `Card`.
    found
        Whether it can be loaded now; a hub source never counts as found.
    where
        The place it would be read from, empty if it is not found.
    size, how, terms
        See `Card`.
    summary
        One line about it.
    """

    name: str
    kind: str
    found: bool
    where: str
    size: str
    how: str
    terms: str
    summary: str


_cards: dict[str, Card] = {}


def source(name: str, card: Card) -> Callable[[Function], Function]:
    """Register a function as a source of data, with a card about it.

    The function takes options with defaults (annotated, so that text can be converted)
    and returns a `Dataset`, or `Parts` if the set has official parts. A parameter
    called ``seed`` is filled from the caller's ``rng``; one called ``path`` or ``name``
    may be written after a colon, as in ``openml:iris``.
    """

    def decorate(function: Function) -> Function:
        _cards[name] = card
        return register(name, kind="source")(function)

    return decorate


def search_path() -> list[Path]:
    """Return the folders in which stored sets are looked for, first match first.

    ``ASSAY_DATA`` may name several folders, separated as in ``PATH``; then come the
    places where operating systems install packages of data.
    """
    given = [Path(p).expanduser() for p in os.environ.get("ASSAY_DATA", "").split(os.pathsep) if p]
    shared = [Path(prefix, "share", "datasets") for prefix in (sys.prefix, "/usr/local", "/usr")]
    return list(dict.fromkeys([*given, *shared]))


def locate(files: tuple[str, ...]) -> Path | None:
    """Return the first of ``files`` that exists below the search path."""
    for folder in search_path():
        for file in files:
            if (folder / file).exists():
                return folder / file
    return None


def require_stored(name: str) -> Path:
    """Return where the stored set ``name`` lies.

    Raises
    ------
    InvalidInput
        If it is in none of the folders; the message says how to get it.
    """
    card = _cards[name]
    place = locate(card.files)
    if place is None:
        folders = ", ".join(str(f) for f in search_path())
        msg = f"the data set {name!r} is not in {folders}; {card.how}, and point ASSAY_DATA at the folder"
        raise InvalidInput(msg)
    return place


def available() -> list[SourceInfo]:
    """Describe every source: what is found, where, and how to get the rest.

    Returns
    -------
    list of SourceInfo
        By name.

    Examples
    --------
    >>> digits = next(info for info in available() if info.name == "digits")
    >>> digits.found, digits.size
    (True, '1,797 images 1x8x8, 10 classes')
    """
    infos = []
    for entry in registered("source"):
        card = _cards.get(entry.name, Card("embedded", "", "installed by a plug-in"))
        place = locate(card.files) if card.kind == "stored" else None
        where = {"embedded": "installed", "generator": "computed", "file": "any path"}.get(card.kind, "")
        infos.append(
            SourceInfo(
                name=entry.name,
                kind=card.kind,
                found=place is not None if card.kind == "stored" else card.kind != "hub",
                where=str(place) if place else where,
                size=card.size,
                how=card.how,
                terms=card.terms,
                summary=entry.summary,
            )
        )
    return infos
