"""What users type: data, ``name=value`` settings, lists of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.data import Dataset
    from assay.nets import Recipe

__all__ = ["counts", "make_recipe", "read_data", "settings"]

_MOST_BYTES = 2**20
_PART = re.compile(r"(?P<spec>.+)@(?P<part>[A-Za-z]\w*)(:(?P<limit>\d+))?", re.DOTALL)


def read_data(text: str, seed: int) -> Dataset:
    """Load ``SPEC``, ``SPEC@PART`` or ``SPEC@PART:LIMIT``, as in ``mnist@train:5000``.

    Parameters
    ----------
    text
        A spec of `assay.data.load_data`, then an official part of it (``train``,
        ``test``, ``all``) and the number of rows to draw.
    seed
        Of the draw.

    Examples
    --------
    >>> len(read_data("digits@train:100", 0)), read_data("iris", 0).num_classes
    (100, 3)
    """
    from assay.data import load_data

    match = None if Path(text).exists() else _PART.fullmatch(text)
    if match is None:
        return load_data(text, rng=seed)
    limit = match["limit"]
    return load_data(
        match["spec"], split=match["part"], limit=None if limit is None else int(limit), rng=seed
    )


def settings(given: Sequence[str] | None) -> dict[str, str]:
    """Return ``name=value`` pairs as a dict.

    ``name=@file`` takes the value from a file, without the end of its last line: what is
    typed stands in the list of processes and in the shell's history, where no secret may
    be. ``@@`` is a value that begins with an at sign.

    Raises
    ------
    InvalidInput
        If a pair has no name or no value, stands twice, or its file cannot be read.

    Examples
    --------
    >>> settings(["epochs=3", "lr=0.1", "name=@@home"])
    {'epochs': '3', 'lr': '0.1', 'name': '@home'}
    """
    found: dict[str, str] = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            msg = f"{item!r} is no setting; write NAME=VALUE, as in epochs=20"
            raise InvalidInput(msg)
        if name in found:
            msg = f"{name} is set twice"
            raise InvalidInput(msg)
        found[name] = _value(name, value.strip())
    return found


def _value(name: str, text: str) -> str:
    """Return what was typed, or what the file holds that was."""
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    try:
        file = Path(text[1:]).expanduser()
        with file.open("rb") as source:
            content = source.read(_MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no path, and nobody's home
        reason = getattr(error, "strerror", None) or error
        msg = f"{name} is to be read from {text[1:]!r}, which cannot be read ({reason}); @@ begins a plain @"
        raise InvalidInput(msg) from error
    if len(content) > _MOST_BYTES:
        msg = f"{name} is to be read from {file}, which is larger than a megabyte; give the file of the value"
        raise InvalidInput(msg)
    try:
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        # Without the content: it may be a secret.
        msg = f"{name} is to be read from {file}, which is no text in UTF-8"
        raise InvalidInput(msg) from error
    if not value:
        msg = f"{name} is to be read from {file}, which is empty"
        raise InvalidInput(msg)
    return value


def counts(text: str | None) -> tuple[int, ...]:
    """Return whole numbers separated by commas.

    Examples
    --------
    >>> counts("100,500")
    (100, 500)
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        msg = f"{text!r} must be whole numbers separated by commas, as in 100,500"
        raise InvalidInput(msg)
    return tuple(int(part) for part in parts)


def make_recipe(architecture: str, rows: int, epochs: int | None, given: Sequence[str] | None) -> Recipe:
    """Return how to train: what suits the architecture and the rows, changed where asked for."""
    import dataclasses

    from assay.nets import Recipe
    from assay.nets.suggest import suggest_recipe
    from assay.registry import configure

    chosen = dataclasses.asdict(suggest_recipe(architecture, rows)) | settings(given)
    return configure(Recipe, chosen if epochs is None else chosen | {"epochs": epochs})
