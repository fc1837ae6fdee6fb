"""A falling loss proves nothing about the pictures. If this passed wrongly, a model that reads nothing would look like one that learns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.chat import Conversation, single_turn
from medvl_lib.evaluation.predict import shuffled
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.pretraining.reading import draw
from medvl_lib.sample_data.reading_pages import LEARNED
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import Stage
from medvl_lib.training.route import train
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from tests.chats import write_conversations
from tests.torch_fixtures import RECIPE, TINY, Trial

LARGEST_SHARE = 0.7  # of the held-out loss after training on permuted pictures
STAGE = Stage(name="adapter", objective="generate", recipe=replace(
    RECIPE, max_steps=24, effective_batch=8, lora_rank=16, lora_alpha=32, validations_per_epoch=1,
))  # fmt: skip


def reading(part: str, num_pages: int, images: ImageStore) -> list[Conversation]:
    """Unseen pages of the kind that the base model can read, as conversations."""
    return [
        single_turn(page.page_id, image_ids=(images.put(page.png),), request=page.request, response=page.response)
        for page in draw(LEARNED, part, num_pages)
    ]


def held_out_loss(root: Path, trial: Trial, images: ImageStore, pairs: Sequence[Conversation], held_out: Sequence[Conversation]) -> float:
    """Loss on the held-out pairs with their own pictures, after training on ``pairs``."""
    root.mkdir()
    for part, items in (("train", pairs), ("validation", held_out), ("test", ()), ("benchmark", ())):
        write_conversations(root, part, items)
    adapter = root / "adapter"
    adapter.mkdir()
    train(
        adapter, stage=STAGE, spec=tiny_model(TINY.family), weights=trial.nf4, chat=root, images=images, profile=trial.profile,
        previous=None, checkpoints=root / "checkpoints", report=lambda _: None,
    )  # fmt: skip
    losses = [step.validation_loss for step in read_table(adapter / TRAINING_STEPS, TrainingStep) if step.validation_loss is not None]
    return losses[-1]


@pytest.mark.soak
def test_permuted_pictures_teach_less_than_true_ones(tmp_path: Path, trial: Trial):
    images = ImageStore(tmp_path / "images")
    pairs, held_out = reading("pictures_matter", 192, images), reading("pictures_held_out", 24, images)
    [permuted] = shuffled([pairs])
    assert all(mine.image_ids != theirs.image_ids for mine, theirs in zip(pairs, permuted, strict=True))
    true, wrong = (held_out_loss(tmp_path / name, trial, images, items, held_out) for name, items in (("true", pairs), ("wrong", permuted)))
    assert true <= LARGEST_SHARE * wrong, f"held-out loss {true:.3f} after true pictures, {wrong:.3f} after permuted ones"
