"""The steps of an owner: a victim, reference models, evidence."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from assay.errors import InvalidInput
from assay.model import Access
from assay.study.check import Shape, at, fits, own_model, recipe_of
from assay.study.material import Material, plain, seed_of
from assay.study.plugins import code_of
from assay.study.schema import References
from assay.study.step import Step

__all__ = ["Owned", "Owners"]

_PROXIES = 2
_KEY_DIGITS = 32
_FURTHER = 100_000  # first number of references of another architecture, which have coins of their own


@dataclass(frozen=True)
class Owned:
    """What an owner has: a victim, the private rows, evidence."""

    name: str
    kind: str
    seed: int
    victim: Step
    bundle: Step | None
    access: Access
    private: dict[str, Any] | None
    references: tuple[Step, ...] = ()
    wears: dict[str, Any] | None = None


@runtime_checkable
class Served(Protocol):
    """Evidence about what a service answered behind a defence, under a key of the owner."""

    key: str

    @property
    def defence(self) -> Any:
        """What the service wears."""


def keyed(scheme: Any, kind: str, seed: int) -> Any:
    """Return the scheme with the key of a repetition, unless it has one."""
    if scheme.key:
        return scheme
    key = hashlib.sha256(f"{kind}/{seed}".encode()).hexdigest()
    return dataclasses.replace(scheme, key=key[:_KEY_DIGITS])


class Owners:
    """Plans what owners do.

    Parameters
    ----------
    material
        Data and pool models.
    """

    def __init__(self, material: Material) -> None:
        self._m = material
        self._own: dict[str, tuple[dict[str, Any], Access]] = {}

    def owned(
        self,
        victim: str,
        kind: str,
        seed: int,
        scheme: Any,
        table: Any,
        copies: Callable[[Step, int], Step] | None,
    ) -> Owned:
        """Return a victim with its evidence."""
        about = self._m.file.victim[victim]
        data, shape = self._m.data(about.data)
        half, rest = self._m.half(victim, seed), self._m.half(victim, seed, "out")
        private: dict[str, Any] | None = half
        control: dict[str, Any] | None = rest
        access = Access.parse(about.access)
        if about.model is not None:
            model, access = self._own_model(victim, shape)
            private, control = _whole(about.private_part), _whole(about.control_part)
            if scheme is not None:
                self._check_own(victim, kind, scheme)
        elif scheme is not None and hasattr(scheme, "embed"):
            model = self._embedded(victim, kind, seed, table, scheme, half)
            return Owned(victim, kind, seed, model, model, access, private)
        else:
            model = self._m.pool_model(victim, seed)
        rows, wears = private, None
        if isinstance(scheme, Served):
            scheme = keyed(scheme, kind, seed)
            wears = {"scheme": table.scheme, "options": plain(scheme), **code_of(scheme)}
            self._m.part(about.data, table.answered, "evidence", kind, "answered")
            rows = _whole(table.answered)
        if scheme is None:
            return Owned(victim, kind, seed, model, None, access, private)
        inputs: dict[str, str | tuple[str, ...]] = {"data": data.key, "victim": model.key}
        references: tuple[Step, ...] = ()
        if table.references is not None and table.references.count:
            if about.model is not None:
                where = self._m.study.where("evidence", kind, "references")
                msg = (
                    f"{where}: leave [evidence.{kind}.references] out for {victim}, a model of your own: "
                    "the scheme trains its references itself"
                )
                raise InvalidInput(msg)
            # The classic embeddings use references as proxy victims: networks, not only answers.
            whole = getattr(scheme, "embedding", "informative") != "informative"
            references, joined = self._references(victim, kind, seed, table.references, copies, whole=whole)
            inputs["references"] = joined.key
        config = {"scheme": table.scheme, "options": plain(scheme), "private": rows, "control": control}
        config |= code_of(scheme)
        label = f"evidence {kind} of {victim}, seed {seed}"
        bundle = self._m.add(Step("register", config, inputs, seed_of("register", kind, seed), label, 3.0))
        return Owned(victim, kind, seed, model, bundle, access, private, references, wears)

    def _check_own(self, victim: str, kind: str, scheme: Any) -> None:
        """Raise `InvalidInput` unless evidence can be registered for a model of the user's own."""
        about = self._m.file.victim[victim]
        with at(self._m.study, "evidence", kind, "scheme", victim=victim):
            if not hasattr(scheme, "register"):
                msg = (
                    f"the evidence {kind} is trained into a model, and {victim} is a model of your own; "
                    "leave the pair out with [grid] exclude = "
                    f'[{{ victim = "{victim}", evidence = "{kind}" }}]'
                )
                raise InvalidInput(msg)
        with at(self._m.study, "victim", victim):
            if about.private_part is None or about.control_part is None:
                msg = (
                    "evidence about a model of your own needs private_part and control_part: the parts that "
                    "it was, and was not, trained on"
                )
                raise InvalidInput(msg)

    def _own_model(self, victim: str, shape: Shape) -> tuple[Step, Access]:
        about = self._m.file.victim[victim]
        if victim not in self._own:
            self._own[victim] = own_model(self._m.study, victim, shape)
        config, offered = self._own[victim]
        with at(self._m.study, "victim", victim, "access"):
            wanted = Access.parse(about.access)
        data, _ = self._m.data(about.data)
        step = Step("model", {**config, "evaluation": about.evaluation}, {"data": data.key}, 0, victim, 2.0)
        return self._m.add(step), offered & wanted

    def _embedded(
        self, victim: str, kind: str, seed: int, table: Any, scheme: Any, private: dict[str, Any]
    ) -> Step:
        about = self._m.file.victim[victim]
        plainly = self._m.pool_model(victim, seed)  # the same checks; and the unmarked model to compare with
        recipe = self._m.recipe(about.recipe, "victim", victim, "recipe")
        config = {
            "scheme": table.scheme,
            "options": plain(scheme),
            "architecture": about.architecture,
            "recipe": plain(recipe),
            "rows": [private],
            "evaluation": about.evaluation,
            "key": seed_of("key", kind, seed),
            **code_of(scheme),
        }
        if table.unmarked:
            config["unmarked"] = True
        label = f"{victim} with {kind}, seed {seed}"
        cost = (2.2 if table.unmarked else 1.2) * plainly.seconds
        return self._m.add(Step("embed", config, {"data": plainly.inputs["data"]}, seed, label, cost))

    def _references(
        self,
        victim: str,
        kind: str,
        seed: int,
        table: References,
        copies: Callable[[Step, int], Step] | None,
        *,
        whole: bool,
    ) -> tuple[tuple[Step, ...], Step]:
        """Return reference models (none of them the victim) and the step that joins what they say."""
        about = self._m.file.victim[victim]
        data, shape = self._m.data(about.data)
        models: list[tuple[Step, int]] = []
        kinds = [0] * table.count
        index = 0
        while len(models) < table.count:
            if index != seed:
                models.append((self._reference(victim, kind, table, index), index))
            index += 1
        number = _FURTHER
        for place, group in enumerate(table.extra):
            where = ("evidence", kind, "references", "extra", place)
            fits(self._m.study, group.architecture, shape, *where)
            recipe = recipe_of(self._m.study, group.recipe, *where, "recipe")
            for _ in range(group.count):
                draws, label = [self._m.half(victim, number)], f"reference {number} of {victim}"
                made = self._m.train(
                    about.data, group.architecture, recipe, draws, number, label, about.evaluation
                )
                models.append((made, number))
                kinds.append(place + 1)
                number += 1
        asked = [*models, *((copies(model, i), i) for model, i in models)] if copies else models
        if copies:  # copies of one architecture are a kind of their own
            kinds += [len(table.extra) + 1 + kind for kind in kinds]
        margins = [self._margins(victim, model, i) for model, i in asked]
        inputs: dict[str, str | tuple[str, ...]] = {
            "data": data.key,
            "margins": tuple(m.key for m in margins),
        }
        if whole:
            inputs["models"] = tuple(model.key for model, _ in models[:_PROXIES])
        label = f"references of {victim} for seed {seed}"
        joined = self._m.add(Step("references", {"part": about.pool, "kinds": kinds}, inputs, 0, label, 2.0))
        return tuple(model for model, _ in models), joined

    def _reference(self, victim: str, kind: str, table: References, index: int) -> Step:
        about = self._m.file.victim[victim]
        architecture = table.architecture or about.architecture
        if architecture is None or (table.architecture is None and table.recipe is None):
            return self._m.pool_model(victim, index)
        _, shape = self._m.data(about.data)
        where = ("evidence", kind, "references")
        fits(self._m.study, architecture, shape, *where, "architecture")
        recipe = self._m.recipe(table.recipe or about.recipe, *where, "recipe")
        draws, label = [self._m.half(victim, index)], f"reference {index} of {victim}"
        return self._m.train(about.data, architecture, recipe, draws, index, label, about.evaluation)

    def _margins(self, victim: str, model: Step, index: int) -> Step:
        about = self._m.file.victim[victim]
        data, _ = self._m.data(about.data)
        config = {"draw": self._m.half(victim, index)}
        inputs = {"data": data.key, "model": model.key}
        cost = self._m.test_seconds(victim)
        return self._m.add(Step("margins", config, inputs, 0, f"margins of {model.label}", cost))


def _whole(part: str | None) -> dict[str, Any] | None:
    return None if part is None else {"part": part, "share": 1.0, "seed": 0, "side": "in"}
