"""What a small encoder can tell apart: every number of its model card, with its interval.

In: a directory of weights and a profile. Out: ``RetrievalRow`` findings of a gallery of pictures that were never trained on, no caption of
which stands there twice, beside those of the same model without training. How they are told belongs to ``viewing_card``.
"""

from collections.abc import Iterator
from pathlib import Path

from medvl_lib.captions import CaptionedImage
from medvl_lib.evaluation.galleries import EncoderVariant, RetrievalRow, Vectors, read_rows, write_retrieval
from medvl_lib.hardware import Profile
from medvl_lib.images import rgb_pixels
from medvl_lib.models.embedding import embed_pictures, embed_texts
from medvl_lib.models.loading import load_encoder, quiet
from medvl_lib.models.preparing import TINY
from medvl_lib.models.siglip import canonical
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.encoding import distinct_pictures
from medvl_lib.pretraining.recipe import CAPTIONS
from medvl_lib.sample_data.captioned_pictures import CaptionedPicture

GALLERY_PART = "held_out"
GALLERY_SIZE = 240


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[RetrievalRow]:
    """Every finding of one directory of weights, and of the same model without training, which is written below ``scratch``."""
    start = scratch / "start"
    start.mkdir()
    with quiet():
        TINY[spec.family](start, seed=CAPTIONS[spec.family].seed, max_pixels=spec.max_pixels)
    gallery = distinct_pictures(GALLERY_PART, GALLERY_SIZE)
    vectors: dict[EncoderVariant, Vectors] = {
        "base": _vectors(start, spec, profile, gallery), "trained": _vectors(weights, spec, profile, gallery)
    }  # fmt: skip
    write_retrieval(scratch, [_captioned(item) for item in gallery], [canonical(item.caption) for item in gallery], vectors)
    yield from read_rows(scratch)


def _vectors(weights: Path, spec: ModelSpec, profile: Profile, gallery: list[CaptionedPicture]) -> Vectors:
    loaded = load_encoder(weights, spec, profile)
    pictures = embed_pictures(loaded, [rgb_pixels(item.png) for item in gallery])
    return Vectors(pictures, embed_texts(loaded, [item.caption for item in gallery]))


def _captioned(item: CaptionedPicture) -> CaptionedImage:
    return CaptionedImage(
        pair_id=item.picture_id, dataset="captioned_pictures", group_id=item.picture_id, image_id=item.picture_id, split="test",
        text=item.caption, language=item.language, category=item.category, licence="CC0-1.0",
    )  # fmt: skip
