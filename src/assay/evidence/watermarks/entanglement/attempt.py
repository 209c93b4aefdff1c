"""What was tried before a mark reached a copy."""

from __future__ import annotations

from dataclasses import dataclass

from assay.result import Record

__all__ = ["Attempt"]


@dataclass(frozen=True)
class Attempt(Record):
    """One mark that was tried.

    Parameters
    ----------
    name, target
        The mark, and the class that it was given.
    triggers
        Triggers that all simulated thieves answered and no clean model did.
    transfer
        Share of those chosen that one more copy answered, which took no part in the choice
        of triggers. The best attempt was chosen by it, so that it flatters where there were
        several.
    """

    name: str
    target: int
    triggers: int
    transfer: float
