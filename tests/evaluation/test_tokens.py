"""If these passed wrongly, "12" would be found in "120", 4.10 would miss 4.1, and every document metric would count noise."""

import pytest

from medvl_lib.evaluation.metrics.dates import with_iso_dates
from medvl_lib.evaluation.metrics.tokens import tokens, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4.10", "4.1"),
        ("４．１", "4.1"),
        (".5", "0.50"),
        ("1,200.50", "1200.5"),
        ("+1.5", "1.5"),
        ("< 0.010", "<0.01"),
        ("≤ 5", "<=5"),
        ("120 / 80", "120/80"),
        ("3.5 – 5.1", "3.5-5.1"),
        ("−2.5", "-2.5"),
        ("2 × 3 cm", "2x3 cm"),
        ("10³", "10^3"),
        ("10*3", "10^3"),
        ("kg/m²", "kg/m2"),
        ("SpO₂", "SPO2"),
        ("beta-blocker", "beta blocker"),
        ("<td>K</td><td>4.1</td>", "K 4.1"),
        ("**K**: 4.1", "K 4.1"),
        ("血钾：４.１", "血 钾 4.1"),
        ("January 5, 2024", "2024-01-05"),
        ("5 Jan 2024", "2024/1/5"),
        ("5th of January 2024", "2024年1月5日"),
        ("13/01/2024", "2024-01-13"),
        ("01/05/2024", "1/5/2024"),
        ("08:30", "8:30"),
    ],
)
def test_two_spellings_of_one_thing_are_equal(one: str, other: str):
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4,1", "4.1"),  # a decimal comma is not guessed
        ("4.1", "41"),
        ("007", "7"),  # an identifier
        ("2+", "2"),
        ("A+", "A-"),
        ("<0.01", "0.01"),
        ("-2.5", "2.5"),
        ("1½", "11/2"),
        ("01/05/2024", "2024-05-01"),  # day or month first: not guessed
        ("01/05/2024", "2024-01-05"),
    ],
)
def test_two_different_things_are_not_equal(one: str, other: str):
    assert words(one) != words(other)


@pytest.mark.parametrize(("number", "text"), [("12", "120"), ("12", "12.5"), ("12", "12/80"), ("12", "B12"), ("4", "4,1"), ("11", "E11.9")])
def test_a_number_is_not_found_inside_another_word_or_number(number: str, text: str):
    assert number not in words(text)


def test_a_list_bullet_is_no_minus_and_joins_no_lines():
    assert words("K 4.1\n- 5 tablets") == ("k", "4.1", "5", "tablets")


def test_an_impossible_date_is_left_as_it_is():
    assert with_iso_dates("2024-13-45") == "2024-13-45"


def test_a_token_knows_its_line_and_its_brackets():
    found = tokens("Potassium (K+): 4.1\nSodium 140")
    assert [(token.text, token.line, token.depth) for token in found] == [
        ("potassium", 0, 0), ("k", 0, 1), ("4.1", 0, 0), ("sodium", 1, 0), ("140", 1, 0),
    ]  # fmt: skip
