"""The plans of a whole line: each stage that is trained, and its predictions.

In: a line, a profile, and perhaps other sizes than the line's own limits. Out: an ``Outlook`` for each step, one that does not fit
included: here the question is what fits, and nothing is refused.
"""

from collections.abc import Iterator

from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.models.spec import ModelSpec
from medvl_lib.plan.memory import Length, Plan, Planner, micro_batches, plan_predictions
from medvl_lib.plan.wording import Outlook
from medvl_lib.training.recipe import MatchRecipe, Stage

MOST_AT_A_TIME = 16  # pairs that are tried beside the profile's own number


def outlooks(
    line: Line, profile: Profile, *, num_tokens: int | None = None, num_pixels: int | None = None, num_pairs: int | None = None,
    room: float | None = None,
) -> Iterator[Outlook]:  # fmt: skip
    """Every heavy step of a line; without other numbers the longest conversation and the largest picture that the line lets through.

    ``room``: of another machine, in bytes; without it what this one grants and has.
    """
    for stage in line.stages:
        spec = line.model if stage.model is None else stage.model
        yield _of_stage(stage, spec, profile, length_of(line, spec, num_tokens, num_pixels), num_pairs, room)
    length = length_of(line, line.model, num_tokens, num_pixels)
    yield Outlook(_most_that_fits(line, profile, length, room), (), None)


def length_of(line: Line, spec: ModelSpec, num_tokens: int | None, num_pixels: int | None) -> Length:
    """The longest conversation and the largest picture that a line lets through, or as they were asked for."""
    pixels = spec.max_pixels if num_pixels is None else min(num_pixels, spec.max_pixels)
    return Length(line.audit.max_tokens if num_tokens is None else num_tokens, 1, pixels)


def _of_stage(stage: Stage, spec: ModelSpec, profile: Profile, length: Length, num_pairs: int | None, room: float | None) -> Outlook:
    from medvl_lib.training.work import pace

    planner, recipe = Planner(stage, spec, profile, length, room=room), stage.recipe
    most = profile.training_batch if isinstance(recipe, MatchRecipe) else max(profile.training_batch, MOST_AT_A_TIME)
    tried: list[Plan] = []
    for plan in planner.plans(list(reversed(micro_batches(planner.share, most)))):
        tried.append(plan)
        if not tried[-1].fits:  # more at a time never take less
            break
    allowed = [plan for plan in tried if plan.fits and plan.micro_batch <= profile.training_batch]
    chosen = allowed[-1] if allowed else tried[0]
    pairs = num_pairs or recipe.max_training_pairs or sum(recipe.pairs_per_dataset.values()) or None
    is_known = pairs is not None or recipe.max_steps
    return Outlook(chosen, [plan for plan in tried if plan is not chosen], pace(recipe, pairs or 1).num_steps if is_known else None)


def _most_that_fits(line: Line, profile: Profile, length: Length, room: float | None) -> Plan:
    batch = profile.prediction_batch
    while True:
        plan = plan_predictions(line.evaluation, line.model, profile, length, batch, room=room)
        if plan.fits or batch == 1:
            return plan
        batch //= 2
