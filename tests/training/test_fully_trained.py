"""A projector that is trained whole. If these passed wrongly, it would be trained in 16 bits, at another rate, or not at all; be lost
between two stages, in a merged model or on a resume; or the tower behind it would change unseen.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from trl import SFTTrainer

from medvl_lib.batches import Collator, Reader, training_batch
from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, sha256_of_file
from medvl_lib.hardware import Profile
from medvl_lib.lines import DOCUMENTS
from medvl_lib.models.counting import num_parameters, parameters_by_part
from medvl_lib.models.hashes import frozen_hashes
from medvl_lib.models.loading import attach, load, whole_modules
from medvl_lib.models.merging import adapted_tensors, load_merged, write_merged
from medvl_lib.models.spec import is_whole
from medvl_lib.models.weights import MERGED_RULES
from medvl_lib.provenance import Fact, digest
from medvl_lib.tables import write_table
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor, compare
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.route import _rows, adapt, answering, arguments, optimizer, settle, train
from medvl_lib.training.rules import ADAPTER, RULES, SUMMARY
from medvl_lib.training.work import Material, Work
from tests.llava_fixtures import SPEC, Small
from tests.torch_fixtures import RECIPE
from tests.training.killed import Killed, kill_after

PROJECTOR = "multi_modal_projector"
WHOLE = replace(
    RECIPE, lora_rank=4, lora_alpha=8, max_steps=4, effective_batch=2, validations_per_epoch=0, fully_trained=(PROJECTOR,),
    fully_trained_rate=1e-3,
)  # fmt: skip
TENSORS = {f"base_model.model.model.{PROJECTOR}.linear_{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")}


def material(
    small: Small, weights: Path, checkpoints: Path, *, recipe: Recipe = WHOLE, previous: Path | None = None, profile: Profile | None = None,
    report: Callable[[dict[str, Fact]], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "stage": Stage(name="impression", objective="generate", recipe=recipe), "spec": SPEC, "weights": weights, "chat": small.chat,
        "images": small.images, "profile": profile or small.profile, "previous": previous, "checkpoints": checkpoints, "report": report,
    }  # fmt: skip


def trained(small: Small, weights: Path, root: Path, name: str, **how: Any) -> Path:
    directory = root / name
    directory.mkdir()
    train(directory, **material(small, weights, root / f"{name}-checkpoints", **how))
    return directory


def projector(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained copy's values, by their names in an adapter."""
    [wrapper] = whole_modules(model).values()
    [module] = wrapper.modules_to_save.values()
    return {f"base_model.model.model.{PROJECTOR}.{name}": value.detach() for name, value in module.named_parameters()}


def failing(directory: Path) -> dict[str, tuple[str, ...]]:
    outcomes = {rule.name: rule.holds(directory) for rule in RULES if rule.name != "loss_fell"}  # four steps prove nothing of that
    return {name: outcome.offenders for name, outcome in outcomes.items() if not outcome.passed}


@pytest.fixture(scope="module")
def stage_a(small_llava: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a first stage, on the base in four bits."""
    return trained(small_llava, small_llava.nf4, tmp_path_factory.mktemp("a"), "adapter")


# -- the recipe --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong", [{"fully_trained_rate": 0.0}, {"fully_trained": ()}, {"fully_trained": ("",)}, {"fully_trained_rate": -1.0}]
)
def test_modules_without_a_rate_and_a_rate_without_modules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="name modules and a rate above 0, or neither"):
        replace(WHOLE, **wrong)


def test_what_is_trained_whole_is_identity_and_nothing_is_where_there_is_none() -> None:
    assert digest([DOCUMENTS.stages[0].identity]) == "8a51bcb3969d3869"  # as it was before anything could be trained whole
    stages = [Stage(name="a", objective="generate", recipe=each) for each in (
        RECIPE, WHOLE, replace(WHOLE, fully_trained_rate=2e-3), replace(WHOLE, fully_trained=("model.multi_modal_projector",)),
    )]  # fmt: skip
    assert len({digest([stage.identity]) for stage in stages}) == 4


# -- 32 bits -----------------------------------------------------------------------------------------------------------
def work(small: Small, weights: Path, root: Path, **how: Any) -> Work:
    return answering(Material(**material(small, weights, root, **how)))


def test_the_trainer_would_round_it_on_a_quantized_base(small_llava: Small, tmp_path: Path) -> None:
    """What is prevented: without this the next test would prove nothing."""
    loaded = load(small_llava.nf4, SPEC, small_llava.profile)
    model = adapt(loaded, SPEC, WHOLE)
    for value in projector(model).values():
        value.add_(1e-4)
    before = {name: value.clone() for name, value in projector(model).items()}
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=small_llava.images)
    SFTTrainer(
        model=model, args=arguments(WHOLE, small_llava.profile, 2, tmp_path, has_validation=False),
        train_dataset=_rows(list(small_llava.conversations[:2]), 0), processing_class=loaded.processor,
        data_collator=Collator(reader=reader, conversations=small_llava.conversations),
    )  # fmt: skip
    after = projector(model)
    assert {value.dtype for value in after.values()} == {torch.bfloat16}
    assert not all(torch.equal(after[name].float(), before[name]) for name in before)


@pytest.mark.parametrize("weights", ["base", "nf4"])
def test_every_weight_of_it_is_trained_in_32_bits_and_starts_as_the_bases(weights: str, small_llava: Small, tmp_path: Path) -> None:
    trainer = work(small_llava, getattr(small_llava, weights), tmp_path).trainer
    settle(trainer)
    found = projector(trainer.model)
    [wrapper] = whole_modules(trainer.model).values()
    own = dict(wrapper.original_module.named_parameters())
    assert found.keys() == TENSORS
    for name, value in found.items():
        assert (value.dtype, torch.equal(value, own[name.partition(f"{PROJECTOR}.")[2]].float())) == (torch.float32, True)
    trainable = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert len(trainable) == 4 + 4 * 7 * 2
    assert not any("vision_tower" in name or "original_module" in name for name in trainable)


def test_a_second_stage_starts_at_exactly_what_the_first_one_saved(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    half = replace(small_llava.profile, weights_dtype="bfloat16")  # PEFT and TRL both round to it
    kept = load_file(stage_a / ADAPTER)
    assert any(not torch.equal(kept[name], kept[name].bfloat16().float()) for name in TENSORS)
    trainer = work(small_llava, small_llava.nf4, tmp_path, previous=stage_a, profile=half).trainer
    settle(trainer)
    held = {
        name.replace(".modules_to_save.default", "").replace(".default", ""): value
        for name, value in trainer.model.named_parameters() if value.requires_grad
    }  # fmt: skip
    assert held.keys() == kept.keys()
    assert all(torch.equal(held[name], kept[name]) for name in kept)


# -- its rate ----------------------------------------------------------------------------------------------------------
def test_it_has_a_rate_of_its_own_and_its_biases_no_decay(small_llava: Small, tmp_path: Path) -> None:
    recipe = replace(WHOLE, weight_decay=0.1)
    model = adapt(load(small_llava.base, SPEC, small_llava.profile), SPEC, recipe)
    args = arguments(recipe, small_llava.profile, 8, tmp_path, has_validation=False)
    made = optimizer(model, recipe, args)
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in made.param_groups] == [
        (56, 2e-3, 0.1), (2, 1e-3, 0.1), (2, 1e-3, 0.0),
    ]  # fmt: skip
    assert made.defaults["betas"] == (0.9, 0.999)
    assert optimizer(model, RECIPE, args) is None


def test_a_larger_rate_moves_it_further_and_the_update_alike(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    faster = trained(small_llava, small_llava.nf4, tmp_path, "faster", recipe=replace(WHOLE, fully_trained_rate=1e-2))
    base = {f"base_model.model.model.{name}": value for name, value in load_file(small_llava.base / "model.safetensors").items()}

    def moved(directory: Path) -> float:
        found = load_file(directory / ADAPTER)
        return sum(float((found[name] - base[name].float()).norm()) for name in TENSORS)

    assert 5 < moved(faster) / moved(stage_a) < 20
    first = next(name for name in load_file(faster / ADAPTER) if "lora_B" in name)
    assert float(load_file(faster / ADAPTER)[first].norm()) == pytest.approx(float(load_file(stage_a / ADAPTER)[first].norm()), rel=0.5)


# -- what is kept ------------------------------------------------------------------------------------------------------
def test_what_was_trained_is_kept_with_the_adapter_and_every_rule_holds(small_llava: Small, stage_a: Path) -> None:
    assert failing(stage_a) == {}
    kept = load_file(stage_a / ADAPTER)
    assert {name for name in kept if ".lora_" not in name} == TENSORS
    assert {value.dtype for value in kept.values()} == {torch.float32}
    summary = read_json(stage_a / SUMMARY)
    assert summary["fully_trained"] == [PROJECTOR]
    num_values = sum(value.numel() for name, value in kept.items() if name in TENSORS)
    assert summary["num_trainable_parameters_projector"] == summary["num_parameters_projector"] == num_values
    assert "fully_trained" not in read_json_of_plain(small_llava, stage_a.parent)


def read_json_of_plain(small: Small, root: Path) -> dict[str, Any]:
    """The summary of an adapter without a module of its own, which has to pass as before."""
    plain = replace(WHOLE, fully_trained=(), fully_trained_rate=0.0)
    directory = trained(small, small.base, root, "plain", recipe=plain)
    assert failing(directory) == {}
    return read_json(directory / SUMMARY)


def test_a_run_that_was_cut_ends_at_the_same_projector(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(small_llava, small_llava.nf4, tmp_path, "cut", report=kill_after(3))
    Path(tmp_path / "cut-checkpoints").rename(tmp_path / "resumed-checkpoints")
    resumed = trained(small_llava, small_llava.nf4, tmp_path, "resumed")
    assert sha256_of_file(resumed / ADAPTER) == sha256_of_file(stage_a / ADAPTER)


def test_a_second_stage_goes_on_with_the_projector_and_every_rule_holds(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    stage_b = trained(small_llava, small_llava.nf4, tmp_path, "b", previous=stage_a)
    assert failing(stage_b) == {}
    before, after = load_file(stage_a / ADAPTER), load_file(stage_b / ADAPTER)
    assert before.keys() == after.keys()
    for name in TENSORS:
        assert 0 < float((after[name] - before[name]).norm()) < 0.3 * float(before[name].norm()) + 1e-2


def test_other_modules_than_the_recipe_names_are_refused(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    with pytest.raises(MedVLError, match=r"trained whole: none, and fully_trained = \['merger'\]"):
        work(small_llava, small_llava.base, tmp_path, recipe=replace(WHOLE, fully_trained=("merger",)))
    plain = replace(WHOLE, fully_trained=(), fully_trained_rate=0.0)
    with pytest.raises(MedVLError, match=r"\['model\.multi_modal_projector'\], and fully_trained = \[\]"):
        work(small_llava, small_llava.nf4, tmp_path, recipe=plain, previous=stage_a)


# -- what is made of it ------------------------------------------------------------------------------------------------
def logits(model: torch.nn.Module, small: Small, processor: Any, prompts: Any) -> torch.Tensor:
    reader = Reader(processor=processor, prompts=prompts, images=small.images)
    batch = training_batch(reader, small.conversations[:2])
    with torch.no_grad():
        return model(**batch).logits


@pytest.fixture(scope="module")
def far(small_llava: Small, stage_a: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter with a projector far from the base's, so that it is heard."""
    directory = tmp_path_factory.mktemp("far")
    for path in stage_a.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    kept = load_file(stage_a / ADAPTER)
    save_file({name: value * (1.5 if name in TENSORS else 1.0) + 1e-5 for name, value in kept.items()}, directory / ADAPTER)
    return directory


def test_with_the_adapter_its_projector_speaks_and_without_it_the_bases(small_llava: Small, far: Path, stage_a: Path) -> None:
    bare = load(small_llava.base, SPEC, small_llava.profile)
    base = logits(bare.model, small_llava, bare.processor, bare.prompts)
    both = attach(bare, {"far": far, "near": stage_a})
    assert {name: value.dtype for name, value in projector_of(both.model, "far").items()} == dict.fromkeys(TENSORS, torch.float32)
    said = {}
    for name in ("far", "near", "far"):
        both.model.set_adapter(name)
        said.setdefault(name, logits(both.model, small_llava, both.processor, both.prompts))
    assert torch.equal(said["far"], logits(both.model, small_llava, both.processor, both.prompts))
    assert (said["far"] - said["near"]).abs().max() > 0.1
    with both.model.disable_adapter():
        assert torch.equal(logits(both.model, small_llava, both.processor, both.prompts), base)


def projector_of(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    [wrapper] = whole_modules(model).values()
    return {f"base_model.model.model.{PROJECTOR}.{key}": value for key, value in wrapper.modules_to_save[name].named_parameters()}


def test_an_adapter_is_read_in_32_bits_on_a_base_in_16(small_llava: Small, far: Path) -> None:
    half = replace(small_llava.profile, weights_dtype="bfloat16")
    loaded = load(small_llava.base, SPEC, half, adapter=far)
    kept = load_file(far / ADAPTER)
    assert all(torch.equal(value, kept[name]) for name, value in projector_of(loaded.model, "default").items())
    counts = parameters_by_part(loaded.model, "llava_med")
    assert counts["projector"].total == sum(kept[name].numel() for name in TENSORS)
    assert num_parameters(loaded.model)[0] == sum(count.total for count in counts.values())


def test_a_merged_model_has_the_projector_and_differs_from_the_base_nowhere_else(small_llava: Small, far: Path, tmp_path: Path) -> None:
    names = adapted_tensors(far, SPEC)
    assert {name for name in names if not name.startswith("language_model.model.layers.")} == {
        f"{PROJECTOR}.linear_{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")
    }  # fmt: skip
    facts = write_merged(tmp_path, small_llava.base, far, SPEC, small_llava.profile)
    assert (facts["num_adapted_linears"], facts["num_replaced_tensors"]) == (28, 4)
    assert [rule.name for rule in MERGED_RULES if rule.name != "weights_are_trained" and not rule.holds(tmp_path).passed] == []
    adapted, merged = load(small_llava.base, SPEC, small_llava.profile, adapter=far), load(tmp_path, SPEC, small_llava.profile)
    first, second = (logits(each.model, small_llava, each.processor, each.prompts) for each in (adapted, merged))
    assert (first - second).abs().max() < 1e-3
    half = load_merged(small_llava.base, far, SPEC, replace(small_llava.profile, weights_dtype="bfloat16"))
    assert {value.dtype for value in half.model.parameters()} == {torch.bfloat16}


# -- damages -----------------------------------------------------------------------------------------------------------
def test_a_tower_that_changes_is_seen_though_the_projector_may(small_llava: Small, stage_a: Path, tmp_path: Path) -> None:
    model = adapt(load(small_llava.nf4, SPEC, small_llava.profile), SPEC, WHOLE)
    before = frozen_hashes(model)
    assert any(".original_module." in name for name in before)
    for value in projector(model).values():
        value.add_(0.5)
    assert frozen_hashes(model) == before
    damaged = "base_model.model.model.vision_tower.encoder.layers.0.mlp.fc1.weight"
    model.get_parameter(damaged).data[0, 0] += 1.0
    for path in stage_a.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_table(tmp_path / FROZEN_TENSORS, FrozenTensor, compare(before, frozen_hashes(model)))
    assert failing(tmp_path) == {"only_intended_weights_changed": (damaged,)}


@pytest.mark.parametrize(
    ("damage", "offenders"),
    [
        (lambda kept: [kept.pop(name) for name in TENSORS], (PROJECTOR,)),
        (lambda kept: kept.update({"base_model.model.lm_head.weight": torch.zeros(2)}), ("base_model.model.lm_head.weight",)),
        (lambda kept: kept.update({"base_model.model.model.my_multi_modal_projector.weight": torch.zeros(2)}),
         ("base_model.model.model.my_multi_modal_projector.weight",)),
    ],
)  # fmt: skip
def test_a_lost_projector_and_a_strange_tensor_are_seen(
    damage: Callable[[dict[str, torch.Tensor]], object], offenders: tuple[str, ...], stage_a: Path, tmp_path: Path
) -> None:
    for path in stage_a.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    kept = load_file(tmp_path / ADAPTER)
    damage(kept)
    save_file(kept, tmp_path / ADAPTER)
    assert failing(tmp_path) == {"only_language_layers_are_adapted": offenders}


def test_a_modules_name_is_matched_at_its_borders() -> None:
    for tensor in (f"base_model.model.model.{PROJECTOR}.linear_1.weight", f"base_model.model.{PROJECTOR}.weight"):
        assert is_whole(tensor, [PROJECTOR])
    for tensor in (f"base_model.model.model.my_{PROJECTOR}.weight", f"model.{PROJECTOR}.weight", f"base_model.model.{PROJECTOR}.lora_A"):
        assert not is_whole(tensor, [PROJECTOR])
