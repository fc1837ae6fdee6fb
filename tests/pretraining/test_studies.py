"""The model that reports studies: its lessons, its findings and its card. If these passed wrongly, the card would tell other numbers than
were measured, or a model that never looks at a picture would seem to.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medvl_lib.batches import IGNORE_INDEX, Reader, training_batch
from medvl_lib.hardware import PROFILES
from medvl_lib.models import shipped
from medvl_lib.models.llava_layout import convert
from medvl_lib.models.loading import load
from medvl_lib.pretraining import studies
from medvl_lib.pretraining.card import CARD
from medvl_lib.pretraining.examination import rows
from medvl_lib.pretraining.recipe import PRETRAINING, Lesson
from medvl_lib.pretraining.route import ExampleCollator, ExampleSet, pretrain, shelf, to_conversation
from medvl_lib.pretraining.studies import MEASURES, SETS, STAGES, diagnoses, draw, examine, found, labels, losses, place
from medvl_lib.pretraining.studies_card import write_card
from medvl_lib.sample_data.chest_studies import FRONTAL, LEARNED, NUM_CELLS
from tests.llava_fixtures import SPEC, Small
from tests.pretraining.found import found_of
from tests.pretraining.test_card import STEPS

CPU = PROFILES["cpu"]


def test_right_answers_score_one_and_those_of_another_study_less() -> None:
    for name in SETS:
        drawn = draw(name, "test", 20)
        assert {study.stage for study in drawn} == {STAGES[name]}
        right, wrong = (
            {row.metric: row.mean for row in rows(name, "base", drawn, {
                study.example_id: said.response for study, said in zip(drawn, order, strict=True)
            }, MEASURES[name])} for order in (drawn, [*drawn[1:], drawn[0]])
        )  # fmt: skip
        assert set(right.values()) == {1.0}
        assert max(wrong.values()) < 0.6


def test_what_is_said_too_much_or_too_little_is_not_right() -> None:
    first = next(study for study in draw("impressions", "test", 40) if study.chest.side and study.chest.has_large_heart)
    assert labels(first.response.replace("Cardiomegaly present", "Cardiomegaly absent"), first) == 0
    assert labels(f"{first.response}, Edema present", first) == 0
    assert (
        labels(f"{first.response}, Edema absent", first) == 1
    )  # what is absent is not counted: the picture does not say whether it is told
    other = "left" if first.chest.side == "right" else "right"
    assert place(first.response.replace(first.chest.side, other), first) == 0
    assert place("", first) == labels("", first) == 0
    second = next(study for study in draw("findings with records", "test", 40) if study.response.count("- ICD") == 2)
    assert diagnoses(second.response.rpartition("\n")[0], second) == 0
    assert found(second.response.replace("heart", "lung"), second) == 0


def test_the_cells_of_a_picture_are_asked_for_what_is_drawn_there(small_llava: Small) -> None:
    loaded = load(small_llava.base, SPEC, CPU)
    tokenizer = loaded.processor.tokenizer
    studied = ExampleSet(examples=LEARNED, part="test", first=0, count=8, is_spelled=True)
    drawn = studied.draw()
    collator = ExampleCollator(processor=loaded.processor, prompts=loaded.prompts, sets=[studied, replace(studied, is_spelled=False)])
    spelled, plain = collator([{"index": 0}]), collator([{"index": 1}])
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=shelf(drawn))
    assert torch.equal(plain["labels"], training_batch(reader, [to_conversation(study) for study in drawn])["labels"])
    for row, study in enumerate(drawn):
        places = (spelled["input_ids"][row] == loaded.processor.image_token_id).nonzero().flatten()
        assert len(places) == NUM_CELLS * study.num_pictures == len(study.cell_texts)
        first, rest = spelled["labels"][row, places[:NUM_CELLS] + 1], spelled["labels"][row, places[NUM_CELLS:-1] + 1]
        assert (rest == IGNORE_INDEX).all()
        said = [tokenizer.decode([token]) for token in first.tolist()]
        assert all(whole.startswith(text) for text, whole in zip(said, study.cell_texts[:NUM_CELLS], strict=True))
        assert ("opacity" in said) == bool(study.chest.side)
        assert said[-4:-1] == ([study.chest.side, study.chest.zone, study.chest.size] if study.chest.side else ["clear"] * 3)


def test_each_word_of_a_cell_begins_with_a_token_of_its_own(small_llava: Small) -> None:
    tokenizer = load(small_llava.base, SPEC, CPU).processor.tokenizer
    words = {text for number in range(60) for text in FRONTAL.draw("test", number).cell_texts}
    assert words == {
        "opacity", "heart", "clear", "left", "right", "upper", "middle", "lower", "small", "medium", "large", "enlarged", "normal",
    }  # fmt: skip
    assert len({tokenizer.encode(word, add_special_tokens=False)[0] for word in words}) == len(words)


@pytest.mark.slow
def test_pretraining_leaves_the_publishers_layout_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    lesson = Lesson(num_steps=2, num_examples=2, examples=FRONTAL, is_alike_in_a_step=False, is_spelled=True)
    recipe = replace(PRETRAINING["llava_med"], lessons=(lesson,), num_warmup_steps=0, validate_every=1, num_validation_examples=2)
    for name in ("model", "converted"):
        (tmp_path / name).mkdir()
    pretrain(tmp_path / "model", recipe=recipe, spec=SPEC, profile=CPU, checkpoints=tmp_path / "checkpoints", report=lambda _: None)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.model", "training_steps.parquet",
    }  # fmt: skip
    facts = convert(tmp_path / "model", tmp_path / "converted")
    assert facts["num_converted_tensors"] == 114
    load(tmp_path / "converted", SPEC, CPU)


@pytest.mark.slow
def test_everything_is_measured_that_the_card_tells(small_llava: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "NUM_STUDIES", 3)
    monkeypatch.setattr(studies, "NUM_FLOOR_STUDIES", 6)
    monkeypatch.setattr("medvl_lib.pretraining.examination.MAX_ANSWER_TOKENS", 4)
    measured = list(examine(small_llava.published, SPEC, CPU, tmp_path / "scratch"))
    wanted = {(row.pages, row.variant, row.condition, row.metric) for row in found_of(MEASURES)}
    assert wanted <= {(row.pages, row.variant, row.condition, row.metric) for row in measured}
    write_card(
        tmp_path, findings=measured, steps=STEPS, recipe=PRETRAINING["llava_med"], spec=SPEC, contents="fedcba", num_parameters=3_000_000,
        floor_pixels=6.0, made_on="1 core (cpu)",
    )  # fmt: skip


def test_the_card_tells_what_was_measured(tmp_path: Path) -> None:
    write_card(
        tmp_path, findings=found_of(MEASURES), steps=STEPS, recipe=PRETRAINING["llava_med"], spec=SPEC, contents="fedcba",
        num_parameters=3_000_000, floor_pixels=6.0, made_on="1 core (cpu)",
    )  # fmt: skip
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "| impressions (60) | labels | 0.800 (0.700 to 0.900) |" in card
    assert "| impressions: place | 0.800 (0.700 to 0.900) | 0.300 (0.700 to 0.900) | 0.300 (0.700 to 0.900) | 0.200" in card
    assert "| nf4 | findings with records: diagnoses | 0.750 (0.700 to 0.900) | -0.050 (-0.100 to 0.000) | 11.00 |" in card
    assert "| shuffled_image | 1.900 |" in card
    assert "`fedcba`" in card
    assert "3,000,000 parameters" in card
    assert "steps of 16 frontal pictures, then " in card


# -- the shipped model -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    weights = shipped.require_pinned("llava_med")
    assert weights is not None
    convert(weights, directory := tmp_path_factory.mktemp("converted"))
    return load(directory, SPEC, CPU)


def test_its_loss_is_far_below_guessing_and_needs_the_picture(loaded) -> None:
    drawn = [study for name in SETS for study in draw(name, "test", 12)]
    own, others = (losses(loaded, drawn, is_shuffled=is_shuffled) for is_shuffled in (False, True))
    assert sum(own.values()) / len(own) < 0.5
    assert sum(others.values()) / len(others) > 1.5 * sum(own.values()) / len(own)
