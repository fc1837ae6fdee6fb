"""Text onto page pictures: the same text and style give the same PNG bytes, run after run.

In: text, a ``PageStyle`` and marks (a line of text, a box). Out: lines that fit a page, pages of lines, PNG bytes. The fonts lie in
``medvl_lib/fonts`` (DejaVu 2.37, cut down by ``scripts/subset_fonts.py``), so that no machine draws with its own. Pixels are equal
wherever Pillow brings the same FreeType, bytes wherever it also brings the same zlib.

**No character is lost silently.** ``printable`` turns each character that the fonts cannot draw into U+FFFD, a question mark in a
diamond that the page shows, and counts them; ``wrap`` and ``png`` refuse text that was not made so. What a page means, and which text
belongs on it, is decided by the datasets.
"""

import functools
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

REVISION = 1  # first version
GRID_PIXELS = 28  # Qwen2.5-VL: patch 14 x merge 2; a page in whole cells reaches the model unresized
REPLACEMENT = "\ufffd"
WHITE, BLACK = 255, 0

Font = Literal["sans", "mono", "serif", "italic"]
FONT_FILES: dict[Font, str] = {
    "sans": "DejaVuSans.ttf", "mono": "DejaVuSansMono.ttf", "serif": "DejaVuSerif.ttf", "italic": "DejaVuSerif-Italic.ttf",
}  # fmt: skip
FONTS_DIRECTORY = Path(__file__).parent / "fonts"

DRAWABLE_RANGES = (
    (0x0020, 0x007E),  # ASCII
    (0x00A1, 0x00AC), (0x00AE, 0x00FF),  # Latin-1 without the soft hyphen, which no reader can tell from a hyphen
    (0x0100, 0x017F),  # Latin Extended-A
    (0x0391, 0x03A1), (0x03A3, 0x03C9),  # Greek
    (0x2010, 0x2023), (0x2026, 0x2026), (0x2030, 0x2037), (0x2039, 0x203A),  # dashes, quotes, bullets, per mille, primes
    (0x2070, 0x2071), (0x2074, 0x208E), (0x20AC, 0x20AC),  # superscripts, subscripts, euro
    (0x2116, 0x2116), (0x2122, 0x2122), (0x2153, 0x215E), (0x2190, 0x2195),  # numero, trade mark, fractions, arrows
    (0x2206, 0x2206), (0x2211, 0x2212), (0x2219, 0x221A), (0x221E, 0x221E), (0x2248, 0x2248),  # delta, sum, minus, root, infinity
    (0x2260, 0x2261), (0x2264, 0x2265), (0x25A0, 0x25A1), (0x25CF, 0x25CF),  # comparisons, squares, a disc
    (0xFFFD, 0xFFFD),
)  # fmt: skip
"""The characters that all fonts draw, first and last of each range; the subset script and ``printable`` read it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStyle:
    """The numbers of a page: they bear identity, since they decide what the model sees."""

    font: Font
    font_size_pixels: int
    """Pixels per em."""
    width_pixels: int
    """A multiple of ``GRID_PIXELS``."""
    height_pixels: int
    """A multiple of ``GRID_PIXELS``."""
    margin_pixels: int
    """White on all four sides."""
    line_pitch_pixels: int
    """From the top of a line to the top of the next."""

    def __post_init__(self) -> None:
        if self.width_pixels % GRID_PIXELS or self.height_pixels % GRID_PIXELS:
            raise ValueError(f"a page of {self.width_pixels} x {self.height_pixels} pixels is not in whole cells of {GRID_PIXELS}")
        if self.line_pitch_pixels < line_height_pixels(self.font, self.font_size_pixels):
            raise ValueError(f"lines of {self.font_size_pixels} pixel {self.font} overlap at a pitch of {self.line_pitch_pixels} pixels")
        if self.lines_per_page < 1:
            raise ValueError(f"no line fits a page of {self.height_pixels} pixels with margins of {self.margin_pixels}")

    @property
    def text_width_pixels(self) -> int:
        """What a line may fill."""
        return self.width_pixels - 2 * self.margin_pixels

    @property
    def lines_per_page(self) -> int:
        """How many lines a page of plain text holds."""
        last_line = line_height_pixels(self.font, self.font_size_pixels)
        return (self.height_pixels - 2 * self.margin_pixels - last_line) // self.line_pitch_pixels + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A line of text, placed by the top left corner of its line box."""

    left_pixels: int
    top_pixels: int
    text: str
    font_size_pixels: int | None = None
    """Another size than the page's."""
    is_inverse: bool = False
    """White, for use on a filled box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle, last row and column included; filled, a thin one is a rule."""

    left_pixels: int
    top_pixels: int
    right_pixels: int
    bottom_pixels: int
    is_filled: bool = False


Mark = Text | Box


class Printable(NamedTuple):
    """Text that the fonts can draw."""

    text: str
    num_replaced: int
    """How many characters had no glyph and became U+FFFD."""


@functools.cache
def _drawable() -> frozenset[str]:
    return frozenset(chr(code) for first, last in DRAWABLE_RANGES for code in range(first, last + 1))


@functools.cache
def _font(font: Font, size_pixels: int) -> ImageFont.FreeTypeFont:
    """Layout.BASIC: one glyph per character wherever Pillow was built, with or without a shaping engine."""
    return ImageFont.truetype(FONTS_DIRECTORY / FONT_FILES[font], size_pixels, layout_engine=ImageFont.Layout.BASIC)


def line_height_pixels(font: Font, size_pixels: int) -> int:
    """From the highest to the lowest pixel that a line may touch."""
    return sum(_font(font, size_pixels).getmetrics())


def x_height_pixels(style: PageStyle) -> int:
    """The height of a lower-case x as drawn: what the legibility audit measures text by."""
    _, top, _, bottom = _font(style.font, style.font_size_pixels).getbbox("x")
    return round(bottom - top)


@functools.cache
def _advances(font: Font, size_pixels: int) -> dict[str, int]:
    return {character: round(_font(font, size_pixels).getlength(character)) for character in _drawable()}


def width_pixels(text: str, font: Font, size_pixels: int) -> int:
    """How far drawable text reaches to the right: the sum of its characters, since the fonts carry no kerning."""
    return sum(map(_advances(font, size_pixels).__getitem__, text))


def printable(text: str) -> Printable:
    """Text -> text that the fonts can draw: accents composed (NFC), line breaks kept, any other blank a space, the rest U+FFFD."""
    lines = unicodedata.normalize("NFC", text).splitlines()
    spaced = "\n".join("".join(" " if character.isspace() else character for character in line) for line in lines)
    known = _drawable()
    drawn = "".join(character if character in known or character == "\n" else REPLACEMENT for character in spaced)
    return Printable(drawn, drawn.count(REPLACEMENT) - spaced.count(REPLACEMENT))


def _require_drawable(text: str) -> None:
    lost = sorted({f"U+{ord(character):04X}" for character in text if character not in _drawable()})
    if lost:
        raise ValueError(f"the page fonts cannot draw {', '.join(lost[:5])}: pass the text through printable() first")


def wrap(text: str, style: PageStyle) -> tuple[str, ...]:
    """Paragraphs -> lines that fit the page, words kept whole unless one is wider than a line.

    A run of blanks becomes one and an empty line vanishes: nobody could count them on the page.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        _require_drawable(paragraph)
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if _fits(longer, style):
                line = longer
                continue
            lines += [line] if line else []
            *full, line = _pieces(word, style)
            lines += full
        lines += [line] if line else []
    return tuple(lines)


def _fits(text: str, style: PageStyle) -> bool:
    return width_pixels(text, style.font, style.font_size_pixels) <= style.text_width_pixels


def _pieces(word: str, style: PageStyle) -> list[str]:
    """A word cut where the line ends."""
    pieces = [""]
    for character in word:
        if pieces[-1] and not _fits(pieces[-1] + character, style):
            pieces.append("")
        pieces[-1] += character
    return pieces


def paginate(lines: Sequence[str], style: PageStyle) -> tuple[tuple[str, ...], ...]:
    """Lines -> as few pages as hold them, filled evenly, so that no page is left with a single line."""
    num_pages = -(-len(lines) // style.lines_per_page)
    size = -(-len(lines) // max(num_pages, 1))
    return tuple(tuple(lines[start : start + size]) for start in range(0, len(lines), max(size, 1)))


def _require_inside(style: PageStyle, left: int, top: int, right: int, bottom: int) -> None:
    if left < 0 or top < 0 or right > style.width_pixels or bottom > style.height_pixels:
        raise ValueError(f"a mark at ({left}, {top}) - ({right}, {bottom}) leaves the page of {style.width_pixels} x {style.height_pixels}")


def _draw_text(draw: ImageDraw.ImageDraw, style: PageStyle, mark: Text) -> None:
    _require_drawable(mark.text)
    size = mark.font_size_pixels or style.font_size_pixels
    right = mark.left_pixels + width_pixels(mark.text, style.font, size)
    _require_inside(style, mark.left_pixels, mark.top_pixels, right, mark.top_pixels + line_height_pixels(style.font, size))
    position = (mark.left_pixels, mark.top_pixels)
    draw.text(position, mark.text, fill=WHITE if mark.is_inverse else BLACK, font=_font(style.font, size), anchor="la")


def _draw_box(draw: ImageDraw.ImageDraw, style: PageStyle, mark: Box) -> None:
    corners = (mark.left_pixels, mark.top_pixels, mark.right_pixels, mark.bottom_pixels)
    _require_inside(style, mark.left_pixels, mark.top_pixels, mark.right_pixels + 1, mark.bottom_pixels + 1)
    draw.rectangle(corners, fill=BLACK if mark.is_filled else None, outline=BLACK)


def png(marks: Sequence[Mark], style: PageStyle) -> bytes:
    """Draw marks in their order on a white page, 8 bit gray; raises ValueError for one that leaves the page or lacks a glyph."""
    page = Image.new("L", (style.width_pixels, style.height_pixels), WHITE)
    draw = ImageDraw.Draw(page)
    for mark in marks:
        if isinstance(mark, Text):
            _draw_text(draw, style, mark)
        else:
            _draw_box(draw, style, mark)
    buffer = io.BytesIO()
    page.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def text_page(lines: Sequence[str], style: PageStyle) -> bytes:
    """A page of plain lines, left aligned from the upper margin down, as PNG bytes."""
    tops = range(style.margin_pixels, style.height_pixels, style.line_pitch_pixels)
    if len(lines) > style.lines_per_page:
        raise ValueError(f"{len(lines)} lines, a page of {style.height_pixels} pixels holds {style.lines_per_page}")
    return png([Text(left_pixels=style.margin_pixels, top_pixels=top, text=line) for top, line in zip(tops, lines, strict=False)], style)
