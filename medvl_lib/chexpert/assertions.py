"""Whether a mention is stated, denied or left open, from the words of its clause.

In: a clause and where a mention stands in it. Out: ``present``, ``absent`` or ``uncertain``. The order is the publisher's: uncertainty that
would read as a denial ("cannot exclude", "no new"), denial, other uncertainty, and what is left is stated. Where the publisher walks a
dependency graph, a cue here has a *scope*:

* Before the mention a cue reaches it unless a verb, or "with", "after", "in the setting of", ... stands between. Of a list it reaches all,
  unless the list goes on with what is stated ("no pneumothorax, small effusion"). An adjective ("possible") reaches its own noun.
* After the mention it is the mention's predicate: behind the first verb, if no verb stands before the mention; or right behind it.
* "Or" and "versus" leave both sides open, unless they are denied.
* Of the heart and the mediastinum the looks decide: "normal" denies, "stable" leaves open, "enlarged" states; bare, they are stated.

Where the publisher's rule would read against the sense, the sense was taken: "partially resolved" is there, "a stable, enlarged heart" is
enlarged, "unlikely" and "not identified" are no statements that something is there.
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from medvl_lib.chexpert.phrases import Kind
from medvl_lib.chexpert.sentences import VERB, VERBS, words

Assertion = Literal["present", "absent", "uncertain"]

REACH = 250  # characters: no cue reaches further, and a clause that never ends takes no longer than its length
_ADVERBS = r"(?:(?!not\b|no\b|and\b|or\b|but\b|with\b|partially\b|nearly\b|almost\b|largely\b|mostly\b|incompletely\b)[\w-]+,? ){0,4}?"

# -- uncertainty that looks like a denial ------------------------------------------------------------------------------
_OPEN_BEFORE = re.compile(
    r"\b(?:(?:cannot|not|difficult to|hard to|unable to|no evidence to)(?: \w+){0,2}? (?:exclude|rule out)"
    r"|(?:not|cannot be)(?: \w+)? (?:excluded|ruled out):?"
    r"|no(?: \w+)?(?: or)? new|without new)\b"
)
_OPEN_AFTER = re.compile(
    r"\b(?:(?:cannot|not|may not|could not)(?: \w+){0,3}? (?:excluded|ruled out)"
    r"|(?:difficult|hard|impossible) to (?:\w+ )?(?:exclude|rule out)|not (?:\w+ )?be excluded)\b"
)

# -- denial ------------------------------------------------------------------------------------------------------------
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|without|neither|nor|never|denies|negative for|free (?:of|from)|clear(?:ed|ing|ance)?(?: \w+)? of|absence of|lack of"
    r"|absent|(?<!near complete )(?<!near-complete )(?<!nearly complete )(?<!partial )(?<!incomplete )"
    r"(?<!document )(?<!ensure )(?<!confirm )(?<!until )(?:resolution|disappearance|drainage|evacuation|removal|history) of"
    r"|rather than|instead of|rule(?:d|s)? out"
    r"|exclude[sd]?(?! from)|excluding)\b"
)
_DENIED_NOUN = re.compile(
    r"(?<!partially )(?<!nearly )(?<!almost )(?<!incompletely )\b(?:removed|resolved|cleared)(?: (?!and\b|with\b)\w+){0,3} $"
)
_NORMAL_NOUN = re.compile(r"(?<!ab)\b(?:normal|unremarkable) (?:\w+ )?$")
_BETWEEN = re.compile(
    rf"{VERB.pattern}|(?<!compatible )(?<!consistent )(?<!associated )\bwith\b|\b(?:after|following|status post|since|despite|given|because"
    r"|in the setting of|secondary to|due to|other than|besides|which|unchanged|improv\w+|than)\b"
)
_NEW_STATEMENT = re.compile(
    r"(?:,|\band) (?:and )?(?:a|an|there|the|small|mild|mildly|moderate|large|minimal|trace|tiny|stable|unchanged|persistent"
    r"|(?:in|de)creas(?:ed|ing)|improv\w+|worsen\w+|new|left|right|bilateral|bibasilar|residual|chronic|old|multiple|patchy|possible|probable"
    r"|likely)\b"
)
_NEW_SUBJECT = re.compile(r"(?:,|\band) (?:and )?(?:the|there)\b")
_OR = re.compile(r"\b(?:or|nor)\b")
_DENIED_AFTER = re.compile(
    rf"(?:{_ADVERBS})(?:absent|resolved|cleared|removed|excluded|ruled out|negative|none|gone|disappeared|no longer(?: \w+)?"
    rf"|previously (?:demonstrated|visualized)|not (?:{_ADVERBS})(?:seen|identified|present|evident|noted|demonstrated"
    r"|detected|found|apparent|observed|suspected|suggested|there|visible|shown|enlarged|recurred|reaccumulated"
    r"|developed)(?! (?:previously|before|on prior)))\b"
)
_UNCLEAR = re.compile(r"\bnot (?:\w+ )?(?:clearly|well|definite(?:ly)?|definitively|completely|fully|optimally|adequately)\b")
_DENIED_BEHIND = re.compile(
    r"^\w*(?: (?!(?:or|and|is|are|was|were|has|have|had|not|only|partially|nearly|almost|largely|incompletely)\b)[\w-]+){0,2}?,? "
    r"(?:(?:now )?(?:absent|resolved|cleared|removed|excluded|ruled out)(?=[ ,]*$|,| and)"
    r"|no longer (?:seen|present|visualized|identified|evident)|not (?:seen|identified|present|evident)(?! (?:previously|before|on prior))"
    r"|with interval resolution|previously (?:demonstrated|visualized))"
)
_SILHOUETTE_OBJECT = re.compile(r"\bobscur(?:es|e|ing) (?:\w+ ){0,2}$")

# -- other uncertainty -------------------------------------------------------------------------------------------------
_UNSURE_BEFORE = re.compile(
    r"(?:\b(?:may|might|could|would|can|maybe|possibly|presumably|probably|perhaps|potentially|suspect(?:s|ed|ing)?|favor(?:s|ed|ing)?"
    r"|consider(?:s|ed|ing|ation of)?|question(?:s|ed|able|ing)?(?: of)?|suggestion of|versus|concern(?:s|ed|ing)? (?:for|of|about)"
    r"|suspicio(?:us|n) (?:for|of)|worrisome for|symptoms? of|different\w+(?: \w+){0,3}? include[sd]?|correlat\w+(?: \w+){0,3}? for"
    r"|limit\w*(?: \w+)? (?:evaluation|assessment) (?:for|of)|unlikely|less likely|if any"
    r"|(?:differentiate|distinguish) between|equivocal(?: for)?)\b|\? ?)"
)
_UNSURE_BETWEEN = re.compile(
    r"\b(?:is|are|was|were|has|had|remains?|appears?|there|which|given|despite|after|following|in the setting of|superimposed on"
    r"|(?:re-?)?evaluat\w+|assess\w*|characteri[sz]e|document)\b"
    r"|(?<!compatible )(?<!consistent )(?<!possibly )(?<!probably )\bwith\b"
    r"|, (?:and )?(?:a|an|the|small|mild|moderate|large|no|without|left|right|bilateral)\b"
)
_UNSURE_NOUN = re.compile(
    r"\b(?:possible|probable|questionable|suspicious|presumed|potential|borderline|equivocal)"
    r"(?: (?!and\b|with\b|in\b|at\b|near\b|from\b|on\b|within\b|overlying\b|along\b|due\b|to\b|or\b)[\w-]+){0,6} $"
)
_UNSURE_AFTER = re.compile(
    rf"\b(?:possible|suspected|question(?:ed|able)|considered|equivocal|favored|a (?:possibility|consideration|concern)|of concern"
    rf"|less likely|unlikely|uncertain|obscured|suspicious(?! for)|(?:poorly|incompletely|suboptimally) \w+"
    rf"|not (?:{_ADVERBS})(?:appreciated|visualized|evaluated|assessed|imaged)|not (?:\w+ )?(?:clearly|well|definitely|definitively) \w+"
    rf"|cannot be (?:\w+ )?(?:assessed|evaluated|determined|seen)|difficult to \w+|hard to \w+|limited)\b"
)
_MAY_BE_THERE = re.compile(
    r"\b(?:may|might|could|would|can|possibly)(?: \w+){0,2}? "
    r"(?:(?:be|have been) (?:\w+ )?(?:present|there|seen|considered|questioned|possible)|present|appear|exist|coexist"
    r"|have this appearance)\b"
)
_UNSURE_BEHIND = re.compile(
    r"^\w*(?: (?!or\b|and\b|is\b|are\b)[\w-]+){0,3}?,? "
    r"(?:possible|probable|suspected|questioned|questionable|unlikely|less likely)(?=[ ,?]*$)"
    r"|^\w*,? if (?:present|any|real)\b|^\w* ?\?"
)
_NOUN_REST = r"(?: (?!and\b|with\b|in\b|on\b|at\b|of\b|the\b|is\b|are\b|was\b|were\b|or\b|versus\b|may\b|to\b)[\w-]+){0,2}"
_NO_ITEM = r"(?:and|with|without|no|not|which|that|or|versus|there|\w+ing|suspicious|compatible|consistent|likely|due)\b"
_LISTED = rf"(?:(?:(?!{_NO_ITEM}|{VERB.pattern})[\w-]+)(?: |(?=,))){{1,5}}"
_OR_BEHIND = re.compile(rf"^\w*{_NOUN_REST}(?:(?:, {_LISTED})*?,? ?\bor\b|,? ?\bversus\b)")
_ADJECTIVE = (
    "left", "right", "small", "mild", "moderate", "minimal", "upper", "lower", "trace", "large", "acute", "chronic", "new", "focal",
    "partial", "lobar", "tiny", "more", "one", "simple",
)  # fmt: skip
_OR_BEFORE = re.compile(
    rf"{''.join(f'(?<!{word} )' for word in _ADJECTIVE)}(?<!,)\b(?:or|versus) "
    r"(?:(?!is\b|are\b|was\b|were\b|in\b|on\b|at\b|of\b|with\b|and\b|to\b|due\b)[\w-]+ ){0,4}$"
)

# -- the looks of heart and mediastinum --------------------------------------------------------------------------------
_LOOKS = re.compile(
    r"\b(?:(?P<absent>(?:not|no longer|without|no) (?:[\w-]+ ){0,2}?"
    r"(?:enlarge\w*|increased?|widen\w*|dilated|prominent|shift\w*|abnormal\w*)"
    r"|normal|unremarkable|within (?:\w+ )?limits|limits? of normal|top-normal)"
    r"|(?P<unsure>borderline|(?:may|might|could) (?:\w+ )?be|possibl[ey]|probabl[ey]|suspected|obscured|(?:poorly|incompletely) \w+"
    r"|difficult to \w+|cannot be (?:\w+ )?(?:assessed|evaluated|determined|seen)"
    r"|not (?:\w+ )?(?:evaluated|assessed|visualized|appreciated|clearly|well)|limited)"
    r"|(?P<present>enlarge\w*|increase\w*|widen\w*|dilated|prominen\w*|shift\w*|abnormal\w*|tortuous|cardiomegaly|distort\w*)"
    r"|(?P<stable>stable|unchanged|similar to|not changed))\b"
)
_ABNORMAL = re.compile(r"\b(?:not|ab)[ -]?(?:normal|unremarkable)\b")


# -- whether a clause has a cue at all: most have none, and are not looked at any further -------------------------------
_DENYING = words(
    "no not without neither nor never denies negative free clear cleared clearing clearance absence lack absent resolution disappearance "
    "drainage evacuation removal history rather instead rule ruled rules exclude excludes excluded excluding resolved removed gone none "
    "disappeared previously normal unremarkable"
)
_OPENING = words("exclude excluded rule ruled new")
_UNSURE = frozenset(word[:5] for word in words(
    "may might could would can cannot maybe possible possibly presumed presumably probable probably perhaps potential suspected favor "
    "consider questionable suggestion versus concern worrisome symptom differential distinguish correlate unlikely less equivocal "
    "borderline or if uncertain obscured poorly incompletely suboptimally not limited difficult hard suspicious"
))  # fmt: skip
"""The first five letters of what leaves a mention open."""


class _Cues(NamedTuple):
    """What a clause may hold, by its words alone."""

    has_verb: bool
    may_leave_open: bool
    may_deny: bool
    may_doubt: bool


@lru_cache(maxsize=64)
def _cues(clause: str) -> _Cues:
    found = clause.replace(",", " ").split()
    return _Cues(
        has_verb=not VERBS.isdisjoint(found), may_leave_open=not _OPENING.isdisjoint(found), may_deny=not _DENYING.isdisjoint(found),
        may_doubt="?" in clause or not _UNSURE.isdisjoint([word[:5] for word in found]),
    )  # fmt: skip


_JOIN = re.compile(r"(?:,|\band) ")


def assertion(clause: str, start: int, end: int, kind: Kind) -> Assertion:
    """What a clause says of the mention that stands in it from ``start`` to ``end``.

    >>> assertion("no focal consolidation", 9, 22, "finding")
    'absent'
    """
    before, after, cues = clause[max(0, start - REACH) : start], clause[end : end + REACH], _cues(clause)
    is_subject = not cues.has_verb or VERB.search(before) is None
    if cues.may_leave_open and _is_left_open(before, after):
        return "uncertain"
    if kind in ("silhouette", "structure"):
        return _looks(before, after, kind, cues, is_subject=is_subject)
    if cues.may_deny and _is_denied(before, after, is_subject=is_subject):
        return "absent"
    if kind == "vague" or (cues.may_doubt and _is_unsure(before, after, is_subject=is_subject)):
        return "uncertain"
    return "present"


def _is_left_open(before: str, after: str) -> bool:
    if any(not _BETWEEN.search(before, found.end()) for found in _OPEN_BEFORE.finditer(before)):
        return True
    return _OPEN_AFTER.search(after) is not None


def _reaches(gap: str, after: str) -> bool:
    """Whether a denial reaches across the words between it and the mention."""
    if _BETWEEN.search(gap) or _NEW_SUBJECT.search(gap):
        return False
    return not _NEW_STATEMENT.search(gap) or bool(_OR.search(gap) or _OR.search(after))


def _is_denied_before(before: str, after: str) -> bool:
    cues = [found.end() for found in _DENIED_BEFORE.finditer(before)]
    return bool(cues) and _reaches(before[cues[-1] :], after)


def _predicate(after: str) -> str | None:
    """What is said of the mention as a subject: the words behind the first verb; None where another subject has that verb."""
    verb = VERB.search(after)
    if verb is None:
        return None
    between = after[: verb.start()]
    is_others = verb[0] in ("is", "was", "has", "remains", "appears") and _JOIN.search(between) is not None
    return None if is_others else after[verb.start() :]


def _is_denied(before: str, after: str, *, is_subject: bool) -> bool:
    if _is_denied_before(before, after) or _DENIED_NOUN.search(before) or _NORMAL_NOUN.search(before) or _DENIED_BEHIND.match(after):
        return True
    predicate = _predicate(after) if is_subject else None
    if predicate is None or _UNCLEAR.search(predicate):
        return False
    verb = VERB.match(predicate)
    return verb is not None and _DENIED_AFTER.match(predicate[verb.end() :].lstrip()) is not None


def _is_unsure(before: str, after: str, *, is_subject: bool) -> bool:
    if any(not _UNSURE_BETWEEN.search(before, found.end()) for found in _UNSURE_BEFORE.finditer(before)):
        return True
    if _UNSURE_NOUN.search(before) or _OR_BEFORE.search(before) or _OR_BEHIND.match(after) or _UNSURE_BEHIND.match(after):
        return True
    predicate = _predicate(after) if is_subject else None
    return _MAY_BE_THERE.search(after) is not None or (predicate is not None and _UNSURE_AFTER.search(predicate) is not None)


def _look(text: str) -> str | None:
    """What a text says about the looks of an outline: what is said first of enlarged and normal; stable only where neither is said."""
    said = [found.lastgroup for found in _LOOKS.finditer(_ABNORMAL.sub("abnormal", text))]
    return next((name for name in said if name != "stable"), said[0] if said else None)


def _looks(before: str, after: str, kind: Kind, cues: _Cues, *, is_subject: bool) -> Assertion:
    """What is said of an outline: behind it where it is the subject, else before it."""
    if (cues.may_deny and _is_denied_before(before, after)) or _SILHOUETTE_OBJECT.search(before):
        return "absent"
    said = (
        _look(after.partition(" with ")[0])
        if is_subject or after.startswith((", which ", " which ", " that ")) or not VERB.search(after)
        else None
    )
    reach = max((found.end() for found in _BETWEEN.finditer(before) if found[0] != "unchanged"), default=0)
    said = said or _look(before[reach:])
    if said in ("absent", "present"):
        return said
    is_stable = said == "stable" and kind == "silhouette"
    is_unsure = said == "unsure" or is_stable or (cues.may_doubt and _is_unsure(before, after, is_subject=is_subject))
    return "uncertain" if is_unsure else "present"
