"""What an evaluation stands on, as blocks: training, data, audit, checks, environment, metrics, provenance, and every benchmark row.

In: a ``Report``. Out: the blocks of one section each.
"""

import math
from collections.abc import Iterator
from itertools import groupby

from medvl_lib.report.blocks import Block, place, share, table, words
from medvl_lib.report.content import Record, Report
from medvl_lib.report.figures import loss_figure

OUTCOMES = ("read", "rejected", "accepted", "train", "validation", "test", "benchmark", "trained_on")
EVERY_ROW = "every-row"
"""The table that holds each benchmark row: ``written`` reads it back."""


def training(report: Report) -> Iterator[Block]:
    """The loss curve of each stage, and its ends."""
    for stage, found in groupby(report.training_steps, lambda row: row.stage):
        steps = list(found)
        held_out = [row.validation_loss for row in steps if row.validation_loss is not None]
        first, last, is_of_texts = steps[0], steps[-1], steps[0].objective == "generate"
        yield loss_figure(stage, steps, "answer token" if is_of_texts else "picture")
        perplexities = (
            ("perplexity of the first step", math.exp(first.loss)), ("perplexity of the last step", math.exp(last.loss)),
            ("lowest held-out perplexity", math.exp(min(held_out)) if held_out else None),
        )  # fmt: skip
        yield table(f"training-{stage}", f"Training of the stage {stage}", ("what", "value"), (
            ("steps", last.step), ("epochs", last.epoch), ("loss of the first step", first.loss), ("loss of the last step", last.loss),
            ("lowest held-out loss", min(held_out, default=None)),
            *(perplexities if is_of_texts else ()),
            ("tokens, image tokens included", sum(row.num_tokens for row in steps)),
            ("seconds since it was started or resumed", last.elapsed_seconds),
        ))  # fmt: skip


def data(report: Report) -> Iterator[Block]:
    """The funnel of each dataset, and the reasons for what was left out."""
    datasets = list(dict.fromkeys(row.dataset for row in report.dataset_counts))

    def total(dataset: str, outcome: str) -> int:
        return sum(row.num_pairs for row in report.dataset_counts if row.dataset == dataset and row.outcome == outcome)

    yield table(
        "funnel", "Rows of each dataset: read = rejected + accepted, accepted = the four splits; trained on are rows of train",
        ("dataset", *map(words, OUTCOMES)), ((dataset, *(total(dataset, outcome) for outcome in OUTCOMES)) for dataset in datasets),
    )  # fmt: skip
    rejected = [(row.dataset, row.reason, row.num_pairs) for row in report.dataset_counts if row.outcome == "rejected"]
    if rejected:
        yield table("rejected", "Why rows were left out", ("dataset", "reason", "rows"), rejected)


def audit(report: Report) -> Iterator[Block]:
    """What the conversations measure as the model sees them, and the limits."""
    yield table(
        "audit", "Conversations as the model sees them, in tokens; pixels are those of a lower-case x after resizing",
        ("dataset", "split", "conversations", "mean tokens", "longest", "mean image tokens", "mean answer tokens", "smallest letters"), (
            (
                part.dataset, part.split, part.num_conversations, part.mean_tokens, part.longest_tokens, part.mean_image_tokens,
                part.mean_target_tokens, part.smallest_glyph_pixels,
            ) for part in report.audit.parts
        ),
    )  # fmt: skip
    yield table("limits", "Limits that the audit held them to", ("limit", "value"), sorted(report.audit.limits.items()))


def checks(report: Report) -> Iterator[Block]:
    """The verdict of every check on every directory behind the evaluation and after its decision; and what was not judged yet."""
    verdicts = [(record, verdict) for record in report.records for verdict in record.verdicts]
    failed = sum(not verdict.outcome.passed for _, verdict in verdicts)
    unjudged = [_asset(record) for record in report.records if not record.verdicts]
    yield f"{len(verdicts)} checks were made on what this evaluation stands on; {failed} failed." + (
        f" Never judged: {', '.join(unjudged)}." if unjudged else ""
    )
    if report.awaited:
        names = ", ".join(f"{report.line}/{step}" for step in report.awaited)
        yield (
            f"Not made yet when this was written, so that their checks are not in this table: {names}. "
            f"`medvl report {report.line}` tells them once they are there."
        )
    if report.has_moved:
        yield f"What is served has changed since {report.line}/served_model was checked: materialize it again, and its parity before it."
    yield table("checks", "Every check and what it found", ("asset", "check", "verdict", "blocks", "found"), (
        (
            _asset(record), verdict.rule, "passed" if verdict.outcome.passed else "FAILED", "yes" if verdict.is_blocking else "no",
            verdict.outcome.found,
        ) for record, verdict in verdicts
    ))  # fmt: skip


def environment(report: Report) -> Iterator[Block]:
    """Which models answered, and with which libraries."""
    models = sorted((row for row in report.evaluations if row.model is not None), key=lambda row: place(row.variant))
    yield table("models", "Who answered", ("variant", "model", "weights", "precision", "parameters", "of these quantized"), (
        (words(row.variant), row.model, row.weights_data_version, row.precision, row.num_parameters, row.num_quantized_parameters)
        for row in models
    ))  # fmt: skip
    yield table(
        "environment", "What the answers were made with", ("name", "version"), ((row.name, row.version) for row in report.environments)
    )


def metrics(report: Report) -> Iterator[Block]:
    """Range, definition and source of every metric, and how texts were cut for those where there are several ways."""
    yield table("metrics", "Metrics", ("metric", "version", "from 0 to", "better is", "definition", "source"), (
        (note.name, note.version, note.highest, "higher" if note.is_higher_better else "lower", note.definition, note.source)
        for note in report.metrics
    ))  # fmt: skip
    if cuts := sorted({(row.metric, row.dataset, row.signature) for row in report.benchmark_rows if row.signature is not None}):
        yield table(
            "signatures", "How texts were cut and counted: compare with no value of another way", ("metric", "dataset", "way"), cuts
        )


def provenance(report: Report) -> Iterator[Block]:
    """Fingerprints from the raw files to the decision, and what each step counted."""
    yield (
        f"Evaluation {report.evaluation_id} of the line {report.line}. A fingerprint names a directory below the data root, "
        "step/name/fingerprint; a data version is the hash of what was written there."
    )
    columns = ("asset", "fingerprint", "data version", "code version", "finished at", "made from")
    yield table("provenance", "From the raw files to the decision", columns, (
        (_asset(record), record.fingerprint, record.data_version, record.code_version, record.finished_at, _made_from(record))
        for record in report.records
    ))  # fmt: skip
    yield table("facts", "What was counted and measured on the way", ("asset", "fact", "value"), (
        (_asset(record), name, value) for record in report.records for name, value in record.facts.items()
    ))  # fmt: skip


def _asset(record: Record) -> str:
    """What the UI calls it."""
    return f"{record.name}/{record.step}"


def _made_from(record: Record) -> str:
    return ", ".join(sorted(record.inputs)) or "nothing else"


def every_row(report: Report) -> Iterator[Block]:
    """Each benchmark row, of every split, slice and condition."""
    rows = sorted(
        report.benchmark_rows,
        key=lambda row: (row.split != "test", row.dataset, row.metric, row.slice, row.condition, place(row.variant)),
    )
    columns = (
        "variant", "condition", "dataset", "split", "slice", "metric", "pairs", "clusters", "unscored", "empty", "wrong language", "cut",
        "masked", "mean", "from", "to",
    )  # fmt: skip
    yield table(EVERY_ROW, "Each benchmark row of this evaluation, as it stands in the store", columns, (
        (
            row.variant, row.condition, row.dataset, row.split, row.slice, row.metric, row.num_pairs, row.num_clusters, row.num_unscored,
            row.num_empty, row.num_wrong_language, row.num_cut, row.num_masked, share(row.mean), share(row.ci_low), share(row.ci_high),
        ) for row in rows
    ))  # fmt: skip
