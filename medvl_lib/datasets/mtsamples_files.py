"""The rows of MTSamples as they lie on disk: the csv of Kaggle and the Parquet files of the hub.

In: a raw folder. Out: a ``Transcription`` per row, or a ``Rejection`` for a row that was cut or is no text. What becomes of a row is
``mtsamples``'s business; its docstring describes both layouts.
"""

import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from medvl_lib.datasets import delimited, hub_parquet, raw_folder
from medvl_lib.datasets.delimited import Damage
from medvl_lib.errors import InputRefused
from medvl_lib.files import sha256_of_file
from medvl_lib.pairs import Rejection

NAME = "mtsamples"
CSV_FILE = "mtsamples.csv"
HUB_PARTS = ("train", "test")
CSV_LICENCE = "CC0-1.0 as labelled on Kaggle, unconfirmed"
HUB_LICENCE = "none stated"
COLUMNS = ("", "description", "medical_specialty", "sample_name", "transcription", "keywords")
HUB_COLUMNS = {"id": pl.Int32(), "text": pl.String(), "label": pl.Int64()}

SPECIALTIES = (
    "Pain Management", "Chiropractic", "Podiatry", "Pediatrics - Neonatal", "Discharge Summary", "Cosmetic / Plastic Surgery", "Neurology",
    "Endocrinology", "Rheumatology", "Orthopedic", "Dentistry", "Allergy / Immunology", "Psychiatry / Psychology",
    "Consult - History and Phy.", "Dermatology", "Radiology", "Speech - Language", "Physical Medicine - Rehab", "Sleep Medicine",
    "Hospice - Palliative Care", "Diets and Nutritions", "Urology", "ENT - Otolaryngology", "Gastroenterology", "Letters", "Surgery",
    "Bariatrics", "Ophthalmology", "Neurosurgery", "Emergency Room Reports", "Nephrology", "Lab Medicine - Pathology", "Office Notes",
    "Cardiovascular / Pulmonary", "SOAP / Chart / Progress Notes", "Autopsy", "General Medicine", "IME-QME-Work Comp etc.",
    "Obstetrics / Gynecology", "Hematology - Oncology",
)  # fmt: skip
"""The publisher's 40 specialties; only used to recognize a file without a header. A hub file names its own labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription:
    """A row of either layout."""

    row_id: str
    """``mtsamples/<csv, train or test>/<row>``, rows counted from 0; of a further csv file ``mtsamples/csv/<its path>/<row>``."""
    source: str
    licence: str
    text: str
    labels: dict[str, str]
    """The publisher's own, blanks stripped."""


Row = Transcription | Rejection


def rejection(row_id: str, source: str, reason: str, detail: str) -> Rejection:
    """A row that is left out at reading."""
    return Rejection(pair_id=row_id, dataset=NAME, source=source, stage="read", reason=reason, detail=detail)


def csv_files(root: Path) -> list[Path]:
    """The csv files at any depth: the ``mtsamples.csv`` that lies highest, then every other one with the publisher's columns, by path.

    The first keeps its rows where a later file repeats them. Files with the same bytes are refused: one of them is a copy.
    """
    found = sorted((path for path in root.rglob("*") if path.is_file() and _is_csv(path)), key=lambda path: path.relative_to(root).parts)
    first = min((path for path in found if path.name == CSV_FILE), key=lambda path: len(path.parts), default=None)
    found.sort(key=lambda path: path != first)
    _require_different(found, root)
    return found


def _is_csv(path: Path) -> bool:
    """Whether a file is of the csv layout: by its name, or by its header."""
    if path.name == CSV_FILE:
        return True
    if path.suffix.lower() != ".csv" or path.name.startswith("."):
        return False
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        first = next(delimited.records(stream), None)
    names = [cell.strip().lower() for cell in first.cells] if first is not None and isinstance(first.cells, list) else []
    return all(name in names for name in COLUMNS if name)


def _require_different(files: list[Path], root: Path) -> None:
    sizes = Counter(path.stat().st_size for path in files)
    places: dict[str, list[str]] = {}
    for path in files:
        if sizes[path.stat().st_size] > 1:
            places.setdefault(sha256_of_file(path), []).append(path.relative_to(root).as_posix())
    for same in places.values():
        if len(same) > 1:
            found = f"{len(same)} files with the same bytes: {', '.join(same)}"
            raise InputRefused(found=found, where=str(root), do="keep one of them in the raw folder")


def is_read(root: Path, place: str) -> bool:
    """Whether the file at ``place`` below a raw folder is of either layout."""
    path = root / place
    return _HUB_FILES(root, place) or (path.is_file() and _is_csv(path))


_HUB_FILES = raw_folder.named(*(f"{part}-*.parquet" for part in HUB_PARTS))


def _header(first: list[str], path: Path) -> tuple[list[str], bool]:
    """The column names and whether ``first`` was the header; a file without one is read only if its columns are unmistakable."""
    names = [cell.strip().lower() for cell in first]
    if "transcription" in names:
        return names, True
    if len(first) == len(COLUMNS) and first[0].strip().isdigit() and first[2].strip() in SPECIALTIES:
        return list(COLUMNS), False
    is_header = bool(names) and all(name.replace("_", "").isalnum() and len(name) < 40 for name in names if name)
    shown = f"columns {', '.join(names)}" if is_header else f"{len(names)} columns and no header"
    raise InputRefused(found=shown, where=str(path), do=f"give the file the publisher's header: {','.join(COLUMNS)}")


def _csv_row(record: list[str] | csv.Error, columns: list[str], row_id: str, source: str) -> Row:
    fields = delimited.by_name(record, columns)
    if isinstance(fields, Damage):
        return rejection(row_id, source, fields.reason, fields.detail)
    labels = {"specialty": fields.get("medical_specialty", "").strip(), "sample_name": fields.get("sample_name", "").strip()}
    return Transcription(row_id=row_id, source=source, licence=CSV_LICENCE, text=fields["transcription"], labels=labels)


def csv_rows(path: Path, root: Path, prefix: str) -> Iterator[Row]:
    """The rows of a csv file, their ids below ``prefix``: UTF-8 with or without a mark, CRLF or LF; a blank line is no row."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        records = delimited.records(stream)
        first = next(records, None)
        columns, has_header = _header(first.cells if first is not None and isinstance(first.cells, list) else [], path)
        rows = records if has_header or first is None else itertools.chain([first], records)
        for number, record in enumerate(rows):
            source = f"{path.relative_to(root).as_posix()} line {record.line}"
            yield _csv_row(record.cells, columns, f"{prefix}/{number:06d}", source)


def csv_tables(root: Path) -> list[Iterator[Row]]:
    """The rows of every csv file. Rows of the first ``mtsamples.csv`` have ids without its path, as if it lay there alone."""
    files = csv_files(root)
    prefixes = [f"{NAME}/csv/{path.relative_to(root).as_posix()}" for path in files]
    if files and files[0].name == CSV_FILE:
        prefixes[0] = f"{NAME}/csv"
    return [csv_rows(path, root, prefix) for path, prefix in zip(files, prefixes, strict=True)]


def _label_names(path: Path) -> list[str]:
    """The names behind the label numbers, as the hub's library keeps them in the file; none where it did not."""
    declared = json.loads(pl.read_parquet_metadata(path).get("huggingface", "{}"))
    return declared.get("info", {}).get("features", {}).get("label", {}).get("names", [])


def _hub_frame(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputRefused(
            found=f"{path.stat().st_size} bytes that are no Parquet file", where=str(path), do="download the file again from the hub"
        ) from error
    for name, kind in HUB_COLUMNS.items():
        if frame.schema.get(name) != kind:
            found = f"column {name!r} is {frame.schema.get(name, 'absent')}"
            raise InputRefused(found=found, where=str(path), do=f"{NAME} wants {kind}: use the hub's own files")
    return frame.select(*HUB_COLUMNS)


def hub_rows(root: Path, part: str) -> Iterator[Row]:
    """The rows of one part of the hub's layout, numbered through all of its files."""
    number = 0
    for path in hub_parquet.part_files(root, part):
        frame, names = _hub_frame(path), _label_names(path)
        for row_id, text, label in frame.iter_rows():
            labels = {"publisher_split": part, "id": str(row_id), "label": str(label)}
            if label is not None and 0 <= label < len(names):  # -1 is the hub's sign for "no label"
                labels["specialty"] = names[int(label)].strip()
            yield Transcription(
                row_id=f"{NAME}/{part}/{number:06d}", source=f"{path.relative_to(root).as_posix()} row {number}", licence=HUB_LICENCE,
                text=text or "", labels=labels,
            )  # fmt: skip
            number += 1
