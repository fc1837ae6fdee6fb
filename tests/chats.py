"""Conversations on a disk as a line's chat step leaves them, for tests that need no split and no validation before it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from medvl_lib import chat
from medvl_lib.chat import Conversation
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.pairs import PAIRS, SPLITS, Pair
from medvl_lib.split import SplitRow
from medvl_lib.tables import write_table


def write_conversations(directory: Path, split: str, conversations: Iterable[Conversation]) -> None:
    """One split's file."""
    text = "".join(chat._line(conversation) for conversation in conversations)
    chat.conversations_path(directory, split).write_text(text, encoding="utf-8")


def write_chat(directory: Path, pairs: Sequence[Pair]) -> None:
    """Every file of the step, each pair in the split that its publisher gave it."""
    for split in SPLITS:
        write_conversations(directory, split, (chat.to_conversation(pair) for pair in pairs if pair.publisher_split == split))
    placed = [(pair, split_row(pair)) for pair in pairs]
    write_table(directory / REFERENCES, Reference, (chat.to_reference(pair, row) for pair, row in placed))
    write_table(directory / PAIRS, chat.PlacedPair, (chat.to_placed(pair, row) for pair, row in placed))


def split_row(pair: Pair) -> SplitRow:
    """What the split says of a pair whose publisher has split it."""
    assert pair.publisher_split is not None
    return SplitRow(
        pair_id=pair.pair_id, dataset=pair.dataset, group_id=pair.group_id, image_ids=pair.image_ids, split=pair.publisher_split
    )
