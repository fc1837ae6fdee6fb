"""Classes that a description names. If these passed wrongly, a model that always says the commonest grade, or all, could be served."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from medvl_lib.datasets.descriptions import CATEGORY
from medvl_lib.evaluation.agreement import kappas
from medvl_lib.evaluation.floors import floors_of
from medvl_lib.evaluation.metrics import METRICS, classes
from medvl_lib.evaluation.metrics.classes import class_agreement, class_unparsable, counts, is_ordinal, macro_f1, quadratic_kappa
from medvl_lib.evaluation.metrics.languages import language_kept
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import FLOORS, Reference
from medvl_lib.labels import GRADE_LABELS, KELLGREN_LAWRENCE, LESION_LABELS, LESIONS

GRADES, LESION = tuple(GRADE_LABELS.split("|")), tuple(LESION_LABELS.split("|"))
DESCRIBED = "Radiograph of a left knee, Kellgren-Lawrence grade 3 (moderate): multiple osteophytes, definite narrowing of the joint space."


@pytest.mark.parametrize(
    ("answer", "agrees", "unparsable"),
    [
        (DESCRIBED, 1, 0), ("Grade 3", 1, 0), ("KL 3.", 1, 0), ("grade 2", 0, 0), ("", 0, 1), ("A knee.", 0, 1), ("moderate", 0, 1),
        ("grade 3 grade 4", 0, 1), ("KL 0, KL 1, KL 2, KL 3, KL 4", 0, 1), ("It is grade 2 or grade 3.", 0, 1), ("not grade 3", 0, 1),
        ("Grade 3, not grade 4", 1, 0), ("grade 33", 0, 1),
    ],
)  # fmt: skip
def test_a_grade_counts_where_it_is_the_only_one_that_is_named(answer: str, agrees: float, unparsable: float):
    assert (class_agreement(answer, "KL 3", GRADES), class_unparsable(answer, "KL 3", GRADES)) == (agrees, unparsable)


@pytest.mark.parametrize("lesion", LESIONS.values(), ids=lambda lesion: lesion.code)
def test_the_datasets_own_sentences_name_their_class(lesion):
    described = f"Clinical photograph of a skin lesion on the neck, 6 x 5 mm, not elevated, skin type 3: {lesion.name} ({lesion.code})."
    assert class_agreement(described, lesion.code, LESION) == 1
    assert class_agreement(f"{lesion.name.capitalize()}.", lesion.code, LESION) == 1


def test_a_class_that_was_never_declared_is_the_scorers_failure():
    with pytest.raises(UnscorableError):
        class_agreement("grade 1", "KL 5", GRADES)


def test_grades_are_a_scale_and_diagnoses_are_not():
    assert (is_ordinal(GRADES), is_ordinal(LESION), is_ordinal(("KL 1", "KL 0")), is_ordinal(("KL 0",))) == (True, False, False, False)


def table(pairs: Sequence[tuple[int, int | None]], size: int) -> np.ndarray:
    labels = tuple(f"KL {number}" for number in range(size))
    return np.sum([counts("" if said is None else f"KL {said}", f"KL {wanted}", labels) for wanted, said in pairs], axis=0)


def test_macro_f1_by_hand():
    """Class 0: 2 wanted, named 3, right 2: F1 4/5. Class 1: 2 wanted, named 1, right 1: 2/3. Class 2: 1 wanted, never named: 0."""
    found = macro_f1(table([(0, 0), (0, 0), (1, 1), (1, 0), (2, None)], 3))
    assert found == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)


def test_macro_f1_leaves_out_what_no_picture_shows():
    assert macro_f1(table([(0, 0), (0, 0)], 3)) == 1
    assert macro_f1(np.zeros(12)) == 0


def test_quadratic_kappa_by_hand():
    """Wanted 0 1 2 2, named 0 1 2 1 on three grades: observed 1 x 1 / 4; expected by the margins (1 1 2) x (1 2 1) / 16: see below."""
    expected = sum(w * n * (i - j) ** 2 for i, w in enumerate((1, 1, 2)) for j, n in enumerate((1, 2, 1))) / 16
    assert quadratic_kappa(table([(0, 0), (1, 1), (2, 2), (2, 1)], 3)) == pytest.approx(1 - (1 / 4) / expected)


def test_quadratic_kappa_is_that_of_two_raters_on_random_tables():
    chance = np.random.RandomState(3)
    for _ in range(50):
        squares = chance.randint(0, 9, (5, 5)).astype(float)
        sums = np.concatenate([squares, np.zeros((5, 1))], axis=1).flatten()
        assert quadratic_kappa(sums) == pytest.approx(max(0.0, kappas(squares[None], is_ordered=True)[0]))


def test_silence_counts_as_the_furthest_grade():
    """Of five grades 4 is furthest from 0 and 1, 0 from 3 and 4; from the middle one both are, and the higher counts."""
    for wanted, furthest in ((0, 4), (1, 4), (2, 4), (3, 0), (4, 0)):
        rest = [(0, 0), (4, 4), (2, 3)]
        silent, far = table([*rest, (wanted, None)], 5), table([*rest, (wanted, furthest)], 5)
        assert quadratic_kappa(silent) == quadratic_kappa(far)


def test_one_grade_to_everything_has_a_kappa_of_nothing():
    assert quadratic_kappa(table([(grade, 2) for grade in range(5)], 5)) == 0
    assert quadratic_kappa(table([(2, 2)], 5)) == 0


def test_resamples_are_measured_together():
    one, other = table([(0, 0), (1, 1)], 2), table([(0, 1), (1, 1)], 2)
    both = np.stack([one, other])
    assert macro_f1(both).tolist() == [macro_f1(one), macro_f1(other)]
    assert quadratic_kappa(both).tolist() == [quadratic_kappa(one), quadratic_kappa(other)]


# -- beside the floors -------------------------------------------------------------------------------------------------
def knees() -> list[Reference]:
    """300 described knees, the lower grades commoner."""
    chance = np.random.RandomState(5)
    grades = chance.choice(5, 300, p=[0.4, 0.2, 0.2, 0.15, 0.05])
    return [
        Reference(
            pair_id=f"knee/{number}", dataset="knee", split="test" if number < 100 else "train", group_id=str(number), language="en",
            licence="CC0-1.0", request="Describe this medical image.",
            response=f"Radiograph of a knee, Kellgren-Lawrence grade {grade} ({KELLGREN_LAWRENCE[grade].name}).", expected=(),
            slices={CATEGORY: f"KL {grade}", "language": "en"}, glyph_height_pixels=None, labels=GRADES,
        ) for number, grade in enumerate(grades)
    ]  # fmt: skip


def score(metric: str, test: Sequence[Reference], answer: Callable[[Reference], str]) -> float:
    """The metric over all pairs."""
    found = METRICS[metric]
    if found.corpus is None:
        return float(np.mean([found.score(answer(item), item) for item in test]))
    return float(found.corpus.value(np.sum([found.corpus.statistics(answer(item), item) for item in test], axis=0)))


@pytest.mark.parametrize("metric", ["class_agreement", "class_macro_f1"])
@pytest.mark.parametrize(
    "answer", ["Kellgren-Lawrence grade 0.", "grade 0, grade 1, grade 2, grade 3, grade 4", "KL 0 KL 1 KL 2 KL 3 KL 4", "normal", ""]
)
def test_the_commonest_class_and_all_of_them_beat_no_floor(metric: str, answer: str):
    references = knees()
    test, training = ([item for item in references if item.split == split] for split in ("test", "train"))
    floors = floors_of(training, seed=1)
    best = max(score(metric, test, floors[name]) for name in FLOORS)
    assert 0 < best < 0.6
    assert score(metric, test, lambda _: answer) <= best
    assert score(metric, test, lambda item: item.response) == 1


def test_class_metrics_are_of_described_pictures_with_declared_classes_alone():
    knee = knees()[0]
    names = {name for name, metric in METRICS.items() if metric.applies_to(knee)}
    assert {"class_agreement", "class_unparsable", "class_macro_f1", "quadratic_kappa", "bleu_4"} <= names
    lesion = {"slices": {CATEGORY: "BCC"}, "labels": LESION}
    for changes, missing in (({"labels": ()}, "class_agreement"), ({"slices": {}}, "class_agreement"), (lesion, "quadratic_kappa")):
        assert not METRICS[missing].applies_to(_changed(knee, **changes))
    assert METRICS["class_agreement"].applies_to(_changed(knee, **lesion))
    assert METRICS["class_macro_f1"].signature(knee) == classes.signature(GRADES) == "classes: KL 0, KL 1, KL 2, KL 3, KL 4"


def _changed(reference: Reference, **changes: object) -> Reference:
    from dataclasses import replace

    return replace(reference, **changes)


# -- language ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "kept"), [("左肺清晰。", 1), ("The lungs are clear.", 0), ("", 0), ("  ", 0), ("CT", 1), ("左肺 clear", 1)]
)
def test_an_answer_keeps_the_language_that_was_asked(answer: str, kept: float):
    chinese = _changed(knees()[0], language="zh", request="请描述这张医学图像。", response="双肺野清晰。", labels=(), slices={})
    assert language_kept(answer, chinese.response, chinese.language, (chinese.request,)) == kept
