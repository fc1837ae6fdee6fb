"""A falling loss proves nothing about the pictures. If this passed wrongly, a model that reads nothing would look like one that learns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import chat
from medvl_lib.chat import Conversation, single_turn
from medvl_lib.datasets.clinical_documents import REQUEST, response
from medvl_lib.evaluation.predict import shuffled
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.sample_data.clinical_documents import draw_document, page_bytes
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import Stage
from medvl_lib.training.route import train
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from tests.torch_fixtures import RECIPE, TINY, Trial

LARGEST_SHARE = 0.7  # of the held-out loss after training on permuted pictures
STAGE = Stage(name="adapter", objective="generate", recipe=replace(
    RECIPE, max_steps=24, effective_batch=8, lora_rank=16, lora_alpha=32, validations_per_epoch=1,
))  # fmt: skip


def documents(part: str, num_per_type: int, images: ImageStore) -> list[Conversation]:
    """Invented forms of one part as conversations."""
    drawn = [draw_document(9, part, kind, index) for index in range(num_per_type) for kind in DOCUMENT_TYPES]
    return [
        single_turn(
            f"clinical_documents/{part}/{item.document_seed}", image_ids=(images.put(page_bytes(item)),), request=REQUEST,
            response=response(item.facts),
        ) for item in drawn
    ]  # fmt: skip


def held_out_loss(root: Path, trial: Trial, images: ImageStore, pairs: Sequence[Conversation], held_out: Sequence[Conversation]) -> float:
    """Loss on the held-out pairs with their own pictures, after training on ``pairs``."""
    root.mkdir()
    for part, items in (("train", pairs), ("validation", held_out), ("test", ()), ("benchmark", ())):
        chat.conversations_path(root, part).write_text("".join(chat._line(item) for item in items), encoding="utf-8")
    adapter = root / "adapter"
    adapter.mkdir()
    train(
        adapter, stage=STAGE, spec=tiny_model(TINY.family), weights=trial.nf4, chat=root, images=images, profile=trial.profile,
        previous=None, checkpoints=root / "checkpoints", report=lambda _: None,
    )  # fmt: skip
    losses = [step.validation_loss for step in read_table(adapter / TRAINING_STEPS, TrainingStep) if step.validation_loss is not None]
    return losses[-1]


@pytest.mark.slow
def test_permuted_pictures_teach_less_than_true_ones(tmp_path: Path, trial: Trial):
    images = ImageStore(tmp_path / "images")
    pairs, held_out = documents("train", 19, images)[:192], documents("validation", 2, images)
    [permuted] = shuffled([pairs])
    assert all(mine.image_ids != theirs.image_ids for mine, theirs in zip(pairs, permuted, strict=True))
    true, wrong = (held_out_loss(tmp_path / name, trial, images, items, held_out) for name, items in (("true", pairs), ("wrong", permuted)))
    assert true <= LARGEST_SHARE * wrong, f"held-out loss {true:.3f} after true pictures, {wrong:.3f} after permuted ones"
