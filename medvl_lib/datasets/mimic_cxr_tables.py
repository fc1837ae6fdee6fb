"""The tables of MIMIC-CXR-JPG, put together by study: pictures with their views, time, split and labels.

In: a folder that holds ``mimic-cxr-<version>-metadata``, ``-split`` and ``-chexpert``, each as ``.csv`` or ``.csv.gz``, at any depth. Out:
``Tables`` with a ``Study`` each, in the order of the metadata, what is wrong with each row that cannot be used, and where MIMIC-IV's tables
lie. All rows are in memory at a time: as many as the whole set has took 0.4 GB. No report and no picture is opened here.

``StudyTime`` is a number of the form HHMMSS.fff that lost its leading zeros on the way through a table program: ``82345.5`` is 08:23:45.5,
and ``123.002`` is 00:01:23. A study's time is that of its earliest picture, since what is on record before *that* was on record before all.
"""

import datetime as dt
import gzip
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO, cast

from medvl_lib.datasets import delimited, publisher_split, raw_folder
from medvl_lib.datasets.delimited import Damage
from medvl_lib.datasets.mimic_cxr_texts import OBSERVATIONS, STATES
from medvl_lib.errors import InputRefused
from medvl_lib.pairs import Split

METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "StudyDate", "StudyTime",
)  # fmt: skip
SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
LABEL_COLUMNS = ("subject_id", "study_id", *OBSERVATIONS)
DICOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")
SUBJECT_ID, STUDY_ID = re.compile(r"1\d{7}"), re.compile(r"5\d{7}")
_PATIENTS = re.compile(r"p1\d")  # the folders that hold the patients'
_ONE_OF_EACH = {cell: cell for cell in STATES}  # three million cells need not be three million texts
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"(\d{1,6})(?:\.(\d*))?")


class Picture(NamedTuple):
    """A row of the metadata."""

    dicom_id: str
    view: str
    """As published; empty in some 15,769 rows."""
    procedure: str


@dataclass(slots=True, kw_only=True)
class Study:
    """One examination of a patient, while its rows are gathered."""

    study_id: str
    subject_id: str
    source: str
    """Where its first row stands."""
    pictures: list[Picture] = field(default_factory=list[Picture])
    taken_at: dt.datetime | None = None
    """Of its earliest picture that says so; None where none does."""
    cells: tuple[str, ...] | None = None
    """Of the CheXpert table, in the order of ``OBSERVATIONS``; None where it has no row of the study."""

    @property
    def time(self) -> str:
        """When it was taken, ISO 8601 to the second; empty if that is not known. Cut off, so that no later fact stands before it."""
        return "" if self.taken_at is None else self.taken_at.isoformat(timespec="seconds")

    @property
    def labels(self) -> dict[str, str] | None:
        """The cells of the CheXpert table by observation."""
        return None if self.cells is None else dict(zip(OBSERVATIONS, self.cells, strict=True))

    @property
    def folder(self) -> str:
        """Where its pictures lie, below the folder ``files``; its report is the same with ``.txt`` behind it."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}"


class Spoilt(NamedTuple):
    """A row that cannot be used."""

    row_id: str
    source: str
    why: Damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """All of a folder's tables."""

    files: Path
    """The folder ``files`` beside the metadata."""
    studies: dict[str, Study]
    """By study, in the order of the metadata."""
    homes: dict[str, Split | None]
    """The publisher's split of each patient; None where a picture is outside every part, or the patient is in two."""
    spoilt: list[Spoilt]
    hosp: Path | None
    """The folder of MIMIC-IV's tables about the same patients; None where it was not delivered."""


def taken_at(date: str, time: str) -> dt.datetime | None:
    """``StudyDate`` (YYYYMMDD) and ``StudyTime`` as a time of the patient's own shifted calendar; None where they are none.

    >>> taken_at("21800506", "82345.5")
    datetime.datetime(2180, 5, 6, 8, 23, 45, 500000)
    """
    day, clock = _DATE.fullmatch(date.strip()), _TIME.fullmatch(time.strip())
    if day is None or clock is None:
        return None
    year, month, day_of_month = int(day[0][:4]), int(day[0][4:6]), int(day[0][6:])
    seconds, microsecond = int(clock[1]), int((clock[2] or "").ljust(6, "0")[:6])
    try:
        return dt.datetime(  # noqa: DTZ001 - shifted by years, so without a zone
            year, month, day_of_month, seconds // 10000, seconds // 100 % 100, seconds % 100, microsecond
        )
    except ValueError:
        return None


def _delivered(root: Path) -> list[Path]:
    """The files below a folder, but for the patients' own: there are half a million of those, and no table among them."""
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _PATIENTS.fullmatch(name))
        found += [Path(place, name) for name in sorted(names)]
    return found


def _find(root: Path, delivered: Sequence[Path], table: str) -> Path:
    """The one file of a table at any depth; raises InputMissing or InputRefused where there is none, or several."""
    name = re.compile(rf"mimic-cxr-[\d.]+-{table}\.csv(\.gz)?")
    found = [path for path in delivered if name.fullmatch(path.name)]
    if len(found) > 1:
        places = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise InputRefused(found=f"{len(found)} tables {table}: {places}", where=str(root), do="keep one of them in the raw folder")
    if not found:
        raise raw_folder.missing("mimic_cxr", root, f"mimic-cxr-2.0.0-{table}.csv.gz")
    return found[0]


def hosp_folder(root: Path) -> Path | None:
    """The one folder ``hosp`` with results of the laboratory, None where there is none; raises InputRefused where there are several."""
    found = sorted({path.parent for path in _delivered(root) if path.parent.name == "hosp" and path.name.startswith("labevents.csv")})
    if len(found) > 1:
        places = ", ".join(folder.relative_to(root).as_posix() for folder in found)
        raise InputRefused(found=f"{len(found)} folders of MIMIC-IV: {places}", where=str(root), do="keep one of them in the raw folder")
    return found[0] if found else None


@contextmanager
def _opened(path: Path) -> Generator[TextIO]:
    """A table as text; raises InputRefused where it was packed and cannot be unpacked to its end."""
    opener = cast("Callable[..., TextIO]", gzip.open if path.suffix == ".gz" else open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        do = "download it again, and compare it with the publisher's SHA256SUMS.txt"
        raise InputRefused(found=f"gzip data that cannot be unpacked to its end ({type(error).__name__})", where=str(path), do=do) from None


class _Row(NamedTuple):
    row_id: str
    source: str
    cells: dict[str, str] | Damage


def _rows(path: Path, root: Path, columns: Sequence[str], table: str) -> Iterator[_Row]:
    """The rows of a table; raises InputRefused where it lacks a column."""
    place = path.relative_to(root).as_posix()
    with _opened(path) as stream:
        records = delimited.records(stream)
        first = next(records, None)
        header = [] if first is None or not isinstance(first.cells, list) else first.cells
        if missing := [name for name in columns if name not in header]:
            raise InputRefused(found=f"no column {missing[0]!r}", where=str(path), do=f"use the publisher's own table: {','.join(columns)}")
        for record in records:
            cells, source = delimited.by_name(record.cells, header), f"{place} line {record.line}"
            yield _Row(f"{table}/line/{record.line:06d}", source, cells if isinstance(cells, Damage) else _checked(cells))


def _checked(cells: dict[str, str]) -> dict[str, str] | Damage:
    """The cells of a row whose ids have the publisher's form; they become parts of paths."""
    for name, form in (("subject_id", SUBJECT_ID), ("study_id", STUDY_ID), ("dicom_id", DICOM_ID)):
        if name in cells and not form.fullmatch(cells[name]):
            return Damage("field_malformed", f"{name} is none")
    return cells


class _Gathered:
    """The tables while they are read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.studies: dict[str, Study] = {}
        self.subjects: dict[str, str] = {}
        self.spoilt: list[Spoilt] = []

    def take_metadata(self, path: Path) -> None:
        """Begin a study at its first row, and add a picture at each."""
        for row in _rows(path, self.root, METADATA_COLUMNS, "metadata"):
            if (why := row.cells if isinstance(row.cells, Damage) else self._take_picture(row.source, row.cells)) is not None:
                self.spoilt.append(Spoilt(row.row_id, row.source, why))

    def _take_picture(self, source: str, cells: dict[str, str]) -> Damage | None:
        study_id, dicom_id, subject_id = cells["study_id"], cells["dicom_id"], cells["subject_id"]
        study = self.studies.get(study_id)
        if study is not None and study.subject_id != subject_id:
            return Damage("ids_contradict", f"study {study_id} is another patient's, too")
        if dicom_id in self.subjects:
            return Damage("duplicate_record", f"{dicom_id} has a row already")
        if study is None:
            study = self.studies[study_id] = Study(study_id=study_id, subject_id=subject_id, source=source)
        self.subjects[dicom_id] = study.subject_id
        view, procedure = cells["ViewPosition"].strip(), cells["PerformedProcedureStepDescription"].strip()
        study.pictures.append(Picture(dicom_id, view, procedure))
        time = taken_at(cells["StudyDate"], cells["StudyTime"])
        study.taken_at = min((known for known in (study.taken_at, time) if known is not None), default=None)
        return None

    def take_labels(self, path: Path) -> None:
        """Add to each study its cells; a study that the metadata do not have stays away."""
        for row in _rows(path, self.root, LABEL_COLUMNS, "chexpert"):
            if (why := row.cells if isinstance(row.cells, Damage) else self._take_labels(row.cells)) is not None:
                self.spoilt.append(Spoilt(row.row_id, row.source, why))

    def _take_labels(self, cells: dict[str, str]) -> Damage | None:
        labels = {name: cells[name].strip() for name in OBSERVATIONS}
        if odd := [name for name, cell in labels.items() if cell not in STATES]:
            return Damage("field_malformed", f"{odd[0]} is none of {', '.join(filter(None, STATES))}, or empty")
        study = self.studies.get(cells["study_id"])
        if study is None:
            return None
        if study.subject_id != cells["subject_id"]:
            return Damage("ids_contradict", f"study {study.study_id} is another patient's in the metadata")
        if study.cells is not None:
            return Damage("duplicate_record", f"study {study.study_id} has a row already")
        study.cells = tuple(_ONE_OF_EACH[labels[name]] for name in OBSERVATIONS)
        return None

    def homes(self, path: Path) -> dict[str, Split | None]:
        """The split of each patient, as far as it does not leak."""
        parts: dict[str, Split] = {}
        for row in _rows(path, self.root, SPLIT_COLUMNS, "split"):
            why = row.cells if isinstance(row.cells, Damage) else _unknown(row.cells["split"])
            if why is not None:
                self.spoilt.append(Spoilt(row.row_id, row.source, why))
            elif not isinstance(row.cells, Damage):
                parts[row.cells["dicom_id"]] = publisher_split.PARTS[row.cells["split"]]
        return publisher_split.homes((subject, parts.get(dicom_id)) for dicom_id, subject in self.subjects.items())


def _unknown(split: str) -> Damage | None:
    return (
        None if split in publisher_split.PARTS else Damage("split_unknown", f"a split that is none of {', '.join(publisher_split.PARTS)}")
    )


def read_tables(root: Path) -> Tables:
    """Read the three tables; raises InputMissing where one is absent, InputRefused where one is cut, there twice, or has other columns."""
    delivered = _delivered(root)
    metadata, split, labels = (_find(root, delivered, table) for table in ("metadata", "split", "chexpert"))
    gathered = _Gathered(root)
    gathered.take_metadata(metadata)
    homes = gathered.homes(split)
    gathered.take_labels(labels)
    files, hosp = metadata.parent / "files", hosp_folder(root)
    return Tables(files=files, studies=gathered.studies, homes=homes, spoilt=gathered.spoilt, hosp=hosp)
