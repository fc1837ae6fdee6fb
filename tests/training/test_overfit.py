"""The rehearsal. If these passed wrongly, a run of a day could be started with labels that hide the answer."""

from pathlib import Path

import pytest

from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.tables import write_table
from medvl_lib.training.overfit import NUM_EPOCHS, OVERFIT, RULES, overfit_stage, pairs_were_learned
from medvl_lib.training.rules import RULES as TRAINING_RULES
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep


def write_losses(directory: Path, first: float, last: float) -> None:
    """Four steps an epoch; the loss is ``last`` in the last epoch and ``first`` in all before."""
    rows = [
        TrainingStep(
            step=step, epoch=step / 4, loss=first if step <= 4 * (NUM_EPOCHS - 1) else last, learning_rate=1e-4, gradient_norm=1.0,
            num_tokens=1, tokens_per_second=1.0, elapsed_seconds=1.0, validation_loss=None,
        ) for step in range(1, 4 * NUM_EPOCHS + 1)
    ]  # fmt: skip
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)


@pytest.mark.parametrize("line", [DOCUMENTS, tiny(DOCUMENTS)])
def test_what_is_rehearsed_is_the_line_s_own_training_on_few_pairs(line):
    stage = overfit_stage(line.stages[0])
    assert (stage.name, stage.objective) == (OVERFIT, "generate")
    recipe, own = stage.recipe, line.stages[0].recipe
    assert (recipe.max_training_pairs, recipe.num_epochs, recipe.max_steps, recipe.lora_dropout) == (32, 20, 0, 0.0)
    same = ("learning_rate", "lora_rank", "lora_alpha", "lora_targets", "seed", "pairs_per_dataset", "max_gradient_norm", "warmup_share")
    assert all(getattr(recipe, name) == getattr(own, name) for name in same)


@pytest.mark.parametrize(("last", "passed"), [(0.4, True), (0.41, False), (2.0, False)])
def test_the_last_epoch_is_held_against_the_first(last: float, passed: bool, tmp_path: Path):
    write_losses(tmp_path, 2.0, last)
    outcome = pairs_were_learned(tmp_path)
    assert outcome.passed is passed
    assert f"{last:.4f} in the last" in outcome.found


def test_its_rules_are_those_of_training_with_a_sharper_one():
    assert [rule.name for rule in RULES] == [rule.name for rule in TRAINING_RULES if rule.name != "loss_fell"] + ["pairs_were_learned"]
