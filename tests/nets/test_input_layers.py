import io

import numpy as np
import pytest
import torch
from scipy import ndimage

from assay.adapters import TorchModel, open_model, save_model
from assay.data.embedded import digits
from assay.errors import InvalidInput, UnknownName
from assay.nets import Recipe, build, train
from assay.nets.build import base_architecture
from assay.nets.input_layers import INPUT_LAYERS, put_in_front
from assay.nets.jpeg import compress


def _picture(channels, height=30, width=37):
    noise = np.random.default_rng(0).random((channels, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [5, 35, 65, 95])
def test_jpeg_is_what_the_format_leaves(channels, quality):
    image = pytest.importorskip("PIL.Image")
    pixels = _picture(channels)
    stored = io.BytesIO()
    shaped = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    image.fromarray(shaped).save(stored, "JPEG", quality=quality, subsampling=0)
    expected = np.atleast_3d(np.asarray(image.open(stored))).transpose(2, 0, 1).astype(float)
    found = (
        compress(torch.from_numpy(pixels)[None].float() / 255, torch.tensor(float(quality)))[0].numpy() * 255
    )
    lost = np.abs(pixels - expected).mean()
    # A decoder may round elsewhere; what compression itself changed is far more.
    assert np.abs(found - expected).mean() < 0.25 * lost + 0.02
    assert np.abs(found - pixels).mean() == pytest.approx(lost, rel=0.15)


def test_filters_are_scipys():
    x = torch.from_numpy(_picture(2, 12, 9)).float()[None] / 255
    plain = x[0].numpy().astype(np.float64)
    expected = {
        "gaussian": [ndimage.gaussian_filter(c, 0.8, mode="nearest", radius=4) for c in plain],
        "mean": [ndimage.uniform_filter(c, 3, mode="nearest") for c in plain],
        "median": [ndimage.median_filter(c, 3, mode="nearest") for c in plain],
    }
    for name, wanted in expected.items():
        layer = INPUT_LAYERS[name](0.8 if name == "gaussian" else None)
        assert np.abs(layer(x)[0].numpy() - np.array(wanted)).max() < 1e-5


def test_levels_and_flips_in_any_range():
    x = torch.linspace(-1, 1, 21).view(1, 1, 1, 21)
    assert set(INPUT_LAYERS["levels"](3, -1.0, 1.0)(x).flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.allclose(INPUT_LAYERS["flip"](None, -1.0, 1.0)(x), x.flip(3), atol=1e-6)
    assert float(INPUT_LAYERS["levels"](256)(x).min()) == 0.0  # what is outside the range is cut


def test_noise_has_its_size_and_depends_on_the_question_alone():
    x = torch.full((40, 1, 16, 16), 0.5)
    x[:, 0, 0, 0] = torch.linspace(0.1, 0.9, 40)
    layer, state = INPUT_LAYERS["noise"](0.1), torch.get_rng_state()
    found = layer(x) - x
    assert torch.equal(torch.get_rng_state(), state)
    assert float(found.std()) == pytest.approx(0.1, rel=0.03)
    assert torch.equal(layer(x.flip(0)).flip(0), layer(x))
    assert torch.equal(layer(x[7:8]), layer(x)[7:8])
    pairs = np.corrcoef(found.flatten(1).numpy())[np.triu_indices(40, 1)]
    assert np.abs(pairs).max() < 0.3


@pytest.mark.parametrize("name", INPUT_LAYERS)
def test_gradients_pass_and_ranges_hold(name):
    x = torch.rand(3, 3, 10, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    changed = INPUT_LAYERS[name]()(x)
    assert changed.shape == x.shape
    assert float(changed.detach().min()) > -1e-6
    assert float(changed.detach().max()) < 1 + 1e-6
    changed.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("name", INPUT_LAYERS)
def test_a_network_behind_a_layer_is_saved_and_opens_again(name, tmp_path):
    layer, usual = INPUT_LAYERS[name], INPUT_LAYERS[name].usual
    strength = {"levels": 4.0, "jpeg": 30.0}.get(name, 0.9 * usual)
    network = build("cnn-4", (3, 9, 10), 3, 1).eval()
    before = TorchModel(network).digest
    put_in_front(network, layer(strength, -2.0, 2.0))
    assert network.architecture == f"{name}+cnn-4"
    model = TorchModel(network)
    x = torch.randn(5, 3, 9, 10, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    opened = open_model(save_model(model, tmp_path / "net.safetensors"))
    assert opened.digest == model.digest != before
    assert torch.equal(opened.scores(x), model.scores(x))
    assert torch.equal(opened.embeddings(x), model.embeddings(x))


def test_layers_meet_inputs_in_the_order_of_the_name_and_strengths_tell_digests_apart():
    network = build("cnn-4", (1, 8, 8), 2).eval()
    plain = build("cnn-4", (1, 8, 8), 2).eval()
    first, second = INPUT_LAYERS["levels"](2), INPUT_LAYERS["mean"]()
    put_in_front(network, second)
    put_in_front(network, first)
    assert network.architecture == "levels+mean+cnn-4"
    assert base_architecture(network.architecture) == "cnn-4"
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(network(x), plain(second(first(x))))
    digests = set()
    for quality in (40, 60):
        network = build("cnn-4", (1, 8, 8), 2)
        put_in_front(network, INPUT_LAYERS["jpeg"](quality))
        digests.add(TorchModel(network).digest)
    assert len(digests) == 2


def test_a_network_behind_a_layer_learns():
    data = digits()
    network = build("levels+cnn-4", (1, 8, 8), 10)
    train(network, data.subset(range(400)), Recipe(epochs=6, batch_size=32, precision="fp32"))
    seen = network.normalize.layers(data.x[:400])
    assert float(network.normalize.mean) == pytest.approx(float(seen.mean()), abs=1e-6)
    assert (network(data.x[400:600]).argmax(1) == data.y[400:600]).double().mean() > 0.7


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("jpg+cnn-4", UnknownName),
        ("jpeg-5+cnn-4", UnknownName),
        ("forest-x+cnn-4", UnknownName),
        ("lof-1+cnn-4", InvalidInput),
        ("+cnn-4", UnknownName),
        ("jpeg+", UnknownName),
        ("+".join(["flip"] * 9) + "+cnn-4", InvalidInput),
    ],
)
def test_names_that_mean_nothing_are_refused(name, error):
    with pytest.raises(error):
        build(name, (1, 8, 8), 2)


def test_bad_strengths_and_inputs_are_refused():
    for name, strength in (("jpeg", 0), ("jpeg", float("nan")), ("levels", 257), ("noise", -1), ("mean", 3)):
        with pytest.raises(InvalidInput, match="strength"):
            INPUT_LAYERS[name](strength)
    with pytest.raises(InvalidInput, match="range"):
        INPUT_LAYERS["jpeg"](50, 0.0, float("inf"))
    with pytest.raises(InvalidInput, match="images"):
        INPUT_LAYERS["jpeg"]()(torch.zeros(2, 5))
    with pytest.raises(InvalidInput, match="images"):
        build("jpeg+mlp-4", (5,), 2)
    assert build("levels+noise+mlp-4", (5,), 2)(torch.zeros(2, 5)).shape == (2, 2)


def test_a_forged_strength_stays_in_range(tmp_path):
    network = build("gaussian+cnn-4", (1, 8, 8), 2).eval()
    network.normalize.layers[0].settings[0] = 1e30
    opened = open_model(save_model(TorchModel(network), tmp_path / "net.safetensors"))
    widest = build("gaussian+cnn-4", (1, 8, 8), 2).eval()
    widest.normalize.layers[0].settings[0] = 2.0
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(opened.scores(x), TorchModel(widest).scores(x))
