"""Closed and open questions. If these passed wrongly, a constant answer could be as good as a model, as with other projects' scorers."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.metrics.vqa import (
    closed_accuracy,
    closed_unparsable,
    labels_of,
    names,
    open_exact,
    open_recall,
    stated_label,
)
from medvl_lib.evaluation.predictions import Reference

SLAKE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "SLAKE"


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
        ("No idea.", "no", 0, 1),
        ("Yes. No information on its size.", "yes", 1, 0),
        ("I cannot say yes", "yes", 0, 1),
        ("I can't say yes", "yes", 0, 1),
        ("I can say yes", "yes", 1, 0),
        ("It does not; no", "no", 1, 0),
        ("Yes, no fracture is seen.", "yes", 1, 0),  # the other label stands in a clause that says something
        ("Yes. No effusion is seen.", "yes", 1, 0),
        ("No. Yes would be wrong.", "no", 1, 0),
        ("yes, no", "yes", 0, 1),
        ("Yes. No.", "yes", 0, 1),
        ("yes/no", "no", 0, 1),
        ("yes, and no", "yes", 0, 1),
        ("Yes no fracture", "yes", 0, 1),
    ],
)
def test_a_closed_answer_is_right_wrong_or_unparsable(answer: str, wanted: str, is_right: int, is_unparsable: int):
    assert (closed_accuracy(answer, wanted), closed_unparsable(answer, wanted)) == (is_right, is_unparsable)


SIDES = ("left", "right", "both=bilateral=left and right")
GRADES = ("0", "1", "2", "3", "4")
LESIONS = ("melanoma", "nevus", "basal cell carcinoma=BCC", "squamous cell carcinoma=SCC")


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (SIDES, "Left.", "left"),
        (SIDES, "the left side", "left"),
        (SIDES, "left-sided", "left"),
        (SIDES, "Bilateral", "both"),
        (SIDES, "left and right", "both"),  # the longest spelling
        (SIDES, "left or right", None),
        (SIDES, "left, right", None),
        (SIDES, "left, right or both", None),  # a list says nothing
        (SIDES, "left side, right side", None),  # no more than the first clause says
        (SIDES, "Left, the right is clear", "left"),
        (SIDES, "not on the left", None),
        (SIDES, "It isn't left", None),
        (SIDES, "It is on the right, not on the left", "right"),
        (SIDES, "cleft, upright", None),  # letters are no word
        (GRADES, "2", "2"),
        (GRADES, "KL grade 2.", "2"),
        (GRADES, "KL-2", "2"),
        (GRADES, "２", "2"),
        (GRADES, "No osteoarthritis: grade 0", "0"),
        (GRADES, "grade 2-3", None),
        (GRADES, "between 2 and 3", None),
        (GRADES, "12", None),
        (GRADES, "1.5", None),
        (GRADES, "2/4", None),
        (LESIONS, "Basal cell carcinoma (BCC)", "basal cell carcinoma"),
        (LESIONS, "scc", "squamous cell carcinoma"),
        (LESIONS, "carcinoma", None),
        (LESIONS, "not melanoma but a nevus", "nevus"),
        (LESIONS, "no sign of melanoma", None),
        (LESIONS, "A nevus, a melanoma", None),  # another label beside the first
        (LESIONS, "A nevus; melanoma is unlikely", "nevus"),
        (LESIONS, "Nevus, while for a melanoma it lacks asymmetry", "nevus"),
    ],
)
def test_a_declared_label_is_read_as_a_word_and_not_where_it_is_denied(labels: tuple[str, ...], answer: str, label: str | None):
    assert stated_label(answer, labels) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("是的", "yes"), ("是。", "yes"), ("有", "yes"), ("有肿块", "yes"), ("包含", "yes"), ("可以", "yes"), ("对", "yes"),
        ("不是", "no"), ("没有", "no"), ("没有肿块。", "no"), ("不包含", "no"), ("不存在", "no"), ("无异常", "no"), ("否，没有", "no"),
        ("是，没有骨折", "yes"), ("是的，没有异常。", "yes"), ("是的。没有异常。", "yes"), ("没有，是正常的", "no"), ("是，没有", None),
        ("是的。没有。", None), ("不", "no"), ("答案：是", "yes"), ("Yes", "yes"), ("no", "no"),
        ("是否", None), ("是不是", None), ("有没有", None), ("是/否", None), ("有，没有", None),
        ("不清楚", None), ("无法判断", None), ("我不知道", None), ("不能确定", None), ("有可能", None), ("没有足够的信息", None),
        ("对称", None), ("不对称", None), ("图中没有", None), ("", None),
    ],
)  # fmt: skip
def test_chinese_yes_and_no_begin_a_clause_and_the_longest_counts(answer: str, label: str | None):
    assert stated_label(answer, labels_of((), "zh")) == label


def test_what_a_dataset_declares_comes_before_yes_and_no():
    assert labels_of((), "en") == labels_of((), "fr") == ("yes", "no")
    assert names(labels_of((), "zh")) == ("yes", "no")
    assert labels_of(("正常", "异常"), "zh") == ("正常", "异常")
    chinese = replace(reference("closed", "异常"), language="zh", labels=("正常", "异常=不正常"))
    scores = [METRICS["closed_accuracy"].score(answer, chinese) for answer in ("不正常", "正常", "异常")]
    assert scores == [1, 0, 1]  # 不正常 holds 正常


@pytest.mark.parametrize("labels", [("left", "-"), ("left=l", "lower=l")])
def test_labels_that_cannot_be_told_apart_are_the_scorers_failure(labels: tuple[str, ...]):
    with pytest.raises(UnscorableError, match="a declared label has no word, or two labels share a spelling"):
        closed_accuracy("left", "left", labels)


def test_a_reference_beside_its_labels_is_the_scorers_failure():
    with pytest.raises(UnscorableError, match="none of its labels"):
        closed_accuracy("left", "middle", SIDES)


@pytest.mark.real_data
def test_every_chinese_yes_or_no_of_slake_is_read():
    """Of 1,451 Chinese closed answers those that say yes or no; the others name an organ, a side, a plane: their dataset declares them."""
    if not SLAKE.is_dir():
        pytest.skip(f"{SLAKE} is not there")
    records = [record for part in ("train", "validate", "test") for record in json.loads((SLAKE / f"{part}.json").read_text())]
    answers = [record["answer"] for record in records if record["q_lang"] == "zh" and record["answer_type"] == "CLOSED"]
    read = Counter(stated_label(answer, labels_of((), "zh")) for answer in answers)
    unread = {answer for answer in answers if stated_label(answer, labels_of((), "zh")) is None}
    assert len(answers) == 1451
    assert read["yes"] + read["no"] > 1200
    assert not {answer for answer in unread if answer[0] in "是不没否" and answer != "不正常"}


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
        (None, {"bleu_4", "rouge_l"}),
        ("report", {"bleu_4", "rouge_l"}),
    ],
)
def test_a_question_is_scored_by_the_metrics_of_its_kind(answer_type: str | None, names: set[str]):
    assert {name for name, metric in METRICS.items() if metric.applies_to(reference(answer_type))} == names


def test_the_score_is_that_of_the_reference():
    assert METRICS["closed_accuracy"].score("no", reference("closed", "no")) == 1
    assert METRICS["open_exact"].score("lung", reference("open", "lung")) == 1
