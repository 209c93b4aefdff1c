"""The one training loop: hard or soft labels, seeded, resumable, bf16 where it pays."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets.checkpoint import Progress, load_checkpoint, save_checkpoint
from assay.nets.interlude import Interlude
from assay.nets.network import Network
from assay.nets.recipe import Recipe
from assay.observers import Observer, Observers

__all__ = ["TrainingResult", "predict", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What training did.

    Parameters
    ----------
    epochs
        Epochs run in total, resumed ones included.
    loss
        Mean training loss of each epoch run in this call.
    validation
        Validation accuracy after each epoch of this call, empty without validation set.
    seconds
        Wall-clock seconds of this call.
    """

    epochs: int
    loss: tuple[float, ...]
    validation: tuple[float, ...]
    seconds: float


def train(
    module: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    targets: Tensor | None = None,
    validation: Dataset | None = None,
    fit_normalization: bool = True,
    rng: int = 0,
    observers: Sequence[Observer] = (),
    checkpoint: str | Path | None = None,
    task: str = "train",
    interlude: Interlude | None = None,
) -> TrainingResult:
    """Train ``module`` in place on ``data`` and leave it in evaluation mode.

    Parameters
    ----------
    module
        From inputs to logits.
    data
        Training set; its labels are used unless ``targets`` are given.
    recipe
        Hyperparameters.
    targets
        Soft labels ``[n, classes]`` (probabilities; the loss is the Kullback-Leibler
        divergence from them) or other hard labels, int64 ``[n]``.
    validation
        Set for early stopping; needed when ``recipe.patience`` is set.
    fit_normalization
        Take the input mean and standard deviation from ``data`` (networks of ours).
    rng
        Seed. The same seed, machine and thread count give the same weights.
    observers
        Told after every epoch.
    checkpoint
        File written after every epoch; if it exists, training goes on from there and
        ends with the same weights as if it had never stopped.
    task
        How observers call the work.
    interlude
        Called after every ordinary batch; cannot be combined with a checkpoint, which
        would not know its state.

    Raises
    ------
    InvalidInput
        If targets do not fit the data, the loss becomes NaN, or the checkpoint belongs
        to another training.
    """
    if interlude is not None and checkpoint is not None:
        msg = "a training with an interlude cannot be resumed; leave out the checkpoint or the interlude"
        raise InvalidInput(msg)
    if not len(data):
        msg = f"cannot train on {data.name}: it is empty"
        raise InvalidInput(msg)
    if recipe.patience is not None and validation is None:
        msg = "recipe.patience asks for early stopping, which needs a validation set"
        raise InvalidInput(msg)
    wanted = data.y if targets is None else targets
    if len(wanted) != len(data):
        msg = f"{len(wanted)} targets for {len(data)} rows of {data.name}"
        raise InvalidInput(msg)
    if fit_normalization and isinstance(module, Network):
        module.normalize.fit(data.x)  # before the loop copies the module for the running average
    loop = _Loop(module, data, wanted, recipe, rng, interlude)
    watch = Observers(observers)
    watch.on_start(task, recipe.epochs)
    started, progress = time.perf_counter(), Progress()
    path = Path(checkpoint) if checkpoint is not None else None
    identity = {} if path is None else _identity(data, wanted, validation, recipe, rng)
    if path is not None and path.exists():
        progress = load_checkpoint(path, module, loop.optimizer, loop.average, identity)
    losses: list[float] = []
    scores: list[float] = []
    while progress.epochs < recipe.epochs and not _patience_spent(recipe, progress):
        losses.append(loop.epoch(progress.epochs))
        progress.epochs += 1
        metrics = {"loss": losses[-1]}
        if validation is not None:
            correct = predict(loop.current, validation.x).argmax(1) == validation.y
            scores.append(float(correct.float().mean()))
            metrics["validation"] = scores[-1]
            progress.stale = 0 if scores[-1] > progress.best else progress.stale + 1
            if progress.stale == 0:
                progress.best = scores[-1]
                if recipe.patience is not None:
                    progress.kept = copy.deepcopy(loop.current.state_dict())
        if path is not None:
            save_checkpoint(path, module, loop.optimizer, loop.average, progress, identity)
        watch.on_step(task, progress.epochs, metrics)
    module.load_state_dict(loop.current.state_dict() if progress.kept is None else progress.kept)
    module.eval()
    result = TrainingResult(progress.epochs, tuple(losses), tuple(scores), time.perf_counter() - started)
    watch.on_end(task, {"epochs": result.epochs, "seconds": result.seconds})
    return result


@torch.no_grad()
def predict(module: nn.Module, x: Tensor, batch_size: int = 128) -> Tensor:
    """Return float32 logits ``[n, classes]`` on the CPU; the module's mode is restored."""
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    try:
        parts = [module(x[i : i + batch_size].to(device)).float().cpu() for i in range(0, len(x), batch_size)]
    finally:
        module.train(was_training)
    return torch.cat(parts) if parts else torch.empty(0, 0)


def _patience_spent(recipe: Recipe, progress: Progress) -> bool:
    return recipe.patience is not None and progress.stale > recipe.patience


def _identity(
    data: Dataset, targets: Tensor, validation: Dataset | None, recipe: Recipe, seed: int
) -> dict[str, str]:
    """Everything that a continued training must share with the one that was interrupted."""
    return {
        "seed": str(seed),
        "recipe": repr(recipe),
        "data": data.digest,
        "targets": hashlib.sha256(targets.detach().cpu().contiguous().numpy().data).hexdigest(),
        "validation": "" if validation is None else validation.digest,
    }


class _Loop:
    """State of one training: optimizer, running average, device and precision."""

    def __init__(
        self,
        module: nn.Module,
        data: Dataset,
        targets: Tensor,
        recipe: Recipe,
        seed: int,
        interlude: Interlude | None = None,
    ) -> None:
        self.module, self.recipe, self.seed, self.interlude = module, recipe, seed, interlude
        self.device = next(module.parameters()).device
        self.x, self.targets = data.x, targets
        images = data.x.ndim == 4  # noqa: PLR2004
        self.augment = recipe.augmentation() if images else None
        if images:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.half = recipe.use_bf16(images=images, device=self.device)
        self.optimizer = recipe.make_optimizer(module)
        self.average = copy.deepcopy(module) if recipe.average else None
        self.steps = -(-len(data) // recipe.batch_size)

    @property
    def current(self) -> nn.Module:
        return self.module if self.average is None else self.average

    def epoch(self, epoch: int) -> float:
        # A generator per epoch: a resumed run draws what an uninterrupted one would have drawn.
        seed = (self.seed * 1_000_003 + epoch) % 2**63
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.x), generator=generator)
        self.module.train()
        total = torch.zeros((), device=self.device)
        aside = torch.Generator().manual_seed((seed + 1) * 7_368_787 % 2**63)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):  # dropout reads the global generators
            torch.default_generator.manual_seed(seed)
            if cuda:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            for step in range(self.steps):
                index = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
                if len(index) == 1 and self.steps > 1:
                    continue  # batch normalisation has no variance on one row
                for group in self.optimizer.param_groups:
                    group["lr"] = self.recipe.rate((epoch + step / self.steps) / self.recipe.epochs)
                total += self._step(index, generator)
                if self.interlude is not None:
                    self.interlude(self, epoch * self.steps + step + 1, aside)
        mean = float(total) / self.steps
        if mean != mean:  # noqa: PLR0124 - NaN is the only value that differs from itself
            msg = f"training diverged in epoch {epoch + 1} (loss is NaN); lower the learning rate"
            raise InvalidInput(msg)
        return mean

    def _step(self, index: Tensor, generator: torch.Generator) -> Tensor:
        x = self.x[index]
        if self.augment is not None:
            x = self.augment(x, generator)
        target = self.targets[index].to(self.device)
        logits = self.forward(x)
        if target.is_floating_point():
            loss = functional.kl_div(functional.log_softmax(logits, 1), target, reduction="batchmean")
        else:
            loss = functional.cross_entropy(logits, target, label_smoothing=self.recipe.label_smoothing)
        self.descend(loss)
        return loss.detach()

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.device)
        if x.ndim == 4:  # noqa: PLR2004
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits: Tensor = self.module(x)
        return logits.float()

    def descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.optimizer.step()
        if self.average is not None:
            _blend(self.average, self.module, self.recipe.average)


@torch.no_grad()
def _blend(average: nn.Module, module: nn.Module, decay: float) -> None:
    pairs = zip(average.state_dict().values(), module.state_dict().values(), strict=True)
    for kept, new in pairs:
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
