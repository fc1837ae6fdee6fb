"""ROCO. If these passed wrongly, figures of one article would be in two splits, or a figure would come without its licence."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import roco as dataset
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.pairs import Draft
from tests.datasets.readings import pairs, rejections, stored_reasons

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "roco"


def part(root: Path, name: str, captions: list[str], **files: list[str]) -> Path:
    folder = root / "data" / name / "radiology"
    folder.mkdir(parents=True)
    for file, lines in {"captions": captions, **files}.items():
        (folder / f"{file}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def test_a_line_of_each_file_becomes_the_pair_that_the_docstring_shows(tmp_path: Path):
    folder = part(
        tmp_path, "validation", ['ROCO_00020\t Axial "computed" tomography, with a comma.'],
        keywords=["ROCO_00020\t\tpelvi\tscan"], cuis=["ROCO_00020\t\tC0030797\tC0040405"],
        semtypes=["ROCO_00020\t\tT060\tDiagnostic Procedure"], licences=["ROCO_ID,PMC_ID,CC", "ROCO_00020,PMC3970251_CRI.003.jpg,CC BY"],
    )  # fmt: skip
    (folder / "images").mkdir()
    (folder / "images" / "ROCO_00020.jpg").write_bytes(b"figure")
    [draft] = list(dataset.read(tmp_path))
    assert isinstance(draft, Draft)
    pair = draft.pair
    assert (pair.pair_id, pair.response) == ("roco/validation/ROCO_00020", 'Axial "computed" tomography, with a comma.')
    assert (pair.document_id, pair.publisher_split, pair.licence) == ("roco/PMC3970251", "validation", "CC BY")
    assert pair.source == "data/validation/radiology/captions.txt line 1"
    assert pair.metadata == {
        "keywords": "pelvi; scan", "cuis": "C0030797; C0040405", "semtypes": "T060; Diagnostic Procedure", "publisher_split": "validation",
    }  # fmt: skip
    assert draft.images[0].data() == b"figure"


def test_an_article_in_two_parts_has_no_publishers_split(tmp_path: Path):
    licences = ["ROCO_ID,PMC_ID,CC", "ROCO_1,PMC1_a.jpg,CC BY", "ROCO_2,PMC1_b.jpg,CC0", "ROCO_3,PMC2_c.jpg,CC BY-NC"]
    part(tmp_path, "train", ["ROCO_1\tA", "ROCO_3\tC"], licences=licences)
    part(tmp_path, "test", ["ROCO_2\tB"], licences=licences)
    found = {pair.pair_id: (pair.group_id, pair.publisher_split, pair.licence) for pair in pairs(dataset.read(tmp_path))}
    assert found == {
        "roco/train/ROCO_1": ("roco/PMC1", None, "CC BY"), "roco/test/ROCO_2": ("roco/PMC1", None, "CC0"),
        "roco/train/ROCO_3": ("roco/PMC2", "train", "CC BY-NC"),
    }  # fmt: skip


def test_a_figure_without_a_licence_has_none_and_the_link_names_its_article(tmp_path: Path):
    part(tmp_path, "train", ["ROCO_1\tA", "ROCO_2\tB"], dlinks=["ROCO_1\twget -r ftp://host/PMC7.tar.gz -P /x\ta.jpg"])
    first, second = pairs(dataset.read(tmp_path))
    assert (first.document_id, first.licence) == ("roco/PMC7", "")
    assert (second.document_id, second.licence) == ("roco/ROCO_2", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [("ROCO_1", "record_cut"), ("../a\tA", "field_malformed"), ("ROCO_9\tagain", "duplicate_record"), ("ROCO_1\t\udcff", "not_utf8")],
)
def test_a_broken_line_says_why_and_the_others_are_read(line: str, reason: str, tmp_path: Path):
    folder = part(tmp_path, "train", ["ROCO_9\tA"])
    with (folder / "captions.txt").open("ab") as file:
        file.write(f"{line}\nROCO_8\tB\n".encode(errors="surrogateescape"))
    readings = list(dataset.read(tmp_path))
    assert [(rejected.reason, rejected.pair_id) for rejected in rejections(readings)] == [(reason, "roco/train/line/000002")]
    assert len(pairs(readings)) == 2


def test_figures_outside_radiology_are_not_read(tmp_path: Path):
    folder = part(tmp_path, "train", ["ROCO_1\tA"])
    (folder.parent / "non-radiology").mkdir()
    (folder.parent / "non-radiology" / "captions.txt").write_text("ROCO_2\tB\n")
    assert [pair.response for pair in pairs(dataset.read(tmp_path))] == ["A"]


def parquet(root: Path, name: str, rows: list[dict[str, Any]], *, has_concepts: bool = True) -> None:
    columns = [*dataset.HUB_COLUMNS.items(), *(dataset.HUB_OPTIONAL.items() if has_concepts else ())]
    root.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), root / f"{name}-00000-of-00001.parquet")


def row(data: bytes | None, caption: str = "A", **more: Any) -> dict[str, Any]:
    return {"image": {"bytes": data, "path": None}, "image_id": "ROCOv2_1", "caption": caption, **more}


def test_parquet_is_read_too_with_and_without_concepts(tmp_path: Path):
    parquet(tmp_path / "hub", "train", [row(b"1", " A ", cui=["C1", "C2"]), row(None), row(b"2")])
    parquet(tmp_path / "hub", "validation", [row(b"1", "again")], has_concepts=False)
    readings = list(dataset.read(tmp_path))
    first, second, third = pairs(readings)
    assert (first.pair_id, first.response, first.licence) == ("roco/v2/train/000000", "A", "CC-BY-NC-SA-4.0")
    assert first.metadata == {"image_id": "ROCOv2_1", "cuis": "C1; C2", "publisher_split": "train"}
    assert (first.publisher_split, second.publisher_split, third.publisher_split) == (None, "train", None)  # one picture is in two parts
    assert first.document_id == third.document_id
    assert [(rejected.reason, rejected.pair_id) for rejected in rejections(readings)] == [("image_missing", "roco/v2/train/000001")]


def test_an_empty_folder_and_other_columns_are_told_apart(tmp_path: Path):
    with pytest.raises(InputMissing, match=r"captions\.txt"):
        list(dataset.read(tmp_path))
    pq.write_table(pa.table({"image": [b"x"], "caption": ["?"]}), tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(InputRefused, match="column 'image' is binary"):
        list(dataset.read(tmp_path))


def test_the_invented_set_has_both_layouts_and_its_defects(tmp_path: Path):
    sample_data.write("roco", tmp_path / "raw")
    readings = list(dataset.read(tmp_path / "raw"))
    assert stored_reasons(readings, tmp_path / "images") == {"": 52, "image_missing": 2, "record_cut": 1, "duplicate_record": 1}
    shared = Counter(pair.document_id for pair in pairs(readings) if pair.publisher_split is None)
    assert list(shared.values()) == [2]
    assert max(Counter(pair.document_id for pair in pairs(readings)).values()) == 3


@pytest.mark.real_data
def test_four_hundred_real_captions_have_their_licence_and_no_picture(tmp_path: Path):
    if not REAL.is_dir():
        pytest.skip(f"ROCO is not at {REAL}")
    readings = list(dataset.read(REAL))
    assert stored_reasons(readings, tmp_path) == {"image_missing": 400}
    found = pairs(readings)
    assert Counter(pair.licence for pair in found) == {"CC BY": 399, "CC0": 1}
    assert all(pair.metadata["keywords"] and pair.document_id.startswith("roco/PMC") for pair in found)
