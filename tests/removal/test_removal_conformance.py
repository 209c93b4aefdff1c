"""Every registered removal keeps the contract, and the suite notices those that do not."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from assay.model import Access
from assay.registry import create, registered
from assay.removal import Removal, Removed
from assay.removal.layers import copied
from assay.testing import check_removal


def _fast(entry):
    quick = {"epochs": 1, "batch_size": 40, "steps": 2, "minibatches": 2}
    return create(entry.name, "removal", {k: v for k, v in quick.items() if k in entry.parameters})


@pytest.mark.parametrize("entry", list(registered("removal")), ids=lambda entry: entry.name)
def test_every_registered_removal_keeps_the_contract(entry):
    check_removal(_fast(entry), rows=60)
    if entry.parameters.get("epochs") == "0":
        check_removal(create(entry.name, "removal"), rows=60)


@dataclass(frozen=True)
class Honest(Removal):
    """The smallest removal that keeps the contract."""

    name: ClassVar[str] = "honest"

    def change(self, network, data, rng):
        noise = torch.randn(10, generator=torch.Generator().manual_seed(rng))
        network.head.bias.data += 0.1 * noise

    def wash(self, module, data, *, rng, observers=(), checkpoint=None):
        network = copied(module, self.name)
        self.change(network, data, rng)
        return network


def test_the_honest_removal_passes():
    check_removal(Honest(), rows=30)


class NeedsNothing(Honest):
    needs_data = False


def test_a_removal_without_data_passes():
    check_removal(NeedsNothing(), rows=30)


class WorksInPlace(Honest):
    def wash(self, module, data, **options):
        module.head.bias.data += 0.1
        return super().wash(module, data, **options)


class MovesStatistics(Honest):
    def wash(self, module, data, **options):
        with torch.no_grad():
            module.train()(data.x)
        module.eval()
        return super().wash(module, data, **options)


class LeavesTrainingMode(Honest):
    def wash(self, module, data, **options):
        module.train()
        return super().wash(module, data, **options)


class ReturnsTheSame(Honest):
    def wash(self, module, data, **options):
        return module


class SharesAPart(Honest):
    def wash(self, module, data, **options):
        network = super().wash(module, data, **options)
        network.body = module.body
        return network


class WritesIntoTheData(Honest):
    def change(self, network, data, rng):
        data.x[0] += 0.5


class WritesIntoTheEvaluation(Honest):
    def run(self, model, data=None, *, evaluation=None, **options):
        done = super().run(model, data, evaluation=evaluation, **options)
        if evaluation is not None:
            evaluation.y[0] = 1 - evaluation.y[0].clip(0, 1)
        return done


class SeedsEverything(Honest):
    def change(self, network, data, rng):
        torch.manual_seed(rng)
        super().change(network, data, rng)


class DrawsFromNumpy(Honest):
    def change(self, network, data, rng):
        np.random.rand()  # noqa: NPY002 - the offence


class ReadsTheGlobalState(Honest):
    def change(self, network, data, rng):
        with torch.random.fork_rng(devices=[]):
            network.head.bias.data += torch.randn(10)


class Whimsical(Honest):
    seen: ClassVar[list[int]] = []

    def change(self, network, data, rng):
        self.seen.append(1)
        network.head.bias.data += len(self.seen)


class EndsInNaN(Honest):
    def run(self, model, data=None, **options):
        done = super().run(model, data, **options)
        done.model.module.head.bias.data[0] = float("nan")
        return done


class StaysInTraining(Honest):
    def run(self, model, data=None, **options):
        done = super().run(model, data, **options)
        done.model.module.train()
        return done


class LeavesItsMask(Honest):
    def change(self, network, data, rng):
        network.head.weight.register_hook(lambda gradient: gradient * 0)

    def wash(self, module, data, **options):
        network = super().wash(module, data, **options)
        return network.eval()


class DropsAClass(Honest):
    def run(self, model, data=None, *, evaluation=None, **options):
        done = super().run(model, data, evaluation=evaluation, **options)
        head = done.model.module.head
        head.weight, head.bias = (torch.nn.Parameter(p[:9].detach().clone()) for p in head.parameters())
        return done


class TakesAnyModel(Honest):
    def run(self, model, data=None, **options):
        model.access = Access.WEIGHTS
        return super().run(model, data, **options)


class TakesAnyShape(Honest):
    def run(self, model, data=None, **options):
        if data is not None:
            data = dataclasses.replace(data, x=torch.zeros(len(data), *model.input_shape))
        return super().run(model, data, **options)


class TakesNoData(Honest):
    def run(self, model, data=None, **options):
        if data is None:
            return None
        return super().run(model, data, **options)


class Lies(Honest):
    changes: ClassVar[dict] = {"removal": "other"}

    def run(self, model, data=None, **options):
        done = super().run(model, data, **options)
        return Removed(done.model, dataclasses.replace(done.record, **self.changes))


class LiesAboutTheModel(Lies):
    changes: ClassVar[dict] = {"model": "0" * 64}


class LiesAboutRows(Lies):
    changes: ClassVar[dict] = {"rows": 5}


class MeasuresNothing(Lies):
    changes: ClassVar[dict] = {"fidelity": None}


@dataclass(frozen=True)
class Undocumented(Honest):
    """A removal that explains nothing."""

    strength: float = 1.0


class Mutable(Removal):
    name = "mutable"
    wash = Honest.wash


class Nameless(Honest):
    name = None


class Undecided(Honest):
    needs_data = "perhaps"


@pytest.mark.parametrize(
    ("removal", "sentence"),
    [
        (WorksInPlace, "changed the model that it was given: weight head.bias"),
        (MovesStatistics, "changed the model that it was given: weight body"),
        (LeavesTrainingMode, "changed the model that it was given: training flag"),
        (ReturnsTheSame, "shares memory"),
        (SharesAPart, "shares memory"),
        (WritesIntoTheData, "modified the data"),
        (WritesIntoTheEvaluation, "modified the data"),
        (SeedsEverything, "global random state"),
        (DrawsFromNumpy, "global random state"),
        (ReadsTheGlobalState, "two different models with the same seed"),
        (Whimsical, "two different models with the same seed"),
        (EndsInNaN, "not finite"),
        (StaysInTraining, "in training mode"),
        (LeavesItsMask, "left gradient hooks"),
        (DropsAClass, "does not answer like"),
        (TakesAnyModel, "offers only none, must raise AccessDenied"),
        (TakesAnyShape, "narrow digits as data, must raise InvalidInput"),
        (TakesNoData, "given no data, must raise InvalidInput"),
        (Lies, "record of honest names other"),
        (LiesAboutTheModel, "does not hold the digests"),
        (LiesAboutRows, "does not say the seed and the number of rows"),
        (MeasuresNothing, "lacks accuracy or fidelity"),
        (Undocumented, "strength of honest is not documented"),
        (Mutable, "must be a frozen dataclass"),
        (Nameless, "must state its name"),
        (Undecided, "by True or False"),
    ],
)
def test_every_cheat_is_caught(removal, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_removal(removal(), rows=30)
