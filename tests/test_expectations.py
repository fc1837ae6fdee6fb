"""Row rules. If these passed wrongly, a broken row would be trained on, be left out for another reason than the one counted, or show a
patient's text in a table of rejections.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from medvl_lib.expectations import Broken, between, first_broken, in_set, matches, structural_rules
from medvl_lib.tables import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    row_id: Annotated[str, Column("the row")]
    report: Annotated[str, Column("free text")]
    side: Annotated[Literal["left", "right"] | None, Column("which knee")]


RULES = (*structural_rules(Row, {"report": "report_characters"}), between("report_too_long", "report_characters", None, 9))
NAMES = ("row_id", "report_characters", "side")


def test_structure_comes_from_the_row_model():
    found = [(rule.reason, rule.column, rule.expectation.removeprefix("expect_column_values_to_")) for rule in RULES[:3]]
    assert found == [
        ("row_id_missing", "row_id", "not_be_null"),
        ("report_missing", "report_characters", "not_be_null"),
        ("side_unknown", "side", "be_in_set"),
    ]


def test_a_row_gets_the_first_reason_in_the_order_of_the_rules():
    batches = [[("a", 5, "left"), ("b", None, "up"), ("c", 12, "up")], [("d", 12, None), ("e", 9, None)]]
    assert first_broken(RULES, NAMES, batches) == {
        "b": Broken("report_missing", "report_characters is null"),
        "c": Broken("side_unknown", "side is 'up'"),
        "d": Broken("report_too_long", "report_characters is 12"),
    }


def test_a_long_label_is_told_by_its_length_only():
    (broken,) = first_broken(RULES, NAMES, [[("a", 1, "Mr Smith's knee hurts")]]).values()
    assert broken == Broken("side_unknown", "side has 21 characters")


def test_numbers_are_written_out():
    rules = (between("too_large", "n", None, 1e6),)
    assert first_broken(rules, ("id", "n"), [[("a", 12_345_678), ("b", 2.5e6)]])["a"].detail == "n is 12345678"


def test_labels_can_be_held_to_a_form_or_a_set():
    rules = (matches("language_unknown", "language", "^[a-z]{2}$"), in_set("is_closed", "is_open", [True]))
    found = first_broken(rules, ("id", "language", "is_open"), [[("a", "en", True), ("b", "eng", True), ("c", None, False)]])
    assert {key: broken.reason for key, broken in found.items()} == {"b": "language_unknown", "c": "is_closed"}


def test_an_expectation_that_cannot_be_computed_is_an_error_not_a_pass():
    with pytest.raises(RuntimeError, match="report_too_long could not be tested"):
        first_broken(RULES[3:], ("row_id",), [[("a",)]])


def test_an_empty_table_does_not_even_import_great_expectations():
    import subprocess
    import sys

    code = "import sys; from medvl_lib.expectations import *; first_broken((), ('a',), []); print('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_great_expectations_prints_nothing(capfd):
    first_broken(RULES, NAMES, [[("a", 5, "left")]])
    assert capfd.readouterr() == ("", "")
