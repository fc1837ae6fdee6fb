"""Invented skin lesions in the layout of PAD-UFES-20: ``metadata.csv`` and three folders of pictures, the last one nested in itself.

In: how many patients there shall be, and a seed. Out: the table (CRLF) and the pictures, one to three of each patient. As in the real set,
rows that nobody was asked for have empty clinical columns, some answers are UNK, BRASIL stands beside BRAZIL, a diameter is 0.0, one lesion
id belongs to two patients, and every third picture is RGBA. Broken on purpose: a row whose picture is missing, one with an unknown
diagnosis, one of which the end is missing, and a picture without a row.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medvl_lib.datasets.pad_ufes_20 import COLUMNS, TABLE
from medvl_lib.labels import LESIONS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.lesions import DrawnLesion, draw_lesion, grains
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"patients": 30}
"""Patients with good rows; the broken rows come on top."""

FOLDERS = ("imgs_part_1", "imgs_part_2", "imgs_part_3/imgs_part_3")
TRANSPARENT_EVERY = 3
UNASKED_EVERY = 3  # 804 of 2,298 real rows
SECOND_LESION_EVERY = 4
ORIGINS = ("POMERANIA", "GERMANY", "ITALY", "BRAZIL", "BRASIL", "UNK")
FIRST_LESION = 100
README = """# Invented data: skin lesions

Every picture and row in this folder was made up by a program; no patient stands behind any of them. Licence: CC0-1.0. The files have the
layout of PAD-UFES-20: `{table}` and `imgs_part_1` to `imgs_part_3`. Broken on purpose: a row whose picture is missing, one with an unknown
diagnosis, a last row that is cut, a picture without a row. Seed: {seed}.
"""


def _clinical(seed: int, number: int) -> dict[str, str]:
    """What a patient was asked; nothing of those who were not."""
    chance = draws.seeded(f"pad_ufes_20/{seed}/patient/{number}")
    yes_no = ("smoke", "drink", "pesticide", "skin_cancer_history", "cancer_history", "has_piped_water", "has_sewage_system")
    asked = {name: draws.pick(chance, ("True", "False")) for name in yes_no}
    asked |= {f"background_{parent}": draws.pick(chance, ORIGINS) for parent in ("father", "mother")}
    asked |= {"gender": draws.pick(chance, ("FEMALE", "MALE"))}
    age = str(draws.whole(chance, 18, 88))
    return {"age": age} if number % UNASKED_EVERY == UNASKED_EVERY - 1 else {"age": age, **asked}


def _row(seed: int, patient: int, lesion: int, drawn: DrawnLesion, picture: int) -> dict[str, str]:
    chance = draws.seeded(f"pad_ufes_20/{seed}/row/{picture}")
    clinical = _clinical(seed, patient)
    is_asked = "gender" in clinical
    measured = {f"diameter_{axis}": f"{size}.0" for axis, size in enumerate(drawn.diameters_mm, start=1)}
    measured |= {"diameter_1": "0.0"} if patient == 1 else {}
    told = {name: draws.pick(chance, ("True", "False", "UNK") if name in {"grew", "changed"} else ("True", "False"))
            for name in ("itch", "grew", "hurt", "changed", "bleed")}  # fmt: skip
    return {
        "patient_id": f"PAT_{patient}", "lesion_id": str(lesion), **clinical, "region": drawn.region, "diagnostic": drawn.diagnosis,
        **({"fitspatrick": f"{drawn.skin_type}.0", **measured} if is_asked else {}), **told, "elevation": str(drawn.is_elevated),
        "img_id": f"PAT_{patient}_{lesion}_{picture}.png", "biopsed": str(is_asked and LESIONS[drawn.diagnosis].is_cancer),
    }  # fmt: skip


class _Folders:
    """The folders of pictures, filled by turns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.num_pictures = 0

    def put(self, name: str, drawn: DrawnLesion) -> None:
        """Write a picture into the next folder."""
        folder = self._root / FOLDERS[self.num_pictures % len(FOLDERS)]
        folder.mkdir(parents=True, exist_ok=True)
        self.num_pictures += 1
        mode = "RGBA" if self.num_pictures % TRANSPARENT_EVERY == 0 else "RGB"
        (folder / name).write_bytes(encoded(drawn.image().convert(mode), "PNG"))


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder. Returns the number of rows, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed, table=TABLE), encoding="utf-8")
    folders, rows = _Folders(root), list[dict[str, str]]()
    for patient in range(counts["patients"]):
        for number in range(2 if patient % SECOND_LESION_EVERY == SECOND_LESION_EVERY - 1 else 1):
            chance = draws.seeded(f"pad_ufes_20/{seed}/lesion/{patient}/{number}")
            drawn = draw_lesion(chance, tuple(LESIONS)[(patient + number) % len(LESIONS)])
            lesion = FIRST_LESION + (0 if patient == 1 else patient + 100 * number)  # patients 0 and 1 have lesions of one id
            for view in range(draws.whole(chance, 1, 2)):
                shown = drawn if view == 0 else replace(drawn, grains=grains(chance))
                rows.append(_row(seed, patient, lesion, shown, len(rows)))
                folders.put(rows[-1]["img_id"], shown)
    if rows:
        rows += _broken(seed, counts["patients"], folders, rows[-1])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list[str](COLUMNS), restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    text = buffer.getvalue()
    cut = text[: text.rstrip("\r\n").rindex(",", 0, len(text) - 40)] if rows else text
    (root / TABLE).write_text(cut, encoding="utf-8", newline="")
    return len(rows)


def _broken(seed: int, patient: int, folders: _Folders, good: Mapping[str, str]) -> list[dict[str, str]]:
    """A row without its picture, one of an unknown diagnosis, and one that will be cut; and a picture without a row."""
    drawn = draw_lesion(draws.seeded(f"pad_ufes_20/{seed}/broken"), "NEV")
    folders.put(f"PAT_{patient}_1_9999.png", drawn)
    names = [f"PAT_{patient}_1_{number}.png" for number in range(3)]
    folders.put(names[1], replace(drawn, grains=drawn.grains[:-1]))
    own = {"patient_id": f"PAT_{patient}", "lesion_id": "1"}
    return [{**good, **own, "img_id": name, "diagnostic": code} for name, code in zip(names, ("NEV", "XYZ", "NEV"), strict=True)]
