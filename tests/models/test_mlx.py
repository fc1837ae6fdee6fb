"""The engine mlx against torch on the same weights. If these passed wrongly, a Mac would answer, or learn, something else under the same
names: from other masks or positions, with an adapter that torch reads differently, or from four bits by another name than theirs.

On Linux MLX computes on the CPU; what its GPU makes of the same operations is not shown here.
"""

import importlib.util
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from medvl_lib.batches import Reader, prompt_batch, training_batch
from medvl_lib.chat import Conversation, conversations_path, read_conversations, single_turn
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.files import read_json
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.models.computing import computing
from medvl_lib.models.counting import num_parameters
from medvl_lib.models.loading import Loaded, attach, load
from medvl_lib.models.preparing import write_base, write_quantized
from medvl_lib.models.spec import MLX_FAMILIES, Family, ModelSpec, on_its_engine
from medvl_lib.models.weights import AFFINE4_RULES, held_bytes, tensors
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.route import adapt, train
from medvl_lib.training.rules import RULES
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from tests.damages import AFFINE4
from tests.llava_fixtures import Small
from tests.torch_fixtures import RECIPE, TINY, Trial

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlx_vlm") is None, reason="mlx is not installed: pip install -c constraints/linux-x86_64.txt -e '.[mlx]'"
)
TORCH = replace(PROFILES["cpu"], quantization="none")
MLX = replace(PROFILES["cpu"], engine="mlx", quantization="mlx-affine4")
LOGITS = 1e-3  # bound on any logit, of up to 17; found: 2e-5
LOSSES = 1e-4  # bound on a step's loss and gradient norm; found: 2e-6
ASKED = EvaluationSpec(
    splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=24, controls=(), seed=1, datasets=(), further_variants=(),
)  # fmt: skip
FEW = replace(RECIPE, max_steps=3, effective_batch=2, lora_dropout=0.0, validations_per_epoch=0)
PROJECTOR = replace(FEW, fully_trained=("multi_modal_projector",), fully_trained_rate=1e-3)


class Bench:
    """The trained small model of a family, and questions with pictures."""

    def __init__(self, base: Path, spec: ModelSpec, chat: Path, images: ImageStore) -> None:
        self.base, self.spec, self.chat, self.images = base, spec, chat, images

    def conversations(self, split: Any = "train") -> Sequence[Conversation]:
        """Three with pictures of theirs, and with questions of unequal length."""
        held = list(read_conversations(conversations_path(self.chat, split)))[:3]
        return [
            single_turn(
                item.pair_id, image_ids=item.image_ids, request="What is seen?" + " Say all." * place, response="Sodium " * place + ".",
            )
            for place, item in enumerate(held, 1)
        ]  # fmt: skip

    def load(self, profile: Profile, weights: Path | None = None) -> Loaded:
        return load(weights or self.base, self.spec, profile)

    def speaker(self, loaded: Loaded, profile: Profile, adapter: str | None = None) -> Speaker:
        return Speaker(
            variant="base", condition="as_is", loaded=loaded, evaluation=ASKED, images=self.images, profile=profile, adapter=adapter,
        )  # fmt: skip

    def said(self, loaded: Loaded, profile: Profile, adapter: str | None = None) -> list[str]:
        speaker = self.speaker(loaded, profile, adapter)
        asked = list(read_conversations(conversations_path(self.chat, "test")))
        return [row.answer for batch in (asked, self.conversations()) for row in speaker.answer(batch, 0)]

    def batch(self, loaded: Loaded, make: Callable[..., Any]) -> dict[str, torch.Tensor]:
        reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=self.images)
        return make(reader, self.conversations())

    def train(self, directory: Path, recipe: Recipe, profile: Profile, weights: Path | None = None, **how: Any) -> Path:
        directory.mkdir(exist_ok=True)
        train(
            directory, stage=Stage(name="adapter", objective="generate", recipe=recipe), spec=self.spec, weights=weights or self.base,
            chat=self.chat, images=self.images, profile=profile, previous=None,
            **{"checkpoints": directory.parent / f"{directory.name}-checkpoints", "report": lambda _: None, **how},
        )  # fmt: skip
        return directory


@pytest.fixture(scope="module")
def benches(trial: Trial, small_llava: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Bench]:
    spec, base = tiny_model("llava_med"), tmp_path_factory.mktemp("llava-base")
    write_base(base, spec)
    return {
        "qwen2_5_vl": Bench(trial.base, TINY, trial.chat, trial.images),
        "llava_med": Bench(base, spec, small_llava.chat, small_llava.images),
    }  # fmt: skip


@pytest.fixture(params=sorted(MLX_FAMILIES))
def bench(request: pytest.FixtureRequest, benches: dict[Family, Bench]) -> Bench:
    return benches[request.param]


@pytest.fixture(scope="module")
def affine(benches: dict[Family, Bench], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("affine")
    write_quantized(directory, benches["qwen2_5_vl"].base, "affine4", TINY, MLX)
    return directory


def logits(loaded: Loaded, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        found = loaded.model(**{name: item for name, item in batch.items() if name != "labels"}).logits
    return found[batch["attention_mask"].bool()]


@pytest.mark.parametrize("make", [training_batch, prompt_batch], ids=["padded right", "padded left"])
def test_the_logits_are_torchs(bench: Bench, make: Callable[..., Any]):
    ours, theirs = bench.load(MLX), bench.load(TORCH)
    batch = bench.batch(ours, make)
    assert not batch["attention_mask"].bool().all()  # rows of unequal length
    assert (logits(ours, batch) - logits(theirs, batch)).abs().max() < LOGITS


@pytest.mark.slow
def test_sixteen_bits_are_as_near_as_torchs_own(benches: dict[Family, Bench]):
    bench = benches["qwen2_5_vl"]
    wide, theirs, ours = (
        bench.load(how) for how in (TORCH, replace(TORCH, weights_dtype="bfloat16"), replace(MLX, weights_dtype="bfloat16"))
    )
    batch = bench.batch(wide, prompt_batch)
    exact, torchs, mlxs = (logits(loaded, batch).float() for loaded in (wide, theirs, ours))
    assert (mlxs - exact).norm() < 1.5 * (torchs - exact).norm()  # found: 1.14 times
    assert (mlxs - exact).abs().max() > LOGITS  # it did compute in 16 bits


def test_both_say_the_same(bench: Bench):
    said = bench.said(bench.load(MLX), MLX)
    assert said == bench.said(bench.load(TORCH), TORCH)
    assert len(set(said)) > 1


def test_a_blind_engine_would_be_seen(bench: Bench):
    ours = bench.load(MLX)
    batch = bench.batch(ours, prompt_batch)
    seen, blank = logits(ours, batch), logits(ours, {**batch, "pixel_values": torch.zeros_like(batch["pixel_values"])})
    assert (seen - blank).abs().max() > 100 * LOGITS


def test_another_thread_gets_the_same_answer(benches: dict[Family, Bench]):
    bench, heard = benches["qwen2_5_vl"], list[list[str]]()
    loaded = bench.load(MLX)
    thread = threading.Thread(target=lambda: heard.append(bench.said(loaded, MLX)))
    thread.start()
    thread.join()
    assert heard == [bench.said(loaded, MLX)]


def test_the_model_in_torch_has_shapes_and_no_memory(benches: dict[Family, Bench]):
    bench = benches["qwen2_5_vl"]
    ours, theirs = bench.load(MLX).model, bench.load(TORCH).model
    assert num_parameters(ours) == num_parameters(theirs)
    assert sum(item.untyped_storage().nbytes() for item in ours.parameters()) < 10_000
    engine = computing(ours)
    assert engine is not None
    assert engine.held_bytes() >= held_bytes(bench.base, "float32")


def gradients(loaded: Loaded, bench: Bench, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Of a fresh adapter whose second matrix is not zero, so that both get some."""
    torch.manual_seed(3)
    model = adapt(loaded, bench.spec, recipe)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.train()
    model(**bench.batch(loaded, training_batch)).loss.backward()
    return {name: item.grad for name, item in model.named_parameters() if item.requires_grad and item.grad is not None}


def test_every_gradient_is_torchs(bench: Bench):
    recipe = replace(PROJECTOR, fully_trained=("multi_modal_projector" if bench.spec.family == "llava_med" else "visual.merger",))
    ours, theirs = gradients(bench.load(MLX), bench, recipe), gradients(bench.load(TORCH), bench, recipe)
    assert ours.keys() == theirs.keys()
    assert any("modules_to_save" in name for name in ours)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-7, name


def test_a_layer_that_is_computed_again_drops_the_same(benches: dict[Family, Bench]):
    bench, recipe = benches["qwen2_5_vl"], replace(FEW, lora_dropout=0.3)
    kept, again = (gradients(bench.load(replace(MLX, gradient_checkpointing=how)), bench, recipe) for how in (False, True))
    none = gradients(bench.load(MLX), bench, FEW)
    name = next(iter(kept))
    assert all(torch.allclose(again[key], kept[key], atol=1e-6) for key in kept)
    assert not torch.allclose(kept[name], none[name], rtol=0.01)


def test_a_loss_that_weighs_tokens_is_refused(benches: dict[Family, Bench]):
    bench = benches["qwen2_5_vl"]
    loaded = bench.load(MLX)
    model = adapt(loaded, TINY, FEW)
    found = model(**bench.batch(loaded, training_batch)).log_probs
    with pytest.raises(NotImplementedError, match="weighs tokens differently"):
        (found**2).sum().backward()


def test_what_mlx_cannot_adapt_is_refused_by_name(benches: dict[Family, Bench]):
    bench = benches["qwen2_5_vl"]
    loaded = bench.load(MLX)
    model = adapt(loaded, TINY, replace(FEW, lora_targets=r"model\.visual\.patch_embed\.proj"))
    with pytest.raises(MedVLError, match=r"lora_targets name model\.visual\.patch_embed\.proj"):
        model(**bench.batch(loaded, training_batch))


@pytest.fixture(scope="module")
def trained(benches: dict[Family, Bench], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same recipe by both engines."""
    root, bench = tmp_path_factory.mktemp("trained"), benches["qwen2_5_vl"]
    return {name: bench.train(root / name, FEW, profile) for name, profile in (("torch", TORCH), ("mlx", MLX))}


def test_the_first_steps_lose_what_torch_loses(trained: dict[str, Path]):
    theirs, ours = (list(read_table(trained[name] / TRAINING_STEPS, TrainingStep)) for name in ("torch", "mlx"))
    assert len(ours) == len(theirs) == FEW.max_steps
    for mine, yours in zip(ours, theirs, strict=True):
        assert abs(mine.loss - yours.loss) < LOSSES
        assert mine.gradient_norm is not None and yours.gradient_norm is not None
        assert abs(mine.gradient_norm - yours.gradient_norm) < LOSSES
        assert (mine.learning_rate, mine.num_tokens) == (yours.learning_rate, yours.num_tokens)
    assert abs(ours[0].loss - ours[-1].loss) > 100 * LOSSES


def test_its_adapter_passes_every_rule(trained: dict[str, Path]):
    assert {rule.name: rule.holds(trained["mlx"]).passed for rule in RULES if rule.name != "loss_fell"} == {
        rule.name: True for rule in RULES if rule.name != "loss_fell"
    }  # fmt: skip


def test_torch_and_peft_load_what_mlx_trained(benches: dict[Family, Bench], trained: dict[str, Path]):
    bench = benches["qwen2_5_vl"]
    assert sorted(path.name for path in trained["mlx"].iterdir()) == sorted(path.name for path in trained["torch"].iterdir())
    ours, theirs = (attach(bench.load(profile), {"tuned": trained["mlx"]}) for profile in (MLX, TORCH))
    assert isinstance(theirs.model, PeftModel)
    batch = bench.batch(ours, prompt_batch)
    assert (logits(ours, batch) - logits(theirs, batch)).abs().max() < LOGITS
    with theirs.model.disable_adapter():
        assert (logits(ours, batch) - logits(theirs, batch)).abs().max() > 10 * LOGITS  # it says something
    assert bench.said(ours, MLX, "tuned") == bench.said(theirs, TORCH, "tuned")
    assert bench.said(ours, MLX) == bench.said(bench.load(TORCH), TORCH)  # and without it they speak as they are


def test_a_run_that_is_resumed_ends_where_it_would_have(benches: dict[Family, Bench], tmp_path: Path):
    bench, recipe = benches["qwen2_5_vl"], replace(FEW, lora_dropout=0.1)
    whole = bench.train(tmp_path / "whole", recipe, MLX)

    def stop(facts: dict[str, Any]) -> None:
        if facts.get("step") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.train(tmp_path / "cut", recipe, MLX, report=stop)
    assert [path.name for path in (tmp_path / "cut-checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    resumed = bench.train(tmp_path / "cut", recipe, MLX)
    losses = [[step.loss for step in read_table(directory / TRAINING_STEPS, TrainingStep)] for directory in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


# -- affine four bits --------------------------------------------------------------------------------------------------
def test_affine_four_bits_are_called_so_and_load_again_as_they_were(benches: dict[Family, Bench], affine: Path, tmp_path: Path):
    bench = benches["qwen2_5_vl"]
    assert [rule.name for rule in AFFINE4_RULES if not rule.holds(affine).passed] == []
    loaded, again = bench.load(MLX, affine), bench.load(MLX, affine)
    assert loaded.precision == "mlx-affine4+float32"
    _, packed = num_parameters(loaded.model)
    assert packed == 4 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 704)  # the seven linears of four layers
    assert (
        tensors(affine).keys() - {name for name in tensors(affine) if name.endswith((".scales", ".biases"))} == tensors(bench.base).keys()
    )
    batch = bench.batch(loaded, prompt_batch)
    assert torch.equal(logits(loaded, batch), logits(again, batch))
    write_quantized(tmp_path, bench.base, "affine4", TINY, MLX)
    assert (tmp_path / "model.safetensors").read_bytes() == (affine / "model.safetensors").read_bytes()


def test_every_rule_of_it_has_its_damage():
    assert {rule.name for rule in AFFINE4_RULES} == set(AFFINE4)


@pytest.mark.parametrize("rule", AFFINE4)
def test_damage_to_it_is_found_by_exactly_its_rule(affine: Path, tmp_path: Path, rule: str):
    directory = shutil.copytree(affine, tmp_path / "damaged")
    AFFINE4[rule](directory)
    assert [each.name for each in AFFINE4_RULES if not each.holds(directory).passed] == [rule]


def test_packing_costs_what_four_bits_cost(benches: dict[Family, Bench], affine: Path):
    from medvl_lib.models.mlx_weights import round_trip_error

    errors = round_trip_error(benches["qwen2_5_vl"].base, MLX)
    assert len(errors) == 28
    assert 0.08 < min(errors.values()) < max(errors.values()) < 0.1  # 16 levels over the range of 64 numbers: found 0.090 to 0.092
    assert held_bytes(affine, "float32") < 0.62 * held_bytes(benches["qwen2_5_vl"].base, "float32")


def test_an_adapter_is_trained_on_four_bits(benches: dict[Family, Bench], affine: Path, tmp_path: Path):
    directory = benches["qwen2_5_vl"].train(tmp_path / "qlora", FEW, MLX, affine)
    assert read_json(directory / "training.json")["precision"] == "mlx-affine4+float32"
    assert [rule.name for rule in RULES if rule.name != "loss_fell" and not rule.holds(directory).passed] == []
    attach(benches["qwen2_5_vl"].load(TORCH), {"tuned": directory})  # an adapter goes with every engine


def test_another_engines_four_bits_are_refused(trial: Trial, affine: Path):
    with pytest.raises(MedVLError, match="weights in mlx-affine4, which the engine torch does not read"):
        load(affine, TINY, TORCH)
    with pytest.raises(MedVLError, match="weights in nf4, which the engine mlx does not read"):
        load(trial.nf4, TINY, MLX)


def test_a_tensor_that_is_not_there_is_named(benches: dict[Family, Bench], tmp_path: Path):
    shutil.copytree(benches["qwen2_5_vl"].base, tmp_path / "cut")
    held = load_file(tmp_path / "cut" / "model.safetensors")
    del held["model.layers.1.mlp.up_proj.weight"]
    save_file(held, tmp_path / "cut" / "model.safetensors")
    with pytest.raises(MedVLError, match=r"language_model\.model\.layers\.1\.mlp\.up_proj\.weight"):
        load(tmp_path / "cut", TINY, MLX)


def test_weights_that_mlx_packed_elsewhere_are_no_base(affine: Path, tmp_path: Path):
    with pytest.raises(MedVLError, match=r"weights that are quantized already \(mlx\)"):
        write_base(tmp_path, replace(TINY, source="directory", path=str(affine)))


def test_other_families_stay_on_torch():
    assert on_its_engine(MLX, "qwen2_5_vl") is MLX
    for family in ("mllama", "siglip"):
        assert on_its_engine(MLX, family) == replace(MLX, engine="torch", quantization="none")
