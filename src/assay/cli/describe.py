"""One registered thing in full: what its documentation says of it and of each hyperparameter."""

from __future__ import annotations

import inspect
import re
from typing import Any

from assay.registry import get

__all__ = ["describe"]

_FROM_CALLER = {"input_shape", "num_classes", "source", "how", "private", "control", "rng", "seed"}


def describe(name: str, kind: str) -> dict[str, Any]:
    """Return name, kind, summary, description, needs and parameters of a registered thing.

    Examples
    --------
    >>> found = describe("label-query", "extraction")
    >>> found["needs"], [p["name"] for p in found["parameters"]][:2]
    ('labels', ['preset', 'epochs'])
    """
    entry = get(name, kind)
    target = entry.target
    documented: dict[str, str] = {}
    for each in reversed(target.__mro__ if inspect.isclass(target) else (target,)):
        documented |= _parameters(each.__doc__ or "")
    return {
        "name": name,
        "kind": kind,
        "summary": _flow(entry.summary),
        "description": _description(target.__doc__ or ""),
        "needs": _needs(target),
        "parameters": [
            {"name": field, "default": default, "documentation": documented.get(field, "")}
            for field, default in (entry.parameters or _signature(target)).items()
        ],
    }


def _needs(target: Any) -> str:
    """Return the access that an attack or a scheme with default settings needs."""
    needs = getattr(target, "needs", None)
    if isinstance(needs, property):
        needs = target().needs
    return getattr(needs, "title", "") or ("" if needs is None else "no access to the model")


def _signature(target: Any) -> dict[str, str]:
    found = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name in _FROM_CALLER:
            continue
        stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ""
        missing = parameter.default is inspect.Parameter.empty
        default = ("" if stars else "required") if missing else repr(parameter.default)
        found[stars + parameter.name] = default
    return found


def _sections(doc: str) -> dict[str, str]:
    """Split a numpydoc string at its underlined titles; what comes before them is called ``""``."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _description(doc: str) -> str:
    return _flow(_sections(doc)[""].partition("\n")[2])


def _parameters(doc: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for names, text in re.findall(
        r"^(\S[^\n]*)\n((?:[ \t]+[^\n]*\n?|\n)+)", _sections(doc).get("Parameters", "") + "\n", re.MULTILINE
    ):
        found |= {name.split(":")[0].strip(" *"): _flow(text) for name in names.split(",")}
    return found


def _flow(text: str) -> str:
    """Join lines, and drop the marks of reStructuredText that only a browser would use."""
    return re.sub(r"[`]{1,2}|\*\*", "", " ".join(text.split()))
