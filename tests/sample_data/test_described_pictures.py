"""Pictures to learn describing from. If these passed wrongly, a model would be taught what the picture does not show, or be judged on
pictures that it was trained on.
"""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medvl_lib.evaluation.metrics.classes import class_agreement
from medvl_lib.labels import GRADE_LABELS, LESION_LABELS
from medvl_lib.sample_data.described_pictures import LEARNED, SHIFTED, SHIFTED_DIAGNOSES, PictureDistribution

PICTURES = [LEARNED.draw("test", number) for number in range(300)]


def test_the_same_three_give_the_same_picture_and_parts_share_none():
    first, again, other = LEARNED.draw("a", 1), LEARNED.draw("a", 1), LEARNED.draw("b", 1)
    assert (first.png, first.request, first.response) == (again.png, again.request, again.response)
    assert first.png != other.png
    assert len({picture.png for picture in PICTURES[:50]}) == 50


def test_every_kind_every_grade_and_both_languages_come():
    assert {picture.kind for picture in PICTURES} == {"knee", "lesion", "chest"}
    assert {picture.category for picture in PICTURES if picture.kind == "knee"} == set("01234")
    assert {picture.category for picture in PICTURES if picture.kind == "lesion"} == set(LEARNED.diagnoses)
    languages = Counter(picture.said.language for picture in PICTURES)
    assert languages["zh"] > 15 < languages["en"]
    assert {picture.kind for picture in PICTURES if picture.said.language == "zh"} == {"chest"}


def test_what_is_left_out_is_never_drawn_to_learn_from():
    assert not set(SHIFTED_DIAGNOSES) & {picture.category for picture in PICTURES}
    assert {SHIFTED.draw("test", number).category for number in range(30)} == set(SHIFTED_DIAGNOSES)


@pytest.mark.parametrize(("kind", "labels"), [("knee", GRADE_LABELS), ("lesion", LESION_LABELS)])
def test_a_description_names_the_class_that_is_drawn(kind: str, labels: str):
    described = [picture for picture in PICTURES if picture.kind == kind and picture.request.startswith("Describe")]
    assert len(described) > 20
    for picture in described:
        category = f"KL {picture.category}" if kind == "knee" else picture.category
        assert class_agreement(picture.response, category, tuple(labels.split("|"))) == 1


def test_the_picture_is_the_generators_with_noise():
    quiet = replace(LEARNED, max_noise=0.0)
    for number in range(12):
        drawn = quiet.draw("test", number)
        stored = Image.open(io.BytesIO(drawn.png))
        assert np.array_equal(np.asarray(stored), np.asarray(drawn.picture))
        noisy = LEARNED.draw("test", number)
        apart = np.abs(np.asarray(Image.open(io.BytesIO(noisy.png)), dtype=float) - np.asarray(noisy.picture, dtype=float))
        assert apart.std() <= LEARNED.max_noise


def test_pictures_of_one_step_are_drawn_from_the_same():
    assert LEARNED.at_step(7) == LEARNED


@pytest.mark.parametrize("wrong", [{"kinds": ()}, {"question_share": 1.1}, {"max_noise": -1.0}])
def test_a_distribution_of_nothing_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match="."):
        replace(LEARNED, **wrong)


def test_texts_are_those_of_the_picture():
    assert isinstance(LEARNED, PictureDistribution)
    assert LEARNED.texts("test", 3) == (PICTURES[3].request, PICTURES[3].response)
