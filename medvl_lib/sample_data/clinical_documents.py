"""Invented clinical documents in the raw layout that ``medvl_lib/datasets/clinical_documents`` reads.

In: how many documents of each type a part shall have, and a seed. Out: ``<part>/records.jsonl`` and ``<part>/images/*.png``. The same
numbers give the same bytes. A document's own seed is a number made of (seed, part, type, index), so two parts, or two seeds, can never
share one; their layouts differ by ``clinical_layouts``. A few broken rows, all in ``train``, exercise what a real delivery would break.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from medvl_lib import pages
from medvl_lib.datasets.clinical_documents import RECORDS, response
from medvl_lib.pairs import SPLITS, Split, Triple
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES, MAX_ANSWER_CHARACTERS, DocumentType, draw_facts
from medvl_lib.sample_data.clinical_layouts import LAYOUTS, WIDTH_PIXELS, Layout, ordered, page

COUNTS: dict[str, int] = {"train": 48, "validation": 2, "test": 6, "benchmark": 1}
"""Documents per type and part; 60 in test, since fewer than 50 pairs decide nothing."""

MAX_DOCUMENTS = 1_000_000  # per part and type: the digits that the index has in a document's seed
NUM_BROKEN_ROWS = 5  # of these in train, one of each: picture missing, picture cut, no facts, line cut, exact repetition

README = """# Invented data: clinical documents

Every page, patient and value in this folder was made up by a program; no person stands behind any of it. Licence: CC0-1.0.

    <part>/records.jsonl    one JSON record a line; part = train, validation, test or benchmark
    <part>/images/*.png     the pages, {width} pixels wide, as high as their rows

A record: `document_id`, `document_type` (ten), `layout` (font-arrangement-separator-heading-order), `image` (relative to the part),
`facts` (a list of `term`, `value`, `unit`, in the order of the page) and `glyph_height_pixels` (height of a lower-case x).
No seed and no layout is in two parts. The train part holds {num_broken} broken rows on purpose. Seed: {seed}.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One invented document."""

    document_seed: int
    kind: DocumentType
    layout: Layout
    patient: str
    facts: tuple[Triple, ...]

    @property
    def document_id(self) -> str:
        """Unique among all documents of all seeds."""
        return f"{self.kind.name}-{self.document_seed}"

    @property
    def image(self) -> str:
        """Where its page lies below its part."""
        return f"images/{self.document_id}.png"


def document_seed(seed: int, part: Split, kind: DocumentType, index: int) -> int:
    """A number that no other (seed, part, type, index) has."""
    if not 0 <= index < MAX_DOCUMENTS or seed < 0:
        raise ValueError(f"seed {seed} and index {index}: the seed is at least 0, the index from 0 to {MAX_DOCUMENTS - 1}")
    place = (seed * len(SPLITS) + SPLITS.index(part)) * len(DOCUMENT_TYPES) + DOCUMENT_TYPES.index(kind)
    return place * MAX_DOCUMENTS + index


def draw_document(seed: int, part: Split, kind: DocumentType, index: int) -> Document:
    """The document of these four numbers: its layout from the part's, its facts from the type's pool."""
    number = document_seed(seed, part, kind, index)
    chance = Random(number)  # noqa: S311 - chance for invented data, not for secrets
    layout = draws.pick(chance, LAYOUTS[part])
    patient = f"Invented patient {draws.whole(chance, 0, 9999):04d} · Ward {draws.pick(chance, 'ABCDEFGH')}"
    facts = ordered(draw_facts(kind, chance), layout.order, chance)
    while len(response(facts)) > MAX_ANSWER_CHARACTERS:
        facts = facts[:-1]
    return Document(document_seed=number, kind=kind, layout=layout, patient=patient, facts=tuple(facts))


def page_bytes(document: Document) -> bytes:
    """Its page as PNG."""
    return page(document.kind.title, document.patient, document.facts, document.layout)


def record_line(document: Document) -> str:
    """Its line in ``records.jsonl``."""
    record = {
        "document_id": document.document_id, "document_type": document.kind.name, "layout": document.layout.layout_id,
        "image": document.image, "facts": [{"term": fact.term, "value": fact.value, "unit": fact.unit} for fact in document.facts],
        "glyph_height_pixels": pages.x_height_pixels(document.layout.style(len(document.facts))),
    }  # fmt: skip
    return json.dumps(record, ensure_ascii=False)


def _without_facts(document: Document) -> str:
    return json.dumps(json.loads(record_line(document)) | {"facts": []}, ensure_ascii=False)


def _add_broken_rows(folder: Path, lines: list[str], draw: Callable[[int], Document]) -> None:
    """Five rows that cannot or should not become a pair; ``draw`` gives documents that no good row uses."""
    missing, cut, empty, torn = (draw(number) for number in range(NUM_BROKEN_ROWS - 1))
    whole = page_bytes(cut)
    (folder / cut.image).write_bytes(whole[: len(whole) // 2])
    (folder / empty.image).write_bytes(page_bytes(empty))
    torn_line = record_line(torn)
    lines.insert(len(lines) // 2, torn_line[: len(torn_line) // 2])  # in the middle: a broken line must not hide those behind it
    lines += [record_line(missing), record_line(cut), _without_facts(empty), lines[0]]


def _write_part(root: Path, part: Split, num_per_type: int, seed: int) -> int:
    folder = root / part
    documents = [draw_document(seed, part, kind, index) for index in range(num_per_type) for kind in DOCUMENT_TYPES]
    (folder / "images").mkdir(parents=True)
    for document in documents:
        (folder / document.image).write_bytes(page_bytes(document))
    lines = [record_line(document) for document in documents]
    if part == "train":
        _add_broken_rows(folder, lines, lambda number: draw_document(seed, part, DOCUMENT_TYPES[number], num_per_type))
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return len(lines)


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a part with a count of 0 is left out. Returns the number of lines, broken ones included."""
    num_broken = NUM_BROKEN_ROWS if counts["train"] else 0
    readme = README.format(width=WIDTH_PIXELS, num_broken=num_broken, seed=seed)
    (root / "README.md").write_text(readme, encoding="utf-8")
    return sum(_write_part(root, part, counts[part], seed) for part in SPLITS if counts[part])
