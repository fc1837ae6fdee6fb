"""A tiny model in full width and in four bits, and invented pages as conversations: built once, shared by the torch tests."""

from pathlib import Path
from typing import NamedTuple

import pytest

from medvl_lib import pages
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.spec import LANGUAGE_TARGETS, ModelSpec
from medvl_lib.pairs import Pair, Split, Triple
from medvl_lib.training.recipe import Recipe
from tests.chats import write_chat

TINY = ModelSpec(family="qwen2_5_vl", source="tiny", hub_id="medvl/tiny-qwen2.5-vl", revision="", seed=1, path="", max_pixels=128 * 28 * 28)
RECIPE = Recipe(
    learning_rate=2e-3, num_epochs=1, max_steps=6, effective_batch=4, warmup_share=0.1, weight_decay=0.0, max_gradient_norm=1.0,
    lora_rank=8, lora_alpha=16, lora_dropout=0.05, lora_targets=LANGUAGE_TARGETS, seed=7, pairs_per_dataset={},
    mixture_weights={}, max_training_pairs=0, max_validation_pairs=0, validations_per_epoch=1,
)  # fmt: skip
STYLE = pages.PageStyle(font="sans", font_size_pixels=16, width_pixels=224, height_pixels=140, margin_pixels=8, line_pitch_pixels=22)
FACTS = (("Sodium", "139", "mmol/L"), ("Potassium", "4.1", "mmol/L"), ("Glucose", "92", "mg/dL"), ("Lactate", "1.3", "mmol/L"))


class Trial(NamedTuple):
    """What a torch test needs: a profile, weights, conversations and their pictures."""

    profile: Profile
    base: Path
    nf4: Path
    chat: Path
    images: ImageStore


def pair(number: int, split: Split, images: ImageStore, style: pages.PageStyle = STYLE) -> Pair:
    """An invented page with one to four facts: answers of unequal length."""
    triples = tuple(Triple(term=term, value=value, unit=unit) for term, value, unit in FACTS[: number % 4 + 1])
    lines = [f"{triple.term}: {triple.value} {triple.unit}" for triple in triples]
    image_id = images.put(pages.text_page([*lines, f"No. {number}"], style))
    return Pair(
        pair_id=f"invented/{split}/{number:03d}", dataset="invented", image_ids=(image_id,),
        request="List every term with its value and unit.", response="\n".join(lines), expected=triples, subject_id=None,
        document_id=f"{split}{number}", publisher_split=split, language="en", source="invented", licence="CC0-1.0", metadata={},
    )  # fmt: skip


def write_conversations(directory: Path, images: ImageStore, style: pages.PageStyle = STYLE) -> None:
    """Twelve conversations to train on, four to validate and four to test with."""
    counts = (("train", 12), ("validation", 4), ("test", 4))
    pairs = [pair(number, split, images, style) for split, count in counts for number in range(count)]
    write_chat(directory, pairs)


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    from medvl_lib.models.preparing import write_base, write_quantized

    root = tmp_path_factory.mktemp("trial")
    profile, images = PROFILES["cpu"], ImageStore(root / "images")
    for name in ("base", "nf4", "chat"):
        (root / name).mkdir()
    write_base(root / "base", TINY)
    write_quantized(root / "nf4", root / "base", "nf4", TINY, profile)
    write_conversations(root / "chat", images)
    return Trial(profile=profile, base=root / "base", nf4=root / "nf4", chat=root / "chat", images=images)
