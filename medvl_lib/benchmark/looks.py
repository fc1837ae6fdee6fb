"""Looks: how often a line's test set has been used to judge a challenger, and how much error that leaves for the next one.

In: the references of today's test set, the challenger, and the decisions that stand in the data root. Out: a ``Look`` with its number, and
the alpha of a look. A look is a challenger that was compared on at least half of the pairs that decide today: data that grow by some pairs
a week make no fresh test set. The same challenger on the same pairs, asked and judged in the same way, is the same look, whatever else is
judged in between; another metric, margin or length of answers, tried after a look, is a look of its own.

A test set wears out. With 2.5 % at each of 52 weekly looks a model without any gain is promoted with 73 % chance within a year. So the
gate's alpha is a budget for all looks, and look k gets alpha x 6 / (pi^2 k^2), which add up to alpha: online alpha-spending, valid however
the looks depend on each other, as looks at one set do (Foster and Stine 2008, JRSS B 70; Tian and Ramdas 2021, Stat Methods Med Res 30).
alpha / 2^k was not taken: it gives 50 % to the first look instead of 61 %, and 0.1 % to the tenth instead of 0.6 %.

What no budget covers is a challenger that was chosen because of its score on this very test set (Dwork et al. 2015, Science 349, 636).
Each line has a budget of its own. Whoever removes a promotion directory removes its looks: do not. Judging is ``promotion``'s.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from medvl_lib import prompts
from medvl_lib.benchmark.gate import Gate
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.provenance import PROVENANCE, Fact, digest, read_artifact
from medvl_lib.tables import Column, read_column, read_table, write_table
from medvl_lib.workspace import Workspace

REVISION = 3  # the pairs of every primary metric decide, not those of the first alone
JUDGED_PAIRS = "judged_pairs.parquet"
SAME_SET = 0.5  # share of today's pairs from which on an earlier decision was made on this test set
LOOK, CHALLENGER, TEST_SET, IS_COMPARED = "look", "challenger_data_version", "test_set", "is_compared"  # facts of a decision
WAY = "way_of_judging"  # another one


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """A pair that decided."""

    pair_id: Annotated[str, Column("the pair")]
    contents: Annotated[str, Column("hash of its id, question, wanted answer and facts")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A challenger held against others on a test set."""

    number: int
    """From 1: how many looks at this test set there were, this one included."""
    challenger: str
    """Data version of the adapter."""
    way: str
    """Identity of how it is asked, and of what decides."""
    pairs: tuple[JudgedPair, ...]

    @property
    def test_set(self) -> str:
        """Identity of exactly these pairs."""
        return _test_set(pair.contents for pair in self.pairs)


class _Earlier(NamedTuple):
    challenger: str
    way: str
    test_set: str
    number: int


def alpha_of(look: int, gate: Gate) -> float:
    """The two-sided error that a look may make: what the gate's confidence leaves for all looks, times 6 / (pi^2 look^2)."""
    return (1 - gate.confidence) * 6 / (math.pi * look) ** 2


def way_of(gate: Gate, evaluation: EvaluationSpec) -> str:
    """Identity of a way to ask and to judge: what could be tried until a challenger wins on the same pairs."""
    return digest([gate.primaries, gate.datasets, gate.candidates, gate.confidence, evaluation.max_answer_tokens, prompts.REVISION])


def judged_pairs(references: Path, gate: Gate) -> tuple[JudgedPair, ...]:
    """The pairs of the test split by which the gate decides, by whichever of its primary metrics, in the order of their ids."""
    deciding = [METRICS[name] for name in gate.primaries]
    found = [
        JudgedPair(pair_id=one.pair_id, contents=digest([one.pair_id, one.request, one.response, one.expected]))
        for one in read_table(references, Reference)
        if one.split == "test" and (not gate.datasets or one.dataset in gate.datasets)
        and any(metric.applies_to(one) for metric in deciding)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda pair: pair.pair_id))


def next_look(workspace: Workspace, line: str, challenger: str, way: str, pairs: Sequence[JudgedPair]) -> Look:
    """This look: the one that it was before, or else one more than there are of other challengers, ways to judge, or pairs."""
    contents = frozenset(pair.contents for pair in pairs)
    earlier = set(_earlier(workspace, line, contents))
    own = {one.number for one in earlier if one[:3] == (challenger, way, _test_set(contents))}
    others = {one[:3] for one in earlier}
    return Look(number=min(own) if own else 1 + len(others), challenger=challenger, way=way, pairs=tuple(pairs))


def _earlier(workspace: Workspace, line: str, contents: frozenset[str]) -> Iterable[_Earlier]:
    """The looks at this test set that stand in the data root; a decision that compared nothing was none."""
    for directory in workspace.step("promotion", line).glob("[!.]*"):
        if (directory / PROVENANCE).is_file() and (directory / JUDGED_PAIRS).is_file():
            facts = read_artifact(directory).facts
            seen = contents.intersection(read_column(directory / JUDGED_PAIRS, "contents"))
            if facts[IS_COMPARED] and len(seen) >= SAME_SET * len(contents):
                yield _Earlier(str(facts[CHALLENGER]), str(facts.get(WAY, "")), str(facts[TEST_SET]), int(facts[LOOK] or 0))


def _test_set(contents: Iterable[str]) -> str:
    return digest(sorted(contents))


def write_look(directory: Path, look: Look, *, is_compared: bool) -> dict[str, Fact]:
    """Write the pairs beside the decision; returns the facts by which later looks count this one."""
    write_table(directory / JUDGED_PAIRS, JudgedPair, look.pairs)
    return {LOOK: look.number, CHALLENGER: look.challenger, WAY: look.way, TEST_SET: look.test_set, IS_COMPARED: is_compared}
