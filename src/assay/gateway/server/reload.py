"""A new policy without a restart: read the file again, take it over or say why not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.gateway.policy import Policy
    from assay.gateway.server.gateway import Gateway

__all__ = ["Reloader"]

_LOG = logging.getLogger("assay.gateway")


class Reloader:
    """Puts the policy of a file in force when it is told to.

    Parameters
    ----------
    gateway
        Whose policy.
    read
        Reads the file and checks its signature; None where there is no file.
    """

    def __init__(self, gateway: Gateway, read: Callable[[], Policy] | None) -> None:
        self._gateway, self._read = gateway, read
        self._under_way: set[asyncio.Task[bool]] = set()

    def trigger(self) -> None:
        """Begin; for a signal's handler on the event loop."""
        task = asyncio.get_running_loop().create_task(self())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def __call__(self) -> bool:
        """Read the file; tell whether another policy is in force now. One line is logged either way."""
        before = self._gateway.policy
        if self._read is None:
            _LOG.warning("there is no policy file to read again: the gateway was started without one")
            return False
        try:
            policy = await asyncio.to_thread(self._read)
            if policy.digest == before.digest:
                _LOG.info("the policy file holds version %d, which is in force already", before.version)
                return False
            await self._gateway.adopt(policy)
        except (AssayError, OSError) as error:
            _LOG.error("policy version %d stays in force: %s", before.version, error)
            return False
        except Exception:  # noqa: BLE001 - whatever is wrong with a file, requests go on
            _LOG.exception("policy version %d stays in force", before.version)
            return False
        _LOG.info("policy version %d is in force, after version %d", policy.version, before.version)
        return True
