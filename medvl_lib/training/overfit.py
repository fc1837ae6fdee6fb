"""Overfit: a rehearsal before a long run. Can this model, with this data on this machine, learn a few pairs by heart?

In: a stage of a line, with its own model, prompts, profile and learning rate. Out: the stage that is rehearsed (32 of its pairs, twenty
times), and the rules of what it must leave behind. A label mask that hides the answer, frozen weights or a learning rate that does nothing
show here before the long run. Pictures do not: 32 answers can be told apart without them (that is ``answers_use_the_image``'s business, and
the control's). What comes of it is never served and nothing reads it.
"""

from dataclasses import replace
from pathlib import Path

from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table
from medvl_lib.training import rules
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

REVISION = 1  # first version
OVERFIT = "overfit"
NUM_PAIRS = 32
NUM_EPOCHS = 20
EFFECTIVE_BATCH = 8
LARGEST_SHARE = 0.2  # of the first epoch's loss that may be left in the last: who learns by heart leaves less


def overfit_stage(stage: Stage) -> Stage:
    """The same training on 32 of its own pairs, without dropout, similar cases before a question, a held-out loss and a next stage."""
    recipe = replace(stage.recipe, with_retrieved_cases=False) if isinstance(stage.recipe, Recipe) else stage.recipe
    return Stage(name=OVERFIT, objective=stage.objective, pairs=stage.pairs, recipe=replace(
        recipe, num_epochs=NUM_EPOCHS, max_steps=0, effective_batch=EFFECTIVE_BATCH, lora_dropout=0.0,
        max_training_pairs=NUM_PAIRS, max_validation_pairs=0, validations_per_epoch=0,
    ))  # fmt: skip


def pairs_were_learned(directory: Path) -> Outcome:
    """The mean loss of the last epoch is at most a fifth of the first epoch's."""
    steps = list(read_table(directory / TRAINING_STEPS, TrainingStep))
    per_epoch = max(1, len(steps) // NUM_EPOCHS)
    first, last = (sum(step.loss for step in part) / per_epoch for part in (steps[:per_epoch], steps[-per_epoch:]))
    return Outcome(
        passed=last <= LARGEST_SHARE * first,
        found=f"mean loss {first:.4f} in the first epoch, {last:.4f} in the last: {last / first if first else 0.0:.0%} of it, at most "
        f"{LARGEST_SHARE:.0%} shows that pairs can be learned by heart"
        + ("" if last <= LARGEST_SHARE * first else "; look at the audit's examples, raise the learning rate or the rank, and try again"),
    )  # fmt: skip


RULES = (
    *(rule for rule in rules.RULES if rule.name != "loss_fell"),
    Rule(
        name="pairs_were_learned", sentence="A few pairs were learned by heart: the loss fell to a fifth.", holds=pairs_were_learned,
        literals=(LARGEST_SHARE,),
    ),
)  # fmt: skip
