"""Captioned pictures on a disk as a line's chat step leaves them, and a small encoder without training: shared by the tests of matching."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.spec import TOWER_TARGETS, ModelSpec
from medvl_lib.pairs import Pair, Split
from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.training.recipe import MatchRecipe, Stage
from tests.chats import write_chat

SPEC = ModelSpec(family="siglip", source="tiny", hub_id="medvl/tiny-siglip", revision="", seed=1, path="", max_pixels=96 * 96)
MATCH = MatchRecipe(
    learning_rate=1e-3, num_epochs=1, max_steps=6, effective_batch=8, warmup_share=0.1, weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.95,
    max_gradient_norm=1.0, lora_rank=0, lora_alpha=16, lora_dropout=0.0, lora_targets=TOWER_TARGETS, seed=7, pairs_per_dataset={},
    max_training_pairs=0, max_validation_pairs=0, validations_per_epoch=1,
)  # fmt: skip
STAGE = Stage(name="encoder", objective="match", recipe=MATCH, model=SPEC)
COUNTS: tuple[tuple[Split, int], ...] = (("train", 24), ("validation", 8), ("test", 12))


def copied(source: Path) -> Callable[[Path], dict]:
    """What a step writes whose files are there already."""

    def write(directory: Path) -> dict:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        return {}

    return write


class Gallery(NamedTuple):
    """What a test of matching needs."""

    profile: Profile
    weights: Path
    chat: Path
    images: ImageStore


def captioned_pair(split: Split, number: int, images: ImageStore) -> Pair:
    """An invented captioned picture as a pair; two of each patient."""
    picture = draw_picture(f"tests/{split}", number)
    return Pair(
        pair_id=f"invented/{split}/{number:03d}", dataset="invented", image_ids=(images.put(picture.png),),
        request=DESCRIBE[picture.language], response=picture.caption, expected=(), subject_id=f"{split}-{number // 2}",
        document_id=f"{split}-{number}", publisher_split=split, language=picture.language, source="invented", licence="CC0-1.0",
        metadata={"category": picture.category},
    )  # fmt: skip


def write_captions(directory: Path, images: ImageStore) -> None:
    """What the chat step writes of them."""
    write_chat(directory, [captioned_pair(split, number, images) for split, count in COUNTS for number in range(count)])


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    from medvl_lib.models import siglip

    root = tmp_path_factory.mktemp("gallery")
    for name in ("weights", "chat"):
        (root / name).mkdir()
    siglip.write_tiny(root / "weights", seed=1, max_pixels=SPEC.max_pixels)
    images = ImageStore(root / "images")
    write_captions(root / "chat", images)
    return Gallery(profile=replace(PROFILES["cpu"], training_batch=4), weights=root / "weights", chat=root / "chat", images=images)
