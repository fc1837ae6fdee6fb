"""Identifiers: what in a request or an answer may say who the patient is, told beside the answer. No model and no wire here.

In: a picture's bytes, or a text. Out: ``Identifier`` rows with their kind and place, never with what they say. A tripwire: what it finds is
worth a look, and that it finds nothing does not make anything anonymous. Names in running text are not found, nor what a picture shows and
no answer reads out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from medvl_lib import dicom, images

Kind = Literal[
    "dicom", "exif", "e_mail_address", "phone_number", "social_security_number", "resident_number", "record_number", "birth_date",
    "patient_name", "postal_address",
]  # fmt: skip
NAMING_EXIF = {
    0x010E: "ImageDescription", 0x013B: "Artist", 0x8298: "Copyright", 0x8825: "GPSInfo", 0x9C9B: "XPTitle", 0x9C9C: "XPComment",
    0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords", 0x9C9F: "XPSubject", 0xA430: "CameraOwnerName",
}  # fmt: skip
"""EXIF tags in which devices and people write names, places or words."""

DATE = r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}\.? \w{3,9}\.?,? \d{4}|\w{3,9}\.? \d{1,2},? \d{4}|\d{4}年\d{1,2}月\d{1,2}日)"
PATTERNS: dict[Kind, re.Pattern[str]] = {
    "e_mail_address": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"),
    "social_security_number": re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    "resident_number": re.compile(r"(?<!\w)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\w)"),
    "phone_number": re.compile(
        r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
        r"|(?<![\w.])\+\d{1,3}(?:[ .-]?\d{2,4}){2,4}(?!\w)|(?<!\w)1[3-9]\d{9}(?!\w)"
    ),
    "record_number": re.compile(
        r"(?:\bMRN|\b(?:medical record|patient|hospital|accession|chart)[ ]?(?:id|no\.?|number)|病历号|住院号|门诊号)[ \t]*[:#：]?[ \t]*"
        r"(?=[A-Z-]{0,6}\d)[A-Z\d][A-Z\d-]{2,19}(?!\w)",
        re.IGNORECASE,
    ),
    "birth_date": re.compile(
        rf"(?:\bDOB|\bD\.O\.B\.|\b(?:date of birth|birth ?date|born(?: on)?)|出生日期|生日)[ \t]*[:：]?[ \t]*{DATE}", re.IGNORECASE
    ),
    "patient_name": re.compile(
        r"(?:\b(?:patient(?:'s)?(?: name)?|name of (?:the )?patient|name)|患者姓名|病人姓名|姓名)[ \t]*[:：][ \t]*[^\W\d_][^\n:：|]{1,60}",
        re.IGNORECASE,
    ),
    "postal_address": re.compile(r"(?:\b(?:home |postal )?address|家庭住址|住址|地址)[ \t]*[:：][ \t]*[^\s][^\n]{4,80}", re.IGNORECASE),
}  # fmt: skip
"""Kind -> how it is written in English or Chinese. Every repetition is bounded, so that no text takes long."""
RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
RESIDENT_CHECKS = "10X98765432"  # GB 11643-1999


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """Something that may say who the patient is."""

    where: str
    """``answer``, ``prompt``, ``turn 1`` of a chat, or ``picture 2``."""
    kind: Kind
    detail: str
    """The tags that are filled, or the words "characters 12 to 24"; never what they say."""


def of_text(text: str, where: str) -> Iterator[Identifier]:
    """What a text may say of a patient, in its order.

    >>> [(found.kind, found.detail) for found in of_text("Sodium 139 mmol/L. MRN: 00412-7", "answer")]
    [('record_number', 'characters 19 to 31')]
    """
    found: list[tuple[int, int, Kind]] = sorted(
        (match.start(), match.end(), kind)
        for kind, pattern in PATTERNS.items() for match in pattern.finditer(text)
        if kind != "resident_number" or _is_resident_number(match[0])
    )  # fmt: skip
    for start, end, kind in found:
        yield Identifier(where=where, kind=kind, detail=f"characters {start} to {end}")


def _is_resident_number(text: str) -> bool:
    """Whether the last character is the check of the other seventeen: most numbers of eighteen digits are none."""
    total = sum(int(digit) * weight for digit, weight in zip(text, RESIDENT_WEIGHTS, strict=False))
    return RESIDENT_CHECKS[total % 11] == text[-1].upper()


def of_picture(data: bytes, where: str = "picture") -> Iterator[Identifier]:
    """What a picture's file says beside its pixels: of DICOM why it would not be taken into a training set, of others their EXIF."""
    if dicom.is_dicom(data):
        if (why := dicom.refusal(data)) is not None:
            yield Identifier(where=where, kind="dicom", detail=why.detail)
        return
    try:
        with images.opened(data) as picture:
            tags = [NAMING_EXIF[tag] for tag, value in picture.getexif().items() if tag in NAMING_EXIF and value]
    except images.DECODING_ERRORS:
        return  # whether it is a picture at all is uploads' to say
    if tags:
        yield Identifier(where=where, kind="exif", detail=f"{', '.join(tags)}: not empty")
