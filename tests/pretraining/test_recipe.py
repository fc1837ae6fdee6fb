"""The lessons. If these passed wrongly, a lesson would show pages of another one, or the held-out loss would be that of learned pages."""

from medvl_lib.models import shipped
from medvl_lib.pretraining.recipe import PRETRAINING
from medvl_lib.pretraining.route import VALIDATION_PART, step_sets, validation_sets
from medvl_lib.sample_data.reading_pages import LEARNED

RECIPE = PRETRAINING["qwen2_5_vl"]


def test_every_shipped_model_has_a_recipe():
    assert PRETRAINING.keys() == shipped.PINNED.keys()


def test_every_step_reads_pages_that_no_other_step_reads():
    sets = step_sets(RECIPE)
    assert len(sets) == RECIPE.num_steps
    assert [item.first for item in sets[1:]] == [item.first + item.count for item in sets[:-1]]
    assert {item.part for item in sets} == {"pretraining"}


def test_lessons_get_longer_and_end_with_the_whole_distribution():
    longest = [lesson.pages.num_facts[1] for lesson in RECIPE.lessons]
    assert longest == sorted(longest)
    assert RECIPE.lessons[-1].pages == LEARNED


def test_the_held_out_pages_are_of_another_part():
    sets = validation_sets(RECIPE)
    assert sum(item.count for item in sets) == RECIPE.num_validation_pages
    assert {item.part for item in sets} == {VALIDATION_PART} != {RECIPE.pages_part}
    assert {item.pages for item in sets} == {LEARNED}
