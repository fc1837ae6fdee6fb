"""Means and agreement of ratings. If these passed wrongly, an adapter could look better to experts than it did, or raters seem to agree."""

from dataclasses import fields, replace

import pytest

from medvl_lib.reviews.summaries import REVISION, summaries
from medvl_lib.reviews.tables import RatingSummary, Review

BASE = {"p1": (1, 2), "p2": (2, 2), "p3": (3, None)}
ADAPTER = {"p1": (4, 5), "p2": (2, 4), "p3": (5, 5), "p4": (1, 1)}


def reviews(harmful: set[str] = frozenset()) -> list[Review]:
    """Anna's and Boris's ratings of four pages of four patients; Boris left one out, and p4 of base was rated by nobody."""
    return [
        Review(
            evaluation_id="e", line="documents", sheet_id="s", item_id=f"{variant}-{pair}", rater=rater, pair_id=pair,
            group_id=f"doc-{pair}", dataset="forms", variant=variant, correctness=value, comment="",
            is_harmful=f"{variant}-{pair}" in harmful,
        )
        for variant, given in (("base", BASE), ("adapter", ADAPTER)) for pair, values in given.items()
        for rater, value in zip(("anna", "boris"), values, strict=True) if value is not None
    ]  # fmt: skip


def rows(found: list[Review]) -> dict[tuple[str, str], RatingSummary]:
    return {(row.variant, row.question): row for row in summaries(found)}


def test_an_answers_value_is_the_mean_over_its_raters_and_the_mean_is_over_answers():
    base = rows(reviews())["base", "correctness"]
    assert (base.num_items, base.num_clusters, base.num_raters, base.num_ratings) == (3, 3, 2, 5)
    assert base.mean == pytest.approx((1.5 + 2 + 3) / 3)  # not 10 / 5: page 3 counts as much as page 1
    assert (base.ci_low, base.ci_high) == (None, None)  # of three patients


def test_the_difference_to_base_is_over_pairs_of_which_both_answers_were_rated():
    found = rows(reviews())
    adapter = found["adapter", "correctness"]
    assert (adapter.num_items, adapter.num_paired) == (4, 3)
    assert adapter.minus_base == pytest.approx(((4.5 - 1.5) + (3 - 2) + (5 - 3)) / 3)
    assert adapter.p_value == 0.25  # three patients: 2 / 2^3
    assert (found["base", "correctness"].minus_base, found["all", "correctness"].minus_base) == (None, None)


def test_harm_is_the_share_of_yes():
    found = rows(reviews({"base-p1", "base-p2"}))
    assert found["base", "harmful"].mean == pytest.approx(2 / 3)
    assert found["adapter", "harmful"].minus_base == pytest.approx(-2 / 3)


def test_agreement_is_over_answers_that_both_rated_and_weighted_by_squares():
    """By hand for the adapter (pairs 4-5, 2-4, 5-5, 1-1): observed 1 + 4; expected sum of squared distances of all pairings by 4."""
    adapter = rows(reviews())["adapter", "correctness"]
    first, second = (4, 2, 5, 1), (5, 4, 5, 1)
    expected = sum((one - other) ** 2 for one in first for other in second) / 4
    assert (adapter.coefficient, adapter.num_agreed_on, adapter.exact_agreement) == ("quadratic_kappa", 4, 0.5)
    assert adapter.agreement == pytest.approx(1 - 5 / expected)


def test_all_answers_together_have_an_agreement_of_their_own():
    found = rows(reviews())
    assert found["all", "correctness"].num_agreed_on == 6
    assert found["all", "correctness"].num_items == 7


def test_where_nobody_saw_harm_the_agreement_is_not_defined_and_all_ratings_are_equal():
    row = rows(reviews())["all", "harmful"]
    assert (row.mean, row.agreement, row.exact_agreement) == (0.0, None, 1.0)


def test_one_rater_alone_has_means_and_no_agreement():
    row = rows([review for review in reviews() if review.rater == "anna"])["adapter", "correctness"]
    assert (row.mean, row.num_raters, row.coefficient, row.agreement, row.num_agreed_on) == (3.0, 1, None, None, 0)


def test_a_third_rater_makes_it_krippendorffs():
    third = [Review(**{**{field.name: getattr(one, field.name) for field in fields(one)}, "rater": "chen"}) for one in reviews()[:5:2]]
    assert rows([*reviews(), *third])["base", "correctness"].coefficient == "krippendorff_ordinal"


def test_the_order_of_the_ratings_does_not_matter():
    assert rows(reviews()) == rows(list(reversed(reviews())))
    assert REVISION == 2


def test_six_patients_have_intervals_and_five_have_none():
    base, adapter = (1, 2, 2, 3, 1, 2), (4, 2, 5, 5, 3, 4)
    given = [
        replace(reviews()[0], item_id=f"{variant}-p{number}", variant=variant, pair_id=f"p{number}", group_id=f"doc-p{number}", rater=rater,
                correctness=value)
        for variant, values in (("base", base), ("adapter", adapter)) for number, value in enumerate(values) for rater in ("anna", "boris")
    ]  # fmt: skip
    six = rows(given)["adapter", "correctness"]
    assert six.ci_low < six.mean < six.ci_high
    assert six.minus_base_ci_low < six.minus_base < six.minus_base_ci_high
    five = rows([one for one in given if one.pair_id != "p5"])["adapter", "correctness"]
    assert (five.ci_low, five.ci_high, five.minus_base_ci_low, five.minus_base_ci_high, five.agreement_ci_low) == (None,) * 5
    assert five.minus_base is not None


def test_a_question_that_nobody_answered_has_no_row():
    found = [Review(**{**{field.name: getattr(one, field.name) for field in fields(one)}, "is_harmful": None}) for one in reviews()]
    assert {question for _, question in rows(found)} == {"correctness"}
