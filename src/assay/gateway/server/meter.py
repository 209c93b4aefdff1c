"""What the server tells about itself while it works; a metrics module overrides what it wants to know."""

from __future__ import annotations

__all__ = ["Meter"]


class Meter:
    """Hooks that do nothing. None of them may block or raise."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""

    def rejected(self, reason: str) -> None:
        """Count a refused proof or request; the reason is one word."""

    def issued(self, purpose: str, bits: float) -> None:
        """Count a challenge that was handed out."""

    def verified(self, purpose: str, units: float) -> None:
        """Count a proof that was claimed."""

    def over_budget(self, action: str) -> None:
        """Count an account that has met a budget for the first time today: throttle or deny."""

    def failed(self, part: str) -> None:
        """Count what did not work: store, estimator, upstream, watcher."""

    def upstream(self, seconds: float) -> None:
        """Count how long an answer of the server behind took."""
