"""What is registered, read from the source without running it.

Looking a name up imports its room and with it torch, seconds of work for a list. So the
list is read from the decorators; a test compares it with the registry.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import assay

__all__ = ["Line", "lines"]

_ROOMS = {
    "extraction": "extraction",
    "removal": "removal",
    "evidence": "evidence",
    "defence": "defences",
    "leakage": "leakage",
    "test": "statistics",
    "architecture": "nets",
    "adapter": "adapters",
    "source": "data",
}


@dataclass(frozen=True)
class Line:
    """One registered thing: kind, name, first line of documentation, where it is written."""

    kind: str
    name: str
    summary: str
    module: str


@functools.cache
def lines(kind: str) -> tuple[Line, ...]:
    """Return every registered thing of a kind, by name.

    Examples
    --------
    >>> {line.name for line in lines("evidence")} >= {"dataset-inference", "trigger-set"}
    True
    """
    room = _ROOMS.get(kind)
    # Plug-ins say what they register only when they run.
    if room is None or metadata.entry_points(group="assay.plugins"):
        from assay.registry import registered

        return tuple(Line(kind, e.name, e.summary, e.target.__module__) for e in registered(kind))
    package = Path(assay.__file__).parent
    found = []
    for file in (package / room).rglob("*.py"):
        module = ".".join(("assay", *file.relative_to(package).with_suffix("").parts))
        found += [line for line in _scan(file, module) if line.kind == kind]
    return tuple(sorted(found, key=lambda line: line.name))


def _scan(file: Path, module: str) -> Iterator[Line]:
    text = file.read_text(encoding="utf-8")
    if "@register(" not in text and "@source(" not in text:
        return
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
                continue
            named = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
            kind = "source" if call.func.id == "source" else str(named.get("kind", ""))
            name = call.args[0]
            if call.func.id in ("register", "source") and isinstance(name, ast.Constant):
                summary = (ast.get_docstring(node) or "").split("\n")[0].replace("``", "")
                yield Line(kind, str(name.value), summary, module)
