"""Ratings of an evaluation's first pages by two raters: written and judged as ``medvl reviews read`` does, without a file in between."""

from collections.abc import Mapping

from medvl_lib.benchmark.publish import publish
from medvl_lib.provenance import judge, write_step
from medvl_lib.reviews import written
from medvl_lib.reviews.filled import Rating
from medvl_lib.reviews.tables import ITEMS, Item
from medvl_lib.reviews.written import unblinded, write_reviews
from medvl_lib.tables import write_table
from tests.benchmark.evaluated import Evaluated

Opinions = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Variant -> what Anna and Boris say of pages 0, 1, 2, ...: correctness; 1 is also called harmful."""


def rate(evaluated: Evaluated, opinions: Opinions, comments: Mapping[str, str]) -> None:
    """Write the ratings and publish them; ``comments`` are Anna's, by item (``adapter-p000``)."""
    items = {
        f"{variant}-p{number:03}": Item(
            item_id=f"{variant}-p{number:03}", pair_id=f"p{number:03}", group_id=f"doc{number:03}", dataset="forms", licence="CC0-1.0",
            variant=variant, is_shown=True,
        ) for variant, (anna, _) in opinions.items() for number in range(len(anna))
    }  # fmt: skip
    ratings = [
        Rating(
            where="", item_id=f"{variant}-p{number:03}", rater=rater, correctness=value, is_harmful=value == 1,
            comment=comments.get(f"{variant}-p{number:03}", "") if rater == "Anna" else "",
        )
        for variant, said in opinions.items() for rater, values in zip(("Anna", "Boris"), said, strict=True)
        for number, value in enumerate(values)
    ]  # fmt: skip
    workspace = evaluated.workspace

    def key(folder):
        write_table(folder / ITEMS, Item, items.values())
        return {}

    sheet = write_step(workspace, "review_sheets", "documents", "v1", [evaluated.benchmark], key)
    reviews = unblinded(
        ratings, items, evaluation_id=str(evaluated.benchmark.facts["evaluation_id"]), line="documents", sheet_id=sheet.fingerprint
    )
    found = write_step(
        workspace, written.STEP, sheet.fingerprint, "v1", [sheet], lambda folder: write_reviews(folder, sheet.directory / ITEMS, reviews)
    )
    assert all(verdict.outcome.passed for verdict in judge(workspace, found, written.RULES))
    publish(workspace)
