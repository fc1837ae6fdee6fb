"""What blinded experts say of an evaluation's answers, as blocks.

In: a ``Report``. Out: for each rated sheet what was rated, means with intervals, and how far the raters agree; or a sentence that nothing
was rated. Raters' names and their comments stand in the store, and not here: a page is passed on.
"""

from collections.abc import Iterator, Sequence

from medvl_lib.report.blocks import NONE, Block, Figure, Table, place, share, table, words
from medvl_lib.report.content import RatedSheet, Report
from medvl_lib.report.pictures import Mark, draw_intervals
from medvl_lib.reviews.tables import ALL, RatingSummary

COEFFICIENTS = {
    "cohen_kappa": "Cohen's kappa", "quadratic_kappa": "kappa, squared weights", "krippendorff_nominal": "Krippendorff's alpha, nominal",
    "krippendorff_ordinal": "Krippendorff's alpha, ordinal",
}  # fmt: skip


def ratings(report: Report) -> Iterator[Block]:
    """Every rated sheet of the evaluation."""
    if not report.rated_sheets:
        yield (
            "No blinded ratings by experts were read for this evaluation. "
            f"`medvl reviews sheet {report.line} --output FOLDER` writes a sheet for them."
        )
    for sheet in report.rated_sheets:
        rows = [row for row in report.rating_summaries if row.sheet_id == sheet.sheet_id]
        yield from _sheet(sheet, sorted(rows, key=lambda row: (row.question, row.variant == ALL, place(row.variant))))


def _sheet(sheet: RatedSheet, rows: Sequence[RatingSummary]) -> Iterator[Block]:
    yield (
        f"Sheet {sheet.sheet_id}: {sheet.num_items_rated} of its {sheet.num_items} answers were rated by {sheet.num_raters} raters, who "
        f"were not told whose they are; {sheet.num_comments} ratings have a comment, which stands in the table reviews of the store."
    )
    by_variant = [row for row in rows if row.variant != ALL]
    yield from _correctness(by_variant)
    yield _means(f"ratings-{sheet.sheet_id}", by_variant)
    yield _agreements(f"agreement-{sheet.sheet_id}", rows)
    yield (
        "Intervals are over patients or documents, for these raters; they say nothing about others. Lowest and highest are the interval of "
        "the difference to base. An agreement of 0 is what chance gives; where all "
        "ratings are the same, or nearly all, it has no value or no interval."
    )


def _correctness(rows: Sequence[RatingSummary]) -> Iterator[Figure]:
    """Everyone's correctness on one axis; nothing where nobody rated it."""
    caption = "Correctness by blinded ratings with 95 % intervals, 1 (wrong) to 5 (right and complete)"
    marks = [
        Mark(label=words(row.variant), mean=row.mean, low=row.ci_low, high=row.ci_high, is_emphasized=row.variant == "adapter")
        for row in rows if row.question == "correctness"
    ]  # fmt: skip
    if marks:
        yield Figure(svg=draw_intervals(marks, title=caption), caption=caption)


def _means(key: str, rows: Sequence[RatingSummary]) -> Table:
    columns = (
        "variant", "question", "mean", "from", "to", "minus base", "lowest", "highest", "p value", "answers", "clusters", "raters", "note"
    )  # fmt: skip
    return table(key, "Means: correctness 1 to 5 (higher is better), harmful as a share (lower is better)", columns, (
        (
            words(row.variant), row.question, share(row.mean), share(row.ci_low), share(row.ci_high), share(row.minus_base, signed=True),
            share(row.minus_base_ci_low, signed=True), share(row.minus_base_ci_high, signed=True), row.p_value, row.num_items,
            row.num_clusters, row.num_raters, "" if row.ci_low is not None else f"too few clusters ({row.num_clusters}) for an interval",
        ) for row in rows
    ))  # fmt: skip


def _agreements(key: str, rows: Sequence[RatingSummary]) -> Table:
    columns = ("variant", "question", "coefficient", "agreement", "from", "to", "equal ratings", "answers")
    return table(key, "Agreement of the raters on answers that two or more of them rated", columns, (
        (
            "all answers" if row.variant == ALL else words(row.variant), row.question, _name(row), share(row.agreement),
            share(row.agreement_ci_low), share(row.agreement_ci_high), share(row.exact_agreement), row.num_agreed_on,
        ) for row in rows
    ))  # fmt: skip


def _name(row: RatingSummary) -> str:
    return NONE if row.coefficient is None else COEFFICIENTS[row.coefficient]
