"""Records of a delimited text file, one at a time, each with the line it begins in: a damaged one costs itself and nothing behind it.

In: an open text file. Out: ``Record``s, blank ones left out; ``by_name`` gives a record's cells by column, or says what is wrong with it.
What a column means, and whether there is a header, is the dataset's business.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO


class Record(NamedTuple):
    """A record as it stands there, or the error that reading it gave."""

    line: int
    cells: list[str] | csv.Error


class Damage(NamedTuple):
    """Why a record is none: reason and detail of the rejection that it becomes."""

    reason: str
    detail: str


class _Lines:
    """The lines of a file, those of the record that is being read remembered, so that reading can begin again behind its first."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: deque[str] = deque()
        self._num_done = 0
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._taken.append(self._waiting.popleft() if self._waiting else next(self._stream))
        return self._taken[-1]

    def begin(self) -> int:
        """Begin a record; returns the number of its first line, from 1."""
        self._num_done += len(self._taken)
        self._taken = []
        return self._num_done + 1

    def give_back(self) -> None:
        """Let the next record begin behind the first line of this one: a quote that never closes must not swallow the rows after it."""
        self._waiting.extendleft(reversed(self._taken[1:]))
        self._taken = self._taken[:1]


def records(stream: TextIO, delimiter: str = ",") -> Iterator[Record]:
    """Every record that is not blank; one that the format forbids comes as the error, and reading goes on with the next line.

    The file must be open with ``newline=""``, and with ``errors="surrogateescape"`` where a byte that cannot be decoded is to cost one
    record alone.
    """
    lines = _Lines(stream)
    while True:
        line = lines.begin()
        try:
            cells = next(csv.reader(lines, delimiter=delimiter, strict=True))  # strict: a quote that never closes is an error
        except StopIteration:
            return
        except csv.Error as error:
            lines.give_back()
            yield Record(line, error)
            continue
        if cells:
            yield Record(line, cells)


def by_name(record: list[str] | csv.Error, columns: Sequence[str], encoding: str = "utf8") -> dict[str, str] | Damage:
    """A record's cells by the columns' names, or what is wrong with it; never a cell's text."""
    if isinstance(record, csv.Error):
        return Damage("record_cut" if "unexpected end" in str(record) else "record_malformed", str(record))
    if len(record) != len(columns):
        return Damage("record_cut" if len(record) < len(columns) else "record_too_long", f"{len(record)} of {len(columns)} columns")
    if is_undecoded("".join(record)):
        return Damage(f"not_{encoding}", f"a byte that is not {encoding}")
    return dict(zip(columns, record, strict=True))


def is_undecoded(text: str) -> bool:
    """Whether a text holds bytes that ``surrogateescape`` kept because the encoding has no character for them."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
