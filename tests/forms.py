"""Forms of one ward in the layout of ``clinical_documents``, as their owner uploads them: the same numbers give the same files.

In: how many forms each part has. Out: a raw folder that holds these and no others. All are operative notes of three lines, a kind that the
small model has never seen, with answers that are soon written: of all kinds the one on which a few dozen steps show the most.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib.datasets.clinical_documents import RECORDS
from medvl_lib.pairs import Split
from medvl_lib.sample_data.clinical_documents import Document, draw_document, page_bytes, record_line
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES

SEED = 7
[KIND] = [kind for kind in DOCUMENT_TYPES if kind.name == "operative_note"]
NUM_FACTS = 3  # on a page
LEARNED: tuple[Split, ...] = ("train", "validation")


def upload(root: Path, counts: Mapping[Split, int], *, are_mixed_up: bool = False) -> None:
    """Replace what lies in a raw folder; mixed up, each form that is learned from shows the page of the next one."""
    shutil.rmtree(root, ignore_errors=True)
    for part, number in counts.items():
        documents = [_form(part, index) for index in range(number)]
        (root / part / "images").mkdir(parents=True)
        for document in documents:
            (root / part / document.image).write_bytes(page_bytes(document))
        shown = [*documents[1:], documents[0]] if are_mixed_up and part in LEARNED else documents
        _write_records(root / part, documents, shown)


def _form(part: Split, index: int) -> Document:
    whole = draw_document(SEED, part, KIND, index)
    return replace(whole, facts=whole.facts[:NUM_FACTS])


def _write_records(folder: Path, documents: Sequence[Document], shown: Sequence[Document]) -> None:
    lines = [json.dumps(json.loads(record_line(one)) | {"image": page.image}) for one, page in zip(documents, shown, strict=True)]
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def damage(root: Path, *, share: float) -> None:
    """Cut this share (0-1) of the pages that are learned from in half, as an upload that broke off leaves them."""
    pages = [page for part in LEARNED for page in sorted((root / part / "images").glob("*.png"))]
    for page in pages[: round(share * len(pages))]:
        page.write_bytes(page.read_bytes()[: page.stat().st_size // 2])
