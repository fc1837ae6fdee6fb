"""The one route through the trainer. If these passed wrongly, accumulation would change the gradient, TRL's loss would be another one than
the model's, or a resumed run would end at other weights than an undisturbed one.
"""

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
from trl import SFTTrainer

from medvl_lib.batches import Collator, Reader, training_batch
from medvl_lib.chat import conversations_path, read_conversations
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import read_json, sha256_of_file
from medvl_lib.hardware import Profile
from medvl_lib.models.hashes import frozen_hashes
from medvl_lib.models.loading import load
from medvl_lib.provenance import Fact
from medvl_lib.tables import read_table
from medvl_lib.training.checkpoints import newest_complete
from medvl_lib.training.frozen import FROZEN_TENSORS, compare
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.recipe import Handover, Recipe, Stage
from medvl_lib.training.route import adapt, arguments, keep_the_best, make_repeatable, put_adapter_back, settle, train
from medvl_lib.training.rules import ADAPTER, RULES, SUMMARY
from medvl_lib.training.steps import START_LOSS, TRAINING_STEPS, TrainingStep
from tests.torch_fixtures import RECIPE, TINY, Trial
from tests.training.killed import Killed, kill_after


def _trainer(trial: Trial, profile: Profile, recipe: Recipe, output: Path) -> SFTTrainer:
    torch.manual_seed(0)
    loaded = load(trial.nf4, TINY, profile)
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:4]  # answers of 1, 2, 3 and 4 lines
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=trial.images)
    trainer = SFTTrainer(
        model=adapt(loaded, TINY, recipe), args=arguments(recipe, profile, 4, output, has_validation=False),
        train_dataset=Dataset.from_dict({"index": list(range(4)), "images": [list(item.image_ids) for item in conversations]}),
        processing_class=loaded.processor,
        data_collator=Collator(reader=reader, conversations=conversations),
    )  # fmt: skip
    settle(trainer)
    return trainer


def _gradient(trial: Trial, batch: int, output: Path) -> torch.Tensor:
    """The gradient of one optimizer step over the same four conversations, in micro-batches of ``batch``."""
    recipe = replace(RECIPE, max_steps=1, lora_dropout=0.0, warmup_share=0.0)
    trainer = _trainer(trial, replace(trial.profile, training_batch=batch), recipe, output)
    seen: list[torch.Tensor] = []

    def remember(*_: object, **__: object) -> None:
        seen.append(torch.cat([item.grad.flatten() for item in trainer.model.parameters() if item.requires_grad]).clone())

    trainer.args.max_grad_norm = 1e9  # clipping would hide a difference of scale
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(remember)
    trainer.train()
    return seen[0]


@pytest.fixture
def _as_before() -> Iterator[None]:
    how, fills = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_deterministic_debug_mode(how)
    torch.utils.deterministic.fill_uninitialized_memory = fills


@pytest.mark.usefixtures("_as_before")
def test_training_is_repeatable_and_writes_new_memory_once() -> None:
    """A tenth of the processor's time of a linear in four bits went into filling what was written right afterwards."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    make_repeatable(3)
    first = torch.rand(4)
    make_repeatable(3)
    assert torch.equal(torch.rand(4), first)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_accumulation_does_not_change_the_gradient(trial: Trial, tmp_path: Path) -> None:
    whole, accumulated = _gradient(trial, 4, tmp_path / "a"), _gradient(trial, 1, tmp_path / "b")
    assert whole.norm() > 1e-3
    assert (whole - accumulated).norm() / whole.norm() < 1e-5


def test_gradient_checkpointing_changes_no_gradient_and_leaves_the_frozen_tower_alone(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _gradient(trial, 4, tmp_path / "a")
    wanted: list[bool] = []
    forward = Qwen2_5_VLPatchMerger.forward  # the tower's last module

    def watched(self: object, rows: torch.Tensor) -> torch.Tensor:
        wanted.append(rows.requires_grad)
        return forward(self, rows)

    monkeypatch.setattr(Qwen2_5_VLPatchMerger, "forward", watched)
    checkpointed = trial._replace(profile=replace(trial.profile, gradient_checkpointing=True))
    assert (plain - _gradient(checkpointed, 4, tmp_path / "b")).norm() / plain.norm() < 1e-5
    assert wanted
    assert not any(wanted)


def test_the_trainers_loss_is_the_models_loss(trial: Trial, tmp_path: Path) -> None:
    trainer = _trainer(trial, trial.profile, RECIPE, tmp_path)
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:4]
    batch = training_batch(trainer.data_collator.reader, conversations)
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, dict(batch))
        ours = trainer.model(**batch).loss
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)


def test_every_trainable_weight_is_float32_and_lies_in_a_language_layer(trial: Trial, tmp_path: Path) -> None:
    trainer = _trainer(trial, trial.profile, RECIPE, tmp_path)
    trainable = {name: item for name, item in trainer.model.named_parameters() if item.requires_grad}
    assert len(trainable) == 4 * 7 * 2  # layers x projections x (A, B)
    assert {item.dtype for item in trainable.values()} == {torch.float32}
    assert all(".language_model.layers." in name for name in trainable)


def _run(
    trial: Trial, directory: Path, checkpoints: Path, *, report: Callable[[dict], None] = lambda _: None, recipe: Recipe = RECIPE
) -> dict[str, Fact]:
    directory.mkdir()
    return train(
        directory, stage=Stage(name="adapter", objective="generate", recipe=recipe), spec=TINY, weights=trial.nf4, chat=trial.chat,
        images=trial.images, profile=trial.profile, previous=None, checkpoints=checkpoints, report=report,
    )  # fmt: skip


def test_a_run_that_was_cut_ends_at_bit_identical_weights(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "undisturbed", tmp_path / "a")
    with pytest.raises(Killed):
        _run(trial, tmp_path / "cut", tmp_path / "b", report=kill_after(4))
    newest = max((tmp_path / "b").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (newest / "optimizer.pt").write_bytes(b"")  # what a kill during a save leaves: the trainer alone would resume with other weights
    _run(trial, tmp_path / "resumed", tmp_path / "b")
    assert sha256_of_file(tmp_path / "resumed" / ADAPTER) == sha256_of_file(tmp_path / "undisturbed" / ADAPTER)
    steps = [row.step for row in read_table(tmp_path / "resumed" / TRAINING_STEPS, TrainingStep)]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [rule.name for rule in RULES if not rule.holds(tmp_path / "resumed").passed] == []


# The held-out loss is measured at each of 17 steps and best after one of the first, while checkpoints are due at every second step.
GETS_WORSE = replace(RECIPE, learning_rate=0.05, warmup_share=0.0, max_steps=17, validations_per_epoch=3)


def _kept_and_best(directory: Path) -> tuple[int, int]:
    losses = {row.step: row.validation_loss for row in read_table(directory / TRAINING_STEPS, TrainingStep)}
    assert None not in losses.values()
    return read_json(directory / SUMMARY)["kept_step"], min(losses, key=lambda step: losses[step])


def test_the_adapter_of_the_lowest_held_out_loss_is_kept_and_not_the_last(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "adapter", tmp_path / "checkpoints", recipe=GETS_WORSE)
    kept, best = _kept_and_best(tmp_path / "adapter")
    assert kept == best < 17
    assert kept % 2  # no checkpoint was due there
    saved, of_best, of_last = (
        load_file(path / ADAPTER)
        for path in (tmp_path / "adapter", tmp_path / f"checkpoints/checkpoint-{best}", tmp_path / "checkpoints/checkpoint-17")
    )
    assert all(torch.equal(saved[name], of_best[name]) for name in of_best)
    assert not all(torch.equal(saved[name], of_last[name]) for name in of_last)
    assert {rule.name for rule in RULES if not rule.holds(tmp_path / "adapter").passed} <= {"loss_fell"}


def test_a_run_that_was_cut_and_moved_after_its_best_step_still_keeps_it(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "undisturbed", tmp_path / "a", recipe=GETS_WORSE)
    with pytest.raises(Killed):
        _run(trial, tmp_path / "cut", tmp_path / "b", report=kill_after(5), recipe=GETS_WORSE)
    (tmp_path / "b").rename(tmp_path / "moved")
    _run(trial, tmp_path / "resumed", tmp_path / "moved", recipe=GETS_WORSE)
    assert sha256_of_file(tmp_path / "resumed" / ADAPTER) == sha256_of_file(tmp_path / "undisturbed" / ADAPTER)
    assert _kept_and_best(tmp_path / "resumed") == _kept_and_best(tmp_path / "undisturbed")


def test_a_best_checkpoint_that_is_gone_is_named_and_no_other_is_kept(trial: Trial, tmp_path: Path) -> None:
    trainer = _trainer(trial, trial.profile, RECIPE, tmp_path)
    trainer.state.best_global_step, trainer.state.global_step = 2, 6
    with pytest.raises(HeavyStepFailed, match="checkpoint of step 2, .* damaged or not of this model"):
        keep_the_best(trainer, tmp_path, put_adapter_back)


def test_a_pair_of_a_heavier_dataset_comes_more_often_in_an_epoch(trial: Trial, tmp_path: Path) -> None:
    recipe = replace(RECIPE, max_steps=0, num_epochs=1, mixture_weights={"invented": 1.5}, validations_per_epoch=0)
    facts = _run(trial, tmp_path / "adapter", tmp_path / "checkpoints", recipe=recipe)
    assert (facts["num_training_pairs"], facts["num_training_pairs_invented"]) == (12, 12)
    assert 12 < facts["num_pairs_per_epoch"] < 24
    assert facts["num_steps"] == math.ceil(facts["num_pairs_per_epoch"] / 4)


def test_a_damaged_best_checkpoint_is_told_when_training_goes_on_and_not_at_its_end(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        _run(trial, tmp_path / "cut", tmp_path / "b", report=kill_after(8), recipe=GETS_WORSE)
    best = json.loads(max((tmp_path / "b").glob("checkpoint-*/trainer_state.json"), key=os.path.getmtime).read_text())["best_global_step"]
    (tmp_path / "b" / f"checkpoint-{best}" / ADAPTER).write_bytes(b"")
    said: list[dict] = []
    with pytest.raises(HeavyStepFailed, match=f"step {best}, whose held-out loss is the lowest so far, is damaged or gone"):
        _run(trial, tmp_path / "resumed", tmp_path / "b", recipe=GETS_WORSE, report=said.append)
    assert said == []


def test_weights_that_leave_nothing_of_an_epoch_are_named(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(MedVLError, match="12 before mixture_weights = {'invented': 0.001}"):
        _run(trial, tmp_path / "adapter", tmp_path / "checkpoints", recipe=replace(RECIPE, mixture_weights={"invented": 0.001}))


def test_pairs_that_a_weight_leaves_out_of_every_epoch_are_not_counted_as_trained_on(trial: Trial, tmp_path: Path) -> None:
    recipe = replace(RECIPE, max_steps=1, mixture_weights={"invented": 0.5}, validations_per_epoch=0)
    facts = _run(trial, tmp_path / "adapter", tmp_path / "checkpoints", recipe=recipe)
    assert 0 < facts["num_training_pairs_invented"] == facts["num_training_pairs"] == facts["num_pairs_per_epoch"] < 12


def _hand_over(trial: Trial, directory: Path, checkpoints: Path, report: Callable[[dict], None] = lambda _: None) -> dict[str, Fact]:
    directory.mkdir(exist_ok=True)
    stage = Stage(name="adapter", objective="generate", recipe=RECIPE, handover=Handover())
    return train(
        directory, stage=stage, spec=TINY, weights=trial.nf4, chat=trial.chat, images=trial.images, profile=trial.profile, previous=None,
        checkpoints=checkpoints, report=report,
    )  # fmt: skip


def test_looking_at_the_start_changes_no_weight_and_is_done_once(trial: Trial, tmp_path: Path) -> None:
    """The held-out loss before the first step costs random numbers; they are put back, and a resumed run does not look again."""
    _run(trial, tmp_path / "plain", tmp_path / "a")
    facts = _hand_over(trial, tmp_path / "handed over", tmp_path / "b")
    with pytest.raises(Killed):
        _hand_over(trial, tmp_path / "cut", tmp_path / "c", kill_after(4))
    resumed = _hand_over(trial, tmp_path / "resumed", tmp_path / "c")
    weights = {sha256_of_file(tmp_path / name / ADAPTER) for name in ("plain", "handed over", "resumed")}
    assert len(weights) == 1
    assert (
        facts[START_LOSS]
        == resumed[START_LOSS]
        > min(step.validation_loss for step in read_table(tmp_path / "resumed" / TRAINING_STEPS, TrainingStep) if step.validation_loss)
    )
    assert list(read_table(tmp_path / "resumed" / MOVED_TENSORS, MovedTensor)) == []  # nothing is trained in full


def test_a_frozen_tensor_that_changes_is_seen_in_bytes_and_in_scales(trial: Trial) -> None:
    model = load(trial.nf4, TINY, trial.profile).model.requires_grad_(False)
    before = frozen_hashes(model)
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert {name, f"{name}.absmax", "model.visual.patch_embed.proj.weight"} <= set(before)
    assert frozen_hashes(model) == before
    weight = model.get_parameter(name)
    weight.data[0] ^= 1
    weight.quant_state.absmax[0] += 1
    changed = {row.name for row in compare(before, frozen_hashes(model)) if row.sha256_before != row.sha256_after}
    assert changed == {name, f"{name}.absmax"}


def test_a_run_that_was_cut_after_its_last_step_does_no_step_more(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "first", tmp_path / "checkpoints")
    _run(trial, tmp_path / "again", tmp_path / "checkpoints")
    assert sha256_of_file(tmp_path / "again" / ADAPTER) == sha256_of_file(tmp_path / "first" / ADAPTER)


def test_an_adapter_names_no_path_of_this_machine(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "adapter", tmp_path / "checkpoints")
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert written == {"adapter_config.json", ADAPTER, "training.json", TRAINING_STEPS, FROZEN_TENSORS}
    assert str(tmp_path.parent) not in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_a_terminated_run_leaves_a_checkpoint_and_goes_on_from_it(trial: Trial, tmp_path: Path) -> None:
    _run(trial, tmp_path / "undisturbed", tmp_path / "a")

    def terminate(facts: dict) -> None:
        if facts["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(HeavyStepFailed, match="stopped after step"):
        _run(trial, tmp_path / "stopped", tmp_path / "b", report=terminate)
    assert newest_complete(tmp_path / "b", 6) is not None
    _run(trial, tmp_path / "resumed", tmp_path / "b")
    assert sha256_of_file(tmp_path / "resumed" / ADAPTER) == sha256_of_file(tmp_path / "undisturbed" / ADAPTER)
