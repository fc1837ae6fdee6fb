"""Knee radiographs graded by Kellgren and Lawrence: Mendeley's "Digital Knee X-ray Images" and sets with the same folders.

Gornale and Patravali 2020 (doi.org/10.17632/t9ndx37v5h.1): 1,650 radiographs, 8 bits of gray, each graded by two experts. Licence: CC BY
4.0 to the best of our knowledge; unconfirmed, so nothing of it is shown. Two layouts are known, and pictures are found at any depth:

* ``MedicalExpert-I/0Normal/NormalG0 (1).png`` and the same below ``MedicalExpert-II``, with blanks and brackets in the names (1Doubtful,
  2Mild, 3Moderate, 4Severe; or KL0 ... KL4, or 0 ... 4). Copies nest ``MedicalExpert-I/MedicalExpert-I/``.
* ``train/2/9001695L.png``, ``val``, ``test`` (Chen 2018, doi.org/10.17632/56rmx5bjcr.1, 8,260 knees of the Osteoarthritis Initiative): the
  patient is the first seven digits, then comes the side.

A picture has no name of its own: both experts grade the same pictures, each under a name with their own grade. So a record is a picture by
content, whatever it is called, and all its files make one pair. Two files, before:

    MedicalExpert-I/1Doubtful/DoubtfulG1 (12).png    MedicalExpert-II/2Mild/MildG2 (40).png     (the same bytes)

and the pair, after:

    Pair(pair_id="knee_xray/9f2c41...", request="Describe this medical image.", response="Radiograph of a knee, Kellgren-Lawrence grade 1
         (doubtful): doubtful narrowing of the joint space and possible osteophytic lipping.", document_id="knee_xray/9f2c41...",
         source="MedicalExpert-I/1Doubtful/DoubtfulG1 (12).png + MedicalExpert-II/2Mild/MildG2 (40).png",
         metadata={"category": "KL 1", "grade_expert_1": "1", "grade_expert_2": "2", "agreement": "experts differ"}, ...)

**Where the experts differ, the first expert's grade is the label**, in text and category, and ``agreement`` says so, so that such pictures
can be reported apart: leaving them out would leave the hard ones out. A picture that *one* expert has in two grades has no label and is
rejected, as is a file whose name carries another grade than its folder. The publisher's split is kept for a patient (or, where none is
known, a picture) that occurs in one part alone.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medvl_lib.datasets import picture_files, publisher_split, raw_folder
from medvl_lib.datasets.descriptions import ANSWER_LABELS, CATEGORY, DESCRIBE
from medvl_lib.files import sha256_of_file
from medvl_lib.labels import GRADE_LABELS, KELLGREN_LAWRENCE
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition, Archive

NAME = "knee_xray"
LICENCE = "CC-BY-4.0 as stated on Mendeley Data, unconfirmed"
EXPERTS: Mapping[str, int] = {"medicalexpert-i": 1, "medicalexpert-ii": 2}
PARTS: Mapping[str, Split] = {**publisher_split.PARTS, "auto_test": "test"}
"""``auto_test`` holds the test knees once more, cut out by a program."""
WORDS = {grade.name: grade.grade for grade in KELLGREN_LAWRENCE} | {"minimal": 2}
GRADE_FOLDER = re.compile(rf"(?:kl|grade)?[ _-]*([0-4])[ _-]*({'|'.join(WORDS)})?", re.IGNORECASE)
GRADE_IN_NAME = re.compile(r"[a-z]G([0-4])(?!\d)", re.IGNORECASE)
KNEE = re.compile(r"(\d{7})([LR])(?:_\d+)?", re.IGNORECASE)
SIDES = {"L": "left", "R": "right"}
TEMPLATE = "Radiograph of a {side}knee, Kellgren-Lawrence grade {grade} ({name}): {findings}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One picture file and what its path says."""

    path: Path
    place: str
    """Its path below the raw folder."""
    grade: int | None
    """None where the folder is no grade, or the name carries another one."""
    expert: int | None
    part: Split | None
    patient: str | None
    side: str | None


def _grade(path: Path) -> int | None:
    """The grade of a file's folder; None where that is no grade, or its word or the file's name says another one."""
    folder = GRADE_FOLDER.fullmatch(path.parent.name)
    if folder is None:
        return None
    grade, word, name = int(folder[1]), folder[2], GRADE_IN_NAME.search(path.stem)
    agree = (word is None or WORDS[word.lower()] == grade) and (name is None or int(name[1]) == grade)
    return grade if agree else None


def _file(path: Path, root: Path) -> _File:
    place = path.relative_to(root)
    above = [folder.lower() for folder in reversed(place.parts[:-2])]  # the nearest one counts
    knee = KNEE.fullmatch(path.stem)
    return _File(
        path=path, place=place.as_posix(), grade=_grade(path),
        expert=next((EXPERTS[folder] for folder in above if folder in EXPERTS), None),
        part=next((PARTS[folder] for folder in above if folder in PARTS), None),
        patient=None if knee is None else knee[1], side=None if knee is None else SIDES[knee[2].upper()],
    )  # fmt: skip


def _by_content(files: Iterable[_File]) -> dict[str, list[_File]]:
    """Files of the same bytes, in the order in which the first of each was found; all paths are in memory at a time."""
    found: dict[str, list[_File]] = {}
    for file in files:
        found.setdefault(sha256_of_file(file.path), []).append(file)
    return found


def _group(digest: str, files: list[_File]) -> str:
    return files[0].patient or digest


def _contradiction(files: list[_File]) -> tuple[str, str] | None:
    """Reason and detail of a picture whose files cannot all be right; None where they can."""
    if odd := [file.place for file in files if file.grade is None]:
        return "grade_unknown", f"{odd[0]}: its folder is no Kellgren-Lawrence grade, or its name or word says another one"
    for says, values in (
        ("patients", {file.patient for file in files}), ("sides", {file.side for file in files}),
        *((f"grades of expert {expert}", {file.grade for file in files if file.expert == expert}) for expert in {f.expert for f in files}),
    ):  # fmt: skip
        if len(values) > 1:
            return "labels_contradict", f"one picture with {len(values)} {says}: {' + '.join(file.place for file in files)}"
    return None


def _labels(files: list[_File]) -> dict[str, str]:
    """The grade that counts, each expert's, and whether they agree."""
    by_expert = {file.expert: file.grade for file in files}
    grade = next(by_expert[expert] for expert in (None, 1, 2) if expert in by_expert)
    named = {f"grade_expert_{expert}": str(given) for expert, given in sorted(by_expert.items(), key=str) if expert is not None}
    agreement = "one reading" if len(by_expert) == 1 else "experts agree" if len(set(by_expert.values())) == 1 else "experts differ"
    labels = {CATEGORY: f"KL {grade}", ANSWER_LABELS: GRADE_LABELS, "kl_grade": str(grade), **named, "agreement": agreement}
    return labels | ({"side": files[0].side} if files[0].side else {}) | ({"publisher_split": files[0].part} if files[0].part else {})


def _reading(digest: str, files: list[_File], home: Split | None, licence: str) -> Reading:
    pair_id, source = f"{NAME}/{digest[:16]}", " + ".join(file.place for file in files)
    if (wrong := _contradiction(files)) is not None:
        return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=wrong[0], detail=wrong[1])
    labels = _labels(files)
    grade = KELLGREN_LAWRENCE[int(labels["kl_grade"])]
    response = TEMPLATE.format(
        side=f"{files[0].side} " if files[0].side else "", grade=grade.grade, name=grade.name, findings=grade.findings
    )
    pair = Pair(
        pair_id=pair_id, dataset=NAME, image_ids=(), request=DESCRIBE["en"], response=response, expected=(), subject_id=files[0].patient,
        document_id=pair_id, publisher_split=home, language="en", source=source, licence=licence, metadata=labels,
    )  # fmt: skip
    return Draft(pair=pair, images=(ImageSource(name=files[0].place, data=functools.partial(Path.read_bytes, files[0].path)),))


def read(root: Path) -> Iterator[Reading]:
    """A reading per picture by content, in the order of the paths; raises InputMissing where there is no picture."""
    pictures = _by_content(_file(path, root) for path in picture_files.pictures(root))
    if not pictures:
        raise raw_folder.missing(NAME, root, "MedicalExpert-I/0Normal/*.png / train/0/*.png")
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    homes = publisher_split.homes((_group(digest, files), file.part) for digest, files in pictures.items() for file in files)
    for digest, files in pictures.items():
        yield _reading(digest, files, homes[_group(digest, files)], licence)


DATASET = Dataset(
    name=NAME,
    title="Knee radiographs with Kellgren-Lawrence grades",
    licence=LICENCE,
    source="doi.org/10.17632/t9ndx37v5h.1; doi.org/10.17632/56rmx5bjcr.1",
    acquisition=Acquisition(
        sources=(
            Archive(
                name="mendeley",
                url="https://data.mendeley.com/public-api/zip/t9ndx37v5h/download/1",
                file="t9ndx37v5h-1.zip",
                page="https://data.mendeley.com/datasets/t9ndx37v5h/1",
            ),
        ),
        layout=(
            "MedicalExpert-I/{0Normal,1Doubtful,2Mild,3Moderate,4Severe}/*.png, and the same below MedicalExpert-II, at any depth",
            "{train,val,test}/{0,1,2,3,4}/*.png    or these, from https://data.mendeley.com/datasets/56rmx5bjcr/1",
        ),
        terms="CC BY 4.0 as stated on Mendeley Data, unconfirmed: read the page's licence first.",
    ),
    may_be_shown=False,  # the licence was not seen on the publisher's page
    read=read,
    is_read=raw_folder.named(*picture_files.PATTERNS),
    answers=("report", "class", "grade"),
    revision=3,  # what is invented says so in its licence
    literals=(DESCRIBE["en"], TEMPLATE, GRADE_LABELS, tuple((grade.name, grade.findings) for grade in KELLGREN_LAWRENCE)),
)
