"""Invented chest radiographs and reports in the layout of MIMIC-CXR-JPG, and below ``mimic-iv/hosp`` the records of the same patients.

In: how many patients each part shall have, and a seed. Out: the three tables (``.csv.gz``), ``files/p19/p<patient>/s<study>/`` with
pictures and ``s<study>.txt`` beside it, and what ``mimic_iv`` writes. Every second study has two views, some views are empty, times have
lost their leading zeros, the forms of reports come by turns (``mimic_reports``). Broken on purpose, all in train: a study whose report is
missing, one of which a picture is missing, one whose report holds nothing but masks, a repeated row and a row that is cut in the metadata,
a picture without a row. A further study there has no row of labels, and is read all the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageDraw

from medvl_lib.datasets.mimic_cxr_texts import OBSERVATIONS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import NUM_GRAINS, SIDE_PIXELS, SIZES, Chest
from medvl_lib.sample_data.gzipped import write_csv
from medvl_lib.sample_data.mimic_iv import write_hosp
from medvl_lib.sample_data.mimic_patients import FIRST_STUDY, Patient, Study, draw_patient
from medvl_lib.sample_data.mimic_reports import report
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"train": 180, "validate": 6, "test": 48}
"""Patients per part; the broken studies and rows come on top. Enough in train to add something to what the small model knows (of 36 it
learned nothing, docs/log.md), and in test to decide by."""

METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime",
    "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
VIEWS: tuple[tuple[str, ...], ...] = (("PA", "LATERAL"), ("AP",), ("PA", "LATERAL"), ("",))
"""Of studies, by turns."""
LAST_NUMBER = 9999  # of the patient whose studies are broken
MASKS_ALONE = " FINDINGS:  ___.\n \n IMPRESSION:  Discussed with Dr. ___.\n"
README = """# Invented data: chest radiographs with reports and hospital records

Every picture, report and record in this folder was made up by a program; no patient stands behind any of them. Licence: CC0-1.0. The files
have the layout of MIMIC-CXR-JPG 2.0.0 with the reports of MIMIC-CXR beside the studies' folders, and `mimic-iv/hosp` that of MIMIC-IV 3.1.
Broken on purpose: a study without its report, one without one of its pictures, one whose report is all masks, a repeated and a cut row of
the metadata, a picture without a row. Seed: {seed}.
"""

Row = dict[str, object]


def draw_lateral(chest: Chest) -> Image.Image:
    """The same chest from the side: the spine on the right, the heart low in front, an opacity at its height."""
    image = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 150)
    draw = ImageDraw.Draw(image)
    draw.ellipse((26, 14, 132, 142), fill=36)
    draw.rectangle((120, 10, 136, 150), fill=185)
    half = 28 if chest.has_large_heart else 16
    draw.ellipse((62 - half, 82, 62 + half, 138), fill=190)
    if chest.side:
        y, radius = {"upper": 42, "middle": 72, "lower": 108}[chest.zone], SIZES[chest.size]
        draw.ellipse((98 - radius, y - radius, 98 + radius, y + radius), fill=225)
    for place in chest.grains:
        draw.point(place, fill=100)
    return image


def study_pictures(study: Study) -> list[tuple[str, bytes]]:
    """The views of a study, each with its file."""
    drawn = (
        (view, draw_lateral(_other_grains(study, number)) if view == "LATERAL" else study.chest.image())
        for number, view in enumerate(VIEWS[study.number % len(VIEWS)])
    )
    return [(view, encoded(image, quality=90)) for view, image in drawn]


@dataclass(frozen=True, slots=True)
class _Tree:
    """The folder ``files`` and the rows that name its pictures."""

    root: Path
    metadata: list[Row] = field(default_factory=list[Row])
    split: list[Row] = field(default_factory=list[Row])
    labels: list[Row] = field(default_factory=list[Row])

    def put(self, patient: Patient, study: Study, text: str | None, labels: Mapping[str, str] | None) -> list[Path]:
        """Write a study and its rows; returns the paths of its pictures."""
        folder = self.root / "files" / f"p{str(patient.subject_id)[:2]}" / f"p{patient.subject_id}" / f"s{study.study_id}"
        folder.mkdir(parents=True)
        if text is not None:
            folder.with_suffix(".txt").write_text(text, encoding="utf-8", newline="\n")
        ids: Row = {"subject_id": patient.subject_id, "study_id": study.study_id}
        pictures: list[Path] = []
        for number, (view, data) in enumerate(study_pictures(study)):
            dicom_id = _dicom_id(study.study_id, number)
            pictures.append(folder / f"{dicom_id}.jpg")
            pictures[-1].write_bytes(data)
            self.metadata.append({"dicom_id": dicom_id, **ids, **_described(study, view)})
            self.split.append({"dicom_id": dicom_id, **ids, "split": patient.part})
        if labels is not None:
            self.labels.append({**ids, **labels})
        return pictures


def _dicom_id(study_id: int, number: int) -> str:
    digits = hashlib.sha256(f"{study_id}/{number}".encode()).hexdigest()[:40]
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _other_grains(study: Study, number: int) -> Chest:
    chance, last = draws.seeded(f"mimic/grains/{study.study_id}/{number}"), SIDE_PIXELS - 1
    grains = tuple((draws.whole(chance, 0, last), draws.whole(chance, 0, last)) for _ in range(NUM_GRAINS))
    return replace(study.chest, grains=grains)


def _described(study: Study, view: str) -> Row:
    """The metadata of a picture. A table program has read the time as a number: 08:23:45.5 is 82345.5."""
    at = study.taken_at
    time = f"{int(at.strftime('%H%M%S'))}.{at.microsecond // 1000:03d}".rstrip("0")
    return {
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)" if view in {"PA", "LATERAL"} else "CHEST (PORTABLE AP)",
        "ViewPosition": view, "Rows": SIDE_PIXELS, "Columns": SIDE_PIXELS, "StudyDate": at.strftime("%Y%m%d"),
        "StudyTime": f"{time}0" if time.endswith(".") else time, "ProcedureCodeSequence_CodeMeaning": "CHEST",
        "ViewCodeSequence_CodeMeaning": {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "": ""}[view],
        "PatientOrientationCodeSequence_CodeMeaning": "Erect" if view else "",
    }  # fmt: skip


def _everybody(counts: Mapping[str, int], seed: int) -> Iterator[Patient]:
    number = 0
    for part in COUNTS:
        for _ in range(counts[part]):
            yield draw_patient(seed, part, number)
            number += 1


def _put_broken(tree: _Tree, patient: Patient) -> int:
    """Studies of one more patient, of whom MIMIC-IV knows nothing; returns how many there are."""
    first = replace(patient.studies[0], number=0)
    studies = [replace(first, study_id=FIRST_STUDY + 900000 + number) for number in range(4)]
    good = report(first)
    tree.put(patient, studies[0], None, good.labels)
    tree.put(patient, studies[1], good.text, good.labels)[1].unlink()
    tree.put(patient, studies[2], MASKS_ALONE, good.labels)
    [unnamed, _] = tree.put(patient, studies[3], good.text, None)
    unnamed.with_name(f"{_dicom_id(0, 0)}.jpg").write_bytes(unnamed.read_bytes())
    tree.metadata.append(dict(tree.metadata[-1]))
    return len(studies)


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder. Returns the number of studies and of rows that are broken by themselves."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    everybody, tree = list(_everybody(counts, seed)), _Tree(root)
    num_records = 0
    for patient in everybody:
        for study in patient.studies:
            reported = report(study)
            tree.put(patient, study, reported.text, reported.labels)
            num_records += 1
    ending = ""
    if counts["train"]:
        num_records += _put_broken(tree, draw_patient(seed, "train", LAST_NUMBER)) + 2
        ending = f"{_dicom_id(0, 1)},{everybody[0].subject_id}"  # a last row that is cut
    write_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA, tree.metadata, ending=ending)
    write_csv(root / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), tree.split)
    write_csv(root / "mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *OBSERVATIONS), tree.labels)
    write_hosp(root / "mimic-iv" / "hosp", everybody, seed)
    return num_records
