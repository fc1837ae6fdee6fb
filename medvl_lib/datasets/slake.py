"""SLAKE: questions about radiology pictures in English and Chinese (Liu et al. 2021, arXiv 2102.09542).

The publisher's layout (med-vqa.com/slake; huggingface.co/datasets/BoKelvin/SLAKE): ``train.json``, ``validate.json`` (on the hub also
``validation.json``) and ``test.json``, one JSON list each (9,835 / 2,099 / 2,094 records, half of them Chinese), and the 642 pictures
``imgs/xmlab<n>/source.jpg``. Licence: CC BY 4.0.

A record, before:

    {"img_id": 1, "img_name": "xmlab1/source.jpg", "question": "What modality is used to take this image?", "answer": "MRI", "q_lang": "en",
     "location": "Abdomen", "modality": "MRI", "answer_type": "OPEN", "base_type": "vqa", "content_type": "Modality", "qid": 0, ...}

and the pair, after:

    Pair(pair_id="slake/train/en/000000", request="What modality is used to take this image?", response="MRI",
         document_id="slake/5d0c...", publisher_split="train", source="train.json record 0", language="en",
         metadata={"answer_type": "open", "modality": "MRI", "description": "MRI of the abdomen. What modality ...", ...}, ...)

**The languages leak into each other**: within one language no picture is in two parts, but 142 of the 180 test pictures are training
pictures of the other language. So the group is the picture, whatever the language, and the publisher's split is kept where a picture is in
one part through both languages; all records of any other picture go together to where its hash says. Pictures are told apart by content, or
by name while they are not there. Finding that out takes a first pass.

``answer_type`` is the publisher's, in small letters. Closed questions are not all about yes and no: "CT or MRI?" is closed, too. Such a
pair's ``answer_labels`` are all answers that the set gives to closed questions of its kind (``content_type``) and language, but yes and no.
An answer alone describes no picture, so a pair's ``description``, for models that match pictures and texts, is a template: modality and
place, then question and answer. A repeated question and an empty answer are left to ``validation``.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medvl_lib.datasets import json_records, publisher_split, raw_folder
from medvl_lib.datasets.descriptions import ANSWER_LABELS, DESCRIPTION
from medvl_lib.datasets.picture_files import NamedPictures
from medvl_lib.errors import InputRefused
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition, Hub, Unpacking

NAME = "slake"
LICENCE = "CC-BY-4.0"
FILES = ("train.json", "validate.json", "validation.json", "test.json")
IMAGES = "imgs"
YES_NO: Mapping[str, frozenset[str]] = {
    "en": frozenset(["yes", "no"]),
    "zh": frozenset([
        "是", "是的", "有", "包含", "包括", "存在", "可以", "能", "会", "对",
        "不是", "否", "没有", "无", "不包含", "不包括", "不存在", "不可以", "不能", "不会", "不对",
    ]),
}  # fmt: skip
"""The answers that say yes or no, by language."""
UNKNOWN = "unknown"  # stands for the language in the id of a record that does not say it

Language = Literal["en", "zh"]
PLACES: Mapping[str, tuple[str, str]] = {
    "Abdomen": ("abdomen", "腹部"), "Brain": ("brain", "脑部"), "Brain_Face": ("brain and face", "脑部和面部"),
    "Brain_Tissue": ("brain tissue", "脑组织"), "Chest_heart": ("chest with the heart", "胸部（心脏）"),
    "Chest_lung": ("chest with the lungs", "胸部（肺）"), "Chest_mediastinal": ("chest with the mediastinum", "胸部（纵隔）"),
    "Lung": ("lungs", "肺部"), "Neck": ("neck", "颈部"), "Pelvic Cavity": ("pelvic cavity", "盆腔"),
}  # fmt: skip
"""The publisher's locations, which are English in Chinese records, too, in words of both languages."""
MODALITIES: Mapping[str, tuple[str, str]] = {"CT": ("CT", "CT"), "MRI": ("MRI", "磁共振"), "X-Ray": ("X-ray", "X光")}
TEMPLATES: Mapping[str, str] = {
    "en": "{modality} of the {place}. {question} {answer}",
    "zh": "{place}{modality}图像。{question}{answer}",
}


class RawRecord(BaseModel):
    """One record of a list; fields that are not known are left alone."""

    model_config = ConfigDict(strict=True, frozen=True)
    img_name: Annotated[str, Field(min_length=1)]
    question: str
    answer: str
    q_lang: Language
    location: str
    modality: str
    answer_type: Literal["OPEN", "CLOSED"]
    base_type: str
    content_type: str
    qid: int


class _Part(NamedTuple):
    """One of the lists."""

    path: Path
    split: Split
    pictures: NamedPictures


def _parts(root: Path) -> list[_Part]:
    """The lists at any depth; two of one part would give one id to two records, so they are refused."""
    found = [path for name in FILES for path in sorted(root.rglob(name))]
    if not found:
        raise raw_folder.missing(NAME, root, " / ".join(FILES))
    splits: list[Split] = [publisher_split.PARTS[path.stem] for path in found]
    if len(set(splits)) < len(splits):
        places = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise InputRefused(found=f"a part that stands there twice: {places}", where=str(root), do="keep one of each in the raw folder")
    pictures = {folder: NamedPictures(folder / IMAGES) for folder in {path.parent for path in found}}
    return [_Part(path, split, pictures[path.parent]) for path, split in zip(found, splits, strict=True)]


_Kind = tuple[str, str]  # language and content type
_Labels = Mapping[_Kind, Mapping[str, str]]


def _is_yes_or_no(record: RawRecord) -> bool:
    return record.answer.strip().rstrip(".。").casefold() in YES_NO[record.q_lang]


def _first_pass(parts: list[_Part]) -> tuple[dict[str, Split | None], _Labels]:
    """The part of each picture, whatever language a record asks in; and the answers to closed questions, by kind."""
    seen: list[tuple[str, Split]] = []
    labels: dict[_Kind, dict[str, str]] = {}
    for part in parts:
        for raw in json_records.records(part.path):
            if (record := _valid(raw)) is None:
                continue
            seen.append((part.pictures.key(record.img_name), part.split))
            if record.answer_type == "CLOSED" and record.answer.strip() and not _is_yes_or_no(record):
                answer = record.answer.strip().replace("|", " ").replace("=", " ")  # signs of a label set
                labels.setdefault((record.q_lang, record.content_type), {}).setdefault(answer.casefold(), answer)
    return publisher_split.homes(seen), labels


def _valid(raw: Any) -> RawRecord | None:
    try:
        return RawRecord.model_validate(raw)
    except ValidationError:
        return None  # the second pass says why


def _described(record: RawRecord) -> str:
    which = 0 if record.q_lang == "en" else 1
    place, modality = PLACES.get(record.location), MODALITIES.get(record.modality)
    return TEMPLATES[record.q_lang].format(
        place=record.location if place is None else place[which], modality=record.modality if modality is None else modality[which],
        question=record.question.strip(), answer=record.answer.strip(),
    )  # fmt: skip


def _labels(record: RawRecord, part: _Part, closed: _Labels) -> dict[str, str]:
    """The publisher's labels, the description, and what a closed question may be answered with."""
    labels = {name: value for name in ("modality", "location", "content_type", "base_type") if (value := getattr(record, name))}
    labels |= {"qid": str(record.qid), "answer_type": record.answer_type.lower(), "publisher_split": part.split}
    if record.answer_type == "CLOSED" and not _is_yes_or_no(record) and (answers := closed.get((record.q_lang, record.content_type))):
        labels[ANSWER_LABELS] = "|".join(sorted(answers.values()))
    return labels | {DESCRIPTION: _described(record)}


def _reading(raw: Any, part: _Part, number: int, source: str, licence: str, homes: Mapping[str, Split | None], closed: _Labels) -> Reading:
    def rejected(language: str, reason: str, detail: str) -> Rejection:
        pair_id = f"{NAME}/{part.split}/{language}/{number:06d}"
        return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=reason, detail=detail)

    try:
        record = RawRecord.model_validate(raw)
    except ValidationError as error:
        return rejected(UNKNOWN, *json_records.first_damage(error))
    path, key = part.pictures.path(record.img_name), part.pictures.key(record.img_name)
    if path is None:
        return rejected(record.q_lang, "image_outside_folder", f"{record.img_name} leads out of the folder")
    pair = Pair(
        pair_id=f"{NAME}/{part.split}/{record.q_lang}/{number:06d}", dataset=NAME, image_ids=(), request=record.question,
        response=record.answer, expected=(), subject_id=None, document_id=f"{NAME}/{key.removesuffix('/source.jpg')[:16]}",
        publisher_split=homes[key], language=record.q_lang, source=source, licence=licence,
        metadata=_labels(record, part, closed),
    )  # fmt: skip
    return Draft(pair=pair, images=(ImageSource(name=record.img_name, data=functools.partial(Path.read_bytes, path)),))


def read(root: Path) -> Iterator[Reading]:
    """The records of every part that is there; raises InputMissing where there is none, InputRefused for a list that breaks off."""
    parts = _parts(root)
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    homes, closed = _first_pass(parts)
    for part in parts:
        for number, raw in enumerate(json_records.records(part.path)):
            source = f"{part.path.relative_to(root).as_posix()} record {number}"
            yield _reading(raw, part, number, source, licence, homes, closed)


DATASET = Dataset(
    name=NAME,
    title="SLAKE: questions about radiology pictures in English and Chinese",
    licence=LICENCE,
    source="huggingface.co/datasets/BoKelvin/SLAKE",
    acquisition=Acquisition(
        sources=(
            Hub(
                name="hub",
                repository="BoKelvin/SLAKE",
                revision="",
                files=(*FILES, "imgs.zip"),
                archives={"imgs.zip": Unpacking()},
            ),
        ),
        layout=("train.json, validate.json or validation.json, test.json", "imgs/xmlab<n>/source.jpg    from imgs.zip, 212 MB"),
        terms="CC BY 4.0: name its authors (Liu et al. 2021).",
    ),
    may_be_shown=True,  # CC BY 4.0
    read=read,
    is_read=raw_folder.named(*FILES, f"{IMAGES}/*"),
    answers=("closed", "open"),
    revision=2,  # what is invented says so in its licence
    literals=(
        tuple(sorted((language, tuple(sorted(words))) for language, words in YES_NO.items())),
        tuple(TEMPLATES.items()),
        tuple(PLACES.items()),
        tuple(MODALITIES.items()),
    ),
)
