"""What invented pages to learn reading from state: facts of a kind of document, with terms that are made up where its pool runs out.

In: a kind of document and a source of chance. Out: ``Triple``s with different terms. Terms may be made of syllables, so that knowing the
words is not enough to read them. How facts stand on a page is decided in ``reading_pages``, whose ``REVISION`` counts for both.
"""

from random import Random

from medvl_lib.pairs import Triple
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES, MAX_TERM_CHARACTERS, DocumentType, Source

ONSETS = (
    "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "ch", "dr", "gl", "ph", "pr", "st", "th", "tr",
)  # fmt: skip
VOWELS, CODAS = "aeiouy", ("", "", "n", "r", "s", "l", "x", "m")
WORDS = ("absent", "mild", "moderate", "severe", "stable", "negative", "positive", "normal", "high", "low", "none", "acute")

_UNITS = tuple(sorted({source.unit for kind in DOCUMENT_TYPES for source in kind.pool}))


def draw_facts(kind: DocumentType, chance: Random, *, num_facts: tuple[int, int], invented_term_share: float) -> list[Triple]:
    """Facts with different terms, from the fewest to the most of ``num_facts``; where the pool runs out, terms are made."""
    count = draws.whole(chance, *num_facts)
    known = iter(draws.shuffled(chance, kind.pool))
    facts: dict[str, Triple] = {}
    while len(facts) < count:
        source = None if chance.random() < invented_term_share else next(known, None)
        fact = _invented(chance) if source is None else _known(source, chance)
        facts.setdefault(fact.term, fact)
    return list(facts.values())


def _known(source: Source, chance: Random) -> Triple:
    return Triple(term=source.term, value=source.value(chance), unit=source.unit)


def _invented(chance: Random) -> Triple:
    """A term of one or two made-up words or an abbreviation, some value, and any unit or none."""
    return Triple(term=_term(chance), value=_value(chance), unit=draws.pick(chance, _UNITS) if chance.random() < 0.8 else "")


def _term(chance: Random) -> str:
    if chance.random() < 0.15:
        letters = "".join(chr(65 + draws.whole(chance, 0, 25)) for _ in range(draws.whole(chance, 2, 4)))
        return letters + (str(draws.whole(chance, 1, 9)) if chance.random() < 0.3 else "")
    words = [_word(chance, draws.whole(chance, 1, 3))]
    if len(words[0]) < 9 and chance.random() < 0.5:
        words.append(_word(chance, draws.whole(chance, 1, 2)))
    return " ".join(words)[:MAX_TERM_CHARACTERS].capitalize()


def _word(chance: Random, num_syllables: int) -> str:
    parts = (draws.pick(chance, ONSETS) + draws.pick(chance, VOWELS) + draws.pick(chance, CODAS) for _ in range(num_syllables))
    return "".join(parts)


def _value(chance: Random) -> str:
    form = chance.random()
    if form < 0.4:
        return str(draws.whole(chance, 0, 10 ** draws.whole(chance, 1, 4) - 1))
    if form < 0.75:
        return draws.decimal(chance, 0, 10 ** draws.whole(chance, 0, 2), draws.whole(chance, 1, 2))
    if form < 0.87:
        return f"{draws.whole(chance, 60, 199)}/{draws.whole(chance, 30, 99)}"
    return draws.pick(chance, WORDS)
