"""LLaVA-Med: its processor, and the same architecture built small, in the publisher's own layout.

In: a converted directory (or a seed). Out: a processor, or a directory of the publisher's layout, so that the small model goes through the
converter like the published one. A picture is padded to a square with the mean of CLIP, becomes a square of patches (576 of the published
336 x 336 pixels, 64 of the small 112 x 112), and each patch is a token in the text. What the layouts are is ``llava_layout``'s.
Source: transformers 5.23, models/llava; why it is as it is: docs/decisions/0020-llava-med.md.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from medvl_lib.files import write_json
from medvl_lib.models.llava_layout import (
    CONFIG,
    EMBEDDING,
    FIXED,
    HEAD,
    IMAGE_TOKEN,
    MODEL_TYPE,
    TOKENIZER,
    expected_tensors,
    library_config,
)  # fmt: skip
from medvl_lib.models.sentencepiece_files import BLANK, Piece, write_pieces
from medvl_lib.sample_data.chest_studies import LEARNED
from medvl_lib.vision_tokens import llava as square_sizing

TOWER = "medvl/tiny-clip-vit-patch14-112"
NUM_TOKENS = 1022  # of the small tokenizer; with the two that the converter adds a multiple of 64
MAX_TOKEN_CHARACTERS = 14  # a word: no sentence becomes a token
NUM_TOKENIZER_STUDIES = 400
EMBEDDING_STD = 0.3  # as in the other small models
CONTROL = ("<unk>", "<s>", "</s>")
SETTINGS: dict[str, object] = {
    "architectures": ["LlavaMistralForCausalLM"], "model_type": MODEL_TYPE, **FIXED, "mm_vision_tower": TOWER, "image_aspect_ratio": "pad",
    "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "sliding_window": None,
    "bos_token_id": 1, "eos_token_id": 2, "use_mm_proj": True, "mm_hidden_size": 128,
}  # fmt: skip
"""The small model's config.json as the publisher would write it: about three million parameters, every width a multiple of 64."""


def load_processor(directory: Path, *, max_pixels: int) -> LlavaProcessor:
    """The processor in a converted directory, with the Pillow backend; raises MedVLError for another pixel budget than the square's."""
    config = LlavaConfig.from_pretrained(directory)
    images = LlavaImageProcessorPil.from_pretrained(directory)
    square_sizing(images.to_dict(), max_pixels)
    template = directory / "chat_template.jinja"
    return LlavaProcessor(
        images, PreTrainedTokenizerFast.from_pretrained(directory), patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy, image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,  # CLIP's class token, which the strategy "default" takes away again
        chat_template=template.read_text(encoding="utf-8"),
    )  # fmt: skip


def sized_batch(config: LlavaConfig, *, num_pairs: int, num_tokens: int, num_pictures: int, num_pixels: int) -> dict[str, torch.Tensor]:
    """The tensors of a batch without their contents (``plan``): every picture fills its square, whatever its pixels."""
    side = config.vision_config.image_size
    seen = (side // config.vision_config.patch_size) ** 2 * num_pictures
    input_ids = torch.zeros(num_pairs, max(num_tokens, seen + 1), dtype=torch.long)
    if not num_pictures:
        return {"input_ids": input_ids}
    input_ids[:, :seen] = config.image_token_index
    return {"input_ids": input_ids, "pixel_values": torch.empty(num_pairs * num_pictures, 3, side, side, device="meta")}


def tiny_pieces() -> list[Piece]:
    """A SentencePiece vocabulary like the published one: control pieces, all bytes, merges by rank, then characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(BLANK, "merged_with_next"),
    ])  # fmt: skip
    num_learned = NUM_TOKENS - len(CONTROL) - 256
    tokenizer.train_from_iterator(_texts(), trainers.BpeTrainer(
        vocab_size=num_learned + 1, max_token_length=MAX_TOKEN_CHARACTERS, show_progress=False,
    ))  # fmt: skip
    by_place = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    learned = [text for text, _ in by_place if text != "\n"][:num_learned]  # a line break is a byte, as in the published vocabulary
    ordered = [*(text for text in learned if len(text) > 1), *(text for text in learned if len(text) == 1)]
    control = [Piece(text, 0.0, "unknown" if place == 0 else "control") for place, text in enumerate(CONTROL)]
    octets = [Piece(f"<0x{value:02X}>", 0.0, "byte") for value in range(256)]
    return [*control, *octets, *(Piece(text, -float(place), "normal") for place, text in enumerate(ordered))]


def _texts() -> Iterator[str]:
    """What the small tokenizer's merges are counted in: what is asked and said of invented studies, and the words around it."""
    for number in range(NUM_TOKENIZER_STUDIES):
        request, response = LEARNED.texts("tokenizer", number)
        yield f"[INST] {request} [/INST] {response}"


def scale_weights(model: LlavaForConditionalGeneration) -> None:
    """Draw every matrix with a variance of 1 / fan-in, as in the other small models."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ("embedding" in name and "patch" not in name) or name.endswith("embed_tokens.weight"):
                weight.normal_(0.0, EMBEDDING_STD)
            elif weight.dim() > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5)


def write_tiny(directory: Path, *, seed: int, max_pixels: int) -> None:
    """Write the small model with random weights into ``directory``, in the publisher's layout."""
    pieces = tiny_pieces()
    write_json(directory / CONFIG, {**SETTINGS, "vocab_size": len(pieces)})
    write_pieces(directory / TOKENIZER, pieces)
    config = library_config(directory)
    side = config.vision_config.image_size
    square_sizing({"crop_size": {"height": side}}, max_pixels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        scale_weights(model)
    originals = zip(expected_tensors(config, len(pieces)), model.parameters(), strict=True)
    held = {name: (weight[: len(pieces)] if name in {EMBEDDING, HEAD} else weight) for name, weight in originals}
    save_file(
        {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in held.items()}, directory / "model.safetensors",
        metadata={"format": "pt"},
    )  # fmt: skip
