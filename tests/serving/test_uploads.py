"""Files of several pages, and what in a file or a text may say who the patient is. If these passed wrongly, a model would see another page
than a person does, one file could take the server down, or a name go out unseen.
"""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvl_lib.images import rgb_pixels
from medvl_lib.sample_data.custom_reports import dicom
from medvl_lib.serving import uploads
from medvl_lib.serving.identifiers import of_picture, of_text
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.uploads import MAX_PICTURES, read_document
from tests.serving.files import form_pdf, page, pdf, pdf_of_text, tiff, tiff_and_im


def colours(number: int) -> tuple[int, int, int]:
    return (40 * number % 256, 200, 255 - 30 * number)


# -- pages -------------------------------------------------------------------------------------------------------------
def test_every_page_of_a_pdf_is_a_picture_in_its_order():
    document = read_document(pdf([page(colours(number)) for number in range(3)]))
    seen = [rgb_pixels(data)[100, 100] for data in document.pages]
    assert np.allclose(seen, [colours(number) for number in range(3)], atol=6)  # the PDF holds them as JPEG


def test_a_pdfs_page_is_drawn_as_large_as_its_print_needs_and_no_larger():
    [letter] = read_document(pdf_of_text("Potassium 4.1", (612, 792))).pages
    [poster] = read_document(pdf_of_text("Potassium 4.1", (3000, 4000))).pages
    assert rgb_pixels(letter).shape == (2200, 1700, 3)  # 200 dots per inch
    height, width, _ = rgb_pixels(poster).shape
    assert 3_900_000 < height * width <= 4_010_000
    assert rgb_pixels(letter).min() < 60  # there is print on it


def test_what_was_filled_into_a_form_is_seen():
    empty, filled = (rgb_pixels(read_document(form_pdf(value)).pages[0]) for value in ("", "Aspirin 100 mg"))
    assert (empty < 128).sum() < (filled < 128).sum()


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "I;16", "CMYK", "RGBA", "P"])
def test_every_page_of_a_tiff_has_the_pixels_that_it_has_alone(mode: str):
    pages = [page(colours(number)).convert("RGB") for number in range(3)]
    shades = [Image.fromarray(np.asarray(one.convert("L")).astype(np.uint16) * 200) for one in pages]
    pages = shades if mode == "I;16" else [one.convert(mode) for one in pages]
    document = read_document(tiff(pages))
    assert len(document.pages) == 3
    for read, drawn in zip(document.pages, pages, strict=True):
        assert (rgb_pixels(read) == rgb_pixels(tiff([drawn]))).all()


def test_a_turned_page_of_a_tiff_stands_upright():
    upright = page((200, 10, 10), size=(120, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    _, second = read_document(tiff([upright, turned], exif=exif)).pages
    assert rgb_pixels(second).shape == (60, 120, 3)


def test_a_picture_of_one_page_goes_on_byte_by_byte():
    for data in (tiff([page((1, 2, 3))]), _png(page((1, 2, 3)))):
        assert read_document(data).pages == (data,)


@pytest.mark.parametrize("make", [pdf, tiff])
def test_more_pages_than_one_question_takes_are_refused_and_told(make):
    few, many = [page((9, 9, 9))] * MAX_PICTURES, [page((9, 9, 9))] * (MAX_PICTURES + 1)
    assert len(read_document(make(few)).pages) == MAX_PICTURES
    with pytest.raises(Problem, match="pages") as refused:
        read_document(make(many))
    assert refused.value.status == 422
    assert len(read_document(make(many), most_pages=32).pages) == MAX_PICTURES + 1


def test_a_picture_that_is_two_is_decoded_as_the_one_whose_size_was_looked_at():
    both = tiff_and_im((10, 20), (460, 230))
    assert Image.open(io.BytesIO(both), formats=["IM"]).size == (460, 230)
    assert np.asarray(Image.open(io.BytesIO(both), formats=["IM"])).shape == (230, 460)
    assert read_document(both).pages == (both,)
    assert rgb_pixels(both).shape == (20, 10, 3)


def test_an_animation_is_refused_and_not_cut_to_its_first_frame():
    out = io.BytesIO()
    page((1, 2, 3)).save(out, "GIF", save_all=True, append_images=[page((200, 2, 3))])
    with pytest.raises(Problem, match="several frames"):
        read_document(out.getvalue())


@pytest.mark.parametrize(
    ("data", "status", "found"),
    [
        (b"%PDF-1.7\n%%EOF", 415, "cannot be read"),
        (pdf_of_text("x", (612, 792))[:200], 415, "cannot be read"),
        (pdf_of_text("x", (10, 5000)), 422, "a line"),
        (pdf_of_text("x", (612, 792), user_password="secret"), 422, "password"),
    ],
    ids=["nothing", "cut", "a line", "locked"],
)
def test_a_pdf_that_cannot_be_drawn_says_why(data: bytes, status: int, found: str):
    with pytest.raises(Problem) as refused:
        read_document(data)
    assert refused.value.status == status
    assert found in refused.value.detail


def test_a_process_that_draws_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    forever = tmp_path / "forever.py"
    forever.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(uploads, "DRAWER", forever)
    monkeypatch.setattr(uploads, "MAX_DRAWING_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(Problem, match="0.5|s to draw"):
        read_document(b"%PDF-1.7")
    assert time.monotonic() - started < 10


def test_a_process_that_calculates_for_ever_is_slow_and_not_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    busy = tmp_path / "busy.py"
    busy.write_text(
        f"import sys\nsys.path.insert(0, {str(uploads.DRAWER.parent)!r})\nimport pdf_process\n"
        "pdf_process.MAX_PROCESSOR_SECONDS = 1\npdf_process.bound()\nwhile True: pass\n"
    )
    monkeypatch.setattr(uploads, "DRAWER", busy)
    with pytest.raises(Problem, match="s to draw") as refused:
        read_document(b"%PDF-1.7")
    assert refused.value.status == 422


@pytest.mark.parametrize("line", ["import os; os.abort()", "x = bytearray(1 << 30); print(len(x))", "open('LEFT', 'w').write('x')"])
def test_a_process_that_dies_or_takes_too_much_is_a_refusal_and_no_more(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The same bounds as the real one sets itself, before a file that makes it do this."""
    broken = tmp_path / "broken.py"
    left = tmp_path / "left"
    line = line.replace("LEFT", str(left))
    broken.write_text(f"import sys\nsys.path.insert(0, {str(uploads.DRAWER.parent)!r})\nimport pdf_process\npdf_process.bound()\n{line}\n")
    monkeypatch.setattr(uploads, "DRAWER", broken)
    with pytest.raises(Problem) as refused:
        read_document(b"%PDF-1.7")
    assert refused.value.status == 415
    assert not left.exists() or left.stat().st_size == 0


# -- who the patient is ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Potassium: 4.1 mmol/L\nGlucose: 126-140 mg/dL, 2026-11-29", []),
        ("Bone age 12 years, 143-22 units, ratio 1.234.567", []),
        ("Write to jane.doe@example.org", ["e_mail_address"]),
        ("SSN 219-09-9999", ["social_security_number"]),
        ("Call (415) 555-0132 or +44 20 7946 0958", ["phone_number", "phone_number"]),
        ("MRN: 00412-7", ["record_number"]),
        ("Patient ID 77-A1234", ["record_number"]),
        ("Patient: Jane Doe\nDOB: 04/12/1961", ["patient_name", "birth_date"]),
        ("born on 12 May 1961 in spring", ["birth_date"]),
        ("Address: 12 Elm Street, Springfield", ["postal_address"]),
        ("姓名：王小明 出生日期：1961年4月12日", ["patient_name", "birth_date"]),
        ("身份证 11010519491231002X", ["resident_number"]),
        ("身份证 110105194912310021", []),  # its last character is no check of the others
        ("电话 13800138000", ["phone_number"]),
        ("病历号：A12345", ["record_number"]),
    ],
)
def test_what_names_a_patient_in_a_text_is_told_by_kind(text: str, kinds: list[str]):
    assert [found.kind for found in of_text(text, "answer")] == kinds


def test_an_identifier_says_where_it_stands_and_not_what_it_says():
    [found] = of_text("Sodium 139. MRN: 00412-7.", "answer")
    assert (found.where, found.detail) == ("answer", "characters 12 to 24")
    assert "00412" not in repr(found)


def test_no_text_takes_long_to_look_through():
    for text in ("1" * 8000, "a@" * 4000, "(123) " * 1300, "patient " * 1000, "name: " * 1300, "+1 23" * 1600, "12 May " * 1100):
        started = time.perf_counter()
        list(of_text(text, "prompt"))
        assert time.perf_counter() - started < 1, text[:12]


def test_a_files_tags_are_told_by_name():
    named = dicom(np.zeros((32, 32), np.uint8), "1.2.3", PatientName="Invented^Person")
    [found] = of_picture(named)
    assert found.kind == "dicom"
    assert "PatientName" in found.detail
    assert "Invented" not in found.detail
    exif = Image.Exif()
    exif[0x013B] = "Invented Person"
    out = io.BytesIO()
    page((1, 2, 3)).save(out, "JPEG", exif=exif)
    [found] = of_picture(out.getvalue())
    assert (found.kind, found.detail) == ("exif", "Artist: not empty")
    assert not list(of_picture(_png(page((1, 2, 3)))))


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
