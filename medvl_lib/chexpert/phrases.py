"""What counts as a mention of an observation, and what only looks like one.

In: nothing. Out: ``MENTION``, a pattern over a cleaned sentence, and ``named`` for what a match of it mentions. The phrases are those of
chexpert-labeler @ 44ddeb3, ``phrases/mention`` and ``phrases/unmention`` (MIT, copyright 2018 Stanford Machine Learning Group: see
LICENSE-chexpert-labeler.txt), written as stems that begin a word. What was changed, and why, stands beside each:

* The publisher looks for substrings; here a phrase begins a word, so that ``endplate`` is no plate. The compounds that a substring finds
  rightly (hydropneumothorax, bronchopneumonia) are listed.
* Words that a stem would take along wrongly are taken out by a look ahead: plate-like atelectasis is no device.
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from medvl_lib.chexpert.observations import DEVICES, NO_FINDING

Kind = Literal["finding", "silhouette", "structure", "vague"]
"""How a mention is read: a ``finding`` is there when it is named; of a ``silhouette`` or a ``structure`` its looks decide ("normal" denies
it), and of a silhouette "stable" leaves it open; what is ``vague`` is uncertain unless it is denied."""

_THE_HEART = r"the heart(?! failure| rate| border)"
_HEART = r"heart(?= (?:is|appears|remains|normal|enlarged|mildly|moderately|markedly|not)\b)"
"""The publisher's list has "the heart" alone: notes leave the article out."""
_SILHOUETTE = (
    _THE_HEART, _HEART, "heart size", "cardiac size", "cardiac shadow", "cardiac contour", "cardiac silhouette", "mediastinum", "contour",
    "mediastinal configuration", "mediastinal silhouette", "pericardial silhouette", "cardiac silhouette and vascularity",
    "cardiomediastinum", "cardiomediastinal contour", "cardiomediastinal silhouette", "cardiomediastinal configuration",
)  # fmt: skip
_STRUCTURE = ("interstitial marking", "interstitial pattern", "density", "fissure")
_VAGUE = ("vascular congestion", "pulmonary congestion", "indistinctness", "vascular prominence")

PHRASES: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "mediastinum", "cardiomediastinum", "contour", "mediastinal configuration", "mediastinal silhouette", "pericardial silhouette",
        "cardiac silhouette and vascularity", "cardiomediastinal contour", "cardiomediastinal silhouette",
        "cardiomediastinal configuration",
    ),
    "Cardiomegaly": (
        "cardiomegaly", _THE_HEART, _HEART, "heart size", "cardiac enlargement", "cardiac size", "cardiac shadow",
        "cardiac contour", "cardiac silhouette", "enlarged heart",
    ),
    "Lung Lesion": (
        r"mass(?!ive|engale)", "nodular density", "nodular densities", "nodular opacity", "nodular opacities", "nodular opacification",
        "nodule", "micronodule", "lump", "cavitary lesion", "carcinoma", "neoplasm", "tumor",
    ),
    "Lung Opacity": (
        "opaci", "decreased translucency", "increased density", "airspace disease", "air-space disease", "air space disease", "infiltrate",
        "infiltration", "interstitial marking", "interstitial pattern", "interstitial lung", "reticular pattern", "reticular marking",
        "reticulation", "parenchymal scarring", "peribronchial thickening", "wall thickening", "scar",
    ),
    "Edema": (
        "edema", "heart failure", "chf", "vascular congestion", "pulmonary congestion", "indistinctness", "vascular prominence",
    ),
    "Consolidation": ("consolidat",),
    "Pneumonia": ("pneumonia", "bronchopneumonia", "infection", "infectious"),
    "Atelectasis": ("atelecta", "collapse"),
    "Pneumothorax": ("pneumothorax", "pneumothoraces", "hydropneumothorax", "hemopneumothorax"),
    "Pleural Effusion": ("pleural fluid", "effusion"),
    "Pleural Other": (
        "pleural thickening", "fibrosis", "fibrothorax", "pleural scar", "pleural parenchymal scar", "pleuro-parenchymal scar",
        "pleuro-pericardial scar",
    ),
    "Fracture": ("fracture",),
    DEVICES: (
        "pacer", r"line\b", r"lines\b", "picc", r"tube(?!rc|ros)", r"valve\b", "valves", "catheter", "pacemaker", "hardware", "arthroplast",
        "marker", r"icd\b", "defib", "device", r"drain\b", r"plate\b(?![- ]?like)", r"plates\b", "screw", "cannula", "apparatus",
        r"coils?\b", r"support\b", "equipment", "mediport",
    ),
    NO_FINDING: (
        "emphysema", "blunt", "density", "elevation", "eventration", "scoliosis", "degenera", "calcifi", "hyperinflat", "bronchospasm",
        "asthma", "hernia", "copd", "interstitial markings", "plaque", "osteophytosis", "aortic disease", "bronchiolitis",
        "airways disease", "thickening", "cephalization", "aspiration", "bullae", "contusion", "atherosclero", "osteopenia", "metastasis",
        "granuloma", "pneumomediastinum", "pneumoperitoneum", "osteodystrophy", "cuffing", "irregular lucency", "inflam", "fissure",
        "hypertension", "prominen", "kyphosis", "defib", "hyperexpansion", "bullet", "reticula", "thoracentesis", "bronchitis",
        "volume loss", "deformity", "hemorrhage", "hematoma", "radiopaque", "aerophagia", "arthropathy", "tracheostomy",
    ),
}  # fmt: skip
"""What mentions each observation; those of No Finding only stand against it."""

_OUTLINE = r"(?:heart(?: size)?|cardiac (?:size|shadow|contour|silhouette)|(?:cardio)?mediastinum|contour|(?:cardio)?mediastinal \w+)"
_PLACE = re.compile(  # the publisher has: over the, overly the, in the
    r"(?:over|overly|overlying|in|behind|near|through|adjacent to|posterior to|anterior to) the (?:(?:superior|left|right) )?" + _OUTLINE
)
UNMENTION: dict[str, re.Pattern[str]] = {
    "Lung Lesion": re.compile(r"calcified (?:\w+ )?nodul"),
    "Pleural Effusion": re.compile(r"pericardial (?:\w+ or )?effusion"),
    "Cardiomegaly": _PLACE,
    "Enlarged Cardiomediastinum": _PLACE,
    DEVICES: re.compile(
        r"kerley(?:'s)?[ -](?:[abc][ -])?lines?"
        r"|(?:fracture|air|septal|fissure|skin|mid|midline|midclavicular|axillary|interstitial) lines?\b"
    ),
}
"""What is no mention where it overlaps one: a calcified nodule, a pericardial effusion, and "over the heart", which is a place. The
lines that are no devices are not the publisher's."""
_PLEURAL_SCAR = re.compile(r"pleur\S*[ ](?:parenchymal[ ]|pericardial[ ])?scar|pleuro-\w+[ ]scar")

_EVERYTHING = sorted({phrase for phrases in PHRASES.values() for phrase in phrases}, key=len, reverse=True)


def _tree(phrases: list[str], depth: int = 0) -> str:
    """The phrases as one pattern that looks at each first letter once: a report is read word by word, and most words are none of them."""
    groups: dict[str, list[str]] = {}
    for phrase in phrases:
        groups.setdefault(phrase[:1], []).append(phrase)
    if depth == 2 or any(not first.isalpha() for first in groups):
        return f"(?:{'|'.join(phrases)})"
    return "(?:{})".format("|".join(f"{first}{_tree([phrase[1:] for phrase in found], depth + 1)}" for first, found in groups.items()))


MENTION = re.compile(rf"\b(?:{_tree(_EVERYTHING)})")
"""A mention of anything, the longest phrase where several begin at one place."""


_TRIGGERS = frozenset(phrase.removeprefix("the ")[:3] for phrase in _EVERYTHING)


def may_mention(sentence: str) -> bool:
    """Whether a word begins like a phrase: most sentences have none, and are not looked at any further."""
    return not _TRIGGERS.isdisjoint([word[:3] for word in sentence.replace("-", " ").split()])


class Named(NamedTuple):
    """What a mention names, and how it is read."""

    observations: tuple[str, ...]
    kind: Kind


def _is_there(phrase: str, text: str) -> bool:
    stem, looks_ahead, _ = phrase.partition("(?=")
    return re.fullmatch(stem, text) is not None if looks_ahead else re.search(rf"\b{phrase}", text) is not None


def is_unmentioned(observation: str, sentence: str, start: int, end: int) -> bool:
    """Whether what stands from ``start`` to ``end`` overlaps something that only looks like a mention."""
    pattern = UNMENTION.get(observation)
    if pattern is None or (pattern is _PLACE and " the " not in sentence):  # most outlines are no place, and patterns are slow
        return False
    return any(found.start() < end and start < found.end() for found in pattern.finditer(sentence))


@lru_cache(maxsize=4096)
def named(matched: str) -> Named:
    """What the text of a match mentions: all observations whose phrases stand in it.

    >>> named("nodular opacity").observations
    ('Lung Lesion', 'Lung Opacity')
    """
    found = tuple(name for name, phrases in PHRASES.items() if any(_is_there(phrase, matched) for phrase in phrases))
    if _PLEURAL_SCAR.search(matched):
        found = tuple(name for name in found if name != "Lung Opacity")
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("vague", _VAGUE), ("silhouette", _SILHOUETTE), ("structure", _STRUCTURE))
    for kind, phrases in kinds:
        if any(_is_there(phrase, matched) for phrase in phrases):
            return Named(found, kind)
    return Named(found, "finding")
