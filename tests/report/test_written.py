"""The report as a step writes it. If these passed wrongly, a damaged or indiscreet report would be signed with a green sign beside it."""

import shutil
from pathlib import Path

import pytest

from medvl_lib.provenance import judge, write_step
from medvl_lib.report.gather import find
from medvl_lib.report.written import MACHINE, PAGE, ROWS, TEXT, rules, write_report
from tests.damages import DAMAGES
from tests.report.reported import NOW, SHOWN


@pytest.fixture(scope="module")
def written(evaluated):
    judged = find(evaluated.workspace, "documents")
    return write_step(
        evaluated.workspace, "report", "documents", "v1", [judged.benchmark, judged.promotion],
        lambda folder: write_report(folder, evaluated.workspace, judged, SHOWN, NOW),
    )  # fmt: skip


def test_a_report_is_a_page_markdown_json_and_the_rows_it_was_made_of(written, evaluated):
    assert sorted(path.name for path in written.directory.iterdir() if not path.name.startswith(("prov", "verd"))) == [
        ROWS,
        PAGE,
        MACHINE,
        TEXT,
    ]
    assert (written.facts["verdict"], written.facts["num_examples"], written.facts["num_pairs_withheld"]) == ("promote", 4, 5)
    assert all(verdict.outcome.passed for verdict in judge(evaluated.workspace, written, rules(SHOWN)))


@pytest.mark.parametrize("rule", DAMAGES["report"])
def test_damage_is_found_by_exactly_its_rule(written, tmp_path: Path, rule: str):
    directory = shutil.copytree(written.directory, tmp_path / "damaged")
    DAMAGES["report"][rule](directory)
    assert [found.name for found in rules(SHOWN) if not found.holds(directory).passed] == [rule]


def test_a_changed_number_in_the_page_is_found(written, tmp_path: Path):
    directory = shutil.copytree(written.directory, tmp_path / "damaged")
    page = (directory / PAGE).read_text()
    (directory / PAGE).write_text(page.replace('<data value="60">60</data>', '<data value="61">61</data>'))
    failed = {found.name: found.holds(directory).offenders for found in rules(SHOWN) if not found.holds(directory).passed}
    assert list(failed) == ["every_row_stands_in_the_page", "all_forms_say_the_same"]
    assert failed["all_forms_say_the_same"] == (PAGE,)


def test_a_report_that_quotes_what_may_no_longer_be_shown_fails(written):
    assert [found.name for found in rules({}) if not found.holds(written.directory).passed] == ["only_what_may_be_shown_is_quoted"]
