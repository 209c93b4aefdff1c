"""Reference models: what models of a pool look like when they did, or did not, train on a row.

Each reference trains on a random half of the pool, drawn independently of any secret
split, so that everything computed from references is blind to the secret. One set of
references serves every victim whose private and control rows come from the pool.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Network, Recipe, build, predict, train
from assay.nets.suggest import suggest_architecture, suggest_recipe
from assay.observers import Observer, Observers

_KEPT = 2  # proxy victims that the classic embeddings use

__all__ = ["References", "margins", "row_digests", "train_references"]


def row_digests(data: Dataset) -> NDArray[np.uint64]:
    """Return 64 bits of SHA-256 per row (input and label), to find rows again in any order."""
    x, y = data.x.numpy(), data.y.numpy()
    found = [
        hashlib.sha256(x[i].tobytes() + int(y[i]).to_bytes(8, "little")).digest()[:8]
        for i in range(len(data))
    ]
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)


def margins(scores: Tensor, y: Tensor) -> Tensor:
    """Return log-odds-like margins ``[n]``: log score of ``y`` minus the best other log score.

    Scores are floored at 1e-6, where services round anyway.
    """
    logs = scores.double().clamp_min(1e-6).log()
    true = logs.gather(1, y[:, None]).squeeze(1)
    others = logs.scatter(1, y[:, None], -torch.inf).amax(1)
    return (true - others).float()


@dataclass(frozen=True, eq=False)
class References:
    """What reference models say about every row of a pool.

    Parameters
    ----------
    rows
        Digest of each pool row, uint64 ``[n]`` (see `row_digests`).
    members
        Whether reference r (or the model it was distilled from) trained on row i, bool
        ``[R, n]``.
    margin
        Margin of reference r for the true label of row i, float32 ``[R, n]``; positive
        means correct.
    networks
        The first references themselves, which the classic embeddings use as proxy victims.
    kinds
        A number for each reference, equal for those of one architecture and origin (trained, or
        copied): what they say is summed up by kind. All equal if not given.

    Raises
    ------
    InvalidInput
        If shapes differ or a row lacks references of either kind.

    Examples
    --------
    >>> from assay.data import load_data
    >>> pool = load_data("iris")
    >>> refs = train_references(pool, 2, architecture="mlp-8", recipe=Recipe(epochs=1), rng=0)
    >>> refs.members.shape
    (2, 150)
    """

    rows: NDArray[np.uint64]
    members: NDArray[np.bool_]
    margin: NDArray[np.float32]
    networks: tuple[Network, ...] = ()
    kinds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.kinds:
            object.__setattr__(self, "kinds", (0,) * len(self.members))
        if self.members.ndim != 2 or self.members.shape != self.margin.shape:  # noqa: PLR2004
            msg = f"members {self.members.shape} and margin {self.margin.shape} must both be [R, n]"
            raise InvalidInput(msg)
        if len(self.kinds) != len(self.members):
            msg = f"{len(self.kinds)} kinds for {len(self.members)} references"
            raise InvalidInput(msg)
        if self.rows.shape != self.members.shape[1:]:
            msg = f"{len(self.rows)} row digests for {self.members.shape[1]} rows"
            raise InvalidInput(msg)
        if not np.isfinite(self.margin).all():
            msg = "reference margins contain NaN or infinity"
            raise InvalidInput(msg)

    def __len__(self) -> int:
        return len(self.members)

    def aligned(self, pool: Dataset) -> References:
        """Return the references' view of the rows of ``pool``, in its order.

        Raises
        ------
        InvalidInput
            If a row is unknown to the references.
        """
        wanted = row_digests(pool)
        order = np.argsort(self.rows, kind="stable")
        place = np.searchsorted(self.rows, wanted, sorter=order).clip(max=len(order) - 1)
        index = order[place]
        unknown = int((self.rows[index] != wanted).sum())
        if unknown:
            msg = (
                f"{unknown} of {len(wanted)} rows of {pool.name} are unknown to these references; "
                "train references on the whole pool (private and control rows together)"
            )
            raise InvalidInput(msg)
        return replace(self, rows=wanted, members=self.members[:, index], margin=self.margin[:, index])

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` file without pickles; of the networks, the first two."""
        arrays: dict[str, Any] = {}
        for index, network in enumerate(self.networks[:_KEPT]):
            arrays[f"network.{index}"] = np.array(
                json.dumps([network.architecture, list(network.input_shape), network.num_classes])
            )
            for key, value in network.state_dict().items():
                arrays[f"network.{index}.{key}"] = value.numpy()
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                rows=self.rows,
                members=np.packbits(self.members, axis=1),
                margin=self.margin,
                kinds=np.array(self.kinds),
                **arrays,
            )

    @classmethod
    def load(cls, path: str | Path) -> References:
        """Read a file written by `save`.

        Raises
        ------
        InvalidInput
            If it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            rows = arrays["rows"].astype(np.uint64)
            members = np.unpackbits(arrays["members"], axis=1, count=len(rows)).astype(bool)
            networks = tuple(_network(arrays, i) for i in range(_KEPT) if f"network.{i}" in arrays)
            kinds = tuple(int(kind) for kind in arrays.get("kinds", ()))
            return cls(rows, members, arrays["margin"].astype(np.float32), networks, kinds)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
            msg = f"{path} does not hold reference models' answers: {error}"
            raise InvalidInput(msg) from error


def _network(arrays: dict[str, NDArray[Any]], index: int) -> Network:
    name, shape, classes = json.loads(str(arrays[f"network.{index}"]))
    network = build(name, shape, classes)
    prefix = f"network.{index}."
    state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}
    network.load_state_dict(state)
    return network.eval()


def train_references(
    pool: Dataset,
    count: int,
    *,
    architecture: str | None = None,
    recipe: Recipe | None = None,
    queries: Dataset | None = None,
    rng: int = 0,
    observers: Sequence[Observer] = (),
    folder: str | Path | None = None,
) -> References:
    """Train ``count`` models on random halves of ``pool`` and ask each about every row.

    Parameters
    ----------
    pool
        Private and control rows together. The secret split is not an argument.
    count
        Number of references, at least 2. They come in complementary pairs, so that
        every row has as many references that saw it as references that did not.
    architecture, recipe
        As the victim's, for the most power; suggested by input shape if not given.
        Any choice is valid.
    queries
        Rows outside the pool that a thief might ask about; labels are ignored. Each
        reference is then copied through its scores on them, as a thief would, and the
        copies join the references: the rows whose membership survives theft are not
        quite the rows that show most in the model itself. Twice the trainings.
    rng
        Seed. It must not be the seed of the secret split.
    observers
        Told after each reference.
    folder
        Where training checkpoints go, so that an interrupted call goes on.

    Raises
    ------
    InvalidInput
        If the pool or the count is too small.
    """
    if count < 2 or len(pool) < 4:  # noqa: PLR2004
        msg = f"at least 2 references and 4 pool rows are needed, got {count} and {len(pool)}"
        raise InvalidInput(msg)
    name = architecture or suggest_architecture(pool.input_shape)
    how = recipe or suggest_recipe(name, len(pool) // 2)
    if queries is not None and queries.input_shape != pool.input_shape:
        msg = f"queries have inputs of shape {queries.input_shape}, the pool of shape {pool.input_shape}"
        raise InvalidInput(msg)
    watch = Observers(observers)
    watch.on_start("references", count)
    generator = torch.Generator().manual_seed(rng)
    members: list[NDArray[np.bool_]] = []
    copies: list[Network] = []
    half = torch.zeros(len(pool), dtype=torch.bool)
    networks = []
    for index in range(count):
        if index % 2 == 0:
            half = torch.zeros(len(pool), dtype=torch.bool)
            half[torch.randperm(len(pool), generator=generator)[: len(pool) // 2]] = True
        else:
            half = ~half
        network = build(name, pool.input_shape, pool.num_classes, generator)
        seed = rng * 1009 + index
        train(network, pool.subset(half), how, rng=seed, checkpoint=_place(folder, "reference", rng, index))
        networks.append(network)
        members.append(half.numpy())
        if queries is not None:
            copy = build(name, pool.input_shape, pool.num_classes, generator)
            answers = predict(network, queries.x).softmax(1)
            place = _place(folder, "reference-copy", rng, index)
            train(copy, queries, how, targets=answers, rng=seed, checkpoint=place)
            copies.append(copy)
        watch.on_step("references", index + 1)
    watch.on_end("references")
    found = [margins(predict(m, pool.x).softmax(1), pool.y).numpy() for m in (*networks, *copies)]
    whose = members + members if copies else members
    kinds = (0,) * len(networks) + (1,) * len(copies)
    return References(row_digests(pool), np.stack(whose), np.stack(found), tuple(networks), kinds)


def _place(folder: str | Path | None, what: str, rng: int, index: int) -> Path | None:
    return None if folder is None else Path(folder) / f"{what}-{rng}-{index}.safetensors"
