"""PAD-UFES-20: smartphone pictures of skin lesions with up to 21 clinical features.

Pacheco et al. 2020, doi.org/10.1016/j.dib.2020.106221. Mendeley's layout (doi.org/10.17632/zr7vgbcyr2.1): ``metadata.csv`` (2,298 rows, 26
columns, LF or CRLF) and the pictures of ``imgs_part_1`` to ``imgs_part_3``; copies nest each folder in itself, or put all pictures into
one. Licence: CC BY 4.0. Patients 1,373; diagnoses BCC 845, ACK 730, NEV 244, SEK 235, SCC 192, MEL 52.

A row, before (shortened):

    patient_id,lesion_id,...,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,...,elevation,img_id,biopsed
    PAT_46,881,...,3.0,NECK,6.0,5.0,BCC,True,UNK,...,True,PAT_46_881_939.png,True

and the pair, after:

    Pair(pair_id="pad_ufes_20/PAT_46_881_939", request="Describe this medical image.",
         response="Clinical photograph of a skin lesion on the neck, 6 x 5 mm, elevated, skin type 3: basal cell carcinoma (BCC).",
         subject_id="PAT_46", document_id="pad_ufes_20/PAT_46/881", source="metadata.csv line 3",
         metadata={"category": "BCC", "grew": "UNK", ...}, ...)

The description names what a picture can show. What only the patient or the laboratory can tell (itch, growth, bleeding, a biopsy) and the
questions about the household stay in the metadata, under the publisher's names and unchanged. An empty cell (804 rows were never asked) is
left out of the metadata; UNK (asked, and not known) stays, as does BRASIL beside BRAZIL. A diameter of 0.0 is no measure and is not
described. ``lesion_id`` is not unique: a lesion is (patient, lesion), and the patient is what stays in one split. A picture file that no
row names is rejected, too.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from medvl_lib.datasets import delimited, picture_files, raw_folder
from medvl_lib.datasets.delimited import Damage
from medvl_lib.datasets.descriptions import ANSWER_LABELS, CATEGORY, DESCRIBE
from medvl_lib.errors import InputRefused
from medvl_lib.files import sha256_of_file
from medvl_lib.labels import LESION_LABELS, LESION_SYNONYMS, LESIONS
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection
from medvl_lib.sources import Acquisition, Archive

NAME = "pad_ufes_20"
LICENCE = "CC-BY-4.0"
TABLE = "metadata.csv"
YES_NO = ("smoke", "drink", "pesticide", "skin_cancer_history", "cancer_history", "has_piped_water", "has_sewage_system", "biopsed")
ASKED = ("itch", "grew", "hurt", "changed", "bleed", "elevation")
"""Questions about the lesion: True, False or UNK."""
COLUMNS = (
    "patient_id", "lesion_id", "smoke", "drink", "background_father", "background_mother", "age", "pesticide", "gender",
    "skin_cancer_history", "cancer_history", "has_piped_water", "has_sewage_system", "fitspatrick", "region", "diameter_1", "diameter_2",
    "diagnostic", "itch", "grew", "hurt", "changed", "bleed", "elevation", "img_id", "biopsed",
)  # fmt: skip
"""The publisher's, spelt as the publisher spells them."""
NUMBERS = ("age", "fitspatrick", "diameter_1", "diameter_2")
WORDS: Mapping[str, frozenset[str]] = {
    **{name: frozenset(["True", "False", ""]) for name in YES_NO},
    **{name: frozenset(["True", "False", "UNK", ""]) for name in ASKED},
}
TEMPLATE = "Clinical photograph of a skin lesion{seen}: {name} ({code})."


def _table(root: Path) -> Path:
    found = sorted(root.rglob(TABLE))
    if len(found) > 1:
        places = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise InputRefused(found=f"{len(found)} files named {TABLE}: {places}", where=str(root), do="keep one of them in the raw folder")
    if not found:
        raise raw_folder.missing(NAME, root, TABLE)
    return found[0]


def _is_number(text: str) -> bool:
    try:
        return not text or math.isfinite(float(text))
    except ValueError:
        return False


def _damage(cells: Mapping[str, str]) -> Damage | None:
    """The first cell that the publisher's format does not allow; None where there is none."""
    for name, words in WORDS.items():
        if cells[name] not in words:
            return Damage("field_malformed", f"{name} is none of {', '.join(sorted(word for word in words if word))}, or empty")
    for name in NUMBERS:
        if not _is_number(cells[name]):
            return Damage("field_malformed", f"{name} is no number")
    if LESION_SYNONYMS.get(cells["diagnostic"], cells["diagnostic"]) not in LESIONS:
        return Damage("diagnosis_unknown", f"diagnostic is none of {', '.join(LESIONS)}")
    if not cells["img_id"].startswith(f"{cells['patient_id']}_{cells['lesion_id']}_") or Path(cells["img_id"]).name != cells["img_id"]:
        return Damage("ids_contradict", "img_id is not patient_id, lesion_id and a number")
    return None


def _described(cells: Mapping[str, str]) -> str:
    """A row as a sentence: what a picture can show, then the diagnosis."""
    lesion = LESIONS[LESION_SYNONYMS.get(cells["diagnostic"], cells["diagnostic"])]
    sizes = [float(cells[name]) for name in ("diameter_1", "diameter_2") if cells[name]]
    seen = [f" on the {cells['region'].lower()}" if cells["region"] else ""]
    seen.append(f"{' x '.join(f'{size:g}' for size in sizes)} mm" if sizes and all(size > 0 for size in sizes) else "")
    seen.append({"True": "elevated", "False": "not elevated"}.get(cells["elevation"], ""))
    seen.append(f"skin type {float(cells['fitspatrick']):g}" if cells["fitspatrick"] else "")
    first, *others = seen
    return TEMPLATE.format(seen="".join([first, *(f", {part}" for part in others if part)]), name=lesion.name, code=lesion.code)


def _pair(cells: Mapping[str, str], pair_id: str, source: str, licence: str) -> Pair:
    labels = {name: text for name, text in cells.items() if text and name in COLUMNS}
    category = LESION_SYNONYMS.get(cells["diagnostic"], cells["diagnostic"])
    return Pair(
        pair_id=pair_id, dataset=NAME, image_ids=(), request=DESCRIBE["en"], response=_described(cells), expected=(),
        subject_id=cells["patient_id"], document_id=f"{NAME}/{cells['patient_id']}/{cells['lesion_id']}", publisher_split=None,
        language="en", source=source, licence=licence, metadata={CATEGORY: category, ANSWER_LABELS: LESION_LABELS, **labels},
    )  # fmt: skip


class _Files:
    """The picture files by name, wherever they lie, and which of them rows have named."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places: dict[str, list[Path]] = {}
        for path in picture_files.pictures(root):
            self._places.setdefault(path.name, []).append(path)
        self._named: set[str] = set()

    def find(self, name: str) -> Path | None:
        """Where a picture lies; as named where there is no such file, None where several differ."""
        self._named.add(name)
        places = self._places.get(name) or [self._root / name]
        differ = len(places) > 1 and len({sha256_of_file(path) for path in places}) > 1
        return None if differ else places[0]

    def unnamed(self) -> Iterator[Path]:
        """The files that no row has asked for."""
        for name, places in self._places.items():
            if name not in self._named:
                yield from places


def _rejection(pair_id: str, source: str, why: Damage) -> Rejection:
    return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=why.reason, detail=why.detail)


def _rows(table: Path, root: Path) -> Iterator[tuple[str, dict[str, str] | Damage]]:
    """Each row with its place; raises InputRefused for a table with other columns."""
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        records = delimited.records(stream)
        first = next(records, None)
        header = [] if first is None or not isinstance(first.cells, list) else first.cells
        if missing := [name for name in COLUMNS if name not in header]:
            raise InputRefused(
                found=f"no column {missing[0]!r}", where=str(table), do=f"use the publisher's own table: {','.join(COLUMNS)}"
            )
        for record in records:
            yield f"{table.relative_to(root).as_posix()} line {record.line}", delimited.by_name(record.cells, header)


def read(root: Path) -> Iterator[Reading]:
    """A reading per row, then one per picture that no row names; raises InputMissing without a table, InputRefused for another one."""
    table = _table(root)
    files, seen = _Files(root), set[str]()
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    for number, (source, cells) in enumerate(_rows(table, root)):
        if isinstance(cells, Damage):
            yield _rejection(f"{NAME}/row/{number:06d}", source, cells)
            continue
        yield _reading(cells, files, seen, source, licence)
    for path in files.unnamed():
        place = path.relative_to(root).as_posix()
        yield _rejection(f"{NAME}/file/{place}", place, Damage("row_missing", f"no row of {TABLE} names this picture"))


def _reading(cells: Mapping[str, str], files: _Files, seen: set[str], source: str, licence: str) -> Reading:
    """A row as a draft, or why it is none; ``seen`` grows by its picture's name."""
    name = cells["img_id"]
    pair_id = f"{NAME}/{Path(name).stem}"
    path = files.find(name)
    if name in seen:
        return _rejection(f"{pair_id}/again/{source.rpartition(' ')[2]}", source, Damage("duplicate_record", f"{name} has a row already"))
    seen.add(name)
    if (why := _damage(cells)) is not None:
        return _rejection(pair_id, source, why)
    if path is None:
        return _rejection(pair_id, source, Damage("image_ambiguous", f"{name}: several files of this name that differ"))
    return Draft(
        pair=_pair(cells, pair_id, source, licence), images=(ImageSource(name=name, data=functools.partial(Path.read_bytes, path)),)
    )


DATASET = Dataset(
    name=NAME,
    title="PAD-UFES-20: smartphone pictures of skin lesions with clinical features",
    licence=LICENCE,
    source="doi.org/10.17632/zr7vgbcyr2.1",
    acquisition=Acquisition(
        sources=(
            Archive(
                name="mendeley",
                url="https://data.mendeley.com/public-api/zip/zr7vgbcyr2/download/1",
                file="zr7vgbcyr2-1.zip",
                page="https://data.mendeley.com/datasets/zr7vgbcyr2/1",
            ),
        ),
        layout=("metadata.csv", "images/imgs_part_{1,2,3}/PAT_<patient>_<lesion>_<n>.png    at any depth"),
        terms="CC BY 4.0: name its authors (Pacheco et al. 2020).",
    ),
    may_be_shown=True,  # CC BY 4.0
    read=read,
    is_read=raw_folder.named(TABLE, *picture_files.PATTERNS),
    answers=("report", "class"),
    revision=3,  # what is invented says so in its licence
    literals=(
        DESCRIBE["en"],
        TEMPLATE,
        LESION_LABELS,
        tuple((lesion.code, lesion.name) for lesion in LESIONS.values()),
        tuple(LESION_SYNONYMS.items()),
    ),
)
