"""A connection to a Ray cluster that leaves this process as it was."""

from __future__ import annotations

import importlib
import logging
import os
import resource
import signal
import socket
import sys
import threading
from types import ModuleType
from typing import Any

from assay.errors import InvalidInput, MissingDependency
from assay.study.executors.processes import cores

__all__ = ["Connection", "import_ray"]

# Only outcomes go through Ray; this is about the least that it accepts.
_OBJECT_STORE = 80 * 2**20
_ANSWER = 5.0
_VARIABLES = ("PYTHONBREAKPOINT", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")


def import_ray() -> ModuleType:
    """Return the module.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        msg = "running on a cluster needs Ray; install it with: pip install 'assay-ml[ray]'"
        raise MissingDependency(msg) from error


class Connection:
    """Joins a cluster, or starts one on this machine.

    A connection that this process has already is used and left alone. Otherwise `close`
    ends what was started, and puts back what Ray changes in a process: environment
    variables, the handler of SIGTERM, its logger, the limit of open files.

    Parameters
    ----------
    address
        ``"auto"``: the cluster of which this machine is a node, or ``RAY_ADDRESS``;
        ``"host:port"`` of the head; ``"local"``: a new one on this machine, without
        dashboard and usage statistics.

    Raises
    ------
    InvalidInput
        If no cluster answers.
    MissingDependency
        If Ray is not installed.
    """

    def __init__(self, address: str) -> None:
        self.ray = import_ray()
        self.own = not self.ray.is_initialized()
        if not self.own:
            _same(self.ray, address)
            return
        _answers(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        self._kept = _Process(self.ray)
        try:
            self.ray.init(**_arguments(address))
        except BaseException as error:
            self._kept.restore()
            if not isinstance(error, Exception):
                raise
            if address == "local":
                msg = f"Ray could not be started on this machine: {error}"
                raise InvalidInput(msg) from error
            msg = (
                f"no Ray cluster at {address!r}: {error}; start one with `ray start --head` and join it "
                "from the other machines with `ray start --address=HEAD:6379`"
            )
            raise InvalidInput(msg) from error

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive and compute."""
        return [n for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]

    def close(self) -> None:
        """Leave the cluster; end it if it was started here."""
        if self.own:
            self.own = False
            self.ray.shutdown()
            self._kept.restore()


class _Process:
    """What Ray changes in the process that uses it."""

    def __init__(self, ray: ModuleType) -> None:
        self._worker = ray._private.worker  # noqa: SLF001 - there is no public switch
        self._speaks = getattr(self._worker, "_worker_logs_enabled", True)
        # Deaths of nodes and processes come back as outcomes; Ray would print pages about each.
        self._worker._worker_logs_enabled = False  # noqa: SLF001 - there is no public switch
        self._environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._hook = sys.excepthook
        self._main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM)
        self._logger = logging.getLogger("ray")
        self._level, self._handlers = self._logger.level, list(self._logger.handlers)

    def restore(self) -> None:
        """Put everything back."""
        self._worker._worker_logs_enabled = self._speaks  # noqa: SLF001 - there is no public switch
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(self._environment)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        sys.excepthook = self._hook
        if self._main:
            signal.signal(signal.SIGTERM, self._handler)
        self._logger.setLevel(self._level)
        self._logger.handlers[:] = self._handlers


def _arguments(address: str) -> dict[str, Any]:
    found: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        found |= {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    return found


def _same(ray: ModuleType, address: str) -> None:
    """Refuse to use the connection that is there for another cluster than the one asked for."""
    used = ray.get_runtime_context().gcs_address
    if address not in ("auto", used):
        msg = f"this process is connected to the Ray cluster {used} already; shut Ray down, or use 'auto'"
        raise InvalidInput(msg)


def _answers(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    if "://" in address:
        msg = (
            f"cannot use {address}: a study is run on a machine of the cluster; give 'auto', or the "
            "HOST:PORT of the head that `ray start --head` printed"
        )
        raise InvalidInput(msg)
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER):
            return
    except (OSError, ValueError, OverflowError) as error:
        msg = (
            f"no Ray cluster answers at {address!r} ({error}); give 'auto', or the HOST:PORT of the "
            "head that `ray start --head` printed"
        )
        raise InvalidInput(msg) from error
