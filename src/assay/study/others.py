"""The steps of everybody else: thieves, those who wash a copy, people who did nothing."""

from __future__ import annotations

from typing import Any

from assay.errors import InvalidInput
from assay.model import Access
from assay.nets import Recipe
from assay.registry import nearest
from assay.study.check import fits, recipe_of
from assay.study.estimate import ask_seconds, train_seconds
from assay.study.material import Material, plain, seed_of
from assay.study.plugins import code_of
from assay.study.step import Step

__all__ = ["Others"]

_OVERHEAD = 0.5
_ALL: dict[str, Any] = {"share": 1.0, "seed": 0, "side": "in"}
_ROWS = 5000  # rows that a verification asks about, for estimates
_VERDICT = 0.05  # core-seconds


class Others:
    """Plans thefts, removals and independent models.

    Parameters
    ----------
    material
        Data and pool models.
    """

    def __init__(self, material: Material) -> None:
        self._m = material

    def theft(
        self,
        victim: str,
        model: Step,
        name: str,
        table: Any,
        attack: Any,
        seed: int,
        private: dict[str, Any] | None,
        access: Access,
        wears: dict[str, Any] | None = None,
    ) -> Step:
        """Return the step of one theft; ``access`` is what the thief has to the model that he copies.

        ``wears`` is the evidence whose defence the model wears for those who ask it.
        """
        about = self._m.file.victim[victim]
        data, _ = self._m.data(about.data)
        if table.on is not None or not attack.private_data:
            part = table.on or "queries"
            rows = self._m.part(about.data, part, "extraction", name, "on")
            draws = [{"part": part, **_ALL}]
        else:
            if about.model is not None and private is None:
                where = self._m.study.where("victim", victim)
                msg = (
                    f"{where}: the attack {table.attack} works with the victim's own rows; say which part "
                    f"they are: private_part of [victim.{victim}]"
                )
                raise InvalidInput(msg)
            own = private or self._m.half(victim, seed)
            draws = [own]
            rows = round(self._m.part(about.data, own["part"], "victim", victim, "pool") * own["share"])
        rows = min(rows, table.rows or rows, table.budget or rows if attack.asks_pool else rows)
        config = {
            "attack": table.attack,
            "options": plain(attack),
            "rows": draws,
            "limit": table.rows,
            "budget": table.budget,
            "curve": table.curve,
            "evaluation": about.evaluation,
            # Whoever owns his copy sees all of it, whatever the victim hides.
            "access": None if about.access == "weights" or access == Access.WEIGHTS else about.access,
            **code_of(attack),
        }
        if wears is not None and attack.needs in Access.SCORES:
            config["wears"] = wears
        inputs = {"data": data.key, "victim": model.key}
        label = f"{name} of {model.label}"
        cost = self._student_seconds(victim, attack, rows, table.curve)
        return self._m.add(Step("extract", config, inputs, seed_of("extract", name, seed), label, cost))

    def removal(self, victim: str, model: Step, name: str, table: Any, attack: Any, seed: int) -> Step:
        """Return the step of one removal."""
        about = self._m.file.victim[victim]
        data, _ = self._m.data(about.data)
        rows = self._m.part(about.data, table.on, "removal", name, "on")
        config = {
            "removal": table.removal,
            "options": plain(attack),
            "rows": [{"part": table.on, **_ALL}],
            "limit": table.rows,
            "evaluation": about.evaluation,
            **code_of(attack),
        }
        inputs = {"data": data.key, "model": model.key}
        cost = self._student_seconds(victim, attack, min(rows, table.rows or rows), ())
        label = f"{name} of {model.label}"
        return self._m.add(Step("remove", config, inputs, seed_of("remove", name, seed), label, cost))

    def panel(self, victim: str, name: str, table: Any) -> list[Step]:
        """Return the steps of independent models."""
        about = self._m.file.victim[victim]
        found: list[Step] = []
        for place, group in enumerate(table.models):
            data = group.data or about.data
            if data not in self._m.file.data:
                where = self._m.study.where("panel", name, "models", place, "data")
                raise InvalidInput(f"{where}: " + nearest(data, list(self._m.file.data), "data"))
            _, shape = self._m.data(data)
            self._m.part(data, group.on, "panel", name, "models", place, "on")
            fits(self._m.study, group.architecture, shape, "panel", name, "models", place, "architecture")
            recipe = recipe_of(self._m.study, group.recipe, "panel", name, "models", place, "recipe")
            evaluation = self._m.file.victim[victim].evaluation
            for number in range(group.count):
                index = len(found)
                draws = [_draw(group.on, group.share, seed_of("panel", name, index))]
                if group.public is not None and number % group.public_every == 0:
                    # Somebody who collected the same public images, without regard to any coin.
                    self._m.part(data, group.public, "panel", name, "models", place, "public")
                    draws.append(_draw(group.public, group.public_share, seed_of("public", name, index)))
                label = f"independent model {index} of {name}"
                seed = seed_of("independent", name, index)
                found.append(self._m.train(data, group.architecture, recipe, draws, seed, label, evaluation))
        return found

    def panel_seconds(self, victim: str, table: Any, models: list[Step]) -> float:
        """Return the estimated cost of testing a panel."""
        _, shape = self._m.data(self._m.file.victim[victim].data)
        asked = sum(
            ask_seconds(m.config["architecture"], shape.input_shape, shape.classes, _ROWS) for m in models
        )
        verdicts: int = (1 + table.secrets) * len(models) + table.redraws
        return asked + _VERDICT * verdicts

    def _student_seconds(self, victim: str, attack: Any, rows: int, curve: Any) -> float:
        """Return what a theft or removal costs that trains; a second if it does not say how it trains."""
        about = self._m.file.victim[victim]
        recipe = getattr(attack, "recipe", None)
        name = getattr(attack, "architecture", "auto")
        name = about.architecture if name in ("auto", "same", None) else name
        if not isinstance(recipe, Recipe) or name is None:
            return 1.0
        _, shape = self._m.data(about.data)
        parts = [rows, *(min(q, rows) for q in curve)]
        return _OVERHEAD + sum(
            train_seconds(name, shape.input_shape, shape.classes, n, recipe.epochs) for n in parts
        )


def _draw(part: str, share: float, seed: int) -> dict[str, Any]:
    return {"part": part, "share": share, "seed": seed, "side": "in"}
