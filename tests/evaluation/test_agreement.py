"""Agreement of raters. If these passed wrongly, raters who guess would look as if they agreed, or ten answers about one patient would count
as ten opinions.
"""

import pytest

from medvl_lib.evaluation.agreement import REVISION, Rated, agreement


def table(*raters: str, clusters: str | None = None) -> list[Rated]:
    """A string of categories from 1 for each rater, a character an item; a dot where an item was not rated."""
    return [
        Rated(cluster=f"c{clusters[place]}" if clusters else f"c{place}", item=f"i{place}", rater=f"r{rater}", category=int(said) - 1)
        for rater, row in enumerate(raters) for place, said in enumerate(row) if said != "."
    ]  # fmt: skip


def counted(*rows: tuple[int, ...]) -> list[Rated]:
    """Two raters by how often which categories met: the first one down, the second across."""
    pairs = [(first, second) for first, row in enumerate(rows) for second, count in enumerate(row) for _ in range(count)]
    said = ("".join(str(pair[rater] + 1) for pair in pairs) for rater in range(2))
    return table(*said)


KRIPPENDORFF_2011 = ("123321412...", "12332241 25.3".replace(" ", ""), ".3332342251.", "12332441251.")
"""Four observers and twelve units, the example of the paper's part C: 0.743 for unordered categories, 0.815 for ordered ones."""


def test_cohens_kappa_of_the_textbook_table():
    """Fleiss, Levin and Paik 2003, Statistical Methods for Rates and Proportions, table 18.1: 0.89 agree, 0.66 by chance."""
    found = agreement(counted((75, 1, 4), (5, 4, 1), (0, 0, 10)), num_categories=3, is_ordered=False)
    assert (found.coefficient, found.num_items, found.num_raters) == ("cohen_kappa", 100, 2)
    assert found.exact_share == pytest.approx(0.89)
    assert found.value == pytest.approx((0.89 - 0.66) / (1 - 0.66))


def test_far_apart_counts_more_on_an_ordered_scale():
    """By hand: 1-1, 2-2, 3-3 and 1-3. Observed 4 of 4; expected (2*(1*1 + 2*4) + 1*(1*1 + 2*1) + 1*(1*4 + 1*1)) / 4 = 26 / 4."""
    found = agreement(table("1231", "1233"), num_categories=3, is_ordered=True)
    assert (found.coefficient, found.value) == ("quadratic_kappa", pytest.approx(1 - 4 / (26 / 4)))
    near = agreement(table("1231", "1232"), num_categories=3, is_ordered=True)
    assert near.value > found.value


@pytest.mark.parametrize(
    ("is_ordered", "name", "published"), [(False, "krippendorff_nominal", 0.743), (True, "krippendorff_ordinal", 0.815)]
)
def test_krippendorffs_alpha_of_the_papers_table_with_gaps(is_ordered: bool, name: str, published: float):
    found = agreement(table(*KRIPPENDORFF_2011), num_categories=5, is_ordered=is_ordered)
    assert (found.coefficient, found.num_items, found.num_raters) == (name, 11, 4)  # the twelfth unit was rated by one observer alone
    assert found.value == pytest.approx(published, abs=5e-4)


def test_who_agrees_no_more_than_by_chance_has_no_agreement():
    found = agreement(table("1122", "1212"), num_categories=2, is_ordered=False)
    assert (found.value, found.exact_share) == (0.0, 0.5)


def test_where_all_say_the_same_there_was_nothing_to_agree_on():
    found = agreement(table("1111", "1111"), num_categories=2, is_ordered=False)
    assert (found.value, found.ci_low, found.ci_high, found.exact_share) == (None, None, None, 1.0)


def test_a_rare_category_makes_kappa_low_and_the_share_of_equal_ratings_says_so():
    found = agreement(counted((38, 1), (1, 0)), num_categories=2, is_ordered=False)
    assert found.value < 0
    assert found.exact_share == 0.95


def test_no_item_that_two_rated_is_no_agreement():
    assert agreement(table("12..", "..12"), num_categories=2, is_ordered=False) is None
    assert agreement([], num_categories=2, is_ordered=False) is None


def test_the_interval_lies_around_the_value_and_is_the_same_each_time():
    rated = counted((20, 5), (10, 15))
    found = agreement(rated, num_categories=2, is_ordered=False)
    assert found.value == pytest.approx(0.4)  # 0.7 agree, 0.5 by chance
    assert (REVISION, found.ci_low, found.ci_high) == (2, pytest.approx(0.14855017745223906), pytest.approx(0.64))
    assert found == agreement(list(reversed(rated)), num_categories=2, is_ordered=False)


def test_ten_answers_about_one_patient_are_one_opinion():
    """Sixty answers, once of sixty patients and once of six: they agree on all answers of four of these and on none of two."""
    first, second = "1212121212" * 6, "1212121212" * 4 + "2121212121" * 2
    many = agreement(table(first, second), num_categories=2, is_ordered=False)
    few = agreement(table(first, second, clusters="".join(str(place // 10) for place in range(60))), num_categories=2, is_ordered=False)
    assert many.value == few.value
    assert few.ci_high - few.ci_low > 2 * (many.ci_high - many.ci_low)


@pytest.mark.parametrize("clusters", ["000000000000", "001122334444"])
def test_fewer_than_six_patients_have_no_interval(clusters: str):
    found = agreement(table("121212121212", "122112211221", clusters=clusters), num_categories=2, is_ordered=False)
    assert (found.value, found.ci_low, found.ci_high) == (0.0, None, None)


def test_where_too_many_resamples_have_no_coefficient_there_is_no_interval():
    """One harmful answer of twenty: a third of the resamples have none, so all ratings of theirs are the same."""
    found = agreement(counted((19, 0), (0, 1)), num_categories=2, is_ordered=False)
    assert (found.value, found.ci_low, found.ci_high) == (1.0, None, None)


def test_a_rater_who_shared_no_item_is_not_counted():
    found = agreement(table("12..", "12..", "..1."), num_categories=2, is_ordered=False)
    assert (found.coefficient, found.num_raters, found.num_items) == ("cohen_kappa", 2, 2)
