"""Metrics for long free text, a report or a page as it stands: BLEU-4 of a whole set of answers, and ROUGE-L of each.

In: an answer, the wanted text and its language. Out: numbers from 0 to 100 (BLEU) or 0 to 1 (ROUGE-L), and of BLEU what is summed over
pairs. Short answers to questions are ``text``'s and ``vqa``'s: BLEU-4 of two words says nothing.

* Both depend on how a text is cut into words, so each has a *signature*, and values of two signatures are never in one number: BLEU with
  the tokenizer 13a scores Chinese 0.0 where zh scores 24.3 (facts on evaluation, section 4). A language without spaces for which there is
  no cut here (Japanese, Thai) has neither metric; sacrebleu's for Japanese needs MeCab and its dictionary.
* Marks of de-identification (``___`` in MIMIC, ``XXXX`` in Open-i) are taken out of both texts: they are no words, and a model that learned
  to write them should earn nothing by it. ``num_masks`` counts them.
* Neither knows what a report says: "no effusion" and "effusion" differ in one word. They are shown beside what does.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medvl_lib.evaluation.metrics.languages import HAN, WITHOUT_SPACES
from medvl_lib.evaluation.metrics.tokens import UnscorableError

if TYPE_CHECKING:  # takes a third of a second to import: only where something is scored
    from sacrebleu.metrics.bleu import BLEU, BLEUScore

MASK = re.compile(r"_{3,}|\bX{4,}\b")  # XXX alone is a karyotype
ORDERS = 4
PERFECT = 100.0

Floats = NDArray[np.float64]


def num_masks(text: str) -> int:
    """How many marks of de-identification stand in a text.

    >>> num_masks("Dr. ___ saw XXXX on XXXX.")
    3
    """
    return len(MASK.findall(text))


def _unmasked(text: str) -> str:
    return MASK.sub(" ", text)


def _wanted(text: str) -> str:
    """The wanted text without marks; raises UnscorableError where nothing is left."""
    text = _unmasked(text)
    if not any(map(str.isalnum, text)):
        raise UnscorableError("the wanted answer has no word")
    return text


def bleu_tokenizer(language: str) -> str | None:
    """What sacrebleu calls the way to cut a language; None where there is none here."""
    if language == "zh":
        return "zh"
    return None if language in WITHOUT_SPACES else "13a"


@lru_cache(maxsize=4)
def _sacrebleu(tokenizer: str, *, is_sentence: bool) -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(lowercase=True, tokenize=tokenizer, effective_order=is_sentence)


@lru_cache(maxsize=4)
def bleu_signature(tokenizer: str) -> str:
    """Sacrebleu's signature of the corpus score: whoever states it can be compared with."""
    scorer = _sacrebleu(tokenizer, is_sentence=False)
    scorer.corpus_score(["a"], [["a"]])  # the number of references enters it with the first score
    return str(scorer.get_signature())


@lru_cache(maxsize=2)  # asked for its score, then for its counts
def _sentence(answer: str, wanted: str, tokenizer: str) -> "BLEUScore":
    return _sacrebleu(tokenizer, is_sentence=True).sentence_score(_unmasked(answer), [_wanted(wanted)])


def sentence_bleu(answer: str, wanted: str, tokenizer: str) -> float:
    """BLEU of one pair (0-100), up to the longest n-grams that the answer has: to find the worst pairs by, never to be averaged.

    >>> round(sentence_bleu("the lungs are clear", "The lungs are clear .", "13a"), 1)
    77.9
    """
    return min(float(_sentence(answer, wanted, tokenizer).score), PERFECT)  # sacrebleu's own may be 100.00000000000004


def bleu_statistics(answer: str, wanted: str, tokenizer: str) -> tuple[float, ...]:
    """What corpus BLEU sums over pairs: both lengths, the n-grams of 1 to 4 words that match, and those that the answer has.

    >>> bleu_statistics("clear lungs", "The lungs are clear .", "13a")
    (2.0, 5.0, 2.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0)
    """
    found = _sentence(answer, wanted, tokenizer)
    return tuple(map(float, (found.sys_len, found.ref_len, *found.counts, *found.totals)))


def corpus_bleu(sums: Floats) -> Floats:
    """Corpus BLEU-4 (0-100) of sums of ``bleu_statistics``, of many sets of pairs at once.

    The geometric mean of the n-gram precisions, by the brevity penalty exp(min(0, 1 - wanted length / length)); an order without a match
    counts as 1/2, 1/4, ... match ("exp"). 0 where nothing matches, or where no answer has four words. Papineni et al. 2002, ACL;
    ``BLEU.compute_bleu`` of sacrebleu 2.6.0, metrics/bleu.py, which it equals to 1e-9.

    >>> corpus_bleu(np.array([4.0, 5.0, 4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0, 1.0])).round(1).item()
    77.9
    """
    said, wanted = sums[..., 0], sums[..., 1]
    matches, ngrams = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    is_missed = matches == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = PERFECT * np.where(is_missed, 0.5 ** np.cumsum(is_missed, axis=-1), matches) / ngrams
        score = np.exp(np.minimum(0.0, 1 - wanted / said)) * np.exp(np.log(precisions).mean(axis=-1))
    has_value = matches.any(axis=-1) & (ngrams > 0).all(axis=-1)
    return np.minimum(np.where(has_value, score, 0.0), PERFECT)


_LETTERS = re.compile(r"[a-z0-9]+")  # the tokenizer of rouge-score, without stemming
_WORDS = re.compile(r"[^\W_]+")
_CHARACTERS = re.compile(rf"[{HAN}]|(?:(?![{HAN}])[^\W_])+")
Cut = Callable[[str], list[str]]


def _chinese(text: str) -> list[str]:
    return _CHARACTERS.findall(unicodedata.normalize("NFKC", text).lower())


def _spaced(text: str) -> list[str]:
    return _WORDS.findall(unicodedata.normalize("NFKC", text).lower())


def _english(text: str) -> list[str]:
    return _LETTERS.findall(text.lower())


def _rouge_cut(language: str) -> tuple[str, Cut] | None:
    """How ROUGE-L cuts a language, with the name of it; None where there is no way here."""
    if language in WITHOUT_SPACES:
        return ("characters", _chinese) if language == "zh" else None
    return ("rouge-score", _english) if language == "en" else ("words", _spaced)


def rouge_signature(language: str) -> str | None:
    """Which units the common subsequence is of; None where the language has no cut here."""
    cut = _rouge_cut(language)
    return cut and f"tok:{cut[0]}|stem:no|case:lc"


def _longest_common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence, by bits (Hyyrö 2004, Australasian Workshop on Combinatorial Algorithms).

    A bit of ``row`` that is 0 is a unit of ``second`` at which the subsequence grows by one; each unit of ``first`` moves these bits on.
    """
    places: dict[str, int] = {}
    for place, unit in enumerate(second):
        places[unit] = places.get(unit, 0) | 1 << place
    full = row = (1 << len(second)) - 1
    for unit in first:
        matched = row & places.get(unit, 0)
        row = (row + matched | row - matched) & full
    return len(second) - row.bit_count()


def rouge_l(answer: str, wanted: str, language: str) -> float:
    """F1 of the longest common subsequence of words, of characters in Chinese: 2 P R / (P + R) with P and R its share of both texts (0-1).

    1: the same words in the same order; 0: none in common, and for an empty answer. English equals rouge-score 0.1.2
    (``rougeL`` without stemming), whose tokenizer knows ASCII alone: other languages have words of any letters, and Chinese has single
    characters beside Latin words and numbers. The library itself is not asked: it takes 2 s and SciPy to import, and 120 ms for two texts
    of 400 words where this takes 0.5. Lin 2004, ACL workshop Text Summarization Branches Out.

    >>> rouge_l("the lungs are clear", "lungs clear", "en")
    0.6666666666666666
    """
    found = _rouge_cut(language)
    if found is None:
        raise UnscorableError(f"no way to cut texts in {language!r}")
    cut = found[1]
    said, meant = cut(_unmasked(answer)), cut(_wanted(wanted))
    if not meant:
        raise UnscorableError("the wanted answer has no word in the letters of its language")
    length = _longest_common(said, meant)
    if not length:
        return 0.0
    precision, recall = length / len(said), length / len(meant)
    return 2 * precision * recall / (precision + recall)
