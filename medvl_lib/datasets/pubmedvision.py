"""PubMedVision: figures of PubMed Central articles with questions and answers written by GPT-4V (Chen et al. 2024, arXiv 2406.19280).

The hub's layout (huggingface.co/datasets/FreedomIntelligence/PubMedVision): ``PubMedVision_Alignment_VQA.json`` and
``PubMedVision_InstructionTuning_VQA.json``, one huge JSON list each (647,031 records, about 700 MB), read as a stream; the pictures of
``images_0.zip`` to ``images_19.zip`` unpacked into ``images/`` beside them. Licence: Apache-2.0 as labelled; each picture's own licence is
its article's and not in the files, so nothing of it is shown.

A record, before:

    {"id": "Alignment_VQA_0", "image": ["images/pmc_1_0.jpg", "images/pmc_1_1.jpg"], "modality": "CT", "body_part": "Chest",
     "conversations": [{"from": "human", "value": "What do these pictures show?"}, {"from": "gpt", "value": "An axial section ..."}]}

and the pair, after:

    Pair(pair_id="pubmedvision/Alignment_VQA/0000000", request="What do these pictures show?", response="An axial section ...",
         document_id="pubmedvision/pmc_1", publisher_split=None, source="PubMedVision_Alignment_VQA.json record 0", language="en",
         metadata={"id": "Alignment_VQA_0", "modality": "CT", "body_part": "Chest"}, ...)

``document_id`` is the number in the picture's name (``pmc_<n>_<panel>``), since both files ask about the same figures: all panels of a
figure stay in one split. Nothing in the files tells which figures come from one article, so two of an article may be in two splits. A
conversation of several turns becomes a pair per turn, without the turns before it. At least nine records name a picture that no archive
holds: these are rejected one by one. A list that breaks off is a download cut short, and refused as a whole. The captions
(``PubMedVision_Original_Caption.json``) and translations beside the two lists are not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medvl_lib.datasets import json_records, picture_files, raw_folder
from medvl_lib.errors import InputRefused
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection
from medvl_lib.sources import Acquisition, Hub, Unpacking

NAME = "pubmedvision"
LICENCE = "Apache-2.0 as labelled on the hub; each picture's own licence is not stated"
FILES = ("PubMedVision_Alignment_VQA.json", "PubMedVision_InstructionTuning_VQA.json")  # others there are captions, or translations
IMAGES = "images"
NUMBER = re.compile(r"(pmc_\d+)_\d+")
PLACEHOLDER = re.compile(r"\s*<image>\s*")  # where other trainers put a picture; here pictures stand before the text


class Turn(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True, frozen=True)
    speaker: Annotated[Literal["human", "gpt"], Field(alias="from")]
    value: str


class RawRecord(BaseModel):
    """One record of the list; fields that are not known are left alone."""

    model_config = ConfigDict(strict=True, frozen=True)
    id: str
    image: Annotated[list[str], Field(min_length=1)]
    conversations: Annotated[list[Turn], Field(min_length=2)]
    modality: str | None = None
    body_part: str | None = None


def _files(root: Path) -> list[Path]:
    """The lists at any depth; two of one name would give one id to two records, so they are refused."""
    found = [path for name in FILES for path in sorted(root.rglob(name))]
    if len({path.name for path in found}) < len(found):
        places = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise InputRefused(found=f"a list that stands there twice: {places}", where=str(root), do="keep one of each in the raw folder")
    return found


def _document(image: str) -> str:
    """The number in a picture's name, which its other panels share and both lists; the whole name where it has none."""
    stem = Path(image).stem
    found = NUMBER.match(stem)
    return stem if found is None else found[1]


def _picture(folder: Path, name: str) -> Path | None:
    """Where a picture lies: as named, or in ``images/`` where unpacking dropped the folders; None where the name leads outside."""
    as_named = picture_files.inside(folder, name)
    return as_named if as_named is None or as_named.is_file() else folder / IMAGES / as_named.name


def _readings(raw: Any, path: Path, number: int, root: Path, licence: str) -> Iterator[Reading]:
    """One record -> a draft per turn, or why it cannot be one."""
    record_id = f"{NAME}/{path.stem.removeprefix('PubMedVision_')}/{number:07d}"
    source = f"{path.relative_to(root).as_posix()} record {number}"

    def rejected(reason: str, detail: str) -> Rejection:
        return Rejection(pair_id=record_id, dataset=NAME, source=source, stage="read", reason=reason, detail=detail)

    try:
        record = RawRecord.model_validate(raw)
    except ValidationError as error:
        yield rejected(*json_records.first_damage(error))
        return
    turns = record.conversations
    if len(turns) % 2 or any(turn.speaker != ("human", "gpt")[index % 2] for index, turn in enumerate(turns)):
        yield rejected("conversation_malformed", f"{len(turns)} turns by {', '.join(turn.speaker for turn in turns)}")
        return
    pictures = [(name, _picture(path.parent, name)) for name in record.image]
    if outside := [name for name, picture in pictures if picture is None]:
        yield rejected("image_outside_folder", f"{outside[0]} leads out of the folder")
        return
    images = tuple(ImageSource(name=name, data=picture.read_bytes) for name, picture in pictures if picture is not None)
    labels = {key: value for key in ("id", "modality", "body_part") if (value := getattr(record, key))}
    for turn in range(0, len(turns), 2):
        pair = Pair(
            pair_id=record_id if len(turns) == 2 else f"{record_id}/t{turn // 2 + 1}", dataset=NAME, image_ids=(),
            request=PLACEHOLDER.sub(" ", turns[turn].value).strip(), response=turns[turn + 1].value, expected=(), subject_id=None,
            document_id=f"{NAME}/{_document(record.image[0])}", publisher_split=None, language="en", source=source, licence=licence,
            metadata=labels,
        )  # fmt: skip
        yield Draft(pair=pair, images=images)


def read(root: Path) -> Iterator[Reading]:
    """The records of every file that is there; raises InputMissing where there is none, InputRefused for a list that breaks off."""
    files = _files(root)
    if not files:
        raise raw_folder.missing(NAME, root, " / ".join(FILES))
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    for path in files:
        for number, raw in enumerate(json_records.records(path)):
            yield from _readings(raw, path, number, root, licence)


DATASET = Dataset(
    name=NAME,
    title="PubMedVision: figures of PubMed Central articles with machine-written answers",
    licence=LICENCE,
    source="huggingface.co/datasets/FreedomIntelligence/PubMedVision",
    acquisition=Acquisition(
        sources=(
            Hub(
                name="hub",
                repository="FreedomIntelligence/PubMedVision",
                revision="",
                files=(*FILES, "images_*.zip"),
                archives={"images_*.zip": Unpacking(into=IMAGES, is_flat=True)},
            ),
        ),
        layout=(
            "PubMedVision_Alignment_VQA.json, PubMedVision_InstructionTuning_VQA.json    1.4 GB",
            "images/pmc_<n>_<m>.jpg    unpacked from images_0.zip ... images_19.zip without their folders (unzip -j), 58 GB",
        ),
        terms="Labelled Apache-2.0; each picture's own licence is its article's.",
    ),
    may_be_shown=False,  # the articles' licences are not stated
    read=read,
    is_read=raw_folder.named(*FILES, *picture_files.PATTERNS),
    answers=("report",),
    revision=3,  # what is invented says so in its licence
)
