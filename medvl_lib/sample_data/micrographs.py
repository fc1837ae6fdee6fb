"""Invented pictures that look a little like stained tissue: round cells of one colour on a tinted ground, and what can be asked of them.

In: a source of chance. Out: a ``Micrograph``, its RGB picture and questions with answers that can be read off it. No slide, patient or
published figure stands behind any of them.
"""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from medvl_lib.sample_data import draws

SIDE_PIXELS = 112
STAINS = {"purple": (112, 48, 140), "blue": (40, 70, 170), "brown": (120, 72, 30), "red": (178, 40, 52)}
SIZES = {"small": 7, "large": 13}  # radius in pixels
GROUND = (246, 214, 226)
GRID = 4  # places for cells, each way
MANY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Micrograph:
    """What is drawn."""

    stain: str
    size: str
    places: tuple[tuple[int, int], ...]
    """Column and row of each cell in a grid."""
    tint: int
    """How much darker the ground is, which makes pictures of the same cells differ."""

    @property
    def questions(self) -> tuple[tuple[str, str], ...]:
        """Questions in the style of PathVQA, with their answers."""
        return (
            (f"are there more than {MANY} cells?", "yes" if len(self.places) > MANY else "no"),
            ("what colour are the cells?", self.stain),
            ("are the cells small?", "yes" if self.size == "small" else "no"),
        )

    @property
    def description(self) -> str:
        """A sentence about the picture."""
        return f"The picture shows {len(self.places)} {self.size} {self.stain} cells on a pale ground."

    def image(self) -> Image.Image:
        """The picture, RGB."""
        image = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), tuple(value - self.tint for value in GROUND))
        draw = ImageDraw.Draw(image)
        step, radius = SIDE_PIXELS // GRID, SIZES[self.size]
        for column, row in self.places:
            x, y = column * step + step // 2, row * step + step // 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=STAINS[self.stain])
        return image


def draw_micrograph(chance: Random) -> Micrograph:
    """An invented picture."""
    everywhere = [(column, row) for column in range(GRID) for row in range(GRID)]
    return Micrograph(
        stain=draws.pick(chance, tuple(STAINS)), size=draws.pick(chance, tuple(SIZES)),
        places=tuple(draws.some(chance, everywhere, draws.whole(chance, 1, 10))), tint=draws.whole(chance, 0, 40),
    )  # fmt: skip
