"""What a running step sees: its configuration, its inputs as local files, a folder to write to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from assay.study.step import Step
from assay.study.store import Manifest, Store

__all__ = ["Context", "Loaded"]

T = TypeVar("T")
_KEPT = 3


class Loaded:
    """The last few objects read from artifacts, so that a worker reads a data set once.

    Examples
    --------
    >>> kept = Loaded(1)
    >>> kept.get("a", lambda: 1), kept.get("a", lambda: 2)
    (1, 1)
    >>> kept.get("b", lambda: 3), kept.get("a", lambda: 4)
    (3, 4)
    """

    def __init__(self, size: int = _KEPT) -> None:
        self._size = size
        self._objects: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, load: Callable[[], T]) -> T:
        """Return the object of ``key``, loaded now if it is not among the last few."""
        if key not in self._objects:
            self._objects[key] = load()
            if len(self._objects) > self._size:
                self._objects.popitem(last=False)
        self._objects.move_to_end(key)
        found: T = self._objects[key]
        return found


@dataclass(frozen=True)
class Context:
    """Everything that a step function may use.

    Parameters
    ----------
    step
        What is to be done.
    store
        Where inputs come from.
    out
        Empty folder; what the step writes there becomes its artifact.
    work
        Folder that outlives a killed run, for checkpoints; it is removed when the step is done.
    device
        Where torch computes.
    loaded
        Objects kept between the steps of one worker.
    """

    step: Step
    store: Store
    out: Path
    work: Path
    device: str = "cpu"
    loaded: Loaded = field(default_factory=Loaded)

    @property
    def config(self) -> dict[str, Any]:
        """The step's configuration."""
        return dict(self.step.config)

    @property
    def seed(self) -> int:
        """The step's seed."""
        return self.step.seed

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the keys of an input; none if the step has no such input."""
        value = self.step.inputs.get(name, ())
        return (value,) if isinstance(value, str) else tuple(value)

    def open(self, name: str) -> tuple[Path, Manifest]:
        """Return the folder and the manifest of a single input."""
        (key,) = self.keys(name)
        return self.store.open(key)

    def open_all(self, name: str) -> list[tuple[Path, Manifest]]:
        """Return folder and manifest of every artifact of an input."""
        return [self.store.open(key) for key in self.keys(name)]

    def remember(self, name: str, what: str, load: Callable[[Path], T]) -> T:
        """Return ``load(folder)`` of a single input, kept for the worker's next steps."""
        (key,) = self.keys(name)
        return self.loaded.get((key, what), lambda: load(self.store.open(key)[0]))
