"""Rollbacks: a person's word that what was served before is to be served again, and that the pointer may move again.

In: a line, what its pointer named and names now, a name and a reason. Out: a directory with one ``Rollback``, published beside the
decisions. It judges no scores: something happened that no test set shows. Moving the pointer is not done here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from medvl_lib.benchmark.override import has_letters, is_the_gate
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import Column, read_table, write_table

REVISION = 2  # names and reasons are recorded as they are seen
SCHEMA_VERSION = 1  # first version; raised with any change of the table: others are not published
STEP = "rollback"
ROLLBACKS = "rollbacks.parquet"
Action = Literal["rollback", "release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A person's word on what a line serves. Key: fingerprint."""

    line: Annotated[str, Column("the line")]
    action: Annotated[Action, Column("rollback: what was served before is served again, and held; release: the pointer may move again")]
    decided_by: Annotated[str, Column("who decided")]
    reason: Annotated[str, Column("why, in that person's words")]
    from_variant: Annotated[Variant, Column("what was served until then")]
    from_data_version: Annotated[str, Column("its identity; empty: the base model as it is")]
    to_variant: Annotated[Variant, Column("what is served from then on; of a release the same")]
    to_data_version: Annotated[str, Column("its identity; empty: the base model as it is")]


def write_rollback(directory: Path, row: Rollback) -> dict[str, Fact]:
    """Write the one row; returns who decided.

    Raises InputRefused without a name or a reason that can be read, and for a name that is the gate's or looks like it.
    """
    if not _is_signed(row):
        raise InputRefused(
            found=f"by = {row.decided_by!a}, reason = {row.reason!a}", where=f"a {row.action} of {row.line}",
            do="say who decides, and why, in letters that can be seen: both are recorded; the gate's own name is nobody's",
        )  # fmt: skip
    write_table(directory / ROLLBACKS, Rollback, [row])
    return {"schema_version": SCHEMA_VERSION, "action": row.action, "decided_by": row.decided_by}


def _is_signed(row: Rollback) -> bool:
    return has_letters(row.decided_by) and not is_the_gate(row.decided_by) and has_letters(row.reason)


def a_person_said_why(directory: Path) -> Outcome:
    """There is one row, by a named person who gave a reason."""
    rows = list(read_table(directory / ROLLBACKS, Rollback))
    astray = tuple(row.action for row in rows if not _is_signed(row))
    return Outcome(
        passed=len(rows) == 1 and not astray, found=f"{len(rows)} rows, {len(astray)} without a name or a reason", offenders=astray
    )


RULES = (Rule(name="a_person_said_why", sentence="A rollback names who decided, and why.", holds=a_person_said_why),)
