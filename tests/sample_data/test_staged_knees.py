"""Knees on a hospital's own scale. If these passed wrongly, the demo would judge by what its pictures do not show, or by what the small
model could not but get wrong.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import DATASETS
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.evaluation.metrics.classes import class_agreement, is_ordinal
from medvl_lib.evaluation.metrics.vqa import stated_label
from medvl_lib.labels import KELLGREN_LAWRENCE
from medvl_lib.pairs import Draft, Pair
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.staged_knees import STAGE_OF, STAGES, StagedKnee, draw_staged

LABELS = tuple(STAGES.split("|"))
KNEES = [draw_staged(draws.seeded(f"test/{number}"), number % len(STAGE_OF)) for number in range(20)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    root = tmp_path_factory.mktemp("raw") / "custom_reports"
    sample_data.write("custom_reports", root, counts={"english": 0, "chinese": 0, "dicom": 0, "knees": 50})
    return [reading.pair for reading in DATASETS["custom_reports"].read(root) if isinstance(reading, Draft)]


@pytest.mark.parametrize("knee", KNEES)
def test_a_report_names_the_stage_of_its_picture_and_no_other(knee: StagedKnee):
    assert stated_label(knee.report(), LABELS) == knee.category
    assert is_ordinal(LABELS)


def test_who_grades_by_kellgren_and_lawrence_is_right_about_two_of_five():
    """So the scale is what has to be learned, and not the words: those of the small model count."""
    said = [f"Radiograph of a left knee, Kellgren-Lawrence grade {grade.grade} ({grade.name})." for grade in KELLGREN_LAWRENCE]
    assert [class_agreement(answer, f"stage {STAGE_OF[grade]}", LABELS) for grade, answer in enumerate(said)] == [1, 0, 0, 0, 1]


def test_the_side_can_be_seen_on_the_knees_of_the_datasets_and_not_on_those_that_the_small_models_learned_from():
    """What a text says and no picture shows can only be guessed: recall at 1 of the encoder was a coin's."""
    for knee in (each.knee for each in KNEES[:5]):
        other = replace(knee, side="left" if knee.side == "right" else "right")
        pictures = [np.asarray(replace(each, shows_side=shows).image()) for shows in (True, False) for each in (knee, other)]
        assert not np.array_equal(pictures[0], pictures[1])
        assert np.array_equal(pictures[2], pictures[3])
        assert knee.shows_side


def test_each_patient_is_in_one_part_and_each_part_has_every_stage(pairs: list[Pair]):
    assert Counter(pair.publisher_split for pair in pairs) == {"train": 30, "validation": 10, "test": 10}
    assert len({pair.subject_id for pair in pairs}) == len(pairs)
    for split in ("train", "validation", "test"):
        found = Counter(pair.metadata["category"] for pair in pairs if pair.publisher_split == split)
        assert found.keys() == {f"stage {stage}" for stage in STAGE_OF}
    assert {pair.metadata["answer_labels"] for pair in pairs} == {STAGES}
    assert DESCRIBE["en"] not in {pair.request for pair in pairs}  # it asks for a form of its own, beside the one of the set of grades
