"""The lessons. If these passed wrongly, a lesson would show pages of another one, or the held-out loss would be that of learned pages."""

from dataclasses import replace

import pytest

from medvl_lib.models import shipped
from medvl_lib.pretraining.recipe import CAPTIONS, PRETRAINING, Lesson
from medvl_lib.pretraining.route import VALIDATION_PART, ExampleSet, step_sets, validation_sets
from medvl_lib.sample_data import described_pictures
from medvl_lib.sample_data.reading_pages import LEARNED

RECIPE = PRETRAINING["qwen2_5_vl"]


def test_every_shipped_model_has_a_recipe():
    assert PRETRAINING.keys() | CAPTIONS.keys() == shipped.PINNED.keys()


def test_every_step_reads_pages_that_no_other_step_reads():
    sets = step_sets(RECIPE)
    assert len(sets) == RECIPE.num_steps
    assert [item.first for item in sets[1:]] == [item.first + item.count for item in sets[:-1]]
    assert {item.part for item in sets} == {"pretraining"}


def test_lessons_get_longer_and_end_with_the_whole_distribution():
    longest = [lesson.examples.num_facts[1] for lesson in RECIPE.lessons]
    assert longest == sorted(longest)
    assert RECIPE.lessons[-1].examples == LEARNED


def test_the_held_out_pages_are_of_another_part():
    sets = validation_sets(RECIPE)
    assert sum(item.count for item in sets) == RECIPE.num_validation_examples
    assert {item.part for item in sets} == {VALIDATION_PART} != {RECIPE.part}
    assert {item.examples for item in sets} == {LEARNED}


def test_a_lesson_with_equal_counts_takes_each_number_of_facts_in_turn():
    last = RECIPE.lessons[-1]
    assert last.is_alike_in_a_step
    counts = [item.examples.num_facts for item in step_sets(RECIPE)[-last.num_steps :]]
    assert counts[:9] == [(number, number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 1)]
    assert {replace(item.examples, num_facts=LEARNED.num_facts) for item in step_sets(RECIPE)[-last.num_steps :]} == {LEARNED}


@pytest.mark.parametrize(
    "wrong", [{"lessons": ()}, {"num_cycles": 0}, {"validate_every": 0}, {"learning_rate": 0.0}, {"num_warmup_steps": 10**6}]
)
def test_a_recipe_that_trains_nothing_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match="."):
        replace(RECIPE, **wrong)


def test_a_lesson_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Lesson(num_steps=1, num_examples=0, examples=LEARNED, is_alike_in_a_step=False, is_spelled=True)


def test_the_lessons_of_described_pictures_are_drawn_in_the_same_way():
    recipe = PRETRAINING["mllama"]
    sets = step_sets(recipe)
    assert len(sets) == recipe.num_steps
    assert [item.first for item in sets[1:]] == [item.first + item.count for item in sets[:-1]]
    assert not any(item.is_spelled for item in sets)
    assert {item.examples for item in sets} == {item.examples for item in validation_sets(recipe)} == {described_pictures.LEARNED}
    first, second = ExampleSet(examples=described_pictures.LEARNED, part="test", first=5, count=2, is_spelled=False).draw()
    assert (first.example_id, second.example_id) == ("described_pictures/test/0000005", "described_pictures/test/0000006")
