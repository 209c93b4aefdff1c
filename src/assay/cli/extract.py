"""``assay extract``: say how hard a model is to steal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.console import cost_rows, estimate, facts, grid, paid_line, print_json, print_tables
from assay.cli.exact import asked_of, dressed, worth_rows
from assay.cli.inputs import counts, read_data, settings
from assay.cli.options import Common, Force, ModelOptions, Settings, Spending, open_models
from assay.cli.output import new_folder, new_journal
from assay.errors import InvalidInput

__all__ = ["extract"]


def extract(
    *,
    victim: Annotated[str, typer.Option(help="The model to copy: a file, a URL or module:function.")],
    model: ModelOptions,
    spending: Spending,
    common: Common,
    pool: Annotated[
        str | None,
        typer.Option(
            help="The attacker's inputs, as in digits@train or images/, where the attack needs some."
        ),
    ] = None,
    attack: Annotated[str, typer.Option(help="See `assay list attacks`.")] = "label-query",
    defence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:K=V,K=V]", help="What the victim's service does to its answers."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Inputs that the victim takes; with ; between them, one for each feature.",
        ),
    ] = None,
    uniform: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Uniform inputs on which an exact copy is measured; 10000, of a URL 0."
        ),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="Data on which fidelity and accuracy are measured.")
    ] = None,
    curve: Annotated[
        str | None, typer.Option(metavar="N,N", help="Measure the copy after so many queries as well.")
    ] = None,
    settings_: Settings = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the copy and extraction.json go.")
    ] = None,
    force: Force = False,
) -> None:
    """Steal a model that you are allowed to steal.

    Says what the copy cost and what it is worth. Attacks that solve for the parameters
    (equation-solving, path-finding, ..., or auto, which picks one) need no pool.

    With --out, a run that was interrupted leaves FOLDER.partial with the answers it has
    paid for; the same command goes on from there.
    """
    from assay.registry import create

    thief: Any = create(attack, "extraction", settings(settings_))
    points = counts(curve)
    if pool is None and thief.needs_pool:
        msg = f"the attack {thief.name} needs inputs to ask about; give --pool DATA"
        raise InvalidInput(msg)
    with (
        open_models([victim], model, common) as [opened],
        new_journal(spending.journal),
        common.observers() as observers,
    ):
        asked = {
            "budget": spending.budget,
            "price": spending.price,
            "curve": points,
            "rng": common.seed,
            "observers": observers,
            "evaluation": None if evaluation is None else read_data(evaluation, common.seed),
        }
        inputs = None if pool is None else read_data(pool, common.seed)
        shown_as = dressed(opened, defence)
        asked |= asked_of(thief, shown_as, victim, domain, uniform, owned=opened)
        if out is None:
            record = thief.run(shown_as, inputs, journal=spending.journal, **asked).record
        else:
            with new_folder(out, force=force, keep="*.jsonl") as folder:
                journal = spending.journal or folder / "journal.jsonl"
                done = thief.run(shown_as, inputs, journal=journal, **asked)
                done.save(folder)
                record = done.record
        name, paid = shown_as.name, paid_line([opened])
    if common.json:
        print_json(record)
    elif not common.quiet:
        shown = {
            "victim": name,
            "fidelity": estimate(record.fidelity),
            "accuracy": estimate(record.accuracy),
            "victim's accuracy": estimate(record.victim_accuracy),
            **worth_rows(record.exact),
            **cost_rows(record.cost),
            "copy": None if out is None else next(out.glob("surrogate.*")),
        }
        print_tables(facts(f"Extraction by {record.attack}", shown), *paid)
        if len(record.curve) > 1:
            rows = [(f"{p.queries:,}", f"{p.fidelity:.3f}", f"{p.accuracy:.3f}") for p in record.curve]
            print_tables(grid("Curve", ("queries", "fidelity", "accuracy"), rows))
        if record.fidelity is None and record.exact is None:
            print_tables("give --evaluation DATA to measure what the copy is worth")
