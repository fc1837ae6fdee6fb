"""Metrics for questions about pictures: closed ones, which have a declared set of answers, and open ones.

In: an answer, the wanted text, and of a closed question its labels. Out: a number from 0 to 1. Normalisation is ``tokens``'s; partial
credit is ``text.token_f1``'s.

A *label set* is a tuple such as ``("left", "right", "both=bilateral=left and right")``: each label, and behind equals signs what else it is
called. A dataset declares it for each pair; without one it is yes and no, in the language of the pair. How a label is read:

* As words of its own, the longest first, never as letters: "no" is not found in "normal", nor "left" in "cleft". Chinese has no spaces, so
  a Chinese label must begin a clause, and the longest one counts: 不包含 is not 包含, and 是否 is neither 是 nor 否. 图中没有 begins with
  none, and is not read.
* Not where it is denied in its clause ("not melanoma", "no sign of melanoma"), and not inside a phrase that answers nothing ("no idea").
* The only label of an answer, or of several the one that it begins with; two side by side ("yes and no", "left or right") are none. Not
  side by side is a label in another clause that says more: "Yes, no fracture is seen" is a yes, and "yes, no" is none.

What other scorers count as right is told in ``closed_accuracy``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from medvl_lib.evaluation.metrics.text import ARTICLES
from medvl_lib.evaluation.metrics.tokens import CJK_CHARACTER, Token, UnscorableError, tokens, words

Labels = tuple[str, ...]
YES_NO: Labels = ("yes", "no")
CHINESE_YES_NO: Labels = (  # what SLAKE's Chinese questions are answered with, and the plain words
    "yes=是=是的=有=有的=包含=包括=存在=可以=能=会=对=对的=正确",
    "no=否=不=不是=不是的=没=没有=无=不包含=不包括=不存在=不可以=不能=不会=不对=不正确=错误",
)
NOTHING_SAID = (  # what begins like a label and answers nothing
    "no idea", "no way to tell", "no way of knowing", "no information", "no answer", "是否", "无法", "没法", "没有办法", "没办法",
    "没有信息", "没有足够", "不能确定", "不能判断", "不能回答", "有可能", "有时", "有限", "无关", "无回声",
)  # fmt: skip
NEGATORS = frozenset(["not", "no", "without", "never", "neither", "nor", "cannot", "isn", "aren", "wasn", "doesn", "don", "can"])
CONTRACTED = frozenset(["isn", "aren", "wasn", "doesn", "don", "can"])  # deny only before a t: isn't
ONLY_ALONE = frozenset(["不", "能", "会", "对", "否", "不对"])  # begin other words too: 对称 is "symmetric", 会阴 a part of the body
CLAUSE_ENDS = frozenset(".,;:!?|\n()。、")
SAYS_NOTHING = ARTICLES | frozenset(["and", "or", "和", "与", "或", "者"])  # beside a label: a list of labels is no sentence


class _Mention(NamedTuple):
    """A label in an answer, between two tokens; None for a phrase that answers nothing."""

    label: str | None
    start: int
    end: int


def labels_of(declared: Labels, language: str) -> Labels:
    """What a closed question may be answered with: what its dataset declares, or else yes and no."""
    if declared:
        return declared
    return tuple(f"{own}={plain}" for own, plain in zip(CHINESE_YES_NO, YES_NO, strict=True)) if language == "zh" else YES_NO


def names(labels: Labels) -> tuple[str, ...]:
    """What the labels of a set are called: the first of their spellings."""
    return tuple(label.split("=", 1)[0] for label in labels)


@lru_cache(maxsize=1024)
def _spellings(labels: Labels) -> dict[str, list[tuple[tuple[str, ...], str | None]]]:
    """By first word, the longest first: each spelling with its label, and None for what says nothing."""
    found: dict[tuple[str, ...], str | None] = {words(phrase): None for phrase in NOTHING_SAID}
    for label in labels:
        name, *others = label.split("=")
        for spelling in (name, *others):
            said = words(spelling)
            if not said or found.get(said, name) not in {None, name}:
                raise UnscorableError("a declared label has no word, or two labels share a spelling")
            found[said] = name
    by_first: dict[str, list[tuple[tuple[str, ...], str | None]]] = {}
    for said in sorted(found, key=len, reverse=True):
        by_first.setdefault(said[0], []).append((said, found[said]))
    return by_first


def _is_a_word(said: Sequence[Token], start: int, end: int, last_end: int) -> bool:
    """Whether what stands there is a word: in Chinese, what begins a clause or follows another label."""
    if CJK_CHARACTER.match(said[start].text) is None:
        return True
    ends = end == len(said) or said[end].gap != ""
    begins = start in {0, last_end} or said[start].gap != ""
    return begins and (ends or "".join(token.text for token in said[start:end]) not in ONLY_ALONE)


def _is_denied(said: Sequence[Token], start: int, own: frozenset[str]) -> bool:
    """Whether a word that denies stands before ``start`` in the same clause; a word that is itself a label denies nothing."""
    for place in range(start - 1, -1, -1):
        if CLAUSE_ENDS.intersection(said[place + 1].gap) or said[place].text == "but":
            return False
        text = said[place].text
        if text in NEGATORS - own and (text not in CONTRACTED or said[place + 1].text == "t"):
            return True
    return False


def _mentions(said: Sequence[Token], labels: Labels) -> Iterator[_Mention]:
    by_first = _spellings(labels)
    own = frozenset(word for found in by_first.values() for spelling, label in found if label for word in spelling)
    start = last_end = 0
    while start < len(said):
        for spelling, label in by_first.get(said[start].text, ()):
            end = start + len(spelling)
            if tuple(token.text for token in said[start:end]) != spelling:
                continue
            if _is_a_word(said, start, end, last_end) and (label is None or not _is_denied(said, start, own)):
                yield _Mention(label, start, end)
                last_end = end
            start = end - 1
            break
        start += 1


def stated_label(answer: str, labels: Labels = YES_NO) -> str | None:
    """The label that an answer states, by its name; None for none, and for several of which none is meant.

    >>> stated_label("No osteoarthritis: grade 0", ("0", "1", "2")), stated_label("not melanoma but a nevus", ("melanoma", "nevus"))
    ('0', 'nevus')
    """
    said = tokens(answer)
    found = list(_mentions(said, labels))
    if len({mention.label for mention in found}) < 2:
        return found[0].label if found else None
    first = found[0]
    begins = all(token.text in ARTICLES for token in said[: first.start])
    other = next((mention for mention in found if mention.label not in {first.label, None}), None)
    is_beside = other is not None and _is_beside(said, found, first, other)
    return first.label if begins and not is_beside else None


def _is_beside(said: Sequence[Token], found: Sequence[_Mention], first: _Mention, other: _Mention) -> bool:
    """Whether two labels stand side by side: a word apart in one clause, or the clause of the other one adds nothing but labels."""
    start, end = _clause(said, other.start)
    if start <= first.start:
        return other.start - first.end <= 1
    labels = {place for mention in found for place in range(mention.start, mention.end)}
    own = {token.text for token in said[slice(*_clause(said, first.start))]}
    return all(said[place].text in own | SAYS_NOTHING for place in range(start, end) if place not in labels)


def _clause(said: Sequence[Token], place: int) -> tuple[int, int]:
    """Where the clause of a token begins and ends."""
    ends = [number for number, token in enumerate(said) if CLAUSE_ENDS.intersection(token.gap)]
    return max((end for end in ends if end <= place), default=0), min((end for end in ends if end > place), default=len(said))


def _wanted(wanted: str, labels: Labels) -> str:
    label = stated_label(wanted, labels)
    if label is None:
        raise UnscorableError("the wanted answer of a closed question is none of its labels")
    return label


def closed_accuracy(answer: str, wanted: str, labels: Labels = YES_NO) -> float:
    """1 where the answer states the wanted label, 0 for anything else: an answer that states none, or two side by side, is wrong.

    An answer that begins with a label means it, whatever follows ("Yes, no effusion is left"), but for "yes and no" and "yes, no".

    LLaVA-Med's first script (``run_eval.py`` @ b9a98a7) looked for the letters, so that "yes and no" was always right and "normal" held a
    "no"; MedEvalKit's rule for English has the same "no". Labels are words here. Raises UnscorableError for a reference that is no label.

    >>> closed_accuracy("Yes, there is a fracture.", "yes"), closed_accuracy("yes and no", "yes"), closed_accuracy("it looks normal", "no")
    (1.0, 0.0, 0.0)
    """
    label = _wanted(wanted, labels)
    return float(stated_label(answer, labels) == label)


def closed_unparsable(answer: str, wanted: str, labels: Labels = YES_NO) -> float:
    """1 where an answer to a closed question states no label, or several; these are wrong in ``closed_accuracy`` and counted here.

    >>> closed_unparsable("I cannot determine this", "yes"), closed_unparsable("no", "yes")
    (1.0, 0.0)
    """
    _wanted(wanted, labels)
    return float(stated_label(answer, labels) is None)


def open_exact(answer: str, wanted: str) -> float:
    """1 where both texts are the same words in the same order, without articles; 0 otherwise, and for an empty answer.

    >>> open_exact("The left lung.", "left lung"), open_exact("left lung, clear", "left lung")
    (1.0, 0.0)
    """
    said, meant = _content(answer), _content(wanted)
    if not meant:
        raise UnscorableError("the wanted answer has no word")
    return float(said == meant)


def open_recall(answer: str, wanted: str) -> float:
    """Share of the wanted words that stand in the answer (0-1): what LLaVA-Med reports. A dump of common words gets 0.8 of it: never gated.

    >>> open_recall("the left lung", "left lower lobe")
    0.3333333333333333
    """
    said, meant = Counter(_content(answer)), Counter(_content(wanted))
    if not meant:
        raise UnscorableError("the wanted answer has no word")
    return (said & meant).total() / meant.total()


def _content(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word not in ARTICLES)
