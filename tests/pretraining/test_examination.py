"""What findings are made of. If these passed wrongly, the card would hold means of the wrong answers."""

from itertools import islice
from pathlib import Path

import pytest

from medvl_lib.pretraining import examination, reading
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.reading import FONT_SIZES_PIXELS, METRICS, draw, examine, pages_in_size
from medvl_lib.sample_data.reading_pages import LEARNED, SHIFTS
from tests.torch_fixtures import TINY, Trial


def by_metric(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.metric: finding for finding in findings}


def test_right_answers_score_one_and_no_answers_zero():
    pages = draw(LEARNED, "test", 8)
    right = by_metric(list(examination.rows("learned", "base", pages, {page.page_id: page.response for page in pages}, METRICS)))
    empty = by_metric(list(examination.rows("learned", "base", pages, {page.page_id: "" for page in pages}, METRICS)))
    assert (right["pair_accuracy"].mean, right["hallucinated_pair_rate"].mean, empty["pair_accuracy"].mean) == (1, 0, 0)
    assert {finding.num_pages for finding in right.values()} == {8}


def test_a_difference_is_paired_by_page():
    pages = draw(LEARNED, "test", 8)
    right = {page.page_id: page.response for page in pages}
    half = right | {page.page_id: "" for page in pages[:4]}
    found = by_metric(list(examination.rows("learned", "nf4", pages, half, METRICS, against=right)))["pair_accuracy"]
    assert (found.mean, found.minus_base) == (0.5, -0.5)
    assert found.minus_base_ci_low is not None


def test_pages_that_are_judged_ask_for_their_facts():
    assert all(page.response.count("\n") + 1 == len(page.facts) for page in draw(LEARNED, "test", 40))


def test_the_same_pages_stand_in_every_size():
    small, large = (list(islice(pages_in_size(size), 12)) for size in (FONT_SIZES_PIXELS[0], FONT_SIZES_PIXELS[-1]))
    assert [(page.facts, page.style.font) for page in small] == [(page.facts, page.style.font) for page in large]
    assert {page.style.font_size_pixels for page in small} == {FONT_SIZES_PIXELS[0]}
    assert {page.style.font_size_pixels for page in large} == {FONT_SIZES_PIXELS[-1]}


@pytest.mark.slow
def test_an_examination_finds_everything_that_the_card_tells(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "NUM_PAGES": 3, "NUM_PAGES_PER_SHIFT": 2, "NUM_FLOOR_PAGES": 6, "NUM_PAGES_PER_SIZE": 2, "FONT_SIZES_PIXELS": (8, 14),
    }.items():  # fmt: skip
        monkeypatch.setattr(reading, name, value)
    monkeypatch.setattr(examination, "MAX_ANSWER_TOKENS", 8)
    found = {(row.pages, row.variant, row.condition) for row in examine(trial.base, TINY, trial.profile, tmp_path)}
    assert found == {
        ("learned", "base", "as_is"), ("shifted", "base", "as_is"),
        *((name, "base", "as_is") for name in SHIFTS), ("one_size", "base", "as_is"),
        ("learned", "base", "blank_image"), ("learned", "base", "noise_image"), ("learned", "base", "shuffled_image"),
        ("learned", "nf4", "as_is"), ("learned", "int8", "as_is"),
        *(("learned", floor, "as_is") for floor in ("floor_empty", "floor_constant", "floor_random", "floor_majority")),
    }  # fmt: skip
