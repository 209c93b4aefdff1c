"""``assay audit``, ``assay accounts``, and what extract and verify say about work that was paid."""

from __future__ import annotations

import json

import pytest
import typer
from listening import listening
from serving import make_policy, rows, serving
from test_server_upkeep import BEARER, Pages
from typer.testing import CliRunner

from assay.cli.accounts import accounts
from assay.cli.audit import audit
from assay.cli.extract import extract
from assay.cli.verbs import Group, verb
from assay.gateway.audit import verify_export
from assay.gateway.policy import Tier
from assay.gateway.store.base import StoreDown
from assay.gateway.store.sql import SqlStore

KEY = b"0123456789abcdef0123456789abcdef"

APP = typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False)
APP.callback()(lambda: None)
for _name, _function in {"audit": audit, "accounts": accounts, "extract": extract}.items():
    APP.command(_name)(verb(_function))


def run(*arguments):
    done = CliRunner().invoke(APP, [str(one) for one in arguments])
    return done.exit_code, done.stdout, done.stderr


def told(*arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def books(tmp_path):
    """The store of a gateway that has answered two accounts and is not running any more."""
    policy = make_policy().model_copy(
        update={"tiers": {"standard": Tier(), "trusted": Tier(price_factor=0.5)}}
    )
    with serving(tmp_path, policy) as gateway:
        for _ in range(2):
            gateway.infer(rows(2), key=gateway.open_account())
        gateway.settled()
    return f"sqlite:///{tmp_path}/gateway.db"


# --- audit ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("keyed", [False, True])
def test_an_export_verifies_and_a_changed_line_does_not(books, tmp_path, keyed):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    key = ("--key", tmp_path / "key") if keyed else ()
    made = told("audit", "--store", books, "--out", tmp_path / "log.jsonl", *key)
    assert made["entries"] > 4
    assert made["keyed"] is keyed
    found = told("audit", "--check", tmp_path / "log.jsonl", "--head", made["head"], *key)
    assert {**found, "file": ""} == {**made, "file": ""}
    # Nothing has happened since: the same file, the same end.
    assert told("audit", "--store", books, "--out", tmp_path / "log.jsonl", *key) == made
    text = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(text.replace('"work":0.0', '"work":9.0', 1))
    code, _, err = run("audit", "--check", tmp_path / "log.jsonl", *key)
    assert code != 0
    assert "does not follow from the lines before it" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either --out FILE"),
        (("--out", "a", "--check", "b"), "give either --out FILE"),
        (("--out", "a", "--head", "d"), "--head is for --check"),
        (("--out", "a", "--store", "sqlite:///none.db"), "there is no store at none.db"),
        (("--out", "a", "--store", "sqlite://"), "there is no store"),
        (("--out", "a", "--store", "mysql://h/d"), "cannot be a 'mysql' database"),
        (("--check", "none.jsonl"), "cannot be read"),
        (("--check", "none.jsonl", "--key", "nokey"), "nokey"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("audit", *arguments)
    assert code == 2
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_people_read_how_many_entries_and_the_digest(books, tmp_path):
    code, out, _ = run("audit", "--store", books, "--out", tmp_path / "log.jsonl")
    assert code == 0
    assert verify_export(tmp_path / "log.jsonl").head in out


def test_the_operator_downloads_the_same_lines(tmp_path):
    with Pages(tmp_path, make_policy()) as gateway:
        gateway.open_account()
        gateway.settled()
        assert gateway.get("/operator/api/audit").status_code == 401
        answer = gateway.get("/operator/api/audit", headers=BEARER)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="audit-')
        (tmp_path / "download.jsonl").write_bytes(answer.content)
        chain = verify_export(tmp_path / "download.jsonl")
        assert chain.entries == len(gateway.store.journal())
        told("audit", "--store", f"sqlite:///{tmp_path}/gateway.db", "--out", tmp_path / "export.jsonl")
        assert (tmp_path / "export.jsonl").read_bytes() == answer.content
        for page in ("", "/accounts", "/alarms", "/policy"):
            assert 'href="/operator/api/audit"' in gateway.get(f"/operator{page}", headers=BEARER).text


def test_a_store_that_is_down_is_no_short_download(tmp_path, monkeypatch):
    with Pages(tmp_path, make_policy()) as gateway:

        def down(**_more):
            msg = "no answer"
            raise StoreDown(msg)

        monkeypatch.setattr(gateway.store, "journal", down)
        answer = gateway.get("/operator/api/audit", headers=BEARER)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"


# --- accounts -------------------------------------------------------------------------------------
def test_accounts_are_listed_with_their_books(books):
    found = told("accounts", "--store", books, "--order", "work")
    assert found["total"] == len(found["accounts"]) == 2
    assert found["changed"] == []
    first = found["accounts"][0]
    assert (first["queries"], first["tier"], first["deposited_units"]) == (3, "standard", 16.0)
    assert first["work_paid_units"] >= found["accounts"][1]["work_paid_units"]
    only = told("accounts", "--store", books, "--prefix", first["account"], "--limit", "1")
    assert [one["account"] for one in only["accounts"]] == [first["account"]]
    code, out, _ = run("accounts", "--store", books, "--limit", "1")
    assert code == 0
    assert "1 of 2" in out


@pytest.mark.parametrize("tier", ["barred", "throttled", "trusted"])
def test_an_account_is_moved_and_the_journal_says_so(books, tier):
    account = told("accounts", "--store", books)["accounts"][0]["account"]
    found = told("accounts", "--store", books, "--tier", f"{account}={tier}", "--reason", "asked for")
    assert found["changed"] == [{"account": account, "from": "standard", "to": tier}]
    assert {one["tier"] for one in found["accounts"] if one["account"] == account} == {tier}
    store = SqlStore(books)
    entry = store.journal(account=account)[-1]
    assert (entry.kind, entry.detail["to"], entry.detail["reason"]) == ("tier", tier, "asked for")
    store.close()


def test_accounts_are_put_to_one_customer_or_to_none_of_them(books):
    both = [one["account"] for one in told("accounts", "--store", books)["accounts"]]
    joins = [word for account in both for word in ("--customer", f"{account}=example.org")]
    told("accounts", "--store", books, *joins, "--reason", "same card")
    code, _, err = run("accounts", "--store", books, "--customer", "nobody=x", "--customer", f"{both[0]}=")
    assert code != 0
    assert "no account" in err
    store = SqlStore(books)
    for account in both:
        entry = store.journal(account=account)[-1]
        assert (entry.kind, entry.detail["to"], entry.detail["reason"]) == (
            "customer",
            "example.org",
            "same card",
        )
    store.close()


def test_a_barred_account_is_refused_by_a_gateway_that_runs(tmp_path):
    with serving(tmp_path) as gateway:
        key = gateway.open_account()
        gateway.settled()
        url, account = f"sqlite:///{tmp_path}/gateway.db", gateway.store.queries(limit=1)[0].account
        told("accounts", "--store", url, "--tier", f"{account}=barred")
        refused = gateway.infer(rows(1), key=key)
        assert refused.status_code == 429
        assert "barred" in refused.json()["detail"]
        told("accounts", "--store", url, "--tier", f"{account}=standard")
        assert gateway.infer(rows(1), key=key).status_code == 200


def test_moves_are_made_all_or_none(books):
    account = told("accounts", "--store", books)["accounts"][0]["account"]
    for bad, words in [
        ("barred", "ID=TIER"),
        ("nobody=barred", "there is no account 'nobody'"),
        (f"{account}=trusty", "trusted"),
        (f"{account}=", "ID=TIER"),
    ]:
        code, _, err = run("accounts", "--store", books, "--tier", f"{account}=barred", "--tier", bad)
        assert code == 2
        assert words in err
    assert {one["tier"] for one in told("accounts", "--store", books)["accounts"]} == {"standard"}
    code, _, err = run("accounts", "--store", books, "--order", "size")
    assert (code, "ordered by" in err) == (2, True)


# --- what was paid --------------------------------------------------------------------------------
def test_extract_says_what_it_has_paid_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_API_TOKEN", raising=False)
    with listening(tmp_path) as (url, model):
        asked = (
            "extract",
            "--victim",
            f"{url}/v2/models/m",
            "--attack",
            "equation-solving",
            "--batch-size",
            "8",
        )
        code, out, err = run(*asked)
        assert code == 0, err
        assert model.count > 0
        (line,) = [line for line in out.splitlines() if line.startswith("paid ")]
        assert line.split()[2:4] == ["hashes", "in"]
        # One JSON object and nothing else.
        assert "paid" not in json.dumps(told(*asked))


def test_nothing_is_said_where_nothing_was_paid():
    from types import SimpleNamespace

    from assay.cli.console import paid_line
    from assay.puzzles.payer import Paid

    assert paid_line([object(), SimpleNamespace(paid=Paid())]) == []
    paid = SimpleNamespace(paid=Paid(hashes=1200, seconds=1.5))
    assert paid_line([paid, paid]) == ["paid 2,400 hashes in 3.0 s"]
