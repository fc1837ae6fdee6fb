"""The recipe. If these passed wrongly, a number that cannot be meant would be found out after hours of training, or not at all."""

import dataclasses
from dataclasses import replace

import pytest

from medvl_lib.errors import SettingsError
from medvl_lib.provenance import digest
from medvl_lib.settings import override
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage
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
    # no cases, nothing trained whole, no encoder of its own: what a stage without them is
    assert defaults == ["with_retrieved_cases", "fully_trained", "fully_trained_rate", "model"]


def test_a_recipe_written_in_settings_is_the_same_recipe():
    assert digest(override(RECIPE, {"num_epochs": 1, "weight_decay": 0}, "there")) == digest(RECIPE)
    assert digest(override(RECIPE, {"num_epochs": 2}, "there")) == digest(replace(RECIPE, num_epochs=2.0)) != digest(RECIPE)


def test_a_recipe_in_settings_that_cannot_be_meant_is_refused_in_three_parts():
    with pytest.raises(SettingsError) as refused:
        override(RECIPE, {"lora_rank": 0}, "settings.toml, [lines.documents.recipe]")
    assert (refused.value.found, refused.value.where) == ("lora_rank = 0", "settings.toml, [lines.documents.recipe]")
    assert refused.value.do == "lora_rank = 0 must be positive"
