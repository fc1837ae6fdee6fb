"""If these passed wrongly, invented files could land among a user's own, or a half-written folder be taken for a whole one."""

from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import DATASETS, SHOWN_LICENCES
from medvl_lib.datasets.raw_folder import INVENTED_LICENCE, is_invented
from medvl_lib.errors import MedVLError, WriteFailed
from medvl_lib.pairs import Draft
from tests.small_disk import small_disk

FEW = {
    "clinical_documents": {"train": 1, "validation": 0, "test": 1, "benchmark": 0},
    "mtsamples": {"csv": 3, "hub_train": 2, "hub_test": 1},
    "pathvqa": {"train": 2, "validation": 0, "test": 1},
    "pubmedvision": {"alignment": 2, "instruction": 1},
    "knee_xray": {"graded": 2, "split": 2},
    "pad_ufes_20": {"patients": 2},
    "slake": {"train": 1, "validate": 0, "test": 1},
    "custom_reports": {"english": 1, "chinese": 2, "dicom": 1, "knees": 6},
    "roco": {"train": 2, "validation": 0, "test": 1, "hub_train": 1, "hub_test": 0},
    "mimic_cxr": {"train": 1, "validate": 0, "test": 1},
}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", sample_data.GENERATORS)
def test_the_same_seed_gives_byte_identical_files_and_another_seed_gives_others(name: str, tmp_path: Path):
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        sample_data.write(name, tmp_path / folder, seed=seed, counts=FEW[name])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


@pytest.mark.parametrize("name", sample_data.GENERATORS)
def test_a_written_folder_says_that_it_is_invented_and_leaves_nothing_beside_it(name: str, tmp_path: Path):
    written = sample_data.write(name, tmp_path / "raw" / name, counts=FEW[name])
    assert written.is_new
    assert written.num_records > 0
    assert is_invented(written.root)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [name]


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path):
    (tmp_path / "own.csv").write_text("mine")
    assert sample_data.write("mtsamples", tmp_path) == (tmp_path, False, 0)
    assert contents(tmp_path) == {"own.csv": b"mine"}
    assert not is_invented(tmp_path)


def test_files_of_somebody_in_an_invented_folder_make_all_of_it_theirs(tmp_path: Path):
    """Otherwise a patient's picture that was put beside invented ones would be shown as one of them."""
    root = sample_data.write("knee_xray", tmp_path / "knee_xray", counts=FEW["knee_xray"]).root
    own = root / "own.png"
    own.write_bytes(b"a patient's")
    assert not is_invented(root)
    own.unlink()
    assert is_invented(root)
    next(root.rglob("*.png")).write_bytes(b"a patient's")
    assert not is_invented(root)
    without = sample_data.write("knee_xray", tmp_path / "other", counts=FEW["knee_xray"]).root
    readme = without / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").partition("Files as")[0], encoding="utf-8")
    assert not is_invented(without)


@pytest.mark.parametrize("name", sorted({*sample_data.GENERATORS} - {"clinical_documents"}))
def test_what_is_invented_says_so_in_its_licence_and_may_be_shown(name: str, tmp_path: Path):
    root = sample_data.write(name, tmp_path / name, counts=FEW[name]).root
    licences = {reading.pair.licence for reading in DATASETS[name].read(root) if isinstance(reading, Draft)}
    assert licences == {INVENTED_LICENCE}
    assert licences <= {*SHOWN_LICENCES[name]}


def test_of_real_rows_only_what_the_card_allows_may_be_shown():
    for name, dataset in DATASETS.items():
        assert (dataset.licence in SHOWN_LICENCES[name]) == dataset.may_be_shown
        assert "CC0-1.0" not in SHOWN_LICENCES[name] or name == "clinical_documents"


def test_an_empty_folder_is_filled(tmp_path: Path):
    root = tmp_path / "raw"
    root.mkdir()
    assert sample_data.write("mtsamples", root, counts=FEW["mtsamples"]).is_new


@pytest.mark.parametrize("name", sample_data.GENERATORS)
def test_a_full_disk_is_a_three_part_error_and_leaves_nothing(name: str, tmp_path: Path):
    with small_disk(1000), pytest.raises(WriteFailed) as failed:
        sample_data.write(name, tmp_path / "raw", counts=FEW[name])
    assert "File too large" in failed.value.found
    assert "nothing half-written was kept" in failed.value.do
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "counts", "quoted", "hint"),
    [
        ("clinical_document", {}, "'clinical_document'", "did you mean 'clinical_documents'?"),
        ("clinical_documents", {"tset": 3}, "'tset'", "did you mean 'test'?"),
        ("mtsamples", {"csv": -1}, "csv = -1", "0 or more"),
    ],
)
def test_an_unknown_name_or_count_is_refused_with_the_nearest(name: str, counts: dict[str, int], quoted: str, hint: str, tmp_path: Path):
    with pytest.raises(MedVLError) as refused:
        sample_data.write(name, tmp_path / "raw", counts=counts)
    assert refused.value.found == quoted
    assert hint in refused.value.do
    assert not (tmp_path / "raw").exists()
