"""What is wanted of the radiology line. If these passed wrongly, a label of the table would be taught, or scored, as another one."""

import pytest

from medvl_lib.datasets.mimic_cxr_texts import (
    OBSERVATIONS,
    ImpressionAnswer,
    Record,
    impression_texts,
    read_findings,
    read_impression,
    reasoning_texts,
)


def cells(**stated: str) -> dict[str, str]:
    return dict.fromkeys(OBSERVATIONS, "") | {name.replace("_", " "): cell for name, cell in stated.items()}


def test_an_impression_comes_with_the_labels_that_the_table_states():
    wanted = impression_texts("Mild edema.\nNo effusion.", cells(Pleural_Effusion="0.0", Edema="1.0", Pneumonia="-1.0"))
    assert wanted.request == "Write the impression of this chest radiograph study, then its CheXpert labels."
    assert wanted.response == (
        "Impression: Mild edema.\nNo effusion.\nCheXpert labels: Edema present, Pleural Effusion absent, Pneumonia uncertain"
    )


def test_a_row_that_states_nothing_and_no_row_are_told_apart():
    assert impression_texts("Clear.", cells()).response == "Impression: Clear.\nCheXpert labels: none stated"
    assert impression_texts("Clear.", None).response == "Impression: Clear."


@pytest.mark.parametrize("stated", [{}, {"Edema": "1.0"}, dict.fromkeys(OBSERVATIONS, "-1.0"), {"Lung_Lesion": "0.0", "No_Finding": "1.0"}])
def test_a_response_is_read_back_as_it_was_made(stated: dict[str, str]):
    states = {"1.0": "present", "0.0": "absent", "-1.0": "uncertain"}
    given = cells(**stated)
    expected = {name: states[cell] for name, cell in given.items() if cell}
    answer = impression_texts("1. Mild edema.\n2. Clear: else.", given).response
    assert read_impression(answer) == ImpressionAnswer("1. Mild edema.\n2. Clear: else.", expected, has_labels=True, has_heading=True)


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("", ImpressionAnswer("", {}, False, False)),
        ("The lungs are clear.", ImpressionAnswer("The lungs are clear.", {}, False, False)),
        ("impression: Clear.\nCHEXPERT LABELS: edema  Present; fracture absent.",
         ImpressionAnswer("Clear.", {"Edema": "present", "Fracture": "absent"}, True, True)),
        ("**Impression:** Clear.\n\n**CheXpert labels:** Edema absent", ImpressionAnswer("Clear.", {"Edema": "absent"}, True, True)),
        ("Impression: Clear.\nCheXpert labels: Edema present, Edema absent", ImpressionAnswer("Clear.", {"Edema": "absent"}, True, True)),
        ("Impression: Clear.\nCheXpert labels: edemas, Heart present", ImpressionAnswer("Clear.", {}, True, True)),
        ("Impression: Clear. CheXpert labels: Edema present", ImpressionAnswer("Clear.", {"Edema": "present"}, True, True)),
        ("CheXpert labels: a CheXpert labels: Edema present", ImpressionAnswer("", {"Edema": "present"}, True, False)),
    ],
)  # fmt: skip
def test_an_answer_like_it_is_read_as_far_as_it_is_one(answer: str, read: ImpressionAnswer):
    assert read_impression(answer) == read


@pytest.mark.parametrize(
    ("answer", "is_readable"),
    [
        ("Impression: Clear.", True), ("impression:\nClear.", True), ("## Impression: Clear.", True), ("Clear.", False), ("", False),
        ("Impression:", False), ("Impression: ...\nCheXpert labels: Edema present", False), ("Findings: Clear.\nImpression: Clear.", False),
    ],
)  # fmt: skip
def test_an_answer_without_the_format_is_told_from_one_that_has_it(answer: str, is_readable: bool):
    assert read_impression(answer).is_readable == is_readable


def test_findings_without_a_record_are_asked_for_alone():
    wanted = reasoning_texts("The lungs are clear.", None)
    assert wanted == ("Describe the findings of this chest radiograph study.", "Findings: The lungs are clear.")
    assert read_findings(wanted.response) == "The lungs are clear."


def test_a_record_stands_in_the_request_and_its_diagnoses_in_the_response():
    record = Record("Patient: 63 years old, female", "Diagnoses:\n- ICD-10 I509: Heart failure, unspecified")
    wanted = reasoning_texts("The heart is large.", record)
    assert wanted.request == (
        "Describe the findings of this chest radiograph study, then name the ICD diagnoses of the admission.\n\n"
        "On record before the study:\nPatient: 63 years old, female"
    )
    assert wanted.response == "Findings: The heart is large.\n\nDiagnoses:\n- ICD-10 I509: Heart failure, unspecified"
    assert read_findings(wanted.response) == "The heart is large."


def test_a_record_without_diagnoses_asks_for_none():
    wanted = reasoning_texts("The heart is large.", Record("Patient: age not known, male", ""))
    assert wanted.request.startswith("Describe the findings of this chest radiograph study.\n\nOn record")
    assert wanted.response == "Findings: The heart is large."


def test_findings_are_read_from_answers_of_other_forms():
    assert read_findings("A large heart.") == "A large heart."
    assert read_findings("findings: A large heart.\nDiagnoses:\n- ICD-10 I10: x") == "A large heart."
    assert read_findings("Diagnoses:\n- ICD-10 I10: x") == ""
