"""A model server on 127.0.0.1 that speaks TLS and asks callers for a certificate, for tests."""

from __future__ import annotations

import hashlib
import ssl

import numpy as np
from oip_server import OipServer, tensor

WEIGHTS = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]], dtype=np.float32)
SCORES = [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def softmax(x):
    e = np.exp(x @ WEIGHTS)
    return e / e.sum(1, keepdims=True)


def scores(x):
    return [tensor(softmax(x))]


class TlsServer(OipServer):
    """Asks for a certificate in every handshake and remembers what it was shown."""

    def __init__(self, pair, ca, *, needed=True, newest=ssl.TLSVersion.TLSv1_3):
        super().__init__(scores, (2,), SCORES)
        self.shown = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        context.load_cert_chain(*pair.files)
        context.load_verify_locations(ca.file)
        context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
        plain = self.http.get_request

        def get_request():
            link, address = plain()
            link.settimeout(5)
            secure = context.wrap_socket(link, server_side=True)  # an OSError leaves the server running
            found = secure.getpeercert(binary_form=True)
            self.shown.append(None if found is None else hashlib.sha256(found).hexdigest())
            return secure, address

        self.http.get_request = get_request
        self.url = self.url.replace("http://", "https://")
        self.root = self.url.removesuffix("/v2/models/m")
