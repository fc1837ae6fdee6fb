"""Handover: what a stage has to show before the next one goes on from it.

In: a trained stage's directory, the weights it stands on, and held-out questions of its own. Out: its answers to them beside the adapter,
and the rules that judge both. A stage that did not learn, that moved the projector beyond use, or that says nothing costs a day when the
next one starts from it. Whether its answers are any good is not asked: the gate of the whole line does that.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from medvl_lib.evaluation.prediction_rules import repeats_itself
from medvl_lib.evaluation.spec import EvaluationSpec, first_asked
from medvl_lib.files import read_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import Column, read_table, write_table
from medvl_lib.training.choice import held_out
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.recipe import Handover, Recipe, Stage
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.steps import START_LOSS, TRAINING_STEPS, TrainingStep

REVISION = 1  # first version
HANDOVER_ANSWERS = "handover_answers.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverAnswer:
    """What a stage's adapter said to one held-out question of its own."""

    pair_id: Annotated[str, Column("the pair")]
    answer: Annotated[str, Column("the text that came out, special tokens removed")]
    is_cut: Annotated[bool, Column("whether it reached the token limit without an end token")]


def write_answers(
    directory: Path, *, stage: Stage, spec: ModelSpec, weights: Path, chat: Path, images: ImageStore, profile: Profile
) -> dict[str, Fact]:
    """Load the adapter in ``directory`` as the next stage will, let it answer, and write what it said."""
    from medvl_lib.evaluation.answering import Speaker
    from medvl_lib.models.loading import attach, give_memory_back, load

    if stage.handover is None or not isinstance(stage.recipe, Recipe):
        raise TypeError(f"{stage.name} hands nothing over")
    give_memory_back(profile)  # what trained
    evaluation = _asked(stage.handover, stage.recipe.seed)
    asked = first_asked(held_out(chat, stage, stage.recipe), evaluation, lambda item: item.pair_id)
    loaded = attach(load(weights, spec, profile), {stage.name: directory})
    speaker = Speaker(
        variant="adapter", condition="as_is", loaded=loaded, evaluation=evaluation, images=images, profile=profile, adapter=stage.name
    )
    said = [
        HandoverAnswer(pair_id=row.pair_id, answer=row.answer, is_cut=row.is_cut)
        for place in range(0, len(asked), profile.prediction_batch)
        for row in speaker.answer(asked[place : place + profile.prediction_batch], place)
    ]
    write_table(directory / HANDOVER_ANSWERS, HandoverAnswer, said)
    return {"num_handover_answers": len(said)}


def _asked(handover: Handover, seed: int) -> EvaluationSpec:
    return EvaluationSpec(
        splits=("test",), max_pairs_per_dataset=handover.num_answers, max_answer_tokens=handover.max_answer_tokens, controls=(), seed=seed,
        datasets=(), further_variants=(),
    )  # fmt: skip


def held_out_loss_fell(directory: Path) -> Outcome:
    """The lowest held-out loss of the stage is below that of the weights that it went on from."""
    summary: Mapping[str, float | None] = read_json(directory / SUMMARY)
    start = summary.get(START_LOSS)
    steps = read_table(directory / TRAINING_STEPS, TrainingStep)
    measured = [step.validation_loss for step in steps if step.validation_loss is not None]
    if start is None or not measured:
        found = "no held-out loss was measured: give the stage validation pairs, and its recipe validations_per_epoch above 0"
        return Outcome(passed=False, found=found)
    lowest = min(measured)
    return Outcome(passed=lowest < start, found=f"held-out loss {start:.4f} before the first step, {lowest:.4f} at its lowest")


def answers_are_sound(handover: Handover, directory: Path) -> Outcome:
    """Few of the answers to held-out questions say nothing, or repeat themselves to the end; and there are answers."""
    said = list(read_table(directory / HANDOVER_ANSWERS, HandoverAnswer))
    broken = [row.pair_id for row in said if not any(map(str.isalnum, row.answer)) or repeats_itself(row.answer)]
    share = len(broken) / max(1, len(said))
    found = f"{len(broken)} of {len(said)} answers say nothing or repeat themselves; at most {handover.max_degenerate_share:.0%} may"
    return Outcome(passed=bool(said) and share <= handover.max_degenerate_share, found=found, offenders=tuple(broken[:10]))


def full_tensors_are_whole(handover: Handover, directory: Path) -> Outcome:
    """What is trained in full (a projector) is finite, and no linear of it has moved further than its bound; a frozen one passes.

    A linear is its weight and its bias together: a bias that began at zero has moved by more than its norm with the first step.
    """
    rows = list(read_table(directory / MOVED_TENSORS, MovedTensor))
    before, change = dict[str, float](), dict[str, float]()
    for row in rows:
        module = row.name.rpartition(".")[0]
        before[module] = math.hypot(before.get(module, 0.0), row.norm_before)
        change[module] = math.hypot(change.get(module, 0.0), row.norm_of_change)
    most = handover.max_relative_change
    astray = [name for name in before if not change[name] <= most * before[name]]  # nor where it is no number
    furthest = max((change[name] / before[name] for name in before if before[name]), default=0.0)
    found = f"{len(rows)} tensors are trained in full; a linear moved by {furthest:.0%} of its norm at most, {most:.0%} are allowed"
    return Outcome(passed=not astray, found=found, offenders=tuple(astray[:10]))


def rules(handover: Handover | None) -> tuple[Rule, ...]:
    """What must be true of a stage that hands over; nothing more than of every other where it does not."""
    if handover is None:
        return ()
    return (
        Rule(
            name="held_out_loss_fell", sentence="The held-out loss is lower than that of the weights that the stage went on from.",
            holds=held_out_loss_fell,
        ),
        Rule(
            name="answers_are_sound", sentence="Few answers to held-out questions say nothing or repeat themselves.",
            holds=partial(answers_are_sound, handover), literals=(handover.max_degenerate_share,),
        ),
        Rule(
            name="full_tensors_are_whole", sentence="What is trained in full is finite, and near enough to what it was.",
            holds=partial(full_tensors_are_whole, handover), literals=(handover.max_relative_change,),
        ),
    )  # fmt: skip
