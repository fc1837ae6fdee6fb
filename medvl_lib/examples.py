"""Examples: a few rows of what a step wrote, shown where each of them may be shown.

In: a written table whose rows name their dataset and licence. Out: a Markdown table with long texts cut, and a sentence about the rows that
are withheld: why, and where they lie. Whether a dataset may be shown, and under which licence, stands in its card: files of the user in the
same layout have another. Which rows are examples is the step's business.
"""

import re
from collections.abc import Mapping, Sequence
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
    shown_licences: Mapping[str, Sequence[str]]
    """Of each dataset the licences under which its rows may be shown; every other row is withheld."""


def render_examples(directory: Path, examples: Examples) -> str:
    """The rows that may be shown in Markdown; of the others the datasets and licences are told."""
    path = directory / examples.file
    rows = list(read_table(path, examples.model))
    shown = [row for row in rows if row.licence in examples.shown_licences.get(row.dataset, ())]
    names = [column.name for column in columns(examples.model)]
    table = [names, ["---"] * len(names), *([_cell(getattr(row, name)) for name in names] for row in shown)]
    parts = ["\n".join(f"| {' | '.join(line)} |" for line in table)] if shown else []
    if withheld := sorted({f"{row.dataset} ({row.licence})" for row in rows if row not in shown}):
        of = f"{len(rows) - len(shown)} of {len(rows)} rows are of {', '.join(withheld)}"
        parts.append(f"Not shown: {of}, and the data card does not allow that. They lie in `{path}`.")
    return "\n\n".join(parts)


def _cell(value: object) -> str:
    """A value as code, so that nothing in it is taken for Markdown: pipes escaped, line ends as a sign."""
    if not isinstance(value, str):
        return str(value)
    if not value:
        return ""
    text = "⏎".join(_cut(value).splitlines()).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}"


def _cut(text: str) -> str:
    left_out = len(text) - SHOWN_HEAD - SHOWN_TAIL
    return text if left_out <= 0 else f"{text[:SHOWN_HEAD]} [... {left_out} characters ...] {text[-SHOWN_TAIL:]}"
