"""How an invented clinical document looks: 540 layouts, divided between the parts so that no layout is in two of them.

In: a title, a line about the patient, facts and a ``Layout``. Out: marks for ``pages``, and PNG bytes. A layout is font + arrangement +
separator + heading + order of the terms. The parts share these five choices but no combination of them, so a model is tested on forms it
has not seen. Which facts stand on a page is not decided here.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from medvl_lib import pages
from medvl_lib.pages import Box, Mark, PageStyle, Text
from medvl_lib.pairs import Split, Triple
from medvl_lib.sample_data import draws

LayoutFont = Literal["sans", "mono", "serif"]
Arrangement = Literal["inline", "two_columns", "three_columns", "values_right", "cells"]
Separator = Literal["colon", "dots", "rules"]
Heading = Literal["boxed", "banner", "underlined", "centred"]
Order = Literal["panel", "alphabetical", "shuffled"]

PART_SHARES: dict[Split, int] = {"train": 60, "validation": 10, "test": 20, "benchmark": 10}  # percent of the layouts
FONT_SIZE_PIXELS, TITLE_SIZE_PIXELS = 14, 16
WIDTH_PIXELS, MARGIN_PIXELS = 308, 10  # 11 cells of 28; as high as its rows: 66 to 143 image tokens
PITCH_PIXELS = pages.GRID_PIXELS  # a row of cells for each line: a line across two rows would be read by guessing by a model this small
ROW_TOP_TO_TEXT = 5  # where a line begins within its row
NUM_HEADING_ROWS = 2  # title and patient
TITLE_TOP, PATIENT_TOP, FACTS_TOP = 4, PITCH_PIXELS + ROW_TOP_TO_TEXT, NUM_HEADING_ROWS * PITCH_PIXELS + ROW_TOP_TO_TEXT
RULE_BELOW_TEXT = PITCH_PIXELS - ROW_TOP_TO_TEXT - 2  # from the top of a line to the rule at the end of its row
VALUE_LEFT, UNIT_LEFT = 150, 222  # where the second and third columns begin
RIGHT = WIDTH_PIXELS - MARGIN_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to lay out a form."""

    font: LayoutFont
    arrangement: Arrangement
    """``inline`` term and value in one run; columns; values at the right edge; or ``cells``, term above value in two panels."""
    separator: Separator
    """A colon after the term, a dotted leader, or a rule below each row."""
    heading: Heading
    order: Order
    """Of the terms: as in the pool, by the alphabet, or any."""

    @property
    def layout_id(self) -> str:
        """The five choices, joined."""
        return f"{self.font}-{self.arrangement}-{self.separator}-{self.heading}-{self.order}"

    def num_rows(self, num_facts: int) -> int:
        """Rows of a page with so many facts, its heading included."""
        rows = {"three_columns": num_facts + 1, "cells": 2 * ((num_facts + 1) // 2)}.get(self.arrangement, num_facts)
        return NUM_HEADING_ROWS + rows

    def style(self, num_facts: int) -> PageStyle:
        """The numbers of a page, which ends below its last row."""
        return PageStyle(
            font=self.font, font_size_pixels=FONT_SIZE_PIXELS, width_pixels=WIDTH_PIXELS,
            height_pixels=self.num_rows(num_facts) * PITCH_PIXELS, margin_pixels=MARGIN_PIXELS, line_pitch_pixels=PITCH_PIXELS,
        )  # fmt: skip


def _layouts() -> dict[Split, tuple[Layout, ...]]:
    """All layouts in the order of their ids' hashes, cut into the parts' shares."""
    choices = itertools.product(get_args(LayoutFont), get_args(Arrangement), get_args(Separator), get_args(Heading), get_args(Order))
    everything = [Layout(font=f, arrangement=a, separator=s, heading=h, order=o) for f, a, s, h, o in choices]
    mixed = sorted(everything, key=lambda layout: hashlib.sha256(layout.layout_id.encode()).hexdigest())
    ends = [len(mixed) * share // 100 for share in itertools.accumulate(PART_SHARES.values())]
    return {part: tuple(mixed[start:end]) for part, start, end in zip(PART_SHARES, [0, *ends], ends, strict=False)}


LAYOUTS = _layouts()
"""The layouts of each part; no layout is in two."""


def ordered(facts: Sequence[Triple], order: Order, chance: Random) -> list[Triple]:
    """The facts in the order in which the page shows them, top down, and the left panel before the right."""
    if order == "alphabetical":
        return sorted(facts, key=lambda fact: fact.term.casefold())
    return draws.shuffled(chance, facts) if order == "shuffled" else list(facts)


def _text(layout: Layout, left: int, top: int, text: str, right: int = RIGHT) -> Text:
    """A text that ends before ``right``; raises ValueError where the column is too narrow."""
    width = pages.width_pixels(text, layout.font, FONT_SIZE_PIXELS)
    if left + width > right:
        raise ValueError(f"{text!r} is {width} pixels wide in {layout.layout_id}, its column {right - left}")
    return Text(left_pixels=left, top_pixels=top, text=text)


def _dots(layout: Layout, left: int, top: int, right: int) -> list[Mark]:
    """A dotted leader that ends at ``right``; nothing where there is no room for three dots."""
    dot = pages.width_pixels(".", layout.font, FONT_SIZE_PIXELS)
    count = (right - left) // dot
    return [_text(layout, right - count * dot, top, "." * count, right)] if count >= 3 else []


def _rule(top: int, left: int = MARGIN_PIXELS, right: int = RIGHT) -> Box:
    return Box(left_pixels=left, top_pixels=top, right_pixels=right - 1, bottom_pixels=top, is_filled=True)


def _amount(fact: Triple) -> str:
    return f"{fact.value} {fact.unit}".rstrip()


def _term(layout: Layout, fact: Triple) -> str:
    return f"{fact.term}:" if layout.separator == "colon" else fact.term


def _end(layout: Layout, text: str, left: int = MARGIN_PIXELS) -> int:
    """Where a text and a narrow gap end."""
    return left + pages.width_pixels(text, layout.font, FONT_SIZE_PIXELS) + 6


def _separators(layout: Layout, top: int, term: str, value_left: int) -> list[Mark]:
    """What joins a term to its value in a row."""
    if layout.separator == "dots":
        return _dots(layout, _end(layout, term), top, value_left - 4)
    return [_rule(top + RULE_BELOW_TEXT)] if layout.separator == "rules" else []


def _inline(layout: Layout, facts: Sequence[Triple], top: int) -> list[Mark]:
    joint = {"colon": ": ", "dots": " ... ", "rules": " "}[layout.separator]
    marks: list[Mark] = []
    for row, fact in enumerate(facts):
        row_top = top + row * PITCH_PIXELS
        marks.append(_text(layout, MARGIN_PIXELS, row_top, f"{fact.term}{joint}{_amount(fact)}"))
        marks += [_rule(row_top + RULE_BELOW_TEXT)] if layout.separator == "rules" else []
    return marks


def _two_columns(layout: Layout, facts: Sequence[Triple], top: int) -> list[Mark]:
    marks: list[Mark] = []
    for row, fact in enumerate(facts):
        row_top, term = top + row * PITCH_PIXELS, _term(layout, fact)
        marks += [_text(layout, MARGIN_PIXELS, row_top, term, VALUE_LEFT), _text(layout, VALUE_LEFT, row_top, _amount(fact))]
        marks += _separators(layout, row_top, term, VALUE_LEFT)
    return marks


def _three_columns(layout: Layout, facts: Sequence[Triple], top: int) -> list[Mark]:
    lefts = (MARGIN_PIXELS, VALUE_LEFT, UNIT_LEFT)
    marks: list[Mark] = [_text(layout, left, top, name) for left, name in zip(lefts, ("Item", "Value", "Unit"), strict=True)]
    marks.append(_rule(top + RULE_BELOW_TEXT))
    for row, fact in enumerate(facts, start=1):
        row_top, term = top + row * PITCH_PIXELS, _term(layout, fact)
        marks += [_text(layout, MARGIN_PIXELS, row_top, term, VALUE_LEFT), _text(layout, VALUE_LEFT, row_top, fact.value, UNIT_LEFT)]
        marks += [_text(layout, UNIT_LEFT, row_top, fact.unit), *_separators(layout, row_top, term, VALUE_LEFT)]
    return marks


def _values_right(layout: Layout, facts: Sequence[Triple], top: int) -> list[Mark]:
    marks: list[Mark] = []
    for row, fact in enumerate(facts):
        row_top, term, amount = top + row * PITCH_PIXELS, _term(layout, fact), _amount(fact)
        left = RIGHT - pages.width_pixels(amount, layout.font, FONT_SIZE_PIXELS)
        marks += [_text(layout, MARGIN_PIXELS, row_top, term, left), _text(layout, left, row_top, amount)]
        marks += _separators(layout, row_top, term, left)
    return marks


def _cells(layout: Layout, facts: Sequence[Triple], top: int) -> list[Mark]:
    """Two panels; the left one is filled first, so that reading down and then right gives the order of the facts."""
    marks: list[Mark] = []
    rows = (len(facts) + 1) // 2
    height, width = 2 * PITCH_PIXELS, (RIGHT - MARGIN_PIXELS) // 2
    for place, fact in enumerate(facts):
        left, row_top = MARGIN_PIXELS + place // rows * width, top + place % rows * height
        right = left + width
        inner = left + 5 if layout.separator == "rules" else left
        marks += [
            _text(layout, inner, row_top, _term(layout, fact), right),
            _text(layout, inner, row_top + PITCH_PIXELS, _amount(fact), right),
        ]
        if layout.separator == "rules":
            marks.append(Box(left_pixels=left, top_pixels=row_top - 4, right_pixels=right - 1, bottom_pixels=row_top + height - 6))
        elif layout.separator == "dots":
            marks += _dots(layout, _end(layout, _amount(fact), left), row_top + PITCH_PIXELS, right - 8)
    return marks


ARRANGEMENTS: dict[Arrangement, Callable[[Layout, Sequence[Triple], int], list[Mark]]] = {
    "inline": _inline, "two_columns": _two_columns, "three_columns": _three_columns, "values_right": _values_right, "cells": _cells,
}  # fmt: skip


def _heading(layout: Layout, title: str, patient: str) -> list[Mark]:
    """The title in its style, and the patient's line below."""
    title_width = pages.width_pixels(title, layout.font, TITLE_SIZE_PIXELS)
    middle = (WIDTH_PIXELS - title_width) // 2
    left = MARGIN_PIXELS + 6 if layout.heading in {"boxed", "banner"} else middle if layout.heading == "centred" else MARGIN_PIXELS
    patient_left = (
        (WIDTH_PIXELS - pages.width_pixels(patient, layout.font, FONT_SIZE_PIXELS)) // 2 if layout.heading == "centred" else MARGIN_PIXELS
    )
    frame = Box(left_pixels=MARGIN_PIXELS, top_pixels=2, right_pixels=RIGHT - 1, bottom_pixels=26, is_filled=layout.heading == "banner")
    behind: dict[Heading, Mark] = {"boxed": frame, "banner": frame, "underlined": _rule(26), "centred": _rule(54)}
    title_mark = Text(
        left_pixels=left, top_pixels=TITLE_TOP, text=title, font_size_pixels=TITLE_SIZE_PIXELS, is_inverse=layout.heading == "banner"
    )
    return [behind[layout.heading], title_mark, _text(layout, patient_left, PATIENT_TOP, patient)]


def page(title: str, patient: str, facts: Sequence[Triple], layout: Layout) -> bytes:
    """One form as PNG bytes; raises ValueError for a text that does not fit its place."""
    return pages.png(
        [*_heading(layout, title, patient), *ARRANGEMENTS[layout.arrangement](layout, facts, FACTS_TOP)], layout.style(len(facts))
    )
