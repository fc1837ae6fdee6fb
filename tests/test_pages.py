"""If these passed wrongly, a page could show other text than the response claims, or other pixels than the last run's."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont

from medvl_lib import pages
from medvl_lib.pages import DRAWABLE_RANGES, FONT_FILES, FONTS_DIRECTORY, REPLACEMENT, Box, PageStyle, Text

STYLE = PageStyle(font="sans", font_size_pixels=14, width_pixels=140, height_pixels=84, margin_pixels=4, line_pitch_pixels=18)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def ink(data: bytes) -> int:
    return int((pixels(data) < 128).sum())


def test_the_same_text_gives_the_same_bytes_and_another_text_gives_others():
    assert pages.text_page(["Potassium 4.1"], STYLE) == pages.text_page(["Potassium 4.1"], STYLE)
    assert pages.text_page(["Potassium 4.1"], STYLE) != pages.text_page(["Potassium 4.7"], STYLE)


def test_the_pixels_of_a_page_are_those_of_revision_1():
    """A changed hash means changed pictures: raise ``pages.REVISION`` and say why. Another FreeType in Pillow may do it, too."""
    marks = [Text(left_pixels=4, top_pixels=4, text="Na 141 µg"), Box(left_pixels=4, top_pixels=30, right_pixels=99, bottom_pixels=40)]
    drawn = {font: pages.png(marks, PageStyle(font=font, font_size_pixels=14, width_pixels=112, height_pixels=56, margin_pixels=4,
                                              line_pitch_pixels=18)) for font in FONT_FILES}  # fmt: skip
    hashes = {font: hashlib.sha256(pixels(data).tobytes()).hexdigest()[:12] for font, data in drawn.items()}
    assert (pages.REVISION, hashes) == (
        1,
        {"sans": "8196f1684022", "mono": "df2b0fca5f05", "serif": "722a1719a124", "italic": "848deaad1482"},
    )


def test_png_bytes_carry_no_time_stamp_or_text():
    data = pages.text_page(["x"], STYLE)
    assert [name for name in (b"tIME", b"tEXt", b"iTXt", b"zTXt") if name in data] == []


@pytest.mark.parametrize("font", FONT_FILES)
def test_each_font_draws_exactly_the_declared_characters(font):
    declared = {code for first, last in DRAWABLE_RANGES for code in range(first, last + 1)}
    assert set(TTFont(FONTS_DIRECTORY / FONT_FILES[font]).getBestCmap()) == declared


@pytest.mark.parametrize("font", FONT_FILES)
def test_width_is_what_the_drawn_line_measures(font):
    drawn = ImageFont.truetype(FONTS_DIRECTORY / FONT_FILES[font], 14, layout_engine=ImageFont.Layout.BASIC)
    assert pages.width_pixels("AV Tórax 37.5 °C", font, 14) == drawn.getlength("AV Tórax 37.5 °C")


def test_x_height_is_the_ink_of_a_drawn_x():
    rows = np.flatnonzero((pixels(pages.text_page(["x"], STYLE)) < 128).any(axis=1))
    assert pages.x_height_pixels(STYLE) == rows[-1] - rows[0] + 1 == 8


def test_a_character_without_a_glyph_is_replaced_visibly_and_counted():
    assert pages.printable("BP 120 患者 ok") == (f"BP 120 {REPLACEMENT}{REPLACEMENT} ok", 2)
    assert ink(pages.text_page([REPLACEMENT], STYLE)) > 20


def test_a_replacement_character_that_was_delivered_is_not_counted_again():
    assert pages.printable("a\ufffdb") == ("a\ufffdb", 0)


def test_accents_are_composed_blanks_become_spaces_and_line_breaks_stay():
    assert pages.printable("e\u0301\t1\u00a02\r\n3") == ("é 1 2\n3", 0)


def test_undrawable_text_is_refused_by_wrap_and_png_without_quoting_it():
    for draw in (lambda: pages.wrap("name 患", STYLE), lambda: pages.text_page(["name 患"], STYLE)):
        with pytest.raises(ValueError, match=r"U\+60A3") as refused:
            draw()
        assert "name" not in str(refused.value)


def test_wrapping_keeps_every_word_in_order_and_every_line_on_the_page():
    text = "The torn edge was trimmed to a stable rim.\n\nNo   effusion."
    lines = pages.wrap(text, STYLE)
    assert " ".join(lines).split() == text.split()
    assert max(pages.width_pixels(line, "sans", 14) for line in lines) <= STYLE.text_width_pixels
    assert lines[-1] == "No effusion."


def test_a_word_wider_than_a_line_is_cut_where_the_line_ends():
    lines = pages.wrap("a " + "W" * 30, STYLE)
    assert "".join(lines) == "a" + "W" * 30
    assert len(lines) > 2


def test_pages_hold_every_line_once_and_are_filled_evenly():
    lines = [str(number) for number in range(9)]
    sheets = pages.paginate(lines, STYLE)
    assert STYLE.lines_per_page == 4
    assert [len(sheet) for sheet in sheets] == [3, 3, 3]
    assert [line for sheet in sheets for line in sheet] == lines
    assert pages.paginate([], STYLE) == ()


def test_a_full_page_fits_and_one_line_more_is_refused():
    assert ink(pages.text_page(["gÅ"] * 4, STYLE)) > 0
    with pytest.raises(ValueError, match="5 lines"):
        pages.text_page(["g"] * 5, STYLE)


@pytest.mark.parametrize(
    "mark",
    [
        Text(left_pixels=100, top_pixels=4, text="too far right"),
        Text(left_pixels=4, top_pixels=70, text="low"),
        Box(left_pixels=0, top_pixels=0, right_pixels=140, bottom_pixels=10),
    ],
)
def test_a_mark_that_leaves_the_page_is_refused(mark):
    with pytest.raises(ValueError, match="leaves the page"):
        pages.png([mark], STYLE)


@pytest.mark.parametrize("change", [{"width_pixels": 150}, {"height_pixels": 85}, {"line_pitch_pixels": 12}, {"margin_pixels": 40}])
def test_a_page_style_that_cannot_be_drawn_is_refused(change):
    numbers = {
        "font": "sans",
        "font_size_pixels": 14,
        "width_pixels": 140,
        "height_pixels": 84,
        "margin_pixels": 4,
        "line_pitch_pixels": 18,
    }
    with pytest.raises(ValueError, match="pixel"):
        PageStyle(**{**numbers, **change})


def test_the_licence_of_the_fonts_lies_beside_them():
    text = (Path(FONTS_DIRECTORY) / "LICENSE-DejaVu.txt").read_text(encoding="utf-8")
    assert "Bitstream Vera Fonts Copyright" in text
    assert "Arev Fonts Copyright" in text
