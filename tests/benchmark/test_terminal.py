"""If these passed wrongly, the numbers that a user reads would not be the numbers that are stored."""

import csv
import io
import json
from datetime import date
from decimal import Decimal

import pytest

from medvl_lib.benchmark.terminal import WIDEST_CELL, render_cell, render_csv, render_json, render_table
from medvl_lib.errors import MedVLError


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


LONG = "worse than base, " * 20
ROWS = [("血钾", 0.123456789, None, ["a", 0.5], LONG), ('a "b", c\nd', -1.0, 3, [], "")]
COLUMNS = ("name", "mean", "n", "reasons", "reason")


def test_csv_holds_every_value_whole():
    read = list(csv.reader(io.StringIO(render_csv(COLUMNS, ROWS))))
    assert read == [list(COLUMNS), ["血钾", "0.123456789", "", '["a", 0.5]', LONG], ['a "b", c\nd', "-1.0", "3", "[]", ""]]
    assert LONG not in render_table(COLUMNS, ROWS)  # what the table cuts
    assert len(LONG) > WIDEST_CELL


def test_json_holds_every_value_whole():
    assert json.loads(render_json(COLUMNS, ROWS)) == [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def test_what_json_has_no_word_for_is_text():
    row = (date(2026, 11, 20), Decimal("0.25"), float("nan"), float("inf"), {"a": Decimal(1)}, True)
    assert json.loads(render_json(tuple("abcdef"), [row])) == [
        {"a": "2026-11-20", "b": 0.25, "c": "nan", "d": "inf", "e": {"a": 1.0}, "f": True}
    ]


def test_two_columns_of_one_name_are_no_object():
    with pytest.raises(MedVLError, match="'mean'"):
        render_json(("mean", "n", "mean"), [(1, 2, 3)])
    assert render_csv(("mean", "n", "mean"), [(1, 2, 3)]) == "mean,n,mean\n1,2,3"


def test_no_rows_are_an_empty_list_and_a_line_of_names():
    assert (render_json(("a",), []), render_csv(("a", "b"), [])) == ("[]", "a,b")


def test_what_a_terminal_would_obey_is_shown_by_its_code():
    shown = render_table(["comment"], [["good\x1b[2J\u200b\u202e"]])
    assert "good\\x1b[2J\\u200b\\u202e" in shown
    assert all(one.isprintable() for one in shown.replace("\n", ""))
