"""Which rules a written directory breaks: how a test of damage says what it expects."""

from collections.abc import Iterable
from pathlib import Path

from medvl_lib.provenance import Rule


def offenders(rules: Iterable[Rule], directory: Path) -> dict[str, tuple[str, ...]]:
    """The rules that do not hold, each with the rows that broke it."""
    outcomes = {rule.name: rule.holds(directory) for rule in rules}
    return {name: outcome.offenders for name, outcome in outcomes.items() if not outcome.passed}
