"""The results of an evaluation as blocks: verdict, comparison, cost, controls, slices, closed answers and examples.

In: a ``Report``. Out: the blocks of one section each. Changes against the base model are turned into percentages here, for the eye alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from medvl_lib.benchmark.gate import Candidate
from medvl_lib.benchmark.promotion import Decision, winner_of
from medvl_lib.benchmark.slices import ALL
from medvl_lib.benchmark.tables import BenchmarkRow, LatencyRow
from medvl_lib.report.blocks import NONE, Block, Cell, Figure, Quotes, Table, interval, megabytes, percent, place, share, table, words
from medvl_lib.report.content import Confusions, Report
from medvl_lib.report.figures import by_metric, interval_figures, scale, where_measured, whole
from medvl_lib.report.pictures import Mark, draw_intervals

SHOWN_OFFENDERS = 3  # of a check that failed, beside the verdict; each stands in the check's own metadata
P_VALUES = {"superiority": "p value", "non_inferiority": "p value of no difference at all, which decides nothing here"}
"""What p is of, by what is claimed: where a margin is asked the interval decides."""


def _test_rows(report: Report) -> list[BenchmarkRow]:
    """What the gate and the leaderboard may look at."""
    return sorted(
        (row for row in report.benchmark_rows if row.split == "test"), key=lambda row: (row.condition != "as_is", place(row.variant))
    )


def verdict(report: Report) -> Iterator[Block]:
    """What is served because of the evaluation; each candidate's verdict, its numbers as a picture and a table, and every reason."""
    decision, winner = report.decision, winner_of(report.decisions)
    if report.in_force:
        person, served = report.in_force.decided_by, words(report.in_force.challenger)
        yield f"Decided by {person}, for {served}: {report.in_force.reasons[0]}. That is in force; what the gate said stays on record:"
    yield f"{decision.verdict.capitalize()}: {decision.reasons[0]}"
    yield from _failed(report)
    yield f"What the gate chose to serve: {words(winner.challenger)}." if winner else "The gate leaves in place what was served."
    for one in report.overrides:
        if one != report.in_force:
            yield f"{one.decided_by} had decided for {words(one.challenger)}: {one.reasons[0]}. That is not in force any more."
    content = f" Its weights have the content hash {report.served_data_version}." if report.served_data_version else ""
    yield f"When this was written, {report.served}.{content}"
    if report.decided_otherwise:
        yield f"The settings are others by now: {report.decided_otherwise}. What stands here was decided under the settings of then."
    yield _parity(report)
    for candidate in report.decisions:
        yield from _candidate(candidate, report.decided_at)


def _failed(report: Report) -> Iterator[str]:
    """How many checks failed, and what each of them found: whoever reads the verdict must not have to look for them."""
    failed = [(record, verdict) for record in report.records for verdict in record.verdicts if not verdict.outcome.passed]
    if not failed:
        return
    yield f"{len(failed)} check{'' if len(failed) == 1 else 's'} failed: {', '.join(verdict.rule for _, verdict in failed)}."
    for record, verdict in failed:
        offenders = "; ".join(verdict.outcome.offenders[:SHOWN_OFFENDERS])
        blocks = "it blocks" if verdict.is_blocking else "it does not block"
        yield f"{verdict.rule} of {record.name}/{record.step} ({blocks}): {verdict.outcome.found}" + (f": {offenders}" if offenders else "")


def _parity(report: Report) -> str:
    """On how many pairs what would be served was asked again, and how often each form said the same."""
    found = next((record for record in report.records if record.step == "parity"), None)
    if found is None:
        return "Whether what would be served says what was judged had not been asked when this was written."
    facts = found.facts
    shares = {name.removeprefix("equal_share_"): value for name, value in facts.items() if name.startswith("equal_share_")}
    same = ", ".join(f"{name.replace('_', ' against ')} {value:.1%}" for name, value in shares.items() if isinstance(value, float | int))
    failed = [verdict.rule for verdict in found.verdicts if not verdict.outcome.passed]
    return (
        f"Parity: what would be served was asked again on {facts.get('num_pairs', 'no')} test pairs of {facts.get('num_clusters', 'no')} "
        f"patients or documents. The same text: {same or 'not counted'}. Not passed: {', '.join(failed) or 'nothing'}."
    )


def rule(report: Report) -> Iterator[Block]:
    """By which rule it was decided: every number of the gate, in words."""
    if report.terms is None:
        yield "By which rule it was decided was not kept: the decision is of an earlier version of MedVL."
        return
    gate, decision = report.terms.gate, report.decision
    yield (
        f"A candidate is held pair by pair against what would be served without it, on the test split of "
        f"{', '.join(gate.datasets) or 'every dataset that has the primary metric'}. It also has to beat every floor "
        f"({', '.join(map(words, gate.floors))}), and to be better on the pictures than on blank ones."
    )
    yield table("rule", "The gate's rule, as it was when it was decided", ("what", "rule"), (
        ("primary metric", gate.primary_metric),
        *(("may decide as well", name) for name in gate.further_primaries),
        *((f"candidate {words(one.variant)}", _claim(one)) for one in gate.candidates),
        *(
            ("guardrail", f"{rail.metric} in {rail.slice} not worse than the champion's by {rail.margin} or more")
            for rail in gate.guardrails
        ),
        *(
            ("guardrail", f"{words(rail.direction)} recall at {rail.cutoff} of the encoder not worse by {rail.margin} or more")
            for rail in gate.recall_guardrails
        ),
        *(("cost limit", f"{words(limit.measure)} at most {limit.max_ratio} times the champion's") for limit in gate.cost_limits),
        ("fewest test pairs", gate.min_pairs), ("fewest patients or documents", gate.min_clusters),
        ("confidence, over all looks at one test set together", gate.confidence),
        ("looks at this test set so far, this one included", decision.look), ("error that this look may make", decision.alpha),
        ("looks after which a test set is worn", gate.worn_after),
        ("largest share of answers that fail", gate.max_failed_share), ("largest share without a score", gate.max_unscored_share),
        ("longest answer in tokens", report.terms.evaluation.max_answer_tokens),
        ("asked as well under", ", ".join(map(words, report.terms.evaluation.controls)) or "nothing else"),
    ))  # fmt: skip


def _claim(candidate: Candidate) -> str:
    """What a candidate has to show."""
    if candidate.claim == "superiority":
        return "must be better"
    return f"may be worse by less than {candidate.margin}, if it needs less memory"


def _candidate(decision: Decision, decided_at: str) -> Iterator[Block]:
    """One candidate's decision."""
    name = decision.challenger
    rows = [
        (f"{words(name)} minus {words(decision.champion)}", decision.difference, decision.ci_low, decision.ci_high),
        (f"{words(name)}: picture minus blank", decision.image_difference, decision.image_ci_low, decision.image_ci_high),
    ]
    marks = [Mark(label=label, mean=mean, low=low, high=high, is_emphasized=True) for label, mean, low, high in rows if mean is not None]
    if marks:
        caption = f"Paired differences by {words(decision.primary_metric)} with the gate's intervals; what lies right of 0 is better"
        yield Figure(svg=draw_intervals(marks, title=caption, is_difference=True), caption=caption)
    asked = f"may be worse by less than {decision.margin}" if decision.margin else "must be better"
    yield table(
        f"decision-{name}", f"{name} against {decision.champion} by {decision.primary_metric}: it {asked}", ("what", "value"), (
            ("verdict", decision.verdict),
            *((f"{label}{end}", share(value, signed=True)) for label, *values in rows
              for end, value in zip(("", ": interval from", ": interval to"), values, strict=True)),
            (P_VALUES[decision.claim], decision.p_value),
            ("smallest difference that could be shown", decision.minimum_detectable_difference),
            ("better than every floor", _yes_or_no(decision.beats_the_floors)), ("uses the picture", _yes_or_no(decision.uses_the_image)),
            ("test pairs", decision.num_pairs), ("patients or documents", decision.num_clusters),
            ("of these, those in which something is wanted or was said", decision.num_informative_clusters),
            ("look at this test set", decision.look), ("decided at", decided_at),
        ),
    )  # fmt: skip
    caption = f"Every reason for {decision.verdict} on {name}, the deciding one first"
    yield table(f"reasons-{name}", caption, ("number", "reason"), enumerate(decision.reasons, start=1))


def _yes_or_no(answer: bool | None) -> str:
    return "not decidable" if answer is None else "yes" if answer else "no"


def comparison(report: Report) -> Iterator[Block]:
    """The three-way table of base, NF4 and adapter, with further variants, for each dataset and metric."""
    rows = [row for row in whole(_test_rows(report)) if row.condition == "as_is" and not row.variant.startswith("floor_")]
    yield from map(compared, by_metric(rows, report.decision.primary_metric))
    yield (
        "Intervals are 95 %, by bootstrap over patients or documents. Whether two of them overlap is no test: the gate compares pair by "
        "pair. A percentage is shown for reading only."
    )


def goals(report: Report) -> Iterator[Block]:
    """Figures of the requirement document beside what was measured, each with its exact definition; nothing where the line has none."""
    if not report.goals:
        return
    yield "The requirement document hoped for these figures without saying how they are measured. The gate does not look at them."
    yield table(
        "goals", "What was hoped for, and what was measured of the trained adapter on the test split",
        ("hoped for", "measured by", "met when", "dataset", "value", "from", "to", "pairs", "met"), (
            (
                row.wanted, row.metric or f"{row.stage}: held-out loss", row.bound, row.dataset or NONE, share(row.value),
                share(row.ci_low), share(row.ci_high),
                NONE if row.num_pairs is None else row.num_pairs, "not measured" if row.is_met is None else "yes" if row.is_met else "no",
            ) for row in report.goals
        ),
    )  # fmt: skip
    meant = dict.fromkeys((row.wanted, row.definition) for row in report.goals)
    yield table("goals-defined", "What exactly is measured for each", ("hoped for", "definition"), meant)


def compared(rows: Sequence[BenchmarkRow]) -> Table:
    """The as-is rows of one metric on one dataset, each beside that of base."""
    first, base = rows[0], next((row.mean for row in rows if row.variant == "base"), None)
    key = f"compared-{first.dataset}-{first.metric}" + ("" if first.slice == ALL else f"-{first.slice}")
    return table(
        key, f"{first.metric} on {where_measured(first)}, test split ({scale(first)})",
        ("variant", "mean", "from", "to", "minus base", "change", "pairs", "clusters", "unscored", "empty", "wrong language", "cut",
         "note on the interval"), (
            (
                words(row.variant), share(row.mean), share(row.ci_low), share(row.ci_high), *_against(row, base), row.num_pairs,
                row.num_clusters, row.num_unscored, row.num_empty, row.num_wrong_language, row.num_cut, row.interval_note or "",
            ) for row in rows
        ),
    )  # fmt: skip


def _against(row: BenchmarkRow, base: float | None) -> tuple[Cell, Cell]:
    """A mean minus that of base, and the change in percent; nothing for base itself."""
    if base is None or row.mean is None or row.variant == "base":
        return share(None), percent(None)
    return share(row.mean - base, signed=True), percent(_change(row.mean, base))


def _change(value: float | None, base: float | None) -> float | None:
    """Percent that ``value`` is above ``base``; None where there is nothing to compare with."""
    return 100 * (value / base - 1) if base and value is not None else None


def cost(report: Report) -> Iterator[Block]:
    """Memory of each variant, and seconds per answer on each dataset."""
    memory = sorted(report.memory, key=lambda row: place(row.variant))
    base = next((row.memory_after_load_bytes for row in memory if row.variant == "base"), None)
    yield table(
        "memory", "Memory in 10^6 bytes, each variant alone in a fresh process",
        ("variant", "precision", "after loading", "change", "peak", "adapter", "seconds to load"), (
            (
                words(row.variant), _precision(report)[row.variant], megabytes(row.memory_after_load_bytes),
                percent(_change(row.memory_after_load_bytes, base)), megabytes(row.memory_peak_bytes), megabytes(row.adapter_bytes),
                row.load_seconds,
            ) for row in memory
        ),
    )  # fmt: skip
    timed = [row for row in report.latencies if row.split == "test" and row.condition == "as_is"]
    for dataset, rows in groupby(sorted(timed, key=lambda row: (row.dataset, place(row.variant))), lambda row: row.dataset):
        yield _latencies(dataset, list(rows))


def _precision(report: Report) -> Mapping[str, str | None]:
    return {row.variant: row.precision for row in report.evaluations}


def _latencies(dataset: str, rows: Sequence[LatencyRow]) -> Table:
    base = next((row.mean_seconds_per_answer for row in rows if row.variant == "base"), None)
    return table(
        f"latency-{dataset}", f"Seconds per answer on {dataset}: the wall time of a batch by its answers",
        ("variant", "mean", "change", "median", "95th percentile", "slowest", "answers", "batches", "batch size", "tokens per answer"), (
            (
                words(row.variant), row.mean_seconds_per_answer, percent(_change(row.mean_seconds_per_answer, base)),
                row.p50_seconds_per_answer, row.p95_seconds_per_answer, row.max_seconds_per_answer, row.num_answers, row.num_batches,
                row.batch_size, row.mean_answer_tokens,
            ) for row in rows
        ),
    )  # fmt: skip


def controls(report: Report) -> Iterator[Block]:
    """For each dataset and metric, everyone's interval on one axis, the floors' too."""
    yield (
        "A floor needs no model. The empty one says nothing; the constant one always the commonest training answer, or of reports the most "
        "typical; the random one another pair's answer; the majority's what is mostly answered to the same question, or of reports the "
        "most typical of those that name what most of them name: the report that is always normal, where most are."
    )
    yield from interval_figures(whole(_test_rows(report)), report.decision.primary_metric)


def encoder(report: Report) -> Iterator[Block]:
    """How often the encoder finds the right text and picture, beside what chance and the class alone would reach, and what it costs."""
    if not report.retrievals:
        return
    first = report.retrievals[0]
    yield table(
        "retrieval", f"Recall among the test pictures and texts of {first.num_groups} patients or documents, equal ones counted once; "
        "'class alone' is who knows the class and nothing else",
        (
            "direction", "k", "encoder", "queries", "candidates", "recall", "interval from", "interval to", "note", "chance", "class alone",
            "median rank",
        ), (
            (
                words(row.direction), row.cutoff, row.variant, row.num_queries, row.gallery_size, row.recall, row.ci_low,
                row.ci_high, row.interval_note or "", row.chance, row.class_only, row.median_rank,
            )
            for row in sorted(report.retrievals, key=lambda row: (row.direction, row.cutoff, row.variant))
        ),
    )  # fmt: skip
    yield table(
        "encoder-speed", "What embedding costs: one input alone, and all of them in batches",
        ("encoder", "input", "timed alone", "median seconds", "95th percentile", "batch", "inputs per second"), (
            (row.variant, row.input, row.num_timed, row.p50_seconds, row.p95_seconds, row.batch_size, row.inputs_per_second)
            for row in report.encoder_speeds
        ),
    )  # fmt: skip


def slices(report: Report) -> Iterator[Block]:
    """The gate's metric by slice, for each variant."""
    rows = [
        row for row in _test_rows(report)
        if row.slice != ALL and row.condition == "as_is" and row.metric == report.decision.primary_metric
        and not row.variant.startswith("floor_")
    ]  # fmt: skip
    variants = list(dict.fromkeys(row.variant for row in rows))
    for dataset, mine in groupby(sorted(rows, key=lambda row: (row.dataset, row.slice)), lambda row: row.dataset):
        found = {name: {row.variant: row for row in group} for name, group in groupby(mine, lambda row: row.slice)}
        yield table(
            f"slices-{dataset}", f"{report.decision.primary_metric} on {dataset} by slice: mean and 95 % interval",
            ("slice", "pairs", "clusters", *map(words, variants)), (
                (
                    name, max(row.num_pairs for row in by.values()), max(row.num_clusters for row in by.values()),
                    *(_interval_cell(by.get(variant)) for variant in variants),
                )
                for name, by in found.items()
            ),
        )  # fmt: skip


def _interval_cell(row: BenchmarkRow | None) -> Cell:
    """Mean and interval in one cell; the number behind it is the mean."""
    if row is None:
        return Cell(text=NONE)
    note = f"; {row.interval_note}" if row.interval_note else ""
    return Cell(text=interval(row.mean, row.ci_low, row.ci_high) + note, value=row.mean)


def confusion(report: Report) -> Iterator[Block]:
    """A matrix for each label set, and each variant that answered closed questions with it or described pictures of its classes."""
    for matrix in sorted(report.confusions, key=lambda found: (found.dataset, not found.labels, found.labels, place(found.variant))):
        if not matrix.variant.startswith("floor_"):
            yield _matrix(matrix)


def _matrix(matrix: Confusions) -> Table:
    said = tuple(next(iter(matrix.counts.values())))
    labels = " or ".join(matrix.labels) or "choices that few questions have"
    return table(
        f"confusion-{matrix.dataset}-{matrix.variant}-{'-'.join(matrix.labels)}",
        f"{words(matrix.variant)} on {matrix.dataset}, {labels}: number of pairs",
        ("wanted", *(f"said {word}" for word in said)), ((wanted, *counts.values()) for wanted, counts in matrix.counts.items()),
    )  # fmt: skip


def examples(report: Report) -> Iterator[Block]:
    """What is quoted of the pairs, and a sentence for each dataset of which nothing may be."""
    metric = report.decision.primary_metric
    if not report.examples.lowest:
        yield f"No test pair that may be shown has a score of {metric}."
    else:
        yield Quotes(title=f"Where the adapter scored lowest by {metric}", examples=report.examples.lowest)
        if report.examples.lost:
            yield Quotes(title=f"Where it lost most against base by {metric}", examples=report.examples.lost)
        else:
            yield f"On no shown test pair did the adapter score below base by {metric}."
    for withheld in report.examples.withheld:
        yield (
            f"No text, picture or answer of {withheld.dataset} under the licence {withheld.licence!r} is shown "
            f"({withheld.num_pairs} test pairs): the data card does not say that they may be."
        )
