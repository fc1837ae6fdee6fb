"""What the shipped model can read. If these passed wrongly, the demo's base would read nothing, and its card would be a story."""

from pathlib import Path

import pytest

from medvl_lib.evaluation.metrics.documents import pair_accuracy
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.loading import load
from medvl_lib.pretraining.examination import Examinee
from medvl_lib.pretraining.reading import draw
from medvl_lib.sample_data.reading_pages import LEARNED, SHIFTED, ReadingPage
from tests.torch_fixtures import TINY

CARD = Path(__file__).parents[2] / "docs" / "model-cards" / "tiny-qwen2.5-vl" / "README.md"


def mean(pages: list[ReadingPage], answers: dict[str, str]) -> float:
    return sum(pair_accuracy(answers[page.page_id], page.facts) for page in pages) / len(pages)


@pytest.mark.slow
def test_the_shipped_model_reads_learned_pages_and_needs_their_pictures():
    weights = shipped.require_pinned(TINY.family)
    assert weights is not None
    spec, profile = tiny_model(TINY.family), PROFILES["cpu"]
    examinee = Examinee(variant="base", loaded=load(weights, spec, profile), spec=spec, profile=profile)
    pages, shifted = draw(LEARNED, "test", 40), draw(SHIFTED, "test", 20)
    found = mean(pages, examinee.answers(pages))
    assert found >= 0.5  # the card's interval begins above 0.6 for 200 pages
    assert mean(shifted, examinee.answers(shifted)) < found - 0.2
    assert mean(pages, examinee.answers(pages, "blank_image")) < 0.05
    assert mean(pages, examinee.answers(pages, "shuffled_image")) < 0.05


def test_the_card_names_the_fingerprint_of_what_is_shipped():
    assert f"`{shipped.PINNED[TINY.family]}`" in CARD.read_text(encoding="utf-8")
