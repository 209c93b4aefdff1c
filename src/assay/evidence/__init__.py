"""Evidence: what an owner keeps back or embeds, and the tests that use it."""

from assay.evidence.base import Evidence, Finding, Scheme, load_evidence

__all__ = ["Evidence", "Finding", "Scheme", "load_evidence"]
