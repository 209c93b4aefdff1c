"""Every node of a cluster must run the same Assay and see the same artifact store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import fsspec

from assay.errors import InvalidInput
from assay.study.execute import versions

__all__ = ["check_nodes", "last_line"]

_ANSWER = 120.0  # a node's first task waits for a process and its imports
_SEEN = 5.0  # network file systems show a new file with a delay


def check_nodes(ray: ModuleType, url: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Have each node look for a file that was just written to the store.

    Parameters
    ----------
    ray
        The module, connected.
    url
        The artifact store.
    nodes
        As `ray.nodes` describes them.

    Raises
    ------
    InvalidInput
        If the store cannot be written, or a node does not see it, has another version of
        Assay or none, or does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    system, root = fsspec.core.url_to_fs(url)
    name, token = f".seen-{uuid.uuid4().hex}", uuid.uuid4().hex
    try:
        system.makedirs(root, exist_ok=True)
        system.pipe_file(f"{root}/{name}", token.encode())
    except OSError as error:
        msg = f"cannot write to the artifact store {url}: {error}"
        raise InvalidInput(msg) from error
    probe = ray.remote(num_cpus=0, max_retries=0)(_probe)
    try:
        asked = []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(probe.options(scheduling_strategy=there).remote(url, name, token, _SEEN))
        for node, reference in zip(nodes, asked, strict=True):
            _judge(ray, url, node["NodeManagerAddress"], reference)
    finally:
        system.rm_file(f"{root}/{name}")


def last_line(error: BaseException) -> str:
    """Return the last line of what Ray tells about an exception: the exception itself."""
    return str(error).strip().splitlines()[-1].strip()


def _judge(ray: ModuleType, url: str, address: str, reference: Any) -> None:
    errors, ours = ray.exceptions, versions()["assay"]
    try:
        seen, version = ray.get(reference, timeout=_ANSWER)
    except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
        msg = (
            f"the node {address} cannot run Assay ({last_line(error)}); install the same environment "
            "there as here"
        )
        raise InvalidInput(msg) from error
    except errors.GetTimeoutError as error:
        msg = f"the node {address} did not answer within {_ANSWER:.0f} s; take it out of the cluster"
        raise InvalidInput(msg) from error
    except errors.RayError:
        return  # it has died since; its steps will go elsewhere
    if version != ours:
        msg = f"the node {address} runs Assay {version}, this process {ours}; install the same"
        raise InvalidInput(msg)
    if not seen:
        msg = (
            f"the node {address} cannot see the artifact store {url}; give a folder that every node "
            "mounts at the same path, or an object store such as s3://bucket/prefix"
        )
        raise InvalidInput(msg)


def _probe(url: str, name: str, token: str, seconds: float) -> tuple[bool, str]:
    """Return whether this node sees a file of the store, and its version of Assay."""
    system, root = fsspec.core.url_to_fs(url)
    until = time.monotonic() + seconds
    while True:
        try:
            return system.cat_file(f"{root}/{name}").decode() == token, versions()["assay"]
        except FileNotFoundError:
            if time.monotonic() > until:
                return False, versions()["assay"]
        time.sleep(0.2)
