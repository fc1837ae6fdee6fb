"""Overrides: a person's decision to serve a variant, whatever the gate said.

In: the gate's decisions on an evaluation, a variant of it, a name and a reason. Out: a directory with one ``Decision`` that is the
person's, published beside the gate's own. A person may know what no test set shows; the record says who it was and why. Moving the
pointer is not done here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib.benchmark.promotion import GATE, PROMOTION_DECISIONS, Decision, read_decisions
from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import write_table

REVISION = 1  # first version
REVISIONS = (REVISION, SCHEMA_VERSION)
STEP = "override"


def overridden(decisions: Sequence[Decision], variant: Variant, *, by: str, reason: str) -> Decision:
    """A person's decision for a variant: with the gate's numbers where it judged this variant, without any where it did not.

    Raises InputRefused without a name or a reason.
    """
    if not by.strip() or by.strip() == GATE or not reason.strip():
        raise InputRefused(
            found=f"by = {by!r}, reason = {reason!r}", where=f"an override of {decisions[0].line}",
            do="say who decides, and why: both are recorded with the decision",
        )  # fmt: skip
    judged = next((decision for decision in decisions if decision.challenger == variant), None)
    first = decisions[0]
    row = judged or replace(
        first, challenger=variant, claim="superiority", margin=0.0, num_pairs=0, num_clusters=0, difference=None, ci_low=None, ci_high=None,
        p_value=None, minimum_detectable_difference=None, beats_the_floors=None, uses_the_image=None, image_difference=None,
        image_ci_low=None, image_ci_high=None,
    )  # fmt: skip
    said = f"the gate said {judged.verdict}: {judged.reasons[0]}" if judged else f"the gate did not judge {variant}"
    return replace(row, verdict="promote", is_winner=True, decided_by=by.strip(), reasons=(reason.strip(), said))


def write_override(directory: Path, decision: Decision) -> dict[str, Fact]:
    """Write the one row; returns who decided for what."""
    write_table(directory / PROMOTION_DECISIONS, Decision, [decision])
    return {"schema_version": SCHEMA_VERSION, "winner": decision.challenger, "decided_by": decision.decided_by}


def a_person_said_why(directory: Path) -> Outcome:
    """There is one decision, made by a named person who gave a reason."""
    rows = read_decisions(directory)
    astray = tuple(row.challenger for row in rows if row.decided_by.strip() in {"", GATE} or not any(row.reasons))
    return Outcome(
        passed=len(rows) == 1 and not astray, found=f"{len(rows)} decisions, {len(astray)} without a name or a reason", offenders=astray
    )


RULES = (Rule(name="a_person_said_why", sentence="An override names who decided, and why.", holds=a_person_said_why),)
