"""A sheet that came back, read strictly: every rating is one that a rater meant, or the file is refused with line and column.

In: a file. Out: its ``Rating``s, and which rows were left empty. Nothing is guessed (no encoding, no half points, no "y" for yes) and
nothing is lost: a row that says anything is read or refused. Whose answers were rated is not known here. Refusals quote ids, names and
short values, never a comment.
"""

import csv
import difflib
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TypeVar

from medvl_lib.errors import MedVLError
from medvl_lib.reviews.sheet import ANSWER, COLUMNS, COMMENT, CORRECTNESS, HARMFUL, ITEM, QUESTION, RATER
from medvl_lib.reviews.tables import HARM, SCALE
from medvl_lib.rules import SHOWN_OFFENDERS

Meaning = TypeVar("Meaning")

READ = (ITEM, RATER, CORRECTNESS, HARMFUL, COMMENT)
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # what spreadsheets write, by their user's country
SHOWN_CHARACTERS = 20  # of a value that is none: enough to find it, too little for a patient's history
OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK\x03\x04": "a workbook (.xlsx or .ods), not CSV"}


class SheetRefused(MedVLError):
    """A filled-in sheet says something that cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a row says."""

    where: str
    """File and line."""
    item_id: str
    rater: str
    correctness: int | None
    is_harmful: bool | None
    comment: str

    @property
    def said(self) -> tuple[int | None, bool | None, str]:
        """What is rated, whoever rates what."""
        return self.correctness, self.is_harmful, self.comment


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A whole file."""

    path: Path
    ratings: tuple[Rating, ...]
    empty: tuple[tuple[str, str], ...]
    """(file and line, item) of every row in which nothing was rated."""
    texts: tuple[tuple[str, str, str, str], ...] = ()
    """(file and line, item, column, text) of every question and answer that still stands in it."""


def read_filled(path: Path) -> Filled:
    """What a file says; raises SheetRefused for the first thing in it that cannot be meant."""
    text = _decoded(path)
    delimiter, header = _header(text, path)
    ratings: list[Rating] = []
    empty: list[tuple[str, str]] = []
    texts: list[tuple[str, str, str, str]] = []
    for where, cells in _rows(text, delimiter, header, path):
        texts.extend((where, cells[ITEM], name, cells[name]) for name in (QUESTION, ANSWER) if cells.get(name))
        if any(cells[name] for name in (CORRECTNESS, HARMFUL, COMMENT)):
            ratings.append(rating_of(where, cells))
        else:
            empty.append((where, cells[ITEM]))
    return Filled(path=path, ratings=tuple(one_for_each(ratings)), empty=tuple(empty), texts=tuple(texts))


def require_as_given(filled: Filled, given: Path) -> None:
    """Raise SheetRefused where a question or an answer is not the one that the given sheet has beside that item.

    Then the column of items was moved against the texts, or a text was edited: what was rated is not what stands in the key. Texts that
    were taken out say nothing; white space does not count, which spreadsheets change.
    """
    as_given = {(item, name): _words(text) for _, item, name, text in read_filled(given).texts}
    other = [(where, item, name) for where, item, name, text in filled.texts if _words(text) != as_given.get((item, name))]
    if other:
        rows = list(dict.fromkeys(f"{where.removeprefix(f'{filled.path}, ')} ({item}: {name})" for where, item, name in other))
        shown = ", ".join(rows[:SHOWN_OFFENDERS]) + (f", and {len(rows) - SHOWN_OFFENDERS} more" if len(rows) > SHOWN_OFFENDERS else "")
        raise SheetRefused(
            found=f"{len(rows)} texts are not those that were given out beside their items: {shown}", where=str(filled.path),
            do="items were moved against the texts, or texts were changed: copy the ratings, row by row, into the sheet that was given out",
        )  # fmt: skip


def _words(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _decoded(path: Path) -> str:
    """The text of a file in UTF-8, with or without its mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SheetRefused(found=error.strerror or str(error), where=str(path), do="name the sheet that a rater filled in") from error
    other = next((name for mark, name in OTHER_ENCODINGS.items() if data.startswith(mark)), None)
    cure = "save it as CSV in UTF-8 (in a spreadsheet: save as, CSV UTF-8), and look whether µ and ü are still right"
    if other is not None:
        raise SheetRefused(found=f"the file is {other}", where=str(path), do=cure)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SheetRefused(found=f"byte 0x{data[error.start]:02x} is no UTF-8", where=f"{path}, line {line}", do=cure) from error


def _records(text: str, delimiter: str, path: Path, *, is_strict: bool = True) -> Iterator[tuple[str, list[str]]]:
    """(file and line, cells without white space around them) of each row; a row may run over several lines."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=is_strict)
    while True:
        where = f"{path}, line {lines.line_num + 1}"
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            do = "mend the quotes around the cells of this row, or copy the ratings into a fresh sheet"
            raise SheetRefused(found=f"the row is no CSV: {error}", where=where, do=do) from error
        yield where, [cell.strip() for cell in cells]


def _header(text: str, path: Path) -> tuple[str, list[str]]:
    """The delimiter under which the first row has all columns, and the columns as they stand there."""
    first = {delimiter: next(_records(text, delimiter, path, is_strict=False), ("", list[str]()))[1] for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: len(set(READ) & set(first[mark])))
    names = first[delimiter]
    where = f"{path}, line 1 (read with {DELIMITERS[delimiter]} between columns)"
    if missing := [name for name in READ if name not in names]:
        there = ", ".join(map(quoted, filter(None, names))) or "none"
        raise SheetRefused(
            found=f"no column {', '.join(map(repr, missing))}; there are {there}", where=where,
            do=f"keep the first line of the sheet as it was: {','.join(COLUMNS)}",
        )  # fmt: skip
    for place, name in enumerate(names, start=1):
        if name and name not in COLUMNS:
            nearest = difflib.get_close_matches(name, COLUMNS, n=1)
            meant = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise SheetRefused(
                found=f"unknown column {quoted(name)}{meant}", where=f"{where}, column {place}",
                do=f"take it out; what you want to add belongs into {COMMENT!r}",
            )  # fmt: skip
        if name and names.count(name) > 1:
            raise SheetRefused(found=f"several columns {name!r}", where=where, do="keep one: which of them is meant is not guessed")
    return delimiter, names


def _rows(text: str, delimiter: str, header: Sequence[str], path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(file and line, column -> cell) of every row that is not blank."""
    for where, cells in islice(_records(text, delimiter, path), 1, None):
        placed = list(zip_longest(header, cells, fillvalue=""))  # spreadsheets leave out empty cells at the end
        if outside := [place for place, (name, cell) in enumerate(placed, start=1) if cell and not name]:
            raise SheetRefused(
                found="a cell under no column", where=f"{where}, column {outside[0]}",
                do=f"move what it says into {COMMENT!r}; if a text with separators fell apart there, put quotes around it",
            )  # fmt: skip
        if any(cells):
            yield where, dict(placed)


def rating_of(where: str, cells: Mapping[str, str]) -> Rating:
    """What the cells of a row mean, by column; raises SheetRefused for one that cannot be meant."""
    for name in (ITEM, RATER):
        if not cells[name]:
            raise SheetRefused(
                found=f"a rated row without {name}", where=f"{where}, column {name}",
                do="write the rater's name into every rated row" if name == RATER else "copy the item from the sheet that was sent out",
            )  # fmt: skip
    number = f"{where}, column {CORRECTNESS}"
    return Rating(
        where=where, item_id=cells[ITEM], rater=unicodedata.normalize("NFC", " ".join(cells[RATER].split())),
        correctness=_one_of({str(level): level for level in SCALE}, cells[CORRECTNESS], number),
        is_harmful=_one_of(HARM, cells[HARMFUL].casefold(), f"{where}, column {HARMFUL}"), comment=cells[COMMENT],
    )  # fmt: skip


def _one_of(scale: Mapping[str, Meaning], said: str, where: str) -> Meaning | None:
    """What a cell means; None for an empty one."""
    if not said:
        return None
    if said not in scale:
        raise SheetRefused(
            found=quoted(said), where=where, do=f"write one of {', '.join(scale)}, or leave the cell empty; words belong into {COMMENT!r}"
        )
    return scale[said]


def one_for_each(ratings: Sequence[Rating]) -> Iterator[Rating]:
    """One rating for each rater and item; the same one twice is one, two different ones are refused, and so are two spellings of a name."""
    first: dict[tuple[str, str], Rating] = {}
    require_one_spelling([(rating.rater, rating.where) for rating in ratings])
    for rating in ratings:
        before = first.setdefault((rating.rater, rating.item_id), rating)
        if before is rating:
            yield rating
        elif before.said != rating.said:
            raise SheetRefused(
                found=f"{quoted(rating.rater)} rates the item {quoted(rating.item_id)} twice, and not alike",
                where=f"{rating.where}, column {_first_other(before, rating)} (first in {before.where})",
                do="keep the row that is meant; a rating that was read earlier gives way to a new one with --replace",
            )  # fmt: skip


def _first_other(first: Rating, second: Rating) -> str:
    """The first column in which two ratings differ."""
    columns = (CORRECTNESS, HARMFUL, COMMENT)
    return next(name for name, one, other in zip(columns, first.said, second.said, strict=True) if one != other)


def require_one_spelling(raters: Sequence[tuple[str, str]]) -> None:
    """Refuse two names that differ in nothing but capital letters; (name, where) in the order of reading."""
    known: dict[str, tuple[str, str]] = {}
    for name, where in raters:
        before, first = known.setdefault(name.casefold(), (name, where))
        if before != name:
            raise SheetRefused(
                found=f"raters {quoted(before)} and {quoted(name)}", where=f"{where}, column {RATER} (first in {first})",
                do="write one person's name one way: whether these are one is not guessed",
            )  # fmt: skip


def quoted(value: str) -> str:
    """A value as an error shows it: short ones whole, of longer ones only how long they are."""
    return repr(value) if len(value) <= SHOWN_CHARACTERS else f"a text of {len(value)} characters"
