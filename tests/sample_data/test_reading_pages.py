"""Pages to learn reading from. If these passed wrongly, a model would be taught answers that do not stand on the page, or be judged on
pages that it was trained on.
"""

import hashlib
import io
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from medvl_lib.pages import Box, PageStyle, Text, line_height_pixels, width_pixels
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES
from medvl_lib.sample_data.reading_pages import (
    BLOCKS,
    LEARNED,
    REVISION,
    SHIFTED,
    SHIFTED_KINDS,
    SHIFTS,
    Arrangement,
    Distribution,
    ReadingPage,
    draw_page,
)  # fmt: skip

PAGES = [draw_page(LEARNED, "test", number) for number in range(60)]


FORMS = {
    arrangement: [draw_page(replace(LEARNED, arrangements=(arrangement,), rule_share=1.0), "forms", number) for number in range(20)]
    for arrangement in LEARNED.arrangements
}


def texts(page: ReadingPage) -> list[Text]:
    return [mark for mark in page.marks if isinstance(mark, Text)]


def lines(page: ReadingPage) -> list[str]:
    """The rows of a page as they are read: from left to right."""
    rows: dict[int, list[Text]] = {}
    for mark in texts(page):
        rows.setdefault(mark.top_pixels // 28, []).append(mark)
    return [" ".join(mark.text for mark in sorted(row, key=lambda mark: mark.left_pixels)) for _, row in sorted(rows.items())]


def amounts(page: ReadingPage) -> list[Text]:
    """What stands apart from the terms."""
    return texts(page)[-len(page.facts) :]


def right_edge(page: ReadingPage, mark: Text) -> int:
    return mark.left_pixels + width_pixels(mark.text, page.style.font, page.style.font_size_pixels)


def pixels(page: ReadingPage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.png)))


def test_the_same_three_give_the_same_page():
    page, again = PAGES[3], draw_page(LEARNED, "test", 3)
    assert (page.page_id, page.request, page.response, page.facts) == (again.page_id, again.request, again.response, again.facts)
    assert page.png == again.png


def golden(distribution: Distribution, count: int) -> str:
    """Everything about some pages, their pixels included, as one hash."""
    pages = [draw_page(distribution, "test", number) for number in range(count)]
    told = "".join(f"{page.page_id}{page.request}{page.response}{page.marks}{page.style}{page.cell_characters}" for page in pages)
    told += "".join(hashlib.sha256(pixels(page).tobytes()).hexdigest() for page in pages)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def test_pages_are_those_that_the_shipped_model_learned_from():
    """Another hash: raise REVISION, and train again. That of BLOCKS is from before there were forms."""
    found = (REVISION, golden(BLOCKS, 8), golden(LEARNED, 8), golden(SHIFTED, 4))
    assert found == (2, "1a114228e8faa66d", "ce25363bec7c6bf1", "22102130fc205daf")


@pytest.mark.parametrize("number", range(60))
def test_every_fact_stands_on_the_page_and_in_the_answer(number: int):
    page = PAGES[number]
    shown, said = "\n".join(lines(page)), page.response
    for fact in page.facts:
        assert any(line.startswith(fact.term) and line.endswith(f"{fact.value} {fact.unit}".rstrip()) for line in shown.splitlines())
        assert fact.term in said
        assert fact.value in said


def test_a_list_is_wanted_in_the_form_of_clinical_documents():
    page = next(page for page in PAGES if page.request == "List the facts.")
    assert page.response == "\n".join(f"{fact.term}: {fact.value} {fact.unit}".rstrip() for fact in page.facts)


def test_a_transcription_is_the_page_line_by_line():
    found = [page for page in PAGES if page.request in {"Transcribe this page.", "Copy the text of this page."}]
    assert found
    for page in found:
        assert page.response.splitlines() == lines(page)


def test_terms_differ_within_a_page():
    for page in PAGES:
        assert len({fact.term for fact in page.facts}) == len(page.facts)


def test_another_part_has_other_pages():
    elsewhere = {draw_page(LEARNED, "validation", number).response for number in range(60)}
    assert len(elsewhere & {page.response for page in PAGES if len(page.facts) > 1}) == 0


def test_a_page_is_in_whole_cells_and_within_its_bounds():
    for page in [*PAGES, *(draw_page(SHIFTED, "test", number) for number in range(30))]:
        height, width = pixels(page).shape
        assert height % 28 == width % 28 == 0
        assert width <= 308
        assert height <= (12 + 2 + 5) * 28  # facts, heading, spare cells


def test_a_cell_names_the_character_in_its_middle():
    """Sixteen pixels of mono advance by ten: their middles are at 9, 19, 29, 39 and 49, the cells' at 14, 42 and 70."""
    style = PageStyle(font="mono", font_size_pixels=16, width_pixels=84, height_pixels=56, margin_pixels=0, line_pitch_pixels=28)
    assert width_pixels("a", "mono", 16) == 10
    page = replace(PAGES[0], style=style, marks=(Text(left_pixels=4, top_pixels=33, text="abcde"),))
    assert page.cell_characters == (None, None, None, "a", "d", None)


def test_every_line_is_within_its_row_of_cells():
    for page in PAGES:
        height = line_height_pixels(page.style.font, page.style.font_size_pixels)
        for mark in texts(page):
            assert mark.top_pixels // 28 == (mark.top_pixels + height - 1) // 28


def test_the_shifted_pages_share_no_font_kind_or_length_with_the_learned():
    assert not set(SHIFTED.fonts) & set(LEARNED.fonts)
    assert not set(SHIFTED.kinds) & set(LEARNED.kinds)
    assert SHIFTED.num_facts[0] > LEARNED.num_facts[1]
    terms = {source.term for kind in DOCUMENT_TYPES if kind.name in SHIFTED_KINDS for source in kind.pool}
    assert all(fact.term in terms for number in range(10) for fact in draw_page(SHIFTED, "test", number).facts if fact.term in terms)
    assert {page.style.font for page in (draw_page(SHIFTED, "test", number) for number in range(10))} == {"italic"}


def test_a_line_that_does_not_fit_gets_smaller_letters():
    large = replace(LEARNED, font_sizes_pixels=(40, 40), max_noise=0.0)
    assert all(draw_page(large, "test", number).style.font_size_pixels < 40 for number in range(5))


def test_a_worn_page_is_noisy_and_fades():
    clean, worn = (draw_page(replace(LEARNED, max_noise=noise), "test", 5) for noise in (0.0, 40.0))
    assert clean.response == worn.response
    assert set(np.unique(pixels(clean)[:3, :3])) == {255}
    assert pixels(worn).std() < pixels(clean).std() * 1.2
    assert len(np.unique(pixels(worn)[:6, :6])) > 10


@pytest.mark.parametrize("arrangement", LEARNED.arrangements)
def test_amounts_stand_as_their_arrangement_says(arrangement: Arrangement):
    for page in FORMS[arrangement]:
        if arrangement == "joined":
            assert len(texts(page)) == len(lines(page))
            continue
        assert [mark.text for mark in amounts(page)] == [f"{fact.value} {fact.unit}".rstrip() for fact in page.facts]
        edges = {mark.left_pixels if arrangement == "columns" else right_edge(page, mark) for mark in amounts(page)}
        assert len(edges) == 1
        ends = [right_edge(page, mark) for mark in texts(page)[-2 * len(page.facts) : -len(page.facts)]]
        assert all(mark.left_pixels - end >= 10 for mark, end in zip(amounts(page), ends, strict=True))
        assert max(right_edge(page, mark) for mark in texts(page)) <= page.style.width_pixels


def test_a_rule_closes_each_row_of_facts_below_its_text():
    for page in (page for pages in FORMS.values() for page in pages):
        rules = [mark for mark in page.marks if isinstance(mark, Box)]
        assert len(rules) == len(page.facts)
        assert {rule.top_pixels % 28 for rule in rules} == {27}
        assert all(0 <= rule.left_pixels < rule.right_pixels < page.style.width_pixels for rule in rules)
        rows = {mark.top_pixels // 28 for mark in texts(page)[-len(page.facts) :]}
        assert {rule.top_pixels // 28 for rule in rules} == rows


def test_each_shift_changes_one_thing():
    names = [field.name for field in fields(Distribution)]
    changed = [{name for name in names if getattr(shift, name) != getattr(LEARNED, name)} for shift in SHIFTS.values()]
    assert changed == [{"fonts"}, {"kinds"}, {"num_facts"}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"heading_share": 1.5}, {"num_facts": (3, 1)}, {"num_facts": (0, 1)}, {"fonts": ()}, {"spare_cells": (-1, 0)},
        {"max_shift_pixels": (0, 28)}, {"max_noise": -1.0}, {"arrangements": ()},
    ],
)  # fmt: skip
def test_a_distribution_that_nothing_can_be_drawn_from_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match="."):
        replace(LEARNED, **wrong)
