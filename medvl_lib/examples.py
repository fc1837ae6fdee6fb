"""Examples: a few rows of what a step wrote, shown where each of them may be shown.

In: a written table whose rows name their dataset and licence. Out: a Markdown table with long texts cut, or one sentence that says why
there is none and where the rows lie. Whether a dataset may be shown, and under which licence, stands in its card: files of the user in the
same layout have another. Which rows are examples is the step's business.
"""

import re
from collections.abc import Mapping
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
    """Its row model, with columns ``dataset`` and ``licence``."""
    shown_licences: Mapping[str, str]
    """Datasets whose cards say that they may be shown, and the licence for which they say so; every other row is withheld."""


def render_examples(directory: Path, examples: Examples) -> str:
    """The rows in Markdown. One row that may not be shown withholds them all, and its dataset and licence are told instead."""
    path = directory / examples.file
    rows = list(read_table(path, examples.model))
    withheld = sorted({f"{row.dataset} ({row.licence})" for row in rows if examples.shown_licences.get(row.dataset) != row.licence})
    if withheld:
        return f"Not shown: some are rows of {', '.join(withheld)}, and the data card does not allow that. They lie in `{path}`."
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
