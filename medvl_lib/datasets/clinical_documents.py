"""Clinical documents: pictures of forms and the facts they state, in MedVL's own invented set or a user's files in its format.

Ten document types, each page with an expected list of (term, value, unit). Written by ``medvl_lib/sample_data`` (no patient exists);
any number per type. Licence CC0-1.0. There is no URL: the generator in this repository is the source, its seed is the revision.

    <root>/<part>/records.jsonl     one record a line; part = train, validation, test or benchmark
    <root>/<part>/images/*.png      the pages

A record, before:

    {"document_id": "lab_results-26000300007", "document_type": "lab_results", "layout": "mono-two_columns-dots-boxed-panel",
     "image": "images/lab_results-26000300007.png", "facts": [{"term": "Potassium", "value": "4.1", "unit": "mmol/L"}],
     "glyph_height_pixels": 8}

and the pair, after:

    Pair(pair_id="clinical_documents/train/000017", request='List every term with its value and unit, one per line as "term: value unit".',
         response="Potassium: 4.1 mmol/L", expected=(Triple(term="Potassium", value="4.1", unit="mmol/L"),), subject_id=None,
         document_id="lab_results-26000300007", publisher_split="train", source="train/records.jsonl:18", licence="CC0-1.0", language="en",
         metadata={"document_type": "lab_results", "layout": "mono-two_columns-dots-boxed-panel", "glyph_height_pixels": "8"}, ...)

The number in the pair id is the line's, counted from 0 with broken lines included, so a repeated record is two pairs, told apart by id
and caught by ``validation``. The parts are leak-free (no shared seed or layout), hence ``publisher_split``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medvl_lib.datasets import raw_folder
from medvl_lib.pairs import SPLITS, Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split, Triple
from medvl_lib.sources import Acquisition

NAME = "clinical_documents"
LICENCE = "CC0-1.0"
UNKNOWN_LICENCE = "not stated"  # of forms in this layout that were not invented here
RECORDS = "records.jsonl"
REQUEST = 'List every term with its value and unit, one per line as "term: value unit".'
REASONS = {"json_invalid": "broken_json", "missing": "field_missing", "extra_forbidden": "field_unknown"}

OneLine = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\r\n]+$")]


class RawFact(BaseModel):
    """One fact of a record."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    term: OneLine
    value: OneLine
    unit: Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$")]


class RawRecord(BaseModel):
    """One line of ``records.jsonl``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    document_id: OneLine
    document_type: OneLine
    layout: OneLine
    image: OneLine
    facts: list[RawFact]
    glyph_height_pixels: Annotated[float, Field(gt=0)]


def response(facts: Sequence[Triple]) -> str:
    """The answer that is wanted: a fact per line, in the order of the page."""
    return "\n".join(f"{fact.term}: {fact.value} {fact.unit}".rstrip() for fact in facts)


def _draft(record: RawRecord, pair_id: str, part: Split, source: str, licence: str, image: Path) -> Draft:
    facts = tuple(Triple(term=fact.term, value=fact.value, unit=fact.unit) for fact in record.facts)
    labels = {"document_type": record.document_type, "layout": record.layout, "glyph_height_pixels": f"{record.glyph_height_pixels:g}"}
    pair = Pair(
        pair_id=pair_id, dataset=NAME, image_ids=(), request=REQUEST, response=response(facts), expected=facts, subject_id=None,
        document_id=record.document_id, publisher_split=part, language="en", source=source, licence=licence, metadata=labels,
    )  # fmt: skip
    return Draft(pair=pair, images=(ImageSource(name=f"{part}/{record.image}", data=image.read_bytes),))


def _reading(line: bytes, pair_id: str, folder: Path, part: Split, source: str, licence: str) -> Reading:
    """One line -> a draft, or why it cannot be one."""

    def rejected(reason: str, detail: str) -> Rejection:
        return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=reason, detail=detail)

    try:
        record = RawRecord.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the line"
        return rejected(REASONS.get(first["type"], "field_malformed"), f"{field}: {first['type']} in {len(line)} bytes")
    if not record.facts:
        return rejected("no_facts", "the list of facts is empty")
    image = (folder / record.image).resolve()
    if not image.is_relative_to(folder.resolve()):
        return rejected("image_outside_folder", f"{record.image} leads out of {part}/")
    return _draft(record, pair_id, part, source, licence, image)


def read(root: Path) -> Iterator[Reading]:
    """The records of every part that is there, in the order of the parts and lines; raises InputMissing where there is none.

    A blank line is no record. A picture that is absent becomes a rejection when the pair is stored.
    """
    parts: list[Split] = [part for part in SPLITS if (root / part / RECORDS).is_file()]
    if not parts:
        raise raw_folder.missing(NAME, root, " / ".join(f"{part}/{RECORDS}" for part in SPLITS))
    licence = LICENCE if raw_folder.is_invented(root) else UNKNOWN_LICENCE
    for part in parts:
        with (root / part / RECORDS).open("rb") as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    source = f"{part}/{RECORDS}:{number + 1}"
                    yield _reading(line.strip(), f"{NAME}/{part}/{number:06d}", root / part, part, source, licence)


DATASET = Dataset(
    name=NAME,
    title="Clinical documents (invented): ten kinds of form with their facts",
    licence=LICENCE,
    source="medvl_lib/sample_data in this repository",
    acquisition=Acquisition(
        sources=(),
        layout=("{train,validation,test,benchmark}/records.jsonl", "{train,validation,test,benchmark}/images/*.png"),
        terms="It is invented by MedVL and lies nowhere else: `medvl sample-data clinical_documents` writes it.",
    ),
    may_be_shown=True,  # invented: no person stands behind a page
    read=read,
    is_read=raw_folder.named(*(f"{part}/{file}" for part in SPLITS for file in (RECORDS, "images/*")), at_any_depth=False),
    answers=("facts",),
    revision=1,  # first version
    literals=(REQUEST,),
)
