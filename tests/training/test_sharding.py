"""Processes that share one copy of a model. If these passed wrongly, weights in four bits would be rounded on the way to another GPU, what
is trained would be lost or rounded, a batch without a picture would hang for ever, or copies would be trained in the name of parts.

Every training here runs on the CPU with gloo. The one on GPUs is written, and was never run.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from accelerate import PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import load_file

from medvl_lib import chat
from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import sha256_of_file
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.launcher import Launcher
from medvl_lib.lines import IMAGING
from medvl_lib.models.counting import num_parameters
from medvl_lib.models.hashes import frozen_hashes
from medvl_lib.models.loading import Loaded, hold_packed_as, load
from medvl_lib.models.preparing import write_quantized
from medvl_lib.plan.dry_run import Walk, config_of
from medvl_lib.tables import read_table
from medvl_lib.training.checkpoints import is_complete
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.recipe import Handover, Recipe, Stage
from medvl_lib.training.route import adapt, answering, arguments, settle, train
from medvl_lib.training.rules import ADAPTER, RULES
from medvl_lib.training.sharding import TakesPart, divided_weights, gathered_alone, require_resumable
from medvl_lib.training.work import Material
from tests.llava_fixtures import SPEC as LLAVA
from tests.llava_fixtures import Small
from tests.torch_fixtures import RECIPE, TINY, Trial
from tests.training.several import LOSS_TOLERANCE, WEIGHTS_TOLERANCE, Job, distance, losses, steps, together

DIVIDED = Launcher(num_processes=2, weights="divided")
WITHOUT_DROPOUT = replace(RECIPE, lora_dropout=0.0)  # each process draws its own masks
WHOLE = replace(WITHOUT_DROPOUT, lora_rank=4, lora_alpha=8, max_steps=4, fully_trained=("multi_modal_projector",), fully_trained_rate=1e-3)
KEPT_TOLERANCE = 1e-5  # of the held-out loss: the same weights, batches of other sizes


def sharing(profile: Profile, **changes: Any) -> Profile:
    return replace(profile, training_batch=1, launcher=DIVIDED, **changes)


def of_answers(trial: Trial, checkpoints: Path, profile: Profile, *, weights: Path | None = None, recipe: Recipe = WITHOUT_DROPOUT) -> dict:
    return {
        "stage": Stage(name="adapter", objective="generate", recipe=recipe), "spec": TINY, "weights": weights or trial.nf4,
        "chat": trial.chat, "images": trial.images, "profile": profile, "previous": None, "checkpoints": checkpoints,
    }  # fmt: skip


def compared(folder: Path, alone: dict[str, Any], shared: dict[str, Any]) -> tuple[Path, Path]:
    """The same training by one process, and by two that share the weights: the directories of both."""
    one, two = folder / "one", folder / "two"
    one.mkdir()
    train(one, **alone, report=lambda _: None)
    assert together(folder, "shared", Job(directory=two, arguments=shared)) == 0
    return one, two


def without_pictures(item: Conversation) -> Conversation:
    asked, answer = item.messages
    texts = [part for part in asked["content"] if part["type"] == "text"]
    return replace(item, image_ids=(), messages=({**asked, "content": texts}, answer))


def held_out_loss(adapter: Path, given: dict[str, Any], checkpoints: Path) -> float:
    """Of a saved adapter, loaded into one process."""
    profile = replace(given["profile"], launcher=Launcher())
    trainer = answering(
        Material(**{**given, "profile": profile, "previous": adapter, "checkpoints": checkpoints}, report=lambda _: None)
    ).trainer
    settle(trainer)
    return trainer.evaluate()["eval_loss"]


def same(one: Path, two: Path, *, but: Sequence[str] = ()) -> None:
    assert losses(two) == pytest.approx(losses(one), rel=LOSS_TOLERANCE)
    norms = [[row.gradient_norm for row in steps(path)] for path in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert distance(load_file(one / ADAPTER), load_file(two / ADAPTER)) < WEIGHTS_TOLERANCE
    assert {value.dtype for value in load_file(two / ADAPTER).values()} == {torch.float32}
    assert [rule.name for rule in RULES if rule.name not in but and not rule.holds(two).passed] == []
    frozen = [{row.name: row.sha256_after for row in read_table(path / FROZEN_TENSORS, FrozenTensor)} for path in (one, two)]
    assert frozen[0] == frozen[1]  # the bytes of a packed weight are the same, whatever they were held as


# -- trained by two processes ------------------------------------------------------------------------------------------
@pytest.mark.soak
@pytest.mark.parametrize("weights", ["nf4", "base"])
def test_two_processes_that_share_the_weights_train_the_adapter_of_one(trial: Trial, tmp_path: Path, weights: str) -> None:
    where = getattr(trial, weights)
    alone = of_answers(trial, tmp_path / "a", replace(trial.profile, training_batch=2), weights=where)
    shared = of_answers(trial, tmp_path / "b", sharing(trial.profile), weights=where)
    one, two = compared(tmp_path, alone, shared)
    same(one, two)
    kept = min(row.validation_loss for row in steps(two) if row.validation_loss is not None)
    assert held_out_loss(two, shared, tmp_path / "c") == pytest.approx(kept, rel=KEPT_TOLERANCE)


@pytest.mark.soak
def test_in_16_bits_with_checkpointing_too(trial: Trial, tmp_path: Path) -> None:
    """What a GPU's profile asks for. Sums in another order are rounded more coarsely here."""
    half = replace(trial.profile, weights_dtype="bfloat16", gradient_checkpointing=True)
    (tmp_path / "nf4").mkdir()
    write_quantized(tmp_path / "nf4", trial.base, "nf4", TINY, half)
    alone = of_answers(trial, tmp_path / "a", replace(half, training_batch=2), weights=tmp_path / "nf4")
    one, two = compared(tmp_path, alone, of_answers(trial, tmp_path / "b", sharing(half), weights=tmp_path / "nf4"))
    assert losses(two) == pytest.approx(losses(one), rel=0.02)
    assert {value.dtype for value in load_file(two / ADAPTER).values()} == {torch.float32}
    assert [rule.name for rule in RULES if not rule.holds(two).passed] == []


@pytest.mark.soak
def test_killed_or_asked_to_end_they_go_on_from_a_checkpoint_of_both(trial: Trial, tmp_path: Path) -> None:
    recipe = replace(RECIPE, lora_dropout=0.05)
    two, cut, resumed, asked = (tmp_path / name for name in ("two", "cut", "resumed", "asked"))

    def given(checkpoints: str) -> dict[str, Any]:
        return of_answers(trial, tmp_path / checkpoints, sharing(trial.profile), recipe=recipe)

    assert together(tmp_path, "two", Job(directory=two, arguments=given("a"))) == 0
    assert together(tmp_path, "cut", Job(directory=cut, arguments=given("b"), die_after=4)) != 0
    assert not (cut / ADAPTER).exists()
    assert together(tmp_path, "resumed", Job(directory=resumed, arguments=given("b"))) == 0
    assert sha256_of_file(resumed / ADAPTER) == sha256_of_file(two / ADAPTER)
    assert losses(resumed) == losses(two)

    assert together(tmp_path, "asked", Job(directory=asked, arguments=given("c"), ask_after=2)) != 0
    assert "training was stopped after step 3 of 6" in (tmp_path / "asked.0.said").read_text()
    assert is_complete(tmp_path / "c" / "checkpoint-3")


@pytest.mark.soak
def test_a_projector_is_trained_whole_though_one_process_may_see_no_picture(small_llava: Small, tmp_path: Path) -> None:
    """In two stages: the second goes on with the adapter of the first, and both look at where they start."""
    (tmp_path / "chat").mkdir()
    for path in small_llava.chat.iterdir():
        (tmp_path / "chat" / path.name).write_bytes(path.read_bytes())
    mixed = [without_pictures(item) if number % 2 else item for number, item in enumerate(small_llava.conversations)]
    lines = "".join(chat._line(item) for item in mixed)
    chat.conversations_path(tmp_path / "chat", "train").write_text(lines, encoding="utf-8")

    def given(checkpoints: str, profile: Profile, previous: Path | None) -> dict[str, Any]:
        return {
            "stage": Stage(name="impression", objective="generate", recipe=WHOLE, handover=Handover()), "spec": LLAVA,
            "weights": small_llava.nf4, "chat": tmp_path / "chat", "images": small_llava.images, "profile": profile, "previous": previous,
            "checkpoints": tmp_path / checkpoints,
        }  # fmt: skip

    previous = None
    for stage in ("first", "second"):
        (folder := tmp_path / stage).mkdir()
        alone = given(f"{stage}-a", replace(small_llava.profile, training_batch=2), previous)
        one, two = compared(folder, alone, given(f"{stage}-b", sharing(small_llava.profile), previous))
        same(one, two, but=["loss_fell"])
        moved = [{row.name: row.norm_of_change for row in read_table(path / MOVED_TENSORS, MovedTensor)} for path in (one, two)]
        assert len(moved[0]) == 4
        assert moved[1] == pytest.approx(moved[0], rel=WEIGHTS_TOLERANCE)
        previous = two


@pytest.mark.gpu
@pytest.mark.soak
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs: weights are divided between them")
def test_two_gpus_that_share_the_weights_train_the_adapter_of_one(trial: Trial, tmp_path: Path) -> None:
    """FSDP-QLoRA as it is meant: NF4 in bfloat16, over NCCL. Written, and never run."""
    profile = replace(PROFILES["cuda"], num_workers=0)
    (tmp_path / "nf4").mkdir()
    write_quantized(tmp_path / "nf4", trial.base, "nf4", TINY, profile)
    alone = of_answers(trial, tmp_path / "a", replace(profile, training_batch=2), weights=tmp_path / "nf4")
    one, two = compared(tmp_path, alone, of_answers(trial, tmp_path / "b", sharing(profile), weights=tmp_path / "nf4"))
    assert losses(two) == pytest.approx(losses(one), rel=0.02)
    assert [rule.name for rule in RULES if not rule.holds(two).passed] == []


# -- what is handed to the trainer -------------------------------------------------------------------------------------
def test_the_bytes_of_packed_weights_are_held_as_numbers_and_not_one_bit_changes(trial: Trial) -> None:
    loaded = load(trial.nf4, TINY, trial.profile)
    hashes, counts, ids = frozen_hashes(loaded.model), num_parameters(loaded.model), torch.arange(8)[None]
    before = loaded.model(input_ids=ids).logits
    for dtype in (torch.bfloat16, torch.float32, torch.uint8):
        hold_packed_as(loaded.model, dtype)
        packed = [module.weight for module in loaded.model.modules() if isinstance(module, bnb.nn.Linear4bit)]
        assert {weight.dtype for weight in packed} == {dtype}
        assert len(packed) == 4 * 7
        assert frozen_hashes(loaded.model) == hashes
        assert num_parameters(loaded.model) == counts
        assert torch.equal(loaded.model(input_ids=ids).logits, before)


@pytest.fixture
def told(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the trainer of one of two processes is told of how they share the weights."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = divided_weights(adapt(load(trial.nf4, TINY, trial.profile), TINY, RECIPE), sharing(trial.profile))
    monkeypatch.delenv("WORLD_SIZE")
    return found


def test_the_trainer_divides_by_fsdp2_rounds_nothing_and_lets_the_leader_write(
    told: dict[str, Any], trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(name, "false")  # the plugin sets them for good
    monkeypatch.setitem(PartialState()._shared_state, "distributed_type", PartialState().distributed_type)
    made = arguments(RECIPE, trial.profile, 4, tmp_path, has_validation=False, further=told)
    plugin = FullyShardedDataParallelPlugin(**made.fsdp_plugin_args)
    policy = plugin.mixed_precision_policy
    assert plugin.fsdp_version == 2
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype, policy.cast_forward_inputs) == (None, torch.float32, None, False)
    assert plugin.transformer_cls_names_to_wrap == ["Qwen2_5_VLDecoderLayer"]  # not the tower's: a batch may have no picture
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.reshard_after_forward
    assert not plugin.cpu_ram_efficient_loading
    assert made.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}


def test_layers_that_only_some_batches_go_through_are_not_gathered_alone() -> None:
    recipe = IMAGING.stages[-1].recipe
    assert isinstance(recipe, Recipe)
    walk = Walk(config_of(IMAGING.model), IMAGING.model, PROFILES["cuda"], recipe, packed=False)
    with torch.device("meta"):
        model = adapt(Loaded(model=walk._model(), processor=None, prompts=None, precision="", load_seconds=0.0), IMAGING.model, recipe)
    assert gathered_alone(model) == ["MllamaSelfAttentionDecoderLayer"]
    assert len(walk.shape().layer_bytes) == 32  # of 40


def test_copies_and_a_process_alone_are_told_nothing(trial: Trial) -> None:
    model = adapt(load(trial.nf4, TINY, trial.profile), TINY, RECIPE)
    assert divided_weights(model, sharing(trial.profile)) == {}  # not started by torchrun
    assert os.environ.get("WORLD_SIZE") is None
    packed = [module.weight.dtype for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert set(packed) == {torch.uint8}


# -- what is refused ---------------------------------------------------------------------------------------------------
def test_weights_in_eight_bits_are_refused_by_name(trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quantized(tmp_path, trial.base, "int8", TINY, trial.profile)
    model = load(tmp_path, TINY, trial.profile).model
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MedVLError, match="28 linears in int8, the first is model.language_model.layers.0.self_attn.q_proj"):
        divided_weights(model, sharing(trial.profile))


def test_a_model_that_the_trainer_left_whole_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(HeavyStepFailed, match=r"a model that is whole in each of 2 processes \(Linear\)"):
        TakesPart().on_train_begin(None, None, None, model=torch.nn.Linear(2, 2))


@pytest.mark.parametrize("was_divided", [True, False])
def test_a_checkpoint_of_the_other_kind_is_refused_with_its_cure(was_divided: bool, tmp_path: Path) -> None:
    (tmp_path / ("pytorch_model_fsdp.bin" if was_divided else "optimizer.pt")).touch()
    now, other = (SimpleNamespace(fsdp_plugin_args=value) for value in ((None, {}) if was_divided else ({}, None)))
    was = "divided" if was_divided else "copied"
    with pytest.raises(MedVLError, match=rf"(?s)a checkpoint of weights that were {was}.*set weights = '{was}'"):
        require_resumable(tmp_path, now)
    require_resumable(tmp_path, other)


@pytest.mark.parametrize("changes", [{"engine": "mlx", "quantization": "mlx-affine4"}, {"device": "mps"}])
def test_an_engine_and_a_device_that_cannot_share_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="launcher.weights = 'divided', engine = "):
        sharing(PROFILES["cpu"], **changes)
