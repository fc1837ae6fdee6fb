"""CheXpert-rule F1. If these passed wrongly, a model that calls every chest normal, or says nothing, could be served."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from medvl_lib.chat import SLICES
from medvl_lib.chexpert import NO_FINDING, OBSERVATIONS, PATHOLOGIES, RULE_SET
from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.evaluation.floors import floors_of
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.findings import (
    FOURTEEN,
    THIRTEEN,
    THIRTEEN_UNCERTAIN_POSITIVE,
    label_f1,
    macro_f1,
    micro_f1,
    num_wanted,
    report_f1,
    report_of,
    statistics,
)
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import FLOORS, Reference

NORMAL = "The lungs are clear. Heart size is normal. No effusion, pneumothorax or consolidation."
EDEMA, EFFUSION, PNEUMONIA = PATHOLOGIES.index("Edema"), PATHOLOGIES.index("Pleural Effusion"), PATHOLOGIES.index("Pneumonia")


def sums(pairs: Sequence[tuple[str, str]], counting=THIRTEEN) -> np.ndarray:
    """Of (answer, wanted)."""
    return np.sum([statistics(answer, wanted, counting) for answer, wanted in pairs], axis=0)


THREE = [
    ("Edema. Small effusion.", "Mild edema. No effusion."),  # edema right, effusion too many
    (NORMAL, "Left pleural effusion. Pneumonia."),  # both missed
    ("Left effusion.", "Pleural effusion and possible pneumonia."),  # effusion right; the pneumonia is uncertain
]


def test_micro_f1_by_hand():
    """Wanted edema, effusion, pneumonia, effusion: 4. Named edema, effusion, effusion: 3. Right 2. F1 = 4 / 7."""
    assert micro_f1(sums(THREE)) == pytest.approx(4 / 7)


def test_uncertain_counts_as_positive_where_that_is_said():
    """One more is wanted: 5. F1 = 4 / 8."""
    assert micro_f1(sums(THREE, THIRTEEN_UNCERTAIN_POSITIVE)) == pytest.approx(4 / 8)
    assert micro_f1(sums([("Possible edema.", "Edema.")])) == 0
    assert micro_f1(sums([("Possible edema.", "Edema.")], THIRTEEN_UNCERTAIN_POSITIVE)) == 1


def test_macro_f1_by_hand_is_over_the_labels_that_occur():
    """Edema 2 / 2; effusion 2 x 1 / (2 + 2); pneumonia 0: mean 1/2. The ten others are wanted by none."""
    assert macro_f1(sums(THREE)) == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert [float(label_f1(place, sums(THREE))) for place in (EDEMA, EFFUSION, PNEUMONIA)] == [1, 0.5, 0]
    assert [float(num_wanted(place, sums(THREE))) for place in (EDEMA, EFFUSION, PNEUMONIA)] == [1, 2, 1]


def test_a_label_that_no_report_wants_costs_in_micro_alone():
    pairs = [("Edema. Fracture.", "Edema.")]
    assert (float(micro_f1(sums(pairs))), float(macro_f1(sums(pairs)))) == (pytest.approx(2 / 3), 1)


def test_nothing_wanted_and_nothing_named_is_no_division_by_zero():
    zeros = np.zeros((2, 39))
    assert micro_f1(zeros).tolist() == macro_f1(zeros).tolist() == [0, 0]


def test_counts_on_random_tables_are_those_of_their_definition():
    draw = np.random.default_rng(4)
    meant, said = draw.integers(0, 2, (2, 50, 13)).astype(bool)
    added = np.concatenate([meant.sum(0), said.sum(0), (meant & said).sum(0)]).astype(float)
    true, missed, false = (meant & said).sum(), (meant & ~said).sum(), (~meant & said).sum()
    precision, recall = true / (true + false), true / (true + missed)
    assert micro_f1(added) == pytest.approx(2 * precision * recall / (precision + recall))
    each = [2 * (m & s).sum() / (m.sum() + s.sum()) for m, s in zip(meant.T, said.T, strict=True)]
    assert macro_f1(added) == pytest.approx(np.mean(each))


def test_many_sets_are_measured_at_once():
    both = np.stack([sums(THREE), sums(THREE[:1])])
    assert micro_f1(both).tolist() == [micro_f1(sums(THREE)), micro_f1(sums(THREE[:1]))]
    assert macro_f1(both).tolist() == [macro_f1(sums(THREE)), macro_f1(sums(THREE[:1]))]


def test_an_empty_answer_names_nothing_not_even_no_finding():
    for answer in ("", "  \n", "...", "___", "Impression:", "Impression: ___ \nCheXpert labels: No Finding present"):
        assert sum(statistics(answer, NORMAL, FOURTEEN)) == 1  # the wanted No Finding, and nothing else
        assert report_f1(answer, NORMAL, FOURTEEN) == report_f1(answer, NORMAL, THIRTEEN) == 0
    assert micro_f1(sums([("", NORMAL)], FOURTEEN)) == 0
    assert micro_f1(sums([("The lungs are clear.", NORMAL)], FOURTEEN)) == 1


def test_a_wanted_report_without_a_word_is_the_scorers_failure():
    for wanted in ("", "___", "Impression: ___", "CheXpert labels: Edema present"):
        with pytest.raises(UnscorableError, match="the wanted report has no word"):
            statistics("Edema.", wanted, THIRTEEN)


def test_a_list_of_labels_behind_a_report_is_not_read_as_one():
    answer = "Impression: No effusion.\nCheXpert labels: Edema present, Pneumonia present"
    assert report_of(answer) == "No effusion."
    assert sum(statistics(answer, "No effusion.", THIRTEEN)) == 0


def test_a_pairs_own_score_is_its_labels_f1():
    assert report_f1("Edema. Effusion.", "Edema.", THIRTEEN) == pytest.approx(2 / 3)
    assert report_f1(NORMAL, NORMAL, THIRTEEN) == 1
    assert report_f1("Edema.", NORMAL, THIRTEEN) == 0


# -- as metrics --------------------------------------------------------------------------------------------------------
def impression(number: int, text: str, *, is_test: bool = True) -> Reference:
    return Reference(
        pair_id=f"cxr/{number}", dataset="cxr", split="test" if is_test else "train", group_id=f"subject:{number // 2}", language="en",
        licence="CC0-1.0", request="Write the impression.", response=text, expected=(), slices={STAGE: "impression"},
        glyph_height_pixels=None,
    )  # fmt: skip


MICRO, MACRO = "chexpert_rule_f1_micro", "chexpert_rule_f1_macro"
ALL_EIGHT = {f"{name}{labels}{uncertain}" for name in (MICRO, MACRO) for labels in ("", "_14") for uncertain in ("", "_uncertain_positive")}


def test_thirteen_and_fourteen_labels_and_both_countings_of_uncertain_are_stored():
    one = impression(1, "Edema.")
    assert {name for name, metric in METRICS.items() if name.startswith("chexpert") and metric.applies_to(one)} == ALL_EIGHT
    assert METRICS[MICRO].signature(one) == f"rules:{RULE_SET}|labels:13|uncertain:negative"
    assert METRICS[f"{MACRO}_14_uncertain_positive"].signature(one) == f"rules:{RULE_SET}|labels:14|uncertain:positive"
    assert all(METRICS[name].definition.startswith("CheXpert-rule F1,") for name in ALL_EIGHT)
    assert {name for name in ALL_EIGHT if not METRICS[name].is_gateable} == {name for name in ALL_EIGHT if "_14" in name}


def test_it_is_of_english_impressions_alone():
    one = impression(1, "Edema.")
    others = (replace(one, slices={STAGE: "reasoning"}), replace(one, slices={}), replace(one, language="zh"))
    assert not [name for name in ALL_EIGHT for other in others if METRICS[name].applies_to(other)]
    assert STAGE in SLICES  # what a reference is told of a pair's metadata


def test_the_macro_has_a_part_for_each_label_and_the_micro_none():
    parts = METRICS[MACRO].corpus.parts
    assert list(parts) == [f"label={name.lower().replace(' ', '_')}" for name in PATHOLOGIES]
    assert len(METRICS[f"{MACRO}_14"].corpus.parts) == len(OBSERVATIONS)
    assert METRICS[MICRO].corpus.parts == {}
    assert parts["label=pleural_effusion"].value(sums(THREE)) == 0.5


# -- beside the floors -------------------------------------------------------------------------------------------------
SHARES = {
    "Small left pleural effusion.": 0.25, "Patchy opacity at the right base.": 0.22, "Bibasilar atelectasis.": 0.2,
    "Cardiomegaly.": 0.17, "Mild pulmonary edema.": 0.12, "Right lower lobe pneumonia.": 0.08, "Small apical pneumothorax.": 0.05,
    "Left lower lobe consolidation.": 0.05, "Endotracheal tube in place.": 0.28, "Old rib fractures.": 0.02,
    "A nodule in the left lung.": 0.03, "Opacity could reflect pneumonia.": 0.06, "Pleural thickening.": 0.01,
}  # fmt: skip


def impressions() -> list[Reference]:
    """400 impressions, a third of them normal; findings about as common as in a hospital's films, each drawn alone."""
    draw = random.Random(21)
    found: list[Reference] = []
    for number in range(400):
        said = [] if draw.random() < 1 / 3 else [text for text, share in SHARES.items() if draw.random() < 1.4 * share]
        closing = draw.choice(
            ["No pneumothorax.", "Heart size is normal.", "No acute cardiopulmonary process.", "The lungs are otherwise clear."]
        )
        found.append(impression(number, " ".join([*said, closing]), is_test=number < 150))
    return found


def measured(metric: str, answer: Callable[[Reference], str]) -> float:
    corpus = METRICS[metric].corpus
    test = [one for one in impressions() if one.split == "test"]
    return float(corpus.value(np.sum([corpus.statistics(answer(one), one) for one in test], axis=0)))


def test_silence_and_a_report_that_is_always_normal_gain_nothing_on_thirteen_labels():
    for metric in (MICRO, MACRO, f"{MICRO}_uncertain_positive", f"{MACRO}_uncertain_positive"):
        assert measured(metric, lambda _: "") == measured(metric, lambda _: NORMAL) == 0
        assert measured(metric, lambda one: one.response) == 1


def test_on_fourteen_labels_normality_pays_and_so_no_gate_decides_by_them():
    found = floors_of([one for one in impressions() if one.split == "train"], seed=1)
    always_normal, another = (measured(f"{MICRO}_14", answer) for answer in (lambda _: NORMAL, found["floor_random"]))
    assert always_normal > 1.2 * another > 0
    assert measured(f"{MICRO}_14", lambda _: "") == 0
    assert NO_FINDING in FOURTEEN.labels
    assert not METRICS[f"{MICRO}_14"].is_gateable


EVERYTHING = (
    "The mediastinum is widened. Cardiomegaly. Nodule. Opacity. Edema. Consolidation. Pneumonia. Atelectasis. Pneumothorax. Effusion. "
    "Pleural thickening. Fracture. Chest tube."
)


def share_of_labels() -> float:
    """How much of all labels of all wanted reports is positive."""
    test = [one for one in impressions() if one.split == "test"]
    return float(np.mean([sum(statistics("", one.response, THIRTEEN)[:13]) for one in test])) / 13


@cache
def floors() -> dict[str, float]:
    found = floors_of([one for one in impressions() if one.split == "train"], seed=1)
    return {name: measured(MICRO, found[name]) for name in FLOORS}


def test_the_floors_score_what_they_are_worth():
    """Nothing for silence; about what chance gives for another patient's impression; for the most typical one, which has findings, more."""
    found = floors()
    assert found["floor_empty"] == found["floor_majority"] == 0  # a third is normal, which is what most of them say
    assert share_of_labels() < found["floor_random"] < found["floor_constant"] < 0.35


def test_the_majority_floor_is_the_report_that_is_always_normal_and_earns_what_normality_is_worth():
    found = floors_of([one for one in impressions() if one.split == "train"], seed=1)
    asked = impressions()[0]
    assert not any(statistics(found["floor_majority"](asked), asked.response, THIRTEEN)[13:26])
    fourteen = {name: measured(f"{MICRO}_14", found[name]) for name in FLOORS}
    assert fourteen["floor_majority"] == pytest.approx(measured(f"{MICRO}_14", lambda _: NORMAL))
    assert fourteen["floor_majority"] > fourteen["floor_random"]


@pytest.mark.parametrize(
    "game", [" ".join(map(str, range(1000))), "the of no and with is", "Normal chest. No acute disease.", "yes and no"]
)
def test_an_empty_show_gains_nothing(game: str):
    assert measured(MICRO, lambda _: game) == measured(MACRO, lambda _: game) == 0


def test_all_labels_said_to_every_picture_are_worth_their_share_and_less_than_the_best_floor():
    """Precision p, the labels' share; recall 1: F1 = 2 p / (1 + p). That is more than chance, and no floor is beaten by it."""
    share = share_of_labels()
    assert sum(statistics(EVERYTHING, "Edema.", THIRTEEN)[13:26]) == 13
    assert measured(MICRO, lambda _: EVERYTHING) == pytest.approx(2 * share / (1 + share))
    assert measured(MICRO, lambda _: EVERYTHING) <= max(floors().values())


@pytest.mark.parametrize("count", [10, 50, 200])
def test_the_commonest_words_beat_no_floor(count: int):
    said = Counter(word for one in impressions() if one.split == "train" for word in re.findall(r"[a-z]+", one.response.lower()))
    dump = " ".join(word for word, _ in said.most_common(count))
    assert measured(MICRO, lambda _: dump) <= max(floors().values())
