"""Terms: the gate and the evaluation settings that a decision was made under, kept beside it; and which of them have changed since.

In: a gate and what is asked of every variant. Out: ``terms.json`` in a decision's directory, read back as values, and a sentence on what
differs. A decision stays in force until another one is made: whoever reads it must see by which rule it came about.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from medvl_lib.benchmark.gate import Gate
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.files import read_json, write_json

TERMS = "terms.json"
NOT_KEPT = "decided by an earlier version of MedVL, which kept no settings beside it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked, and what decides."""

    gate: Gate
    evaluation: EvaluationSpec


def write_terms(directory: Path, terms: Terms) -> None:
    """Keep them beside the decision."""
    write_json(directory / TERMS, asdict(terms))


def read_terms(directory: Path) -> Terms | None:
    """Those of a decision; None where it was made before they were kept."""
    path = directory / TERMS
    return TypeAdapter(Terms).validate_json(path.read_bytes()) if path.is_file() else None


def others(directory: Path, now: Terms) -> list[str]:
    """The settings that have changed since a decision, as the settings file calls them: ``gate.guardrails``."""
    return list(_differing(read_json(directory / TERMS), json.loads(json.dumps(asdict(now)))))


def _differing(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for part in now:
        names = sorted({**then.get(part, {}), **now[part]})
        yield from (f"{part}.{name}" for name in names if then.get(part, {}).get(name) != now[part].get(name))


def otherwise(directory: Path, now: Terms) -> str:
    """A sentence where a decision was made under other settings than these, or under unknown ones; else nothing."""
    if not (directory / TERMS).is_file():
        return NOT_KEPT
    names = others(directory, now)
    return f"decided under other settings: {', '.join(names)}" if names else ""
