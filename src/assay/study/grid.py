"""From a study file to steps: victims x evidence x extractions x removals x verifications x seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from assay.errors import InvalidInput
from assay.model import Access
from assay.study.check import at, chain_of, chosen, options_of
from assay.study.file import Study, merged
from assay.study.material import Material, seed_of
from assay.study.names import check_names
from assay.study.others import Others
from assay.study.owners import Owned, Owners
from assay.study.plan import Cell, Plan
from assay.study.plugins import load_plugins
from assay.study.step import Step
from assay.study.store import Store

__all__ = ["Cell", "Plan", "plan_study"]

_NONE = "none"
_MOST = 200_000


def plan_study(study: Study, store: Store | None = None) -> Plan:
    """Expand a study; everything that it names is checked on the way.

    Parameters
    ----------
    study
        As read by `load_study`.
    store
        Where data sets that were loaded before are described, to spare loading them.

    Raises
    ------
    InvalidInput
        With the line of the file and the remedy.
    """
    with at(study, "study", "plugins"):
        load_plugins(study.file.study.plugins)
    check_names(study)
    return _Planner(study, store).plan()


class _Planner:
    """Walks the grid once; steps that two cells share have the same key and are kept once."""

    def __init__(self, study: Study, store: Store | None) -> None:
        self.study, self.file = study, study.file
        self.steps: dict[str, Step] = {}
        self.cells: dict[tuple[Any, ...], Cell] = {}
        self.material = Material(study, store, self.add)
        self.owners, self.others = Owners(self.material), Others(self.material)
        self.schemes: dict[tuple[str, str], Any] = {}
        self.attacks: dict[tuple[str, str, str], tuple[Any, Any]] = {}

    def add(self, step: Step) -> Step:
        """Keep a step and return it."""
        if len(self.steps) >= _MOST:
            msg = f"{self.study.where('grid')}: the grid has more than {_MOST:,} steps; leave some of it out"
            raise InvalidInput(msg)
        if step.key not in self.steps:
            self.steps[step.key] = replace(step, memory=step.memory or self.material.memory(step))
        return self.steps[step.key]

    def cell(self, table: str, row: dict[str, Any], step: Step, **about: str) -> None:
        """Keep a cell."""
        place = (table, *sorted((k, str(v)) for k, v in row.items()))
        self.cells.setdefault(place, Cell(table, row, step.key, about))

    def plan(self) -> Plan:
        """Walk."""
        f, s, grid = self.file, self.study, self.file.grid
        victims = chosen(s, grid.victims, f.victim, "victim", "grid", "victims")
        evidence = chosen(s, grid.evidence, f.evidence, "evidence", "grid", "evidence")
        extractions = chosen(s, grid.extractions, f.extraction, "extraction", "grid", "extractions")
        removals = [_NONE]
        if grid.removals != _NONE:
            known = {_NONE: None, **f.removal}
            removals = chosen(s, grid.removals, known, "removal", "grid", "removals")
        verifications = chosen(s, grid.verifications, f.verification, "verification", "grid", "verifications")
        panels = chosen(s, grid.panels, f.panel, "panel", "grid", "panels")
        if not extractions and not panels:
            msg = f"{s.where('grid')}: there is nothing to do: the grid has neither extractions nor panels"
            raise InvalidInput(msg)
        for victim in victims:
            for seed in f.study.seed_list:
                # Without evidence, the grid is about extraction alone.
                for kind in evidence or [_NONE]:
                    if not self.wanted({"victim": victim, "evidence": kind, "seed": seed}):
                        continue
                    owned = self.owned(victim, kind, seed)
                    for extraction in extractions:
                        for removal in removals:
                            self.suspect(owned, extraction, removal, verifications)
            for panel in panels:
                self.panel(victim, panel, evidence, verifications)
        if not self.steps:
            msg = f"{s.where('grid')}: there is nothing to do: victims and filters leave nothing of the grid"
            raise InvalidInput(msg)
        return Plan(tuple(self.steps.values()), tuple(self.cells.values()))

    def wanted(self, place: dict[str, Any]) -> bool:
        """Whether the grid's filters let a place pass; filters about more than it knows wait."""

        def fits(rule: dict[str, Any]) -> bool | None:
            """Whether a place is what a rule is about; None if that cannot be said yet."""
            known = {k: v for k, v in rule.items() if k in place}
            same = all(place[k] in v if isinstance(v, list) else place[k] == v for k, v in known.items())
            return False if not same else True if len(known) == len(rule) else None

        grid = self.file.grid
        if any(fits(rule) is True for rule in grid.exclude):
            return False
        return not grid.only or any(fits(rule) is not False for rule in grid.only)

    def scheme(self, victim: str, kind: str) -> Any:
        """Return the configured scheme of a kind of evidence."""
        if (victim, kind) not in self.schemes:
            table = merged(self.file.evidence[kind], victim)
            self.schemes[victim, kind] = options_of(
                self.study, "evidence", table.scheme, table.options, "evidence", kind, victim=victim
            )
        return self.schemes[victim, kind]

    def owned(self, victim: str, kind: str, seed: int) -> Owned:
        """Plan what the owner does: a victim, and evidence about it."""
        scheme = None if kind == _NONE else self.scheme(victim, kind)
        table = None if kind == _NONE else merged(self.file.evidence[kind], victim)
        copies = None
        if table is not None and table.references is not None and table.references.copies is not None:
            name = table.references.copies
            chosen(self.study, [name], self.file.extraction, "extraction", "evidence", kind, "references")

            def copies(model: Step, index: int) -> Step:
                return self.theft(victim, model, name, index, Access.WEIGHTS, None)

        owned = self.owners.owned(victim, kind, seed, scheme, table, copies)
        place = {"victim": victim, "data": self.file.victim[victim].data}
        self.cell("models", {"role": "victim", **place, "seed": seed, "evidence": kind}, owned.victim)
        for index, reference in enumerate(owned.references):
            self.cell("models", {"role": "reference", **place, "evidence": kind, "index": index}, reference)
        return owned

    def suspect(self, owned: Owned, extraction: str, removal: str, verifications: list[str]) -> None:
        """Plan a theft, what the thief does to his copy, and the verdicts about it."""
        place = {"victim": owned.name, "evidence": owned.kind, "extraction": extraction}
        if not self.wanted({**place, "removal": removal, "seed": owned.seed}):
            return
        model = self.theft(
            owned.name, owned.victim, extraction, owned.seed, owned.access, owned.private, owned.wears
        )
        self.cell("extractions", {**place, "seed": owned.seed}, model)
        if removal != _NONE:
            for link in chain_of(self.study, "removal", removal, self.file.removal):
                model = self.removal(owned, model, link)
            self.cell("removals", {**place, "removal": removal, "seed": owned.seed}, model)
        if owned.bundle is None:
            return
        scheme = self.scheme(owned.name, owned.kind)
        for name in verifications:
            table = merged(self.file.verification[name], owned.name)
            row = {**place, "removal": removal, "verification": name, "seed": owned.seed}
            if not self.wanted(row):
                continue
            self.check_access(owned.name, owned.kind, name, table.access)
            step = self.add(
                Step(
                    "verify",
                    self.verification(table) | ({"whole": True} if table.whole else {}),
                    {"evidence": owned.bundle.key, "suspect": model.key},
                    seed_of("verify", owned.seed),
                    f"verify {extraction} of {owned.name}, {owned.kind} by {name}, seed {owned.seed}",
                    self.material.test_seconds(owned.name),
                )
            )
            row |= {"access": table.access, "scheme": scheme.scheme}
            self.cell("verdicts", row, step, suspect=model.key, evidence=owned.bundle.key)

    def theft(
        self,
        victim: str,
        model: Step,
        extraction: str,
        seed: int,
        access: Access,
        private: dict[str, Any] | None,
        wears: dict[str, Any] | None = None,
    ) -> Step:
        """Plan an extraction, link by link: each link steals the copy of the one before."""
        for link in chain_of(self.study, "extraction", extraction, self.file.extraction):
            table, attack = self.attack(victim, link, "extraction")
            if attack.needs not in access:
                where = self.study.where("extraction", link, "attack", victim=victim)
                msg = (
                    f"{where}: the attack {table.attack} needs {attack.needs.title}, but the victim {victim} "
                    f"offers {access.title} only; leave the pair out with [grid] exclude = "
                    f'[{{ victim = "{victim}", extraction = "{extraction}" }}]'
                )
                raise InvalidInput(msg)
            model = self.others.theft(victim, model, link, table, attack, seed, private, access, wears)
            access, wears = Access.WEIGHTS, None  # the thief owns his copy
        return model

    def removal(self, owned: Owned, model: Step, link: str) -> Step:
        """Plan one removal."""
        table, attack = self.attack(owned.name, link, "removal")
        return self.others.removal(owned.name, model, link, table, attack, owned.seed)

    def attack(self, victim: str, name: str, kind: str) -> tuple[Any, Any]:
        """Return table and configured attack of a link for a victim."""
        place = (kind, victim, name)
        if place not in self.attacks:
            table = merged(getattr(self.file, kind)[name], victim)
            registered = table.attack if kind == "extraction" else table.removal
            options = table.options
            found = options_of(self.study, kind, registered, options, kind, name, victim=victim)
            self.attacks[place] = (table, found)
        return self.attacks[place]

    def panel(self, victim: str, name: str, evidence: list[str], verifications: list[str]) -> None:
        """Plan the error rates of evidence on independent models."""
        table, s = merged(self.file.panel[name], victim), self.study
        if victim not in chosen(s, table.victims, self.file.victim, "victim", "panel", name, "victims"):
            return
        kinds = chosen(s, table.evidence, self.file.evidence, "evidence", "panel", name, "evidence")
        ways = chosen(
            s, table.verifications, self.file.verification, "verification", "panel", name, "verifications"
        )
        seeds = self.file.study.seed_list if table.seeds == "all" else table.seeds
        own = table.evidence != "all"  # a panel may name evidence that the grid leaves out
        rows: list[dict[str, Any]] = [
            {"victim": victim, "evidence": kind, "panel": name, "seed": seed, "verification": way}
            for kind in kinds
            for seed in seeds
            for way in ways
            if own or (kind in evidence and way in verifications)
        ]
        rows = [row for row in rows if self.wanted(row)]
        if not rows:
            return
        models = self.others.panel(victim, name, table)
        place = {"victim": victim, "data": self.file.victim[victim].data}
        for index, model in enumerate(models):
            self.cell("models", {"role": "independent", **place, "panel": name, "index": index}, model)
        for row in rows:
            self.error_rates(row, table, models)

    def error_rates(self, row: dict[str, Any], table: Any, models: list[Step]) -> None:
        """Plan the verdicts about a panel, for one piece of evidence."""
        victim, kind, seed = row["victim"], row["evidence"], row["seed"]
        owned = self.owned(victim, kind, seed)
        test = merged(self.file.verification[row["verification"]], victim)
        assert owned.bundle is not None
        self.check_access(victim, kind, row["verification"], test.access)
        step = self.add(
            Step(
                "panel",
                self.verification(test) | {"secrets": table.secrets, "redraws": table.redraws},
                {"evidence": owned.bundle.key, "models": tuple(m.key for m in models)},
                seed_of("panel", seed),
                f"{kind} by {row['verification']} on the panel {row['panel']}, {victim}, seed {seed}",
                self.others.panel_seconds(victim, table, models),
            )
        )
        known = {"access": test.access, "scheme": self.scheme(victim, kind).scheme}
        self.cell("panel", row | known, step)

    def verification(self, table: Any) -> dict[str, Any]:
        """Return the configuration of a verification."""
        alpha = self.file.study.alpha if table.alpha is None else table.alpha
        return {"access": table.access, "alpha": alpha, "budget": table.budget}

    def check_access(self, victim: str, kind: str, verification: str, access: str) -> None:
        """Raise `InvalidInput` unless the evidence can be verified with so much access."""
        scheme = self.scheme(victim, kind)
        with at(self.study, "verification", verification, "access", victim=victim):
            if scheme.needs in Access.parse(access):
                return
            msg = (
                f"verifying the evidence {kind} ({scheme.scheme}) needs {scheme.needs.title}, "
                f"the verification {verification} grants {access}; leave the pair out with [grid] exclude = "
                f'[{{ evidence = "{kind}", verification = "{verification}" }}]'
            )
            raise InvalidInput(msg)
