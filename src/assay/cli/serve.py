"""``assay serve``: put the gateway in front of a model server, or serve a model itself."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.console import facts, print_json, print_tables
from assay.cli.options import Common, ModelOptions, open_models, tls_files
from assay.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    import ssl

    from assay.gateway.policy import Policy
    from assay.gateway.server.gateway import Gateway
    from assay.gateway.upstream.base import Upstream
    from assay.model import Model

__all__ = ["serve"]

_PORTS = 65_535
_TOKEN = "ASSAY_OPERATOR_TOKEN"  # noqa: S105 - the name of a variable


def serve(
    *,
    how: ModelOptions,
    common: Common,
    upstream: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An Open Inference Protocol server, as in http://localhost:8000."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Serve this model itself: a file or module:function.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What callers name the model; its file's name otherwise."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prices and limits, from `assay calibrate`; a built-in one otherwise."
        ),
    ] = None,
    policy_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key that the policy must be signed with.")
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="ASSAY_STORE",
            help="Accounts and bills: sqlite:///FILE, or postgresql://USER@HOST/NAME for several replicas.",
        ),
    ] = "sqlite:///gateway.db",
    keys: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            envvar="ASSAY_KEYS",
            help="Signing keys, the same for all replicas; made if absent.",
        ),
    ] = Path("gateway.keys"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=_PORTS, help="Port to listen on; 0 chooses a free one.")
    ] = 8080,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=1, max=_PORTS, help="Port for the same protocol over gRPC; needs assay-ml[grpc]."),
    ] = None,
    ahead: Annotated[
        bool,
        typer.Option(
            help="Ask the model while an account in good standing is still being booked: answers sooner, and "
            "a refusal may then have cost an inference, at most one for each answer given before."
        ),
    ] = True,
) -> None:
    """Serve a model for work that grows with what is leaked.

    Speaks the Open Inference Protocol with JSON and binary tensors. Set ASSAY_OPERATOR_TOKEN
    to open the operator's page, and ASSAY_UPSTREAM_TOKEN where the server behind wants a
    bearer token. Stops on SIGTERM once all bills are written. SIGHUP reads the policy's file
    again; what it says is taken over unless it leads backwards.
    """
    if (upstream is None) == (model is None):
        msg = "give either --upstream URL or --model FILE: what stands behind the gateway"
        raise InvalidInput(msg)
    try:
        from assay.gateway.server.run import bind, run_gateway
    except ImportError as error:
        msg = f"serving needs the package {error.name}: install assay-ml[serve]"
        raise MissingDependency(msg) from error
    from assay.gateway.server.pages import pages
    from assay.gateway.server.setup import open_gateway

    terms = _policy(policy, policy_key)
    with _behind(upstream, model, name, terms, how, common) as (source, opened):
        listener = bind(host, port)
        gateway, meter = _metered(
            open_gateway,
            terms,
            upstream=source,
            store=store,
            keys=keys,
            file=policy,
            model=opened,
            recorded=policy is not None,
            ahead=ahead,
            tls=None if upstream is None else _tls(upstream, how),
        )
        address = listener.getsockname()
        url = (
            f"http://[{address[0]}]:{address[1]}"
            if ":" in address[0]
            else f"http://{address[0]}:{address[1]}"
        )
        _log_to_standard_error(quiet=common.quiet)
        run_gateway(
            gateway,
            sockets=[listener],
            routers=pages(gateway, meter, os.environ.get(_TOKEN)),
            on_start=lambda: _announce(url, gateway, upstream or model or "", policy, common, grpc_port),
            read_policy=None if policy is None else lambda: _policy(policy, policy_key),
            grpc=None if grpc_port is None else (host, grpc_port),
        )


def _tls(upstream: str, how: ModelOptions) -> ssl.SSLContext | None:
    from assay.adapters.tls import client_context

    return client_context(**tls_files(upstream, how.client_cert, how.client_key, how.ca_file))


def _policy(path: Path | None, key: Path | None) -> Policy:
    from assay.gateway.policy import Policy, load_policy

    if path is None:
        if key is not None:
            msg = "--policy-key is for a --policy"
            raise InvalidInput(msg)
        return Policy()
    return load_policy(path, None if key is None else key.read_bytes().strip())


def _log_to_standard_error(*, quiet: bool) -> None:
    """Write what the gateway logs, one line each, where whoever runs it looks for that."""
    log = logging.getLogger("assay.gateway")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


@contextmanager
def _behind(
    upstream: str | None,
    model: str | None,
    name: str | None,
    policy: Policy,
    how: ModelOptions,
    common: Common,
) -> Iterator[tuple[Upstream | str, Model | None]]:
    """Yield what answers, and the model if it is one of ours."""
    if model is None:
        if name is not None:
            msg = "--name is for a --model; a server behind the gateway names its models itself"
            raise InvalidInput(msg)
        yield upstream or "", None
        return
    from assay.gateway.upstream.base import check_name
    from assay.gateway.upstream.local import LocalUpstream

    with open_models([model], how, common) as [opened]:
        called = name or policy.model or _stem(model)
        check_name(called)
        yield LocalUpstream(opened, name=called), opened


def _stem(spec: str) -> str:
    """Return a name that may stand in a path."""
    stem = Path(spec.rpartition(":")[2] if ":" in spec else spec).stem
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem
    )
    return kept.strip(".")[:128] or "model"


def _metered(build: Any, policy: Policy, **options: Any) -> tuple[Gateway, Any]:
    """Open the gateway with its metrics, so that both know each other."""
    from assay.gateway.metrics import Metrics

    meter = Metrics()
    return build(policy, meter=meter, **options), meter


def _announce(
    url: str, gateway: Gateway, source: str, policy: Path | None, common: Common, grpc_port: int | None
) -> None:
    shown = {
        "url": url,
        "grpc": None
        if grpc_port is None
        else f"{url.removeprefix('http://').rpartition(':')[0]}:{grpc_port}",
        "behind": source,
        "policy": f"{policy}, version {gateway.policy.version}" if policy else "built in",
        "operator": f"{url}/operator" if os.environ.get(_TOKEN) else None,
    }
    if common.json:
        print_json({key: value for key, value in shown.items() if value is not None})
    elif not common.quiet:
        print_tables(facts("Gateway", shown))
    sys.stdout.flush()  # whoever started this waits for the address
