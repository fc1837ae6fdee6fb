"""Facts in an answer. If these passed wrongly, a client would be given a value with another one's term or unit, or a place where
something else stands.
"""

from random import Random

import pytest

from medvl_lib.datasets.clinical_documents import response
from medvl_lib.evaluation.metrics.documents import pair_accuracy
from medvl_lib.evaluation.metrics.units import is_unit
from medvl_lib.pairs import Triple
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES, DocumentType, draw_facts
from medvl_lib.serving.extraction import stated_facts


def found(answer: str) -> list[tuple[str, str, str]]:
    facts = list(stated_facts(answer))
    for fact in facts:
        spans = (fact.term_span, fact.term), (fact.value_span, fact.value), (fact.unit_span, fact.unit)
        assert all(answer[span.start : span.end] == text for span, text in spans if span is not None)
        assert (fact.unit_span is None) == (fact.unit == "")
    return [(fact.term, fact.value, fact.unit) for fact in facts]


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ("Potassium: 4.1 mmol/L\nSodium: 139 mmol/L", [("Potassium", "4.1", "mmol/L"), ("Sodium", "139", "mmol/L")]),
        ("Potassium: 4.1 H mmol/L (high)", [("Potassium", "4.1", "mmol/L")]),
        ("Potassium: 4.1 H", [("Potassium", "4.1", "")]),
        ("Fasting: 3 h", [("Fasting", "3", "h")]),
        ("| Sodium | 139 | mmol/L |", [("Sodium", "139", "mmol/L")]),
        ("- **SpO2**: 98%", [("SpO2", "98", "%")]),
        ("Temperature = 37.2 °C", [("Temperature", "37.2", "°C")]),
        ("BP\t120/80 mmHg", [("BP", "120/80", "mmHg")]),
        ("Troponin: <0.01 ng/mL", [("Troponin", "<0.01", "ng/mL")]),
        ("Density: -6 HU", [("Density", "-6", "HU")]),
        ("Metformin: 500 mg twice daily for 3 days", [("Metformin", "500", "mg twice daily")]),
        ("Drawn: 5 Jan 2024", [("Drawn", "5 Jan 2024", "")]),
        ("Stage: III", [("Stage", "III", "")]),
        ("钾: 4.1 mmol/L", [("钾", "4.1", "mmol/L")]),
        ("The heart is normal.\nNo effusion.", []),
        ("Sodium:\n: 139\n:::\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_a_line_that_states_a_fact_is_taken_apart(answer: str, facts: list[tuple[str, str, str]]):
    assert found(answer) == facts


@pytest.mark.parametrize("kind", DOCUMENT_TYPES, ids=lambda kind: kind.name)
def test_every_invented_page_comes_back_as_it_was_written_and_as_the_scorer_counts_it(kind: DocumentType):
    for seed in range(20):
        facts = draw_facts(kind, Random(seed))
        answer = response(facts)
        assert found(answer) == [(fact.term, fact.value, fact.unit) for fact in facts]
        assert pair_accuracy(answer, [Triple(term=term, value=value, unit=unit) for term, value, unit in found(answer)]) == 1.0


@pytest.mark.parametrize(
    ("text", "wanted"), [("mmol/L", True), ("mg daily", True), ("°C", True), ("Jan 2024", False), ("mg Monday", False), ("", False)]
)
def test_a_unit_is_one_as_a_whole(text: str, wanted: bool):
    assert is_unit(text) == wanted
