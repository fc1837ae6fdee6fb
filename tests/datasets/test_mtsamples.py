"""If these passed wrongly, a response could differ from its page, a cut file pass for whole, or copies of a text be in two splits."""

import csv
from pathlib import Path

import polars as pl
import pytest

from medvl_lib import pages, sample_data
from medvl_lib.configured import dataset_runs
from medvl_lib.datasets import DATASETS
from medvl_lib.datasets import mtsamples as dataset
from medvl_lib.datasets.mtsamples_files import SPECIALTIES, is_read
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.images import ImageStore, facts
from medvl_lib.pairs import PAIRS, REJECTIONS, Draft, Pair, Reading, Rejection, write_pairs
from medvl_lib.settings import read_settings
from medvl_lib.tables import read_table
from medvl_lib.validation import Limits, write_validated

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mtsamples" / "mtsamples.csv"
HEADER = ",description,medical_specialty,sample_name,transcription,keywords"
ROW = '0, Clear., Urology, Stone ,"PLAN:,  Fluids.,FOLLOW-UP: , In 2 weeks.",stone'


def dataset_limits(folder: Path) -> Limits:
    """The project's own."""
    (folder / "s.toml").write_text('data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.mtsamples]\nenabled = true\n')
    [limits] = [run.limits for run in dataset_runs(read_settings(folder / "s.toml")) if run.dataset.name == "mtsamples"]
    return limits


def read_csv(root: Path, *lines: str, end: str = "\r\n", mark: bytes = b"") -> list[Reading]:
    (root / "mtsamples.csv").write_bytes(mark + (end.join(lines) + end).encode())
    return list(dataset.read(root))


def drafts(readings: list[Reading]) -> list[Draft]:
    return [reading for reading in readings if isinstance(reading, Draft)]


def test_a_row_becomes_the_page_that_the_docstring_shows(tmp_path: Path):
    (draft,) = drafts(read_csv(tmp_path, HEADER, ROW))
    pair = draft.pair
    assert (pair.pair_id, pair.source, pair.request) == ("mtsamples/csv/000000/p1", "mtsamples.csv line 2", "Transcribe this page.")
    assert pair.response == "PLAN:\nFluids.\nFOLLOW-UP:\nIn 2 weeks."
    assert (pair.publisher_split, pair.subject_id, pair.expected) == (None, None, ())
    assert pair.metadata == {"specialty": "Urology", "sample_name": "Stone", "glyph_height_pixels": "8", "num_pages": "1"}


def test_the_picture_shows_exactly_the_response(tmp_path: Path):
    long_text = "  ".join(f"Sentence number {number} of a long note." for number in range(60))
    found = drafts(read_csv(tmp_path, HEADER, f'0, d, Urology, s ,"{long_text}",'))
    assert [draft.pair.pair_id[-3:] for draft in found] == [f"/p{number}" for number in range(1, len(found) + 1)]
    assert len(found) >= 3
    for draft in found:
        assert draft.images[0].data() == pages.text_page(draft.pair.response.split("\n"), dataset.PAGE)
        assert (facts(draft.images[0].data()).width_pixels, facts(draft.images[0].data()).height_pixels) == (336, 336)
    assert " ".join(draft.pair.response for draft in found).split() == long_text.split()
    assert len({draft.pair.document_id for draft in found}) == 1


@pytest.mark.parametrize(("end", "mark"), [("\r\n", b""), ("\n", b""), ("\n", b"\xef\xbb\xbf")])
def test_line_ends_and_a_byte_order_mark_do_not_matter(end: str, mark: bytes, tmp_path: Path):
    assert len(drafts(read_csv(tmp_path, HEADER, ROW, end=end, mark=mark))) == 1


def test_a_line_break_within_quotes_belongs_to_its_row(tmp_path: Path):
    readings = read_csv(tmp_path, HEADER, ROW.replace(" Clear.", '" Clear.\r\n"'), ROW)
    assert [draft.pair.source for draft in drafts(readings)] == ["mtsamples.csv line 2", "mtsamples.csv line 4"]


def test_a_quote_that_never_closes_takes_no_row_after_it_along(tmp_path: Path):
    readings = read_csv(tmp_path, HEADER, ROW, '1, B., Urology, B ,"HISTORY:,  Chest pain.', ROW, ROW)
    assert [draft.pair.source for draft in drafts(readings)] == ["mtsamples.csv line 2", "mtsamples.csv line 4", "mtsamples.csv line 5"]
    (bad,) = [reading for reading in readings if isinstance(reading, Rejection)]
    assert (bad.reason, bad.source) == ("record_malformed", "mtsamples.csv line 3")


def test_an_empty_transcription_is_rejected_and_a_repeated_one_is_yielded_with_the_same_document(tmp_path: Path):
    empty = "1, d, Urology, s , ,"
    first, rejected, again = read_csv(tmp_path, HEADER, ROW, empty, ROW.replace("Urology", "Surgery").replace("Fluids", " FLUIDS"))
    assert isinstance(rejected, Rejection)
    assert (rejected.reason, rejected.stage, rejected.pair_id) == ("empty_text", "read", "mtsamples/csv/000001")
    assert isinstance(first, Draft)
    assert isinstance(again, Draft)
    assert first.pair.document_id == again.pair.document_id
    assert first.pair.pair_id != again.pair.pair_id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('1, d, Urology, s ,"PLAN:,  Flu', "record_cut"),
        ("1, d, Urol", "record_cut"),
        ("1, d, Urology, s , text,, more", "record_too_long"),
        ('1, d, Urology, s ,"text" and more,', "record_malformed"),
    ],
)
def test_a_damaged_row_is_rejected_and_the_rows_before_it_stay(line: str, reason: str, tmp_path: Path):
    (tmp_path / "mtsamples.csv").write_bytes(f"{HEADER}\r\n{ROW}\r\n{line}".encode())
    good, bad = dataset.read(tmp_path)
    assert isinstance(good, Draft)
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.source) == (reason, "mtsamples.csv line 3")
    assert "Flu" not in bad.detail


def test_a_byte_that_is_not_utf8_rejects_its_row_only(tmp_path: Path):
    (tmp_path / "mtsamples.csv").write_bytes(f"{HEADER}\n{ROW}\n".encode() + b"1, d, Urology, s ,37 \xb0C,\n" + f"{ROW}\n".encode())
    reasons = [reading.reason if isinstance(reading, Rejection) else "" for reading in dataset.read(tmp_path)]
    assert reasons == ["", "not_utf8", ""]


def test_characters_without_a_glyph_stand_as_the_same_sign_on_the_page_and_in_the_response(tmp_path: Path):
    (draft,) = drafts(read_csv(tmp_path, HEADER, f"0, d, Urology, s ,{'word ' * 60}患 end,"))
    assert draft.pair.response.endswith("\ufffd end")
    assert draft.pair.metadata["num_replaced_characters"] == "1"
    assert draft.images[0].data() == pages.text_page(draft.pair.response.split("\n"), dataset.PAGE)


def test_a_text_that_the_fonts_cannot_show_is_rejected_with_the_count(tmp_path: Path):
    (rejected,) = read_csv(tmp_path, HEADER, "0, d, Urology, s ,影像所见 ok,")
    assert isinstance(rejected, Rejection)
    assert (rejected.reason, rejected.detail.split(" characters")[0]) == ("characters_without_glyph", "4 of 7")


@pytest.mark.parametrize(
    ("delivered", "lines"),
    [
        ("ALLERGIES:,  None.", "ALLERGIES:\nNone."),
        ("MEDICATIONS: , Aspirin.", "MEDICATIONS:\nAspirin."),
        ("Lungs clear.,Neck:  Supple.,2.  Rest", "Lungs clear.\nNeck:  Supple.\n2.  Rest"),
        ("years ago,SOCIAL HISTORY:, Single", "years ago\nSOCIAL HISTORY:\nSingle"),
        ("Zantac 150 b.i.d., Zyrtec, and 1,200 mg q.d., as needed", "Zantac 150 b.i.d., Zyrtec, and 1,200 mg q.d., as needed"),
    ],
)
def test_only_the_commas_of_section_breaks_become_lines(delivered: str, lines: str):
    assert dataset.page_text(delivered) == lines


def test_a_file_without_a_header_is_read_when_its_columns_are_unmistakable(tmp_path: Path):
    assert [draft.pair.source for draft in drafts(read_csv(tmp_path, ROW, ROW))] == ["mtsamples.csv line 1", "mtsamples.csv line 2"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tweet,sentiment_label", "columns tweet, sentiment_label"),
        ("A 23-year-old woman, with a cough", "2 columns and no header"),
        ("", "0 columns"),
    ],
)
def test_a_file_with_other_columns_is_refused_without_quoting_text(line: str, found: str, tmp_path: Path):
    with pytest.raises(InputRefused) as refused:
        read_csv(tmp_path, line)
    assert refused.value.found.startswith(found)
    assert refused.value.where == str(tmp_path / "mtsamples.csv")


def test_the_hubs_files_are_read_nested_in_order_and_with_their_label_names(tmp_path: Path):
    sample_data.write("mtsamples", tmp_path / "raw" / "hub", counts={"csv": 0, "hub_train": 3, "hub_test": 2})
    found = drafts(list(dataset.read(tmp_path / "raw")))
    first_pages = [draft.pair for draft in found if draft.pair.pair_id.endswith("/p1")]
    rows = [("train", 0), ("train", 1), ("train", 2), ("test", 0), ("test", 1), ("test", 2)]
    assert [pair.pair_id for pair in first_pages] == [f"mtsamples/{part}/{row:06d}/p1" for part, row in rows]
    assert {pair.publisher_split for pair in first_pages} == {None}
    assert [pair.metadata["publisher_split"] for pair in first_pages] == ["train"] * 3 + ["test"] * 3
    assert [pair.metadata["specialty"] for pair in first_pages[:2]] == ["Allergy / Immunology", "Urology"]
    assert first_pages[5].document_id == first_pages[0].document_id  # the invented leak: one split by the document's id


def test_a_hub_file_without_label_names_keeps_the_number_only(tmp_path: Path):
    frame = pl.DataFrame({"id": [7], "text": ["Plan: rest."], "label": [3]}, schema={"id": pl.Int32, "text": pl.String, "label": pl.Int64})
    frame.write_parquet(tmp_path / "test-00000-of-00001.parquet")
    (draft,) = drafts(list(dataset.read(tmp_path)))
    assert draft.pair.metadata["label"] == "3"
    assert "specialty" not in draft.pair.metadata


def test_a_damaged_or_foreign_parquet_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(InputRefused, match="14 bytes that are no Parquet file"):
        list(dataset.read(tmp_path))
    pl.DataFrame({"id": [1], "text": ["a"]}, schema={"id": pl.Int32, "text": pl.String}).write_parquet(path)
    with pytest.raises(InputRefused, match="column 'label' is absent"):
        list(dataset.read(tmp_path))


def put(root: Path, **files: str):
    """Write csv files by their path without the suffix; ``november__mtsamples`` lies in a folder."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_new_rows_in_a_file_of_their_own_leave_the_others_as_they_were(tmp_path: Path):
    put(tmp_path, mtsamples=f"{HEADER}\n{ROW}\n{ROW.replace('Fluids', 'Rest')}\n")
    before = [draft.pair for draft in drafts(list(dataset.read(tmp_path)))]
    aspirin, days = ROW.replace("Fluids", "Aspirin"), ROW.replace("weeks", "days")
    put(tmp_path, april=f"{HEADER}\n{aspirin}\n", november__mtsamples=f"{HEADER}\n{days}\n")
    after = [draft.pair for draft in drafts(list(dataset.read(tmp_path)))]
    assert after[:2] == before
    assert [(pair.pair_id, pair.source) for pair in after[2:]] == [
        ("mtsamples/csv/april.csv/000000/p1", "april.csv line 2"),
        ("mtsamples/csv/november/mtsamples.csv/000000/p1", "november/mtsamples.csv line 2"),
    ]


def test_a_file_of_new_rows_alone_keeps_its_ids_when_mtsamples_csv_comes(tmp_path: Path):
    put(tmp_path, november=f"{HEADER}\n{ROW}\n")
    assert [draft.pair.pair_id for draft in drafts(list(dataset.read(tmp_path)))] == ["mtsamples/csv/november.csv/000000/p1"]
    put(tmp_path, mtsamples=f"{HEADER}\n{ROW.replace('Fluids', 'Rest')}\n")
    ids = [draft.pair.pair_id for draft in drafts(list(dataset.read(tmp_path)))]
    assert ids == ["mtsamples/csv/000000/p1", "mtsamples/csv/november.csv/000000/p1"]


def test_a_row_that_stands_in_two_files_is_kept_once_and_rejected_by_name(tmp_path: Path):
    put(tmp_path / "raw", april=f"{HEADER}\n{ROW}\n{ROW.replace('Fluids', 'Rest')}\n", mtsamples=f"{HEADER}\n{ROW}\n")
    pairs, kept, images = tmp_path / "pairs", tmp_path / "kept", ImageStore(tmp_path / "images")
    pairs.mkdir()
    kept.mkdir()
    write_pairs(pairs, dataset.read(tmp_path / "raw"), images)
    write_validated(kept, pairs, images, dataset.DATASET, dataset_limits(tmp_path))
    assert [pair.pair_id for pair in read_table(kept / PAIRS, Pair)] == ["mtsamples/csv/000000/p1", "mtsamples/csv/april.csv/000001/p1"]
    [again] = read_table(kept / REJECTIONS, Rejection)
    assert (again.pair_id, again.reason, again.source) == ("mtsamples/csv/april.csv/000000/p1", "duplicate_pair", "april.csv line 2")


def test_a_copy_of_a_file_is_refused_because_all_its_rows_would_come_twice(tmp_path: Path):
    put(tmp_path, mtsamples=f"{HEADER}\n{ROW}\n", b__copy=f"{HEADER}\n{ROW}\n")
    with pytest.raises(InputRefused, match=r"2 files with the same bytes: mtsamples\.csv, b/copy\.csv") as refused:
        list(dataset.read(tmp_path))
    assert refused.value.do == "keep one of them in the raw folder"


@pytest.mark.parametrize("text", [ROW, "tweet,sentiment_label", "description,transcription\na,b", "", '"never closed', "\xff\xfe\x00"])
def test_a_csv_file_of_another_name_is_read_for_its_header_alone(text: str, tmp_path: Path):
    put(tmp_path, mtsamples=f"{HEADER}\n{ROW}\n", other=f"{text}\n")
    assert len(list(dataset.read(tmp_path))) == 1
    assert [name for name in ("mtsamples.csv", "other.csv") if is_read(tmp_path, name)] == ["mtsamples.csv"]


def test_a_header_may_lack_the_nameless_column_and_have_another_order(tmp_path: Path):
    header = "transcription,keywords,sample_name,medical_specialty,description"
    put(tmp_path, november=f"{header}\nPlan: rest.,k, Stone , Urology ,d\n", more=f"{header.upper()}\nPlan: aspirin.,k,s,m,d\n")
    found = [draft.pair for draft in drafts(list(dataset.read(tmp_path)))]
    assert [pair.response for pair in found] == ["Plan: aspirin.", "Plan: rest."]
    assert (found[1].metadata["specialty"], found[1].metadata["sample_name"]) == ("Urology", "Stone")


def test_a_folder_without_a_known_file_is_refused_with_the_setting_and_the_way_to_invented_data(tmp_path: Path):
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(InputMissing) as refused:
        list(dataset.read(tmp_path))
    assert "mtsamples.csv" in refused.value.found
    assert "raw_path under [datasets.mtsamples]" in refused.value.do
    assert "medvl sample-data" in refused.value.do


def test_nothing_of_it_may_be_shown_and_the_page_bears_identity():
    assert not DATASETS["mtsamples"].may_be_shown
    assert dataset.PAGE in DATASETS["mtsamples"].literals
    assert len(SPECIALTIES) == len(set(SPECIALTIES)) == 40


def real_transcriptions() -> list[str]:
    if not REAL.is_file():
        pytest.skip(f"mtsamples: {REAL} is absent")
    with REAL.open(encoding="utf-8", newline="") as stream:
        return [row["transcription"] for row in csv.DictReader(stream)]


@pytest.mark.real_data
def test_every_real_row_is_read_or_rejected_with_the_right_reason():
    texts = real_transcriptions()
    empty = {f"mtsamples/csv/{number:06d}" for number, text in enumerate(texts) if not text.strip()}
    readings = list(dataset.read(REAL.parent))
    found = drafts(readings)
    rows = {draft.pair.pair_id.rsplit("/", 1)[0]: draft.pair.document_id for draft in found}
    assert (len(texts), len(empty)) == (200, 2)
    assert {reading.pair_id: reading.reason for reading in readings if isinstance(reading, Rejection)} == dict.fromkeys(empty, "empty_text")
    assert len(rows) == 198
    assert len(set(rows.values())) == len({text for text in texts if text.strip()})
    assert max(len(draft.pair.response) for draft in found) <= 800


@pytest.mark.real_data
def test_the_real_pages_hold_every_word_of_the_transcriptions():
    texts = real_transcriptions()
    shown: dict[int, str] = {}
    for draft in drafts(list(dataset.read(REAL.parent))):
        number = int(draft.pair.pair_id.split("/")[2])
        shown[number] = shown.get(number, "") + draft.pair.response
    letters = str.maketrans("", "", " ,\r\n\t")
    assert all(shown.get(number, "").translate(letters) == text.translate(letters) for number, text in enumerate(texts))
