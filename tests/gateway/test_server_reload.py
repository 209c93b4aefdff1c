"""A new policy while requests go on."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")

from serving import INFER, as_json, make_policy, rows, serving, solve

from assay.errors import EvidenceTampered, InvalidInput
from assay.gateway.policy import Defence, Detector, EstimatorSource, load_policy, save_policy, sign
from assay.gateway.server.reload import Reloader

KEY = bytes(32)


class Filed:
    """A gateway whose policy lies in a file."""

    def __init__(self, gateway, path, key=None):
        self.gateway, self.path = gateway, path
        self.reload = Reloader(gateway.gateway, lambda: load_policy(path, key))

    def __call__(self, policy=None, key=None):
        if policy is not None:
            save_policy(policy if key is None else sign(policy, key), self.path)
        return self.gateway.run(self.reload())


@pytest.fixture
def filed(tmp_path):
    with serving(tmp_path, make_policy(version=2)) as running:
        yield Filed(running, tmp_path / "policy.toml")


def challenge(gateway, x):
    return gateway.infer(x).json()["challenge"]


def test_a_newer_policy_is_taken_over_and_challenges_of_the_one_before_stay_good(filed, caplog):
    gateway = filed.gateway
    old = challenge(gateway, rows(1))
    caplog.set_level("INFO", "assay.gateway")
    new = make_policy(version=3, limits={"max_items": 3}, deposit_units=24.0, base_units=1.0)
    assert filed(new)
    assert "policy version 3 is in force, after version 2" in caplog.text
    shown = gateway.get("/pow/v1/policy").json()
    assert (shown["version"], shown["deposit_units"], shown["max_items"]) == (3, 24.0, 3)
    assert gateway.infer(rows(4)).status_code == 413
    assert gateway.infer(rows(1), proof=solve(old)).status_code == 200
    gateway.settled()
    row = gateway.store.queries(limit=1)[0]
    assert row.policy_version == 3
    assert gateway.store.policies()[0].version == 3
    # Two versions on, what the first has offered is over.
    older = challenge(gateway, rows(1, seed=1))
    assert filed(make_policy(version=4))
    oldest = challenge(gateway, rows(1, seed=2))
    assert filed(make_policy(version=5))
    assert gateway.infer(rows(1, seed=1), proof=solve(older)).status_code == 403
    assert gateway.infer(rows(1, seed=2), proof=solve(oldest)).status_code == 200


def test_prices_defences_and_detectors_follow_the_policy(filed):
    gateway = filed.gateway
    key = gateway.open_account()
    gateway.settled()
    assert gateway.store.queries(limit=1)[0].price == pytest.approx(2.0)
    answers = (Defence(name="rounding", settings={"digits": 1}), Defence(name="dawn"))
    new = make_policy(version=3, p95_units=3.0, answers=answers, detectors=(Detector(name="coverage"),))
    assert filed(new)
    shown = gateway.infer(rows(1, seed=5), key=key).json()["outputs"][0]["data"]
    assert np.allclose(np.array(shown) * 10, np.round(np.array(shown) * 10), atol=1e-4)
    gateway.settled()
    assert gateway.store.queries(limit=1)[0].price == pytest.approx(3.0)
    assert gateway.gateway.watch is not None
    commitments = [row for row in gateway.store.journal() if row.kind == "commitment"]
    assert len(commitments) == 1
    assert filed(make_policy(version=4))
    assert gateway.gateway.answers is gateway.gateway.watch is None


REFUSED = {
    "older": (make_policy(version=1), "version 1, which is not above version 2"),
    "the same version with another text": (make_policy(version=2, beta=2.0), "not above version 2"),
    "cheaper": (make_policy(version=3, base_units=0.1), "more than twofold"),
    "an unknown defence": (make_policy(version=3, answers=(Defence(name="nothing"),)), "nothing"),
    "without its estimator": (make_policy(version=3, timing="exact"), "exact timing needs"),
    "an estimator that is not there": (
        make_policy(version=3).model_copy(update={"estimator": EstimatorSource(folder="gone")}),
        "gone",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leads_backwards_is_refused_in_one_line_and_the_old_stays(filed, caplog, name):
    policy, words = REFUSED[name]
    gateway, before = filed.gateway, filed.gateway.gateway.parts
    assert not filed(policy)
    (record,) = [one for one in caplog.records if one.name == "assay.gateway"]
    assert record.levelname == "ERROR"
    assert "version 2 stays in force" in record.message
    assert words in record.message
    assert "\n" not in record.message
    assert record.exc_info is None
    assert gateway.gateway.parts is before
    assert [row.version for row in gateway.store.policies()] == [2]
    assert gateway.infer(rows(1)).status_code == 428


def test_a_key_means_that_only_signed_policies_are_taken_over(tmp_path, caplog):
    with serving(tmp_path, make_policy()) as gateway:
        filed = Filed(gateway, tmp_path / "policy.toml", KEY)
        assert not filed(make_policy(version=2))
        assert "is not signed" in caplog.text
        assert not filed(make_policy(version=2), b"x" * 32)
        assert "another key" in caplog.text
        save_policy(sign(make_policy(version=2), KEY), filed.path)
        filed.path.write_text(filed.path.read_text().replace("deposit_units = 16.0", "deposit_units = 17.0"))
        assert not filed()
        assert "changed after it was signed" in caplog.text
        assert filed(make_policy(version=2), KEY)


def test_the_same_file_and_no_file_change_nothing(filed, caplog):
    caplog.set_level("INFO", "assay.gateway")
    assert not filed(filed.gateway.gateway.policy)
    assert "in force already" in caplog.text
    assert not filed.gateway.run(Reloader(filed.gateway.gateway, None)())
    assert "started without one" in caplog.text
    filed.path.unlink()
    assert not filed()
    assert "cannot read the policy" in caplog.text


def test_another_replica_that_is_further_keeps_this_one_from_going_back(filed, caplog):
    text = json.dumps(make_policy(version=9).model_dump(mode="json"))
    filed.gateway.store.record_policy(9, text, now=time.time())
    assert not filed(make_policy(version=5))
    assert "older than version 9" in caplog.text
    assert filed.gateway.gateway.policy.version == 2


def test_a_replica_that_is_behind_honours_what_one_that_is_ahead_has_offered(tmp_path):
    shared = {"store": f"sqlite:///{tmp_path}/gateway.db"}
    with (
        serving(tmp_path, make_policy(), **shared) as behind,
        serving(tmp_path, make_policy(), **shared) as ahead,
    ):
        ahead.run(ahead.gateway.adopt(make_policy(version=2)))
        new, old = challenge(ahead, rows(1)), challenge(behind, rows(1, seed=1))
        assert behind.infer(rows(1), proof=solve(new)).status_code == 200
        assert ahead.infer(rows(1, seed=1), proof=solve(old)).status_code == 200


def test_requests_go_on_while_policies_change(filed):
    """No request fails and no unit is lost while the policy changes under them."""
    gateway = filed.gateway
    keys = [gateway.open_account() for _ in range(3)]

    async def ask(key, i):
        headers, body = {"Authorization": f"Bearer {key}"}, json.dumps(as_json(rows(1, i)))
        for _ in range(6):
            answer = await gateway.http.post(INFER, content=body, headers=headers)
            if answer.status_code != 428:
                return answer.status_code
            headers["PoW-Proof"] = solve(answer.json()["challenge"])
        return answer.status_code

    async def rush():
        jobs = [asyncio.ensure_future(ask(key, i)) for i in range(12) for key in keys]
        for version in range(3, 8):
            await asyncio.sleep(0.01)
            await gateway.gateway.adopt(make_policy(version=version, deposit_units=16.0 + version))
        return await asyncio.gather(*jobs)

    statuses = gateway.run(rush(), 60)
    # 403: the challenge was two versions old when it came back.
    assert set(statuses) <= {200, 403, 429}
    assert statuses.count(200) > 12
    gateway.settled()
    assert gateway.store.unbalanced() == []
    assert gateway.gateway.policy.version == 7


def test_adopting_raises_what_is_wrong(filed):
    with pytest.raises(InvalidInput, match="not above"):
        filed.gateway.run(filed.gateway.gateway.adopt(make_policy(version=2)))


def test_load_policy_is_what_decides_about_signatures(tmp_path):
    save_policy(make_policy(), tmp_path / "p.toml")
    with pytest.raises(EvidenceTampered):
        load_policy(tmp_path / "p.toml", KEY)


def test_a_signal_makes_the_verb_read_the_file_again(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    import oip_process
    from test_server_cli import announced, start

    oip_process.write_classifier(tmp_path / "clf.onnx")
    key = tmp_path / "policy.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    secret = key.read_bytes().strip()
    save_policy(sign(make_policy(), secret), tmp_path / "policy.toml")
    process = start(tmp_path, "--model", "clf.onnx", "--policy", "policy.toml", "--policy-key", str(key))
    try:
        url = announced(process)["url"]

        def signalled(policy, wanted):
            save_policy(policy, tmp_path / "policy.toml")
            process.send_signal(signal.SIGHUP)
            line = process.stderr.readline()
            assert wanted in line
            return httpx.get(f"{url}/pow/v1/policy").json()["version"]

        assert signalled(make_policy(version=2), "version 1 stays in force: the policy") == 1
        assert signalled(sign(make_policy(version=2), secret), "version 2 is in force, after version 1") == 2
        assert signalled(sign(make_policy(version=1), secret), "not above version 2") == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


def test_a_policy_that_does_not_fit_the_model_ends_the_verb_with_one_sentence(tmp_path):
    from test_server_cli import start

    (tmp_path / "labels.py").write_text("def answer(x):\n    return (x.sum(axis=1) > 0).astype(int)\n")
    policy = make_policy(answers=(Defence(name="rounding"),)).model_copy(update={"model": "m"})
    save_policy(policy, tmp_path / "policy.toml")
    how = ("--input-shape", "3", "--classes", "2", "--outputs", "labels")
    process = start(tmp_path, "--model", "labels:answer", "--policy", "policy.toml", *how)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith("error: the defence rounding needs scores, but m answers labels only")
