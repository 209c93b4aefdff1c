"""Prices: from log flip probabilities and an account's past to units of work."""

from assay.gateway.policy import Policy
from assay.gateway.pricing.additive import AdditiveRule, item_units
from assay.gateway.pricing.budgets import Decision, Usage, decide
from assay.gateway.pricing.offers import Offer, draw, make_offer
from assay.gateway.pricing.paper import PaperRule
from assay.gateway.pricing.rule import Rule, Settlement

__all__ = [
    "AdditiveRule",
    "Decision",
    "Offer",
    "PaperRule",
    "Rule",
    "Settlement",
    "Usage",
    "decide",
    "draw",
    "item_units",
    "make_offer",
    "open_rule",
]


def open_rule(policy: Policy) -> Rule:
    """Return the pricing rule of a policy.

    Examples
    --------
    >>> open_rule(Policy()).name
    'additive'
    """
    return PaperRule(policy) if policy.pricing.mode == "paper" else AdditiveRule(policy)
