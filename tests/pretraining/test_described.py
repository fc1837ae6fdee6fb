"""The model that describes pictures: its findings and its card. If these passed wrongly, the card would tell other numbers than were
measured, or a model that never looks at a picture would seem to.
"""

from pathlib import Path

import pytest

from medvl_lib.hardware import PROFILES
from medvl_lib.lines import tiny_model
from medvl_lib.models.loading import load
from medvl_lib.models.preparing import TINY
from medvl_lib.pretraining import described
from medvl_lib.pretraining.card import CARD
from medvl_lib.pretraining.described import MEASURES, NEW, SETS, agreement, draw, exact, examine, losses
from medvl_lib.pretraining.described_card import write_card
from medvl_lib.pretraining.examination import CONTROLS, LOSS, rows
from medvl_lib.pretraining.recipe import PRETRAINING
from medvl_lib.sample_data.described_pictures import LEARNED
from tests.pretraining.found import found_of
from tests.pretraining.test_card import STEPS

SPEC, CPU = tiny_model("mllama"), PROFILES["cpu"]


def test_right_answers_score_one_and_a_class_more_scores_none():
    knees = draw(SETS["knees"], "test", 6)
    right = {metric.metric: metric for metric in rows("knees", "base", knees, {item.example_id: item.response for item in knees},
                                                       measures=MEASURES["knees"])}  # fmt: skip
    assert {name: found.mean for name, found in right.items()} == {"class_agreement": 1, "exact": 1}
    assert agreement(f"{knees[0].response} Grade 9 grade 1 grade 2", knees[0]) <= agreement(knees[0].response, knees[0])
    assert exact("A knee.", knees[0]) == 0


def test_sets_are_of_what_they_are_called():
    assert {item.kind for item in draw(SETS["lesions"], "test", 20)} == {"lesion"}
    assert not {item.category for item in draw(SETS[NEW], "test", 20)} & set(LEARNED.diagnoses)
    assert not any(item.request.startswith(("Describe", "请描述")) for item in draw(SETS["questions"], "test", 20))


def test_the_card_tells_what_was_measured(tmp_path: Path):
    write_card(
        tmp_path, findings=found_of(MEASURES), steps=STEPS, recipe=PRETRAINING["mllama"], spec=SPEC, contents="fedcba",
        num_parameters=5_000_000, floor_pixels=6.0, made_on="1 core (cpu)",
    )  # fmt: skip
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "| knees (60) | class_agreement | 0.800 (0.700 to 0.900) |" in card
    assert "| lesions: class_agreement | 0.800 (0.700 to 0.900) | 0.300 (0.700 to 0.900) | 0.300 (0.700 to 0.900) | 0.200" in card
    assert "| nf4 | chests: exact | 0.750 (0.700 to 0.900) | -0.050 (-0.100 to 0.000) | 11.00 |" in card
    assert "| shuffled_image | 1.900 |" in card
    assert "`fedcba`" in card
    assert "5,000,000 parameters" in card
    assert (tmp_path / "loss.svg").is_file()


@pytest.mark.soak
def test_an_examination_finds_everything_that_the_card_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    TINY["mllama"](tmp_path / "model", seed=1, max_pixels=SPEC.max_pixels)
    for name, value in {"NUM_PICTURES": 2, "NUM_FLOOR_PICTURES": 6}.items():
        monkeypatch.setattr(described, name, value)
    found = list(examine(tmp_path / "model", SPEC, CPU, tmp_path))
    assert {(row.pages, row.metric) for row in found if row.variant == "base" and row.condition == "as_is"} == {
        (LOSS, "loss"), *((name, metric) for name, measures in MEASURES.items() for metric in measures),
    }  # fmt: skip
    assert {row.condition for row in found if row.pages == "knees"} == {"as_is", *CONTROLS}
    assert {row.variant for row in found} == {"base", "nf4", "floor_empty", "floor_constant", "floor_random", "floor_majority"}


def test_another_picture_is_another_loss(tmp_path: Path):
    TINY["mllama"](tmp_path, seed=1, max_pixels=SPEC.max_pixels)
    loaded, pictures = load(tmp_path, SPEC, CPU), draw(LEARNED, "test", 3)
    own, others = (losses(loaded, pictures, is_shuffled=is_shuffled) for is_shuffled in (False, True))
    assert own == losses(loaded, pictures, is_shuffled=False)
    assert all(own[name] != others[name] for name in own)
