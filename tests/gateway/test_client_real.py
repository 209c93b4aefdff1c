"""Every paying client against the real gateway: library, model URL, verb, browser."""

import json
import shutil

import numpy as np
import pytest
import torch
import typer
from listening import listening
from serving import make_policy, rows
from typer.testing import CliRunner

from assay.adapters import open_model
from assay.cli.solve import solve
from assay.cli.verbs import Group, verb
from assay.errors import PaymentRefused
from assay.gateway.client import Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("ASSAY_API_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_client_opens_an_account_and_goes_on_paying(tmp_path):
    with listening(tmp_path) as (url, model), Client(url, workers=1) as client:
        answers = [client.infer("m", {"x": rows(2, seed)})["scores"] for seed in range(30)]
        assert model.count == 30
        assert answers[0].shape == (2, 4)
        np.testing.assert_allclose(answers[0].sum(1), 1, rtol=1e-5)
        account = client.account()
        assert account["queries"] == 60
        assert client.paid.challenges >= 2
        assert account["work_paid_units"] == pytest.approx(client.paid.units)
        assert client.metadata("m")["inputs"][0]["name"] == "x"


def test_credit_earned_ahead_spares_the_waiting(tmp_path):
    with listening(tmp_path) as (url, _), Client(url, workers=1) as client:
        receipt = client.bank(50)
        # Challenges are rounded by chance, to whole steps.
        assert receipt.credit_units >= 40
        before = client.paid.challenges
        for seed in range(5):
            client.infer("m", {"x": rows(4, seed)})
        assert client.paid.challenges == before
        # An item costs two units, so that credit and free debt are used up some time.
        for seed in range(5, 25):
            client.infer("m", {"x": rows(4, seed)})
        assert client.paid.challenges > before


def test_a_model_url_pays_by_itself(tmp_path):
    with listening(tmp_path) as (url, model):
        with open_model(f"{url}/v2/models/m", num_classes=4, outputs="probabilities", batch_size=8) as opened:
            scores = opened.scores(torch.from_numpy(rows(20)))
        assert scores.shape == (20, 4)
        assert model.count >= 3  # eight items a request


def test_the_verb_opens_an_account_that_others_use(tmp_path):
    app = typer.Typer(cls=Group)
    app.callback()(lambda: None)
    app.command("solve")(verb(solve))
    with listening(tmp_path) as (url, _):
        done = CliRunner().invoke(app, ["solve", url, "--bank", "50", "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        with Client(url, account=found["account_key"], workers=1) as client:
            client.infer("m", {"x": rows(1)})
            assert client.paid.challenges == 0


def test_a_gateway_that_asks_too_much_is_refused(tmp_path):
    policy = make_policy(hashes_per_unit=2.0**30, puzzle={"min_bits": 6.0, "max_bits": 40.0})
    with listening(tmp_path, policy) as (url, model), Client(url, workers=1, max_seconds=1) as client:
        with pytest.raises(PaymentRefused, match="1 s are allowed"):
            client.infer("m", {"x": rows(1)})
        assert model.count == 0


def test_a_browser_opens_an_account_whose_credit_works(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the path")
    with listening(tmp_path) as (url, _), playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        faults = []
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"{url}/pow")
        page.wait_for_selector("html[data-ready]")
        page.fill("#units", "40")
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        key = page.input_value("#receipt-key")
        assert faults == []
        # The interfaces that the page links to are there.
        for address in ("/openapi.json", "/pow/v1/policy"):
            assert page.request.get(url + address).ok
        browser.close()
        with Client(url, account=key, workers=1) as client:
            assert client.account()["credit_units"] > 25
            client.infer("m", {"x": rows(1)})
            assert client.paid.challenges == 0
