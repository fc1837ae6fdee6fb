"""If these passed wrongly, free text would be scored by something else than token F1, and nobody could compare it with other projects."""

import random
import re

import pytest

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.text import token_f1
from medvl_lib.evaluation.metrics.tokens import UnscorableError


@pytest.mark.parametrize(
    ("answer", "wanted", "f1"),
    [  # the first five by SQuAD's compute_f1 as well
        ("the left lung is clear", "left lung clear", 2 * (3 / 4) * 1 / (3 / 4 + 1)),
        ("A chest x ray.", "chest X ray", 1.0),
        ("pleural pleural effusion", "pleural effusion", 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("nothing of it", "left lung clear", 0.0),
        ("", "left lung clear", 0.0),
        ("dose 41", "dose 4.1", 0.5),  # SQuAD's would say 1.0
        ("beta blocker", "beta-blocker", 1.0),  # SQuAD's would say 0.0
        ("左肺", "左肺清", 2 * 1 * (2 / 3) / (1 + 2 / 3)),
    ],
)
def test_token_f1_by_hand(answer: str, wanted: str, f1: float):
    assert token_f1(answer, wanted) == pytest.approx(f1)


def squad_f1(answer: str, wanted: str) -> float:
    """SQuAD's definition, written anew (transformers 5 has no script of it): punctuation is deleted, words are what blanks part."""
    said, meant = (
        [word for word in re.sub(r"[^\w\s]", "", text.lower()).split() if word not in {"a", "an", "the"}] for text in (answer, wanted)
    )
    left, num_common = list(meant), 0
    for word in said:
        if word in left:
            left.remove(word)
            num_common += 1
    return 2 * num_common / (len(said) + len(meant))


def test_words_score_as_in_squad():
    words = ["the", "left", "lung", "is", "clear.", "Clear,", "a", "small", "Effusion", "effusion!", "no", "(opacity)", "seen", "an"]
    draw = random.Random(2)
    pairs = [tuple(" ".join(draw.choices(words, k=draw.randrange(1, 12))) for _ in range(2)) for _ in range(300)]
    scored = [(answer, wanted) for answer, wanted in pairs if re.sub(r"\b(a|an|the)\b", "", wanted).strip()]
    assert len(scored) > 250
    for answer, wanted in scored:
        assert token_f1(answer, wanted) == pytest.approx(squad_f1(answer, wanted), abs=1e-12)


def test_a_dump_of_words_pays_with_its_precision():
    dump = " ".join(f"word{number}" for number in range(97)) + " left lung clear"
    assert token_f1(dump, "left lung clear") == pytest.approx(2 * 0.03 / 1.03)


def test_an_empty_reference_is_the_scorers_failure():
    with pytest.raises(UnscorableError):
        token_f1("anything", "---")


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.definition.endswith(".")
        assert metric.source
        assert metric.version >= 1
