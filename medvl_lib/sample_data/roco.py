# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (pyarrow ships no types)
"""Invented figures with captions in both layouts of ROCO: the list of links, with pictures fetched, and Parquet as on the hub.

In: how many figures each part shall have, and a seed. Out: ``data/<part>/radiology/`` with its six text files and ``images/``, and
``hub/<part>-00000-of-00001.parquet``. Three figures come from each article. Broken or odd on purpose, all in the first part that there is:
a figure that was not fetched, one without a licence, a line without a caption, a figure that is listed twice, and an article with another
figure in the next part; in the Parquet files a row without a picture.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medvl_lib.datasets.roco import CAPTIONS, FOLDER, HUB_COLUMNS, HUB_OPTIONAL, IMAGES, LICENCES, LINKS, LISTS
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import Chest, draw_chest
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"train": 24, "validation": 6, "test": 6, "hub_train": 10, "hub_test": 3}
"""Good figures per part; broken and odd ones come on top."""

FIGURES_PER_ARTICLE = 3
FIRST_ARTICLE = 9_000_000
README = """# Invented data: figures with captions

Every picture and caption in this folder was made up by a program; no article or patient stands behind any of them. Licence: CC0-1.0. The
files have the layouts of ROCO and ROCOv2. Broken on purpose: a figure that was not fetched, one without a licence, a line without a
caption, a figure that is listed twice, a row without a picture. Seed: {seed}.
"""


def _chest(seed: int, number: int) -> Chest:
    return draw_chest(draws.seeded(f"roco/{seed}/{number}"))


def _jpeg(drawn: Chest) -> bytes:
    return encoded(drawn.image().convert("RGB"), quality=90)


class _Part:
    """The text files of a part while they are written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.num_captions = 0
        self._lines: dict[str, list[str]] = {name: [] for name in (CAPTIONS, LICENCES, LINKS, *LISTS.values())}
        self._lines[LICENCES].append("ROCO_ID,PMC_ID,CC")
        (folder / IMAGES).mkdir(parents=True)

    def put(self, number: int, article: int, drawn: Chest, *, is_fetched: bool = True, licence: str = "CC BY") -> None:
        """A figure's line in each file, and its picture."""
        figure, picture = f"ROCO_{number:05d}", f"INVENTED-{article}.{number:03d}.jpg"
        self.caption(f"{figure}\t {drawn.caption()}")
        self._lines[LISTS["keywords"]].append(f"{figure}\t\tchest\t{'opaciti' if drawn.side else 'clear'}")
        self._lines[LISTS["cuis"]].append(f"{figure}\t\tC0817096\tC0018787")
        self._lines[LISTS["semtypes"]].append(f"{figure}\t\tT060\tDiagnostic Procedure\tT029\tBody Location or Region")
        self._lines[LINKS].append(f"{figure}\twget -r ftp://invented/PMC{article}.tar.gz -P /path/to/Dir\t{picture}")
        if licence:
            self._lines[LICENCES].append(f"{figure},PMC{article}_{picture},{licence}")
        if is_fetched:
            (self._folder / IMAGES / f"{figure}.jpg").write_bytes(_jpeg(drawn))

    def caption(self, line: str) -> None:
        """A line among the captions alone."""
        self._lines[CAPTIONS].append(line)
        self.num_captions += 1

    def write(self) -> None:
        """Write the files."""
        for name, lines in self._lines.items():
            (self._folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_links(root: Path, counts: Mapping[str, int], seed: int) -> int:
    number = num_captions = 0
    parts = {part: _Part(root / "data" / part / FOLDER) for part in ("train", "validation", "test") if counts[part]}
    for name, part in parts.items():
        for _ in range(counts[name]):
            part.put(number, FIRST_ARTICLE + number // FIGURES_PER_ARTICLE, _chest(seed, number), licence="CC BY" if number % 2 else "CC0")
            number += 1
        number += -number % FIGURES_PER_ARTICLE  # no article is in two parts by chance
    if parts:
        first, last = next(iter(parts.values())), list(parts.values())[-1]
        article = FIRST_ARTICLE + number  # behind all others
        first.put(number, article, _chest(seed, number), is_fetched=False)
        first.put(number + 1, article + 1, _chest(seed, number + 1), licence="")
        first.put(number + 2, article + 2, _chest(seed, number + 2))
        last.put(number + 3, article + 2, _chest(seed, number + 3))
        first.caption(f"ROCO_{number + 4:05d}")
        first.caption(f"ROCO_{number + 2:05d}\t The same figure again.")
    for part in parts.values():
        part.write()
        num_captions += part.num_captions
    return num_captions


def _write_hub(root: Path, counts: Mapping[str, int], seed: int) -> int:
    num_rows = 0
    for part in ("train", "test"):
        rows: list[dict[str, Any]] = []
        for number in range(counts[f"hub_{part}"]):
            drawn = draw_chest(draws.seeded(f"roco/{seed}/hub/{part}/{number}"))
            image = {"bytes": _jpeg(drawn), "path": None}
            rows.append({"image": image, "image_id": f"ROCOv2_{part}_{number:06d}", "caption": drawn.caption(), "cui": ["C0817096"]})
        if rows and part == "train":
            rows.append({**rows[0], "image": None, "image_id": f"ROCOv2_{part}_{len(rows):06d}"})
        if rows:
            (root / "hub").mkdir(exist_ok=True)
            columns = pa.schema([*HUB_COLUMNS.items(), *HUB_OPTIONAL.items()])
            pq.write_table(pa.Table.from_pylist(rows, schema=columns), root / "hub" / f"{part}-00000-of-00001.parquet")
        num_rows += len(rows)
    return num_rows


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a part with a count of 0 is left out. Returns the number of captions and rows, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    return _write_links(root, counts, seed) + _write_hub(root, counts, seed)
