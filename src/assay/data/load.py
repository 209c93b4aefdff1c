"""From one line of text to a data set: ``load_data("moons:n=500,noise=0.1")``."""

from __future__ import annotations

import csv
import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.catalogue import Parts
from assay.data.dataset import Dataset
from assay.data.idx import is_idx
from assay.data.sheets import is_sheets
from assay.errors import InvalidInput, UnknownName
from assay.registry import configure, nearest, registered

__all__ = ["load_data"]

_OPTIONS = re.compile(r'^(?P<base>.*?):(?P<options>"?[A-Za-z_][\w-]*=.*)$', re.DOTALL)
_TABLES = (".csv", ".csv.gz")
_TRAIN_SHARE = 0.8


def load_data(spec: str, *, split: str | None = None, limit: int | None = None, rng: int = 0) -> Dataset:
    """Load the data that a line of text describes.

    Parameters
    ----------
    spec
        One of

        - a name from `assay.data.available`, as in ``digits`` or ``cifar10``;
        - a path: ``file.npz``, ``file.csv``, ``train-images-idx3-ubyte.gz`` (its labels
          file is found beside it), or a folder of class folders, of IDX files or of
          sheets;
        - a reader and what it reads, as in ``openml:adult`` or ``csv:data.txt``.

        Options follow after a colon: ``moons:n=500,noise=0.1``,
        ``file.csv:target=income``. A value that contains commas is quoted together with
        its name: ``file.csv:"drop=year,id",target=income``.
    split
        ``train``, ``test`` or another official part; ``all`` or None for all parts
        pooled. A set without official parts is divided at random, once and for all: 80 %
        of the rows are ``train``, the others ``test``.
    limit
        At most so many rows, drawn at random without replacement; a smaller limit gives
        a prefix of a larger one. None for all rows in the order of the source.
    rng
        Seed of the draw of ``limit``, and of a generator that is given no ``seed``.

    Returns
    -------
    Dataset
        Validated, named after its source.

    Raises
    ------
    UnknownName
        For an unknown source, option or part, with the nearest known one.
    InvalidInput
        For missing files (the message says how to get them) and malformed ones.

    Examples
    --------
    >>> load_data("moons:n=500,noise=0.1").x.shape
    torch.Size([500, 2])
    >>> len(load_data("digits", split="test")), len(load_data("digits", limit=10))
    (359, 10)
    """
    if isinstance(rng, bool) or not isinstance(rng, int) or rng < 0:
        msg = f"rng must be a seed, an integer >= 0, got {rng!r}"
        raise InvalidInput(msg)
    if limit is not None and limit < 1:
        msg = f"limit must be at least 1 row, got {limit}"
        raise InvalidInput(msg)
    base, options = _parse(spec)
    function, given = _resolve(base)
    data = _choose(_call(function, {**given, **options}, rng), split, base)
    if limit is None:
        return data
    return data.subset(np.random.default_rng(rng).permutation(len(data))[:limit])


def _parse(spec: str) -> tuple[str, dict[str, str]]:
    """Separate what to load from its options."""
    match = _OPTIONS.match(spec)
    # A path may itself contain what looks like options.
    if match is None or _exists(spec) or _exists(spec.partition(":")[2]):
        return spec, {}
    options = {}
    for item in next(csv.reader([match["options"]])):
        key, equals, value = item.partition("=")
        if not equals:
            msg = f"{spec!r}: option {item!r} has no value; write name=value, and quote values with commas"
            raise InvalidInput(msg)
        options[key.strip().replace("-", "_")] = value
    return match["base"], options


def _resolve(base: str) -> tuple[Callable[..., Dataset | Parts], dict[str, Any]]:
    """Find the source for a name, a reader with its argument, or a path."""
    known = {entry.name: entry.target for entry in registered("source")}
    if base in known:
        return known[base], {}
    reader, colon, argument = base.partition(":")
    if colon and reader in known:
        return known[reader], {_main_parameter(known[reader], base): argument}
    path = Path(base).expanduser()
    if base and _exists(path):
        return known[_reader_for(path)], {"path": str(path)}
    if len(path.parts) > 1 or base.endswith(("/", ".npz", ".gz", ".csv", "ubyte")):
        msg = f"there is no file or folder {base}; give an existing path, or a name from `assay data list`"
        raise InvalidInput(msg)
    raise UnknownName(nearest(base, list(known), "data set"))


def _exists(path: str | Path) -> bool:
    # pathlib raises for names that are too long to exist.
    return os.path.exists(path)  # noqa: PTH110 - see above


def _main_parameter(function: Callable[..., Any], base: str) -> str:
    for name in ("path", "name"):
        if name in inspect.signature(function).parameters:
            return name
    msg = f"{base!r}: this data set takes nothing but options; write name:option=value"
    raise InvalidInput(msg)


def _reader_for(path: Path) -> str:
    """Name the reader for an existing path."""
    if is_idx(path):
        return "idx"
    if path.is_dir():
        return "sheets" if is_sheets(path) else "images"
    if path.suffix == ".npz":
        return "npz"
    if path.name.lower().endswith(_TABLES):
        return "csv"
    msg = (
        f"{path} is of no known kind; known are .npz, .csv, .csv.gz, ...-images-idx3-ubyte[.gz] and folders. "
        "Name the reader if the file has another ending, as in csv:PATH"
    )
    raise InvalidInput(msg)


def _call(function: Callable[..., Dataset | Parts], options: Mapping[str, Any], rng: int) -> Dataset | Parts:
    """Call a source with options from text, converted by its annotations."""
    parameters = inspect.signature(function).parameters
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in options]
    if missing:
        name = getattr(function, "__name__", str(function))
        msg = f"the reader {name} needs {', '.join(missing)}; write it after a colon, as in {name}:PATH"
        raise InvalidInput(msg)
    if "seed" in parameters:
        options = {"seed": rng, **options}
    return function(**dataclasses.asdict(configure(_options_of(function), options)))


@functools.cache
def _options_of(function: Callable[..., Any]) -> type[Any]:
    """Make a dataclass of a source's parameters, so that the registry converts and checks the text."""
    hints = typing.get_type_hints(function)
    fields = [
        (name, hints[name], dataclasses.field(default=None if p.default is p.empty else p.default))
        for name, p in inspect.signature(function).parameters.items()
    ]
    return dataclasses.make_dataclass(getattr(function, "__name__", "source"), fields)


def _choose(loaded: Dataset | Parts, split: str | None, name: str) -> Dataset:
    """Return the part called ``split``, or everything."""
    whole = split is None or split == "all"
    if isinstance(loaded, Dataset):
        return loaded if whole else _divide(loaded, str(split))
    if not whole:
        if split not in loaded:
            raise UnknownName(nearest(str(split), [*loaded, "all"], f"part of {name}"))
        return loaded[str(split)]()
    first, *others = (load() for load in loaded.values())
    return first.concat(*others, name=_pooled_name(first.name)) if others else first


def _pooled_name(name: str) -> str:
    return re.sub(r"-(train|test|val)$", "", name)


def _divide(data: Dataset, split: str) -> Dataset:
    """Divide a set without official parts; the seed is fixed so that train and test never overlap."""
    if split not in {"train", "test"}:
        raise UnknownName(nearest(split, ["train", "test", "all"], f"part of {data.name}"))
    order = np.random.default_rng(0).permutation(len(data))
    cut = round(_TRAIN_SHARE * len(data))
    rows = order[:cut] if split == "train" else order[cut:]
    return data.subset(rows, f"{data.name}-{split}")
