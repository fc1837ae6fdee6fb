"""Which pictures and texts are matched. If these passed wrongly, an answer would be taken for a description, or a picture would stand
beside itself as its own negative.
"""

from dataclasses import replace
from pathlib import Path

from medvl_lib import chat
from medvl_lib.captions import captioned_images
from medvl_lib.datasets.descriptions import DESCRIPTION
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS
from medvl_lib.split import SplitRow
from medvl_lib.tables import write_table
from tests.matching_fixtures import captioned_pair


def written(folder: Path, **changes: object) -> Path:
    """A pair and another that says the same, as a table of placed ones."""
    pair = replace(captioned_pair("train", 1, ImageStore(folder / "images")), **changes)
    row = SplitRow(pair_id=pair.pair_id, dataset=pair.dataset, group_id=pair.group_id, image_ids=pair.image_ids, split="train")
    other = replace(pair, pair_id="invented/again")
    write_table(folder / PAIRS, chat.PlacedPair, [chat.to_placed(item, replace(row, pair_id=item.pair_id)) for item in (pair, other)])
    return folder


def test_a_pair_says_of_its_picture_what_it_answers_and_equal_ones_say_it_once(tmp_path: Path):
    [found] = captioned_images(written(tmp_path, response=" A nevus. "), "train")
    assert (found.pair_id, found.text, found.group_id) == ("invented/train/001", "A nevus.", "invented/subject:train-0")


def test_an_answer_is_no_description_where_the_dataset_made_one(tmp_path: Path):
    [found] = captioned_images(written(tmp_path, response="Yes", metadata={DESCRIPTION: "X-ray of the chest. Clear? Yes"}), "train")
    assert found.text == "X-ray of the chest. Clear? Yes"


def test_a_report_of_two_pictures_is_said_of_each(tmp_path: Path):
    found = list(captioned_images(written(tmp_path, image_ids=("one", "two"), response="Both."), "train"))
    assert [(item.image_id, item.text) for item in found] == [("one", "Both."), ("two", "Both.")]


def test_no_other_split_is_read(tmp_path: Path):
    assert list(captioned_images(written(tmp_path), "test")) == []
