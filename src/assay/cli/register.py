"""``assay register``: evidence from what an owner keeps back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.inputs import read_data, settings
from assay.cli.options import Common, ModelOptions, Settings, open_models
from assay.cli.output import new_folder
from assay.observers import Observer

if TYPE_CHECKING:
    from assay.data import Dataset
    from assay.evidence.dataset_inference import References
    from assay.model import Model

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
) -> None:
    """Make evidence to test later copies of your model.

    The victim must have been trained on the private rows and on none of the control
    rows, and the split must have been drawn at random (`assay split`).
    """
    from assay.errors import InvalidInput
    from assay.registry import create

    maker: Any = create(scheme, "evidence", settings(settings_))
    if not hasattr(maker, "register"):
        msg = f"{scheme} evidence is trained into a model; use `assay embed --scheme {scheme}`"
        raise InvalidInput(msg)
    with new_folder(out, force=None) as folder, common.observers() as observers:
        mine, kept = _sides(private, control, split, common)
        with open_models([victim], model, common) as [opened]:
            known = None
            if references is not None:
                pool = mine.concat(kept, name="pool")
                known = _references(references, maker, opened, pool, common.seed, observers)
            evidence = maker.register(
                opened, mine, kept, references=known, rng=common.seed, observers=observers
            )
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


def _references(
    path: Path, maker: Any, victim: Model, pool: Dataset, seed: int, observers: Sequence[Observer]
) -> References:
    """Read references, or train and keep them for the next model of the same rows."""
    import numpy as np

    from assay.cli.output import new_file
    from assay.evidence.dataset_inference import References, train_references
    from assay.evidence.dataset_inference.references import row_digests
    from assay.model import Access
    from assay.nets import Network

    if path.exists():
        return References.load(path)
    name = maker.architecture
    if name is None and Access.WEIGHTS in victim.access and isinstance(victim.module, Network):
        name = victim.module.architecture
    # Private rows come first in the pool; references must be trained in an order that does not tell.
    rows = pool.subset(np.argsort(row_digests(pool), kind="stable"))
    with new_file(path) as partial:
        trained = train_references(
            rows,
            maker.references,
            architecture=name,
            recipe=maker.recipe,
            rng=seed,
            observers=observers,
        )
        trained.save(partial)
    return trained
