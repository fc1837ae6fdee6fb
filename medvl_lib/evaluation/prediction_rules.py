"""What must be true of written predictions. No model and no torch here.

In: a predictions directory. Out: verdicts. Whether the answers are any good is decided in ``scores`` and ``promotion``.
"""

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, VariantMeasurement
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import read_table

MB = 1e6
SIZE_TOLERANCE = 0.1  # share of the adapter's size
LOOP_CHARACTERS = (200, 500)  # an answer shorter than the first is not looked at; of a longer one the last of the second
LOOP_COMPRESSION = 3.0  # bytes by compressed bytes (Whisper, arXiv 2212.04356, section 4.5, takes 2.4); 889 MTSamples reach 2.3, loops 5
MOST_DEGENERATE = 0.1  # share of a variant's answers, beyond that of the references
MOST_ALIKE = 0.9


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


def an_adapter_takes_its_own_size(directory: Path) -> Outcome:
    """What an adapter adds to the memory of the weights that it stands on is its own size, within a tenth: no second model lingers."""
    rows = {row.variant: row for row in read_table(directory / VARIANTS, VariantMeasurement)}
    said: list[str] = []
    astray: list[str] = []
    for row in rows.values():
        if row.adapter_bytes is None or row.stands_on is None:
            continue
        added = row.memory_after_load_bytes - rows[row.stands_on].memory_after_load_bytes
        said.append(f"{row.variant} adds {added / MB:.1f} MB to {row.stands_on} and is {row.adapter_bytes / MB:.1f} MB large")
        if abs(added - row.adapter_bytes) > SIZE_TOLERANCE * row.adapter_bytes:
            astray.append(row.variant)
    return Outcome(passed=not astray, found="; ".join(said) or "no adapter stands on weights that answer too", offenders=tuple(astray))


def outputs_are_not_degenerate(directory: Path) -> Outcome:
    """No model says nothing, repeats itself to the end, or gives one answer to everything, except as often as the references do."""
    answers: dict[str, list[str]] = defaultdict(list)
    for row in read_table(directory / PREDICTIONS, Prediction):
        if row.condition == "as_is" and row.variant not in FLOORS:
            answers[row.variant].append(row.answer)
    wanted = _habits([row.response for row in read_table(directory / REFERENCES, Reference)])
    said: list[str] = []
    astray: list[str] = []
    for variant, texts in answers.items():
        empty, looping, same = _habits(texts)
        said.append(f"{variant}: {empty:.0%} empty, {looping:.0%} repeat themselves, {same:.0%} are one and the same answer")
        if any(habit > usual + MOST_DEGENERATE for habit, usual in zip((empty, looping), wanted[:2], strict=True)) or same > max(
            MOST_ALIKE, wanted[2] + MOST_DEGENERATE
        ):
            astray.append(variant)
    return Outcome(passed=bool(answers) and not astray, found="; ".join(said), offenders=tuple(astray))


def _habits(texts: Sequence[str]) -> tuple[float, float, float]:
    """Shares (0-1) of texts that are empty, that repeat themselves at their end, and, of all but one, that are the commonest one again."""
    count = max(1, len(texts))
    empty, looping = sum(not text.strip() for text in texts), sum(map(repeats_itself, texts))
    return empty / count, looping / count, (max(Counter(texts).values(), default=1) - 1) / max(1, count - 1)


def repeats_itself(text: str) -> bool:
    """Whether a text's end shrinks to less than a third when it is compressed: one that says something does not."""
    least, most = LOOP_CHARACTERS
    end = text[-most:].encode()
    return len(text) >= least and len(end) / len(zlib.compress(end, level=9)) > LOOP_COMPRESSION


RULES = (
    Rule(
        name="every_variant_answers_every_pair_once", sentence="Every variant and floor answers every chosen pair, once.",
        holds=every_variant_answers_every_pair_once,
    ),
    Rule(name="latencies_are_measured", sentence="Every model answer has a measured latency.", holds=latencies_are_measured),
    Rule(
        name="an_adapter_takes_its_own_size", sentence="An adapter adds its own size to the memory of its weights, within a tenth.",
        holds=an_adapter_takes_its_own_size, literals=(SIZE_TOLERANCE,),
    ),
    Rule(
        name="outputs_are_not_degenerate", sentence="No model says nothing, repeats itself or says the same to everything.",
        holds=outputs_are_not_degenerate, is_blocking=False, literals=(*LOOP_CHARACTERS, LOOP_COMPRESSION, MOST_DEGENERATE, MOST_ALIKE),
    ),
)  # fmt: skip
