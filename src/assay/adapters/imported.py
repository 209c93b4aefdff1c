"""The user's own code, named explicitly as ``module:function``."""

from __future__ import annotations

import importlib
import re
from typing import Any

from assay.errors import InvalidInput

__all__ = ["import_object", "is_import_spec"]

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def is_import_spec(text: str) -> bool:
    """Tell whether ``text`` has the form ``module:function``.

    Examples
    --------
    >>> is_import_spec("package.module:function"), is_import_spec("http://host/model")
    (True, False)
    """
    return _SPEC.fullmatch(text) is not None


def import_object(spec: str) -> Any:
    """Import what ``module:function`` names; this runs the module's code.

    Only ever call it with what the user typed, never with what a file says.

    Raises
    ------
    InvalidInput
        If the form is wrong, the module cannot be imported or lacks the name.

    Examples
    --------
    >>> import_object("math:sqrt")(9)
    3.0
    """
    if not is_import_spec(spec):
        msg = f"{spec!r} must have the form module:function"
        raise InvalidInput(msg)
    module_name, _, path = spec.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything while it runs
        msg = f"cannot import {module_name!r} for {spec!r}: {error}; is it installed or on PYTHONPATH?"
        raise InvalidInput(msg) from error
    for part in path.split("."):
        if not hasattr(found, part):
            msg = f"module {module_name!r} has no {path!r}, which {spec!r} asks for"
            raise InvalidInput(msg)
        found = getattr(found, part)
    return found
