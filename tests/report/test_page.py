"""The page, the Markdown and the JSON. If these passed wrongly, a page would show other numbers than the store, run what a dataset
contains, ask the network for something, or hand on rows that may not be shown.
"""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import get_args

import pytest

from medvl_lib.benchmark.publish import ask
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.report.blocks import VARIANTS
from medvl_lib.report.content import as_json
from medvl_lib.report.grounds import EVERY_ROW
from medvl_lib.report.html import read_table_of, render_html
from medvl_lib.report.layout import SECTIONS, sections
from medvl_lib.report.markdown import render_markdown
from tests.report.reported import HIDDEN

KEY = ("variant", "condition", "dataset", "split", "slice", "metric")
NUMBERS = {"mean": "mean", "from": "ci_low", "to": "ci_high", "pairs": "num_pairs", "clusters": "num_clusters"}
QUESTION = f"select {', '.join(KEY)}, {', '.join(NUMBERS.values())} from benchmark_rows"  # noqa: S608 (our own names)
VOID = {"meta", "img", "wbr"}


@pytest.fixture(scope="module")
def page(report) -> str:
    return render_html(report)


class Outline(HTMLParser):
    """Every start tag in order, and the tags that are still open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_number_of_the_page_and_of_the_json_is_the_one_that_sql_gives(page, report, evaluated):
    """Read back from the rendered page, from the JSON, and from the published store."""
    stored = {row[: len(KEY)]: row[len(KEY) :] for row in ask(evaluated.workspace, QUESTION).rows}
    shown = {tuple(row[name] for name in KEY): tuple(row[name] for name in NUMBERS) for row in read_table_of(page, EVERY_ROW)}
    told = {
        tuple(row[name] for name in KEY): tuple(row[name] for name in NUMBERS.values())
        for row in json.loads(as_json(report))["benchmark_rows"]
    }
    assert shown.keys() == stored.keys() == told.keys()
    assert told == stored
    compared = [
        (shown[key][place], value)
        for key, values in stored.items()
        for place, value in enumerate(values)
        if value is not None and value != 0
    ]
    assert len(compared) >= 50
    assert all(shown_value == value for shown_value, value in compared)


def test_the_three_way_table_says_what_the_view_says(page, evaluated):
    question = (
        "select variant, mean, score_change_points / 100, score_change_percent, n from quantization_cost"
        " where metric = 'pair_accuracy' and dataset = 'forms'"
    )
    stored = {row[0]: row[1:] for row in ask(evaluated.workspace, question).rows}
    shown = {row["variant"]: row for row in read_table_of(page, "compared-forms-pair_accuracy")}
    assert list(shown) == ["base", "nf4", "adapter"]
    for variant in ("nf4", "adapter"):
        mean, minus, percent, count = stored[variant]
        row = shown[variant]
        assert (row["mean"], row["minus base"], row["pairs"]) == (mean, pytest.approx(minus), count)
        assert row["change"] == pytest.approx(percent)


def test_nothing_of_a_dataset_can_run_or_mark_up_the_page(page):
    tags = [tag for tag, _ in Outline(page).tags]
    assert "script" not in tags
    assert "zebra" in page


def test_nothing_of_a_hidden_dataset_is_in_any_form(page, report):
    for text in (page, render_markdown(report), as_json(report)):
        assert HIDDEN not in text
    assert "No text, picture or answer of secret under the licence" in page


def test_the_page_asks_for_nothing_outside_itself(page):
    outline = Outline(page)
    for tag, attributes in outline.tags:
        for name in ("src", "href"):
            if (target := attributes.get(name)) is not None:
                assert target.startswith(("data:image/jpeg;base64,", "#")), (tag, target)
        assert tag not in {"link", "script", "iframe", "object", "embed", "base"}
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_headings_follow_in_order_and_every_element_is_closed(page):
    outline = Outline(page)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert outline.open == []


def test_every_picture_has_words_and_every_table_a_caption(page):
    outline = Outline(page)
    tags = [tag for tag, _ in outline.tags]
    assert tags.count("caption") == tags.count("table") > 10
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg")
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(attributes["href"])[1:] for tag, attributes in outline.tags if tag == "a"} <= set(ids)


def test_what_the_page_leaves_to_the_reader_is_said(page):
    assert "No blinded ratings by experts were read for this evaluation" in page
    for word in ("Reviewed by", "Signature", "Date"):
        assert word in page


def test_a_failed_check_is_counted_and_named(page):
    assert "2 failed" in page
    [row] = [row for row in read_table_of(page, "checks") if row["check"] == "few_scores_are_missing"]
    assert row["verdict"] == "FAILED"


def test_page_and_markdown_have_the_same_sections(page, report):
    titles = [title for key, title, _ in SECTIONS if key not in {"encoder"}]  # this line has none
    assert [section.title for section in sections(report)] == titles
    assert re.findall(r"<h2>(.+?)</h2>", page) == titles
    assert re.findall(r"^## (.+)$", render_markdown(report), flags=re.MULTILINE) == titles


def test_a_line_without_closed_questions_has_no_section_of_them(report):
    assert "confusion" not in [section.key for section in sections(replace(report, confusions=()))]


def test_markdown_marks_nothing_up_that_a_dataset_contains(report):
    text = render_markdown(report)
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "zebra" in text
    assert "zebra" not in outside
    for line in outside.splitlines():
        if line.startswith("| ") and "---" not in line:
            assert "<" not in re.sub(r"\\<", "", line)


def test_every_variant_has_its_place():
    assert sorted(VARIANTS) == sorted(get_args(Variant))


def test_the_same_report_is_the_same_page(report):
    assert render_html(report) == render_html(report)
    assert render_markdown(report) == render_markdown(report)


def test_a_decision_without_numbers_is_still_told(report):
    nothing = dict.fromkeys(("difference", "ci_low", "ci_high", "p_value", "image_difference", "image_ci_low", "image_ci_high"))
    decision = replace(report.decision, verdict="inconclusive", reasons=("not comparable: 3 pairs",), **nothing)
    page = render_html(replace(report, decisions=(decision,)))
    assert "Inconclusive: not comparable: 3 pairs" in page
    assert {row["what"]: row["value"] for row in read_table_of(page, "decision-adapter")}["adapter minus base"] == "–"
