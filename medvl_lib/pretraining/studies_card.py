"""The model card of the small LLaVA-Med: its findings in words, tables and a figure.

In: findings, training steps, the recipe and the fingerprint. Out: ``README.md`` (a model card as the hub reads it) and ``loss.svg``. Every
number in it is read from what was measured; nothing is judged or computed here.
Layout: huggingface.co/docs/hub/model-cards; contents after Mitchell et al. 2019, arXiv 1810.03993.
"""

from collections.abc import Sequence
from pathlib import Path

from medvl_lib.files import write_bytes
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.card import CARD, LOSS, controls_table, hours, learned_table, losses_table, quantization_table
from medvl_lib.pretraining.examination import LOSS as HELD_OUT
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.figures import draw_loss
from medvl_lib.pretraining.recipe import PretrainingRecipe
from medvl_lib.pretraining.studies import SETS
from medvl_lib.training.steps import TrainingStep

TEXT = """---
license: apache-2.0
language: [en]
pipeline_tag: image-text-to-text
tags: [medvl, tiny, not-for-clinical-use]
---

# {hub_id}

A LLaVA-Med of {num_parameters} parameters that reports invented radiographs of the chest. It was trained from random weights by
`medvl pretrain-tiny {family}`, and comes with MedVL so that its graph shows true numbers on any laptop, without a download.
**It is a test object.** It has seen no real picture, knows no medicine and must not be used on patients' data. No weight of it comes
from Microsoft's checkpoint.

* Fingerprint of the files: `{contents}`
* Licence: that of MedVL (Apache-2.0); every study it learned from was drawn by `medvl_lib/sample_data/chest_studies.py`.
* Architecture: `medvl_lib/models/llava_med.py`; a CLIP for pictures of 112 x 112 pixels in 64 patches, a projector of two layers, a
  Llama. The files have the layout of LLaVA-Med's publisher (`llava_mistral`): `medvl_lib/models/llava_layout.py` converts them whenever the
  base model is prepared, as it would the published ones.

## What it was trained on

Studies with one or two views, asked for the impression with its CheXpert labels, or, with the patient's record, for the findings and the
diagnoses of the stay; the words are those of the pairs of `mimic_cxr`, and no patient is one of the sample data. {lessons}.
It was stopped early, so that fine-tuning has something to add. Beside the
answer, each image token was asked for what stands in its patch, and the last four for side, zone and size of the opacity and for the size
of the heart. AdamW, peak learning rate {learning_rate:g} after
{num_warmup_steps} steps of warm-up. Training took {hours:.1f} hours on {made_on}. Held-out loss at the end: {validation_loss:.3f} nats per
token.

![loss](loss.svg)

## What it can tell

Studies are the unit of every interval (95 %, bootstrap). `labels`: the answer states as present or uncertain what is wanted so, and nothing
else; `place`: it names side and zone of the opacity, and neither where there is none; `findings`: they are the wanted ones, word for word;
`diagnoses`: their codes are the wanted ones, all of them and no others.

{learned}

## Does it look at the picture?

The same requests with a gray picture and with another study's pictures, and the floors: answers that need no model.

{controls}

The held-out loss, in nats per token of an answer, averaged over studies:

{losses}

## What quantization costs

{quantization}
"""


def write_card(
    directory: Path, *, findings: Sequence[Finding], steps: Sequence[TrainingStep], recipe: PretrainingRecipe, spec: ModelSpec,
    contents: str, num_parameters: int, floor_pixels: float, made_on: str,
) -> None:  # fmt: skip
    """Write the card and its figure into ``directory``; letters have no height here, so that ``floor_pixels`` says nothing."""
    del floor_pixels
    draw_loss(directory / LOSS, steps, recipe, trained="answers and patches", held="last lesson's studies", unit="token")
    last = [step.validation_loss for step in steps if step.validation_loss is not None][-1]
    lessons = ", then ".join(f"{lesson.num_steps} steps of {lesson.num_examples} {lesson.examples.name}" for lesson in recipe.lessons)
    write_bytes(directory / CARD, TEXT.format(
        hub_id=spec.hub_id, family=spec.family, num_parameters=f"{num_parameters:,}", contents=contents,
        lessons=lessons[0].upper() + lessons[1:], learning_rate=recipe.learning_rate, num_warmup_steps=recipe.num_warmup_steps,
        hours=hours(steps), made_on=made_on, validation_loss=last,
        learned=learned_table(findings, SETS, "studies"), controls=controls_table(findings, SETS, "studies"),
        losses=losses_table(findings, HELD_OUT), quantization=quantization_table(findings, "study", "studies"),
    ).encode())  # fmt: skip
