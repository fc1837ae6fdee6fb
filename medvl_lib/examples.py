"""Examples: a few rows of what a step wrote, shown where every dataset that they come from may be shown.

In: a written table whose rows name their dataset. Out: a Markdown table with long texts cut, or one sentence that says why there is none
and where the rows lie. Whether a dataset may be shown stands in its card; which rows are examples is the step's business.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvl_lib.tables import columns, read_table

SHOWN_HEAD, SHOWN_TAIL = 300, 100  # characters of a long text that are shown: its end is where the end token stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """A small table of a step whose rows may be shown."""

    file: str
    model: type[Any]
    """Its row model, with a column ``dataset``."""
    shown_datasets: tuple[str, ...]
    """Datasets whose cards say that their rows may be shown; rows of any other are withheld."""


def render_examples(directory: Path, examples: Examples) -> str:
    """The rows in Markdown. One row of a dataset that may not be shown withholds them all, and its name is told instead."""
    path = directory / examples.file
    rows = list(read_table(path, examples.model))
    withheld = sorted({row.dataset for row in rows} - set(examples.shown_datasets))
    if withheld:
        return f"Not shown: some are rows of {', '.join(withheld)}, whose data card does not allow it. They lie in `{path}`."
    names = [column.name for column in columns(examples.model)]
    lines = [names, ["---"] * len(names), *([_cell(getattr(row, name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """A value as code, so that nothing in it is taken for Markdown: pipes escaped, line ends as a sign."""
    if not isinstance(value, str):
        return str(value)
    if not value:
        return ""
    text = _cut(value).replace("\n", "⏎").replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}"


def _cut(text: str) -> str:
    left_out = len(text) - SHOWN_HEAD - SHOWN_TAIL
    return text if left_out <= 0 else f"{text[:SHOWN_HEAD]} [... {left_out} characters ...] {text[-SHOWN_TAIL:]}"
