"""Overrides: a person's decision to serve a variant, whatever the gate said.

In: the gate's decisions on an evaluation, a variant of it, a name and a reason. Out: a directory with one ``Decision`` that is the
person's, published beside the gate's own. A person may know what no test set shows; the record says who it was and why. Moving the
pointer is not done here.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib.benchmark.promotion import GATE, PROMOTION_DECISIONS, Decision, read_decisions
from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import write_table

REVISION = 2  # names and reasons are recorded as they are seen
REVISIONS = (REVISION, SCHEMA_VERSION)
STEP = "override"


LOOKALIKES = {
    "g": "\u0261\u0581\u050d\u13c0", "a": "\u0430\u0251\u03b1\u13aa", "t": "\u0442\u03c4\u1d1b\u13a2", "e": "\u0435\u03b5\u04bd\u13ac",
}  # fmt: skip
"""Letters of other alphabets that are drawn like those of the gate's name, as case folding leaves them (Unicode TR 39, confusables)."""
DRAWN_AS = str.maketrans({other: letter for letter, others in LOOKALIKES.items() for other in others})
SAID = {"promote": "promoted", "reject": "rejected", "inconclusive": "came to no decision on"}  # what the gate did with whom


def visible(text: str) -> str:
    r"""A text as it is recorded and printed: compatibility forms as plain ones, and without what nobody sees or a terminal obeys.

    >>> visible("Dr.\u200b Adler\x1b[2J")
    'Dr. Adler[2J'
    """
    folded = unicodedata.normalize("NFKC", text)
    kept = (" " if character.isspace() else character for character in folded if character.isspace() or not _is_hidden(character))
    return " ".join("".join(kept).split())


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Cn"}


def has_letters(text: str) -> bool:
    """Whether there is something to read in a text."""
    return any(unicodedata.category(character).startswith("L") for character in text)


def is_the_gate(name: str) -> bool:
    """Whether a name is the gate's, or is drawn like it."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", name.casefold()) if unicodedata.category(one)[0] in "LN")
    return plain.translate(DRAWN_AS) == GATE


def overridden(decisions: Sequence[Decision], variant: Variant, *, by: str, reason: str) -> Decision:
    """A person's decision for a variant: with the gate's numbers where it judged this variant, without any where it did not.

    Raises InputRefused without a name or a reason that can be read, and for a name that is the gate's or looks like it.
    """
    name, why = visible(by), visible(reason)
    if not has_letters(name) or is_the_gate(name) or not has_letters(why):
        raise InputRefused(
            found=f"by = {by!a}, reason = {reason!a}", where=f"an override of {decisions[0].line}",
            do="say who decides, and why, in letters that can be seen: both are recorded; the gate's own name is nobody's",
        )  # fmt: skip
    judged = next((decision for decision in decisions if decision.challenger == variant), None)
    first = decisions[0]
    row = judged or replace(
        first, challenger=variant, claim="superiority", margin=0.0, num_pairs=0, num_clusters=0, num_informative_clusters=0,
        difference=None, ci_low=None, ci_high=None, p_value=None, minimum_detectable_difference=None, beats_the_floors=None,
        uses_the_image=None, image_difference=None, image_ci_low=None, image_ci_high=None,
    )  # fmt: skip
    said = f"the gate {SAID[judged.verdict]} this {variant}: {judged.reasons[0]}" if judged else f"the gate did not judge {variant}"
    return replace(row, verdict="promote", is_winner=True, decided_by=name, reasons=(why, said))


def write_override(directory: Path, decision: Decision) -> dict[str, Fact]:
    """Write the one row; returns who decided for what."""
    write_table(directory / PROMOTION_DECISIONS, Decision, [decision])
    return {"schema_version": SCHEMA_VERSION, "winner": decision.challenger, "decided_by": decision.decided_by}


def a_person_said_why(directory: Path) -> Outcome:
    """There is one decision, made by a named person who gave a reason."""
    rows = read_decisions(directory)
    astray = tuple(
        row.challenger for row in rows
        if not has_letters(row.decided_by) or is_the_gate(row.decided_by) or not row.reasons or not has_letters(row.reasons[0])
    )  # fmt: skip
    return Outcome(
        passed=len(rows) == 1 and not astray, found=f"{len(rows)} decisions, {len(astray)} without a name or a reason", offenders=astray
    )


RULES = (Rule(name="a_person_said_why", sentence="An override names who decided, and why.", holds=a_person_said_why),)
