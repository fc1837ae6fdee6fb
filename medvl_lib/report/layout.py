"""Layout: a ``Report`` as sections, in the order in which they are read.

In: the value. Out: sections, from which ``html`` and ``markdown`` are written alike. What stands in a section is said in ``results``,
``ratings`` and ``grounds``.
"""

from collections.abc import Callable, Iterator

from medvl_lib.report import grounds, ratings, results
from medvl_lib.report.blocks import Block, Section
from medvl_lib.report.content import Report

SECTIONS: tuple[tuple[str, str, Callable[[Report], Iterator[Block]]], ...] = (
    ("verdict", "Verdict", results.verdict),
    ("rule", "The rule that was applied", results.rule),
    ("comparison", "Base, quantized and adapted", results.comparison),
    ("goals", "Stretch goals, which decide nothing", results.goals),
    ("cost", "What it costs", results.cost),
    ("controls", "Intervals, floors, and answers without the picture", results.controls),
    ("encoder", "What the encoder finds", results.encoder),
    ("slices", "By kind of document or question", results.slices),
    ("confusion", "Closed questions: what was wanted and what was said", results.confusion),
    ("ratings", "Ratings by experts", ratings.ratings),
    ("examples", "Worst examples", results.examples),
    ("training", "Training", grounds.training),
    ("data", "Where the rows went", grounds.data),
    ("audit", "What the model sees", grounds.audit),
    ("checks", "Checks", grounds.checks),
    ("environment", "Models and environment", grounds.environment),
    ("metrics", "What the metrics measure", grounds.metrics),
    ("provenance", "Provenance", grounds.provenance),
    ("rows", "Every row", grounds.every_row),
)
"""Key, heading, and what stands below it."""


def sections(report: Report) -> tuple[Section, ...]:
    """The whole report; a section that a line has nothing for is left out."""
    found = (Section(key=key, title=title, blocks=tuple(blocks(report))) for key, title, blocks in SECTIONS)
    return tuple(section for section in found if section.blocks)
