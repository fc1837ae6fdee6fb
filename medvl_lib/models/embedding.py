"""Embeddings: pictures and texts as unit vectors in one space, a batch at a time.

In: a loaded encoder, and pictures or texts. Out: arrays of float32. What is done with them (an index, a ranking, a similarity) is not known
here; during training ``training.sigmoid_loss`` makes its own, through which gradients flow.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from medvl_lib.images import Pictures, rgb_pixels
from medvl_lib.models.loading import LoadedEncoder
from medvl_lib.models.siglip import picture_tensor, text_tensor

Vectors = NDArray[np.float32]
Item = TypeVar("Item")
BATCH = 32  # operational: each picture and text is embedded for itself


def embed_pictures(encoder: LoadedEncoder, pictures: Sequence[NDArray[np.uint8]]) -> Vectors:
    """Unit vectors (N, D) of pictures (H, W, 3)."""
    return _together(
        encoder, (encoder.model.get_image_features(pixel_values=picture_tensor(encoder.processor, part).to(encoder.model.device))
                  for part in _parts(pictures))
    )  # fmt: skip


def embed_stored(encoder: LoadedEncoder, images: Pictures, image_ids: Sequence[str]) -> Vectors:
    """Unit vectors (N, D) of stored pictures; one that comes several times is embedded once, and a batch of them is in memory."""
    if not image_ids:
        return np.zeros((0, 0), dtype=np.float32)
    distinct = list(dict.fromkeys(image_ids))
    parts = [embed_pictures(encoder, [rgb_pixels(images.read(image_id)) for image_id in part]) for part in _parts(distinct)]
    vectors = dict(zip(distinct, np.concatenate(parts), strict=True))
    return np.stack([vectors[image_id] for image_id in image_ids])


def embed_texts(encoder: LoadedEncoder, texts: Sequence[str]) -> Vectors:
    """Unit vectors (N, D) of texts."""
    return _together(
        encoder, (encoder.model.get_text_features(input_ids=text_tensor(encoder.processor, part).to(encoder.model.device))
                  for part in _parts(texts))
    )  # fmt: skip


def _together(encoder: LoadedEncoder, features: Iterator[object]) -> Vectors:
    encoder.model.eval()
    with torch.inference_mode():
        return torch.cat([normalize(part.pooler_output.float(), dim=-1) for part in features]).cpu().numpy()


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
