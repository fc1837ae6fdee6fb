"""Invented pictures that look a little like radiographs of knees: two bones, the gap between them, and what grows at its edges.

In: a source of chance, and a Kellgren-Lawrence grade. Out: a ``Knee`` and its gray picture, in which the grade can be seen: the gap
narrows, spurs grow, the bones' ends whiten; and the side, where the fibula is drawn beside the tibia. No patient stands behind any of them.

The pictures that the small models learned from, and that their cards were measured on, have the fibula behind the tibia, where nobody sees
it: whoever learned from them can only guess the side.
"""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from medvl_lib.sample_data import draws

SIDE_PIXELS = 224  # as the pictures of the real sets in folders train, val and test
GAPS = (30, 24, 20, 12, 4)  # pixels between the bones, by grade
SPURS = (0, 1, 2, 3, 4)
SCLEROTIC_FROM = 3  # the grade from which the bones' ends are whiter than the bones
NUM_GRAINS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """What is drawn."""

    grade: int
    side: str
    """``left`` or ``right``: the fibula lies to the picture's right in a left knee, seen from the front."""
    shows_side: bool
    """Whether the fibula lies beside the tibia; else it is behind it, and the side cannot be seen."""
    shift: int
    bone: int
    """Gray value of the bones."""
    grains: tuple[tuple[int, int], ...]
    """Specks of film, which make pictures of the same grade differ."""

    def image(self) -> Image.Image:
        """The picture, 8 bits of gray."""
        image = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 18)
        draw = ImageDraw.Draw(image)
        left, right, middle = 50 + self.shift, 174 + self.shift, SIDE_PIXELS // 2
        upper, lower = middle - GAPS[self.grade] // 2, middle + (GAPS[self.grade] + 1) // 2
        beside = 16 if self.shows_side else 0
        fibula = right - 14 + beside if self.side == "left" else left - beside
        draw.rectangle((fibula, lower + 24, fibula + 14, SIDE_PIXELS), fill=self.bone - 40)
        draw.rounded_rectangle((left, -20, right, upper), radius=22, fill=self.bone)
        draw.rounded_rectangle((left, lower, right, SIDE_PIXELS + 20), radius=18, fill=self.bone)
        for edge, inward in ((upper, -1), (lower, 1)):
            if self.grade >= SCLEROTIC_FROM:
                draw.line((left + 20, edge + 3 * inward, right - 20, edge + 3 * inward), fill=min(255, self.bone + 50), width=6)
        corners = ((left, upper - 12, -1), (right, lower + 12, 1), (right, upper - 12, 1), (left, lower + 12, -1))
        for x, y, outward in corners[: SPURS[self.grade]]:
            size = 6 + 3 * self.grade
            draw.polygon([(x - 4 * outward, y - size), (x + size * outward, y), (x - 4 * outward, y + size)], fill=self.bone)
        for x, y in self.grains:
            draw.point((x, y), fill=120)
        return image


def draw_knee(chance: Random, grade: int, *, shows_side: bool) -> Knee:
    """An invented knee of a grade."""
    last = SIDE_PIXELS - 1
    return Knee(
        grade=grade, side=draws.pick(chance, ("left", "right")), shows_side=shows_side, shift=draws.whole(chance, -8, 8),
        bone=draws.whole(chance, 150, 190),
        grains=tuple((draws.whole(chance, 0, last), draws.whole(chance, 0, last)) for _ in range(NUM_GRAINS)),
    )  # fmt: skip
