"""One door to all models: from a path, URL, function or object to something that can be asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from assay.adapters.answers import Outputs
from assay.adapters.imported import is_import_spec
from assay.adapters.openers import (
    SUFFIXES,
    Opening,
    accepted_forms,
    open_callable,
    open_http,
    open_sklearn,
    open_torch,
)
from assay.adapters.restricted import restrict
from assay.adapters.tls import Certificate
from assay.errors import InvalidInput
from assay.model import Access, Model

__all__ = ["open_model"]

_PICKLES = {
    ".pkl": "skops.io.dump(estimator, 'model.skops')",
    ".pickle": "skops.io.dump(estimator, 'model.skops')",
    ".joblib": "skops.io.dump(estimator, 'model.skops')",
    ".ckpt": "safetensors.torch.save_file(module.state_dict(), 'model.safetensors')",
    ".bin": "safetensors.torch.save_file(module.state_dict(), 'model.safetensors')",
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


def open_model(
    spec: str | Path | nn.Module | Model | Any,
    *,
    architecture: str | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    access: Access | str | None = None,
    name: str | None = None,
    device: str = "cpu",
    batch_size: int | None = None,
    outputs: Outputs = "auto",
    output: str | None = None,
    trust: Sequence[str] = (),
    timeout: float = 30.0,
    token: str | None = None,
    certificate: Certificate | None = None,
    ca: str | Path | None = None,
) -> Model:
    """Open a model, whatever it is.

    Parameters
    ----------
    spec
        A path (``.safetensors``, ``.pt``, ``.pth``, ``.pt2``, ``.onnx``, ``.skops``), the
        URL of a model under the Open Inference Protocol, ``module:function``, or an
        object: torch module, scikit-learn classifier, function, or a model already open.
    architecture
        For weights: a registered name or ``module:function``; see `load_safetensors`.
    input_shape, num_classes
        Where the model does not say them itself.
    access
        Offer only this much: ``"labels"``, ``"scores"``, ``"embeddings"``, ``"weights"``.
    name
        How messages and reports call the model.
    device
        Where to compute, for torch weights.
    batch_size
        Rows to send at a time; each adapter has its own default.
    outputs
        Whether float answers are ``"logits"``, ``"probabilities"`` or ``"labels"``.
    output
        The only output to read, for ONNX and servers with several.
    trust
        Further types that a skops file may build.
    timeout
        Seconds for one request to a server.
    token
        Bearer token for a server; the environment variable ``ASSAY_API_TOKEN`` unless given.
    certificate, ca
        PEM files for an https server that asks callers for a certificate, or whose own is of
        a private CA; see `assay.adapters.tls.client_context`.

    Returns
    -------
    Model
        With the access it offers in ``access``.

    Raises
    ------
    InvalidInput
        If the model cannot be opened; pickled models never are.
    SuspectUnreachable
        If a server does not answer.
    AccessDenied
        If it offers less than ``access``.
    MissingDependency
        If an optional package is needed.

    Examples
    --------
    >>> from assay.nets import build
    >>> model = open_model(build("mlp-4", (3,), 2), access="scores", name="suspect")
    >>> model.name, model.access.title
    ('suspect', 'scores')
    >>> open_model("model.pkl")
    Traceback (most recent call last):
    assay.errors.InvalidInput: model.pkl is a pickle, ...
    """
    how = Opening(
        architecture=architecture,
        input_shape=None if input_shape is None else tuple(input_shape),
        num_classes=num_classes,
        access=Access.parse(access) if isinstance(access, str) else access,
        name=name,
        device=device,
        batch_size=batch_size,
        outputs=outputs,
        output=output,
        trust=tuple(trust),
        timeout=timeout,
        token=token,
        certificate=certificate,
        ca=ca,
    )
    if isinstance(spec, str) and _URL.match(spec):
        return open_http(spec, how)
    if isinstance(spec, str) and is_import_spec(spec):
        return open_callable(spec, how)
    if isinstance(spec, str | Path):
        return _open_file(Path(spec), how)
    return _open_object(spec, how)


def _open_file(path: Path, how: Opening) -> Model:
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        convert = _PICKLES[suffix]
        msg = (
            f"{path} is a pickle, and reading one runs code from it; convert it where you trust it: {convert}"
        )
        raise InvalidInput(msg)
    if suffix not in SUFFIXES:
        msg = f"cannot tell what kind of model {str(path)!r} is; give {accepted_forms()}"
        raise InvalidInput(msg)
    if not path.is_file():
        msg = f"there is no model file {path}"
        raise InvalidInput(msg)
    return SUFFIXES[suffix](path, how)


def _open_object(spec: Any, how: Opening) -> Model:
    if isinstance(spec, nn.Module):
        return open_torch(spec, how)
    # Not isinstance(spec, Model): on Python 3.11 that reads `module`, which may refuse.
    if isinstance(getattr(spec, "access", None), Access):
        return spec if how.access is None else restrict(spec, how.access)
    if hasattr(spec, "predict"):
        return open_sklearn(spec, how)
    if callable(spec):
        return open_callable(spec, how)
    msg = f"cannot open {type(spec).__name__} as a model; give {accepted_forms()}, or a model object"
    raise InvalidInput(msg)
