"""What turns a function into a verb: shared options, error sentences, exit codes."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from assay.cli.console import print_error
from assay.errors import AssayError

__all__ = ["Group", "verb"]

_BAD_INPUT, _INTERNAL, _INTERRUPTED = 2, 1, 130


class Group(TyperGroup):
    """A group of verbs whose usage errors are one sentence, like all others."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - the signature of the base class
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - same
        **extra: Any,
    ) -> Any:
        """Run a command line and leave the process with its exit code."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                args=given or ["--help"],
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except typer.Abort:
            code = _INTERRUPTED
        except Exception as error:
            # Usage errors belong to click or to typer's own copy of it, depending on typer's version.
            if not hasattr(error, "format_message"):
                raise
            name = getattr(getattr(error, "ctx", None), "command_path", "assay")
            print_error(f"{error.format_message().rstrip('.')} (see `{name} --help`)")
            code = _BAD_INPUT
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function.

    A parameter whose type is a dataclass becomes one option for each field. Errors become
    one sentence on standard error and the exit code of `assay.errors`.

    Parameters
    ----------
    function
        Its parameters become options; it writes what it has to say itself.
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, type[Any]] = {}
    own: list[inspect.Parameter] = []
    shared: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = typing.cast("type[Any]", parameter.annotation)
        shared += _fields(groups[parameter.name])
    options = own + shared

    def run(**values: Any) -> None:
        debug = bool(values.get("debug"))
        try:
            for name, group in groups.items():
                values[name] = group(**{f.name: values.pop(f.name) for f in dataclasses.fields(group)})
            function(**values)
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                traceback.print_exc()
            raise typer.Exit(_report(error)) from error

    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    run.__annotations__ = {p.name: p.annotation for p in options} | {"return": None}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # read by inspect.signature
    return run


def _fields(group: type[Any]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(group)
    ]


def _report(error: BaseException) -> int:
    """Say what went wrong in one sentence and return the exit code."""
    if isinstance(error, AssayError):
        print_error(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        print_error("interrupted; a run with a journal goes on where it stopped")
        return _INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has gone; the interpreter would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _INTERNAL
    if isinstance(error, OSError) and error.filename is not None:
        print_error(f"{error.filename}: {error.strerror}")
        return _BAD_INPUT
    print_error(f"internal error: {type(error).__name__}: {error} (run again with --debug for the traceback)")
    return _INTERNAL
