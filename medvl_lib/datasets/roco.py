# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownParameterType=false
# (pyarrow ships no types)
"""ROCO: figures of PubMed Central articles with their captions (Pelka et al. 2018, doi.org/10.1007/978-3-030-01364-6_20).

Two layouts are known, and both are read where both lie there:

* ROCO as a list of links (github.com/razorx89/roco-dataset @ a1f0ad6): ``data/{train,validation,test}/radiology/`` with ``captions.txt``,
  ``keywords.txt``, ``cuis.txt``, ``semtypes.txt``, ``dlinks.txt`` (separated by tabs, without a header) and ``licences.txt`` (by commas,
  with one). The pictures are fetched by the user with the publisher's script into ``images/`` beside them. Each has a licence of its own.
* ROCOv2 (huggingface.co/datasets/eltorio/ROCOv2-radiology): ``data/<part>-00000-of-000nn-<hash>.parquet`` with image, image_id, caption and
  cui; 59,962 / 9,904 / 9,927 rows. Licence: CC BY-NC-SA 4.0. ROCO in the same form (eltorio/ROCO-radiology) has no cui.

Lines of the first layout, before (a caption begins with a blank, and after the id of keywords, concepts and types comes an empty field):

    captions.txt    ROCO_00020<TAB> Axial computed tomography scan of the pelvis ...
    licences.txt    ROCO_00020,PMC3970251_CRIONM2014-931546.003.jpg,CC BY

and the pair, after:

    Pair(pair_id="roco/validation/ROCO_00020", request="Describe this medical image.", response="Axial computed tomography scan of ...",
         document_id="roco/PMC3970251", publisher_split="validation", source="data/validation/radiology/captions.txt line 20",
         licence="CC BY", metadata={"keywords": "pelvi; scan; ...", "cuis": "C0030797; ...", "publisher_split": "validation"}, ...)

Figures of one article show one patient more often than not, and the publisher's parts were drawn by figure: the group is the article, and
its split is kept where all its figures are in one part. ROCOv2 does not name the article: there the group is the picture. A figure whose
licence the files do not state has none, and is left to ``validation``. The figures in ``non-radiology`` (charts, photographs, drawings:
what ROCO was made to tell apart from radiology) are not read.
"""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from medvl_lib.datasets import delimited, hub_parquet, publisher_split, raw_folder
from medvl_lib.datasets.delimited import Damage
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition, Hub

NAME = "roco"
LICENCE = "per figure (licences.txt); ROCOv2: CC-BY-NC-SA-4.0"
HUB_LICENCE = "CC-BY-NC-SA-4.0"
CAPTIONS, LICENCES, LINKS = "captions.txt", "licences.txt", "dlinks.txt"
LISTS: Mapping[str, str] = {"keywords": "keywords.txt", "cuis": "cuis.txt", "semtypes": "semtypes.txt"}
"""Metadata keys, and the files whose fields they hold."""
FOLDER, IMAGES = "radiology", "images"
ARTICLE, FIGURE = re.compile(r"PMC\d+"), re.compile(r"ROCO_\d+")
BETWEEN = "; "
HUB_PARTS: tuple[Split, ...] = ("train", "validation", "test")
HUB_COLUMNS: Mapping[str, pa.DataType] = {**hub_parquet.IMAGE, "image_id": pa.string(), "caption": pa.string()}
HUB_OPTIONAL: Mapping[str, pa.DataType] = {"cui": pa.list_(pa.string())}


class _Licence(NamedTuple):
    """What ``licences.txt`` says of a figure."""

    article: str
    """Empty where the line names none."""
    licence: str


class _Part(NamedTuple):
    """A folder of the first layout."""

    folder: Path
    split: Split
    licences: dict[str, _Licence]


class _Line(NamedTuple):
    """A line of a file that is not blank."""

    number: int
    fields: list[str]


def _lines(path: Path, delimiter: str) -> Iterator[_Line]:
    """The lines of a file; none where it is not there. Quotation marks are the captions' own here, and end nothing."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if text := line.rstrip("\r\n"):
                yield _Line(number, text.split(delimiter))


def _licences(path: Path) -> dict[str, _Licence]:
    """Article and licence by figure. The file of links names the article of one without a licence."""
    found: dict[str, _Licence] = {}
    for _, fields in _lines(path.with_name(LINKS), "\t"):
        if len(fields) > 1 and (article := ARTICLE.search(fields[1])):
            found[fields[0]] = _Licence(article[0], "")
    for _, fields in _lines(path, ","):
        if len(fields) == 3 and fields[0] != "ROCO_ID":
            article = ARTICLE.match(fields[1])
            found[fields[0]] = _Licence(article[0] if article else "", fields[2].strip())
    return found


def _parts(root: Path) -> list[_Part]:
    found: list[_Part] = []
    for path in sorted(root.rglob(CAPTIONS)):
        split = publisher_split.PARTS.get(path.parent.parent.name)
        if path.parent.name == FOLDER and split is not None:
            found.append(_Part(path.parent, split, _licences(path.with_name(LICENCES))))
    return found


def _fields(part: _Part, name: str) -> dict[str, str]:
    """The fields of each figure in one of the lists, with a semicolon between them."""
    return {
        fields[0]: BETWEEN.join(text for field in fields[1:] if (text := field.strip()))
        for _, fields in _lines(part.folder / name, "\t")
    }  # fmt: skip


def _document(part: _Part, figure: str) -> str:
    """The article, or the figure where no file names it."""
    known = part.licences.get(figure)
    return f"{NAME}/{figure if known is None or not known.article else known.article}"


def _articles_seen(parts: list[_Part]) -> Iterator[tuple[str, Split]]:
    for part in parts:
        for _, fields in _lines(part.folder / CAPTIONS, "\t"):
            yield _document(part, fields[0]), part.split


def _damage(fields: list[str], seen: set[str]) -> Damage | None:
    if len(fields) < 2:
        return Damage("record_cut", "no tab behind the figure's id")
    if delimited.is_undecoded("".join(fields)):
        return Damage("not_utf8", "a byte that is not utf8")
    if not FIGURE.fullmatch(fields[0]):
        return Damage("field_malformed", "the figure's id is not ROCO_ and digits")
    return Damage("duplicate_record", f"{fields[0]} has a caption already") if fields[0] in seen else None


def _figures(part: _Part, root: Path, homes: Mapping[str, Split | None], is_invented: bool) -> Iterator[Reading]:
    """A reading per caption of a folder; the folder's lists are in memory at a time."""
    lists = {key: _fields(part, name) for key, name in LISTS.items()}
    seen: set[str] = set()
    for number, fields in _lines(part.folder / CAPTIONS, "\t"):
        source = f"{(part.folder / CAPTIONS).relative_to(root).as_posix()} line {number}"
        if (why := _damage(fields, seen)) is not None:
            pair_id = f"{NAME}/{part.split}/line/{number:06d}"
            yield Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=why.reason, detail=why.detail)
            continue
        figure, known = fields[0], part.licences.get(fields[0])
        seen.add(figure)
        labels = {key: text for key, of in lists.items() if (text := of.get(figure))} | {"publisher_split": part.split}
        document, licence = _document(part, figure), "" if known is None else known.licence
        pair = Pair(
            pair_id=f"{NAME}/{part.split}/{figure}", dataset=NAME, image_ids=(), request=DESCRIBE["en"],
            response=" ".join(fields[1:]).strip(), expected=(), subject_id=None, document_id=document, publisher_split=homes[document],
            language="en", source=source, licence=raw_folder.INVENTED_LICENCE if is_invented else licence, metadata=labels,
        )  # fmt: skip
        path = part.folder / IMAGES / f"{figure}.jpg"
        yield Draft(pair=pair, images=(ImageSource(name=f"{IMAGES}/{path.name}", data=functools.partial(Path.read_bytes, path)),))


def _hub_reading(
    row: Mapping[str, Any], pair_id: str, part: Split, source: str, licence: str, homes: Mapping[bytes, Split | None]
) -> Reading:
    data = hub_parquet.picture(row)
    if data is None:
        detail = hub_parquet.no_picture(row)
        return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason="image_missing", detail=detail)
    digest = hashlib.sha256(data).digest()
    labels = {"image_id": row["image_id"] or "", "cuis": BETWEEN.join(row.get("cui") or []), "publisher_split": part}
    pair = Pair(
        pair_id=pair_id, dataset=NAME, image_ids=(), request=DESCRIBE["en"], response=(row["caption"] or "").strip(), expected=(),
        subject_id=None, document_id=f"{NAME}/{digest.hex()[:16]}", publisher_split=homes[digest], language="en", source=source,
        licence=licence, metadata={key: text for key, text in labels.items() if text},
    )  # fmt: skip
    return Draft(pair=pair, images=(ImageSource(name=row["image_id"] or pair_id, data=functools.partial(bytes, data)),))


def read(root: Path) -> Iterator[Reading]:
    """The figures of every part of both layouts; raises InputMissing where there is none, InputRefused for a Parquet file that is cut."""
    parts = _parts(root)
    hub_parts: list[Split] = [part for part in HUB_PARTS if hub_parquet.part_files(root, part)]
    if not parts and not hub_parts:
        raise raw_folder.missing(NAME, root, f"<part>/{FOLDER}/{CAPTIONS} / train-*.parquet")
    is_invented = raw_folder.is_invented(root)
    homes = publisher_split.homes(_articles_seen(parts))
    for part in parts:
        yield from _figures(part, root, homes, is_invented)
    hub_homes = publisher_split.homes(hub_parquet.pictures_seen(root, hub_parts, NAME))  # all pictures' hashes are in memory at a time
    for split in hub_parts:
        for number, (source, row) in enumerate(hub_parquet.part_rows(root, split, HUB_COLUMNS, NAME, HUB_OPTIONAL)):
            licence = raw_folder.INVENTED_LICENCE if is_invented else HUB_LICENCE
            yield _hub_reading(row, f"{NAME}/v2/{split}/{number:06d}", split, source, licence, hub_homes)


DATASET = Dataset(
    name=NAME,
    title="ROCO: figures of PubMed Central articles with their captions",
    licence=LICENCE,
    source="github.com/razorx89/roco-dataset @ a1f0ad6; huggingface.co/datasets/eltorio/ROCOv2-radiology",
    acquisition=Acquisition(
        sources=(Hub(name="hub", repository="eltorio/ROCOv2-radiology", revision="", files=("data/*.parquet",)),),
        layout=(
            "data/{train,validation,test}-0000i-of-0000n-<hash>.parquet    ROCOv2, 18.6 GB",
            "data/{train,validation,test}/radiology/*.txt           or ROCO, from github.com/razorx89/roco-dataset @ a1f0ad6,",
            "data/{train,validation,test}/radiology/images/*.jpg    with the pictures that its own script fetches",
        ),
        terms="ROCOv2: CC BY-NC-SA 4.0, not for commercial use; ROCO: each figure has a licence of its own.",
    ),
    may_be_shown=False,  # each figure has a licence of its own
    read=read,
    is_read=raw_folder.named(
        *(
            f"{part}/{FOLDER}/{file}"
            for part in publisher_split.PARTS
            for file in (CAPTIONS, LICENCES, LINKS, *LISTS.values(), f"{IMAGES}/*.jpg")
        ),
        *(f"{part}-*.parquet" for part in HUB_PARTS),
    ),
    answers=("report",),
    revision=2,  # what is invented says so in its licence
    literals=(DESCRIBE["en"],),
)
