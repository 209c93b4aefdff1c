"""The rows of a study: one JSON file, CSV and Parquet for further tools."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput, MissingDependency
from assay.study.columns import COLUMNS, Form, Row, checked_rows

__all__ = ["TABLES_FILE", "StudyTables", "csv_text", "plain_json"]

TABLES_FILE = "study-tables.json"
SCHEMA = 1
_LARGEST = 2**31
_INT64 = 2**63
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StudyTables:
    """Everything that a study found, as rows.

    Parameters
    ----------
    title, description
        What the study is called and what it asks.
    alpha
        Level at which its verdicts are read, in (0, 1).
    tables
        Rows by the name of their table; see `assay.study.columns.COLUMNS` for the columns
        of ``models``, ``extractions``, ``removals``, ``verdicts`` and ``panel``. Tables
        and columns of other names are kept as they are.
    published
        Numbers from papers: ``{"where": {column: value}, "table", "metric", "value",
        "source", "note"}``.
    provenance
        One row a step: ``key``, ``kind``, ``label``, ``seed``, ``version``, ``seconds``,
        ``memory`` (bytes), ``finished`` (seconds since 1970), ``versions``, ``inputs``
        (keys), ``config``.
    about
        Facts about the run. ``failed`` and ``skipped``, if they are there, list steps that
        brought no result, each with ``key``, ``kind``, ``label``, ``error`` and ``log`` (text,
        or where it is). ``titles`` says what names mean: ``{kind: {name: title}}``.

    Raises
    ------
    InvalidInput
        If something is not of its form; the message names table, row and column.

    Examples
    --------
    >>> tables = StudyTables("A study", tables={"models": [{"role": "victim", "accuracy": 0.9}]})
    >>> tables.tables["models"][0]["accuracy"], tables.rows("verdicts")
    (0.9, [])
    """

    title: str
    description: str = ""
    alpha: float = 0.01
    tables: dict[str, list[Row]] = field(default_factory=dict)
    published: list[Row] = field(default_factory=list)
    provenance: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("title", "description"):
            _require(isinstance(getattr(self, name), str), f"{name} must be text")
        number = isinstance(self.alpha, float | int) and not isinstance(self.alpha, bool)
        _require(number and 0 < self.alpha < 1, f"alpha must lie between 0 and 1, got {self.alpha!r}")
        _require(isinstance(self.about, dict), "about must be an object")
        _require(isinstance(self.tables, dict), "tables must be an object of tables")
        for name in self.tables:
            # Tables become files of their own.
            fits = isinstance(name, str) and _NAME.fullmatch(name) is not None
            _require(fits, f"a table's name is made of a-z, 0-9, - and _, got {name!r}")
        object.__setattr__(self, "tables", {k: checked_rows(k, v) for k, v in self.tables.items()})
        for name, check in (("published", _check_published), ("provenance", _check_step)):
            rows = getattr(self, name)
            _require(isinstance(rows, list), f"{name} must be a list")
            for row_number, row in enumerate(rows, 1):
                check(row, f"{name}, row {row_number}")
        for name in ("failed", "skipped"):
            rows = self.about.get(name, [])
            good = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
            _require(good, f"about.{name} must be a list of objects")

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table, none if the study has no such table."""
        return self.tables.get(table, [])

    def to_json(self) -> str:
        """Return JSON text; numbers that are not finite are written as text."""
        data = {"schema": SCHEMA, **vars(self)}
        return json.dumps(plain_json(data), allow_nan=False, separators=(",", ":")) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write ``study-tables.json``, at once.

        Parameters
        ----------
        path
            A folder, or a file that ends in ``.json``.

        Returns
        -------
        Path
            The file.
        """
        target = _file(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_text(self.to_json(), encoding="utf-8")
        return partial.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> StudyTables:
        """Read what `save` wrote.

        Raises
        ------
        InvalidInput
            If there is no such file, or it is no study's.
        """
        source = _file(path)
        try:
            _require(source.stat().st_size <= _LARGEST, f"{source} is larger than any study's tables")
            data = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
            msg = f"cannot read {source}: {error}"
            raise InvalidInput(msg) from error
        _require(isinstance(data, dict), f"{source} must hold a JSON object")
        schema = data.pop("schema", None)
        _require(schema == SCHEMA, f"{source} has schema {schema!r}; this version reads {SCHEMA}")
        extra = sorted(set(data) - set(cls.__dataclass_fields__))
        _require(not extra, f"{source} has unknown entries: {', '.join(extra)}")
        _require("title" in data, f"{source} has no title")
        try:
            return cls(**data)
        except InvalidInput as error:
            msg = f"{source}: {error}"
            raise InvalidInput(msg) from error

    def save_csv(
        self, folder: str | Path, extra: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    ) -> list[Path]:
        """Write one CSV file a table, ``provenance.csv`` and ``published.csv``.

        Parameters
        ----------
        folder
            Where they go.
        extra
            Further tables, for example summaries.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = []
        for name, rows in self._all(extra).items():
            files.append(target / f"{name}.csv")
            files[-1].write_text(csv_text(rows, COLUMNS.get(name, ())), encoding="utf-8")
        return files

    def save_parquet(
        self, folder: str | Path, extra: Mapping[str, Sequence[Mapping[str, Any]]] = {}
    ) -> list[Path]:
        """Write the same as Parquet; lists and objects become JSON text.

        Raises
        ------
        MissingDependency
            If pyarrow is not installed.
        """
        try:
            arrow = importlib.import_module("pyarrow")
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            msg = "Parquet files need pyarrow; install it with: pip install 'assay-ml[parquet]'"
            raise MissingDependency(msg) from error
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = []
        for name, rows in self._all(extra).items():
            if not rows:
                continue  # a file needs columns
            files.append(target / f"{name}.parquet")
            parquet.write_table(_arrow_table(arrow, rows, COLUMNS.get(name, {})), files[-1])
        return files

    def _all(
        self, extra: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> dict[str, Sequence[Mapping[str, Any]]]:
        own = {**self.tables, "published": self.published, "provenance": self.provenance}
        twice = sorted(set(own) & set(extra))
        _require(not twice, f"the study has tables of these names itself: {', '.join(twice)}")
        return {**own, **extra}


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, Any] = ()) -> str:
    """Return rows as CSV with a header; lists and objects as JSON, None as nothing.

    Text that a spreadsheet would compute is quoted.

    Examples
    --------
    >>> print(csv_text([{"name": "=1+1", "p": 0.5, "curve": [[1, 0.5]]}]).strip())
    name,p,curve
    '=1+1,0.5,"[[1, 0.5]]"
    """
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(_cell(row.get(name)) for name in names)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json.dumps(plain_json(value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _arrow_table(arrow: Any, rows: Sequence[Mapping[str, Any]], forms: Mapping[str, Form]) -> Any:
    columns = {}
    for name in dict.fromkeys([*forms, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        form = forms.get(name) or _form(values)
        if form == "flag":
            columns[name] = arrow.array(values, arrow.bool_())
        elif form == "whole" and all(v is None or -_INT64 <= v < _INT64 for v in values):
            columns[name] = arrow.array(values, arrow.int64())
        elif form in ("number", "share"):
            floats = [None if v is None else float(v) for v in values]
            columns[name] = arrow.array(floats, arrow.float64())
        else:
            texts = [v if v is None or isinstance(v, str) else json.dumps(plain_json(v)) for v in values]
            columns[name] = arrow.array(texts, arrow.string())
    return arrow.table(columns)


def _form(values: list[Any]) -> Form:
    """Return the form of a column that no table declares."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {bool}:
        return "flag"
    if kinds == {int}:
        return "whole"
    return "number" if kinds and kinds <= {int, float} else "text"


def plain_json(value: Any) -> Any:
    """Return a value that JSON can hold; numbers that are not finite become text.

    Raises
    ------
    InvalidInput
        If something is neither a number nor text, list, object, true, false or None.

    Examples
    --------
    >>> plain_json({"a": (1, float("inf"))})
    {'a': [1, 'inf']}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    msg = f"a study's tables hold plain JSON, got {type(value).__name__}"
    raise InvalidInput(msg)


def _check_published(row: Any, where: str) -> None:
    _require(isinstance(row, dict), f"{where}: expected an object")
    for name in ("table", "metric", "source"):
        _require(isinstance(row.get(name), str), f"{where}: {name!r} must be text")
    _require(isinstance(row.get("where"), dict), f"{where}: 'where' must be an object of columns and values")
    scalars = all(isinstance(v, bool | int | float | str) for v in row["where"].values())
    _require(scalars, f"{where}: 'where' must name one value a column")
    value = row.get("value")
    good = isinstance(value, int | float | str) and not isinstance(value, bool)
    _require(good, f"{where}: 'value' must be a number, or text where the paper gives no number")
    _require(isinstance(row.get("note", ""), str), f"{where}: 'note' must be text")


def _check_step(row: Any, where: str) -> None:
    _require(isinstance(row, dict), f"{where}: expected an object")
    key = row.get("key")
    _require(isinstance(key, str) and _KEY.fullmatch(key), f"{where}: 'key' must be 64 hexadecimal digits")
    _require(isinstance(row.get("kind"), str), f"{where}: 'kind' must be text")
    _require(isinstance(row.get("label", ""), str), f"{where}: 'label' must be text")
    for name in ("seed", "version", "seconds", "memory", "finished"):
        number = row.get(name, 0)
        good = isinstance(number, int | float) and not isinstance(number, bool)
        _require(good, f"{where}: {name!r} must be a number")
    for name, form in (("versions", dict), ("config", dict), ("inputs", list)):
        _require(isinstance(row.get(name, form()), form), f"{where}: {name!r} has the wrong form")
    texts = all(isinstance(text, str) for text in row.get("inputs", []))
    _require(texts, f"{where}: 'inputs' must be keys of steps")


def _file(path: str | Path) -> Path:
    place = Path(path)
    return place if place.suffix == ".json" else place / TABLES_FILE


def _require(holds: object, message: str) -> None:
    if not holds:
        raise InvalidInput(message)
