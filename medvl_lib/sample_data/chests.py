"""Invented pictures that look a little like radiographs of the chest, and what English and Chinese can say of them.

In: a source of chance. Out: a ``Chest``: its gray picture, a report, a caption, and questions with answers in both languages, all of which
can be read off the picture. The patient's left is on the picture's right, as on a radiograph. No patient stands behind any of them.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw

from medvl_lib.sample_data import draws

SIDE_PIXELS = 160
SIDES = {"left": "左", "right": "右"}
ZONES = {"upper": "上", "middle": "中", "lower": "下"}
SIZES = {"small": 5, "medium": 9, "large": 14}  # radius in pixels
SIZES_ZH = {"small": "小", "medium": "中等大小", "large": "大"}
HEART_X, HEART_Y, HEART_HALF_HEIGHT = 88, 108, 30
NUM_GRAINS = 60


class Opacity(NamedTuple):
    """A round spot, in pixels."""

    x: int
    y: int
    radius: int


class Question(NamedTuple):
    """A question in one language, with its answer."""

    language: str
    text: str
    answer: str
    answer_type: str
    """As SLAKE calls it: OPEN or CLOSED."""
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """What is drawn."""

    side: str
    """Where the opacity lies, as the patient would say; empty where there is none."""
    zone: str
    size: str
    has_large_heart: bool
    grains: tuple[tuple[int, int], ...]
    """Specks of film, which make pictures of the same findings differ."""

    @property
    def heart_half_width(self) -> int:
        """Of the heart, in pixels."""
        return 30 if self.has_large_heart else 18

    @property
    def opacity(self) -> "Opacity | None":
        """Where the opacity is drawn; None where there is none."""
        if not self.side:
            return None
        return Opacity(115 if self.side == "left" else 45, {"upper": 42, "middle": 72, "lower": 108}[self.zone], SIZES[self.size])

    def image(self) -> Image.Image:
        """The picture, 8 bits of gray."""
        image = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 150)
        draw = ImageDraw.Draw(image)
        for left in (18, 88):
            draw.ellipse((left, 16, left + 54, 140), fill=36)
        half = self.heart_half_width
        draw.ellipse((HEART_X - half, HEART_Y - HEART_HALF_HEIGHT, HEART_X + half, HEART_Y + HEART_HALF_HEIGHT), fill=190)
        if (opacity := self.opacity) is not None:
            x, y, radius = opacity
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=225)
        for place in self.grains:
            draw.point(place, fill=100)
        return image

    def report(self, language: str) -> str:
        """What a radiologist might dictate."""
        if language == "zh":
            found = f"{SIDES[self.side]}肺{ZONES[self.zone]}野见一{SIZES_ZH[self.size]}圆形致密影。" if self.side else "双肺野清晰。"
            return found + ("心影增大。" if self.has_large_heart else "心影大小正常。")
        found = f"A {self.size} round opacity in the {self.side} {self.zone} zone." if self.side else "The lungs are clear."
        return f"{found} {'The heart is enlarged.' if self.has_large_heart else 'The heart is of normal size.'}"

    def caption(self) -> str:
        """What might stand below a figure."""
        heart = "with an enlarged heart" if self.has_large_heart else "with a heart of normal size"
        found = f"a {self.size} round opacity (arrow) in the {self.side} {self.zone} zone" if self.side else "clear lungs"
        return f"Chest radiograph {heart} shows {found}."

    def questions(self) -> tuple[Question, ...]:
        """Open and closed questions in both languages."""
        yes, shi = ("Yes", "是的") if self.side else ("No", "不是")
        where = (f"{self.side.capitalize()} lung", f"{SIDES[self.side]}肺") if self.side else ("Nowhere", "没有")
        heart = ("Enlarged", "增大") if self.has_large_heart else ("Normal", "正常")
        return (
            Question("en", "Is there an opacity in the lungs?", yes, "CLOSED", "Abnormality"),
            Question("zh", "肺部有致密影吗？", shi, "CLOSED", "Abnormality"),
            Question("en", "Where is the opacity?", where[0], "OPEN", "Position"),
            Question("zh", "致密影在哪里？", where[1], "OPEN", "Position"),
            Question("en", "What is the size of the heart?", heart[0], "OPEN", "Size"),
            Question("zh", "心脏大小如何？", heart[1], "OPEN", "Size"),
        )


def draw_chest(chance: Random) -> Chest:
    """An invented chest."""
    side = draws.pick(chance, ("", *SIDES, *SIDES))
    last = SIDE_PIXELS - 1
    return Chest(
        side=side, zone=draws.pick(chance, tuple(ZONES)) if side else "", size=draws.pick(chance, tuple(SIZES)) if side else "",
        has_large_heart=draws.pick(chance, (True, False)),
        grains=tuple((draws.whole(chance, 0, last), draws.whole(chance, 0, last)) for _ in range(NUM_GRAINS)),
    )  # fmt: skip
