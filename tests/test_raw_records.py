"""Raw records. If these passed wrongly, changed data would be trained on as if it were the old, or a copied folder would retrain
everything.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medvl_lib import raw_records
from medvl_lib.datasets import DATASETS
from medvl_lib.errors import InputMissing, InputRefused, WriteFailed
from medvl_lib.raw_records import MANIFEST, RawFile, contents, observe, require_unchanged, rules, write_manifest
from medvl_lib.sample_data import write
from medvl_lib.tables import read_table
from tests.small_disk import small_disk

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    (folder / "rows.csv").write_text("abc")
    (folder / "images" / "1.png").write_text("1")
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose contents were read."""
    names: list[str] = []
    real = raw_records.sha256_of_file
    monkeypatch.setattr(raw_records, "sha256_of_file", lambda path: names.append(path.name) or real(path))
    return names


def seen(folder: Path) -> tuple[RawFile, ...]:
    return observe(folder, folder.parent / "memory" / "observed.parquet", cure="fill it")


def test_every_file_is_seen_by_its_path_in_order(folder: Path):
    files = seen(folder)
    assert [file.path for file in files] == ["images/1.png", "rows.csv"]
    assert files[1] == RawFile(path="rows.csv", num_bytes=3, sha256=SHA256_OF_ABC)


def test_the_order_is_pathlibs_and_a_folder_behind_a_link_is_not_looked_into(folder: Path, tmp_path: Path):
    for name in ("images.txt", "images-2/1.png", "images/a/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3.png").write_text("3")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    paths = ["images/1.png", "images/a/b.png", "images-2/1.png", "images.txt", "linked.png", "rows.csv"]
    assert [file.path for file in seen(folder)] == paths
    assert paths == [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def change(folder: Path):
    (folder / "rows.csv").write_text("abx")


def rename(folder: Path):
    (folder / "rows.csv").rename(folder / "records.csv")


def move(folder: Path):
    (folder / "images" / "1.png").rename(folder / "1.png")


def add(folder: Path):
    (folder / "more.csv").write_text("")


def remove(folder: Path):
    (folder / "rows.csv").unlink()


@pytest.mark.parametrize("act", [change, rename, move, add, remove])
def test_other_data_has_another_identity(folder: Path, act: Callable[[Path], None]):
    before = contents(seen(folder))
    act(folder)
    assert contents(seen(folder)) != before


def test_data_changed_back_has_its_identity_again(folder: Path):
    before = contents(seen(folder))
    change(folder)
    seen(folder)
    (folder / "rows.csv").write_text("abc")
    assert contents(seen(folder)) == before


def test_an_untouched_folder_is_not_read_again(folder: Path, hashed: list[str]):
    before = contents(seen(folder))
    hashed.clear()
    assert contents(seen(folder)) == before
    assert hashed == []


def test_a_touched_file_is_read_once_and_changes_nothing(folder: Path, hashed: list[str]):
    before = contents(seen(folder))
    hashed.clear()
    os.utime(folder / "rows.csv", ns=(1, 1))
    assert [contents(seen(folder)), contents(seen(folder))] == [before, before]
    assert hashed == ["rows.csv"]


def test_a_copy_elsewhere_is_the_same_data(folder: Path, tmp_path: Path):
    before = contents(seen(folder))
    folder.rename(tmp_path / "moved")
    assert contents(seen(tmp_path / "moved")) == before


def test_another_folder_is_read_even_where_names_sizes_and_times_are_the_same(folder: Path, tmp_path: Path):
    before = contents(seen(folder))
    shutil.copytree(folder, tmp_path / "other")
    times = (folder / "rows.csv").stat()
    (tmp_path / "other" / "rows.csv").write_text("abx")
    os.utime(tmp_path / "other" / "rows.csv", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert contents(seen(tmp_path / "other")) != before


def test_a_damaged_memory_is_forgotten(folder: Path, hashed: list[str]):
    before = contents(seen(folder))
    (folder.parent / "memory" / "observed.parquet").write_bytes(b"PAR1")
    hashed.clear()
    assert contents(seen(folder)) == before
    assert hashed == ["1.png", "rows.csv"]


@pytest.mark.parametrize(("act", "names"), [(change, "1 files changed"), (rename, "2 files changed"), (add, "more.csv")])
def test_data_that_moved_since_it_was_observed_is_refused(folder: Path, tmp_path: Path, act: Callable[[Path], None], names: str):
    write_manifest(tmp_path, seen(folder))
    require_unchanged(tmp_path, seen(folder), folder, "slake")
    act(folder)
    with pytest.raises(InputRefused, match=names) as refused:
        require_unchanged(tmp_path, seen(folder), folder, "slake")
    assert refused.value.where == str(folder)
    assert "materialize slake/raw_records" in refused.value.do


@pytest.mark.parametrize("is_there", [False, True])
def test_a_missing_or_empty_folder_is_refused_in_three_parts(tmp_path: Path, is_there: bool):
    nowhere = tmp_path / "raw" / "slake"
    if is_there:
        nowhere.mkdir(parents=True)
    with pytest.raises(InputMissing) as missing:
        observe(nowhere, tmp_path / "observed.parquet", cure="run `medvl sample-data slake`")
    assert (missing.value.found, missing.value.where) == ("no files" if is_there else "no such folder", str(nowhere))
    assert missing.value.do == "run `medvl sample-data slake`"


def test_a_full_disk_is_refused_and_forgets_nothing(folder: Path, hashed: list[str]):
    seen(folder)
    add(folder)
    with small_disk(100), pytest.raises(WriteFailed):
        seen(folder)
    assert [path.name for path in (folder.parent / "memory").iterdir()] == ["observed.parquet"]
    hashed.clear()
    seen(folder)
    assert hashed == ["more.csv"]


def test_the_manifest_holds_what_was_seen_and_no_times(folder: Path, tmp_path: Path):
    files = seen(folder)
    assert write_manifest(tmp_path, files) == {"num_files": 2, "num_bytes": 4}
    assert tuple(read_table(tmp_path / MANIFEST, RawFile)) == files
    first = (tmp_path / MANIFEST).read_bytes()
    os.utime(folder / "rows.csv", ns=(1, 1))
    write_manifest(tmp_path, seen(folder))
    assert (tmp_path / MANIFEST).read_bytes() == first


def test_an_empty_manifest_breaks_its_rule(folder: Path, tmp_path: Path):
    [rule] = rules(folder)
    write_manifest(tmp_path, seen(folder))
    assert rule.holds(tmp_path).passed
    write_manifest(tmp_path, ())
    assert not rule.holds(tmp_path).passed


def said(dataset: str, folder: Path, manifest: Path) -> str:
    """What the check says of a folder; it passes whatever lies there unread."""
    write_manifest(manifest, seen(folder))
    [rule] = rules(folder, DATASETS[dataset].is_read)
    outcome = rule.holds(manifest)
    assert outcome.passed
    return outcome.found


@pytest.mark.parametrize("dataset", DATASETS)
def test_files_that_nobody_reads_are_named_and_invented_ones_are_all_read(dataset: str, tmp_path: Path):
    folder, manifest = tmp_path / "raw", tmp_path / "manifest"
    manifest.mkdir()
    write(dataset, folder)
    number = len(seen(folder))
    assert said(dataset, folder, manifest) == f"{number} files"
    (folder / "november").mkdir()
    for name in ("rows.xlsx", "november/notes.txt"):
        (folder / name).write_text("new rows")
    assert said(dataset, folder, manifest) == f"{number + 2} files; 2 files that nobody reads: november/notes.txt, rows.xlsx"


def test_the_first_few_unread_files_are_named(tmp_path: Path):
    folder, manifest = tmp_path / "raw", tmp_path / "manifest"
    manifest.mkdir()
    folder.mkdir()
    for name in ("mtsamples.csv", "a.txt"):
        (folder / name).write_text("x")
    assert said("mtsamples", folder, manifest) == "2 files; 1 file that nobody reads: a.txt"
    for name in "bcd":
        (folder / f"{name}.txt").write_text("x")
    assert said("mtsamples", folder, manifest) == "5 files; 4 files that nobody reads: a.txt, b.txt, c.txt, ..."


def test_what_lies_beside_the_data_and_what_is_hidden_is_not_named(tmp_path: Path):
    folder, manifest = tmp_path / "raw", tmp_path / "manifest"
    manifest.mkdir()
    beside = ("README", "ReadMe.md", "LICENSE.txt", "licence", "SOURCE.md", "CHECKSUMS.sha256", "SHA256SUMS.txt", "a.zip.md5")
    for name in (*beside, ".DS_Store", ".cache/rows.txt", "mtsamples.csv", "sources_of_rows.txt", "licensed.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert said("mtsamples", folder, manifest) == "13 files; 2 files that nobody reads: licensed.csv, sources_of_rows.txt"


@pytest.mark.parametrize(
    ("declared", "unread"),
    [("", ""), ('tables = ["a.csv"]', "; 1 file that nobody reads: b.csv"), ("tables = 7", ""), ("not TOML", "")],
)
def test_of_custom_reports_the_declared_tables_are_read(declared: str, unread: str, tmp_path: Path):
    folder, manifest = tmp_path / "raw", tmp_path / "manifest"
    manifest.mkdir()
    folder.mkdir()
    for name, text in (("a.csv", "x"), ("b.csv", "x"), ("custom_reports.toml", declared)):
        (folder / name).write_text(text)
    assert said("custom_reports", folder, manifest) == f"3 files{unread}"


@pytest.mark.parametrize(
    ("dataset", "read", "unread"),
    [
        ("pad_ufes_20", ("metadata.csv", "a/b/X.PNG"), "Metadata.csv"),
        ("clinical_documents", ("test/records.jsonl", "test/images/a.png"), "november/test/records.jsonl"),
        ("mtsamples", ("data/train-00000-of-00001.parquet",), "data/training.parquet"),
        ("roco", ("data/train/radiology/captions.txt",), "data/train/non-radiology/captions.txt"),
        ("mimic_cxr", ("mimic-cxr-2.0.0-split.csv.gz", "files/p10/p10000032/s50414267.txt"), "mimic-cxr-2.0.0-negbio.csv.gz"),
        ("slake", ("Slake/test.json", "Slake/imgs/xmlab1/source.jpg"), "Slake/mask.txt"),
        ("pubmedvision", ("PubMedVision_Alignment_VQA.json", "images/pmc_1_0.jpg"), "PubMedVision_Chinese.json"),
    ],
)
def test_a_name_that_is_nearly_right_is_not_read(dataset: str, read: tuple[str, ...], unread: str, tmp_path: Path):
    is_read = DATASETS[dataset].is_read
    assert is_read is not None
    assert [name for name in (*read, unread) if not is_read(tmp_path, name)] == [unread]


def test_a_folder_that_went_away_is_no_reason_to_fail(folder: Path, tmp_path: Path):
    write_manifest(tmp_path, seen(folder))
    shutil.rmtree(folder)
    [rule] = rules(folder, DATASETS["mtsamples"].is_read)
    assert rule.holds(tmp_path).passed
