"""What a stage has to show before the next one. If these passed wrongly, a day would be spent on a stage that learned nothing, or broke the
projector.
"""

import math
from pathlib import Path

import pytest

from medvl_lib.evaluation.handover import HANDOVER_ANSWERS, HandoverAnswer, rules
from medvl_lib.files import write_json
from medvl_lib.tables import write_table
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.recipe import Handover
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.steps import START_LOSS, TRAINING_STEPS, TrainingStep

SOUND = ("Impression: Mild edema.", "Impression: No acute process.", "Impression: Clear lungs.", "Impression: Cardiomegaly.")


def write_stage(
    directory: Path, *, start: float | None = 2.0, losses: tuple[float | None, ...] = (None, 1.9, 1.5, 1.6), said: tuple[str, ...] = SOUND,
    moved: tuple[tuple[str, float, float], ...] = (),
) -> None:  # fmt: skip
    """A stage's directory as far as its handover is judged by it."""
    write_json(directory / SUMMARY, {START_LOSS: start})
    steps = [
        TrainingStep(
            step=number, epoch=1.0, loss=1.0, learning_rate=1e-4, gradient_norm=1.0, num_tokens=1, tokens_per_second=1.0,
            elapsed_seconds=1.0, validation_loss=loss,
        ) for number, loss in enumerate(losses, start=1)
    ]  # fmt: skip
    write_table(directory / TRAINING_STEPS, TrainingStep, steps)
    answers = [HandoverAnswer(pair_id=f"p{number}", answer=text, is_cut=False) for number, text in enumerate(said)]
    write_table(directory / HANDOVER_ANSWERS, HandoverAnswer, answers)
    rows = [MovedTensor(name=name, norm_before=before, norm_of_change=change) for name, before, change in moved]
    write_table(directory / MOVED_TENSORS, MovedTensor, rows)


def failing(directory: Path, handover: Handover | None = None) -> dict[str, str]:
    outcomes = {rule.name: rule.holds(directory) for rule in rules(handover or Handover())}
    return {name: outcome.found for name, outcome in outcomes.items() if not outcome.passed}


def test_a_stage_that_learned_and_answers_may_be_gone_on_from(tmp_path: Path):
    write_stage(tmp_path, moved=(("projector.linear_1.weight", 4.0, 1.0), ("projector.linear_1.bias", 0.0, 0.5)))
    assert failing(tmp_path) == {}


@pytest.mark.parametrize(
    ("start", "losses", "said"),
    [
        (1.5, (None, 1.5), "1.5000 before the first step, 1.5000"), (1.0, (1.1, 1.2), "1.0000 before the first step, 1.1000"),
        (None, (1.0,), "no held-out loss"), (2.0, (None, None), "no held-out loss"), (2.0, (math.nan,), "nan"),
    ],
)  # fmt: skip
def test_a_stage_that_did_not_learn_is_named(start: float | None, losses: tuple[float | None, ...], said: str, tmp_path: Path):
    write_stage(tmp_path, start=start, losses=losses)
    found = failing(tmp_path)
    assert list(found) == ["held_out_loss_fell"]
    assert said in found["held_out_loss_fell"]


@pytest.mark.parametrize(
    "said", [(), ("", "..", *SOUND[:2]), ("no effusion " * 40, "no " * 200, *SOUND[:2]), ("", *["edema " * 90] * 3)]
)  # fmt: skip
def test_answers_that_say_nothing_or_repeat_themselves_are_named(said: tuple[str, ...], tmp_path: Path):
    write_stage(tmp_path, said=said)
    assert list(failing(tmp_path)) == ["answers_are_sound"]


def test_as_many_as_are_allowed_may_be_broken(tmp_path: Path):
    write_stage(tmp_path, said=("", *SOUND[:3]))
    assert failing(tmp_path) == {}
    assert list(failing(tmp_path, Handover(max_degenerate_share=0.2))) == ["answers_are_sound"]


@pytest.mark.parametrize(
    "moved",
    [
        (("projector.linear_1.weight", 4.0, 4.1),), (("projector.linear_1.weight", 4.0, math.nan),),
        (("projector.linear_1.weight", 4.0, math.inf),), (("projector.linear_2.bias", 0.0, 0.1),),
        (("projector.linear_1.weight", 4.0, 0.1), ("projector.linear_2.weight", 4.0, 9.0)),
    ],
)  # fmt: skip
def test_a_projector_that_was_moved_beyond_use_is_named(moved: tuple[tuple[str, float, float], ...], tmp_path: Path):
    write_stage(tmp_path, moved=moved)
    assert list(failing(tmp_path)) == ["full_tensors_are_whole"]


def test_a_stage_that_hands_nothing_over_has_no_further_rule():
    assert rules(None) == ()
