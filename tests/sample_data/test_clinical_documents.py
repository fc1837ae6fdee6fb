"""If these passed wrongly, a model could be tested on documents or forms it was trained on, or asked for facts that no page shows."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.pairs import SPLITS, Split
from medvl_lib.sample_data import clinical_documents as documents
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES
from medvl_lib.sample_data.clinical_layouts import FACTS_TOP, LAYOUTS, Layout, page

TYPES = {
    "patient_diagnosis", "radiology_report", "prescription", "lab_results", "discharge_summary", "medication_reconciliation",
    "icu_flowsheet", "cardiology_consultation", "complex_lab_panel", "operative_note",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "clinical_documents"
    sample_data.write("clinical_documents", root)
    return root


def records(root: Path, part: Split) -> list[dict]:
    """The lines that are JSON; one of train's is not, on purpose."""
    lines = (root / part / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_every_type_is_in_every_part_as_often_as_the_defaults_say(written: Path):
    assert {kind.name for kind in DOCUMENT_TYPES} == TYPES
    for part, count in {"validation": 2, "test": 6, "benchmark": 1}.items():
        assert Counter(record["document_type"] for record in records(written, part)) == dict.fromkeys(TYPES, count)
    assert min(Counter(record["document_type"] for record in records(written, "train")).values()) >= 8


def test_any_number_of_documents_can_be_had(tmp_path: Path):
    counts = {"train": 0, "validation": 0, "test": 13, "benchmark": 0}
    assert sample_data.write("clinical_documents", tmp_path / "raw", counts=counts).num_records == 130
    assert len({record["document_id"] for record in records(tmp_path / "raw", "test")}) == 130


def test_no_layout_and_no_document_is_in_two_parts(written: Path):
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {layout.layout_id for layout in LAYOUTS[one]} & {layout.layout_id for layout in LAYOUTS[other]}
        for field in ("document_id", "layout"):
            assert not {record[field] for record in records(written, one)} & {record[field] for record in records(written, other)}


def test_each_part_has_every_font_arrangement_separator_heading_and_order():
    assert {part: len(LAYOUTS[part]) for part in SPLITS} == {"train": 324, "validation": 54, "test": 108, "benchmark": 54}
    for part in SPLITS:
        values = [{getattr(layout, choice) for layout in LAYOUTS[part]} for choice in Layout.__dataclass_fields__]
        assert [len(found) for found in values] == [3, 5, 3, 4, 3]


def test_a_document_seed_belongs_to_one_seed_part_type_and_index():
    places = itertools.product((0, 1, 2), SPLITS, DOCUMENT_TYPES, (0, 1, documents.MAX_DOCUMENTS - 1))
    seeds = [documents.document_seed(*place) for place in places]
    assert len(set(seeds)) == len(seeds) == 3 * 4 * 10 * 3
    with pytest.raises(ValueError, match="index 1000000"):
        documents.document_seed(0, "train", DOCUMENT_TYPES[0], documents.MAX_DOCUMENTS)


def test_a_document_is_what_it_was_at_revision_1():
    """A change here makes other documents of the same seed: whoever compares with earlier runs must know."""
    drawn = documents.draw_document(1, "test", DOCUMENT_TYPES[3], 0)
    assert drawn.document_id == "lab_results-63000000"
    assert drawn.layout.layout_id == "mono-values_right-dots-boxed-shuffled"
    assert [(fact.term, fact.value, fact.unit) for fact in drawn.facts] == [
        ("Chloride", "111", "mmol/L"),
        ("White cells", "20.7", "10^9/L"),
        ("Bicarbonate", "26", "mmol/L"),
        ("Urea nitrogen", "55", "mg/dL"),
    ]


@pytest.mark.parametrize("kind", DOCUMENT_TYPES, ids=lambda kind: kind.name)
def test_the_fullest_form_fits_every_layout(kind):
    """Text that leaves the page or its column is refused by ``page``: none of these is."""
    drawn = (documents.draw_document(3, "train", kind, index).facts for index in range(60))
    facts = sorted(drawn, key=lambda facts: (len(facts), sum(len(fact.value) for fact in facts)))[-1]
    assert len(facts) >= kind.num_facts[1] - 1
    for layout in {(layout.font, layout.arrangement, layout.separator): layout for part in SPLITS for layout in LAYOUTS[part]}.values():
        assert page(kind.title, "Invented patient 0000 · Ward H", facts, layout)


def test_a_column_that_is_too_narrow_is_refused_and_not_overprinted():
    wide = documents.Triple(term="Term", value="123456789012345678901234567890", unit="mg")
    narrow = next(layout for layout in LAYOUTS["train"] if layout.arrangement == "three_columns")
    with pytest.raises(ValueError, match="pixels wide"):
        page("Title", "Invented patient", [wide], narrow)
    assert FACTS_TOP > 0


def test_terms_are_not_repeated_in_a_document_and_answers_are_short(written: Path):
    for part in SPLITS:
        for record in records(written, part):
            terms = [fact["term"] for fact in record["facts"]]
            assert len(set(terms)) == len(terms)
            answer = "\n".join(f"{fact['term']}: {fact['value']} {fact['unit']}".rstrip() for fact in record["facts"])
            assert len(answer) <= 300


def test_broken_rows_are_five_and_only_in_train(written: Path):
    assert documents.NUM_BROKEN_ROWS == 5
    for part, num_good in {"train": 480, "validation": 20, "test": 60, "benchmark": 10}.items():
        lines = (written / part / "records.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == num_good + (documents.NUM_BROKEN_ROWS if part == "train" else 0)
        assert len(set(lines)) == len(lines) - (part == "train")  # the repeated one
        absent = [record for record in records(written, part) if not (written / part / record["image"]).is_file()]
        empty = [record for record in records(written, part) if not record["facts"]]
        assert (len(absent), len(empty)) == ((1, 1) if part == "train" else (0, 0))
