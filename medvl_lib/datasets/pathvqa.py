# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownParameterType=false
# (pyarrow ships no types)
"""PathVQA: questions about pathology pictures from two textbooks and a digital library (He et al. 2020, arXiv 2003.10286).

The hub's layout (huggingface.co/datasets/flaviagiammarino/path-vqa): ``data/{train,validation,test}-0000i-of-0000n-<hash>.parquet``
with a picture, a question and an answer per row: 19,654 / 6,259 / 6,719 rows, the picture repeated in each of its rows. VQA-RAD
(flaviagiammarino/vqa-rad) has the same schema. Licence: MIT as labelled, but the pictures' copyright stays with the books' publishers and
authors and the library's owners, so nothing of it is shown.

A row, before:

    {"image": {"bytes": b"...", "path": None}, "question": "is endometrium present?", "answer": "yes"}

and the pair, after:

    Pair(pair_id="pathvqa/train/000005", request="is endometrium present?", response="yes", document_id="pathvqa/9f2c...",
         publisher_split="train", source="data/train-00000-of-00007-4e5f.parquet row 5", licence="MIT as labelled, ...", language="en",
         metadata={"answer_type": "closed", "publisher_split": "train"}, ...)

``document_id`` is the picture's hash: there are no ids, and all questions about a picture stay in one split. ``publisher_split`` is kept
where a picture occurs in one part alone. VQA-RAD shares pictures between train and test by design: such a picture has no publisher's split,
and its rows go together to where its hash says. Finding that out takes a first pass over the pictures. About half of the answers are yes or
no: ``answer_type`` tells these ("closed") from the others ("open"). About a tenth of the pictures is CMYK; bytes are passed on unchanged.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from medvl_lib.datasets import hub_parquet, publisher_split, raw_folder
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition, Hub

NAME = "pathvqa"
LICENCE = "MIT as labelled on the hub; the pictures' copyright stays with the publishers"
PARTS: tuple[Split, ...] = ("train", "validation", "test")
COLUMNS: Mapping[str, pa.DataType] = {**hub_parquet.IMAGE, "question": pa.string(), "answer": pa.string()}
CLOSED_ANSWERS = frozenset(["yes", "no"])


def _reading(row: Mapping[str, Any], pair_id: str, part: Split, source: str, licence: str, homes: Mapping[bytes, Split | None]) -> Reading:
    data = hub_parquet.picture(row)
    if data is None:
        detail = hub_parquet.no_picture(row)
        return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason="image_missing", detail=detail)
    digest = hashlib.sha256(data).digest()
    answer = row["answer"] or ""
    kind = "closed" if answer.strip().rstrip(".").casefold() in CLOSED_ANSWERS else "open"
    pair = Pair(
        pair_id=pair_id, dataset=NAME, image_ids=(), request=row["question"] or "", response=answer, expected=(), subject_id=None,
        document_id=f"{NAME}/{digest.hex()[:16]}", publisher_split=homes[digest], language="en", source=source,
        licence=licence, metadata={"answer_type": kind, "publisher_split": part},
    )  # fmt: skip
    return Draft(pair=pair, images=(ImageSource(name=pair_id, data=functools.partial(bytes, data)),))


def read(root: Path) -> Iterator[Reading]:
    """The rows of every part that is there; raises InputMissing where there is none, InputRefused for a file that is cut."""
    parts: list[Split] = [part for part in PARTS if hub_parquet.part_files(root, part)]
    if not parts:
        raise raw_folder.missing(NAME, root, " / ".join(f"{part}-*.parquet" for part in PARTS))
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    homes = publisher_split.homes(hub_parquet.pictures_seen(root, parts, NAME))  # all pictures' hashes are in memory at a time
    for part in parts:
        for number, (source, row) in enumerate(hub_parquet.part_rows(root, part, COLUMNS, NAME)):
            yield _reading(row, f"{NAME}/{part}/{number:06d}", part, source, licence, homes)


DATASET = Dataset(
    name=NAME,
    title="PathVQA: questions about pathology pictures",
    licence=LICENCE,
    source="huggingface.co/datasets/flaviagiammarino/path-vqa",
    acquisition=Acquisition(
        sources=(Hub(name="hub", repository="flaviagiammarino/path-vqa", revision="", files=("data/*.parquet",)),),
        layout=("data/{train,validation,test}-0000i-of-0000n-<hash>.parquet    785 MB",),
        terms="Labelled MIT; the pictures' copyright stays with the books' publishers and authors and the library's owners.",
    ),
    may_be_shown=False,  # the pictures are the publishers'
    read=read,
    is_read=raw_folder.named(*(f"{part}-*.parquet" for part in PARTS)),
    answers=("closed", "open"),
    revision=2,  # what is invented says so in its licence
    literals=(tuple(sorted(CLOSED_ANSWERS)),),
)
