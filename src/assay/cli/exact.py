"""What ``assay extract`` adds for attacks that recover parameters: defences, domain, numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assay.cli.inputs import settings
from assay.errors import InvalidInput

if TYPE_CHECKING:
    from assay.extraction.exact.exposure import Exposure
    from assay.extraction.exact.worth import ExactWorth
    from assay.model import Model

__all__ = ["asked_of", "dressed", "worth_rows"]

_UNIFORM = 10_000
_NEXT = re.compile(r",(?=\s*[A-Za-z_-]+=)")


def dressed(model: Model, defences: Sequence[str] | None) -> Model:
    """Return the model behind defences, each ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE``, the last outermost."""
    from assay.registry import create

    for text in defences or ():
        name, _, rest = text.partition(":")
        options = settings(_NEXT.split(rest) if rest else ())
        model = create(name.strip(), "defence", options).wear(model)
    return model


def asked_of(
    thief: Any, victim: Model, spec: str, domain: str | None, uniform: int | None, *, owned: Model
) -> dict[str, Any]:
    """Return the further arguments of an exact attack; refuse them for any other.

    Parameters
    ----------
    thief
        The attack.
    victim, spec
        The model as it is asked, and what the user typed for it.
    domain, uniform
        What the user typed.
    owned
        The model before it was dressed, whose parameters are the truth.
    """
    import math

    from assay.extraction.exact import Domain, ExactAttack

    if not isinstance(thief, ExactAttack):
        if domain is not None or uniform is not None:
            msg = f"--domain and --uniform are for attacks without a pool, and {thief.name} is none"
            raise InvalidInput(msg)
        return {}
    size = math.prod(victim.input_shape)
    if uniform is not None and uniform < 0:
        msg = f"--uniform must be at least 0 rows, got {uniform}"
        raise InvalidInput(msg)
    # Nobody wants ten thousand unasked questions on a bill.
    rows = (0 if "://" in spec else _UNIFORM) if uniform is None else uniform
    return {
        "domain": None if domain is None else Domain.parse(domain, size),
        "uniform": rows,
        "truth": _truth(owned),
    }


def worth_rows(exact: ExactWorth | None) -> dict[str, object]:
    """Return what an exact copy is worth as rows of a table.

    Examples
    --------
    >>> from assay.extraction.exact import ExactWorth
    >>> worth_rows(ExactWorth("softmax regression", 15, 5, 1 / 3))["bound"]
    '5 queries'
    """
    if exact is None:
        return {}

    def rate(value: Any) -> str | None:
        return None if value is None else f"{value.value:.2g} (at most {value.high:.2g})"

    def number(value: float | None) -> str | None:
        return None if value is None else f"{value:.2g}"

    return {
        "model": exact.family,
        "unknowns": f"{exact.unknowns:,}",
        "bound": f"{exact.bound:,} queries",
        "queries per unknown": f"{exact.queries_per_unknown:.3g}",
        "parameter error": number(exact.parameter_error),
        "R_test": rate(exact.r_test),
        "R_unif": rate(exact.r_unif),
        "largest distance of scores": number(exact.tv_unif_max),
        "attack": exact.details.get("attack"),
        "why": exact.details.get("why"),
        "answers": exact.details.get("answers"),
        "flags": ", ".join(exact.flags) or None,
        "recovered inputs": None if exact.exposure is None else _exposed(exact.exposure),
    }


def _exposed(about: Exposure) -> str:
    text = f"{about.total:,} ({about.title.lower()})"
    if about.source:
        text += f", at most {max(about.distances):.2g} from the nearest of {about.source}"
    return text


def _truth(model: Model) -> object:
    """Return the estimator or network itself where the owner holds it, None otherwise."""
    from assay.adapters import TorchModel
    from assay.adapters.sklearn_model import SklearnModel
    from assay.defences.base import estimator_of
    from assay.model import Access

    if isinstance(model, SklearnModel):
        return estimator_of(model)
    if isinstance(model, TorchModel) and Access.WEIGHTS in model.access:
        return model.module
    return None
