"""Memory that runs low ends a training before the machine freezes. If these passed wrongly, a run of a day would be lost with the machine,
or a healthy one be stopped.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.hardware import PROFILES
from medvl_lib.training.checkpoints import is_complete
from medvl_lib.training.recipe import Stage
from medvl_lib.training.route import leave_inputs_alone, train
from medvl_lib.training.watchdog import EATEN_SHARE, Watchdog
from tests.torch_fixtures import RECIPE, TINY, Trial

WATCHED = replace(PROFILES["cpu"], memory_budget_bytes=20 * 10**9, memory_margin_share=0.2, training_batch=2)  # below 2 GB it ends


def _train(trial: Trial, folder: Path, name: str, watchdog: Watchdog) -> dict:
    (folder / name).mkdir()
    recipe = replace(RECIPE, max_steps=4, validations_per_epoch=0)
    return train(
        folder / name, stage=Stage(name="adapter", objective="generate", recipe=recipe), spec=TINY, weights=trial.nf4, chat=trial.chat,
        images=trial.images, profile=WATCHED, previous=None, checkpoints=folder / "checkpoints", report=lambda _: None, watchdog=watchdog,
    )  # fmt: skip


class _Sinking(Watchdog):
    """A machine that has less memory at the end of each step: 8, 5, 1 GB."""

    def on_train_begin(self, *_: object, **__: object) -> None:
        self._left: Iterator[float] = iter((8.0, 5.0, 1.0))

    def on_step_end(self, *told: object, **named: object) -> None:
        left = round(next(self._left) * 1e9)
        self._read = lambda: left
        super().on_step_end(*told, **named)


def test_a_training_that_runs_out_of_memory_ends_with_a_checkpoint_and_is_gone_on_with(trial: Trial, tmp_path: Path):
    with pytest.raises(HeavyStepFailed) as stopped:
        _train(trial, tmp_path, "cut", _Sinking(WATCHED))
    assert "1.00 GB of memory were left during step 3 of 4, and 2.00 are to stay free" in stopped.value.found
    assert stopped.value.where == str(tmp_path / "checkpoints")
    for cure in (r"training_batch = 1 \(it was 2\)", "gradient_checkpointing = true", "audit.max_tokens", "model.max_pixels"):
        assert re.search(cure, stopped.value.do)
    assert is_complete(tmp_path / "checkpoints" / "checkpoint-3")
    facts = _train(trial, tmp_path, "resumed", Watchdog(WATCHED, lambda: 10**10))
    assert facts["num_steps"] == 4


def test_a_machine_with_enough_memory_and_a_profile_without_a_margin_are_left_alone():
    control = type("Control", (), {"should_save": False, "should_training_stop": False})()
    for watchdog in (Watchdog(WATCHED, lambda: 2 * 10**9), Watchdog(replace(WATCHED, memory_margin_share=0.0), lambda: 0)):
        watchdog.on_step_end(None, None, control)
        assert (control.should_save, control.should_training_stop, watchdog.found_bytes) == (False, False, None)


def test_the_least_of_a_step_counts_and_not_what_is_left_at_its_end():
    readings = iter((10**9, 9 * 10**9))
    watchdog = Watchdog(WATCHED, lambda: next(readings))
    control = type("Control", (), {"should_save": False, "should_training_stop": False})()
    watchdog._look()  # in the middle of the step
    watchdog.on_step_end(None, None, control)
    assert control.should_training_stop
    assert watchdog.found_bytes == 10**9


def test_a_gpu_that_is_full_is_told_in_three_parts(tmp_path: Path):
    error = Watchdog(WATCHED).told(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), 4, tmp_path)
    assert error.found == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert "training_batch = 2 (it was 4)" in error.do


def test_no_gradient_is_asked_of_a_frozen_tower_with_gradient_checkpointing(trial: Trial):
    from medvl_lib.models.loading import load
    from medvl_lib.training.route import adapt

    model = adapt(load(trial.nf4, TINY, WATCHED), TINY, RECIPE)
    seen: list[bool] = []
    model.get_base_model().model.visual.register_forward_hook(lambda *told: seen.append(told[2].last_hidden_state.requires_grad))
    pixels, grid = torch.zeros(64, 1176), torch.tensor([[1, 8, 8]])
    model.train().activation_checkpointing_enable({"use_reentrant": False})
    model.get_base_model().model.visual(pixels, grid)
    leave_inputs_alone(model)
    model.get_base_model().model.visual(pixels, grid)
    assert seen == [True, False]  # what the libraries do, and what is left of it


def test_a_gpu_with_memory_of_its_own_says_nothing_of_the_systems():
    gpu = replace(PROFILES["cuda"], memory_budget_bytes=80 * 10**9)
    assert Watchdog(gpu, lambda: 16 * 10**9).limit_bytes == 16 * 10**9 * gpu.memory_margin_share * EATEN_SHARE
    shared = replace(PROFILES["gb10"], memory_budget_bytes=100 * 10**9)
    assert Watchdog(shared, lambda: 16 * 10**9).limit_bytes == 100 * 10**9 * shared.memory_margin_share * EATEN_SHARE
