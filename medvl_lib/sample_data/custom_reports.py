# pyright: reportUnknownMemberType=false
# (pydicom's datasets hold anything)
"""Invented reports with invented radiographs in the format of ``custom_reports``: four tables, each in another encoding or form.

In: how many reports each table shall have, and a seed. Out: ``english/reports.jsonl`` (UTF-8 with a mark, some reports of two pictures),
``中文/报告.csv`` (GB18030, a row per picture, so that two rows can be one report), ``dicom/reports.csv`` with DICOM files (MONOCHROME1 of
12 bits with a window, and MONOCHROME2 in Hounsfield units), ``knees/reports.csv`` (knees in one hospital's words, with classes and a split
of their own, ``staged_knees``), and ``custom_reports.toml``. Broken on purpose: a row without a picture, one
whose picture is missing, one that is no JSON, an empty report, a picture without a row; and DICOM files that name a patient, that do not
say whether a name is burned in, that have three frames, and that have no pixels.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvl_lib.datasets.report_tables import SIDECAR
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import Chest, draw_chest
from medvl_lib.sample_data.pathvqa import encoded
from medvl_lib.sample_data.staged_knees import REQUEST, STAGE_OF, STAGES, draw_staged

COUNTS: dict[str, int] = {"english": 40, "chinese": 40, "dicom": 12, "knees": 300}
"""Good reports per table; the broken rows come on top. A fifth of the knees are their test part: enough to decide by."""

PARTS = ("train", "train", "train", "val", "test")  # of the knees, by turns, each with every class

TWO_PICTURES_EVERY = 4
DIGITAL_XRAY, CT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2"  # what kind of object a file is
ROOT_UID = "1.2.826.0.1.3680043.8.498"  # of pydicom, for invented files
README = """# Invented data: reports with radiographs

Every picture and report in this folder was made up by a program; no patient stands behind any of them. Licence: CC0-1.0. Some rows and
files are broken on purpose: no picture, no report, no JSON, a DICOM file with an (invented) name in it, and so on. Seed: {seed}.
"""
DECLARED = """# How the tables of this folder are to be read; every key may be left out. docs/data-cards/custom_reports.md has them all.
licence = "CC0-1.0"
"""


def _chest(seed: int, table: str, number: int, view: int = 0) -> Chest:
    return draw_chest(draws.seeded(f"custom_reports/{seed}/{table}/{number}/{view}"))


def _jpeg(drawn: Chest) -> bytes:
    return encoded(drawn.image(), quality=90)


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]], encoding: str) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(buffer.getvalue().encode(encoding))


def _write_english(folder: Path, count: int, seed: int) -> int:
    """One JSON object a line; every fourth report has two pictures, of which the second shows the same."""
    (folder / "images").mkdir(parents=True)
    lines: list[str] = []
    for number in range(count):
        drawn = _chest(seed, "english", number)
        names = [f"images/film {number} ({view}).jpg" for view in range(2 if number % TWO_PICTURES_EVERY == 0 else 1)]
        for view, name in enumerate(names):
            (folder / name).write_bytes(_jpeg(drawn) if view == 0 else encoded(drawn.image(), quality=60))
        row: dict[str, Any] = {"images": names, "text": drawn.report("en"), "language": "en", "subject": f"E-{number // 2}"}
        lines.append(json.dumps(row | {"view": "PA", "category": "opacity" if drawn.side else "clear"}))
    last = json.loads(lines[-1])
    (folder / "images" / "unnamed.jpg").write_bytes(_jpeg(_chest(seed, "english", count)))
    broken = [last | {"images": []}, last | {"images": ["images/nowhere.jpg"]}, last | {"text": " "}]
    lines += [*(json.dumps(row) for row in broken), lines[0][: len(lines[0]) // 2]]
    (folder / "reports.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8-sig", newline="\n")
    return len(lines)


def _write_chinese(folder: Path, count: int, seed: int) -> int:
    """A row per picture; every fourth report has two, the second with an empty text."""
    (folder / "影像").mkdir(parents=True)
    rows: list[dict[str, str]] = []
    for number in range(count):
        drawn = _chest(seed, "chinese", number)
        for view in range(2 if number % TWO_PICTURES_EVERY == 0 else 1):
            name = f"影像/{number}_{view}.png"
            (folder / name).write_bytes(encoded(drawn.image().convert("RGB" if view else "L"), "PNG"))
            text = "" if view else drawn.report("zh")
            rows.append({"image": name, "text": text, "language": "zh", "subject": f"C-{number // 2}", "report_id": f"C-{number}"})
    _csv(folder / "报告.csv", ("image", "text", "language", "subject", "report_id"), rows, "gb18030")
    return len(rows)


def _uid(*of: object) -> str:
    """A unique identifier that is the same every time."""
    number = int.from_bytes(hashlib.sha256("/".join(map(str, of)).encode()).digest()[:10], "big")
    return f"{ROOT_UID}.{number}"


def dicom(pixels: NDArray[Any] | None, uid: str, **tags: Any) -> bytes:
    """A de-identified DICOM file of gray values, or one without pixels; ``tags`` replace those that it has by default."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modality = tags.get("Modality", "DX")
    known: dict[str, Any] = {
        "SOPClassUID": CT if modality == "CT" else DIGITAL_XRAY, "SOPInstanceUID": uid, "Modality": modality, "PatientName": "",
        "PatientID": "", "PatientIdentityRemoved": "YES", "BurnedInAnnotation": "NO", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
    }  # fmt: skip
    for keyword, value in {**known, **tags}.items():
        setattr(dataset, keyword, value)
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.PixelData = pixels.astype("<u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _radiograph(drawn: Chest, uid: str, **tags: Any) -> bytes:
    """MONOCHROME1 of 12 bits, in a window: dark is 4,000 and bright is 1,000."""
    gray = np.asarray(drawn.image(), dtype=np.int64)
    shown = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2500, "WindowWidth": 3000}
    return dicom(4000 - gray * 3000 // 255, uid, **{**shown, **tags})


def _section(drawn: Chest, uid: str) -> bytes:
    """MONOCHROME2 in Hounsfield units, in a window of the lungs: dark is -1,024 and bright is 476."""
    gray = np.asarray(drawn.image(), dtype=np.int64)
    window = {"RescaleIntercept": -1024, "RescaleSlope": 1, "WindowCenter": -274, "WindowWidth": 1500}
    return dicom(gray * 1500 // 255, uid, Modality="CT", **window)


def _write_dicom(folder: Path, count: int, seed: int) -> int:
    folder.mkdir(parents=True)
    rows: list[dict[str, str]] = []

    def put(number: int, name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        text = _chest(seed, "dicom", number).report("en")
        rows.append({"image": name, "text": text, "language": "en", "subject": f"D-{number}"})

    for number in range(count):
        write = _radiograph if number % 2 == 0 else _section
        put(number, f"{number:04d}.dcm", write(_chest(seed, "dicom", number), _uid(seed, number)))
    drawn, uid = _chest(seed, "dicom", count), _uid(seed, count)
    frames = np.stack([np.asarray(drawn.image(), dtype=np.uint16)] * 3)
    put(count, "named.dcm", _radiograph(drawn, uid, PatientName="Invented^Person", PatientBirthDate="19000101"))
    put(count, "burned_in.dcm", _radiograph(drawn, uid, BurnedInAnnotation=""))
    put(count, "frames.dcm", dicom(frames, uid, NumberOfFrames=3))
    put(count, "no_pixels.dcm", dicom(None, uid))
    _csv(folder / "reports.csv", ("image", "text", "language", "subject"), rows, "utf-8")
    return len(rows)


def _write_knees(folder: Path, count: int, seed: int) -> int:
    """A row per knee, each of another patient; columns under their other names, and the classes that a report may come to."""
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, str]] = []
    for number in range(count):
        knee = draw_staged(draws.seeded(f"custom_reports/{seed}/knees/{number}"), number % len(STAGE_OF))
        name = f"images/K-{number:04d}.png"
        (folder / name).write_bytes(encoded(knee.image(), "PNG"))
        rows.append({
            "image": name, "ask": REQUEST, "report": knee.report(), "lang": "en", "patient_id": f"K-{number:04d}",
            "split": PARTS[number // len(STAGE_OF) % len(PARTS)], "category": knee.category, "answer_labels": STAGES,
        })  # fmt: skip
    _csv(folder / "reports.csv", tuple(rows[0]), rows, "utf-8")
    return len(rows)


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a table with a count of 0 is left out. Returns the number of rows, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    (root / SIDECAR).write_text(DECLARED, encoding="utf-8")
    write = {
        "english": ("english", _write_english), "chinese": ("中文", _write_chinese), "dicom": ("dicom", _write_dicom),
        "knees": ("knees", _write_knees),
    }  # fmt: skip
    return sum(write_table(root / folder, counts[name], seed) for name, (folder, write_table) in write.items() if counts[name])
