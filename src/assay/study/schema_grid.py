"""What may stand in a study file: how suspects are verified, and which combinations are run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from assay.study.schema import (
    MOST,
    About,
    Count,
    Data,
    EvidenceTable,
    ExtractionTable,
    Name,
    Names,
    Options,
    Per,
    Recipe,
    RemovalTable,
    Rows,
    Seeds,
    Table,
    Victim,
)

__all__ = ["Grid", "Panel", "PanelModels", "Published", "StudyFile", "VerificationTable"]

Rule = Annotated[dict[str, str | int | list[str] | list[int]], Field(min_length=1)]


class VerificationTable(Table):
    """``[verification.NAME]``: how a suspect is reached, and at which level it is tested.

    Attributes
    ----------
    access
        What the test sees of a suspect: ``labels``, ``scores`` or ``weights``.
    alpha
        Level; the study's if it is left out.
    budget
        Largest number of queries.
    whole
        After a verdict of a test that stops early, ask everything as well: match rates and
        p-values that are comparable between suspects. The verdict stays what it was.
    title
        What reports call it; its name if empty.
    per
        What is different for a victim, by the victim's name.
    """

    access: str = "scores"
    alpha: float | None = Field(None, gt=0, le=0.5)
    budget: Rows | None = None
    whole: bool = False
    title: str = ""
    per: Per = Field(default_factory=dict)


class PanelModels(Table):
    """``[[panel.NAME.models]]``: independent models of one architecture.

    Attributes
    ----------
    architecture, recipe
        What is trained, and how.
    count
        How many of them.
    data
        Another data set than the victim's.
    on, share
        Part, and the random share of it, on which each is trained.
    public, public_share, public_every
        Every so many-th of the models also sees a random share of this part, chosen
        without regard to any secret: public images that two parties collected.
    """

    architecture: str
    recipe: Recipe = Field(default_factory=dict)
    count: Count = 1
    data: str | None = None
    on: str = "outside"
    share: float = Field(0.75, gt=0, le=1)
    public: str | None = None
    public_share: float = Field(0.25, gt=0, le=1)
    public_every: int = Field(1, ge=1)


class Panel(Table):
    """``[panel.NAME]``: independent models on which the error rate of evidence is measured.

    Attributes
    ----------
    models
        Groups of models.
    evidence, verifications, victims
        What is tested on them. ``"all"``: the evidence and verifications of the grid; a
        list may name others as well.
    seeds
        Repetitions of the victim whose evidence is tested.
    secrets
        Secrets drawn afresh that every model is tested against, besides the true one.
    redraws
        Further secrets, each of which meets one model.
    per
        What is different for a victim, by the victim's name.
    """

    models: list[PanelModels] = Field(min_length=1)
    evidence: Names = "all"
    verifications: Names = "all"
    victims: Names = "all"
    seeds: Seeds | Literal["all"] = Field(default_factory=lambda: [0])
    secrets: int = Field(10, ge=0, le=MOST)
    redraws: int = Field(0, ge=0, le=MOST)
    per: Per = Field(default_factory=dict)


class Grid(Table):
    """``[grid]``: which combinations are run; all of them, unless this table says otherwise.

    Attributes
    ----------
    victims, evidence, extractions, removals, verifications, panels
        Names, or ``"all"``. ``removals`` is ``"none"`` unless it is given; among its
        names, ``"none"`` is the copy as it was stolen.
    exclude
        Rules such as ``{ victim = "a", seed = [1, 2] }``: what fits one of them is left
        out.
    only
        Rules of which at least one must fit.
    """

    victims: Names = "all"
    evidence: Names = "all"
    extractions: Names = "all"
    removals: list[str] | Literal["all", "none"] = "none"
    verifications: Names = "all"
    panels: Names = "all"
    exclude: list[Rule] = Field(default_factory=list)
    only: list[Rule] = Field(default_factory=list)


class Published(Table):
    """``[[published]]``: a number from a paper, to stand beside ours.

    Attributes
    ----------
    table, where, metric
        Which of our numbers: a column of the rows of a table that have these values.
    value
        What the paper says.
    source
        The paper, with table or section.
    note
        What is different there.
    """

    table: Literal["verdicts", "extractions", "removals", "panel", "models"]
    where: dict[str, str | int | bool]
    metric: str
    value: float | str
    source: str
    note: str = ""


class StudyFile(Table):
    """A whole study file, a preset laid over it.

    Attributes
    ----------
    study, data, recipe, victim, evidence, extraction, removal, verification, panel, grid, published
        Its tables; see their classes. ``recipe`` holds hyperparameters of
        `assay.nets.Recipe` under names.
    """

    study: About
    data: dict[Name, Data] = Field(min_length=1)
    recipe: dict[Name, Options] = Field(default_factory=dict)
    victim: dict[Name, Victim] = Field(min_length=1)
    evidence: dict[Name, EvidenceTable] = Field(default_factory=dict)
    extraction: dict[Name, ExtractionTable] = Field(default_factory=dict)
    removal: dict[Name, RemovalTable] = Field(default_factory=dict)
    verification: dict[Name, VerificationTable] = Field(default_factory=dict)
    panel: dict[Name, Panel] = Field(default_factory=dict)
    grid: Grid = Grid()
    published: list[Published] = Field(default_factory=list)
