"""BLEU-4 and ROUGE-L. If these passed wrongly, a report's score could be held against a paper's and mean something else, or a Chinese text
that was cut like an English one would score nothing, whatever it says.
"""

import random
from itertools import product

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.metrics.reports import (
    PERFECT,
    bleu_signature,
    bleu_statistics,
    corpus_bleu,
    num_masks,
    rouge_l,
    rouge_signature,
    sentence_bleu,
)
from medvl_lib.evaluation.metrics.tokens import UnscorableError
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.evaluation.statistics import paired_difference
from medvl_lib.pairs import Triple

ENGLISH = "the lungs are clear . no pleural effusion or is seen ; heart size normal ( 4.1 ) ,".split()  # noqa: SIM905 (read as a text)
CHINESE = [*"双肺纹理清晰未见明显实变影心影大小正常胸腔积液左侧肋骨骨折请结合临床", "CT", "4.1", "，", "。"]


def text(draw: random.Random, words: list[str], joint: str) -> str:
    return joint.join([words[1], *draw.choices(words, k=draw.randrange(40))]).capitalize()


def drawn(language: str, count: int = 60) -> list[tuple[str, str]]:
    """Pairs of an answer and a reference; every sixth answer is empty, right, or has nothing of it."""
    draw, (words, joint) = random.Random(3), {"en": (ENGLISH, " "), "zh": (CHINESE, "")}[language]
    pairs = [(text(draw, words, joint), text(draw, words, joint)) for _ in range(count)]
    return [({0: "", 1: wanted, 2: "???"}.get(place % 18, said), wanted) for place, (said, wanted) in enumerate(pairs)]


TOKENIZERS = {"en": "13a", "zh": "zh"}


def summed(pairs: list[tuple[str, str]], tokenizer: str) -> np.ndarray:
    return np.array([bleu_statistics(said, wanted, tokenizer) for said, wanted in pairs]).sum(axis=0)


@pytest.mark.parametrize("language", TOKENIZERS)
def test_corpus_bleu_is_that_of_sacrebleu(language: str):
    pairs, tokenizer = drawn(language), TOKENIZERS[language]
    expected = sacrebleu.corpus_bleu(
        [said for said, _ in pairs], [[wanted for _, wanted in pairs]], lowercase=True, tokenize=tokenizer
    )  # fmt: skip
    assert corpus_bleu(summed(pairs, tokenizer)).item() == pytest.approx(expected.score, abs=1e-9)
    assert expected.score > 5


@pytest.mark.parametrize("language", TOKENIZERS)
def test_any_subset_of_the_pairs_has_the_bleu_of_sacrebleu(language: str):
    """As in a resample: small sets, where an order has no match, and sets with pairs drawn twice."""
    pairs, tokenizer, draw = drawn(language), TOKENIZERS[language], random.Random(4)
    for size in [1, 1, 1, 1, 2, 2, 3, 5, 8, 40]:
        some = draw.choices(pairs, k=size)
        expected = sacrebleu.corpus_bleu(
            [said for said, _ in some], [[wanted for _, wanted in some]], lowercase=True, tokenize=tokenizer
        )  # fmt: skip
        assert corpus_bleu(summed(some, tokenizer)).item() == pytest.approx(min(expected.score, PERFECT), abs=1e-9)


def test_every_combination_of_small_counts_is_smoothed_as_sacrebleu_does():
    rows = [
        (said, wanted, *matches, *(max(0, said - order) for order in range(4)))
        for said, wanted in product(range(7), (1, 4, 9))
        for matches in product(range(3), repeat=4)
        if all(match <= max(0, said - order) for order, match in enumerate(matches))
    ]
    expected = [
        BLEU.compute_bleu(list(row[2:6]), list(row[6:]), row[0], row[1], smooth_method="exp").score for row in rows
    ]  # fmt: skip
    assert len(rows) > 500
    assert corpus_bleu(np.array(rows, dtype=np.float64)) == pytest.approx(np.minimum(expected, PERFECT), abs=1e-9)


def test_corpus_bleu_by_hand():
    """Five words of six: 5/5, 4/4, 3/3 and 2/2 n-grams match; the answer is shorter, exp(1 - 6/5) = 0.8187."""
    assert corpus_bleu(summed([("The lungs are clear today", "the lungs are clear today .")], "13a")) == pytest.approx(81.87, abs=0.005)
    assert corpus_bleu(np.stack([np.zeros(10), np.array([4.0, 4, 4, 3, 2, 1, 4, 3, 2, 1])])).tolist() == [0.0, 100.0]


@pytest.mark.parametrize("language", TOKENIZERS)
def test_a_pairs_own_value_is_its_sentence_bleu(language: str):
    for said, wanted in drawn(language):
        expected = BLEU(lowercase=True, tokenize=TOKENIZERS[language], effective_order=True).sentence_score(said, [wanted]).score
        assert sentence_bleu(said, wanted, TOKENIZERS[language]) == pytest.approx(min(expected, PERFECT), abs=1e-9)
    assert sentence_bleu("Clear.", "clear .", "13a") == PERFECT


def test_the_p_of_two_systems_agrees_with_sacrebleus_approximate_randomisation():
    """One pair a document, as there; 10,000 draws there and 9,999 here of other seeds: p = 0.080 in both."""
    source = np.random.default_rng(8)
    words = [f"w{number}" for number in range(30)]
    wanted = [list(source.choice(words, size=source.integers(6, 30))) for _ in range(100)]

    def said(share_right: float) -> list[str]:
        return [" ".join(word if source.random() < share_right else str(source.choice(words)) for word in one) for one in wanted]

    texts = [" ".join(one) for one in wanted]
    first, second = said(0.7), said(0.64)
    scorer = BLEU(lowercase=True, references=[texts])
    _, found = PairedTest([("first", first), ("second", second)], {"BLEU": scorer}, None, test_type="ar", n_samples=10_000)()
    [baseline, other] = found["BLEU"]
    pairs = [
        (f"d{place}", bleu_statistics(one, text, "13a"), bleu_statistics(two, text, "13a"))
        for place, (one, two, text) in enumerate(zip(first, second, texts, strict=True))
    ]
    mine = paired_difference(pairs, functional=corpus_bleu)
    assert mine.difference == pytest.approx(baseline.score - other.score, abs=1e-9)
    assert mine.p_value == pytest.approx(other.p_value, abs=0.01)


def test_chinese_is_cut_into_characters():
    """Cut like English, a Chinese sentence is one word, and shares none with another one (facts on evaluation, section 4)."""
    pair = [("双肺清晰，未见实变。", "双肺纹理清晰，未见明显实变。")]
    assert corpus_bleu(summed(pair, "13a")) == 0
    assert corpus_bleu(summed(pair, "zh")) > 20


def test_the_signature_is_sacrebleus_own():
    metric = sacrebleu.BLEU(lowercase=True, tokenize="zh")
    metric.corpus_score(["a"], [["b"]])
    assert bleu_signature("zh") == str(metric.get_signature())
    assert bleu_signature("13a") == f"nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"


def test_rouge_l_of_english_is_that_of_rouge_score():
    scorer = RougeScorer(["rougeL"])
    pairs = [*drawn("en", 200), ("T2-weighted MRI; naïve", "MRI, T2 weighted"), ("a b c d", "d c b a"), ("4.1 cm", "41 cm")]
    for said, wanted in pairs:
        assert rouge_l(said, wanted, "en") == scorer.score(wanted, said)["rougeL"].fmeasure


def longest_common(first: list[str], second: list[str]) -> int:
    """The textbook's table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            table[row + 1][column + 1] = table[row][column] + 1 if one == other else max(table[row][column + 1], table[row + 1][column])
    return table[-1][-1]


def test_rouge_l_of_chinese_is_the_textbooks_over_characters():
    draw = random.Random(5)
    for _ in range(100):
        said, wanted = (draw.choices(CHINESE[:12], k=draw.randrange(1, 30)) for _ in range(2))
        length = longest_common(said, wanted)
        expected = 2 * length / (len(said) + len(wanted))  # 2 P R / (P + R)
        assert rouge_l("".join(said), "".join(wanted), "zh") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "wanted", "language", "score"),
    [
        ("双肺清晰", "双肺纹理清晰", "zh", 2 * 1 * (4 / 6) / (1 + 4 / 6)),
        ("CT显示：４.1 cm", "ct 显示 4.1 CM。", "zh", 1.0),  # full-width digits, capitals and blanks are no difference
        ("", "双肺清晰", "zh", 0.0),
        ("the lungs", "双肺清晰", "zh", 0.0),
        ("Les poumons semblent clairs", "Poumons clairs", "fr", 2 * (2 / 4) / (2 / 4 + 1)),
        ("größer", "größe", "de", 0.0),  # one word, not gr and er
        ("легкие чистые", "Легкие", "ru", 2 * 0.5 / 1.5),
    ],
)
def test_rouge_l_by_hand(answer: str, wanted: str, language: str, score: float):
    assert rouge_l(answer, wanted, language) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "count"),
    [("___ year old ___.", 2), ("XXXX XXXX-year-old", 2), ("____", 1), ("47,XXX karyotype", 0), ("a_b __init__", 0), ("", 0)],
)
def test_masks_are_counted(text: str, count: int):
    assert num_masks(text) == count


def test_masks_are_not_scored():
    plain, masked = (
        ("the lungs are clear today", "lungs are clear today"),
        ("the ___ lungs are clear XXXX today", "___ lungs are clear today"),
    )
    assert bleu_statistics(*masked, "13a") == bleu_statistics(*plain, "13a")
    assert rouge_l(*masked, "en") == rouge_l(*plain, "en")
    assert rouge_l("___ ___", "___ clear", "en") == 0  # what both have of it earns nothing
    for score in (lambda: sentence_bleu("clear", "___", "13a"), lambda: rouge_l("clear", "XXXX", "en")):
        with pytest.raises(UnscorableError, match="the wanted answer has no word"):
            score()


def test_an_english_reference_in_other_letters_is_the_scorers_failure():
    with pytest.raises(UnscorableError, match="no word in the letters of its language"):
        rouge_l("clear", "легкие", "en")


def reference(language: str, **changes: object) -> Reference:
    row = {
        "pair_id": "r/1", "dataset": "r", "split": "test", "group_id": "1", "language": language, "licence": "CC0-1.0", "request": "?",
        "response": "clear", "expected": (), "slices": {}, "glyph_height_pixels": None,
    }  # fmt: skip
    return Reference(**{**row, **changes})


@pytest.mark.parametrize(
    ("language", "bleu", "rouge"),
    [("en", "tok:13a", "tok:rouge-score"), ("zh", "tok:zh", "tok:characters"), ("fr", "tok:13a", "tok:words")],
)
def test_every_language_has_its_way_and_the_signature_says_which(language: str, bleu: str, rouge: str):
    one = reference(language)
    assert bleu in METRICS["bleu_4"].signature(one)
    assert rouge in METRICS["rouge_l"].signature(one)


@pytest.mark.parametrize("language", ["ja", "th"])
def test_a_language_that_nothing_here_can_cut_has_neither(language: str):
    assert not [name for name in ("bleu_4", "rouge_l") if METRICS[name].applies_to(reference(language))]
    assert rouge_signature(language) is None
    with pytest.raises(UnscorableError, match=f"no way to cut texts in '{language}'"):
        rouge_l("a", "b", language)


@pytest.mark.parametrize("kind", ["closed", "open"])
def test_answers_to_questions_are_no_reports_however_long(kind: str):
    one = reference("en", slices={"answer_type": kind}, response="clear " * 100)
    assert not [name for name in ("bleu_4", "rouge_l") if METRICS[name].applies_to(one)]


def test_what_is_declared_a_report_is_one_also_with_known_facts():
    facts = (Triple(term="K", value="4.1", unit=""),)
    kinds = ({"answer_type": "report"}, {})
    assert [METRICS["bleu_4"].applies_to(reference("en", expected=facts, slices=kind)) for kind in kinds] == [True, False]
