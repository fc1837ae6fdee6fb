"""The tables of ``custom_reports``: what a user may declare of them, and their rows.

In: a raw folder with tables (csv, tsv, jsonl) and perhaps ``custom_reports.toml``. Out: ``ReportFormat``, and a ``Row`` or ``Damage`` per
record. The format itself is described in ``custom_reports``, and what becomes of a row is decided there.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from medvl_lib.datasets import delimited, encodings
from medvl_lib.datasets.delimited import Damage
from medvl_lib.dicom import Clearance
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.overrides import override, unknown_key

SIDECAR = "custom_reports.toml"
DELIMITERS: Mapping[str, str] = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*DELIMITERS, ".jsonl")
BETWEEN_PICTURES = "|"  # no file name on Windows has one


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns hold what, where they are not called by the names in ``KNOWN``."""

    image: tuple[str, ...] = ()
    """Each names a picture, or several with ``|`` between them."""
    text: tuple[str, ...] = ()
    """The report; several are joined, each below its column's name."""
    request: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    licence: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse several columns for what there is one of."""
        for name in ("request", "language", "subject", "report", "split", "licence", "category"):
            if len(getattr(self, name)) > 1:
                raise ValueError(f"{name} can be one column only")


KNOWN: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "images", "image_path"), "text": ("text", "report", "answer"), "request": ("request", "question", "ask"),
    "language": ("language", "lang"), "subject": ("subject", "subject_id", "patient_id"), "report": ("report_id", "study_id"),
    "split": ("split",), "licence": ("licence", "license"), "category": ("category",),
}  # fmt: skip
"""What columns may be called, in any case, without being declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFormat:
    """``custom_reports.toml``: everything that a user may declare."""

    tables: tuple[str, ...] = ()
    """Paths below the raw folder; empty: every csv, tsv and jsonl file."""
    encoding: encodings.Declared = ""
    """Of all tables; empty: told by the rules of ``encodings``."""
    images: str = ""
    """The folder, below the raw folder, that pictures are named from; empty: the table's own."""
    language: str = ""
    """Of every row without a language of its own; empty: each row must say it."""
    licence: str = "not stated"
    """Of every row without a licence of its own."""
    columns: Columns = field(default_factory=Columns)
    dicom: Clearance = field(default_factory=Clearance)
    """What somebody vouches for, of all DICOM files."""


class Row(NamedTuple):
    """A record of a table."""

    number: int
    """Counted from 0 within its table."""
    source: str
    cells: dict[str, str] | Damage
    """Stripped texts by column, empty ones left out; a JSON list of pictures has ``|`` between them."""


def read_format(root: Path) -> ReportFormat:
    """What is declared; raises InputRefused or SettingsError for anything that cannot be meant."""
    path = root / SIDECAR
    if not path.is_file():
        return ReportFormat()
    try:
        declared: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputRefused(found=f"not TOML: {error}", where=str(path), do="mend that line") from error
    parts = {"columns": Columns(), "dicom": Clearance()}
    nested = {name: override(part, _subtable(declared, name, path), f"{path}, [{name}]") for name, part in parts.items()}
    top = override(ReportFormat(), {name: value for name, value in declared.items() if name not in parts}, str(path))
    return replace(top, **nested)


def _subtable(declared: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = declared.get(name, {})
    if not isinstance(value, dict):
        raise InputRefused(found=f"{name} = {value!r}", where=str(path), do=f"write it as a table of its own: [{name}]")
    return cast("dict[str, Any]", value)


def tables(root: Path, declared: ReportFormat) -> list[Path]:
    """The tables to read, in the order of their names; raises InputMissing for a declared one that is not there."""
    if not declared.tables:
        found = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()]
        return sorted(found, key=lambda path: path.relative_to(root).parts)
    for name in declared.tables:
        if not (root / name).is_file() or Path(name).suffix.lower() not in SUFFIXES:
            raise InputMissing(
                found=f"no table {name!r}", where=str(root / SIDECAR), do=f"name files below {root} that end in {', '.join(SUFFIXES)}"
            )
    return [root / name for name in declared.tables]


def rows(table: Path, root: Path, declared: ReportFormat) -> Iterator[Row]:
    """The rows of a table, one at a time; raises InputRefused for a table without a column of texts."""
    cure = f'save the file as UTF-8, or declare its encoding in {root / SIDECAR}: encoding = "gb18030"'
    encoding = encodings.encoding_of(table, declared.encoding, cure)
    place = table.relative_to(root).as_posix()
    with table.open(encoding=encoding, errors="surrogateescape", newline="") as stream:
        found = _json_rows(stream) if table.suffix.lower() == ".jsonl" else _delimited_rows(stream, table, encoding, declared)
        for number, (line, cells) in enumerate(found):
            if not isinstance(cells, Damage) and encoding != encodings.UTF8:
                cells = {**cells, "encoding": encoding}
            yield Row(number=number, source=f"{place} line {line}", cells=cells)


def _delimited_rows(stream: TextIO, table: Path, encoding: str, declared: ReportFormat) -> Iterator[tuple[int, dict[str, str] | Damage]]:
    records = delimited.records(stream, DELIMITERS[table.suffix.lower()])
    first = next(records, None)
    cells = first.cells if first is not None and isinstance(first.cells, list) else []
    header = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, start=1)]  # spreadsheets leave nameless ones behind
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputRefused(found=f"two columns named {twice!r}", where=str(table), do="give each column a name of its own")
    for what in KNOWN:
        if strange := [name for name in getattr(declared.columns, what) if name not in header]:
            raise unknown_key(strange[0], header, f"{table}, which {SIDECAR} says has the {what}")
    if not columns_of("text", header, declared, str(table)):
        names = ", ".join(header) if all(len(name) < 40 for name in header) else f"{len(header)} of them"
        raise InputRefused(
            found=f"no column of texts among: {names}", where=str(table),
            do=f"call it one of {', '.join(KNOWN['text'])}, or say in {SIDECAR} which it is, [columns] text = [...], or what to read, "
            f"tables = [...]",
        )  # fmt: skip
    for record in records:
        cells = delimited.by_name(record.cells, header, encoding.removesuffix("-sig").replace("-", ""))
        yield record.line, cells if isinstance(cells, Damage) else {name: text for name, cell in cells.items() if (text := cell.strip())}


def _json_rows(stream: TextIO) -> Iterator[tuple[int, dict[str, str] | Damage]]:
    for line, text in enumerate(stream, start=1):
        if text.strip():
            yield line, _json_cells(text)


def _json_cells(text: str) -> dict[str, str] | Damage:
    if delimited.is_undecoded(text):
        return Damage("not_decodable", "a byte that the encoding does not have")
    try:
        value = json.loads(text)
    except ValueError as error:
        return Damage("record_malformed", f"no JSON: {type(error).__name__}")
    if not isinstance(value, dict):
        return Damage("record_malformed", "no JSON object")
    cells: dict[str, str] = {}
    for name, item in cast("dict[str, Any]", value).items():
        plain = _plain(item)
        if plain is None:
            return Damage("field_malformed", f"{name[:40]}: neither a text, a number nor a list of texts")
        if plain:
            cells[name] = plain
    return cells


def _plain(value: Any) -> str | None:
    """A JSON value as a cell would have it; None for one that has no place in a cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    texts = [item for item in items if isinstance(item, str)]
    return BETWEEN_PICTURES.join(texts) if len(texts) == len(items) else None


def columns_of(what: str, names: Mapping[str, str] | list[str], declared: ReportFormat, where: str) -> list[str]:
    """The columns that hold a thing, of those that are there: the declared ones, or the one with a known name.

    Raises InputRefused where two columns have known names of one thing: which is meant has to be declared.
    """
    if chosen := getattr(declared.columns, what):
        return [name for name in chosen if name in names]
    found = [name for name in names if name.casefold() in KNOWN[what]]
    if len(found) > 1:
        raise InputRefused(
            found=f"{' and '.join(found)}, both of which could hold the {what}",
            where=where,
            do=f"say which in {SIDECAR}: [columns] {what} = [...]",
        )
    return found
