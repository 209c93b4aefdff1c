import dataclasses
import json

import numpy as np
import pytest
import torch
import typer
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from assay.adapters import TorchModel, save_model
from assay.cli.calibrate import calibrate as command
from assay.cli.verbs import Group, verb
from assay.data import Dataset, load_data
from assay.errors import AccessDenied, EvidenceTampered, InvalidInput
from assay.gateway.calibrate import CalibrationRecord, Timing, calibrate, make_method
from assay.gateway.calibrate.measure import doubts_of, time_per_item
from assay.gateway.policy import Budgets, Policy, check_step, load_policy
from assay.gateway.pricing import item_units
from assay.gateway.simulation import attack_cost
from assay.leakage import Gap, load_estimator
from assay.model import Access
from assay.nets import Recipe, build, train
from assay.report.calibration_report import CalibrationReport

KEY = b"0123456789abcdef"
SMALL = {"simulated": 200_000, "accounts": 6, "queries": 500, "timing": Timing(0.005, 0.0001)}


@pytest.fixture(scope="module")
def world():
    torch.set_num_threads(1)
    data = load_data("digits")
    order = np.random.default_rng(0).permutation(len(data))
    private, traffic = data.subset(order[:900]), data.subset(order[900:])
    network = build("mlp-64", data.input_shape, 10, 0)
    train(network, private, Recipe(epochs=10, optimizer="adam", lr=3e-3, weight_decay=0.0), rng=0)
    return TorchModel(network, name="digits"), private, traffic


@pytest.fixture(scope="module")
def found(world):
    model, private, traffic = world
    photos = Dataset(torch.rand(200, 3, 16, 16), torch.zeros(200, dtype=torch.int64), ("a", "b"))
    basis = Policy(budgets=Budgets(queries_per_day=5000))
    return calibrate(model, private, traffic, others={"photos": photos}, basis=basis, **SMALL)


def test_honest_users_stay_within_the_limit_and_thieves_pay_more(found):
    record = found.record
    assert len(record.honest) == 7
    assert 1.9 < record.worst_honest.overhead <= 2.02
    assert record.suspects
    for row in record.suspects:
        assert row.stateless > 1.5
        assert row.best.ratio <= min(row.split.ratio, row.padded.ratio, row.single) + 1e-9
        assert row.stateless <= row.bound * 1.05
    assert {row.name for row in record.attackers} >= {"noise", "blends", "photos"}


def test_the_policy_holds_what_was_fitted(found, world):
    model, _, traffic = world
    policy, pricing = found.policy, found.policy.pricing
    assert policy.budgets.queries_per_day == 5000
    assert policy.model == "digits"
    assert pricing.sigma == found.estimator.sigma
    assert pricing.inference_seconds == 0.005
    assert policy.calibration.overheads["typical"] == pytest.approx(found.record.honest[0].overhead, abs=1e-3)
    # An average honest query costs one unit, on rows that were not used to say so as well.
    log_q = found.estimator.log_q(traffic.x, scores=model.scores(traffic.x))
    assert float(item_units(policy, log_q).mean()) == pytest.approx(1.0, abs=0.15)


def test_the_overhead_counts_inference_pricing_and_solving(found):
    pricing = found.policy.pricing
    for row in found.record.honest:
        solving = row.units * pricing.hashes_per_unit / pricing.expected_rate_hz
        expected = (0.005 + 0.0001 + solving) / 0.005
        assert row.overhead == pytest.approx(expected)


def test_the_same_seed_gives_the_same_policy_and_labels_do_not_matter(world):
    model, private, traffic = world
    once, again = (calibrate(model, private, traffic, **SMALL) for _ in range(2))
    assert again.policy.digest == once.policy.digest
    assert again.record.to_json() == once.record.to_json()
    blank = Dataset(traffic.x, torch.zeros_like(traffic.y), ("0", "1"))
    assert calibrate(model, private, blank, **SMALL).policy.pricing == once.policy.pricing


def test_what_is_saved_can_be_served(found, tmp_path, world):
    model, _, traffic = world
    found.save(tmp_path / "policy.toml", key=KEY)
    policy = load_policy(tmp_path / "policy.toml", KEY)
    estimator = load_estimator(tmp_path / policy.estimator.folder, model)
    assert estimator.digest == policy.estimator.digest == found.estimator.digest
    assert np.array_equal(estimator.log_q(traffic.x[:9]), found.estimator.log_q(traffic.x[:9]))
    record = CalibrationRecord.load(tmp_path / "policy-calibration.json")
    written = dataclasses.replace(found.record, policy_digest=policy.digest)
    assert record.to_json() == written.to_json()
    text = (tmp_path / "policy.toml").read_text()
    (tmp_path / "policy.toml").write_text(text.replace("version = 1", "version = 2"))
    with pytest.raises(EvidenceTampered):
        load_policy(tmp_path / "policy.toml", KEY)


def test_without_leakage_in_the_price_no_pool_pays_more(found, world):
    """The negative control of the tables."""
    model, _, traffic = world
    pricing = found.policy.pricing.model_copy(update={"beta": 0.0, "llr_values": (), "llr_edges": ()})
    flat = found.policy.model_copy(update={"pricing": pricing})
    honest = found.estimator.log_q(traffic.x, scores=model.scores(traffic.x))
    cost = attack_cost(flat, "ties", [-0.7], honest, queries=500, accounts=4)
    assert (cost.stateless, cost.after_100, cost.cheap_half) == pytest.approx((1.0, 1.0, 1.0))
    real = attack_cost(found.policy, "ties", [-0.7], honest, queries=500, accounts=4)
    assert real.stateless > 1.5


def test_pricing_that_costs_more_than_the_limit_is_refused(world):
    model, private, traffic = world
    with pytest.raises(InvalidInput, match="faster estimator"):
        calibrate(model, private, traffic, **(SMALL | {"timing": Timing(0.001, 0.002)}))


def test_an_estimator_without_a_signal_is_refused(world):
    model, private, traffic = world

    class Blind:
        name, sigma, digest, facts, reads_scores = "blind", 2.0, "d" * 64, {}, False

        def log_q(self, x, *, scores=None):
            return -np.random.default_rng(0).exponential(20.0, len(x))

    class Method:
        def fit(self, *args, **options):
            return Blind()

    with pytest.raises(InvalidInput, match="cannot tell any suspect pool"):
        calibrate(model, private, traffic, method=Method(), **SMALL)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.subset(range(50)), "at least 100 trusted"),
        (lambda t: Dataset(t.x[..., :4], t.y, t.classes), "inputs of shape"),
    ],
)
def test_unfit_traffic_is_refused(world, change, sentence):
    model, private, traffic = world
    with pytest.raises(InvalidInput, match=sentence):
        calibrate(model, private, change(traffic), **SMALL)


def test_a_model_of_labels_only_is_refused(world):
    model, private, traffic = world
    mute = TorchModel(model.module, access=Access.LABELS)
    with pytest.raises(AccessDenied):
        calibrate(mute, private, traffic, **SMALL)


def test_the_heads_read_scores_unless_told_otherwise(world):
    model, *_ = world
    assert make_method("heads", {"teachers": "10"}, model).features == "scores"
    assert make_method("heads", {"features": "inputs"}, model).features == "inputs"
    assert make_method("gap", {}, model) == Gap()


def test_measuring_asks_every_set_once(world):
    model, private, traffic = world
    estimator = make_method("gap", {}, model).fit(private, model)
    found = doubts_of(estimator, model, {"a": traffic, "b": traffic, "c": traffic.subset(range(5))})
    assert found["a"] is found["b"]
    assert np.allclose(found["c"], found["a"][:5])
    clock = time_per_item(estimator, model, traffic.x[:40])
    assert 0 < clock.inference < 1
    assert 0 <= clock.estimator < 1
    with pytest.raises(InvalidInput):
        Timing(0.0, 1.0)


def test_the_report_says_what_matters_and_loads_nothing(found, tmp_path):
    report = CalibrationReport(found.record, "A <b>gateway</b>")
    page = report.save(tmp_path / "r.html").read_text()
    assert "<b>gateway" not in page
    assert "cannot be priced away" in page
    assert "not a privacy guarantee" in page
    for row in (*found.record.honest, *found.record.attackers):
        assert row.name in page
    assert page.count("data:image/svg+xml") == 5
    assert "http" not in page.split("</style>")[1].replace("http-equiv", "")
    assert report.targets[0].met


def test_missed_targets_are_shown_as_missed(found):
    data = found.record.to_dict()
    for row in data["attackers"]:
        row["best"]["ratio"], row["after_100"] = 1.1, 2.0
    for row in data["honest"]:
        row["overhead"] = 3.0
    worse = CalibrationReport(CalibrationRecord.from_dict(data))
    assert not any(target.met for target in worse.targets)
    assert worse.html().count("not reached") == 3


@pytest.fixture(scope="module")
def files(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    model, private, traffic = world
    save_model(model, folder / "model.safetensors")
    private.save(folder / "train.npz")
    traffic.save(folder / "sample.npz")
    return folder


@pytest.fixture(scope="module")
def fast(files):
    """A model of some microseconds, as ONNX: what most people try first."""
    import oip_process

    data = load_data(str(files / "train.npz"))
    known = LogisticRegression(max_iter=500).fit(data.x.flatten(1).numpy(), data.y.numpy())
    oip_process.write_classifier(files / "clf.onnx", (1, 8, 8), 10, fitted=(known.coef_.T, known.intercept_))
    return files


def test_a_model_faster_than_any_request_needs_no_option(fast, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    out = tmp_path / "policy.toml"
    done = _run(fast, "--model", fast / "clf.onnx", "--out", out, "--volume", "500", seconds=None)
    assert done.exit_code == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "An answer counts as 1 ms" in shown
    assert "Prices rise with volume from item 21,640 of a customer on" in shown
    policy = load_policy(out)
    assert policy.pricing.inference_seconds == 0.001
    assert policy.pricing.volume.free_items == pytest.approx(500 * 30 / np.log(2))
    assert max(policy.calibration.overheads.values()) < 2.1
    record = CalibrationRecord.load(tmp_path / "policy-calibration.json")
    assert record.policy_digest == policy.digest
    assert policy.digest in (tmp_path / "policy-report.html").read_text()


def test_memory_hard_puzzles_are_priced_in_tries(files, tmp_path):
    done = _run(files, "--out", tmp_path / "hard.toml", "--puzzle", "scrypt")
    assert done.exit_code == 0, done.stderr
    policy = load_policy(tmp_path / "hard.toml")
    assert (policy.puzzle.alg, policy.pricing.expected_rate_hz) == ("scrypt", 12.0)
    # A hundredth of a second of an answer is a tenth of a try.
    assert policy.pricing.hashes_per_unit < 1.0
    assert 1.5 < max(policy.calibration.overheads.values()) < 2.1
    assert _run(files, "--out", tmp_path / "x.toml", "--puzzle", "argon2").exit_code == 2


def _run(files, *arguments, seconds="0.01"):
    app = typer.Typer(cls=Group)
    app.command("calibrate")(verb(command))
    app.callback()(lambda: None)
    given = [
        *("calibrate", "--private", files / "train.npz", "--traffic", files / "sample.npz", "--quick"),
        *(() if "--model" in arguments else ("--model", files / "model.safetensors")),
        *(() if seconds is None else ("--inference-seconds", seconds)),
    ]
    result = CliRunner().invoke(app, [str(a) for a in (*given, *arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_writes_a_signed_policy_and_raises_its_version(files, tmp_path):
    out, key = tmp_path / "policy.toml", tmp_path / "keys" / "policy.key"
    done = _run(files, "--out", out, "--key", key, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["signed"] is True
    assert said["policy_version"] == 1
    assert key.stat().st_mode & 0o077 == 0
    policy = load_policy(out, key.read_bytes().strip())
    assert (tmp_path / policy.estimator.folder / "manifest.json").is_file()
    assert "Thieves" in (tmp_path / "policy-report.html").read_text()
    again = _run(files, "--out", tmp_path / "next.toml", "--key", key, "--previous", out)
    assert again.exit_code == 0, again.stderr
    following = load_policy(tmp_path / "next.toml", key.read_bytes().strip(), previous=policy)
    assert following.version == 2
    check_step(policy, following)
    assert "note: Theft with inputs of the task cannot be priced away" in again.stdout


def test_a_fall_of_prices_is_refused_and_nothing_is_written(files, tmp_path):
    out = tmp_path / "policy.toml"
    assert _run(files, "--out", out, "--quiet").exit_code == 0
    far = _run(files, "--out", tmp_path / "b.toml", "--previous", out, "--rate", "1e5")
    assert far.exit_code == 2
    assert "more than twofold" in far.stderr
    assert sorted(p.name for p in tmp_path.glob("b*")) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--estimator", "hedas"), "did you mean 'heads'?"),
        (("--set", "teacher=3"), "teachers"),
        (("--suspects", "nowhere.npz"), "no file or folder"),
        (("--report", "page.pdf"), "NAME.html"),
        (("--rate", "0"), "--rate"),
        (("--limit", "1.001", "--inference-seconds", "1e-7"), "faster estimator"),
    ],
)
def test_mistakes_are_explained(files, tmp_path, arguments, sentence):
    done = _run(files, "--out", tmp_path / "p.toml", *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(files, tmp_path):
    out = tmp_path / "policy.toml"
    out.write_text("mine")
    assert _run(files, "--out", out).exit_code == 2
    assert out.read_text() == "mine"
    assert _run(files, "--out", out, "--force", "--quiet").exit_code == 0
    assert load_policy(out).version == 1
