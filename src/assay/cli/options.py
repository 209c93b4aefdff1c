"""Options that several verbs share, each written down once as the field of a dataclass."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.errors import InvalidInput
from assay.observers import Observer

if TYPE_CHECKING:
    from assay.model import Model

__all__ = [
    "CaFile",
    "ClientCert",
    "ClientKey",
    "Common",
    "Force",
    "ModelOptions",
    "Settings",
    "Spending",
    "open_models",
    "tls_files",
]

_LARGEST_SEED = 2**31 - 1

Force = Annotated[bool, typer.Option("--force", help="Replace results that are already there.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter; `assay list NAME` shows them all. NAME=@FILE reads the value from a file.",
    ),
]

ClientCert = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="ASSAY_CLIENT_CERT",
        help="Certificate to show https servers that ask for one, in PEM; may hold its key.",
    ),
]
ClientKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="ASSAY_CLIENT_KEY", help="Private key of --client-cert, in PEM."),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="ASSAY_CA_FILE",
        help="CAs of https servers to trust, in PEM; the system's unless given.",
    ),
]


@dataclass(frozen=True)
class Common:
    """What every verb understands."""

    json: Annotated[
        bool, typer.Option("--json", envvar="ASSAY_JSON", help="Print one JSON object, nothing else.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="ASSAY_QUIET", help="Print nothing but errors.")
    ] = False
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=_LARGEST_SEED, envvar="ASSAY_SEED", help="Seed of everything random that is no secret."
        ),
    ] = 0
    device: Annotated[
        str, typer.Option(envvar="ASSAY_DEVICE", help="Where torch networks are computed: cpu, cuda, cuda:1.")
    ] = "cpu"
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ASSAY_DEBUG", help="Show the traceback of an error.")
    ] = False

    @contextmanager
    def observers(self) -> Iterator[Sequence[Observer]]:
        """Yield the observers of a run: progress bars for people, none for programs."""
        if self.json or self.quiet:
            yield ()
            return
        from assay.cli.progress import ProgressBars

        with ProgressBars() as bars:
            yield (bars,)

    def checked_device(self) -> str:
        """Return the device, or raise `InvalidInput` if this machine has none of the name."""
        import torch

        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            msg = f"the device {self.device!r} is not available here; use --device cpu"
            raise InvalidInput(msg) from error
        return self.device


@dataclass(frozen=True)
class ModelOptions:
    """How to open a model that does not say everything itself."""

    architecture: Annotated[
        str | None,
        typer.Option(
            help="For weights: a name such as wrn-16-1, or module:function that builds the network."
        ),
    ] = None
    input_shape: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Shape of one input, as in 1,28,28.")
    ] = None
    classes: Annotated[int | None, typer.Option(metavar="N", help="Number of classes.")] = None
    access: Annotated[
        str | None, typer.Option(help="Offer only this much: labels, scores, embeddings or weights.")
    ] = None
    outputs: Annotated[
        str,
        typer.Option(help="What a model answers: auto, logits, probabilities, partial scores, or labels."),
    ] = "auto"
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="The output to read of a model that has several.")
    ] = None
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Rows to send at a time.")] = None
    trust: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="A further type that a skops file may build.")
    ] = None
    timeout: Annotated[
        float, typer.Option(envvar="ASSAY_TIMEOUT", help="Seconds to wait for one answer of a server.")
    ] = 30.0
    client_cert: ClientCert = None
    client_key: ClientKey = None
    ca_file: CaFile = None

    def open(self, spec: str, common: Common) -> Model:
        """Open the model that ``spec`` names."""
        from assay.adapters import open_model
        from assay.adapters.answers import Outputs
        from assay.adapters.imported import is_import_spec
        from assay.registry import nearest

        known = typing.get_args(Outputs)
        if self.outputs not in known:
            raise InvalidInput(nearest(self.outputs, list(known), "kind of outputs"))
        if not 0 < self.timeout < math.inf:
            msg = f"--timeout must be a positive number of seconds, got {self.timeout}"
            raise InvalidInput(msg)
        own_code = is_import_spec(spec) or (self.architecture and is_import_spec(self.architecture))
        # A console script does not look where it is called; last, so that nothing installed is shadowed.
        if own_code and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return open_model(
            spec,
            architecture=self.architecture,
            input_shape=None if self.input_shape is None else _shape(self.input_shape),
            num_classes=self.classes,
            access=self.access,
            device=common.checked_device(),
            batch_size=self.batch_size,
            outputs=typing.cast("Outputs", self.outputs),
            output=self.output,
            trust=tuple(self.trust or ()),
            timeout=self.timeout,
            **tls_files(spec, self.client_cert, self.client_key, self.ca_file),
        )


@dataclass(frozen=True)
class Spending:
    """What asking a model may cost, and where its answers are kept."""

    budget: Annotated[
        int | None, typer.Option(metavar="N", envvar="ASSAY_BUDGET", help="Most queries that may be asked.")
    ] = None
    price: Annotated[
        float, typer.Option(metavar="DOLLARS", envvar="ASSAY_PRICE", help="Dollars a query.")
    ] = 0.0
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep every answer in this file; a run that was killed goes on from it."
        ),
    ] = None

    def __post_init__(self) -> None:
        if not 0 <= self.price < math.inf:
            msg = f"--price must be a number of dollars of at least 0, got {self.price}"
            raise InvalidInput(msg)


def tls_files(
    address: str, client_cert: Path | None, client_key: Path | None, ca_file: Path | None
) -> dict[str, Any]:
    """Return the options of a connection to ``address``: nothing unless it is an https URL.

    Raises
    ------
    InvalidInput
        If there is a key without a certificate.
    """
    if client_key is not None and client_cert is None:
        msg = "--client-key is for a --client-cert; give the certificate as well"
        raise InvalidInput(msg)
    if not address.lower().startswith("https://"):
        # One of several models, or variables that are set for all verbs.
        return {}
    certificate = client_cert if client_key is None else (client_cert, client_key)
    return {"certificate": certificate, "ca": ca_file}


@contextmanager
def open_models(specs: Sequence[str], how: ModelOptions, common: Common) -> Iterator[list[Model]]:
    """Open every model before the first is asked; connections are closed in the end."""
    opened: list[Model] = []
    try:
        for spec in specs:
            opened.append(how.open(spec, common))  # noqa: PERF401 - what is open must be known if one fails
        yield opened
    finally:
        for model in opened:
            close = getattr(model, "close", None)
            if callable(close):
                close()


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        msg = f"--input-shape must be whole numbers such as 1,28,28, got {text!r}"
        raise InvalidInput(msg)
    return tuple(int(part) for part in parts)
