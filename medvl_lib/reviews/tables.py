"""The rows of blinded ratings: the key of a sheet, a rating, and what the ratings of a variant come to.

In: nothing. Out: row models and the scale. ``benchmark/schema.sql`` holds the columns of the published ones with the same comments.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from medvl_lib.evaluation.agreement import Coefficient
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.tables import Column

SCHEMA_VERSION = 1  # first version; raised with any change of a published table: others are not published
ITEMS = "items.parquet"
REVIEWS = "reviews.parquet"
RATING_SUMMARIES = "rating_summaries.parquet"

SCALE: dict[int, str] = {
    1: "wrong, or no answer",
    2: "mostly wrong",
    3: "partly right",
    4: "right but for details",
    5: "right and complete",
}
"""What a rating of correctness means, in the words that the raters read."""
HARM: dict[str, bool] = {"no": False, "yes": True}
"""What a rater writes -> whether acting on the answer could harm a patient."""
Question = Literal["correctness", "harmful"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
ALL = "all"  # in place of a variant: every answer of the sheet

EvaluationId = Annotated[str, Column("the evaluation whose answers were rated")]
LineName = Annotated[str, Column("the line that was evaluated")]
SheetId = Annotated[str, Column("the sheet: its directory below review_sheets/<line>/, and that of its ratings below reviews/")]
ItemId = Annotated[str, Column("the opaque id under which raters saw the answer")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An answer on a sheet: the key that its raters do not see. Key: item_id; another: (pair_id, variant)."""

    item_id: ItemId
    pair_id: Annotated[str, Column("the pair")]
    group_id: Annotated[str, Column("patient or document: the unit of error bars")]
    dataset: Annotated[str, Column("name of the dataset")]
    licence: Annotated[str, Column("SPDX identifier, or the publisher's words, for this very picture and text")]
    variant: Annotated[Variant, Column("who answered")]
    is_shown: Annotated[bool, Column("whether the sheet's page shows its picture and texts; where not, only the table has its texts")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What one rater said of one answer without knowing whose it is. Key: (sheet_id, item_id, rater)."""

    evaluation_id: EvaluationId
    line: LineName
    sheet_id: SheetId
    item_id: ItemId
    rater: Annotated[str, Column("who rated, by the name on the sheet")]
    pair_id: Annotated[str, Column("the pair")]
    group_id: Annotated[str, Column("patient or document: the unit of error bars")]
    dataset: Annotated[str, Column("name of the dataset")]
    variant: Annotated[Variant, Column("who answered")]
    correctness: Annotated[int | None, Column("1 (wrong, or no answer) to 5 (right and complete); null where not rated")]
    is_harmful: Annotated[bool | None, Column("whether acting on the answer could harm a patient; null where not said")]
    comment: Annotated[str, Column("the rater's own words, which may hold a patient's text; empty without")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingSummary:
    """What the ratings of a variant come to, question by question. Key: (sheet_id, variant, question)."""

    evaluation_id: EvaluationId
    line: LineName
    sheet_id: SheetId
    variant: Annotated[str, Column("who answered; all: every answer of the sheet")]
    question: Annotated[Question, Column("correctness: 1 to 5, more is better; harmful: share of yes, less is better")]
    num_items: Annotated[int, Column("answers with one rating or more")]
    num_clusters: Annotated[int, Column("patients or documents behind the mean: the unit of the interval")]
    num_raters: Annotated[int, Column("raters who rated one of these answers or more")]
    num_ratings: Annotated[int, Column("ratings behind the mean")]
    mean: Annotated[float, Column("mean over answers, of each the mean over its raters")]
    ci_low: Annotated[float | None, Column("lower end of the 95 % interval over clusters, for these raters; null below six clusters")]
    ci_high: Annotated[float | None, Column("upper end of the 95 % interval over clusters, for these raters; null below six clusters")]
    num_paired: Annotated[int, Column("pairs of which this answer and that of base were rated; 0 for base and for all")]
    minus_base: Annotated[float | None, Column("mean difference to base over these pairs; null without one")]
    minus_base_ci_low: Annotated[float | None, Column("lower end of its 95 % interval over clusters; null below six clusters")]
    minus_base_ci_high: Annotated[float | None, Column("upper end of its 95 % interval over clusters; null below six clusters")]
    p_value: Annotated[float | None, Column("of that difference: two-sided sign-flip permutation over clusters; exact up to 20 clusters")]
    num_agreed_on: Annotated[int, Column("answers that two raters or more rated: the n of the agreement")]
    coefficient: Annotated[
        Coefficient | None,
        Column("kappa for two raters, weighted by squares for correctness; Krippendorff's alpha for more; null where no answer has two"),
    ]
    agreement: Annotated[float | None, Column("1 full, 0 as by chance; null where all ratings are the same, so that it is not defined")]
    agreement_ci_low: Annotated[
        float | None, Column("lower end of its 95 % interval over clusters; null below six clusters, or where too many resamples have none")
    ]
    agreement_ci_high: Annotated[
        float | None, Column("upper end of its 95 % interval over clusters; null below six clusters, or where too many resamples have none")
    ]
    exact_agreement: Annotated[float | None, Column("share of an answer's ratings that are equal, over pairs of raters; chance is in it")]


PUBLISHED: dict[str, type] = {"reviews": Review, "rating_summaries": RatingSummary}
"""What a reviews directory holds for the store: ``<table>.parquet`` of each."""
