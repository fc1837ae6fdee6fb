"""What must be true of written predictions. No model and no torch here.

In: a predictions directory. Out: verdicts. Whether the answers are any good is decided in ``scores`` and ``promotion``.
"""

import math
from collections import Counter
from pathlib import Path

from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, VariantMeasurement
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table


def every_variant_answers_every_pair_once(directory: Path) -> Outcome:
    """Each model variant and each floor has one answer as_is to each reference, and none to anything else."""
    wanted = {reference.pair_id for reference in read_table(directory / REFERENCES, Reference)}
    variants = [*FLOORS, *(row.variant for row in read_table(directory / VARIANTS, VariantMeasurement))]
    answered = Counter(
        (row.variant, row.pair_id) for row in read_table(directory / PREDICTIONS, Prediction) if row.condition == "as_is"
    )  # fmt: skip
    expected = {(variant, pair_id) for variant in variants for pair_id in wanted}
    astray = sorted({key for key in expected | set(answered) if answered[key] != (key in expected)})
    return Outcome(
        passed=bool(wanted) and not astray, found=f"{len(expected)} answers wanted, {len(astray)} missing, repeated or unasked",
        offenders=tuple(f"{variant} {pair_id}" for variant, pair_id in astray[:10]),
    )  # fmt: skip


def latencies_are_measured(directory: Path) -> Outcome:
    """Every answer of a model has a positive latency and tokens; every floor has none."""
    broken = [f"{row.variant} {row.pair_id}" for row in read_table(directory / PREDICTIONS, Prediction) if not _is_measured(row)]
    return Outcome(passed=not broken, found=f"{len(broken)} answers without a sound latency", offenders=tuple(broken[:10]))


def _is_measured(row: Prediction) -> bool:
    tokens = (row.num_prompt_tokens, row.num_answer_tokens)
    if row.variant in FLOORS:
        return row.latency_seconds is None and tokens == (0, 0)
    return row.latency_seconds is not None and 0 < row.latency_seconds < math.inf and min(tokens) > 0


RULES = (
    Rule(
        name="every_variant_answers_every_pair_once", sentence="Every variant and floor answers every chosen pair, once.",
        holds=every_variant_answers_every_pair_once,
    ),
    Rule(name="latencies_are_measured", sentence="Every model answer has a measured latency.", holds=latencies_are_measured),
)  # fmt: skip
