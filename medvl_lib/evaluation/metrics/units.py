"""Units beside a value: which one is stated there, and whether it is the one that was expected.

In: the tokens after a value, and the unit that was printed. Out: ``same``, ``other`` or ``none``. Spellings of one unit are equal
(``mcg`` = ``µg``, ``mm Hg`` = ``mmHg``, ``beats/min`` = ``bpm``); nothing is converted: ``4.1 mmol/L`` and ``4.1 mg/dL`` differ.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

from medvl_lib.evaluation.metrics.tokens import Token, tokens

Stated = Literal["same", "other", "none"]

KINDS = {
    "mass": "g mg μg kg ng pg lb oz",
    "volume": "l dl ml μl fl",
    "amount": "mol mmol μmol nmol pmol meq eq mosm",
    "activity": "u iu miu mu ku",
    "length": "m mm cm km ft",
    "pressure": "mmhg cmh2o kpa torr",
    "time": "s ms min h d wk mo y",
    "temperature": "c f",
    "other": "% bpm hz mv v w kcal copies hpf lpf tablet capsule puff drop spray patch gy mci mbq rpm beats breaths cells",
}
KIND_OF = {unit: kind for kind, units in KINDS.items() for unit in units.split()}
ALIASES = {
    "mcg": "μg", "ug": "μg", "microgram": "μg", "micrograms": "μg", "milligram": "mg", "milligrams": "mg", "gram": "g", "grams": "g",
    "gm": "g", "kilogram": "kg", "kilograms": "kg", "liter": "l", "liters": "l", "litre": "l", "litres": "l", "milliliter": "ml",
    "milliliters": "ml", "millilitre": "ml", "millilitres": "ml", "cc": "ml", "ul": "μl", "mcl": "μl", "umol": "μmol", "sec": "s",
    "secs": "s", "second": "s", "seconds": "s", "mins": "min", "minute": "min", "minutes": "min", "hr": "h", "hrs": "h", "hour": "h",
    "hours": "h", "day": "d", "days": "d", "week": "wk", "weeks": "wk", "wks": "wk", "month": "mo", "months": "mo", "mos": "mo",
    "year": "y", "years": "y", "yr": "y", "yrs": "y", "yo": "y", "percent": "%", "unit": "u", "units": "u", "degc": "c", "celsius": "c",
    "degf": "f", "fahrenheit": "f", "tablets": "tablet", "tab": "tablet", "tabs": "tablet", "capsules": "capsule", "cap": "capsule",
    "caps": "capsule", "puffs": "puff", "drops": "drop", "sprays": "spray", "patches": "patch", "k": "10^3", "thousand": "10^3",
    "od": "daily", "qd": "daily", "qday": "daily",
}  # fmt: skip
FREQUENCIES = frozenset(["daily", "bid", "tid", "qid", "qhs", "prn", "weekly", "nightly", "hourly", "q4h", "q6h", "q8h", "q12h", "q24h"])
WHOLE_ALIASES = {"bpm": "/min", "beats/min": "/min", "breaths/min": "/min", "rpm": "/min", "cells/μl": "/μl"}
FLAGS = frozenset([  # a laboratory's marks after a value
    "h", "l", "c", "n", "hh", "ll", "hi", "lo", "high", "low", "critical", "normal", "abnormal", "elevated",
])  # fmt: skip


def _spelled(unit: Sequence[Token]) -> tuple[str, ...]:
    """A unit in comparable words: ``mg per dL`` and ``mg/dl`` are ``mg/dl``; how often is a word of its own: ``mg bid``."""
    measure, often = "", list[str]()
    for token in unit:
        word = ALIASES.get(token.text, token.text)
        if word in FREQUENCIES or often:
            often.append(word)
        elif word == "per":
            measure += "/"
        else:
            measure += ("/" if "/" in token.gap and not measure.endswith("/") else "") + word
    return (WHOLE_ALIASES.get(measure, measure), *often)


def _goes_on(token: Token, before: Token | None) -> bool:
    """Whether ``token`` begins a unit, or carries one on: after a stroke, ``per``, the number in ``mL/min/1.73 m2``, or as ``daily``."""
    spelling = ALIASES.get(token.text, token.text)
    if "\n" in token.gap:
        return False
    if before is None:
        return spelling in KIND_OF or spelling.startswith("10^") or spelling == "per" or token.gap.strip() == "/"
    if spelling in FREQUENCIES:
        return token.gap.strip(" |,") == ""
    if token.text == "per" or before.text == "per" or before.is_number:
        return token.gap.strip(" ·*.") in {"", "/"}
    return token.gap.strip(" ") in {"/", "·", "*"}


def _stated(following: Sequence[Token]) -> tuple[str, ...]:
    """The words of the unit that stands first in ``following``; none where none does."""
    unit: list[Token] = []
    for token in following:
        if not _goes_on(token, unit[-1] if unit else None):
            break
        unit.append(token)
    return _spelled(unit) if unit else ()


def _is_contradiction(said: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether ``said`` can only be another unit. A letter may be a flag (H, L) or a sex (M, F), unless it measures the same kind."""
    if said == wanted[: len(said)]:  # the rest is missing
        return False
    measure = said[0]
    return len(said) > 1 or len(measure) > 1 or measure == "%" or KIND_OF.get(measure) == KIND_OF.get(wanted[0])


def stated_unit(following: Sequence[Token], expected: str) -> Stated:
    """Whether the tokens after a value state the ``expected`` unit, another one, or none.

    A laboratory's flag between value and unit (``5.9 H mmol/L``) is passed over. What is said beyond the expected unit (``mg`` daily) is
    not judged, and what is left out is not held against an answer.
    """
    printed = tokens(expected)
    if not printed:
        return "none"
    wanted = _spelled(printed)
    flags = list(takewhile(lambda token: token.text in FLAGS, following))
    for start in range(len(flags) + 1):
        said = _stated(following[start:])
        is_literal = [token.text for token in following[start : start + len(printed)]] == [token.text for token in printed]
        if said[: len(wanted)] == wanted or (is_literal and not said):
            return "same"
    said = _stated(following[len(flags) :]) or _stated(following)
    return "other" if said and _is_contradiction(said, wanted) else "none"


def is_unit(text: str) -> bool:
    """Whether a text is a unit as a whole: ``mmol/L``, ``mg daily``; not ``Jan 2024``."""
    said = tokens(text)
    return bool(said) and all(_goes_on(token, said[place - 1] if place else None) for place, token in enumerate(said))
