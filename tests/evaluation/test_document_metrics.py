"""If these passed wrongly, an answer that hangs the right numbers on the wrong terms would look as good as one that reads the page."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.metrics.documents import (
    hallucinated_pair_rate,
    hallucinated_share,
    is_silent,
    pair_accuracy,
    stated_values,
    term_recall,
    value_recall,
)
from medvl_lib.evaluation.metrics.tokens import UnscorableError, tokens
from medvl_lib.evaluation.metrics.units import stated_unit
from medvl_lib.pairs import Draft, Triple
from medvl_lib.sample_data import write


def triple(term: str, value: str, unit: str = "") -> Triple:
    return Triple(term=term, value=value, unit=unit)


POTASSIUM = (triple("Potassium", "4.1", "mmol/L"),)
SHEET = (triple("Potassium", "4.1", "mmol/L"), triple("Sodium", "140", "mmol/L"), triple("Glucose", "98", "mg/dL"), triple("Sex", "female"))
ANALYTES = {
    "Sodium": (135, 145, 0), "Potassium": (3.5, 5.1, 1), "Chloride": (98, 107, 0), "Glucose": (70, 140, 0), "Creatinine": (0.6, 1.3, 1),
    "Calcium": (8.5, 10.5, 1), "Hemoglobin": (11, 17, 1), "Leukocytes": (4, 11, 1), "Platelets": (150, 400, 0), "AST": (8, 48, 0),
    "ALT": (7, 55, 0), "Urea": (7, 20, 0), "Albumin": (3.5, 5, 1), "Bilirubin": (0.1, 1.2, 1), "Magnesium": (1.7, 2.2, 1),
    "Phosphate": (2.5, 4.5, 1), "Lactate": (0.5, 2.2, 1), "pH": (7.2, 7.5, 2), "INR": (0.8, 1.2, 1), "Hematocrit": (36, 50, 1),
}  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        "Potassium: 4.1 mmol/L",
        "POTASSIUM 4.10mmol/l",
        "The potassium level was low at 4.1 mmol per L.",
        "- **Potassium** (K+): 4.1 mmol/L (reference 3.5-5.1)",
        "| Potassium | 4.1 | H | mmol/L |",
        "<tr><td>Potassium</td><td>4.1</td><td>mmol/L</td></tr>",
        '{"Potassium": {"value": 4.1, "unit": "mmol/L"}}',
        "Potassium: 4.1",  # a missing unit says nothing false
        "Sodium 140 mmol/L, Potassium 4.1 mmol/L",
        "Ｐｏｔａｓｓｉｕｍ：４．１　ｍｍｏｌ／Ｌ",
    ],
)
def test_a_value_that_stands_with_its_term_counts(answer: str):
    assert pair_accuracy(answer, POTASSIUM) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Potassium",
        "4.1 mmol/L",
        "Potassium: 4.11 mmol/L",
        "Potassium: 4,1 mmol/L",
        "Potassium: 4.1 mg/dL",
        "Potassium: 4.1-5.0 mmol/L",
        "Potassium: -4.1",
        "Potassium\n4.1 mmol/L",  # another line
        "Potassium, sodium: 4.1",  # another term's value
        "Potassium chloride 4.1 mmol/L",
        "4.1 mmol/L potassium",  # before the term
        "Potassium: 3.9 mmol/L\nPotassium: 4.1 mmol/L",  # the first statement counts
    ],
)
def test_a_value_that_does_not_stand_with_its_term_counts_nothing(answer: str):
    assert pair_accuracy(answer, POTASSIUM) == 0.0


@pytest.mark.parametrize(
    ("answer", "value", "accuracy"),
    [
        ("Diagnosis: type 2 diabetes mellitus (E11.9)", "Type 2 diabetes mellitus", 1),
        ("The diagnosis is Type 2 diabetes mellitus", "Type 2 diabetes mellitus", 1),
        ("Patient Diagnosis Report\nDiagnosis: pneumonia", "pneumonia", 1),  # a heading states nothing
        ("Diagnosis: likely pneumonia", "pneumonia", 0),
        ("Diagnosis pneumonia asthma stroke", "asthma", 0),
        ("Diagnosis: asthma. Diagnosis: pneumonia", "pneumonia", 0),  # naming every possible value helps nobody
    ],
)
def test_a_text_value_follows_a_separator_or_a_verb(answer: str, value: str, accuracy: int):
    assert pair_accuracy(answer, [triple("Diagnosis", value)]) == accuracy


@pytest.mark.parametrize(
    ("answer", "term", "value", "unit", "accuracy"),
    [
        ("Date of birth: January 5, 2024", "Date of birth", "2024-01-05", "", 1),
        ("Date of birth 5 Jan 2024", "Date of birth", "2024/1/5", "", 1),
        ("出生日期：2024年1月5日", "出生日期", "2024-01-05", "", 1),
        ("Date of birth: 01/05/2024", "Date of birth", "2024-01-05", "", 0),  # day or month first is not guessed
        ("血钾：４．１ mmol/L", "血钾", "4.1", "mmol/L", 1),
        ("血钾 4.1", "血钾", "4.1", "mmol/L", 1),
        ("血钠：4.1", "血钾", "4.1", "mmol/L", 0),
        ("Platelets: 250,000 /µL", "Platelets", "250000", "/uL", 1),
        ("Platelets: 250", "Platelets", "250000", "/uL", 0),
        ("Dose: 12 mg", "Dose", "120", "mg", 0),
        ("Dose: 120 mg", "Dose", "12", "mg", 0),
        ("Dose: 12.50 mg", "Dose", "12.5", "mg", 1),
        ("Dose: 12,5 mg", "Dose", "12.5", "mg", 0),  # a decimal comma is not guessed
        ("Blood pressure: 120/80 mm Hg", "Blood pressure", "120 / 80", "mmHg", 1),
        ("Blood pressure: 120", "Blood pressure", "120/80", "mmHg", 0),
        ("TSH < 0.010 mIU/L", "TSH", "<0.01", "mIU/L", 1),
        ("TSH 0.01 mIU/L", "TSH", "<0.01", "mIU/L", 0),
        ("Troponin I 0.5", "Troponin", "0.5", "", 0),  # another test
    ],
)
def test_spellings_of_values_dates_and_units_by_hand(answer: str, term: str, value: str, unit: str, accuracy: int):
    assert pair_accuracy(answer, [triple(term, value, unit)]) == accuracy


def test_four_facts_by_hand():
    answer = "Potassium: 140 mmol/L\nSodium: 140 mmol/L\nGlucose: 98 mmol/L\nSex: female"
    assert pair_accuracy(answer, SHEET) == 2 / 4  # sodium and sex; potassium has another value, glucose another unit
    assert term_recall(answer, SHEET) == 1.0
    assert value_recall(answer, SHEET) == 3 / 4
    assert hallucinated_pair_rate(answer, SHEET) == 2 / 4


def test_the_longer_of_two_terms_is_meant():
    expected = [triple("Hemoglobin", "13.5"), triple("Hemoglobin A1c", "6.5")]
    assert pair_accuracy("Hemoglobin A1c: 6.5\nHemoglobin: 13.5", expected) == 1.0
    assert pair_accuracy("Hemoglobin A1c: 13.5\nHemoglobin: 6.5", expected) == 0.0


def test_a_term_that_the_page_states_twice_is_asked_for_twice():
    expected = [triple("Heart rate", "80"), triple("Heart rate", "96")]
    assert pair_accuracy("Heart rate 96\nHeart rate 80", expected) == 1.0
    assert pair_accuracy("Heart rate 80\nHeart rate 80", expected) == 0.5
    assert pair_accuracy("Heart rate 70\nHeart rate 75\nHeart rate 80\nHeart rate 96", expected) == 0.0


@pytest.mark.parametrize(
    ("after_value", "expected", "stated"),
    [
        ("µg", "mcg", "same"),
        ("mm Hg", "mmHg", "same"),
        ("beats/min", "bpm", "same"),
        ("x10³/µL", "10^3/uL", "same"),
        ("K/uL", "10^3/µL", "same"),
        ("H mmol/L", "mmol/L", "same"),
        ("mg twice daily", "mg BID", "same"),
        ("mg daily", "mg", "same"),
        ("mg", "mg BID", "none"),
        ("mg daily", "mg BID", "other"),
        ("mg TID", "mg BID", "other"),
        ("mL/min/1.73 m²", "mL/min/1.73m2", "same"),
        ("mg/dL", "mg", "other"),
        ("g", "mg", "other"),
        ("mL", "mg", "other"),
        ("L", "mL", "other"),
        ("%", "mmol/L", "other"),
        ("H", "mmol/L", "none"),
        ("F", "years", "none"),  # 45 F: a sex
        ("daily", "mg", "none"),
        ("", "mg", "none"),
        ("mg", "", "none"),
    ],
)
def test_the_unit_beside_a_value(after_value: str, expected: str, stated: str):
    assert stated_unit(tokens(f"4.1 {after_value}")[1:], expected) == stated


def test_a_scale_belongs_to_its_value():
    expected = [triple("Pain score", "3", "/10")]
    assert pair_accuracy("Pain score: 3 /10", expected) == pair_accuracy("Pain score 3/10", expected) == 1.0
    assert pair_accuracy("Pain score: 3/5", expected) == pair_accuracy("Pain score: 3", expected) == 0.0


def test_a_triple_without_a_word_is_the_scorers_failure():
    with pytest.raises(UnscorableError, match="expected triple 1 has no letter or digit in its value"):
        pair_accuracy("Potassium: 4.1", [*POTASSIUM, triple("Sodium", "—")])


def sheet(draw: random.Random) -> list[Triple]:
    return [triple(term, f"{draw.uniform(low, high):.{digits}f}") for term, (low, high, digits) in ANALYTES.items()]


def said(triples: list[Triple]) -> str:
    return "\n".join(f"{item.term}: {item.value}" for item in triples)


def mean_scores(make_answer) -> list[float]:
    draw = random.Random(1)
    sheets = [sheet(draw) for _ in range(60)]
    answers = [make_answer(page, draw) for page in sheets]
    means = [
        sum(metric(answer, page) for answer, page in zip(answers, sheets, strict=True)) / len(sheets)
        for metric in (term_recall, value_recall, pair_accuracy)
    ]
    return [*means, made_up(answers, sheets)]


def made_up(answers: list[str], sheets: list[list[Triple]]) -> float:
    """The wrong ones of all values that were stated."""
    return float(hallucinated_share(np.sum([stated_values(answer, page) for answer, page in zip(answers, sheets, strict=True)], axis=0)))


def shuffled(page: list[Triple], draw: random.Random) -> str:
    values = [item.value for item in page]
    draw.shuffle(values)
    return said([triple(item.term, value) for item, value in zip(page, values, strict=True)])


def soup_per_term(page: list[Triple], _: random.Random) -> str:
    return "\n".join(f"{item.term}: {' '.join(map(str, range(200)))}" for item in page)


@pytest.mark.parametrize(
    ("make_answer", "terms", "values", "most_pairs"),
    [
        pytest.param(lambda page, _: said(page), 1.0, 1.0, 1.0, id="right"),
        pytest.param(shuffled, 1.0, 1.0, 0.08, id="values-on-wrong-terms"),
        pytest.param(lambda *_: " ".join(map(str, range(1000))), 0.0, 0.43, 0.0, id="digit-soup"),
        pytest.param(soup_per_term, 1.0, 0.37, 0.0, id="digit-soup-per-term"),
        pytest.param(lambda _, draw: said(sheet(draw)), 1.0, 0.12, 0.08, id="another-patient"),
        pytest.param(lambda *_: "", 0.0, 0.0, 0.0, id="empty"),
        pytest.param(lambda page, _: " ".join(item.term for item in page), 1.0, 0.0, 0.0, id="word-dump"),
    ],
)
def test_gaming_is_found_in_the_output_and_earns_no_pairs(make_answer, terms: float, values: float, most_pairs: float):
    found_terms, found_values, pairs, _ = mean_scores(make_answer)
    assert found_terms == terms
    assert found_values == pytest.approx(values, abs=0.04)
    assert pairs <= most_pairs
    assert pairs == 1.0 or most_pairs < 1.0


def test_a_guess_for_every_term_is_hallucinated():
    assert mean_scores(shuffled)[3] > 0.9
    assert mean_scores(lambda page, _: said(page))[3] == 0.0


def test_silence_about_a_page_changes_no_share_of_what_is_made_up():
    """In a mean over pages a page without a statement was one without an error: who said less looked better."""
    draw = random.Random(1)
    sheets = [sheet(draw) for _ in range(60)]
    guesses = [shuffled(page, draw) for page in sheets]
    half = [guess if number % 2 else "" for number, guess in enumerate(guesses)]
    assert made_up(half, sheets) == pytest.approx(made_up(guesses, sheets), abs=0.02)
    assert made_up(half, sheets) > 0.9


def test_where_nothing_is_stated_no_share_of_it_is_defined():
    assert hallucinated_pair_rate("", SHEET) is None
    assert hallucinated_pair_rate("Potassium, sodium and glucose were measured.", SHEET) is None
    assert math.isnan(made_up(["", "Potassium"], [SHEET, SHEET]))
    assert [is_silent(answer, SHEET) for answer in ("", "Potassium", "Potassium: 1.0")] == [True, True, False]


def test_the_wanted_answer_of_every_invented_document_is_right(tmp_path: Path):
    write("clinical_documents", tmp_path / "raw")
    drafts = [reading for reading in DATASETS["clinical_documents"].read(tmp_path / "raw") if isinstance(reading, Draft)]
    wrong = [draft.pair.pair_id for draft in drafts if pair_accuracy(draft.pair.response, draft.pair.expected) < 1]
    assert len(drafts) > 100
    assert wrong == []
