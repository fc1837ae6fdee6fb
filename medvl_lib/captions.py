"""Captions: which pictures and texts of a line an encoder learns to match. No torch here.

In: the chat directory, whose ``pairs.parquet`` has every pair with its split. Out: ``CaptionedImage``, one per picture and text. A pair of
two pictures becomes two; one whose response is an answer and no description gives the description that its dataset made; and what several
pairs of one picture say alike comes once. How texts become tokens belongs to ``models.siglip``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medvl_lib.chat import PlacedPair
from medvl_lib.datasets.descriptions import DESCRIPTION
from medvl_lib.pairs import PAIRS, Split
from medvl_lib.tables import read_table

REVISION = 1  # first version


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedImage:
    """A picture and its text."""

    pair_id: str
    dataset: str
    group_id: str
    """Dataset and patient (or document): no other picture or text of it is a negative."""
    image_id: str
    split: Split
    text: str
    language: str
    category: str | None
    """The class that the picture belongs to; None where there is none."""
    licence: str


def captioned_images(chat: Path, split: Split) -> Iterator[CaptionedImage]:
    """The captioned pictures of a split, in the order of its pairs, each picture with each text once."""
    seen: set[tuple[str, str]] = set()
    for pair in read_table(chat / PAIRS, PlacedPair):
        text = pair.metadata.get(DESCRIPTION, pair.response).strip()
        for image_id in pair.image_ids if pair.split == split else ():
            if (image_id, text) not in seen:
                seen.add((image_id, text))
                yield CaptionedImage(
                    pair_id=pair.pair_id, dataset=pair.dataset, group_id=f"{pair.dataset}/{pair.group_id}", image_id=image_id, text=text,
                    split=pair.split, language=pair.language, category=pair.category, licence=pair.licence,
                )  # fmt: skip
