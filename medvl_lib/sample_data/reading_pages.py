"""Pages to learn reading from: endless invented forms, from a single line to a full page, each drawn from a number alone.

In: a ``Distribution`` (fonts, sizes, lines, wear, requests), the name of a part and a number. Out: one ``ReadingPage``: PNG bytes, the
request, the answer that is wanted and the facts behind it. The same three give the same page, and parts never share a page: the number's
seed is a hash that the part's name goes into. What the pages state stands in ``reading_facts``.

The small models are pretrained on ``LEARNED`` and judged on it and on ``SHIFTED``: a font, kinds of form and lengths that were never
trained on. Nothing here is in the layout of a published dataset; those have modules of their own.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from medvl_lib import pages
from medvl_lib.datasets import clinical_documents, mtsamples
from medvl_lib.pages import BLACK, GRID_PIXELS, WHITE, Box, Font, Mark, PageStyle, Text
from medvl_lib.pairs import Triple
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES, MAX_ANSWER_CHARACTERS, DocumentType
from medvl_lib.sample_data.reading_facts import draw_facts

REVISION = 2  # forms beside blocks: amounts apart from their terms, rules below rows
MARGIN_PIXELS = 4
MIN_GAP_PIXELS = 10  # between a term and an amount that stand apart
JOINTS = (": ", " ", " = ", " ... ")  # between a term and its value

LISTS = (
    clinical_documents.REQUEST,
    "List the facts.",
    "Read each term, value and unit.",
    "Write every measurement as term: value unit.",
)
TRANSCRIPTIONS = (mtsamples.REQUEST, "Copy the text of this page.")


Arrangement = Literal["joined", "columns", "right"]
"""A line of text; or amounts apart from their terms, in a column of their own, flush left or flush right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What pages are drawn from. Every field bears identity: it decides what a model has seen."""

    kinds: tuple[str, ...]
    """Document types (``clinical_facts``) whose terms, values and titles are used."""
    fonts: tuple[Font, ...]
    font_sizes_pixels: tuple[int, int]
    """Smallest and largest, in pixels per em; a size at which a line would not fit gives way to a smaller one."""
    num_facts: tuple[int, int]
    """Fewest and most facts of a page."""
    max_width_cells: int
    """The widest page, in cells of 28 pixels: a cell is what the model sees as one token."""
    spare_cells: tuple[int, int]
    """Most cells that a page may be wider, and higher, than its text needs; the text stands anywhere among them."""
    max_shift_pixels: tuple[int, int]
    """How far a block may stand to the right of, and below, its place in the cells."""
    requests: tuple[str, ...]
    """How the facts can be asked for."""
    invented_term_share: float
    """Share of the terms that are made of syllables instead of taken from a kind's pool (0-1)."""
    heading_share: float
    """Share of the pages that open with a title, and of these with a line about the patient (0-1)."""
    transcription_share: float
    """Share of the requests that want the page as it stands (0-1)."""
    max_noise: float
    """Largest standard deviation of the gray values' noise (0-255); also the strength of fading and blur."""
    arrangements: tuple[Arrangement, ...]
    """How terms and amounts stand; where there is one way alone, none is drawn."""
    rule_share: float
    """Share of the pages with a rule below each row of facts (0-1); at 0 none is drawn."""

    def __post_init__(self) -> None:
        shares = (self.invented_term_share, self.heading_share, self.transcription_share, self.rule_share)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"shares of {shares}: each is from 0 to 1")
        if not (self.kinds and self.fonts and self.requests and self.arrangements):
            raise ValueError("no kind, font, request or arrangement: there must be one of each")
        for low, high in (self.num_facts, self.font_sizes_pixels):
            if not 1 <= low <= high:
                raise ValueError(f"a range from {low} to {high}: it begins at 1 or more and does not end before")
        if min(*self.spare_cells, *self.max_shift_pixels, self.max_noise) < 0:
            raise ValueError(f"spare cells {self.spare_cells}, shift {self.max_shift_pixels}, noise {self.max_noise}: none is negative")
        if self.max_shift_pixels[1] >= GRID_PIXELS:
            raise ValueError(f"a shift of {self.max_shift_pixels[1]} pixels down leaves no room in a row of {GRID_PIXELS}")

    @property
    def name(self) -> str:
        """What a figure calls it."""
        return f"{self.num_facts[0]}-{self.num_facts[1]} facts"

    def draw(self, part: str, number: int) -> "ReadingPage":
        """The page of these three."""
        return draw_page(self, part, number)

    def at_step(self, step: int) -> "Distribution":
        """The same pages with one number of facts: the next of the range at each step."""
        fewest, most = self.num_facts
        count = fewest + step % (most - fewest + 1)
        return replace(self, num_facts=(count, count))


SHIFTED_KINDS = ("complex_lab_panel", "icu_flowsheet", "operative_note")
BLOCKS = Distribution(
    kinds=tuple(kind.name for kind in DOCUMENT_TYPES if kind.name not in SHIFTED_KINDS),
    fonts=("sans", "mono", "serif"), font_sizes_pixels=(14, 17), num_facts=(1, 6), max_width_cells=11, spare_cells=(1, 1),
    max_shift_pixels=(6, 2), requests=LISTS, invented_term_share=0.0, heading_share=0.3, transcription_share=0.05, max_noise=8.0,
    arrangements=("joined",), rule_share=0.0,
)  # fmt: skip
"""A block of plain lines that nearly fills its page."""
LEARNED = replace(
    BLOCKS, num_facts=(1, 8), spare_cells=(2, 5), invented_term_share=0.1, heading_share=0.7, arrangements=("joined", "columns", "right"),
    rule_share=0.25,
)  # fmt: skip
"""Forms anywhere on a page: most with a heading, some in columns."""
SHIFTS: Mapping[str, Distribution] = {
    "a new font": replace(LEARNED, fonts=("italic",)),
    "new kinds of form": replace(LEARNED, kinds=SHIFTED_KINDS),
    "longer pages": replace(LEARNED, num_facts=(9, 12)),
}
"""One change at a time."""
SHIFTED = replace(LEARNED, kinds=SHIFTED_KINDS, fonts=("italic",), num_facts=(9, 12))
"""All of them at once."""

_KINDS = {kind.name: kind for kind in DOCUMENT_TYPES}


@dataclass(frozen=True, kw_only=True)
class ReadingPage:
    """One page and what is asked of it."""

    page_id: str
    request: str
    response: str
    facts: tuple[Triple, ...]
    """What the page states, top down."""
    style: PageStyle
    marks: tuple[Mark, ...]
    noise: float
    """Standard deviation of the gray values' noise."""
    wear_seed: int

    @property
    def example_id(self) -> str:
        """Its id among the examples that a model is taught with."""
        return self.page_id

    @property
    def cell_characters(self) -> tuple[str | None, ...]:
        """The character in the middle of each cell of the page, row by row, or None for an empty one.

        A cell is 28 x 28 pixels, what the model sees as one token, and holds about three characters of a line.
        """
        columns, rows = self.style.width_pixels // GRID_PIXELS, self.style.height_pixels // GRID_PIXELS
        nearest: list[tuple[float, str | None]] = [(GRID_PIXELS, None)] * (columns * rows)
        for mark in self.marks:
            if isinstance(mark, Text):
                left, row = mark.left_pixels, mark.top_pixels // GRID_PIXELS
                for character in mark.text:
                    width = pages.width_pixels(character, self.style.font, self.style.font_size_pixels)
                    column, offset = divmod(left + width / 2, GRID_PIXELS)
                    place = row * columns + int(column)
                    nearest[place] = min(nearest[place], (abs(offset - GRID_PIXELS / 2), character), key=lambda found: found[0])
                    left += width
        return tuple(character for _, character in nearest)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Its one picture goes by the example's id."""
        return (self.example_id,)

    def read(self, image_id: str) -> bytes:
        """The file of its picture."""
        del image_id
        return self.png

    @cached_property
    def png(self) -> bytes:
        """The page as a scanner might have delivered it: faded, blurred and noisy, 8 bit gray."""
        return _worn(pages.png(self.marks, self.style), self.noise, self.wear_seed)


def draw_page(distribution: Distribution, part: str, number: int) -> ReadingPage:
    """The page of these three: facts first, then a style in which they fit."""
    page_id = f"reading_pages/{part}/{number:07d}"
    chance = draws.seeded(page_id)
    kind = _KINDS[draws.pick(chance, distribution.kinds)]
    facts = draw_facts(kind, chance, num_facts=distribution.num_facts, invented_term_share=distribution.invented_term_share)
    joint = draws.pick(chance, JOINTS)
    heading = _heading(distribution, kind, chance)
    is_transcription = chance.random() < distribution.transcription_share
    while len(_response(facts, heading, joint, is_transcription=is_transcription)) > MAX_ANSWER_CHARACTERS:
        facts = facts[:-1]
    arrangement = _one(chance, distribution.arrangements)
    block = _block(heading, facts, joint, arrangement)
    style = _style(distribution, block, chance)
    return ReadingPage(
        page_id=page_id, request=draws.pick(chance, TRANSCRIPTIONS if is_transcription else distribution.requests),
        response=_response(facts, heading, joint, is_transcription=is_transcription), facts=tuple(facts), style=style,
        marks=_marks(block, style, distribution, chance), noise=chance.random() * distribution.max_noise,
        wear_seed=draws.whole(chance, 0, 2**31 - 1),
    )  # fmt: skip


def _one(chance: Random, arrangements: Sequence[Arrangement]) -> Arrangement:
    """One of them; a choice of one takes no chance, so that pages from before there was a choice stay as they were."""
    return arrangements[0] if len(arrangements) == 1 else draws.pick(chance, arrangements)


def _heading(distribution: Distribution, kind: DocumentType, chance: Random) -> list[str]:
    if chance.random() >= distribution.heading_share:
        return []
    if chance.random() >= distribution.heading_share:
        return [kind.title]
    return [kind.title, f"Invented patient {draws.whole(chance, 0, 9999):04d} · Ward {draws.pick(chance, 'ABCDEFGH')}"]


def _line(fact: Triple, joint: str) -> str:
    return f"{fact.term}{joint}{fact.value} {fact.unit}".rstrip()


def _response(facts: Sequence[Triple], heading: Sequence[str], joint: str, *, is_transcription: bool) -> str:
    if is_transcription:
        return "\n".join([*heading, *(_line(fact, joint) for fact in facts)])
    return clinical_documents.response(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The rows of a page: lines as they stand, or terms with amounts apart."""

    arrangement: Arrangement
    heading: Sequence[str]
    rows: Sequence[tuple[str, str]]
    """What stands at the left of each row of facts, and what stands apart from it or nothing."""

    @property
    def num_rows(self) -> int:
        """Rows of cells."""
        return len(self.heading) + len(self.rows)

    def width_pixels(self, font: Font, size: int) -> int:
        """The narrowest that it can be, margins included."""
        widest = max(pages.width_pixels(line, font, size) for line in (*self.heading, *(left for left, _ in self.rows)))
        if self.arrangement != "joined":
            widest = max(widest, self.amounts_left(font, size) + self.amounts_width(font, size))
        return widest + 2 * MARGIN_PIXELS

    def amounts_left(self, font: Font, size: int) -> int:
        """Where amounts begin at the earliest, from where the terms begin."""
        return max(pages.width_pixels(left, font, size) for left, _ in self.rows) + MIN_GAP_PIXELS

    def amounts_width(self, font: Font, size: int) -> int:
        """Width of the widest amount."""
        return max(pages.width_pixels(right, font, size) for _, right in self.rows)


def _block(heading: Sequence[str], facts: Sequence[Triple], joint: str, arrangement: Arrangement) -> _Block:
    rows = [
        (_line(fact, joint), "") if arrangement == "joined" else (f"{fact.term}{joint.rstrip()}", f"{fact.value} {fact.unit}".rstrip())
        for fact in facts
    ]
    return _Block(arrangement=arrangement, heading=heading, rows=rows)


def _style(distribution: Distribution, block: _Block, chance: Random) -> PageStyle:
    """A font, the drawn size or the next smaller one at which every line fits, and a page with a row of cells for each line."""
    font = draws.pick(chance, distribution.fonts)
    size = draws.whole(chance, *distribution.font_sizes_pixels)
    most = distribution.max_width_cells * GRID_PIXELS
    while pages.line_height_pixels(font, size) + distribution.max_shift_pixels[1] > GRID_PIXELS:
        size -= 1
    while (width := block.width_pixels(font, size) + distribution.max_shift_pixels[0]) > most:
        size -= 1
    columns, rows = (draws.whole(chance, 0, spare) for spare in distribution.spare_cells)
    return PageStyle(
        font=font, font_size_pixels=size, width_pixels=min(most, (-(-width // GRID_PIXELS) + columns) * GRID_PIXELS),
        height_pixels=(block.num_rows + rows) * GRID_PIXELS, margin_pixels=0, line_pitch_pixels=GRID_PIXELS,
    )  # fmt: skip


def _marks(block: _Block, style: PageStyle, distribution: Distribution, chance: Random) -> tuple[Mark, ...]:
    """The block, a row of cells for each line: some empty cells before it, and shifted by some pixels."""
    font, size, max_shift = style.font, style.font_size_pixels, distribution.max_shift_pixels
    right, down = (draws.whole(chance, 0, most) for most in max_shift)
    free = style.width_pixels - block.width_pixels(font, size) - right
    gap = 0 if block.arrangement == "joined" else draws.whole(chance, 0, free)
    columns = draws.whole(chance, 0, (free - gap) // GRID_PIXELS)
    rows = draws.whole(chance, 0, style.height_pixels // GRID_PIXELS - block.num_rows)
    left = MARGIN_PIXELS + columns * GRID_PIXELS + right
    line_height = pages.line_height_pixels(font, size)
    top = rows * GRID_PIXELS + min(max((GRID_PIXELS - line_height - max_shift[1]) // 2, 0) + down, GRID_PIXELS - line_height)
    marks: list[Mark] = [
        Text(left_pixels=left, top_pixels=top + row * GRID_PIXELS, text=line)
        for row, line in enumerate((*block.heading, *(term for term, _ in block.rows)))
    ]
    facts_top = top + len(block.heading) * GRID_PIXELS
    if block.arrangement != "joined":
        amounts_left = left + block.amounts_left(font, size) + gap
        amounts_right = amounts_left + block.amounts_width(font, size)
        for row, (_, amount) in enumerate(block.rows):
            start = amounts_left if block.arrangement == "columns" else amounts_right - pages.width_pixels(amount, font, size)
            marks.append(Text(left_pixels=start, top_pixels=facts_top + row * GRID_PIXELS, text=amount))
    if distribution.rule_share > 0.0 and chance.random() < distribution.rule_share:
        end = left + block.width_pixels(font, size) - 2 * MARGIN_PIXELS + gap
        marks += [_rule(left, end, facts_top // GRID_PIXELS + row) for row in range(len(block.rows))]
    return tuple(marks)


def _rule(left: int, right: int, row: int) -> Box:
    """A rule at the lower edge of a row of cells."""
    bottom = (row + 1) * GRID_PIXELS - 1
    return Box(left_pixels=left, top_pixels=bottom, right_pixels=right - 1, bottom_pixels=bottom, is_filled=True)


def _worn(data: bytes, noise: float, seed: int) -> bytes:
    """Fade, blur and noise in proportion to ``noise``; NumPy promises the sequence of ``RandomState`` for ever, that of no newer one."""
    image = Image.open(io.BytesIO(data))
    image = image.filter(ImageFilter.GaussianBlur(noise / 40)) if noise > 8 else image
    ink, paper = BLACK + 4 * noise, WHITE - 2 * noise
    pixels = ink + np.asarray(image, dtype=np.float64) * ((paper - ink) / WHITE)
    pixels += np.random.RandomState(seed).standard_normal(pixels.shape) * noise
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), BLACK, WHITE).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
