"""What an objective is given, and what it makes of it: a trainer that is ready, and how its weights are put back and saved.

In: nothing. Out: ``Material`` and ``Work``, and what the trainers of all objectives have in common. An objective's own loss, batches and
model stand with it (``route`` for answers, ``matching`` for pictures and texts); who walks them all alike is ``route.train``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import Trainer

from medvl_lib.hardware import Profile, torch_device
from medvl_lib.images import ImageStore
from medvl_lib.models.spec import ModelSpec
from medvl_lib.progress import Report
from medvl_lib.provenance import Fact
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage
from medvl_lib.training.recorder import Recorder

CHECKPOINTS_PER_RUN = 8  # about every eighth of a run is repeated at worst after a kill; operational, not identity

HALF = 0.5 + 1e-9  # 0.35 x 90 is 31.499999999999996


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a training has to work with."""

    stage: Stage
    spec: ModelSpec
    weights: Path
    chat: Path
    images: ImageStore
    profile: Profile
    previous: Path | None
    """The adapter of the stage before, which this one goes on training."""
    checkpoints: Path
    report: Report
    cases: Path | None = None
    """The similar cases of each question, where the recipe puts any before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A training that can begin."""

    trainer: Trainer
    recorder: Recorder
    counts: Mapping[str, Fact]
    """What it is trained on."""
    put_back: Callable[[Trainer, Path], bool]
    """Reads the trained weights of a whole checkpoint into the model; False where they are not those of this model."""
    save: Callable[[Path, Mapping[str, Fact]], dict[str, Fact]]
    """Writes what was trained into a directory, with facts that are known by then."""


class Pace(NamedTuple):
    """How many steps, and after how many the held-out loss is measured (0: never)."""

    num_steps: int
    validate_every: int


def pace(recipe: Recipe | MatchRecipe, num_pairs: int, *, share: float = 1.0, before: float = 0.0, num_line_pairs: int = 0) -> Pace:
    """The steps of a recipe over an epoch of so many pairs: cadences are shares of an epoch, so that they fire in the shortest one.

    A stage with a ``share`` has that part of the steps that the recipe has over all ``num_line_pairs`` of the line, from the part
    ``before`` it: both ends to the nearest whole step, so that the stages' steps are the line's.
    """
    steps_per_epoch = max(1, math.ceil(num_pairs / recipe.effective_batch))
    line_steps_per_epoch = max(1, math.ceil((num_line_pairs or num_pairs) / recipe.effective_batch))
    total = recipe.max_steps or max(1, math.ceil(line_steps_per_epoch * recipe.num_epochs))
    return Pace(
        num_steps=max(1, math.floor(total * (before + share) + HALF) - math.floor(total * before + HALF)),
        validate_every=max(1, steps_per_epoch // recipe.validations_per_epoch) if recipe.validations_per_epoch else 0,
    )


def shared_arguments(profile: Profile, output: Path, seed: int) -> dict[str, Any]:
    """What every training has in common: AdamW, rows left to our collator, old checkpoints to the recorder."""
    return {
        "output_dir": str(output), "seed": seed, "data_seed": seed, "full_determinism": False,
        "optim": "adamw_torch", "adam_beta1": 0.9, "adam_epsilon": 1e-8,
        "tf32": None,  # off since the weights were loaded (models.probes)
        "use_cpu": torch_device(profile) == "cpu",
        # nothing is forked beside another engine, whose threads and GPU would come along
        "dataloader_num_workers": profile.num_workers if profile.engine == "torch" else 0, "dataloader_pin_memory": profile.pin_memory,
        "ddp_find_unused_parameters": True,  # a conversation without a picture uses no projector: alone that is no error either
        "remove_unused_columns": False, "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "logging_first_step": True,
        "save_strategy": "steps", "save_total_limit": None,  # the recorder removes old ones
    }  # fmt: skip
