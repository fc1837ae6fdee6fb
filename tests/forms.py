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


def upload(root: Path, counts: Mapping[Split, int], *, are_mixed_up: bool = False, broken_share: float = 0.0) -> None:
    """Replace what lies in a raw folder, all of it at once.

    Mixed up, each form that is learned from shows the page of the next one. A broken share (0-1) of each part's pages is cut in half.
    """
    coming = root.parents[1] / f"coming_{root.name}"  # no look sees half of it
    for part, number in counts.items():
        documents = [_form(part, index) for index in range(number)]
        (coming / part / "images").mkdir(parents=True)
        for index, document in enumerate(documents):
            page = page_bytes(document)
            (coming / part / document.image).write_bytes(page[: len(page) // 2] if index < round(broken_share * number) else page)
        shown = [*documents[1:], documents[0]] if are_mixed_up and part in LEARNED else documents
        _write_records(coming / part, documents, shown)
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    coming.rename(root)


def _form(part: Split, index: int) -> Document:
    whole = draw_document(SEED, part, KIND, index)
    return replace(whole, facts=whole.facts[:NUM_FACTS])


def _write_records(folder: Path, documents: Sequence[Document], shown: Sequence[Document]) -> None:
    lines = [json.dumps(json.loads(record_line(one)) | {"image": page.image}) for one, page in zip(documents, shown, strict=True)]
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")
