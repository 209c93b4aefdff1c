"""A study's own modules, imported so that what they register has a name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput

__all__ = ["code_of", "load_plugins"]

_loaded: set[str] = set()


def load_plugins(names: Iterable[str]) -> None:
    """Import modules by name, or ``.py`` files by path; each once.

    Raises
    ------
    InvalidInput
        If one cannot be imported.

    Examples
    --------
    >>> load_plugins(["json"])
    """
    for name in names:
        if name in _loaded:
            continue
        try:
            _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except Exception as error:
            what = str(error) if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
            msg = f"cannot import the plug-in {name}: {what}"
            raise InvalidInput(msg) from error
        _loaded.add(name)


def _import_file(path: Path) -> None:
    """Import a file under a name of its own, so that ``random.py`` is not taken for another module."""
    file = path.resolve()
    if not file.is_file():
        msg = f"there is no file {path}"
        raise FileNotFoundError(msg)
    # What stands beside it can be imported; last, so that nothing installed is shadowed.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    name = f"assay_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def code_of(thing: Any) -> dict[str, str]:
    """Return the digest of the file that a plug-in's object is written in; nothing for our own.

    It is part of the key of the steps that use the object, because a plug-in has no step
    version that its author could raise.

    Examples
    --------
    >>> from assay.nets import Recipe
    >>> code_of(Recipe())
    {}
    """
    kind = type(thing)
    return {} if kind.__module__.partition(".")[0] == "assay" else _digest_of(kind)


def _digest_of(kind: type[Any]) -> dict[str, str]:
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:  # written at a prompt
        source = None
    if source is None or not Path(source).is_file():
        return {}
    return {"code": _digest(source)}


@functools.cache
def _digest(source: str) -> str:
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()
