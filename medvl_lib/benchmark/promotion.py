"""Promotion: may a candidate replace the champion? Promote, reject or inconclusive, with the reasons in words.

In: the scores of one evaluation, a gate, what the variants cost, and which look at this test set it is. Out: one ``Decision`` for each
candidate that answered. Candidates are judged in the gate's order, each against what would be served without it: the champion, or the
candidate before it that was promoted. Four bits, which have only to be no worse, are judged where no trained model stands. Each is judged
pair by pair on the test split alone, in this order (facts on evaluation, 6.3):

1. *Validity*: rivals and floors answered the very pairs that the candidate answered, hardly a score is missing, and neither candidate nor
   champion was trained on a subject of the test set, under another split (``leaks``).
2. *Decidability*: fewer than 50 pairs or 7 clusters decide nothing, whatever the numbers say: 5 documents cannot give p below 0.0625. Every
   interval and p is held to the alpha of this look, a share of the gate's error for all looks (``looks``).
3. *Rivals*: champion and base; before the first promotion also the model in four bits, on which the adapter stands. *Superiority*: the
   lower end of the paired interval over clusters lies above 0; an upper end below 0 rejects. The sign-flip p must agree, since the
   bootstrap alone is too narrow for few clusters (with no true difference its lower end lies above 0 in 8 % of cases at 5 clusters, 3.5 %
   at 50, 2.5 % from 100 on, measured); and up to 20 clusters must not all differ by the same amount. *Non-inferiority*, where the
   candidate has a margin: the lower end lies above minus the margin, and it needs less memory than the champion. Of several primary
   metrics see ``gate``.
4. *Floors*: the candidate beats every floor by interval, or it has shown nothing and is rejected.
5. *Answers use the image*: the candidate is better on the pictures as they are than on blank ones, and than on noise or another pair's
   where these were asked for. Without the blank ones nothing is promoted; as good without the picture rejects.
6. *Failures and guardrails*: not too many answers that cannot be read; no other metric, slice or cost, and
   no recall of the encoder that is served with it, is worse by more than its margin.

What decides nothing and has to be known stands among the reasons all the same, after those that decide: other metrics that got worse, rates
of failures that rose (what is made up among them), and datasets on which the answers do not beat those that need no model.
Everything else is inconclusive, with the smallest difference that these pairs could have shown. Serving something that is no better and
serving something that is worse by the margin are two errors, and the gate's error bounds each of them. Moving the pointer is not done here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from medvl_lib.benchmark import costs as costs_room
from medvl_lib.benchmark import findings as room
from medvl_lib.benchmark import leaks as leaks_room
from medvl_lib.benchmark import looks
from medvl_lib.benchmark import remarks as remarks_room
from medvl_lib.benchmark.comparisons import Answers, Comparisons
from medvl_lib.benchmark.costs import Cost
from medvl_lib.benchmark.findings import ORDER, Finding, Trial, Verdict
from medvl_lib.benchmark.gate import Candidate, Claim, Gate
from medvl_lib.benchmark.looks import Look, alpha_of, write_look
from medvl_lib.benchmark.slices import slices_of
from medvl_lib.benchmark.tables import SCHEMA_VERSION
from medvl_lib.benchmark.terms import Terms, write_terms
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.galleries import Rank
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.evaluation.scores import EVALUATED_PAIRS, SCORES, EvaluatedPair, Score
from medvl_lib.models.weights import FOUR_BIT_FORMS
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.tables import Column, read_table, write_table

REVISION = 10  # clusters are counted as the leaderboard does, and beside them those that have a say
REVISIONS = (REVISION, costs_room.REVISION, looks.REVISION, leaks_room.REVISION, statistics.REVISION, SCHEMA_VERSION)
PROMOTION_DECISIONS = "promotion_decisions.parquet"
GATE = "gate"  # who decides, where no person does
PLAIN: tuple[Variant, ...] = ("base", *FOUR_BIT_FORMS, "int8")  # a model as it came, at whatever width


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided of one candidate of one evaluation. Key: (fingerprint, challenger)."""

    line: Annotated[str, Column("the line that was judged")]
    evaluation_id: Annotated[str, Column("the evaluation that was judged")]
    gate_id: Annotated[str, Column("hash of the gate's values")]
    verdict: Annotated[Verdict, Column("promote, reject or inconclusive")]
    is_winner: Annotated[bool, Column("whether it is what this decision serves: the last of its candidates that was promoted")]
    decided_by: Annotated[str, Column("gate, or the name of the person who overrode it")]
    reasons: Annotated[tuple[str, ...], Column("why, in words, the deciding one first; a person's own words where one decided")]
    primary_metric: Annotated[str, Column("the metric that decides")]
    challenger: Annotated[Variant, Column("the variant that wants to be served")]
    claim: Annotated[Claim, Column("what it has to show: superiority, or non_inferiority by its margin")]
    margin: Annotated[float, Column("how much worse it may be; 0 where it has to be better")]
    champion: Annotated[Variant, Column("the variant that it is held against: what would be served without it")]
    look: Annotated[int, Column("which look at this test set it is: challengers that were compared on it, this one included")]
    alpha: Annotated[float, Column("two-sided error of this comparison: its share of what the gate allows all looks together")]
    is_worn: Annotated[bool, Column("whether the test set was looked at more often than the gate calls sound")]
    num_pairs: Annotated[int, Column("test pairs that both were scored on")]
    num_clusters: Annotated[int, Column("patients or documents that these pairs belong to")]
    num_informative_clusters: Annotated[
        int, Column("of these, those that have a say: in the others the primary metric wants nothing, and neither of the two said anything")
    ]
    difference: Annotated[float | None, Column("challenger minus champion, positive is better; null where they cannot be compared")]
    ci_low: Annotated[float | None, Column("lower end of its interval over clusters, of confidence 1 - alpha")]
    ci_high: Annotated[float | None, Column("upper end of its interval over clusters, of confidence 1 - alpha")]
    p_value: Annotated[
        float | None,
        Column(
            "of no difference at all: two-sided permutation over clusters, exact up to 20; where a margin was asked (non_inferiority) the "
            "interval decides, and this nothing"
        ),
    ]
    minimum_detectable_difference: Annotated[
        float | None, Column("true difference that this look would show with 80 % probability; null where the clusters show no spread")
    ]
    beats_the_floors: Annotated[bool | None, Column("whether it is better than every answer that needs no model; null: not decidable")]
    uses_the_image: Annotated[bool | None, Column("whether it is better on the pictures than on blank ones; null: not decidable")]
    image_difference: Annotated[
        float | None, Column("challenger on the pictures minus on blank ones, positive is better; null where blank ones were not shown")
    ]
    image_ci_low: Annotated[float | None, Column("lower end of its interval over clusters, of this look's confidence")]
    image_ci_high: Annotated[float | None, Column("upper end of its interval over clusters, of this look's confidence")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the gate knows besides the scores."""

    champion: Variant = "base"
    """Under which name what is served answered."""
    look: int = 1
    """From 1: how many looks at this test set there were, this one included."""
    leaks: Mapping[str, str]
    """Variant -> the sentence that says what it may have learned from, or that this is not known."""
    slices: Mapping[str, Sequence[str]]
    """Pair -> the slices that it is in."""
    costs: Mapping[Variant, Cost]
    ranks: Sequence[Rank] = ()
    """Of the test gallery, by each variant of the line's encoder."""


def decide(scores: Sequence[Score], gate: Gate, line: str, known: Circumstances) -> tuple[Decision, ...]:
    """The gate's verdict on each candidate that was scored, in the gate's order; the first one is judged whether it was scored or not.

    One that has only to be no worse is not held against what was trained and promoted: a gain that was shown is not traded for memory.
    Raises InputRefused when the scores are of several evaluations.
    """
    evaluations = sorted({score.evaluation_id for score in scores})
    if len(evaluations) != 1:
        raise InputRefused(
            found=f"scores of {len(evaluations)} evaluations: {', '.join(evaluations)}", where=f"scores of {line}",
            do="give the gate the scores of one evaluation: materialize the scores, then the promotion",
        )  # fmt: skip
    comparisons = Comparisons(scores=scores, gate=gate, slices=known.slices)
    standing, decisions = known.champion, list[Decision]()
    for number, candidate in enumerate(gate.candidates):
        rivals = _rivals(comparisons, candidate, standing)
        is_spared = candidate.claim == "non_inferiority" and standing not in (*PLAIN, candidate.variant)
        if is_spared or not rivals or (number and not comparisons.has(candidate.variant)):
            continue
        trial = Trial(
            comparisons=comparisons,
            gate=gate,
            candidate=candidate,
            rivals=rivals,
            alpha=alpha_of(known.look, gate),
            costs=known.costs,
            ranks=known.ranks,
        )
        decision = _decision(trial, known, line, evaluations[0])
        decisions.append(decision)
        if decision.verdict == "promote":
            standing = decision.challenger
    return tuple(_with_winner(decisions))


def _rivals(comparisons: Comparisons, candidate: Candidate, standing: Variant) -> tuple[Answers, ...]:
    """What would be served without the candidate, and base; where that is base, also four bits for one that has to be better."""
    is_first = candidate.claim == "superiority" and standing in {"base", candidate.variant}
    four_bits: tuple[Variant, ...] = tuple(form for form in FOUR_BIT_FORMS if is_first and comparisons.has(form))
    names: tuple[Variant, ...] = (standing, "base", *four_bits)
    return tuple(Answers(name) for name in dict.fromkeys(names) if name != candidate.variant)


def _decision(trial: Trial, known: Circumstances, line: str, evaluation_id: str) -> Decision:
    """One candidate's verdict."""
    gate, look, champion = trial.gate, known.look, trial.rivals[0].variant
    leaked = [known.leaks[name] for name in dict.fromkeys((trial.candidate.variant, champion)) if name in known.leaks]
    found = effect = None
    remarks: list[str] = []
    if problems := [*leaked, *room.invalid(trial)]:
        findings = [Finding("validity", "inconclusive", problem) for problem in problems]
    else:
        found, effect = room.deciding(trial), room.image_effect(trial)
        few = room.too_few(trial, found)
        findings = _findings(trial) if few is None else [few]
        remarks = [*remarks_room.remarks(trial, findings), _wear(gate, look)]
    difference = found and found.difference
    return Decision(
        line=line, evaluation_id=evaluation_id, gate_id=digest(gate), verdict=findings[0].verdict, is_winner=False, decided_by=GATE,
        reasons=(*(finding.reason for finding in findings), *remarks),
        primary_metric=found.metric if found else gate.primary_metric, challenger=trial.candidate.variant, claim=trial.candidate.claim,
        margin=trial.candidate.margin, champion=champion, look=look, alpha=found.alpha if found else trial.alpha,
        is_worn=look > gate.worn_after,
        num_pairs=difference.num_pairs if difference else 0, num_clusters=difference.num_clusters if difference else 0,
        num_informative_clusters=difference.num_informative if difference else 0,
        difference=difference and difference.difference, ci_low=difference and difference.ci_low, ci_high=difference and difference.ci_high,
        p_value=difference and difference.p_value,
        minimum_detectable_difference=difference and difference.minimum_detectable_difference,
        beats_the_floors=_answered(findings, "floor"), uses_the_image=_answered(findings, "image"),
        image_difference=effect and effect.difference, image_ci_low=effect and effect.ci_low, image_ci_high=effect and effect.ci_high,
    )  # fmt: skip


def _findings(trial: Trial) -> list[Finding]:
    """Every finding, the deciding ones first: a reject outweighs an inconclusive, that a promote."""
    is_better = room.superiority if trial.candidate.claim == "superiority" else room.non_inferiority
    found = [
        *(is_better(trial, rival) for rival in trial.rivals),
        *(room.saving(trial) if trial.candidate.claim == "non_inferiority" else ()),
        *(room.floor(trial, Answers(name)) for name in trial.gate.floors),
        *room.images(trial),
        room.failures(trial),
        *room.guardrails(trial),
    ]
    return sorted(found, key=lambda finding: ORDER.index(finding.verdict))


def _answered(findings: Sequence[Finding], topic: str) -> bool | None:
    """Whether everything that was found on a topic says promote; None where nothing was found, or something was not decidable."""
    verdicts = {finding.verdict for finding in findings if finding.topic == topic}
    return False if "reject" in verdicts else True if verdicts == {"promote"} else None


def _with_winner(decisions: Sequence[Decision]) -> list[Decision]:
    """The same; the last one that was promoted wins, since each was held against the winner before it."""
    promoted = [decision.challenger for decision in decisions if decision.verdict == "promote"]
    return [replace(decision, is_winner=decision.challenger == promoted[-1]) if promoted else decision for decision in decisions]


def _wear(gate: Gate, look: int) -> str:
    """The error that this look may make, and whether there were too many looks."""
    share = f"look {look} at this test set: {alpha_of(look, gate):.2%} of the {1 - gate.confidence:.2%} of error for all looks together"
    worn = f"; the set is worn, which {gate.worn_after} looks make it: collect fresh test documents"
    return share + (worn if look > gate.worn_after else "")


def winner_of(decisions: Sequence[Decision]) -> Decision | None:
    """What a decision serves; None where nothing was promoted."""
    return next((decision for decision in decisions if decision.is_winner), None)


def write_promotion(directory: Path, scores_directory: Path, terms: Terms, line: str, look: Look, known: Circumstances) -> dict[str, Fact]:
    """Decide on the scores and write a row for each candidate, and the terms; returns the first one's verdict and numbers, and who won."""
    scores = list(read_table(scores_directory / SCORES, Score))
    decisions = decide(scores, terms.gate, line, known)
    write_table(directory / PROMOTION_DECISIONS, Decision, decisions)
    write_terms(directory, terms)
    first, winner = decisions[0], winner_of(decisions)
    return {
        "schema_version": SCHEMA_VERSION, "winner": winner and winner.challenger, "verdict": first.verdict, "reason": first.reasons[0],
        "champion": first.champion, "num_pairs": first.num_pairs, "num_clusters": first.num_clusters,
        "num_informative_clusters": first.num_informative_clusters,
        "difference": first.difference, "ci_low": first.ci_low, "ci_high": first.ci_high,
        "p_value": first.p_value, "minimum_detectable_difference": first.minimum_detectable_difference,
        "image_difference": first.image_difference, "image_ci_low": first.image_ci_low, "image_ci_high": first.image_ci_high,
        "alpha": first.alpha, "is_worn": first.is_worn, "num_rows": len(decisions),
        **write_look(directory, look, is_compared=any(decision.difference is not None for decision in decisions)),
    }  # fmt: skip


def read_slices(scores_directory: Path) -> dict[str, list[str]]:
    """The slices of every evaluated pair, its language among them where the line has several."""
    return slices_of(read_table(scores_directory / EVALUATED_PAIRS, EvaluatedPair), across_datasets=True)


def read_decisions(directory: Path) -> tuple[Decision, ...]:
    """The decisions in a promotion directory, in the gate's order."""
    return tuple(read_table(directory / PROMOTION_DECISIONS, Decision))


# -- what must be true of them -----------------------------------------------------------------------------------------
def every_candidate_is_decided_once(directory: Path) -> Outcome:
    """There is a decision, each candidate has one, each has a reason, and at most one wins, which was promoted."""
    rows = read_decisions(directory)
    names, winners = [row.challenger for row in rows], [row for row in rows if row.is_winner]
    silent = tuple(row.challenger for row in rows if not row.reasons)
    twice = tuple(sorted({name for name in names if names.count(name) > 1}))
    astray = tuple(row.challenger for row in winners if row.verdict != "promote" or len(winners) > 1)
    is_sound = bool(rows) and not (silent or twice or astray) and bool(winners) == any(row.verdict == "promote" for row in rows)
    return Outcome(
        passed=is_sound, found=f"{len(rows)} candidates, {len(silent)} without a reason, {len(twice)} twice, {len(winners)} winners",
        offenders=(*silent, *twice, *astray),
    )  # fmt: skip


def _is_above(bound: float, difference: float | None, low: float | None, high: float | None) -> bool:
    return difference is not None and low is not None and high is not None and bound < low <= high


def _is_earned(row: Decision) -> bool:
    """Whether the numbers of a promotion carry it: both intervals, and enough pairs."""
    is_good_enough = _is_above(-row.margin, row.difference, row.ci_low, row.ci_high)
    uses_the_image = _is_above(0.0, row.image_difference, row.image_ci_low, row.image_ci_high)
    is_enough = row.num_pairs >= row.num_clusters >= row.num_informative_clusters >= 2
    return is_good_enough and uses_the_image and is_enough


def the_verdict_follows_the_numbers(directory: Path) -> Outcome:
    """A promotion has its interval over the champion, a positive one over blank pictures, and enough pairs; a verdict is one of three."""
    wrong: list[str] = []
    for row in read_decisions(directory):
        if row.verdict not in ORDER or (row.verdict == "promote" and not _is_earned(row)):
            intervals = f"interval from {row.ci_low} over {row.num_pairs} pairs, of the image from {row.image_ci_low}"
            wrong.append(f"{row.challenger}: {row.verdict}, {intervals}")
    return Outcome(passed=not wrong, found=f"{len(wrong)} verdicts that the numbers do not carry", offenders=tuple(wrong))


def the_test_set_is_not_worn(directory: Path) -> Outcome:
    """The test set was not looked at more often than the gate calls sound."""
    rows = read_decisions(directory)
    found = f"look {rows[0].look} at this test set, which may err in {rows[0].alpha:.2%}" if rows else "no decision"
    worn = tuple(row.line for row in rows[:1] if row.is_worn)
    return Outcome(passed=not worn, found=found + ("; it is worn: collect fresh test documents" if worn else ""), offenders=worn)


def beats_the_floors(directory: Path) -> Outcome:
    """What the line trains is better than every answer that needs no model; where that is not decidable, it has not been shown."""
    return _said_of_the_first(directory, "beats_the_floors")


def answers_use_the_image(directory: Path) -> Outcome:
    """What the line trains is better on the pictures than on blank ones; where that is not decidable, it has not been shown."""
    return _said_of_the_first(directory, "uses_the_image")


def _said_of_the_first(directory: Path, column: str) -> Outcome:
    rows = read_decisions(directory)[:1]
    said = {None: "not decidable", True: "yes", False: "no"}
    found = "; ".join(f"{row.challenger}: {said[getattr(row, column)]} ({row.num_pairs} pairs)" for row in rows)
    astray = tuple(row.challenger for row in rows if getattr(row, column) is not True)
    return Outcome(passed=bool(rows) and not astray, found=found or "no decision", offenders=astray)


RULES = (
    Rule(
        name="every_candidate_is_decided_once", sentence="Each candidate has one decision, which says why, and at most one of them wins.",
        holds=every_candidate_is_decided_once,
    ),
    Rule(
        name="the_verdict_follows_the_numbers",
        sentence="Nothing is promoted unless its interval over the champion allows it, and pictures help it by an interval above zero.",
        holds=the_verdict_follows_the_numbers,
    ),
    Rule(
        name="beats_the_floors", sentence="What was trained is better than every answer that needs no model.", holds=beats_the_floors,
        is_blocking=False,
    ),
    Rule(
        name="answers_use_the_image", sentence="What was trained is better on the pictures than on blank ones.",
        holds=answers_use_the_image, is_blocking=False,
    ),
    Rule(
        name="the_test_set_is_not_worn",
        sentence="The test set was not looked at so often that only large differences can still be seen on it.",
        holds=the_test_set_is_not_worn,
        is_blocking=False,
    ),
)  # fmt: skip
