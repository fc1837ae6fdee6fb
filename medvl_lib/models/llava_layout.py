"""LLaVA-Med's own checkpoint layout (``llava_mistral``), brought into the one that transformers loads (``llava``), and back.

In: a directory as its publisher delivers it: config.json, weights in one or several safetensors, ``tokenizer.model``. Out: a directory that
``LlavaForConditionalGeneration`` loads, with processor, chat template and a note of what was done (``conversion.json``). No architecture is
run here and no weight is changed: tensors get other names, and the vocabulary two tokens more, for pictures and padding.

    model.embed_tokens, model.layers.*, model.norm         language_model.model.*
    lm_head                                                language_model.lm_head
    model.mm_projector.0, .2                               multi_modal_projector.linear_1, .linear_2
    model.vision_tower.vision_tower.vision_model.*         vision_tower.*
    *.rotary_emb.inv_freq, *.position_ids                  left out: computed

The right side is how transformers 5.23 writes the files of a ``llava`` model, so that a base, its 4-bit form and a merged one have the same
names. **The tower is the checkpoint's own.** The publisher's code ignores it and loads the stock CLIP that config.json names
(microsoft/LLaVA-Med issue 105): which one was taken is noted, and is the first thing to look at where answers differ from theirs.
The text model becomes a LlamaConfig: the same tensors and the same arithmetic as Mistral without a window.
Source: github.com/microsoft/LLaVA-Med @ 30697ca5, llava/model; the names of the published checkpoint's 686 tensors.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, write_json
from medvl_lib.models.sentencepiece_files import read_pieces, to_tokenizer
from medvl_lib.models.weights import StoredTensor, tensors
from medvl_lib.provenance import Fact

MODEL_TYPE = "llava_mistral"
CONVERSION = "conversion.json"
CONFIG, TOKENIZER = "config.json", "tokenizer.model"
IMAGE_TOKEN, PAD_TOKEN = "<image>", "<pad>"
ROWS = 64  # the vocabulary is filled up to a multiple of it
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
COMPUTED = (".rotary_emb.inv_freq", ".position_ids")  # how names end that hold nothing to keep
NAMES: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)
"""How names begin here and there; the first that matches counts."""
TOWERS: Mapping[str, Mapping[str, int]] = {
    "openai/clip-vit-large-patch14-336": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336,
        "patch_size": 14, "projection_dim": 768,
    },
    "medvl/tiny-clip-vit-patch14-112": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 112,
        "patch_size": 14, "projection_dim": 64,
    },
}  # fmt: skip
"""The shapes of the vision towers that config.json may name: it holds no number of theirs."""
FIXED: Mapping[str, object] = {
    "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "hidden_act": "silu",
}  # fmt: skip
"""What of config.json is written into the architecture: another value is another model."""
KEPT = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings",
    "rms_norm_eps", "hidden_act", "bos_token_id", "eos_token_id",
)  # fmt: skip
"""What the text model's config says in the same words."""
OTHERS = ("vocab_size", "rope_theta", "mm_vision_tower")
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ ' ' }}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ eos_token }}
{%- else -%}
[INST] {% for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor %} [/INST]
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ' ' }}{%- endif -%}
"""
"""The publisher's ``mistral_instruct`` (llava/conversation.py), whose system text is empty."""


class Shape(NamedTuple):
    """A tensor that the architecture has: its name in the library's files, and its shape in the publisher's."""

    name: str
    shape: tuple[int, ...]


def renamed(name: str, names: tuple[tuple[str, str], ...] = NAMES) -> str:
    """A tensor's name in the other layout; raises ValueError for one that neither has."""
    for here, there in names:
        if name.startswith(here):
            return there + name.removeprefix(here)
    raise ValueError(f"{name!r} begins like no tensor of {MODEL_TYPE}: {', '.join(here for here, _ in names)}")


def original_name(name: str) -> str:
    """A library file's name -> the publisher's."""
    back = sorted(((there, here) for here, there in NAMES), key=lambda pair: -len(pair[0]))
    return renamed(name, tuple(back))


def is_original(directory: Path) -> bool:
    """Whether a directory has the publisher's layout."""
    return (directory / CONFIG).is_file() and read_json(directory / CONFIG)["model_type"] == MODEL_TYPE


def convert(source: Path, directory: Path) -> dict[str, Fact]:
    """Bring a checkpoint of the publisher's layout into ``directory``, file by file; returns what is worth knowing of it.

    Raises MedVLError for a config that is another architecture's, and for a tensor that is missing, too many or misshapen, by name.
    """
    config, settings = library_config(source), read_json(source / CONFIG)
    _require_tensors(source, expected_tensors(config, settings["vocab_size"]))
    num_rows = config.text_config.vocab_size - settings["vocab_size"]
    dropped = sorted(name for name in tensors(source) if name.endswith(COMPUTED))
    _rewrite(source, directory, lambda name, tensor: _with_rows(name, tensor, num_rows))
    config.architectures = [LlavaForConditionalGeneration.__name__]
    config.dtype = next(load_dtype(path) for path in sorted(source.glob("*.safetensors")))
    config.save_pretrained(directory)
    _write_texts(source, directory, config, settings)
    facts: dict[str, Fact] = {
        "converted_from": MODEL_TYPE, "num_converted_tensors": len(tensors(directory)), "num_added_rows": num_rows,
        "vision_tower": f"the checkpoint's own, not the stock {settings['mm_vision_tower']}",
    }  # fmt: skip
    write_json(directory / CONVERSION, {**facts, "left_out": dropped})
    return facts


def load_dtype(path: Path) -> torch.dtype:
    """The type of a file's first tensor."""
    with safe_open(path, framework="pt") as stream:
        return stream.get_tensor(next(iter(stream.keys()))).dtype


def library_config(source: Path) -> LlavaConfig:
    """The architecture that a publisher's config.json describes; raises MedVLError where it is not one of these."""
    settings, where = read_json(source / CONFIG), str(source / CONFIG)
    if absent := [name for name in (*KEPT, *OTHERS) if name not in settings]:
        raise MedVLError(found=f"no {', '.join(absent)}", where=where, do="bring the config.json of the checkpoint's own repository")
    for name, wanted in FIXED.items():
        if settings.get(name) != wanted:
            raise MedVLError(
                found=f"{name} = {settings.get(name)!r}",
                where=where,
                do=f"bring a checkpoint with {wanted!r}: the converter knows no other",
            )
    if settings.get("tie_word_embeddings"):  # absent in some versions' files: not tied
        do = "bring a checkpoint whose head has weights of its own"
        raise MedVLError(found="tie_word_embeddings = True", where=where, do=do)
    if settings.get("sliding_window") is not None:
        do = "bring a checkpoint with sliding_window = null: the library's Llama attends to everything"
        raise MedVLError(found=f"sliding_window = {settings['sliding_window']}", where=where, do=do)
    if settings["mm_vision_tower"] not in TOWERS:
        do = f"add its sizes to TOWERS in {__name__}; known: {', '.join(TOWERS)}"
        raise MedVLError(found=f"mm_vision_tower = {settings['mm_vision_tower']!r}", where=where, do=do)
    vocabulary = settings["vocab_size"]
    num_rows = -(-(vocabulary + 2) // ROWS) * ROWS
    text = LlamaConfig(
        **{name: settings[name] for name in KEPT}, vocab_size=num_rows, pad_token_id=vocabulary + 1, attention_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": float(settings["rope_theta"])}, tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(**TOWERS[settings["mm_vision_tower"]], hidden_act="quick_gelu", layer_norm_eps=1e-5)
    return LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=vocabulary, projector_hidden_act="gelu", vision_feature_layer=-2,
        vision_feature_select_strategy="default", multimodal_projector_bias=True, tie_word_embeddings=False,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
    )  # fmt: skip


def expected_tensors(config: LlavaConfig, vocabulary: int) -> dict[str, Shape]:
    """Every tensor of the architecture, by the publisher's name."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    found: dict[str, Shape] = {}
    for name, parameter in model.named_parameters():
        stored = f"language_model.{name}" if name.startswith("lm_head.") else name.removeprefix("model.")
        if stored.startswith("language_model.") and not stored.startswith("language_model.lm_head."):
            stored = stored.replace("language_model.", "language_model.model.", 1)
        original = original_name(stored)
        shape = tuple(parameter.shape)
        found[original] = Shape(stored, (vocabulary, *shape[1:]) if original in {EMBEDDING, HEAD} else shape)
    return found


def _require_tensors(source: Path, expected: Mapping[str, Shape]) -> None:
    """Refuse tensors that are missing, too many, or of another shape than config.json says: by name, the first of each."""
    found: Mapping[str, StoredTensor] = {name: tensor for name, tensor in tensors(source).items() if not name.endswith(COMPUTED)}
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "too many": sorted(found.keys() - expected.keys()),
        "misshapen": [
            f"{name} of {found[name].shape} instead of {shape.shape}"
            for name, shape in sorted(expected.items()) if name in found and found[name].shape != shape.shape
        ],
    }  # fmt: skip
    if said := [f"{len(names)} {what}, the first is {names[0]}" for what, names in wrong.items() if names]:
        raise MedVLError(
            found=f"tensors that are not those of {MODEL_TYPE}: {'; '.join(said)}", where=str(source),
            do="bring the checkpoint whole, with its own config.json: nothing is made up, and nothing left out",
        )  # fmt: skip


def _rewrite(source: Path, directory: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Each weight file under its own name, its tensors renamed and changed: one file is in memory at a time."""
    places: dict[str, str] = {}
    size = 0
    for path in sorted(source.glob("*.safetensors")):
        held = {renamed(name): change(name, tensor) for name, tensor in load_file(path).items() if not name.endswith(COMPUTED)}
        save_file(held, directory / path.name, metadata={"format": "pt"})
        places |= dict.fromkeys(held, path.name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in held.values())
    if len(set(places.values())) > 1:
        write_json(directory / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def _with_rows(name: str, tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
    """The vocabulary's matrices with rows for more tokens: each the mean of all, which no token is ever less likely than by much.

    Rows of zeros in the head would win wherever every other logit is below 0.
    """
    if name not in {EMBEDDING, HEAD}:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(num_rows, -1)]).contiguous()


def _write_texts(source: Path, directory: Path, config: LlavaConfig, settings: Mapping[str, Any]) -> None:
    """Tokenizer, picture processor, chat template and generation's special tokens."""
    if not (source / TOKENIZER).is_file():
        raise MedVLError(found=f"no {TOKENIZER}", where=str(source), do="bring it from the checkpoint's own repository")
    pieces = read_pieces(source / TOKENIZER)
    if len(pieces) != settings["vocab_size"]:
        do = "bring the tokenizer.model that belongs to these weights"
        raise MedVLError(found=f"{len(pieces)} pieces for {settings['vocab_size']} tokens", where=str(source / TOKENIZER), do=do)
    begin, end = (pieces[settings[name]].text for name in ("bos_token_id", "eos_token_id"))
    PreTrainedTokenizerFast(
        tokenizer_object=to_tokenizer(pieces, (IMAGE_TOKEN, PAD_TOKEN)), bos_token=begin, eos_token=end, pad_token=PAD_TOKEN,
        unk_token=next(piece.text for piece in pieces if piece.kind == "unknown"), extra_special_tokens=[IMAGE_TOKEN],
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)  # fmt: skip
    side = config.vision_config.image_size
    LlavaImageProcessorPil(  # mean and deviation are the class's own: CLIP's
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_pad=settings.get("image_aspect_ratio") == "pad"
    ).save_pretrained(directory)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    text = config.text_config
    tokens = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "pad_token_id": text.pad_token_id}
    write_json(directory / "generation_config.json", tokens)


def restore(converted: Path, directory: Path, original: Path) -> None:
    """The weights of a converted directory in the publisher's layout again, with everything else from ``original``."""
    vocabulary = read_json(original / CONFIG)["vocab_size"]
    held: dict[str, torch.Tensor] = {}
    for path in sorted(converted.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            back = original_name(name)
            held[back] = tensor[:vocabulary].contiguous() if back in {EMBEDDING, HEAD} else tensor
    save_file(held, directory / "model.safetensors", metadata={"format": "pt"})
    for path in original.iterdir():
        if path.suffix != ".safetensors" and path.name != "model.safetensors.index.json":
            shutil.copyfile(path, directory / path.name)
