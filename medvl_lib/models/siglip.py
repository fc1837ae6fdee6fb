"""SigLIP: pictures and texts in one space, its processor without torchvision, and the same architecture built small.

In: a directory in the hub's layout (or a seed). Out: a processor and tensors, or such a directory. Pictures have the checkpoint's own
resolution and the range -1 to 1; texts are lower-cased, without punctuation, 64 tokens with padding and without a mask of it, as the
model was trained. What is learned from pairs of them belongs to ``training.matching``.
Source: Zhai et al. 2023, arXiv 2303.15343; transformers 5.23, models/siglip.

Legend: B pairs, T text positions, H and W pixels.
"""

import math
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel, SiglipProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from medvl_lib.errors import MedVLError
from medvl_lib.sample_data.captioned_pictures import draw_picture

IMAGE_SIDE_PIXELS, PATCH_PIXELS = 96, 16  # of the small model: a spot of 12 pixels in a picture of 160 is half a patch wide
MEAN = STD = [0.5, 0.5, 0.5]
TEXT_POSITIONS = 64
VOCABULARY = 1024
NUM_TOKENIZER_CAPTIONS = 1200  # what the small tokenizer's merges are counted on
END = "</s>"  # also the padding, as in the published tokenizer
FRESH_LOGIT_SCALE, FRESH_LOGIT_BIAS = math.log(10), -10.0  # t' and b of the paper, section 3.2; a checkpoint has its own
PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical(text: str) -> str:
    """A text as SigLIP's tokenizer reads it: lower case, no ASCII punctuation, single blanks.

    Ported from transformers 5.23, SiglipTokenizer.canonicalize_text. Doing it twice changes nothing, so it does not matter whether a
    checkpoint's tokenizer.json does it too.
    """
    return re.sub(r"\s+", " ", text.lower().translate(PUNCTUATION)).strip()


def load_processor(directory: Path, *, max_pixels: int) -> SiglipProcessor:
    """The processor in a model directory, with the Pillow backend; the resolution is the checkpoint's.

    Raises MedVLError where the picture processor makes another resolution than the model has positions for, or one above ``max_pixels``:
    the position of a patch is learned, so that a picture cannot be made smaller or larger at will.
    """
    config = SiglipConfig.from_pretrained(directory)
    images = SiglipImageProcessorPil.from_pretrained(directory)
    side, size = config.vision_config.image_size, (images.size["height"], images.size["width"])
    if size != (side, side):
        raise MedVLError(
            found=f"pictures of {size[0]} x {size[1]} pixels for a model of {side} x {side}", where=str(directory),
            do="bring the preprocessor_config.json that belongs to these weights",
        )  # fmt: skip
    if side * side > max_pixels:
        raise MedVLError(
            found=f"a model of {side} x {side} pixels, and max_pixels = {max_pixels}", where=str(directory),
            do=f"set max_pixels of this model to {side * side}, or name a checkpoint of fewer pixels",
        )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    tokenizer.model_max_length = config.text_config.max_position_embeddings
    return SiglipProcessor(images, tokenizer)


def text_tensor(processor: SiglipProcessor, texts: Sequence[str]) -> torch.Tensor:
    """Token ids (B, T) of texts, padded or cut to the model's length; there is no mask, since the model was trained without one."""
    tokenizer = processor.tokenizer
    said = tokenizer(
        [canonical(text) for text in texts], padding="max_length", truncation=True, max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )  # fmt: skip
    return said["input_ids"]


def num_cut(processor: SiglipProcessor, texts: Sequence[str]) -> int:
    """How many of these texts the model reads in part: ``text_tensor`` cuts what is longer than its length, the end token included."""
    tokenizer = processor.tokenizer
    return sum(
        len(ids) > tokenizer.model_max_length for ids in tokenizer([canonical(text) for text in texts], truncation=False)["input_ids"]
    )


def picture_tensor(processor: SiglipProcessor, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Pixels (B, 3, H, W), each picture squeezed into the model's square, of pictures (H, W, 3)."""
    return processor.image_processor(list(pictures), return_tensors="pt")["pixel_values"]


def sized_batch(config: SiglipConfig, *, num_pairs: int, num_tokens: int, num_pictures: int, num_pixels: int) -> dict[str, torch.Tensor]:
    """The tensors of a batch without their contents (``plan``); resolution and text length are the checkpoint's, whatever is asked."""
    side, positions = config.vision_config.image_size, config.text_config.max_position_embeddings
    return {
        "pixel_values": torch.empty(num_pairs, config.vision_config.num_channels, side, side, device="meta"),
        "input_ids": torch.zeros(num_pairs, positions, dtype=torch.long),
    }


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs merged on invented captions: every text can be written, and a caption has fewer tokens than the model has positions."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(), normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    captions = [draw_picture("tokenizer", number).caption for number in range(NUM_TOKENIZER_CAPTIONS)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=END, eos_token=END, model_max_length=TEXT_POSITIONS)


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> SiglipConfig:
    """About one million parameters; every width a multiple of 64."""
    tower: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    end = tokenizer.convert_tokens_to_ids(END)
    return SiglipConfig(
        text_config={
            **tower, "num_hidden_layers": 2,  # captions are short sentences
            "vocab_size": len(tokenizer), "max_position_embeddings": TEXT_POSITIONS, "pad_token_id": end, "bos_token_id": end,
            "eos_token_id": end,
        },
        vision_config={**tower, "num_hidden_layers": 4, "image_size": IMAGE_SIDE_PIXELS, "patch_size": PATCH_PIXELS},
    )  # fmt: skip


def start_afresh(model: SiglipModel) -> None:
    """The temperature and the bias of a model without training; the library leaves both at 0."""
    model.logit_scale.data.fill_(FRESH_LOGIT_SCALE)
    model.logit_bias.data.fill_(FRESH_LOGIT_BIAS)


def write_tiny(directory: Path, *, seed: int, max_pixels: int) -> None:
    """Write the small model with random weights into ``directory``, in the hub's layout."""
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SiglipModel(tiny_config(tokenizer))
    start_afresh(model)
    model.save_pretrained(directory)  # in 32 bits: log 10 is no number of 16
    tokenizer.save_pretrained(directory)
    side = {"height": IMAGE_SIDE_PIXELS, "width": IMAGE_SIDE_PIXELS}
    SiglipImageProcessorPil(size=side, image_mean=MEAN, image_std=STD).save_pretrained(directory)
