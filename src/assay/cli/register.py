"""``assay register``: evidence from what an owner keeps back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.inputs import read_data, settings
from assay.cli.options import Common, ModelOptions, Settings, open_models
from assay.cli.output import new_folder

if TYPE_CHECKING:
    from assay.data import Dataset

__all__ = ["register"]


def register(
    *,
    victim: Annotated[str, typer.Option(help="Your model: a file, a URL or module:function.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Evidence to write; never overwritten.")],
    model: ModelOptions,
    common: Common,
    private: Annotated[str | None, typer.Option(help="Data that trained the victim: private.npz.")] = None,
    control: Annotated[str | None, typer.Option(help="Data kept from everybody: control.npz.")] = None,
    split: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Both, from `assay split`, checked.")
    ] = None,
    scheme: Annotated[str, typer.Option(help="Kind of evidence; see `assay list schemes`.")] = (
        "dataset-inference"
    ),
    settings_: Settings = None,
    references: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answers of reference models (.npz); trained and written there if there is no such file.",
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Rows that thieves might ask about: references are copied through them as well, which finds "
            "rows that survive query theft, for twice the time.",
        ),
    ] = None,
) -> None:
    """Make evidence to test later copies of your model.

    The victim must have been trained on the private rows and on none of the control
    rows, and the split must have been drawn at random (`assay split`).
    """
    from assay.cli.output import new_file
    from assay.errors import InvalidInput
    from assay.evidence.dataset_inference import References
    from assay.registry import create

    maker: Any = create(scheme, "evidence", settings(settings_))
    if not hasattr(maker, "register"):
        msg = f"{scheme} evidence is trained into a model; use `assay embed --scheme {scheme}`"
        raise InvalidInput(msg)
    with new_folder(out, force=None) as folder, common.observers() as observers:
        mine, kept = _sides(private, control, split, common)
        with open_models([victim], model, common) as [opened]:
            asked = None if queries is None else read_data(queries, common.seed)
            known = None
            if references is not None:
                if references.exists():
                    known = References.load(references)
                else:
                    pool = mine.concat(kept, name="pool")
                    known = maker.panel(opened, pool, queries=asked, rng=common.seed, observers=observers)
                    with new_file(references) as partial:
                        known.save(partial)
            more = {k: v for k, v in {"references": known, "queries": asked}.items() if v is not None}
            evidence = maker.register(opened, mine, kept, rng=common.seed, observers=observers, **more)
            evidence.save(folder)
    found = {
        "evidence": str(out),
        "scheme": scheme,
        "needs": evidence.needs.title,
        "private_rows": len(mine),
        "control_rows": len(kept),
        "victim": evidence.facts.get("victim"),
        "commitment": evidence.commitment,
    }
    if common.json:
        print_json(found)
    elif not common.quiet:
        shown = {k.replace("_", " "): v for k, v in found.items() if k != "commitment"}
        print_tables(facts("Evidence", shown), f"publish before any dispute: {evidence.commitment}")


def _sides(
    private: str | None, control: str | None, split: Path | None, common: Common
) -> tuple[Dataset, Dataset]:
    from assay.data import Split
    from assay.errors import InvalidInput

    if split is not None and private is None and control is None:
        drawn = Split.load(split)
        return drawn.private, drawn.control
    if split is not None or private is None or control is None:
        msg = "give either --split FOLDER or both --private and --control; `assay split` writes all of them"
        raise InvalidInput(msg)
    return read_data(private, common.seed), read_data(control, common.seed)
