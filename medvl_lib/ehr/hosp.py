# pyright: basic
# (DuckDB's relations are typed loosely)
"""The ``hosp`` tables of MIMIC-IV: which columns may be read, and views that hold no others.

In: a folder of delivered tables, csv or csv.gz. Out: one DuckDB view per table, every cell as text, so that "0389" stays what it is.
What a column says stands in the publisher's documentation (https://mimic.mit.edu/docs/iv/modules/hosp/, MIMIC-IV 3.1,
https://doi.org/10.13026/kpb9-mt58). What becomes a fact does not belong here.
"""

import csv
import gzip
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from medvl_lib.errors import InputMissing, InputRefused

MASK = "___"  # what the publisher wrote over anything that may say who the patient is
ALLOWED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "patients": ("subject_id", "gender", "anchor_age", "anchor_year"),
    "admissions": ("subject_id", "hadm_id", "admittime", "dischtime", "admission_type", "admission_location"),
    "services": ("subject_id", "hadm_id", "transfertime", "curr_service"),
    "labevents": (
        "labevent_id", "subject_id", "itemid", "charttime", "storetime", "value", "valuenum", "valueuom", "ref_range_lower",
        "ref_range_upper", "flag",
    ),
    "d_labitems": ("itemid", "label", "fluid", "category"),
    "prescriptions": ("subject_id", "starttime", "drug_type", "drug", "dose_val_rx", "dose_unit_rx", "route"),
    "diagnoses_icd": ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
    "d_icd_diagnoses": ("icd_code", "icd_version", "long_title"),
}  # fmt: skip
"""All that is ever read. Not among them, though tempting: ``deathtime``, ``dod``, ``hospital_expire_flag`` and ``discharge_location`` (how
it ended), ``stoptime`` (when a drug was stopped), ``comments`` (free text that is amended later), ``hadm_id`` of a result or a
prescription (given afterwards), ``race`` and ``insurance`` (no finding). ``dischtime`` only says which admission is which, and is never a
fact."""
SUFFIXES = (".csv.gz", ".csv")


def table_path(hosp: Path, table: str) -> Path:
    """The file of a table; raises ``InputMissing`` where the folder has none."""
    for suffix in SUFFIXES:
        if (path := hosp / f"{table}{suffix}").is_file():
            return path
    do = "give the folder `hosp` of MIMIC-IV as delivered: the EHR context needs " + ", ".join(ALLOWED_COLUMNS)
    raise InputMissing(found=f"no {table}.csv.gz and no {table}.csv", where=str(hosp), do=do)


def columns_of(hosp: Path, table: str) -> list[str]:
    """The columns of a table in the file's order; raises ``InputRefused`` where an allowed one is missing or the file cannot be read."""
    path = table_path(hosp, table)
    with refusing_damage(path), (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        found = next(csv.reader(file), [])
    if missing := [name for name in ALLOWED_COLUMNS[table] if name not in found]:
        do = f"deliver {table} with its header line, as MIMIC-IV has it: {', '.join(ALLOWED_COLUMNS[table])} are read"
        raise InputRefused(found=f"no column {missing[0]!r}", where=str(path), do=do)
    return found


def create_views(connection: duckdb.DuckDBPyConnection, hosp: Path) -> None:
    """A view of every table that may be read, under its own name, with the allowed columns and no others."""
    for table, allowed in ALLOWED_COLUMNS.items():
        delivered = connection.read_csv(
            str(table_path(hosp, table)), columns=dict.fromkeys(columns_of(hosp, table), "VARCHAR"), auto_detect=False, header=True,
            delimiter=",", quotechar='"', escapechar='"',
        )  # fmt: skip
        delivered.select(*allowed).create_view(table)


@contextmanager
def refusing_damage(where: Path) -> Iterator[None]:
    """Turn what is said of a damaged table into ``InputRefused``, which names file and line: DuckDB's own message quotes the row."""
    try:
        yield
    except (duckdb.InvalidInputException, duckdb.IOException, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        said = str(error)
        if isinstance(error, duckdb.IOException) and "GZIP" not in said:
            raise  # the disk's fault, not the table's
        line, file = re.search(r"Error on Line: (\d+)", said), re.search(r"(?:file = |stream: )(\S.*)", said)
        found = f"a damaged row in line {line[1]}" if line else f"a table that cannot be read to its end ({type(error).__name__})"
        do = "download the table again, and compare it with the publisher's SHA256SUMS.txt"
        raise InputRefused(found=found, where=file[1] if file else str(where), do=do) from None
