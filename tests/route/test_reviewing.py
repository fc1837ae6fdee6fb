"""Sheets out, ratings in. If these passed wrongly, a rating would be lost, read twice, or stand beside the wrong answer; a bad file would
leave half of itself; or a comment would be told where it must not.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.publish import ask, publish
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import PREDICTIONS
from medvl_lib.provenance import Artifact
from medvl_lib.report.content import as_json
from medvl_lib.report.gather import find, gather
from medvl_lib.report.html import read_table_of, render_html
from medvl_lib.report.markdown import render_markdown
from medvl_lib.reviews.filled import SheetRefused
from medvl_lib.reviews.reading import Read, read_reviews
from medvl_lib.reviews.sheet import SheetRequest
from medvl_lib.reviews.tables import ITEMS, Item
from medvl_lib.route.reviewing import hand_out, make_sheet
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace
from tests.report.reported import NOW, SHOWN, reported
from tests.reviews.sheets import Row, blank, filled_in, rated_by

REQUEST = SheetRequest(num_pairs=10, variants=("base", "adapter"), seed="1", seen_by_raters=())
COMMENT = "walrus"


def judgement(row: Row) -> int:
    return 1 if row["answer"].startswith("(") else 4


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Artifact]:
    """An evaluation with one sheet."""
    workspace = reported(tmp_path_factory.mktemp("original")).workspace
    return workspace, make_sheet(workspace, "documents", REQUEST, SHOWN)


class Desk:
    """A data root of a test's own, a sheet of it, and the sheets that come back."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.workspace = Workspace(root=root)
        self.folder = folder
        [directory] = self.workspace.written("review_sheets")
        self.made = make_sheet(self.workspace, "documents", REQUEST, SHOWN)
        assert self.made.directory == directory
        self.rows = blank(hand_out(self.made, folder)[0])
        self.key = {item.item_id: item for item in read_table(self.made.directory / ITEMS, Item)}

    def back(self, rater: str, rows: list[Row] | None = None, **changes: str) -> Path:
        """A rater's file; ``changes`` are to its first row."""
        rated = rated_by(rater, self.rows, judgement) if rows is None else rows
        return filled_in(self.folder / f"{rater}.csv", [{**rated[0], **changes}, *rated[1:]])

    def read(self, *paths: Path, is_replacing: bool = False) -> Read:
        [found] = read_reviews(self.workspace, paths, is_replacing=is_replacing)
        return found

    def sql(self, question: str) -> list[tuple]:
        publish(self.workspace)
        return ask(self.workspace, question).rows


@pytest.fixture
def desk(original: tuple[Workspace, Artifact], tmp_path: Path) -> Desk:
    return Desk(shutil.copytree(original[0].root, tmp_path / "data"), tmp_path / "out")


def test_every_rating_stands_in_the_store_beside_the_answer_that_was_rated(desk: Desk):
    desk.read(desk.back("Anna", comment=COMMENT))
    stored = desk.sql("select item_id, pair_id, variant, rater, correctness, is_harmful, comment from reviews order by all")
    said = {row["item"]: judgement(row) for row in desk.rows}
    assert {row[0]: row[1:] for row in stored} == {
        item_id: (item.pair_id, item.variant, "Anna", said[item_id], False, COMMENT if item_id == desk.rows[0]["item"] else "")
        for item_id, item in desk.key.items()
    }


def test_sheets_of_two_raters_read_together_or_one_after_the_other_are_the_same(desk: Desk, original, tmp_path: Path):
    anna, boris = desk.back("Anna"), desk.back("Boris", correctness="5")
    apart = [desk.read(anna), desk.read(boris)][-1]
    other = Desk(shutil.copytree(original[0].root, tmp_path / "other"), tmp_path / "out2")
    assert apart.reviews.fingerprint == other.read(boris, anna).reviews.fingerprint
    assert (apart.reviews.facts["num_raters"], apart.reviews.facts["num_reviews"]) == (2, 40)


def test_reading_a_sheet_again_changes_nothing(desk: Desk):
    first = desk.read(desk.back("Anna"))
    again = desk.read(desk.back("Anna"))
    assert (again.reviews.fingerprint, again.reviews.reused) == (first.reviews.fingerprint, True)
    assert desk.sql("select count(*) from reviews") == [(20,)]


def test_what_was_left_empty_can_come_later(desk: Desk):
    rated = rated_by("Anna", desk.rows, judgement)
    desk.read(desk.back("Anna", [*rated[:5], *desk.rows[5:]]))
    assert desk.sql("select count(*) from reviews") == [(5,)]
    found = desk.read(desk.back("Anna", [*desk.rows[:5], *rated[5:]]))
    assert desk.sql("select count(*) from reviews") == [(20,)]
    assert [len(file.empty) for file in found.files] == [5]


def test_a_changed_opinion_is_refused_and_taken_when_it_is_asked_for(desk: Desk):
    first = desk.read(desk.back("Anna"))
    changed = desk.back("Anna", correctness="2")
    with pytest.raises(SheetRefused) as refusal:
        desk.read(changed)
    assert refusal.value.where == f"{changed}, line 2, column correctness (first in {first.reviews.directory})"
    assert "--replace" in refusal.value.do
    assert desk.sql("select count(*) from reviews where correctness = 2") == [(0,)]
    desk.read(changed, is_replacing=True)
    assert desk.sql("select count(*), count(*) filter (where correctness = 2) from reviews") == [(20, 1)]
    assert first.reviews.directory.is_dir()  # what was said before is still there


def test_a_bad_file_leaves_nothing_of_the_good_one_beside_it(desk: Desk):
    with pytest.raises(SheetRefused, match="'9'"):
        desk.read(desk.back("Anna"), desk.back("Boris", correctness="9"))
    assert desk.workspace.written("reviews") == []


def test_two_people_who_give_one_name_are_not_mixed(desk: Desk):
    desk.read(desk.back("Anna"))
    with pytest.raises(SheetRefused, match="raters 'Anna' and 'ANNA'"):
        desk.read(desk.back("ANNA"))


def test_answers_that_are_damaged_give_no_sheet(desk: Desk):
    [predictions] = desk.workspace.written("predictions")
    (predictions / PREDICTIONS).write_bytes(b"no parquet")
    with pytest.raises(InputRefused, match=r"predictions.parquet has 10 bytes"):
        make_sheet(desk.workspace, "documents", replace(REQUEST, seed="3"), SHOWN)


def test_items_that_were_moved_against_their_texts_are_refused_with_their_rows(desk: Desk):
    """As where one column was sorted, or a cell was deleted and those below moved up.

    Two rows that say the same word for word, drawn one after the other, cannot be told apart: the first line that differs is named.
    """
    rated = rated_by("Anna", desk.rows, judgement)
    texts = [(row["question"].split(), row["answer"].split()) for row in rated]
    first = next(number for number, text in enumerate(texts) if text != texts[(number + 1) % len(texts)])
    moved = [{**row, "item": rated[(number + 1) % len(rated)]["item"]} for number, row in enumerate(rated)]
    with pytest.raises(SheetRefused, match=f"texts are not those that were given out beside their items: line {first + 2} ") as refused:
        desk.read(desk.back("Anna", moved))
    assert "row by row, into the sheet that was given out" in refused.value.do
    assert desk.workspace.written("reviews") == []


def test_an_answer_that_was_edited_is_refused_and_not_quoted(desk: Desk):
    rated = rated_by("Anna", desk.rows, judgement)
    path = desk.back("Anna", [*rated[:3], {**rated[3], "answer": "Sodium: 999 zebra"}, *rated[4:]])
    with pytest.raises(SheetRefused) as refused:
        desk.read(path)
    assert refused.value.found.startswith("1 texts are not those that were given out beside their items: line ")
    assert refused.value.found.endswith(f"({rated[3]['item']}: answer)")
    assert "zebra" not in str(refused.value)


def test_texts_that_were_taken_out_or_that_have_other_white_space_are_read(desk: Desk):
    rated = rated_by("Anna", desk.rows, judgement)
    spaced = [{**row, "answer": row["answer"].replace("\n", "\r\n ")} for row in rated]
    desk.read(desk.back("Anna", spaced))
    desk.read(filled_in(desk.folder / "bare.csv", rated, columns=["item", "rater", "correctness", "harmful", "comment"]))
    assert desk.sql("select count(*) from reviews") == [(20,)]


def test_an_unknown_item_is_refused_even_where_nothing_is_rated(desk: Desk):
    path = desk.back("Anna", [*rated_by("Anna", desk.rows, judgement), {"item": "r0000000000"}])
    with pytest.raises(SheetRefused) as refusal:
        desk.read(path)
    assert (refusal.value.found, refusal.value.where[-13:]) == ("unknown item 'r0000000000'", ", column item")


def test_items_of_two_sheets_in_one_file_are_refused_and_two_files_are_read(desk: Desk):
    other = make_sheet(desk.workspace, "documents", replace(REQUEST, seed="2"), SHOWN)
    others = rated_by("Anna", blank(other.directory / "sheet.csv"), judgement)
    mixed = filled_in(desk.folder / "mixed.csv", [*rated_by("Anna", desk.rows, judgement), others[0]])
    with pytest.raises(SheetRefused, match="an item of another sheet"):
        desk.read(mixed)
    found = read_reviews(desk.workspace, [desk.back("Anna"), filled_in(desk.folder / "2.csv", others)], is_replacing=False)
    assert {read.sheet.fingerprint for read in found} == {desk.made.fingerprint, other.fingerprint}
    assert desk.sql("select sheet_id, count(*) from reviews group by all order by all") == sorted(
        [(desk.made.fingerprint, 20), (other.fingerprint, 20)]
    )


def test_an_empty_sheet_is_not_taken_for_ratings(desk: Desk):
    with pytest.raises(SheetRefused, match="no row is rated"):
        desk.read(filled_in(desk.folder / "empty.csv", desk.rows))


def test_the_view_says_per_variant_and_question_what_the_rows_say(desk: Desk):
    desk.read(desk.back("Anna"), desk.back("Boris"))
    question = """
        select v.variant, v.n, v.num_raters, v.mean, s.mean from expert_ratings v
        join (select variant, avg(correctness) as mean from reviews group by variant) s using (variant)
        where v.question = 'correctness' order by v.variant
    """
    rows = desk.sql(question)
    assert [(variant, n, raters) for variant, n, raters, *_ in rows] == [("adapter", 10, 2), ("base", 10, 2)]
    assert all(shown == pytest.approx(counted) for *_, shown, counted in rows)
    assert desk.sql("select distinct coefficient, agreement from expert_ratings where question = 'correctness' and variant = 'all'") == [
        ("quadratic_kappa", 1.0)
    ]


def test_the_report_has_the_ratings_and_neither_names_nor_comments(desk: Desk):
    before = gather(desk.workspace, find(desk.workspace, "documents"), SHOWN, NOW)
    assert "No blinded ratings by experts were read" in render_html(before)
    desk.read(desk.back("Anna", comment=COMMENT), desk.back("Boris"))
    report = gather(desk.workspace, find(desk.workspace, "documents"), SHOWN, NOW)
    page, text, machine = render_html(report), render_markdown(report), as_json(report)
    stored = {
        row[0]: row[1:] for row in desk.sql("select variant, mean, ci_low, ci_high from expert_ratings where question = 'correctness'")
    }
    shown = {
        row["variant"]: (row["mean"], row["from"], row["to"])
        for row in read_table_of(page, f"ratings-{desk.made.fingerprint}") if row["question"] == "correctness"
    }  # fmt: skip
    assert shown == {variant: stored[variant] for variant in ("base", "adapter")}
    told = {row["variant"]: row["mean"] for row in json.loads(machine)["rating_summaries"] if row["question"] == "correctness"}
    assert told == {variant: values[0] for variant, values in stored.items()}
    for form in (page, text, machine):
        assert COMMENT not in form
        assert "Anna" not in form
    assert {record.step for record in report.records} >= {"reviews", "review_sheets"}
    assert "1 ratings have a comment" in page


def test_a_comment_is_in_no_fact_and_in_no_provenance(desk: Desk):
    found = desk.read(desk.back("Anna", comment=COMMENT))
    written = (found.reviews.directory / "provenance.json").read_text() + (found.reviews.directory / "verdicts.json").read_text()
    assert COMMENT not in written
    assert "Anna" not in written
