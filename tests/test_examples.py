"""Rows that may be shown. If these passed wrongly, a patient's text would stand in an event log that never shrinks, or nobody would see
what a model reads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from medvl_lib.examples import Examples, render_examples
from medvl_lib.tables import Column, write_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    dataset: Annotated[str, Column("whose it is")]
    licence: Annotated[str, Column("what may be done with it")] = "CC0-1.0"
    text: Annotated[str, Column("what it says")]
    num_tokens: Annotated[int, Column("how long it is")]


def rendered(folder: Path, *rows: Row, shown: tuple[str, ...] = ("slake",)) -> str:
    write_table(folder / "examples.parquet", Row, rows)
    return render_examples(folder, Examples(file="examples.parquet", model=Row, shown_licences=dict.fromkeys(shown, ("CC0-1.0",))))


def cell(folder: Path, text: str) -> str:
    *_, line = rendered(folder, Row(dataset="slake", text=text, num_tokens=7)).splitlines()
    return line.removeprefix("| ` slake ` | ` CC0-1.0 ` | ").removesuffix(" | 7 |")


def test_rows_that_may_be_shown_are_a_table(tmp_path: Path):
    assert rendered(tmp_path, Row(dataset="slake", text="Lung", num_tokens=7), Row(dataset="slake", text="", num_tokens=0)) == (
        "| dataset | licence | text | num_tokens |\n| --- | --- | --- | --- |\n| ` slake ` | ` CC0-1.0 ` | ` Lung ` | 7 |\n"
        "| ` slake ` | ` CC0-1.0 ` |  | 0 |"
    )


def test_a_row_that_may_not_be_shown_withholds_itself_alone_and_says_why_and_where(tmp_path: Path):
    rows = [Row(dataset=name, text=f"Xylophone {name}", num_tokens=1) for name in ("slake", "mimic_cxr", "slake")]
    said = rendered(tmp_path, *rows)
    assert said.count("` Xylophone slake `") == 2
    assert "Xylophone mimic_cxr" not in said
    assert said.endswith(
        f"\n\nNot shown: 1 of 3 rows are of mimic_cxr (CC0-1.0), and the data card does not allow that. "
        f"They lie in `{tmp_path / 'examples.parquet'}`."
    )


def test_where_no_row_may_be_shown_there_is_no_table(tmp_path: Path):
    rows = [Row(dataset=name, text=f"Xylophone {name}", num_tokens=1) for name in ("slake", "mimic_cxr")]
    said = rendered(tmp_path, *rows, shown=())
    assert said.startswith("Not shown: 2 of 2 rows are of mimic_cxr (CC0-1.0), slake (CC0-1.0), and")
    assert "Xylophone" not in said
    assert "|" not in said


def test_a_users_own_rows_in_the_layout_of_a_shown_dataset_are_withheld(tmp_path: Path):
    said = rendered(tmp_path, Row(dataset="slake", licence="not stated", text="Xylophone", num_tokens=1))
    assert "Xylophone" not in said
    assert "slake (not stated)" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<|im_start|>user\nWhich?", r"` <\|im_start\|>user⏎Which? `"),
        ("a `b` ``c`` d", "``` a `b` ``c`` d ```"),
        ("one\r\ntwo\rthree\u2028four", "` one⏎two⏎three⏎four `"),
        ("![x](http://a.b/c)", "` ![x](http://a.b/c) `"),
    ],
)
def test_nothing_in_a_text_is_taken_for_markdown(tmp_path: Path, text: str, shown: str):
    assert cell(tmp_path, text) == shown


def test_a_long_text_is_cut_in_its_middle_and_says_by_how_much(tmp_path: Path):
    assert cell(tmp_path, "a" * 300 + "bcd" + "e" * 100) == f"` {'a' * 300} [... 3 characters ...] {'e' * 100} `"
    assert cell(tmp_path, "a" * 300 + "e" * 100) == f"` {'a' * 300}{'e' * 100} `"
