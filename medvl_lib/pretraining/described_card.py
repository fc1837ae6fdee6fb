"""The model card of the small model of described pictures: its findings in words, tables and a figure.

In: findings, training steps, the recipe and the fingerprint. Out: ``README.md`` (a model card as the hub reads it) and ``loss.svg``. Every
number in it is read from what was measured; nothing is judged or computed here.
Layout: huggingface.co/docs/hub/model-cards; contents after Mitchell et al. 2019, arXiv 1810.03993.
"""

from collections.abc import Sequence
from pathlib import Path

from medvl_lib.files import write_bytes
from medvl_lib.labels import KELLGREN_LAWRENCE, LESIONS
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pretraining.card import CARD, LOSS, controls_table, hours, learned_table, losses_table, quantization_table
from medvl_lib.pretraining.described import SETS
from medvl_lib.pretraining.examination import LOSS as HELD_OUT
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.figures import draw_loss
from medvl_lib.pretraining.recipe import PretrainingRecipe
from medvl_lib.sample_data.described_pictures import LEARNED, SHIFTED_DIAGNOSES
from medvl_lib.training.steps import TrainingStep

TEXT = """---
license: apache-2.0
language: [en, zh]
pipeline_tag: image-text-to-text
tags: [medvl, tiny, not-for-clinical-use]
---

# {hub_id}

A Llama 3.2 Vision of {num_parameters} parameters that describes invented pictures of knees, skin lesions and chests. It was trained from
random weights by `medvl pretrain-tiny {family}`, and comes with MedVL so that its graph shows true numbers on any laptop, without a
download.
**It is a test object.** It has seen no real picture, knows no medicine and must not be used on patients' data. No weight of it comes
from Meta's checkpoints.

* Fingerprint of the files: `{contents}`
* Licence: that of MedVL (Apache-2.0); every picture it learned from was drawn by `medvl_lib/sample_data/described_pictures.py`.
* Architecture: `medvl_lib/models/mllama.py`; up to four tiles of 112 x 112 pixels, patches of 28, a byte-level tokenizer with merges.

## What it was trained on

Knees of {num_grades} grades, lesions of {num_learned} of {num_diagnoses} diagnoses ({shifted} were left out), and chests with an opacity or
none. {question_share:.0%} of the requests ask for one thing, the others for a description; {chinese_share:.0%} of those about chests are
Chinese. {num_examples} examples in {num_steps} steps, AdamW, peak learning rate {learning_rate:g} after {num_warmup_steps} steps of
warm-up. Training took {hours:.1f} hours on {made_on}. Held-out loss at the end: {validation_loss:.3f} nats per token.

![loss](loss.svg)

## What it can tell

Pictures are the unit of every interval (95 %, bootstrap). `class_agreement`: the description names the grade or diagnosis and no other;
`exact`: the answer is the wanted one, word for word; `language_kept`: it is in the language that was asked for.

{learned}

## Does it look at the picture?

The same requests with a gray picture and with another request's, and the floors: answers that need no model.

{controls}

The held-out loss, in nats per token of an answer, averaged over examples:

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
    draw_loss(directory / LOSS, steps, recipe, trained="answers", held="last lesson's pictures", unit="token")
    last = [step.validation_loss for step in steps if step.validation_loss is not None][-1]
    write_bytes(directory / CARD, TEXT.format(
        hub_id=spec.hub_id, family=spec.family, num_parameters=f"{num_parameters:,}", contents=contents,
        num_grades=len(KELLGREN_LAWRENCE), num_learned=len(LEARNED.diagnoses), num_diagnoses=len(LESIONS),
        shifted=" and ".join(SHIFTED_DIAGNOSES),
        question_share=LEARNED.question_share, chinese_share=LEARNED.chinese_share,
        num_examples=f"{sum(lesson.num_steps * lesson.num_examples for lesson in recipe.lessons):,}", num_steps=f"{recipe.num_steps:,}",
        learning_rate=recipe.learning_rate, num_warmup_steps=recipe.num_warmup_steps, hours=hours(steps), made_on=made_on,
        validation_loss=last, learned=learned_table(findings, SETS, "pictures"),
        controls=controls_table(findings, SETS, "pictures", first_alone=True), losses=losses_table(findings, HELD_OUT),
        quantization=quantization_table(findings, "picture", "pictures", without="language_kept"),
    ).encode())  # fmt: skip
