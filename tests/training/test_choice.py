"""Which pairs a recipe takes. If these passed wrongly, a mismatched recipe would train on the matched set, and say that it did not."""

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from medvl_lib.chat import Conversation, _line, conversations_path, read_conversations, single_turn
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.tables import write_table
from medvl_lib.training import choice
from medvl_lib.training.choice import (
    chosen,
    every_stage_has_pairs,
    held_out,
    mixed,
    num_by_dataset,
    require_pairs,
    takes_cases,
    within_image_limits,
)
from medvl_lib.training.choice import taken as taken_by
from medvl_lib.training.recipe import Handover, Stage
from tests.torch_fixtures import RECIPE

PAIRS = [Conversation(pair_id=f"{name}/train/{number:03d}", image_ids=(), messages=()) for number in range(10) for name in ("b", "a")]


def taken(most: int = 0, **shares: int) -> list[str]:
    return [item.pair_id for item in chosen(PAIRS, replace(RECIPE, pairs_per_dataset=shares), most, is_training=True)]


@pytest.mark.parametrize(
    ("shares", "most", "expected"),
    [
        ({}, 0, {"a": 10, "b": 10}), ({"a": 0}, 0, {"a": 10}), ({"a": 0, "b": 3}, 0, {"a": 10, "b": 3}), ({"b": 99}, 0, {"b": 10}),
        ({"c": 0}, 0, {}), ({"a": 2, "b": 2}, 3, None), ({}, 7, None),
    ],
)  # fmt: skip
def test_a_recipe_takes_its_share_of_each_dataset(shares: dict[str, int], most: int, expected: dict[str, int] | None):
    found = taken(most, **shares)
    if expected is None:
        assert len(found) == most
    else:
        assert Counter(pair_id.split("/")[0] for pair_id in found) == expected


def test_the_pairs_keep_their_order_and_the_seed_chooses_them():
    found = taken(a=4, b=4)
    assert found == [item.pair_id for item in PAIRS if item.pair_id in found]
    others = [item.pair_id for item in chosen(PAIRS, replace(RECIPE, pairs_per_dataset={"a": 4, "b": 4}, seed=8), 0, is_training=True)]
    assert set(found) != set(others)


def test_the_held_out_loss_is_of_the_same_datasets_and_not_cut_by_their_shares():
    found = chosen(PAIRS, replace(RECIPE, pairs_per_dataset={"a": 2}), 6, is_training=False)
    assert [item.pair_id.split("/")[0] for item in found] == ["a"] * 6


def test_one_pair_more_moves_at_most_one_other():
    more = [*PAIRS, Conversation(pair_id="a/train/010", image_ids=(), messages=())]
    recipe = replace(RECIPE, pairs_per_dataset={"a": 4})
    before, after = ({item.pair_id for item in chosen(pairs, recipe, 0, is_training=True)} for pairs in (PAIRS, more))
    assert len(before - after) <= 1


@pytest.mark.parametrize(("weight", "least", "most"), [(1.0, 1000, 1000), (3.0, 3000, 3000), (2.5, 2440, 2560), (0.5, 440, 560)])
def test_a_mixture_weight_says_how_often_a_pair_comes_in_an_epoch(weight: float, least: int, most: int):
    pairs = [Conversation(pair_id=f"{name}/train/{number:03d}", image_ids=(), messages=()) for number in range(1000) for name in ("b", "a")]
    epoch = mixed(pairs, replace(RECIPE, mixture_weights={"a": weight}))
    counts = num_by_dataset(epoch)
    assert least <= counts["a"] <= most
    assert counts["b"] == 1000
    assert set(Counter(item.pair_id for item in epoch if item.dataset == "a").values()) <= {int(weight), int(-(-weight // 1))} - {0}


def test_a_weight_moves_no_pair_of_another_dataset_and_the_seed_chooses_who_comes_once_more():
    ids = [[item.pair_id for item in mixed(PAIRS, replace(RECIPE, mixture_weights={"a": 1.5}, seed=seed))] for seed in (7, 7, 8)]
    assert ids[0] == ids[1]
    assert Counter(ids[0]) != Counter(ids[2])


def test_half_of_the_pairs_come_with_cases_and_none_where_the_recipe_wants_none():
    ids = [f"a/train/{number:04d}" for number in range(1000)]
    wanting = replace(RECIPE, with_retrieved_cases=True)
    assert 450 < sum(takes_cases(pair_id, wanting) for pair_id in ids) < 550
    assert not any(takes_cases(pair_id, RECIPE) for pair_id in ids)
    assert [takes_cases(one, wanting) for one in ids] != [takes_cases(one, replace(wanting, seed=8)) for one in ids]


# -- stages of one line ------------------------------------------------------------------------------------------------
def reference(pair_id: str, group: str, stage: str, split: str = "train") -> Reference:
    return Reference(
        pair_id=pair_id, dataset="cxr", split=split, group_id=group, language="en", licence="CC0-1.0", request="?", response="Clear.",
        expected=(), slices={"stage": stage, "language": "en"}, glyph_height_pixels=None,
    )  # fmt: skip


def write_studies(directory: Path, num_studies: int = 12, *, without: str = "") -> None:
    """Studies of two patients each in train and validation: two pictures, and a pair for each stage."""
    references: list[Reference] = []
    for split in ("train", "validation"):
        lines: list[str] = []
        for number in range(num_studies):
            for stage in ("impression", "reasoning"):
                if f"{split} {stage}" == without:
                    continue
                pair_id, images = f"cxr/{split}{number:02d}/{stage}", (f"{split}{number}a", f"{split}{number}b")
                lines.append(_line(single_turn(pair_id, image_ids=images, request="?", response="Clear.")))
                references.append(reference(pair_id, f"subject:{split}{number % 2}", stage, split))
        conversations_path(directory, split).write_text("".join(lines), encoding="utf-8")
    write_table(directory / REFERENCES, Reference, references)


def stages(**changes: object) -> list[Stage]:
    recipe = replace(RECIPE, **changes)
    return [
        Stage(name=name, objective="generate", recipe=recipe, pairs={"stage": name}, share_of_steps=share, handover=Handover())
        for name, share in (("impression", 0.35), ("reasoning", 0.65))
    ]  # fmt: skip


def test_a_stage_learns_from_the_pairs_of_its_label_alone_and_is_held_to_such(tmp_path: Path):
    write_studies(tmp_path)
    for stage in stages():
        found, unseen = taken_by(tmp_path, stage, stage.recipe), held_out(tmp_path, stage, stage.recipe)
        assert {item.pair_id.split("/")[2] for item in (*found.epoch, *unseen)} == {stage.name}
        assert (len(found.pairs), len(found.epoch), found.num_line_pairs, len(unseen)) == (12, 12, 24, 12)


def test_a_stage_without_labels_takes_everything_and_asks_nobody(tmp_path: Path):
    write_studies(tmp_path)
    (tmp_path / REFERENCES).unlink()
    stage = replace(stages()[0], pairs={})
    assert len(taken_by(tmp_path, stage, stage.recipe).epoch) == 24


@pytest.mark.parametrize(("without", "empty"), [("", ()), ("train impression", ("impression",)), ("validation reasoning", ("reasoning",))])
def test_a_stage_without_pairs_is_named_before_any_training(without: str, empty: tuple[str, ...], tmp_path: Path):
    write_studies(tmp_path, without=without)
    outcome = every_stage_has_pairs(stages()).holds(tmp_path)
    assert (outcome.passed, outcome.offenders) == (not empty, empty)


def test_references_that_are_none_are_another_rules_business(tmp_path: Path):
    write_studies(tmp_path)
    table = pq.read_table(tmp_path / REFERENCES)
    pq.write_table(table.append_column("note", table["pair_id"]), tmp_path / REFERENCES)
    outcome = every_stage_has_pairs(stages()).holds(tmp_path)
    assert outcome.passed
    assert outcome.found.startswith("not asked: ")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many conversations were in memory whenever another hundred had been read."""
    found: list[int] = []

    def counted(path: Path) -> Iterator[Conversation]:
        for number, item in enumerate(read_conversations(path)):
            if number % 100 == 0:
                found.append(sum(isinstance(each, Conversation) for each in gc.get_objects()))
            yield item

    monkeypatch.setattr(choice, "read_conversations", counted)
    gc.collect()
    gc.freeze()
    yield found
    gc.unfreeze()


@pytest.mark.parametrize("changes", [
    {}, {"max_training_pairs": 20}, {"pairs_per_dataset": {"cxr": 20}, "mixture_weights": {"cxr": 2.5}}, {"max_training_images": 40},
])  # fmt: skip
def test_however_many_conversations_there_are_few_are_held_to_count_them_and_those_that_are_taken(
    changes: dict[str, object], alive: list[int], tmp_path: Path
):
    """A million of them are several GB, and the rule is judged beside everything else that the graph's process holds."""
    write_studies(tmp_path, num_studies=500)
    both = stages(**changes, max_validation_pairs=20)
    assert every_stage_has_pairs(both).holds(tmp_path).passed
    assert max(alive) < 10
    alive.clear()
    for stage in both:
        most = len(taken_by(tmp_path, stage, stage.recipe).pairs)
    assert len(alive) > 20
    assert max(alive) < 2 * most + 10


def test_a_stage_without_pairs_never_starts(tmp_path: Path):
    write_studies(tmp_path, without="train impression")
    stage, _ = stages()
    with pytest.raises(MedVLError, match="no training pair of any dataset, with stage = impression"):
        require_pairs(taken_by(tmp_path, stage, stage.recipe), tmp_path, stage, stage.recipe)


# -- limits of pictures ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("limits", "num_studies"), [((0, 0), 12), ((7, 0), 3), ((8, 0), 4), ((0, 4), 4), ((6, 4), 3), ((99, 99), 12)])
def test_pictures_are_limited_for_the_training_and_for_each_patient(limits: tuple[int, int], num_studies: int, tmp_path: Path):
    write_studies(tmp_path)
    total, of_group = limits
    both = stages(max_training_images=total, max_images_per_group=of_group)
    shown = [{image for item in taken_by(tmp_path, stage, stage.recipe).pairs for image in item.image_ids} for stage in both]
    assert shown[0] == shown[1]  # the same studies in both stages
    assert len(shown[0]) == 2 * num_studies  # all pictures of a study or none
    if of_group:
        patients = Counter(int(image[5:-1]) % 2 for image in shown[0])
        assert max(patients.values()) <= of_group


def test_the_seed_chooses_the_pictures_and_held_out_ones_are_not_limited(tmp_path: Path):
    write_studies(tmp_path)
    one, other = stages(max_training_images=8)[0], stages(max_training_images=8, seed=8)[0]
    shown = [{item.image_ids for item in taken_by(tmp_path, stage, stage.recipe).pairs} for stage in (one, one, other)]
    assert shown[0] == shown[1] != shown[2]
    assert len(held_out(tmp_path, one, one.recipe)) == 12


def test_one_study_more_moves_at_most_one_other_across_the_limit():
    def kept(num_studies: int) -> set[str]:
        items = [single_turn(f"cxr/{n}/a", image_ids=(f"i{n}",), request="?", response="x") for n in range(num_studies)]
        known = {item.pair_id: reference(item.pair_id, "subject:1", "a") for item in items}
        return {item.pair_id for item in within_image_limits(items, replace(RECIPE, max_training_images=5), known)}

    assert len(kept(20)) == 5
    assert len(kept(20) - kept(21)) <= 1
