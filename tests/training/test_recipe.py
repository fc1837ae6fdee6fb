"""The recipe. If these passed wrongly, a number that cannot be meant would be found out after hours of training, or not at all."""

import dataclasses
import re
from dataclasses import replace

import pytest

from medvl_lib.errors import SettingsError
from medvl_lib.overrides import override
from medvl_lib.provenance import digest
from medvl_lib.training.recipe import Handover, MatchRecipe, Recipe, Stage
from medvl_lib.training.work import pace
from tests.torch_fixtures import RECIPE


@pytest.mark.parametrize("name", ["learning_rate", "num_epochs", "effective_batch", "max_gradient_norm", "lora_rank", "lora_alpha"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_that_must_be_positive_is_quoted_when_it_is_not(name: str, value: int):
    with pytest.raises(ValueError, match=f"{name} = {value} must be positive"):
        replace(RECIPE, **{name: value})


@pytest.mark.parametrize("share", [-0.1, 1.0, 3])
def test_a_warm_up_must_end_before_training_does(share: float):
    with pytest.raises(ValueError, match="warmup_share"):
        replace(RECIPE, warmup_share=share)
    assert replace(RECIPE, warmup_share=0.0).warmup_share == 0


@pytest.mark.parametrize(
    "name", ["max_steps", "weight_decay", "seed", "max_training_pairs", "max_validation_pairs", "validations_per_epoch"]
)
def test_a_number_that_may_be_zero_is_quoted_when_it_is_negative(name: str):
    with pytest.raises(ValueError, match=f"{name} = -1 must be 0 or more"):
        replace(RECIPE, **{name: -1})
    assert getattr(replace(RECIPE, **{name: 0}), name) == 0


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_drops_everything_is_refused(share: float):
    with pytest.raises(ValueError, match=f"lora_dropout = {share}"):
        replace(RECIPE, lora_dropout=share)


@pytest.mark.parametrize(("targets", "said"), [("", "matches nothing"), ("model.(q|v", "is no regular expression: missing ")])
def test_targets_that_match_nothing_are_refused(targets: str, said: str):
    with pytest.raises(ValueError, match="lora_targets = ") as refused:
        replace(RECIPE, lora_targets=targets)
    assert said in str(refused.value)


def test_every_number_is_written_down_by_whoever_decides_it():
    defaults = [
        field.name
        for model in (Recipe, MatchRecipe, Stage) for field in dataclasses.fields(model) if field.default is not dataclasses.MISSING
    ]  # fmt: skip
    assert defaults == [  # no number that says more than: none, all, or no limit
        "with_retrieved_cases", "max_training_images", "max_images_per_group", "fully_trained", "fully_trained_rate", "model",
        "share_of_steps", "share_before", "handover",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["max_training_images", "max_images_per_group"])
def test_a_limit_of_pictures_is_none_or_a_number(name: str):
    with pytest.raises(ValueError, match=f"{name} = -1 must be 0 or more"):
        replace(RECIPE, **{name: -1})


def test_what_a_recipe_does_not_say_is_no_part_of_its_identity():
    assert not {"max_training_images", "fully_trained"} & RECIPE.identity.keys()
    assert replace(RECIPE, max_training_images=9).identity == {**RECIPE.identity, "max_training_images": 9}


# -- stages that share a line ------------------------------------------------------------------------------------------
STAGE = Stage(name="adapter", objective="generate", recipe=RECIPE)


def test_a_stage_of_its_own_has_the_identity_that_it_had():
    assert STAGE.identity == {"type": "Stage", "name": "adapter", "objective": "generate", "recipe": RECIPE.identity}
    assert replace(STAGE, pairs={"stage": "impression"}).identity["pairs"] == {"stage": "impression"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": {"stages": "a"}}, "by ['stages'], which is no label of pairs: name some of document_type"),
        ({"share_of_steps": 0.0}, "share_of_steps = 0.0 of the stage 'adapter' must be above 0 and at most 1"),
        ({"share_of_steps": 1.5}, "share_of_steps = 1.5"),
        ({"share_of_steps": 0.5, "share_before": 0.6}, "share_before = 0.6 of the stage 'adapter' and its own 0.5 are more than 1"),
    ],
)
def test_a_stage_that_cannot_be_meant_is_refused(changes: dict[str, object], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        replace(STAGE, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_answers": 0}, "num_answers = 0 must be positive"), ({"max_answer_tokens": -1}, "max_answer_tokens = -1"),
        ({"max_relative_change": 0.0}, "max_relative_change = 0.0"), ({"max_degenerate_share": 1.0}, "max_degenerate_share = 1.0"),
    ],
)  # fmt: skip
def test_a_handover_that_asks_nothing_is_refused(changes: dict[str, float], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        Handover(**changes)


@pytest.mark.parametrize(
    ("num_pairs", "num_line_pairs", "share", "steps"),
    [
        (100, 0, 1.0, 75),  # ceil(100 / 4) x 3
        (40, 100, 0.35, 26),  # 26.25 of 75
        (1, 100, 0.35, 26),  # not of its own pairs, but of the line's
        (1, 1, 0.01, 1),
    ],
)  # fmt: skip
def test_a_stage_has_its_share_of_the_steps_over_all_pairs_of_the_line(num_pairs: int, num_line_pairs: int, share: float, steps: int):
    recipe = replace(RECIPE, max_steps=0, num_epochs=3, effective_batch=4)
    assert pace(recipe, num_pairs, share=share, num_line_pairs=num_line_pairs).num_steps == steps
    assert pace(replace(recipe, max_steps=20), num_pairs, share=share, num_line_pairs=num_line_pairs).num_steps == max(1, round(20 * share))


def test_the_two_shares_of_the_curriculum_are_all_steps_of_the_line():
    recipe = replace(RECIPE, max_steps=0, num_epochs=1, effective_batch=1)
    for total in range(2, 3000):
        first, second = (
            pace(recipe, 1, share=share, before=before, num_line_pairs=total).num_steps for share, before in ((0.35, 0.0), (0.65, 0.35))
        )
        assert first + second == total
        assert abs(first - 0.35 * total) <= 0.5 + 1e-6 or first == 1


def test_a_recipe_written_in_settings_is_the_same_recipe():
    assert digest(override(RECIPE, {"num_epochs": 1, "weight_decay": 0}, "there")) == digest(RECIPE)
    assert digest(override(RECIPE, {"num_epochs": 2}, "there")) == digest(replace(RECIPE, num_epochs=2.0)) != digest(RECIPE)


def test_a_recipe_in_settings_that_cannot_be_meant_is_refused_in_three_parts():
    with pytest.raises(SettingsError) as refused:
        override(RECIPE, {"lora_rank": 0}, "settings.toml, [lines.documents.recipe]")
    assert (refused.value.found, refused.value.where) == ("lora_rank = 0", "settings.toml, [lines.documents.recipe]")
    assert refused.value.do == "lora_rank = 0 must be positive"
