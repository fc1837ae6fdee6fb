"""Endless invented pictures with captions of what can be seen, and of a knee's side, which cannot: what the small encoder learns from.

In: the name of a part and a number. Out: a ``CaptionedPicture``: a knee, a skin lesion or a chest as the invented sets draw them, worded as
their datasets word it, and beside that what those sets never say: how bright the film is and where on it the knee lies. A part is an
endless row of its own; equal names and numbers give equal bytes. No patient stands behind any of them.

    draw_picture("held_out", 0).caption
    "Clinical photograph of a skin lesion on the thigh, 9 x 6 mm, elevated, skin type 2: nevus (NEV)."
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from PIL import Image

from medvl_lib.datasets import knee_xray, pad_ufes_20
from medvl_lib.labels import KELLGREN_LAWRENCE, LESIONS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import draw_chest
from medvl_lib.sample_data.knees import draw_knee
from medvl_lib.sample_data.lesions import draw_lesion
from medvl_lib.sample_data.pathvqa import encoded

REVISION = 1  # first version
KINDS = ("knee", "lesion", "lesion", "chest")  # one after the other: every part has the same mix
FILMS: Mapping[str, float] = {"dark": 0.65, "ordinary": 1.0, "bright": 1.35}
"""How bright a film is, and what its gray values are multiplied with."""
FILMS_ZH: Mapping[str, str] = {"dark": "胶片偏暗。", "ordinary": "", "bright": "胶片偏亮。"}
CHINESE_EVERY = 3  # of the chests
EDGE_PIXELS = 4  # a knee that lies less far from the middle lies in the middle


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedPicture:
    """A picture and what can be seen on it."""

    picture_id: str
    """Part and number."""
    png: bytes
    caption: str
    language: str
    category: str
    """The class that a classifier would name: the grade, the diagnosis, an opacity or none."""


class _Drawn(NamedTuple):
    image: Image.Image
    caption: str
    language: str
    category: str


def draw_picture(part: str, number: int) -> CaptionedPicture:
    """The picture of a part with a number."""
    chance = draws.seeded(f"captioned_pictures/{part}/{number}")
    drawn = DRAW[KINDS[number % len(KINDS)]](chance)
    return CaptionedPicture(
        picture_id=f"{part}/{number:06d}", png=encoded(drawn.image, "PNG"), caption=drawn.caption, language=drawn.language,
        category=drawn.category,
    )  # fmt: skip


def _exposed(image: Image.Image, film: str) -> Image.Image:
    factor = FILMS[film]
    return image.point([min(255, round(value * factor)) for value in range(256)])


def _film(chance: Random) -> str:
    return draws.pick(chance, tuple(FILMS))


def _knee(chance: Random) -> _Drawn:
    knee = draw_knee(chance, draws.whole(chance, 0, len(KELLGREN_LAWRENCE) - 1), shows_side=False)
    grade, film = KELLGREN_LAWRENCE[knee.grade], _film(chance)
    described = knee_xray.TEMPLATE.format(side=f"{knee.side} ", grade=grade.grade, name=grade.name, findings=grade.findings)
    place = "left of" if knee.shift < -EDGE_PIXELS else "right of" if knee.shift > EDGE_PIXELS else "in"
    return _Drawn(_exposed(knee.image(), film), f"{described} It lies {place} the middle of {_a_film(film)}.", "en", f"KL {grade.grade}")


def _a_film(film: str) -> str:
    return f"a{'n' if film == 'ordinary' else ''} {film} film"


def _lesion(chance: Random) -> _Drawn:
    lesion = draw_lesion(chance, draws.pick(chance, tuple(LESIONS)))
    first, second = lesion.diameters_mm
    elevated = "elevated" if lesion.is_elevated else "not elevated"
    seen = f" on the {lesion.region.lower()}, {first} x {second} mm, {elevated}, skin type {lesion.skin_type}"
    caption = pad_ufes_20.TEMPLATE.format(seen=seen, name=LESIONS[lesion.diagnosis].name, code=lesion.diagnosis)
    return _Drawn(lesion.image(), caption, "en", lesion.diagnosis)


def _chest(chance: Random) -> _Drawn:
    chest, film = draw_chest(chance), _film(chance)
    category, image = "opacity" if chest.side else "clear", _exposed(chest.image(), film)
    if draws.whole(chance, 1, CHINESE_EVERY) == 1:
        return _Drawn(image, chest.report("zh") + FILMS_ZH[film], "zh", category)
    return _Drawn(image, f"{chest.report('en')} It is {_a_film(film)}.", "en", category)


DRAW: Mapping[str, Callable[[Random], _Drawn]] = {"knee": _knee, "lesion": _lesion, "chest": _chest}
