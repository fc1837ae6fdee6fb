"""Pretraining of the small encoder. If these passed wrongly, it would be judged on what it learned from, or on captions that stand twice,
or a run that was cut would begin anew and call itself whole.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.captions import captioned_images
from medvl_lib.evaluation.galleries import RetrievalRow
from medvl_lib.hardware import PROFILES
from medvl_lib.images import ImageStore, rgb_pixels
from medvl_lib.lines import tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.weights import tensors
from medvl_lib.pretraining import encoding, viewing
from medvl_lib.pretraining.encoding import CHAT, PICTURES, distinct_pictures, pretrain, write_lessons
from medvl_lib.pretraining.recipe import CAPTIONS, CaptionLessons
from medvl_lib.pretraining.viewing_card import CARD, LOSS, write_card
from medvl_lib.sample_data.captioned_pictures import KINDS, draw_picture
from medvl_lib.tables import read_table
from medvl_lib.training.matching_steps import MATCHING_STEPS, MatchingStep
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

CPU = PROFILES["cpu"]
LESSONS = CAPTIONS["siglip"]
FEW = replace(
    LESSONS, num_pictures=16, num_validation_pictures=8,
    recipes=tuple(replace(recipe, num_epochs=1, effective_batch=8) for recipe in LESSONS.recipes),
)  # fmt: skip


def test_a_gallery_has_distinct_captions_and_the_mix_of_every_part():
    gallery = distinct_pictures("held_out", 40)
    assert len({item.caption for item in gallery}) == 40
    assert Counter(KINDS[int(item.picture_id.rpartition("/")[2]) % len(KINDS)] for item in gallery) == {
        "knee": 10,
        "lesion": 20,
        "chest": 10,
    }


def test_equal_names_give_equal_pictures_and_parts_share_none():
    assert draw_picture("a", 3) == draw_picture("a", 3)
    pictures = {item.png for part in (LESSONS.pictures_part, LESSONS.validation_part, viewing.GALLERY_PART, "tests/train")
                for item in (draw_picture(part, number) for number in range(40))}  # fmt: skip
    assert len(pictures) == 160
    assert rgb_pixels(draw_picture("a", 0).png).shape[2] == 3


def test_what_a_caption_says_can_be_told_apart_in_the_picture():
    """Two pictures that differ in what is said of the film differ in brightness as it says."""
    found: dict[str, list[float]] = {"dark": [], "ordinary": [], "bright": []}
    for number in range(0, 160, len(KINDS)):
        picture = draw_picture("films", number)
        film = next(word for word in found if f"{word} film" in picture.caption)
        found[film].append(float(rgb_pixels(picture.png).mean()))
    assert max(found["dark"]) < min(found["ordinary"]) <= max(found["ordinary"]) < min(found["bright"])


def test_lessons_are_written_as_a_line_leaves_its_pairs(tmp_path: Path):
    write_lessons(tmp_path / CHAT, ImageStore(tmp_path / PICTURES), FEW)
    training, held_out = (list(captioned_images(tmp_path / CHAT, split)) for split in ("train", "validation"))
    assert len(held_out) == len({item.text for item in held_out}) == 8
    assert 12 <= len(training) <= 16  # a picture with its caption comes once
    assert not {item.image_id for item in training} & {item.image_id for item in held_out}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    (root / "model").mkdir()
    facts = pretrain(
        root / "model", lessons=FEW, spec=tiny_model("siglip"), profile=CPU, checkpoints=root / "checkpoints", report=lambda _: None
    )
    assert facts == {"num_steps": FEW.num_steps}
    return root


def test_the_lessons_follow_one_another_and_their_steps_are_counted_on(made: Path):
    steps = [row.step for row in read_table(made / "model" / TRAINING_STEPS, TrainingStep)]
    assert steps == [row.step for row in read_table(made / "model" / MATCHING_STEPS, MatchingStep)] == list(range(1, FEW.num_steps + 1))
    assert {tensor.dtype for tensor in tensors(made / "model").values()} == {"BF16"}


def test_a_run_that_was_cut_between_lessons_trains_the_last_one_alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import shutil

    shutil.copytree(made / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / "lesson_2")
    trained: list[str] = []
    train = encoding.train
    monkeypatch.setattr(encoding, "train", lambda *args, stage, **more: (trained.append(stage.name), train(*args, stage=stage, **more)))
    (tmp_path / "model").mkdir()
    pretrain(
        tmp_path / "model", lessons=FEW, spec=tiny_model("siglip"), profile=CPU, checkpoints=tmp_path / "checkpoints",
        report=lambda _: None,
    )  # fmt: skip
    assert trained == ["lesson_2"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (made / "model" / "model.safetensors").read_bytes()


def test_the_card_tells_what_was_found(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(viewing, "GALLERY_SIZE", 12)
    findings = list(viewing.examine(made / "model", tiny_model("siglip"), CPU, tmp_path))
    assert {(row.variant, row.direction, row.cutoff) for row in findings} == {
        (variant, direction, cutoff)
        for variant in ("base", "trained") for direction in ("image_to_text", "text_to_image") for cutoff in (1, 5, 10)
    }  # fmt: skip
    best = max((row for row in findings if row.cutoff == 1), key=lambda row: row.recall)
    write_card(
        tmp_path, findings=findings, steps=list(read_table(made / "model" / TRAINING_STEPS, TrainingStep)),
        matching=list(read_table(made / "model" / MATCHING_STEPS, MatchingStep)), lessons=FEW, spec=tiny_model("siglip"),
        contents="c0ffee", num_parameters=1_605_378, made_on="a machine",
    )  # fmt: skip
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert f"{best.recall:.3f} ({best.ci_low:.3f} to {best.ci_high:.3f}) | {best.class_only:.3f} |" in card
    assert "`c0ffee`" in card
    assert "1,605,378 parameters" in card
    assert (tmp_path / LOSS).read_text(encoding="utf-8").startswith("<?xml")


def test_no_recipe_is_no_lesson():
    with pytest.raises(ValueError, match="no recipes"):
        CaptionLessons(
            seed=1, pictures_part="a", num_pictures=1, validation_part="b", num_validation_pictures=1, recipes=()
        )  # fmt: skip


SHIPPED = Path(shipped.__file__).parents[2] / "docs" / "model-cards" / "tiny-siglip"


def test_the_shipped_encoder_finds_five_times_what_the_class_alone_would():
    """What was found when the card was written, of a gallery of 240 pictures with distinct captions."""
    rows = [row for row in read_table(SHIPPED / "findings.parquet", RetrievalRow) if (row.variant, row.cutoff) == ("trained", 1)]
    assert len(rows) == 2
    for row in rows:
        assert row.gallery_size == row.num_texts == viewing.GALLERY_SIZE >= 200
        assert row.recall >= 5 * row.class_only
    assert shipped.PINNED["siglip"] in (SHIPPED / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_shipped_encoder_finds_today_what_its_card_says(tmp_path: Path):
    directory = shipped.require_pinned("siglip")
    assert directory is not None
    told = {(row.variant, row.direction, row.cutoff): row.recall for row in read_table(SHIPPED / "findings.parquet", RetrievalRow)}
    found = {
        (row.variant, row.direction, row.cutoff): row.recall for row in viewing.examine(directory, tiny_model("siglip"), CPU, tmp_path)
    }
    assert found == pytest.approx(told, abs=0.02)  # a near tie may turn on another processor
