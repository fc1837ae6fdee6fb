"""ICD diagnoses. If these passed wrongly, a list of every code, or a code of the other version, would count as a diagnosis."""

from dataclasses import replace

import numpy as np
import pytest

from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.diagnoses import (
    Code,
    categories,
    category,
    f1,
    listed,
    normalised,
    overlap,
    precision,
    recall,
    top_precision,
    top_recall,
    wanted_codes,
)
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import Reference


def codes(*names: str, version: str = "10") -> tuple[Code, ...]:
    return tuple(normalised(name, version) for name in names)


def answer(*names: str, version: str = "10") -> str:
    return "\n".join(["Findings: The lungs are clear.", "", "Diagnoses:", *(f"- ICD-{version} {name}: A title" for name in names)])


def test_a_list_is_read_below_its_last_heading_up_to_the_first_line_that_is_none():
    text = (
        "Diagnoses:\n- ICD-10 A00: old\nFindings: x\n\ndiagnoses:\n- ICD-9 0389: Septicemia\n-  icd-10 i50.9: (no title)\nEnd\n"
        "- ICD-10 Z00: late"
    )
    assert listed(text) == (Code("0389", "9"), Code("I509", "10"))


@pytest.mark.parametrize(
    "text", ["", "I50.9", "Diagnoses:", "Diagnoses: ICD-10 I509", "- ICD-10 I509: no heading", "Diagnoses:\n\n- ICD-10 I10: x"]
)
def test_what_is_no_list_has_no_codes(text: str):
    assert listed(text) == ()


def test_dots_and_capitals_say_nothing_and_leading_zeros_do():
    assert normalised("i50.9", "10") == normalised("I509", "10")
    assert normalised("0389", "9") != normalised("389", "9")


@pytest.mark.parametrize(
    ("code", "version", "wanted"),
    [
        ("I509", "10", "I50"),
        ("4280", "9", "428"),
        ("E8120", "9", "E812"),
        ("V4581", "9", "V45"),
        ("E119", "10", "E11"),
        ("I10", "10", "I10"),
    ],
)
def test_the_category_is_three_characters_and_four_of_an_external_cause_in_icd_9(code: str, version: str, wanted: str):
    assert category(Code(code, version)) == Code(wanted, version)


def test_a_code_of_the_other_version_is_another_code():
    assert overlap(codes("4280", version="10"), codes("4280", version="9")) == (1, 1, 0)
    assert overlap(categories(codes("4280", version="10")), categories(codes("4280", version="9"))) == (1, 1, 0)


def test_precision_recall_and_f1_by_hand():
    """Wanted 4 and 1, named 3 and 2, right 2 and 0: precision 2/5, recall 2/5, F1 2/5; one pair alone 2/3, 2/4, 4/7."""
    first = overlap(codes("I10", "I509", "J189"), codes("I10", "I509", "E119", "N179"))
    second = overlap(codes("A419", "R570"), codes("Z00"))
    both = np.add(first, second)
    assert [float(value(both)) for value in (precision, recall, f1)] == pytest.approx([2 / 5, 2 / 5, 2 / 5])
    assert [float(value(np.array(first))) for value in (precision, recall, f1)] == pytest.approx([2 / 3, 2 / 4, 4 / 7])
    assert f1(np.stack([both, first])).tolist() == [f1(both), f1(np.array(first))]
    assert [float(value(np.zeros(3))) for value in (precision, recall, f1)] == [0, 0, 0]


def test_repeated_codes_and_several_of_one_category_count_once():
    assert overlap(codes("I10", "I10", "I10"), codes("I10", "J189")) == (2, 1, 1)
    assert overlap(categories(codes("I501", "I502")), categories(codes("I509", "I508"))) == (1, 1, 1)


def test_only_the_first_five_count_for_the_top_and_a_repeated_code_takes_a_place():
    wanted = codes("A00", "B00", "C00", "D00", "E00", "F00")
    assert top_precision(codes("X1", "X2", "X3", "X4", "A00", "B00"), wanted) == 1 / 5
    assert top_recall(codes("X1", "X2", "X3", "X4", "A00", "B00"), wanted) == 1 / 6
    assert top_precision(codes("A00", "A00", "A00", "A00", "A00", "B00"), wanted) == 1 / 5
    assert (top_precision(wanted, wanted), top_recall(wanted, wanted)) == (1, 5 / 6)
    assert (top_precision((), wanted), top_recall((), wanted)) == (0, 0)


# -- as metrics --------------------------------------------------------------------------------------------------------
WANTED = ("I509", "J189", "N179")


def reference(**changes: object) -> Reference:
    one = Reference(
        pair_id="cxr/1", dataset="cxr", split="test", group_id="1", language="en", licence="CC0-1.0", request="?", response=answer(*WANTED),
        expected=(), slices={STAGE: "reasoning"}, glyph_height_pixels=None,
    )  # fmt: skip
    return replace(one, **changes)


ICD = {name for name in METRICS if name.startswith("icd_")}


def test_they_are_of_reasoned_answers_that_want_diagnoses():
    assert {name for name in ICD if METRICS[name].applies_to(reference())} == ICD
    for other in (reference(slices={STAGE: "impression"}), reference(slices={}), reference(response="Findings: Clear.")):
        assert not [name for name in ICD if METRICS[name].applies_to(other)]


@pytest.mark.parametrize("said", ["", "Findings: Clear.", "I50.9, J18.9, N17.9", "Diagnoses: none"])
def test_an_answer_without_a_list_scores_nothing_and_is_counted(said: str):
    assert {METRICS[name].score(said, reference()) for name in ICD - {"icd_unparsable"}} == {0.0}
    assert METRICS["icd_unparsable"].score(said, reference()) == 1


def test_the_wanted_answer_scores_one_where_one_can_be_reached():
    scores = {name: METRICS[name].score(reference().response, reference()) for name in ICD}
    assert scores == {**dict.fromkeys(ICD, 1.0), "icd_unparsable": 0.0, "icd_top5_precision": 3 / 5}


def test_a_wanted_answer_without_a_list_is_the_scorers_failure():
    with pytest.raises(UnscorableError, match="the wanted answer lists no diagnosis"):
        wanted_codes("Findings: Clear.")
    with pytest.raises(UnscorableError):
        METRICS["icd_exact_f1"].score(answer("I10"), reference(response="Findings: Clear."))


def test_what_a_dump_or_one_sure_code_wins_decides_nothing():
    dump = answer(*WANTED, *(f"{letter}{number:02}" for letter in "ABCDEFGH" for number in range(100)))
    one_sure = answer(WANTED[0])
    assert METRICS["icd_exact_recall"].score(dump, reference()) == METRICS["icd_exact_precision"].score(one_sure, reference()) == 1
    assert METRICS["icd_exact_f1"].score(dump, reference()) < 0.01
    assert METRICS["icd_top5_recall"].score(answer("A01", "A02", "A03", "A04", "A05", *WANTED), reference()) == 0
    assert {name for name in ICD if METRICS[name].is_gateable} == {
        "icd_exact_f1", "icd_category_f1", "icd_top5_precision", "icd_top5_recall",
    }  # fmt: skip
