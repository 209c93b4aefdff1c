"""The whole play: the owner prepares, models are stolen, everybody is examined, a report is written."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.adapters import open_model, save_model
from assay.demo.cast import innocents, thefts
from assay.demo.material import Plan, gather
from assay.demo.owner import prepare
from assay.errors import InvalidInput
from assay.evidence import Evidence
from assay.model import Model
from assay.observers import Observer, Observers
from assay.report import Entry, build_report, load_entries
from assay.report.entries import LABELS_FILE, Truth
from assay.result import Calibration, Verdict
from assay.statistics import false_positive_rate

__all__ = ["DemoResult", "Plan", "run"]


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Parameters
    ----------
    folder
        Everything that was written.
    report
        The HTML page.
    entries
        Verdicts and thefts with their names, as in the report.
    seconds
        Wall-clock time.
    """

    folder: Path
    report: Path
    entries: tuple[Entry, ...]
    seconds: float

    def verdict(self, suspect: str, evidence: str) -> Verdict:
        """Return one verdict.

        Raises
        ------
        InvalidInput
            If there is none.
        """
        for entry in self.entries:
            if isinstance(entry.record, Verdict) and (entry.suspect, entry.evidence) == (suspect, evidence):
                return entry.record
        msg = f"the demo has no verdict about {suspect!r} from {evidence!r}"
        raise InvalidInput(msg)


def run(
    out: str | Path = "assay-demo",
    *,
    seed: int = 0,
    plan: Plan | None = None,
    observers: Sequence[Observer] = (),
) -> DemoResult:
    """Train a victim, steal it six ways, and find out who did it.

    Parameters
    ----------
    out
        Folder for models, evidence, verdicts and report; new or empty.
    seed
        Of everything random. No seed is special.
    plan
        How large the demo is; the standard size takes about a minute.
    observers
        Told about five tasks: the victim, the references, thefts, innocent models and
        verdicts.

    Raises
    ------
    InvalidInput
        If the folder holds something.
    MissingDependency
        If jinja2 or matplotlib are not installed.
    """
    folder, plan, started = Path(out), plan or Plan(), time.perf_counter()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"{folder} already exists and is not empty; choose another folder for the demo"
        raise InvalidInput(msg)
    material = gather(plan, seed)
    watch = Observers(observers)
    victim, evidence = prepare(material, plan, folder / "owner", observers)

    suspects: dict[str, Path] = {}
    watch.on_start("thefts", 6)
    for done, (name, theft) in enumerate(thefts(victim, material, plan), 1):
        suspects[name] = theft.save(_labelled(folder / "suspects" / name, name, "stolen"))
        watch.on_step("thefts", done)
    watch.on_end("thefts")
    independent: dict[str, Path] = {}
    watch.on_start("innocent models", plan.independents)
    for done, (name, model) in enumerate(innocents(material, plan), 1):
        place = _labelled(folder / "suspects" / f"innocent-{done:02d}", name, "independent")
        independent[name] = place
        save_model(model, place / "model.safetensors", classes=material.split.pool.classes)
        watch.on_step("innocent models", done)
    watch.on_end("innocent models")

    watch.on_start("verdicts", len(evidence) * (len(suspects) + len(independent)))
    done = 0
    for kind, secret in evidence.items():
        # The innocent first: how often they are accused belongs into the verdicts about the others.
        accused = [_examine(secret, kind, place, plan, seed).stolen for place in independent.values()]
        rate = false_positive_rate(sum(accused), len(accused))
        calibration = Calibration(len(accused), sum(accused), plan.alpha, rate, "the demo's innocent models")
        watch.on_step("verdicts", done := done + len(accused))
        for place in suspects.values():
            _examine(secret, kind, place, plan, seed, calibration)
            watch.on_step("verdicts", done := done + 1)
    watch.on_end("verdicts")

    order = {kind: place for place, kind in enumerate(evidence)}
    found = load_entries([*suspects.values(), *independent.values()])
    entries = tuple(sorted(found, key=lambda entry: order.get(entry.evidence, -1)))
    seconds = time.perf_counter() - started
    report = build_report(entries, "Assay demo: who stole the digits?", notes=_notes(plan, seed))
    return DemoResult(folder, report.save(folder), entries, seconds)


def _examine(
    secret: Evidence, kind: str, place: Path, plan: Plan, seed: int, calibration: Calibration | None = None
) -> Verdict:
    """Open a suspect's file, as an owner would who was handed it, and verify."""
    suspect = _open(place)
    verdict = secret.verify(suspect, alpha=plan.alpha, rng=seed, calibration=calibration)
    verdict.save(place / f"verdict-{kind}.json")
    return verdict


def _open(place: Path) -> Model:
    return open_model(next(place.glob("*.safetensors")), name=place.name)


def _labelled(place: Path, suspect: str, truth: Truth) -> Path:
    place.mkdir(parents=True)
    (place / LABELS_FILE).write_text(json.dumps({"suspect": suspect, "truth": truth}), encoding="utf-8")
    return place


def _notes(plan: Plan, seed: int) -> list[str]:
    story = (
        f"Real handwritten digits (scikit-learn, 8x8 pixels): a pool of {plan.pool:,} was split in half by a "
        "secret coin, committed before anything was trained. The victim was trained on the private half, "
        "with a trigger-set watermark. It was then stolen in six ways, and other models were trained that "
        "owe it nothing: on other rows, or on rows of the pool drawn without regard to the coin."
    )
    terms = (
        f"Every test has level α = {plan.alpha:g}. Seed {seed}. "
        "Nothing was left out: a theft that a test misses is shown as missed."
    )
    kinds = (
        "labels: one label on each row that tells, a bet on each answer. scores: probabilities on the same "
        "kind of rows, one permutation test. blind-walk and mingd: distances to the decision boundary, by "
        "labels alone and with the weights. trigger-set: secret answers to marked images, which follow the "
        "model but not its training rows."
    )
    return [story, kinds, terms]
