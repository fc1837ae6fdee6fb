"""The model card of a small encoder: its findings in words, a table and a figure.

In: findings, training steps, the lessons and the fingerprint. Out: ``README.md`` (a model card as the hub reads it) and ``loss.svg``. Every
number in it is read from what was measured; nothing is judged here.
Layout: huggingface.co/docs/hub/model-cards; contents after Mitchell et al. 2019, arXiv 1810.03993.
"""

from collections.abc import Sequence
from pathlib import Path

from medvl_lib.evaluation.galleries import RetrievalRow
from medvl_lib.files import write_bytes
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.figures import draw_losses
from medvl_lib.pretraining.recipe import CaptionLessons
from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.training.matching_steps import MatchingStep
from medvl_lib.training.steps import TrainingStep

CARD, LOSS = "README.md", "loss.svg"
SHOWN_CAPTIONS = 4
WHO = {"base": "without training", "trained": "this model"}

TEXT = """---
license: apache-2.0
language: [en, zh]
pipeline_tag: zero-shot-image-classification
tags: [medvl, tiny, not-for-clinical-use]
---

# {hub_id}

A SigLIP of {num_parameters} parameters that knows which caption belongs to which invented picture. It was trained from random weights by
`medvl pretrain-tiny {family}`, and comes with MedVL so that its graph shows true numbers on any laptop, without a download.
**It is a test object.** It has seen no real picture, knows no medicine and must not be used on patients' data.

* Fingerprint of the files: `{contents}`
* Licence: that of MedVL (Apache-2.0); every picture it learned from was drawn by `medvl_lib/sample_data/captioned_pictures.py`.
* Architecture: `medvl_lib/models/siglip.py`; pictures of 96 x 96 pixels, texts of at most 64 tokens.

## What it was trained on

{num_pictures} invented pictures: a quarter knees, half skin lesions, a quarter chests, with captions that say what can be seen (grade,
brightness and place of a knee; place, size, edge, colour of lesion and skin; opacity, its place and size, heart and brightness of a
chest, in English or Chinese):

{captions}

The sigmoid loss of the paper (arXiv 2303.15343) over batches of {batch} pairs, equal captions counted as positives; AdamW.
{courses}: {num_steps} steps in all, which took {hours:.1f} hours on {made_on}.
Held-out loss at the end {validation_loss:.3f}, temperature {temperature:.2f}, bias {bias:.2f}.

![loss](loss.svg)

## What it can tell apart

A gallery of {gallery_size} pictures that it never saw, with {num_texts} different captions and the mix of kinds that it was trained on.
Pictures are the unit of every interval (95 %, bootstrap). *By class alone*: the expected recall of who knows the class of every picture and
caption (the five grades, the six diagnoses, an opacity or none) and nothing else.

{retrieval}

Captions of knees and of chests, of which there are few, also occur in training; no picture does.
A knee's side is in its caption and not in its picture (the fibula lies behind the tibia): of two captions that differ in it alone, it can
only guess.

Mean cosine of pictures and their own captions {matched:.2f}, and other captions {mismatched:.2f}.
"""


def write_card(
    directory: Path, *, findings: Sequence[RetrievalRow], steps: Sequence[TrainingStep], matching: Sequence[MatchingStep],
    lessons: CaptionLessons, spec: ModelSpec, contents: str, num_parameters: int, made_on: str,
) -> None:  # fmt: skip
    """Write the card and its figure into ``directory``."""
    draw_losses(directory / LOSS, steps)
    last = [step.validation_loss for step in steps if step.validation_loss is not None][-1]
    trained = next(row for row in findings if row.variant == "trained")
    write_bytes(directory / CARD, TEXT.format(
        hub_id=spec.hub_id, family=spec.family, num_parameters=f"{num_parameters:,}", contents=contents,
        num_pictures=f"{lessons.num_pictures:,}", captions=_captions(lessons), batch=lessons.recipes[0].effective_batch,
        courses=", then ".join(f"{item.num_epochs:g} epochs from a learning rate of {item.learning_rate:g}" for item in lessons.recipes),
        num_steps=f"{len(steps):,}", hours=_hours(steps), made_on=made_on, validation_loss=last, temperature=matching[-1].temperature,
        bias=matching[-1].bias, gallery_size=trained.gallery_size, num_texts=trained.num_texts, retrieval=_retrieval(findings),
        matched=trained.matched_similarity, mismatched=trained.mismatched_similarity or 0.0,
    ).encode())  # fmt: skip


def _captions(lessons: CaptionLessons) -> str:
    return "\n".join(f"> {draw_picture(lessons.pictures_part, number).caption}\n>" for number in range(SHOWN_CAPTIONS)).removesuffix("\n>")


def _hours(steps: Sequence[TrainingStep]) -> float:
    """Wall time of every run that took part: the clock of a resumed run starts again."""
    ends = [step.elapsed_seconds for step, after in zip(steps, [*steps[1:], None], strict=True)
            if after is None or after.elapsed_seconds < step.elapsed_seconds]  # fmt: skip
    return sum(ends) / 3600


def _retrieval(findings: Sequence[RetrievalRow]) -> str:
    header = ["who", "looks for", "recall at", "recall (95 % interval)", "by class alone", "by chance", "median rank"]
    rows = [
        [
            WHO[row.variant], "the caption" if row.direction == "image_to_text" else "the picture", str(row.cutoff), _told(row),
            "" if row.class_only is None else f"{row.class_only:.3f}", f"{row.chance:.3f}", f"{row.median_rank:g}",
        ] for row in sorted(findings, key=lambda row: (row.variant != "trained", row.direction, row.cutoff))
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _told(row: RetrievalRow) -> str:
    return f"{row.recall:.3f}" if row.ci_low is None or row.ci_high is None else f"{row.recall:.3f} ({row.ci_low:.3f} to {row.ci_high:.3f})"
