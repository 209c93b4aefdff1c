"""Networks with one hidden layer: what answers identify of them, and their symmetries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from assay.errors import InvalidInput

__all__ = ["Activation", "ShallowNet", "activate", "derivative", "softmax"]

Activation = Literal["tanh", "logistic", "relu"]
_LAYERS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "logistic": nn.Sigmoid, "relu": nn.ReLU}
_DENSE = 2


@dataclass(frozen=True, eq=False)
class ShallowNet:
    """``log p_k / p_0 = (V g(W x + b) + e)_k`` for the classes 1 to ``c - 1``.

    A softmax does not change when every class's logit grows alike, so that ``V`` and ``e``
    are relative to class 0; this is all that answers can tell.

    Parameters
    ----------
    W, b
        Hidden layer, float64 ``[h, d]`` and ``[h]``.
    V, e
        Output layer relative to class 0, float64 ``[c - 1, h]`` and ``[c - 1]``.
    activation
        ``"tanh"``, ``"logistic"`` or ``"relu"``.

    Examples
    --------
    >>> net = ShallowNet(np.eye(2), np.zeros(2), np.array([[1.0, -1.0]]), np.zeros(1), "relu")
    >>> net.log_ratios(np.array([[2.0, -3.0], [0.5, 1.0]])).tolist()
    [[2.0], [-0.5]]
    >>> flipped = ShallowNet(2 * np.eye(2)[::-1], np.zeros(2), np.array([[-0.5, 0.5]]), np.zeros(1), "relu")
    >>> net.distance(flipped)
    0.0
    """

    W: np.ndarray
    b: np.ndarray
    V: np.ndarray
    e: np.ndarray
    activation: Activation

    @classmethod
    def from_tanh(
        cls,
        layers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        centre: np.ndarray,
        half: np.ndarray,
        activation: Activation = "tanh",
    ) -> ShallowNet:
        """Return a tanh network over the unit cube as one over the box ``centre ± half``.

        ``tanh(a) = 2 logistic(2 a) - 1``: tanh and logistic networks are one class in two
        notations, so that an attacker need not know which of them a victim uses.
        """
        W, b, V, e = layers
        W = W / half
        b = b - W @ centre
        if activation == "logistic":
            return cls(2 * W, 2 * b, 2 * V, e - V.sum(1), activation)
        return cls(W, b, V, e, "tanh")

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return len(self.W)

    @property
    def identifiable(self) -> int:
        """Numbers that answers can tell: ``h (d + 1) + (c - 1)(h + 1)``."""
        return self.W.size + self.b.size + self.V.size + self.e.size

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return the hidden layer's output, float64 ``[n, h]``."""
        return activate(x @ self.W.T + self.b, self.activation)

    def log_ratios(self, x: np.ndarray) -> np.ndarray:
        """Return ``log p_k - log p_0``, float64 ``[n, c - 1]``."""
        ratios: np.ndarray = self.features(x) @ self.V.T + self.e
        return ratios

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Return the softmax, float64 ``[n, c]``."""
        return softmax(self.log_ratios(x))

    def estimator(self) -> Any:
        """Return the network as a fitted ``MLPClassifier`` whose classes are 0 to ``c - 1``."""
        from sklearn.neural_network import MLPClassifier
        from sklearn.preprocessing import LabelBinarizer

        classes = len(self.V) + 1
        net = MLPClassifier((self.hidden,), activation=self.activation)
        net.classes_ = np.arange(classes)
        net.n_features_in_, net.n_layers_ = self.W.shape[1], 3
        net._label_binarizer = LabelBinarizer().fit(net.classes_)  # noqa: SLF001 - predict reads it
        if classes == 2:  # noqa: PLR2004 - scikit-learn gives two classes one output
            net.out_activation_, net.n_outputs_ = "logistic", 1
            net.coefs_, net.intercepts_ = [self.W.T.copy(), self.V.T.copy()], [self.b.copy(), self.e.copy()]
        else:
            net.out_activation_, net.n_outputs_ = "softmax", classes
            out = np.hstack([np.zeros((self.hidden, 1)), self.V.T])
            net.coefs_, net.intercepts_ = [self.W.T.copy(), out], [self.b.copy(), np.append(0.0, self.e)]
        return net

    def module(self) -> nn.Sequential:
        """Return the network as float64 torch layers, from flat inputs to logits."""
        first, last = nn.Linear(*self.W.shape[::-1]), nn.Linear(self.hidden, len(self.V) + 1)
        first, last = first.double(), last.double()
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(self.W))
            first.bias.copy_(torch.from_numpy(self.b))
            last.weight.copy_(torch.from_numpy(np.vstack([np.zeros(self.hidden), self.V])))
            last.bias.copy_(torch.from_numpy(np.append(0.0, self.e)))
        return nn.Sequential(nn.Flatten(), first, _LAYERS[self.activation](), last)

    @classmethod
    def of(cls, truth: object) -> ShallowNet:
        """Read a fitted ``MLPClassifier``, or torch layers linear, activation, linear.

        Raises
        ------
        InvalidInput
            If it is neither, or has not exactly one hidden layer.
        """
        if isinstance(truth, cls):
            return truth
        if isinstance(truth, nn.Module):
            return cls._of_module(truth)
        weights, biases = getattr(truth, "coefs_", None), getattr(truth, "intercepts_", None)
        activation = getattr(truth, "activation", None)
        if weights is None or biases is None or len(weights) != _DENSE or activation not in _LAYERS:
            msg = f"{type(truth).__name__} is no fitted network of one hidden tanh, logistic or relu layer"
            raise InvalidInput(msg)
        out, shift = np.asarray(weights[1], np.float64).T, np.asarray(biases[1], np.float64)
        if len(out) == 1:
            out, shift = np.vstack([np.zeros_like(out), out]), np.append(0.0, shift)
        hidden = np.asarray(weights[0], np.float64).T, np.asarray(biases[0], np.float64)
        return cls(*hidden, out[1:] - out[0], shift[1:] - shift[0], activation)

    @classmethod
    def _of_module(cls, module: nn.Module) -> ShallowNet:
        layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
        kinds = [n for n, kind in _LAYERS.items() if any(isinstance(p, kind) for p in module.modules())]
        if len(layers) != _DENSE or len(kinds) != 1 or any(part.bias is None for part in layers):
            msg = "the network is no sequence of linear, one activation (tanh, sigmoid, relu) and linear"
            raise InvalidInput(msg)
        W, b, V, e = (t.detach().cpu().double().numpy() for part in layers for t in (part.weight, part.bias))
        activation: Any = kinds[0]
        return cls(W, b, V[1:] - V[0], e[1:] - e[0], activation)

    def normal_form(self) -> ShallowNet:
        """Return an equal network whose units have one scale and sign, so that it can be compared.

        tanh is odd and ``logistic(-a) = 1 - logistic(a)``: rows get a positive largest entry.
        A relu unit may be scaled: rows ``[W b]`` get Euclidean norm 1.
        """
        W, b, V, e = self.W.copy(), self.b.copy(), self.V.copy(), self.e.copy()
        if self.activation == "relu":
            size = np.linalg.norm(np.c_[W, b], axis=1)
            size = np.where(size > 0, size, 1.0)
            return ShallowNet(W / size[:, None], b / size, V * size, e, "relu")
        lead = W[np.arange(len(W)), np.abs(W).argmax(1)]
        sign = np.where(lead < 0, -1.0, 1.0)
        if self.activation == "logistic":
            e = e + V[:, sign < 0].sum(1)
        return ShallowNet(W * sign[:, None], b * sign, V * sign, e, self.activation)

    def distance(self, other: ShallowNet) -> float:
        """Return the largest difference of a parameter after matching units, inf for other shapes.

        Units are matched by the Hungarian method on ``[W b]``; for tanh and logistic units the
        sign of each pair is chosen when it is compared, so that a largest entry that is barely
        largest cannot flip it.
        """
        mine, theirs = self.normal_form(), other.normal_form()
        if mine.W.shape != theirs.W.shape or mine.V.shape != theirs.V.shape:
            return float("inf")
        ours, true = np.c_[mine.W, mine.b], np.c_[theirs.W, theirs.b]
        same = np.abs(ours[:, None] - true[None]).sum(-1)
        turned = np.full_like(same, np.inf)
        if self.activation != "relu":
            turned = np.abs(ours[:, None] + true[None]).sum(-1)
        rows, match = linear_sum_assignment(np.minimum(same, turned))
        sign = np.where(same[rows, match] <= turned[rows, match], 1.0, -1.0)
        shift = mine.V[:, sign < 0].sum(1) if self.activation == "logistic" else 0.0
        gaps = (
            ours * sign[:, None] - true[match],
            mine.V * sign - theirs.V[:, match],
            mine.e + shift - theirs.e,
        )
        return float(max(np.abs(gap).max() for gap in gaps))


def activate(z: np.ndarray, activation: Activation) -> np.ndarray:
    """Return the activation of ``z``."""
    if activation == "relu":
        value: np.ndarray = np.maximum(z, 0.0)
    elif activation == "tanh":
        value = np.tanh(z)
    else:
        value = 0.5 * (1.0 + np.tanh(0.5 * z))
    return value


def derivative(value: np.ndarray, activation: Activation) -> np.ndarray:
    """Return the slope of the activation where it has ``value``."""
    if activation == "relu":
        slope: np.ndarray = (value > 0).astype(np.float64)
    elif activation == "tanh":
        slope = 1.0 - value * value
    else:
        slope = value * (1.0 - value)
    return slope


def softmax(ratios: np.ndarray) -> np.ndarray:
    """Return probabilities ``[n, c]`` for log-ratios to class 0, ``[n, c - 1]``."""
    z = np.hstack([np.zeros((len(ratios), 1)), ratios])
    p = np.exp(z - z.max(1, keepdims=True))
    whole: np.ndarray = p / p.sum(1, keepdims=True)
    return whole
