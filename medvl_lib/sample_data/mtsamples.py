# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow ships no types)
"""Invented transcriptions in both layouts of MTSamples: Kaggle's csv and the hub's Parquet files.

In: how many rows each file shall have, and a seed. Out: ``mtsamples.csv``, ``data/train-00000-of-00001.parquet`` and
``data/test-00000-of-00001.parquet``, with the quirks of the real ones: a nameless first column, a blank before every field, section breaks
as commas, CRLF also inside quotes, empty keywords, a typographic apostrophe; in the Parquet files the hub's own note of the label names.
Broken on purpose: in the csv an empty transcription, a repeated one and a last record cut short; in the hub's test file one transcription
of its train file.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from medvl_lib.datasets.mtsamples_files import COLUMNS, CSV_FILE, SPECIALTIES
from medvl_lib.sample_data.mtsamples_notes import Note, draw_note

COUNTS: dict[str, int] = {"csv": 30, "hub_train": 6, "hub_test": 2}
"""Good rows per file; the broken ones come on top."""

MAX_ROWS = 1_000_000  # per file: the digits that a row has in a note's seed
NUM_BROKEN_CSV_ROWS = 3  # an empty transcription, a repeated one, a record cut short
NUM_LEAKED_HUB_ROWS = 1  # test rows that repeat a train row, where both files are written
LINE_BREAK_EVERY = 9  # descriptions that end in a line break within quotes: 3 of 321 in the real file, more here so that few rows show it
NO_KEYWORDS_EVERY = 5  # 21 % of the real file's keywords are empty
REPEATED_UNDER = "Consult - History and Phy."  # the real file repeats a transcription under a second specialty

README = """# Invented data: medical transcriptions

Every note in this folder was put together by a program from made-up sentences; no patient stands behind any of it. Licence: CC0-1.0.
The files have the layouts of MTSamples: `mtsamples.csv` as on Kaggle, `data/*.parquet` as on the hub. A few rows are broken on purpose:
an empty transcription, a repeated one, a last record cut short, and a test row that repeats a train row. Seed: {seed}.
"""


def note(seed: int, file: str, row: int) -> Note:
    """The note of a row; its seed is a number that no other (seed, file, row) has."""
    number = (seed * len(COUNTS) + list(COUNTS).index(file)) * MAX_ROWS + row
    return draw_note(Random(number), row)  # noqa: S311 - chance for invented data, not for secrets


def transcription(drawn: Note) -> str:
    """A note as the publisher's web page became text: headings, two blanks between sentences, and a comma for each line break."""
    return ",".join(f"{heading}:,  {'  '.join(sentences)}" for heading, sentences in drawn.sections)


def _csv_row(row: int, drawn: Note, text: str) -> list[str]:
    topic = drawn.topic
    description = f" {topic.description}" + ("\r\n" if row % LINE_BREAK_EVERY == LINE_BREAK_EVERY - 1 else "")
    keywords = "" if row % NO_KEYWORDS_EVERY == NO_KEYWORDS_EVERY - 1 else f"{topic.specialty.lower()}, {', '.join(topic.keywords)}, "
    return [str(row), description, f" {topic.specialty}", f" {topic.sample_name} ", text, keywords]


def _csv_line(row: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(row)
    return line.getvalue()


def csv_bytes(num_rows: int, seed: int) -> bytes:
    """The csv file: the good rows with an empty and a repeated transcription among them, and a cut record at the end."""
    notes = [note(seed, "csv", row) for row in range(num_rows + 1)]
    texts = [transcription(drawn) for drawn in notes]
    rows = [_csv_row(row, notes[row], texts[row]) for row in range(num_rows)]
    repeated = [*rows[0][:2], f" {REPEATED_UNDER}", *rows[0][3:]]
    rows[num_rows // 2 : num_rows // 2] = [_csv_row(num_rows, notes[0], ""), repeated]
    lines = [_csv_line(list(COLUMNS)), *(_csv_line([str(number), *row[1:]]) for number, row in enumerate(rows))]
    cut = _csv_line(_csv_row(len(rows), notes[num_rows], texts[num_rows]))
    return ("".join(lines) + cut[: cut.index(texts[num_rows]) + len(texts[num_rows]) // 2]).encode()


def _hub_features() -> str:
    """What the hub's library writes into its Parquet files."""
    value = {"_type": "Value"}
    label = {"names": list(SPECIALTIES), "_type": "ClassLabel"}
    return json.dumps({"info": {"features": {"id": {"dtype": "int32", **value}, "text": {"dtype": "string", **value}, "label": label}}})


def _write_hub(path: Path, notes: list[Note]) -> int:
    path.parent.mkdir(exist_ok=True)
    rows = [{"id": row, "text": transcription(drawn), "label": SPECIALTIES.index(drawn.topic.specialty)} for row, drawn in enumerate(notes)]
    columns = pa.schema([("id", pa.int32()), ("text", pa.string()), ("label", pa.int64())], metadata={"huggingface": _hub_features()})
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), path)
    return len(rows)


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a file with a count of 0 is left out. Returns the number of rows, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    num_rows = 0
    if counts["csv"]:
        (root / CSV_FILE).write_bytes(csv_bytes(counts["csv"], seed))
        num_rows += counts["csv"] + NUM_BROKEN_CSV_ROWS
    train = [note(seed, "hub_train", row) for row in range(counts["hub_train"])]
    test = [note(seed, "hub_test", row) for row in range(counts["hub_test"])]
    if train and test:
        test += train[:NUM_LEAKED_HUB_ROWS]
    for part, notes in (("train", train), ("test", test)):
        if notes:
            num_rows += _write_hub(root / "data" / f"{part}-00000-of-00001.parquet", notes)
    return num_rows
