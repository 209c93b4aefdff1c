"""What an exported PyTorch program may contain before torch is allowed to read it.

``torch.export.load`` trusts its file. Tried against torch 2.13, a forged archive runs code
through (1) weights and constants that its own tables mark as pickled, (2) sample inputs,
which are read with ``weights_only=True`` but unpickled in full when that fails, (3)
symbolic sizes, which ``sympy.sympify`` evaluates as Python, and (4) guards, which are
compiled and run with the graph. Reading its source adds (5) names of nodes, arguments
and containers, which end up in generated and executed Python or choose modules to
import, (6) operator names, which are resolved by attribute (``torch.os.system`` is found,
and refused only by a later check) and include operators that read or write files, and
(7) compiled libraries in the archive. A program is therefore rewritten first: only
parts that passed an allow list reach torch, in a new archive. Sample inputs, node
metadata and guards are left out, because nothing here needs them.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from assay.errors import InvalidInput

__all__ = ["safe_program"]

_TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = re.compile(r"[\w.]*", re.ASCII)  # cannot leave an identifier in generated source
_VERSION = re.compile(r"[\w.+\-]*", re.ASCII)
_ATEN = re.compile(r"torch\.ops\.aten\.(?!from_file\b|save\b)[a-z_]\w*\.\w+", re.ASCII)
_ARITHMETIC = frozenset(
    f"_operator.{name}" for name in ("add", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul")
) | frozenset(f"_operator.{name}" for name in ("ne", "neg", "pow", "sub", "truediv"))
_SYMBOL = re.compile(r"[a-z]{1,2}\d{1,9}", re.ASCII)
_FUNCTIONS = frozenset(
    (
        "Add",
        "Mul",
        "Integer",
        "Rational",
        "Symbol",
        "Min",
        "Max",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "ModularIndexing",
    )
)
_EXPRESSION = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.USub,
    ast.Load,
    ast.keyword,
)
_TREES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
_CONVERT = "export it again from plain layers with torch.export.save, or save a safetensors file instead"


def safe_program(data: bytes, name: str) -> bytes:
    """Return a new archive with the checked parts of an exported program.

    Parameters
    ----------
    data
        Content of a ``.pt2`` file written by ``torch.export.save`` (torch 2.8 or later).
    name
        How messages call the file.

    Raises
    ------
    InvalidInput
        If the archive is damaged or holds anything that is not on the allow list.
    """
    parts = _parts(data, name)
    for table in _TABLES:
        _check_table(_json(parts, table, name), table, name)
    program = _json(parts, "models/model.json", name)
    _strip(program, name)
    _check(program, "", name)
    parts["models/model.json"] = json.dumps(program).encode()
    parts["data/sample_inputs/model.pt"] = b""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
        for path, content in parts.items():
            archive.writestr(f"model/{path}", content)
    return result.getvalue()


def _parts(data: bytes, name: str) -> dict[str, bytes]:
    """Read the archive's known entries; whatever else it holds is refused or left behind."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                msg = f"{name} has compressed entries, which torch.export.save never writes"
                raise InvalidInput(msg)
            entries = {
                str(PurePosixPath(*PurePosixPath(i.filename).parts[1:])): archive.read(i) for i in infos
            }
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, InvalidInput):
            raise
        msg = f"{name} is no exported program: {error}"
        raise InvalidInput(msg) from error
    if len(entries) != len(infos):
        msg = f"{name} holds two entries of one name; the file is damaged or forged"
        raise InvalidInput(msg)
    required = {"archive_format", "archive_version", "models/model.json", *_TABLES}
    if missing := required - entries.keys():
        msg = f"{name} is no exported program of torch 2.8 or later (it lacks {min(missing)}); {_CONVERT}"
        raise InvalidInput(msg)
    left_behind = {"data/sample_inputs/model.pt", ".data/serialization_id"}
    known = required | left_behind | {"byteorder", ".data/version"}
    for path in entries:
        if path not in known and not _RAW.fullmatch(path) and not path.startswith("extra/"):
            msg = f"{name} holds {path!r}, which may carry pickled objects or compiled code; {_CONVERT}"
            raise InvalidInput(msg)
    return {p: c for p, c in entries.items() if p not in left_behind and not p.startswith("extra/")}


def _json(parts: dict[str, bytes], path: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(parts[path])
    except (ValueError, RecursionError) as error:
        msg = f"{name}: {path} is not JSON: {error}"
        raise InvalidInput(msg) from error
    if not isinstance(value, dict):
        msg = f"{name}: {path} must be a JSON object"
        raise InvalidInput(msg)
    return value


def _check_table(table: dict[str, Any], path: str, name: str) -> None:
    _check(table, "", name)
    rows = table.get("config")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        msg = f"{name}: {path} is malformed"
        raise InvalidInput(msg)
    folder = path.rpartition("/")[0]
    for tensor, row in rows.items():
        # `is not False`: a forger may leave the flag out or write 0, and torch decides by truth value.
        if row.get("use_pickle") is not False or not _RAW.fullmatch(f"{folder}/{row.get('path_name')}"):
            msg = f"{name}: {tensor!r} is stored as a pickle, which could run code when read; {_CONVERT}"
            raise InvalidInput(msg)


def _strip(program: dict[str, Any], name: str) -> None:
    """Empty the free-form fields that inference does not need."""
    try:
        module = program["graph_module"]
        program["guards_code"] = []
        module["metadata"] = {}
        module["treespec_namedtuple_fields"] = {}
        for node in module["graph"]["nodes"]:
            node["metadata"] = {}
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{name} is no exported program: its graph is malformed ({error})"
        raise InvalidInput(msg) from error


def _check(value: Any, key: str, name: str) -> None:
    """Hold every string of a JSON value, keys included, against the rule for its place."""
    for place, text in _strings(value, key):
        if place == "target":
            good = _ATEN.fullmatch(text) is not None or text in _ARITHMETIC
            what = "the operator"
        elif place == "expr_str":
            good, what = _is_size(text), "the symbolic size"
        elif place in ("in_spec", "out_spec"):
            good, what = _is_tree(text), "the container"
        elif place == "torch_version":
            good, what = _VERSION.fullmatch(text) is not None, "the version"
        else:
            good, what = _PLAIN.fullmatch(text) is not None, "the name"
        if not good:
            msg = f"{name} contains {what} {text[:80]!r}, which is not on the allow list; {_CONVERT}"
            raise InvalidInput(msg)


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    pending = [(key, value)]
    while pending:
        place, item = pending.pop()
        if isinstance(item, str):
            yield place, item
        elif isinstance(item, list):
            pending.extend((place, part) for part in item)
        elif isinstance(item, dict):
            for inner, part in item.items():
                yield "", inner
                # A parameter may be called "target"; only text can be mistaken for one.
                pending.append((inner, part))


def _is_size(text: str) -> bool:
    """Accept sums and products of whole numbers and symbols, and nothing that could call out."""
    try:
        tree = ast.parse(text, mode="eval") if text.isascii() and len(text) < 1000 else None  # noqa: PLR2004
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return tree is not None and all(_is_size_node(node) for node in ast.walk(tree))


def _is_size_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int) or (
            isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is not None
        )
    return isinstance(node, _EXPRESSION)


def _is_tree(text: str) -> bool:
    """Accept nested tuples, lists and dictionaries with plain keys.

    Other containers import modules by name, and keys become names in generated source.
    """
    try:
        protocol, root = json.loads(text)
        pending = [root]
        while pending:
            node = pending.pop()
            context = None if node["context"] is None else json.loads(node["context"])
            keys = [] if context is None else context
            plain = isinstance(keys, list) and all(isinstance(k, str) and _PLAIN.fullmatch(k) for k in keys)
            if node["type"] not in _TREES or not plain:
                return False
            pending.extend(node["children_spec"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
    return type(protocol) is int
