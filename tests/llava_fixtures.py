"""A fresh small LLaVA-Med in full width and in four bits, and invented studies as conversations: built once, shared by its tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.pairs import Pair, Split
from medvl_lib.sample_data.chest_studies import LEARNED
from tests.chats import write_chat

SPEC = tiny_model("llava_med")


class Small(NamedTuple):
    """Random weights of the family, as published, in the library's layout and in four bits; conversations with one or two pictures."""

    profile: Profile
    published: Path
    base: Path
    nf4: Path
    chat: Path
    images: ImageStore
    conversations: Sequence[Conversation]


def _pair(number: int, split: Split, images: ImageStore) -> Pair:
    drawn = LEARNED.draw(f"test_llava/{split}", number)
    return Pair(
        pair_id=f"invented/{split}/{number:03d}", dataset="invented",
        image_ids=tuple(images.put(drawn.read(each)) for each in drawn.image_ids),
        request=drawn.request, response=drawn.response, expected=(), subject_id=None, document_id=f"{split}{number}",
        publisher_split=split, language="en", source="invented", licence="CC0-1.0", metadata={"stage": drawn.stage},
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_llava(tmp_path_factory: pytest.TempPathFactory) -> Small:
    from medvl_lib.models.preparing import TINY, in_library_layout, write_quantized

    root = tmp_path_factory.mktemp("llava")
    profile, images = PROFILES["cpu"], ImageStore(root / "images")
    for name in ("published", "base", "nf4", "chat"):
        (root / name).mkdir()
    TINY["llava_med"](root / "published", seed=SPEC.seed, max_pixels=SPEC.max_pixels)
    in_library_layout(root / "published", root / "base", "llava_med")
    write_quantized(root / "nf4", root / "base", "nf4", SPEC, profile)
    counts: Sequence[tuple[Split, int]] = (("train", 8), ("validation", 2), ("test", 2))
    pairs = [_pair(number, split, images) for split, count in counts for number in range(count)]
    write_chat(root / "chat", pairs)
    conversations = tuple(read_conversations(conversations_path(root / "chat", "train")))
    return Small(
        profile=profile, published=root / "published", base=root / "base", nf4=root / "nf4", chat=root / "chat", images=images,
        conversations=conversations,
    )  # fmt: skip
