# ruff: noqa: E501 - a case a line reads better
from __future__ import annotations

import re

import pytest
from little import LITTLE, PATH, changed, plan_of

from assay.adapters import TorchModel, save_model
from assay.errors import InvalidInput
from assay.nets import build
from assay.study.file import parse_study
from assay.study.grid import plan_study

VICTIM, GRID = "[victim.a]\n", "[grid]\n"
LABELS = 'attack = "label-query"\noptions = { architecture = "mlp-8", training = "short" }'
OWN = ('architecture = "mlp-8"\nrecipe = "short"\n', "")
REFERENCES = ("references = { count = 2 }\n", "")
IDLE = '[victim.idle]\ndata = "iris"\narchitecture = "mlp-4"\n'
PUBLISHED = '[[published]]\ntable = "verdicts"\nwhere = {{ {} }}\nmetric = "{}"\nvalue = 1.0\nsource = "A"\n'

NAMES = [
    # what is changed, what is added, the text of the line that is named, what is said
    ([('data = "iris"\narch', 'data = "irsi"\narch')], "", "irsi", "unknown data set 'irsi'; did you mean 'iris'?"),
    ([], IDLE.replace('"iris"', '"irsi"'), '"irsi"', "unknown data set 'irsi'"),
    ([], IDLE + 'pool = "poll"\n', "poll", "unknown part of iris 'poll'; did you mean 'pool'?"),
    ([(VICTIM, VICTIM + 'evaluation = "evalution"\n')], "", "evalution", "did you mean 'evaluation'?"),
    ([('recipe = "short"', 'recipe = "shrt"')], "", "shrt", "unknown recipe 'shrt'; did you mean 'short'?"),
    ([("epochs = 2,", "epocs = 2,")], "", "epocs", "unknown option of Recipe 'epocs'; did you mean 'epochs'?"),
    ([("epochs = 2,", "epochs = -2,")], "", "epochs = -2", "epochs is out of range: -2"),
    ([("epochs = 2,", "epochs = 2.5,")], "", "epochs = 2.5", "epochs must be of type int, got 2.5"),
    ([("epochs = 2,", "epochs = [2],")], "", "epochs = [2]", "epochs must be of type int, got [2]"),
    ([("epochs = 2,", "epochs = true,")], "", "epochs = true", "epochs must be of type int, got True"),
    ([("epochs = 2,", 'epochs = "two",')], "", "epochs =", "'two' is not a value of type int"),
    ([], "[recipe.unused]\nlr = -1.0\n", "lr = -1.0", "lr is out of range"),
    ([('"mlp-8"\nrecipe', '"mpl-8"\nrecipe')], "", "mpl-8", "unknown architecture 'mpl'; did you mean 'mlp'?"),
    ([('"mlp-8"\nrecipe', '"cnn-8"\nrecipe')], "", "cnn-8", "does not fit inputs of shape (4,)"),
    ([(VICTIM, VICTIM + 'access = "label"\n')], "", 'access = "label"', "did you mean 'labels'?"),
    ([(VICTIM + 'data = "iris"\narchitecture = "mlp-8"', VICTIM + 'data = "iris"')], "", VICTIM, "'model'"),
    ([(VICTIM, VICTIM + 'model = "m.onnx"\n')], "", "m.onnx", "leave out architecture and recipe"),
    ([(VICTIM, VICTIM + 'private_part = "pool"\n')], "", "private_part", "is for a model of your own"),
    ([('"dataset-inference"', '"datset-inference"')], "", "datset", "did you mean 'dataset-inference'?"),
    ([("keep = 40", "kep = 40")], "", "kep = 40", "unknown option of DatasetInference 'kep'; did you mean 'keep'?"),
    ([("keep = 40", "keep = -40")], "", "keep = -40", "keep is out of range"),
    ([("keep = 40", "keep = [1, 2]")], "", "keep = [1, 2]", "keep must be of type int"),
    ([], "[evidence.kept.per.a.options]\nkeep = 1\n", "keep = 1", "keep is out of range: 1"),
    ([("count = 2 }", 'count = 2, copies = "coppy" }')], "", "coppy", "did you mean 'copy'?"),
    ([("count = 2 }", 'count = 2, architecture = "mpl-8" }')], "", "mpl-8", "did you mean 'mlp'?"),
    ([("count = 2 }", 'count = 2, recipe = "shrt" }')], "", "shrt", "did you mean 'short'?"),
    ([("count = 2 }", 'count = 2, extra = [{ architecture = "x", count = 1 }] }')], "", "extra", "'x'"),
    ([('"dataset-inference"\noptions = { keep = 40, decide = "permutation", resamples = 99 }', '"trigger-set"')],
     "", "references", "the scheme trigger-set compares with no references"),
    ([('"label-query"', '"label-qurey"')], "", "label-qurey", "did you mean 'label-query'?"),
    ([('"mlp-8", training', '"mpl-8", training')], "", "mpl-8", "unknown architecture 'mpl'"),
    ([('training = "short" }', 'training = "shrt" }')], "", "shrt", "unknown recipe 'shrt'"),
    ([("training =", "trainign =")], "", "trainign", "did you mean 'training'?"),
    ([('"short" }', "{ epochs = 0 } }")], "", "epochs = 0", "epochs is out of range: 0"),
    ([("[extraction.labels]", '[extraction.labels]\non = "querys"')], "", "querys", "did you mean 'queries'?"),
    ([('["labels", "labels"]', '["labels", "lables"]')], "", "lables", "did you mean 'labels'?"),
    ([('["labels", "labels"]', '["labels", "twice"]')], "", "chain", "in a circle: twice -> twice"),
    ([('["labels", "labels"]', '["more"]')], '[extraction.more]\nchain = ["twice"]\n', '["twice"]',
     "twice -> more -> twice"),
    ([('chain = ["labels"', 'budget = 3\nchain = ["labels"')], "", "budget", "no settings of its own"),
    ([("[extraction.copy]", '[extraction.copy]\nchain = ["labels"]')], "", "[extraction.copy]", "either"),
    ([('attack = "source-copy"\n', "")], "", "[extraction.copy]", "must have either 'attack' or 'chain'"),
    ([('"weight-noise"', '"weight-nose"')], "", "weight-nose", "did you mean 'weight-noise'?"),
    ([('removal = "weight-noise"', 'removal = "weight-noise"\non = "querys"')], "", "querys", "'queries'"),
    ([], '[removal.round]\nchain = ["round"]\n', "chain", "in a circle: round -> round"),
    ([('access = "labels"', 'access = "lables"')], "", "lables", "unknown access 'lables'"),
    ([("secrets = 2", 'secrets = 2\nevidence = ["kpet"]')], "", "kpet", "did you mean 'kept'?"),
    ([("secrets = 2", 'secrets = 2\nverifications = ["x"]')], "", '["x"]', "unknown verification 'x'"),
    ([("secrets = 2", 'secrets = 2\nvictims = ["x"]')], "", '["x"]', "unknown victim 'x'"),
    ([('"mlp-4"\nrecipe', '"mpl-4"\nrecipe')], "", "mpl-4", "did you mean 'mlp'?"),
    ([('"mlp-4"\nrecipe = "short"', '"mlp-4"\nrecipe = "shrt"')], "", "shrt", "did you mean 'short'?"),
    ([("count = 2\n\n[grid]", 'count = 2\non = "outsid"\n\n[grid]')], "", "outsid", "'outside'?"),
    ([("count = 2\n\n[grid]", 'count = 2\npublic = "pol"\n\n[grid]')], "", '"pol"', "'pool'?"),
    ([("count = 2\n\n[grid]", 'count = 2\ndata = "irsi"\n\n[grid]')], "", "irsi", "'iris'?"),
    ([(GRID, GRID + 'victims = ["b"]\n')], "", '["b"]', "unknown victim 'b'"),
    ([(GRID, GRID + 'evidence = ["kpet"]\n')], "", "kpet", "did you mean 'kept'?"),
    ([(GRID, GRID + 'extractions = ["coppy"]\n')], "", "coppy", "did you mean 'copy'?"),
    ([('removals = ["none", "noise"]', 'removals = ["nois"]')], "", "nois", "did you mean 'noise'?"),
    ([(GRID, GRID + 'verifications = ["scores"]\n')], "", "scores", "unknown verification 'scores'"),
    ([(GRID, GRID + 'panels = ["other"]\n')], "", "other", "did you mean 'others'?"),
    ([(GRID, GRID + 'exclude = [{ victm = "a" }]\n')], "", "victm", "did you mean 'victim'?"),
    ([(GRID, GRID + 'exclude = [\n  { victim = "a" },\n  { victim = "c" },\n]\n')], "", '"c"', "victim 'c'"),
    ([(GRID, GRID + 'only = [{ extraction = ["copy", "coppy"] }]\n')], "", "coppy", "did you mean 'copy'?"),
    ([(GRID, GRID + 'only = [{ seed = "zero" }]\n')], "", "zero", "a seed is a whole number"),
    ([], PUBLISHED.format('victm = "a"', "p_value"), "victm", "unknown column of the table verdicts 'victm'"),
    ([], PUBLISHED.format('victim = "z"', "p_value"), '"z"', "unknown victim 'z'"),
    ([], PUBLISHED.format('victim = "a"', "pvalue"), "pvalue", "did you mean 'p_value'?"),
    ([], PUBLISHED.format("decision = 1", "p_value"), "decision", "decision is text, got 1"),
    ([("pool = 80", "pool = 800")], "", "parts", "the parts need 870 rows, there are 150"),
    ([('source = "iris"', 'source = "irsi"')], "", "irsi", "unknown data set 'irsi'; did you mean 'iris'?"),
    ([('source = "iris"', 'source = "gone.npz"')], "", "gone.npz", "there is no file or folder gone.npz"),
    ([('source = "iris"', 'source = "iris"\nsplit = "tran"')], "", "source", "did you mean 'train'?"),
    ([('source = "iris"', 'source = "iris"\nsplit = "train+train"')], "", "source", "names a part twice"),
    ([("alpha = 0.05", 'alpha = 0.05\nplugins = ["gone.py"]')], "", "gone.py", "there is no file gone.py"),
    ([("alpha = 0.05", 'alpha = 0.05\nplugins = ["gone.module"]')], "", "gone.module", "No module named 'gone'"),
    # contradictions between tables
    ([(VICTIM, VICTIM + 'access = "labels"\n')], "", "source-copy", "needs weights, but the victim a offers labels"),
    ([(VICTIM, VICTIM + 'access = "labels"\n'), ('"source-copy"', '"logit-query"')], "", "logit-query", "needs scores"),
    ([("keep = 40", 'embedding = "mingd", keep = 40')], "", 'access = "labels"', "needs weights, the verification"),
    ([(GRID, GRID + "victims = []\n")], "", "[grid]", "victims and filters leave nothing"),
    ([(GRID, GRID + "extractions = []\npanels = []\n")], "", "[grid]", "neither extractions nor panels"),
    ([(GRID, GRID + 'victims = ["a"]\nonly = [{ victim = "idle" }]\n')], IDLE, "[grid]", "leave nothing"),
    # models of one's own
    ([OWN, (VICTIM, VICTIM + 'model = "gone.onnx"\n')], "", "gone.onnx", "there is no model file gone.onnx"),
    ([OWN, (VICTIM, VICTIM + 'model = "{model}"\nprivate_part = "pool"\ncontrol_part = "queries"\n')], "",
     "references", "trains its references itself"),
    ([OWN, REFERENCES, (VICTIM, VICTIM + 'model = "{model}"\n')], "", VICTIM, "private_part and control_part"),
    ([OWN, REFERENCES, (VICTIM, VICTIM + 'model = "{model}"\nprivate_part = "x"\n')], "", '"x"', "unknown part"),
    ([OWN, REFERENCES, (VICTIM, VICTIM + 'model = "m"\nprivate_part = "pool"\ncontrol_part = "pool"\n')], "",
     'model = "m"', "must be different parts"),
    ([OWN, (VICTIM, VICTIM + 'model = "{model}"\nopen = { token = "s" }\n')], "", "token", "ASSAY_API_TOKEN"),
    ([OWN, (VICTIM, VICTIM + 'model = "{model}"\nopen = { clases = 3 }\n')], "", "clases", "option of a model"),
    ([OWN, (VICTIM, VICTIM + 'model = "{wrong}"\n')], "", "wrong.safetensors", "takes inputs of shape (3,)"),
    ([OWN, REFERENCES, (VICTIM, VICTIM + 'model = "{model}"\nprivate_part = "pool"\ncontrol_part = "queries"\n'),
      ('"dataset-inference"\noptions = { keep = 40, decide = "permutation", resamples = 99 }', '"trigger-set"')],
     "", "trigger-set", "a model of your own; leave the pair out"),
    ([OWN, (VICTIM, VICTIM + 'model = "{model}"\n'), ('"source-copy"', '"data-theft"'),
      (GRID, GRID + "evidence = []\npanels = []\n")], "", VICTIM, "say which part"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, inputs in (("model", 4), ("wrong", 3)):
        network = TorchModel(build("mlp-4", (inputs,), 3))
        save_model(network, folder / f"{name}.safetensors", classes=("a", "b", "c"))
    return {"{model}": str(folder / "model.safetensors"), "{wrong}": str(folder / "wrong.safetensors")}


@pytest.mark.parametrize(("changes", "extra", "line", "said"), NAMES)
def test_what_cannot_be_is_told_with_its_line_before_anything_runs(models, changes, extra, line, said):
    text = changed(*changes, extra=extra)
    for name, path in models.items():
        text = text.replace(name, path)
    with pytest.raises(InvalidInput) as raised:
        plan_study(parse_study(text, PATH))
    found = re.fullmatch(rf"{PATH}, line (\d+): (.*)", str(raised.value))
    assert found, str(raised.value)
    assert line.strip() in text.splitlines()[int(found[1]) - 1]
    assert said in found[2]


def test_a_missing_data_set_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    with pytest.raises(
        InvalidInput, match=r"little.toml, line 6: the data set 'cifar100' is not in .*ASSAY_DATA"
    ):
        plan_of(('source = "iris"', 'source = "cifar100"'))


def test_what_a_preset_breaks_is_in_the_preset():
    text = LITTLE.replace("study.seeds = 2", 'study.seeds = 2\nevidence.kept.scheme = "trigger-set"')
    with pytest.raises(InvalidInput, match="unknown option of TriggerSet 'keep'"):
        plan_study(parse_study(text, PATH, "two"))
    text = LITTLE.replace("study.seeds = 2", 'study.seeds = 2\nvictim.a.architecture = "mpl-8"')
    line = 1 + text.splitlines().index('victim.a.architecture = "mpl-8"')
    with pytest.raises(InvalidInput, match=f"line {line}: unknown architecture"):
        plan_study(parse_study(text, PATH, "two"))


def test_text_that_stands_for_a_value_is_read_as_on_the_command_line():
    assert plan_of(("epochs = 2,", 'epochs = "2",')).steps[0].key == plan_of().steps[0].key
