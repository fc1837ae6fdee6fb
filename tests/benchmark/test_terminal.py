"""If these passed wrongly, the numbers that a user reads would not be the numbers that are stored."""

import pytest

from medvl_lib.benchmark.terminal import render_cell, render_table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.12345, "0.123"),
        (0.75, "0.75"),
        (1.0, "1"),
        (0.0, "0"),
        (-0.0625, "-0.0625"),
        (0.000123, "0.000123"),
        (15.24, "15.2"),
        (1234.5, "1230"),
        (2.5e9, "2.5e+09"),
        (15820, "15820"),  # a count is shown in full
        (True, "True"),
        (["worse", 0.5], "worse; 0.5"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_cell_is_short_and_true(value: object, shown: str):
    assert render_cell(value) == shown


def test_a_table_is_aligned_with_numbers_to_the_right():
    assert render_table(("variant", "n", "mean"), [("base", 60, 0.8354), ("血钾", 5, None)]) == (
        "variant   n   mean\n"
        "-------  --  -----\n"
        "base     60  0.835\n"
        "血钾      5      -\n"
        "(2 rows)"
    )  # fmt: skip


def test_a_table_without_rows_still_has_its_columns():
    assert render_table(("variant",), []) == "variant\n-------\n(0 rows)"
