"""How much memory and time the EHR context takes with a ``labevents`` of many millions of rows: the join, and the rules over what it wrote.

In: nothing but invented tables in MIMIC-IV's layout, written by DuckDB. Out: a table on the terminal; exit status 1 where a process took
more than 4 GB, or a rule failed.

    python benchmarks/ehr_memory.py [--rows 20000000] [--threads 1] [--gzip]

Every patient has 400 results in four stays of five days, as many as a patient of MIMIC-IV has on average; every sixth has three or four
studies, so that there are as many studies per result as in MIMIC-CXR and MIMIC-IV together. One result in sixteen is masked, one in a
hundred has no storetime, one in six a comment with commas and quotes. The other tables are as long as they would be beside so many results.

Each step runs in a process of its own, and its peak is the kernel's (``ru_maxrss``). On Linux a process inherits it from the one that
starts it, so this one imports nothing of MedVL before it is a child.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from medvl_lib.ehr.facts import Study

MAX_BYTES = 4_000_000_000
NUM_ROWS = 20_000_000
ROWS_PER_PATIENT = 400  # in four stays
PATIENTS_PER_STUDIED, STUDIES_PER_PATIENT = 6, (3, 4)
STEPS = ("generate", "join", "judge")
NUM_BYTES_MIB = 1024 * 1024
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in

STAYS = """
    create view stays as
    select 10000000 + patient as subject_id, 20000000 + 4 * patient + stay as hadm_id, patient, stay,
        timestamp '2150-01-01' + to_days(cast(patient % 9000 + 200 * stay as integer)) as began, began + to_days(5) as ended
    from range(getvariable('patients')) as p(patient), range(4) as s(stay)"""
TABLES = {
    "patients": """
        select 10000000 + patient as subject_id, case when patient % 2 = 0 then 'F' else 'M' end as gender, 20 + patient % 72 as anchor_age,
            2150 as anchor_year, '2011 - 2013' as anchor_year_group, null as dod
        from range(getvariable('patients')) as p(patient)""",
    "admissions": """
        select subject_id, hadm_id, began as admittime, ended as dischtime, null as deathtime, 'EW EMER.' as admission_type,
            'P01' as admit_provider_id, 'EMERGENCY ROOM' as admission_location, 'HOME' as discharge_location, 'Other' as insurance,
            'ENGLISH' as language, null as marital_status, 'OTHER' as race, null as edregtime, null as edouttime, 0 as hospital_expire_flag
        from stays""",
    "services": """
        select subject_id, hadm_id, began + to_minutes(5) as transfertime, null as prev_service, 'MED' as curr_service from stays""",
    "d_labitems": """
        select 50000 + item as itemid, 'Item ' || item as label, 'Blood' as fluid, 'Chemistry' as category from range(40) as i(item)""",
    "prescriptions": """
        select subject_id, hadm_id, null as pharmacy_id, null as poe_id, null as poe_seq, null as order_provider_id,
            began + to_hours(cast(6 * number as integer)) as starttime, ended as stoptime,
            case when number % 5 = 4 then 'BASE' else 'MAIN' end as drug_type, 'Drug ' || (hash(hadm_id, number) % 300) as drug,
            null as formulary_drug_cd, null as gsn, '0' as ndc, null as prod_strength, null as form_rx,
            case when number % 9 = 0 then '1-2' else '40' end as dose_val_rx, 'mg' as dose_unit_rx, null as form_val_disp,
            null as form_unit_disp, null as doses_per_24_hrs, 'IV' as route
        from stays, range(20) as n(number)""",
    "diagnoses_icd": """
        select subject_id, hadm_id, number + 1 as seq_num, format('{:04d}', hash(hadm_id, number) % 2000) as icd_code,
            case when hadm_id % 2 = 0 then 9 else 10 end as icd_version
        from stays, range(10) as n(number)""",
    "d_icd_diagnoses": """
        select format('{:04d}', code) as icd_code, version as icd_version, 'Diagnosis ' || code as long_title
        from range(2000) as c(code), (values (9), (10)) as v(version)""",
    "labevents": """
        select number as labevent_id, 10000000 + patient as subject_id,
            case when number % 4 = 0 then null else 20000000 + 4 * patient + stay end as hadm_id, number // 8 as specimen_id,
            50000 + number % 40 as itemid, 'P01' as order_provider_id,
            timestamp '2150-01-01' + to_days(cast(patient % 9000 + 200 * stay as integer))
                + to_minutes(cast(72 * (number % 100) as integer)) as charttime,
            case when number % 100 = 7 then null else charttime + to_minutes(cast(20 + number % 100 as integer)) end as storetime,
            case when number % 16 = 3 then '___' else cast(amount as varchar) end as value, amount as valuenum, 'mg/dL' as valueuom,
            30 as ref_range_lower, 70 as ref_range_upper, case when amount not between 30 and 70 then 'abnormal' end as flag,
            'ROUTINE' as priority, case when number % 6 = 0 then 'HEMOLYZED, "SLIGHTLY", AS IT CAME.' end as comments
        from (
            select number, number // 400 as patient, number % 400 // 100 as stay, cast(hash(number) % 100 as integer) as amount
            from range(400 * getvariable('patients')) as r(number))""",
}


class Peak(NamedTuple):
    """What one process took."""

    seconds: float
    processor_seconds: float
    num_bytes: int
    said: str


# -- what runs in a process of its own ----------------------------------------------------------------------------------
def _generate(hosp: Path, num_patients: int, threads: int, suffix: str) -> str:
    import duckdb

    hosp.mkdir()
    with duckdb.connect(config={"threads": threads, "memory_limit": "1GiB"}) as connection:
        connection.execute(f"set variable patients = {num_patients:d}")
        connection.execute(STAYS)
        for table, rows in TABLES.items():
            connection.execute(f"copy ({rows}) to '{hosp / table}{suffix}' (format csv, header)")
    size = sum(path.stat().st_size for path in hosp.iterdir())
    return f"{num_patients} patients, {size / 1e9:.2f} GB of tables"


def _studies(num_patients: int) -> "Iterator[Study]":
    """Of every sixth patient three or four, each within another stay."""
    import datetime as dt

    from medvl_lib.ehr.facts import Study

    for patient in range(0, num_patients, PATIENTS_PER_STUDIED):
        for stay in range(STUDIES_PER_PATIENT[patient // PATIENTS_PER_STUDIED % 2]):
            began = dt.datetime(2150, 1, 1) + dt.timedelta(days=patient % 9000 + 200 * stay)  # noqa: DTZ001 (no zone)
            time = began + dt.timedelta(hours=30 + 11 * stay, seconds=patient % 3600)
            yield Study(subject_id=str(10_000_000 + patient), study_id=f"{patient}-{stay}", study_time=time.isoformat())


def _join(hosp: Path, num_patients: int) -> str:
    from medvl_lib.ehr.contexts import write_contexts

    counts = write_contexts(hosp.parent, hosp, _studies(num_patients))
    shown = ("num_studies", "num_with_admission", "num_labs", "num_medications", "num_earlier_diagnoses", "num_target_diagnoses")
    return ", ".join(f"{name} {counts[name]}" for name in shown)


def _judge(hosp: Path) -> str:
    from medvl_lib.ehr.availability import rules

    outcomes = {rule.name: rule.holds(hosp.parent) for rule in rules(hosp)}
    if failed := {name: outcome.found for name, outcome in outcomes.items() if not outcome.passed}:
        raise SystemExit(str(failed))
    return f"{len(outcomes)} rules passed"


def _child(step: str, hosp: Path, num_patients: int, threads: int, suffix: str) -> None:
    """Do one step; the last line printed is what this process took."""
    began = time.perf_counter()
    if step == "generate":
        said = _generate(hosp, num_patients, threads, suffix)
    else:
        from medvl_lib.ehr import availability, contexts

        contexts.BOUNDS = availability.BOUNDS = {**contexts.BOUNDS, "threads": threads}
        said = _join(hosp, num_patients) if step == "join" else _judge(hosp)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(Peak(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * MAXRSS_BYTES, said)))


# -- the measurement ----------------------------------------------------------------------------------------------------
def _measured(step: str, root: Path, chosen: argparse.Namespace) -> Peak:
    """What a fresh process takes for a step."""
    command = [sys.executable, __file__, "--rows", str(chosen.rows), "--threads", str(chosen.threads), "--child", step, str(root)]
    answer = subprocess.run(  # noqa: S603 - this very file
        [*command, "--gzip"] if chosen.gzip else command, stdout=subprocess.PIPE, text=True, check=True
    )
    return Peak(*json.loads(answer.stdout.splitlines()[-1]))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Peak memory and time of the EHR context.")
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help="of labevents")
    parser.add_argument("--threads", type=int, default=1, help="of DuckDB")
    parser.add_argument("--gzip", action="store_true", help="tables packed, as the publisher ships them")
    parser.add_argument("--scratch", type=Path, help="where to write: about 150 bytes a row, removed at the end")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        suffix = ".csv.gz" if chosen.gzip else ".csv"
        _child(chosen.child[0], Path(chosen.child[1]) / "hosp", chosen.rows // ROWS_PER_PATIENT, chosen.threads, suffix)
        return 0
    print(f"{'rows':>10} {'step':<10} {'seconds':>8} {'processor':>9} {'peak MiB':>9} {'rows/s':>9}")
    with TemporaryDirectory(prefix="ehr-", dir=chosen.scratch) as folder:
        peaks = {}
        for step in STEPS:
            peaks[step] = peak = _measured(step, Path(folder), chosen)
            size, speed = peak.num_bytes / NUM_BYTES_MIB, chosen.rows / peak.seconds
            print(
                f"{chosen.rows:>10} {step:<10} {peak.seconds:>8.1f} {peak.processor_seconds:>9.1f} {size:>9.0f} {speed:>9.0f}  {peak.said}",
                flush=True,
            )
    return int(max(peaks["join"].num_bytes, peaks["judge"].num_bytes) > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
