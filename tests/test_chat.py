"""Conversations. If these passed wrongly, a model would be trained on another question, answer or picture than its pair's, or scored
against another reference.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from medvl_lib import chat as room
from medvl_lib.chat import PlacedPair, read_conversations, write_chat
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.pairs import PAIRS, Pair, Triple
from medvl_lib.split import SplitSpec, write_split
from medvl_lib.tables import read_table, write_table
from tests.broken import offenders

SPEC = SplitSpec(seed=42, validation_share=0.1, test_share=0.1)


def pair(number: int, **changes: object) -> Pair:
    values = {
        "pair_id": f"slake/{number:06d}", "dataset": "slake", "image_ids": (f"{number:064d}",), "request": " Which organ is this?\n",
        "response": "\nLung ", "expected": (), "subject_id": f"p{number}", "document_id": f"case-{number}", "publisher_split": "train",
        "language": "en", "source": f"row {number}", "licence": "CC-BY-4.0", "metadata": {},
    }  # fmt: skip
    return Pair(**{**values, **changes})


def written(root: Path, *pairs: Pair) -> Path:
    validated: dict[str, Path] = {}
    for name in {item.dataset for item in pairs}:
        validated[name] = root / name
        validated[name].mkdir()
        write_table(validated[name] / PAIRS, Pair, (item for item in pairs if item.dataset == name))
    for step in ("split", "chat"):
        (root / step).mkdir()
    write_split(root / "split", validated, SPEC)
    write_chat(root / "chat", root / "split", validated)
    return root / "chat"


failing = partial(offenders, room.RULES)


def test_a_conversation_is_one_line_of_json(tmp_path):
    directory = written(tmp_path, pair(7, image_ids=("a" * 64, "b" * 64), request="Räume?", response=" Ja.\n"))
    assert (directory / "train.jsonl").read_text(encoding="utf-8") == (
        '{"pair_id": "slake/000007", "images": ["' + "a" * 64 + '", "' + "b" * 64 + '"], "messages": [{"role": "user", "content": '
        '[{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Räume?"}]}, '
        '{"role": "assistant", "content": [{"type": "text", "text": "Ja."}]}]}\n'
    )


def test_a_reference_is_what_an_answer_is_held_against(tmp_path):
    metadata = {"document_type": "lab_results", "specialty": "", "glyph_height_pixels": "7.5", "layout": "dense"}
    potassium = Triple(term="Potassium", value="4.1", unit="mmol/L")
    directory = written(tmp_path, pair(7, metadata=metadata, expected=(potassium,)))
    assert list(read_table(directory / REFERENCES, Reference)) == [
        Reference(
            pair_id="slake/000007", dataset="slake", split="train", group_id="subject:p7", language="en", licence="CC-BY-4.0",
            request="Which organ is this?", response="Lung",
            expected=(potassium,), slices={"document_type": "lab_results", "language": "en"}, glyph_height_pixels=7.5,
        )
    ]  # fmt: skip


def test_every_pair_stands_in_one_table_with_its_split_and_class(tmp_path):
    labels = {"category": "BCC", "agreement": "one reading", "region": "NOSE"}
    other = pair(9, dataset="pathvqa", pair_id="pathvqa/9", publisher_split="test")
    directory = written(tmp_path, pair(7, metadata=labels), other)
    first, second = read_table(directory / PAIRS, PlacedPair)
    assert (first.pair_id, first.dataset, first.split, first.category) == ("pathvqa/9", "pathvqa", "test", None)
    assert second == PlacedPair(**asdict(pair(7, metadata=labels)), split="train", category="BCC")
    [_, reference] = read_table(directory / REFERENCES, Reference)
    assert reference.slices == {"category": "BCC", "agreement": "one reading", "language": "en"}


def test_a_row_that_is_missing_among_all_pairs_is_noticed(tmp_path):
    directory = written(tmp_path, pair(1), pair(2))
    write_table(directory / PAIRS, PlacedPair, list(read_table(directory / PAIRS, PlacedPair))[:1])
    assert failing(directory) == {"every_pair_became_a_conversation": (PAIRS,)}


def test_every_split_has_its_file_and_its_pairs_in_order(tmp_path):
    directory = written(tmp_path, pair(3), pair(1, publisher_split="test"), pair(2), pair(9, dataset="pathvqa", pair_id="pathvqa/9"))
    found = {path.stem: [item.pair_id for item in read_conversations(path)] for path in sorted(directory.glob("*.jsonl"))}
    assert found == {"benchmark": [], "test": ["slake/000001"], "train": ["pathvqa/9", "slake/000003", "slake/000002"], "validation": []}


def test_what_is_read_is_what_was_written(tmp_path):
    line_breaks = "one\u2028two\rthree\nfour\x85five"
    (conversation,) = read_conversations(written(tmp_path, pair(1, response=line_breaks)) / "train.jsonl")
    assert conversation == room.to_conversation(pair(1, response=line_breaks))


def test_no_pairs_are_counted_as_none_in_every_split(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "split").mkdir()
    write_table(tmp_path / "empty" / PAIRS, Pair, [])
    write_split(tmp_path / "split", {"slake": tmp_path / "empty"}, SPEC)
    facts = write_chat(tmp_path, tmp_path / "split", {"slake": tmp_path / "empty"})
    counts = {"num_conversations": 0, "num_images": 0, "num_train": 0, "num_validation": 0, "num_test": 0, "num_benchmark": 0}
    assert facts == counts


def test_a_split_of_other_pairs_is_refused_by_the_pair(tmp_path):
    written(tmp_path, pair(1), pair(2))
    write_table(tmp_path / "slake" / PAIRS, Pair, [pair(1)])
    with pytest.raises(MedVLError, match="pair None beside split row slake/000002"):
        write_chat(tmp_path / "chat", tmp_path / "split", {"slake": tmp_path / "slake"})


def test_a_glyph_height_that_is_no_number_is_refused_by_the_pair(tmp_path):
    with pytest.raises(MedVLError, match=r"'tall'.*\n.*slake/000001"):
        written(tmp_path, pair(1, metadata={"glyph_height_pixels": "tall"}))


@pytest.mark.parametrize("line", ["{", "[]", '{"pair_id": "a"}'])
def test_a_broken_line_is_named_by_file_and_number(tmp_path, line):
    path = written(tmp_path, pair(1)) / "train.jsonl"
    path.write_text(path.read_text() + line)
    with pytest.raises(MedVLError, match=r"train\.jsonl:2"):
        list(read_conversations(path))


def test_a_sound_chat_passes_every_rule(tmp_path):
    assert failing(written(tmp_path, pair(1), pair(2), pair(3, publisher_split="test"))) == {}


def lose_the_assistant(value: dict) -> None:
    value["messages"][1]["role"] = "user"


def end_with_the_user(value: dict) -> None:
    value["messages"].append({"role": "user", "content": value["messages"][1]["content"]})


def lose_a_placeholder(value: dict) -> None:
    del value["messages"][0]["content"][0]


def lose_all_pictures(value: dict) -> None:
    value["images"] = []


def blank_before_the_answer(value: dict) -> None:
    value["messages"][1]["content"][0]["text"] = " Lung"


def lose_the_answer(value: dict) -> None:
    value["messages"][1]["content"] = []


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lose_the_assistant, "roles_alternate_and_end_with_the_assistant"),
        (end_with_the_user, "roles_alternate_and_end_with_the_assistant"),
        (lose_a_placeholder, "every_image_has_its_placeholder"),
        (lose_all_pictures, "every_image_has_its_placeholder"),
        (blank_before_the_answer, "every_answer_is_trimmed_text"),
        (lose_the_answer, "every_answer_is_trimmed_text"),
    ],
)
def test_damage_breaks_exactly_its_rule(tmp_path, damage: Callable[[dict], None], rule):
    directory = written(tmp_path, pair(1), pair(2))
    lines = (directory / "train.jsonl").read_text(encoding="utf-8").splitlines()
    value = json.loads(lines[1])
    damage(value)
    (directory / "train.jsonl").write_text(f"{lines[0]}\n{json.dumps(value)}\n", encoding="utf-8")
    assert failing(directory) == {rule: ("slake/000002",)}


def test_another_pairs_conversation_breaks_exactly_its_rule(tmp_path):
    directory = written(tmp_path, pair(1), pair(2))
    (directory / "train.jsonl").write_text((directory / "train.jsonl").read_text().replace("slake/000001", "slake/000009"))
    assert failing(directory) == {"every_pair_became_a_conversation": ("slake/000001",)}


def test_a_lost_line_breaks_exactly_its_rule(tmp_path):
    directory = written(tmp_path, pair(1), pair(2))
    (directory / "train.jsonl").write_text((directory / "train.jsonl").read_text().splitlines()[0] + "\n")
    assert failing(directory) == {"every_pair_became_a_conversation": ("slake/000002",)}


def test_a_pair_lost_with_its_reference_is_still_missed(tmp_path):
    directory = written(tmp_path, pair(1), pair(2, publisher_split="test"))
    (directory / "test.jsonl").write_text("")
    references = [row for row in read_table(directory / REFERENCES, Reference) if row.split != "test"]
    write_table(directory / REFERENCES, Reference, references)
    assert list(failing(directory)) == ["every_pair_became_a_conversation"]


def test_a_lost_column_breaks_exactly_its_rule(tmp_path):
    import pyarrow.parquet as pq

    directory = written(tmp_path, pair(1))
    pq.write_table(pq.read_table(directory / REFERENCES).drop_columns("language"), directory / REFERENCES)
    assert failing(directory) == {"columns_are_as_declared": (REFERENCES,)}
