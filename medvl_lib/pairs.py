"""Pairs: the one type that every dataset becomes, and what is left out with its reason.

In: what a dataset's ``read`` yields (drafts, and rejections for records that are no pair at all). Out: ``Pair`` and ``Rejection``
tables, and the pictures in the image store. Whether a pair is good enough to train on is decided in ``validation``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from medvl_lib import dicom
from medvl_lib.images import ImageStore
from medvl_lib.progress import Report, silent, told
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.rules import SHOWN_OFFENDERS, columns_are_as_declared, stream
from medvl_lib.sources import BY_HAND, Acquisition
from medvl_lib.step import Table
from medvl_lib.tables import Column, TableWriter, num_rows

REVISION = 2  # a DICOM file that says who the patient is never comes into the store
PAIRS = "pairs.parquet"
REJECTIONS = "rejections.parquet"

Split = Literal["train", "validation", "test", "benchmark"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "benchmark")
AnswerKind = Literal["facts", "closed", "open", "report", "class", "grade", "impression", "findings", "diagnoses"]
"""What a pair may want to hear: facts that are known; the answer to a closed question, or to an open one; a report, or a page as it stands;
a report that names one of declared classes; one whose classes are grades; the impression of a study; its
findings; coded diagnoses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """One fact that a document states: "Potassium 4.1 mmol/L"."""

    term: Annotated[str, Column("what was measured, prescribed or found, as printed")]
    value: Annotated[str, Column("its value, as printed")]
    unit: Annotated[str, Column("its unit as printed; empty where it has none")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Pictures with a request and the response that is wanted."""

    pair_id: Annotated[str, Column("dataset/part/record, stable while the raw record is")]
    dataset: Annotated[str, Column("name of the dataset")]
    image_ids: Annotated[tuple[str, ...], Column("SHA-256 of each picture's stored bytes, in order")]
    request: Annotated[str, Column("the user message's text")]
    response: Annotated[str, Column("the answer that is wanted")]
    expected: Annotated[tuple[Triple, ...], Column("facts that the answer must state; empty where none are known")]
    subject_id: Annotated[str | None, Column("the patient; null where the publisher names none")]
    document_id: Annotated[str, Column("the document, study or case that the pair is cut from")]
    publisher_split: Annotated[Split | None, Column("the split that the publisher gave; null where there is none")]
    language: Annotated[str, Column("ISO 639-1 code of request and response")]
    source: Annotated[str, Column("file and row below the raw folder")]
    licence: Annotated[str, Column("SPDX identifier, or the publisher's words, for this very picture and text")]
    metadata: Annotated[dict[str, str], Column("the publisher's own labels, unchanged")]

    @property
    def group_id(self) -> str:
        """What must never be in two splits: the patient, or the document where no patient is known."""
        return self.document_id if self.subject_id is None else f"subject:{self.subject_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row that was left out."""

    pair_id: Annotated[str, Column("the id that the row has, or would have had")]
    dataset: Annotated[str, Column("name of the dataset")]
    source: Annotated[str, Column("file and row below the raw folder")]
    stage: Annotated[Literal["read", "validate"], Column("where on the route it was left out")]
    reason: Annotated[str, Column("snake_case rule that it broke; the first where it broke several")]
    detail: Annotated[str, Column("what was found, in numbers and paths, without the patient's text")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """Where a picture's bytes come from: a file as delivered, a cell of a Parquet file, or text drawn on a page."""

    name: str
    """What to call it in a rejection."""
    data: Callable[[], bytes]
    """Gives the bytes; raises OSError where they cannot be had."""
    clearance: dicom.Clearance = dicom.UNCLEARED
    """What somebody vouches for, if it is a DICOM file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A pair whose pictures are not in the image store yet: ``pair.image_ids`` is empty."""

    pair: Pair
    images: tuple[ImageSource, ...]


Reading = Draft | Rejection
"""What a dataset's ``read`` yields: a record becomes a draft, or says why it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of a dataset's subjects from other tables: one that is written, and judged, before any pair is made with it."""

    step: str
    """Name of the step that writes it: ``ehr_contexts``."""
    description: str
    """What the UI says of it."""
    table: Table
    write: Callable[[Path, Path], Mapping[str, Fact]]
    """Raw folder and an empty directory -> what was written there, in numbers."""
    rules: Callable[[Path], tuple[Rule, ...]]
    """Raw folder -> what must be true of such a directory."""
    read: Callable[[Path, Path], Iterable[Reading]]
    """Raw folder and a judged directory -> readings: takes the place of the dataset's ``read``."""
    revision: int
    """Raised when ``write`` writes something else of the same files."""
    literals: tuple[object, ...]
    """Values that change what ``write`` writes: they bear identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A publisher's set: everything the route needs to know of it."""

    name: str
    title: str
    licence: str
    """SPDX identifier, or the publisher's words."""
    source: str
    """Where to get it, at a pinned version."""
    acquisition: Acquisition = BY_HAND
    """What ``medvl fetch`` brings, and what a person puts where without it. It changes no pair, so it is no identity."""
    may_be_shown: bool
    """Whether rows and pictures may appear in the UI, logs and reports."""
    read: Callable[[Path], Iterable[Reading]]
    """Raw folder -> readings in the delivered order; it never filters, shuffles or opens a picture."""
    revision: int
    """Raised when ``read`` makes other pairs of the same files. # why stands beside the number."""
    is_read: Callable[[Path, str], bool] | None = None
    """Raw folder and a path below it -> whether ``read`` looks at such a file; None: not said. It changes no pair, so it is no identity."""
    rejected_share_budget: float = 0.1
    """The largest share of rows that may be left out before the dataset is blocked (0-1)."""
    answers: tuple[AnswerKind, ...] | None = None
    """What its pairs want to hear, so that a gate which none of them can decide is refused before they are read; None: its files say it."""
    literals: tuple[object, ...] = field(default=())
    """Values that change what ``read`` yields (page layout, font): they bear identity."""
    context: Context | None = None
    """What is known of its subjects from other tables; None for nearly all."""


def store(draft: Draft, images: ImageStore) -> Pair | Rejection:
    """Put a draft's pictures into the store; one that cannot be had, or that says who the patient is, makes a rejection."""
    image_ids: list[str] = []
    for image in draft.images:
        try:
            data = image.data()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:  # any other refusal is the disk's, not the record's
            return _rejected(draft.pair, "image_missing", f"{image.name}: {error.strerror or error}")
        if dicom.is_dicom(data) and (refusal := dicom.refusal(data, image.clearance)) is not None:
            return _rejected(draft.pair, refusal.reason, f"{image.name}: {refusal.detail}")
        image_ids.append(images.put(data))  # a store that takes no bytes is no fault of the record
    return replace(draft.pair, image_ids=tuple(image_ids))


def _rejected(pair: Pair, reason: str, detail: str) -> Rejection:
    return Rejection(pair_id=pair.pair_id, dataset=pair.dataset, source=pair.source, stage="read", reason=reason, detail=detail)


def write_pairs(directory: Path, readings: Iterable[Reading], images: ImageStore, report: Report = silent) -> dict[str, Fact]:
    """Write ``pairs.parquet`` and ``rejections.parquet``; returns ``num_read``, ``num_pairs`` and ``num_rejected``."""
    num_read = 0
    with TableWriter(directory / PAIRS, Pair) as pairs, TableWriter(directory / REJECTIONS, Rejection) as rejections:
        for reading in told(readings, report, "rows"):
            num_read += 1
            row = reading if isinstance(reading, Rejection) else store(reading, images)
            (rejections if isinstance(row, Rejection) else pairs).write(row)
    return {"num_read": num_read, "num_pairs": pairs.num_rows, "num_rejected": rejections.num_rows}


def has_pairs(directory: Path) -> Outcome:
    """Something was read; where nothing was, the reasons are counted."""
    count = num_rows(directory / PAIRS)
    question = "select reason, count(*) as number from read_parquet($rejections) group by reason order by number desc, reason"
    reasons = {} if count else {str(reason): int(number) for reason, number in stream(question, rejections=directory / REJECTIONS)}
    why = f"; rejected: {', '.join(f'{number} {reason}' for reason, number in reasons.items())}" if reasons else ""
    return Outcome(passed=count > 0, found=f"{count} pairs{why}")


def pair_ids_are_unique(directory: Path) -> Outcome:
    """No id stands for two pairs."""
    question = """select pair_id, count(*) - 1 as num_more from read_parquet($pairs, file_row_number = true)
        group by pair_id having num_more > 0 order by min(file_row_number)"""
    twice = {str(pair_id): int(num_more) for pair_id, num_more in stream(question, pairs=directory / PAIRS)}
    num_more = sum(twice.values())
    found = f"{num_more} repeated ids among {num_rows(directory / PAIRS) - num_more}"
    return Outcome(passed=not twice, found=found, offenders=tuple(twice)[:SHOWN_OFFENDERS])


RULES = (
    Rule(name="pairs_were_read", sentence="The raw files hold at least one pair.", holds=has_pairs),
    Rule(name="pair_ids_are_unique", sentence="No id stands for two pairs.", holds=pair_ids_are_unique),
    columns_are_as_declared({PAIRS: Pair, REJECTIONS: Rejection}),
)
