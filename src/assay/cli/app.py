"""The verbs of ``assay`` under one roof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from assay.cli.accounts import accounts
from assay.cli.audit import audit
from assay.cli.calibrate import calibrate
from assay.cli.demo import demo
from assay.cli.embed import embed
from assay.cli.extract import extract
from assay.cli.listing import list_data, list_names
from assay.cli.plan import plan
from assay.cli.register import register
from assay.cli.remove import remove
from assay.cli.report import report
from assay.cli.serve import serve
from assay.cli.solve import solve
from assay.cli.split import split
from assay.cli.study import STUDY_VERBS
from assay.cli.train import train
from assay.cli.verbs import Group, verb
from assay.cli.verify import verify
from assay.cli.verify_report import verify_report

__all__ = ["app"]

app = typer.Typer(cls=Group, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False)
data = typer.Typer(cls=Group, rich_markup_mode=None, help="Data sets: what is found, how to get the rest.")
study = typer.Typer(
    cls=Group, rich_markup_mode=None, help="Experiments from one file, resumed where they stopped."
)

_VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "extract": extract,
    "remove": remove,
    "split": split,
    "register": register,
    "embed": embed,
    "verify": verify,
    "verify-report": verify_report,
    "calibrate": calibrate,
    "serve": serve,
    "solve": solve,
    "accounts": accounts,
    "audit": audit,
    "report": report,
    "plan": plan,
    "list": list_names,
}
for _name, _function in _VERBS.items():
    app.command(_name)(verb(_function))
data.command("list")(verb(list_data))
app.add_typer(data, name="data")
for _name, _function in STUDY_VERBS.items():
    study.command(_name)(verb(_function))
app.add_typer(study, name="study")


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if wanted:
        from importlib import metadata

        typer.echo(f"assay {metadata.version('assay-ml')}")
        raise typer.Exit


@app.callback(
    help="Has your machine-learning model been stolen, and how hard is it to steal?\n\n"
    "Begin with `assay demo` or `assay list`. Every verb explains itself: `assay verify --help`."
)
def assay(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Do what every verb needs first: nothing."""
