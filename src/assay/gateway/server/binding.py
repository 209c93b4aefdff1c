"""Which certificate a caller has shown: told by the proxy that ends TLS, believed from nobody else.

The gateway itself never sees the handshake. A proxy in front of it checks the certificate
and writes its SHA-256 thumbprint (or the certificate, from which it follows) into a header
that the policy names. Anybody can write that header, so it counts only on connections that
come from the proxy's own addresses.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from assay.gateway.server.problems import BadQuery, Forbidden

if TYPE_CHECKING:
    from assay.gateway.policy_parts import Binding
    from assay.gateway.server.body import Scope

__all__ = ["CLIENT", "client_of", "thumbprint"]

CLIENT: ContextVar[str] = ContextVar("assay-gateway-client", default="")
"""The thumbprint of the request under way, 64 hexadecimal digits; empty where there is none."""

_DIGITS = re.compile(r"[0-9a-f]{64}")
_ENVOY = re.compile(r'(?:^|;)([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^";,]*)')
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SEQUENCE = b"\x30"  # how every certificate begins
_MOST_TEXT = 16 * 1024


def client_of(binding: Binding, scope: Scope) -> str:
    """Return the thumbprint of the certificate that a caller has shown, or an empty text.

    Parameters
    ----------
    binding
        Of the policy in force.
    scope
        The request; ``client`` must be the address of the connection, not one that a
        header claims.

    Raises
    ------
    BadQuery
        If the proxy says nothing that could be read: refusing is safer than taking such a
        caller for one without a certificate.
    Forbidden
        If a certificate is needed and none was shown.

    Examples
    --------
    >>> from assay.gateway.policy_parts import Binding
    >>> binding = Binding(header="X-Client", proxies=("10.0.0.0/8",))
    >>> headers = [(b"x-client", b"ab" * 32)]
    >>> client_of(binding, {"client": ("10.0.0.7", 4711), "headers": headers})[:8]
    'abababab'
    >>> client_of(binding, {"client": ("192.0.2.1", 4711), "headers": headers})
    ''
    """
    found = ""
    address = scope.get("client")
    if address is not None and _trusted(address[0], binding.proxies):
        name = binding.header.lower().encode("ascii")
        values = [value for key, value in scope["headers"] if key == name]
        if len(values) > 1:
            # The proxy has added its own to one that the caller had written.
            msg = f"the header {binding.header} came twice; the proxy must replace what callers send"
            raise BadQuery(msg, reason="client")
        if values and values[0].strip():
            found = thumbprint(values[0])
    if binding.required and not found:
        msg = "this gateway answers callers with a client certificate only"
        raise Forbidden(msg, reason="client")
    return found


def thumbprint(value: bytes) -> str:
    r"""Return the SHA-256 thumbprint that a proxy's header holds.

    Read are the thumbprint itself, with or without colons (HAProxy); Envoy's
    ``X-Forwarded-Client-Cert`` with one element; and the certificate as PEM, escaped for
    URLs (nginx) or as plain Base64.

    Parameters
    ----------
    value
        The header's value.

    Raises
    ------
    BadQuery
        If it is none of these.

    Examples
    --------
    >>> thumbprint(b"AB:" * 31 + b"AB") == "ab" * 32
    True
    >>> thumbprint(b'By=spiffe://a;Hash=' + b"ab" * 32 + b';Subject="CN=x"') == "ab" * 32
    True
    """
    if len(value) <= _MOST_TEXT:
        text = value.decode("latin-1").strip()
        short = text.lower().replace(":", "")
        if _DIGITS.fullmatch(short):
            return short
        envoy = _envoy(text)
        if envoy is not None:
            return envoy
        der = _certificate(value)
        if der is not None:
            return hashlib.sha256(der).hexdigest()
    msg = "the proxy's header about the client certificate holds neither a thumbprint nor one certificate"
    raise BadQuery(msg, reason="client")


def _envoy(text: str) -> str | None:
    """Return the one hash of a header with one element; a caller chooses what its quoted subject says."""
    if _ENVOY.sub("", text):
        return None  # another element, or nothing of the kind
    hashes = [value.strip('"').lower() for key, value in _ENVOY.findall(text) if key.lower() == "hash"]
    return hashes[0] if len(hashes) == 1 and _DIGITS.fullmatch(hashes[0]) else None


def _certificate(value: bytes) -> bytes | None:
    """Return the one certificate of a PEM text, in DER."""
    text = unquote_to_bytes(value).strip()
    if text.startswith(_BEGIN) and text.endswith(_END):
        text = text[len(_BEGIN) : -len(_END)]
    if not text or _BEGIN in text:
        return None
    try:
        der = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return der if der.startswith(_SEQUENCE) and len(der) > hashlib.sha256().digest_size else None


@lru_cache(maxsize=4096)
def _trusted(address: str, proxies: Sequence[str]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has no address
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ipaddress.ip_network(one) for one in proxies)
