"""A model server behind the gateway that demands a certificate."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import as_json
from tls_server import TlsServer

from assay.adapters.tls import client_context
from assay.gateway.server.wire import parse_query
from assay.gateway.upstream.base import UpstreamDown
from assay.gateway.upstream.proxy import ProxyUpstream
from certificates import Authority

X = [[0.5, -1.0], [2.0, 0.25]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca, other = Authority(folder), Authority(folder, "other")
    return {
        "ca": ca,
        "server": ca.issue("server", server=True),
        "ours": ca.issue("ours"),
        "stranger": other.issue("stranger"),
    }


def ask(root, tls):
    async def main():
        upstream = ProxyUpstream(root, tls=tls, timeout=10.0)
        try:
            info = await upstream.metadata("m")
            asked = as_json(np.array(X, dtype=np.float32))
            asked["inputs"][0]["name"] = info.inputs[0].name
            return await upstream.infer("m", None, parse_query(json.dumps(asked).encode()))
        finally:
            await upstream.close()

    return asyncio.run(main())


def test_the_gateway_shows_its_certificate_and_is_answered(made):
    with TlsServer(made["server"], made["ca"]) as server:
        tls = client_context(made["ours"].files, made["ca"].file, environment=False)
        answer = json.loads(ask(server.root, tls).body)
    assert answer["outputs"][0]["shape"] == [2, 3]
    assert set(server.shown) == {made["ours"].thumbprint}


@pytest.mark.parametrize("shown", ["none", "stranger", "untrusted server"])
def test_without_the_right_certificates_the_server_is_down_in_one_sentence(made, shown):
    with TlsServer(made["server"], made["ca"]) as server:
        tls = {
            "none": client_context(None, made["ca"].file, environment=False),
            "stranger": client_context(made["stranger"].files, made["ca"].file, environment=False),
            "untrusted server": None,
        }[shown]
        with pytest.raises(UpstreamDown, match="does not answer in HTTP"):
            ask(server.root, tls)
