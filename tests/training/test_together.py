"""Several processes that train one model. If these passed wrongly, two GPUs would train on another batch than one, a checkpoint would count
before every process has written its part, a wish to stop would hang for ever, or a machine with several GPUs would average their losses.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medvl_lib.errors import MedVLError
from medvl_lib.files import sha256_of_file
from medvl_lib.training.checkpoints import is_complete
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.route import arguments, train
from medvl_lib.training.rules import ADAPTER, RULES
from medvl_lib.training.together import divided
from tests.matching_fixtures import MATCH, SPEC, STAGE, Gallery
from tests.torch_fixtures import RECIPE, TINY, Trial
from tests.training.several import LOSS_TOLERANCE, WEIGHTS_TOLERANCE, Job, distance, losses, together

WITHOUT_DROPOUT = replace(RECIPE, lora_dropout=0.0)  # each process draws its own masks


def _of_answers(trial: Trial, checkpoints: Path, recipe: Recipe) -> dict[str, Any]:
    return {
        "stage": Stage(name="adapter", objective="generate", recipe=recipe), "spec": TINY, "weights": trial.nf4, "chat": trial.chat,
        "images": trial.images, "profile": replace(trial.profile, training_batch=2), "previous": None, "checkpoints": checkpoints,
    }  # fmt: skip


@pytest.mark.soak
def test_two_processes_train_the_adapter_of_one(trial: Trial, tmp_path: Path) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    alone.mkdir()
    train(alone, **_of_answers(trial, tmp_path / "a", WITHOUT_DROPOUT), report=lambda _: None)
    arguments = _of_answers(trial, tmp_path / "b", WITHOUT_DROPOUT)
    assert together(tmp_path, "two", Job(directory=two, arguments=arguments)) == 0
    assert losses(two) == pytest.approx(losses(alone), rel=LOSS_TOLERANCE)
    assert distance(load_file(alone / ADAPTER), load_file(two / ADAPTER)) < WEIGHTS_TOLERANCE
    assert [rule.name for rule in RULES if not rule.holds(two).passed] == []


@pytest.mark.soak
def test_killed_or_asked_to_end_they_go_on_from_a_checkpoint_of_both(trial: Trial, tmp_path: Path) -> None:
    two, cut, resumed, asked = (tmp_path / name for name in ("two", "cut", "resumed", "asked"))
    assert together(tmp_path, "two", Job(directory=two, arguments=_of_answers(trial, tmp_path / "b", WITHOUT_DROPOUT))) == 0
    arguments = _of_answers(trial, tmp_path / "c", WITHOUT_DROPOUT)
    assert together(tmp_path, "cut", Job(directory=cut, arguments=arguments, die_after=4)) != 0
    assert not (cut / ADAPTER).exists()
    assert together(tmp_path, "resumed", Job(directory=resumed, arguments=arguments)) == 0
    assert sha256_of_file(resumed / ADAPTER) == sha256_of_file(two / ADAPTER)

    arguments = _of_answers(trial, tmp_path / "d", WITHOUT_DROPOUT)
    assert together(tmp_path, "asked", Job(directory=asked, arguments=arguments, ask_after=2)) != 0
    assert "training was stopped after step 3 of 6" in (tmp_path / "asked.0.said").read_text()
    assert is_complete(tmp_path / "d" / "checkpoint-3")
    assert {path.name for path in (tmp_path / "d" / "checkpoint-3").glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}


@pytest.mark.slow
def test_two_processes_train_the_encoder_of_one_with_the_negatives_of_both(gallery: Gallery, tmp_path: Path) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    alone.mkdir()

    def given(checkpoints: str) -> dict[str, Any]:
        return {
            "stage": replace(STAGE, recipe=MATCH), "spec": SPEC, "weights": gallery.weights, "chat": gallery.chat, "images": gallery.images,
            "profile": gallery.profile, "previous": None, "checkpoints": tmp_path / checkpoints,
        }  # fmt: skip

    train(alone, **given("a"), report=lambda _: None)
    assert together(tmp_path, "two", Job(directory=two, arguments=given("b"))) == 0
    assert losses(two) == pytest.approx(losses(alone), rel=LOSS_TOLERANCE)
    one, other = (load_file(path / "model.safetensors") for path in (alone, two))
    assert distance(one, other) < WEIGHTS_TOLERANCE


@pytest.mark.parametrize(("size", "at_a_time", "parts"), [(1, 4, (4, 4)), (2, 4, (4, 2)), (4, 8, (4, 1)), (8, 3, (1, 2))])
def test_the_batch_of_a_recipe_is_divided_and_stays_whole(size: int, at_a_time: int, parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(size))
    assert divided(16, at_a_time) == parts
    assert size * parts[0] * parts[1] == 16


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(MedVLError, match="an effective batch of 16, and 3 processes"):
        divided(16, 4)


def test_one_process_that_sees_several_gpus_keeps_to_one(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers counts the GPUs whether or not it can use them, and would train a copy on each with as many times the batch."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    made = arguments(RECIPE, replace(trial.profile, device="cuda", training_batch=2), 4, tmp_path, has_validation=False)
    assert (made.n_gpu, made.train_batch_size, made.gradient_accumulation_steps) == (1, 2, 2)
