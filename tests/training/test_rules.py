"""What must be true of an adapter. If these passed wrongly, a run that repeated steps, diverged, learned nothing or touched the vision
tower would be evaluated and could be promoted.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from medvl_lib.files import write_json
from medvl_lib.models.spec import LANGUAGE_TARGETS
from medvl_lib.tables import read_table, write_table
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor
from medvl_lib.training.rules import ADAPTER, RULES, SUMMARY
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from tests.broken import offenders

LOSSES = (4.0, 3.9, 3.5, 3.0, 2.5, 2.0, 1.9, 1.8)
LANGUAGE = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
VISION = "base_model.model.model.visual.blocks.0.mlp.gate_proj.lora_A.weight"
HEAD = "base_model.model.lm_head.weight"


def write_steps(directory: Path, losses: Sequence[float], numbers: Sequence[int] | None = None):
    rows = [
        TrainingStep(
            step=number, epoch=number / len(losses), loss=loss, learning_rate=1e-4, gradient_norm=None, num_tokens=10,
            tokens_per_second=5.0, elapsed_seconds=2.0 * number, validation_loss=None,
        ) for number, loss in zip(numbers or range(1, len(losses) + 1), losses, strict=True)
    ]  # fmt: skip
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)


def write_validated_steps(directory: Path, validation_losses: Mapping[int, float]) -> None:
    """The eight steps, with held-out losses after some of them."""
    rows = [
        replace(row, validation_loss=validation_losses.get(row.step)) for row in read_table(directory / TRAINING_STEPS, TrainingStep)
    ]  # fmt: skip
    write_table(directory / TRAINING_STEPS, TrainingStep, rows)


def write_frozen(directory: Path, **hashes: tuple[str | None, str | None]) -> None:
    """Frozen tensors with their hashes before and after."""
    rows = [FrozenTensor(name=name, sha256_before=before, sha256_after=after) for name, (before, after) in hashes.items()]
    write_table(directory / FROZEN_TENSORS, FrozenTensor, rows)


def write_adapter(directory: Path, *names: str):
    """A safetensors file with one float32 value under each name."""
    entries = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    (directory / ADAPTER).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * len(names)))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    write_json(tmp_path / SUMMARY, {"num_planned_steps": 8, "kept_step": 8, "lora_targets": LANGUAGE_TARGETS})
    write_steps(tmp_path, LOSSES)
    write_frozen(tmp_path, norm=("a1", "a1"), head=("b2", "b2"))
    write_adapter(tmp_path, LANGUAGE, LANGUAGE.replace("lora_A", "lora_B"))
    return tmp_path


failing = partial(offenders, RULES)


def cut_the_adapter(directory: Path):
    (directory / ADAPTER).write_bytes((directory / ADAPTER).read_bytes()[:-2])


@pytest.mark.parametrize(
    ("damage", "breaks"),
    [
        (lambda d: write_steps(d, LOSSES[:-1]), {"every_step_was_done_once": ()}),
        (lambda d: write_steps(d, LOSSES, [1, 2, 3, 3, 4, 5, 6, 7]), {"every_step_was_done_once": ()}),
        (lambda d: write_steps(d, LOSSES, [1, 2, 3, 5, 4, 6, 7, 8]), {"every_step_was_done_once": ()}),
        (lambda d: write_steps(d, [*LOSSES, 1.7]), {"every_step_was_done_once": ()}),
        (lambda d: write_steps(d, (*LOSSES[:3], math.nan, *LOSSES[4:])), {"loss_is_finite": ("4",)}),
        (lambda d: write_steps(d, (*LOSSES[:3], math.inf, -math.inf, *LOSSES[5:])), {"loss_is_finite": ("4", "5")}),
        (lambda d: write_steps(d, LOSSES[::-1]), {"loss_fell": ()}),
        (lambda d: write_steps(d, [2.0] * 8), {"loss_fell": ()}),
        (lambda d: write_adapter(d, LANGUAGE, VISION), {"only_language_layers_are_adapted": (VISION,)}),
        (lambda d: write_adapter(d, LANGUAGE, HEAD), {"only_language_layers_are_adapted": (HEAD,)}),
        (lambda d: write_validated_steps(d, {4: 0.9, 6: 0.7, 8: 0.8}), {"the_best_step_was_kept": ()}),
        (lambda d: write_validated_steps(d, {4: 0.8, 8: 0.8}), {"the_best_step_was_kept": ()}),  # the first of equals
        (lambda d: write_frozen(d, norm=("a1", "a1"), head=("b2", "c3")), {"only_intended_weights_changed": ("head",)}),
        (lambda d: write_frozen(d, norm=("a1", "a1"), head=("b2", None)), {"only_intended_weights_changed": ("head",)}),
        (write_frozen, {"only_intended_weights_changed": ()}),
        (write_adapter, {"only_language_layers_are_adapted": ()}),
        (cut_the_adapter, {"only_language_layers_are_adapted": (ADAPTER,)}),
    ],
)
def test_damage_breaks_exactly_its_rule(sound: Path, damage: Callable[[Path], None], breaks: dict[str, tuple[str, ...]]):
    assert failing(sound) == {}
    damage(sound)
    assert failing(sound) == breaks


@pytest.mark.parametrize("validation_losses", [{4: 0.9, 8: 0.8}, {4: math.nan, 8: 0.8}, {4: math.nan}, {}])
def test_the_last_step_is_kept_where_it_is_the_best_and_where_nothing_was_measured(sound: Path, validation_losses: dict[int, float]):
    write_validated_steps(sound, validation_losses)
    assert failing(sound) == {}


def test_a_recipe_that_names_the_vision_tower_does_not_allow_it(sound: Path):
    write_json(sound / SUMMARY, {"num_planned_steps": 8, "kept_step": 8, "lora_targets": ".*"})
    assert failing(sound) == {}
    write_adapter(sound, LANGUAGE, VISION)
    assert failing(sound) == {"only_language_layers_are_adapted": (VISION,)}


def test_a_run_whose_loss_ends_as_no_number_has_not_learned(sound: Path):
    write_steps(sound, (*LOSSES[:-1], math.nan))
    assert set(failing(sound)) == {"loss_is_finite", "loss_fell"}


def test_the_loss_is_compared_by_quarters(sound: Path):
    write_steps(sound, (3.0, 1.0, 9.0, 9.0, 9.0, 9.0, 2.5, 1.4))  # 2.00 in the first two steps, 1.95 in the last two
    assert failing(sound) == {}
    [fell] = [rule for rule in RULES if rule.name == "loss_fell"]
    assert fell.holds(sound).found == "mean loss 2.0000 in the first 2 steps, 1.9500 in the last 2"
