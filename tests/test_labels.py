"""Labels. If these passed wrongly, a severe knee could be called moderate in every text that a model is trained on."""

from medvl_lib.labels import KELLGREN_LAWRENCE, LESION_SYNONYMS, LESIONS


def test_there_are_five_grades_and_three_is_moderate():
    assert [(grade.grade, grade.name) for grade in KELLGREN_LAWRENCE] == [
        (0, "normal"), (1, "doubtful"), (2, "mild"), (3, "moderate"), (4, "severe"),
    ]  # fmt: skip


def test_the_six_diagnoses_are_those_of_the_publisher_and_three_are_cancers():
    assert {code: lesion.is_cancer for code, lesion in LESIONS.items()} == {
        "ACK": False, "BCC": True, "MEL": True, "NEV": False, "SCC": True, "SEK": False,
    }  # fmt: skip
    assert set(LESION_SYNONYMS.values()) <= set(LESIONS)
