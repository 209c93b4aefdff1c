"""What a report is about: records, with the names that people give to suspects and evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from assay.errors import InvalidInput
from assay.result import Verdict

if TYPE_CHECKING:
    from assay.extraction import ExtractionRecord
    from assay.extraction.exact.exposure import ExposedInputs

__all__ = ["LABELS_FILE", "Entry", "Truth", "load_entries"]

Truth = Literal["stolen", "independent", "unknown"]

LABELS_FILE = "labels.json"
_LARGEST = 64 * 2**20
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Entry:
    """One record with free labels.

    Parameters
    ----------
    record
        A `Verdict`, or the `ExtractionRecord` of a theft.
    suspect
        Name of the suspect; the start of its digest, or the attack's name, if empty.
    evidence
        Name of the evidence, for verdicts; its scheme if empty.
    truth
        What is known about the suspect: ``"stolen"``, ``"independent"`` or ``"unknown"``.
    inputs
        Inputs that a theft recovered, to be shown.

    Raises
    ------
    InvalidInput
        If the record or the truth is no such thing.

    Examples
    --------
    >>> from assay.result import Cost
    >>> verdict = Verdict(
    ...     "stolen", 0.01, 0.002, "t", "null", {}, None, Cost(), "trigger-set", "c" * 64, "s" * 64
    ... )
    >>> entry = Entry(verdict, truth="stolen")
    >>> entry.suspect, entry.evidence
    ('ssssssssssss', 'trigger-set')
    """

    record: Verdict | ExtractionRecord
    suspect: str = ""
    evidence: str = ""
    truth: Truth = "unknown"
    inputs: ExposedInputs | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.record, Verdict) and not hasattr(self.record, "attack"):
            msg = f"a report is made of Verdict and ExtractionRecord, got {type(self.record).__name__}"
            raise InvalidInput(msg)
        if self.truth not in get_args(Truth):
            msg = f"truth must be one of {', '.join(get_args(Truth))}, got {self.truth!r}"
            raise InvalidInput(msg)
        if not self.suspect:
            object.__setattr__(self, "suspect", _default_suspect(self.record))
        if not self.evidence and isinstance(self.record, Verdict):
            kind = self.record.details.get("embedding")
            object.__setattr__(self, "evidence", f"{self.record.scheme}{f' ({kind})' if kind else ''}")


def load_entries(paths: Iterable[str | Path]) -> list[Entry]:
    """Read every ``verdict*.json`` and ``extraction*.json`` in files and folders.

    A verdict in ``verdict-NAME.json`` is labelled with the evidence ``NAME``. A file
    ``labels.json`` beside the records, with text under ``suspect`` and ``truth``, names
    the suspect and what is known about it; otherwise the folder's name is the suspect's.
    Inputs that a theft recovered are read from the ``inputs*.safetensors`` beside its
    record, where there is one.

    Parameters
    ----------
    paths
        Files, or folders that are searched with everything below them.

    Returns
    -------
    list of Entry
        In alphabetical order of their files, path by path.

    Raises
    ------
    InvalidInput
        If a path does not exist, a record is malformed, nothing was found, or recovered
        inputs are not those of their record.
    """
    found: list[Entry] = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(_read(path))
        elif path.is_dir():
            files = sorted([*path.rglob("verdict*.json"), *path.rglob("extraction*.json")])
            found += [_read(file) for file in files]
        else:
            msg = f"there is no file or folder {path}; give what `assay verify` or `assay extract` wrote"
            raise InvalidInput(msg)
    if not found:
        msg = "no verdict*.json or extraction*.json was found; give a folder that holds some"
        raise InvalidInput(msg)
    return found


def _read(path: Path) -> Entry:
    labels = _labels(path.with_name(LABELS_FILE))
    suspect: str = labels.get("suspect") or path.resolve().parent.name
    truth: Any = labels.get("truth") or "unknown"  # Entry checks it
    if path.stat().st_size > _LARGEST:
        msg = f"{path} is larger than any record ({_LARGEST} bytes); refused"
        raise InvalidInput(msg)
    if path.name.startswith("extraction"):
        from assay.extraction import ExtractionRecord

        record = ExtractionRecord.load(path)
        return Entry(record, suspect, truth=truth, inputs=_inputs(path, record))
    return Entry(Verdict.load(path), suspect, path.stem.removeprefix("verdict").lstrip("-_ "), truth)


def _inputs(path: Path, record: ExtractionRecord) -> ExposedInputs | None:
    about = None if record.exact is None else record.exact.exposure
    file = path.with_name(f"inputs{path.stem.removeprefix('extraction')}.safetensors")
    if about is None or not file.is_file():
        return None
    from assay.extraction.exact.exposure import ExposedInputs

    return ExposedInputs.load(file, about)


def _labels(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"cannot read {path}: {error}"
        raise InvalidInput(msg) from error
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        msg = f"{path} must be a JSON object of texts, with 'suspect' and 'truth'"
        raise InvalidInput(msg)
    return labels


def _default_suspect(record: Verdict | ExtractionRecord) -> str:
    if not isinstance(record, Verdict):
        return record.attack
    digest = len(record.suspect) == 64 and record.suspect.isalnum()  # noqa: PLR2004 - SHA-256 in hex
    return record.suspect[:_SHOWN_DIGITS] if digest else record.suspect or "unnamed"
