"""Invented pictures that look a little like photographs of skin lesions: a spot on skin.

In: a source of chance, and a diagnosis. Out: a ``DrawnLesion`` and its RGB picture, in which all that it says can be seen: the skin type is
the tone of the skin, the diagnosis the colour of the spot, the diameters its size, an elevation its bright edge, and the region (which no
spot shows) where in the picture it lies. No patient stands behind any of them.
"""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from medvl_lib.sample_data import draws

SIDE_PIXELS = 160
SKIN = {1: (250, 226, 212), 2: (240, 206, 184), 3: (222, 180, 148), 4: (190, 142, 106), 5: (140, 96, 66)}
COLOURS = {
    "ACK": (206, 110, 96), "BCC": (226, 140, 150), "MEL": (34, 26, 30), "NEV": (120, 72, 40), "SCC": (178, 44, 50), "SEK": (96, 88, 84),
}  # fmt: skip
REGIONS = ("ABDOMEN", "ARM", "BACK", "CHEST", "EAR", "FACE", "FOOT", "FOREARM", "HAND", "LIP", "NECK", "NOSE", "SCALP", "THIGH")
GRID = 4  # places for lesions, each way: more than there are regions
PIXELS_PER_MM = 3
NUM_GRAINS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLesion:
    """What is drawn."""

    diagnosis: str
    region: str
    skin_type: int
    diameters_mm: tuple[int, int]
    is_elevated: bool
    grains: tuple[tuple[int, int], ...]
    """Pores, which make pictures of the same lesion differ."""

    def image(self) -> Image.Image:
        """The picture, RGB."""
        skin = SKIN[self.skin_type]
        image = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), skin)
        draw = ImageDraw.Draw(image)
        row, column = divmod(REGIONS.index(self.region), GRID)
        step = SIDE_PIXELS // GRID
        x, y = column * step + step // 2, row * step + step // 2
        across, down = (size * PIXELS_PER_MM / 2 for size in self.diameters_mm)
        box = (x - across, y - down, x + across, y + down)
        edge = tuple(min(255, value + 60) for value in skin) if self.is_elevated else COLOURS[self.diagnosis]
        draw.ellipse(box, fill=COLOURS[self.diagnosis], outline=edge, width=3)
        for place in self.grains:
            draw.point(place, fill=tuple(value - 30 for value in skin))
        return image


def grains(chance: Random) -> tuple[tuple[int, int], ...]:
    """Other pores, for another picture of the same lesion."""
    last = SIDE_PIXELS - 1
    return tuple((draws.whole(chance, 0, last), draws.whole(chance, 0, last)) for _ in range(NUM_GRAINS))


def draw_lesion(chance: Random, diagnosis: str) -> DrawnLesion:
    """An invented lesion of a diagnosis."""
    first = draws.whole(chance, 5, 12)
    return DrawnLesion(
        diagnosis=diagnosis, region=draws.pick(chance, REGIONS), skin_type=draws.pick(chance, tuple(SKIN)),
        diameters_mm=(first, draws.whole(chance, 4, first)), is_elevated=draws.pick(chance, (True, False)), grains=grains(chance),
    )  # fmt: skip
