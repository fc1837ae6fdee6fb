"""The labeler: a report's mentions, put together into one state for each observation."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from medvl_lib.chexpert.assertions import Assertion, assertion
from medvl_lib.chexpert.observations import DEVICES, NO_FINDING, OBSERVATIONS, State
from medvl_lib.chexpert.phrases import MENTION, is_unmentioned, may_mention, named
from medvl_lib.chexpert.sentences import clauses, cleaned, sentences

REVISION = 1  # first version
RULE_SET = f"medvl-chexpert-rules-{REVISION}"
"""Stands beside every result: labels of two rule sets are never in one number."""

_HEART_FAILURE = ("heart failure", "chf")


def _mentions(text: str) -> Iterator[tuple[str, Assertion]]:
    """Each mention of an observation with what is said of it."""
    for sentence in sentences(cleaned(text)):
        yield from _of_sentence(sentence)


@lru_cache(maxsize=4096)
def _of_sentence(sentence: str) -> tuple[tuple[str, Assertion], ...]:
    """Kept, since reports say the same things in the same words: what is normal is said of most patients."""
    return tuple(said for clause in clauses(sentence) for said in _of_clause(clause)) if may_mention(sentence) else ()


def _of_clause(clause: str) -> Iterator[tuple[str, Assertion]]:
    for found in MENTION.finditer(clause):
        observations, kind = named(found[0])
        mentioned = [name for name in observations if not is_unmentioned(name, clause, found.start(), found.end())]
        if not mentioned:
            continue
        said = assertion(clause, found.start(), found.end(), kind)
        for name in mentioned:
            yield name, said
        if found[0] in _HEART_FAILURE and said != "absent":
            yield "Cardiomegaly", "uncertain"


def _together(said: set[Assertion]) -> State:
    """Several mentions of one observation: what is stated once is there; open is more than denied."""
    return "present" if "present" in said else "uncertain" if "uncertain" in said else "absent" if said else "not_mentioned"


def label_report(text: str) -> Mapping[str, State]:
    """The state of each observation in a report, in the order of ``OBSERVATIONS``.

    Heart failure leaves cardiomegaly open. No Finding is present where nothing but devices is present or uncertain, also in an empty text,
    and not mentioned otherwise; diseases that are none of the observations (a hernia, COPD) stand against it. Irvin et al. 2019, section
    3; the aggregation of chexpert-labeler @ 44ddeb3.

    >>> [name for name, state in label_report("No effusion. Possible edema.").items() if state == "uncertain"]
    ['Edema']
    """
    said: dict[str, set[Assertion]] = {name: set() for name in OBSERVATIONS}
    for name, one in _mentions(text):
        said[name].add(one)
    states: dict[str, State] = {name: _together(found) for name, found in said.items()}
    has_finding = any(state in ("present", "uncertain") for name, state in states.items() if name != DEVICES)
    states[NO_FINDING] = "not_mentioned" if has_finding else "present"
    return states
