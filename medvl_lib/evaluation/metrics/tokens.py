"""What a text says, as tokens that compare by meaning: the one normalisation that every text metric shares.

In: any text. Out: ``Token``s in order. Words are NFKC and case-folded; a number is one token in one spelling (``4.10`` = ``4.1``,
``1,200`` = ``1200``, full-width digits = ASCII), and so is what is written as one value (``120/80``, ``3.5-5.1``, ``<0.01``, ``2+``,
a date). So ``12`` is never found in ``120``, ``12.5`` or ``12/80``. A comma that is no thousands separator (``4,1``) is left as it
is: whether it is a decimal comma is not guessed. Chinese and Japanese characters are tokens of their own. Punctuation is no token,
but stands in the ``gap`` before the next one. What a term or a unit is does not belong here.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from medvl_lib.evaluation.metrics.dates import with_iso_dates

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
CJK_CHARACTER = re.compile(f"[{_CJK}]")
_SUPERSCRIPTS = re.compile("(\\d?)([⁻⁰¹²³⁴-⁹]+)")
_VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")
_PART = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+(?:,\d+)+(?![\d.])|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_TOKEN = re.compile(
    rf"""(?P<number>(?:[<>]=?[ ]*)?(?:(?<![\w.)\]])[-+])?(?:{_PART})(?:(?:[/:x-]|\^-?)(?:{_PART}))*(?:\+(?!\w))?)
    |(?<!\w)(?:ab?|b|o|rh)[+-](?!\w)                                  # blood groups: a+ is not a-
    |[{_CJK}]
    |(?:(?![{_CJK}])[^\W\d_])(?:(?![{_CJK}])[^\W_])*(?:(?<=\d)\.\d+)*  # b12, spo2, e11.9
    |%|(?<![\w+])\++(?!\w)""",
    re.VERBOSE,
)
_SAME_CHARACTER = str.maketrans(
    {**dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"), **dict.fromkeys("\u2014\u2015", " - "),
     **dict.fromkeys("\u200b\u200c\u200d\ufeff\u00ad", ""), "\u2044": "/", "\u00d7": "x", "\u2264": "<=", "\u2265": ">=", "\r": "\n"}
)  # fmt: skip
_SPELLINGS = (
    (re.compile(r"</?[a-z][^<>\n]*>"), " | "),  # a cell of an HTML table, bold print
    (re.compile(r"(?<=[a-z])\^(?=\d)"), ""),  # m^2
    (re.compile(r"(?<![\d.])10(?:\*|e)(?=\d)"), "10^"),  # the Unified Code for Units of Measure writes 10*3
    (re.compile(r"(?:(?<=\d)[ \t]*|\b)x[ \t]*(?=10\^)"), " "),  # 7.2 x10^3/ul: the power belongs to the unit
    (re.compile(r"(?<=\d)[ \t]*x[ \t]*(?=\d)"), "x"),
    (re.compile(r"(?<=\d)[ \t]*-[ \t]*(?=\d)"), "-"),
    (re.compile(r"(?<=\d)[ \t]*/[ \t]*(?=\d)"), "/"),
    (re.compile(r"\bmm[ \t]+hg\b"), "mmhg"),
    (re.compile(r"\bcm[ \t]+h2o\b"), "cmh2o"),
    (re.compile(r"\bonce (?:daily|a day)\b"), "daily"),
    (re.compile(r"\btwice (?:daily|a day)\b"), "bid"),
    (re.compile(r"\b(?:three times|thrice) (?:daily|a day)\b"), "tid"),
    (re.compile(r"\bfour times (?:daily|a day)\b"), "qid"),
)


class UnscorableError(ValueError):
    """The reference gives a scorer nothing to hold an answer against: unscored with this reason, never a zero of the model."""


class Token(NamedTuple):
    """A word, a number or a sign, in the one spelling that is compared."""

    text: str
    is_number: bool
    gap: str
    """The characters between the token before and this one."""
    line: int
    """Which line it stands on, from 0."""
    depth: int
    """How many brackets are open around it."""


def _superscript(found: re.Match[str]) -> str:
    return f"{found[1]}{'^' if found[1] else ''}{found[2]}"  # 10³ is a power, m² is a name


def _normalised(text: str) -> str:
    text = _SUPERSCRIPTS.sub(_superscript, text)
    text = _VULGAR_FRACTION.sub(r" \g<0>", text)  # 1½ is not 11/2
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_SAME_CHARACTER)
    text = with_iso_dates(text)
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


def _part(written: str, *, is_alone: bool) -> str:
    """One number without its thousands commas and idle zeros; a leading zero is kept where it may be an identifier's."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", written):
        written = written.replace(",", "")
    whole, point, fraction = written.partition(".")
    fraction = fraction.rstrip("0")
    if not is_alone or point:
        whole = whole.lstrip("0") or "0"
    return f"{whole}.{fraction}" if fraction else whole


def _number(written: str) -> str:
    written = written.replace(" ", "")
    parts = re.split(r"([<>]=?|[/:x^+-])", written)
    is_alone = sum(part[:1].isdigit() or part[:1] == "." for part in parts) == 1
    canonical = [_part(part, is_alone=is_alone) if part[:1].isdigit() or part[:1] == "." else part for part in parts]
    return "".join(canonical).removeprefix("+")


@lru_cache(maxsize=2048)  # several metrics read the same answer, and every variant's answer is held against the same terms
def tokens(text: str) -> tuple[Token, ...]:
    """The tokens of ``text``, in order."""
    text = _normalised(text)
    found: list[Token] = []
    end = line = depth = 0
    for match in _TOKEN.finditer(text):
        gap = text[end : match.start()]
        line += gap.count("\n")
        depth = 0 if "\n" in gap else max(0, depth + gap.count("(") + gap.count("[") - gap.count(")") - gap.count("]"))
        is_number = match["number"] is not None
        found.append(Token(text=_number(match[0]) if is_number else match[0], is_number=is_number, gap=gap, line=line, depth=depth))
        end = match.end()
    return tuple(found)


def words(text: str) -> tuple[str, ...]:
    """The tokens' texts alone."""
    return tuple(token.text for token in tokens(text))
