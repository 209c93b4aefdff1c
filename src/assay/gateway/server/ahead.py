"""Which questions may go to the server behind while the store still writes.

The transaction that admits a request takes as long as the network's way to the server
and back; done one after the other, the caller waits for both. An account that was served
before is very likely to be served again, so its question is sent while its reservation is
being written. The answer is kept back until that is done, so an answer is never given
without its reservation. What a refusal wastes is bounded: every request that was served
earns the account one question sent ahead, and a refusal takes all that is left.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.gateway.account import AccountState

__all__ = ["Ahead", "drop", "hand_over"]


class Ahead:
    """What accounts have earned, in the memory of one process.

    Parameters
    ----------
    most
        Questions of one account that may be ahead at once.
    accounts
        Remembered; the longest unused are forgotten first.

    Examples
    --------
    >>> from assay.gateway.account import AccountState
    >>> ahead = Ahead()
    >>> ahead.take("a", lambda state: True)
    False
    >>> ahead.served(AccountState("a"))
    >>> ahead.take("a", lambda state: True), ahead.take("a", lambda state: True)
    (True, False)
    """

    def __init__(self, *, most: int = 16, accounts: int = 4096) -> None:
        self._most, self._accounts = most, accounts
        self._earned: OrderedDict[str, tuple[int, AccountState]] = OrderedDict()

    def take(self, account_id: str, allows: Callable[[AccountState], bool]) -> bool:
        """Use one of the questions that the account has earned, if its books as last seen allow it."""
        earned, state = self._earned.get(account_id, (0, None))
        if not earned or state is None or not allows(state):
            return False
        self._earned[account_id] = (earned - 1, state)
        return True

    def served(self, state: AccountState) -> None:
        """Count a request that was admitted, and remember the books."""
        earned, _ = self._earned.get(state.id, (0, state))
        self._earned[state.id] = (min(earned + 1, self._most), state)
        self._earned.move_to_end(state.id)
        if len(self._earned) > self._accounts:
            self._earned.popitem(last=False)

    def refused(self, account_id: str) -> None:
        """Take what the account has earned."""
        self._earned.pop(account_id, None)


async def hand_over(task: asyncio.Task[Any]) -> None:
    """Let the loop send what a task that has just begun wrote, before anything else is computed."""
    try:
        await asyncio.sleep(0)
    except BaseException:
        drop(task)  # whoever asked is gone, and nobody else knows of it
        raise


def drop(task: asyncio.Task[Any]) -> None:
    """Give a task up, whatever becomes of it."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
