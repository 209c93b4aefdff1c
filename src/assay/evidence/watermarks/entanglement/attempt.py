"""What was tried before a mark reached a copy."""

from __future__ import annotations

from dataclasses import dataclass

from assay.result import Record

__all__ = ["Attempt"]


@dataclass(frozen=True)
class Attempt(Record):
    """One choice of triggers for one mark that was tried.

    Parameters
    ----------
    mark
        Number of the mark, from 1.
    name, target
        The mark, and the class that it was given.
    rows
        Marked rows in an epoch, repeated ones included.
    thieves
        Simulated thieves that chose the triggers.
    triggers
        Triggers that all simulated thieves answered and no clean model did.
    transfer
        Share of those chosen that two more copies answered, the lesser, which took no part in the
        choice of triggers.
    clean
        Share of those chosen that the worst of some clean models answered, which took no part in it
        either. The best attempt was chosen by the difference, so that both flatter where
        there were several.
    """

    mark: int
    name: str
    target: int
    rows: int
    thieves: int
    triggers: int
    transfer: float
    clean: float = 0.0
