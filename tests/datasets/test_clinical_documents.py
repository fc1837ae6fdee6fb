"""If these passed wrongly, a record could become a pair that asks for other facts than its page shows, or vanish without a reason."""

import json
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import DATASETS, raw_folder
from medvl_lib.datasets import clinical_documents as dataset
from medvl_lib.errors import InputMissing
from medvl_lib.images import ImageStore, UnreadableImage, facts
from medvl_lib.pairs import PAIRS, Draft, Pair, Rejection, Triple, write_pairs
from medvl_lib.tables import read_table

RECORD = {
    "document_id": "lab_results-1", "document_type": "lab_results", "layout": "mono-inline", "image": "images/a.png",
    "facts": [{"term": "Potassium", "value": "4.1", "unit": "mmol/L"}, {"term": "ASA class", "value": "II", "unit": ""}],
    "glyph_height_pixels": 8,
}  # fmt: skip


def write_lines(root: Path, *lines: str, part: str = "train") -> Path:
    (root / part).mkdir(parents=True)
    (root / part / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def only_rejection(root: Path) -> Rejection:
    (reading,) = dataset.read(root)
    assert isinstance(reading, Rejection)
    return reading


def test_forms_that_were_not_invented_here_get_no_licence_of_ours(tmp_path: Path):
    (draft,) = dataset.read(write_lines(tmp_path, json.dumps(RECORD)))
    assert isinstance(draft, Draft)
    assert draft.pair.licence == "not stated"


def test_a_record_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    (tmp_path / "README.md").write_text("# Invented data\n", encoding="utf-8")
    root = write_lines(tmp_path, json.dumps(RECORD))
    raw_folder.seal(root)
    (draft,) = dataset.read(root)
    assert isinstance(draft, Draft)
    assert draft.pair == Pair(
        pair_id="clinical_documents/train/000000", dataset="clinical_documents", image_ids=(),
        request='List every term with its value and unit, one per line as "term: value unit".',
        response="Potassium: 4.1 mmol/L\nASA class: II",
        expected=(Triple(term="Potassium", value="4.1", unit="mmol/L"), Triple(term="ASA class", value="II", unit="")),
        subject_id=None, document_id="lab_results-1", publisher_split="train", language="en", source="train/records.jsonl:1",
        licence="CC0-1.0", metadata={"document_type": "lab_results", "layout": "mono-inline", "glyph_height_pixels": "8"},
    )  # fmt: skip


def test_a_broken_line_is_one_rejection_and_the_lines_behind_it_are_read(tmp_path: Path):
    readings = list(dataset.read(write_lines(tmp_path, json.dumps(RECORD)[:40], "", json.dumps(RECORD))))
    assert isinstance(readings[0], Rejection)
    assert (readings[0].reason, readings[0].source) == ("broken_json", "train/records.jsonl:1")
    assert isinstance(readings[1], Draft)
    assert readings[1].pair.pair_id == "clinical_documents/train/000002"  # the blank line is no record, but it is counted as a line


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"facts": []}, "no_facts", "facts"),
        ({"facts": [{"term": "Na", "value": 141, "unit": "mmol/L"}]}, "field_malformed", "facts.0.value"),
        ({"facts": [{"term": "Na\nK", "value": "141", "unit": ""}]}, "field_malformed", "facts.0.term"),
        ({"image": "../../secret.png"}, "image_outside_folder", "../../secret.png"),
        ({"patient": "x"}, "field_unknown", "patient"),
        ({"glyph_height_pixels": 0}, "field_malformed", "glyph_height_pixels"),
    ],
)
def test_a_record_that_cannot_be_a_pair_is_rejected_by_field(change: dict, reason: str, field: str, tmp_path: Path):
    found = only_rejection(write_lines(tmp_path, json.dumps(RECORD | change)))
    assert (found.stage, found.reason) == ("read", reason)
    assert field in found.detail


def test_a_missing_field_is_named_and_no_value_is_quoted(tmp_path: Path):
    found = only_rejection(write_lines(tmp_path, json.dumps({key: value for key, value in RECORD.items() if key != "layout"})))
    assert (found.reason, found.detail.split(":")[0]) == ("field_missing", "layout")
    assert "Potassium" not in found.detail


@pytest.mark.parametrize("make", [lambda root: root / "absent", lambda root: root])
def test_a_raw_folder_without_records_is_refused_with_the_setting_and_the_way_to_invented_data(make, tmp_path: Path):
    with pytest.raises(InputMissing) as refused:
        next(iter(dataset.read(make(tmp_path))))
    assert refused.value.where == str(make(tmp_path))
    assert "[datasets.clinical_documents]" in refused.value.do
    assert "raw_path" in refused.value.do
    assert "medvl sample-data" in refused.value.do


def test_the_invented_folder_reads_completely_with_each_broken_row_in_its_place(tmp_path: Path):
    sample_data.write("clinical_documents", tmp_path / "raw", counts={"train": 1, "validation": 1, "test": 1, "benchmark": 1})
    store = ImageStore(tmp_path / "images")
    (tmp_path / "pairs").mkdir()
    counted = write_pairs(tmp_path / "pairs", DATASETS["clinical_documents"].read(tmp_path / "raw"), store)
    assert counted == {"num_read": 45, "num_pairs": 42, "num_rejected": 3}  # missing picture, no facts, cut line
    pairs = list(read_table(tmp_path / "pairs" / PAIRS, Pair))
    unreadable = [pair for pair in pairs if not _opens(store, pair)]
    assert len(unreadable) == 1
    assert pairs[0].document_id == next(pair for pair in reversed(pairs) if pair.publisher_split == "train").document_id


def _opens(store: ImageStore, pair: Pair) -> bool:
    try:
        return facts(store.read(pair.image_ids[0])).width_pixels == 308
    except UnreadableImage:
        return False
