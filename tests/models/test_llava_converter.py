"""LLaVA-Med's converter. If these passed wrongly, the line would train and serve another model than the published one, with nothing but
worse answers to show it.

The original forward stands here a second time, from the documented architecture (microsoft/LLaVA-Med @ 30697ca5, llava/model; Jiang et al.
2023, arXiv 2310.06825; Radford et al. 2021, arXiv 2103.00020), on the publisher's tensors under the publisher's names.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F  # noqa: N812 (its usual name)
from transformers import AutoModelForImageTextToText

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, write_json
from medvl_lib.lines import MODELS, tiny_model
from medvl_lib.models import llava_layout
from medvl_lib.models.llava_layout import (
    CONFIG,
    CONVERSION,
    NAMES,
    TOKENIZER,
    TOWERS,
    convert,
    expected_tensors,
    library_config,
    original_name,
    renamed,
    restore,
)  # fmt: skip
from medvl_lib.models.llava_med import SETTINGS, tiny_pieces, write_tiny
from medvl_lib.models.preparing import write_base
from medvl_lib.models.sentencepiece_files import Piece, read_pieces, to_tokenizer, write_pieces
from medvl_lib.models.weights import BASE_RULES, tensors

SPEC = tiny_model("llava_med")
Weights = dict[str, torch.Tensor]
TOWER = "model.vision_tower.vision_tower.vision_model."
CLIPS_SPELLING = f"{TOWER}pre_{'layr'}norm"  # sic


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the publisher's layout."""
    directory = tmp_path_factory.mktemp("original")
    write_tiny(directory, seed=3, max_pixels=SPEC.max_pixels)
    return directory


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(original, tmp_path / "copied")
    return tmp_path / "copied"


# -- the original forward ----------------------------------------------------------------------------------------------
def linear(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def layer_norm(weights: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def rms_norm(weight: torch.Tensor, x: torch.Tensor, epsilon: float) -> torch.Tensor:
    return weight * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)


# B pictures or texts, H heads, T tokens, D width of a head
def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores if mask is None else scores.masked_fill(mask, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def heads(x: torch.Tensor, number: int) -> torch.Tensor:
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def tower_features(weights: Weights, pixels: torch.Tensor, num_layers: int, num_heads: int) -> torch.Tensor:
    """CLIP's hidden states before its last layer (layer -2), without the class token."""
    patches = F.conv2d(pixels, weights[f"{TOWER}embeddings.patch_embedding.weight"], stride=14).flatten(2).transpose(1, 2)
    first = weights[f"{TOWER}embeddings.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([first, patches], dim=1) + weights[f"{TOWER}embeddings.position_embedding.weight"]
    x = layer_norm(weights, CLIPS_SPELLING, x)
    for layer in range(num_layers - 1):
        name = f"{TOWER}encoder.layers.{layer}"
        y = layer_norm(weights, f"{name}.layer_norm1", x)
        q, k, v = (heads(linear(weights, f"{name}.self_attn.{part}_proj", y), num_heads) for part in "qkv")
        x = x + linear(weights, f"{name}.self_attn.out_proj", attend(q, k, v, None))
        y = linear(weights, f"{name}.mlp.fc1", layer_norm(weights, f"{name}.layer_norm2", x))
        x = x + linear(weights, f"{name}.mlp.fc2", y * torch.sigmoid(1.702 * y))
    return x[:, 1:]


def rotated(x: torch.Tensor, theta: float) -> torch.Tensor:
    width, length = x.shape[-1], x.shape[-2]
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies).float()
    first, second = x[..., : width // 2], x[..., width // 2 :]
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1)


def original_logits(weights: Weights, settings: dict, pixels: torch.Tensor, before: list[int], after: list[int]) -> torch.Tensor:
    """Logits (T, V) of one picture between two stretches of text."""
    tower = TOWERS[settings["mm_vision_tower"]]
    features = tower_features(weights, pixels, tower["num_hidden_layers"], tower["num_attention_heads"])
    seen = linear(weights, "model.mm_projector.2", F.gelu(linear(weights, "model.mm_projector.0", features)))
    embedding = weights["model.embed_tokens.weight"]
    x = torch.cat([embedding[before][None], seen, embedding[after][None]], dim=1)
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    num_heads, num_shared, theta = settings["num_attention_heads"], settings["num_key_value_heads"], settings["rope_theta"]
    for layer in range(settings["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        y = rms_norm(weights[f"{name}.input_layernorm.weight"], x, settings["rms_norm_eps"])
        q = rotated(heads(linear(weights, f"{name}.self_attn.q_proj", y), num_heads), theta)
        k = rotated(heads(linear(weights, f"{name}.self_attn.k_proj", y), num_shared), theta)
        v = heads(linear(weights, f"{name}.self_attn.v_proj", y), num_shared)
        k, v = (part.repeat_interleave(num_heads // num_shared, dim=1) for part in (k, v))
        x = x + linear(weights, f"{name}.self_attn.o_proj", attend(q, k, v, mask))
        y = rms_norm(weights[f"{name}.post_attention_layernorm.weight"], x, settings["rms_norm_eps"])
        gate, up = (linear(weights, f"{name}.mlp.{part}_proj", y) for part in ("gate", "up"))
        x = x + linear(weights, f"{name}.mlp.down_proj", F.silu(gate) * up)
    return linear(weights, "lm_head", rms_norm(weights["model.norm.weight"], x, settings["rms_norm_eps"]))[0]


def test_the_converted_model_gives_the_logits_of_the_original_forward(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path)
    settings = read_json(original / CONFIG)
    weights = {name: tensor.float() for name, tensor in load_file(original / "model.safetensors").items()}
    chance = torch.Generator().manual_seed(5)
    pixels = torch.randn(1, 3, 112, 112, generator=chance)
    before, after = [1, 300, 301, 302], [303, 304, 700, 1021, 2]
    with torch.no_grad():
        wanted = original_logits(weights, settings, pixels, before, after)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
        ids = torch.tensor([[*before, *[settings["vocab_size"]] * 64, *after]])
        found = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits[0]
    assert wanted.shape == (73, 1022)
    assert wanted.std() > 0.5
    assert (found[:, :1022] - wanted).abs().max() < 1e-5


# -- tensors -----------------------------------------------------------------------------------------------------------
def change(directory: Path, how: Callable[[Weights], None]) -> None:
    weights = load_file(directory / "model.safetensors")
    how(weights)
    save_file(weights, directory / "model.safetensors")


def test_a_missing_tensor_is_named(copied: Path, tmp_path: Path) -> None:
    change(copied, lambda weights: weights.pop("model.mm_projector.2.bias"))
    with pytest.raises(MedVLError, match=r"1 missing, the first is model\.mm_projector\.2\.bias"):
        convert(copied, tmp_path)


def test_a_tensor_too_many_is_named(copied: Path, tmp_path: Path) -> None:
    change(copied, lambda weights: weights.update({"model.mm_projector.4.bias": torch.zeros(2)}))
    with pytest.raises(MedVLError, match=r"1 too many, the first is model\.mm_projector\.4\.bias"):
        convert(copied, tmp_path)


@pytest.mark.parametrize("name", ["model.layers.3.mlp.up_proj.weight", "lm_head.weight", f"{TOWER}embeddings.patch_embedding.weight"])
def test_a_misshapen_tensor_is_named_with_both_shapes(name: str, copied: Path, tmp_path: Path) -> None:
    change(copied, lambda weights: weights.update({name: weights[name][:-1].contiguous()}))
    rows, *others = load_file(copied / "model.safetensors")[name].shape
    with pytest.raises(MedVLError) as refused:
        convert(copied, tmp_path)
    assert f"1 misshapen, the first is {name} of {(rows, *others)} instead of {(rows + 1, *others)}" in refused.value.found


def test_a_checkpoint_without_its_tower_is_refused(copied: Path, tmp_path: Path) -> None:
    """The stock CLIP is another model: it is never put in silently."""
    change(copied, lambda weights: [weights.pop(name) for name in list(weights) if name.startswith(TOWER)])
    with pytest.raises(MedVLError, match=r"71 missing, the first is model\.vision_tower\."):
        convert(copied, tmp_path)


def test_computed_tensors_are_left_out_and_noted(copied: Path, tmp_path: Path) -> None:
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), f"{TOWER}embeddings.position_ids": torch.arange(65)}
    change(copied, lambda weights: weights.update(more))
    (tmp_path / "out").mkdir()
    convert(copied, tmp_path / "out")
    assert read_json(tmp_path / "out" / CONVERSION)["left_out"] == sorted(more)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sliding_window", 4096), ("mm_projector_type", "linear"), ("mm_vision_select_layer", -1),
        ("mm_vision_select_feature", "cls_patch"), ("mm_vision_tower", "somebody/clip"), ("tie_word_embeddings", True),
    ],
)  # fmt: skip
def test_a_config_of_another_model_is_refused_with_what_it_says(key: str, value: object, copied: Path, tmp_path: Path) -> None:
    write_json(copied / CONFIG, {**read_json(copied / CONFIG), key: value})
    with pytest.raises(MedVLError, match=rf"{key} = .*{value}"):
        convert(copied, tmp_path)


@pytest.mark.parametrize("name", ["rope_theta", "num_key_value_heads"])
def test_a_config_that_lacks_a_number_is_refused_with_its_name(name: str, copied: Path, tmp_path: Path) -> None:
    settings = read_json(copied / CONFIG)
    write_json(copied / CONFIG, {key: value for key, value in settings.items() if key != name})
    with pytest.raises(MedVLError, match=f"no {name}"):
        convert(copied, tmp_path)


def test_a_checkpoint_without_its_tokenizer_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / TOKENIZER).unlink()
    with pytest.raises(MedVLError, match=r"no tokenizer\.model"):
        convert(copied, tmp_path)


def test_shards_are_converted_one_by_one_and_an_index_names_them(copied: Path, tmp_path: Path) -> None:
    whole = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    names, half = sorted(whole), len(whole) // 2
    for number, part in enumerate((names[:half], names[half:]), start=1):
        save_file({name: whole[name] for name in part}, copied / f"model-0000{number}-of-00002.safetensors")
    write_json(copied / "model.safetensors.index.json", {"metadata": {}, "weight_map": {}})
    (tmp_path / "out").mkdir()
    convert(copied, tmp_path / "out")
    index = read_json(tmp_path / "out" / "model.safetensors.index.json")
    assert index["weight_map"].keys() == tensors(tmp_path / "out").keys()
    assert set(index["weight_map"].values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert [rule.name for rule in BASE_RULES[:1] if not rule.holds(tmp_path / "out").passed] == []
    AutoModelForImageTextToText.from_pretrained(tmp_path / "out")


def test_no_weight_is_changed_and_new_rows_are_the_mean(original: Path, tmp_path: Path) -> None:
    facts = convert(original, tmp_path)
    before, after = load_file(original / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert facts["num_converted_tensors"] == len(before) == len(after)
    for name, tensor in before.items():
        assert torch.equal(after[renamed(name)][: len(tensor)], tensor), name
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert after[renamed(name)].shape[0] == 1024 == 1022 + facts["num_added_rows"]
        mean = before[name].float().mean(dim=0)
        assert (after[renamed(name)][1022:].float() - mean).abs().max() < 1e-2


def test_which_tower_was_taken_is_in_the_facts_and_beside_the_weights(original: Path, tmp_path: Path) -> None:
    facts = convert(original, tmp_path)
    assert facts["vision_tower"] == "the checkpoint's own, not the stock medvl/tiny-clip-vit-patch14-112"
    assert read_json(tmp_path / CONVERSION)["vision_tower"] == facts["vision_tower"]


def test_back_again_it_is_the_original_byte_for_byte(original: Path, tmp_path: Path) -> None:
    for name in ("converted", "back"):
        (tmp_path / name).mkdir()
    convert(original, tmp_path / "converted")
    restore(tmp_path / "converted", tmp_path / "back", original)
    assert {path.name for path in (tmp_path / "back").iterdir()} == {path.name for path in original.iterdir()}
    first, second = load_file(original / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_name_goes_there_and_back() -> None:
    for name in ("model.layers.0.mlp.up_proj.weight", "lm_head.weight", "model.mm_projector.0.bias", f"{TOWER}post_layernorm.weight"):
        assert original_name(renamed(name)) == name
    with pytest.raises(ValueError, match=r"'transformer\.wte' begins like no tensor"):
        renamed("transformer.wte")
    assert len({there for _, there in NAMES}) == len(NAMES)


def test_the_published_checkpoint_has_as_many_tensors_and_values_as_its_index_lists(tmp_path: Path) -> None:
    """686 tensors, 391 of them the tower's, 15,132,438,528 bytes at the pinned revision (read from public notes, not from the hub)."""
    published = {
        **SETTINGS, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768, "rope_theta": 1e6,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    }  # fmt: skip
    write_json(tmp_path / CONFIG, published)
    expected = expected_tensors(library_config(tmp_path), 32000)
    assert len(expected) == 686
    assert sum(name.startswith(TOWER) for name in expected) == 391
    assert sum(math.prod(shape.shape) for shape in expected.values()) * 2 == 15_132_438_528
    assert library_config(tmp_path).text_config.vocab_size == 32064
    assert library_config(tmp_path).image_seq_length == 576


# -- preparing ---------------------------------------------------------------------------------------------------------
def test_preparing_the_base_model_converts_and_leaves_nothing_of_the_original(tmp_path: Path) -> None:
    facts = write_base(tmp_path, SPEC)
    assert facts["converted_from"] == "llava_mistral"
    assert json.loads((tmp_path / CONFIG).read_text())["model_type"] == "llava"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert not (tmp_path / TOKENIZER).exists()


def test_a_directory_that_is_converted_already_is_taken_as_it_is(original: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    for name in ("converted", "base", "from_original"):
        (tmp_path / name).mkdir()
    convert(original, tmp_path / "converted")
    spec = replace(SPEC, source="directory", path=str(tmp_path / "converted"))
    write_base(tmp_path / "base", spec)
    write_base(tmp_path / "from_original", replace(spec, path=str(original)))
    for path in (tmp_path / "converted").iterdir():
        assert (tmp_path / "base" / path.name).read_bytes() == path.read_bytes() == (tmp_path / "from_original" / path.name).read_bytes()


def test_the_published_model_is_pinned() -> None:
    assert (MODELS["llava_med"].hub_id, len(MODELS["llava_med"].revision)) == ("microsoft/llava-med-v1.5-mistral-7b", 40)
    assert MODELS["llava_med"].max_pixels == 336 * 336


# -- the tokenizer -----------------------------------------------------------------------------------------------------
def test_pieces_are_read_as_they_were_written(tmp_path: Path) -> None:
    pieces = [Piece("<unk>", 0.0, "unknown"), Piece("<s>", 0.0, "control"), Piece("▁Ärzte", -3.5, "normal"), Piece("<0x0A>", 0.0, "byte")]
    pieces.append(Piece("x" * 300, -4.0, "normal"))  # a length of two bytes
    write_pieces(tmp_path / TOKENIZER, pieces)
    assert read_pieces(tmp_path / TOKENIZER) == pieces


def test_other_fields_of_a_models_file_are_passed_over(tmp_path: Path) -> None:
    write_pieces(tmp_path / TOKENIZER, [Piece("<unk>", 0.0, "unknown")])
    trainer = bytes([2 << 3 | 2, 3, 1, 2, 3])  # field 2: how it was trained
    (tmp_path / TOKENIZER).write_bytes(trainer + (tmp_path / TOKENIZER).read_bytes() + bytes([9 << 3 | 0, 0x96, 1]))
    assert read_pieces(tmp_path / TOKENIZER) == [Piece("<unk>", 0.0, "unknown")]


@pytest.mark.parametrize("data", [b"\x0a\xff\x01x", b"\x0f", b"\x0a\x04\x0a\x02\xff\xfe"])
def test_a_file_that_is_no_model_is_refused_by_its_path(data: bytes, tmp_path: Path) -> None:
    (tmp_path / TOKENIZER).write_bytes(data)
    with pytest.raises(MedVLError, match="no SentencePiece model"):
        read_pieces(tmp_path / TOKENIZER)


def test_a_vocabulary_of_another_size_is_refused(copied: Path, tmp_path: Path) -> None:
    write_pieces(copied / TOKENIZER, tiny_pieces()[:-1])
    with pytest.raises(MedVLError, match="1021 pieces for 1022 tokens"):
        convert(copied, tmp_path)


def test_text_is_cut_as_sentencepiece_cuts_it() -> None:
    """The higher score first; a blank before the text; a character without a piece as its bytes."""
    normal = [("▁a", -1.0), ("bc", -2.0), ("ab", -3.0), ("▁", -4.0), ("a", -5.0), ("b", -6.0), ("c", -7.0)]
    octets = [Piece(f"<0x{value:02X}>", 0.0, "byte") for value in range(256)]
    pieces = [Piece("<unk>", 0.0, "unknown"), Piece("</s>", 0.0, "control"), *octets, *(Piece(*each, "normal") for each in normal)]
    tokenizer = to_tokenizer(pieces, ("<image>",))
    assert tokenizer.encode("abc").tokens == ["▁a", "bc"]
    assert tokenizer.encode("abc ab</s>").tokens == ["▁a", "bc", "▁a", "b", "</s>"]
    assert tokenizer.encode("a\nc").tokens == ["▁a", "<0x0A>", "c"]
    assert tokenizer.encode("<image>é").tokens == ["<image>", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.token_to_id("<image>") == len(pieces)
    assert llava_layout.IMAGE_TOKEN == "<image>"
