"""What all evidence shares: metering, decisions, commitments, bundles, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from assay.errors import AccessDenied, BudgetExceeded, EvidenceTampered, InvalidInput, UnknownName
from assay.evidence import Evidence, Finding, Scheme, load_evidence
from assay.evidence.base import check_alpha, provenance
from assay.evidence.bundle import commit
from assay.model import Access
from assay.observers import Recorder
from assay.registry import register
from assay.result import Assumption, Calibration, Interval, TestResult, Verdict


@register("test-parity", kind="evidence")
@dataclass(frozen=True)
class Parity(Scheme):
    """Says as p-value what its evidence carries; asks three rows."""

    scheme: ClassVar[str] = "test-parity"
    levels: tuple[float, ...] = (0.5, 0.25)
    level: str = "labels"

    @property
    def needs(self) -> Access:
        return Access.parse(self.level)

    def examine(self, evidence, oracle, *, alpha, rng, observers=()):
        answers = oracle.labels(evidence.tensors["x"])
        result = TestResult("parity", "nothing", float(answers.sum()), evidence.facts["p"], {"rows": 3})
        return Finding(result, assumptions=(Assumption("none", holds=True),), samples={"key": [1.0]})

    def decoys(self, evidence, count, rng) -> Iterator[Evidence]:
        for turn in range(count):
            yield Evidence(self, evidence.tensors, {**evidence.facts, "turn": turn})


class Suspect:
    name, digest, input_shape, num_classes = "suspect", "d" * 64, (4,), 2

    def __init__(self, access=Access.LABELS):
        self.access, self.asked = access, 0

    def labels(self, x):
        self.asked += len(x)
        return torch.ones(len(x), dtype=torch.int64)


def evidence(p=0.005, nonce=None, **facts):
    base = {"input_shape": [4], "classes": ["a", "b"], "value_range": [0.0, 1.0], "p": p}
    return Evidence(Parity(), {"x": torch.zeros(3, 4)}, {**base, **facts}, nonce)


@pytest.mark.parametrize(
    ("p", "alpha", "decision"),
    [
        (0.005, 0.01, "stolen"),
        (0.01, 0.01, "stolen"),
        (0.0101, 0.01, "inconclusive"),
        (1.0, 0.5, "inconclusive"),
    ],
)
def test_decision(p, alpha, decision):
    verdict = evidence(p).verify(Suspect(), alpha=alpha)
    assert verdict.decision == decision
    assert verdict.stolen == (decision == "stolen")
    assert bool(verdict.reason) == (decision == "inconclusive")


def test_verdict_says_how_it_came_about():
    panel = Calibration(3, 0, 0.01, Interval(0.0, 0.0, 0.7))
    log, made = Recorder(), evidence()
    verdict = made.verify(Suspect(), budget=7, rng=11, price=0.5, calibration=panel, observers=[log])
    assert verdict.commitment == made.commitment
    assert verdict.suspect == "d" * 64
    assert verdict.scheme == "test-parity"
    assert verdict.queries == 3
    assert verdict.cost.dollars == 1.5
    assert verdict.calibration == panel
    assert verdict.seed == 11
    assert verdict.options == {"alpha": 0.01, "budget": 7, "rng": 11, "price": 0.5}
    assert verdict.versions == provenance()
    assert ("query", "suspect", 3, 3) in log.events
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_journal_replays_without_asking(tmp_path):
    made, suspect = evidence(), Suspect()
    first = made.verify(suspect, journal=tmp_path / "j.jsonl")
    second = made.verify(suspect, journal=tmp_path / "j.jsonl")
    assert suspect.asked < 6
    assert second.cost.replayed > first.cost.replayed
    assert second.p_value == first.p_value


def test_refusals_come_before_any_query():
    made = evidence()
    suspect = Suspect()
    with pytest.raises(BudgetExceeded):
        made.verify(suspect, budget=2)
    blind = Suspect(Access.NONE)
    with pytest.raises(AccessDenied, match="test-parity"):
        made.verify(blind)
    for field, value in (("input_shape", (5,)), ("num_classes", 3)):
        odd = Suspect()
        setattr(odd, field, value)
        with pytest.raises(InvalidInput, match="suspect"):
            made.verify(odd)
        assert odd.asked == 0
    for alpha in (0.0, -0.1, 0.51, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="alpha"):
            made.verify(suspect, alpha=alpha)
    assert suspect.asked == blind.asked == 0


def test_check_alpha_limits():
    check_alpha(0.5)
    check_alpha(1e-12)


def test_missing_facts():
    with pytest.raises(InvalidInput, match="classes, value_range"):
        Evidence(Parity(), {}, {"input_shape": [1]})


def test_commitment_hides_and_binds():
    assert evidence().commitment != evidence().commitment  # a fresh nonce each
    fixed = evidence(nonce="00" * 32)
    assert fixed.commitment == evidence(nonce="00" * 32).commitment
    assert fixed.commitment != evidence(nonce="00" * 32, p=0.006).commitment
    assert fixed.commitment != Evidence(Parity((0.1,)), fixed.tensors, fixed.facts, fixed.nonce).commitment
    assert fixed.commitment == commit(fixed.body)


def test_bundle_round_trip(tmp_path):
    made = Evidence(Parity((0.1, 0.2, 0.3), "scores"), *list(evidence().__dict__.values())[1:3])
    again = load_evidence(made.save(tmp_path / "b"))
    assert again.scheme == made.scheme  # lists of the manifest are tuples again
    assert again.commitment == made.commitment
    assert again.needs == Access.SCORES


def test_an_unknown_scheme_in_a_genuine_bundle(tmp_path):
    folder = evidence().save(tmp_path / "b")
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["scheme"] = "test-paritx"
    body = {k: v for k, v in manifest.items() if k not in ("files", "commitment")}
    file.write_text(json.dumps({**manifest, "commitment": commit(body)}))
    with pytest.raises(UnknownName, match="test-parity"):
        load_evidence(folder)


@pytest.mark.parametrize("field", ["facts", "nonce", "parameters"])
def test_an_incomplete_manifest_with_a_fitting_commitment(tmp_path, field):
    folder = evidence().save(tmp_path / "b")
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest[field]
    body = {k: v for k, v in manifest.items() if k not in ("files", "commitment")}
    file.write_text(json.dumps({**manifest, "commitment": commit(body)}))
    with pytest.raises(EvidenceTampered, match="incomplete"):
        load_evidence(folder)


def test_decoys_go_through_the_scheme():
    made = evidence()
    found = list(made.decoys(3, rng=1))
    assert [d.facts["turn"] for d in found] == [0, 1, 2]
    assert len({d.commitment for d in found}) == 3
