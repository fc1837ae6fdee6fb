"""Closed and open questions. If these passed wrongly, a constant answer could be as good as a model, as with other projects' scorers."""

import pytest

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.metrics.vqa import closed_accuracy, closed_unparsable, open_exact, open_recall
from medvl_lib.evaluation.predictions import Reference


def reference(answer_type: str | None, response: str = "yes") -> Reference:
    slices = {} if answer_type is None else {"answer_type": answer_type}
    return Reference(
        pair_id="vqa/1", dataset="vqa", split="test", group_id="1", language="en", licence="CC0-1.0",
        request="?", response=response, expected=(),
        slices=slices, glyph_height_pixels=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "wanted", "is_right", "is_unparsable"),
    [
        ("yes", "yes", 1, 0),
        ("Yes.", "YES", 1, 0),
        ("No, there is no fracture.", "no", 1, 0),
        ("no", "yes", 0, 0),
        ("yes and no", "yes", 0, 1),  # always right in LLaVA-Med's first script
        ("yes and no", "no", 0, 1),
        ("The nodule is abnormal, yes.", "no", 0, 0),
        ("I cannot determine this; the image looks normal, nothing is seen.", "no", 0, 1),  # "no" stands within three of its words
        ("", "no", 0, 1),
        ("Yes, there is no pleural effusion left.", "yes", 1, 0),
        ("No, to say yes would be wrong.", "no", 1, 0),
        ("no/yes", "yes", 0, 1),
        ("yes or no", "yes", 0, 1),
        ("There is no answer but yes", "yes", 0, 1),
        ("not", "no", 0, 1),
    ],
)
def test_closed_by_hand(answer: str, wanted: str, is_right: int, is_unparsable: int):
    assert (closed_accuracy(answer, wanted), closed_unparsable(answer, wanted)) == (is_right, is_unparsable)


@pytest.mark.parametrize(
    ("answer", "wanted", "exact"),
    [
        ("left lung", "Left lung.", 1),
        ("the left lung", "left lung", 1),
        ("lung left", "left lung", 0),
        ("", "left lung", 0),
        ("4.10", "4.1", 1),
    ],
)
def test_open_exact_by_hand(answer: str, wanted: str, exact: int):
    assert open_exact(answer, wanted) == exact


def test_open_recall_by_hand():
    assert open_recall("the left lung", "Left lower lobe") == pytest.approx(1 / 3)
    assert open_recall("lung lung", "lung and lung") == pytest.approx(2 / 3)
    assert open_recall("", "lung") == 0


def test_a_reference_without_a_label_is_the_scorers_failure():
    for metric in (closed_accuracy, closed_unparsable):
        with pytest.raises(UnscorableError):
            metric("yes", "left lung")
    for metric in (open_exact, open_recall):
        with pytest.raises(UnscorableError):
            metric("yes", "...")


@pytest.mark.parametrize(
    ("answer_type", "names"),
    [
        ("closed", {"closed_accuracy", "closed_unparsable"}),
        ("open", {"open_exact", "open_recall", "token_f1"}),
        (None, {"token_f1"}),
    ],
)
def test_a_question_is_scored_by_the_metrics_of_its_kind(answer_type: str | None, names: set[str]):
    assert {name for name, metric in METRICS.items() if metric.applies_to(reference(answer_type))} == names


def test_the_score_is_that_of_the_reference():
    assert METRICS["closed_accuracy"].score("no", reference("closed", "no")) == 1
    assert METRICS["open_exact"].score("lung", reference("open", "lung")) == 1
