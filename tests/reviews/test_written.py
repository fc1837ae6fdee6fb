"""The ratings as a step writes them. If these passed wrongly, a rating could stand beside the wrong variant with a green sign over it."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.reviews.reading import read_reviews
from medvl_lib.reviews.summaries import summaries
from medvl_lib.reviews.tables import ITEMS, RATING_SUMMARIES, REVIEWS, Item, RatingSummary, Review
from medvl_lib.reviews.written import RULES, _on_the_scale
from medvl_lib.tables import write_table
from tests.damages import Damage, added_column, at, repeated, rewritten
from tests.reviews.sheets import blank, filled_in, rated_by


@pytest.fixture(scope="module")
def written(evaluated, made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = blank(made.directory / "sheet.csv")
    folder = tmp_path_factory.mktemp("came-back")
    paths = [
        filled_in(folder / f"{rater}.csv", rated_by(rater, rows, lambda row: 1 + len(row["answer"]) % 5)) for rater in ("Anna", "Boris")
    ]
    [found] = read_reviews(evaluated.workspace, paths, is_replacing=False)
    return found.reviews.directory


def with_its_summaries(change: Callable[[list[Review]], Sequence[Review]]) -> Damage:
    """Other ratings, and what they come to."""

    def damage(directory: Path) -> None:
        rewritten(REVIEWS, Review, change)(directory)
        write_table(directory / RATING_SUMMARIES, RatingSummary, summaries(_on_the_scale(directory)))

    return damage


DAMAGES = {
    "columns_are_as_declared": added_column(ITEMS),
    "every_rating_is_of_its_answer": rewritten(ITEMS, Item, at(0, dataset="another")),
    "no_answer_is_rated_twice_by_one_rater": with_its_summaries(repeated),
    "ratings_are_on_the_scale": with_its_summaries(at(0, correctness=7)),
    "summaries_follow_from_the_ratings": rewritten(RATING_SUMMARIES, RatingSummary, at(0, mean=4.9)),
}


@pytest.mark.parametrize("rule", [found.name for found in RULES])
def test_damage_is_found_by_exactly_its_rule(written: Path, tmp_path: Path, rule: str):
    directory = shutil.copytree(written, tmp_path / "damaged")
    assert [found.name for found in RULES if not found.holds(directory).passed] == []
    DAMAGES[rule](directory)
    assert [found.name for found in RULES if not found.holds(directory).passed] == [rule]


def test_a_rating_beside_the_other_variant_is_found(written: Path, tmp_path: Path):
    directory = shutil.copytree(written, tmp_path / "damaged")
    with_its_summaries(lambda rows: [replace(rows[0], variant="adapter" if rows[0].variant == "base" else "base"), *rows[1:]])(directory)
    assert [found.name for found in RULES if not found.holds(directory).passed] == ["every_rating_is_of_its_answer"]


def test_a_directory_without_a_rating_does_not_pass(written: Path, tmp_path: Path):
    directory = shutil.copytree(written, tmp_path / "damaged")
    with_its_summaries(lambda _: [])(directory)
    assert [found.name for found in RULES if not found.holds(directory).passed] == ["every_rating_is_of_its_answer"]
