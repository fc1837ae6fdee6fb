"""A report as clauses: what one statement can reach.

In: a report as it was written. Out: clauses in lower case with one spelling for what means the same, each with a verb of its own where
there is one. Sentences end at full stops (not inside numbers), blank lines, list items and headings; a clause ends at a semicolon, a colon,
"but" and its kin, and where after "and" or a comma another subject has another verb.
"""

import re
from collections.abc import Iterator


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set to look them up in."""
    return frozenset(text.split())


VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|remains?|remained|appears?|appeared|seems?|may|might|could|would|can|cannot|will|should|does|do|did"
    r"|there(?= (?:is|are|was|were|has|have|may|might|appears?|remains?)))\b"
)

VERBS = words(
    "is are was were has have had remain remains remained appear appears appeared seem seems may might could would can cannot will should "
    "does do did there"
)

_TYPED = str.maketrans({**dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"), "\u2019": "'", "\t": " ", "\r": "\n", "_": " "})
_HEADING = re.compile(r"\n\s*(?=[A-Z][A-Za-z/ ]{2,40}:)")
_ITEM = re.compile(r"\n\s*(?:\n|\d{1,2}[.)]\s|[-*•]\s)\s*")
_INLINE_ITEM = re.compile(r"\d(?:(?<=[.:;] \d)|(?<=^\d))\d?[.)] ")
_TIGHT_STOP = re.compile(r"\.(?<=[a-z]{2}\.)(?=[a-z])")
_TIGHT_COMMA = re.compile(r",(?<=[a-z],)(?=[a-z])")
_ASKED = re.compile(r"(?<=[a-z])\?+(?= |$)|!")
_SLASH = re.compile(r"(?<=[a-z])/(?=[a-z])")
_SPELLED = tuple(
    (sign, re.compile(rf"(?<!\w){re.escape(sign)}(?!\w)" if sign[:1].isalpha() else re.escape(sign)), long)
    for sign, long in (
        ("w/o", "without"), ("s/p", "status post"), ("r/o", "rule out"), ("vs.", "versus"), ("vs", "versus"), ("and/or", "or"),
        ("can't", "cannot"), ("can not", "cannot"), ("not only", "both"), ("no doubt", "surely"), ("e.g.", "such as"),
        ("i.e.", "that means"), ("dr.", "dr"), ("approx.", "approx"),
    )
)  # fmt: skip
"""What is written short, how it is found, and what it means."""
_CHANGES = (" chang", "crease ", "improvement ", "worsening ", "progression ", "difference ")
_UNCHANGED = re.compile(
    r"\b(?:no|not|without)(?: (?:any|a|significant|significantly|substantial|substantially|interval|appreciable|appreciably|definite|major|"
    r"overall|apparent|relevant|marked|markedly|notable|acute|further|much|really|been)){0,3} "
    r"(?:changed?\b|changes?(?= (?:in|from|of|since|compared)\b)"
    r"|(?:increase|decrease|improvement|worsening|progression|difference) (?=in|of))"
)
_FIELD = re.compile(
    r": *(?=(?:none|absent|negative|normal|unremarkable|resolved|clear|within normal|not |present|possible|uncertain|enlarged|stable))"
)
_FIELD_NO = re.compile(r": *no *(?=[.,;]|$)")
_HARD_WORDS = words("but however although though yet while whereas except aside apart")
_MARK = re.compile(rf"[;:,]|\b(?:{'|'.join(sorted((*_HARD_WORDS, *VERBS, 'and')))})\b")
_RELATIVE = re.compile(r"(?: and)? (?:which|that|who)\b")
_SUBJECT = re.compile(r"(?: and)? (?:the|there|it|this|heart|cardiac|lungs?|mediastin\w+)\b")


def cleaned(text: str) -> str:
    r"""The text in one line and lower case, with one spelling for abbreviations, "or" and "unchanged".

    >>> cleaned("1. No significant change in the effusion.\n2. Edema/pneumonia; Pneumothorax: none.")
    '. unchanged in the effusion.. edema or pneumonia; pneumothorax is none.'
    """
    text = text.translate(_TYPED).replace(" / ", "/")
    if "\n" in text:
        text = _ITEM.sub(". ", _HEADING.sub(". ", f"\n{text}"))
    text = _INLINE_ITEM.sub("", " ".join(text.lower().split()))
    for sign, pattern, long in _SPELLED:
        if sign in text:  # most are in no report, and a pattern is slow
            text = pattern.sub(long, text)
    text = text.replace("n't ", " not ")  # after can't
    if "/" in text:
        text = _SLASH.sub(" or ", text)
    text = _TIGHT_COMMA.sub(", ", _TIGHT_STOP.sub(". ", text))
    if ":" in text:
        text = _FIELD.sub(" is ", _FIELD_NO.sub(" is absent", text))
    if any(word in text for word in _CHANGES):
        text = _UNCHANGED.sub("unchanged ", text).replace("unchanged  ", "unchanged ")
    return text


def sentences(text: str) -> Iterator[str]:
    """The sentences of a cleaned text that say anything."""
    if "?" in text or "!" in text:
        text = _ASKED.sub(". ", text)
    return (sentence for piece in text.split(". ") if (sentence := piece.strip(" .,")))


def clauses(sentence: str) -> Iterator[str]:
    """What one subject and its verb reach.

    >>> list(clauses("there is edema and the heart is normal but small"))
    ['there is edema ', 'and the heart is normal ', ' small']
    """
    found = sentence.replace(",", " ").split()
    is_simple = _HARD_WORDS.isdisjoint(found) and ";" not in sentence and ":" not in sentence
    if is_simple and sum(word in VERBS for word in found) < 2:
        yield sentence
        return
    yield from _cut(sentence)


def _cut(sentence: str) -> Iterator[str]:
    start, has_verb = 0, False
    join: int | None = None
    subject: int | None = None
    for mark in _MARK.finditer(sentence):
        word = mark[0]
        if word in VERBS:
            cut = join if subject is None else subject
            if has_verb and cut is not None:
                yield sentence[start:cut]
                start = cut
            has_verb, join, subject = True, None, None
        elif word not in (",", "and"):
            yield sentence[start : mark.start()]
            start, has_verb, join, subject = mark.end(), False, None, None
        elif has_verb and not _RELATIVE.match(sentence, mark.end()):
            join = mark.start()
            subject = join if subject is None and _SUBJECT.match(sentence, mark.end()) else subject
    yield sentence[start:]
