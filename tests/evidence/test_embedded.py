"""The steps of embedding that all schemes share: their order, what they refuse, what they report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import marked_digits
import pytest
import torch

from assay.data.embedded import breast_cancer
from assay.errors import InvalidInput
from assay.evidence.watermarks.embedded import Marked, TrainedIn, accuracy, matches, under_other_keys
from assay.evidence.watermarks.keys import derive, draw_key
from assay.evidence.watermarks.marking import hold_out, limits
from assay.evidence.watermarks.trigger_scheme import Triggers, TriggerScheme
from assay.nets import Recipe

BRIEF = Recipe(epochs=1, optimizer="adam", lr=5e-3)


@dataclass(frozen=True)
class Plain(TriggerScheme, TrainedIn[Triggers]):
    """Marks nothing and writes down what it was told."""

    scheme: ClassVar[str] = "plain"

    heard: list = field(default_factory=list)

    def mark(self, shop, key):
        rows = shop.data
        self.heard.append(("mark", key))

        def control():
            self.heard.append(("control", key))
            return shop.fit(rows, "unmarked", shift=1)

        choices = [[int(own), (int(own) + 1) % rows.num_classes] for own in rows.y[:20]]
        triggers = Triggers.one_each(key, rows.x[:20], choices, rows.num_classes)
        return Marked(triggers, shop.fit(rows, "marked"), control, (7, 5), {"said": 1})


def embed(scheme, **options):
    return scheme.embed(marked_digits.parts(900)[0], architecture="mlp-8", recipe=BRIEF, **options)


def test_the_control_is_trained_only_where_it_is_asked_for():
    scheme = Plain()
    made = embed(scheme, key=3)
    assert made.unmarked is made.record.unmarked_match_rate is made.record.unmarked_p_value is None
    assert made.evidence.facts["unmarked_matches"] is None
    both = embed(scheme, key=3, compare_unmarked=True)
    assert scheme.heard == [("mark", draw_key(3)), ("mark", draw_key(3)), ("control", draw_key(3))]
    assert both.unmarked.digest != both.model.digest == made.model.digest


def test_what_is_committed_and_reported():
    rows, _, evaluation = marked_digits.parts(900)
    made = embed(Plain(), key=3, compare_unmarked=True, evaluation=evaluation)
    facts, record = made.evidence.facts, made.record
    assert (facts["key"], facts["data"], facts["model"]) == (draw_key(3), rows.digest, made.model.digest)
    assert (facts["said"], facts["marks"], len(facts["choices"])) == (1, 20, 20)
    assert made.evidence.nonce == derive(draw_key(3), "nonce")
    assert (record.clean_rows, record.marked_rows) == (7, 5)
    assert record.accuracy == accuracy(made.model, evaluation) != record.unmarked_accuracy
    wanted = torch.tensor(facts["choices"])[:, 0]
    assert 0 <= matches(made.model, rows.x[:20], wanted) <= 20
    assert record.unmarked_p_value == made.evidence.verify(made.unmarked, alpha=0.5).p_value
    assert record.commitment == made.evidence.commitment


def test_keys_of_real_disputes_are_drawn_anew():
    scheme = Plain()
    assert embed(scheme).evidence.facts["key"] != embed(scheme).evidence.facts["key"]


def test_nothing_is_trained_for_evaluation_rows_that_do_not_fit():
    scheme = Plain()
    for other in (breast_cancer(), marked_digits.parts(900)[2].subset([])):
        with pytest.raises(InvalidInput, match="is empty, or its shape or classes"):
            embed(scheme, evaluation=other)
    assert scheme.heard == []
    assert accuracy(None, marked_digits.parts(900)[2]) is None


def test_other_keys_change_nothing_else():
    evidence = embed(Plain(), key=3).evidence
    found = list(under_other_keys(evidence.scheme, evidence, 3, rng=1, tensors={}, facts={"said": 2}))
    assert len({one.facts["key"] for one in found} | {evidence.facts["key"]}) == 4
    for one in found:
        assert one.tensors == {}
        assert one.facts == {**evidence.facts, "key": one.facts["key"], "said": 2}
        assert one.nonce == derive(one.facts["key"], "nonce")
    again = under_other_keys(evidence.scheme, evidence, 3, rng=1)
    assert [one.facts["key"] for one in again] == [one.facts["key"] for one in found]


def test_rows_are_held_out_once_and_the_refusal_says_what_for():
    rows = marked_digits.parts(900)[0]
    kept, rest = hold_out(rows, 225, 4)
    assert (len(kept), len(rest)) == (225, 675)
    every = {row.numpy().tobytes() for row in torch.cat([kept.x, rest.x])}
    assert every == {row.numpy().tobytes() for row in rows.x}
    with pytest.raises(InvalidInput, match=r"226 tokens would take .* at most 225, or none$"):
        hold_out(rows, 226, 4, kind="tokens", remedy=", or none")


def test_limits_have_a_row_axis_for_images_and_tables():
    image, table = marked_digits.parts(900)[0], breast_cancer()
    low, high = limits(image)
    assert low.shape == high.shape == (1, 1, 8, 8)
    assert (float(low.min()), float(high.max())) == image.value_range
    low, high = limits(table)
    assert low.shape == (1, 30)
    assert bool((table.x >= low).all() & (table.x <= high).all())
