"""The report as Markdown: the same sections, for a terminal, a merge request or a repository.

In: a ``Report``. Out: text. Pictures stand in the page only. Texts of pairs are fenced, and what stands in a cell is escaped, so that
nothing in them is taken for Markdown or HTML.
"""

import re
from collections.abc import Iterator

from medvl_lib.report.blocks import Block, Figure, Quotes, Table
from medvl_lib.report.content import Example, Report
from medvl_lib.report.layout import sections

ESCAPED = re.compile(r"([\\`*\[\]<>#|~]|(?<!\w)_|_(?!\w))")  # an underscore inside a word marks nothing up


def render_markdown(report: Report) -> str:
    """The whole report."""
    lines = [f"# {_plain(report.line)}: {_plain(report.headline)}"]
    for section in sections(report):
        lines.append(f"## {_plain(section.title)}")
        for block in section.blocks:
            lines.extend(_block(block))
    return "\n\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text on one line in which nothing is marked up."""
    return ESCAPED.sub(r"\\\1", " ".join(text.split()).replace("&", "&amp;"))


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, str):
        yield _plain(block)
    elif isinstance(block, Table):
        yield f"**{_plain(block.caption)}**"
        yield _table(block)
    elif isinstance(block, Quotes):
        yield f"### {_plain(block.title)}"
        for example in block.examples:
            yield from _example(example)
    else:
        yield from _figure(block)


def _figure(figure: Figure) -> Iterator[str]:
    """What a figure shows, in words; its numbers stand in a table as well."""
    yield f"*{_plain(figure.caption)}: drawn in the page*"


def _table(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *([_plain(cell.text) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _example(example: Example) -> Iterator[str]:
    scores = ", ".join(f"{variant} {score:.3f}" for variant, score in example.scores.items())
    yield f"#### {_plain(example.pair_id)}"
    yield f"{_plain(example.dataset)}, {_plain(example.licence)}: {scores}; {len(example.pictures)} pictures, shown in the page"
    texts = {"Asked": example.request, "Wanted": example.wanted, **{f"Said by {name}": text for name, text in example.said.items()}}
    for name, text in texts.items():
        yield f"{name}:"
        yield _fenced(text)


def _fenced(text: str) -> str:
    """A text between fences that are longer than any in it."""
    fence = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    return f"{fence}text\n{text}\n{fence}"
