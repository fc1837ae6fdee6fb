"""MLX: mlx-vlm's architecture of a family, filled from a directory of verified weights, in full width or in affine four bits.

In: a directory in the library's layout, whose files torch reads too. Out: an MLX module with the same tensors; or a directory in affine
four bits. What computes with it is ``mlx_engine``. Imported only where a profile's engine is ``mlx``: it is an extra, and needs no torch.
Affine four bits are not NF4: groups of 64 weights share a scale and an offset, levels are equally far apart, and whatever was made with
them says so (``mlx-affine4``).
Source: mlx-vlm 0.7.10, models/qwen2_5_vl and models/llava; mlx 0.32, nn.quantize.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_vlm.models import llava, qwen2_5_vl
from transformers import AutoConfig

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, write_json
from medvl_lib.hardware import Profile
from medvl_lib.models.spec import FAMILIES, MLX_FAMILIES, Family
from medvl_lib.models.weights import AFFINE_BITS, AFFINE_GROUP

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
LANGUAGE_LAYERS = "language_model.model.layers."  # as mlx-vlm calls them, in every family
QUANTIZATION = "quantization"  # key of config.json, as MLX's own tools write it
FULL_WIDTH = {mx.float32, mx.bfloat16, mx.float16}
SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How a family's model is built of MLX, and how its tensors and modules are called there."""

    build: Callable[[Any], nn.Module]
    """The library's config -> a module without weights."""
    stored: Sequence[tuple[str, str]]
    """How names in files begin, and how the same tensors' names begin in the module; the first that matches counts."""
    modules: Sequence[tuple[str, str]]
    """How the library's modules' names begin, and the same modules' here."""
    channels_last: str
    """The convolution whose weight MLX holds with its channels last."""


def _build_qwen(config: Any) -> nn.Module:
    text, vision = config.text_config, config.vision_config
    kind = qwen2_5_vl.config
    model = qwen2_5_vl.Model(kind.ModelConfig(
        text_config=kind.TextConfig(
            **_alike(text, kind.TextConfig), rope_theta=text.rope_parameters["rope_theta"], tie_word_embeddings=_is_tied(config),
            rope_scaling={"type": "mrope", "mrope_section": list(text.rope_parameters["mrope_section"])},
        ),
        vision_config=kind.VisionConfig(**{**_alike(vision, kind.VisionConfig), "model_type": "qwen2_5_vl"}),
        model_type="qwen2_5_vl", vocab_size=text.vocab_size, image_token_id=config.image_token_id, video_token_id=config.video_token_id,
        vision_start_token_id=config.vision_start_token_id, vision_end_token_id=config.vision_end_token_id,
    ))  # fmt: skip
    for layer in model.language_model.model.layers:
        layer.self_attn.rotary_emb.fused_apply = False  # Metal's fused kernel has no way back, and could not be tried here
    return model


def _build_llava(config: Any) -> nn.Module:
    text, vision = config.text_config, config.vision_config
    kind = llava.config
    return llava.Model(kind.ModelConfig(
        text_config=kind.TextConfig(
            **_alike(text, kind.TextConfig), rope_theta=text.rope_parameters["rope_theta"], tie_word_embeddings=_is_tied(config),
        ),
        vision_config=kind.VisionConfig(**{**_alike(vision, kind.VisionConfig), "model_type": "clip_vision_model"}),
        model_type="llava", vocab_size=text.vocab_size, image_token_index=config.image_token_index,
        vision_feature_layer=config.vision_feature_layer, vision_feature_select_strategy=config.vision_feature_select_strategy,
    ))  # fmt: skip


def _is_tied(config: Any) -> bool:
    """Whether the head is the embedding: published configs say so in one place or the other."""
    return bool(getattr(config, "tie_word_embeddings", False) or getattr(config.text_config, "tie_word_embeddings", False))


def _alike(config: Any, kind: type) -> dict[str, Any]:
    """What a config of the library and one of mlx-vlm call by one name."""
    computed = {"rope_theta", "rope_scaling", "tie_word_embeddings"}
    return {name: getattr(config, name) for name in kind.__dataclass_fields__ if name not in computed and hasattr(config, name)}


ARCHITECTURES: Mapping[Family, Architecture] = {
    "qwen2_5_vl": Architecture(
        build=_build_qwen, channels_last="vision_tower.patch_embed.proj.weight",
        stored=(("visual.", "vision_tower."), ("model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")),
        modules=(
            ("model.visual.", "vision_tower."), ("model.language_model.", "language_model.model."), ("lm_head", "language_model.lm_head"),
        ),
    ),
    "llava_med": Architecture(
        build=_build_llava, channels_last="vision_tower.vision_model.embeddings.patch_embedding.weight",
        stored=(
            ("vision_tower.vision_model.", "vision_tower.vision_model."),  # as older files of the library have it
            ("vision_tower.", "vision_tower.vision_model."), ("", ""),
        ),
        modules=(
            ("model.language_model.", "language_model.model."), ("lm_head", "language_model.lm_head"),
            ("model.vision_tower.", "vision_tower.vision_model."), ("model.", ""),
        ),
    ),
}  # fmt: skip


def module_name(family: Family, name: str) -> str:
    """The library's name of a module or tensor -> MLX's."""
    return _renamed(name, ARCHITECTURES[family].modules)


def _renamed(name: str, beginnings: Sequence[tuple[str, str]]) -> str:
    for old, new in beginnings:
        if name.startswith(old):
            return f"{new}{name.removeprefix(old)}"
    raise ValueError(f"{name} begins like nothing that is known: {[old for old, _ in beginnings]}")


def family_of(directory: Path) -> Family:
    """The family of a directory of weights; raises MedVLError where mlx-vlm's form of it is not held against torch's."""
    family = FAMILIES[read_json(directory / "config.json")["model_type"]]
    if family not in MLX_FAMILIES:
        raise MedVLError(
            found=f"a model of the family {family}, which the engine mlx does not run", where=str(directory),
            do=f"set engine = 'torch' and quantization = 'none' in the profile; mlx runs {', '.join(sorted(MLX_FAMILIES))}",
        )  # fmt: skip
    return family


def use_device(profile: Profile) -> None:
    """Compute on the CPU where the profile says so, else on the GPU that shares its memory."""
    mx.set_default_device(mx.cpu if profile.device == "cpu" else mx.gpu)


def load_module(directory: Path, profile: Profile) -> nn.Module:
    """The model of a directory, its tensors in the profile's type; packed ones as they are.

    Raises MedVLError where a tensor of the architecture is absent, or one is there that it does not have.
    """
    use_device(profile)
    family, config = family_of(directory), AutoConfig.from_pretrained(directory)
    architecture = ARCHITECTURES[family]
    model = architecture.build(config)
    if (packed := read_json(directory / "config.json").get(QUANTIZATION)) is not None:
        quantize(model, bits=packed["bits"], group_size=packed["group_size"])
    held = dict(_stored(directory, architecture, DTYPES[profile.weights_dtype]))
    wanted = {name: item.shape for name, item in tree_flatten(model.parameters())}
    astray = sorted(wanted.keys() ^ held.keys()) + sorted(name for name in wanted.keys() & held.keys() if held[name].shape != wanted[name])
    if astray:
        raise MedVLError(
            found=f"{len(astray)} tensors that are missing, unexpected or of another shape, the first is {astray[0]}", where=str(directory),
            do="bring the checkpoint's own config.json and weights, whole: no number is made up for a tensor that is not there",
        )  # fmt: skip
    model.load_weights(list(held.items()))
    mx.eval(model.parameters())
    model.eval()
    model.freeze()
    return model


def _stored(directory: Path, architecture: Architecture, dtype: mx.Dtype) -> Iterator[tuple[str, mx.array]]:
    """The tensors of the files, by their names in the module, as it holds them."""
    for path in sorted(directory.glob("*.safetensors")):
        for stored, tensor in mx.load(str(path)).items():
            name = _renamed(stored, architecture.stored)
            held = mx.moveaxis(tensor, 1, -1) if name == architecture.channels_last else tensor
            yield name, held.astype(dtype) if tensor.dtype in FULL_WIDTH else held


def quantize(model: nn.Module, *, bits: int = AFFINE_BITS, group_size: int = AFFINE_GROUP) -> None:
    """Pack the linears of the language layers; vision tower, projector, embeddings and head keep their width, as with NF4."""
    nn.quantize(model, group_size=group_size, bits=bits, class_predicate=lambda name, module: is_packed_linear(name, module))


def is_packed_linear(name: str, module: nn.Module) -> bool:
    """Whether four bits are meant for a module."""
    return name.startswith(LANGUAGE_LAYERS) and isinstance(module, nn.Linear | nn.QuantizedLinear)


def packed_linears(model: nn.Module) -> list[str]:
    """The names of the linears that are packed."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.QuantizedLinear)]


def write_affine(directory: Path, base_directory: Path, profile: Profile) -> int:
    """Pack the base's language linears and save them under the names that the base has; returns how many there are."""
    model, family = load_module(base_directory, profile), family_of(base_directory)
    quantize(model)
    held = {_unnamed(name, ARCHITECTURES[family]): item for name, item in tree_flatten(model.parameters())}
    channels_last = _unnamed(ARCHITECTURES[family].channels_last, ARCHITECTURES[family])
    held[channels_last] = mx.contiguous(mx.moveaxis(held[channels_last], -1, 1))
    _save_in_shards(directory, held)
    config = read_json(base_directory / "config.json")
    write_json(directory / "config.json", {**config, QUANTIZATION: {"bits": AFFINE_BITS, "group_size": AFFINE_GROUP, "mode": "affine"}})
    return len(packed_linears(model))


def _unnamed(name: str, architecture: Architecture) -> str:
    # the longest first: a head and the layers may begin alike
    backwards = sorted(((new, old) for old, new in architecture.stored), key=lambda pair: -len(pair[0]))
    return _renamed(name, backwards)


def _save_in_shards(directory: Path, held: Mapping[str, mx.array]) -> None:
    """In files of at most five gigabytes, with the hub's index where there are several."""
    shards: list[dict[str, mx.array]] = [{}]
    size = 0
    for name, item in held.items():
        if size and size + item.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = item
        size += item.nbytes
    names = (
        ["model.safetensors"]
        if len(shards) == 1
        else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    )
    for name, shard in zip(names, shards, strict=True):
        mx.save_safetensors(str(directory / name), shard, metadata={"format": "mlx"})
    if len(shards) > 1:
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})


def round_trip_error(base_directory: Path, profile: Profile) -> Mapping[str, float]:
    """Packed and unpacked again, how far each linear of the language layers is from what it was: the error's norm by the weight's."""
    model = load_module(base_directory, profile)
    found: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and is_packed_linear(name, module):
            weight = module.weight.astype(mx.float32)
            packed, scales, biases = mx.quantize(weight, group_size=AFFINE_GROUP, bits=AFFINE_BITS)
            back = mx.dequantize(packed, scales, biases, group_size=AFFINE_GROUP, bits=AFFINE_BITS)
            found[re.sub(r"^language_model\.model\.", "", name)] = float(mx.linalg.norm(back - weight) / mx.linalg.norm(weight))
    return found
