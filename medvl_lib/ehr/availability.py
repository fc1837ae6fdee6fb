# pyright: basic
# (DuckDB's rows are untyped)
"""What must be true of written EHR contexts: that every fact stood in the tables before the study, judged from the tables anew.

In: the folder ``hosp`` and a directory with ``ehr_contexts.parquet``. Out: rules. They share no query, no parsing of times and no join
with ``contexts``: times are compared as the text that the publisher wrote, each written fact must show a row of the tables that was there
before its study, and every word of a text must come from such a fact or from the template.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from medvl_lib.ehr.contexts import BOUNDS, CONTEXTS
from medvl_lib.ehr.facts import EhrContext
from medvl_lib.ehr.hosp import ALLOWED_COLUMNS, MASK, refusing_damage, table_path
from medvl_lib.ehr.template import render_context
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.rules import columns_are_as_declared, outcome
from medvl_lib.tables import read_rows

TEMPLATE_WORDS = frozenset(
    re.findall(
        r"\w+",
        "Patient years old older than 89 age sex not known Admission none at the time of study from service day stay Abnormal laboratory "
        "results Medications begun Diagnoses of earlier admissions ICD no title",
    )
)
SHOWN_FIELDS = {
    "admission": ("day", "admission_type", "admission_location", "service"),
    "labs": ("label", "specimen", "value", "unit", "level", "trend", "previous_value"),
    "medications": ("drug", "dose", "dose_unit", "route"),
    "earlier_diagnoses": ("icd_version", "icd_code", "title"),
}
"""What of a fact may be in a text."""
MACROS = r"""
    create macro squeezed(cell) as nullif(trim(regexp_replace(cell, '\s+', ' ', 'g')), '');
    create macro stamp(cell) as replace(trim(cell), 'T', ' ');"""
PATIENTS = """
    select study_id || ': patient' from contexts
    where (sex is not null or age_years is not null or is_over_89) and not exists (
        select * from patients as row where row.subject_id = contexts.subject_id
            and (sex is null or upper(left(sex, 1)) = upper(trim(row.gender)))
            and (age_years is null or (age_years <= 89 and try_cast(row.anchor_age as int) <= 89
                and age_years = cast(left(t, 4) as int) - (try_cast(row.anchor_year as int) - try_cast(row.anchor_age as int))))
            and (not is_over_89 or (try_cast(row.anchor_age as int) > 89 and left(t, 4) >= row.anchor_year)
                or cast(left(t, 4) as int) - try_cast(row.anchor_year as int) + try_cast(row.anchor_age as int) > 89))"""
ADMISSIONS = """
    select study_id || ': admission ' || admission.hadm_id from contexts
    where admission is not null and not exists (
        select * from admissions as row where row.hadm_id = admission.hadm_id and row.subject_id = contexts.subject_id
            and stamp(row.admittime) = stamp(admission.admittime) and stamp(row.admittime) <= t and t <= stamp(row.dischtime)
            and (admission.admission_type is null or admission.admission_type = squeezed(row.admission_type))
            and (admission.admission_location is null or admission.admission_location = squeezed(row.admission_location))
            and admission.day = 1 + date_sub('day', try_cast(row.admittime as timestamp), cast(t as timestamp)))
    union all
    select study_id || ': service ' || admission.hadm_id from contexts
    where admission.service is not null and not exists (
        select * from services as row where row.hadm_id = admission.hadm_id and row.subject_id = contexts.subject_id
            and stamp(row.transfertime) < t and squeezed(row.curr_service) = admission.service)"""
LABS = """
    with claims as (select study_id, subject_id, t, unnest(labs) as lab from contexts),
    rows as materialized (
        select subject_id, labevent_id, itemid, stamp(charttime) as charted, stamp(storetime) as stored, squeezed(value) as value,
            squeezed(valuenum) as number, squeezed(valueuom) as unit, ref_range_lower, ref_range_upper, flag
        from labevents where labevent_id in
            (select lab.labevent_id from claims union all select lab.previous_labevent_id from claims where lab.trend is not null)),
    names as (select itemid, squeezed(label) as label, concat_ws(', ', squeezed(fluid), squeezed(category)) as specimen from d_labitems),
    witnessed as (
        select study_id, lab.labevent_id as labevent_id
        from claims
        join rows as last on last.labevent_id = lab.labevent_id and last.subject_id = claims.subject_id
        join names on names.itemid = last.itemid and names.label = lab.label and names.specimen = coalesce(lab.specimen, '')
        left join rows as previous on previous.labevent_id = lab.previous_labevent_id and previous.subject_id = claims.subject_id
        where last.itemid = lab.itemid and last.charted < t and last.stored < t
            and last.charted = stamp(lab.charttime) and last.stored = stamp(lab.storetime)
            and (lab.value = last.value or lab.value = last.number) and last.unit is not distinct from lab.unit
            and case lab.level
                when 'high' then try_cast(last.number as double) > try_cast(last.ref_range_upper as double)
                when 'low' then try_cast(last.number as double) < try_cast(last.ref_range_lower as double)
                else lower(trim(last.flag)) = 'abnormal' end
            and (lab.trend is null and lab.previous_value is null or (
                previous.itemid = lab.itemid and previous.charted < last.charted and previous.stored < t
                and (lab.previous_value = previous.value or lab.previous_value = previous.number)
                and lab.trend = case
                    when try_cast(last.number as double) > try_cast(previous.number as double) then 'rising'
                    when try_cast(last.number as double) < try_cast(previous.number as double) then 'falling'
                    when try_cast(last.number as double) = try_cast(previous.number as double) then 'unchanged' end)))
    select study_id || ': lab ' || lab.labevent_id from claims
    where not exists (
        select * from witnessed where witnessed.study_id = claims.study_id and witnessed.labevent_id = lab.labevent_id)"""
MEDICATIONS = """
    with claims as (select study_id, subject_id, t, unnest(medications) as given from contexts)
    select study_id || ': medication begun ' || given.starttime from claims
    where stamp(given.starttime) >= t or not exists (
        select * from prescriptions as row where row.subject_id = claims.subject_id and stamp(row.starttime) = stamp(given.starttime)
            and squeezed(row.drug) = given.drug and squeezed(row.dose_val_rx) is not distinct from given.dose
            and squeezed(row.dose_unit_rx) is not distinct from given.dose_unit and squeezed(row.route) is not distinct from given.route)"""
EARLIER_DIAGNOSES = """
    with claims as (select study_id, subject_id, t, admission.hadm_id as current_id, unnest(earlier_diagnoses) as made from contexts)
    select study_id || ': diagnosis ' || made.seq_num || ' of ' || made.hadm_id from claims
    where made.hadm_id = current_id
        or not exists (
            select * from admissions as row where row.hadm_id = made.hadm_id and row.subject_id = claims.subject_id
                and stamp(row.admittime) < t and stamp(row.dischtime) < t)
        or not exists (
            select * from diagnoses_icd as row where row.hadm_id = made.hadm_id and row.subject_id = claims.subject_id
                and try_cast(row.seq_num as int) = made.seq_num and squeezed(row.icd_code) = made.icd_code
                and squeezed(row.icd_version) = made.icd_version)"""
FACTS = (PATIENTS, ADMISSIONS, LABS, MEDICATIONS, EARLIER_DIAGNOSES)
TARGETS = """
    with written as (select study_id, subject_id, unnest(target_diagnoses) as made from contexts),
    wanted as (
        select study_id, hadm_id, try_cast(row.seq_num as int) as place, squeezed(row.icd_code) as code,
            squeezed(row.icd_version) as version
        from contexts join diagnoses_icd as row on row.hadm_id = contexts.admission.hadm_id and row.subject_id = contexts.subject_id
        where place is not null and code is not null and version is not null and not contains(code, '___')),
    found as (select study_id, made.hadm_id, made.seq_num, made.icd_code, made.icd_version from written)
    select distinct study_id from ((from wanted except from found) union all (from found except from wanted)) order by 1"""
TITLES = """
    with written as (select study_id, unnest(list_concat(earlier_diagnoses, target_diagnoses)) as made from contexts),
    titles as (select squeezed(icd_code) as code, squeezed(icd_version) as version, squeezed(long_title) as title from d_icd_diagnoses)
    select study_id || ': diagnosis ' || made.seq_num || ' of ' || made.hadm_id from written
    where case when made.title is null
        then exists (select * from titles where code = made.icd_code and version = made.icd_version and not contains(title, '___'))
        else not exists (
            select * from titles where code = made.icd_code and version = made.icd_version and title = made.title) end"""


def _offenders(hosp: Path, directory: Path, *questions: str) -> list[str]:
    """The ids that questions select: of the written ``contexts``, with the study's time as ``t``, and of the tables as delivered."""
    with (
        refusing_damage(hosp),
        TemporaryDirectory(prefix="medvl-ehr-") as overflow,
        duckdb.connect(config={**BOUNDS, "temp_directory": overflow}) as connection,
    ):
        connection.execute(MACROS)
        connection.read_parquet(str(directory / CONTEXTS)).select("*, stamp(study_time) as t").create_view("contexts")
        for table in ALLOWED_COLUMNS:
            path = str(table_path(hosp, table))
            cells = connection.read_csv(path, all_varchar=True, header=True, delimiter=",", quotechar='"', escapechar='"')
            cells.create_view(table)
        return [str(row[0]) for question in questions for row in connection.execute(question).fetchall()]


def _words(values: Iterator[Any]) -> Counter[str]:
    return Counter(word for value in values if value is not None for word in re.findall(r"\w+", str(value)))


def _fact_words(context: EhrContext) -> Iterator[Any]:
    """Every value of a fact that may be in the text."""
    yield from (context.sex, context.age_years)
    for name, shown in SHOWN_FIELDS.items():
        found = getattr(context, name)
        facts = found if isinstance(found, tuple) else filter(None, [found])
        for fact in map(asdict, facts):
            yield from (fact[field] for field in shown)


def _says_more(context: EhrContext) -> bool:
    """Whether a text is not that of its facts, holds a word that no fact has, or a mask."""
    unaccounted = _words(iter([context.text])) - _words(_fact_words(context))
    return context.text != render_context(context) or MASK in context.text or not unaccounted.keys() <= TEMPLATE_WORDS


def _no_future_information(hosp: Path, directory: Path) -> Outcome:
    texts = [f"{context.study_id}: text" for context in read_rows(directory / CONTEXTS, EhrContext) if _says_more(context)]
    facts = _offenders(hosp, directory, *FACTS)
    return outcome([*facts, *texts], "facts were not on record before their study, or texts say more than their facts")


def _targets_are_of_the_same_admission(hosp: Path, directory: Path) -> Outcome:
    return outcome(_offenders(hosp, directory, TARGETS), "studies have other targets than the diagnoses of their admission")


def _every_diagnosis_has_its_title(hosp: Path, directory: Path) -> Outcome:
    return outcome(_offenders(hosp, directory, TITLES), "diagnoses have another title than their code in its version")


def rules(hosp: Path) -> tuple[Rule, ...]:
    """What must hold of a directory that ``write_contexts`` wrote from the tables of ``hosp``; all of it blocks."""
    sentences: tuple[tuple[Callable[[Path, Path], Outcome], str], ...] = (
        (_no_future_information, "Every fact and every word of an EHR context was on record before its study."),
        (_targets_are_of_the_same_admission, "The target diagnoses of a study are all diagnoses of the admission that contains it."),
        (_every_diagnosis_has_its_title, "Every diagnosis has the title of its code in its version, or none where there is none."),
    )
    judged = (Rule(name=holds.__name__[1:], sentence=sentence, holds=partial(holds, hosp)) for holds, sentence in sentences)
    return (*judged, columns_are_as_declared({CONTEXTS: EhrContext}))
