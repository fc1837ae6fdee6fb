"""The weights that everything rests on. If these passed wrongly, the vision tower could be quantized, a saved 4-bit model could load as
noise, or an evaluation pass could silently take the gradients from every later training step.
"""

import json
from dataclasses import replace

import bitsandbytes as bnb
import pytest
import torch

from medvl_lib.batches import Reader, training_batch
from medvl_lib.chat import conversations_path, read_conversations
from medvl_lib.errors import MedVLError
from medvl_lib.lines import DOCUMENTS
from medvl_lib.models.counting import count_quantized, num_parameters, resident_bytes
from medvl_lib.models.loading import load
from medvl_lib.models.preparing import write_base, write_quantized
from medvl_lib.models.weights import BASE_RULES, INT8_RULES, NF4_RULES, held_bytes, tensors
from tests.torch_fixtures import TINY, Trial


def _batch(trial: Trial, loaded: object) -> dict[str, torch.Tensor]:
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:2]
    return training_batch(Reader(processor=loaded.processor, prompts=loaded.prompts, images=trial.images), conversations)


def test_only_the_language_model_is_in_four_bits(trial: Trial) -> None:
    loaded = load(trial.nf4, TINY, trial.profile)
    assert count_quantized(loaded.model) == {"language": 28, "vision": 0, "other": 0}  # 4 layers x 7 projections
    assert not isinstance(loaded.model.lm_head, bnb.nn.Linear4bit)
    assert loaded.precision == "nf4+float32"


def test_parameters_in_four_bits_are_counted_unpacked(trial: Trial) -> None:
    base, nf4 = load(trial.base, TINY, trial.profile), load(trial.nf4, TINY, trial.profile)
    quantized = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 704 * 256)
    assert num_parameters(nf4.model) == (num_parameters(base.model)[0], quantized)
    saved = quantized * 4 - quantized * 0.5
    assert 0.9 * saved < resident_bytes(base.model) - resident_bytes(nf4.model) < saved  # the constants cost a little


def test_what_four_bits_will_take_is_known_from_the_base_model(trial: Trial) -> None:
    planned, held = (held_bytes(folder, "bfloat16", form) for folder, form in ((trial.base, "nf4"), (trial.nf4, None)))
    assert planned == pytest.approx(held, rel=0.01)
    assert planned < 0.8 * held_bytes(trial.base, "bfloat16")


def test_weights_without_room_are_refused_before_they_are_loaded(trial: Trial, tmp_path) -> None:
    held = held_bytes(trial.base, "float32")
    snug = replace(trial.profile, memory_budget_bytes=held, memory_margin_share=0.0)
    assert load(trial.base, TINY, snug).precision == "float32"
    with pytest.raises(MedVLError, match=r"weights that take 0.0 GB \(float32\), and room for 0.0 GB") as refused:
        load(trial.base, TINY, replace(snug, memory_budget_bytes=held - 1))
    assert refused.value.where == str(trial.base)
    assert "memory_budget_bytes" in refused.value.do
    assert write_quantized(tmp_path, trial.base, "nf4", TINY, replace(snug, memory_budget_bytes=held - 1))  # what is packed takes less
    with pytest.raises(MedVLError, match=r"nf4\+float32"):
        write_quantized(tmp_path, trial.base, "nf4", TINY, replace(snug, memory_budget_bytes=1))


def test_a_saved_four_bit_model_loads_with_the_same_outputs(trial: Trial, tmp_path) -> None:
    write_quantized(tmp_path, trial.base, "nf4", TINY, trial.profile)
    first, second = load(trial.nf4, TINY, trial.profile), load(tmp_path, TINY, trial.profile)
    batch = _batch(trial, first)
    with torch.no_grad():
        assert torch.equal(first.model(**batch).logits, second.model(**batch).logits)


def test_evaluating_first_does_not_take_the_gradients_away(trial: Trial) -> None:
    loaded = load(trial.nf4, TINY, trial.profile)
    batch = _batch(trial, loaded)
    embedding = loaded.model.model.language_model.embed_tokens.weight

    def gradient() -> torch.Tensor:
        embedding.grad = None
        loaded.model.train()
        loaded.model(**batch).loss.backward()
        return embedding.grad.clone()

    before = gradient()
    loaded.model.eval()
    with torch.no_grad():
        loaded.model(**batch)
    assert torch.equal(gradient(), before)


def test_the_rules_hold_and_see_damage(trial: Trial, tmp_path) -> None:
    assert all(rule.holds(trial.base).passed for rule in BASE_RULES)
    assert all(rule.holds(trial.nf4).passed for rule in NF4_RULES)
    for path in trial.base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert [rule.name for rule in BASE_RULES if not rule.holds(tmp_path).passed] == ["weights_are_whole"]
    assert not NF4_RULES[-1].holds(trial.base).passed  # a model in full width is no NF4 model


def test_a_part_that_the_index_names_and_nobody_copied_is_seen(trial: Trial, tmp_path) -> None:
    for path in trial.base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = {"weight_map": {"lm_head.weight": "model.safetensors", "visual.patch_embed.weight": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    outcome = next(rule for rule in BASE_RULES if rule.name == "weights_are_whole").holds(tmp_path)
    assert (outcome.passed, outcome.offenders) == (False, ("model-00002-of-00002.safetensors",))


def test_a_quantized_vision_tower_is_seen(trial: Trial, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    for path in trial.nf4.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = load_file(trial.nf4 / "model.safetensors")
    values["visual.blocks.0.mlp.gate_proj.weight.quant_state.bitsandbytes__nf4"] = torch.zeros(8, dtype=torch.uint8)
    save_file(values, tmp_path / "model.safetensors")
    failed = [rule.name for rule in NF4_RULES if not rule.holds(tmp_path).passed]
    assert failed == ["only_language_linears_are_in_four_bits"]
    assert len(tensors(tmp_path)) == len(values)


@pytest.mark.parametrize("method", ["awq", "gptq", "bitsandbytes"])
def test_weights_that_are_quantized_already_are_refused(method: str, trial: Trial, tmp_path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    for path in trial.base.iterdir():
        (theirs / path.name).write_bytes(path.read_bytes())
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method, "bits": 4}}))
    spec = replace(TINY, source="directory", hub_id="mine/forms", seed=0, path=str(theirs))
    with pytest.raises(MedVLError, match=f"quantized already .{method}."):
        write_base(ours, spec)


def test_eight_bits_are_saved_and_loaded_again_with_identical_answers(trial: Trial, tmp_path) -> None:
    from medvl_lib.pretraining.examination import Examinee
    from medvl_lib.pretraining.reading import draw
    from medvl_lib.sample_data.reading_pages import BLOCKS

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_quantized(tmp_path / name, trial.base, "int8", TINY, trial.profile)
    assert all(rule.holds(tmp_path / "first").passed for rule in INT8_RULES)
    assert [rule.name for rule in INT8_RULES if not rule.holds(trial.nf4).passed] == ["only_language_linears_are_in_eight_bits"]
    assert [rule.name for rule in INT8_RULES if not rule.holds(trial.base).passed] == ["only_language_linears_are_in_eight_bits"]
    pages = draw(replace(BLOCKS, num_facts=(1, 1)), "test", 2)
    said = [
        Examinee(variant="int8", loaded=load(tmp_path / name, TINY, trial.profile), spec=TINY, profile=trial.profile).answers(pages)
        for name in ("first", "second")
    ]
    assert said[0] == said[1]
    assert load(tmp_path / "first", TINY, trial.profile).precision == "int8+float32"


def test_a_checkpoint_in_the_hubs_layout_is_copied_whole_and_loads(trial: Trial, tmp_path) -> None:
    spec = replace(TINY, source="directory", hub_id="mine/forms", seed=0, path=str(trial.base))
    facts = write_base(tmp_path, spec)
    assert facts["num_tensors"] == len(tensors(trial.base))
    assert (tmp_path / "model.safetensors").stat().st_ino != (trial.base / "model.safetensors").stat().st_ino  # the user's may change
    assert load(tmp_path, spec, trial.profile).precision == "float32"


def test_a_folder_without_weights_and_another_architecture_are_refused(trial: Trial, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedVLError, match=r"no \*\.safetensors"):
        write_base(tmp_path / "out", replace(TINY, source="directory", seed=0, path=str(tmp_path / "empty")))
    for path in trial.base.iterdir():
        (tmp_path / "empty" / path.name).write_bytes(path.read_bytes().replace(b'"model_type": "qwen2_5_vl"', b'"model_type": "llava"'))
    (tmp_path / "out").mkdir()
    with pytest.raises(MedVLError, match="model_type 'llava'"):
        write_base(tmp_path / "out", replace(TINY, source="directory", seed=0, path=str(tmp_path / "empty")))
    for folder in ("empty", "out"):
        (tmp_path / folder / "config.json").unlink()
    with pytest.raises(MedVLError, match=r"no config\.json"):
        write_base(tmp_path / "out", replace(TINY, source="directory", seed=0, path=str(tmp_path / "empty")))


def test_a_hub_that_cannot_be_reached_is_named_with_the_way_around_it(tmp_path) -> None:
    with pytest.raises(MedVLError) as refused:
        write_base(tmp_path, DOCUMENTS.model, tmp_path / "downloads")
    assert "Qwen/Qwen2.5-VL-7B-Instruct at cc594898137f460bfe9f0759e9844b3ce807cfb5" in refused.value.where
    assert "source = 'directory'" in refused.value.do


def test_a_saved_eight_bit_model_loads_with_the_same_outputs_and_holds_less(trial: Trial, tmp_path) -> None:
    write_quantized(tmp_path, trial.base, "int8", TINY, trial.profile)
    wide, narrow, again = load(trial.base, TINY, trial.profile), load(tmp_path, TINY, trial.profile), load(tmp_path, TINY, trial.profile)
    batch = _batch(trial, wide)
    with torch.no_grad():
        assert torch.equal(narrow.model(**batch).logits, again.model(**batch).logits)
    assert narrow.precision == "int8+float32"
    kept = [name for name, module in narrow.model.named_modules() if isinstance(module, bnb.nn.Linear8bitLt)]
    assert len(kept) == 28
    assert all(".language_model." in name for name in kept)
    assert resident_bytes(narrow.model) < resident_bytes(wide.model)


@pytest.mark.parametrize(
    ("change", "says"), [("removed", "1 missing tensors"), ("added", "1 unexpected tensors"), ("cut", "1 mismatched tensors")]
)
def test_weights_that_are_not_those_of_their_config_are_refused_by_name(change: str, says: str, trial: Trial, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    for path in trial.base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values, name = load_file(trial.base / "model.safetensors"), "model.layers.0.mlp.down_proj.weight"
    whole = values.pop(name)
    if change == "added":
        values |= {name: whole, "model.layers.0.mlp.more.weight": whole.clone()}
    elif change == "cut":
        values[name] = whole[:64].clone()
    save_file(values, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MedVLError, match=says):
        load(tmp_path, TINY, trial.profile)


@pytest.mark.parametrize(
    "hub_id", ["../../etc", "Qwen 2.5", "", "https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct", "forms", "mine//forms"]
)
def test_what_is_no_repository_is_refused_by_the_settings(hub_id: str) -> None:
    with pytest.raises(ValueError, match="is no repository of the hub"):
        replace(DOCUMENTS.model, hub_id=hub_id)
