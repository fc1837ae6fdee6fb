"""Pretraining of the small encoder: every weight, on invented pictures with captions, through the route that every stage takes.

In: lessons, an empty directory, and where checkpoints go. Out: the trained encoder in the hub's layout, and its steps. The pictures and a
table of pairs are written below the checkpoints, where ``training.route`` reads them as it reads a line's; seeded, and resumed from the
newest whole checkpoint. What the encoder can do is judged in ``viewing``.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from medvl_lib.chat import PlacedPair
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.models.loading import quiet, serializing
from medvl_lib.models.preparing import TINY, copy_side_files
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pairs import PAIRS, Split
from medvl_lib.pretraining.recipe import CaptionLessons
from medvl_lib.progress import Report
from medvl_lib.provenance import Fact
from medvl_lib.sample_data.captioned_pictures import KINDS, CaptionedPicture, draw_picture
from medvl_lib.tables import Row, read_table, write_table
from medvl_lib.training.matching_steps import MATCHING_STEPS, MatchingStep
from medvl_lib.training.recipe import Stage
from medvl_lib.training.route import train
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

START, PICTURES, CHAT = "start", "pictures", "chat"  # below the checkpoints


def distinct_pictures(part: str, num_pictures: int) -> list[CaptionedPicture]:
    """Pictures of a part, no caption twice, each kind as often as in every other part: a gallery."""
    found: dict[str, CaptionedPicture] = {}
    turns = len(KINDS)
    wanted = [num_pictures // turns + (place < num_pictures % turns) for place in range(turns)]
    numbers = count()
    while any(wanted):
        number = next(numbers)
        picture = draw_picture(part, number) if wanted[number % turns] else None
        if picture is not None and picture.caption not in found:
            found[picture.caption] = picture
            wanted[number % turns] -= 1
    return list(found.values())


def write_lessons(chat: Path, images: ImageStore, lessons: CaptionLessons) -> None:
    """Draw the pictures that are trained and validated on, and the table of their pairs."""
    chat.mkdir(parents=True, exist_ok=True)
    write_table(chat / PAIRS, PlacedPair, _placed(images, lessons))


def _placed(images: ImageStore, lessons: CaptionLessons) -> Iterator[PlacedPair]:
    drawn = (draw_picture(lessons.pictures_part, number) for number in range(lessons.num_pictures))
    held_out = distinct_pictures(lessons.validation_part, lessons.num_validation_pictures)
    yield from (_pair(picture, images, "train") for picture in drawn)
    yield from (_pair(picture, images, "validation") for picture in held_out)


def _pair(picture: CaptionedPicture, images: ImageStore, split: Split) -> PlacedPair:
    return PlacedPair(
        pair_id=f"captioned_pictures/{picture.picture_id}", dataset="captioned_pictures", image_ids=(images.put(picture.png),),
        request=DESCRIBE[picture.language], response=picture.caption, expected=(), subject_id=None, document_id=picture.picture_id,
        publisher_split=split, language=picture.language, source="drawn", licence="CC0-1.0", metadata={}, split=split,
        category=picture.category,
    )  # fmt: skip


def pretrain(
    directory: Path, *, lessons: CaptionLessons, spec: ModelSpec, profile: Profile, checkpoints: Path, report: Report,
) -> dict[str, Fact]:  # fmt: skip
    """Train a small encoder from its seed, or go on where that stopped, and save it into ``directory`` in 16 bit, with its steps."""
    start, chat, images = checkpoints / START, checkpoints / CHAT, ImageStore(checkpoints / PICTURES)
    if not (chat / PAIRS).is_file():
        write_lessons(chat, images, lessons)
    shutil.rmtree(start, ignore_errors=True)
    start.mkdir(parents=True)
    with quiet():
        TINY[spec.family](start, seed=lessons.seed, max_pixels=spec.max_pixels)
    weights, done = start, list[Path]()
    for number, recipe in enumerate(lessons.recipes, start=1):
        stage = Stage(name=f"lesson_{number}", objective="match", recipe=recipe, model=spec)
        wide = checkpoints / stage.name / "encoder"
        if not (wide / SUMMARY).is_file():  # written last
            shutil.rmtree(wide, ignore_errors=True)
            wide.mkdir(parents=True)
            train(
                wide, stage=stage, spec=spec, weights=weights, chat=chat, images=images,
                profile=replace(profile, training_batch=recipe.effective_batch), previous=None, checkpoints=wide.parent, report=report,
            )  # fmt: skip
        weights = wide
        done.append(wide)
    copy_side_files(start, directory)
    with quiet(), serializing(directory):
        AutoModel.from_pretrained(weights, dtype=torch.bfloat16).save_pretrained(directory)
    num_steps = write_table(directory / TRAINING_STEPS, TrainingStep, _one_after_the_other(done, TRAINING_STEPS, TrainingStep))
    write_table(directory / MATCHING_STEPS, MatchingStep, _one_after_the_other(done, MATCHING_STEPS, MatchingStep))
    return {"num_steps": num_steps}


def _one_after_the_other(done: Sequence[Path], file: str, model: type[Row]) -> Iterator[Row]:
    """The rows of several trainings, their steps counted on."""
    before = 0
    for directory in done:
        rows: list[Any] = list(read_table(directory / file, model))
        yield from (replace(row, step=before + row.step) for row in rows)
        before += rows[-1].step
