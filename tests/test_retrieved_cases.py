"""Cases before a question. If these passed wrongly, a question would come with its own answer, with the case of its own patient, or with
cases of other pictures than the nearest; or a model would be asked more than it can read.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvl_lib import chat
from medvl_lib.captions import captioned_images
from medvl_lib.case_index import COUNTS, Embedded, nearest, write_index
from medvl_lib.files import write_json
from medvl_lib.images import ImageStore
from medvl_lib.models import shipped
from medvl_lib.pairs import Pair, Split
from medvl_lib.retrieved_cases import (
    QUERIES,
    RETRIEVED_CASES,
    RULES,
    Query,
    RetrievedCases,
    all_with_cases,
    asked,
    prefaces,
    with_cases,
    write_queries,
    write_retrieved_cases,
)
from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.tables import read_table, write_table
from tests.chats import write_chat

MODEL = shipped.DIRECTORY / "qwen2_5_vl"
MAX_PIXELS = 64 * 28 * 28
ANGLES = {"anna 1": 0, "anna 2": 5, "bob": 20, "carl": 50, "dora": 90, "emil": 8, "lin": 2, "wang": 3}  # degrees on the unit circle
PLACES: dict[str, tuple[Split, str]] = {
    "anna 1": ("train", "en"), "anna 2": ("train", "en"), "bob": ("train", "en"), "carl": ("train", "en"), "dora": ("train", "en"),
    "emil": ("test", "en"), "lin": ("train", "zh"), "wang": ("test", "zh"),
}  # fmt: skip


def vector(name: str) -> np.ndarray:
    angle = np.deg2rad(ANGLES[name])
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


class Shelf:
    """Pictures of invented patients whose place in the encoder's space is known, as a line's steps leave them."""

    def __init__(self, root: Path) -> None:
        self.images, self.chat, self.index, self.out = ImageStore(root / "images"), root / "chat", root / "index", root / "out"
        for folder in (self.chat, self.index, self.out):
            folder.mkdir()
        self.ids = {name: self.images.put(draw_picture("cases", number).png) for number, name in enumerate(PLACES)}
        self.pairs = [self.pair(name) for name in PLACES]
        self.write()

    def pair(self, name: str) -> Pair:
        split, language = PLACES[name]
        return Pair(
            pair_id=f"invented/{name}", dataset="invented", image_ids=(self.ids[name],), request="Describe it.",
            response=f"The picture of {name}.", expected=(), subject_id=name.split()[0], document_id=name, publisher_split=split,
            language=language, source="invented", licence="CC0-1.0", metadata={},
        )  # fmt: skip

    def write(self) -> None:
        write_chat(self.chat, self.pairs)
        cases = list(captioned_images(self.chat, "train"))
        names = {image_id: name for name, image_id in self.ids.items()}
        write_index(self.index, Embedded(cases, np.stack([vector(names[case.image_id]) for case in cases])), Embedded([], np.zeros((0, 2))))
        self.vectors = {image_id: vector(name) for name, image_id in self.ids.items()}

    def retrieve(self, num_cases: int = 2, max_tokens: int = 4096) -> dict[str, list[str]]:
        splits = ("train", "test")
        write_queries(self.out, self.chat, splits, self.vectors)
        self.facts = write_retrieved_cases(
            self.out, chat=self.chat, index=self.index, model=MODEL, images=self.images, splits=splits, num_cases=num_cases,
            max_tokens=max_tokens, max_pixels=MAX_PIXELS,
        )  # fmt: skip
        rows = read_table(self.out / RETRIEVED_CASES, RetrievedCases)
        return {row.pair_id.split("/")[1]: [case.pair_id.split("/")[1] for case in row.cases] for row in rows}

    def failing(self) -> list[str]:
        return [rule.name for rule in RULES if not rule.holds(self.out).passed]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_the_nearest_cases_of_other_patients_in_the_same_language_come_first(shelf: Shelf):
    found = shelf.retrieve()
    assert found["emil"] == ["anna 2", "anna 1"]  # 3 and 8 degrees away; lin, 6 degrees away, is told in Chinese
    assert found["anna 1"] == ["bob", "carl"]  # never herself, nor her other picture
    assert found["dora"] == ["carl", "bob"]
    assert found["wang"] == ["lin"]
    assert found["lin"] == []  # nobody else is told of in Chinese
    assert shelf.failing() == []
    assert shelf.facts == {"num_conversations": 8, "num_dropped_cases": 0, "num_unlike_cases": 0, "num_without_cases": 1}


def test_a_case_below_the_floor_never_stands_before_a_question(shelf: Shelf):
    """A floor at 12 degrees: emil's two cases are 3 and 8 away, anna's nearest 15, and dora's 40."""
    write_json(shelf.index / COUNTS, {"num_captioned_pictures": 6, "similarity_floor": float(np.cos(np.deg2rad(12)))})
    found = shelf.retrieve()
    assert found["emil"] == ["anna 2", "anna 1"]
    assert found["anna 2"] == found["dora"] == found["carl"] == []
    assert found["wang"] == ["lin"]
    rows = {row.pair_id: row for row in read_table(shelf.out / RETRIEVED_CASES, RetrievedCases)}
    assert (rows["invented/dora"].num_unlike, rows["invented/dora"].preface) == (2, "")
    assert shelf.facts["num_unlike_cases"] == sum(row.num_unlike for row in rows.values()) == 10
    assert shelf.failing() == []


def test_what_stands_before_the_question_is_numbered_and_in_its_language(shelf: Shelf):
    shelf.retrieve()
    words = prefaces(shelf.out)
    assert words["invented/emil"] == (
        "Similar cases, found by their pictures:\n1. The picture of anna 2.\n2. The picture of anna 1."
    )  # fmt: skip
    assert words["invented/wang"] == "图像相似的病例：\n1. The picture of lin."
    assert words["invented/lin"] == ""
    [emil] = [item for item in chat.read_conversations(shelf.chat / "test.jsonl") if item.pair_id == "invented/emil"]
    [told] = all_with_cases([emil], words)
    assert told.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": words["invented/emil"] + "\n\nDescribe it."}]
    assert told.messages[1] == emil.messages[1]
    assert told.image_ids == emil.image_ids
    assert with_cases(emil, "") is emil


def test_a_pair_of_several_pictures_takes_the_case_that_is_nearest_to_any_of_them(shelf: Shelf):
    shelf.pairs[5] = replace(shelf.pairs[5], image_ids=(shelf.ids["emil"], shelf.ids["wang"]))
    shelf.vectors = {**shelf.vectors}
    shelf.write()
    shelf.vectors[shelf.ids["wang"]] = vector("dora")
    assert shelf.retrieve(num_cases=2)["emil"] == ["dora", "anna 2"]


def test_cases_are_dropped_from_the_end_until_the_conversation_fits(shelf: Shelf):
    shelf.retrieve()
    lengths = {row.pair_id: row.num_tokens for row in read_table(shelf.out / RETRIEVED_CASES, RetrievedCases)}
    found = shelf.retrieve(max_tokens=lengths["invented/emil"] - 1)
    assert found["emil"] == ["anna 2"]
    assert shelf.failing() == []
    assert shelf.facts["num_dropped_cases"] == sum(2 - len(found[name]) for name in ("emil", "anna 1", "anna 2", "bob", "carl", "dora"))
    assert shelf.retrieve(max_tokens=1)["emil"] == []
    assert shelf.failing() == []  # without cases a question is as long as the audit knows it


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda row: replace(row, group_id="invented/subject:anna"), "no_case_is_the_answer"),
        (lambda row: replace(row, image_ids=(row.cases[0].image_id,)), "no_case_is_the_answer"),
        (lambda row: replace(row, cases=(replace(row.cases[0], split="test"), row.cases[1])), "no_case_is_the_answer"),
        (lambda row: replace(row, num_tokens=5000), "questions_with_cases_fit"),
        (lambda row: replace(row, cases=tuple(replace(case, similarity=case.similarity - 1) for case in row.cases)),
         "no_case_is_below_the_floor"),
        (lambda row: replace(row, preface=row.preface + "\n3. The answer."), "the_words_are_those_of_the_cases"),
        (lambda row: replace(row, pair_id="invented/nobody"), "every_question_was_looked_for"),
        (lambda row: replace(row, cases=tuple(replace(case, similarity=1 + case.similarity) for case in row.cases)),
         "cases_come_the_most_similar_first"),
    ],
)  # fmt: skip
def test_each_damage_is_named_by_exactly_its_rule(shelf: Shelf, change, named: str):
    write_json(shelf.index / COUNTS, {"num_captioned_pictures": 6, "similarity_floor": 0.5})
    shelf.retrieve()
    rows = list(read_table(shelf.out / RETRIEVED_CASES, RetrievedCases))
    write_table(shelf.out / RETRIEVED_CASES, RetrievedCases, [change(row) if row.pair_id == "invented/emil" else row for row in rows])
    assert shelf.failing() == [named]


def test_the_queries_are_the_pairs_that_are_asked(shelf: Shelf):
    shelf.retrieve()
    queries = list(read_table(shelf.out / QUERIES, Query))
    assert [query.pair_id for query in queries] == [pair.pair_id for pair in asked(shelf.chat, ("train", "test"))]


def test_many_pairs_get_the_very_cases_that_one_picture_alone_gets(shelf: Shelf):
    found = shelf.retrieve(num_cases=3)
    for name in ("emil", "anna 1", "dora"):
        patient = f"invented/subject:{name.split()[0]}"
        alone = nearest(
            shelf.index, vector(name), 3, not_of_groups=[patient], not_of_images=[shelf.ids[name]], language="en"
        )  # fmt: skip
        assert found[name] == [case.pair_id.split("/")[1] for case in alone]
