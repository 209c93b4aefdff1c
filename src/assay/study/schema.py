"""What may stand in a study file: data, victims, evidence, thefts, removals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "About",
    "Data",
    "EvidenceTable",
    "Extra",
    "ExtractionTable",
    "References",
    "RemovalTable",
    "Table",
    "Victim",
    "laid_over",
    "merged",
]

MOST = 100_000
_LONGEST_NAME = 64


def _name(text: str) -> str:
    # Names become columns, labels of steps and parts of other names; titles are for people.
    plain = all(c.isalnum() or c in "-_.+" for c in text)
    if not plain or not 0 < len(text) <= _LONGEST_NAME or text in ("all", "none"):
        msg = "a name is made of letters, digits, '-', '_', '.' and '+', and is neither 'all' nor 'none'"
        raise ValueError(msg)
    return text


def _once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        msg = "a seed stands there twice; a repetition with the same seed is the same computation"
        raise ValueError(msg)
    return seeds


Name = Annotated[str, AfterValidator(_name)]
Names = list[str] | Literal["all"]
Options = dict[str, Any]
Per = dict[str, Options]
Recipe = str | Options  # a name under [recipe], or the hyperparameters themselves
Count = Annotated[int, Field(ge=1, le=MOST)]
Rows = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_once)]


class Table(BaseModel):
    """Base of all tables."""

    # Strict: "3" is no number and true is no 1, whatever pydantic would make of them.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class About(Table):
    """``[study]``: what it is called, how often it is repeated.

    Attributes
    ----------
    title
        Heading of reports.
    description
        What the study asks, in a sentence or two.
    seeds
        Repetitions: how many (seeds 0, 1, ...), or the seeds themselves, each once.
    alpha
        Level of every test that states none of its own, in (0, 0.5].
    plugins
        Modules, or ``.py`` files, that register attacks, schemes or data sources. They
        are imported, which runs their code, before anything else.
    """

    title: str = Field(min_length=1)
    description: str = ""
    seeds: Count | Seeds = 1
    alpha: float = Field(0.01, gt=0, le=0.5)
    plugins: list[str] = []

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the repetitions."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)


class Data(Table):
    """``[data.NAME]``: a data set, shuffled and divided into disjoint parts.

    Attributes
    ----------
    source
        A line of text as `assay.data.load_data` takes it: ``"digits"``, ``"rows.npz"``,
        ``"moons:n=500,noise=0.1"``.
    split
        An official part, or several with a plus between (``"train+test"``); everything
        if it is left out.
    limit
        Only the first so many rows of the source.
    pooled
        Images are shrunk: each square of so many by so many pixels becomes its mean.
    seed
        Of the shuffle.
    parts
        Names, and how many rows each gets. Unless a table says otherwise, victims take
        the parts ``pool`` and ``evaluation``, thieves ``queries``, independent models
        ``outside``.
    """

    source: str = Field(min_length=1)
    split: str | None = None
    limit: int | None = Field(None, ge=1)
    pooled: int | None = Field(None, ge=2, le=64)
    seed: Seed = 0
    parts: dict[str, Rows] = Field(min_length=1)


class Victim(Table):
    """``[victim.NAME]``: a model that is trained, or a model of your own.

    Attributes
    ----------
    data
        Name of a data set.
    pool
        Part from which a random share, drawn anew for each seed, is private: the victim
        is trained on it, and the rest is the control of evidence that is kept back.
    private
        That share, in (0, 1).
    evaluation
        Part on which accuracy and fidelity are measured.
    architecture, recipe
        What is trained, and how: the name of a recipe, or its hyperparameters.
    model
        Instead of an architecture: a file (``.safetensors``, ``.pt``, ``.onnx``,
        ``.skops``), an address, or ``module:function``.
    open
        How to open it: ``architecture``, ``input_shape``, ``num_classes``, ``outputs``,
        ``trust``, ... as `assay.open_model` takes them.
    private_part, control_part
        Parts that a model of your own was, and was not, trained on.
    access
        What a thief sees of the victim: ``labels``, ``scores`` or ``weights``.
    """

    data: str
    pool: str = "pool"
    private: float = Field(0.5, gt=0, lt=1)
    evaluation: str = "evaluation"
    architecture: str | None = None
    recipe: Recipe = {}
    model: str | None = None
    open: Options = {}
    private_part: str | None = None
    control_part: str | None = None
    access: str = "weights"


class Extra(Table):
    """Further references of another architecture.

    Attributes
    ----------
    architecture, recipe
        What is trained, and how.
    count
        How many of them.
    """

    architecture: str
    recipe: Recipe = {}
    count: Count


class References(Table):
    """``references`` of evidence: models on random shares of the pool that the owner trains for comparison.

    Attributes
    ----------
    count
        How many; the victims of other seeds are among them.
    architecture, recipe
        As the victim's, unless they are given.
    extra
        Further ones, of other architectures.
    copies
        Name of an extraction by which each reference is copied as well.
    """

    count: int = Field(ge=0, le=MOST)
    architecture: str | None = None
    recipe: Recipe | None = None
    extra: list[Extra] = []
    copies: str | None = None


class EvidenceTable(Table):
    """``[evidence.NAME]``: a registered scheme with its hyperparameters.

    Attributes
    ----------
    scheme
        A name of ``assay list evidence``.
    title
        What reports call it; its name if empty.
    options
        Hyperparameters of the scheme.
    references
        Reference models that the study trains, shared by all seeds. Without them the
        scheme trains its own.
    unmarked
        For evidence that is trained in: train a model without it as well, on the same rows
        and for as many steps, which says what the evidence costs and how often its
        triggers are matched by chance.
    answered
        For evidence about what a service answered: the part whose rows it was asked.
        Thieves who ask are answered with the marks of the evidence.
    per
        What is different for a victim, by the victim's name.
    """

    scheme: str
    title: str = ""
    options: Options = {}
    references: References | None = None
    unmarked: bool = False
    answered: str = "queries"
    per: Per = {}


class ExtractionTable(Table):
    """``[extraction.NAME]``: an attack, or a chain of other extractions.

    Attributes
    ----------
    attack
        A name of ``assay list attacks``.
    chain
        Instead of an attack: names of extractions, each of which steals the copy that
        the one before made. A chain has no further settings.
    title
        What reports call it; its name if empty.
    on
        Part from which the thief takes his rows: ``queries``, or the victim's private
        rows for attacks that work with those.
    rows
        Only the first so many rows of it.
    budget
        Largest number of queries.
    curve
        Smaller numbers of queries at which the copy is measured as well.
    options
        Hyperparameters of the attack.
    per
        What is different for a victim, by the victim's name.
    """

    attack: str | None = None
    chain: list[str] | None = Field(None, min_length=1)
    title: str = ""
    on: str | None = None
    rows: Rows | None = None
    budget: Rows | None = None
    curve: list[Rows] = []
    options: Options = {}
    per: Per = {}


class RemovalTable(Table):
    """``[removal.NAME]``: a removal attack, or a chain of other removals.

    Attributes
    ----------
    removal
        A name of ``assay list removals``.
    chain
        Instead of a removal: names of removals, one after another.
    title
        What reports call it; its name if empty.
    on, rows
        Part from which the thief takes his rows, and how many of them he has.
    options
        Hyperparameters of the removal.
    per
        What is different for a victim, by the victim's name.
    """

    removal: str | None = None
    chain: list[str] | None = Field(None, min_length=1)
    title: str = ""
    on: str = "queries"
    rows: Rows | None = None
    options: Options = {}
    per: Per = {}


T = TypeVar("T", bound=Table)


def merged(table: T, victim: str) -> T:
    """Return a table with what it says for one victim (``per.VICTIM``) laid over it."""
    override: Options = getattr(table, "per", {}).get(victim, {})
    if not override:
        return table
    return type(table).model_validate(laid_over(table.model_dump(exclude_unset=True), override))


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``over``: tables are merged, everything else is replaced.

    Examples
    --------
    >>> laid_over({"a": {"x": 1, "y": [1]}}, {"a": {"y": [2]}})
    {'a': {'x': 1, 'y': [2]}}
    """
    found = dict(base)
    for key, value in over.items():
        known = found.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            found[key] = laid_over(known, value)
        else:
            found[key] = value
    return found
