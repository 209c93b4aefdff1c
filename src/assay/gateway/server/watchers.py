"""Detectors as watchers of settled queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from assay.gateway.answers import Answers, read_asked
from assay.gateway.detectors.base import Seen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.gateway.detectors.watch import Alarm, Memory, Watch
    from assay.gateway.server.replies import Reply
    from assay.gateway.server.settle import Served
    from assay.gateway.store.base import Settled

__all__ = ["DetectorWatcher"]


class DetectorWatcher:
    """Shows each settled query to the policy's detectors.

    Parameters
    ----------
    watch
        The detectors.
    store
        Holds their states and takes their alarms.
    clock
        Seconds since 1970.
    on_alarm
        Told about each alarm.
    """

    reads_reply: ClassVar[bool] = True

    def __init__(
        self,
        watch: Watch,
        store: Memory,
        clock: Callable[[], float],
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        self._watch, self._store, self._clock = watch, store, clock
        self._on_alarm = on_alarm or (lambda _alarm: None)
        self._plain = Answers((), b"")

    def __call__(
        self, served: Served, reply: Reply | None, settled: Settled, log_q: NDArray[np.float64]
    ) -> None:
        """Look at one query."""
        del settled, log_q
        if reply is None:
            return
        asked = read_asked(served.inputs, account=served.account_id)
        labels = self._plain.show(reply.outputs, asked).labels
        seen = Seen(asked.rows, labels)
        for alarm in self._watch.look(self._store, served.account_id, seen, now=self._clock()):
            self._on_alarm(alarm)
