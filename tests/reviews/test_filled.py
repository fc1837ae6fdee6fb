"""Reading a sheet that came back. If these passed wrongly, a rating would be guessed, lost, or read as somebody else's; or a patient's text
would stand in an error.
"""

from pathlib import Path

import pytest

from medvl_lib.reviews.filled import SheetRefused, read_filled
from medvl_lib.reviews.sheet import COLUMNS
from tests.reviews.sheets import filled_in

ROW = {"item": "r0123456789", "question": "?", "answer": "Sodium: 4.1\nµmol", "rater": "Anna", "correctness": "4", "harmful": "no"}
PRIVATE = "Mrs Example of Main Street 5 was admitted with fever"


def refusal(path: Path) -> SheetRefused:
    with pytest.raises(SheetRefused) as refused:
        read_filled(path)
    return refused.value


def test_a_row_is_read_as_it_stands(tmp_path: Path):
    path = filled_in(tmp_path / "s.csv", [{**ROW, "comment": " the unit is wrong: µ "}])
    [rating] = read_filled(path).ratings
    assert (rating.item_id, rating.rater, rating.said) == ("r0123456789", "Anna", (4, False, "the unit is wrong: µ"))
    assert rating.where == f"{path}, line 2"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_spreadsheets_of_other_countries_write_is_read_alike(tmp_path: Path, delimiter: str, encoding: str):
    rows = [{**ROW, "comment": 'a, b; "c"\nd'}, {**ROW, "item": "r1", "harmful": "YES", "rater": " Anna\u00a0"}]
    found = read_filled(filled_in(tmp_path / "s.csv", rows, delimiter=delimiter, encoding=encoding))
    assert [rating.said for rating in found.ratings] == [(4, False, 'a, b; "c"\nd'), (4, True, "")]
    assert {rating.rater for rating in found.ratings} == {"Anna"}


def test_columns_may_stand_in_any_order_and_the_texts_may_be_gone(tmp_path: Path):
    path = filled_in(tmp_path / "s.csv", [ROW], columns=["rater", "item", "comment", "harmful", "correctness"])
    assert read_filled(path).ratings[0].said == (4, False, "")


def test_what_was_left_empty_is_counted_and_no_rating(tmp_path: Path):
    rows = [ROW, {"item": "r1", "rater": "Anna"}, {"item": "r2"}, {}]
    found = read_filled(filled_in(tmp_path / "s.csv", rows))
    assert len(found.ratings) == 1
    assert [item for _, item in found.empty] == ["r1", "r2"]


def test_a_comment_alone_or_half_a_rating_is_kept(tmp_path: Path):
    rows = [{"item": "r1", "rater": "Anna", "comment": "cannot tell"}, {"item": "r2", "rater": "Anna", "harmful": "yes"}]
    assert [rating.said for rating in read_filled(filled_in(tmp_path / "s.csv", rows)).ratings] == [
        (None, None, "cannot tell"), (None, True, ""),
    ]  # fmt: skip


def test_cells_that_a_spreadsheet_leaves_out_at_the_end_of_a_row_are_empty(tmp_path: Path):
    path = tmp_path / "s.csv"
    path.write_text(f"{','.join(COLUMNS)},,\nr1,?,x,Anna,3\nr2,?,x,Anna,3,no,,,\n")
    assert [rating.said for rating in read_filled(path).ratings] == [(3, None, ""), (3, False, "")]


@pytest.mark.parametrize(
    ("changes", "column", "found"),
    [
        ({"correctness": "6"}, "correctness", "'6'"),
        ({"correctness": "0"}, "correctness", "'0'"),
        ({"correctness": "4.0"}, "correctness", "'4.0'"),
        ({"correctness": "3-4"}, "correctness", "'3-4'"),
        ({"correctness": "４"}, "correctness", "'４'"),
        ({"harmful": "y"}, "harmful", "'y'"),
        ({"harmful": "maybe"}, "harmful", "'maybe'"),
        ({"rater": ""}, "rater", "without rater"),
        ({"item": ""}, "item", "without item"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_line_and_column(tmp_path: Path, changes: dict[str, str], column: str, found: str):
    path = filled_in(tmp_path / "s.csv", [ROW, {**ROW, "item": "r1", **changes}])
    refused = refusal(path)
    assert found in refused.found
    assert refused.where == f"{path}, line 4, column {column}"  # the answer of the row above runs over two lines


def test_a_text_in_the_wrong_column_is_not_quoted(tmp_path: Path):
    refused = refusal(filled_in(tmp_path / "s.csv", [{**ROW, "correctness": PRIVATE}]))
    assert refused.found == f"a text of {len(PRIVATE)} characters"
    assert PRIVATE not in str(refused)


def test_a_rater_who_rates_an_item_twice_and_otherwise_is_refused(tmp_path: Path):
    path = filled_in(tmp_path / "s.csv", [ROW, {**ROW, "harmful": "yes", "comment": PRIVATE}])
    refused = refusal(path)
    assert refused.found == "'Anna' rates the item 'r0123456789' twice, and not alike"
    assert refused.where == f"{path}, line 4, column harmful (first in {path}, line 2)"
    assert PRIVATE not in str(refused)


def test_the_same_row_twice_is_one_rating_and_another_rater_is_another(tmp_path: Path):
    found = read_filled(filled_in(tmp_path / "s.csv", [ROW, ROW, {**ROW, "rater": "Boris", "correctness": "1"}]))
    assert [(rating.rater, rating.correctness) for rating in found.ratings] == [("Anna", 4), ("Boris", 1)]


def test_one_name_in_two_spellings_is_not_guessed_to_be_one_person(tmp_path: Path):
    refused = refusal(filled_in(tmp_path / "s.csv", [ROW, {**ROW, "item": "r1", "rater": "anna"}]))
    assert refused.found == "raters 'Anna' and 'anna'"
    assert "line 4, column rater" in refused.where


@pytest.mark.parametrize("missing", ["item", "rater", "correctness", "harmful", "comment"])
def test_a_missing_column_is_named(tmp_path: Path, missing: str):
    path = filled_in(tmp_path / "s.csv", [ROW], columns=[name for name in COLUMNS if name != missing])
    refused = refusal(path)
    assert refused.found.startswith(f"no column {missing!r}; there are ")
    assert refused.where == f"{path}, line 1 (read with commas between columns)"


def test_an_unknown_column_is_refused_with_the_nearest_and_a_column_twice_too(tmp_path: Path):
    refused = refusal(filled_in(tmp_path / "a.csv", [ROW], columns=[*COLUMNS, "remarc"]))
    assert refused.found == "unknown column 'remarc'"
    (tmp_path / "b.csv").write_text(",".join([*COLUMNS, "rater"]) + "\n")
    assert refusal(tmp_path / "b.csv").found == "several columns 'rater'"


def test_a_cell_under_no_column_is_refused(tmp_path: Path):
    """As where a comment with a comma lost its quotes."""
    path = tmp_path / "s.csv"
    path.write_text(",".join(COLUMNS) + "\nr1,?,one,Anna,3,no,the unit, and the date\n")
    refused = refusal(path)
    assert (refused.found, refused.where) == ("a cell under no column", f"{path}, line 2, column 8")


@pytest.mark.parametrize(
    ("data", "found", "where"),
    [
        ("item,rater,correctness,harmful,comment\nr1,Jörg,4,no,\n".encode("cp1252"), "byte 0xf6 is no UTF-8", ", line 2"),
        ("item\trater\n".encode("utf-16"), "the file is UTF-16", ""),
        (b"PK\x03\x04rest", "the file is a workbook (.xlsx or .ods), not CSV", ""),
        (b"", "no column 'item', 'rater', 'correctness', 'harmful', 'comment'; there are none", ", line 1"),
        (b'item,rater,correctness,harmful,comment\nr1,Anna,4,no,"open\n', "the row is no CSV: unexpected end of data", ", line 2"),
    ],
)
def test_a_file_that_is_none_is_told_what_it_is(tmp_path: Path, data: bytes, found: str, where: str):
    path = tmp_path / "s.csv"
    path.write_bytes(data)
    refused = refusal(path)
    assert refused.found == found
    assert refused.where.startswith(f"{path}{where}")


def test_a_file_that_is_not_there_is_said():
    assert refusal(Path("/nowhere/s.csv")).found == "No such file or directory"
