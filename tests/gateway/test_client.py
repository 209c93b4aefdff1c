import json
import threading

import numpy as np
import pytest
import torch
from paying_server import PayingServer

from assay.adapters import open_model
from assay.errors import InvalidInput, PaymentRefused, SuspectUnreachable
from assay.gateway.client import Client
from assay.ledger import Ledger
from assay.model import Access

ROWS = np.array([[1.0, -2.5], [0.5, 3.0]], dtype=np.float32)


def expected(rows):
    scores = np.exp(rows @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]], dtype=np.float32))
    return scores / scores.sum(1, keepdims=True)


def test_answers_come_and_are_paid_for():
    with PayingServer() as server, Client(server.url, workers=1) as client:
        assert client.account_key is None
        outputs = client.infer("m", {"x": ROWS})
        np.testing.assert_allclose(outputs["y"], expected(ROWS), rtol=1e-6)
        assert outputs["y"].dtype == np.float32
        assert client.account_key in server.books
        assert client.paid.units == 3.0
        assert client.policy()["deposit_units"] == 2.0
        assert client.account()["credit_units"] == 0.0
        assert client.metadata("m")["name"] == "m"


def test_credit_is_banked_ahead_and_spent_without_waiting():
    with PayingServer() as server, Client(server.url, workers=1) as client:
        receipt = client.bank(20)
        assert receipt.units == 22.0
        assert receipt.credit_units == 20.0
        assert receipt.account_key == client.account_key
        # The deposit, and three challenges because one is worth at most eight units.
        assert client.paid.challenges == 4
        server.statuses()
        for _ in range(3):
            client.infer("m", {"x": ROWS})
        assert server.statuses() == [200] * 3
        assert client.paid.challenges == 4
        assert client.bank().units == 0.0


def test_an_account_can_be_used_again():
    with PayingServer() as server:
        with Client(server.url, workers=1) as client:
            key = client.bank(4).account_key
        with Client(server.url, account=key, workers=1) as client:
            assert client.account_key == key
            assert client.bank(2).credit_units == 6.0
            client.infer("m", {"x": ROWS})
        assert server.books == {key: 5.0}


def test_an_account_that_does_not_exist_yet_pays_its_deposit():
    with PayingServer() as server, Client(server.url, account="new", workers=1) as client:
        assert client.bank().units == 2.0
        assert set(server.books) == {"new"}


def test_progress_is_told():
    seen = []
    with PayingServer(bits=12, k=16) as server, Client(server.url, workers=1, progress=seen.append) as client:
        client.bank()
    assert seen[-1].solved == seen[-1].k == 16


def test_a_limit_on_time_holds_for_banking_too():
    with (
        PayingServer(bits=40) as server,
        Client(server.url, workers=1, max_seconds=5) as client,
        pytest.raises(PaymentRefused, match="5 s are allowed"),
    ):
        client.bank(1)


@pytest.mark.parametrize("units", [-1, float("nan"), float("inf")])
def test_impossible_amounts_are_refused(units):
    with PayingServer() as server, Client(server.url) as client:
        with pytest.raises(InvalidInput, match="at least 0"):
            client.bank(units)
        assert server.statuses() == []


def test_a_gateway_that_gives_nothing_for_the_work_is_given_up():
    with PayingServer(deposit=0.0) as server, Client(server.url, workers=1) as client:
        server.redeem = lambda *_: (200, {"account_key": "a", "units": 0.0, "credit_units": 0.0})
        with pytest.raises(SuspectUnreachable, match="too little credit"):
            client.bank(1)


@pytest.mark.parametrize(
    "answer",
    [b"[]", b"noise", {"outputs": 5}, {"outputs": [5]}, {"outputs": [{"name": "y"}]}, {},
     {"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": [1.0]}]}],
)  # fmt: skip
def test_answers_that_are_none_are_refused(answer):
    with PayingServer() as server, Client(server.url) as client:
        server.script = [(200, answer)]
        with pytest.raises(SuspectUnreachable):
            client.infer("m", {"x": ROWS})


def test_inputs_that_json_cannot_carry_are_refused():
    with PayingServer() as server, Client(server.url) as client:
        for rows in (np.array([[np.nan]]), np.array(["text"]), np.float32(1.0), np.array([[1j]])):
            with pytest.raises(InvalidInput):
                client.infer("m", {"x": rows})
        assert server.statuses() == []


def test_types_survive():
    with PayingServer() as server, Client(server.url) as client:
        for dtype in (np.int8, np.uint16, np.int64, np.float16, np.float64, np.bool_):
            array = np.array([[0, 1, 1]], dtype=dtype)
            name = {"bool": "BOOL"}.get(array.dtype.name) or array.dtype.name.upper().replace("FLOAT", "FP")
            output = {"name": "y", "datatype": name, "shape": [1, 3], "data": array.ravel().tolist()}
            server.script = [(200, {"outputs": [output]})]
            found = client.infer("m", {"x": array})["y"]
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, array)


def test_a_victim_behind_a_gateway_is_a_model_like_any_other():
    with PayingServer() as server:
        model = open_model(server.url + "/v2/models/m", num_classes=3, outputs="probabilities")
        with model:
            metered = Ledger(model, Access.SCORES, budget=10)
            scores = metered.scores(torch.from_numpy(ROWS))
        np.testing.assert_allclose(scores.numpy(), expected(ROWS), rtol=1e-5)
        assert 428 in server.statuses()
        assert len(server.books) == 1


def test_banking_from_two_threads_is_counted_once_each():
    with PayingServer(deposit=0.0) as server, Client(server.url, account="a", workers=1) as client:
        threads = [threading.Thread(target=client.bank, args=(3,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.books == {"a": 6.0}
        assert json.loads(json.dumps(client.account()))["credit_units"] == 6.0
