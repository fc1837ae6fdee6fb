"""What the shipped model can describe. If these passed wrongly, the imaging line's base would see nothing, and its card be a story."""

import math
from pathlib import Path

import pytest
import torch

from medvl_lib.batches import Reader, training_batch
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.loading import Loaded, load
from medvl_lib.pretraining.described import SETS, agreement, draw, losses
from medvl_lib.pretraining.examination import Examinee
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.sample_data.described_pictures import LEARNED

SPEC, CPU = tiny_model("mllama"), PROFILES["cpu"]
CARD = Path(__file__).parents[2] / "docs" / "model-cards" / "tiny-llama-3.2-vision" / "README.md"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    weights = shipped.require_pinned("mllama")
    assert weights is not None
    return load(weights, SPEC, CPU)


def test_its_loss_is_far_below_guessing_and_needs_the_picture(loaded: Loaded):
    pictures = draw(LEARNED, "test", 24)
    own, others = (losses(loaded, pictures, is_shuffled=is_shuffled).values() for is_shuffled in (False, True))
    guessing = math.log(loaded.model.config.text_config.vocab_size)
    assert sum(own) / len(own) < 0.1 * guessing
    assert sum(others) > 3 * sum(own)


def test_alone_and_in_a_batch_it_says_the_same(loaded: Loaded):
    pictures = draw(LEARNED, "test", 8)
    one, eight = (
        Examinee(variant="base", loaded=loaded, spec=SPEC, profile=CPU).answers(pictures[:size]) for size in (1, 8)
    )  # fmt: skip
    assert one.items() <= eight.items()


def test_the_last_tokens_logits_do_not_depend_on_the_batch(loaded: Loaded):
    pictures = draw(LEARNED, "test", 6)
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=shelf(pictures))
    together = training_batch(reader, [to_conversation(picture) for picture in pictures])
    with torch.inference_mode():
        whole = loaded.model(**together).logits
        for row, picture in enumerate(pictures):
            alone = training_batch(reader, [to_conversation(picture)])
            length = alone["input_ids"].shape[1]
            assert (whole[row, :length] - loaded.model(**alone).logits[0]).abs().max() < 1e-3


@pytest.mark.slow
def test_it_names_grades_and_needs_their_pictures(loaded: Loaded):
    examinee = Examinee(variant="base", loaded=loaded, spec=SPEC, profile=CPU)
    knees = draw(SETS["knees"], "test", 30)
    shown, blank = (examinee.answers(knees, condition) for condition in ("as_is", "blank_image"))
    found, unseen = (sum(agreement(said[knee.example_id], knee) for knee in knees) / len(knees) for said in (shown, blank))
    assert found >= 0.7
    assert unseen <= 0.5


def test_the_card_names_the_fingerprint_of_what_is_shipped():
    assert f"`{shipped.PINNED['mllama']}`" in CARD.read_text(encoding="utf-8")
