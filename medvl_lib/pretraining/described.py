"""What the small model of described pictures can tell, and what it cannot: every number of its model card, with its interval.

In: a directory of weights and a profile. Out: ``Finding`` rows. Pictures come from parts that were never trained on; a cluster is a
picture. A description of a knee or a lesion is right where it names the class and no other; a report of a chest, and an answer to a
question, where it is the wanted one word for word. How findings are told belongs to ``described_card``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib.batches import Reader, training_batch
from medvl_lib.datasets.descriptions import CATEGORY
from medvl_lib.evaluation.metrics.classes import class_agreement
from medvl_lib.evaluation.metrics.languages import language_kept
from medvl_lib.evaluation.metrics.vqa import open_exact
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.hardware import Profile
from medvl_lib.labels import GRADE_LABELS, LESION_LABELS
from medvl_lib.models.loading import Loaded, load
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import Quantization
from medvl_lib.pretraining.examination import Examinee, Finding, Measures, findings, of_floors, of_losses, quantize, with_controls
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.sample_data.described_pictures import LEARNED, SHIFTED, DescribedPicture, Kind, PictureDistribution

NUM_PICTURES = 60  # of each set: an interval of about +-0.12
NUM_FLOOR_PICTURES = 300  # what the floors may learn the commonest answers from
QUANTIZATIONS: tuple[Quantization, ...] = ("nf4",)
CLASSES: Mapping[Kind, tuple[str, ...]] = {"knee": tuple(GRADE_LABELS.split("|")), "lesion": tuple(LESION_LABELS.split("|"))}
NEW = "lesions of diagnoses that it never saw"
SETS: Mapping[str, PictureDistribution] = {
    "knees": replace(LEARNED, kinds=("knee",), question_share=0.0), "lesions": replace(LEARNED, kinds=("lesion",), question_share=0.0),
    "chests": replace(LEARNED, kinds=("chest",), question_share=0.0), "questions": replace(LEARNED, question_share=1.0), NEW: SHIFTED,
}  # fmt: skip


def category(picture: DescribedPicture) -> str:
    """The picture's class, as its label set calls it."""
    return f"KL {picture.category}" if picture.kind == "knee" else picture.category


def agreement(answer: str, picture: DescribedPicture) -> float:
    """Whether the answer names the picture's class and no other."""
    return class_agreement(answer, category(picture), CLASSES[picture.kind])


def exact(answer: str, picture: DescribedPicture) -> float:
    """Whether the answer is the wanted one, word for word."""
    return open_exact(answer, picture.response)


def kept(answer: str, picture: DescribedPicture) -> float:
    """Whether the answer is in the language that was asked for."""
    return language_kept(answer, picture.response, picture.said.language)


MEASURES: Mapping[str, Measures] = {
    "knees": {"class_agreement": agreement, "exact": exact}, "lesions": {"class_agreement": agreement, "exact": exact},
    "chests": {"exact": exact, "language_kept": kept}, "questions": {"exact": exact, "language_kept": kept},
    NEW: {"class_agreement": agreement},
}  # fmt: skip


def draw(distribution: PictureDistribution, part: str, number: int) -> list[DescribedPicture]:
    """Pictures of a part."""
    return [distribution.draw(part, place) for place in range(number)]


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[Finding]:
    """Every finding of one directory of weights; quantized copies are written below ``scratch``."""
    shown = {name: draw(distribution, "held_out", NUM_PICTURES) for name, distribution in SETS.items()}
    narrow = replace(profile, weights_dtype="bfloat16")  # as it is shipped: its memory is what four bits are held against
    base = Examinee(variant="base", loaded=load(weights, spec, profile), spec=spec, profile=profile)
    as_is = {name: base.answers(pictures) for name, pictures in shown.items()}
    for name, pictures in shown.items():
        yield from with_controls(name, base, pictures, as_is[name], MEASURES[name])
        yield from of_floors(name, pictures, draw(SETS[name], "floors", NUM_FLOOR_PICTURES), _reference, MEASURES[name])
    held_out = draw(LEARNED, "held_out", NUM_PICTURES)
    yield from of_losses(lambda is_shuffled: losses(base.loaded, held_out, is_shuffled=is_shuffled))
    for quantization in QUANTIZATIONS:
        packed = quantize(weights, quantization, spec, narrow, scratch / quantization)
        for name, pictures in shown.items():
            yield from findings(name, packed, pictures, packed.answers(pictures), MEASURES[name], against=as_is[name])


def _reference(picture: DescribedPicture) -> Reference:
    return Reference(
        pair_id=picture.example_id, dataset=picture.kind, split="test", group_id=picture.example_id, language=picture.said.language,
        licence="CC0-1.0", request=picture.request, response=picture.response, expected=(),
        slices={CATEGORY: category(picture)}, glyph_height_pixels=None,
    )  # fmt: skip


def losses(loaded: Loaded, pictures: Sequence[DescribedPicture], *, is_shuffled: bool) -> Mapping[str, float]:
    """Each example's own loss by its id, in nats per token of its answer; ``is_shuffled`` shows it the picture of the next one."""
    import torch

    following = [*pictures[1:], pictures[0]] if is_shuffled else pictures
    images = shelf(replace(other, example_id=picture.example_id) for picture, other in zip(pictures, following, strict=True))
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=images)
    found: dict[str, float] = {}
    for picture in pictures:
        batch = training_batch(reader, [to_conversation(picture)])
        with torch.inference_mode():
            tensors = {name: tensor.to(loaded.model.device) for name, tensor in batch.items()}
            found[picture.example_id] = float(loaded.model(**tensors).loss)
    return found
