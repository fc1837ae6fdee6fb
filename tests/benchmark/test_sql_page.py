"""``docs/sql.md`` run: if these passed wrongly, a user would copy a question that fails, or read columns that are not there."""

import re
from pathlib import Path

import pytest

from medvl_lib.benchmark.publish import ask
from medvl_lib.benchmark.terminal import render_table
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import overrule, run, take_back
from tests.benchmark.written_reports import odd, write_questions, write_reports
from tests.reviews.rated import rate

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
BLOCK = re.compile(r"^## (?P<title>.+?)$(?:(?!^## ).)*?^```sql\n(?P<sql>.+?)^```\n+```text\n(?P<shown>.+?)^```$", re.MULTILINE | re.DOTALL)
QUESTIONS = {found["title"]: (found["sql"], found["shown"]) for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


def _reports_and_questions(folder: Path) -> None:
    write_reports(folder, odd)
    write_questions(folder)


OPINIONS = {
    "base": ((3, 2, 2, 1, 3, 2, 1, 2), (2, 2, 2, 1, 4, 2, 2, 2)),
    "adapter": ((1, 4, 5, 2, 5, 1, 5, 4), (1, 3, 5, 4, 5, 2, 5, 4)),
}
"""What two raters say of the first eight pages."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Sixty pages, evaluated twice: the second adapter reads laboratory sheets better than the first, and everything else worse.

    Beside them reports, some in two languages, and questions about sides, answered alike in both evaluations. Eight pages of the second
    evaluation were rated by two people, one of whom then decided for
    the base model. Before that the first adapter was taken back for a while.
    """
    root = tmp_path_factory.mktemp("asked")
    shared = {"base": lambda number: number % 4 == 0, "nf4": lambda number: number % 8 == 0, "also": _reports_and_questions}
    run(root, 60, weights="w1", **shared)
    evaluated = run(root, 60, weights="w2", adapter=lambda number: 2 if number % 2 == 0 and number % 12 else number % 6 == 1, **shared)
    rate(evaluated, OPINIONS, {"adapter-p003": "reads the date as a value"})
    take_back(evaluated, "rollback", "Dr. Berg", "complaints from the ward")
    take_back(evaluated, "release", "Dr. Adler", "it was the scanner")
    overrule(evaluated, "base", "Dr. Adler")
    return evaluated.workspace


@pytest.mark.parametrize("title", QUESTIONS)
def test_the_answer_to_every_question_is_the_one_on_the_page(store: Workspace, title: str):
    sql, shown = QUESTIONS[title]
    answer = ask(store, sql)
    assert answer.rows
    assert render_table(answer.columns, answer.rows) + "\n" == shown


def test_there_are_a_dozen_questions_and_no_sql_on_the_page_is_left_out():
    text = PAGE.read_text(encoding="utf-8")
    assert len(QUESTIONS) >= 12
    assert len(QUESTIONS) == text.count("```sql") == text.count("\n## ")


def test_every_view_answers_a_question_on_the_page(store: Workspace):
    asked = "\n".join(sql for sql, _ in QUESTIONS.values())
    views = [name for (name,) in ask(store, "select view_name from duckdb_views() where not internal").rows]
    assert "medvl sql encoder_recall" in PAGE.read_text(encoding="utf-8")  # the page's own store has no line with an encoder
    assert not [view for view in views if view != "encoder_recall" and not re.search(rf"\b{view}\b", asked)]
