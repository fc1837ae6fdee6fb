"""Llama 3.2 Vision (``mllama``): its processor without torchvision, and the same architecture built small.

In: a directory in the hub's layout (or a seed). Out: a processor, or such a directory. A picture is one ``<|image|>`` in the text and
enters through gated cross-attention; its tiles are the processor's own size, so that a pixel budget can only be the tiles' own. Mean and
standard deviation of the pixels are always the checkpoint's.
Source: transformers 5.23, models/mllama; why it is as it is: docs/decisions/0017-the-decoder-of-imaging.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BatchFeature, MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor, PreTrainedTokenizerFast
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from medvl_lib.labels import KELLGREN_LAWRENCE, LESIONS
from medvl_lib.sample_data.described_pictures import ALL
from medvl_lib.vision_tokens import mllama as tile_sizing

TILE_PIXELS, PATCH_PIXELS = 112, 28  # four tiles show 224 x 224 pixels in 68 tokens; the published patch of 14 would take 260
NUM_TOKENS = 768  # of the small tokenizer, special ones included
MAX_TOKEN_BYTES = 12  # a word, or four Chinese characters: no sentence becomes a token
NUM_TOKENIZER_TEXTS = 600
GATE = 0.5  # of the fresh model's cross-attention: at the library's 0 the picture has no influence, and its adapters no gradient
GATES = ("_gate", ".gate", ".gate_attn", ".gate_ffn")  # how their names end
EMBEDDINGS = ("embed_tokens.weight", ".embedding", ".embedding.weight", ".tile_embedding.weight", ".class_embedding")
EMBEDDING_STD = 0.3
IMAGE_TOKEN = "<|image|>"  # noqa: S105 (no password)
SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
<|start_header_id|>{{ message['role'] }}<|end_header_id|>

{% for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<|image|>{%- else -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}
<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_header_id|>assistant<|end_header_id|>

{% endif -%}
"""


class ImageTextProcessor(MllamaProcessor):
    """Llama 3.2 Vision's processor for a flat list of pictures, as every family is called here: it wants a list for each text."""

    def __call__(self, images: Sequence[Image.Image] | None = None, text: Sequence[str] = (), **how: Any) -> BatchFeature:
        """Texts and all their pictures in order -> every tensor of the batch; raises ValueError where their numbers differ."""
        if images is None:
            return super().__call__(images=None, text=list(text), **how)
        return super().__call__(images=list(self._by_text(images, text)), text=list(text), **how)

    def _by_text(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Iterator[list[Image.Image]]:
        """The pictures of each text, by how many places it has for them."""
        counts = [text.count(self.image_token) for text in texts]
        if sum(counts) != len(images):
            raise ValueError(f"{len(images)} pictures for {sum(counts)} places in {len(texts)} texts")
        rest = iter(images)
        for count in counts:
            yield [next(rest) for _ in range(count)]


def load_processor(directory: Path, *, max_pixels: int) -> ImageTextProcessor:
    """The processor in a model directory, with the Pillow backend; raises MedVLError for a pixel budget that is not the tiles' own."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    images = MllamaImageProcessorPil.from_pretrained(directory)
    tile_sizing({"size": {"height": images.size["height"]}, "max_image_tiles": images.max_image_tiles}, max_pixels)
    template = directory / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else tokenizer.chat_template
    return ImageTextProcessor(images, tokenizer, chat_template=text)


def sized_batch(config: MllamaConfig, *, num_pairs: int, num_tokens: int, num_pictures: int, num_pixels: int) -> dict[str, torch.Tensor]:
    """The tensors of a batch without their contents (``plan``): every picture fills all tiles, whatever its pixels."""
    input_ids = torch.zeros(num_pairs, num_tokens, dtype=torch.long)
    if not num_pictures:
        return {"input_ids": input_ids}
    vision, tiles = config.vision_config, config.vision_config.max_num_tiles
    input_ids[:, :num_pictures] = config.image_token_index
    side, shown = vision.image_size, (num_pairs, num_pictures)
    return {
        "input_ids": input_ids, "pixel_values": torch.empty(*shown, tiles, vision.num_channels, side, side, device="meta"),
        "aspect_ratio_ids": torch.ones(shown, dtype=torch.long), "aspect_ratio_mask": torch.ones(*shown, tiles, dtype=torch.long),
        "cross_attention_mask": torch.ones(num_pairs, num_tokens, num_pictures, tiles, dtype=torch.long),
    }  # fmt: skip


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the merges of what the invented pictures say: every text can be written and read back.

    ``<|image|>`` comes last: the output head has no row for it, and its id is the number of rows.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=NUM_TOKENS - len(SPECIAL_TOKENS), max_token_length=MAX_TOKEN_BYTES,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    ))  # fmt: skip
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIAL_TOKENS, IMAGE_TOKEN)])
    begin, _, start, end, end_of_turn, pad = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end_of_turn, pad_token=pad, extra_special_tokens=[start, end, IMAGE_TOKEN]
    )


def _texts() -> Iterator[str]:
    """What the small tokenizer's merges are counted in: what invented pictures say, and the words of the labels."""
    for number in range(NUM_TOKENIZER_TEXTS):
        yield from ALL.texts("tokenizer", number)
    yield from (f"{grade.name}: {grade.findings}" for grade in KELLGREN_LAWRENCE)
    yield from (lesion.name for lesion in LESIONS.values())


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> MllamaConfig:
    """About five million parameters; every width a multiple of 64, as NF4 on a CPU wants it."""
    num_tokens = len(tokenizer) - 1  # the image token has no row in the head
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return MllamaConfig(
        text_config={
            "vocab_size": num_tokens, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "cross_attention_layers": [1, 3],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}, **special,
        },
        vision_config={
            "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_global_layers": 1, "attention_heads": 2,
            "image_size": TILE_PIXELS, "patch_size": PATCH_PIXELS, "max_num_tiles": 4, "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 128 * 3,
        },
        image_token_index=num_tokens,
    )  # fmt: skip


def scale_weights(model: MllamaForConditionalGeneration) -> None:
    """Draw every matrix with a variance of 1 / fan-in, as in the other small model, and open the gates that begin at 0."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(GATES):
                weight.fill_(GATE)
            elif name.endswith(EMBEDDINGS):
                weight.normal_(0.0, EMBEDDING_STD)
            elif weight.dim() > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5)


def write_tiny(directory: Path, *, seed: int, max_pixels: int) -> None:
    """Write the small model with random weights into ``directory``, in the hub's layout."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(tokenizer)
    images = MllamaImageProcessorPil(
        size={"height": TILE_PIXELS, "width": TILE_PIXELS}, max_image_tiles=4, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    tile_sizing({"size": {"height": TILE_PIXELS}, "max_image_tiles": 4}, max_pixels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MllamaForConditionalGeneration(config)
        scale_weights(model)
    model.generation_config.bos_token_id = config.text_config.bos_token_id
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    images.save_pretrained(directory)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
