"""Licences: which of those of the data and of the base model is the strictest, and what the hub calls it.

In: a licence as a pair or a dataset states it, in the publisher's words. Out: its rank and its name on the hub. What is not understood, not
stated or not confirmed ranks above everything: nobody has said that it may be passed on. This is an order of caution, and no legal advice.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medvl_lib.models.spec import ModelSpec

DOUBTFUL = re.compile(r"unconfirmed|not stated|none stated|as labelled|as the .* states|per figure|^\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence that is known here."""

    hub: str
    """What the hub calls it; ``other`` where it has no name for it."""
    name: str
    """In words, for ``license_name``."""
    rank: int
    """The higher, the less is allowed."""
    condition: str
    """What follows for whoever passes the weights on."""


PUBLIC = Licence(hub="cc0-1.0", name="CC0-1.0", rank=0, condition="none")
MIT = Licence(hub="mit", name="MIT", rank=1, condition="the notice is kept")
APACHE = Licence(hub="apache-2.0", name="Apache-2.0", rank=2, condition="licence and notices are kept, changes are stated")
CC_BY = Licence(hub="cc-by-4.0", name="CC-BY-4.0", rank=3, condition="the authors are named")
ODBL = Licence(hub="odbl", name="ODbL-1.0", rank=4, condition="the source is named; a derived database is shared alike")
CC_BY_SA = Licence(hub="cc-by-sa-4.0", name="CC-BY-SA-4.0", rank=5, condition="the authors are named; shared alike")
LLAMA = Licence(
    hub="llama3.2", name="Llama 3.2 Community License", rank=6,
    condition="its multimodal models are not licensed to persons and companies in the European Union",
)  # fmt: skip
CC_BY_NC = Licence(hub="cc-by-nc-4.0", name="CC-BY-NC-4.0", rank=7, condition="the authors are named; no commercial use")
CC_BY_NC_SA = Licence(
    hub="cc-by-nc-sa-4.0", name="CC-BY-NC-SA-4.0", rank=8, condition="the authors are named; no commercial use; shared alike"
)
RESEARCH = Licence(hub="other", name="research use only", rank=9, condition="research only, no clinical use")
PHYSIONET = Licence(
    hub="other", name="PhysioNet Credentialed Health Data License 1.5.0", rank=10,
    condition="only to persons who are credentialed for the data and have signed its agreement: do not publish",
)  # fmt: skip
UNKNOWN = Licence(hub="other", name="not stated or not confirmed", rank=11, condition="nobody has allowed it: do not publish")

PATTERNS: tuple[tuple[str, Licence], ...] = (  # the first that matches; doubt was asked before
    (r"physionet", PHYSIONET), (r"cc[ -]by([ -]nc)?[ -]no?d", UNKNOWN),  # adapted weights may be a derivative, which nobody has allowed
    (r"no[ -]?deriv", UNKNOWN), (r"cc[ -]by[ -]nc[ -]sa", CC_BY_NC_SA), (r"cc[ -]by[ -]nc", CC_BY_NC), (r"cc[ -]by[ -]sa", CC_BY_SA),
    (r"cc[ -]by([ -]\d|$|\b)", CC_BY), (r"cc0|cc[ -]zero|public domain", PUBLIC), (r"odbl", ODBL),
    (r"apache-2", APACHE), (r"\bmit\b", MIT),
)  # fmt: skip
HUB_MODELS: Mapping[str, Licence] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": APACHE, "meta-llama/Llama-3.2-11B-Vision-Instruct": LLAMA,
    "microsoft/llava-med-v1.5-mistral-7b": RESEARCH, "google/siglip-base-patch16-224": APACHE,
}  # fmt: skip
"""As their cards on the hub have it."""


def licence_of(stated: str) -> Licence:
    """What a publisher's words mean here.

    >>> licence_of("CC-BY-4.0").hub, licence_of("MIT as labelled on the hub; the pictures' copyright stays").name
    ('cc-by-4.0', 'not stated or not confirmed')
    """
    if DOUBTFUL.search(stated):
        return UNKNOWN
    return next((licence for pattern, licence in PATTERNS if re.search(pattern, stated, re.IGNORECASE)), UNKNOWN)


def licence_of_model(spec: ModelSpec) -> Licence:
    """That of the weights that a line starts from: the small ones are MedVL's own, a user's directory states none."""
    if spec.source == "tiny":
        return APACHE
    return HUB_MODELS.get(spec.hub_id, UNKNOWN) if spec.source == "hub" else UNKNOWN


def strictest(licences: Iterable[Licence]) -> Licence:
    """The one that allows least: what the weights are passed on under, if at all."""
    return max(licences, key=lambda licence: licence.rank)
