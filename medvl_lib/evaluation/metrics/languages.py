"""What a pair's language says of its text: whether words stand apart, and in which script it is written.

In: an ISO 639-1 code, and texts. Out: how they are cut, and whether an answer is in another script than its language. Two languages of one
script (English and German) are not told apart: that would be guessed from few words.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LONGEST_ABBREVIATION = 5  # letters: CT, COPD, FLAIR
LEAST_SENTENCE = 3  # words in capitals that follow each other: of fewer nobody knows whether they abbreviate
WITHOUT_SPACES = frozenset(["zh", "ja", "th", "lo", "km", "my", "bo"])
SCRIPTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(["en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "vi", "id"], frozenset(["latin"])),
    "zh": frozenset(["han"]), "ja": frozenset(["han", "kana"]), "ko": frozenset(["hangul", "han"]),
    **dict.fromkeys(["ru", "uk", "bg"], frozenset(["cyrillic"])), **dict.fromkeys(["ar", "fa"], frozenset(["arabic"])),
}  # fmt: skip
"""Language -> the scripts it is written in. Of any other language nothing is said."""
_LATIN = "A-Za-z\u00c0-\u024f"
_UNIT = re.compile(
    rf"(?P<latin>(?<![{_LATIN}])(?<!\b[A-Za-z]-)[{_LATIN}]{{2,}})|(?P<han>[{HAN}])|(?P<kana>[\u3040-\u30ff])|(?P<hangul>[\uac00-\ud7a3]+)"
    r"|(?P<cyrillic>[\u0400-\u04ff]+)|(?P<arabic>[\u0600-\u06ff]+)"
)
_BETWEEN = re.compile(r"\s+(?:[A-Z]\s+)?")  # two words of one sentence: THERE IS, THERE IS A NODULE


def _units(text: str, known: frozenset[str] = frozenset()) -> Counter[str]:
    """How many words, or characters where words do not stand apart, a text has of each script.

    Those that are ``known`` do not count, nor do abbreviations, nor what hangs on one letter: CT, MRI and X-ray are said in every language.
    An abbreviation is a short word in capitals that stands in no sentence of capitals.
    """
    found = list(_UNIT.finditer(text))
    counted = (unit for unit, is_short in zip(found, _abbreviate(text, found), strict=True) if not is_short)
    return Counter(unit.lastgroup or "" for unit in counted if unit[0].casefold() not in known)


def _abbreviate(text: str, found: Sequence[re.Match[str]]) -> Iterator[bool]:
    """Of each word whether it abbreviates: of words in capitals with nothing but a space or a letter between them fewer than three."""

    def goes_on(before: re.Match[str], unit: re.Match[str]) -> bool:
        return before[0].isupper() == unit[0].isupper() and _BETWEEN.fullmatch(text, before.end(), unit.start()) is not None

    begins = [True, *(not goes_on(before, unit) for before, unit in pairwise(found))][: len(found)]
    runs = list(accumulate(begins))
    lengths = Counter(runs)
    for unit, run in zip(found, runs, strict=True):
        yield unit[0].isupper() and len(unit[0]) <= LONGEST_ABBREVIATION and lengths[run] < LEAST_SENTENCE


def language_kept(answer: str, wanted: str, language: str, beside: Iterable[str] = ()) -> float:
    """1 where the answer says something, and not in another script than asked; 0 otherwise, and for an empty answer.

    >>> language_kept("左肺", "右肺", "zh"), language_kept("left lung", "右肺", "zh"), language_kept("", "右肺", "zh")
    (1.0, 0.0, 0.0)
    """
    return float(bool(answer.strip()) and not is_in_another_script(answer, wanted, language, beside))


def is_in_another_script(answer: str, wanted: str, language: str, beside: Iterable[str] = ()) -> bool:
    """Whether most of an answer's words are in another script than its language and the wanted answer are written in.

    Nothing is held against an answer where the wanted one is not itself mostly in the language's script ("CT" is wanted of a Chinese
    question), nor words that the wanted answer, or a text ``beside`` it such as the question, has as well.

    >>> is_in_another_script("the left lung", "左肺", "zh"), is_in_another_script("CT", "断层扫描", "zh")
    (True, False)
    """
    own = SCRIPTS.get(language)
    if own is None:
        return False
    meant = _units(wanted)
    if 2 * sum(meant[script] for script in own) <= meant.total():
        return False
    known = frozenset(unit[0].casefold() for text in (wanted, *beside) for unit in _UNIT.finditer(text))
    num_own = sum(count for script, count in _units(answer).items() if script in own)
    num_other = sum(count for script, count in _units(answer, known).items() if script not in own)
    return num_other > num_own
