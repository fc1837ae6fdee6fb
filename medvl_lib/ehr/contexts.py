# pyright: basic
# (DuckDB's rows are untyped)
"""What was on record before each study: the tables joined with the studies, streamed by way of the disk.

In: the folder ``hosp`` and studies. Out: one ``EhrContext`` per study, in the studies' order (``contexts``), or their table
(``write_contexts``). Each table is read once, from its first row to its last; only rows of the studies' patients in the studies' windows
are kept, in a DuckDB file that is removed at the end, so that memory does not grow with the tables.

**Admission.** The one that contains the study: ``admittime <= study_time <= dischtime``, both ends belong to it. Where several do, the one
that began last (the patient had moved on to it), then the one that ended first, then the smaller ``hadm_id``; the others are counted
(``admissions_overlapping``) and are neither target nor earlier. An admission without both times, or that ended before it began, is none.
MIMIC-IV's ``hosp`` tables record no complaint: the reason for admission is its type, where the patient came from, and the last service
that had taken over strictly before the study. A picture that was taken in the emergency room before ``admittime`` belongs to none. The
type may have been settled after the study: the tables do not say when.

**Age.** ``anchor_age + year(study_time) - anchor_year``, as the publisher documents it. An anchor of 91 stands for "over 89", and so does
any age above 89; in years before such an anchor the age is not known.

**Laboratory results.** Of the patient, by time and not by admission (a quarter of all results names none): charted within ``lab_days``
before the study and **stored** strictly before it. Per item the last readable one counts, and is a fact where it is flagged or outside its
own reference range. A value that is masked or empty is read from the number column; where that is empty too, the row is left out. The
trend compares with the item's previous readable result in the window, where both are numbers of one unit, taken at different times. The
latest come first, and of those taken together the ones that are furthest outside their ranges, in widths of the range.

**Medications.** Prescriptions of type MAIN (the others are carrier fluids and additives) that began within ``medication_days`` strictly
before the study, a drug once, as it was prescribed last.

**Diagnoses.** Of admissions that had ended strictly before the study, a code of a version once, as of the latest admission. They are
billing codes: given after discharge, so that in the days after one they may not have been there yet. Those of the admission that contains
the study are the target.

The table of what was left out counts the rows that were dated before the study (``charttime``, ``starttime``, discharge) and in its window,
and of the patient's rows those without that date.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from medvl_lib.ehr.facts import Admission, Diagnosis, EhrContext, LabResult, LeftOut, Medication, Sex, Study, Trend
from medvl_lib.ehr.hosp import create_views, refusing_damage
from medvl_lib.ehr.template import within_budget
from medvl_lib.errors import InputRefused
from medvl_lib.provenance import Fact
from medvl_lib.tables import TableWriter

CONTEXTS = "ehr_contexts.parquet"
JOIN = Path(__file__).with_name("join.sql")
BOUNDS: Mapping[str, str | int] = {"memory_limit": "2GiB", "threads": 2}
"""Of DuckDB: what is more goes to the disk. Threads are few since each holds buffers of its own within the limit."""
BATCH_ROWS = 2048
OVER_89 = 89  # the publisher writes 91 for every age above it
SEXES: Mapping[str, Sex] = {"F": "female", "M": "male"}
TRENDS: Mapping[int, Trend] = {1: "rising", -1: "falling", 0: "unchanged"}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far back facts reach, and how long their text may be. Every field bears identity."""

    lab_days: int = 7
    """Laboratory results charted within so many days before the study: longer ago, a value says little of the patient of today."""
    medication_days: int = 30
    """Prescriptions begun within so many days before the study."""
    max_length: int = 1600
    """The longest text, as the counter counts it: characters (about 500 tokens of Mistral) unless another one is given."""

    def __post_init__(self) -> None:
        """Refuse windows and lengths that hold nothing."""
        for name in ("lab_days", "medication_days", "max_length"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"{name} = {value!r}: must be above 0")


LIMITS = Limits()


class Age(NamedTuple):
    """An age as far as the publisher gives it."""

    years: int | None
    is_over_89: bool


def age_at(anchor_age: int | None, anchor_year: int | None, year: int) -> Age:
    """The age in a year, from the age in the anchor year; no number above 89, and none before an anchor that is above 89 itself."""
    if anchor_age is None or anchor_year is None:
        return Age(None, False)
    if anchor_age > OVER_89:
        return Age(None, year >= anchor_year)
    years = anchor_age + year - anchor_year
    return Age(None, True) if years > OVER_89 else Age(years, False)


def contexts(hosp: Path, studies: Iterable[Study], limits: Limits = LIMITS, length: Callable[[str], int] = len) -> Iterator[EhrContext]:
    """The context of every study, in the given order; the studies are taken in first, then every table is read once.

    ``length`` counts a text for ``limits.max_length``: characters, or tokens where a tokenizer's counter is given. The disk takes what
    memory does not: about 100 bytes for each result in a study's window, below the folder for temporary files.

    Raises:
        InputMissing: where a table is not there.
        InputRefused: where a column is missing, a table is damaged, or two studies have one id.
    """
    with (
        TemporaryDirectory(prefix="medvl-ehr-") as folder,
        duckdb.connect(Path(folder) / "join.duckdb", config={**BOUNDS, "temp_directory": folder}) as connection,
    ):
        connection.execute("set preserve_insertion_order = false")  # every order that counts is asked for
        _take_in(connection, studies)
        for name in ("lab_days", "medication_days"):
            connection.execute(f"set variable {name} = {getattr(limits, name):d}")
        create_views(connection, hosp)
        with refusing_damage(hosp):
            connection.execute(JOIN.read_text(encoding="utf-8"))
        for context in _merged(connection):
            yield within_budget(context, limits.max_length, length)


def _take_in(connection: duckdb.DuckDBPyConnection, studies: Iterable[Study]) -> None:
    """The studies as a table, numbered in their order."""
    connection.execute("create table studies(n bigint, subject_id varchar, study_id varchar, study_time timestamp)")
    remaining, number = iter(studies), 0
    while batch := list(islice(remaining, BATCH_ROWS)):
        columns = {name: [getattr(study, name) for study in batch] for name in ("subject_id", "study_id", "study_time")}
        connection.register("batch", pa.table({"n": range(number, number + len(batch)), **columns}))
        connection.execute("insert into studies select n, subject_id, study_id, cast(study_time as timestamp) from batch")
        connection.unregister("batch")
        number += len(batch)
    twice = connection.execute("select study_id from studies group by study_id having count(*) > 1 order by 1 limit 1").fetchall()
    if twice:
        raise InputRefused(found="two studies with one id", where=f"study {twice[0][0]}", do="give every study an id of its own")


class _ByStudy:
    """Rows of one kind of fact in the order of their study numbers, handed out study by study."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: str, order: str) -> None:
        self._answer = connection.cursor().execute(f"select * from {table} order by n, {order}")  # noqa: S608 (our own names)
        self._groups = groupby(self._rows(), key=itemgetter(0))
        self._ahead = next(self._groups, None)

    def _rows(self) -> Iterator[Row]:
        while batch := self._answer.fetchmany(BATCH_ROWS):
            yield from batch

    def take(self, number: int) -> list[Row]:
        """The rows of a study, without its number; to be asked for in ascending order."""
        if self._ahead is None or self._ahead[0] != number:
            return []
        rows = [row[1:] for row in self._ahead[1]]
        self._ahead = next(self._groups, None)
        return rows


def _merged(connection: duckdb.DuckDBPyConnection) -> Iterator[EhrContext]:
    """The studies with their facts, without text: sorted tables read side by side."""
    patients = _ByStudy(connection, "found_patients", "study_id")
    admissions = _ByStudy(connection, "found_admissions", "hadm_id")
    labs, medications, diagnoses, targets = (
        _ByStudy(connection, f"found_{name}", "rank") for name in ("labs", "medications", "diagnoses", "targets")
    )
    left_out = _ByStudy(connection, "left_out", "reason")
    [(num_studies,)] = connection.execute("select count(*) from studies").fetchall()
    for number in range(num_studies):
        [(study_id, subject_id, study_time, gender, anchor_age, anchor_year, year)] = patients.take(number)
        age = age_at(anchor_age, anchor_year, year)
        yield EhrContext(
            study_id=study_id, subject_id=subject_id, study_time=study_time, text="", sex=SEXES[gender] if gender in SEXES else None,
            age_years=age.years, is_over_89=age.is_over_89,
            admission=next((_admission(row) for row in admissions.take(number)), None),
            labs=tuple(_lab(row) for row in labs.take(number)),
            medications=tuple(_medication(row) for row in medications.take(number)),
            earlier_diagnoses=tuple(_diagnosis(row) for row in diagnoses.take(number)),
            target_diagnoses=tuple(_diagnosis(row) for row in targets.take(number)),
            left_out=tuple(LeftOut(reason=reason, number=count) for reason, count in left_out.take(number)),
        )  # fmt: skip


def _admission(row: Row) -> Admission:
    hadm_id, admittime, day, kind, origin, service = row
    return Admission(
        hadm_id=hadm_id, admittime=admittime, day=day, admission_type=kind, admission_location=origin, service=service,
    )  # fmt: skip


def _lab(row: Row) -> LabResult:
    _, labevent_id, itemid, label, specimen, value, unit, level, charttime, storetime, direction, previous_value, previous_id = row
    return LabResult(
        labevent_id=labevent_id, itemid=itemid, label=label, specimen=specimen, value=value, unit=unit, level=level,
        charttime=charttime, storetime=storetime, trend=None if direction is None else TRENDS[direction],
        previous_value=None if direction is None else previous_value, previous_labevent_id=None if direction is None else previous_id,
    )  # fmt: skip


def _medication(row: Row) -> Medication:
    _, drug, dose, dose_unit, route, starttime = row
    return Medication(drug=drug, dose=dose, dose_unit=dose_unit, route=route, starttime=starttime)


def _diagnosis(row: Row) -> Diagnosis:
    _, hadm_id, seq_num, icd_code, icd_version, title = row
    return Diagnosis(hadm_id=hadm_id, seq_num=seq_num, icd_code=icd_code, icd_version=icd_version, title=title)


def write_contexts(
    directory: Path, hosp: Path, studies: Iterable[Study], limits: Limits = LIMITS, length: Callable[[str], int] = len
) -> dict[str, Fact]:
    """Write ``ehr_contexts.parquet``, a row per study; returns how many facts of each kind there are, and what was left out."""
    counts: Counter[str] = Counter()
    with TableWriter(directory / CONTEXTS, EhrContext) as table:
        for context in contexts(hosp, studies, limits, length):
            table.write(context)
            counts.update(_counted(context))
    return {"num_studies": table.num_rows, **dict(sorted(counts.items()))}


def _counted(context: EhrContext) -> dict[str, int]:
    diagnoses = (*context.earlier_diagnoses, *context.target_diagnoses)
    return {
        "num_with_admission": int(context.admission is not None),
        "num_labs": len(context.labs),
        "num_medications": len(context.medications),
        "num_earlier_diagnoses": len(context.earlier_diagnoses),
        "num_target_diagnoses": len(context.target_diagnoses),
        "num_diagnoses_without_title": sum(diagnosis.title is None for diagnosis in diagnoses),
        **{f"left_out_{one.reason}": one.number for one in context.left_out},
    }
