"""Certificates for tests, made by openssl: authorities, and what they issue."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
_KIND = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path

    @property
    def files(self):
        return self.certificate, self.key

    @property
    def thumbprint(self):
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        return hashlib.sha256(der).hexdigest()


class Authority:
    """A certificate authority in a folder of its own; the test skips where openssl is missing."""

    def __init__(self, folder, name="ca"):
        if OPENSSL is None:
            pytest.skip("openssl is not installed: apt install openssl")
        self.folder = Path(folder) / name
        self.folder.mkdir()
        self.pair = Pair(self.folder / "ca.pem", self.folder / "ca.key")
        run(
            "req", "-x509", *_KIND, "-nodes", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self.pair.key, "-out", self.pair.certificate,
        )  # fmt: skip

    @property
    def file(self):
        return self.pair.certificate

    def issue(self, name, *, server=False, host="IP:127.0.0.1,DNS:localhost"):
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        use = f"extendedKeyUsage={'server' if server else 'client'}Auth"
        run(
            "req", "-x509", *_KIND, "-nodes", "-subj", f"/CN={name}",
            "-CA", self.pair.certificate, "-CAkey", self.pair.key,
            "-addext", "basicConstraints=critical,CA:FALSE", "-addext", use,
            *(("-addext", f"subjectAltName={host}") if server else ()),
            "-keyout", pair.key, "-out", pair.certificate,
        )  # fmt: skip
        return pair


def run(*words):
    subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True, timeout=60)
