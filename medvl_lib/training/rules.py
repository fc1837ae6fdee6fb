"""What must be true of a trained adapter, read from its files alone. No torch here.

In: an adapter's directory. Out: verdicts.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvl_lib.files import read_json
from medvl_lib.models.spec import LANGUAGE, LORA_TENSOR, is_whole
from medvl_lib.models.weights import header
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

ADAPTER = "adapter_model.safetensors"
SUMMARY = "training.json"
FULLY_TRAINED = "fully_trained"  # in the summary


def _losses(directory: Path) -> list[float]:
    return [step.loss for step in read_table(directory / TRAINING_STEPS, TrainingStep)]


def every_step_was_done_once(directory: Path) -> Outcome:
    """The steps are 1, 2, ... up to the planned number: none repeated by a resume, none missing."""
    steps = [step.step for step in read_table(directory / TRAINING_STEPS, TrainingStep)]
    planned = int(read_json(directory / SUMMARY)["num_planned_steps"])
    return Outcome(passed=steps == list(range(1, planned + 1)), found=f"{len(steps)} steps recorded of {planned} planned")


def loss_is_finite(directory: Path) -> Outcome:
    """No step's loss is infinite or not a number."""
    broken = [str(index) for index, loss in enumerate(_losses(directory), 1) if not math.isfinite(loss)]
    return Outcome(passed=not broken, found=f"{len(broken)} steps without a finite loss", offenders=tuple(broken[:10]))


def loss_fell(directory: Path) -> Outcome:
    """The mean loss of the last quarter of the steps is below that of the first."""
    losses = _losses(directory)
    quarter = max(1, len(losses) // 4)
    first, last = sum(losses[:quarter]) / quarter, sum(losses[-quarter:]) / quarter
    return Outcome(passed=last < first, found=f"mean loss {first:.4f} in the first {quarter} steps, {last:.4f} in the last {quarter}")


def the_best_step_was_kept(directory: Path) -> Outcome:
    """The adapter is that of the lowest held-out loss, the first of equals; the last one where none was measured."""
    steps = list(read_table(directory / TRAINING_STEPS, TrainingStep))
    measured = [step for step in steps if step.validation_loss is not None and math.isfinite(step.validation_loss)]
    best = min(measured, key=lambda step: step.validation_loss or 0.0, default=None)
    summary = read_json(directory / SUMMARY)
    kept, last = int(summary["kept_step"]), (int(summary["num_planned_steps"]), steps[-1].step)  # another rule compares them
    wanted = last if best is None else (best.step,)
    loss = (
        "no held-out loss was measured" if best is None else f"the lowest of {len(measured)} held-out losses is {best.validation_loss:.4f}"
    )
    return Outcome(passed=kept in wanted, found=f"step {kept} was kept, step {wanted[0]} should be: {loss}")


def only_intended_weights_changed(directory: Path) -> Outcome:
    """Every tensor that was frozen before training was so afterwards, byte for byte the same."""
    rows = list(read_table(directory / FROZEN_TENSORS, FrozenTensor))
    changed = tuple(row.name for row in rows if row.sha256_before != row.sha256_after)
    return Outcome(passed=bool(rows) and not changed, found=f"{len(rows)} frozen tensors, {len(changed)} changed", offenders=changed[:10])


def only_language_layers_are_adapted(directory: Path) -> Outcome:
    """Every tensor of the adapter is a low-rank update of a linear of the language model that the recipe names, or belongs to a module that
    the recipe trains whole; none of these modules is absent.
    """
    summary = read_json(directory / SUMMARY)
    targets, whole = re.compile(summary["lora_targets"]), trained_whole(summary)
    try:
        names = list(header(directory / ADAPTER))
    except (ValueError, KeyError) as error:
        return Outcome(passed=False, found=f"{ADAPTER} cannot be read: {error}", offenders=(ADAPTER,))
    updates = [name for name in names if not is_whole(name, whole)]
    matches = [LORA_TENSOR.fullmatch(name) for name in updates]
    astray = [
        name
        for name, match in zip(updates, matches, strict=True)
        if match is None or not match["module"].startswith(LANGUAGE) or not targets.fullmatch(match["module"])
    ]
    absent = [module for module in whole if not any(is_whole(name, [module]) for name in names)]
    told = f", {len(names) - len(updates)} of modules trained whole, {len(absent)} of which are absent" if whole else ""
    return Outcome(
        passed=bool(updates) and not astray and not absent, found=f"{len(names)} tensors, {len(astray)} astray{told}",
        offenders=tuple([*absent, *astray][:10]),
    )  # fmt: skip


def trained_whole(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that a recipe trains whole: the summary names them where there are any."""
    return tuple(summary[FULLY_TRAINED]) if FULLY_TRAINED in summary else ()


RULES = (
    Rule(name="every_step_was_done_once", sentence="Every planned step was done, and once.", holds=every_step_was_done_once),
    Rule(name="loss_is_finite", sentence="No step's loss is infinite or not a number.", holds=loss_is_finite),
    Rule(name="loss_fell", sentence="The loss is lower at the end than at the start.", holds=loss_fell),
    Rule(name="the_best_step_was_kept", sentence="The adapter is that of the lowest held-out loss.", holds=the_best_step_was_kept),
    Rule(
        name="only_intended_weights_changed", sentence="No frozen tensor changed in training.", holds=only_intended_weights_changed,
    ),
    Rule(
        name="only_language_layers_are_adapted", sentence="Only the linears that the recipe names are adapted.",
        holds=only_language_layers_are_adapted,
    ),
)  # fmt: skip
