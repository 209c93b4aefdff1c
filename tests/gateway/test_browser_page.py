"""The page in a real browser; skipped, with the reason, where there is none."""

import dataclasses
import hashlib
import re
import secrets
import shutil
from base64 import urlsafe_b64decode, urlsafe_b64encode

import httpx
import pytest
from paying_server import KEY, PayingServer

from assay.gateway.page import FILES, HEADERS, page_router, read_page
from assay.puzzles.check import Terms, verify
from assay.puzzles.claims import Claims
from assay.puzzles.difficulty import target64
from assay.puzzles.tokens import mint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as run:
        # The sandbox needs privileges that containers lack; the pages opened here are our own.
        found = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def tolerant_page(browser):
    context = browser.new_context(viewport={"width": 900, "height": 900})
    found = context.new_page()
    found.set_default_timeout(20_000)
    yield found
    context.close()


@pytest.fixture
def page(tolerant_page):
    """A page that fails the test if the browser complains about anything."""
    faults = []
    tolerant_page.on("pageerror", lambda error: faults.append(str(error)))
    tolerant_page.on(
        "console", lambda line: faults.append(line.text) if line.type in {"error", "warning"} else None
    )
    yield tolerant_page
    assert faults == []


def opened(page, server, link=""):
    page.goto(f"{server.url}/pow/{link}")
    page.wait_for_selector("html[data-ready]")


def challenge(bits, k=16, **changes):
    claims = Claims(
        kid="k", target64=target64(bits, k), k=k, purpose="query", sub="a", price_units=2.5, iat=10**9,
        exp=4 * 10**9, jti=secrets.token_hex(16), model="net", model_version="3", query_digest="cd" * 32,
        n_items=7,
    )  # fmt: skip
    return mint(dataclasses.replace(claims, **changes), KEY)


def accepted(proof, bits, alg="sha256"):
    terms = Terms(
        now=2 * 10**9, purposes=("query",), min_bits=bits, policies=(0,), model="net", model_version="3",
        query_digest="cd" * 32, algorithms=(alg,),
    )  # fmt: skip
    return verify(proof, {"k": KEY}, terms)


def test_an_account_is_opened_and_credit_is_banked(page):
    with PayingServer(bits=14, k=16) as server:
        opened(page, server)
        assert re.search(r"2 units: 32\.8K hashes, .* here", page.inner_text("#fact-deposit"))
        assert "in WebAssembly" in page.inner_text("#fact-rate")
        page.fill("#units", "20")
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        key = page.input_value("#receipt-key")
        assert server.books == {key: 20.0}
        assert page.inner_text("#receipt-credit") == "20 units"
        assert page.inner_text("#receipt-units") == "22 units"
        # The same account earns more, without a second deposit.
        page.fill("#units", "4")
        page.click("#start")
        page.wait_for_selector("#receipt-credit:has-text('24 units')")
        assert server.books == {key: 24.0}


def test_a_challenge_is_shown_and_solved(page):
    token = challenge(17.25)
    with PayingServer() as server:
        opened(page, server, f"#challenge={token}")
        shown = page.inner_text("#claims")
        for words in ("one request", "net 3", "7", "2.5 units"):
            assert words in shown
        page.click("#solve")
        page.wait_for_selector("#status:has-text('Solved')")
        proof = page.input_value("#proof")
    assert accepted(proof, 17.25).token == token


def test_easy_and_single_puzzles_are_solved(page):
    with PayingServer() as server:
        opened(page, server)
        page.click("#solve-title")
        for bits, k in ((6, 64), (16, 1), (4, 16)):
            page.fill("#challenge", challenge(bits, k))
            page.click("#solve")
            page.wait_for_selector(f"#cells[aria-valuenow='{k}']", state="attached")
            page.wait_for_selector("#solve:enabled")
            accepted(page.input_value("#proof"), bits)


@pytest.mark.parametrize(("bits", "k", "memory"), [(1, 1, 14), (3, 4, 10), (2, 3, 12)])
def test_memory_hard_challenges_are_solved(page, bits, k, memory):
    token = challenge(bits, k, alg="scrypt", memory=memory)
    with PayingServer() as server:
        opened(page, server, f"#challenge={token}")
        assert re.search(r"\d tries", page.inner_text("#claims"))
        page.click("#solve")
        page.wait_for_selector("#status:has-text('Solved')")
        accepted(page.input_value("#proof"), bits, "scrypt")
        # Measured on the way, so that the next one can be estimated.
        assert "hashes a second" in page.inner_text("#fact-rate")


def test_memory_hard_challenges_out_of_range_are_refused(page):
    with PayingServer() as server:
        opened(page, server)
        page.click("#solve-title")
        wrong = {"alg": "scrypt", "memory": 10}
        payload = urlsafe_b64decode(challenge(2, 4, **wrong).split(".")[0] + "==").decode()
        for old, new in (
            ('"memory":10', '"memory":31'),
            ('"k":4', '"k":5'),
            ('"alg":"scrypt"', '"alg":"none"'),
        ):
            assert old in payload
            token = urlsafe_b64encode(payload.replace(old, new).encode()).decode().rstrip("=") + ".x"
            page.fill("#challenge", token)
            page.wait_for_selector("#claims", state="hidden")
            page.click("#solve")
            page.wait_for_selector("#status.bad:visible")


def test_the_scripts_scrypt_is_the_standards(page):
    cases = [(0, 0, 10), (2**64 - 1, 2**32 - 1, 11), (123456789, 3, 14)]
    with PayingServer() as server:
        opened(page, server)
        found = page.evaluate(
            """async (cases) => {
                const { scrypt } = await import("./scrypt.js");
                return cases.map(([password, salt, memory]) =>
                    [...scrypt(Uint8Array.from(password), Uint8Array.from(salt), memory)]);
            }""",
            [[list(p.to_bytes(8, "big")), list(b"s" * 32 + i.to_bytes(4, "big")), m] for p, i, m in cases],
        )
    for (password, index, memory), value in zip(cases, found, strict=True):
        expected = hashlib.scrypt(
            password.to_bytes(8, "big"), salt=b"s" * 32 + index.to_bytes(4, "big"), n=2**memory, r=8, p=1,
            maxmem=2**26, dklen=8,
        )  # fmt: skip
        assert bytes(value) == expected


def test_a_gateway_with_memory_hard_puzzles_has_room_for_browsers(page, tmp_path):
    pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
    pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")
    from listening import listening
    from serving import make_policy

    puzzle = {"alg": "scrypt", "k": 2, "min_bits": 1.0, "max_bits": 4.0}
    policy = make_policy(puzzle=puzzle, hashes_per_unit=1 / 8, expected_rate_hz=12.0)
    with listening(tmp_path, policy) as (url, _):
        page.goto(f"{url}/pow/")
        page.wait_for_selector("html[data-ready]")
        assert "16 megabytes" in page.text_content("#about-memory")
        assert re.search(r"tries a second on \d+ cores?, in JavaScript", page.inner_text("#fact-rate"))
        assert "2 tries" in page.inner_text("#fact-deposit")
        page.fill("#units", "16")
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        assert "tries in" in page.inner_text("#receipt-work")
        key = page.input_value("#receipt-key")
        books = httpx.get(f"{url}/pow/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
        assert books["credit_units"] >= 16
        assert books["deposit_due_units"] == 0


def test_browsers_without_webassembly_solve_too(page):
    token = challenge(13)
    with PayingServer() as server:
        server.files = {"sha256.wasm": b"none"}
        opened(page, server, f"#challenge={token}")
        assert "in JavaScript" in page.inner_text("#fact-rate")
        page.click("#solve")
        page.wait_for_selector("#status:has-text('Solved')")
        accepted(page.input_value("#proof"), 13)


def test_a_search_can_be_stopped_and_another_begun(page):
    with PayingServer(bits=45, k=16) as server:
        opened(page, server)
        page.click("#start")
        page.wait_for_selector("#numbers:has-text('0 of 16 parts')")
        page.click("#stop")
        page.wait_for_selector("#status:has-text('Stopped')")
        assert server.books == {}
        server.bits = 12
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        assert len(server.books) == 1


def test_worker_counts_are_whole_numbers(page):
    with PayingServer(bits=12) as server:
        opened(page, server)
        for given, used in (("3.7", "3"), ("0", "1"), ("-2", "1"), ("2", "2")):
            page.fill("#workers", given)
            page.press("#workers", "Tab")
            page.wait_for_selector(f"#fact-rate:has-text('on {used} core')")
            assert page.input_value("#workers") == used


def test_a_key_is_remembered_only_on_request(page):
    with PayingServer(bits=10) as server:
        opened(page, server)
        page.fill("#units", "0")
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        key = page.input_value("#receipt-key")
        opened(page, server)
        assert page.input_value("#key") == ""
        page.fill("#key", key)
        page.fill("#units", "1")
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        page.check("#keep")
        opened(page, server)
        assert page.input_value("#key") == key
        page.click("#start")
        page.wait_for_selector("#status:has-text('Done')")
        page.uncheck("#keep")
        opened(page, server)
        assert page.input_value("#key") == ""


def test_refusals_are_told_in_the_words_of_the_gateway(tolerant_page):
    page = tolerant_page
    with PayingServer(bits=10) as server:
        opened(page, server)
        server.redeem = lambda *_: server.problem(429, "the <b>account</b> is over its budget")
        page.click("#start")
        page.wait_for_selector("#status.bad:has-text('the <b>account</b> is over its budget')")
        page.context.set_offline(True)
        page.click("#start")
        page.wait_for_selector("#status.bad:has-text('does not answer')")


def test_text_from_elsewhere_is_never_markup(page):
    token = challenge(20, model="<img/src=x/onerror=alert(1)>")
    with PayingServer() as server:
        opened(page, server, f"#challenge={token}")
        assert "<img/src=x/onerror=alert(1)>" in page.inner_text("#claims")
        assert page.locator("#claims img").count() == 0
        page.fill("#challenge", "noise")
        page.wait_for_selector("#claims", state="hidden")


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_and_everything_is_labelled(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    with PayingServer() as server:
        opened(page, server, f"#challenge={challenge(20)}")
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        unlabelled = """() => [...document.querySelectorAll("input, textarea, button")]
            .filter((e) => !e.textContent.trim() && !(e.labels && e.labels.length)).map((e) => e.id)"""
        assert page.evaluate(unlabelled) == []
        assert page.evaluate("() => document.documentElement.lang") == "en"


def test_the_policy_of_the_page_blocks_scripts_of_others(tolerant_page):
    with PayingServer() as server:
        opened(tolerant_page, server)
        blocked = """() => new Promise((resolve) => {
            document.onsecuritypolicyviolation = (event) => resolve(event.effectiveDirective);
            const script = document.createElement("script");
            script.textContent = "window.taken = true";
            document.body.append(script);
        })"""
        assert tolerant_page.evaluate(blocked).startswith("script-src")
        assert tolerant_page.evaluate("() => window.taken") is None


# --- without a browser --------------------------------------------------------------------------


def test_the_files_need_nothing_from_elsewhere():
    for path, file in FILES.items():
        content = read_page(path)
        assert content, path
        if file.media_type.startswith("text/"):
            text = content.decode()
            assert not re.search(r"https?://", text), path
            assert "eval(" not in text, path
    html = read_page("").decode()
    assert not re.search(r"\son[a-z]+=|\sstyle=|<script(?![^>]*\ssrc=)|<style", html)
    for name in re.findall(r'(?:src|href)="([a-z0-9.]+\.(?:js|css|svg))"', html):
        assert name in FILES
    assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]


def test_the_compiled_search_is_what_its_source_says():
    wasmtime = pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    from importlib import resources

    source = resources.files("assay.puzzles").joinpath("sha256.wat").read_text()
    assert bytes(wasmtime.wat2wasm(source)) == read_page("sha256.wasm")


def test_the_router_serves_every_file_with_the_policy():
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi is not installed")
    app = fastapi.FastAPI()
    app.include_router(page_router())
    client = testclient.TestClient(app, follow_redirects=False)
    assert client.get("/pow").headers["location"] == "/pow/"
    for path, file in FILES.items():
        answer = client.get(f"/pow/{path}")
        assert answer.status_code == 200
        assert answer.content == read_page(path)
        assert answer.headers["content-type"] == file.media_type
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
    assert client.get("/pow/__init__.py").status_code == 404
    assert client.get("/pow/../client.py").status_code == 404
