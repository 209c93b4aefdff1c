"""Certificates on both sides of a connection: what a caller shows, and whom it trusts."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from assay.errors import InvalidInput

__all__ = [
    "CA_VARIABLE",
    "CERTIFICATE_VARIABLE",
    "KEY_VARIABLE",
    "Certificate",
    "client_context",
    "tls_fault",
]

Certificate: TypeAlias = str | Path | Sequence[str | Path]
"""A PEM file with certificate and key, or the files of both."""

CERTIFICATE_VARIABLE, KEY_VARIABLE, CA_VARIABLE = "ASSAY_CLIENT_CERT", "ASSAY_CLIENT_KEY", "ASSAY_CA_FILE"
_PAIR = 2
_REFUSED = {
    "TLSV1_ALERT_UNKNOWN_CA": "its issuer is not known there",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is not valid there",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it is not accepted there",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is not for clients, or of another kind",
    "TLSV1_ALERT_ACCESS_DENIED": "it has no access there",
    "TLSV1_ALERT_DECRYPT_ERROR": "its signature does not hold",
}
# TLS 1.2 has no word of its own for a missing certificate.
_MISSING = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"})


class _EncryptedError(Exception):
    """The key wants a passphrase."""


def client_context(
    certificate: Certificate | None = None, ca: str | Path | None = None, *, environment: bool = True
) -> ssl.SSLContext | None:
    """Return how to connect over TLS, None where nothing was said and defaults apply.

    Parameters
    ----------
    certificate
        What to show a server that asks for a certificate: a PEM file with the certificate,
        those between it and its CA, and its key; or a pair of files, the key second.
    ca
        PEM file of the only CAs whose servers are trusted; those of the system, or of the
        variable ``SSL_CERT_FILE``, unless given.
    environment
        Whether what is not given is taken from the environment variables
        ``ASSAY_CLIENT_CERT``, ``ASSAY_CLIENT_KEY`` and ``ASSAY_CA_FILE``.

    Raises
    ------
    InvalidInput
        If a file cannot be read, holds something else, or the key is not the certificate's.

    Examples
    --------
    >>> client_context(environment=False) is None
    True
    >>> client_context("none.pem")
    Traceback (most recent call last):
    assay.errors.InvalidInput: there is no certificate file none.pem
    """
    if environment:
        certificate = certificate or _from_environment()
        ca = ca or os.environ.get(CA_VARIABLE) or None
    if not certificate and not ca:
        return None
    context = _trusting(Path(ca)) if ca else _default()
    if certificate:
        _show(context, *_files(certificate))
    return context


def tls_fault(error: BaseException, *, shown: bool) -> str | None:
    """Return what a failed connection says about certificates and what to do; None if nothing.

    Parameters
    ----------
    error
        As an HTTP client raised it; its causes are looked at.
    shown
        Whether a client certificate was at hand.

    Examples
    --------
    >>> tls_fault(ConnectionResetError(), shown=False) is None
    True
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted here ({cause.verify_message.rstrip('.')}); "
            "give the file of its CA: --ca-file FILE, or ca="
        )
    reason = cause.reason or ""
    if reason in _MISSING and not shown:
        return (
            "wants a client certificate; give one: --client-cert FILE and --client-key FILE, or certificate="
        )
    if reason in _REFUSED or reason in _MISSING:
        why = _REFUSED.get(reason, "it is not accepted there")
        return f"refuses the client certificate ({why}); give one that its operator has issued"
    if reason == "WRONG_VERSION_NUMBER":
        return "does not speak TLS; is it an http:// address?"
    return None


def _from_environment() -> Certificate | None:
    named, key = os.environ.get(CERTIFICATE_VARIABLE), os.environ.get(KEY_VARIABLE)
    if key and not named:
        msg = f"{KEY_VARIABLE} is set without {CERTIFICATE_VARIABLE}; name the key's certificate as well"
        raise InvalidInput(msg)
    return (named, key) if named and key else named or None


def _files(certificate: Certificate) -> tuple[Path, Path | None]:
    if isinstance(certificate, str | Path):
        return Path(certificate), None
    if len(certificate) != _PAIR:
        msg = f"a certificate is one PEM file, or a pair of certificate and key, got {len(certificate)} files"
        raise InvalidInput(msg)
    return Path(certificate[0]), Path(certificate[1])


def _default() -> ssl.SSLContext:
    # Imported here: models that are no servers need no HTTP.
    import httpx

    return httpx.create_ssl_context()


def _trusting(ca: Path) -> ssl.SSLContext:
    _read(ca, "CA")
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        msg = f"{ca} holds no certificate in PEM; give the file of the CA that has issued the server's"
        raise InvalidInput(msg) from error


def _show(context: ssl.SSLContext, file: Path, key: Path | None) -> None:
    """Load what is shown to servers; say what is wrong with it in one sentence."""
    text = _read(file, "certificate")
    secret = text if key is None else _read(key, "key")
    if b"-----BEGIN CERTIFICATE-----" not in text:
        msg = f"{file} holds no certificate in PEM; openssl x509 -inform DER converts other forms"
        raise InvalidInput(msg)
    if b"PRIVATE KEY-----" not in secret:
        where = f"{file} holds no private key beside the certificate" if key is None else f"{key} holds none"
        msg = f"{where}; give the PEM file of the certificate's private key"
        raise InvalidInput(msg)

    def ask() -> str:
        # Without this, OpenSSL would ask on the terminal and wait for ever.
        raise _EncryptedError

    try:
        context.load_cert_chain(file, key, password=ask)
    except _EncryptedError:
        msg = (
            f"the key in {key or file} wants a passphrase; openssl pkey -in FILE -out FILE writes one "
            "without, for a file that nobody else can read"
        )
        raise InvalidInput(msg) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            msg = f"the key in {key or file} does not fit the certificate in {file}; give the two of one pair"
        else:
            both = f"{file} and {key}" if key else str(file)
            msg = f"certificate and key in {both} cannot be used ({error.reason})"
        raise InvalidInput(msg) from error


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        msg = f"there is no {what} file {file}"
        raise InvalidInput(msg) from error
    except (OSError, ValueError) as error:
        msg = f"the {what} file {file} cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InvalidInput(msg) from error
