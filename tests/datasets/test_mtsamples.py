"""If these passed wrongly, a response could differ from its page, a cut file pass for whole, or copies of a text be in two splits."""

import csv
from pathlib import Path

import polars as pl
import pytest

from medvl_lib import pages, sample_data
from medvl_lib.datasets import DATASETS
from medvl_lib.datasets import mtsamples as dataset
from medvl_lib.datasets.mtsamples_files import SPECIALTIES
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.images import facts
from medvl_lib.pairs import Draft, Reading, Rejection

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mtsamples" / "mtsamples.csv"
HEADER = ",description,medical_specialty,sample_name,transcription,keywords"
ROW = '0, Clear., Urology, Stone ,"PLAN:,  Fluids.,FOLLOW-UP: , In 2 weeks.",stone'


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


def test_two_csv_files_are_refused_because_their_rows_would_share_ids(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mtsamples.csv").write_text(f"{HEADER}\n{ROW}\n")
    with pytest.raises(InputRefused, match=r"a/mtsamples\.csv, b/mtsamples\.csv"):
        list(dataset.read(tmp_path))


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
