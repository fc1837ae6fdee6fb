"""All ratings of one sheet, as a step writes them: unblinded by the sheet's key, with what they come to.

In: the key of a sheet, and ratings by item. Out: a directory with ``reviews.parquet``, ``rating_summaries.parquet`` and a copy of the key,
and the rules that hold the three together.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medvl_lib.files import read_json
from medvl_lib.provenance import Artifact, Fact, Outcome, Rule, read_artifact
from medvl_lib.reviews import summaries as summaries_room
from medvl_lib.reviews.filled import Rating
from medvl_lib.reviews.summaries import summaries
from medvl_lib.reviews.tables import ITEMS, PUBLISHED, RATING_SUMMARIES, REVIEWS, SCALE, SCHEMA_VERSION, Item, RatingSummary, Review
from medvl_lib.rules import columns_are_as_declared, no_rows, outcome, rule
from medvl_lib.tables import num_rows, read_table, write_table
from medvl_lib.workspace import Workspace

REVISION = 1  # first version
STEP = "reviews"
REVISIONS = (REVISION, SCHEMA_VERSION, summaries_room.REVISIONS)


def reviews_of(workspace: Workspace, evaluation_id: str) -> list[Artifact]:
    """The ratings of every sheet of an evaluation, as far as they were read and passed; each sheet's newest."""
    sheets = sorted({path.parent.name for path in workspace.written(STEP)})
    pointers = [workspace.current(STEP, sheet_id) for sheet_id in sheets]
    found = [read_artifact(pointer.with_name(read_json(pointer)["fingerprint"])) for pointer in pointers if pointer.is_file()]
    return [artifact for artifact in found if artifact.facts["evaluation_id"] == evaluation_id]


def unblinded(ratings: Iterable[Rating], items: Mapping[str, Item], *, evaluation_id: str, line: str, sheet_id: str) -> list[Review]:
    """Ratings with the pair and variant that their items stand for, in the order of item and rater; raises KeyError for an unknown item."""
    found = [
        Review(
            evaluation_id=evaluation_id, line=line, sheet_id=sheet_id, item_id=rating.item_id, rater=rating.rater,
            pair_id=items[rating.item_id].pair_id, group_id=items[rating.item_id].group_id, dataset=items[rating.item_id].dataset,
            variant=items[rating.item_id].variant, correctness=rating.correctness, is_harmful=rating.is_harmful, comment=rating.comment,
        ) for rating in ratings
    ]  # fmt: skip
    return sorted(found, key=lambda review: (review.item_id, review.rater))


def write_reviews(directory: Path, key: Path, reviews: Iterable[Review]) -> dict[str, Fact]:
    """Write the ratings and what they come to; returns how many there are. No rater's name and no comment is among the facts."""
    reviews = list(reviews)
    shutil.copyfile(key, directory / ITEMS)
    num_reviews = write_table(directory / REVIEWS, Review, reviews)
    write_table(directory / RATING_SUMMARIES, RatingSummary, summaries(reviews))
    return {
        "schema_version": SCHEMA_VERSION, "line": reviews[0].line, "evaluation_id": reviews[0].evaluation_id,
        "num_reviews": num_reviews, "num_items_rated": len({review.item_id for review in reviews}),
        "num_raters": len({review.rater for review in reviews}), "num_comments": sum(bool(review.comment) for review in reviews),
    }  # fmt: skip


def every_rating_is_of_its_answer(directory: Path) -> Outcome:
    """Each rating names an item of the key, with the pair and the variant that the key has for it; and there is one."""
    question = """
        select item_id from read_parquet($reviews) r anti join read_parquet($key) k using (item_id, pair_id, group_id, dataset, variant)
        order by item_id
    """
    found = no_rows("ratings are of another answer than their item", question, reviews=directory / REVIEWS, key=directory / ITEMS)
    return found if num_rows(directory / REVIEWS) else Outcome(passed=False, found="there is no rating")


def no_answer_is_rated_twice_by_one_rater(directory: Path) -> Outcome:
    """An item and a rater have one rating."""
    question = "select item_id from read_parquet($reviews) group by sheet_id, item_id, rater having count(*) > 1 order by item_id"
    return no_rows("items are rated twice by one rater", question, reviews=directory / REVIEWS)


def ratings_are_on_the_scale(directory: Path) -> Outcome:
    """Correctness is on the scale, and every row says something."""
    question = """
        select item_id from read_parquet($reviews)
        where not coalesce(correctness between $low and $high, true) or (correctness is null and is_harmful is null and comment = '')
        order by item_id
    """
    return no_rows("ratings are off the scale, or empty", question, reviews=directory / REVIEWS, low=min(SCALE), high=max(SCALE))


def _on_the_scale(directory: Path) -> Iterator[Review]:
    return (row for row in read_table(directory / REVIEWS, Review) if row.correctness is None or row.correctness in SCALE)


def summaries_follow_from_the_ratings(directory: Path) -> Outcome:
    """The summaries are those that the ratings give; what is off the scale is found by another rule."""
    written = {(row.variant, row.question): row for row in read_table(directory / RATING_SUMMARIES, RatingSummary)}
    due = {(row.variant, row.question): row for row in summaries(_on_the_scale(directory))}
    wrong = sorted(" ".join(place) for place in written.keys() | due.keys() if written.get(place) != due.get(place))
    return outcome(wrong, f"of {len(due)} summaries are not what the ratings come to")


RULES: tuple[Rule, ...] = (
    columns_are_as_declared({ITEMS: Item, **{f"{table}.parquet": model for table, model in PUBLISHED.items()}}),
    rule(every_rating_is_of_its_answer, "Every rating is of the answer that its item stands for."),
    rule(no_answer_is_rated_twice_by_one_rater, "Nobody rates an answer twice."),
    rule(ratings_are_on_the_scale, "Every rating is on the scale, and says something."),
    rule(summaries_follow_from_the_ratings, "Means and agreement are those of these ratings."),
)
