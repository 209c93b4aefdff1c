"""Statements of the request path, compiled once and run on the driver's own cursor.

SQLAlchemy writes the SQL for each kind of database; what it does around every execution
(parameters, result objects, events) costs several times what SQLite itself needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import exc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Dialect, Executable

__all__ = ["Prepared", "on_driver"]


def on_driver(connection: Connection, text: str, values: Any = ()) -> Any:
    """Execute SQL text on the driver's cursor and return the cursor.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        Whatever the driver raises, as SQLAlchemy would have raised it.
    """
    fairy = connection.connection
    cursor = fairy.cursor()
    driver = connection.dialect.loaded_dbapi
    try:
        cursor.execute(text, values)
    except driver.Error as error:
        lost = connection.dialect.is_disconnect(error, fairy.dbapi_connection, cursor)
        if lost:
            connection.invalidate(error)
        raise exc.DBAPIError.instance(
            text,
            None,  # parameters do not belong into a message
            error,
            driver.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=connection.dialect,
        ) from error
    return cursor


class _Compiled(NamedTuple):
    text: str
    order: Sequence[str] | None  # of the parameters, where they have no names
    constants: Mapping[str, Any]  # values that the statement itself has


class Prepared:
    """A statement with fixed parameters and plain types (numbers, texts, bytes).

    Parameters
    ----------
    statement
        Of SQLAlchemy's core, without parameters that expand.

    Examples
    --------
    >>> from sqlalchemy import bindparam, create_engine, select
    >>> double = Prepared(select(bindparam("x", type_=None) * 2))
    >>> with create_engine("sqlite://").connect() as connection:
    ...     double.rows(connection, {"x": 21})
    [(42,)]
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}  # by the kind of database

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled: Any = self._statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every ClauseElement has it
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        made = _Compiled(str(compiled), compiled.positiontup, constants)
        self._compiled[dialect.name] = made
        return made

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Execute and return the number of rows that it changed."""
        return int(self._execute(connection, values).rowcount)

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        """Execute and return all rows."""
        found: Sequence[tuple[Any, ...]] = self._execute(connection, values).fetchall()
        return found

    def _execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        dialect = connection.dialect
        made = self._compiled.get(dialect.name) or self._compile(dialect)
        if made.constants:
            values = {**made.constants, **values}
        order = made.order
        return on_driver(connection, made.text, values if order is None else [values[name] for name in order])
