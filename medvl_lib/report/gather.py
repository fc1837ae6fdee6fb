"""Gather: one evaluation's directories as one ``Report``.

In: a benchmark directory and the decision on the same scores. Everything else is found by provenance: the very directories that these were
made from, and what was made of these since: parity, what is served. Out: the value. Pairs are quoted only where the caller says that they
may be.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvl_lib import audit
from medvl_lib.benchmark import override
from medvl_lib.benchmark.promotion import Decision, read_decisions
from medvl_lib.benchmark.publish import has_passed
from medvl_lib.benchmark.tables import TABLES, EvaluationRow
from medvl_lib.benchmark.terms import Terms, otherwise, read_terms
from medvl_lib.errors import InputMissing
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.files import read_json
from medvl_lib.pointer import Served, pointer_id, read_pointer, told
from medvl_lib.provenance import PROVENANCE, VERDICTS, Artifact, Outcome, Verdict, ancestor, digest, read_artifact, require_intact
from medvl_lib.report import quotes
from medvl_lib.report.content import REVISION, Audit, AuditedPart, MetricNote, RatedSheet, Record, Report
from medvl_lib.reviews.tables import ITEMS, RATING_SUMMARIES, RatingSummary
from medvl_lib.reviews.written import reviews_of
from medvl_lib.tables import num_rows, read_table
from medvl_lib.workspace import Workspace

AFTER = ("parity", "served_model", "report")  # the steps that follow a decision, each with checks of its own
OWN = ("report",)  # what a report that is a step's cannot tell of: it is judged once it is written
HANDED_OUT = "review_sheets"  # no step of the graph
OTHER_VERSION = "(defined by another version of MedVL)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The two ends of an evaluation: its means, and the decision on them."""

    benchmark: Artifact
    promotion: Artifact


def find(workspace: Workspace, line: str, evaluation_id: str | None = None) -> Judged:
    """The current evaluation of a line, or a named one, of which all blocking checks passed.

    Raises InputMissing where it was not measured, or not decided on.
    """
    benchmark = _current(workspace, line) if evaluation_id is None else _named(workspace, line, evaluation_id)
    scores = benchmark.inputs[f"scores/{line}"]
    decided = [found for found in _written(workspace, "promotion", line) if found.inputs.get(f"scores/{line}") == scores]
    if not decided:
        raise InputMissing(
            found=f"no decision on evaluation {benchmark.facts['evaluation_id']}", where=str(workspace.step("promotion", line)),
            do=f"materialize {line}/promotion",
        )  # fmt: skip
    return Judged(benchmark=benchmark, promotion=_last(decided))


def _written(workspace: Workspace, step: str, line: str) -> list[Artifact]:
    """What a step wrote for a line, and passed."""
    found = [read_artifact(path) for path in workspace.written(step) if path.parent.name == line]
    return [artifact for artifact in found if has_passed(artifact)]


def _last(artifacts: list[Artifact]) -> Artifact:
    return max(artifacts, key=lambda found: (read_json(found.directory / PROVENANCE)["finished_at"], found.fingerprint))


def _current(workspace: Workspace, line: str) -> Artifact:
    pointer = workspace.current("benchmark", line)
    if not pointer.is_file():
        raise InputMissing(
            found=f"no evaluation of {line} has passed its checks yet", where=str(pointer), do=f"materialize {line}/benchmark"
        )
    return read_artifact(workspace.directory("benchmark", line, read_json(pointer)["fingerprint"]))


def _named(workspace: Workspace, line: str, evaluation_id: str) -> Artifact:
    measured = _written(workspace, "benchmark", line)
    found = [artifact for artifact in measured if artifact.facts["evaluation_id"] == evaluation_id]
    if not found:
        known = ", ".join(sorted({str(artifact.facts["evaluation_id"]) for artifact in measured}))
        raise InputMissing(
            found=f"no evaluation {evaluation_id!r}", where=str(workspace.step("benchmark", line)),
            do=f"name one of {known}" if known else f"materialize {line}/benchmark",
        )  # fmt: skip
    return _last(found)


def gather(workspace: Workspace, judged: Judged, shown: Mapping[str, Sequence[str]], now: Terms, without: Collection[str] = ()) -> Report:
    """Everything that is known of an evaluation.

    ``shown`` names the datasets whose rows, pictures and answers may be shown, and the licences under which they may be; ``now`` is
    what the settings say today; ``without`` names steps after the decision that the report leaves out. Raises InputMissing where a
    directory that it was made from is gone, InputRefused where one is damaged.
    """
    line = judged.benchmark.name
    predictions = ancestor(workspace, judged.benchmark, "predictions", line)
    scores = ancestor(workspace, judged.benchmark, "scores", line)
    chat, audited = (ancestor(workspace, predictions, step, line) for step in ("chat", "audit"))
    rated = reviews_of(workspace, str(judged.benchmark.facts["evaluation_id"]))
    for artifact in (judged.benchmark, judged.promotion, predictions, scores, chat, audited, *rated):
        require_intact(artifact)
    decisions = read_decisions(judged.promotion.directory)
    tables: dict[str, tuple[Any, ...]] = {name: _table(judged.benchmark.directory, name) for name in TABLES if name != "scores"}
    answered = quotes.Answered(
        predictions=predictions.directory,
        scores=scores.directory,
        chat=chat.directory,
        images=workspace.images,
        metric=decisions[0].primary_metric,
    )
    lineage = _lineage(workspace, [judged.benchmark, judged.promotion, *rated], line, without)
    overrides, pointer = _overrides(workspace, judged), read_pointer(workspace, line)
    return Report(
        revision=REVISION, line=line, evaluation_id=str(judged.benchmark.facts["evaluation_id"]), decisions=decisions,
        overrides=tuple(overrides.values()), in_force=overrides.get(pointer.decision) if pointer else None,
        served=told(workspace, line), served_data_version=pointer.data_version if pointer else _base_of(tables["evaluations"]),
        has_moved=_has_moved(lineage, pointer),
        decided_at=read_json(judged.promotion.directory / PROVENANCE)["finished_at"],
        terms=read_terms(judged.promotion.directory), decided_otherwise=otherwise(judged.promotion.directory, now),
        audit=_audit(audited.directory), metrics=_metrics(tables["evaluations"][0].metric_versions),
        confusions=quotes.confusions(answered), examples=quotes.examples(answered, shown),
        rated_sheets=tuple(map(_rated_sheet, rated)), rating_summaries=tuple(_ratings(rated)),
        records=tuple(map(_record, lineage)), awaited=tuple(step for step in AFTER if step not in {one.step for one in lineage}), **tables,
    )  # fmt: skip


def _base_of(evaluations: Iterable[EvaluationRow]) -> str | None:
    """Identity of the base model of an evaluation: what is served where nothing was promoted."""
    return next((row.weights_data_version for row in evaluations if row.variant == "base"), None)


def standing(workspace: Workspace, judged: Judged, now: Terms) -> str:
    """Identity of what a step's report tells beside its inputs: every verdict, what follows the decision, and what is served."""
    line = judged.benchmark.name
    rated = reviews_of(workspace, str(judged.benchmark.facts["evaluation_id"]))
    lineage = _lineage(workspace, [judged.benchmark, judged.promotion, *rated], line, OWN)
    return digest([
        [[one.key, one.fingerprint, tuple(_verdicts(one))] for one in lineage], list(_overrides(workspace, judged)),
        told(workspace, line), otherwise(judged.promotion.directory, now),
    ])  # fmt: skip


def _has_moved(lineage: Iterable[Artifact], pointer: Served | None) -> bool:
    """Whether what is served is not what was checked after this decision; not where it was never checked."""
    checked = [one.facts["pointer"] for one in lineage if one.step == "served_model"]
    return bool(checked) and checked[-1] != pointer_id(pointer)


def _overrides(workspace: Workspace, judged: Judged) -> dict[str, Decision]:
    """What persons decided on this very decision of the gate, by fingerprint, the newest last."""
    mark = judged.promotion.fingerprint
    made = [found for found in _written(workspace, override.STEP, judged.promotion.name) if found.inputs.get(judged.promotion.key) == mark]
    made.sort(key=lambda found: (read_json(found.directory / PROVENANCE)["finished_at"], found.fingerprint))
    return {found.fingerprint: row for found in made for row in read_decisions(found.directory)}


def _ratings(rated: Iterable[Artifact]) -> Iterator[RatingSummary]:
    for reviews in rated:
        yield from read_table(reviews.directory / RATING_SUMMARIES, RatingSummary)


def _rated_sheet(reviews: Artifact) -> RatedSheet:
    counted = ("num_items_rated", "num_raters", "num_comments")
    return RatedSheet(
        sheet_id=reviews.name, num_items=num_rows(reviews.directory / ITEMS), **{name: int(reviews.facts[name] or 0) for name in counted}
    )


def _table(directory: Path, name: str) -> tuple[Any, ...]:
    model: type[Any] = TABLES[name]
    return tuple(read_table(directory / f"{name}.parquet", model))


def _audit(directory: Path) -> Audit:
    rows = query(
        """
        select dataset, split, count(*), avg(num_tokens), max(num_tokens), avg(num_image_tokens), avg(num_target_tokens),
               min(glyph_height_pixels)
        from audit group by dataset, split order by dataset, list_position(['train', 'validation', 'test', 'benchmark'], split)
        """,
        {"audit": directory / audit.AUDIT},
    )
    parts = (
        AuditedPart(
            dataset=dataset, split=split, num_conversations=count, mean_tokens=mean, longest_tokens=longest, mean_image_tokens=image,
            mean_target_tokens=target, smallest_glyph_pixels=glyph,
        ) for dataset, split, count, mean, longest, image, target, glyph in rows
    )  # fmt: skip
    return Audit(limits=read_json(directory / audit.SPEC), parts=tuple(parts))


def _metrics(versions: dict[str, str]) -> tuple[MetricNote, ...]:
    """Each metric that was scored; its definition is today's, and is left out where the version is another one."""
    notes: list[MetricNote] = []
    for name, version in versions.items():
        known = METRICS.get(name)
        is_this = known is not None and str(known.version) == version
        notes.append(MetricNote(
            name=name, version=version, is_higher_better=known is None or known.is_higher_better, highest=known.highest if known else 1.0,
            definition=known.definition if known and is_this else OTHER_VERSION, source=known.source if known and is_this else "",
        ))  # fmt: skip
    return tuple(notes)


def _lineage(workspace: Workspace, ends: Iterable[Artifact], line: str, without: Collection[str]) -> list[Artifact]:
    """Every directory behind the decision and the ratings, inputs before what was made of them, and what else was made of these."""
    found: dict[str, Artifact] = {}

    def visit(artifact: Artifact) -> None:
        for key, fingerprint in artifact.inputs.items():
            if f"{key}/{fingerprint}" not in found:
                step, name = key.split("/")
                visit(read_artifact(workspace.directory(step, name, fingerprint)))
        found[f"{artifact.key}/{artifact.fingerprint}"] = artifact

    for end in ends:
        visit(end)
    others = [read_artifact(path) for path in workspace.written_for(line) if (path / PROVENANCE).is_file()]
    others = [other for other in others if other.step not in {*without, HANDED_OUT}]
    while (further := _made_of(found, others)) is not None:
        visit(further)
    return list(found.values())


def _made_of(found: Mapping[str, Artifact], others: Iterable[Artifact]) -> Artifact | None:
    """The newest directory of a step not found yet that was made of these, and of no other directory of their steps.

    One all of whose inputs are found comes before one that has further inputs, such as an encoder's own base model. Whether it passed its
    checks does not matter: a failed one is to be told.
    """
    steps = {artifact.step for artifact in found.values()}
    whole: list[Artifact] = []
    partly: list[Artifact] = []
    for other in others:
        known = [f"{key}/{mark}" in found for key, mark in other.inputs.items()]
        is_of_another = any(key.split("/")[0] in steps and f"{key}/{mark}" not in found for key, mark in other.inputs.items())
        if other.step not in steps and any(known) and not is_of_another:
            (whole if all(known) else partly).append(other)
    return _last(whole or partly) if whole or partly else None


def _record(artifact: Artifact) -> Record:
    written = read_json(artifact.directory / PROVENANCE)
    return Record(
        step=artifact.step, name=artifact.name, fingerprint=artifact.fingerprint, data_version=artifact.data_version,
        code_version=written["code_version"], finished_at=written["finished_at"], inputs=dict(artifact.inputs), facts=dict(artifact.facts),
        verdicts=tuple(_verdicts(artifact)),
    )  # fmt: skip


def _verdicts(artifact: Artifact) -> Iterator[Verdict]:
    """What was said of exactly these contents."""
    path = artifact.directory / VERDICTS
    judged: dict[str, Any] = read_json(path) if path.is_file() else {"data_version": None}
    if judged["data_version"] != artifact.data_version:
        return
    for entry in judged["verdicts"]:
        said: dict[str, Any] = entry["outcome"]
        outcome = Outcome(passed=said["passed"], found=said["found"], offenders=tuple(said["offenders"]))
        yield Verdict(rule=entry["rule"], bounds=entry["bounds"], is_blocking=entry["is_blocking"], outcome=outcome)
