"""Cut the DejaVu fonts down to what MedVL's pages draw, so that every machine draws the same pixels.

In: a folder with the DejaVu fonts that ``pages.FONT_FILES`` names (version 2.37, dejavu-fonts.github.io). Out: files of the same names
below ``medvl_lib/fonts`` and the licence that the fonts themselves carry. Run by hand, once; the result is committed, because fonts
differ between systems. The same input gives the same bytes.

    python scripts/subset_fonts.py /usr/share/fonts/truetype/dejavu medvl_lib/fonts
"""

import sys
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from medvl_lib.pages import DRAWABLE_RANGES, FONT_FILES

DROPPED_TABLES = ("kern", "GPOS", "GSUB", "GDEF", "FFTM", "DSIG", "MATH")  # a line's width is then the sum of its characters' widths


def subset(source: Path, target: Path) -> int:
    """Write the subset of one font, hinting kept for crisp small sizes; returns the number of characters it can draw."""
    options = Options(hinting=True, notdef_outline=True, name_IDs=["*"], recalc_timestamp=False, layout_features=[])
    options.drop_tables += list(DROPPED_TABLES)
    font = TTFont(source, recalcTimestamp=False)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=[code for first, last in DRAWABLE_RANGES for code in range(first, last + 1)])
    subsetter.subset(font)
    font.save(target)
    return len(font.getBestCmap())


def write_licence(source: Path, target: Path) -> None:
    """The licence as the font's own name table states it (name 13)."""
    names = TTFont(source)["name"]
    text = names.getDebugName(13).replace("\r\n", "\n").strip()
    preface = f"{names.getDebugName(8)}, {names.getDebugName(5)}, {names.getDebugName(11)}. The fonts beside this file are subsets of them."
    target.write_text(f"{preface}\n\n{text}\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Subset the fonts of the folder in the first argument into the folder in the second."""
    if len(arguments) != 2:
        print(f"found {len(arguments)} arguments; usage: subset_fonts.py <DejaVu folder> <output folder>")
        return 2
    source, target = map(Path, arguments)
    for name in FONT_FILES.values():
        num_characters = subset(source / name, target / name)
        print(f"{target / name}: {num_characters} characters, {(target / name).stat().st_size} bytes")
    write_licence(source / FONT_FILES["sans"], target / "LICENSE-DejaVu.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
