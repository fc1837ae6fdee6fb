"""Sections of reports. If these passed wrongly, a preliminary reading or a patient's history would be taught as what a picture shows."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvl_lib.datasets.radiology_report import Kind, Section, findings, impression, sections

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "chexpert-labeler"
RULE = "_" * 78


def kinds(report: str) -> list[Kind]:
    return [section.kind for section in sections(report)]


def texts(report: str) -> dict[str, str]:
    return {section.kind: " ".join(section.text.split()) for section in sections(report) if section.text.strip()}


def joined(found: tuple[Section, ...]) -> str:
    return "".join(section.heading + section.text for section in found)


def found_in(report: str) -> tuple[str | None, str | None]:
    """Findings and impression."""
    said, concluded = findings(sections(report)), impression(sections(report))
    return said and said.text, concluded and concluded.text


WHOLE = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for
 infection

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation,
 pleural effusion or pneumothorax.  Bilateral nodular opacities
 that most likely represent nipple shadows.

 The heart is normal.

 IMPRESSION:

 No acute cardiopulmonary process.
"""


def test_a_report_with_all_sections_is_cut_at_its_headings():
    assert texts(WHOLE) == {
        "examination": "CHEST (PA AND LAT)",
        "indication": "___F with new onset ascites // eval for infection",
        "technique": "Chest PA and lateral",
        "comparison": "None.",
        "findings": "There is no focal consolidation, pleural effusion or pneumothorax. Bilateral nodular opacities that most likely "
        "represent nipple shadows. The heart is normal.",
        "impression": "No acute cardiopulmonary process.",
    }  # fmt: skip
    assert joined(sections(WHOLE)) == WHOLE


def test_lines_are_joined_and_paragraphs_are_not():
    assert found_in(WHOLE)[0] == (
        "There is no focal consolidation, pleural effusion or pneumothorax. Bilateral nodular opacities that most likely represent nipple "
        "shadows.\nThe heart is normal."
    )


def test_items_of_a_list_are_lines():
    report = "IMPRESSION:\n 1.  Mild edema, no\n effusion.\n 2.  Large heart. \n\n 10) No fracture."
    assert found_in(report)[1] == "1. Mild edema, no effusion.\n2. Large heart.\n10) No fracture."


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("FINDINGS:", "findings"), ("Findings:", "findings"), ("findings :", "findings"), ("FINDINGS", "findings"),
        ("FINDING:", "findings"),
        ("IMPRESSION:", "impression"), ("Impression:", "impression"), ("CONCLUSION:", "impression"), ("IMPRESSIONS", "impression"),
        ("FINDINGS AND IMPRESSION:", "findings_and_impression"), ("Findings/Impression:", "findings_and_impression"),
        ("IMPRESSION  AND  FINDINGS:", "findings_and_impression"), ("FINDINGS & IMPRESSION:", "findings_and_impression"),
        ("HISTORY:", "indication"), ("CLINICAL HISTORY:", "indication"), ("REASON FOR EXAMINATION:", "indication"),
        ("Clinical Information:", "indication"), ("PRIOR MEDICAL HISTORY:", "indication"),
        ("COMPARISONS:", "comparison"), ("Comparison studies:", "comparison"), ("COMPARISON EXAMINATION, CHEST:", "comparison"),
        ("TECHNIQUE:", "technique"), ("VIEWS:", "technique"), ("EXAM:", "examination"), ("STUDY:", "examination"),
        ("PA AND LATERAL VIEWS OF THE CHEST:", "views"), ("CHEST, TWO VIEWS:", "views"), ("PORTABLE CHEST X-RAY:", "views"),
        ("RECOMMENDATION(S):", "recommendation"), ("NOTIFICATION:", "notification"), ("ADDENDUM:", "addendum"),
        ("FINAL ADDENDUM", "addendum"), ("ADDENDUM #2 by a colleague", "addendum"), ("WET READ: at noon", "wet_read"),
    ],
)  # fmt: skip
def test_a_heading_is_known_in_each_of_its_forms(heading: str, kind: Kind):
    report = f"INDICATION: Cough.\n\n {heading}\n The lungs are clear and wide."
    assert kinds(report) == ["indication", kind]
    assert joined(sections(report)) == report


@pytest.mark.parametrize(
    "line",
    [
        "findings: as before",  # a wrapped sentence
        "History",  # the same
        "impression of a nodule",
        "LUNGS: clear.",  # a topic
        "CHEST WALL: normal.",
        "at 9:04 the tube",
        "FINDINGS are as before",
    ],
)
def test_a_line_of_the_text_is_no_heading(line: str):
    assert kinds(f"FINDINGS: The lungs are clear, and\n {line}\n or so.") == ["findings"]


def test_a_report_on_one_line_is_cut_behind_its_full_stops():
    report = "HISTORY: Cough. COMPARISON: None. FINDINGS: The lungs are clear. IMPRESSION: No acute process."
    assert texts(report) == {
        "indication": "Cough.", "comparison": "None.", "findings": "The lungs are clear.", "impression": "No acute process.",
    }  # fmt: skip
    assert texts("Findings: The lungs are clear. Impression: No acute process.") == {
        "findings": "The lungs are clear.", "impression": "No acute process.",
    }  # fmt: skip
    assert kinds("FINDINGS: see the INDICATION: above, the Impression: and these. findings: too") == ["findings"]


def test_findings_and_impression_in_one_serve_as_both():
    report = "COMPARISON: None.\n\nFINDINGS AND IMPRESSION: The lungs are clear."
    assert found_in(report) == ("The lungs are clear.", "The lungs are clear.")


def test_a_paragraph_without_a_name_is_the_findings_where_there_are_none():
    report = (
        "FINAL REPORT\n HISTORY: Cough.\n\n AP chest, 9:04 a.m., ___:\n\n The lungs are\n clear. No effusion.\n\n IMPRESSION: No change."
    )
    assert kinds(report) == ["final_report", "indication", "unnamed", "impression"]
    assert found_in(report) == ("The lungs are clear. No effusion.", "No change.")
    assert (
        found_in(report.replace("AP chest", "FINDINGS: None.\n\n AP chest"))[0]
        == "None.\nAP chest, 9:04 a.m., ___:\nThe lungs are clear. No effusion."
    )


def test_a_revised_report_is_a_final_one():
    assert kinds("   FINAL REPORT (REVISED)\n FINDINGS: The lungs are clear.") == ["final_report", "findings"]


def test_a_report_of_one_paragraph_has_findings_and_no_impression():
    assert found_in("                FINAL REPORT\n CHEST RADIOGRAPH PERFORMED ON ___\n\n The lungs are clear.\n") == (
        "The lungs are clear.",
        None,
    )
    assert found_in("The lungs are clear.") == ("The lungs are clear.", None)


def test_text_below_a_heading_that_names_the_picture_is_the_findings():
    assert found_in("INDICATION: Cough.\n\nAP CHEST:\n The lungs are clear.\n\n IMPRESSION: No change.") == (
        "The lungs are clear.",
        "No change.",
    )
    assert found_in("AP CHEST: Portable.\n FINDINGS: The lungs are clear.")[0] == "The lungs are clear."


def test_missing_sections_are_none():
    assert found_in("INDICATION: Cough.\n\nIMPRESSION: No change.") == (None, "No change.")
    assert found_in("INDICATION: Cough.\nFINDINGS: The lungs are clear.") == ("The lungs are clear.", None)
    assert found_in("INDICATION: Cough.\n FINDINGS: \n IMPRESSION:\n") == (None, None)
    assert sections("") == ()


def test_a_wet_read_is_no_part_of_the_final_report():
    wet = f" WET READ: ___ ___ 2:46 PM\n  FINDINGS: A nodule.\n  IMPRESSION: Nodule.\n {RULE}\n"
    report = f"{wet}                 FINAL REPORT\n FINDINGS:  No nodule.\n"
    assert [(section.kind, section.part) for section in sections(report)] == [
        ("wet_read", "wet_read"), ("findings", "wet_read"), ("impression", "wet_read"), ("final_report", "final"), ("findings", "final"),
    ]  # fmt: skip
    assert found_in(report) == ("No nodule.", None)


def test_an_addendum_before_or_behind_a_report_is_no_part_of_it():
    body = "FINAL REPORT\n FINDINGS: No nodule.\n IMPRESSION: Clear.\n"
    assert found_in(f"FINAL ADDENDUM\n ADDENDUM: On review,\n\n IMPRESSION: A nodule.\n {RULE}\n {body}") == ("No nodule.", "Clear.")
    assert found_in(f"{body} ADDENDUM: On review,\n\n IMPRESSION: A nodule.\n") == ("No nodule.", "Clear.")


def test_without_a_final_report_only_the_wet_read_itself_is_left_out():
    assert found_in("WET READ: Nodule.\n FINDINGS: No nodule.\n IMPRESSION: Clear.") == ("No nodule.", "Clear.")


def test_line_ends_of_windows_are_kept_and_disturb_nothing():
    report = WHOLE.replace("\n", "\r\n")
    assert joined(sections(report)) == report
    assert found_in(report) == found_in(WHOLE)


LINES = st.sampled_from([
    "FINDINGS:", "Findings: The lungs", "findings:", "IMPRESSION:", "IMPRESSION", "FINDINGS AND IMPRESSION: clear.", " WET READ: ___ 2 PM",
    "FINAL REPORT", "   FINAL REPORT", "ADDENDUM", "COMPARISON: None. FINDINGS: Clear.", "INDICATION:", "HISTORY: Cough.", "CHEST, PA:",
    "LUNGS: x",
    "", " ", "\r", "\t", "The heart is large.", "1. Edema.", RULE, "___", "é: ß", "RECOMMENDATION(S):", "A.  TECHNIQUE:", "\x0c", "\u2028",
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(LINES, max_size=12).map("\n".join), st.lists(LINES, max_size=8).map(" ".join)))
def test_no_character_of_any_report_is_lost_or_in_two_sections(report: str):
    found = sections(report)
    assert joined(found) == report
    assert all(section.heading or section.text for section in found)
    for said in (findings(found), impression(found)):
        assert said is None or said.text.strip()


@pytest.mark.real_data
def test_four_real_reports_are_one_paragraph_each():
    if not REAL.is_dir():
        pytest.skip(f"the sample reports are not at {REAL}")
    with (REAL / "sample_reports.csv").open(encoding="utf-8", newline="") as stream:
        reports = [row[0] for row in csv.reader(stream)]
    assert len(reports) == 4
    for report in reports:
        assert joined(sections(report)) == report
        assert kinds(report) == ["unnamed"]
        said, concluded = found_in(report)
        assert concluded is None
        assert said is not None
        assert said.split() == report.split()
