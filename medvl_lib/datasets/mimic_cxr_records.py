"""What MIMIC-IV had on record about the patients of MIMIC-CXR before each study: the table that reasoning pairs are made with.

In: the raw folder. Out: ``write``, which writes ``ehr_contexts.parquet`` (a row per study whose time is known; none where the folder has no
tables of MIMIC-IV), ``rules``, which judge it from those tables anew, and ``recorded``, which puts studies and rows together again. It is a
step of its own, before the pairs, so that no pair is made from a record that the rule ``no_future_information`` has not let through. What
a record is, and what may be in it, is ``ehr``'s.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from medvl_lib.datasets.mimic_cxr_tables import Study, Tables, hosp_folder, read_tables
from medvl_lib.datasets.mimic_cxr_texts import Record
from medvl_lib.ehr import availability
from medvl_lib.ehr.contexts import CONTEXTS, LIMITS, write_contexts
from medvl_lib.ehr.facts import EhrContext
from medvl_lib.ehr.facts import Study as TimedStudy
from medvl_lib.ehr.template import render_diagnoses
from medvl_lib.errors import MedVLError
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import num_rows, read_table, write_table

STEP = "ehr_contexts"


class Recorded(NamedTuple):
    """A study, and what was on record about its patient before it."""

    study: Study
    record: Record | None
    """None where the study's time is not known, or MIMIC-IV was not delivered."""


def write(root: Path, directory: Path) -> Mapping[str, Fact]:
    """Write the table; returns how many facts of each kind there are. Raises InputMissing or InputRefused for the publisher's tables."""
    tables = read_tables(root)
    if tables.hosp is None:
        return {"num_studies": write_table(directory / CONTEXTS, EhrContext, ())}
    timed = (
        TimedStudy(subject_id=study.subject_id, study_id=study.study_id, study_time=study.time)
        for study in tables.studies.values() if study.time
    )  # fmt: skip
    return write_contexts(directory, tables.hosp, timed, LIMITS)


def rules(root: Path) -> tuple[Rule, ...]:
    """What must be true of the table; where MIMIC-IV's tables lie is looked up when it is judged."""
    *judged, columns = availability.rules(root)
    return (*(replace(rule, holds=partial(_holds, root, place)) for place, rule in enumerate(judged)), columns)


def _holds(root: Path, place: int, directory: Path) -> Outcome:
    hosp = hosp_folder(root)
    if hosp is None:
        count = num_rows(directory / CONTEXTS)
        return Outcome(passed=count == 0, found=f"{count} records, and no tables of MIMIC-IV")
    return availability.rules(hosp)[place].holds(directory)


def recorded(tables: Tables, directory: Path | None) -> Iterator[Recorded]:
    """Each study with its record; without a directory there is none. Raises MedVLError where the table is of other studies."""
    has_records = directory is not None and tables.hosp is not None
    rows = read_table(directory / CONTEXTS, EhrContext) if directory is not None else iter(())
    for study in tables.studies.values():
        if not has_records or not study.time:
            yield Recorded(study, None)
            continue
        context = next(rows, None)
        if context is None or context.study_id != study.study_id:
            found = f"study {study.study_id} beside the record of {'none' if context is None else context.study_id}"
            raise MedVLError(found=found, where=str(directory), do=f"materialize mimic_cxr/{STEP} again: it was written from other tables")
        yield Recorded(study, Record(context.text, render_diagnoses(context.target_diagnoses)))
