"""Metrics for short free text: how many of the wanted words an answer has, and how many it has beside them.

In: an answer to an open question and the wanted text. Out: numbers from 0 to 1. Normalisation is ``tokens``'s.

Reports are ``reports``'s: the order of words is not looked at here, and of a long text the commonest words of its kind are a good part. A
dump of 50 has more token F1 than the most typical report (0.22 to 0.21 on 132 transcribed pages, 0.15 to 0.12 on 100 captions, measured);
on short answers it has far less than the majority's answer (0.05 to 0.53 on 372 questions of SLAKE).
"""

from collections import Counter

from medvl_lib.evaluation.metrics.tokens import UnscorableError, words

ARTICLES = frozenset(["a", "an", "the"])


def _content(text: str) -> Counter[str]:
    return Counter(word for word in words(text) if word not in ARTICLES)


def token_f1(answer: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over the tokens of both texts, as multisets without articles: 2 P R / (P + R).

    1: the same words as often; 0: none in common, and for an empty answer. It differs from SQuAD's script in three places, on purpose:
    a number is one token (there ``4.1`` and ``41`` are equal), hyphens and apostrophes part words, and each Chinese character is a
    word. Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; ``compute_f1`` in github.com/huggingface/transformers
    @ 0cbcecb69, src/transformers/data/metrics/squad_metrics.py.

    >>> token_f1("the left lung", "left lung clear")
    0.8
    """
    said, meant = _content(answer), _content(wanted)
    if not meant:
        raise UnscorableError("the wanted answer has no word")
    num_common = sum((said & meant).values())
    if num_common == 0:
        return 0.0
    precision, recall = num_common / sum(said.values()), num_common / sum(meant.values())
    return 2 * precision * recall / (precision + recall)
