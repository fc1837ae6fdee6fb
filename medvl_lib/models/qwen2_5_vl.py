"""Qwen2.5-VL: its processor without torchvision, and the same architecture built small.

In: a directory in the hub's layout (or a seed). Out: a processor, or such a directory. The processor returns every tensor that the
model needs (``mm_token_type_ids`` among them: without it Qwen silently falls back to 1-D positions).
Source: transformers 5.23, models/qwen2_5_vl; sizes of the real model in docs/decisions/0005-the-tiny-model.md.
"""

import math
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

PATCH_PIXELS = 14
PAPER, CONTRAST = 1.0, 0.3  # of the small model's pictures (0-1): white paper becomes exactly 0, and only ink is seen
EMBEDDING_STD = 0.3  # as large as what the untrained vision tower writes
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


class ImageTextProcessor(Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor for pictures and text: the video half, which alone needs torchvision, is left out."""

    def __init__(self, image_processor: object = None, tokenizer: object = None, chat_template: str | None = None, **_: object) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts that are saved and loaded."""
        return ["image_processor", "tokenizer"]


def load_processor(directory: Path, *, max_pixels: int) -> ImageTextProcessor:
    """The processor in a model directory, with the Pillow backend and a cap on the pixels of a picture."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    images = Qwen2VLImageProcessorPil.from_pretrained(directory)
    images.size = {"shortest_edge": images.size["shortest_edge"], "longest_edge": max_pixels}
    template = directory / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else tokenizer.chat_template
    return ImageTextProcessor(images, tokenizer, chat_template=text)


def sized_batch(
    config: Qwen2_5_VLConfig, *, num_pairs: int, num_tokens: int, num_pictures: int, num_pixels: int
) -> dict[str, torch.Tensor]:
    """The tensors of a batch without their contents (``plan``): pictures of ``num_pixels``, nearly square, on the meta device."""
    vision, merge = config.vision_config, config.vision_config.spatial_merge_size
    cells = max(1, num_pixels // (vision.patch_size * merge) ** 2)
    rows = max(1, math.isqrt(cells))
    grid, seen = (1, rows * merge, cells // rows * merge), rows * (cells // rows)
    # a word after each picture, as in a template: places are counted from runs of image tokens
    pictures = torch.tensor(([config.image_token_id] * seen + [0]) * num_pictures + [0])
    # bounds of different conversations: the most pictures and the largest one may not stand in the longest
    input_ids = torch.zeros(num_pairs, max(num_tokens, len(pictures)), dtype=torch.long)
    input_ids[:, : len(pictures)] = pictures
    patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    if not num_pictures:
        return {"input_ids": input_ids}
    return {
        "input_ids": input_ids, "mm_token_type_ids": (input_ids == config.image_token_id).long(),
        "image_grid_thw": torch.tensor([grid] * (num_pairs * num_pictures)),
        "pixel_values": torch.empty(num_pairs * num_pictures * grid[1] * grid[2], patch_values, device="meta"),
    }  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one byte, one token; every text can be written and read back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    end_of_text, _, end_of_turn, *others = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=end_of_text, eos_token=end_of_turn, extra_special_tokens=others)


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """About five million parameters; every width a multiple of 64, as NF4 on a CPU wants it."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            # (2 + 15 + 15) = head_dim / 2: how the 32 frequencies are shared by time, height and width. The published base of 1e6
            # turns a step of one cell by less than 0.001 rad in the frequencies of the width: with so few layers nothing tells the cells
            # of a row apart. A base of 30 turns it by 0.04 to 0.16 rad.
            "rope_parameters": {"rope_type": "default", "rope_theta": 30.0, "mrope_section": [2, 15, 15]},
            "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 4, "hidden_size": 192, "intermediate_size": 512, "num_heads": 4, "patch_size": PATCH_PIXELS,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [1, 3], "out_hidden_size": 256,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=False,
    )  # fmt: skip


def scale_weights(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Draw every matrix with a variance of 1 / fan-in, so that small widths keep their signal (LeCun et al. 1998, "Efficient BackProp").

    The library's 0.02 is meant for widths of thousands.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, EMBEDDING_STD if name.endswith("embed_tokens.weight") else weight[0].numel() ** -0.5)


def write_tiny(directory: Path, *, seed: int, max_pixels: int) -> None:
    """Write the small model with random weights into ``directory``, in the hub's layout."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        scale_weights(model)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    model.to(torch.bfloat16).save_pretrained(directory)
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28 * 28, "longest_edge": max_pixels}, image_mean=[PAPER] * 3, image_std=[CONTRAST] * 3
    )
    tokenizer.save_pretrained(directory)
    images.save_pretrained(directory)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
