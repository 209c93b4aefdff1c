"""What each output defence costs honest users, and what it costs a copier: digits.

Honest users: accuracy, Brier score (sum over classes) and mean L1 change on held-out digits.
The copier asks 500 inputs through ten accounts and trains a small network on the scores, or on
their argmax; its fidelity is the share of held-out digits on which it says what the undefended
model says.

    python benchmarks/answer_defences.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from assay.defences.answering import Asked
from assay.gateway.answers import Answers
from assay.gateway.policy import Defence

COPIES = 5
ACCOUNTS = 10
ROWS = (
    ("none",),
    ("rounding", {"digits": 1}),
    ("top-1", {}),
    ("noise", {"scale": 0.1}),
    ("reverse-sigmoid", {}),
    ("reverse-sigmoid", {"beta": 0.5}),
    ("mad", {"budget": 0.5}),
    ("mad", {"budget": 1.0}),
    ("mad", {"budget": 0.5, "search": "published"}),
    ("mad", {"budget": 1.0, "search": "published"}),
    ("mad", {"budget": 0.9, "keep_label": False}),
    ("dawn", {"rate": 0.005}),
    ("dawn", {"rate": 0.05}),
    ("per-account", {}),
    ("per-account", {"temperature": 1.0, "weights": 1.0}),
    ("coverage-noise", {}, 0.2),
    ("coverage-noise", {}, 0.7),
)


def copy(x: np.ndarray, targets: np.ndarray, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    inputs, targets_ = torch.tensor(x).float(), torch.tensor(targets).float()
    for _ in range(200):
        optimiser.zero_grad()
        loss = -(targets_ * torch.log_softmax(net(inputs), 1)).sum(1).mean()
        loss.backward()
        optimiser.step()
    return net


def fidelity(x: np.ndarray, targets: np.ndarray, test: np.ndarray, labels: np.ndarray) -> float:
    found = []
    for seed in range(COPIES):
        said = copy(x, targets, seed)(torch.tensor(test).float()).argmax(1).numpy()
        found.append(np.mean(said == labels))
    return float(np.mean(found))


def main() -> None:
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    train, pool, test = slice(0, 800), slice(800, 1300), slice(1300, None)
    victim = MLPClassifier((64,), max_iter=1000, random_state=0).fit(x[train], y[train])
    truth = victim.predict_proba(x[test])
    labels = truth.argmax(1)
    noise = np.random.default_rng(1).uniform(0, 1, (500, 64))
    print("| defence | accuracy | Brier | L1 | soft, digits | hard, digits | soft, noise | ms / 64 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, *more in ROWS:
        settings = more[0] if more else {}
        coverage = more[1] if len(more) > 1 else 0.0
        answers = Answers([] if name == "none" else [Defence(name=name, settings=settings)], bytes(32))

        def show(
            p: np.ndarray, rows: np.ndarray, who: str, a: Answers = answers, c: float = coverage
        ) -> np.ndarray:
            return a.scores(p, Asked(rows, who, c))[0]

        shown = show(truth, x[test], "user")
        brier = ((shown - np.eye(10)[y[test]]) ** 2).sum(1).mean()
        cells = [
            f"`{name}` "
            + ", ".join(f"{k} {v}" for k, v in settings.items())
            + (f", coverage {coverage}" if coverage else ""),
            f"{np.mean(shown.argmax(1) == y[test]):.3f}",
            f"{brier:.3f}",
            f"{np.abs(shown - truth).sum(1).mean():.3f}",
        ]
        for rows, hard in ((x[pool], False), (x[pool], True), (noise, False)):
            # A copier spreads its queries over accounts.
            parts = np.array_split(np.arange(len(rows)), ACCOUNTS)
            got = np.concatenate(
                [show(victim.predict_proba(rows[i]), rows[i], str(k)) for k, i in enumerate(parts)]
            )
            targets = np.eye(10)[got.argmax(1)] if hard else got
            cells.append(f"{fidelity(rows, targets, x[test], labels):.3f}")
        started = time.perf_counter()
        for _ in range(20):
            show(truth[:64], x[test][:64], "user")
        cells.append(f"{(time.perf_counter() - started) / 20 * 1e3:.2f}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
