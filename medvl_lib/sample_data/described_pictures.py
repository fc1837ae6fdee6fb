"""Invented pictures of three kinds with what can be said of them: what the small model of described pictures learns from.

In: a distribution, the name of a part and a number. Out: ``DescribedPicture``: a knee, a skin lesion or a chest of the generators beside
this one, a request and the response, which can be read off the picture. The words are not those of the datasets' templates, though of the
same kind: what they say beyond it is left to fine-tuning. The same three give the same picture for ever; parts share none.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Literal, get_args

import numpy as np
from PIL import Image

from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.labels import KELLGREN_LAWRENCE, LESIONS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import draw_chest
from medvl_lib.sample_data.knees import draw_knee
from medvl_lib.sample_data.lesions import draw_lesion

REVISION = 1  # first version
Kind = Literal["knee", "lesion", "chest"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SKIN_TYPES = {1: "very light", 2: "light", 3: "medium", 4: "brown", 5: "dark"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A question about a picture, and its answer."""

    language: str
    request: str
    response: str


@dataclass(frozen=True, kw_only=True)
class DescribedPicture:
    """One picture and what is asked of it."""

    example_id: str
    kind: Kind
    category: str
    """The class of the picture, as its description says it; what is to be seen of a chest."""
    said: Said
    picture: Image.Image
    noise: float
    """Standard deviation of the values' noise (0-255)."""
    noise_seed: int

    @property
    def request(self) -> str:
        """What is asked."""
        return self.said.request

    @property
    def response(self) -> str:
        """What can be answered."""
        return self.said.response

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Its one picture goes by the example's id."""
        return (self.example_id,)

    def read(self, image_id: str) -> bytes:
        """The file of its picture."""
        del image_id
        return self.png

    @cached_property
    def png(self) -> bytes:
        """The picture, noisy; NumPy promises the sequence of ``RandomState`` for ever, that of no newer one."""
        values = np.asarray(self.picture, dtype=np.float64)
        values = values + np.random.RandomState(self.noise_seed).standard_normal(values.shape) * self.noise
        buffer = io.BytesIO()
        Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDistribution:
    """What pictures are drawn, and what is asked of them."""

    name: str
    """What a figure calls it."""
    kinds: tuple[Kind, ...]
    grades: tuple[int, ...]
    """Kellgren-Lawrence grades of the knees."""
    diagnoses: tuple[str, ...]
    """Codes of the lesions' diagnoses."""
    question_share: float
    """Share of the requests that ask for one thing alone instead of a description (0-1)."""
    chinese_share: float
    """Share of the requests about chests that are Chinese (0-1)."""
    max_noise: float
    """Largest standard deviation of the values' noise (0-255)."""

    def __post_init__(self) -> None:
        if not (self.kinds and self.grades and self.diagnoses):
            raise ValueError("no kind, grade or diagnosis: there must be one of each")
        if not all(0 <= share <= 1 for share in (self.question_share, self.chinese_share)) or self.max_noise < 0:
            raise ValueError(f"shares of {self.question_share} and {self.chinese_share}, noise {self.max_noise}: shares are from 0 to 1")

    def draw(self, part: str, number: int) -> DescribedPicture:
        """The picture of these three."""
        example_id = f"described_pictures/{part}/{number:07d}"
        chance = draws.seeded(example_id)
        kind = draws.pick(chance, self.kinds)
        picture, category, description, questions = _DRAWN[kind](self, chance)
        said = draws.pick(chance, questions) if chance.random() < self.question_share else description
        return DescribedPicture(
            example_id=example_id, kind=kind, category=category, said=said, picture=picture, noise=chance.random() * self.max_noise,
            noise_seed=draws.whole(chance, 0, 2**31 - 1),
        )  # fmt: skip

    def at_step(self, step: int) -> "PictureDistribution":
        """What the pictures of one step are drawn from: the same at every step."""
        del step
        return self

    def texts(self, part: str, number: int) -> tuple[str, str]:
        """Request and response of a picture."""
        drawn = self.draw(part, number)
        return drawn.request, drawn.response


_Drawn = tuple[Image.Image, str, Said, Sequence[Said]]


def _english(*pairs: tuple[str, str]) -> list[Said]:
    return [Said(language="en", request=request, response=response) for request, response in pairs]


def _knee(distribution: PictureDistribution, chance: Random) -> _Drawn:
    knee = draw_knee(chance, draws.pick(chance, distribution.grades), shows_side=False)
    grade = KELLGREN_LAWRENCE[knee.grade]
    described = f"Radiograph of a {knee.side} knee, Kellgren-Lawrence grade {grade.grade} ({grade.name})."
    description, *questions = _english(
        (DESCRIBE["en"], described),
        ("Which Kellgren-Lawrence grade is this knee?", f"Grade {grade.grade}"),
        ("Is this a left or a right knee?", knee.side.capitalize()),
    )
    return knee.image(), str(grade.grade), description, questions


def _lesion(distribution: PictureDistribution, chance: Random) -> _Drawn:
    drawn = draw_lesion(chance, draws.pick(chance, distribution.diagnoses))
    lesion = LESIONS[drawn.diagnosis]
    skin = SKIN_TYPES[drawn.skin_type]
    description, *questions = _english(
        (DESCRIBE["en"], f"Clinical photograph of a skin lesion on {skin} skin: {lesion.name} ({lesion.code})."),
        ("What is the diagnosis of this lesion?", f"{lesion.name.capitalize()} ({lesion.code})"),
        ("Is the lesion elevated?", "Yes" if drawn.is_elevated else "No"),
        ("What is the tone of the skin?", skin.capitalize()),
    )
    return drawn.image(), lesion.code, description, questions


def _chest(distribution: PictureDistribution, chance: Random) -> _Drawn:
    chest = draw_chest(chance)
    language = "zh" if chance.random() < distribution.chinese_share else "en"
    questions = [
        Said(language=language, request=item.text, response=item.answer) for item in chest.questions() if item.language == language
    ]
    seen = f"{chest.side} {chest.zone}".strip() or "clear"
    return chest.image(), seen, Said(language=language, request=DESCRIBE[language], response=chest.report(language)), questions


_DRAWN = {"knee": _knee, "lesion": _lesion, "chest": _chest}

SHIFTED_DIAGNOSES = ("SCC", "SEK")
LEARNED = PictureDistribution(
    name="descriptions", kinds=KINDS, grades=tuple(grade.grade for grade in KELLGREN_LAWRENCE),
    diagnoses=tuple(code for code in LESIONS if code not in SHIFTED_DIAGNOSES), question_share=0.3, chinese_share=0.35, max_noise=8.0,
)  # fmt: skip
"""What the small model is trained on: every grade, and four of the six diagnoses."""
SHIFTED = replace(LEARNED, name="new diagnoses", kinds=("lesion",), diagnoses=SHIFTED_DIAGNOSES, question_share=0.0)
"""Diagnoses that it never saw."""
ALL = replace(LEARNED, name="all", diagnoses=tuple(LESIONS), question_share=0.5)
"""Everything that can be said."""
