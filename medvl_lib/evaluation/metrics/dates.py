"""Calendar dates in running text, written one way: ``January 5, 2024``, ``5 Jan 2024``, ``2024年1月5日`` become ``2024-01-05``.

In: text that is already in lower case and NFKC. Out: the same text with ISO dates. A date is changed only where it can be read in
one way: ``13/01/2024`` is, ``01/05/2024`` is not and keeps its order, so it equals ``1/5/2024`` and nothing else.
"""

import re

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_ORDINAL = r"(?:st|nd|rd|th)?"
_YEAR_FIRST = re.compile(r"(?<![\d.])(\d{4})[ ]?[-/.年][ ]?(\d{1,2})[ ]?[-/.月][ ]?(\d{1,2})(?![\d/])[日]?(?:t(?=\d\d:))?")
_MONTH_FIRST = re.compile(rf"\b{_MONTH}[ ]+(\d{{1,2}}){_ORDINAL},?[ ]+(\d{{4}})\b")
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}}){_ORDINAL}[ -]+(?:of[ ]+)?{_MONTH},?[ -]+(\d{{4}})\b")
_NUMERIC = re.compile(r"(?<![\d./-])(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?![\d/])")


def _iso(year: str, month: int, day: str, written: str) -> str:
    is_date = 1 <= month <= 12 and 1 <= int(day) <= 31
    return f"{year}-{month:02}-{int(day):02} " if is_date else written


def _numeric(found: re.Match[str]) -> str:
    first, _, second, year = found.groups()
    if int(first) > 12 or first == second:
        return _iso(year, int(second), first, found[0])
    if int(second) > 12:
        return _iso(year, int(first), second, found[0])
    return f"{int(first)}/{int(second)}/{year}"  # day or month first: not guessed


def with_iso_dates(text: str) -> str:
    """``text`` with every unambiguous date as ``YYYY-MM-DD``."""
    text = _YEAR_FIRST.sub(lambda found: _iso(found[1], int(found[2]), found[3], found[0]), text)
    text = _MONTH_FIRST.sub(lambda found: _iso(found[3], MONTHS.index(found[1][:3]) + 1, found[2], found[0]), text)
    text = _DAY_FIRST.sub(lambda found: _iso(found[3], MONTHS.index(found[2][:3]) + 1, found[1], found[0]), text)
    return _NUMERIC.sub(_numeric, text)
